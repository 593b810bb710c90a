//! The Qdrant collection itself: made when missing, checked when there, replaced by a rebuilt one.

use qdrant_client::qdrant::vectors_config::Config;
use qdrant_client::qdrant::{
    BoolIndexParamsBuilder, CreateAliasBuilder, CreateCollectionBuilder, CreateFieldIndexCollectionBuilder,
    DatetimeIndexParamsBuilder, Distance, FieldType, FloatIndexParamsBuilder, KeywordIndexParamsBuilder, VectorParams,
    VectorParamsBuilder,
};

use crate::error::exists_already;
use crate::point::{INDEXES, Index};
use crate::{VecError, VecStore};

impl VecStore {
    /// Makes the collection (cosine, with an index for every payload field that is filtered on) behind an alias of our name
    /// unless it is there, and completes its indexes. Several services may call it at the same time. The alias lets a
    /// rebuilt collection take its place while searches go on.
    ///
    /// # Errors
    /// [`VecError::WrongDimension`] and [`VecError::Foreign`] for a collection that is there and does not fit; transient
    /// ones.
    pub async fn ensure(&self, dim: u32) -> Result<(), VecError> {
        let expected = u64::from(dim);
        let info = match self.info().await {
            Err(VecError::NoCollection { .. }) => {
                // The same name from everybody: whoever is first makes it.
                let first = self.named(format!("{}-1", self.collection));
                first.create(expected).await?;
                first.serve_as(&self.collection).await?;
                self.info().await?
            }
            other => other?,
        };
        self.fits(&info, expected)?;
        for (name, kind) in INDEXES {
            if !info.payload_schema.contains_key(name) {
                let index =
                    kind.apply(CreateFieldIndexCollectionBuilder::new(&*self.collection, name, kind.field_type()));
                self.client.create_field_index(index.wait(true)).await.map_err(|error| self.error(error))?;
            }
        }
        Ok(())
    }

    /// A new, empty collection beside this one, fit to take its place.
    ///
    /// # Errors
    /// Transient ones.
    pub async fn successor(&self, dim: u32) -> Result<Self, VecError> {
        let now = time::OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000;
        let successor = self.named(format!("{}-{now}", self.collection));
        successor.create(u64::from(dim)).await?;
        successor.ensure(dim).await?;
        Ok(successor)
    }

    /// Makes this collection the one that is found under `predecessor`'s name, and drops the one that was.
    ///
    /// Where that name was a collection's own and not an alias, it is dropped first: searches in between fail, and are
    /// tried again by who asked.
    ///
    /// # Errors
    /// Transient ones.
    pub async fn replace(&self, predecessor: &Self) -> Result<(), VecError> {
        let aliases = self.client.list_aliases().await.map_err(|error| self.error(error))?.aliases;
        let name = &*predecessor.collection;
        match aliases.into_iter().find(|alias| alias.alias_name == name) {
            Some(alias) => {
                self.serve_as(name).await?;
                self.named(alias.collection_name).drop_collection().await
            }
            None => {
                predecessor.drop_collection().await?;
                self.serve_as(name).await
            }
        }
    }

    /// Drops the collection with all that is in it.
    ///
    /// # Errors
    /// Transient ones.
    pub async fn drop_collection(&self) -> Result<(), VecError> {
        self.client.delete_collection(&*self.collection).await.map_err(|error| self.error(error)).map(drop)
    }

    fn named(&self, collection: String) -> Self {
        Self { client: self.client.clone(), collection: collection.into() }
    }

    async fn serve_as(&self, alias: &str) -> Result<(), VecError> {
        let request = CreateAliasBuilder::new(&*self.collection, alias);
        self.client.create_alias(request).await.map_err(|error| self.error(error)).map(drop)
    }

    async fn create(&self, dim: u64) -> Result<(), VecError> {
        let vectors = VectorParamsBuilder::new(dim, Distance::Cosine);
        let request = CreateCollectionBuilder::new(&*self.collection).vectors_config(vectors);
        match self.client.create_collection(request).await {
            Ok(_) => {
                tracing::info!(collection = &*self.collection, dim, "the Qdrant collection was made");
                Ok(())
            }
            Err(error) if exists_already(&error) => Ok(()),
            Err(error) => Err(self.error(error)),
        }
    }

    async fn info(&self) -> Result<qdrant_client::qdrant::CollectionInfo, VecError> {
        let answer = self.client.collection_info(&*self.collection).await.map_err(|error| self.error(error))?;
        answer.result.ok_or(VecError::Answer("the collection's description is empty"))
    }

    fn fits(&self, info: &qdrant_client::qdrant::CollectionInfo, expected: u64) -> Result<(), VecError> {
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

impl Index {
    fn field_type(self) -> FieldType {
        match self {
            Self::Tenant | Self::Keyword => FieldType::Keyword,
            Self::Bool => FieldType::Bool,
            Self::Float => FieldType::Float,
            Self::Datetime => FieldType::Datetime,
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
