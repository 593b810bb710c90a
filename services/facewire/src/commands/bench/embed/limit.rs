//! What the hardware can do: bare sessions of the embedder's model on inputs that are in place, at the fastest of all
//! batches and numbers of sessions.

use std::time::{Duration, Instant};

use anyhow::anyhow;
use facewire_inference::{BareSession, Provider, SessionOptions};
use facewire_vision::AlignedFace;

use super::super::cores;
use facewire_composition::models::Loaded;

/// Rows of a run at most: 512 faces with their mirror images.
const MAX_ROWS: usize = 1024;

/// Runs before a session is timed: the first ones of a GPU choose their kernels and reserve memory.
const WARM_UP: usize = 3;

/// Time for each batch and number of sessions.
const TRIAL: Duration = Duration::from_millis(500);

/// Larger batches are not tried where one run takes longer than this: they cannot be faster per face by then.
const LONG_RUN: Duration = Duration::from_secs(2);

/// Warm sessions at their fastest batch.
pub(super) struct Limit {
    sessions: Vec<BareSession>,
    rows: usize,
    rows_per_face: usize,
    /// What it is, for people.
    pub(super) what: String,
    /// In its trial.
    pub(super) faces_per_second: f64,
}

impl Limit {
    /// Blocks: tries every batch of 1, 2, 4 … faces that the pack's manifest allows. The fastest batch of each number of
    /// sessions: a trial is short, and which of them is the fastest is said by the rounds.
    pub(super) fn find(models: &Loaded, aligned: &[AlignedFace]) -> anyhow::Result<Vec<Self>> {
        let settings = settings(models.devices.embed.first()).into_iter();
        settings.map(|setting| Self::fastest_batch(models, aligned, setting)).collect()
    }

    fn fastest_batch(models: &Loaded, aligned: &[AlignedFace], setting: (usize, usize)) -> anyhow::Result<Self> {
        let spec = &models.pack.manifest().embedder;
        let max = spec.max_rows.min(MAX_ROWS);
        let first = if spec.flip { 2 } else { 1 };
        let smaller = std::iter::successors(Some(first), |rows| Some(rows * 2)).take_while(|rows| *rows < max);
        let mut best: Option<Self> = None;
        for rows in smaller.chain([max]) {
            let mut limit = Self::open(models, aligned, setting, rows, first)?;
            let began = Instant::now();
            limit.sessions.iter_mut().try_for_each(BareSession::run)?;
            let long = began.elapsed() > LONG_RUN;
            (0..WARM_UP).try_for_each(|_| limit.sessions.iter_mut().try_for_each(BareSession::run))?;
            limit.faces_per_second = limit.run(TRIAL)?.0;
            if best.as_ref().is_none_or(|best| limit.faces_per_second > best.faces_per_second) {
                best = Some(limit);
            }
            if long {
                break;
            }
        }
        best.ok_or_else(|| anyhow!("no session was tried"))
    }

    /// Sessions with the same input: faces and their mirror images, as the stage has them.
    fn open(
        models: &Loaded,
        aligned: &[AlignedFace],
        (count, intra_threads): (usize, usize),
        rows: usize,
        rows_per_face: usize,
    ) -> anyhow::Result<Self> {
        let options = SessionOptions { intra_threads, ..models.session.on(models.devices.embed.first()) };
        let faces: Vec<AlignedFace> = aligned.iter().cycle().take(rows.div_ceil(rows_per_face)).cloned().collect();
        let session = |_| Ok(models.pack.own_embedder(&models.runtime, &options)?.bare(&faces)?);
        let sessions = (0..count).map(session).collect::<anyhow::Result<_>>()?;
        let place = options.provider;
        let what =
            format!("bare ONNX Runtime, {place}, input of {rows} rows in place, {count} × {intra_threads} threads");
        Ok(Self { sessions, rows, rows_per_face, what, faces_per_second: 0.0 })
    }

    /// Runs all sessions for at least so long: faces a second, and the time that it took.
    pub(super) fn run(&mut self, min: Duration) -> anyhow::Result<(f64, Duration)> {
        let started = Instant::now();
        let rates = std::thread::scope(|scope| {
            let one = |session: &mut BareSession| {
                let mut runs = 0.0;
                while started.elapsed() < min {
                    session.run()?;
                    runs += 1.0;
                }
                anyhow::Ok(runs / started.elapsed().as_secs_f64())
            };
            let threads: Vec<_> = self.sessions.iter_mut().map(|session| scope.spawn(move || one(session))).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().map_err(|_| anyhow!("a bare session panicked"))?)
                .sum::<anyhow::Result<f64>>()
        })?;
        Ok((rates * self.rows as f64 / self.rows_per_face as f64, started.elapsed()))
    }
}

/// Sessions, and threads in each: on a processor one a core or one over all cores, on a GPU one or two.
fn settings(provider: Provider) -> Vec<(usize, usize)> {
    let mut settings = match provider {
        Provider::Cpu => vec![(cores(), 1), (1, cores())],
        Provider::Cuda { .. } | Provider::TensorRt { .. } => vec![(1, 1), (2, 1)],
    };
    settings.dedup();
    settings
}
