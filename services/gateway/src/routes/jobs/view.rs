//! Jobs as the API says them.

use facewire_domain::{JobKind, Scope};
use facewire_store_pg::JobRecord;
use serde::Serialize;
use serde_json::{Value, json};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::super::follow::Followed;
use crate::caller::Caller;

/// Long work on the faces of a collection.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Job {
    job_id: Uuid,
    /// `cluster`, `assign`, `prototypes`, `train`, `erase` or `export`.
    kind: &'static str,
    collection: String,
    /// `queued`, `running`, `succeeded`, `failed` or `cancelled`.
    state: &'static str,
    /// Somebody asked for its end while it ran: it ends at the next step.
    cancel_requested: bool,
    /// How often a worker began it.
    attempt: u32,
    /// What it was told, with the defaults of what was not given. Of an erasure only its `kind`, unless the key has the scope admin.
    #[schema(value_type = Object)]
    params: Value,
    progress: JobProgress,
    /// Where it succeeded; each kind has fields of its own. Of an erasure none, unless the key has the scope admin.
    #[schema(value_type = Option<Object>)]
    result: Option<Value>,
    /// Where it failed: why.
    error: Option<String>,
    /// Who asked for it: the key's name, or a command.
    actor: String,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    /// When a worker began it, the last time.
    #[serde(with = "time::serde::rfc3339::option")]
    started_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option")]
    finished_at: Option<OffsetDateTime>,
}

/// How far a job is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct JobProgress {
    /// What it does; none before it begins.
    phase: Option<String>,
    /// Of this phase.
    done: u64,
    /// Of this phase; none where it is not known.
    total: Option<u64>,
}

impl Job {
    /// As whoever asks may see it: what is erased, and what was, is for admins, as the receipt is.
    pub(crate) fn seen(row: JobRecord, by: &Caller) -> Self {
        let is_hidden = row.kind == JobKind::Erase && by.has(Scope::Admin).is_err();
        let job = Self::from(row);
        if !is_hidden {
            return job;
        }
        let params = json!({ "kind": job.params.get("kind") });
        Self { params, result: None, ..job }
    }
}

/// All of it: for whoever begins it, or decides about it.
impl From<JobRecord> for Job {
    fn from(row: JobRecord) -> Self {
        Self {
            job_id: row.job.as_uuid(),
            kind: row.kind.as_str(),
            collection: row.collection.to_string(),
            state: row.state.as_str(),
            cancel_requested: row.cancel_requested,
            attempt: row.attempt,
            params: row.params,
            progress: JobProgress { phase: row.progress.phase, done: row.progress.done, total: row.progress.total },
            result: row.result,
            error: row.error,
            actor: row.actor.name,
            created_at: row.created_at,
            started_at: row.started_at,
            finished_at: row.finished_at,
        }
    }
}

impl Followed for Job {
    fn has_ended(&self) -> bool {
        self.finished_at.is_some()
    }
}
