//! The three servers of a local stack as one thing: started together, watched, stopped together. Services must not come
//! in: they get URLs.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use facewire_artifacts::progress::{Event, Reporter};
use facewire_artifacts::{self as artifacts, FetchOptions, Kind};

use crate::dirs::make_dir;
use crate::error::StackError;
use crate::lock::DirLock;
use crate::nats::{NatsOptions, NatsServer};
use crate::postgres::{PostgresOptions, PostgresServer};
use crate::process::Died;
use crate::qdrant::LocalQdrant;
use crate::qdrant_port::serve_in;

/// Tries at a data directory that somebody holds.
const TRIES: usize = 25;
/// Between two of them.
const PAUSE: Duration = Duration::from_millis(20);

/// What to start and where.
#[derive(Debug, Clone)]
pub struct StackOptions {
    /// Where the servers keep their data, logs and passwords; created where missing, kept from start to start.
    pub data_dir: PathBuf,
    /// How missing artefacts are fetched.
    pub fetch: FetchOptions,
    /// A NATS of your own: none is started.
    pub nats: Option<String>,
    /// A PostgreSQL of your own: none is started.
    pub postgres: Option<String>,
    /// A Qdrant of your own: none is started.
    pub qdrant: Option<String>,
    /// The port of the nats-server; `None` takes a free one.
    pub nats_port: Option<u16>,
    /// The port of the PostgreSQL; `None` takes a free one.
    pub postgres_port: Option<u16>,
    /// The port of the Qdrant; `None` takes a free one.
    pub qdrant_port: Option<u16>,
    /// Whether commits survive a crash of the machine (`fsync`). Off only for data that is thrown away.
    pub durable: bool,
}

impl StackOptions {
    /// Everything local, on free ports, durable.
    pub fn new(data_dir: PathBuf) -> Self {
        Self {
            data_dir,
            fetch: FetchOptions::default(),
            nats: None,
            postgres: None,
            qdrant: None,
            nats_port: None,
            postgres_port: None,
            qdrant_port: None,
            durable: true,
        }
    }
}

/// A running stack. [`Stack::shutdown`] stops it in order; dropping it stops it at once; nothing outlives this process.
pub struct Stack {
    /// `nats://…`.
    pub nats_url: String,
    /// `postgres://…`; for a local server it holds the password, so it must not be logged.
    pub postgres_url: String,
    /// `http://…`, Qdrant's gRPC.
    pub qdrant_url: String,
    nats: Option<NatsServer>,
    postgres: Option<PostgresServer>,
    qdrant: Option<LocalQdrant>,
    _lock: DirLock,
}

/// A stack that starts. Boxed, so that it is compiled here and not once more in every crate that awaits it.
pub type Starting = Pin<Box<dyn Future<Output = Result<Stack, StackError>> + Send>>;

impl Stack {
    /// Fetches what is missing and starts what is not named, all at the same time. The data directory is locked until the stack
    /// has stopped.
    ///
    /// # Errors
    /// The first that fails; what did start is stopped again.
    pub fn start(options: StackOptions, report: Reporter) -> Starting {
        Box::pin(async move {
            // Also where it starts none: the directory says which servers its one stack has.
            make_dir(&options.data_dir, 0o711)?;
            let lock = locked(&options.data_dir).await?;
            let kinds: Vec<Kind> = [(Kind::NatsServer, &options.nats), (Kind::Postgres, &options.postgres)]
                .into_iter()
                .filter_map(|(kind, url)| url.is_none().then_some(kind))
                .collect();
            let found = artifacts::ensure(&kinds, &options.fetch, report.clone()).await;
            // Off the pinned platforms a stack of external servers needs no artefact at all.
            let found = if kinds.is_empty() { found.ok() } else { Some(found?) };
            let program = found.as_ref().map(|found| found.nats_server.clone()).unwrap_or_default();
            let bin = found.map(|found| found.postgres_bin).unwrap_or_default();
            let (nats, postgres, qdrant) = tokio::join!(
                start_nats(&options, program, &report),
                start_postgres(&options, bin, &report),
                start_qdrant(&options, &report),
            );
            Self::assemble(options, lock, nats, postgres, qdrant).await
        })
    }

