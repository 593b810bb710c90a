//! A full pass: a merge join of both stores in id order, with constant memory. What differs is confirmed by reading it once
//! more, and repaired in batches; a holder who was fenced off repairs nothing.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use facewire_domain::FaceId;
use facewire_store_pg::StoredFace;
use facewire_store_vec::StoredPoint;
use serde::Serialize;
use time::OffsetDateTime;
use tokio::time::Instant;

use crate::compare::{Comparison, Kind};
use crate::cursor::{Points, Rows};
use crate::{ReconcileError, Reconciler};

/// Points that have to go and wait for their grace period, at most: 32 bytes each. Beyond it the join waits.
const WAITING: usize = 65_536;

/// What a pass does.
#[derive(Debug, Clone, Copy)]
pub struct PassOptions {
    /// Repair, not only report.
    pub fix: bool,
    /// End after this many differences.
    pub limit: Option<u64>,
    /// Ids that are kept of each kind, as examples.
    pub samples: usize,
    /// Remove however many points have no row or are of another model: somebody looked, and they do have to go.
    pub allow_mass_removal: bool,
}

impl Default for PassOptions {
    fn default() -> Self {
        Self { fix: true, limit: None, samples: 3, allow_mass_removal: false }
    }
}

/// What a pass checked, found and repaired.
#[derive(Debug, Clone, Default, Serialize)]
pub struct PassReport {
    /// Rows read.
    pub rows: u64,
    /// Points read.
    pub points: u64,
    /// Differences by kind.
    pub found: BTreeMap<Kind, u64>,
    /// Of these, repaired. What others repaired in between, or came back, is not counted.
    pub fixed: BTreeMap<Kind, u64>,
    /// Points that had to go and were kept: too many for a pass that nobody allowed it.
    pub held_back: u64,
    /// The first ids of each kind.
    pub samples: BTreeMap<Kind, Vec<String>>,
}

impl PassReport {
    /// Differences over all kinds.
    pub fn total_found(&self) -> u64 {
        self.found.values().sum()
    }

    /// Repairs over all kinds.
    pub fn total_fixed(&self) -> u64 {
        self.fixed.values().sum()
    }
}

/// The right to repair: the token of the lease that is held.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Token(pub(crate) i64);

pub(crate) struct Pass<'a> {
    reconciler: &'a Reconciler,
    options: PassOptions,
    token: Option<Token>,
    progress: &'a (dyn Fn(u64) + Send + Sync),
    report: PassReport,
    batches: BTreeMap<Kind, Vec<FaceId>>,
    /// Points to remove, each with when its grace ends.
    waiting: VecDeque<(Instant, Kind, FaceId)>,
}

impl<'a> Pass<'a> {
    /// Without a token nothing is repaired.
    pub(crate) fn new(
        reconciler: &'a Reconciler,
        options: PassOptions,
        token: Option<Token>,
        progress: &'a (dyn Fn(u64) + Send + Sync),
    ) -> Self {
        let (report, batches, waiting) = Default::default();
        Self { reconciler, options, token, progress, report, batches, waiting }
    }

    pub(crate) async fn run(mut self) -> Result<PassReport, ReconcileError> {
        let batch = self.reconciler.options.batch.max(1);
        let mut rows = Rows::new(&self.reconciler.gallery.store, batch);
        let mut points = Points::new(&self.reconciler.gallery.vectors, batch);
        let started = Instant::now();
        loop {
            let (row, point) = (rows.peek().await?, points.peek().await?);
            // The smaller id, from each side that has it.
            let Some(face) = row.into_iter().chain(point).min() else { break };
            let record = (row == Some(face)).then(|| rows.take()).flatten();
            let stored = (point == Some(face)).then(|| points.take()).flatten();
            self.report.rows += u64::from(record.is_some());
            self.report.points += u64::from(stored.is_some());
            if let Some(kind) = self.reconciler.comparison().difference(record.as_ref(), stored.as_ref()) {
                self.found(kind, face).await?;
                if self.options.limit.is_some_and(|limit| self.report.total_found() >= limit) {
                    break;
                }
            }
            self.pace(started).await;
        }
        (self.progress)(self.report.rows.max(self.report.points));
        for kind in Kind::ALL {
            self.repair(kind).await?;
        }
        while !self.waiting.is_empty() {
            self.let_go().await?;
        }
        Ok(self.report)
    }

    /// Not faster than the configured rate, so that searches do not feel a pass.
    async fn pace(&self, started: Instant) {
        let checked = self.report.rows.max(self.report.points);
        if checked.is_multiple_of(256) {
            (self.progress)(checked);
            let rate = f64::from(self.reconciler.options.rate.max(1));
            #[expect(clippy::cast_precision_loss, reason = "a count far below 2^52")]
            let due = Duration::from_secs_f64(checked as f64 / rate);
            tokio::time::sleep_until(started + due).await;
        }
    }

