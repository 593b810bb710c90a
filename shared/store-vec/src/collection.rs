//! The Qdrant collection that serves: made when missing, checked when there, completed where an index is missing.

use std::collections::HashMap;

use qdrant_client::qdrant::vectors_config::Config;
use qdrant_client::qdrant::{
    BoolIndexParamsBuilder, CollectionInfo, CollectionStatus, CreateAliasBuilder, CreateCollection,
    CreateFieldIndexCollectionBuilder, DatetimeIndexParamsBuilder, Distance, FieldType, FloatIndexParamsBuilder,
    KeywordIndexParamsBuilder, PayloadSchemaType, VectorParams,
};

use crate::error::exists_already;
use crate::limits::Limits;
use crate::naming::{self, Name};
use crate::point::{INDEXES, Index};
use crate::settings::MODEL;
use crate::write::confirmed;
use crate::{Known, VecError, VecStore};

/// Whether the index was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ensured {
    /// It is there, and holds points.
    Present,
    /// It was made anew, or holds no point: whatever Postgres has is missing, and a full pass brings it.
    Created,
}

/// The collection behind the alias.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Serving {
    /// Its own name.
    pub collection: String,
    /// The fingerprint of the model of its vectors; `None` where the server keeps no metadata (before Qdrant 1.16).
    pub model: Option<String>,
}

/// How far the vector index of a collection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Indexing {
    /// Points of the collection.
    pub points: u64,
    /// Those of them that the vector index holds. The others are compared one by one; few always are.
    pub indexed: u64,
    /// The server is at work on it.
    pub busy: bool,
}

impl Serving {
    /// Whether its vectors are that model's: by its fingerprint, else by the hash in its name.
    pub fn is_of(&self, model: &str, alias: &str) -> bool {
        match &self.model {
            Some(serving) => serving == model,
            None => Name::read(&self.collection, alias).is_some_and(|name| name.hash == naming::hash(model)),
        }
    }
}

impl VecStore {
    /// Makes the collection for the model's vectors (cosine, with an index for every payload field that is filtered on)
    /// behind our alias unless one serves, and completes its indexes. Several services may call it at the same time.
    ///
    /// # Errors
    /// [`VecError::OtherModel`] where another model's collection serves; [`VecError::WrongDimension`] and
    /// [`VecError::Foreign`] for a collection that does not fit; transient ones.
    pub async fn ensure(&self, model: &str, dim: u32) -> Result<Ensured, VecError> {
        let model_alias = Name::model_alias(&naming::hash(model), &self.alias);
        let (serving, info, made) = match self.serving_with_info().await? {
            Some((serving, info)) => (serving, info, false),
            None => {
                let aliases = self.aliases().await?;
                let left = aliases.get(&model_alias).map(|collection| self.at(collection));
                let made = left.is_none();
                // The same name from everybody: whoever is first makes it.
                let first = left.unwrap_or_else(|| self.at(&Name::of(model, 1).under(&self.alias)));
                if made {
                    first.create(self.creation.first(first.collection.to_string(), model, dim)).await?;
                }
                first.serve().await?;
                let lagging =
                    || VecError::Unavailable("the alias was just made and is not there on every node yet".into());
                let (serving, info) = self.serving_with_info().await?.ok_or_else(lagging)?;
                (serving, info, made)
            }
        };
        self.is_ours(&serving, model)?;
        let collection = self.at(&serving.collection);
        collection.complete(&info, dim).await?;
        if !self.aliases().await?.contains_key(&model_alias) {
            collection.lead(&model_alias).await?;
        }
        self.set_known(Known { limits: limits(&info, dim), target: Some(model_alias.into()) });
        let empty = info.points_count == Some(0);
        Ok(if made || empty { Ensured::Created } else { Ensured::Present })
    }

    fn is_ours(&self, serving: &Serving, model: &str) -> Result<(), VecError> {
        if serving.is_of(model, &self.alias) {
            return Ok(());
        }
        let read = || Name::read(&serving.collection, &self.alias).map(|name| name.hash);
        match serving.model.clone().or_else(read) {
            Some(found) => {
                let (alias, wanted) = (self.alias.to_string(), model.to_owned());
                Err(VecError::OtherModel { alias, serving: found, wanted })
            }
            None => {
                let what = "it does not say which model made its vectors";
                Err(VecError::Foreign { collection: serving.collection.clone(), what })
            }
        }
    }

