//! What an assignment found, applied in one transaction: faces that are nobody's given to known people, others into open clusters.
//! Finding out whose they are is done elsewhere; so is giving faces to people by hand.

use std::collections::{HashMap, HashSet};

use facewire_domain::{ClusterId, CollectionId, FaceId, PersonId, decimal};
use serde_json::Value as JsonValue;
use sqlx::Connection;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

use crate::act_moves::{Move, Moved, Moving, Only, move_faces, sorted};
use crate::acts::{ActKind, done_by, open};
use crate::audit::{Actor, EventKind, NewEvent, record_all};
use crate::cluster_rows::{forget_centroids, open_of};
use crate::cluster_runs::close_run;
use crate::erasure_jobs::being_erased;
use crate::error::StoreError;
use crate::job_lease::{JobToken, hold_job};
use crate::negatives;
use crate::persons::{lock_collections, present_in};
use crate::store::{CHUNK, Store, run};

/// A face, and whose it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NewAssignment {
    /// The face.
    pub face: FaceId,
    /// The person.
    pub person: PersonId,
    /// The cosine similarity by which it was decided; the event tells it.
    pub similarity: f32,
}

/// What applying an assignment changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssignChanges {
    /// By which it is undone.
    pub act: Uuid,
    /// Faces that have a person now, as far as they are still there: their points are to be written.
    pub assigned: Vec<FaceId>,
    /// Faces that are said not to be that person's, and stay nobody's.
    pub refused: u64,
    /// Faces that are in a cluster now, as before.
    pub joined: Vec<FaceId>,
}

impl Store {
    /// Applies an assignment, all or nothing, in the name of the job whose token it is. `None`, and nothing is changed, where the
    /// job was cancelled, ended or is at another worker. Only faces that are nobody's get a person, and leave their cluster;
    /// only those that are in no cluster join one, if it is open. Whoever was merged meanwhile stands for the person that took
    /// over; of people who are gone nothing is assigned. No face counts as confirmed. A second call for the job, in whatever
    /// attempt, changes nothing and answers as the first did.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn apply_assignments(
        &self,
        token: JobToken,
        collection: &CollectionId,
        assignments: &[NewAssignment],
        joins: &[(FaceId, ClusterId)],
        actor: &Actor,
    ) -> Result<Option<AssignChanges>, StoreError> {
        let patience = self.bulk_patience(assignments.len() + joins.len());
        run!(self, "apply assignments", within patience, connection => {
            apply(connection, token, collection.as_str(), assignments, joins, actor).await
        })
    }
}

async fn apply(
    connection: &mut PgConnection,
    token: JobToken,
    collection: &str,
    assignments: &[NewAssignment],
    joins: &[(FaceId, ClusterId)],
    actor: &Actor,
) -> Result<Option<AssignChanges>, sqlx::Error> {
    let mut tx = connection.begin().await?;
    lock_collections(&mut tx, &[collection]).await?;
    if let Some((act, detail)) = done_by(&mut tx, token.job, ActKind::Assign).await? {
        return done(&mut tx, act, &detail).await.map(Some);
    }
    // From here on nobody else takes the job up.
    if !hold_job(&mut tx, token).await? {
        return Ok(None);
    }
    let act = open(&mut tx, collection, ActKind::Assign, Some(token.job), actor).await?;
    let (moves, refused) = allowed(&mut tx, collection, assignments).await?;
    let by = Actor::job(token.job);
    let moving = Moving { act, collection, only: Only::Unknown, by: &by.name, confirmed: false };
    let assigned = move_faces(&mut tx, moving, &moves).await?;
    record_assigned(&mut tx, actor, collection, act, assignments, &assigned).await?;

    let opened = open_of(&mut tx, collection).await?;
    let to_open = joins.iter().filter(|(_, cluster)| opened.contains(&cluster.as_uuid()));
    let moves = to_open.map(|(face, cluster)| Move::unjudged(face.as_uuid(), None, Some(cluster.as_uuid())));
    let moving = Moving { only: Only::UnknownWithoutCluster, ..moving };
    let joined = move_faces(&mut tx, moving, &sorted(moves.collect())).await?;
    let left: HashSet<Uuid> = assigned.iter().filter_map(|face| face.former_cluster).collect();
    forget_centroids(&mut tx, &left.into_iter().collect::<Vec<_>>()).await?;

    let detail = serde_json::json!({ "assigned": assigned.len(), "refused": refused, "joined": joined.len() });
    let changes = done(&mut tx, act, &detail).await?;
    if !close_run(&mut tx, actor, collection, token, act, detail).await? {
        return Ok(None);
    }
    tx.commit().await?;
    Ok(Some(changes))
}

