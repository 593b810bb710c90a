//! The kind `cluster`: the faces that are nobody's are grouped; in dual mode those of known people are given to them
//! first. Clusters that are still the same keep their ids. How faces are grouped is in `exact` and `graph`.

use std::collections::{BTreeMap, HashMap, HashSet};

use facewire_domain::{ClusterId, ClusterParams, FaceId, JobKind, PersonId};
use facewire_gallery::GalleryError;
use facewire_store_pg::{
    ActRecord, AssignChanges, CHUNK, ClusterChanges, ClusterRecord, ClusterRun, JobSignal, NewAssignment, StoreError,
    UnknownFilter,
};
use serde::{Deserialize, Serialize};
use serde_json::Value as JsonValue;
use uuid::Uuid;

use super::clusters::{Former, Found};
use super::decide::{Decider, rule};
use super::rows::Choice;
use super::{Task, assign, exact, graph, told};
use crate::failure::JobError;

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

/// What a run counted. Its act keeps it, for whoever takes the job over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Counts {
    faces: u64,
    clusters: u64,
    noise: u64,
    approximate: bool,
}

impl Counts {
    /// Of what was found beside so many faces of known people.
    fn of(found: &Found, known: u64) -> Self {
        Self {
            faces: found.faces() + known,
            clusters: found.clusters.len() as u64,
            noise: found.noise.len() as u64,
            approximate: found.approximate,
        }
    }

    /// As an act has them.
    fn kept(act: &ActRecord, changes: &ClusterChanges) -> Self {
        // An earlier release kept none: of each, the least that it can have been.
        let least = Self {
            faces: changes.moved,
            clusters: changes.kept + changes.created.len() as u64,
            noise: 0,
            approximate: false,
        };
        serde_json::from_value(act.detail.clone()).unwrap_or(least)
    }
}

/// The acts of a job so far, which nobody undid.
struct Written {
    assigned: Option<ActRecord>,
    clusters: Option<ActRecord>,
}

impl Written {
    async fn of(task: Task<'_>) -> Result<Self, JobError> {
        let acts = task.context.ask(|| task.context.store().acts_of_job(task.record.job)).await?;
        // An act is called as the kind of job that does it alone.
        let of = |kind: JobKind| acts.iter().find(|act| act.kind == kind.as_str()).cloned();
        Ok(Self { assigned: of(JobKind::Assign), clusters: of(JobKind::Cluster) })
    }

    /// What is undone where the other does not come.
    fn half(&self) -> Option<Uuid> {
        match (&self.assigned, &self.clusters) {
            (Some(act), None) => Some(act.act),
            _ => None,
        }
    }
}

/// What was written of a run.
struct Done {
    assigned: Option<AssignChanges>,
    changes: ClusterChanges,
    counts: Counts,
}

pub(super) async fn run(task: Task<'_>, params: &ClusterParams) -> Result<JsonValue, JobError> {
    let written = Written::of(task).await?;
    if let Some(act) = &written.clusters {
        return finish(task, params, act, written.assigned.is_some()).await;
    }
    // An earlier attempt gave people their faces: what is left is to be grouped.
    let goes_on = written.assigned.is_some();
    if goes_on && task.record.cancel_requested {
        return Err(JobError::Withdrawn);
    }
    if task.spent {
        let why = "it was taken up as often as may be, and no worker came to its end";
        return Err(JobError::Refused(why.to_owned()));
    }
    let (context, none) = (task.context, HashSet::new());
    let filter = UnknownFilter {
        min_quality: params.quality_threshold,
        captured_since: params.since,
        captured_until: params.until,
        ..UnknownFilter::default()
    };
    let mut choice = Choice::of(task.collection(), filter, &none);
    let chosen = choice.narrow(context, params.max_faces).await?;
    let known = if params.assign_known && !goes_on { known(task, params, &choice, chosen).await? } else { Vec::new() };
    let found = find(task, params, choice, chosen, &known).await?;
    if params.dry_run {
        return told(&preview(params, known.len() as u64, &found));
    }
    let done = write(task, &known, goes_on, &found).await?;
    let ours: HashSet<ClusterId> = found.clusters.iter().map(|cluster| cluster.cluster).collect();
    tell(task, params, done, &known, |cluster| ours.contains(&cluster.cluster)).await
}

