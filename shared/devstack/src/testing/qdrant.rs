//! A local Qdrant for one test, which can be stopped and started on the same data.

use std::path::PathBuf;
use std::thread::JoinHandle;

use facewire_artifacts::offload::offload;
use tokio::sync::{Mutex, oneshot};

use super::area::Area;
use crate::error::StackError;
use crate::qdrant_port::serve_in;

/// A local Qdrant alone.
///
/// # Errors
/// What the start says.
pub async fn qdrant() -> Result<TestQdrant, StackError> {
    TestQdrant::start().await
}

/// A local Qdrant of one test; gone when dropped.
pub struct TestQdrant {
    running: Mutex<Option<Serving>>,
    port: u16,
    area: Area,
}

impl TestQdrant {
    async fn start() -> Result<Self, StackError> {
        let area = Area::new()?;
        let (serving, port) = Serving::start(area.path().join("qdrant"), None).await?;
        Ok(Self { running: Mutex::new(Some(serving)), port, area })
    }

    /// `http://127.0.0.1:<port>`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Stops serving: connections are refused until a restart.
    ///
    /// # Errors
    /// Only where the caller's runtime goes away meanwhile.
    pub async fn stop(&self) -> Result<(), StackError> {
        stop(self.running.lock().await.take()).await
    }

    /// Serves the same data on the same port again, stopping first where it runs.
    ///
    /// # Errors
    /// As the first start; a port that a stranger took meanwhile is [`StackError::PortTaken`].
    pub async fn restart(&self) -> Result<(), StackError> {
        let mut running = self.running.lock().await;
        stop(running.take()).await?;
        let (serving, _) = Serving::start(self.area.path().join("qdrant"), Some(self.port)).await?;
        *running = Some(serving);
        Ok(())
    }
}

async fn stop(serving: Option<Serving>) -> Result<(), StackError> {
    offload(move |_| {
        serving.into_iter().for_each(Serving::finish);
        Ok(())
    })
    .await
}

/// The server on a thread and runtime of its own: a test that blocks its runtime does not block the server, and a drop
/// can wait until the server has let go of its files. A drop ends the test, whose clients close no connection any more: the
/// server does not wait for them.
struct Serving {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Serving {
    async fn start(dir: PathBuf, port: Option<u16>) -> Result<(Self, u16), StackError> {
        let (stop, stopped) = oneshot::channel();
        let (ready, answer) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("test-qdrant".to_owned())
            .spawn(move || serve(dir, port, ready, stopped))
            .map_err(|_| StackError::Interrupted)?;
        let serving = Self { stop: Some(stop), thread: Some(thread) };
        let port = answer.await.map_err(|_| StackError::Interrupted)??;
        Ok((serving, port))
    }

    /// Ends the server when calls in flight are done.
    fn finish(mut self) {
        // It may have ended by itself.
        let _ = self.stop.take().map(|stop| stop.send(()));
    }
}

fn serve(
    dir: PathBuf,
    port: Option<u16>,
    ready: oneshot::Sender<Result<u16, StackError>>,
    stopped: oneshot::Receiver<()>,
) {
    let Ok(runtime) = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build() else {
        return;
    };
    runtime.block_on(async {
        match serve_in(dir, port).await {
            Err(error) => drop(ready.send(Err(error))),
            Ok((server, port)) => {
                let _ = ready.send(Ok(port));
                match stopped.await {
                    Ok(()) => server.shutdown().await,
                    Err(_dropped) => server.abandon().await,
                }
            }
        }
    });
}

impl Drop for Serving {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
