//! Encrypted transport: a server's certificate is checked, against the system's authorities and the configured file.

use std::path::Path;
use std::sync::Arc;

use facewire_domain::FaultKind;
use facewire_store_object::{ImageStore, ObjectError, Options, PutOutcome};
use rcgen::CertifiedKey;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;

use crate::support::{Server, original};

/// A server with a certificate for that name, and the certificate in a file.
async fn server(dir: &Path, name: &str) -> (Server, Options) {
    let CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let ca_file = dir.join(format!("{name}.pem"));
    std::fs::write(&ca_file, cert.pem()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.into()], PrivatePkcs8KeyDer::from(signing_key.serialize_der()).into())
        .unwrap();
    let tls = TlsAcceptor::from(Arc::new(config));
    let server = Server::start_at(&dir.join(name), ([127, 0, 0, 1], 0).into(), Some(tls)).await;
    let endpoint = Some(format!("https://localhost:{}", server.address.port()));
    let options = Options { endpoint, ca_file: Some(ca_file), ..server.options() };
    (server, options)
}

#[tokio::test]
async fn images_travel_encrypted() {
    let dir = tempfile::tempdir().unwrap();
    let (_server, options) = server(dir.path(), "localhost").await;
    let store = ImageStore::connect(&options).unwrap();
    let (key, content) = original("office", "jpeg");
    assert_eq!(store.put(&key, content.clone()).await.unwrap(), PutOutcome::Written);
    assert_eq!(store.get(&key).await.unwrap(), Some(content));
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_is_for_the_operator() {
    let dir = tempfile::tempdir().unwrap();
    let (_unknown, options) = server(dir.path(), "localhost").await;
    let (_misnamed, misnamed) = server(dir.path(), "elsewhere").await;
    for options in [Options { ca_file: None, ..options }, misnamed] {
        let store = ImageStore::connect(&options).unwrap();
        let error = store.health().await.unwrap_err();
        assert!(matches!(error, ObjectError::Refused { .. }), "{error}");
        assert!(error.to_string().contains("certificate"), "{error}");
        assert_eq!(error.kind(), FaultKind::Systemic);
    }
    let empty = dir.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    for ca_file in [empty, dir.path().join("none.pem")] {
        let options = Options { url: Some("s3://faces".to_owned()), ca_file: Some(ca_file), ..Options::default() };
        let error = ImageStore::connect(&options).unwrap_err();
        assert!(matches!(error, ObjectError::Options(_)), "{error}");
    }
}
