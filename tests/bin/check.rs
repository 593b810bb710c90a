//! What is left after a plan, against the producer's own book: one row and one result for each crop, one face and one point for
//! each enrolled image, nothing that differs after one reconcile.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use facewire_bus::Bus;
use facewire_contracts::subjects;
use facewire_domain::{CropId, FaceId, Status};
use facewire_reconciler::{PassOptions, Reconciler};
use facewire_store_pg::{LedgerFilter, Store};
use serde::Serialize;

use crate::load::Book;

/// No result for this long although some are missing: they are lost.
pub(crate) const SILENCE: Duration = Duration::from_secs(120);

/// The verdict.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Verdict {
    pub(crate) crops: u64,
    pub(crate) published_twice: u64,
    pub(crate) rows: u64,
    pub(crate) results: u64,
    pub(crate) lost: u64,
    pub(crate) twice: u64,
    pub(crate) unknown: u64,
    pub(crate) by_status: BTreeMap<String, u64>,
    /// Ended as our fault: no plan publishes what must.
    pub(crate) failed: u64,
    pub(crate) enrolled: u64,
    pub(crate) faces_missing: u64,
    pub(crate) points_missing: u64,
    pub(crate) dead_letters: u64,
    pub(crate) repaired: u64,
    pub(crate) orphans_after_reconcile: u64,
}

impl Verdict {
    pub(crate) fn holds(&self) -> bool {
        let wrong = [
            self.lost,
            self.twice,
            self.unknown,
            self.failed,
            self.faces_missing,
            self.points_missing,
            self.dead_letters,
            self.orphans_after_reconcile,
        ];
        wrong.iter().all(|count| *count == 0) && self.rows == self.crops && self.results == self.crops
    }
}

/// Waits until every stream of work is empty. Postgres's ledger is asked as little as possible.
pub(crate) async fn drained(bus: &Bus, mut tend: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mut before = None;
    let mut since = tokio::time::Instant::now();
    loop {
        tend()?;
        if let Ok(lags) = bus.lags().await {
            if lags.iter().all(|lag| lag.pending == 0 && lag.ack_pending == 0) {
                return Ok(());
            }
            let counts: Vec<_> = lags.iter().map(|lag| (lag.stage, lag.pending, lag.ack_pending)).collect();
            if before.as_ref() != Some(&counts) {
                (before, since) = (Some(counts), tokio::time::Instant::now());
            }
        }
        anyhow::ensure!(since.elapsed() < SILENCE, "nothing moves for {SILENCE:?}: {before:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Counts everything.
pub(crate) async fn check(bus: &Bus, store: &Store, reconciler: &Reconciler, book: &Book) -> anyhow::Result<Verdict> {
    let ledger = store.ledger(&LedgerFilter::default()).await?;
    let results = bus.stream_messages(subjects::RESULTS).await?;
    let mut verdict = Verdict {
        crops: book.crops.len() as u64,
        published_twice: book.twice,
        rows: ledger.rows,
        results,
        dead_letters: bus.stream_messages(subjects::DEAD).await?,
        ..Verdict::default()
    };
    let mut seen: BTreeMap<CropId, u64> = BTreeMap::new();
    let mut reader = bus.results("results.>", true).await?;
    for _ in 0..results {
        let event = tokio::time::timeout(SILENCE, reader.next()).await.context("RESULTS ends early")??;
        let result = event.result.context("a result cannot be read")?;
        *verdict.by_status.entry(result.status).or_default() += 1;
        let id: CropId = result.crop_id.parse()?;
        if book.crops.contains(&id) {
            *seen.entry(id).or_default() += 1;
        } else {
            verdict.unknown += 1;
        }
    }
    verdict.failed = verdict.by_status.get(Status::Failed.as_str()).copied().unwrap_or(0);
    verdict.lost = book.crops.iter().filter(|crop| !seen.contains_key(crop)).count() as u64;
    verdict.twice = seen.values().filter(|count| **count > 1).count() as u64;

    let fixed = reconciler.full(PassOptions::default(), SILENCE, &|_| {}).await?;
    verdict.repaired = fixed.total_fixed();
    let look = PassOptions { fix: false, ..PassOptions::default() };
    verdict.orphans_after_reconcile = reconciler.full(look, SILENCE, &|_| {}).await?.total_found();
    faces(store, reconciler, book, &mut verdict).await?;
    Ok(verdict)
}

/// An enrolment that was accepted has its face and its point; no other face is there.
async fn faces(store: &Store, reconciler: &Reconciler, book: &Book, verdict: &mut Verdict) -> anyhow::Result<()> {
    let ids: Vec<FaceId> = book.faces.keys().copied().collect();
    let rows = store.faces(&ids).await?;
    let accepted = verdict.by_status.get("enrolled").copied().unwrap_or(0)
        + verdict.by_status.get("already_enrolled").copied().unwrap_or(0);
    verdict.enrolled = rows.len() as u64;
    verdict.faces_missing =
        accepted.abs_diff(rows.len() as u64) + store.count_faces().await?.abs_diff(rows.len() as u64);
    verdict.points_missing = reconciler.gallery.vectors.count(None).await?.abs_diff(rows.len() as u64);
    Ok(())
}
