//! TLS with certificates that are read again when their files change, so that a renewed one needs no restart.

use std::fs;
use std::io::BufReader;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use facewire_runtime::Shutdown;
use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::GatewayError;
use crate::options::Tls;

/// Shortest time between two checks of the files.
const MIN_INTERVAL: Duration = Duration::from_millis(10);

/// When both files were changed last.
type Times = [Option<SystemTime>; 2];

/// The certificate in force.
#[derive(Clone)]
pub(crate) struct Certificates {
    files: Tls,
    /// Of the files that were read first.
    opened: Times,
    current: Arc<RwLock<Arc<ServerConfig>>>,
}

impl Certificates {
    /// Reads the files.
    pub(crate) async fn open(files: &Tls) -> Result<Self, GatewayError> {
        // Before the files are read: a change meanwhile is read once more.
        let opened = changed(files).await;
        let config = read(files.clone()).await?;
        Ok(Self { files: files.clone(), opened, current: Arc::new(RwLock::new(Arc::new(config))) })
    }

    /// For the next connection.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner)).into()
    }

    /// Reads the files again whenever they change, until the drain. Files that cannot be used leave the old certificate.
    pub(crate) async fn follow(&self, shutdown: &Shutdown) {
        let interval = self.files.reload_interval.max(MIN_INTERVAL);
        let mut seen = self.opened;
        loop {
            tokio::select! {
                () = tokio::time::sleep(interval) => {}
                () = shutdown.draining() => return,
            }
            let now = changed(&self.files).await;
            if now == seen {
                continue;
            }
            match read(self.files.clone()).await {
                Ok(config) => {
                    *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
                    seen = now;
                    tracing::info!("the TLS certificate was read again");
                }
                Err(error) => tracing::error!(%error, "the new TLS certificate cannot be used: the old one stays"),
            }
        }
    }
}

async fn changed(files: &Tls) -> Times {
    let time = async |path: &Path| tokio::fs::metadata(path).await.ok()?.modified().ok();
    [time(&files.certificate).await, time(&files.key).await]
}

async fn read(files: Tls) -> Result<ServerConfig, GatewayError> {
    let read = tokio::task::spawn_blocking(move || parse(&files)).await;
    read.unwrap_or_else(|error| Err(GatewayError::Tls(error.to_string())))
}

fn parse(files: &Tls) -> Result<ServerConfig, GatewayError> {
    let wrong = |path: &Path, error: &dyn std::fmt::Display| {
        GatewayError::Tls(format!("{} cannot be used: {error}", path.display()))
    };
    let file = |path: &Path| fs::File::open(path).map(BufReader::new).map_err(|error| wrong(path, &error));
    let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_reader_iter(file(&files.certificate)?)
        .collect::<Result<_, _>>()
        .map_err(|error| wrong(&files.certificate, &error))?;
    let key = PrivateKeyDer::from_pem_reader(file(&files.key)?).map_err(|error| wrong(&files.key, &error))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| GatewayError::Tls(error.to_string()))?
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .map_err(|error| wrong(&files.certificate, &error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