    /// All or nothing.
    async fn assemble(
        options: StackOptions,
        lock: DirLock,
        nats: Result<Option<NatsServer>, StackError>,
        postgres: Result<Option<PostgresServer>, StackError>,
        qdrant: Result<Option<LocalQdrant>, StackError>,
    ) -> Result<Self, StackError> {
        let url = |named: Option<String>, local: Option<String>| named.or(local).unwrap_or_default();
        let (mut errors, mut keep) = (Vec::new(), Kept::default());
        nats.map_or_else(|error| errors.push(error), |server| keep.nats = server);
        postgres.map_or_else(|error| errors.push(error), |server| keep.postgres = server);
        qdrant.map_or_else(|error| errors.push(error), |server| keep.qdrant = server);
        let stack = Self {
            nats_url: url(options.nats, keep.nats.as_ref().map(NatsServer::url)),
            postgres_url: url(options.postgres, keep.postgres.as_ref().map(PostgresServer::url)),
            qdrant_url: url(options.qdrant, keep.qdrant.as_ref().map(LocalQdrant::url)),
            nats: keep.nats,
            postgres: keep.postgres,
            qdrant: keep.qdrant,
            _lock: lock,
        };
        match errors.into_iter().next() {
            None => Ok(stack),
            Some(error) => {
                stack.shutdown().await;
                Err(error)
            }
        }
    }

    /// Stops what was started, in order and at the same time; each is killed after its grace period.
    pub async fn shutdown(mut self) {
        let qdrant = self.qdrant.take();
        let (nats, postgres) = (self.nats.as_ref(), self.postgres.as_ref());
        let stop_nats = async { if let Some(server) = nats { server.stop().await } else { Ok(()) } };
        let stop_postgres = async { if let Some(server) = postgres { server.stop().await } else { Ok(()) } };
        let stop_qdrant = async {
            if let Some(server) = qdrant {
                server.shutdown().await;
            }
        };
        let (nats, postgres, ()) = tokio::join!(stop_nats, stop_postgres, stop_qdrant);
        for error in [nats, postgres].into_iter().filter_map(Result::err) {
            tracing::warn!(%error, "a server of the local stack was not stopped in order");
        }
    }

    /// Resolves when a child ends by itself; never, where none was started.
    pub async fn died(&self) -> Died {
        tokio::select! {
            died = end_of(self.nats.as_ref().map(NatsServer::died)) => died,
            died = end_of(self.postgres.as_ref().map(PostgresServer::died)) => died,
        }
    }
}

/// The lock of the data directory. Commands ask by it whether a stack runs there, and hold it for that moment: a refusal counts
/// only when it lasts.
async fn locked(data_dir: &Path) -> Result<DirLock, StackError> {
    let mut tries = TRIES;
    loop {
        match DirLock::take(data_dir) {
            Err(StackError::InUse { .. }) if tries > 0 => {
                tries -= 1;
                tokio::time::sleep(PAUSE).await;
            }
            taken => return taken,
        }
    }
}

async fn end_of(died: Option<impl Future<Output = Died>>) -> Died {
    match died {
        Some(died) => died.await,
        None => std::future::pending().await,
    }
}

#[derive(Default)]
struct Kept {
    nats: Option<NatsServer>,
    postgres: Option<PostgresServer>,
    qdrant: Option<LocalQdrant>,
}

async fn start_nats(
    options: &StackOptions,
    program: PathBuf,
    report: &Reporter,
) -> Result<Option<NatsServer>, StackError> {
    if options.nats.is_some() {
        return Ok(None);
    }
    report(Event::Starting { server: "nats-server" });
    let server = NatsServer::start(NatsOptions {
        program,
        dir: options.data_dir.join("nats"),
        port: options.nats_port,
        monitor_port: None,
        more: String::new(),
        throwaway: false,
    })
    .await?;
    report(Event::Listening { server: "nats-server", port: server.port() });
    Ok(Some(server))
}

async fn start_postgres(
    options: &StackOptions,
    bin: PathBuf,
    report: &Reporter,
) -> Result<Option<PostgresServer>, StackError> {
    if options.postgres.is_some() {
        return Ok(None);
    }
    report(Event::Starting { server: "postgres" });
    let server = PostgresServer::start(PostgresOptions {
        bin,
        dir: options.data_dir.join("postgres"),
        port: options.postgres_port,
        fsync: options.durable,
        template: None,
    })
    .await?;
    report(Event::Listening { server: "postgres", port: server.port() });
    Ok(Some(server))
}

async fn start_qdrant(options: &StackOptions, report: &Reporter) -> Result<Option<LocalQdrant>, StackError> {
    if options.qdrant.is_some() {
        return Ok(None);
    }
    report(Event::Starting { server: "qdrant" });
    let (server, port) = serve_in(options.data_dir.join("qdrant"), options.qdrant_port).await?;
    report(Event::Listening { server: "qdrant", port });
    Ok(Some(server))
}