/// The faces that may be given to the persons who are there, by face, and how many are said not to be theirs.
async fn allowed(
    connection: &mut PgConnection,
    collection: &str,
    assignments: &[NewAssignment],
) -> Result<(Vec<Move>, usize), sqlx::Error> {
    let persons: HashSet<Uuid> = assignments.iter().map(|item| item.person.as_uuid()).collect();
    let mut persons = present_in(connection, collection, &persons.into_iter().collect::<Vec<_>>()).await?;
    // The faces would be erased with them.
    let erased = being_erased(connection, &[collection]).await?;
    persons.retain(|_, person| !erased.contains(person));
    let to = |item: &NewAssignment| {
        let person = persons.get(&item.person.as_uuid()).copied()?;
        Some(Move::unjudged(item.face.as_uuid(), Some(person), None))
    };
    let mut moves = sorted(assignments.iter().filter_map(to).collect());
    let mut negatives = HashSet::new();
    for chunk in moves.chunks(CHUNK) {
        let faces: Vec<Uuid> = chunk.iter().map(|face| face.face).collect();
        negatives.extend(negatives::pairs_of(connection, &faces).await?);
    }
    let wanted = moves.len();
    moves.retain(|face| face.person.is_none_or(|person| !negatives.contains(&(face.face, person))));
    let refused = wanted - moves.len();
    Ok((moves, refused))
}

/// Records each face that was given to a person, with its similarity.
async fn record_assigned(
    connection: &mut PgConnection,
    actor: &Actor,
    collection: &str,
    act: Uuid,
    assignments: &[NewAssignment],
    assigned: &[Moved],
) -> Result<(), sqlx::Error> {
    let similarity: HashMap<Uuid, f32> =
        assignments.iter().map(|item| (item.face.as_uuid(), item.similarity)).collect();
    let event = |face: &Moved| {
        let similarity = similarity.get(&face.face_id).copied().map(decimal);
        NewEvent {
            person: face.person_id.map(PersonId::from),
            face: Some(face.face_id.into()),
            detail: serde_json::json!({ "actId": act, "similarity": similarity }),
            ..NewEvent::of(collection, EventKind::FaceAssigned)
        }
    };
    record_all(connection, actor, &assigned.iter().map(event).collect::<Vec<_>>()).await
}

/// What an act did, as this or an earlier call answers.
async fn done(connection: &mut PgConnection, act: Uuid, detail: &JsonValue) -> Result<AssignChanges, sqlx::Error> {
    const FACES: &str = "SELECT face_id, person IS NOT NULL FROM act_faces WHERE act_id = $1 ORDER BY face_id";
    let faces: Vec<(Uuid, bool)> = sqlx::query_as(FACES).bind(act).fetch_all(connection).await?;
    let (assigned, joined): (Vec<_>, Vec<_>) = faces.into_iter().partition(|(_, given)| *given);
    let ids = |faces: Vec<(Uuid, bool)>| faces.into_iter().map(|(face, _)| FaceId::from(face)).collect();
    let refused = detail.get("refused").and_then(JsonValue::as_u64).unwrap_or_default();
    Ok(AssignChanges { act, assigned: ids(assigned), refused, joined: ids(joined) })
}
