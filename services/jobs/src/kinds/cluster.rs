//! The kind `cluster`: the faces that are nobody's are grouped; in dual mode those of known people are given to them
//! first. Clusters that are still the same keep their ids. How faces are grouped is in `exact` and `graph`.

use std::collections::{BTreeMap, HashMap, HashSet};

use facewire_domain::{ClusterId, ClusterParams, FaceId, PersonId};
use facewire_store_pg::{AssignChanges, CHUNK, ClusterChanges, ClusterRun, JobSignal, NewAssignment, UnknownFilter};
use serde::Serialize;
use serde_json::Value as JsonValue;
use uuid::Uuid;

use super::clusters::{Former, Found};
use super::decide::{Decider, rule};
use super::rows::Choice;
use super::{Task, assign, exact, graph, told};
use crate::failure::{Fate, JobError};

/// Names that a result tells, at most: the largest.
const NAMED: usize = 1000;

/// What came of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Clustered {
    /// The act, by which it is undone; none where nothing was written.
    act_id: Option<Uuid>,
    /// In dual mode, the act that gave faces to people.
    #[serde(skip_serializing_if = "Option::is_none")]
    assign_act_id: Option<Uuid>,
    /// Faces that were looked at.
    faces: u64,
    /// Clusters now.
    clusters: u64,
    /// Faces of none of them.
    noise: u64,
    /// Clusters that are new.
    created: Vec<String>,
    /// Clusters that are still the same.
    kept: u64,
    /// Clusters that are no more.
    dissolved: Vec<String>,
    /// Faces whose cluster changed.
    moved: u64,
    /// Clusters may be split or missing: they rest on an approximate graph of neighbours.
    approximate: bool,
    /// In dual mode, faces that were given to people.
    #[serde(skip_serializing_if = "Option::is_none")]
    assigned: Option<u64>,
    /// Only counted.
    dry_run: bool,
    /// In dual mode, how many faces each name has now.
    #[serde(skip_serializing_if = "Option::is_none")]
    named: Option<Vec<Named>>,
}

/// How many faces of a run have a name.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Named {
    /// `person_<id>`, or `unknown_cluster_<n>`.
    name: String,
    faces: u64,
}

pub(super) async fn run(task: Task<'_>, params: &ClusterParams) -> Result<JsonValue, JobError> {
    let (context, none) = (task.context, HashSet::new());
    let filter = UnknownFilter {
        min_quality: params.quality_threshold,
        captured_since: params.since,
        captured_until: params.until,
        ..UnknownFilter::default()
    };
    let mut choice = Choice::of(task.collection(), filter, &none);
    let chosen = choice.narrow(context, params.max_faces).await?;
    let known = if params.assign_known { known(task, params, &choice, chosen).await? } else { Vec::new() };
    let theirs: HashSet<FaceId> = known.iter().map(|found| found.face).collect();
    let partial = is_partial(params, &choice);
    let rest = Choice { without: &theirs, ..choice };
    let expected = chosen.saturating_sub(known.len() as u64);
    let members = context.ask(|| context.store().cluster_members(task.collection())).await?;
    let former = Former::of(&members, &theirs, partial);
    let found = if expected > context.options.exact_faces() {
        graph::find(task, params, &rest, former, expected).await?
    } else {
        exact::find(task, params, &rest, former, expected).await?
    };
    if params.dry_run {
        return told(&preview(params, &known, &found));
    }
    let (assigned, changes) = write(task, params, &known, &found).await?;
    let mut changed = changes.faces.clone();
    changed.extend(assigned.iter().flat_map(assign::changed));
    context.index(&changed, task.progress).await?;
    let given: &[FaceId] = match &assigned {
        Some(assigned) => &assigned.assigned,
        None => &[],
    };
    let named = if params.assign_known { Some(names(task, &known, given, &found).await?) } else { None };
    told(&Clustered {
        act_id: Some(changes.act),
        assign_act_id: assigned.as_ref().map(|assigned| assigned.act),
        created: changes.created,
        kept: changes.kept,
        dissolved: changes.dissolved,
        moved: changes.moved,
        assigned: params.assign_known.then_some(given.len() as u64),
        named,
        ..preview(params, &known, &found)
    })
}

/// Whether the parameters leave out faces that are nobody's.
fn is_partial(params: &ClusterParams, choice: &Choice<'_>) -> bool {
    let of_a_time = params.since.is_some() || params.until.is_some();
    of_a_time || params.quality_threshold.is_some() || choice.skip.is_some()
}

/// Whose faces are known people's.
async fn known(
    task: Task<'_>,
    params: &ClusterParams,
    choice: &Choice<'_>,
    chosen: u64,
) -> Result<Vec<NewAssignment>, JobError> {
    let applied = rule(task.context, task.collection(), params.person_threshold, None).await?;
    let decider = Decider::new(task.context, task.progress, task.collection(), applied.rule);
    task.progress.begin("assigning", chosen);
    Ok(assign::decide(task.context, task.progress, choice, Some(decider), None).await?.assigned)
}

/// What would be written.
fn preview(params: &ClusterParams, known: &[NewAssignment], found: &Found) -> Clustered {
    Clustered {
        act_id: None,
        assign_act_id: None,
        faces: found.faces() + known.len() as u64,
        clusters: found.clusters.len() as u64,
        noise: found.noise.len() as u64,
        created: Vec::new(),
        kept: found.kept(),
        dissolved: Vec::new(),
        moved: found.moved,
        approximate: found.approximate,
        assigned: params.assign_known.then_some(known.len() as u64),
        dry_run: params.dry_run,
        named: None,
    }
}

