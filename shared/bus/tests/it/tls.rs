//! TLS to a real server: a client that names an authority trusts no other, and speaks to nobody in the clear.

use std::path::{Path, PathBuf};

use facewire_bus::{Bus, BusError, Options, TlsOptions};
use facewire_config::Secret;
use facewire_devstack::testing::{nats, nats_with};
use tempfile::TempDir;

use super::world::LEASE;

/// A certificate of its own authority for the loopback address, with its key, as files.
fn certificate(directory: &TempDir, name: &str) -> (PathBuf, PathBuf) {
    let pair = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let path = |kind: &str| directory.path().join(format!("{name}.{kind}"));
    std::fs::write(path("crt"), pair.cert.pem()).unwrap();
    std::fs::write(path("key"), pair.signing_key.serialize_pem()).unwrap();
    (path("crt"), path("key"))
}

fn trusting(url: String, ca: &Path) -> Options {
    let tls = TlsOptions { ca: Some(ca.to_owned()), ..TlsOptions::default() };
    Options { url: Secret::new(url), tls, ..Options::default() }
}

#[tokio::test]
async fn a_server_is_trusted_by_its_authority_alone() {
    let directory = tempfile::tempdir().unwrap();
    let ((ours, key), (other, _)) = (certificate(&directory, "ours"), certificate(&directory, "other"));
    let more = format!("tls: {{ cert_file: \"{}\", key_file: \"{}\" }}\n", ours.display(), key.display());
    let server = nats_with(more).await.unwrap();
    let bus = Bus::connect(&trusting(server.url(), &ours), "tls").await.unwrap();
    bus.migrate_streams(&[], LEASE).await.unwrap();
    // The queue opens a connection of its own.
    bus.job_queue().await.unwrap();

    let refused = Bus::connect(&trusting(server.url(), &other), "tls").await.unwrap_err();
    assert!(matches!(&refused, BusError::Unreachable(why) if why.contains("certificate")), "{refused}");
    // The system's authorities did not sign it.
    let plain = Options { url: Secret::new(server.url()), ..Options::default() };
    Bus::connect(&plain, "tls").await.unwrap_err();
}

#[tokio::test]
async fn a_server_without_tls_is_refused_where_an_authority_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let (ca, _) = certificate(&directory, "ours");
    let server = nats().await.unwrap();
    Bus::connect(&trusting(server.url(), &ca), "tls").await.unwrap_err();
    let missing = trusting(server.url(), &directory.path().join("missing.crt"));
    let refused = Bus::connect(&missing, "tls").await.unwrap_err();
    assert!(matches!(&refused, BusError::Options(why) if why.contains("missing.crt")), "{refused}");
}
