//! `facewire publish`: a producer outside of the chain. It needs the contract and a NATS server, nothing else of Facewire.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use facewire_bus::{Bus, BusError, Published};
use facewire_composition::Config;
use facewire_contracts::headers;
use facewire_runtime::{Backoff, Shutdown, retry};
use futures_util::{StreamExt, stream};
use indicatif::ProgressBar;
use serde::Serialize;
use time::OffsetDateTime;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::producer::{Crop, Target, changed_at, collect};
use super::resume::{Notes, RunOf, key};
use super::{connect, format, progress};
use crate::cli::Publish;
use crate::output::{self, Exit};
use crate::signals;

/// Crops that are read, sent and waited for at a time.
const IN_FLIGHT: usize = 64;
/// A publish fails for so long without any answer, and the server counts as gone. A full stream is waited for without end.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Between two tries.
const PAUSES: Backoff = Backoff { first: Duration::from_millis(200), max: Duration::from_secs(2) };
/// How far behind its schedule a paced run may catch up; timers are no finer than a millisecond.
const CATCH_UP: Duration = Duration::from_millis(100);
/// Files that are named when they cannot be sent.
const NAMED: usize = 20;

pub(crate) async fn run(config: Config, args: &Publish) -> anyhow::Result<Exit> {
    let target = target(args)?;
    let (paths, goes_to, captured_now) = (args.paths.clone(), target.clone(), args.now || args.repeat > 1);
    let named = move || {
        let files = collect(&paths)?;
        anyhow::Ok((RunOf::new(&goes_to, captured_now, &files), files))
    };
    let (run, files) = tokio::task::spawn_blocking(named).await??;
    let (notes, run, done) = match &args.resume {
        Some(path) => {
            let (notes, run, done) = Notes::open(path, run).await?;
            (Some(notes), run, done)
        }
        None => (None, run, HashSet::new()),
    };
    let shutdown = Shutdown::new(config.shutdown.grace);
    signals::listen(shutdown.clone())?;
    let bus = connect::nats(&config, "publish").await?;
    let total = u64::from(args.repeat) * u64::try_from(files.len()).unwrap_or(u64::MAX);
    let bar = progress::bar(total, "publishing");
    let sender = Sender {
        bus,
        target: Arc::new(target),
        began: run.began.map(|(at, _)| at),
        done,
        bar,
        pace: Pace::new(args.rate),
        waiting: AtomicBool::new(false),
        silence: Silence::default(),
        stop: shutdown.token().clone(),
    };
    let summary = sender.run(&files, args, notes).await?;
    report(&summary, args)
}

fn target(args: &Publish) -> anyhow::Result<Target> {
    let mut said = vec![(headers::INTENT, args.intent.clone())];
    said.extend(args.subject.clone().map(|subject| (headers::SUBJECT, subject)));
    said.extend(args.threshold.map(|threshold| (headers::THRESHOLD, threshold.to_string())));
    said.extend(args.frame.then(|| (headers::FRAME, "true".to_owned())));
    Target::new(args.collection.clone(), args.camera.clone(), said)
}

/// One file, once.
struct Job<'a> {
    path: &'a Path,
    round: u32,
    /// Over all rounds, from 0.
    number: i128,
}

/// What became of one.
enum Sent {
    /// The stream holds it; `new` unless it did before.
    Published { key: String, bytes: u64, new: bool },
    /// Noted by an earlier run.
    Skipped,
    /// This file cannot be sent, others can.
    Unsendable { path: PathBuf, why: String },
    /// The run was stopped first.
    Stopped,
}

struct Sender {
    bus: Bus,
    target: Arc<Target>,
    /// When the run began, in nanoseconds since 1970: for crops that are captured now.
    began: Option<i128>,
    done: HashSet<String>,
    bar: ProgressBar,
    pace: Pace,
    /// Somebody was told that the stream is full or the server silent.
    waiting: AtomicBool,
    silence: Silence,
    stop: CancellationToken,
}

#[derive(Debug, Default, Serialize)]
struct Summary {
    subject: String,
    published: u64,
    duplicates: u64,
    skipped: u64,
    failed: u64,
    bytes: u64,
    seconds: f64,
    crops_per_second: f64,
    interrupted: bool,
    /// The first of those that could not be sent.
    failures: Vec<Failure>,
}

#[derive(Debug, Serialize)]
struct Failure {
    file: PathBuf,
    error: String,
}

