//! A fresh database for each test, on one server that the tests of a process share, or on a server of its own.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use facewire_artifacts::offload::{Cancel, offload};
use facewire_artifacts::{Artifacts, FetchOptions, Kind};

use super::area::Area;
use crate::error::StackError;
use crate::postgres::{PostgresOptions, PostgresServer};

/// A server and its directory; the order of the fields is the order in which they go.
struct Host {
    server: PostgresServer,
    _area: Area,
}

/// An empty database of one test; gone when dropped.
pub struct TestDatabase {
    host: Arc<Host>,
    name: String,
    shared: bool,
}

impl TestDatabase {
    /// A database on the server that this process shares, started by the first who asks and stopped with the last.
    pub(super) async fn shared(artifacts: Artifacts) -> Result<Self, StackError> {
        offload(move |cancel| Self::create(shared_host(&artifacts, cancel)?, true, cancel)).await
    }

    /// A database on a server of its own, which may be killed.
    pub(super) async fn isolated(artifacts: Artifacts) -> Result<Self, StackError> {
        offload(move |cancel| Self::create(Arc::new(Host::start(&artifacts, cancel)?), false, cancel)).await
    }

    fn create(host: Arc<Host>, shared: bool, cancel: &Cancel) -> Result<Self, StackError> {
        let name = format!("test_{}", uuid::Uuid::new_v4().simple());
        host.server.create_database_blocking(&name, cancel)?;
        Ok(Self { host, name, shared })
    }

    /// The connection URL.
    pub fn url(&self) -> String {
        self.host.server.url_of(&self.name)
    }

    fn own(&self) -> Result<&PostgresServer, StackError> {
        if self.shared { Err(StackError::SharedPostgres) } else { Ok(&self.host.server) }
    }

    /// [`PostgresServer::stop`].
    ///
    /// # Errors
    /// [`StackError::SharedPostgres`] unless isolated.
    pub async fn stop(&self) -> Result<(), StackError> {
        self.own()?.stop().await
    }

    /// [`PostgresServer::restart`].
    ///
    /// # Errors
    /// [`StackError::SharedPostgres`] unless isolated; as the first start.
    pub async fn restart(&self) -> Result<(), StackError> {
        self.own()?.restart().await
    }

    /// [`PostgresServer::kill9`].
    ///
    /// # Errors
    /// [`StackError::SharedPostgres`] unless isolated; [`StackError::NotRunning`].
    pub async fn kill9(&self) -> Result<(), StackError> {
        self.own()?.kill9().await
    }

    /// [`PostgresServer::pause`].
    ///
    /// # Errors
    /// [`StackError::SharedPostgres`] unless isolated; [`StackError::NotRunning`].
    pub fn pause(&self) -> Result<(), StackError> {
        self.own()?.pause()
    }

    /// [`PostgresServer::resume`].
    ///
    /// # Errors
    /// [`StackError::SharedPostgres`] unless isolated; [`StackError::NotRunning`].
    pub fn resume(&self) -> Result<(), StackError> {
        self.own()?.resume()
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        // The last one takes the server with it: no need to drop a database of it.
        if self.shared
            && Arc::strong_count(&self.host) > 1
            && let Err(error) = self.host.server.drop_database_blocking(&self.name)
        {
            tracing::warn!(%error, "a test's database stays behind");
        }
    }
}

impl Host {
    fn start(artifacts: &Artifacts, cancel: &Cancel) -> Result<Self, StackError> {
        let area = Area::new()?;
        let template = FetchOptions::default().cache_dir()?.join(format!(
            "postgres-template-{}-{}",
            Kind::Postgres.version(),
            nix::unistd::geteuid()
        ));
        let options = PostgresOptions {
            bin: artifacts.postgres_bin.clone(),
            dir: area.path().join("postgres"),
            port: None,
            fsync: false,
            template: Some(template),
        };
        Ok(Self { server: PostgresServer::start_blocking(&options, cancel)?, _area: area })
    }
}

/// Held by the tests that use it, not by the static: a static is never dropped, and the server's directory would stay.
fn shared_host(artifacts: &Artifacts, cancel: &Cancel) -> Result<Arc<Host>, StackError> {
    static SHARED: Mutex<Weak<Host>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(host) = shared.upgrade() {
        return Ok(host);
    }
    let host = Arc::new(Host::start(artifacts, cancel)?);
    *shared = Arc::downgrade(&host);
    Ok(host)
}
