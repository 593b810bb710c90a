//! An act undone: each face that is still as the act made it is as before. What somebody changed since stays as it is, and so does
//! what a human confirmed of what a job did.

use facewire_domain::{CollectionId, FaceId, PersonId};
use sqlx::Connection;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

use crate::acts::ActKind;
use crate::audit::{Actor, EventKind, NewEvent, record, record_all};
use crate::erasure_jobs::being_erased;
use crate::error::StoreError;
use crate::persons::lock_collections;
use crate::row::row;
use crate::store::{CHUNK, Store, run};

/// What undoing an act did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undone {
    /// What was undone: `cluster`, `assign`, `label` or `split`.
    pub kind: String,
    /// Of which collection.
    pub collection: CollectionId,
    /// The faces that are as before: their points are to be written.
    pub faces: Vec<FaceId>,
}

row! {
    struct Found {
        collection: String,
        kind: String,
    }
}

// Removing old acts waits for whoever undoes one, or is seen.
const FIND: &str = "
SELECT collection, kind FROM acts WHERE act_id = $1 AND undone_at IS NULL AND NOT expired FOR UPDATE";

const OF_ERASED: &str = "
SELECT EXISTS (SELECT FROM act_faces
    WHERE act_id = $1 AND (person = ANY($2::uuid[]) OR former_person = ANY($2::uuid[])))";

// A face goes back into its former cluster where the act dissolved it (that is made good below), or where it is there and is open, was
// labelled by the act, or is of the person whose the face is again. What was labelled may have gone since, with an erased person.
const GIVE_BACK: &str = "
WITH part AS MATERIALIZED (
    SELECT a.face_id, a.former_person, a.person, a.cluster,
           CASE WHEN k.change = 'dissolved' OR (c.dissolved_at IS NULL
                    AND (k.change = 'labelled' OR c.person_id IS NULL OR a.former_person IS NOT NULL))
               THEN c.cluster_id END AS former_cluster
    FROM act_faces a LEFT JOIN clusters c ON c.cluster_id = a.former_cluster
    LEFT JOIN act_clusters k ON k.act_id = a.act_id AND k.cluster_id = a.former_cluster
    WHERE a.act_id = $1 AND a.face_id > $2 ORDER BY a.face_id LIMIT $3
), there AS MATERIALIZED (
    SELECT p.*, f.person_id IS DISTINCT FROM p.former_person AS given
    FROM faces f JOIN part p ON p.face_id = f.face_id
    WHERE f.person_id IS NOT DISTINCT FROM p.person AND f.cluster_id IS NOT DISTINCT FROM p.cluster
      AND f.vector_state <> 'tombstoned' AND NOT ($4 AND f.confirmed)
    ORDER BY f.face_id FOR UPDATE OF f
), back AS (
    UPDATE faces f SET person_id = t.former_person, cluster_id = t.former_cluster,
        cluster_probability = CASE WHEN f.cluster_id = t.former_cluster THEN f.cluster_probability END,
        cluster_outlier = CASE WHEN f.cluster_id = t.former_cluster THEN f.cluster_outlier END,
        assigned_by = CASE WHEN t.given THEN $5 ELSE f.assigned_by END,
        assigned_at = CASE WHEN t.given THEN now() ELSE f.assigned_at END,
        confirmed = f.confirmed AND NOT t.given,
        origin = CASE WHEN t.former_person IS NULL THEN 'kept' ELSE f.origin END,
        vector_state = CASE f.vector_state WHEN 'indexed' THEN 'pending' ELSE f.vector_state END, updated_at = now()
    FROM there t WHERE f.face_id = t.face_id
)
SELECT p.face_id, p.person, p.former_person, t.face_id IS NOT NULL AS is_back, coalesce(t.given, false) AS given
FROM part p LEFT JOIN there t ON t.face_id = p.face_id ORDER BY p.face_id";

row! {
    struct Part {
        face_id: Uuid,
        person: Option<Uuid>,
        former_person: Option<Uuid>,
        is_back: bool,
        given: bool,
    }
}

const UNSET_PROTOTYPES: &str = "
DELETE FROM prototypes t USING faces f
WHERE t.face_id = ANY($1::uuid[]) AND f.face_id = t.face_id AND f.person_id IS DISTINCT FROM t.person_id";

/// What becomes of the act's clusters once its faces are back, in this order.
const CLUSTERS: [&str; 4] = [
    // A cluster whose faces went on to somebody else stays labelled.
    "UPDATE clusters c SET person_id = NULL, updated_at = clock_timestamp() FROM act_clusters k
     WHERE k.act_id = $1 AND k.change = 'labelled' AND c.cluster_id = k.cluster_id AND NOT EXISTS (
        SELECT FROM faces f WHERE f.cluster_id = c.cluster_id AND f.person_id IS NOT NULL AND f.vector_state <> 'tombstoned')",
    "UPDATE clusters c SET dissolved_at = NULL, updated_at = clock_timestamp() FROM act_clusters k
     WHERE k.act_id = $1 AND k.change = 'dissolved' AND c.cluster_id = k.cluster_id AND EXISTS (
        SELECT FROM faces f WHERE f.cluster_id = c.cluster_id AND f.vector_state <> 'tombstoned')",
    // One that others joined since stays, with them.
    "UPDATE clusters c SET dissolved_at = coalesce(c.dissolved_at, now()), updated_at = clock_timestamp() FROM act_clusters k
     WHERE k.act_id = $1 AND k.change = 'created' AND c.cluster_id = k.cluster_id AND NOT EXISTS (
        SELECT FROM faces f WHERE f.cluster_id = c.cluster_id AND f.vector_state <> 'tombstoned')",
    // Their faces changed.
    "UPDATE clusters SET centroid = NULL, updated_at = clock_timestamp() WHERE cluster_id IN (
        SELECT former_cluster FROM act_faces WHERE act_id = $1 AND former_cluster IS DISTINCT FROM cluster
        UNION SELECT cluster FROM act_faces WHERE act_id = $1 AND former_cluster IS DISTINCT FROM cluster)",
];

