//! What `facewire migrate` makes: the schema, the streams, and the vector index. `up`, `demo`, the benches and the tests
//! migrate with the same function; services that are run on their own only check.

use facewire_bus::BusError;
use facewire_domain::Stage;
use facewire_inference::PackManifest;
use facewire_store_pg::{PendingMigration, RoleChange, RolePrefix, StoreError};
use facewire_store_vec::{Ensured, VecError};
use serde::Serialize;

use crate::Boxed;
use crate::config::Config;
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
/// A server that does not answer; a vector index of another model than the configured pack's; a stage that cannot work with
/// its options.
pub fn plan<'a>(config: &'a Config, parts: &'a Parts) -> Boxed<'a, Vec<Change>> {
    Box::pin(async move {
        config.check_stages(Stage::ALL)?;
        let mut changes = Vec::new();
        changes.extend(schema_changes(parts).await?);
        let streams = parts.bus.plan_streams(&config.stages(), config.reconciler.lease).await?;
        changes.extend(streams.into_iter().map(|change| Change { store: "nats", change: change.to_string() }));
        changes.extend(index_changes(parts).await?);
        Ok(changes)
    })
}

/// Makes and updates the schema, the streams and the vector index, as far as `parts` has them. Idempotent; several
/// processes may do it at once.
///
/// # Errors
/// A server that does not answer or refuses; a vector index that does not fit the configured pack; a stage that cannot work
/// with its options.
pub fn migrate<'a>(config: &'a Config, parts: &'a Parts) -> Boxed<'a, ()> {
    Box::pin(async move {
        config.check_stages(Stage::ALL)?;
        if let Some(store) = &parts.store {
            store.migrate().await?;
        }
        parts.bus.migrate_streams(&config.stages(), config.reconciler.lease).await?;
        ensure_index(parts).await?;
        Ok(())
    })
}

/// Makes the vector index unless it is there; [`migrate`] does it too. Whether it holds no point, and then the reconciler compares
/// everything at once. Idempotent; several processes may do it at once. `parts` without an index: nothing.
///
/// # Errors
/// Qdrant or Postgres does not answer; a vector index that does not fit the configured pack.
pub fn ensure_index(parts: &Parts) -> Boxed<'_, bool> {
    Box::pin(async move {
        let Some(index) = &parts.index else { return Ok(false) };
        let is_empty = index.vectors.ensure(&index.pack.fingerprint(), index.dim()?).await? == Ensured::Created;
        if let (true, Some(store)) = (is_empty, &parts.store) {
            // Whatever Postgres has is missing in it.
            store.forget_pass(facewire_reconciler::SERVICE).await?;
        }
        Ok(is_empty)
    })
}

/// What [`equalise_roles`] would do, in its order; empty where every group role has its rights and no others. [`migrate_roles`] does
/// what of it takes no right away.
///
/// # Errors
/// Postgres does not answer.
pub fn plan_roles<'a>(parts: &'a Parts, prefix: &'a RolePrefix) -> Boxed<'a, Vec<RoleChange>> {
    Box::pin(async move {
        let Some(store) = &parts.store else { return Ok(Vec::new()) };
        Ok(store.role_plan(prefix).await?)
    })
}

/// Makes the group roles that services and operators connect with, and gives each its rights on the schema, which is there. Rights
/// that this release does not list stay: the release before may still run, or be gone back to. Idempotent; several processes may do
/// it at once.
///
/// # Errors
/// Postgres does not answer; the user may make no roles, or does not own the tables.
pub fn migrate_roles<'a>(parts: &'a Parts, prefix: &'a RolePrefix) -> Boxed<'a, ()> {
    Box::pin(async move {
        let Some(store) = &parts.store else { return Ok(()) };
        Ok(store.migrate_roles(prefix).await?)
    })
}

