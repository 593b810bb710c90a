//! `facewire jobs`: list, show, cancel, retry, watch; and starting a job, for the commands whose work is one. What a
//! job does stands in the jobs service.

mod follow;
mod show;
mod start;

use anyhow::{Context, bail};
use facewire_composition::Config;
use facewire_domain::{JobId, JobState};
use facewire_store_pg::{Actor, JobFilter, JobRecord, Store};
use serde_json::json;

use super::connect;
use crate::cli::{Jobs, JobsCommand, ListJobs, Waiting};
use crate::output::{self, Exit};

use follow::Changes;
use show::Told;
use start::Servers;

pub(super) use start::{NewJob, ended, start, start_and_wait};

/// Who changed it, as rows and the audit trail say.
const BY: &str = "facewire jobs";

pub(crate) async fn run(config: Config, args: &Jobs) -> anyhow::Result<Exit> {
    let json = args.json;
    match &args.command {
        JobsCommand::List(which) => list(&store(&config).await?, which, json).await,
        JobsCommand::Show { job } => show::one(&found(store(&config).await?.job(*job).await?, *job)?, json),
        JobsCommand::Cancel { job } => cancel(&store(&config).await?, *job, json).await,
        JobsCommand::Retry { job, waiting } => retry(&config, *job, *waiting, json).await,
        JobsCommand::Watch { job } => watch(&store(&config).await?, *job, json).await,
    }
}

/// Postgres, checked to be migrated. Only who queues a job needs NATS: all else is in its row.
async fn store(config: &Config) -> anyhow::Result<Store> {
    let store = connect::postgres(config).await?;
    store.check_schema().await?;
    Ok(store)
}

fn found(job: Option<JobRecord>, id: JobId) -> anyhow::Result<JobRecord> {
    job.with_context(|| format!("there is no job {id}; `facewire jobs list` shows the newest"))
}

async fn list(store: &Store, which: &ListJobs, json: bool) -> anyhow::Result<Exit> {
    let collections = (!which.collections.is_empty()).then(|| which.collections.clone());
    let filter = JobFilter { collections, kind: which.kind, state: which.state };
    let wanted = usize::try_from(which.limit)?;
    let (mut jobs, mut after) = (Vec::new(), None);
    while jobs.len() < wanted {
        let page = store.jobs(&filter, after, u32::try_from(wanted - jobs.len())?).await?;
        let Some(last) = page.last() else { break };
        after = Some((last.created_at, last.job));
        jobs.extend(page);
    }
    if json {
        output::json(&json!({ "jobs": jobs.iter().map(Told::of).collect::<Vec<_>>() }))?;
    } else if jobs.is_empty() {
        output::line("no job fits; `facewire faces cluster` starts one");
    } else {
        output::line(show::table(&jobs));
    }
    Ok(Exit::Success)
}

async fn cancel(store: &Store, job: JobId, json: bool) -> anyhow::Result<Exit> {
    let record = found(store.cancel_job(job, &Actor::named(BY)).await?, job)?;
    let text = match record.state {
        JobState::Queued | JobState::Running if !record.cancel_requested => {
            bail!("job {job} erases and has begun: it comes to its end and is not cancelled")
        }
        JobState::Cancelled => format!("job {job} is cancelled"),
        JobState::Queued | JobState::Running => {
            format!("job {job} is asked to stop; `facewire jobs watch {job}` tells when it has")
        }
        JobState::Succeeded | JobState::Failed => bail!("job {job} is over: it {}", record.state),
    };
    if json {
        output::json(&Told::of(&record))?;
    } else {
        output::line(text);
    }
    Ok(Exit::Success)
}

async fn retry(config: &Config, job: JobId, waiting: Waiting, json: bool) -> anyhow::Result<Exit> {
    let servers = Servers::connect(config, "jobs").await?;
    let queued = servers.store.retry_job(job, &Actor::named(BY)).await.map_err(start::refused)?;
    let record = found(queued, job)?;
    match record.state {
        JobState::Queued => {
            servers.send(&record).await;
            servers.settle(record, waiting, json).await
        }
        JobState::Running => bail!("job {job} runs: `facewire jobs watch {job}` follows it"),
        JobState::Succeeded => bail!("job {job} succeeded: start another one to do it again"),
        JobState::Failed | JobState::Cancelled => bail!("job {job} cannot be queued again"),
    }
}

async fn watch(store: &Store, job: JobId, json: bool) -> anyhow::Result<Exit> {
    let changes = if json { Changes::Lines } else { Changes::Bar };
    let Some(record) = follow::to_the_end(store, job, changes).await? else { return Ok(Exit::Failed) };
    if !json {
        show::ended(&record);
    }
    Ok(if record.state == JobState::Succeeded { Exit::Success } else { Exit::ProblemsFound })
}
