//! `facewire faces export` as a person stops it.

use std::io::Read as _;
use std::path::PathBuf;
use std::process::Stdio;

use facewire_devstack::testing;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy};
use tokio::net::{TcpListener, TcpStream};

use crate::deployment::until;
use crate::jobs::{facewire, store};

/// Leads to Postgres, and hands nothing on to it any more once the file is there: whoever writes it waits.
async fn relay(listener: TcpListener, server: String, file: PathBuf) {
    loop {
        let (client, _) = listener.accept().await.unwrap();
        let (mut asked, mut told) = client.into_split();
        let (mut answers, mut questions) = TcpStream::connect(&server).await.unwrap().into_split();
        tokio::spawn(async move { copy(&mut answers, &mut told).await });
        let file = file.clone();
        tokio::spawn(async move {
            let mut bytes = vec![0; 16 * 1024];
            while let Ok(count @ 1..) = asked.read(&mut bytes).await {
                if file.exists() {
                    std::future::pending::<()>().await;
                }
                if questions.write_all(&bytes[..count]).await.is_err() {
                    break;
                }
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_that_is_stopped_leaves_nothing() {
    let (database, data) = (testing::database().await.unwrap(), tempfile::tempdir().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let [file, part] = ["faces.ndjson", "faces.ndjson.part"].map(|name| folder.path().join(name));
    let url = database.url();
    let _store = store(&url).await;
    let (_, behind) = url.rsplit_once('@').unwrap();
    let (server, _) = behind.split_once('/').unwrap();
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let through = url.replace(server, &listener.local_addr().unwrap().to_string());
    tokio::spawn(relay(listener, server.to_owned(), part.clone()));

    let arguments = ["faces", "export", "--collection", "office", "--out", file.to_str().unwrap()];
    let mut command = facewire(data.path(), &["--postgres", &through], &arguments);
    let mut export = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    until("the file", || part.exists().then_some(())).await;
    kill(Pid::from_raw(export.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
    let status = until("the end of the command", || export.try_wait().unwrap()).await;
    let mut said = String::new();
    export.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("nothing is left of it"), "{said}");
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.is_empty(), "{left:?}");
}
