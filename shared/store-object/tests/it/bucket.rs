//! What holds for a bucket alone: credentials, encryption at rest, and a server that is away.

use std::time::Duration;

use bytes::Bytes;
use facewire_domain::FaultKind;
use facewire_store_object::{Encryption, ImageKey, ImageStore, ObjectError, Options, PutOutcome};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use crate::support::{Server, collection, original};

/// The error of each operation.
async fn errors(options: &Options) -> Vec<ObjectError> {
    let store = ImageStore::connect(options).unwrap();
    let (key, content) = original("office", "jpeg");
    let errors = [
        store.health().await.err(),
        store.put(&key, content).await.err(),
        store.get(&key).await.err(),
        store.list(None, None, 1).await.err(),
        store.delete(&[key]).await.err(),
    ];
    errors.map(Option::unwrap).into()
}

async fn expect(options: &Options, kind: FaultKind) -> Vec<ObjectError> {
    let errors = errors(options).await;
    for error in &errors {
        assert_eq!(error.kind(), kind, "{error}");
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    }
    errors
}

#[tokio::test]
async fn wrong_credentials_are_for_the_operator_and_never_show() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let wrong_secret = Options { secret_access_key: Some("hunter2".into()), ..server.options() };
    let errors = expect(&wrong_secret, FaultKind::Systemic).await;
    assert!(errors[1].to_string().contains("403"), "{}", errors[1]);
    expect(&Options { access_key_id: Some("hunter2".into()), ..server.options() }, FaultKind::Systemic).await;
    for options in [&wrong_secret, &Options { secret_access_key: None, ..wrong_secret.clone() }] {
        let store = ImageStore::connect(options);
        assert!(!format!("{options:?} {store:?}").contains("hunter2"));
        assert_eq!(store.is_ok(), options.secret_access_key.is_some());
    }
    let unusable = Options { secret_access_key: Some("hunter2\n".into()), ..server.options() };
    let error = ImageStore::connect(&unusable).unwrap_err();
    assert!(error.kind() == FaultKind::Systemic && !error.to_string().contains("hunter2"), "{error}");
}

#[tokio::test]
async fn a_bucket_that_does_not_exist_is_no_empty_one() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let store = ImageStore::connect(&Options { url: Some("s3://none/x".to_owned()), ..server.options() }).unwrap();
    let (key, _) = original("office", "jpeg");
    assert!(matches!(store.health().await, Err(ObjectError::NoBucket)));
    assert!(matches!(store.list(None, None, 1).await, Err(ObjectError::NoBucket)));
    // This server says of a missing bucket's object only that the object is missing.
    let asked = store.get(&key).await;
    assert!(matches!(asked, Ok(None) | Err(ObjectError::NoBucket)), "{asked:?}");
}

#[tokio::test]
async fn a_server_that_is_away_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let (options, address) = (server.options(), server.address);
    let store = ImageStore::connect(&options).unwrap();
    let (key, content) = original("office", "jpeg");
    store.put(&key, content.clone()).await.unwrap();
    server.stop().await;
    let errors = expect(&options, FaultKind::Transient).await;
    assert!(errors[0].to_string().to_lowercase().contains("refused"), "{}", errors[0]);
    assert_eq!(store.get(&key).await.unwrap_err().kind(), FaultKind::Transient);
    let _server = Server::start_at(dir.path(), address, None).await;
    assert_eq!(store.get(&key).await.unwrap(), Some(content.clone()));
    assert_eq!(store.put(&key, content).await.unwrap(), PutOutcome::Present);
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_away() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    // Connections are accepted by the system, and that is all.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = Some(format!("http://{}", silent.local_addr().unwrap()));
    let options = Options { endpoint, timeout: Duration::from_millis(200), ..server.options() };
    for error in expect(&options, FaultKind::Transient).await {
        assert!(matches!(error, ObjectError::Timeout { .. }), "{error}");
    }
}

