//! A cluster split into several. Which faces belong together is found elsewhere; undoing it is done elsewhere, too.

use std::collections::{HashMap, HashSet};

use facewire_domain::{CollectionId, FaceId};
use sqlx::Connection;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

use crate::act_moves::{Move, Moving, Only, move_faces, sorted};
use crate::acts::{ActKind, ClusterChange, note_clusters, note_detail, open};
use crate::audit::{Actor, EventKind, NewEvent, record};
use crate::cluster_rows::{self, NewRow, NewRows, dissolve_empty, forget_centroids};
use crate::cluster_runs::{Member, judged};
use crate::clusters::ClusterRecord;
use crate::error::StoreError;
use crate::persons::lock_collections;
use crate::row::row;
use crate::store::{Store, run, text};

/// What a split did.
#[derive(Debug, Clone, PartialEq)]
pub struct SplitClusters {
    /// By which it is undone.
    pub act: Uuid,
    /// The new clusters, the largest first.
    pub new: Vec<ClusterRecord>,
    /// The faces that left the cluster: their points are to be written.
    pub faces: Vec<FaceId>,
}

row! {
    struct Original {
        cluster_id: Uuid,
        person_id: Option<Uuid>,
        model: String,
        splits: i32,
    }
}

const FIND: &str = "SELECT cluster_id, person_id, model, splits FROM clusters
                    WHERE collection = $1 AND public_id = $2 AND dissolved_at IS NULL";

// Whose its faces are: a split changes nothing about that.
const FACES: &str =
    "SELECT face_id, person_id FROM faces WHERE cluster_id = $1 AND vector_state <> 'tombstoned' FOR UPDATE";

/// What is to be split, and how.
struct Split<'a> {
    collection: &'a str,
    public_id: &'a str,
    parts: &'a [Vec<Member>],
    rest: &'a [Member],
}

impl Store {
    /// Splits a cluster: each of `parts` becomes a cluster of its own, called `<public id>_sub_<n>`, and the faces of `rest` leave
    /// the cluster and are in none. All others stay; a cluster that no face is left in is dissolved. Whose the faces are stays
    /// too, and so parts of a labelled cluster are labelled as well. The parts' centroids are not known at first: see
    /// [`clusters_without_centroid`](Self::clusters_without_centroid). `None`, and nothing is changed, where there is no such
    /// cluster, or no face of any part is in it by now.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn split_cluster(
        &self,
        collection: &CollectionId,
        public_id: &str,
        parts: &[Vec<Member>],
        rest: &[Member],
        actor: &Actor,
    ) -> Result<Option<SplitClusters>, StoreError> {
        let public_id = text(public_id);
        let split = Split { collection: collection.as_str(), public_id: &public_id, parts, rest };
        let Some(cluster) = self.cluster(collection, &public_id).await? else { return Ok(None) };
        let patience = self.bulk_patience(usize::try_from(cluster.faces).unwrap_or(usize::MAX));
        let done = run!(self, "split cluster", within patience, connection => {
            apply(connection, &split, actor).await
        })?;
        let Some(done) = done else { return Ok(None) };
        let new = self.clusters_by_id(collection, &done.created).await?;
        Ok(Some(SplitClusters { act: done.act, new, faces: done.faces.into_iter().map(FaceId::from).collect() }))
    }
}

/// What was written.
struct Done {
    act: Uuid,
    created: Vec<Uuid>,
    /// The faces that left the cluster.
    faces: Vec<Uuid>,
}

async fn apply(connection: &mut PgConnection, split: &Split<'_>, actor: &Actor) -> Result<Option<Done>, sqlx::Error> {
    let collection = split.collection;
    let mut tx = connection.begin().await?;
    lock_collections(&mut tx, &[collection]).await?;
    let found: Option<Original> =
        sqlx::query_as(FIND).bind(collection).bind(split.public_id).fetch_optional(&mut *tx).await?;
    let Some(original) = found else { return Ok(None) };
    let faces: Vec<(Uuid, Option<Uuid>)> = sqlx::query_as(FACES).bind(original.cluster_id).fetch_all(&mut *tx).await?;
    let (rows, moves) = plan(split, &original, &faces.into_iter().collect());
    if rows.is_empty() {
        return Ok(None);
    }
    let act = open(&mut tx, collection, ActKind::Split, None, actor).await?;
    let only = Only::OfCluster(original.cluster_id);
    let by = actor.stored_name();
    let moved = move_faces(&mut tx, Moving { act, collection, only, by: &by, confirmed: false }, &moves).await?;
    let created = write_clusters(&mut tx, split, &original, &rows).await?;
    note_clusters(&mut tx, act, &created, ClusterChange::Created).await?;
    forget_centroids(&mut tx, &[original.cluster_id]).await?;
    let dissolved = dissolve_empty(&mut tx, &[original.cluster_id]).await?;
    note_clusters(&mut tx, act, &dissolved, ClusterChange::Dissolved).await?;
    let faces: Vec<Uuid> = moved.iter().filter(|face| face.changed()).map(|face| face.face_id).collect();
    let detail = serde_json::json!({ "clusterId": split.public_id, "created": created.len(), "faces": faces.len() });
    note_detail(&mut tx, act, &detail).await?;
    let detail = serde_json::json!({
        "actId": act, "clusterId": split.public_id, "created": created.len(), "faces": faces.len(),
    });
    record(&mut tx, actor, NewEvent { detail, ..NewEvent::of(collection, EventKind::ClusterSplit) }).await?;
    tx.commit().await?;
    Ok(Some(Done { act, created, faces }))
}

/// The clusters to make, and what is to become of the faces. Parts without a face of the cluster are left out; a face that is in
/// two parts is in the first.
fn plan(split: &Split<'_>, original: &Original, owners: &HashMap<Uuid, Option<Uuid>>) -> (Vec<NewRow>, Vec<Move>) {
    let (mut rows, mut moves, mut placed) = (Vec::new(), Vec::new(), HashSet::new());
    let mut place = |members: &[Member], cluster: Option<Uuid>| {
        let before = moves.len();
        for member in members {
            let face = member.face.as_uuid();
            if let Some(person) = owners.get(&face).filter(|_| placed.insert(face)) {
                moves.push(judged(member, *person, cluster));
            }
        }
        moves.len() > before
    };
    for part in split.parts {
        let cluster = Uuid::new_v4();
        if place(part, Some(cluster)) {
            let number = usize::try_from(original.splits).unwrap_or_default() + rows.len() + 1;
            let public_id = format!("{}_sub_{number}", split.public_id);
            rows.push(NewRow { cluster, public_id, centroid: None });
        }
    }
    place(split.rest, None);
    (rows, sorted(moves))
}

/// Makes the clusters, and counts them as split off the original.
async fn write_clusters(
    connection: &mut PgConnection,
    split: &Split<'_>,
    original: &Original,
    rows: &[NewRow],
) -> Result<Vec<Uuid>, sqlx::Error> {
    const COUNT: &str = "UPDATE clusters SET splits = splits + $2 WHERE cluster_id = $1";
    let what = NewRows {
        collection: split.collection,
        model: &original.model,
        job: None,
        parent: Some(original.cluster_id),
        person: original.person_id,
    };
    cluster_rows::insert(connection, what, rows).await?;
    let number = i32::try_from(rows.len()).unwrap_or(i32::MAX);
    sqlx::query(COUNT).bind(original.cluster_id).bind(number).execute(connection).await?;
    Ok(rows.iter().map(|row| row.cluster).collect())
}
