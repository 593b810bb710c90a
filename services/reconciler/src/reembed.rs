//! A gallery brought to another model from its kept images, or through a projection head from its embeddings, while searches
//! go on with the old one: every face is embedded anew into a table beside, the new model's Qdrant collection is filled from
//! there, and only when no face is missing does the new model serve. Interrupted, it goes on where it was.

use facewire_domain::FaceId;
use facewire_gallery::{Gallery, point};
use facewire_store_pg::{FaceRecord, Switch};
use facewire_store_vec::{VecError, VecStore};
use serde::Serialize;

use crate::pass::Token;
use crate::{ReconcileError, Reconciler};

/// What is asked of a re-embedding.
#[derive(Debug, Clone)]
pub struct ReembedOptions {
    /// Fingerprint of the model that is to serve.
    pub model: String,
    /// Numbers of its embeddings.
    pub dim: u32,
    /// Faces embedded at a time.
    pub batch: u32,
    /// Switch although some faces have no image to embed: they leave the index and wait as `reembed`.
    pub leave_behind: bool,
}

/// What a re-embedding did.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Reembedded {
    /// Faces embedded by this run.
    pub embedded: u64,
    /// Faces that cannot be embedded anew: nothing was kept of them that the model takes, or nothing that can be read.
    pub missing: u64,
    /// The first ids of these.
    pub samples: Vec<String>,
    /// Faces in the new collection.
    pub indexed: u64,
    /// The new Qdrant collection; `None`: nothing was switched.
    pub collection: Option<String>,
}

/// Ids of missing faces that are kept as examples.
const SAMPLES: usize = 5;

/// Embeds faces from what was kept of them: one embedding a face, in order; `None` where there is nothing to embed.
pub trait Reembed: Sync {
    /// # Errors
    /// A store or a device that failed.
    fn embed(
        &self,
        faces: Vec<FaceRecord>,
    ) -> impl Future<Output = Result<Vec<Option<Vec<f32>>>, Box<dyn std::error::Error + Send + Sync>>> + Send;
}

impl Reconciler {
    pub(crate) async fn reembed_with(
        &self,
        options: &ReembedOptions,
        embedder: &impl Reembed,
        token: Token,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Reembedded, ReconcileError> {
        // Also says which model serves where nobody asked before.
        self.gallery.check_serving().await?;
        let mut done = Reembedded::default();
        let target = Gallery { model: options.model.clone(), dim: options.dim, ..self.gallery.clone() };
        let successor = target.vectors.successor(&target.model, target.dim).await?;
        let filled = async {
            let mut filled_to = None;
            loop {
                let before = done.embedded;
                self.embed_all(options, embedder, token, &mut done, progress).await?;
                self.fill_reembedded(&target, &successor, token, &mut filled_to, &mut done).await?;
                // Faces that were enrolled meanwhile are of the old model: once more, until none came.
                if done.embedded == before {
                    return Ok(());
                }
                filled_to = None;
                done.indexed = 0;
            }
        };
        let filled: Result<(), ReconcileError> = filled.await;
        let complete = filled.and_then(|()| match done.missing {
            0 => Ok(()),
            _ if options.leave_behind => Ok(()),
            missing => Err(ReconcileError::Incomplete { missing, sample: done.samples.join(", ") }),
        });
        if let Err(error) = complete {
            // What was embedded stays; the collection is filled again in a moment.
            let _ = successor.drop_collection().await;
            return Err(error);
        }
        self.still_ours(token).await?;
        let (from, to) = (&self.gallery.model, &target.model);
        let refused = match target.store.switch_reembedded(from, to, target.dim, options.leave_behind).await? {
            Switch::Done => None,
            Switch::Incomplete => Some(ReconcileError::EnrolledMeanwhile),
            Switch::SwitchedMeanwhile => Some(ReconcileError::SwitchedMeanwhile),
        };
        if let Some(error) = refused {
            let _ = successor.drop_collection().await;
            return Err(error);
        }
        // The old model's collection stays until the next rebuild: whoever still has the old pack goes on searching it.
        target.vectors.switch_alias(&successor).await?;
        done.collection = Some(successor.collection().to_owned());
        self.apply_reembedded(options.batch, token).await?;
        Ok(done)
    }

    /// Where a switch died between the two stores, the index is still of the model before: it is filled with the embeddings of the
    /// model that serves, which are all there, and takes that one's place. Else nothing happens.
    pub(crate) async fn follow(&self, token: Token) -> Result<(), ReconcileError> {
        let Gallery { vectors, model, dim, .. } = &self.gallery;
        match vectors.ensure(model, *dim).await {
            Ok(_) => return Ok(()),
            Err(VecError::OtherModel { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let successor = vectors.successor(model, *dim).await?;
        let (mut after, mut done) = (None, Reembedded::default());
        self.fill_reembedded(&self.gallery, &successor, token, &mut after, &mut done).await?;
        self.still_ours(token).await?;
        vectors.switch_alias(&successor).await?;
        vectors.ensure(model, *dim).await?;
        Ok(())
    }

    /// What follows the switch in Postgres: the embeddings beside the faces take the place of their own, where they are of the model
    /// that serves. How many there were.
    pub(crate) async fn apply_reembedded(&self, batch: u32, token: Token) -> Result<u64, ReconcileError> {
        let mut applied = 0;
        loop {
            let moved = self.gallery.store.apply_reembeddings(batch.max(1)).await?;
            if moved == 0 {
                return Ok(applied);
            }
            applied += moved;
            self.still_ours(token).await?;
        }
    }

    /// Embeds every face that has no embedding of the new model yet.
    pub(crate) async fn embed_all(
        &self,
        options: &ReembedOptions,
        embedder: &impl Reembed,
        token: Token,
        done: &mut Reembedded,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(), ReconcileError> {
        let store = &self.gallery.store;
        let mut after: Option<FaceId> = None;
        (done.missing, done.samples) = (0, Vec::new());
        loop {
            let faces = store.faces_to_reembed(&options.model, after, options.batch.max(1)).await?;
            let Some(last) = faces.last().map(|face| face.face) else { return Ok(()) };
            after = Some(last);
            let ids: Vec<FaceId> = faces.iter().map(|face| face.face).collect();
            let embeddings = embedder.embed(faces).await.map_err(ReconcileError::Embed)?;
            let mut embedded = Vec::with_capacity(ids.len());
            for (face, embedding) in ids.into_iter().zip(embeddings) {
                match embedding {
                    Some(embedding) => embedded.push((face, embedding)),
                    None => {
                        done.missing += 1;
                        if done.samples.len() < SAMPLES {
                            done.samples.push(face.to_string());
                        }
                    }
                }
            }
            self.still_ours(token).await?;
            store.put_reembeddings(&options.model, &embedded).await?;
            done.embedded += embedded.len() as u64;
            progress(done.embedded);
        }
    }

    /// Fills the new collection.
    async fn fill_reembedded(
        &self,
        target: &Gallery,
        successor: &VecStore,
        token: Token,
        after: &mut Option<FaceId>,
        done: &mut Reembedded,
    ) -> Result<(), ReconcileError> {
        loop {
            let faces = target.store.reembedded_faces(&target.model, *after, self.options.batch.max(1)).await?;
            let Some(last) = faces.last().map(|face| face.record.face) else { return Ok(()) };
            *after = Some(last);
            let points: Vec<_> = faces.into_iter().map(point).collect();
            self.still_ours(token).await?;
            let rejected = successor.upsert(&points).await?.rejected;
            done.indexed += (points.len() - rejected.len()) as u64;
        }
    }
}
