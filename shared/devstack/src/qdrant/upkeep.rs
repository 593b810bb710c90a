//! The one thread that flushes and optimizes. An optimization can take minutes and cannot be interrupted, so it runs on
//! no thread of the runtime, whose end would wait for it; the journal makes it safe to leave it behind at the process's
//! end.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use tokio::sync::oneshot;

use super::store::Store;

/// Between two looks. A collection that was not written to since the last one is flushed and, where due, optimized.
pub(super) const INTERVAL: Duration = Duration::from_secs(1);
/// How long a stop waits for an optimization to end.
const TIMEOUT: Duration = Duration::from_secs(20);

/// The running thread; dropping it asks it to end after the collection that it is at.
pub(super) struct Upkeep {
    stop: SyncSender<()>,
    ended: oneshot::Receiver<()>,
}

impl Upkeep {
    /// Starts the thread.
    pub(super) fn start(store: Arc<Store>, interval: Duration) -> std::io::Result<Self> {
        let (stop, stopped) = sync_channel::<()>(1);
        let (end, ended) = oneshot::channel();
        std::thread::Builder::new().name("qdrant-upkeep".to_owned()).spawn(move || {
            while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                for collection in store.all() {
                    collection.maintain();
                    if stopped.try_recv() != Err(std::sync::mpsc::TryRecvError::Empty) {
                        break;
                    }
                }
            }
            drop(store);
            let _ = end.send(());
        })?;
        Ok(Self { stop, ended })
    }

    /// Asks the thread to end and waits for it. `false`: an optimization goes on, so nobody else may flush.
    pub(super) async fn stop(self) -> bool {
        drop(self.stop);
        tokio::time::timeout(TIMEOUT, self.ended).await.is_ok()
    }
}
