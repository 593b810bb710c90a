//! Following a job to its end by its row: with a bar, or a line for each change. Ctrl-C ends the following and leaves
//! the job alone.

use std::time::Duration;

use anyhow::bail;
use facewire_domain::{JobId, JobKind, JobState};
use facewire_runtime::Backoff;
use facewire_store_pg::{JobFilter, JobRecord, Store};
use indicatif::ProgressBar;
use tokio::time::Instant;

use super::show::{self, Told};
use crate::commands::progress;
use crate::output;

/// Between two looks at the row: short at first, for jobs that take no time.
const PAUSES: Backoff = Backoff { first: Duration::from_millis(100), max: Duration::from_secs(1) };

/// Jobs of a collection that run at a time, far more than do.
const RUNNING: u32 = 100;

/// A job that is queued for longer has its reason told.
const LONG: Duration = Duration::from_secs(10);

/// How changes are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Changes {
    /// A bar on standard error; where that is no terminal, a line there for each phase.
    Bar,
    /// A line of JSON on standard output for each change.
    Lines,
}

/// The job when it is over; `None`: Ctrl-C, or nobody reads the lines any more.
pub(super) async fn to_the_end(store: &Store, job: JobId, changes: Changes) -> anyhow::Result<Option<JobRecord>> {
    let mut follower = Follower::new(changes);
    let ended = tokio::select! {
        // Ctrl-C is listened to before anything is told.
        biased;
        asked = tokio::signal::ctrl_c() => asked.map(|()| None).map_err(anyhow::Error::from),
        ended = follower.until_over(store, job) => ended,
    };
    follower.bar.finish_and_clear();
    if matches!(ended, Ok(None)) {
        output::say(format_args!(
            "job {job} goes on: `facewire jobs watch {job}` follows it, `facewire jobs cancel {job}` stops it"
        ));
    }
    ended
}

/// What of a job was told last.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    state: JobState,
    attempt: u32,
    cancel_requested: bool,
    phase: Option<String>,
    done: u64,
    total: Option<u64>,
}

impl Seen {
    fn of(job: &JobRecord) -> Self {
        let (state, attempt, cancel_requested) = (job.state, job.attempt, job.cancel_requested);
        let progress = job.progress.clone();
        Self { state, attempt, cancel_requested, phase: progress.phase, done: progress.done, total: progress.total }
    }

    /// Whether the job began something else, and not only went on.
    fn began(&self, before: Option<&Self>) -> bool {
        let what = |seen: &Self| (seen.state, seen.attempt, seen.cancel_requested, seen.phase.clone());
        before.is_none_or(|before| what(before) != what(self))
    }
}

struct Follower {
    bar: ProgressBar,
    changes: Changes,
    last: Option<Seen>,
}

impl Follower {
    fn new(changes: Changes) -> Self {
        let bar = match changes {
            Changes::Bar => progress::bar(0, ""),
            Changes::Lines => ProgressBar::hidden(),
        };
        bar.unset_length();
        Self { bar, changes, last: None }
    }

    async fn until_over(&mut self, store: &Store, job: JobId) -> anyhow::Result<Option<JobRecord>> {
        let (started, mut looks) = (Instant::now(), 0_u32);
        let (mut is_away, mut was_explained) = (false, false);
        loop {
            match store.job(job).await {
                Ok(Some(record)) => {
                    is_away = false;
                    if !self.hear(&record)? {
                        return Ok(None);
                    }
                    if record.state.is_over() {
                        return Ok(Some(record));
                    }
                    if record.state == JobState::Queued && !was_explained && started.elapsed() > LONG {
                        was_explained = true;
                        progress::say_above(&self.bar, held_up(store, &record).await);
                    }
                }
                Ok(None) => bail!("there is no job {job}, or it went with its collection"),
                Err(error) if error.is_transient() => {
                    if !is_away {
                        progress::say_above(&self.bar, format_args!("{error}; trying again"));
                    }
                    is_away = true;
                }
                Err(error) => return Err(error.into()),
            }
            tokio::time::sleep(PAUSES.pause(looks)).await;
            looks = looks.saturating_add(1);
        }
    }