    /// The collection that serves, and its model. `None`: there is none yet.
    ///
    /// # Errors
    /// [`VecError::Foreign`] where a collection has the alias's name; transient ones.
    pub async fn serving(&self) -> Result<Option<Serving>, VecError> {
        Ok(self.serving_with_info().await?.map(|(serving, _)| serving))
    }

    pub(crate) async fn serving_with_info(&self) -> Result<Option<(Serving, CollectionInfo)>, VecError> {
        let aliases = self.aliases().await?;
        let Some(collection) = aliases.get(&*self.alias) else {
            // A collection of this name is reached by it, and could not be replaced while searches go on.
            return match self.at(&self.alias).info().await {
                Ok(_) => {
                    let what = "it has the name of Facewire's alias";
                    Err(VecError::Foreign { collection: self.alias.to_string(), what })
                }
                Err(VecError::NoCollection { .. }) => Ok(None),
                Err(error) => Err(error),
            };
        };
        let info = self.at(collection).info().await.map_err(VecError::just_made)?;
        let model = model_of(&info);
        let hash = model.as_deref().map(naming::hash).or_else(|| Some(Name::read(collection, &self.alias)?.hash));
        let led = hash.and_then(|hash| aliases.get(&Name::model_alias(&hash, &self.alias)));
        match led.filter(|led| *led != collection) {
            None => Ok(Some((Serving { collection: collection.clone(), model }, info))),
            // A switch was interrupted between its two aliases; searches and writes follow the model's.
            Some(led) => {
                let info = self.at(led).info().await.map_err(VecError::just_made)?;
                Ok(Some((Serving { collection: led.clone(), model: model_of(&info) }, info)))
            }
        }
    }

    /// How far the vector index of the collection that serves is. `None`: there is no such collection yet.
    ///
    /// # Errors
    /// As [`serving`](Self::serving).
    pub async fn indexing(&self) -> Result<Option<Indexing>, VecError> {
        let Some((_, info)) = self.serving_with_info().await? else { return Ok(None) };
        Ok(Some(Indexing {
            points: info.points_count.unwrap_or_default(),
            indexed: info.indexed_vectors_count.unwrap_or_default(),
            busy: info.status != CollectionStatus::Green as i32,
        }))
    }

    /// Which collection each alias leads to.
    pub(crate) async fn aliases(&self) -> Result<HashMap<String, String>, VecError> {
        let aliases = self.client.list_aliases().await.map_err(|error| self.error(error).without_item())?.aliases;
        Ok(aliases.into_iter().map(|alias| (alias.alias_name, alias.collection_name)).collect())
    }

    /// The collections that must not be dropped: where our alias leads, and where the alias of that one's model does.
    pub(crate) async fn served(&self) -> Result<Vec<String>, VecError> {
        let direct = self.aliases().await?.remove(&*self.alias);
        let serving = self.serving().await?.map(|serving| serving.collection);
        Ok(direct.into_iter().chain(serving).collect())
    }

    /// Drops the collection with all that is in it; one that is gone already is fine.
    ///
    /// # Errors
    /// [`VecError::Serving`] for the one that serves; transient ones.
    pub async fn drop_collection(&self) -> Result<(), VecError> {
        if self.collection == self.alias || self.served().await?.iter().any(|served| **served == *self.collection) {
            return Err(VecError::Serving { collection: self.collection.to_string() });
        }
        let dropped = self.client.delete_collection(&*self.collection).await;
        dropped.map(drop).map_err(|error| self.error(error).without_item())
    }

    /// Makes the model's alias lead here, then ours, from wherever they led: at once for every search.
    pub(crate) async fn serve(&self) -> Result<(), VecError> {
        if let Some(name) = Name::read(&self.collection, &self.alias) {
            self.lead(&Name::model_alias(&name.hash, &self.alias)).await?;
        }
        self.lead(&self.alias).await
    }

