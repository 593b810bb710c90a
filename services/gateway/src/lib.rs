//! The REST API (DESIGN §11): thin handlers over the gallery and the bus. Requests are read, allowed and bounded here, and
//! handed on; what is decided about faces is decided by the chain and the gallery.

mod bodies;
mod caller;
mod chain;
mod cursor;
mod error;
mod events;
mod housekeeping;
mod idempotency;
mod imports;
mod input;
mod json;
mod linger;
mod openapi;
mod options;
mod origin;
mod parts;
mod prefer;
mod proxies;
mod rates;
mod request;
mod routes;
mod server;
mod shares;
mod stall;
mod streams;
mod tls;
mod turns;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use facewire_bus::{Bus, BusError, Replies, Requests};
use facewire_domain::{CalibratedGate, Calibration, CollectionId, Fault, FaultKind, Gate};
use facewire_gallery::{Gallery, RuleBook, RuleOptions};
use facewire_runtime::{Backoff, Run, ServiceError, Shutdown, State, retry};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use caller::{Keys, Owner};
use events::{Reach, Sender};
use rates::Rates;
use shares::Shares;
use streams::Streams;
use tls::Certificates;
use turns::Turns;

pub use error::{ApiError, Code, ErrorBody, ErrorEnvelope};
pub use events::{LEASE as EVENTS_LEASE, Options as WebhookOptions};
pub use options::{Auth, Options, Tls};
pub use proxies::{Network, NoNetwork};

/// Between two tries to subscribe.
const PAUSES: Backoff = Backoff { first: Duration::from_millis(200), max: Duration::from_secs(5) };

/// Requests that have endings summed at a time; the others wait.
const SUMS: usize = 2;

/// As health and telemetry call it.
pub const SERVICE: &str = "gateway";

/// Why the gateway cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The address is taken or not this machine's.
    #[error("gateway.listen: {address} cannot be listened on: {error}; name another address")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        error: std::io::Error,
    },
    /// The certificate or its key.
    #[error("gateway.tls: {0}")]
    Tls(String),
}

/// The service and what it needs.
#[derive(Debug, Clone)]
pub struct Gateway {
    /// NATS.
    pub bus: Bus,
    /// People and faces.
    pub gallery: Gallery,
    /// What `GET /api/v1/system` says of the models.
    pub model: ModelInfo,
    /// What a match needs, as `match` is configured.
    pub rules: RuleOptions,
    /// What the pack says of its similarities.
    pub calibration: Option<Calibration>,
    /// The gate, as `quality` is configured.
    pub gate: Gate,
    /// Life of a lease without a renewal, as `migrate` made their bucket.
    pub lease: Duration,
    /// Its options.
    pub options: Options,
}

/// The models that serve.
#[derive(Debug, Clone)]
pub struct ModelInfo {
    /// The pack.
    pub pack: String,
    /// Where embeddings are made, as configured: `cpu`, `cuda:0` and the like, several with commas.
    pub provider: String,
}

/// What every request shares. One reference count for all of it: each layer of a route clones it for every request.
#[derive(Debug, Clone)]
pub(crate) struct App(Arc<Shared>);

impl std::ops::Deref for App {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) bus: Bus,
    pub(crate) gallery: Gallery,
    pub(crate) model: ModelInfo,
    pub(crate) rules: Arc<RuleBook>,
    pub(crate) configured_gate: Gate,
    pub(crate) requests: Requests,
    /// Places of imports that are read.
    pub(crate) imports: Shares,
    /// Places of kept exports that are read.
    pub(crate) exports: Shares,
    /// The turn of a cluster that is split.
    pub(crate) splits: Semaphore,
    /// The turns of those who have many endings summed: it takes long, and keys are looked up over the same connections.
    pub(crate) sums: Semaphore,
    /// One turn of an owner before these, so that nobody has them all.
    pub(crate) own_sums: Turns<Owner>,
    /// The turn of an erasure, in each collection.
    pub(crate) erasures: Turns<CollectionId>,
    /// Requests that come to their end whether or not their clients wait for it.
    pub(crate) going_on: TaskTracker,
    pub(crate) options: Arc<Options>,
    pub(crate) keys: Keys,
    pub(crate) rates: Rates,
    pub(crate) streams: Streams,
    pub(crate) shutdown: Shutdown,
}

/// A gateway that listens.
pub struct Listening {
    gateway: Gateway,
    listener: TcpListener,
    certificates: Option<Certificates>,
}

impl Gateway {
    /// Binds its address and reads its certificate.
    ///
    /// # Errors
    /// The address cannot be listened on, the certificate cannot be used.
    pub async fn listen(self) -> Result<Listening, GatewayError> {
        let address = self.options.address();
        let listener = TcpListener::bind(address).await.map_err(|error| GatewayError::Listen { address, error })?;
        let certificates = match &self.options.tls {
            Some(files) => Some(Certificates::open(files).await?),
            None => None,
        };
        Ok(Listening { gateway: self, listener, certificates })
    }

