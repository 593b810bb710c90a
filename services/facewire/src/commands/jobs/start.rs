//! Starting a job: its row first, then the message that wakes a worker, then the wait for its end where one is wanted.

use std::io::IsTerminal;

use anyhow::{Context, anyhow};
use facewire_bus::Bus;
use facewire_composition::{Config, Parts};
use facewire_domain::{CollectionId, JobKind, JobState};
use facewire_store_pg::{Actor, JobRecord, Store, StoreError};
use serde_json::Value as JsonValue;

use super::follow::{self, Changes};
use super::show::{self, Told};
use crate::cli::Waiting;
use crate::commands::connect;
use crate::output::{self, Exit};

/// A job to be started, and what its command does then.
pub(in crate::commands) struct NewJob<'a> {
    /// Who starts it, as connections, rows and the audit trail name it behind `facewire`.
    pub(in crate::commands) command: &'static str,
    /// What it does.
    pub(in crate::commands) kind: JobKind,
    /// Where.
    pub(in crate::commands) collection: &'a CollectionId,
    /// The parameters of its kind, checked.
    pub(in crate::commands) params: JsonValue,
    /// Whether the command waits for its end.
    pub(in crate::commands) waiting: Waiting,
    /// Whether it answers in JSON.
    pub(in crate::commands) json: bool,
}

/// Starts a job. Exit status 1 where it was waited for and did not succeed, or the waiting ended first.
pub(in crate::commands) async fn start(config: &Config, new: NewJob<'_>) -> anyhow::Result<Exit> {
    let servers = Servers::connect(config, new.command).await?;
    let job = servers.begin(&new).await?;
    servers.settle(job, new.waiting, new.json).await
}

/// Starts a job and waits for its end, which the caller tells; `None`: the waiting ended first.
pub(in crate::commands) async fn start_and_wait(config: &Config, new: NewJob<'_>) -> anyhow::Result<Option<JobRecord>> {
    let servers = Servers::connect(config, new.command).await?;
    let job = servers.begin(&new).await?;
    follow::to_the_end(&servers.store, job.job, Changes::Bar).await
}

/// Tells the end of a job.
pub(in crate::commands) fn ended(job: &JobRecord, json: bool) -> anyhow::Result<()> {
    if json {
        return output::json(&Told::of(job));
    }
    show::ended(job);
    Ok(())
}

/// What a job is started with: Postgres and NATS, checked to be migrated.
pub(super) struct Servers {
    pub(super) store: Store,
    bus: Bus,
}

impl Servers {
    pub(super) async fn connect(config: &Config, command: &str) -> anyhow::Result<Self> {
        let (bus, store) = (connect::nats(config, command).await?, connect::postgres(config).await?);
        let parts = Parts { bus, store: Some(store.clone()), index: None, images: None, chain: None };
        facewire_composition::check(&parts).await?;
        Ok(Self { store, bus: parts.bus })
    }

    /// Makes a job and wakes a worker.
    async fn begin(&self, new: &NewJob<'_>) -> anyhow::Result<JobRecord> {
        let actor = Actor::named(&format!("facewire {}", new.command));
        let created = self.store.create_job(new.kind, new.collection, &new.params, &actor).await.map_err(refused)?;
        let job = created.with_context(|| format!("there is no collection {}", new.collection))?;
        self.send(&job).await;
        Ok(job)
    }

    /// Wakes a worker. The row counts: a job whose message did not arrive is found by the jobs service.
    pub(super) async fn send(&self, job: &JobRecord) {
        if let Err(error) = self.bus.publish_job(job.kind, job.job, job.attempt).await {
            output::say(format_args!(
                "NATS did not take the message of job {} ({error}): it is queued, and the jobs service finds it later",
                job.job
            ));
        }
    }

    /// Says that a job is queued, or waits for its end and shows it.
    pub(super) async fn settle(&self, job: JobRecord, waiting: Waiting, json: bool) -> anyhow::Result<Exit> {
        if !waiting.wanted(std::io::stderr().is_terminal()) {
            queued(&job, json)?;
            return Ok(Exit::Success);
        }
        let Some(ended) = follow::to_the_end(&self.store, job.job, Changes::Bar).await? else {
            return Ok(Exit::Failed);
        };
        self::ended(&ended, json)?;
        Ok(if ended.state == JobState::Succeeded { Exit::Success } else { Exit::Failed })
    }
}

/// Why a job is not queued: too many of its kind are.
pub(super) fn refused(error: StoreError) -> anyhow::Error {
    match error {
        StoreError::Conflict { .. } => anyhow!(
            "{} jobs of this kind wait or run in the collection: wait for their end, or cancel some; \
             `facewire jobs list` shows them",
            Store::OPEN_JOBS
        ),
        error => error.into(),
    }
}

fn queued(job: &JobRecord, json: bool) -> anyhow::Result<()> {
    if json {
        return output::json(&Told::of(job));
    }
    let id = job.job;
    output::line(format_args!("job {id} is queued"));
    output::say(format_args!("`facewire jobs watch {id}` follows it, `facewire jobs cancel {id}` stops it"));
    Ok(())
}