impl Sender {
    async fn run(&self, files: &[PathBuf], args: &Publish, mut notes: Option<Notes>) -> anyhow::Result<Summary> {
        let started = Instant::now();
        let jobs = (0..args.repeat).flat_map(|round| files.iter().map(move |path| (round, path)));
        let jobs = (0..).zip(jobs).map(|(number, (round, path))| Job { path, round, number });
        let sending = stream::iter(jobs).take_until(self.stop.cancelled()).map(|job| self.send(job));
        let mut sent = std::pin::pin!(sending.buffer_unordered(IN_FLIGHT).ready_chunks(IN_FLIGHT));
        let mut summary = Summary { subject: self.target.subject(), ..Summary::default() };
        while let Some(chunk) = sent.next().await {
            let chunk: Vec<Sent> = chunk.into_iter().collect::<anyhow::Result<_>>()?;
            if let Some(notes) = &mut notes {
                let keys = chunk.iter().filter_map(|sent| match sent {
                    Sent::Published { key, .. } => Some(key.as_str()),
                    _ => None,
                });
                notes.write(keys).await?;
            }
            for sent in chunk {
                self.count(&mut summary, sent);
            }
        }
        self.bar.finish_and_clear();
        summary.interrupted |= self.stop.is_cancelled();
        summary.seconds = started.elapsed().as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
        let sent = (summary.published + summary.duplicates) as f64;
        summary.crops_per_second = sent / summary.seconds.max(1e-9);
        Ok(summary)
    }

    fn count(&self, summary: &mut Summary, sent: Sent) {
        self.bar.inc(1);
        match sent {
            Sent::Published { bytes, new, .. } => {
                summary.bytes += bytes;
                *(if new { &mut summary.published } else { &mut summary.duplicates }) += 1;
            }
            Sent::Skipped => summary.skipped += 1,
            Sent::Stopped => summary.interrupted = true,
            Sent::Unsendable { path, why } => {
                progress::say_above(&self.bar, format_args!("not published: {}: {why}", path.display()));
                summary.failed += 1;
                if summary.failures.len() < NAMED {
                    summary.failures.push(Failure { file: path, error: why });
                }
            }
        }
    }

    async fn send(&self, job: Job<'_>) -> anyhow::Result<Sent> {
        let (path, target, began) = (job.path.to_owned(), Arc::clone(&self.target), self.began);
        let captured_at = tokio::task::spawn_blocking(move || captured_at(&path, began, job.number)).await?;
        let unsendable = |why: anyhow::Error| Sent::Unsendable { path: job.path.to_owned(), why: format!("{why:#}") };
        let captured_at = match captured_at {
            Ok(at) => at,
            Err(why) => return Ok(unsendable(why)),
        };
        let key = key(job.round, captured_at.unix_timestamp_nanos(), job.path);
        if self.done.contains(&key) {
            return Ok(Sent::Skipped);
        }
        tokio::select! {
            () = self.pace.wait() => {}
            () = self.stop.cancelled() => return Ok(Sent::Stopped),
        }
        let path = job.path.to_owned();
        let crop = tokio::task::spawn_blocking(move || target.crop(std::fs::read(&path)?, captured_at)).await?;
        let crop = match crop {
            Ok(crop) => crop,
            Err(why) => return Ok(unsendable(why)),
        };
        let bytes = u64::try_from(crop.message.payload.len()).unwrap_or(u64::MAX);
        match self.publish(&crop).await {
            Ok(ack) => Ok(Sent::Published { key, bytes, new: !ack.duplicate }),
            Err(error @ BusError::TooLarge { .. }) => Ok(unsendable(error.into())),
            Err(_) if self.stop.is_cancelled() => Ok(Sent::Stopped),
            Err(error) => Err(error.into()),
        }
    }

    /// Publishes, and waits where the stream is full or the server does not answer for a while.
    async fn publish(&self, crop: &Crop) -> Result<Published, BusError> {
        let first = OnceLock::new();
        let transient = |error: &BusError| self.silence.is_borne(error, &first);
        let say = |error: &BusError, _| {
            if !self.waiting.swap(true, Ordering::Relaxed) {
                progress::say_above(&self.bar, format_args!("waiting: {} (Ctrl-C ends this)", for_now(error)));
            }
        };
        let ack = retry(PAUSES, &self.stop, transient, say, || self.bus.publish(crop.message.clone())).await?;
        self.silence.answer();
        if self.waiting.swap(false, Ordering::Relaxed) {
            progress::say_above(&self.bar, "going on");
        }
        Ok(ack)
    }
}

/// What an error means that may pass.
fn for_now(error: &BusError) -> String {
    match error {
        // Whether Facewire runs at all is asked when it has lasted.
        BusError::NoStream { subject } => format!("no stream takes {subject} yet"),
        other => other.to_string(),
    }
}

/// When the server last gave an answer, to whichever publish. While nothing is sent it says nothing: a paced run pauses.
#[derive(Default)]
struct Silence {
    answered: Mutex<Option<Instant>>,
}

