//! A service's actors as one thing: they start together, drain from the source down, and when one fails the others are
//! aborted, so that nothing half-alive holds messages. Restarting is `supervise`'s work.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;

use crate::inbox::Inbox;
use crate::shutdown::Shutdown;

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
    /// The drain took longer than the grace period; what was in flight comes back.
    #[error("the drain took longer than the grace period of {0:?}")]
    GraceExceeded(Duration),
}

type Ended = (&'static str, Result<Result<(), ActorError>, String>);

/// Actors of one service. Dropping it aborts its tasks; its threads end when their inboxes close.
#[derive(Debug, Default)]
pub struct Pipeline {
    actors: JoinSet<Ended>,
}

impl Pipeline {
    /// A pipeline without actors.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs an actor as a task.
    pub fn spawn<F>(&mut self, actor: &'static str, future: F)
    where
        F: Future<Output = Result<(), ActorError>> + Send + 'static,
    {
        use futures_util::FutureExt;
        self.actors.spawn(async move {
            let ended = AssertUnwindSafe(future).catch_unwind().await;
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

    /// Runs a pool of equal threads on one inbox. `make` makes each thread's state (a session, say) on that thread.
    pub fn spawn_pool<T, S>(
        &mut self,
        actor: &'static str,
        threads: usize,
        inbox: Inbox<T>,
        make: impl Fn() -> Result<S, ActorError> + Clone + Send + 'static,
        work: impl Fn(&mut S, T) -> Result<(), ActorError> + Clone + Send + 'static,
    ) -> Result<(), ActorError>
    where
        T: Send + 'static,
    {
        let inbox = Arc::new(Mutex::new(inbox));
        for _ in 0..threads.max(1) {
            let (inbox, make, work) = (Arc::clone(&inbox), make.clone(), work.clone());
            self.spawn_thread(actor, move || {
                let mut state = make()?;
                // Whoever waits holds the lock: the others would only wait behind it for the next item anyway.
                let next = || inbox.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
                while let Some(item) = next() {
                    work(&mut state, item)?;
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
        loop {
            let joined = tokio::select! {
                joined = self.actors.join_next() => joined,
                () = &mut deadline => return Err(PipelineError::GraceExceeded(shutdown.grace())),
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
    use std::num::NonZeroUsize;
    use std::sync::mpsc;

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
        let work = move |sum: &mut i32, item: i32| {
            *sum += item;
            Ok(seen.send(item)?)
        };
        pipeline.spawn_pool("pool", 3, inbox, || Ok(0), work).unwrap();
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

    #[tokio::test(start_paused = true)]
    async fn the_grace_period_ends() {
        let shutdown = shutdown();
        let mut pipeline = Pipeline::new();
        pipeline.spawn("never", std::future::pending());
        shutdown.drain();
        assert!(matches!(pipeline.run(&shutdown).await, Err(PipelineError::GraceExceeded(_))));
    }
}
