//! The gallery behind a projection head, and back: the reconciler's re-embedding, with the stored embeddings of the pack in place of
//! kept images. The pack's own embeddings stay beside, so that no way is one-way.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, bail};
use facewire_domain::model::base_of;
use facewire_domain::{Calibration, CollectionId, FaceId};
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

/// What would say what a match needs, if the gallery were of another model. Collections are those with people's faces.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ruling {
    /// Collections in which nothing would.
    pub unruled: Vec<CollectionId>,
    /// Those in which a fixed similarity would, whatever model it was chosen for.
    pub fixed: Vec<CollectionId>,
    /// Enrolments as well are judged by a fixed similarity, `match.conflict_similarity`.
    pub conflicts: bool,
}

impl Ruling {
    /// The collections in which no probe could be judged; `None`: there are none.
    pub fn missing(&self) -> Option<String> {
        (!self.unruled.is_empty()).then(|| listed(&self.unruled))
    }

    /// What an operator should look at when the model changes; `None`: nothing is fixed.
    pub fn warning(&self) -> Option<String> {
        let threshold = (!self.fixed.is_empty()).then(|| format!("the threshold in {}", listed(&self.fixed)));
        let conflict = self.conflicts.then(|| "match.conflict_similarity".to_owned());
        let fixed: Vec<String> = threshold.into_iter().chain(conflict).collect();
        (!fixed.is_empty()).then(|| {
            format!(
                "fixed by the configuration, whatever the model is: {}. Similarities of another model mean something else: make \
                 sure that what is fixed was chosen for the one that is to serve",
                fixed.join(" and ")
            )
        })
    }
}

fn listed(collections: &[CollectionId]) -> String {
    collections.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// What would judge probes and enrolments, if the gallery were of `model`. `calibration`: what the pack says of its similarities,
/// which is not a head's.
///
/// # Errors
/// Of Postgres.
pub async fn ruling(
    config: &Config,
    gallery: &Gallery,
    model: &str,
    calibration: Option<Calibration>,
) -> anyhow::Result<Ruling> {
    let target = Gallery { model: model.to_owned(), ..gallery.clone() };
    let options = config.matching.rules();
    let conflicts = options.conflict_similarity.is_some_and(|similarity| similarity < 1.0);
    let book = RuleBook::new(options, calibration);
    let mut ruling = Ruling::default();
    for collection in target.store.policies().await?.into_keys() {
        if target.store.gallery_size(&collection).await?.faces == 0 {
            continue;
        }
        ruling.conflicts = conflicts;
        let rules = book.rules(&target, std::slice::from_ref(&collection)).await?;
        match rules.rule(&Asked::default(), &collection, None) {
            Ok(applied) if applied.fpir.is_some() => {}
            Ok(_) => ruling.fixed.push(collection),
            Err(_) => ruling.unruled.push(collection),
        }
    }
    Ok(ruling)
}
