//! A collection beside the one that serves: filled while searches go on, then put in its place. What an interrupted
//! rebuild leaves behind is listed, so that it can be continued or dropped.

use qdrant_client::qdrant::UpdateCollectionBuilder;
use time::OffsetDateTime;

use crate::collection::{limits, model_of};
use crate::naming::Name;
use crate::{Known, VecError, VecStore, settings};

/// Creations that are tried when others take the same number.
const TRIES: u64 = 8;

/// A collection of our alias that does not serve.
#[derive(Debug, Clone)]
pub struct Unserved {
    /// A handle of it.
    pub store: VecStore,
    /// The fingerprint of the model of its vectors, where the server keeps it.
    pub model: Option<String>,
    /// When it was made, by the server's clock; `None` where the server does not say.
    pub created_at: Option<OffsetDateTime>,
    /// Points in it.
    pub points: u64,
}

impl VecStore {
    /// A handle of the collection with this name of its own, such as `Serving` and a job's progress name it.
    pub fn at(&self, collection: &str) -> Self {
        Self { collection: collection.into(), known: Default::default(), ..self.clone() }
    }

    /// A new, empty collection for the model's vectors beside the one that serves, with the settings of that one (shards,
    /// replicas, storage, vector index, quantization unless the options say another, strict mode), complete with its payload indexes.
    ///
    /// # Errors
    /// Transient ones, and what the server refuses.
    pub async fn successor(&self, model: &str, dim: u32) -> Result<Self, VecError> {
        let config = self.serving_with_info().await?.and_then(|(_, info)| info.config);
        let hash = Name::of(model, 0).hash;
        let taken = self.collections().await?.into_iter().filter(|(name, _)| name.hash == hash);
        let last = taken.map(|(name, _)| name.number).max().unwrap_or_default();
        for number in last.saturating_add(1)..=last.saturating_add(TRIES) {
            let successor = self.at(&Name::of(model, number).under(&self.alias));
            let name = successor.collection.to_string();
            let request = match &config {
                Some(config) => self.creation.like(config, name, model, dim),
                None => self.creation.first(name, model, dim),
            };
            if !successor.create(request).await? {
                continue;
            }
            if let Some(params) = config.as_ref().and_then(settings::later) {
                let update = UpdateCollectionBuilder::new(&*successor.collection).params(params);
                let updated = self.client.update_collection(update).await;
                updated.map_err(|error| successor.error(error).just_made())?;
            }
            successor.open(dim).await?;
            return Ok(successor);
        }
        Err(VecError::Unavailable("others make collections of the same names".to_owned()))
    }

    /// Completes the indexes of a collection that is to be filled (further), and learns what it takes.
    ///
    /// # Errors
    /// [`VecError::WrongDimension`] and [`VecError::Foreign`] where it does not fit; transient ones.
    pub async fn open(&self, dim: u32) -> Result<(), VecError> {
        let info = self.info().await.map_err(VecError::just_made)?;
        self.complete(&info, dim).await?;
        self.set_known(Known { limits: limits(&info, dim), target: None });
        Ok(())
    }

    /// Makes `to` the collection that serves, at once for every search. Gives the one that served before. Where that is
    /// another model's, services of that model go on with it until it is dropped; then they find none.
    ///
    /// # Errors
    /// [`VecError::Foreign`] where a collection has the alias's name; transient ones.
    pub async fn switch_alias(&self, to: &Self) -> Result<Option<Self>, VecError> {
        let before = self.serving().await?.map(|serving| serving.collection);
        to.serve().await?;
        tracing::info!(alias = &*self.alias, collection = &*to.collection, "another Qdrant collection serves");
        Ok(before.filter(|before| **before != *to.collection).map(|before| self.at(&before)))
    }

    /// The collections of our alias that do not serve: successors that are being filled, and what interrupted rebuilds
    /// left behind.
    ///
    /// # Errors
    /// Transient ones.
    pub async fn unserved(&self) -> Result<Vec<Unserved>, VecError> {
        let served = self.served().await?;
        let mut unserved = Vec::new();
        for (_, collection) in self.collections().await? {
            if served.contains(&collection) {
                continue;
            }
            let store = self.at(&collection);
            match store.info().await {
                Ok(info) => {
                    let made = info.created_at.as_ref().map(|at| at.seconds);
                    let created_at = made.and_then(|at| OffsetDateTime::from_unix_timestamp(at).ok());
                    let (model, points) = (model_of(&info), info.points_count.unwrap_or_default());
                    unserved.push(Unserved { store, model, created_at, points });
                }
                // Somebody else dropped it just now.
                Err(VecError::NoCollection { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(unserved)
    }

    /// The collections of our alias, with the one that serves.
    pub(crate) async fn collections(&self) -> Result<Vec<(Name, String)>, VecError> {
        let listed = self.client.list_collections().await.map_err(|error| self.error(error).without_item())?;
        let names = listed.collections.into_iter().map(|collection| collection.name);
        Ok(names.filter_map(|name| Some((Name::read(&name, &self.alias)?, name))).collect())
    }
}
