//! The kind `assign`: faces that are nobody's are given to known people, and what is nobody's still joins the nearest
//! cluster that nobody has named. Also what the dual mode of `cluster` and the joining between runs have in common with
//! it.

use std::collections::HashSet;
use std::sync::Arc;

use facewire_domain::{AssignParams, ClusterId, FaceId};
use facewire_store_pg::{Actor, AssignChanges, NewAssignment, UnknownFilter};
use serde::Serialize;
use serde_json::Value as JsonValue;
use uuid::Uuid;

use super::decide::{BLOCK, Decider, Joiner, joining, rule};
use super::rows::{Choice, Reader};
use super::{Context, Task, told};
use crate::SERVICE;
use crate::failure::JobError;
use crate::progress::Progress;

/// What came of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Assigned {
    /// The act, by which it is undone; none where nothing was written.
    act_id: Option<Uuid>,
    /// Faces that were compared.
    faces: u64,
    /// Faces that were given to people.
    assigned: u64,
    /// Faces of which somebody had said that they are not that person's.
    refused: u64,
    /// Faces that joined clusters.
    joined: u64,
    /// Only counted.
    dry_run: bool,
}

/// What was decided of a choice of faces.
#[derive(Debug, Default)]
pub(crate) struct Decided {
    pub(crate) faces: u64,
    pub(crate) assigned: Vec<NewAssignment>,
    pub(crate) joins: Vec<(FaceId, ClusterId)>,
}

pub(super) async fn run(task: Task<'_>, params: &AssignParams) -> Result<JsonValue, JobError> {
    let (context, collection) = (task.context, task.collection());
    let only_joins = is_our_own(task);
    let filter = UnknownFilter {
        min_quality: params.quality_threshold,
        created_since: params.since,
        without_cluster: only_joins,
        ..UnknownFilter::default()
    };
    let none = HashSet::new();
    let choice = Choice::of(collection, filter, &none);
    let expected = choice.count(context).await?;
    if task.record.attempt > 1 && context.ask(|| context.store().has_written(task.record.job)).await? {
        return finish(task, expected).await;
    }
    let applied = rule(context, collection, params.threshold, params.margin).await?;
    let open = if params.join_clusters {
        let (store, model) = (context.store(), &context.gallery.model);
        context.ask(|| store.open_clusters(collection, model)).await?
    } else {
        Vec::new()
    };
    let joins = joining(&applied, open.len());
    let joiner = Joiner::new(open, joins, context.dim());
    let decider = (!only_joins).then(|| Decider::new(context, task.progress, collection, applied.rule));
    task.progress.begin("assigning", expected);
    let found = decide(context, task.progress, &choice, decider, Some(&joiner)).await?;
    let (faces, dry_run) = (found.faces, params.dry_run);
    let counted = Assigned {
        act_id: None,
        faces,
        assigned: found.assigned.len() as u64,
        refused: 0,
        joined: found.joins.len() as u64,
        dry_run,
    };
    if dry_run || (found.assigned.is_empty() && found.joins.is_empty()) {
        return told(&counted);
    }
    let changes = write(task, &found.assigned, &found.joins).await?;
    context.index(&changed(&changes), task.progress).await?;
    let (assigned, joined) = (changes.assigned.len() as u64, changes.joined.len() as u64);
    told(&Assigned { act_id: Some(changes.act), assigned, refused: changes.refused, joined, ..counted })
}

/// Whether the service made the job itself, so that new faces join clusters (`joining`): whoever takes it over gives
/// none to people, which nobody asked for.
fn is_our_own(task: Task<'_>) -> bool {
    task.record.actor == Actor::named(SERVICE)
}

/// Ends a job that an earlier attempt wrote for, with what was written. `left`: faces that it would compare now.
async fn finish(task: Task<'_>, left: u64) -> Result<JsonValue, JobError> {
    let changes = write(task, &[], &[]).await?;
    task.context.index(&changed(&changes), task.progress).await?;
    let (assigned, joined) = (changes.assigned.len() as u64, changes.joined.len() as u64);
    // What joined a cluster is nobody's still, but one of our own looks only at what is in none.
    let faces = if is_our_own(task) { left + assigned + joined } else { left + assigned };
    told(&Assigned { act_id: Some(changes.act), faces, assigned, refused: changes.refused, joined, dry_run: false })
}

/// Decides a choice of faces, block by block.
///
/// # Errors
/// What cannot be compared; of Postgres, while draining.
pub(crate) async fn decide(
    context: &Context,
    progress: &Arc<Progress>,
    choice: &Choice<'_>,
    mut decider: Option<Decider<'_>>,
    joiner: Option<&Joiner>,
) -> Result<Decided, JobError> {
    let (mut reader, mut all) = (Reader::new(context, choice), Decided::default());
    while let Some(rows) = reader.block(BLOCK).await? {
        let read = rows.faces.len() as u64;
        let rows = Arc::new(rows);
        let assigned = match &mut decider {
            Some(decider) => decider.decide(&rows).await?,
            None => Vec::new(),
        };
        if let Some(joiner) = joiner.filter(|joiner| !joiner.is_empty()) {
            let given: HashSet<FaceId> = assigned.iter().map(|found| found.face).collect();
            let joins = joiner.join(context, progress, &rows).await?;
            let joins = joins.into_iter().filter(|(row, _)| !given.contains(&row.face));
            all.joins.extend(joins.map(|(row, cluster)| (row.face, cluster)));
        }
        all.assigned.extend(assigned);
        all.faces += read;
        progress.add(read);
    }
    Ok(all)
}

/// Writes what was decided, in one transaction; what is nobody's no more by then stays as it is.
///
/// # Errors
/// [`JobError::Withdrawn`], and nothing is written; of Postgres.
pub(crate) async fn write(
    task: Task<'_>,
    assigned: &[NewAssignment],
    joins: &[(FaceId, ClusterId)],
) -> Result<AssignChanges, JobError> {
    task.progress.begin("writing", 0);
    task.progress.commit();
    let (store, actor) = (task.context.store(), &task.record.actor);
    let written = task.context.ask(|| store.apply_assignments(task.token(), task.collection(), assigned, joins, actor));
    written.await?.ok_or(JobError::Withdrawn)
}

/// The faces whose points have to follow.
pub(crate) fn changed(changes: &AssignChanges) -> Vec<FaceId> {
    changes.assigned.iter().chain(&changes.joined).copied().collect()
}
