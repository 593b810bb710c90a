//! What a clustering found, applied in one transaction: clusters made, kept and dissolved, faces that change theirs. Only faces
//! that are nobody's change. Computing clusters, and telling which are still the same, is done elsewhere.

use std::collections::{HashMap, HashSet};

use facewire_domain::{ClusterId, CollectionId, FaceId};
use serde_json::Value as JsonValue;
use sqlx::Connection;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

use crate::act_moves::{Move, Moved, Moving, Only, move_faces, sorted};
use crate::acts::{ActKind, ActRecord, ClusterChange, clusters_of, done_by, note_clusters, note_detail, open};
use crate::audit::{Actor, EventKind, NewEvent, record};
use crate::cluster_rows::{self, NewRow, NewRows, dissolve_empty, forget_centroids, open_of, public_id};
use crate::embedding;
use crate::error::StoreError;
use crate::job_lease::{JobToken, hold_job};
use crate::persons::lock_collections;
use crate::store::{CHUNK, Store, run, text};

/// A face as a clustering judged it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Member {
    /// The face.
    pub face: FaceId,
    /// How firmly it belongs to its cluster, 0 to 1.
    pub probability: f32,
    /// How far it is from what is dense around it, 0 to 1.
    pub outlier: f32,
}

/// A cluster of a clustering. Its `Debug` shows nothing biometric.
#[derive(Clone, PartialEq)]
pub struct NewCluster {
    /// Its id: that of the open cluster that it continues, or a random one.
    pub cluster: ClusterId,
    /// It continues none.
    pub is_new: bool,
    /// The mean of its embeddings; finite numbers only.
    pub centroid: Vec<f32>,
    /// Its faces.
    pub members: Vec<Member>,
}

impl std::fmt::Debug for NewCluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewCluster")
            .field("cluster", &self.cluster)
            .field("is_new", &self.is_new)
            .field("members", &self.members.len())
            .finish_non_exhaustive()
    }
}

/// What a clustering found.
#[derive(Debug, Clone, Copy)]
pub struct ClusterRun<'a> {
    /// Of which collection.
    pub collection: &'a CollectionId,
    /// The model of the embeddings.
    pub model: &'a str,
    /// The clusters; new ones get their numbers in this order.
    pub clusters: &'a [NewCluster],
    /// Faces that are in none. Faces that are neither here nor in a cluster stay as they are.
    pub noise: &'a [Member],
}

/// What applying it changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterChanges {
    /// By which it is undone.
    pub act: Uuid,
    /// The public ids of clusters that were made.
    pub created: Vec<String>,
    /// How many clusters continue an earlier one.
    pub kept: u64,
    /// The public ids of clusters that no face is left in.
    pub dissolved: Vec<String>,
    /// Faces that changed their cluster, went into one or out of one.
    pub moved: u64,
    /// Those faces, as far as they are still there: their points are to be written.
    pub faces: Vec<FaceId>,
}

impl Store {
    /// Applies a clustering, all or nothing, in the name of the job whose token it is. `None`, and nothing is changed, where the
    /// job was cancelled, ended or is at another worker. Left as they are: faces that have a person by now or are gone, and
    /// faces of a cluster that was to be continued and is open no more. Clusters without a face are dissolved, also those that
    /// were so before. A second call for the job, in whatever attempt, changes nothing and answers as the first did. `counts`, a
    /// JSON object without names and without ids of people, goes into the act's detail, where whoever takes the job over finds what
    /// was counted when it was written.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a centroid that is empty or holds what is not a number; the index is the cluster's.
    pub async fn apply_counted_clusters(
        &self,
        token: JobToken,
        run: &ClusterRun<'_>,
        counts: &JsonValue,
        actor: &Actor,
    ) -> Result<Option<ClusterChanges>, StoreError> {
        let moves = moves_of(run)?;
        let patience = self.bulk_patience(moves.len());
        run!(self, "apply clusters", within patience, connection => {
            apply(connection, token, run, &moves, counts, actor).await
        })
    }

    /// What an act of a clustering changed, as the call that wrote it answered.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn clusters_changed_by(&self, act: &ActRecord) -> Result<ClusterChanges, StoreError> {
        run!(self, "clusters of an act", connection => done(connection, act.act, &act.detail).await)
    }
}

