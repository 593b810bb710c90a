//! What the watchdog sees of an actor: since when it has had work in hand without progress. Waiting for work or for
//! room is no hang, however long; nor is waiting for a store that is down, as each failure counts as progress. What to do about a
//! hang is the pipeline's affair.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

tokio::task_local! {
    /// The task's own: set by the pipeline, read by the ways to wait of this crate, so that no actor has to think of it.
    static OWN: Watch;
}

/// One actor's, or one thread's of a pool.
#[derive(Debug, Clone)]
pub(crate) struct Watch {
    actor: &'static str,
    since: Arc<Mutex<Option<Instant>>>,
}

impl Watch {
    /// Of an actor that has nothing in hand yet.
    pub(crate) fn new(actor: &'static str) -> Self {
        Self { actor, since: Arc::default() }
    }

    pub(crate) fn actor(&self) -> &'static str {
        self.actor
    }

    /// Makes it the one of the task that runs `actor`. Who has ended has nothing in hand.
    pub(crate) async fn over<F: Future>(self, actor: F) -> F::Output {
        let ended = OWN.scope(self.clone(), actor).await;
        self.rests();
        ended
    }

    pub(crate) fn works(&self) {
        self.set(Some(Instant::now()));
    }

    /// Whether it had work.
    pub(crate) fn rests(&self) -> bool {
        self.set(None).is_some()
    }

    pub(crate) fn hangs(&self, limit: Duration) -> bool {
        self.since.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|since| since.elapsed() > limit)
    }

    fn set(&self, since: Option<Instant>) -> Option<Instant> {
        std::mem::replace(&mut *self.since.lock().unwrap_or_else(PoisonError::into_inner), since)
    }
}

/// Waits for work: the actor has some from then on. Cancel safe where `wait` is.
pub(crate) async fn for_work<T>(wait: impl Future<Output = T>) -> T {
    let _ = OWN.try_with(Watch::rests);
    let work = wait.await;
    let _ = OWN.try_with(Watch::works);
    work
}

/// Waits for room, which is no hang of the pipeline's actor that does. Who had work in hand has it still.
pub async fn for_room<T>(wait: impl Future<Output = T>) -> T {
    let had_work = OWN.try_with(Watch::rests).unwrap_or(false);
    let done = wait.await;
    if had_work {
        let _ = OWN.try_with(Watch::works);
    }
    done
}

/// Progress of an actor that has work in hand.
pub(crate) fn sign() {
    let _ = OWN.try_with(|own| own.rests().then(|| own.works()));
}