/// Groups the chosen faces that are not known people's.
async fn find(
    task: Task<'_>,
    params: &ClusterParams,
    choice: Choice<'_>,
    chosen: u64,
    known: &[NewAssignment],
) -> Result<Found, JobError> {
    let context = task.context;
    let theirs: HashSet<FaceId> = known.iter().map(|found| found.face).collect();
    let partial = is_partial(params, &choice);
    let rest = Choice { without: &theirs, ..choice };
    let expected = chosen.saturating_sub(known.len() as u64);
    let members = context.ask(|| context.store().cluster_members(task.collection())).await?;
    let former = Former::of(&members, &theirs, partial);
    if expected > context.options.exact_faces() {
        graph::find(task, params, &rest, former, expected).await
    } else {
        exact::find(task, params, &rest, former, expected).await
    }
}

/// Ends a job whose clusters an earlier attempt wrote, with what was written.
async fn finish(
    task: Task<'_>,
    params: &ClusterParams,
    act: &ActRecord,
    assigned: bool,
) -> Result<JsonValue, JobError> {
    task.progress.commit();
    let context = task.context;
    let assigned = if assigned { Some(assign::write(task, &[], &[]).await?) } else { None };
    let changes = context.ask(|| context.store().clusters_changed_by(act)).await?;
    let counts = Counts::kept(act, &changes);
    let done = Done { assigned, changes, counts };
    // The act touched each cluster of its run.
    tell(task, params, done, &[], |cluster| cluster.updated_at >= act.at).await
}