/// A server that answers every request alike, with the message that S3 has for that code.
async fn answering(status: u16, code: &'static str) -> (Options, AbortOnDropHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = Some(format!("http://{}", listener.local_addr().unwrap()));
    let task = tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let service = service_fn(move |_: Request<Incoming>| async move {
                let body = format!("<Error><Code>{code}</Code><Message>hunter2</Message></Error>");
                Response::builder().status(status).body(Full::new(Bytes::from(body)))
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(socket), service));
        }
    });
    let keys = (Some("id".into()), Some("secret".into()));
    let options = Options {
        url: Some("s3://faces".to_owned()),
        endpoint,
        access_key_id: keys.0,
        secret_access_key: keys.1,
        ..Options::default()
    };
    (options, AbortOnDropHandle::new(task))
}

/// The client's errors are read by their text: here by the texts that it really makes.
#[tokio::test]
async fn every_answer_of_a_server_is_sorted() {
    for (status, code, kind) in [
        (503, "SlowDown", FaultKind::Transient),
        (500, "InternalError", FaultKind::Transient),
        (400, "AuthorizationHeaderMalformed", FaultKind::Systemic),
        (401, "Unauthorized", FaultKind::Systemic),
        (403, "AccessDenied", FaultKind::Systemic),
        (404, "NoSuchBucket", FaultKind::Systemic),
        (301, "PermanentRedirect", FaultKind::Systemic),
        (501, "NotImplemented", FaultKind::Systemic),
    ] {
        let (options, _server) = answering(status, code).await;
        for error in expect(&options, kind).await {
            let text = error.to_string();
            let known = matches!(error, ObjectError::NoBucket) || text.contains("redirected") || text.contains(code);
            assert!(known, "{status}: {text}");
        }
    }
    // Another write, or an erasure, is in progress: whether the image is there is not known.
    let (options, _server) = answering(409, "ConditionalRequestConflict").await;
    expect(&options, FaultKind::Transient).await;
}

fn written(server: &Server) -> Vec<HeaderMap> {
    let requests = std::mem::take(&mut *server.requests.lock().unwrap());
    requests.into_iter().filter(|(method, _)| *method == Method::PUT).map(|(_, headers)| headers).collect()
}

#[tokio::test]
async fn encryption_at_rest_is_asked_for_with_every_write() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let (key, content) = original("office", "jpeg");
    let kms = Encryption::Kms("alias/faces".to_owned());
    for (sse, algorithm, id) in [
        (None, None, None),
        (Some(Encryption::Aes256), Some("AES256"), None),
        (Some(kms), Some("aws:kms"), Some("alias/faces")),
    ] {
        let store = ImageStore::connect(&Options { sse, ..server.options() }).unwrap();
        store.put(&key, content.clone()).await.unwrap();
        let headers = written(&server);
        let header = |name: &str| headers[0].get(name).map(|value| value.to_str().unwrap());
        assert_eq!(headers.len(), 1);
        assert_eq!(header("x-amz-server-side-encryption"), algorithm);
        assert_eq!(header("x-amz-server-side-encryption-aws-kms-key-id"), id);
        assert_eq!(header("if-none-match"), Some("*"));
    }
}

/// The key of an aligned face names the original; the hash of its own content is stored beside it.
#[tokio::test]
async fn a_face_has_its_own_hash_when_read() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let store = ImageStore::connect(&server.options()).unwrap();
    let face = ImageKey::aligned(collection("office"), original("office", "jpeg").0.hash(), 1);
    store.put(&face, Bytes::from("png")).await.unwrap();
    assert_eq!(store.get(&face).await.unwrap(), Some(Bytes::from("png")));
    std::fs::write(server.files().join(face.to_string()), "pnG").unwrap();
    let error = store.get(&face).await.unwrap_err();
    assert!(matches!(error, ObjectError::Corrupt { .. }), "{error}");
}

/// More than one request carries.
#[tokio::test]
async fn a_thousand_and_one_images_are_erased() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let store = ImageStore::connect(&server.options()).unwrap();
    let hash = original("office", "jpeg").0.hash();
    let keys: Vec<_> = (0..1001).map(|face| ImageKey::aligned(collection("office"), hash, face)).collect();
    std::fs::create_dir_all(server.files().join(keys[0].to_string()).parent().unwrap()).unwrap();
    keys.iter().for_each(|key| std::fs::write(server.files().join(key.to_string()), "png").unwrap());
    let page = store.list(None, None, 5000).await.unwrap();
    assert_eq!((page.objects.len(), page.next), (1001, None));
    store.delete(&keys).await.unwrap();
    assert!(store.list(None, None, 1).await.unwrap().objects.is_empty());
}
