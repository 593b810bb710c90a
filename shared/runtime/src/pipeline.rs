//! A service's actors as one thing: they start together, drain from the source down, and when one fails the others are
//! aborted, so that nothing half-alive holds messages. Restarting is `supervise`'s work.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use facewire_telemetry::events::FailureKind;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::pool::{Break, Hold, REOPEN_BACKOFF};
use crate::retry::Backoff;
use crate::shutdown::Shutdown;
use crate::watch::Watch;

/// Whatever ended an actor; only its text matters here.
pub type ActorError = Box<dyn std::error::Error + Send + Sync>;

/// Why a pipeline ended before it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// An actor gave up.
    #[error("actor {actor} failed: {error}")]
    Failed {
        /// Its name.
        actor: &'static str,
        /// Its error.
        error: ActorError,
    },
    /// An actor panicked: a defect of ours.
    #[error("actor {actor} panicked: {message}")]
    Panicked {
        /// Its name.
        actor: &'static str,
        /// The panic's text.
        message: String,
    },
    /// An actor has had work in hand for too long without progress: a hung model or driver, a deadlock. A thread
    /// cannot be ended; what it held comes back.
    #[error("actor {actor} hangs: no progress for more than {limit:?}")]
    Hung {
        /// Its name.
        actor: &'static str,
        /// What was allowed.
        limit: Duration,
    },
    /// The drain took longer than the grace period; what was in flight comes back.
    #[error("the drain took longer than the grace period of {0:?}")]
    GraceExceeded(Duration),
}

impl PipelineError {
    /// As it is counted.
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::Failed { .. } | Self::GraceExceeded(_) => FailureKind::Error,
            Self::Panicked { .. } => FailureKind::Panic,
            Self::Hung { .. } => FailureKind::Hang,
        }
    }
}