/// The result of what was written, once the points follow. `is_ours`: whether a cluster is of the run.
async fn tell(
    task: Task<'_>,
    params: &ClusterParams,
    done: Done,
    known: &[NewAssignment],
    is_ours: impl Fn(&ClusterRecord) -> bool,
) -> Result<JsonValue, JobError> {
    let Done { assigned, changes, counts } = done;
    let mut changed = changes.faces;
    changed.extend(assigned.iter().flat_map(assign::changed));
    task.context.index(&changed, task.progress).await?;
    let given: &[FaceId] = match &assigned {
        Some(assigned) => &assigned.assigned,
        None => &[],
    };
    let named = if params.assign_known { Some(names(task, known, given, is_ours).await?) } else { None };
    told(&Clustered {
        act_id: Some(changes.act),
        assign_act_id: assigned.as_ref().map(|assigned| assigned.act),
        faces: counts.faces,
        clusters: counts.clusters,
        noise: counts.noise,
        created: changes.created,
        kept: changes.kept,
        dissolved: changes.dissolved,
        moved: changes.moved,
        approximate: counts.approximate,
        assigned: params.assign_known.then_some(given.len() as u64),
        dry_run: params.dry_run,
        named,
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

/// What would be written, beside faces of so many known people's.
fn preview(params: &ClusterParams, known: u64, found: &Found) -> Clustered {
    let counts = Counts::of(found, known);
    Clustered {
        act_id: None,
        assign_act_id: None,
        faces: counts.faces,
        clusters: counts.clusters,
        noise: counts.noise,
        created: Vec::new(),
        kept: found.kept(),
        dissolved: Vec::new(),
        moved: found.moved,
        approximate: counts.approximate,
        assigned: params.assign_known.then_some(known),
        dry_run: params.dry_run,
        named: None,
    }
}

/// Writes what was found: people first, then clusters. Where the second may not be written any more, the first stays
/// until the job ends ([`take_back`]): whoever takes it over goes on from there. `goes_on`: people have their faces.
async fn write(task: Task<'_>, known: &[NewAssignment], goes_on: bool, found: &Found) -> Result<Done, JobError> {
    let (context, actor) = (task.context, &task.record.actor);
    let writes = goes_on || !known.is_empty();
    let assigned = if writes { Some(assign::write(task, known, &[]).await?) } else { None };
    task.progress.begin("writing", 0);
    task.progress.commit();
    let given = assigned.as_ref().map_or(0, |assigned| assigned.assigned.len());
    let counts = Counts::of(found, known.len().max(given) as u64);
    let (detail, model) = (told(&counts)?, context.gallery.model.as_str());
    let run = ClusterRun { collection: task.collection(), model, clusters: &found.clusters, noise: &found.noise };
    let written = context.ask(|| context.store().apply_counted_clusters(task.token(), &run, &detail, actor)).await?;
    let changes = written.ok_or(JobError::Withdrawn)?;
    Ok(Done { assigned, changes, counts })
}

/// Undoes what was given to people where the clusters do not come.
///
/// # Errors
/// [`JobError::BeingErased`]: until the erasure of whoever has the faces comes to its end, nothing of theirs changes hands. Nobody
/// waits for it here, since the worker may be the one that is to do it.
pub(super) async fn take_back(task: Task<'_>) -> Result<(), JobError> {
    let (context, actor) = (task.context, &task.record.actor);
    let Some(act) = Written::of(task).await?.half() else { return Ok(()) };
    task.progress.begin("undoing", 0);
    // An undoing says nobody's token: whoever has lost the job leaves it to whoever has it now.
    let (store, lease, now) = (context.store(), context.options.lease, task.progress.now());
    if context.ask(|| store.renew_job(task.token(), lease, &now)).await? == JobSignal::Lost {
        return Err(JobError::Withdrawn);
    }
    match context.ask(|| context.gallery.undo(act, actor)).await {
        Ok(_) => Ok(()),
        Err(JobError::Store(GalleryError::Rows(StoreError::BeingErased))) => Err(JobError::BeingErased),
        Err(error) => Err(error),
    }
}

/// The largest names of a dual run.
async fn names(
    task: Task<'_>,
    known: &[NewAssignment],
    given: &[FaceId],
    is_ours: impl Fn(&ClusterRecord) -> bool,
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
    let (store, collection, most) = (task.context.store(), task.collection(), NAMED as u32);
    let (clusters, _) = task.context.ask(|| store.clusters_page(collection, false, 1, most)).await?;
    let clusters = clusters.into_iter().filter(is_ours);
    named.extend(clusters.map(|cluster| Named { name: cluster.name, faces: cluster.faces }));
    named.sort_by_key(|named| std::cmp::Reverse(named.faces));
    named.truncate(NAMED);
    Ok(named)
}

#[cfg(test)]
mod tests {
    use facewire_store_pg::Actor;

    use super::*;

    #[test]
    fn an_act_tells_what_was_counted_and_one_of_an_earlier_release_the_least() {
        let act = |detail| ActRecord {
            act: Uuid::nil(),
            collection: "office".parse().unwrap(),
            kind: "cluster".to_owned(),
            job: None,
            detail,
            at: time::OffsetDateTime::UNIX_EPOCH,
            actor: Actor::named("a test"),
            undone_at: None,
            undone_by: None,
            faces: 5,
            clusters: 1,
        };
        let (created, dissolved) = (vec!["clu_1".to_owned()], Vec::new());
        let changes = ClusterChanges { act: Uuid::nil(), created, kept: 2, dissolved, moved: 5, faces: Vec::new() };
        let counts = Counts { faces: 9, clusters: 3, noise: 1, approximate: true };
        assert_eq!(Counts::kept(&act(told(&counts).unwrap()), &changes), counts);
        let least = Counts { faces: 5, clusters: 3, noise: 0, approximate: false };
        assert_eq!(Counts::kept(&act(serde_json::json!({ "created": 1, "kept": 2 })), &changes), least);
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
