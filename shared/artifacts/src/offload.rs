//! Blocking work beside the async runtime, on a thread of its own that notices when its caller is gone. tokio's blocking
//! pool must not come in: a runtime that shuts down would wait for it, and a Ctrl-C would hang on a download.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::oneshot;

/// Says whether the caller still waits. Loops look at it between their steps.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Whether nobody waits any more.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The caller went away, or the thread that did the work did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the work was interrupted")]
pub struct Interrupted;

struct SetOnDrop(Cancel);

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

/// Runs `work` on a thread and waits for it; dropping the future sets the work's [`Cancel`].
///
/// # Errors
/// Those of `work`, and [`Interrupted`] where its thread does not start or ends without an answer.
pub async fn offload<T, E, F>(work: F) -> Result<T, E>
where
    F: FnOnce(&Cancel) -> Result<T, E> + Send + 'static,
    T: Send + 'static,
    E: From<Interrupted> + Send + 'static,
{
    let cancel = Cancel::default();
    let guard = SetOnDrop(cancel.clone());
    let (reply, answer) = oneshot::channel();
    std::thread::Builder::new()
        .name("offload".to_owned())
        .spawn(move || {
            // A caller who is gone drops the result, and a server in it is stopped by its own drop.
            let _ = reply.send(work(&cancel));
        })
        .map_err(|_| Interrupted)?;
    let result = answer.await.map_err(|_| Interrupted)?;
    drop(guard);
    result
}
