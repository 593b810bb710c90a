//! What was acknowledged stays: over restarts, and over a killed process.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use facewire_devstack::qdrant::{LocalQdrant, serve};
use facewire_store_vec::{Selection, VecStore};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::support::{DIM, MODEL, assert_stored, face, face_id, gallery, options, until};

async fn open(dir: &Path) -> (LocalQdrant, VecStore) {
    let server = LocalQdrant::start(dir, ([127, 0, 0, 1], 0).into()).await.unwrap();
    let store = VecStore::connect(&options(&server.url(), "facewire_faces")).unwrap();
    store.ensure(MODEL, DIM as u32).await.unwrap();
    (server, store)
}

#[tokio::test]
async fn a_restart_keeps_everything() {
    let dir = tempfile::tempdir().unwrap();
    let (server, store) = open(dir.path()).await;
    let faces: Vec<_> = (1..=50).map(|n| face(n, n % 7, "office")).collect();
    store.upsert(&faces).await.unwrap().all().unwrap();
    server.shutdown().await;
    let (server, store) = open(dir.path()).await;
    assert_stored(&store, &faces).await;
    server.shutdown().await;
}

/// Set for the child: where it serves, and where it says on which port.
const CHILD: &str = "FACEWIRE_TEST_VEC_CHILD";

fn port_file(dir: &Path) -> PathBuf {
    dir.join("port")
}

/// The child's part: this test binary again, serving until it is killed.
async fn serve_until_killed(dir: &Path) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    std::fs::write(dir.join("port.new"), port.to_string()).unwrap();
    std::fs::rename(dir.join("port.new"), port_file(dir)).unwrap();
    serve(&dir.join("qdrant"), listener, CancellationToken::new()).await.unwrap();
}

/// A child that does not outlive the test, however that ends.
struct Server(Child);

impl Server {
    async fn start(dir: &Path) -> (Self, VecStore) {
        let _ = std::fs::remove_file(port_file(dir));
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "durability::acknowledged_writes_survive_a_kill", "--nocapture"])
            .env(CHILD, dir)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self(child);
        until("the child's port", || async { port_file(dir).exists() }).await;
        let url = format!("http://127.0.0.1:{}", std::fs::read_to_string(port_file(dir)).unwrap());
        let store = VecStore::connect(&options(&url, "facewire_faces")).unwrap();
        until("the child's answer", || async { store.health().await.is_ok() }).await;
        (server, store)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn acknowledged_writes_survive_a_kill() {
    if let Some(dir) = std::env::var_os(CHILD) {
        return serve_until_killed(Path::new(&dir)).await;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut faces = Vec::new();
    for round in 0..4u128 {
        // Dropping the server kills it (SIGKILL) right after the last acknowledgement.
        let (_server, store) = Server::start(dir.path()).await;
        store.ensure(MODEL, DIM as u32).await.unwrap();
        assert_stored(&store, &faces).await;
        for n in 0..25 {
            let face = face(round * 100 + n + 1, n % 4, if n % 2 == 0 { "office" } else { "hall" });
            store.upsert(std::slice::from_ref(&face)).await.unwrap().all().unwrap();
            faces.push(face);
        }
        store.delete(&[face_id(round * 100 + 3)]).await.unwrap();
        faces.retain(|face| face.face != face_id(round * 100 + 3));
        let changed = faces.get_mut(round as usize).unwrap();
        changed.payload.quality_score = Some(0.5 + round as f32 / 16.0);
        store.set_payload(&[(changed.face, changed.payload.clone())]).await.unwrap().all().unwrap();
        if round == 2 {
            store.delete_all(&Selection::Collection(gallery("hall"))).await.unwrap();
            faces.retain(|face| face.payload.collection != gallery("hall"));
        }
    }
    let (_server, store) = Server::start(dir.path()).await;
    assert_stored(&store, &faces).await;
    assert_eq!(store.count(None).await.unwrap(), faces.len() as u64);
}
