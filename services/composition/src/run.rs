//! Running services in one process: started together, ended together, with health and metrics over HTTP beside them.

use std::time::Duration;

use facewire_artifacts::progress::Reporter;
use facewire_domain::Stage;
use facewire_runtime::{Backoff, ServiceError, Shutdown, State, retry};
use tokio::task::JoinSet;

use crate::Boxed;
use crate::config::Config;
use crate::health::Endpoint;
use crate::migrate;
use crate::models::Chain;
use crate::parts::Parts;
use crate::service::Service;

/// Between two questions to servers that do not answer.
const PAUSES: Backoff = Backoff { first: Duration::from_millis(200), max: Duration::from_secs(5) };

/// Connects, however long the servers are away, checks that `facewire migrate` has run, and runs services until the
/// shutdown. One that gives up asks the others to finish, and its error comes back. `chain` takes the place of the
/// configured pack's models.
///
/// # Errors
/// What a start says; the first error of a service.
pub fn run<'a>(
    config: &'a Config,
    services: &'a [Service],
    chain: Option<Chain>,
    report: Reporter,
    shutdown: &'a Shutdown,
) -> Boxed<'a, ()> {
    Box::pin(async move {
        // Before servers are waited for.
        config.check_stages(stages(services))?;
        let health = shutdown.health();
        let endpoint = Endpoint::bind(&config.health, health.clone()).await?;
        services.iter().for_each(|service| health.set(service.name(), State::Starting));
        let work = async {
            let Some(parts) = prepared(config, services, chain, report, shutdown).await? else { return Ok(()) };
            start(config, services, &parts, shutdown)?.wait().await
        };
        match endpoint {
            None => work.await,
            Some(endpoint) => tokio::select! {
                done = work => done,
                never = endpoint.serve() => match never {},
            },
        }
    })
}

/// Opens what the services need, and refuses servers that were not migrated. A server that is away is waited for; `None`: the
/// drain began first.
async fn prepared(
    config: &Config,
    services: &[Service],
    chain: Option<Chain>,
    report: Reporter,
    shutdown: &Shutdown,
) -> anyhow::Result<Option<Parts>> {
    let open = || Parts::open(config, services, chain.clone(), report.clone());
    let Some(parts) = answered(shutdown, open).await? else { return Ok(None) };
    Ok(answered(shutdown, || migrate::check(&parts)).await?.map(|()| parts))
}

/// What the servers answer, however long they are away; `None`: the drain began first.
async fn answered<T, F>(shutdown: &Shutdown, ask: impl FnMut() -> F) -> anyhow::Result<Option<T>>
where
    F: Future<Output = anyhow::Result<T>>,
{
    let waiting = |error: &anyhow::Error, _| {
        tracing::warn!(error = format!("{error:#}"), "a server does not answer yet");
    };
    tokio::select! {
        answer = retry(PAUSES, shutdown.token(), migrate::is_transient, waiting, ask) => match answer {
            Err(error) if migrate::is_transient(&error) => Ok(None),
            answer => answer.map(Some),
        },
        () = shutdown.draining() => Ok(None),
    }
}

/// The stages among them.
fn stages(services: &[Service]) -> impl Iterator<Item = Stage> {
    services.iter().filter_map(|service| match service {
        Service::Stage(stage) => Some(*stage),
        _ => None,
    })
}

/// Starts services on parts that hold what they need.
///
/// # Errors
/// A part is missing; a stage cannot work with its options.
pub fn start(config: &Config, services: &[Service], parts: &Parts, shutdown: &Shutdown) -> anyhow::Result<Running> {
    config.check_stages(stages(services))?;
    let mut running = JoinSet::new();
    for service in services {
        running.spawn(service.start(config, parts, shutdown.clone())?);
        let (name, bus, until) = (service.name(), parts.bus.clone(), shutdown.clone());
        // Ends with the drain: what ends before drains the others.
        running.spawn(async move {
            bus.hold_while_denied(name, &until).await;
            Ok(())
        });
    }
    Ok(Running { running, shutdown: shutdown.clone() })
}

/// Started services. Dropping it drops them at once: nothing in hand is finished or acked.
#[derive(Debug)]
pub struct Running {
    running: JoinSet<Result<(), ServiceError>>,
    shutdown: Shutdown,
}

impl Running {
    /// Waits until all have ended. The end of one drains the others.
    ///
    /// # Errors
    /// The first error of a service.
    pub async fn wait(mut self) -> anyhow::Result<()> {
        let mut first_error = None;
        while let Some(ended) = self.running.join_next().await {
            if let Err(error) = ended.map_err(anyhow::Error::from).and_then(|r| r.map_err(anyhow::Error::from)) {
                first_error.get_or_insert(error);
            }
            self.shutdown.drain();
        }
        first_error.map_or(Ok(()), Err)
    }

    /// Asks all to finish, and waits for it.
    ///
    /// # Errors
    /// As [`Running::wait`].
    pub async fn drain(self) -> anyhow::Result<()> {
        self.shutdown.drain();
        self.wait().await
    }
}
