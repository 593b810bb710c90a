//! The Qdrant collection that serves: made when missing, checked when there, completed where an index is missing.

use qdrant_client::qdrant::vectors_config::Config;
use qdrant_client::qdrant::{
    BoolIndexParamsBuilder, CollectionInfo, CreateAliasBuilder, CreateCollection, CreateFieldIndexCollectionBuilder,
    DatetimeIndexParamsBuilder, Distance, FieldType, FloatIndexParamsBuilder, KeywordIndexParamsBuilder,
    PayloadSchemaType, VectorParams,
};

use crate::error::exists_already;
use crate::limits::Limits;
use crate::naming::{self, Name};
use crate::point::{INDEXES, Index};
use crate::settings::MODEL;
use crate::write::confirmed;
use crate::{VecError, VecStore};

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
        let (serving, info, made) = match self.serving_with_info().await? {
            Some((serving, info)) => (serving, info, false),
            None => {
                // The same name from everybody: whoever is first makes it.
                let first = self.at(&Name::of(model, 1).under(&self.alias));
                first.create(self.creation.first(first.collection.to_string(), model, dim)).await?;
                first.serve().await?;
                let lagging =
                    || VecError::Unavailable("the alias was just made and is not there on every node yet".into());
                let (serving, info) = self.serving_with_info().await?.ok_or_else(lagging)?;
                (serving, info, true)
            }
        };
        if !serving.is_of(model, &self.alias) {
            let read = || Name::read(&serving.collection, &self.alias).map(|name| name.hash);
            let Some(found) = serving.model.clone().or_else(read) else {
                let what = "it does not say which model made its vectors";
                return Err(VecError::Foreign { collection: serving.collection, what });
            };
            return Err(VecError::OtherModel {
                alias: self.alias.to_string(),
                serving: found,
                wanted: model.to_owned(),
            });
        }
        let collection = self.at(&serving.collection);
        collection.complete(&info, dim).await?;
        self.learn(&info, dim);
        let empty = info.points_count == Some(0);
        Ok(if made || empty { Ensured::Created } else { Ensured::Present })
    }

    /// The collection that serves, and its model. `None`: there is none yet.
    ///
    /// # Errors
    /// [`VecError::Foreign`] where a collection has the alias's name; transient ones.
    pub async fn serving(&self) -> Result<Option<Serving>, VecError> {
        Ok(self.serving_with_info().await?.map(|(serving, _)| serving))
    }

    pub(crate) async fn serving_with_info(&self) -> Result<Option<(Serving, CollectionInfo)>, VecError> {
        let Some(collection) = self.aliased().await? else {
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
        let info = self.at(&collection).info().await.map_err(VecError::just_made)?;
        Ok(Some((Serving { collection, model: model_of(&info) }, info)))
    }

    /// The name of the collection that our alias leads to.
    pub(crate) async fn aliased(&self) -> Result<Option<String>, VecError> {
        let aliases = self.client.list_aliases().await.map_err(|error| self.error(error).without_item())?.aliases;
        let ours = aliases.into_iter().find(|alias| *alias.alias_name == *self.alias);
        Ok(ours.map(|alias| alias.collection_name))
    }

    /// Drops the collection with all that is in it; one that is gone already is fine.
    ///
    /// # Errors
    /// [`VecError::Serving`] for the one that serves; transient ones.
    pub async fn drop_collection(&self) -> Result<(), VecError> {
        if self.collection == self.alias || self.aliased().await?.as_deref() == Some(&*self.collection) {
            return Err(VecError::Serving { collection: self.collection.to_string() });
        }
        let dropped = self.client.delete_collection(&*self.collection).await;
        dropped.map(drop).map_err(|error| self.error(error).without_item())
    }

    /// Makes the alias lead here, from wherever it led: at once for every search.
    pub(crate) async fn serve(&self) -> Result<(), VecError> {
        let request = CreateAliasBuilder::new(&*self.collection, &*self.alias);
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

    /// Remembers what the collection takes.
    pub(crate) fn learn(&self, info: &CollectionInfo, dim: u32) {
        let strict = info.config.as_ref().and_then(|config| config.strict_mode_config.as_ref());
        self.set_limits(Limits::of(dim, strict));
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
            Self::Bool => index.field_index_params(BoolIndexParamsBuilder::default().enable_hnsw(false)),
            Self::Float => index.field_index_params(FloatIndexParamsBuilder::default().enable_hnsw(false)),
            Self::Datetime => index.field_index_params(DatetimeIndexParamsBuilder::default().enable_hnsw(false)),
        }
    }
}