impl Store {
    /// Undoes an act. Each face whose person and cluster are still what the act made them gets those of before; but a face that a
    /// job gave to a person and that a human has confirmed since stays theirs, and no face goes back into a cluster that is
    /// gone or somebody's by now. Clusters that the act made are dissolved, unless other faces came into them, those that it
    /// dissolved are there again, and those that it labelled are not labelled any more. A person whom it made stays, also
    /// without faces. `None` where there is no such act, or it was undone or removed for its age.
    ///
    /// # Errors
    /// [`StoreError::BeingErased`] where an unfinished erasure concerns whose a face was before or by the act.
    pub async fn undo_act(&self, act: Uuid, actor: &Actor) -> Result<Option<Undone>, StoreError> {
        let Some(found) = self.act(act).await? else { return Ok(None) };
        let patience = self.bulk_patience(usize::try_from(found.faces).unwrap_or(usize::MAX));
        let undone = run!(self, "undo an act", within patience, connection => {
            undo(connection, act, found.collection.as_str(), actor).await
        })??;
        let told = |(kind, faces): (String, Vec<Uuid>)| Undone {
            kind,
            collection: found.collection.clone(),
            faces: faces.into_iter().map(FaceId::from).collect(),
        };
        Ok(undone.map(told))
    }
}

/// What an attempt came to: the kind of the act, and the faces that are back; refused where somebody is being erased.
type Attempt = Result<Option<(String, Vec<Uuid>)>, StoreError>;

/// Undoes the act in one transaction.
async fn undo(
    connection: &mut PgConnection,
    act: Uuid,
    collection: &str,
    actor: &Actor,
) -> Result<Attempt, sqlx::Error> {
    const DONE: &str = "UPDATE acts SET undone_at = now(), undone_by = $2 WHERE act_id = $1";
    let mut tx = connection.begin().await?;
    lock_collections(&mut tx, &[collection]).await?;
    let found: Option<Found> = sqlx::query_as(FIND).bind(act).fetch_optional(&mut *tx).await?;
    let Some(found) = found.filter(|found| found.collection == collection) else { return Ok(Ok(None)) };
    // Faces that went back would outlive their erased person, or be erased with another.
    let erased = being_erased(&mut tx, &[collection]).await?;
    let of_erased: bool = sqlx::query_scalar(OF_ERASED).bind(act).bind(&erased).fetch_one(&mut *tx).await?;
    if of_erased {
        return Ok(Err(StoreError::BeingErased));
    }
    let faces = give_back(&mut tx, act, &found, actor).await?;
    for follow in CLUSTERS {
        sqlx::query(follow).bind(act).execute(&mut *tx).await?;
    }
    sqlx::query(DONE).bind(act).bind(actor.stored_name()).execute(&mut *tx).await?;
    let detail = serde_json::json!({ "actId": act, "kind": found.kind, "faces": faces.len() });
    record(&mut tx, actor, NewEvent { detail, ..NewEvent::of(collection, EventKind::ActUndone) }).await?;
    tx.commit().await?;
    Ok(Ok(Some((found.kind, faces))))
}

/// Gives back what is still as the act made it, with an event for each face whose person changes.
async fn give_back(
    connection: &mut PgConnection,
    act: Uuid,
    found: &Found,
    actor: &Actor,
) -> Result<Vec<Uuid>, sqlx::Error> {
    let (by_job, by) = (found.kind == ActKind::Assign.as_str(), actor.stored_name());
    let (mut back, mut after) = (Vec::new(), Uuid::nil());
    loop {
        let part: Vec<Part> = sqlx::query_as(GIVE_BACK)
            .bind(act)
            .bind(after)
            .bind(CHUNK as i64)
            .bind(by_job)
            .bind(&by)
            .fetch_all(&mut *connection)
            .await?;
        let Some(last) = part.last() else { return Ok(back) };
        after = last.face_id;
        let given: Vec<&Part> = part.iter().filter(|face| face.given).collect();
        let ids: Vec<Uuid> = given.iter().map(|face| face.face_id).collect();
        sqlx::query(UNSET_PROTOTYPES).bind(&ids).execute(&mut *connection).await?;
        let event = |face: &&Part| NewEvent {
            person: face.former_person.map(PersonId::from),
            other: face.person.map(PersonId::from),
            face: Some(face.face_id.into()),
            detail: serde_json::json!({ "actId": act }),
            ..NewEvent::of(&found.collection, EventKind::FaceAssigned)
        };
        record_all(connection, actor, &given.iter().map(event).collect::<Vec<_>>()).await?;
        back.extend(part.iter().filter(|face| face.is_back).map(|face| face.face_id));
    }
}