/// What each face is to be, where every centroid can be stored. Their bytes are made where they are written: kept from here on, they
/// would be a copy more than what a clustering is known to take.
fn moves_of(run: &ClusterRun<'_>) -> Result<Vec<Move>, StoreError> {
    let what = "its centroid is empty or holds what is not a number";
    if let Some(index) = run.clusters.iter().position(|cluster| embedding::to_bytes(&cluster.centroid).is_none()) {
        return Err(StoreError::Invalid { index, what });
    }
    let in_clusters = run.clusters.iter().flat_map(|cluster| {
        let id = cluster.cluster.as_uuid();
        cluster.members.iter().map(move |member| judged(member, None, Some(id)))
    });
    let noise = run.noise.iter().map(|member| judged(member, None, None));
    Ok(sorted(in_clusters.chain(noise).collect()))
}

/// What a face is to be that was judged.
pub(crate) fn judged(member: &Member, person: Option<Uuid>, cluster: Option<Uuid>) -> Move {
    let (probability, outlier) = (Some(member.probability), Some(member.outlier));
    Move { face: member.face.as_uuid(), person, cluster, probability, outlier }
}

async fn apply(
    connection: &mut PgConnection,
    token: JobToken,
    run: &ClusterRun<'_>,
    moves: &[Move],
    counts: &JsonValue,
    actor: &Actor,
) -> Result<Option<ClusterChanges>, sqlx::Error> {
    let collection = run.collection.as_str();
    let mut tx = connection.begin().await?;
    lock_collections(&mut tx, &[collection]).await?;
    if let Some((act, detail)) = done_by(&mut tx, token.job, ActKind::Cluster).await? {
        return done(&mut tx, act, &detail).await.map(Some);
    }
    // From here on nobody else takes the job up.
    if !hold_job(&mut tx, token).await? {
        return Ok(None);
    }
    let act = open(&mut tx, collection, ActKind::Cluster, Some(token.job), actor).await?;
    let opened = open_of(&mut tx, collection).await?;
    let created = run.clusters.iter().filter(|cluster| cluster.is_new).map(|cluster| cluster.cluster.as_uuid());
    let usable: HashSet<Uuid> = created.chain(opened.iter().copied()).collect();
    let has_place = |face: &&Move| face.cluster.is_none_or(|cluster| usable.contains(&cluster));
    let moves: Vec<Move> = moves.iter().filter(has_place).copied().collect();
    let by = actor.stored_name();
    let moving = Moving { act, collection, only: Only::Unknown, by: &by, confirmed: false };
    let found = move_faces(&mut tx, moving, &moves).await?;

    let (created, kept) = write_clusters(&mut tx, token, run, &found).await?;
    let dissolved = dissolve_empty(&mut tx, &opened.into_iter().collect::<Vec<_>>()).await?;
    note_clusters(&mut tx, act, &created, ClusterChange::Created).await?;
    note_clusters(&mut tx, act, &dissolved, ClusterChange::Dissolved).await?;
    let moved = found.iter().filter(|face| face.changed()).count();
    let mut detail = serde_json::json!({
        "created": created.len(), "kept": kept, "dissolved": dissolved.len(), "moved": moved,
    });
    if let (Some(fields), Some(counts)) = (detail.as_object_mut(), counts.as_object()) {
        fields.extend(counts.clone());
    }
    let changes = done(&mut tx, act, &detail).await?;
    if !close_run(&mut tx, actor, collection, token, act, detail).await? {
        return Ok(None);
    }
    tx.commit().await?;
    Ok(Some(changes))
}

