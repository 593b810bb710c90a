//! What `facewire migrate` makes: the schema, the streams, and the vector index. `up`, `demo`, the benches and the tests
//! migrate with the same function; services that are run on their own only check.

use facewire_bus::BusError;
use facewire_contracts::subjects;
use facewire_domain::Stage;
use facewire_store_pg::StoreError;
use facewire_store_vec::VecError;
use serde::Serialize;

use crate::parts::Parts;

/// What to do when a check fails.
const HINT: &str = "run `facewire migrate` with the same configuration";

/// One thing that [`migrate`] would make or change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// `postgres`, `nats` or `qdrant`.
    pub store: &'static str,
    /// What it is, in words.
    pub change: String,
}

/// Everything that [`migrate`] would do, in its order; empty where all is up to date.
///
/// # Errors
/// A server that does not answer.
pub async fn plan(parts: &Parts) -> anyhow::Result<Vec<Change>> {
    let mut changes = Vec::new();
    changes.extend(schema_changes(parts).await?);
    changes.extend(stream_changes(parts).await?);
    changes.extend(index_changes(parts).await?);
    Ok(changes)
}

/// Makes and updates the schema, the streams and the vector index, as far as `parts` has them. Idempotent; several
/// processes may do it at once.
///
/// # Errors
/// A server that does not answer or refuses; a vector index that does not fit the configured pack.
pub async fn migrate(parts: &Parts) -> anyhow::Result<()> {
    if let Some(store) = &parts.store {
        store.migrate().await?;
    }
    parts.bus.ensure_streams().await?;
    if let Some(index) = &parts.index {
        index.vectors.ensure(index.dim()?).await?;
    }
    Ok(())
}

/// That what these parts need is there. Changes nothing.
///
/// # Errors
/// What is missing, and the command that makes it; a server that does not answer.
pub async fn check(parts: &Parts) -> anyhow::Result<()> {
    let missing = plan(parts).await?;
    if missing.is_empty() {
        return Ok(());
    }
    let what: Vec<String> = missing.iter().map(ToString::to_string).collect();
    anyhow::bail!("Facewire's servers are not prepared ({}): {HINT}", what.join("; "))
}

/// Whether a check failed only because a server was away.
pub(crate) fn is_transient(error: &anyhow::Error) -> bool {
    let store = error.downcast_ref::<StoreError>();
    let index = error.downcast_ref::<VecError>();
    let bus = error.downcast_ref::<BusError>();
    store.is_some_and(|error| matches!(error, StoreError::Unavailable { .. }))
        || index.is_some_and(VecError::is_transient)
        || bus.is_some_and(|error| matches!(error, BusError::Unreachable(_)))
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.store, self.change)
    }
}

/// Changes of the schema.
async fn schema_changes(parts: &Parts) -> anyhow::Result<Vec<Change>> {
    let Some(store) = &parts.store else { return Ok(Vec::new()) };
    match store.health().await {
        Ok(()) => Ok(Vec::new()),
        // "Undefined table", from the appendix "PostgreSQL Error Codes".
        Err(StoreError::Query { code, .. }) if code.starts_with("42P01") => {
            Ok(vec![Change { store: "postgres", change: "create the schema".to_owned() }])
        }
        Err(error) => Err(error.into()),
    }
}

/// Changes of the streams.
async fn stream_changes(parts: &Parts) -> anyhow::Result<Vec<Change>> {
    let streams = Stage::ALL.map(Stage::stream).into_iter().chain([subjects::RESULTS, subjects::DEAD]);
    let mut changes = Vec::new();
    for stream in streams {
        match parts.bus.stream_messages(stream).await {
            Ok(_) => {}
            Err(BusError::Refused { error, .. }) if error.contains("not found") => {
                changes.push(Change { store: "nats", change: format!("create the stream {stream}") });
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(changes)
}

/// Changes of the vector index.
async fn index_changes(parts: &Parts) -> anyhow::Result<Vec<Change>> {
    let Some(index) = &parts.index else { return Ok(Vec::new()) };
    match index.vectors.count(None).await {
        Ok(_) => Ok(Vec::new()),
        Err(VecError::NoCollection { collection }) => {
            Ok(vec![Change { store: "qdrant", change: format!("create the collection {collection}") }])
        }
        Err(error) => Err(error.into()),
    }
}