/// [`migrate_roles`], and takes away what this release does not list.
///
/// # Errors
/// As [`migrate_roles`].
pub fn equalise_roles<'a>(parts: &'a Parts, prefix: &'a RolePrefix) -> Boxed<'a, ()> {
    Box::pin(async move {
        let Some(store) = &parts.store else { return Ok(()) };
        Ok(store.equalise_roles(prefix).await?)
    })
}

/// That what these parts need is there. Changes nothing.
///
/// # Errors
/// What is missing, and the command that makes it; a server that does not answer.
pub fn check(parts: &Parts) -> Boxed<'_, ()> {
    Box::pin(async move {
        if let Some(store) = &parts.store {
            store.check_schema().await?;
        }
        parts.bus.check_streams().await?;
        let missing = index_changes(parts).await?;
        if !missing.is_empty() {
            let what: Vec<String> = missing.iter().map(ToString::to_string).collect();
            anyhow::bail!("Facewire's servers are not prepared ({}): {HINT}", what.join("; "));
        }
        // It is there: learns what it takes.
        if let Some(index) = &parts.index {
            index.vectors.ensure(&index.pack.fingerprint(), index.dim()?).await?;
        }
        Ok(())
    })
}

/// Whether a check failed only because a server was away.
pub(crate) fn is_transient(error: &anyhow::Error) -> bool {
    let store = error.downcast_ref::<StoreError>();
    let index = error.downcast_ref::<VecError>();
    let bus = error.downcast_ref::<BusError>();
    store.is_some_and(StoreError::is_transient)
        || index.is_some_and(VecError::is_transient)
        || bus.is_some_and(|error| matches!(error, BusError::Unreachable(_) | BusError::NotReady { .. }))
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.store, self.change)
    }
}

/// Changes of the schema.
async fn schema_changes(parts: &Parts) -> anyhow::Result<Vec<Change>> {
    let Some(store) = &parts.store else { return Ok(Vec::new()) };
    let change = |pending: PendingMigration| Change {
        store: "postgres",
        change: format!("apply migration {}: {}", pending.version, pending.description),
    };
    Ok(store.migration_plan().await?.into_iter().map(change).collect())
}

/// Changes of the vector index.
async fn index_changes(parts: &Parts) -> anyhow::Result<Vec<Change>> {
    let Some(index) = &parts.index else { return Ok(Vec::new()) };
    match index.vectors.serving().await? {
        Some(serving) if serving.is_of(&index.pack.fingerprint(), index.vectors.collection()) => Ok(Vec::new()),
        Some(serving) => {
            let (of, wanted) = (serving.model.unwrap_or(serving.collection), index.pack.fingerprint());
            if gallery_is_of(parts, &wanted).await {
                anyhow::bail!(
                    "the vector index is of the model {of}, and the gallery of {wanted}, which is configured: a switch stopped between \
                     the two, or Postgres is restored from before one. {} makes the index follow",
                    follower(&index.pack)
                )
            }
            anyhow::bail!(
                "the vector index is of the model {of}, and {wanted} is configured: configure the former in models.pack and \
                 models.head, or bring the gallery to the new model with `facewire reembed` or `facewire faces use-head`"
            )
        }
        None => {
            let collection = index.vectors.collection();
            Ok(vec![Change { store: "qdrant", change: format!("create the collection behind the alias {collection}") }])
        }
    }
}

/// Whether Postgres says so. Where it cannot be asked (its schema is not there yet), it does not.
async fn gallery_is_of(parts: &Parts, model: &str) -> bool {
    let Some(store) = &parts.store else { return false };
    store.serving_model().await.ok().flatten().is_some_and(|serving| serving.model == model)
}

/// What brings the index to the gallery's model, which is the configured one.
fn follower(pack: &PackManifest) -> &'static str {
    match pack.head {
        Some(_) => "`facewire faces use-head` with that head",
        None => "`facewire reembed --to` that pack, or `facewire faces use-head --revert` where a head served,",
    }
}
