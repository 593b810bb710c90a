//! TLS: a renewed certificate is served without a restart, whoever is connected stays so, and files that cannot be used change
//! nothing.

use std::sync::Arc;
use std::time::Duration;

use facewire_gateway::Tls;
use rcgen::{CertifiedKey, KeyPair};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::dump::Log;
use super::world::Door;
use crate::chain::world::World;
use crate::chain::{in_time, until};

/// A certificate of its own authority, with its key.
type Pair = CertifiedKey<KeyPair>;

fn pair() -> Pair {
    rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap()
}

/// The gateway's files, in a directory that no other test names.
struct Files {
    tls: Tls,
    directory: TempDir,
}

impl Files {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let reload_interval = Duration::from_millis(50);
        Self { tls: Tls { certificate: path("tls.crt"), key: path("tls.key"), reload_interval }, directory }
    }

    fn name(&self) -> &str {
        self.directory.path().to_str().unwrap()
    }

    /// Replaces both as a renewal does: each as a whole, one after the other.
    fn replace(&self, certificate: &str, key: &str) {
        for (path, text) in [(&self.tls.certificate, certificate), (&self.tls.key, key)] {
            let new = path.with_extension("new");
            std::fs::write(&new, text).unwrap();
            std::fs::rename(&new, path).unwrap();
        }
    }

    fn renew(&self, pair: &Pair) {
        self.replace(&pair.cert.pem(), &pair.signing_key.serialize_pem());
    }
}

/// A client that trusts some certificates and begins every connection anew.
struct Client {
    connector: TlsConnector,
    address: String,
}

impl Client {
    fn new(door: &Door, trusted: [&Pair; 2]) -> Self {
        let mut roots = RootCertStore::empty();
        for pair in trusted {
            roots.add(pair.cert.der().clone()).unwrap();
        }
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        Self { connector: Arc::new(config).into(), address: door.http.authority().to_owned() }
    }

    async fn connect(&self) -> Connection {
        let stream = TcpStream::connect(&self.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        Connection(in_time("a TLS handshake", self.connector.connect(name, stream)).await.unwrap())
    }

    /// Until a new connection is served this certificate.
    async fn served(&self, pair: &Pair) {
        until("the renewed certificate", async || {
            let mut connection = self.connect().await;
            connection.ask().await;
            if connection.certificate() == *pair.cert.der() { Ok(()) } else { Err("the old one") }
        })
        .await;
    }
}

struct Connection(TlsStream<TcpStream>);

impl Connection {
    /// What the server showed when it began.
    fn certificate(&self) -> CertificateDer<'static> {
        self.0.get_ref().1.peer_certificates().unwrap()[0].clone()
    }

    /// A request that must succeed; the connection stays open.
    async fn ask(&mut self) {
        self.0.write_all(b"GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        self.0.flush().await.unwrap();
        let (mut answer, mut buffer) = (Vec::new(), [0; 4096]);
        while !answer.ends_with(b"}") {
            let read = in_time("the answer over TLS", self.0.read(&mut buffer)).await.unwrap();
            assert!(read > 0, "the connection was closed: {}", String::from_utf8_lossy(&answer));
            answer.extend(&buffer[..read]);
        }
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_is_served_and_a_broken_one_is_not() {
    let (files, first, second) = (Files::new(), pair(), pair());
    let log = Log::listen_for(&[files.name()]);
    let refusals = || log.with(files.name()).iter().filter(|line| line.contains("the old one stays")).count();
    files.renew(&first);
    let world = World::new().await;
    let door = Door::start(&world.parts(), |config| {
        config.gateway.tls = Some(files.tls.clone());
        // The open connection says nothing for as long as the files take.
        config.gateway.header_timeout = Duration::from_secs(600);
    })
    .await;
    let client = Client::new(&door, [&first, &second]);
    let mut open = client.connect().await;
    open.ask().await;
    assert_eq!(open.certificate(), *first.cert.der());

    files.renew(&second);
    client.served(&second).await;
    open.ask().await;

    let (other, certificate, key) = (first.cert.pem(), second.cert.pem(), second.signing_key.serialize_pem());
    let (other, certificate, key) = (other.as_str(), certificate.as_str(), key.as_str());
    for (certificate, key) in [("no certificate", key), (certificate, "no key"), (other, key)] {
        let before = refusals();
        files.replace(certificate, key);
        // The first may be of what lay there before.
        until("two more refusals of the files", async || {
            let more = refusals() - before;
            if more >= 2 { Ok(()) } else { Err(more) }
        })
        .await;
        let mut connection = client.connect().await;
        connection.ask().await;
        assert_eq!(connection.certificate(), *second.cert.der(), "the last good one stays");
        open.ask().await;
    }

    // And the next good one is taken.
    files.renew(&first);
    client.served(&first).await;
    open.ask().await;
    drop(open);
    door.close().await;
}
