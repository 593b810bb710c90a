//! A server with a key that speaks TLS. Which authorities a process trusts stands in its environment, so each client is a process of
//! its own: this binary, with this one test.

use std::path::Path;
use std::process::{Command, Output};

use facewire_config::Secret;
use facewire_devstack::qdrant::{Access, LocalQdrant};
use facewire_domain::FaultKind;
use facewire_store_vec::{Options, VecError, VecStore};
use rcgen::CertifiedKey;

use crate::support::{DIM, MODEL, assert_stored, face, options};

const KEY: &str = "the-key-of-the-server";

/// Where the client finds the server, and with which key.
const URL: &str = "FACEWIRE_TEST_TLS_URL";
const WITH: &str = "FACEWIRE_TEST_TLS_KEY";

/// What a client says at its end.
const STORED: &str = "the client stored a face";
const DENIED: &str = "the client was denied";
const UNTRUSTED: &str = "the client does not trust the server";

/// As a service would, with what its environment says.
async fn client(url: &str) -> &'static str {
    let key = std::env::var(WITH).unwrap();
    let store =
        VecStore::connect(&Options { api_key: Some(Secret::new(key)), ..options(url, "facewire_faces") }).unwrap();
    match store.ensure(MODEL, DIM as u32).await {
        Ok(_) => {
            let faces = [face(1, 1, "office")];
            store.upsert(&faces).await.unwrap().all().unwrap();
            assert_stored(&store, &faces).await;
            STORED
        }
        Err(error) => {
            let told = error.to_string();
            assert_eq!(error.kind(), FaultKind::Systemic, "{error:?}");
            assert!(!told.contains(KEY), "{told}");
            match &error {
                VecError::Denied(_) if told.contains("qdrant.api_key") => DENIED,
                VecError::Refused(_) if told.contains("SSL_CERT_FILE") => UNTRUSTED,
                other => panic!("{other:?}"),
            }
        }
    }
}

/// Runs the client in a process that trusts this authority alone.
fn in_a_process(url: &str, key: &str, authority: &Path) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "tls::the_key_travels_encrypted", "--nocapture"]).env_remove("SSL_CERT_DIR");
    command.env(URL, url).env(WITH, key).env("SSL_CERT_FILE", authority).output().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_travels_encrypted() {
    if let Ok(url) = std::env::var(URL) {
        println!("{}", client(&url).await);
        return;
    }
    let made = || rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (CertifiedKey { cert, signing_key }, stranger) = (made(), made().cert);
    let dir = tempfile::tempdir().unwrap();
    let (authority, other) = (dir.path().join("authority.pem"), dir.path().join("other.pem"));
    std::fs::write(&authority, cert.pem()).unwrap();
    std::fs::write(&other, stranger.pem()).unwrap();
    let identity = Some((cert.pem(), signing_key.serialize_pem()));
    let access = Access { api_key: Some(KEY.to_owned()), identity };
    let server =
        LocalQdrant::start_guarded(&dir.path().join("data"), ([127, 0, 0, 1], 0).into(), access).await.unwrap();
    let url = server.url();
    assert!(url.starts_with("https://localhost:"), "{url}");
    for (key, authority, end) in
        [("another-key", &authority, DENIED), (KEY, &other, UNTRUSTED), (KEY, &authority, STORED)]
    {
        let (url, key, authority) = (url.clone(), key.to_owned(), authority.clone());
        let ran = tokio::task::spawn_blocking(move || in_a_process(&url, &key, &authority)).await.unwrap();
        let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
        assert!(ran.status.success() && out.contains(end), "wanted `{end}`:\n{out}\n{err}");
    }
    server.shutdown().await;
}
