//! The whole index anew from Postgres, while searches go on with the old one: a new collection is filled, then takes the old
//! one's name. What changed meanwhile is caught up, and a full pass finds the rest.

use facewire_domain::FaceId;
use facewire_store_pg::VectorState;
use facewire_store_vec::VecStore;
use serde::Serialize;
use time::OffsetDateTime;

use crate::pass::{Pass, PassOptions, PassReport, Token};
use crate::{ReconcileError, Reconciler, point};

/// Catching up ends when a round finds no more faces than this, or after [`ROUNDS`]: the pass after the switch has the rest.
const FEW: u64 = 32;
const ROUNDS: usize = 8;

/// What a rebuild did.
#[derive(Debug, Clone, Serialize)]
pub struct Rebuilt {
    /// The new collection.
    pub collection: String,
    /// Faces that were copied.
    pub copied: u64,
    /// The pass after the switch.
    pub after: PassReport,
}

impl Reconciler {
    pub(crate) async fn rebuild_with(
        &self,
        token: Token,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Rebuilt, ReconcileError> {
        let successor = self.vectors.successor(self.dim).await?;
        let filled = self.fill(&successor, token, progress).await;
        let copied = match filled {
            Ok(copied) => copied,
            Err(error) => {
                // The old index was never touched. If this fails too, an unused collection is left behind.
                let _ = successor.drop_collection().await;
                return Err(error);
            }
        };
        self.still_ours(token).await?;
        successor.replace(&self.vectors).await?;
        let after = Pass::new(self, PassOptions::default(), Some(token), &|_| {}).run().await?;
        Ok(Rebuilt { collection: successor.collection().to_owned(), copied, after })
    }

    async fn fill(
        &self,
        successor: &VecStore,
        token: Token,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<u64, ReconcileError> {
        let mut copied = 0;
        let mut since = None;
        for _ in 0..=ROUNDS {
            // Clocks differ a little between machines; copying a face twice is harmless.
            let began = OffsetDateTime::now_utc() - self.options.pending_after;
            let round = self.copy(successor, since, token, &|count| progress(copied + count)).await?;
            copied += round;
            if since.is_some() && round <= FEW {
                break;
            }
            since = Some(began);
        }
        Ok(copied)
    }

    async fn copy(
        &self,
        successor: &VecStore,
        mut since: Option<OffsetDateTime>,
        token: Token,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<u64, ReconcileError> {
        let mut copied = 0;
        let mut after: Option<FaceId> = None;
        loop {
            let batch = self.options.batch.max(1);
            let faces = match since {
                None => self.store.faces_after(after, batch).await?,
                Some(since) => self.store.faces_changed((since, after), batch).await?,
            };
            let Some(last) = faces.last().map(|face| &face.record) else { return Ok(copied) };
            after = Some(last.face);
            since = since.map(|_| last.updated_at);
            let served = faces.into_iter().filter(|face| {
                let wanted = matches!(face.record.state, VectorState::Indexed | VectorState::Pending);
                wanted && face.record.model == self.model && face.record.dim == self.dim
            });
            let points: Vec<_> = served.filter_map(point).collect();
            self.still_ours(token).await?;
            successor.upsert(&points).await?;
            copied += points.len() as u64;
            progress(copied);
        }
    }
}