    /// Tells what changed; `false`: nobody reads any more.
    fn hear(&mut self, job: &JobRecord) -> anyhow::Result<bool> {
        let seen = Seen::of(job);
        if self.last.as_ref() == Some(&seen) {
            return Ok(true);
        }
        let began = seen.began(self.last.as_ref());
        let (done, total) = (seen.done, seen.total);
        self.last = Some(seen);
        if self.changes == Changes::Lines {
            return Ok(output::line_read(serde_json::to_string(&Told::of(job))?));
        }
        if began {
            self.bar.set_prefix(show::doing(job));
            self.bar.reset_eta();
            if self.bar.is_hidden() {
                output::say(format_args!("job {}: {}", job.job, show::doing(job)));
            }
        }
        match total {
            Some(total) => self.bar.set_length(total),
            None => self.bar.unset_length(),
        }
        self.bar.set_position(done);
        Ok(true)
    }
}

/// Why a job may still be queued.
async fn held_up(store: &Store, job: &JobRecord) -> String {
    let filter =
        JobFilter { collections: Some(vec![job.collection.clone()]), kind: None, state: Some(JobState::Running) };
    let running = store.jobs(&filter, None, RUNNING).await.unwrap_or_default();
    match ahead(job, &running) {
        Some(first) => format!("queued behind job {first} of the same collection"),
        None => "still queued: is the jobs service running? `facewire run jobs` starts it".to_owned(),
    }
}

/// The one of these jobs of its collection that a job waits for: one that erases waits for none, and none for it.
fn ahead(job: &JobRecord, running: &[JobRecord]) -> Option<JobId> {
    let first = running.iter().find(|other| other.kind != JobKind::Erase)?;
    (job.kind != JobKind::Erase).then_some(first.job)
}

#[cfg(test)]
mod tests {
    use facewire_store_pg::{Actor, JobProgress};
    use time::OffsetDateTime;
    use uuid::Uuid;

    use super::*;

    fn job(number: u128, kind: JobKind) -> JobRecord {
        JobRecord {
            job: Uuid::from_u128(number).into(),
            kind,
            collection: "office".parse().unwrap(),
            params: serde_json::json!({}),
            state: JobState::Running,
            attempt: 1,
            cancel_requested: false,
            progress: JobProgress::default(),
            result: None,
            error: None,
            actor: Actor::named("a test"),
            created_at: OffsetDateTime::UNIX_EPOCH,
            started_at: None,
            finished_at: None,
        }
    }

    #[test]
    fn an_erasure_waits_for_nobody_and_nobody_for_it() {
        let (erases, clusters) = (job(1, JobKind::Erase), job(2, JobKind::Cluster));
        let running = [erases.clone(), clusters.clone()];
        assert_eq!(ahead(&job(3, JobKind::Assign), &running), Some(clusters.job));
        assert_eq!(ahead(&job(3, JobKind::Assign), &running[..1]), None);
        assert_eq!(ahead(&job(3, JobKind::Erase), &running), None);
        assert_eq!(ahead(&job(3, JobKind::Train), &[]), None);
    }

    #[test]
    fn another_phase_attempt_or_state_is_a_beginning_and_more_done_is_not() {
        let seen = Seen {
            state: JobState::Running,
            attempt: 1,
            cancel_requested: false,
            phase: Some("reading".to_owned()),
            done: 1,
            total: None,
        };
        assert!(seen.began(None));
        assert!(!Seen { done: 2, total: Some(3), ..seen.clone() }.began(Some(&seen)));
        assert!(Seen { phase: None, ..seen.clone() }.began(Some(&seen)));
        assert!(Seen { attempt: 2, ..seen.clone() }.began(Some(&seen)));
        assert!(Seen { cancel_requested: true, ..seen.clone() }.began(Some(&seen)));
    }
}