    async fn found(&mut self, kind: Kind, face: FaceId) -> Result<(), ReconcileError> {
        *self.report.found.entry(kind).or_default() += 1;
        let samples = self.report.samples.entry(kind).or_default();
        if samples.len() < self.options.samples {
            samples.push(face.to_string());
        }
        if !self.options.fix || self.token.is_none() {
            return Ok(());
        }
        if kind.removes() {
            let grace = if kind == Kind::OrphanPoint { self.reconciler.options.grace } else { Duration::ZERO };
            self.waiting.push_back((Instant::now() + grace, kind, face));
            if self.waiting.len() >= WAITING {
                self.let_go().await?;
            }
            return Ok(());
        }
        let batch = self.batches.entry(kind).or_default();
        batch.push(face);
        if batch.len() >= self.reconciler.options.batch as usize {
            self.repair(kind).await?;
        }
        Ok(())
    }

    /// Waits for the grace of the oldest points that have to go, then removes those that still have to; or holds them all back
    /// where there are too many.
    async fn let_go(&mut self) -> Result<(), ReconcileError> {
        if self.brakes() {
            self.report.held_back += self.waiting.len() as u64;
            self.waiting.clear();
            return Ok(());
        }
        let batch = self.reconciler.options.batch.max(1) as usize;
        let oldest: Vec<(Instant, Kind, FaceId)> = self.waiting.drain(..batch.min(self.waiting.len())).collect();
        if let Some((due, ..)) = oldest.iter().max_by_key(|(due, ..)| *due) {
            tokio::time::sleep_until(*due).await;
        }
        for kind in [Kind::OrphanPoint, Kind::OtherModel] {
            let faces = oldest.iter().filter(|(_, of, _)| *of == kind).map(|(.., face)| *face).collect();
            self.batches.insert(kind, faces);
            self.repair(kind).await?;
        }
        Ok(())
    }

    fn brakes(&self) -> bool {
        let found = |kind: Kind| self.report.found.get(&kind).copied().unwrap_or_default();
        let removals = Kind::ALL.into_iter().filter(|kind| kind.removes()).map(found).sum();
        let brake = self.reconciler.options.brake;
        !self.options.allow_mass_removal && brake.holds(removals, self.report.points, self.report.rows)
    }

    async fn repair(&mut self, kind: Kind) -> Result<(), ReconcileError> {
        let faces = self.batches.remove(&kind).unwrap_or_default();
        let Some(token) = self.token.filter(|_| !faces.is_empty()) else { return Ok(()) };
        let confirmed = self.confirm(kind, &faces).await?;
        self.reconciler.still_ours(token).await?;
        let fixed = self.reconciler.repair(kind, &confirmed).await?;
        *self.report.fixed.entry(kind).or_default() += fixed;
        Ok(())
    }

    /// Reads both sides once more: what was in flight has arrived by now, and is left alone. The faces that still differ.
    async fn confirm(&self, kind: Kind, faces: &[FaceId]) -> Result<Vec<FaceId>, ReconcileError> {
        let points = self.reconciler.gallery.vectors.retrieve(faces, false).await?;
        let rows = self.reconciler.gallery.store.faces(faces).await?;
        let mut points: HashMap<FaceId, StoredPoint> = points.into_iter().map(|p| (p.face, p)).collect();
        let mut rows: HashMap<FaceId, StoredFace> = rows.into_iter().map(|row| (row.record.face, row)).collect();
        let comparison = self.reconciler.comparison();
        let differences = faces.iter().map(|face| (*face, rows.remove(face), points.remove(face)));
        Ok(differences
            .filter(|(_, row, point)| {
                comparison.difference(row.as_ref().map(|r| &r.record), point.as_ref()) == Some(kind)
            })
            .map(|(face, ..)| face)
            .collect())
    }
}

impl Reconciler {
    /// What rows and points are compared by, now.
    pub(crate) fn comparison(&self) -> Comparison<'_> {
        Comparison {
            model: &self.gallery.model,
            dim: self.gallery.dim,
            settled_before: OffsetDateTime::now_utc() - self.options.pending_after,
        }
    }

    /// Each repair may be repeated, and is in an order that leaves a crash something to find.
    async fn repair(&self, kind: Kind, ids: &[FaceId]) -> Result<u64, ReconcileError> {
        let gallery = &self.gallery;
        match kind {
            // Whoever gives a face to another person meanwhile must not be overwritten: the rows are read anew, and read and written
            // again where they change while their points are written.
            Kind::MissingPoint | Kind::PayloadDrift => {
                gallery.store.mark_pending(ids).await?;
                gallery.index_all(ids).await?;
            }
            Kind::OrphanPoint => gallery.vectors.delete(ids).await?,
            Kind::Tombstoned => gallery.forget_with_images(ids, self.options.retention.images_grace).await?,
            Kind::OtherModel => {
                gallery.store.queue_reembedding(ids, &gallery.model).await?;
                gallery.vectors.delete(ids).await?;
            }
        }
        Ok(ids.len() as u64)
    }
}
