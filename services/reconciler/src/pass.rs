//! A full pass: a merge join of both stores in id order, with constant memory. What differs is confirmed by reading it once
//! more, and repaired in batches; a holder who was fenced off repairs nothing. How far it came outlives it, so that one that was
//! cut short goes on there.

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
    /// Of these, repaired. What others repaired in between, or came back, is not counted, nor what is left to whoever has the image
    /// store.
    pub fixed: BTreeMap<Kind, u64>,
    /// Points that had to go and were kept: too many for a pass that nobody allowed it.
    pub held_back: u64,
    /// It ended at its limit: what comes after was not compared.
    pub cut: bool,
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

/// How far a pass came, and what of it is left to be repaired. Whatever it was cut short by, what is in here is whole.
#[derive(Debug, Default)]
pub(crate) struct Reached {
    /// Of whoever came so far.
    token: Option<Token>,
    /// When the last whole pass was, as it was noted when this one began or went on.
    last: Option<OffsetDateTime>,
    /// Every face up to this one was compared.
    after: Option<FaceId>,
    report: PassReport,
    batches: BTreeMap<Kind, Vec<FaceId>>,
    /// Points to remove, each with when its grace ends.
    waiting: VecDeque<(Instant, Kind, FaceId)>,
}

impl Reached {
    /// The holder of this token goes on here, if nobody else held the lease since: a rebuild or another model's index would have to
    /// be compared from the beginning, and another pass may have come to its end. Nor where the last pass was noted or forgotten since,
    /// as by whoever made the index anew, nor where the index is empty: what was compared of it is not there.
    pub(crate) fn go_on(&mut self, token: Token, last: Option<OffsetDateTime>, index_is_empty: bool) {
        let is_next = self.token.is_some_and(|before| before.0.checked_add(1) == Some(token.0));
        if !is_next || self.last != last || index_is_empty {
            *self = Self::default();
        }
        (self.token, self.last) = (Some(token), last);
    }
}

pub(crate) struct Pass<'a> {
    reconciler: &'a Reconciler,
    options: PassOptions,
    token: Option<Token>,
    progress: &'a (dyn Fn(u64) + Send + Sync),
    reached: &'a mut Reached,
}

impl<'a> Pass<'a> {
    /// Goes on where it came to. Without a token nothing is repaired.
    pub(crate) fn new(
        reconciler: &'a Reconciler,
        options: PassOptions,
        token: Option<Token>,
        progress: &'a (dyn Fn(u64) + Send + Sync),
        reached: &'a mut Reached,
    ) -> Self {
        Self { reconciler, options, token, progress, reached }
    }

    pub(crate) async fn run(mut self) -> Result<PassReport, ReconcileError> {
        let (batch, after) = (self.reconciler.options.batch.max(1), self.reached.after);
        let mut rows = Rows::new(&self.reconciler.gallery.store, batch).behind(after);
        let mut points = Points::new(&self.reconciler.gallery.vectors, batch).behind(after);
        let started = (Instant::now(), self.checked());
        loop {
            let (row, point) = (rows.peek().await?, points.peek().await?);
            // The smaller id, from each side that has it.
            let Some(face) = row.into_iter().chain(point).min() else { break };
            let record = (row == Some(face)).then(|| rows.take()).flatten();
            let stored = (point == Some(face)).then(|| points.take()).flatten();
            // Without a wait up to where a difference is noted: nothing is compared twice or passed over.
            self.reached.after = Some(face);
            self.reached.report.rows += u64::from(record.is_some());
            self.reached.report.points += u64::from(stored.is_some());
            if let Some(kind) = self.reconciler.comparison().difference(record.as_ref(), stored.as_ref()) {
                self.found(kind, face).await?;
                if self.options.limit.is_some_and(|limit| self.reached.report.total_found() >= limit) {
                    self.reached.report.cut = rows.peek().await?.is_some() || points.peek().await?.is_some();
                    break;
                }
            }
            self.pace(started).await;
        }
        (self.progress)(self.checked());
        for kind in Kind::ALL {
            self.repair(kind).await?;
        }
        while !self.reached.waiting.is_empty() {
            self.let_go().await?;
        }
        Ok(std::mem::take(self.reached).report)
    }

    /// Faces that were compared.
    fn checked(&self) -> u64 {
        self.reached.report.rows.max(self.reached.report.points)
    }

