//! Stores, an S3 server and images for the tests.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use facewire_domain::{CollectionId, ImageHash};
use facewire_store_object::{ImageKey, ImageStore, Options};
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper::{HeaderMap, Method, Request};
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

pub(crate) const BUCKET: &str = "faces";
const PREFIX: &str = "kept/here";

/// An S3 server on a loopback port. Dropping it ends it with its connections.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) requests: Arc<Mutex<Vec<(Method, HeaderMap)>>>,
    root: PathBuf,
    task: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start(root: &Path) -> Self {
        Self::start_at(root, ([127, 0, 0, 1], 0).into(), None).await
    }

    pub(crate) async fn start_at(root: &Path, address: SocketAddr, tls: Option<TlsAcceptor>) -> Self {
        std::fs::create_dir_all(root.join(BUCKET)).unwrap();
        let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(root).unwrap());
        builder.set_auth(SimpleAuth::from_single("id", "secret"));
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::default();
        let task = tokio::spawn(accept(listener, builder.build(), Arc::clone(&requests), tls));
        Self { address, requests, root: root.to_owned(), task }
    }

    pub(crate) fn options(&self) -> Options {
        Options {
            url: Some(format!("s3://{BUCKET}/{PREFIX}")),
            endpoint: Some(format!("http://{}", self.address)),
            access_key_id: Some("id".into()),
            secret_access_key: Some("secret".into()),
            ..Options::default()
        }
    }

    /// Where the files of the objects are.
    pub(crate) fn files(&self) -> PathBuf {
        self.root.join(BUCKET).join(PREFIX)
    }

    pub(crate) async fn stop(mut self) {
        self.task.abort();
        // Its connections are gone with it.
        assert!((&mut self.task).await.unwrap_err().is_cancelled());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

type Requests = Arc<Mutex<Vec<(Method, HeaderMap)>>>;

async fn accept(listener: TcpListener, service: S3Service, requests: Requests, tls: Option<TlsAcceptor>) {
    let mut connections = JoinSet::new();
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        let (service, requests, tls) = (service.clone(), Arc::clone(&requests), tls.clone());
        connections.spawn(async move {
            match tls {
                None => serve(socket, service, requests).await,
                Some(tls) => {
                    // A client that does not trust the certificate ends the handshake.
                    if let Ok(socket) = tls.accept(socket).await {
                        serve(socket, service, requests).await;
                    }
                }
            }
        });
    }
}

async fn serve(socket: impl AsyncRead + AsyncWrite + Unpin, service: S3Service, requests: Requests) {
    let service = service_fn(move |request: Request<Incoming>| {
        requests.lock().unwrap().push((request.method().clone(), request.headers().clone()));
        Service::call(&service, request)
    });
    // The client may close at any time.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service).await;
}

/// A store, its options, and the directory in which its objects are files.
pub(crate) struct Kept {
    pub(crate) store: ImageStore,
    pub(crate) options: Options,
    pub(crate) files: PathBuf,
}

impl Kept {
    fn new(options: Options, files: PathBuf) -> Self {
        std::fs::create_dir_all(&files).unwrap();
        Self { store: ImageStore::connect(&options).unwrap(), options, files }
    }

    pub(crate) fn write(&self, path: &str, content: &[u8]) {
        write(&self.files.join(path), content);
    }
}

pub(crate) fn write(path: &Path, content: &[u8]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

pub(crate) fn in_directory(dir: &TempDir) -> Kept {
    let files = dir.path().join("images");
    Kept::new(Options::default().or_directory(&files), files)
}

/// Runs the test against a directory, then against a server.
pub(crate) async fn each_store<F: Future<Output = ()>>(test: impl Fn(Kept) -> F) {
    let dir = tempfile::tempdir().unwrap();
    test(in_directory(&dir)).await;
    let server = Server::start(&dir.path().join("server")).await;
    test(Kept::new(server.options(), server.files())).await;
}

pub(crate) fn collection(name: &str) -> CollectionId {
    name.parse().unwrap()
}

/// An original and its key.
pub(crate) fn original(of: &str, content: &'static str) -> (ImageKey, Bytes) {
    (ImageKey::original(collection(of), ImageHash::of(content.as_bytes())), Bytes::from(content))
}