impl Silence {
    /// One came.
    fn answer(&self) {
        *self.answered.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Whether a publish is tried again after this error. `first`: when it failed first.
    fn is_borne(&self, error: &BusError, first: &OnceLock<Instant>) -> bool {
        match error {
            BusError::StreamFull { .. } => {
                self.answer();
                true
            }
            // Whoever starts Facewire may be about to make its streams.
            BusError::Unreachable(_) | BusError::NotAcknowledged { .. } | BusError::NoStream { .. } => {
                let first = *first.get_or_init(Instant::now);
                let answered = *self.answered.lock().unwrap_or_else(PoisonError::into_inner);
                answered.map_or(first, |at| at.max(first)).elapsed() < TIMEOUT
            }
            _ => false,
        }
    }
}

/// The file's own time; or, for crops that are captured now, the run's beginning and a nanosecond more for each, so that
/// not even equal files are the same crop.
fn captured_at(path: &Path, began: Option<i128>, number: i128) -> anyhow::Result<OffsetDateTime> {
    match began {
        Some(began) => Ok(OffsetDateTime::from_unix_timestamp_nanos(began + number)?),
        None => changed_at(path),
    }
}

/// Hands out moments, at most so many a second.
struct Pace {
    gap: Option<Duration>,
    due: Mutex<Instant>,
}

impl Pace {
    fn new(rate: Option<f64>) -> Self {
        let gap = rate.map(|rate| Duration::try_from_secs_f64(rate.recip()).unwrap_or(Duration::MAX));
        Self { gap, due: Mutex::new(Instant::now()) }
    }

    async fn wait(&self) {
        let Some(gap) = self.gap else { return };
        let at = {
            let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let at = (*due).max(now.checked_sub(CATCH_UP).unwrap_or(now));
            *due = at.checked_add(gap).unwrap_or(at);
            at
        };
        tokio::time::sleep_until(at).await;
    }
}

fn report(summary: &Summary, args: &Publish) -> anyhow::Result<Exit> {
    if args.json {
        output::json(summary)?;
    } else {
        output::line(format_args!(
            "published {} crops ({}) to {} in {:.1} s: {:.0} a second",
            summary.published,
            format::bytes(summary.bytes),
            summary.subject,
            summary.seconds,
            summary.crops_per_second,
        ));
        if summary.duplicates > 0 {
            let n = summary.duplicates;
            output::line(format_args!(
                "  {n} more were there already: same file, camera and time (--now makes them new)"
            ));
        }
        if summary.skipped > 0 {
            output::line(format_args!("  {} were noted as published by an earlier run", summary.skipped));
        }
        if summary.failed > 0 {
            output::line(format_args!("  {} could not be published; see above", summary.failed));
        }
    }
    if summary.interrupted {
        output::say(match args.resume {
            Some(_) => "stopped before the end: the same command goes on where this one was",
            None => "stopped before the end; with --resume FILE a run can go on where it was",
        });
        return Ok(Exit::Failed);
    }
    Ok(if summary.failed > 0 { Exit::ProblemsFound } else { Exit::Success })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captured_now_means_a_crop_of_its_own() {
        let nowhere = Path::new("/nowhere");
        let first = captured_at(nowhere, Some(1_700_000_000_000_000_000), 0).unwrap();
        let second = captured_at(nowhere, Some(1_700_000_000_000_000_000), 1).unwrap();
        assert_eq!((second - first).whole_nanoseconds(), 1);
        assert!(captured_at(nowhere, None, 0).is_err(), "without it, the file's own time counts");
    }

    /// The clock is the test's own: it goes on only by the pauses.
    #[tokio::test(start_paused = true)]
    async fn patience_begins_with_a_publishs_first_failure_and_anew_with_every_answer() {
        let subject = || "crops.office.door".to_owned();
        let [gone, full] = [BusError::Unreachable("gone".to_owned()), BusError::StreamFull { subject: subject() }];
        let pause = || tokio::time::sleep(TIMEOUT / 2);
        let silence = Silence::default();
        silence.answer();
        // The last answer is long ago: nothing was sent.
        tokio::time::sleep(TIMEOUT * 2).await;
        for error in [BusError::NoStream { subject: subject() }, BusError::Unreachable("gone".to_owned())] {
            let first = OnceLock::new();
            assert!(silence.is_borne(&error, &first), "{error}");
            pause().await;
            assert!(silence.is_borne(&error, &first), "{error}");
            pause().await;
            assert!(!silence.is_borne(&error, &first), "{error}");
        }
        let first = OnceLock::new();
        assert!(silence.is_borne(&gone, &first));
        pause().await;
        assert!(silence.is_borne(&full, &first));
        pause().await;
        assert!(silence.is_borne(&gone, &first), "a full stream's server answers");
        pause().await;
        assert!(!silence.is_borne(&gone, &first) && silence.is_borne(&full, &first));
        let refused = BusError::Denied { what: "to publish".to_owned() };
        assert!(!silence.is_borne(&refused, &OnceLock::new()));
    }

    #[test]
    fn whether_facewire_runs_is_asked_at_the_end_only() {
        let error = BusError::NoStream { subject: "crops.office.door".to_owned() };
        assert!(error.to_string().contains("is Facewire running") && !for_now(&error).contains("running"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pace_is_kept() {
        let began = Instant::now();
        let pace = Pace::new(Some(10.0));
        for _ in 0..11 {
            pace.wait().await;
        }
        let took = began.elapsed();
        // The clock is the test's own: it goes on only by the waits.
        assert!(took >= Duration::from_secs(1) && took < Duration::from_millis(1100), "{took:?}");
    }
}
