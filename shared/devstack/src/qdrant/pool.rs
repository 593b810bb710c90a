//! Where the engine's blocking calls run: on the runtime's blocking threads, a bounded number at a time, each panic
//! turned into an error of the one call that met it.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tonic::Status;

/// A bound on how many engine calls run at once.
#[derive(Clone)]
pub(super) struct Pool {
    permits: Arc<Semaphore>,
    width: usize,
}

impl Pool {
    /// Twice the processors: some calls wait for the disk.
    pub(super) fn new() -> Self {
        let width = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        Self { permits: Arc::new(Semaphore::new(width * 2)), width }
    }

    /// How many calls can compute at the same time.
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// Runs a blocking call when there is room. It finishes even when the caller goes away.
    pub(super) async fn run<T, F>(&self, call: F) -> Result<T, Status>
    where
        T: Send + 'static,
        F: FnOnce() -> Result<T, Status> + Send + 'static,
    {
        let closed = |_| Status::unavailable("the local Qdrant is stopping");
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(closed)?;
        let task = tokio::task::spawn_blocking(move || {
            let result = call();
            drop(permit);
            result
        });
        task.await.unwrap_or_else(|error| {
            if error.is_panic() {
                Err(Status::internal("Service internal error: the vector engine panicked in this call"))
            } else {
                Err(Status::unavailable("the local Qdrant is stopping"))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_costs_one_call() {
        let pool = Pool::new();
        for _ in 0..100 {
            let error = pool.run::<(), _>(|| panic!("on purpose")).await.unwrap_err();
            assert_eq!(error.code(), tonic::Code::Internal);
        }
        assert_eq!(pool.run(|| Ok(1)).await.unwrap(), 1);
    }
}
