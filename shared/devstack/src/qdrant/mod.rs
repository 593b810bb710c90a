//! Qdrant for one machine: its gRPC services on loopback over `qdrant-edge`, so that every service talks
//! `qdrant-client` here as in production. One dense, unnamed vector a point; what a face gallery needs is served as the
//! real server does it, everything else is refused by name. The only place that names `qdrant-edge`.
//!
//! An acknowledged write survives the death of the process (see `journal`); a power cut may cost the last second.

mod collection;
mod collections;
mod convert;
mod dedup;
mod error;
mod faults;
mod filter;
mod index;
mod journal;
mod points;
mod pool;
mod read;
mod store;
mod strict;
mod update;
mod upkeep;
mod wal;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use qdrant_client::qdrant::collections_server::CollectionsServer;
use qdrant_client::qdrant::points_server::PointsServer;
use qdrant_client::qdrant::qdrant_server::QdrantServer;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Identity, Server, ServerTlsConfig};

use collections::{CollectionsService, HealthService};
pub use error::QdrantError;
pub use faults::Faults;
use points::PointsService;
use store::Store;
use upkeep::Upkeep;

/// The longest request. A face's point takes about 2.5 KB.
const MAX_REQUEST_BYTES: usize = 64 * 1024 * 1024;
/// How long a stop waits for calls in flight.
const GRACE: Duration = Duration::from_secs(5);

/// What a server asks of whoever calls it, and shows them.
#[derive(Clone, Default)]
pub struct Access {
    /// The API key that every call needs.
    pub api_key: Option<String>,
    /// The certificate for `localhost` and its private key, in PEM: it speaks TLS then.
    pub identity: Option<(String, String)>,
}

/// A local Qdrant that runs in this process. Dropping it stops the server soon after, without waiting; `shutdown` waits.
pub struct LocalQdrant {
    address: SocketAddr,
    is_encrypted: bool,
    faults: Faults,
    ends: Ends,
    server: JoinHandle<Result<(), QdrantError>>,
    _guard: DropGuard,
}

impl LocalQdrant {
    /// Opens (or makes) the data directory and serves it. Port 0 takes a free one. Returns once it answers.
    ///
    /// # Errors
    /// The address is taken, the directory is in use, unusable or damaged.
    pub async fn start(data_dir: &Path, listen: SocketAddr) -> Result<Self, QdrantError> {
        Self::start_with(data_dir, listen, Access::default(), upkeep::INTERVAL).await
    }

    /// The same for callers with a key, over TLS, or both.
    ///
    /// # Errors
    /// As `LocalQdrant::start`; a certificate that cannot be used.
    pub async fn start_guarded(data_dir: &Path, listen: SocketAddr, access: Access) -> Result<Self, QdrantError> {
        Self::start_with(data_dir, listen, access, upkeep::INTERVAL).await
    }

    async fn start_with(
        data_dir: &Path,
        listen: SocketAddr,
        access: Access,
        interval: Duration,
    ) -> Result<Self, QdrantError> {
        let is_encrypted = access.identity.is_some();
        let server = match access.identity {
            Some((certificate, key)) => {
                let identity = Identity::from_pem(certificate, key);
                Server::builder().tls_config(ServerTlsConfig::new().identity(identity))?
            }
            None => Server::builder(),
        };
        let bound = TcpListener::bind(listen).await;
        let listener = bound.map_err(|source| QdrantError::Listen { address: listen, source })?;
        let address = listener.local_addr().map_err(|source| QdrantError::Listen { address: listen, source })?;
        let opened = open(data_dir).await?;
        let ends = Ends::default();
        let faults = Faults::default();
        faults.require_key(access.api_key.as_deref());
        let server = tokio::spawn(run(server, opened, listener, ends.clone(), interval, faults.clone()));
        let guard = ends.stop.clone().drop_guard();
        Ok(Self { address, is_encrypted, faults, ends, server, _guard: guard })
    }

    /// Where it listens, for `qdrant-client`: `http://127.0.0.1:PORT`, or `https://localhost:PORT`, which is in its certificate.
    pub fn url(&self) -> String {
        if self.is_encrypted {
            format!("https://localhost:{}", self.address.port())
        } else {
            format!("http://{}", self.address)
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What a test makes it answer.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Takes no more calls, finishes those in flight (at most five seconds), flushes, and frees port and directory. What
    /// goes wrong on the way is logged: the journal keeps what could not be flushed.
    pub async fn shutdown(self) {
        self.ends.stop.cancel();
        match self.server.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the local Qdrant had ended by itself"),
            Err(error) => tracing::warn!(%error, "the local Qdrant's server panicked"),
        }
    }

    /// [`LocalQdrant::shutdown`] without waiting for calls in flight: for when whoever made them is gone.
    pub async fn abandon(self) {
        self.ends.at_once.cancel();
        self.shutdown().await;
    }
}

/// When a server ends.
#[derive(Clone, Default)]
struct Ends {
    stop: CancellationToken,
    /// Calls in flight are not waited for any more.
    at_once: CancellationToken,
}

/// Serves a data directory until the token is cancelled, then as `LocalQdrant::shutdown`: for a process of its own.
///
/// # Errors
/// As `LocalQdrant::start`, and when the server ends by itself.
pub async fn serve(data_dir: &Path, listener: TcpListener, shutdown: CancellationToken) -> Result<(), QdrantError> {
    let opened = open(data_dir).await?;
    let ends = Ends { stop: shutdown, ..Ends::default() };
    run(Server::builder(), opened, listener, ends, upkeep::INTERVAL, Faults::default()).await
}

async fn open(data_dir: &Path) -> Result<Arc<Store>, QdrantError> {
    let dir = data_dir.to_owned();
    let opened = tokio::task::spawn_blocking(move || Store::open(&dir)).await;
    let store = opened.map_err(|error| QdrantError::Thread(std::io::Error::other(error)))??;
    Ok(Arc::new(store))
}

async fn run(
    mut server: Server,
    store: Arc<Store>,
    listener: TcpListener,
    ends: Ends,
    interval: Duration,
    faults: Faults,
) -> Result<(), QdrantError> {
    let upkeep = Upkeep::start(Arc::clone(&store), interval).map_err(QdrantError::Thread)?;
    // Without it, a small answer waits for the client's delayed acknowledgement: 40 ms.
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let points = PointsServer::new(PointsService { store: Arc::clone(&store), faults: faults.clone() })
        .max_decoding_message_size(MAX_REQUEST_BYTES)
        .max_encoding_message_size(usize::MAX);
    let collections = CollectionsServer::new(CollectionsService(Arc::clone(&store)));
    let server = server
        .add_service(InterceptedService::new(points, faults.clone()))
        .add_service(InterceptedService::new(collections, faults.clone()))
        .add_service(InterceptedService::new(QdrantServer::new(HealthService), faults))
        .serve_with_incoming_shutdown(incoming, ends.stop.clone().cancelled_owned());
    let overtime = async {
        ends.stop.cancelled().await;
        let _ = tokio::time::timeout(GRACE, ends.at_once.cancelled()).await;
    };
    let served = tokio::select! {
        served = server => served.map_err(QdrantError::from),
        () = overtime => Ok(()),
    };
    if upkeep.stop().await {
        store.flush().await;
    } else {
        tracing::warn!("an optimization goes on; the journals keep what is not flushed");
    }
    // The last owner closes the engine, which blocks.
    let closed = tokio::task::spawn_blocking(move || drop(store)).await;
    closed.map_err(|error| QdrantError::Thread(std::io::Error::other(error)))?;
    served
}

#[cfg(test)]
mod tests;