    /// Listens and answers until the shutdown.
    ///
    /// # Errors
    /// As [`Gateway::listen`] and [`Listening::serve`].
    pub fn run(self, shutdown: Shutdown) -> Run {
        Box::pin(async move { self.listen().await.map_err(refused)?.serve(shutdown).await })
    }
}

fn refused(why: impl std::fmt::Display) -> ServiceError {
    ServiceError::Refused { service: SERVICE, why: why.to_string() }
}

impl Listening {
    /// Where it listens.
    ///
    /// # Errors
    /// The system does not know.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers until the shutdown.
    ///
    /// # Errors
    /// NATS permits no subscription to replies, or the connection to it is closed for good.
    pub fn serve(self, shutdown: Shutdown) -> Run {
        Box::pin(async move {
            let Self { gateway, listener, certificates } = self;
            let health = shutdown.health().clone();
            health.set(SERVICE, State::Starting);
            let Some((requests, replies)) = gateway.requests(&shutdown).await? else { return Ok(()) };
            if let Ok(address) = listener.local_addr() {
                tracing::info!(%address, keys = gateway.options.needs_key(), "the gateway listens");
            }
            let lease = gateway.lease;
            let (store, options) = (gateway.gallery.store.clone(), gateway.options.webhooks.clone());
            let sender = Sender::new(store, options, Reach::of(&gateway.options)).map_err(refused)?;
            let app = App::new(gateway, requests, shutdown.clone());
            let (bus, store) = (app.bus.clone(), app.gallery.store.clone());
            let (rules, gallery) = (Arc::clone(&app.rules), app.gallery.clone());
            let options = Arc::clone(&app.options);
            let going_on = app.going_on.clone();
            let router = routes::router(app);
            health.set(SERVICE, State::Ready);
            facewire_telemetry::events::ServiceStarted { service: SERVICE }.emit();
            let followed = certificates.clone();
            let follow = async {
                match &followed {
                    Some(certificates) => certificates.follow(&shutdown).await,
                    None => shutdown.draining().await,
                }
            };
            let keep_rules = async {
                tokio::select! {
                    never = rules.keep_fresh(&gallery) => match never {},
                    () = shutdown.draining() => {}
                }
            };
            let answering = async {
                tokio::join!(
                    server::serve(listener, router, &going_on, certificates, &options, &shutdown),
                    follow,
                    keep_rules,
                    events::run(&bus, &store, lease, &options.retention, &shutdown),
                    sender.run(&shutdown),
                );
                Ok(())
            };
            // Whoever waits for the chain is answered until the connections are gone, also who still sends an image when the
            // drain begins: nothing ends this but the end of the answering.
            let told = async {
                replies.run(Shutdown::new(shutdown.grace())).await.map_err(refused)?;
                std::future::pending().await
            };
            let ended = tokio::select! {
                ended = answering => ended,
                ended = told => ended,
            };
            health.set(SERVICE, if ended.is_ok() { State::Stopped } else { State::Failed });
            ended
        })
    }
}

impl Gateway {
    /// The subscription to replies, waited for while NATS is away; `None`: the shutdown came first.
    async fn requests(&self, shutdown: &Shutdown) -> Result<Option<(Requests, Replies)>, ServiceError> {
        let most = self.options.recognitions;
        let transient = |error: &BusError| error.kind() == FaultKind::Transient;
        let say = |error: &BusError, _| tracing::warn!(%error, "the gateway waits for NATS");
        match retry(PAUSES, shutdown.token(), transient, say, || self.bus.requests(most)).await {
            Ok(requests) => Ok(Some(requests)),
            Err(_) if shutdown.is_draining() => Ok(None),
            Err(error) => Err(refused(error)),
        }
    }
}

impl App {
    fn new(gateway: Gateway, requests: Requests, shutdown: Shutdown) -> Self {
        let Gateway { bus, gallery, model, rules, calibration, gate, lease: _, options } = gateway;
        Self(Arc::new(Shared {
            bus,
            gallery,
            model,
            rules: Arc::new(RuleBook::new(rules, calibration)),
            configured_gate: gate,
            requests,
            imports: imports::places(&options),
            exports: bodies::exports(&options),
            splits: Semaphore::new(1),
            sums: Semaphore::new(SUMS),
            own_sums: Turns::default(),
            erasures: Turns::default(),
            going_on: TaskTracker::new(),
            keys: Keys::default(),
            rates: Rates::new(&options),
            streams: Streams::new(&options),
            options: Arc::new(options),
            shutdown,
        }))
    }

    /// The gate as the stages judge now: what is configured, and what calibrations in force say.
    async fn gate(&self) -> Result<Gate, ApiError> {
        let rows = self.gallery.store.calibrations_in_force(&self.gallery.model).await?;
        let gates: Vec<CalibratedGate> =
            rows.iter().filter_map(|row| row.gate()).collect::<Result<_, _>>().map_err(ApiError::internal)?;
        Ok(self.configured_gate.clone().with_calibrated(gates.into_iter().collect()))
    }
}
