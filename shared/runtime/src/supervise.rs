//! Supervision: a pipeline that ended by an error is built anew after a pause; too many failures in a row end the service,
//! and whoever runs the process (Kubernetes, systemd, `facewire up`) takes over.

use std::pin::Pin;
use std::time::Duration;

use facewire_telemetry::events::{self, FailureKind};
use tokio::time::Instant;

use crate::health::State;
use crate::pipeline::{ActorError, Pipeline, PipelineError};
use crate::retry::Backoff;
use crate::shutdown::Shutdown;

/// When to give up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RestartPolicy {
    /// Pauses between restarts.
    pub backoff: Backoff,
    /// Failures in a row that end the service.
    pub max_failures: u32,
    /// A pipeline that ran this long before its last progress was healthy: the count begins anew.
    pub healthy_after: Duration,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self {
            backoff: Backoff { first: Duration::from_millis(200), max: Duration::from_secs(10) },
            max_failures: 8,
            healthy_after: Duration::from_secs(60),
        }
    }
}

/// A service that runs, to be polled until it ends. Boxed, and by the service's own crate: an `async fn` is compiled anew, with all
/// that it calls, in every crate that polls it.
pub type Run = Pin<Box<dyn Future<Output = Result<(), ServiceError>> + Send>>;

/// Why a service ended.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// It could not be built or kept failing; the last error says why.
    #[error("service {service} gave up after {failures} failures in a row: {last}")]
    GaveUp {
        /// Which.
        service: &'static str,
        /// How many.
        failures: u32,
        /// The last error's text.
        last: String,
    },
    /// It was never started: what it was given is not enough.
    #[error("service {service} cannot start: {why}")]
    Refused {
        /// Which.
        service: &'static str,
        /// What is missing, and what to do.
        why: String,
    },
    /// It did not finish its work in the grace period.
    #[error("service {service}: {source}")]
    Drain {
        /// Which.
        service: &'static str,
        /// By how much.
        source: PipelineError,
    },
}