type Ended = (&'static str, Result<Result<(), ActorError>, String>);

/// Longest time with work in hand and no progress. Far beyond any picture or batch and any one call of a store, and
/// still a small part of what a restart would lose.
const HANG_AFTER: Duration = Duration::from_secs(120);

/// Between two checks of the actors.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Actors of one service. Dropping it aborts its tasks; its threads end when their inboxes close.
#[derive(Debug)]
pub struct Pipeline {
    service: &'static str,
    shutdown: Shutdown,
    actors: JoinSet<Ended>,
    watches: Vec<Watch>,
    holds: Vec<Hold>,
    broken: Arc<Break>,
    opened: CancellationToken,
    hang_after: Duration,
    reopen: Backoff,
}

impl Default for Pipeline {
    fn default() -> Self {
        Self::within("", &Shutdown::new(Duration::ZERO))
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        // Wakes the threads that wait before they open a session anew.
        self.shutdown.drain();
        self.holds.iter().for_each(Hold::end);
    }
}

impl Pipeline {
    /// A pipeline without actors whose pools have no state that can break.
    pub fn new() -> Self {
        Self::default()
    }

    /// A pipeline of `service` without actors. Its actors drain with [`Pipeline::shutdown`], not with the shutdown given.
    pub fn within(service: &'static str, shutdown: &Shutdown) -> Self {
        Self {
            service,
            shutdown: shutdown.child(),
            actors: JoinSet::new(),
            watches: Vec::new(),
            holds: Vec::new(),
            broken: Arc::default(),
            opened: CancellationToken::new(),
            hang_after: HANG_AFTER,
            reopen: REOPEN_BACKOFF,
        }
    }

    /// This pipeline's own: it drains with the service's, and when a pool's device stays away.
    pub fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    /// Cancelled once a thread of a pool has opened its first state. Until then nobody works, and what is taken from a queue would
    /// have to be given back: whoever pulls for a pool whose device may be away waits for it.
    pub fn opened(&self) -> &CancellationToken {
        &self.opened
    }

    pub(crate) fn service(&self) -> &'static str {
        self.service
    }

    pub(crate) fn reopen_backoff(&self) -> Backoff {
        self.reopen
    }

    #[cfg(test)]
    pub(crate) fn reopen_after(mut self, backoff: Backoff) -> Self {
        self.reopen = backoff;
        self
    }

    /// Another limit for work without progress.
    #[cfg(test)]
    pub(crate) fn hang_after(mut self, limit: Duration) -> Self {
        self.hang_after = limit;
        self
    }

    pub(crate) fn broken(&self) -> Arc<Break> {
        Arc::clone(&self.broken)
    }

    /// Watches an actor that says itself when it has work in hand.
    pub(crate) fn watch(&mut self, actor: &'static str) -> Watch {
        let watch = Watch::new(actor);
        self.watches.push(watch.clone());
        watch
    }

    /// What a thread keeps the service from being ready with: as long as this lives, at most.
    pub(crate) fn hold(&mut self) -> Hold {
        let hold = Hold::default();
        self.holds.push(hold.clone());
        hold
    }

    /// Runs an actor as a task. It is watched for hanging while it has work from an [`Inbox`] in hand.
    pub fn spawn<F>(&mut self, actor: &'static str, future: F)
    where
        F: Future<Output = Result<(), ActorError>> + Send + 'static,
    {
        use futures_util::FutureExt;
        let watch = self.watch(actor);
        self.actors.spawn(async move {
            let ended = watch.over(AssertUnwindSafe(future).catch_unwind()).await;
            (actor, ended.map_err(panic_text))
        });
    }

    /// Runs an actor on a thread of its own: decode, ONNX and hashing block, and must not do so on the runtime.
    pub fn spawn_thread<F>(&mut self, actor: &'static str, body: F) -> Result<(), ActorError>
    where
        F: FnOnce() -> Result<(), ActorError> + Send + 'static,
    {
        let (done, ended) = tokio::sync::oneshot::channel();
        std::thread::Builder::new().name(actor.to_owned()).spawn(move || {
            let result = std::panic::catch_unwind(AssertUnwindSafe(body)).map_err(panic_text);
            // The pipeline may be gone by now; then nobody wants to know.
            let _ = done.send(result);
        })?;
        self.actors.spawn(async move {
            let result = ended.await.unwrap_or_else(|_| Err("the thread vanished".to_owned()));
            (actor, result)
        });
        Ok(())
    }

    /// Waits until every actor has ended. The first failure aborts the rest; a device that stays away drains them first.
    /// After the drain began, whichever it is, they have the grace period.
    pub async fn run(mut self, shutdown: &Shutdown) -> Result<(), PipelineError> {
        let own = self.shutdown.clone();
        let deadline = async {
            tokio::select! {
                () = shutdown.draining() => {}
                () = own.draining() => {}
            }
            tokio::time::sleep(shutdown.grace()).await;
        };
        tokio::pin!(deadline);
        let mut poll = tokio::time::interval(POLL_INTERVAL.min(self.hang_after));
        poll.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let joined = tokio::select! {
                joined = self.actors.join_next() => joined,
                // The device's drain began first: it is what is told, also where the service's began meanwhile.
                () = &mut deadline => return Err(self.broke().unwrap_or(PipelineError::GraceExceeded(shutdown.grace()))),
                _ = poll.tick() => {
                    let limit = self.hang_after;
                    match self.watches.iter().find(|watch| watch.hangs(limit)) {
                        Some(watch) => return Err(PipelineError::Hung { actor: watch.actor(), limit }),
                        None => continue,
                    }
                }
            };
            match joined {
                None => return self.broke().map_or(Ok(()), Err),
                Some(Ok((_, Ok(Ok(()))))) => {}
                Some(Ok((actor, Ok(Err(error))))) => return Err(PipelineError::Failed { actor, error }),
                Some(Ok((actor, Err(message)))) => return Err(PipelineError::Panicked { actor, message }),
                // Only an abort makes a join fail, and aborting means that this future is being dropped.
                Some(Err(_)) => {}
            }
        }
    }

    /// The device that stayed away, where one did.
    fn broke(&self) -> Option<PipelineError> {
        self.broken.take().map(|(actor, error)| PipelineError::Failed { actor, error })
    }
}

fn panic_text(payload: Box<dyn Any + Send>) -> String {
    payload
        .downcast_ref::<&str>()
        .map(|s| (*s).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a text".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inbox::inbox;
    use crate::retry::retry;
    use std::num::NonZeroUsize;
    use std::sync::mpsc;
    use tokio_util::sync::CancellationToken;

    fn shutdown() -> Shutdown {
        Shutdown::new(Duration::from_secs(60))
    }

    #[tokio::test]
    async fn it_drains_from_the_source_down() {
        let (out, mut inbox) = inbox("source->worker", NonZeroUsize::MIN);
        let (seen, heard) = mpsc::channel();
        let shutdown = shutdown();
        let mut pipeline = Pipeline::new();
        let drain = shutdown.clone();
        pipeline.spawn("source", async move {
            out.send(1).await?;
            drain.draining().await;
            out.send(2).await?;
            Ok(())
        });
        pipeline
            .spawn_thread("worker", move || {
                while let Some(item) = inbox.blocking_recv() {
                    seen.send(item)?;
                }
                Ok(())
            })
            .unwrap();
        shutdown.drain();
        pipeline.run(&shutdown).await.unwrap();
        assert_eq!(heard.iter().collect::<Vec<i32>>(), vec![1, 2]);
    }

    #[tokio::test]
    async fn one_failure_ends_all() {
        let (out, mut inbox) = inbox::<()>("a->b", NonZeroUsize::MIN);
        let (gone, ended) = tokio::sync::oneshot::channel::<()>();
        let mut pipeline = Pipeline::new();
        pipeline.spawn("waits", async move {
            let _keep = (out, gone);
            std::future::pending().await
        });
        pipeline
            .spawn_thread("thread", move || {
                while inbox.blocking_recv().is_some() {}
                Ok(())
            })
            .unwrap();
        pipeline.spawn("panics", async { panic!("no such luck") });
        let error = pipeline.run(&shutdown()).await.unwrap_err();
        assert_eq!(error.to_string(), "actor panics panicked: no such luck");
        assert!(ended.await.is_err(), "the other actor was dropped");
    }

    #[tokio::test]
    async fn a_thread_that_panics_is_seen() {
        let mut pipeline = Pipeline::new();
        pipeline.spawn_thread("t", || panic!("boom {}", 1)).unwrap();
        assert!(
            matches!(pipeline.run(&shutdown()).await, Err(PipelineError::Panicked { message, .. }) if message == "boom 1")
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_hangs_is_seen() {
        let (out, mut items) = inbox("a->b", NonZeroUsize::MIN);
        let mut pipeline = Pipeline::new();
        pipeline.spawn("a", async move {
            out.send(()).await?;
            std::future::pending().await
        });
        pipeline.spawn("b", async move {
            while items.recv().await.is_some() {
                std::future::pending::<()>().await;
            }
            Ok(())
        });
        let error = pipeline.run(&shutdown()).await.unwrap_err();
        assert!(matches!(error, PipelineError::Hung { actor: "b", .. }), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_has_ended_or_waits_for_work_room_or_a_store_does_not_hang() {
        let long = 10 * HANG_AFTER;
        let (out, mut items) = inbox("a->b", NonZeroUsize::MIN);
        let (on, mut last) = inbox("b->c", NonZeroUsize::MIN);
        let mut pipeline = Pipeline::new();
        let (_, mut closed) = inbox::<()>("none->ended", NonZeroUsize::MIN);
        pipeline.spawn("ended", async move {
            assert_eq!(closed.recv().await, None);
            Ok(())
        });
        pipeline.spawn("a", async move {
            tokio::time::sleep(long).await;
            Ok(out.send(()).await?)
        });
        pipeline.spawn("b", async move {
            let Some(()) = items.recv().await else { return Ok(()) };
            let began = tokio::time::Instant::now();
            let ask = || async move { if began.elapsed() < long { Err("down") } else { Ok(()) } };
            retry(Backoff::default(), &CancellationToken::new(), |_| true, |_, _| {}, ask).await?;
            on.send(1).await?;
            on.send(2).await?;
            assert!(began.elapsed() >= 2 * long);
            Ok(())
        });
        pipeline.spawn("c", async move {
            tokio::time::sleep(4 * long).await;
            assert_eq!((last.recv().await, last.recv().await, last.recv().await), (Some(1), Some(2), None));
            Ok(())
        });
        pipeline.run(&shutdown()).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn the_grace_period_ends() {
        let shutdown = shutdown();
        let mut pipeline = Pipeline::new();
        pipeline.spawn("never", std::future::pending());
        shutdown.drain();
        assert!(matches!(pipeline.run(&shutdown).await, Err(PipelineError::GraceExceeded(_))));
    }
}
