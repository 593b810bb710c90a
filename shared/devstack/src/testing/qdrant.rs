//! A local Qdrant for one test, which can be stopped and started on the same data. It runs in this process, so it cannot
//! be killed or frozen like a child; what is in it must not come in.

use tokio::sync::Mutex;

use super::area::Area;
use crate::error::StackError;
use crate::qdrant::LocalQdrant;
use crate::stack::serve_qdrant;

/// A local Qdrant of one test; gone when dropped.
pub struct TestQdrant {
    running: Mutex<Option<LocalQdrant>>,
    port: u16,
    area: Area,
}

impl TestQdrant {
    pub(super) async fn start() -> Result<Self, StackError> {
        let area = Area::new()?;
        let (server, port) = serve_qdrant(area.path().join("qdrant"), None).await?;
        Ok(Self { running: Mutex::new(Some(server)), port, area })
    }

    /// `http://127.0.0.1:<port>`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Stops serving: connections are refused until a restart.
    pub async fn stop(&self) {
        if let Some(server) = self.running.lock().await.take() {
            server.shutdown().await;
        }
    }

    /// Serves the same data on the same port again, stopping first where it runs.
    ///
    /// # Errors
    /// As the first start; a port that a stranger took meanwhile is [`StackError::PortTaken`].
    pub async fn restart(&self) -> Result<(), StackError> {
        let mut running = self.running.lock().await;
        if let Some(server) = running.take() {
            server.shutdown().await;
        }
        let (server, _) = serve_qdrant(self.area.path().join("qdrant"), Some(self.port)).await?;
        *running = Some(server);
        Ok(())
    }
}