/// Runs a service until it is asked to stop. `build` makes its pipeline, each time anew; it is dropped where the drain begins
/// before it is done, so it must have begun nothing by then that has to be finished.
pub async fn supervise<F>(
    service: &'static str,
    policy: RestartPolicy,
    shutdown: &Shutdown,
    mut build: impl FnMut() -> F,
) -> Result<(), ServiceError>
where
    F: Future<Output = Result<Pipeline, ActorError>>,
{
    let health = shutdown.health();
    health.set(service, State::Starting);
    let mut failures = 0;
    while !shutdown.is_draining() {
        let started = Instant::now();
        // A hang is noticed only after its limit: until then it looks like a healthy run.
        let mut stalled = Duration::ZERO;
        // It may wait for servers that are away.
        let built = tokio::select! {
            () = shutdown.draining() => break,
            built = build() => built,
        };
        let (kind, last) = match built {
            Err(error) => (FailureKind::Error, error.to_string()),
            Ok(pipeline) => {
                health.set(service, State::Ready);
                events::ServiceStarted { service }.emit();
                match pipeline.run(shutdown).await {
                    Ok(()) if shutdown.is_draining() => break,
                    Ok(()) => (FailureKind::Error, "every actor ended though nobody asked".to_owned()),
                    Err(source @ PipelineError::GraceExceeded(_)) => {
                        health.set(service, State::Failed);
                        return Err(ServiceError::Drain { service, source });
                    }
                    Err(error) => {
                        if let PipelineError::Hung { limit, .. } = error {
                            stalled = limit;
                        }
                        (error.kind(), error.to_string())
                    }
                }
            }
        };
        let healthy = started.elapsed().saturating_sub(stalled) >= policy.healthy_after;
        failures = if healthy { 1 } else { failures + 1 };
        events::ServiceFailed { service, kind, failures, error: &last }.emit();
        if failures >= policy.max_failures {
            health.set(service, State::Failed);
            return Err(ServiceError::GaveUp { service, failures, last });
        }
        health.set(service, State::Restarting { failures });
        tokio::select! {
            () = shutdown.draining() => {}
            () = tokio::time::sleep(policy.backoff.pause(failures - 1)) => {}
        }
    }
    health.set(service, State::Stopped);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inbox::inbox;
    use std::cell::Cell;

    #[tokio::test(start_paused = true)]
    async fn it_restarts_and_in_the_end_gives_up() {
        let built = Cell::new(0);
        let shutdown = Shutdown::new(Duration::from_secs(1));
        let result = supervise("s", RestartPolicy::default(), &shutdown, || {
            built.set(built.get() + 1);
            async {
                let mut pipeline = Pipeline::new();
                pipeline.spawn("a", async { Err("down".into()) });
                Ok(pipeline)
            }
        })
        .await;
        assert_eq!(built.get(), RestartPolicy::default().max_failures);
        assert_eq!(shutdown.health().states()["s"], State::Failed);
        assert_eq!(
            result.unwrap_err().to_string(),
            "service s gave up after 8 failures in a row: actor a failed: down"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_healthy_run_forgives() {
        let shutdown = Shutdown::new(Duration::from_secs(1));
        let built = Cell::new(0);
        supervise("s", RestartPolicy::default(), &shutdown, || {
            built.set(built.get() + 1);
            let (shutdown, enough) = (shutdown.clone(), built.get() > 20);
            async move {
                let mut pipeline = Pipeline::new();
                pipeline.spawn("a", async move {
                    if enough {
                        shutdown.drain();
                        return Ok(());
                    }
                    tokio::time::sleep(Duration::from_secs(120)).await;
                    Err("after two good minutes".into())
                });
                Ok(pipeline)
            }
        })
        .await
        .unwrap();
        assert_eq!(built.get(), 21);
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_ends_a_build_that_waits_for_a_server() {
        let (shutdown, begun) = (Shutdown::new(Duration::from_secs(1)), std::sync::Arc::new(()));
        let supervised = supervise("s", RestartPolicy::default(), &shutdown, || {
            let begun = std::sync::Arc::clone(&begun);
            async move {
                let _begun = begun;
                std::future::pending::<Result<Pipeline, ActorError>>().await
            }
        });
        let drain = async {
            tokio::task::yield_now().await;
            assert_eq!(std::sync::Arc::strong_count(&begun), 2, "it waits");
            shutdown.drain();
        };
        let both = async { tokio::join!(supervised, drain) };
        let (ended, ()) = tokio::time::timeout(Duration::from_secs(60), both).await.unwrap();
        ended.unwrap();
        assert_eq!(std::sync::Arc::strong_count(&begun), 1, "nothing of it is left");
        assert_eq!(shutdown.health().states()["s"], State::Stopped);
    }

    /// Gives up after `max_failures` runs that hang `after` their start.
    async fn runs_that_hang(after: Duration) -> (u32, Result<(), ServiceError>) {
        let built = Cell::new(0);
        let shutdown = Shutdown::new(Duration::from_secs(1));
        let supervised = supervise("s", RestartPolicy::default(), &shutdown, || {
            built.set(built.get() + 1);
            let (shutdown, enough) = (shutdown.clone(), built.get() > 20);
            async move {
                let (out, mut items) = inbox("a->b", std::num::NonZeroUsize::MIN);
                let mut pipeline = Pipeline::new();
                pipeline.spawn("a", async move {
                    tokio::time::sleep(after).await;
                    if enough {
                        shutdown.drain();
                        return Ok(());
                    }
                    out.send(()).await?;
                    std::future::pending().await
                });
                pipeline.spawn("b", async move {
                    while items.recv().await.is_some() {
                        std::future::pending::<()>().await;
                    }
                    Ok(())
                });
                Ok(pipeline)
            }
        });
        let ended = supervised.await;
        (built.get(), ended)
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_hangs_each_time_gives_up() {
        let (built, ended) = runs_that_hang(Duration::from_secs(1)).await;
        assert_eq!(built, RestartPolicy::default().max_failures);
        assert!(ended.unwrap_err().to_string().contains("actor b hangs"));
        let (built, ended) = runs_that_hang(RestartPolicy::default().healthy_after).await;
        assert!(ended.is_ok() && built == 21, "a long healthy run before each hang: {built} {ended:?}");
    }
}
