//! The whole index anew from Postgres, while searches go on with the old one: a new Qdrant collection is filled, then the
//! alias is switched to it. What was enrolled meanwhile is copied both before and after the switch, and a full pass finds the
//! rest.

use facewire_domain::FaceId;
use facewire_gallery::{Gallery, point};
use facewire_store_pg::VectorState;
use facewire_store_vec::VecStore;
use serde::Serialize;
use time::OffsetDateTime;

use crate::pass::{PassOptions, PassReport, Reached, Token};
use crate::{ReconcileError, Reconciler, SERVICE};

/// Catching up before the switch ends when a round finds no more faces than this, or after [`ROUNDS`]: the round after the
/// switch has the rest.
const FEW: u64 = 32;
const ROUNDS: usize = 8;

/// What is asked of a rebuild.
#[derive(Debug, Clone, Copy, Default)]
pub struct RebuildOptions {
    /// Replace the index even by one that holds far fewer faces.
    pub allow_mass_removal: bool,
}

/// What a rebuild did.
#[derive(Debug, Clone, Serialize)]
pub struct Rebuilt {
    /// The new Qdrant collection.
    pub collection: String,
    /// Faces that were in it before the switch.
    pub copied: u64,
    /// Of those that changed around the switch, how many have their points in it as they are after it.
    pub copied_after: u64,
    /// Collections that interrupted rebuilds had left behind, and that were dropped.
    pub dropped: Vec<String>,
    /// The pass after the switch.
    pub after: PassReport,
}

/// A collection that is being filled. Whoever is interrupted leaves it behind, and the next rebuild drops it.
struct Filling<'a> {
    reconciler: &'a Reconciler,
    successor: VecStore,
    token: Token,
    progress: &'a (dyn Fn(u64) + Send + Sync),
    /// Points that were written: of a face that changes meanwhile more than one.
    written: u64,
}

impl Reconciler {
    pub(crate) async fn rebuild_with(
        &self,
        options: RebuildOptions,
        token: Token,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Rebuilt, ReconcileError> {
        self.gallery.check_serving().await?;
        let Gallery { vectors, model, dim, .. } = &self.gallery;
        let dropped = self.drop_abandoned(token).await?;
        let successor = vectors.successor(model, *dim).await?;
        let mut filling = Filling { reconciler: self, successor: successor.clone(), token, progress, written: 0 };
        let filled = async {
            let since = filling.fill().await?;
            let copied = successor.count(None).await?;
            self.check_size(copied, options).await?;
            Ok((since, copied))
        };
        let (since, copied) = match filled.await {
            Ok(filled) => filled,
            Err(error) => {
                // The old index was never touched. If this fails too, the next rebuild drops what is left.
                let _ = successor.drop_collection().await;
                return Err(error);
            }
        };
        self.still_ours(token).await?;
        let predecessor = vectors.switch_alias(&successor).await?;
        // Enrolments that wrote their point just before the switch wrote it into the old collection, and their rows changed
        // no earlier than the last round began.
        let now_serving = Gallery { vectors: successor.clone(), ..self.gallery.clone() };
        let copied_after = self.catch_up(&now_serving, since, token).await?;
        if let Some(predecessor) = predecessor {
            predecessor.drop_collection().await?;
        }
        let pass = PassOptions { allow_mass_removal: options.allow_mass_removal, ..PassOptions::default() };
        let after = self.compare_and_complete(pass, token, &|_| {}, &mut Reached::default()).await?;
        if options.allow_mass_removal {
            // As after a full pass for which it was allowed.
            self.gallery.store.forget_pass(SERVICE).await?;
        }
        let collection = successor.collection().to_owned();
        Ok(Rebuilt { collection, copied, copied_after, dropped, after })
    }

    /// From when on what changes may be missing in a copy that begins now. Clocks differ a little between machines; copying a face
    /// twice is harmless.
    pub(crate) fn copying_since(&self) -> OffsetDateTime {
        OffsetDateTime::now_utc() - self.options.pending_after
    }

    /// Drops what interrupted rebuilds left behind: only the holder of the lease makes such collections.
    async fn drop_abandoned(&self, token: Token) -> Result<Vec<String>, ReconcileError> {
        let mut dropped = Vec::new();
        for unserved in self.gallery.vectors.unserved().await? {
            self.still_ours(token).await?;
            unserved.store.drop_collection().await?;
            dropped.push(unserved.store.collection().to_owned());
        }
        Ok(dropped)
    }

    /// An index with far fewer faces than the one that serves is a mistake until somebody says that it is none.
    async fn check_size(&self, copied: u64, options: RebuildOptions) -> Result<(), ReconcileError> {
        let served = self.gallery.vectors.count(None).await?;
        let missing = served.saturating_sub(copied);
        if !options.allow_mass_removal && self.options.brake.holds(missing, served, copied) {
            return Err(ReconcileError::Braked { removals: missing, points: served });
        }
        Ok(())
    }
}

impl Filling<'_> {
    /// Copies everything, then what changed meanwhile, round by round. Says from when on the next round has to look.
    async fn fill(&mut self) -> Result<OffsetDateTime, ReconcileError> {
        let mut since = None;
        for _ in 0..=ROUNDS {
            let began = self.reconciler.copying_since();
            let round = self.copy(since).await?;
            let last = since.replace(began).is_some() && round <= FEW;
            if last {
                break;
            }
        }
        Ok(since.unwrap_or(OffsetDateTime::UNIX_EPOCH))
    }

    /// Copies the faces that changed since then, or all. How many.
    async fn copy(&mut self, since: Option<OffsetDateTime>) -> Result<u64, ReconcileError> {
        let Reconciler { gallery, options, .. } = self.reconciler;
        let (mut copied, mut after): (u64, Option<FaceId>) = (0, None);
        let mut changed = since;
        loop {
            let limit = options.batch.max(1);
            let faces = match changed {
                Some(since) => gallery.store.faces_changed((since, after), limit).await?,
                None => gallery.store.faces_after(after, limit).await?,
            };
            let Some(last) = faces.last().map(|face| &face.record) else { return Ok(copied) };
            after = Some(last.face);
            changed = changed.map(|_| last.updated_at);
            let wanted = faces.into_iter().filter(|face| {
                let state = matches!(face.record.state, VectorState::Indexed | VectorState::Pending);
                state && gallery.is_served(&face.record)
            });
            let points: Vec<_> = wanted.map(point).collect();
            self.reconciler.still_ours(self.token).await?;
            let written = points.len() - self.successor.upsert(&points).await?.rejected.len();
            copied += written as u64;
            self.written += written as u64;
            (self.progress)(self.written);
        }
    }
}
