//! The gallery behind a projection head, and back: the reconciler's re-embedding, with the stored embeddings of the pack in place of
//! kept images. The pack's own embeddings stay beside, so that no way is one-way.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, bail};
use facewire_domain::model::base_of;
use facewire_domain::{CollectionId, FaceId};
use facewire_gallery::{Asked, Gallery, RuleBook};
use facewire_inference::Head;
use facewire_reconciler::{Reconciler, Reembed};
use facewire_store_pg::{FaceRecord, Store};
use facewire_store_vec::VecError;

use crate::config::Config;
use crate::parts::Parts;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Brings faces to a model of the pack from the pack's own embeddings of them.
#[derive(Debug, Clone)]
pub struct FromRaw {
    store: Store,
    /// The pack's fingerprint.
    pack: String,
    /// `None`: to the pack itself.
    head: Option<Arc<Mutex<Head>>>,
}

impl FromRaw {
    /// Through a head.
    pub fn through(store: Store, pack: String, head: Head) -> Self {
        Self { store, pack, head: Some(Arc::new(Mutex::new(head))) }
    }

    /// Back to the pack.
    pub fn back(store: Store, pack: String) -> Self {
        Self { store, pack, head: None }
    }
}

impl Reembed for FromRaw {
    async fn embed(&self, faces: Vec<FaceRecord>) -> Result<Vec<Option<Vec<f32>>>, Failure> {
        let ids: Vec<FaceId> = faces.iter().map(|face| face.face).collect();
        let mut raw = self.store.raw_embeddings(&self.pack, &ids).await?;
        let Some(head) = self.head.clone() else { return Ok(ids.iter().map(|id| raw.remove(id)).collect()) };
        let projecting = move || {
            let mut head = head.lock().unwrap_or_else(PoisonError::into_inner);
            project(&mut head, &ids, &raw)
        };
        Ok(tokio::task::spawn_blocking(projecting).await??)
    }
}

/// One embedding a face; `None` where the pack's own is missing, or the projection has no direction.
fn project(
    head: &mut Head,
    faces: &[FaceId],
    raw: &HashMap<FaceId, Vec<f32>>,
) -> anyhow::Result<Vec<Option<Vec<f32>>>> {
    let width = head.spec().input;
    let known: Vec<&Vec<f32>> = faces.iter().filter_map(|face| raw.get(face)).collect();
    if known.iter().any(|embedding| embedding.len() != width) {
        bail!("an embedding of the pack has not the {width} numbers that the head takes");
    }
    let rows: Vec<f32> = known.into_iter().flatten().copied().collect();
    let mut projected = head.project(&rows)?.into_iter();
    Ok(faces.iter().map(|face| raw.get(face).and_then(|_| projected.next().flatten())).collect())
}

/// A reconciler over the model that serves, with whichever head that is; the configured pack must be its pack.
///
/// # Errors
/// A gallery of no model yet, or of another pack; a server that does not answer; parts that lack a store.
pub async fn reconciler(config: &Config, parts: &Parts) -> anyhow::Result<Reconciler> {
    let (store, index) = (parts.store()?, parts.index()?);
    store.check_schema().await?;
    let serving = store.serving_model().await?;
    let serving = serving.context("no model serves yet: the first service that starts makes one serve")?;
    let pack = index.pack.pack_fingerprint();
    if serving.model != pack && base_of(&serving.model) != Some(pack.as_str()) {
        bail!(
            "the gallery is of {}, and the configured pack is {pack}: configure the pack that serves in models.pack",
            serving.model
        );
    }
    match index.vectors.ensure(&serving.model, serving.dim).await {
        // A switch that died between the two stores: `finish_reembed`, or the way back, makes the index follow.
        Ok(_) | Err(VecError::OtherModel { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let (vectors, images) = (index.vectors, parts.images.clone());
    let gallery = Gallery { store, vectors, images, model: serving.model, dim: serving.dim };
    Ok(Reconciler { bus: parts.bus.clone(), gallery, options: config.reconciler.clone() })
}

/// The collections with people's faces in which nothing would say what a match needs, if the gallery were of `model`. What the pack
/// says of its similarities is not a head's.
///
/// # Errors
/// Of Postgres.
pub async fn unruled(config: &Config, gallery: &Gallery, model: &str) -> anyhow::Result<Vec<CollectionId>> {
    let target = Gallery { model: model.to_owned(), ..gallery.clone() };
    let book = RuleBook::new(config.matching.rules(), None);
    let mut unruled = Vec::new();
    for collection in target.store.policies().await?.into_keys() {
        if target.store.gallery_size(&collection).await?.faces == 0 {
            continue;
        }
        let rules = book.rules(&target, std::slice::from_ref(&collection)).await?;
        if rules.rule(&Asked::default(), &collection, None).is_err() {
            unruled.push(collection);
        }
    }
    Ok(unruled)
}
