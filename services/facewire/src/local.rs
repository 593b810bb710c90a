//! The local stack, migrated, with every service in this process: what `up`, `demo` and `bench` run on.

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

/// Takes out of the configuration what belongs to other servers, for a demo or bench, which has servers and data of its own:
///
/// * the image store: to a new, empty Postgres every kept image and export in it is nobody's, and would be removed;
/// * NATS' users, TLS and copies: the local server is alone, on loopback, and knows no user;
/// * Qdrant's key, shards and copies: the local engine is one process, and the key is not for it;
/// * the addresses of gateway and health endpoints: a Facewire of this configuration may listen there;
/// * the gateway's certificate, and whether it asks for keys: a new database has none.
///
/// The URLs are replaced when the servers run ([`Local::start`]). Limits, times and everything else are as configured.
pub(crate) fn own_servers(config: &mut Config) {
    let usual = Config::default();
    config.images = usual.images;
    let nats = &mut config.nats;
    (nats.credentials, nats.nkey, nats.inbox_prefix) = (None, None, usual.nats.inbox_prefix);
    (nats.tls, nats.replicas) = (usual.nats.tls, usual.nats.replicas);
    let qdrant = &mut config.qdrant;
    (qdrant.api_key, qdrant.shards, qdrant.replicas) = (None, None, None);
    let gateway = &mut config.gateway;
    (gateway.listen, gateway.tls, gateway.auth) = (None, None, usual.gateway.auth);
    config.health.listen = None;
}

/// Where the gateway answers.
pub(crate) fn gateway_url(config: &Config) -> String {
    let scheme = if config.gateway.tls.is_some() { "https" } else { "http" };
    format!("{scheme}://{}", config.gateway.address())
}

/// A running stack and, after [`Local::start_services`], its services.
pub(crate) struct Local {
    /// Goes before the stack does: from then on the directory may be another's, with a note of its own.
    noted: Noted,
    stack: Stack,
    services: Option<JoinHandle<anyhow::Result<()>>>,
    shutdown: Shutdown,
}

impl Local {
    /// For a demo or bench: on servers of its own, whatever is configured ([`own_servers`]).
    pub(crate) async fn alone(
        config: &mut Config,
        options: StackOptions,
        report: Reporter,
        shutdown: Shutdown,
    ) -> anyhow::Result<Self> {
        own_servers(config);
        Self::start(config, options, report, shutdown).await
    }

    /// Starts the servers that `options` does not name, points the configuration at all three, and migrates them.
    pub(crate) async fn start(
        config: &mut Config,
        options: StackOptions,
        report: Reporter,
        shutdown: Shutdown,
    ) -> anyhow::Result<Self> {
        let (data_dir, has_own_postgres) = (options.data_dir.clone(), options.postgres.is_none());
        Endpoints::forget(&data_dir);
        let stack = Stack::start(options, report).await?;
        config.nats.url = Secret::new(stack.nats_url.clone());
        config.postgres.url = Secret::new(stack.postgres_url.clone());
        config.qdrant.url = stack.qdrant_url.clone();
        // Images are tidied by what one database says. That of this directory belongs to its own; beside another's, images are
        // kept where `images.url` says, or nowhere.
        let own_images = has_own_postgres && config.images.url.is_none();
        if own_images {
            // Noted below for commands that may run elsewhere.
            let directory = std::path::absolute(data_dir.join("images"))?;
            config.images = std::mem::take(&mut config.images).or_directory(&directory);
        }
        if config.gateway.listen.is_none() {
            config.gateway.listen = Some(free_address("the gateway")?);
        }
        let endpoints = Endpoints {
            nats: stack.nats_url.clone(),
            postgres: stack.postgres_url.clone(),
            qdrant: stack.qdrant_url.clone(),
            http: Some(gateway_url(config)),
            images: config.images.url.clone().filter(|_| own_images),
        };
        facewire_composition::migrate(config, &Parts::stores(config).await?).await?;
        // Noted last: who finds the endpoints finds servers that are ready for use.
        let noted = endpoints.note(&data_dir)?;
        Ok(Self { noted, stack, services: None, shutdown })
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
        drop(self.noted);
        self.stack.shutdown().await;
        drained
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Limits of one's own, and a rate.
    const KEPT: &str = "[nats]\ncrops_max_bytes = \"64MB\"\n[gateway]\nrate = 7\n";

    /// The same, in a configuration as an operator's.
    const OPERATORS: &str = r#"
        [images]
        url = "s3://operators/faces"
        access_key_id = "key"
        secret_access_key = "secret"
        [nats]
        crops_max_bytes = "64MB"
        replicas = 3
        nkey = "operator.nk"
        credentials = "operator.creds"
        inbox_prefix = "_INBOX_operator"
        tls = { required = true, ca = "ca.pem" }
        [qdrant]
        api_key = "key"
        shards = 6
        replicas = 2
        [gateway]
        rate = 7
        listen = "0.0.0.0:8090"
        auth = "required"
        tls = { certificate = "gateway.pem", key = "gateway.key" }
        [health]
        listen = "0.0.0.0:9090"
    "#;

    #[test]
    fn a_demo_or_bench_reaches_nothing_of_an_operators() {
        let mut config: Config = toml::from_str(OPERATORS).unwrap();
        own_servers(&mut config);
        let expected: Config = toml::from_str(KEPT).unwrap();
        // A secret that was left would be written as stars.
        assert_eq!(toml::to_string(&config).unwrap(), toml::to_string(&expected).unwrap());
    }
}
