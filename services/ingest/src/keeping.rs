//! What a crop's collection keeps, stamped on the crop for the stages behind; and the originals of those that keep them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use facewire_domain::{CollectionId, Fault, FaultKind, KeepImages};
use facewire_runtime::{ActorError, Patience};
use facewire_store_object::{ImageKey, ImageStore, ObjectError};
use facewire_store_pg::{CollectionPolicy, Store, StoreError};
use futures_util::future::try_join_all;
use tokio::time::Instant;

use crate::examine::Examined;

/// Age from which on the policies are read again: what an operator changes holds after this long.
const FRESH: Duration = Duration::from_secs(5);

/// Age from which on they are read again where no crop waits for them.
const AGEING: Duration = Duration::from_secs(3);

type Policies = Arc<BTreeMap<CollectionId, CollectionPolicy>>;

/// Reads policies and writes originals.
pub(crate) struct Keeping {
    store: Store,
    images: Option<ImageStore>,
    patience: Patience,
    read: Option<(Policies, Instant)>,
}

/// Why the policies cannot be followed.
#[derive(Debug, thiserror::Error)]
enum Unkept {
    #[error(transparent)]
    Rows(#[from] StoreError),
    #[error(transparent)]
    Images(ObjectError),
}

impl Fault for Unkept {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Rows(error) => error.kind(),
            Self::Images(error) => error.kind(),
        }
    }

    fn system(&self) -> &'static str {
        match self {
            Self::Rows(error) => error.system(),
            Self::Images(error) => error.system(),
        }
    }
}

impl Keeping {
    pub(crate) fn new(store: Store, images: Option<ImageStore>, patience: Patience) -> Self {
        Self { store, images, patience, read: None }
    }

    /// Stamps the crops of a batch and keeps the originals that are to be kept. It is done before a crop is handed on: what a
    /// crash leaves out, its redelivery writes.
    pub(crate) async fn keep<'a>(&mut self, batch: impl Iterator<Item = &'a mut Examined>) -> Result<(), ActorError> {
        let policies = self.policies().await?;
        let mut originals = Vec::new();
        for examined in batch {
            let collection = &examined.row.head.collection;
            let keeps = examined.refusal.is_none() && examined.row.head.intent.keeps_images();
            let Some(policy) = policies.get(collection).filter(|_| keeps) else { continue };
            if let Some(crop) = &mut examined.task.crop {
                crop.keep_images = policy.keep_images.as_str().to_owned();
                crop.keep_faces = policy.keep_faces.as_str().to_owned();
            }
            if policy.keep_images == KeepImages::Original {
                let key = ImageKey::original(collection.clone(), examined.row.head.image_hash);
                originals.push((key, examined.task.image.clone()));
            }
        }
        let Some(images) = &self.images else { return Ok(()) };
        let patience = &self.patience;
        let writing = originals.iter().map(async |(key, image)| {
            match patience.wait(|| images.put(key, image.clone())).await {
                // Of this image alone (`images.max_bytes`): its crop is recognised all the same, and so are the others.
                Err(error) if error.kind() == FaultKind::Poison => {
                    tracing::error!(%error, "an original is not kept");
                    Ok(())
                }
                other => other.map(|_| ()),
            }
        });
        try_join_all(writing).await?;
        Ok(())
    }

    /// The policies. Where one cannot be followed, the service is not ready until an operator changes it.
    async fn policies(&mut self) -> Result<Policies, Unkept> {
        if let Some((policies, _)) = self.read.as_ref().filter(|(_, at)| at.elapsed() < FRESH) {
            return Ok(Arc::clone(policies));
        }
        let (store, has_place) = (&self.store, self.images.is_some());
        let policies = self.patience.wait(|| read(store, has_place)).await?;
        self.read = Some((Arc::clone(&policies), Instant::now()));
        Ok(policies)
    }

    /// Reads the policies again before they are too old, so that the next crop need not wait for them. What is wrong with them is
    /// told when it has to.
    pub(crate) async fn renew(&mut self) {
        if self.read.as_ref().is_none_or(|(_, at)| at.elapsed() < AGEING) {
            return;
        }
        if let Ok(policies) = read(&self.store, self.images.is_some()).await {
            self.read = Some((policies, Instant::now()));
        }
    }
}

/// The policies as they are now. `has_place`: images can be kept.
async fn read(store: &Store, has_place: bool) -> Result<Policies, Unkept> {
    let policies = store.policies().await?;
    let unplaced = policies.iter().find(|(_, policy)| !has_place && policy.keep_images != KeepImages::None);
    match unplaced {
        Some((collection, _)) => Err(Unkept::Images(ObjectError::NoPlace { collection: collection.clone() })),
        None => Ok(Arc::new(policies)),
    }
}