/// Makes the new clusters that have a face, and sets the centroids of those that continue. A centroid is kept only if it is the
/// mean of the cluster's faces, of all and of no other: one of them may have been erased, or given to somebody, since it was
/// computed, and a cluster that continues may have faces that the run was not of. Returns the new ones, and how many continue.
async fn write_clusters(
    connection: &mut PgConnection,
    token: JobToken,
    run: &ClusterRun<'_>,
    found: &[Moved],
) -> Result<(Vec<Uuid>, usize), sqlx::Error> {
    let mut present: HashMap<Uuid, usize> = HashMap::with_capacity(run.clusters.len());
    for cluster in found.iter().filter_map(|face| face.cluster_id) {
        *present.entry(cluster).or_default() += 1;
    }
    let former = run.clusters.iter().filter(|cluster| !cluster.is_new).map(|cluster| cluster.cluster.as_uuid());
    let whole = sizes_of(connection, &former.collect::<Vec<_>>()).await?;
    let (mut created, mut continued) = (Vec::new(), Vec::new());
    for cluster in run.clusters {
        let id = cluster.cluster.as_uuid();
        let Some(faces) = present.get(&id) else { continue };
        let of_all = *faces == cluster.members.len() && (cluster.is_new || whole.get(&id) == Some(faces));
        let centroid = if of_all { embedding::to_bytes(&cluster.centroid) } else { None };
        if cluster.is_new {
            created.push(NewRow { cluster: id, public_id: public_id(id), centroid });
        } else {
            continued.push((id, centroid));
        }
    }
    let left: HashSet<Uuid> =
        found.iter().filter(|face| face.changed()).filter_map(|face| face.former_cluster).collect();
    let ids: HashSet<Uuid> = continued.iter().map(|(id, _)| *id).collect();
    forget_centroids(connection, &left.difference(&ids).copied().collect::<Vec<_>>()).await?;
    let model = text(run.model);
    cluster_rows::set_centroids(connection, &model, &continued).await?;
    let collection = run.collection.as_str();
    let what = NewRows { collection, model: &model, job: Some(token.job), ..NewRows::default() };
    cluster_rows::insert(connection, what, &created).await?;
    Ok((created.into_iter().map(|row| row.cluster).collect(), continued.len()))
}

/// How many faces each of these clusters has now; those without one are missing.
async fn sizes_of(connection: &mut PgConnection, clusters: &[Uuid]) -> Result<HashMap<Uuid, usize>, sqlx::Error> {
    const SQL: &str = "
SELECT cluster_id, count(*) FROM faces WHERE cluster_id = ANY($1::uuid[]) AND vector_state <> 'tombstoned' GROUP BY cluster_id";
    let mut sizes = HashMap::with_capacity(clusters.len());
    for chunk in clusters.chunks(CHUNK) {
        let rows: Vec<(Uuid, i64)> = sqlx::query_as(SQL).bind(chunk).fetch_all(&mut *connection).await?;
        let size = |(cluster, faces): (Uuid, i64)| (cluster, usize::try_from(faces).unwrap_or(usize::MAX));
        sizes.extend(rows.into_iter().map(size));
    }
    Ok(sizes)
}

/// Notes with its counts what a job did with a collection's clusters, and records it. `false`: the job was cancelled meanwhile,
/// or is at another worker, and nothing of it is to be kept.
pub(crate) async fn close_run(
    connection: &mut PgConnection,
    actor: &Actor,
    collection: &str,
    token: JobToken,
    act: Uuid,
    mut detail: JsonValue,
) -> Result<bool, sqlx::Error> {
    note_detail(connection, act, &detail).await?;
    if let Some(fields) = detail.as_object_mut() {
        fields.insert("actId".to_owned(), serde_json::json!(act));
        fields.insert("jobId".to_owned(), serde_json::json!(token.job));
    }
    let event = NewEvent::of(collection, EventKind::ClustersChanged);
    record(connection, actor, NewEvent { detail, ..event }).await?;
    hold_job(connection, token).await
}

/// What an act did, as this or an earlier call answers.
async fn done(connection: &mut PgConnection, act: Uuid, detail: &JsonValue) -> Result<ClusterChanges, sqlx::Error> {
    const FACES: &str = "SELECT face_id FROM act_faces WHERE act_id = $1 ORDER BY face_id";
    let created = clusters_of(connection, act, ClusterChange::Created).await?;
    let dissolved = clusters_of(connection, act, ClusterChange::Dissolved).await?;
    let faces: Vec<Uuid> = sqlx::query_scalar(FACES).bind(act).fetch_all(connection).await?;
    let number = |field: &str| detail.get(field).and_then(JsonValue::as_u64).unwrap_or_default();
    let faces = faces.into_iter().map(FaceId::from).collect();
    Ok(ClusterChanges { act, created, kept: number("kept"), dissolved, moved: number("moved"), faces })
}
