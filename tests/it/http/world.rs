//! A gateway beside the services of a test's world.

use std::time::Duration;

use facewire_composition::{Config, Parts, Service};
use facewire_domain::{CollectionId, Scope};
use facewire_gateway::Auth;
use facewire_runtime::{ServiceError, Shutdown};
use facewire_store_pg::{Actor, NewKey};
use tokio::task::JoinHandle;

use super::client::Http;
use crate::chain::world::{Services, World, config};
use crate::chain::{in_time, until};

/// A running gateway.
pub(crate) struct Door {
    pub(crate) http: Http,
    shutdown: Shutdown,
    serving: JoinHandle<Result<(), ServiceError>>,
}

impl Door {
    /// One that needs no key.
    pub(crate) async fn open(world: &World) -> Self {
        Self::open_with(world, |_| {}).await
    }

    /// One whose options the test changes.
    pub(crate) async fn open_with(world: &World, change: impl FnOnce(&mut Config)) -> Self {
        Self::open_on(&world.parts(), change).await
    }

    /// The same on parts of the test's own.
    pub(crate) async fn open_on(parts: &Parts, change: impl FnOnce(&mut Config)) -> Self {
        let door = Self::start(parts, change).await;
        until("the gateway's readiness", async || {
            let ready = door.http.get("/ready").await;
            if ready.status.is_success() { Ok(()) } else { Err(ready) }
        })
        .await;
        door
    }

    /// One that listens and may not be ready yet, whatever it speaks.
    pub(crate) async fn start(parts: &Parts, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = config();
        // On a machine under load the chain may take long: that is no error here.
        config.gateway.recognise_timeout = Duration::from_secs(100);
        config.gateway.request_timeout = Duration::from_secs(110);
        change(&mut config);
        let listening = facewire_composition::gateway(&config, parts).unwrap().listen().await.unwrap();
        let http = Http::new(format!("http://{}", listening.address().unwrap()));
        let shutdown = Shutdown::new(Duration::from_secs(10));
        let serving = tokio::spawn(listening.serve(shutdown.clone()));
        Self { http, shutdown, serving }
    }

    /// One that needs keys.
    pub(crate) async fn guarded(world: &World) -> Self {
        Self::open_with(world, |config| config.gateway.auth = Auth::Required).await
    }

    /// Drops it where it is, as a killed process would.
    pub(crate) async fn kill(self) {
        self.serving.abort();
        assert!(in_time("the end of the killed gateway", self.serving).await.unwrap_err().is_cancelled());
    }

    /// Asks it to end; it is closed all the same.
    pub(crate) fn drain(&self) {
        self.shutdown.drain();
    }

    pub(crate) async fn close(self) {
        self.shutdown.drain();
        in_time("the end of the gateway", self.serving).await.unwrap().unwrap();
    }
}

/// Every stage, without a gateway.
pub(crate) fn stages(world: &World) -> Services {
    let services: Vec<Service> = Service::all().into_iter().filter(|service| *service != Service::Gateway).collect();
    world.start_these(&services)
}

/// A new key's text.
pub(crate) async fn key(world: &World, scopes: &[Scope], collections: Option<&[&str]>) -> String {
    let collections: Option<Vec<CollectionId>> =
        collections.map(|names| names.iter().map(|name| name.parse().unwrap()).collect());
    let new = NewKey { name: "test".to_owned(), scopes: scopes.to_vec(), collections, expires_at: None };
    world.store.create_key(&new, &Actor::named("test")).await.unwrap().1.expose().to_owned()
}
