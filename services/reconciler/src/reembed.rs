//! A gallery brought to another model from its kept images, or through a projection head from its embeddings, while searches
//! go on with the old one: every face is embedded anew into a table beside, the new model's Qdrant collection is filled from
//! there, and only when no face is missing does the new model serve. What changes meanwhile is copied both before and after the
//! switch, and a full pass finds the rest. Interrupted, it goes on where it was.

use facewire_domain::FaceId;
use facewire_gallery::{Gallery, point};
use facewire_store_pg::{FaceRecord, StoredFace, Switch, VectorState};
use facewire_store_vec::{VecError, VecStore};
use serde::Serialize;
use time::OffsetDateTime;

use crate::cursor::{Points, Rows};
use crate::pass::Token;
use crate::{ReconcileError, Reconciler, SERVICE};

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

impl Reembedded {
    /// Whether a [`Reconciler::finish_reembed`] found everything done already.
    pub fn is_nothing(&self) -> bool {
        self.embedded == 0 && self.collection.is_none()
    }
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
        let (from, to) = (&self.gallery.model, &options.model);
        let successor = self.gallery.vectors.successor(to, options.dim).await?;
        // The new collection by its own name: until it serves, no alias leads there.
        let fresh = Gallery { vectors: successor.clone(), model: to.clone(), dim: options.dim, ..self.gallery.clone() };
        let filled = async {
            loop {
                let before = done.embedded;
                self.embed_all(options, embedder, token, &mut done, progress).await?;
                done.indexed = 0;
                let since = self.fill_reembedded(&fresh, token, &mut done).await?;
                // Faces that were enrolled meanwhile are of the old model: once more, until none came.
                if done.embedded == before {
                    return Ok(since);
                }
            }
        };
        let filled: Result<OffsetDateTime, ReconcileError> = filled.await;
        let complete = filled.and_then(|since| match done.missing {
            0 => Ok(since),
            _ if options.leave_behind => Ok(since),
            missing => Err(ReconcileError::Incomplete { missing, sample: done.samples.join(", ") }),
        });
        let since = match complete {
            Ok(since) => since,
            Err(error) => {
                // What was embedded stays; the collection is filled again in a moment.
                let _ = successor.drop_collection().await;
                return Err(error);
            }
        };
        self.still_ours(token).await?;
        let refused = match fresh.store.switch_reembedded(from, to, options.dim, options.leave_behind).await? {
            Switch::Done => None,
            Switch::Incomplete => Some(ReconcileError::EnrolledMeanwhile),
            Switch::SwitchedMeanwhile => Some(ReconcileError::SwitchedMeanwhile),
        };
        if let Some(error) = refused {
            let _ = successor.drop_collection().await;
            return Err(error);
        }
        self.take_over(&fresh, since, token).await?;
        done.collection = Some(successor.collection().to_owned());
        self.apply_reembedded(options.batch, token).await?;
        Ok(done)
    }

    /// Where a switch died between the two stores, or Postgres is restored from before one, the index is of another model than the
    /// gallery: a new collection is filled with the embeddings of the model that serves, which are all there, and takes that one's
    /// place. Its name; `None`: the index is of that model already.
    pub(crate) async fn follow(&self, token: Token) -> Result<Option<String>, ReconcileError> {
        let Gallery { vectors, model, dim, .. } = &self.gallery;
        match vectors.ensure(model, *dim).await {
            Ok(_) => return Ok(None),
            Err(VecError::OtherModel { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let fresh = Gallery { vectors: vectors.successor(model, *dim).await?, ..self.gallery.clone() };
        let since = self.fill_reembedded(&fresh, token, &mut Reembedded::default()).await?;
        self.take_over(&fresh, since, token).await?;
        vectors.ensure(model, *dim).await?;
        Ok(Some(fresh.vectors.collection().to_owned()))
    }

    /// Makes the filled collection the one that serves; in Postgres its model does already. Whoever changed a face meanwhile wrote
    /// its point into the old collection: what changed since the filling began is written before, so that searches miss next to
    /// nothing, and what changed during that is written after.
    async fn take_over(&self, fresh: &Gallery, since: OffsetDateTime, token: Token) -> Result<(), ReconcileError> {
        let later = self.copying_since();
        self.catch_up(fresh, since, token).await?;
        self.still_ours(token).await?;
        // The old model's collection stays until the next rebuild: whoever still has the old pack goes on searching it.
        self.gallery.vectors.switch_alias(&fresh.vectors).await?;
        // A full pass finds the rest, and does not wait until its time has come.
        self.gallery.store.forget_pass(SERVICE).await?;
        self.catch_up(fresh, later, token).await.map(|_| ())
    }

    /// Writes the points of the faces that changed since then. They are looked at again after it: what somebody changes at the same
    /// moment is not overwritten, and what somebody erases does not stay. How many of them are indexed now.
    pub(crate) async fn catch_up(
        &self,
        fresh: &Gallery,
        since: OffsetDateTime,
        token: Token,
    ) -> Result<u64, ReconcileError> {
        let (mut changed, mut after): (OffsetDateTime, Option<FaceId>) = (since, None);
        let mut indexed = 0;
        loop {
            let faces = fresh.store.faces_changed((changed, after), self.options.batch.max(1)).await?;
            let Some(last) = faces.last().map(|face| &face.record) else { return Ok(indexed) };
            (changed, after) = (last.updated_at, Some(last.face));
            // One that is still pending comes again: it changes when its point is there.
            let there = |face: &&StoredFace| face.record.state == VectorState::Indexed && fresh.is_served(&face.record);
            indexed += faces.iter().filter(there).count() as u64;
            self.still_ours(token).await?;
            fresh.index(faces).await?;
        }
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

    /// Fills the new collection. From when on it may lack what changed.
    async fn fill_reembedded(
        &self,
        fresh: &Gallery,
        token: Token,
        done: &mut Reembedded,
    ) -> Result<OffsetDateTime, ReconcileError> {
        let since = self.copying_since();
        let mut after = None;
        loop {
            let faces = fresh.store.reembedded_faces(&fresh.model, after, self.options.batch.max(1)).await?;
            let Some(last) = faces.last().map(|face| face.record.face) else { break };
            after = Some(last);
            let points: Vec<_> = faces.into_iter().map(point).collect();
            self.still_ours(token).await?;
            let rejected = fresh.vectors.upsert(&points).await?.rejected;
            done.indexed += (points.len() - rejected.len()) as u64;
        }
        self.drop_gone(&fresh.vectors, token).await?;
        Ok(since)
    }

    /// Removes points whose rows are gone, or are about to go: whoever erased these faces between the reading of their rows and the
    /// writing of their points found nothing to remove here. From now on whoever erases a face finds its point.
    async fn drop_gone(&self, filled: &VecStore, token: Token) -> Result<(), ReconcileError> {
        let batch = self.options.batch.max(1);
        let (mut rows, mut points) = (Rows::new(&self.gallery.store, batch), Points::new(filled, batch));
        let mut gone = Vec::new();
        while let Some(face) = points.peek().await? {
            points.take();
            while rows.peek().await?.is_some_and(|row| row < face) {
                rows.take();
            }
            let row = if rows.peek().await? == Some(face) { rows.take() } else { None };
            if row.is_none_or(|row| row.state == VectorState::Tombstoned) {
                gone.push(face);
            }
        }
        for faces in gone.chunks(batch as usize) {
            self.still_ours(token).await?;
            filled.delete(faces).await?;
        }
        Ok(())
    }
}
