//! A service's actors as one thing: they start together, drain from the source down, and when one fails the others are
//! aborted, so that nothing half-alive holds messages. Restarting is `supervise`'s work.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use facewire_telemetry::events::{self, PoolThread};
use tokio::task::JoinSet;

use crate::inbox::Inbox;
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
    /// An actor has had work in hand for too long without a sign of life: a hung model or driver, a deadlock. A thread
    /// cannot be ended; what it held comes back.
    #[error("actor {actor} hangs: no sign of life for more than {limit:?}")]
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

type Ended = (&'static str, Result<Result<(), ActorError>, String>);

/// Longest time with work in hand and no sign of life. Far beyond any picture or batch and any one call of a store, and
/// still a small part of what a restart would lose.
const HANG_AFTER: Duration = Duration::from_secs(120);

/// Between two looks at the actors.
const LOOK: Duration = Duration::from_secs(1);

/// Actors of one service. Dropping it aborts its tasks; its threads end when their inboxes close.
#[derive(Debug)]
pub struct Pipeline {
    actors: JoinSet<Ended>,
    watches: Vec<Watch>,
    hang_after: Duration,
}

impl Default for Pipeline {
    fn default() -> Self {
        Self { actors: JoinSet::new(), watches: Vec::new(), hang_after: HANG_AFTER }
    }
}

impl Pipeline {
    /// A pipeline without actors.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs an actor as a task. It is watched for hanging while it has work from an [`Inbox`] in hand.
    pub fn spawn<F>(&mut self, actor: &'static str, future: F)
    where
        F: Future<Output = Result<(), ActorError>> + Send + 'static,
    {
        use futures_util::FutureExt;
        let watch = Watch::new(actor);
        self.watches.push(watch.clone());
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

    /// Another limit for work without a sign of life.
    #[must_use]
    pub fn hang_after(mut self, limit: Duration) -> Self {
        self.hang_after = limit;
        self
    }

    /// Runs a pool of equal threads on one inbox. `make` makes each thread's state (a session, say) on that thread; `work`
    /// is watched for hanging; `hand_on` may wait for room as long as it takes.
    pub fn spawn_pool<T, S, R>(
        &mut self,
        actor: &'static str,
        threads: usize,
        inbox: Inbox<T>,
        make: impl Fn() -> Result<S, ActorError> + Clone + Send + 'static,
        work: impl Fn(&mut S, T) -> R + Clone + Send + 'static,
        hand_on: impl Fn(R) -> Result<(), ActorError> + Clone + Send + 'static,
    ) -> Result<(), ActorError>
    where
        T: Send + 'static,
    {
        let inbox = Arc::new(Mutex::new(inbox));
        for _ in 0..threads.max(1) {
            let (inbox, make, work, hand_on) = (Arc::clone(&inbox), make.clone(), work.clone(), hand_on.clone());
            let watch = Watch::new(actor);
            self.watches.push(watch.clone());
            self.spawn_thread(actor, move || {
                let mut state = make()?;
                let _lives = PoolThread::begin(actor);
                // Whoever waits holds the lock: the others would only wait behind it for the next item anyway.
                let next = || inbox.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
                while let Some(item) = next() {
                    watch.works();
                    let counted = events::Busy::begin(actor);
                    let result = work(&mut state, item);
                    drop(counted);
                    watch.rests();
                    hand_on(result)?;
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Waits until every actor has ended. The first failure aborts the rest. After the drain began, they have the grace
    /// period.
    pub async fn run(mut self, shutdown: &Shutdown) -> Result<(), PipelineError> {
        let deadline = async {
            shutdown.draining().await;
            tokio::time::sleep(shutdown.grace()).await;
        };
        tokio::pin!(deadline);
        let mut look = tokio::time::interval(LOOK.min(self.hang_after));
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let joined = tokio::select! {
                joined = self.actors.join_next() => joined,
                () = &mut deadline => return Err(PipelineError::GraceExceeded(shutdown.grace())),
                _ = look.tick() => {
                    let limit = self.hang_after;
                    match self.watches.iter().find(|watch| watch.hangs(limit)) {
                        Some(watch) => return Err(PipelineError::Hung { actor: watch.actor(), limit }),
                        None => continue,
                    }
                }
            };
            match joined {
                None => return Ok(()),
                Some(Ok((_, Ok(Ok(()))))) => {}
                Some(Ok((actor, Ok(Err(error))))) => return Err(PipelineError::Failed { actor, error }),
                Some(Ok((actor, Err(message)))) => return Err(PipelineError::Panicked { actor, message }),
                // Only an abort makes a join fail, and aborting means that this future is being dropped.
                Some(Err(_)) => {}
            }
        }
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
    use crate::retry::{Backoff, retry};
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
    async fn a_pool_shares_one_inbox() {
        let (out, inbox) = inbox("a->pool", NonZeroUsize::MIN);
        let (seen, heard) = mpsc::channel();
        let mut pipeline = Pipeline::new();
        let work = move |sum: &mut i32, item: i32| -> Result<(), ActorError> {
            *sum += item;
            Ok(seen.send(item)?)
        };
        pipeline.spawn_pool("pool", 3, inbox, || Ok(0), work, |sent| sent).unwrap();
        pipeline.spawn("a", async move {
            for item in 0..100 {
                out.send(item).await?;
            }
            Ok(())
        });
        pipeline.run(&shutdown()).await.unwrap();
        let mut all: Vec<i32> = heard.iter().collect();
        all.sort_unstable();
        assert_eq!(all, (0..100).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_thread_that_panics_is_seen() {
        let mut pipeline = Pipeline::new();
        pipeline.spawn_thread("t", || panic!("boom {}", 1)).unwrap();
        assert!(
            matches!(pipeline.run(&shutdown()).await, Err(PipelineError::Panicked { message, .. }) if message == "boom 1")
        );
    }

    #[tokio::test]
    async fn a_thread_that_hangs_is_seen_but_not_one_that_waits_for_room() {
        let (out, items) = inbox("a->pool", NonZeroUsize::MIN);
        let (never, hung) = mpsc::channel::<()>();
        let hung = Mutex::new(hung);
        let hung = Arc::new(hung);
        let mut pipeline = Pipeline::new().hang_after(Duration::from_millis(50));
        // The first item waits for room long past the limit; the second hangs.
        let work = move |(): &mut (), item: u32| {
            if item == 2 {
                let _ = hung.lock().unwrap().recv();
            }
            item
        };
        let (room, full) = mpsc::sync_channel::<u32>(0);
        pipeline.spawn_pool("pool", 1, items, || Ok(()), work, move |item| Ok(room.send(item)?)).unwrap();
        let (waited, was) = tokio::sync::oneshot::channel();
        pipeline.spawn("a", async move {
            out.send(1).await?;
            tokio::time::sleep(Duration::from_millis(300)).await;
            let _ = waited.send(full.recv());
            out.send(2).await?;
            std::future::pending().await
        });
        let error = pipeline.run(&shutdown()).await.unwrap_err();
        assert!(matches!(error, PipelineError::Hung { actor: "pool", .. }), "{error}");
        assert_eq!(was.await.unwrap(), Ok(1));
        drop(never);
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
