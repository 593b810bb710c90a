//! What the services of one process share: connections and models, opened once.

use anyhow::Context;
use facewire_artifacts::progress::Reporter;
use facewire_bus::Bus;
use facewire_gallery::Gallery;
use facewire_inference::PackManifest;
use facewire_store_object::ImageStore;
use facewire_store_pg::Store;
use facewire_store_vec::VecStore;

use crate::Boxed;
use crate::config::Config;
use crate::models::{self, Chain};
use crate::service::{Needs, Service};

/// The vector index, and what the configured pack says of the embeddings in it.
#[derive(Debug, Clone)]
pub struct Index {
    /// The connection.
    pub vectors: VecStore,
    /// The pack whose embeddings are compared.
    pub pack: PackManifest,
}

impl Index {
    /// Numbers in an embedding.
    ///
    /// # Errors
    /// A manifest with more than `u32::MAX`.
    pub fn dim(&self) -> anyhow::Result<u32> {
        Ok(u32::try_from(self.pack.dim())?)
    }
}

/// Connections and models of one process. Cloning shares them.
#[derive(Clone)]
pub struct Parts {
    /// NATS, which every service needs.
    pub bus: Bus,
    /// Postgres, where a service of this process needs it.
    pub store: Option<Store>,
    /// The vector index, where a service of this process needs it.
    pub index: Option<Index>,
    /// Kept images, where there is a place for them and a service of this process needs them.
    pub images: Option<ImageStore>,
    /// The models, where a service of this process runs them.
    pub chain: Option<Chain>,
}

impl Parts {
    /// Opens what these services need. The models are loaded (and the default pack fetched) unless `chain` has them.
    ///
    /// # Errors
    /// A server that does not answer, options that cannot be used, models that cannot be fetched or opened.
    pub fn open<'a>(
        config: &'a Config,
        services: &'a [Service],
        chain: Option<Chain>,
        report: Reporter,
    ) -> Boxed<'a, Self> {
        Box::pin(async move {
            let any = |needs: fn(Needs) -> bool| services.iter().any(|service| needs(service.needs()));
            let needs = Needs {
                rows: any(|needs| needs.rows),
                index: any(|needs| needs.index),
                models: any(|needs| needs.models),
                images: any(|needs| needs.images),
            };
            let mut parts = Self::connect(config, needs).await?;
            parts.chain = match (chain, needs.models) {
                (Some(chain), _) => Some(chain),
                (None, true) => {
                    let loaded = models::load(&config.models, report).await?;
                    for service in services {
                        if let Service::Stage(stage) = service {
                            loaded.check(*stage)?;
                        }
                    }
                    Some(Chain::from(&loaded))
                }
                (None, false) => None,
            };
            Ok(parts)
        })
    }

    /// Connections to all three servers and to kept images, without models: for migrations and for commands.
    ///
    /// # Errors
    /// A server that does not answer, options that cannot be used.
    pub fn stores(config: &Config) -> Boxed<'_, Self> {
        let needs = Needs { rows: true, index: true, models: false, images: true };
        Box::pin(async move { Self::connect(config, needs).await })
    }

    async fn connect(config: &Config, needs: Needs) -> anyhow::Result<Self> {
        let bus = Bus::connect(&config.nats, "facewire").await?;
        let store = if needs.rows { Some(Store::connect(&config.postgres).await?) } else { None };
        let index = if needs.index {
            let (vectors, pack) = (VecStore::connect(&config.qdrant)?, models::manifest(&config.models)?);
            Some(Index { vectors, pack })
        } else {
            None
        };
        let place = config.images.url.as_ref().filter(|_| needs.images);
        let images = place.map(|_| ImageStore::connect(&config.images)).transpose()?;
        Ok(Self { bus, store, index, images, chain: None })
    }

    pub(crate) fn store(&self) -> anyhow::Result<Store> {
        self.store.clone().context("a service was started without Postgres, which it needs")
    }

    pub(crate) fn index(&self) -> anyhow::Result<Index> {
        self.index.clone().context("a service was started without the vector index, which it needs")
    }

    /// People and faces, of the configured pack.
    ///
    /// # Errors
    /// Postgres or the vector index is missing.
    pub fn gallery(&self) -> anyhow::Result<Gallery> {
        let index = self.index()?;
        let (dim, model) = (index.dim()?, index.pack.fingerprint());
        Ok(Gallery { store: self.store()?, vectors: index.vectors, images: self.images.clone(), model, dim })
    }

    pub(crate) fn chain(&self) -> anyhow::Result<Chain> {
        self.chain.clone().context("a service was started without models, which it needs")
    }
}