/// Writes what was found: people first, then clusters. Where the second may not be written any more, the first is
/// undone, unless another worker has the job: it finds the first written, and goes on from there.
async fn write(
    task: Task<'_>,
    params: &ClusterParams,
    known: &[NewAssignment],
    found: &Found,
) -> Result<(Option<AssignChanges>, ClusterChanges), JobError> {
    let (context, actor) = (task.context, &task.record.actor);
    // An earlier attempt may have written them, so that there is nobody left to be known.
    let writes = params.assign_known && (!known.is_empty() || task.record.attempt > 1);
    let assigned = if writes { Some(assign::write(task, known, &[]).await?) } else { None };
    task.progress.begin("writing", 0);
    task.progress.commit();
    let model = context.gallery.model.as_str();
    let run = ClusterRun { collection: task.collection(), model, clusters: &found.clusters, noise: &found.noise };
    let written = context.ask(|| context.store().apply_clusters(task.token(), &run, actor)).await;
    let refused = match written {
        Ok(Some(changes)) => return Ok((assigned, changes)),
        Ok(None) => JobError::Withdrawn,
        // Whoever tries again finds the assignments written.
        Err(error) if error.fate() == Fate::Waits => return Err(error),
        Err(error) => error,
    };
    let Some(assigned) = assigned else { return Err(refused) };
    let (store, lease, now) = (context.store(), context.options.lease, task.progress.now());
    let signal = context.ask(|| store.renew_job(task.token(), lease, &now)).await?;
    if undoes(signal, &refused) {
        context.ask(|| context.gallery.undo(assigned.act, actor)).await?;
    }
    Err(refused)
}

/// Whether people keep none of what they were given because the clusters were refused. An undoing says nobody's token:
/// whoever has lost the job leaves it to whoever has it now.
fn undoes(signal: JobSignal, refused: &JobError) -> bool {
    match signal {
        JobSignal::Cancel => true,
        // Withdrawn, it is tried again; else it fails.
        JobSignal::Continue => !matches!(refused, JobError::Withdrawn),
        JobSignal::Lost => false,
    }
}

/// The largest names of a dual run.
async fn names(
    task: Task<'_>,
    known: &[NewAssignment],
    given: &[FaceId],
    found: &Found,
) -> Result<Vec<Named>, JobError> {
    let mut persons: HashMap<FaceId, PersonId> = known.iter().map(|found| (found.face, found.person)).collect();
    // Those that an earlier attempt gave away.
    let others: Vec<FaceId> = given.iter().filter(|face| !persons.contains_key(face)).copied().collect();
    for part in others.chunks(CHUNK) {
        let faces = task.context.ask(|| task.context.store().faces(part)).await?;
        persons.extend(faces.iter().filter_map(|face| Some((face.record.face, face.record.person?))));
    }
    let mut counts: BTreeMap<PersonId, u64> = BTreeMap::new();
    for person in given.iter().filter_map(|face| persons.get(face)) {
        *counts.entry(*person).or_default() += 1;
    }
    let mut named: Vec<Named> =
        counts.into_iter().map(|(person, faces)| Named { name: format!("person_{person}"), faces }).collect();
    let ours: HashSet<ClusterId> = found.clusters.iter().map(|cluster| cluster.cluster).collect();
    let (store, collection, most) = (task.context.store(), task.collection(), NAMED as u32);
    let (clusters, _) = task.context.ask(|| store.clusters_page(collection, false, 1, most)).await?;
    let clusters = clusters.into_iter().filter(|cluster| ours.contains(&cluster.cluster));
    named.extend(clusters.map(|cluster| Named { name: cluster.name, faces: cluster.faces }));
    named.sort_by_key(|named| std::cmp::Reverse(named.faces));
    named.truncate(NAMED);
    Ok(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_has_the_job_takes_back_what_it_wrote() {
        let failed = JobError::Refused("it makes no sense".to_owned());
        for (signal, withdrawn, fails) in
            [(JobSignal::Cancel, true, true), (JobSignal::Continue, false, true), (JobSignal::Lost, false, false)]
        {
            assert_eq!(undoes(signal, &JobError::Withdrawn), withdrawn, "{signal:?}");
            assert_eq!(undoes(signal, &failed), fails, "{signal:?}");
        }
    }

    #[test]
    fn a_run_of_chosen_faces_is_partial() {
        let (collection, none) = ("office".parse().unwrap(), HashSet::new());
        let all = Choice::of(&collection, UnknownFilter::default(), &none);
        let whole = ClusterParams::default();
        assert!(!is_partial(&whole, &all));
        assert!(is_partial(&ClusterParams { quality_threshold: Some(0.0), ..whole.clone() }, &all));
        let moment = time::OffsetDateTime::UNIX_EPOCH;
        for params in [
            ClusterParams { since: Some(moment), ..whole.clone() },
            ClusterParams { until: Some(moment), ..whole.clone() },
        ] {
            assert!(is_partial(&params, &all));
        }
        // Whoever asks for more faces than there are has all of them.
        let most = ClusterParams { max_faces: Some(9), ..whole };
        assert!(!is_partial(&most, &all));
        assert!(is_partial(&most, &Choice { skip: Some((moment, 0)), ..all }));
    }
}