    /// Not faster than the configured rate, so that searches do not feel a pass. `started`: when, and what was compared by then.
    async fn pace(&self, started: (Instant, u64)) {
        let checked = self.checked();
        if checked.is_multiple_of(256) {
            (self.progress)(checked);
            let rate = f64::from(self.reconciler.options.rate.max(1));
            #[expect(clippy::cast_precision_loss, reason = "a count far below 2^52")]
            let due = Duration::from_secs_f64(checked.saturating_sub(started.1) as f64 / rate);
            tokio::time::sleep_until(started.0 + due).await;
        }
    }

    async fn found(&mut self, kind: Kind, face: FaceId) -> Result<(), ReconcileError> {
        let report = &mut self.reached.report;
        *report.found.entry(kind).or_default() += 1;
        let samples = report.samples.entry(kind).or_default();
        if samples.len() < self.options.samples {
            samples.push(face.to_string());
        }
        if !self.options.fix || self.token.is_none() {
            return Ok(());
        }
        if kind.removes() {
            let grace = if kind == Kind::OrphanPoint { self.reconciler.options.grace } else { Duration::ZERO };
            self.reached.waiting.push_back((Instant::now() + grace, kind, face));
            if self.reached.waiting.len() >= WAITING {
                self.let_go().await?;
            }
            return Ok(());
        }
        let batch = self.reached.batches.entry(kind).or_default();
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
            self.reached.report.held_back += self.reached.waiting.len() as u64;
            self.reached.waiting.clear();
            return Ok(());
        }
        let batch = self.reconciler.options.batch.max(1) as usize;
        let oldest: Vec<(Instant, Kind, FaceId)> = self.reached.waiting.iter().take(batch).copied().collect();
        if let Some((due, ..)) = oldest.iter().max_by_key(|(due, ..)| *due) {
            tokio::time::sleep_until(*due).await;
        }
        for kind in [Kind::OrphanPoint, Kind::OtherModel] {
            let faces: Vec<FaceId> = oldest.iter().filter(|(_, of, _)| *of == kind).map(|(.., face)| *face).collect();
            self.repair_these(kind, &faces).await?;
        }
        self.reached.waiting.drain(..oldest.len());
        Ok(())
    }

    fn brakes(&self) -> bool {
        let report = &self.reached.report;
        let found = |kind: Kind| report.found.get(&kind).copied().unwrap_or_default();
        let removals = Kind::ALL.into_iter().filter(|kind| kind.removes()).map(found).sum();
        let brake = self.reconciler.options.brake;
        !self.options.allow_mass_removal && brake.holds(removals, report.points, report.rows)
    }

    async fn repair(&mut self, kind: Kind) -> Result<(), ReconcileError> {
        let faces = self.reached.batches.get(&kind).cloned().unwrap_or_default();
        self.repair_these(kind, &faces).await?;
        self.reached.batches.remove(&kind);
        Ok(())
    }

    async fn repair_these(&mut self, kind: Kind, faces: &[FaceId]) -> Result<(), ReconcileError> {
        let Some(token) = self.token.filter(|_| !faces.is_empty()) else { return Ok(()) };
        let confirmed = self.confirm(kind, faces).await?;
        self.reconciler.still_ours(token).await?;
        let fixed = self.reconciler.repair(kind, &confirmed).await?;
        *self.reached.report.fixed.entry(kind).or_default() += fixed;
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
    /// A pass of the holder of the lease, and beside it what short passes do: a pass over millions of faces takes longer than many of
    /// their intervals, and nobody else may do it meanwhile.
    pub(crate) async fn compare_and_complete(
        &self,
        options: PassOptions,
        token: Token,
        progress: &(dyn Fn(u64) + Send + Sync),
        reached: &mut Reached,
    ) -> Result<PassReport, ReconcileError> {
        tokio::select! {
            report = Pass::new(self, options, Some(token), progress, reached).run() => report,
            error = self.complete_beside(token) => Err(error),
        }
    }

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
            // Whoever enrols one of them since both sides were read has written a point that goes here too: it is written again.
            Kind::OrphanPoint => gallery.remove_points(ids).await?,
            Kind::Tombstoned => {
                let left = gallery.forget_with_images(ids, self.options.retention.images_grace).await?;
                return Ok((ids.len() as u64).saturating_sub(left));
            }
            Kind::OtherModel => {
                gallery.store.queue_reembedding(ids, &gallery.model).await?;
                gallery.remove_points(ids).await?;
            }
        }
        Ok(ids.len() as u64)
    }
}
