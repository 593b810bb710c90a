//! Blocking work off the runtime, on a thread of its own that stops when nobody waits for it any more. What is computed
//! is the kinds' affair.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::failure::JobError;
use crate::progress::Progress;

/// Longest time without a sign of life. The longest step of a clustering without one is the joining of 20,000 faces, that of a
/// training its principal components: both take seconds; such a thread cannot be ended, so that this is long.
const HANGS_AFTER: Duration = Duration::from_secs(300);

/// What a computation looks at while it works.
#[derive(Debug, Clone)]
pub(crate) struct Watch {
    stop: Arc<AtomicBool>,
    progress: Arc<Progress>,
}

impl Watch {
    /// Says that this part of the phase, 0 to 1, is done; `Break` where nobody waits for the result any more.
    pub(crate) fn reached(&self, part: f64) -> ControlFlow<()> {
        self.progress.reached(part);
        if self.stops() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// Nobody waits for the result any more.
    pub(crate) fn stops(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// A watch that says so from the beginning, or never.
    #[cfg(test)]
    pub(crate) fn of(progress: &Arc<Progress>, stops: bool) -> Self {
        Self { stop: Arc::new(AtomicBool::new(stops)), progress: Arc::clone(progress) }
    }
}

/// Stops the thread when its waiter is dropped.
struct Waiter(Arc<AtomicBool>);

impl Drop for Waiter {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs `work` on a thread of its own. Dropped, it tells the thread to stop and does not wait for it.
///
/// # Errors
/// [`JobError::Vanished`] after a panic, [`JobError::Hangs`] without a sign of life, [`JobError::NoThread`].
pub(crate) async fn on_thread<T: Send + 'static>(
    progress: &Arc<Progress>,
    work: impl FnOnce(&Watch) -> T + Send + 'static,
) -> Result<T, JobError> {
    let watch = Watch { stop: Arc::default(), progress: Arc::clone(progress) };
    let _waiter = Waiter(Arc::clone(&watch.stop));
    let (answer, mut answered) = oneshot::channel();
    let thread = std::thread::Builder::new().name("job".to_owned());
    // Whoever waited may be gone by the end; then nobody wants to know.
    thread.spawn(move || drop(answer.send(work(&watch)))).map_err(JobError::NoThread)?;
    loop {
        let signs = progress.signs();
        match tokio::time::timeout(HANGS_AFTER, &mut answered).await {
            Ok(answer) => return answer.map_err(|_| JobError::Vanished),
            Err(_) if progress.signs() == signs => return Err(JobError::Hangs),
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_answer_comes_back_and_a_panic_is_told() {
        let progress = Arc::default();
        assert_eq!(on_thread(&progress, |watch| watch.reached(0.5)).await.unwrap(), ControlFlow::Continue(()));
        let ended = on_thread(&progress, |_| {
            if true {
                panic!("no such luck")
            }
        })
        .await;
        assert!(matches!(ended, Err(JobError::Vanished)));
    }

    #[tokio::test]
    async fn a_thread_nobody_waits_for_stops() {
        let progress = Arc::default();
        let (begun, begins) = oneshot::channel();
        let (stopped, stops) = oneshot::channel();
        let work = on_thread(&progress, move |watch| {
            begun.send(()).unwrap();
            while watch.reached(0.5).is_continue() {
                std::thread::yield_now();
            }
            stopped.send(()).unwrap();
        });
        tokio::select! {
            _ = work => panic!("it ends only when it is told to"),
            begins = begins => begins.unwrap(),
        }
        stops.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_thread_without_a_sign_of_life_hangs() {
        let progress = Arc::default();
        let (_stays, waits) = std::sync::mpsc::channel::<()>();
        let ended = on_thread(&progress, move |_| waits.recv()).await;
        assert!(matches!(ended, Err(JobError::Hangs)));
    }
}
