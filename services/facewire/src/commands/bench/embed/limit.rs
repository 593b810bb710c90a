//! What the hardware can do: bare sessions of the embedder's model on inputs that are in place, at the fastest of all
//! batches and numbers of sessions.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{anyhow, bail};
use facewire_inference::{BareSession, Provider, Providers, SessionOptions, timed};
use facewire_runtime::Shutdown;
use facewire_vision::AlignedFace;

use super::super::cores;
use facewire_composition::models::Loaded;

/// Rows of a run at most: 512 faces with their mirror images.
const MAX_ROWS: usize = 1024;

/// Time for each batch and number of sessions.
const TRIAL: Duration = Duration::from_millis(500);

/// Larger batches are not tried where one run takes longer than this: they cannot be faster per face by then.
const LONG_RUN: Duration = Duration::from_secs(2);

/// Sessions at their fastest batch.
pub(super) struct Limit {
    models: Loaded,
    options: SessionOptions,
    sessions: usize,
    /// Of one run.
    faces: Vec<AlignedFace>,
    rows_per_face: usize,
    /// What it is, for people.
    pub(super) what: String,
    /// In its trial.
    pub(super) faces_per_second: f64,
}

impl Limit {
    /// Blocks: tries every batch of 1, 2, 4 … faces that the pack's manifest allows. The fastest batch of each number of
    /// sessions: a trial is short, and which of them is the fastest is said by the rounds. Ends when `stop` drains: the end of
    /// the process waits for it.
    pub(super) fn find(
        models: &Loaded,
        threads: usize,
        aligned: &[AlignedFace],
        stop: &Shutdown,
    ) -> anyhow::Result<Vec<Self>> {
        let settings = settings(&models.devices.embed, threads).into_iter();
        settings.map(|setting| Self::fastest_batch(models, aligned, setting, stop)).collect()
    }

    fn fastest_batch(
        models: &Loaded,
        aligned: &[AlignedFace],
        setting: (usize, usize),
        stop: &Shutdown,
    ) -> anyhow::Result<Self> {
        let spec = &models.pack.manifest().embedder;
        let max = spec.max_rows.min(MAX_ROWS);
        let first = if spec.flip { 2 } else { 1 };
        let smaller = std::iter::successors(Some(first), |rows| Some(rows * 2)).take_while(|rows| *rows < max);
        let mut best: Option<Self> = None;
        for rows in smaller.chain([max]) {
            if stop.is_draining() {
                bail!("stopped before the end");
            }
            let mut limit = Self::new(models, aligned, setting, rows, first);
            limit.faces_per_second = limit.run(TRIAL)?.0;
            let run = (limit.sessions * rows) as f64 / (limit.faces_per_second * first as f64).max(f64::MIN_POSITIVE);
            if best.as_ref().is_none_or(|best| limit.faces_per_second > best.faces_per_second) {
                best = Some(limit);
            }
            if run > LONG_RUN.as_secs_f64() {
                break;
            }
        }
        best.ok_or_else(|| anyhow!("no session was tried"))
    }

    /// Sessions with the same input: faces and their mirror images, as the stage has them.
    fn new(
        models: &Loaded,
        aligned: &[AlignedFace],
        (sessions, intra_threads): (usize, usize),
        rows: usize,
        rows_per_face: usize,
    ) -> Self {
        let options = SessionOptions { intra_threads, ..models.session };
        let faces = aligned.iter().cycle().take(rows.div_ceil(rows_per_face)).cloned().collect();
        let places = &models.devices.embed;
        let what =
            format!("bare ONNX Runtime, {places}, input of {rows} rows in place, {sessions} × {intra_threads} threads");
        Self { models: models.clone(), options, sessions, faces, rows_per_face, what, faces_per_second: 0.0 }
    }

    /// Blocks for a little longer than so long: faces a second, and the time that it took.
    pub(super) fn run(&self, min: Duration) -> anyhow::Result<(f64, Duration)> {
        let opened = AtomicUsize::new(0);
        let open = || {
            let provider = self.models.devices.embed.of_thread(opened.fetch_add(1, Ordering::Relaxed));
            self.models.pack.own_embedder(&self.models.runtime, &self.options.on(provider))?.bare(&self.faces)
        };
        let run = |session: &mut BareSession| session.run().map(|()| session.rows());
        let (rows, took) = timed(self.sessions, min, open, run)?;
        Ok((rows / self.rows_per_face as f64, took))
    }
}

/// Sessions, and threads in each: on a processor one a core or one over all cores, on GPUs one or two for each, or as many as
/// the stage has.
fn settings(places: &Providers, threads: usize) -> Vec<(usize, usize)> {
    let (devices, gpu) = (places.all().count(), places.all().any(Provider::is_gpu));
    let mut settings =
        if gpu { vec![(devices, 1), (2 * devices, 1), (threads, 1)] } else { vec![(cores(), 1), (1, cores())] };
    settings.sort_unstable();
    settings.dedup();
    settings
}