    async fn lead(&self, alias: &str) -> Result<(), VecError> {
        let request = CreateAliasBuilder::new(&*self.collection, alias);
        self.client.create_alias(request).await.map(drop).map_err(|error| self.error(error).just_made())
    }

    /// `false`: it is there already.
    pub(crate) async fn create(&self, request: CreateCollection) -> Result<bool, VecError> {
        match self.client.create_collection(request).await {
            Ok(_) => {
                tracing::info!(collection = &*self.collection, "the Qdrant collection was made");
                Ok(true)
            }
            Err(error) if exists_already(&error) => Ok(false),
            Err(error) => Err(self.error(error).without_item()),
        }
    }

    pub(crate) async fn info(&self) -> Result<CollectionInfo, VecError> {
        let answer = self.client.collection_info(&*self.collection).await;
        let answer = answer.map_err(|error| self.error(error).without_item())?;
        answer.result.ok_or(VecError::Answer("the collection's description is empty"))
    }

    /// Checks that the collection fits, and makes the indexes that it lacks or has of another type.
    pub(crate) async fn complete(&self, info: &CollectionInfo, dim: u32) -> Result<(), VecError> {
        self.fits(info, dim.into())?;
        for (name, kind) in INDEXES {
            if info.payload_schema.get(name).is_none_or(|index| index.data_type != kind.schema() as i32) {
                let index = CreateFieldIndexCollectionBuilder::new(&*self.collection, name, kind.field_type());
                let made = self.client.create_field_index(kind.apply(index).wait(true)).await;
                confirmed(made.map_err(|error| self.error(error).just_made())?.result)?;
            }
        }
        Ok(())
    }

    fn fits(&self, info: &CollectionInfo, expected: u64) -> Result<(), VecError> {
        let collection = || self.collection.to_string();
        let config = info.config.as_ref().and_then(|config| config.params.as_ref());
        let vectors = config.and_then(|params| params.vectors_config.as_ref()).and_then(|v| v.config.as_ref());
        let Some(Config::Params(VectorParams { size, distance, .. })) = vectors else {
            return Err(VecError::Foreign { collection: collection(), what: "it has named vectors or none" });
        };
        if *size != expected {
            return Err(VecError::WrongDimension { collection: collection(), expected, found: *size });
        }
        if *distance != Distance::Cosine as i32 {
            return Err(VecError::Foreign { collection: collection(), what: "its distance is not cosine" });
        }
        Ok(())
    }
}

/// What a collection takes.
pub(crate) fn limits(info: &CollectionInfo, dim: u32) -> Limits {
    Limits::of(dim, info.config.as_ref().and_then(|config| config.strict_mode_config.as_ref()))
}

/// The fingerprint in a collection's metadata.
pub(crate) fn model_of(info: &CollectionInfo) -> Option<String> {
    info.config.as_ref()?.metadata.get(MODEL)?.as_str().cloned()
}

impl Index {
    fn field_type(self) -> FieldType {
        match self {
            Self::Tenant | Self::Keyword => FieldType::Keyword,
            Self::Bool => FieldType::Bool,
            Self::Float => FieldType::Float,
            Self::Datetime => FieldType::Datetime,
        }
    }

    fn schema(self) -> PayloadSchemaType {
        match self {
            Self::Tenant | Self::Keyword => PayloadSchemaType::Keyword,
            Self::Bool => PayloadSchemaType::Bool,
            Self::Float => PayloadSchemaType::Float,
            Self::Datetime => PayloadSchemaType::Datetime,
        }
    }

    fn apply(self, index: CreateFieldIndexCollectionBuilder) -> CreateFieldIndexCollectionBuilder {
        match self {
            Self::Tenant => index.field_index_params(KeywordIndexParamsBuilder::default().is_tenant(true)),
            Self::Keyword => index.field_index_params(KeywordIndexParamsBuilder::default().enable_hnsw(false)),
            Self::Bool => index.field_index_params(BoolIndexParamsBuilder::default().enable_hnsw(true)),
            Self::Float => index.field_index_params(FloatIndexParamsBuilder::default().enable_hnsw(false)),
            Self::Datetime => index.field_index_params(DatetimeIndexParamsBuilder::default().enable_hnsw(false)),
        }
    }
}
