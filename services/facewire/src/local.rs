//! The local stack, migrated, with every service in this process: what `up`, `demo` and `bench` run on.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use facewire_artifacts::progress::Reporter;
use facewire_composition::{Chain, Config, Parts, Service};
use facewire_config::Secret;
use facewire_devstack::{Stack, StackOptions, free_address};
use facewire_runtime::Shutdown;
use tokio::task::JoinHandle;

use crate::endpoints::{Endpoints, Noted};

/// Work that does not look at the shutdown itself, such as a preparation: it is dropped when the shutdown begins.
pub(crate) async fn unless_stopped<T>(
    shutdown: &Shutdown,
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    tokio::select! {
        done = work => done,
        () = shutdown.draining() => anyhow::bail!("stopped before the end"),
    }
}

/// Where the gateway answers.
pub(crate) fn gateway_url(config: &Config) -> String {
    let scheme = if config.gateway.tls.is_some() { "https" } else { "http" };
    format!("{scheme}://{}", config.gateway.address())
}

/// A running stack and, after [`Local::start_services`], its services.
pub(crate) struct Local {
    stack: Stack,
    services: Option<JoinHandle<anyhow::Result<()>>>,
    shutdown: Shutdown,
    _noted: Noted,
}

impl Local {
    /// Starts the servers that `options` does not name, points the configuration at all three, and migrates them.
    pub(crate) async fn start(
        config: &mut Config,
        options: StackOptions,
        report: Reporter,
        shutdown: Shutdown,
    ) -> anyhow::Result<Self> {
        let data_dir: PathBuf = options.data_dir.clone();
        let stack = Stack::start(options, report).await?;
        config.nats.url = Secret::new(stack.nats_url.clone());
        config.postgres.url = Secret::new(stack.postgres_url.clone());
        config.qdrant.url = stack.qdrant_url.clone();
        config.images = std::mem::take(&mut config.images).or_directory(&data_dir.join("images"));
        if config.gateway.listen.is_none() {
            config.gateway.listen = Some(free_address("the gateway")?);
        }
        std::fs::create_dir_all(&data_dir).with_context(|| format!("cannot create {}", data_dir.display()))?;
        let endpoints = Endpoints {
            nats: stack.nats_url.clone(),
            postgres: stack.postgres_url.clone(),
            qdrant: stack.qdrant_url.clone(),
            http: Some(gateway_url(config)),
        };
        facewire_composition::migrate(config, &Parts::stores(config).await?).await?;
        // Noted last: who finds the endpoints finds servers that are ready for use.
        let noted = endpoints.note(&data_dir)?;
        Ok(Self { stack, services: None, shutdown, _noted: noted })
    }

    /// Where the servers are.
    pub(crate) fn stack(&self) -> &Stack {
        &self.stack
    }

    /// Runs services in this process.
    pub(crate) fn start_services(
        &mut self,
        config: &Config,
        services: Vec<Service>,
        chain: Option<Chain>,
        report: Reporter,
    ) {
        let (config, shutdown) = (config.clone(), self.shutdown.clone());
        self.services =
            Some(tokio::spawn(
                async move { facewire_composition::run(&config, &services, chain, report, &shutdown).await },
            ));
    }

    /// Runs `work` beside the services; a service that gives up or a server that dies ends it with that error.
    pub(crate) async fn beside<T>(&mut self, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        let services = async {
            match self.services.as_mut() {
                Some(services) => services.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            done = work => done,
            ended = services => {
                self.services = None;
                ended??;
                anyhow::bail!("the services ended early")
            }
            died = self.stack.died() => Err(anyhow::Error::from(died)),
        }
    }

    /// Asks the services to finish and waits for them; the servers stay.
    pub(crate) async fn drain(&mut self) -> anyhow::Result<()> {
        self.shutdown.drain();
        let Some(services) = self.services.take() else { return Ok(()) };
        let timeout = self.shutdown.grace() + Duration::from_secs(5);
        tokio::time::timeout(timeout, services).await.context("the services did not stop in time")??
    }

    /// Drains the services, then stops the servers.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        let drained = self.drain().await;
        self.stack.shutdown().await;
        drained
    }
}
