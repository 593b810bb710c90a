//! Whose face it is, changed after enrolment: faces given to a person, taken from one, split off into a new one. A face keeps
//! its id; its point has to be written again, so an indexed row becomes pending.

use std::collections::HashSet;

use facewire_domain::{CollectionId, FaceId, JobId, PersonId, SubjectId};
use sqlx::Connection;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

use crate::audit::{Actor, EventKind, NewEvent, record, record_all};
use crate::cluster_rows::forget_centroids;
use crate::enrol_plan::clean_name;
use crate::erasure::{Columns as ErasedColumns, ErasedFace};
use crate::erasure_jobs::{any_is_being_erased, being_erased};
use crate::error::StoreError;
use crate::negatives;
use crate::person_edit::{PersonCreation, insert_person, visible, write_person};
use crate::persons::lock_collections;
use crate::prototypes::fill_exemplars;
use crate::store::{Store, run};

/// A new person who was made of some faces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// The new person.
    pub person: PersonId,
    /// The faces that went along.
    pub faces: Vec<FaceId>,
}

/// Whose faces are to be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Assignment {
    /// The person; `None`: nobody.
    pub to: Option<PersonId>,
    /// The faces are not whose they were: that is remembered as a negative, which matching and later assignments respect.
    pub not_this_person: bool,
    /// Also of faces that are said not to be `to`'s; what was said is forgotten.
    pub force: bool,
}

impl Assignment {
    /// To this person, or to nobody, unless somebody said that a face is not theirs.
    pub fn to(person: Option<PersonId>) -> Self {
        Self { to: person, ..Self::default() }
    }
}

/// What became of faces that were to be assigned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Assigned {
    /// Those that changed hands.
    pub moved: Vec<FaceId>,
    /// Those that are said not to be the person's, and stay where they are.
    pub refused: Vec<FaceId>,
}

/// How the name of a job as an actor begins.
const JOB: &str = "job:";

impl Actor {
    /// A job. Whose faces are by what a job does is not confirmed: it may be changed without asking anybody.
    pub fn job(job: JobId) -> Self {
        Self::named(&format!("{JOB}{job}"))
    }

    /// Whether it is a job and no human: it uses no key, and its name says so. A key may be called as its owner likes.
    pub fn is_job(&self) -> bool {
        self.key.is_none() && self.name.starts_with(JOB)
    }
}

const IS_ACTIVE: &str =
    "SELECT EXISTS (SELECT FROM persons WHERE person_id = $1 AND collection = $2 AND status <> 'merged')";

const OF_ERASED: &str = "
SELECT EXISTS (SELECT FROM faces WHERE collection = $1 AND face_id = ANY($2::uuid[]) AND person_id = ANY($3::uuid[])
    AND vector_state <> 'tombstoned')";

const MOVING: &str = "
SELECT face_id, person_id, cluster_id FROM faces
WHERE collection = $1 AND face_id = ANY($2::uuid[]) AND vector_state <> 'tombstoned' AND person_id IS DISTINCT FROM $3
ORDER BY face_id FOR UPDATE";

// A face without a person is one that was kept: only those may have none. Its cluster was made of what it looks like: who says
// whose it is takes it out.
const ASSIGN: &str = "
UPDATE faces SET person_id = $2, assigned_by = $3, assigned_at = now(), updated_at = now(),
    confirmed = $4 AND $2::uuid IS NOT NULL, cluster_id = NULL, cluster_probability = NULL, cluster_outlier = NULL,
    origin = CASE WHEN $2::uuid IS NULL THEN 'kept' ELSE origin END,
    vector_state = CASE vector_state WHEN 'indexed' THEN 'pending' ELSE vector_state END
WHERE face_id = ANY($1::uuid[])";

// What was theirs by a job's doing is theirs by a human's word now, and since now. Points do not say it, so the row's time stays. Who
// stands for a person is chosen among confirmed faces, and no trigger sees that one is.
const CONFIRM: &str = "
WITH told AS (
    UPDATE faces SET confirmed = true, assigned_by = $4, assigned_at = now()
    WHERE collection = $1 AND face_id = ANY($2::uuid[]) AND person_id = $3 AND NOT confirmed AND vector_state <> 'tombstoned'
    RETURNING face_id
), noted AS (
    INSERT INTO stale_prototypes (person_id, collection, since)
    SELECT p.person_id, p.collection, clock_timestamp() FROM persons p WHERE p.person_id = $3 AND EXISTS (SELECT FROM told)
    ON CONFLICT (person_id) DO UPDATE SET since = EXCLUDED.since
)
SELECT face_id FROM told";

const THEIRS: &str =
    "SELECT face_id FROM faces WHERE face_id = ANY($1::uuid[]) AND person_id = $2 AND vector_state <> 'tombstoned'";

const REMOVE: &str = "
UPDATE faces SET vector_state = 'tombstoned', updated_at = now() WHERE face_id = $1 AND vector_state <> 'tombstoned'
RETURNING face_id, person_id, collection, image_hash, face_index";

// Whose a face was that is to be nobody's: no result may say so any more, and an erasure of that person finds the face by it. Not
// where somebody said, now or before, that it is not theirs.
const NOTE_FORMER: &str = "
INSERT INTO matched_faces (face_id, person_id)
SELECT f.face_id, f.person_id FROM faces f
WHERE f.face_id = ANY($1::uuid[]) AND f.person_id IS NOT NULL AND NOT EXISTS (
    SELECT FROM face_negatives n WHERE n.face_id = f.face_id AND n.person_id = f.person_id)
ON CONFLICT DO NOTHING";

const UNSET_PROTOTYPES: &str =
    "DELETE FROM prototypes WHERE face_id = ANY($1::uuid[]) AND person_id IS DISTINCT FROM $2";

// Undoing a merge gives back what came with it, and not what somebody gave to yet another person since.
const LEAVE_MERGES: &str = "
DELETE FROM merge_faces f USING merges m
WHERE f.face_id = ANY($1::uuid[]) AND m.merge_id = f.merge_id AND m.undone_at IS NULL";

impl Store {
    /// Gives faces of one collection to a person, or to nobody. Those that are given leave their cluster. Unless the actor is a
    /// job, all of them count as confirmed, also those that a job gave to the person before: now it is the actor who gave them.
    /// `None` where the collection has no such person, or one that was merged into another.
    ///
    /// # Errors
    /// [`StoreError::BeingErased`] where an unfinished erasure concerns that person, or whose a face is.
    pub async fn assign_faces(
        &self,
        collection: &CollectionId,
        faces: &[FaceId],
        assignment: Assignment,
        actor: &Actor,
    ) -> Result<Option<Assigned>, StoreError> {
        let ids: Vec<Uuid> = faces.iter().map(FaceId::as_uuid).collect();
        let to = assignment.to.map(|person| person.as_uuid());
        run!(self, "assign faces", connection => {
            let mut tx = connection.begin().await?;
            lock_collections(&mut tx, &[collection.as_str()]).await?;
            if concerns_erased(&mut tx, collection, &ids, to).await? {
                return Ok(Err(StoreError::BeingErased));
            }
            let (mut refused, mut withdrawn) = (Vec::new(), HashSet::new());
            if let Some(person) = to {
                let active = sqlx::query_scalar(IS_ACTIVE).bind(person).bind(collection.as_str());
                if !active.fetch_one(&mut *tx).await? {
                    return Ok(Ok(None));
                }
                if assignment.force {
                    withdrawn = negatives::clear(&mut tx, &ids, person).await?;
                } else {
                    refused = negatives::negative_for(&mut tx, &ids, person).await?;
                }
            }
            let allowed: Vec<Uuid> = ids.iter().filter(|face| !refused.contains(face)).copied().collect();
            let not_this_person = assignment.not_this_person;
            let moved = assign(&mut tx, collection, &allowed, to, not_this_person, &withdrawn, actor).await?;
            if let Some(person) = to {
                for face in &moved {
                    withdrawn.remove(&face.as_uuid());
                }
                say(&mut tx, collection, &allowed, person, &withdrawn, actor).await?;
            }
            tx.commit().await?;
            Ok(Ok(Some(Assigned { moved, refused: refused.into_iter().map(FaceId::from).collect() })))
        })?
    }

    /// Makes a new person of some faces of another. `None` where none of these faces is that person's.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] where the subject or the name is taken; [`StoreError::BeingErased`] where an unfinished erasure
    /// concerns the former person.
    pub async fn split_person(
        &self,
        collection: &CollectionId,
        from: PersonId,
        faces: &[FaceId],
        subject: &SubjectId,
        name: &str,
        actor: &Actor,
    ) -> Result<Option<Split>, StoreError> {
        const OF_PERSON: &str = "SELECT face_id FROM faces WHERE face_id = ANY($1::uuid[]) AND person_id = $2
                                 AND collection = $3 AND vector_state <> 'tombstoned'";
        let ids: Vec<Uuid> = faces.iter().map(FaceId::as_uuid).collect();
        let name = clean_name(name).unwrap_or_else(|| subject.as_str().to_owned());
        let person = PersonId::derive(collection, subject);
        run!(self, "split person", connection => {
            let mut tx = connection.begin().await?;
            lock_collections(&mut tx, &[collection.as_str()]).await?;
            // The new person's id follows from the subject: it may be of somebody whose row is gone and whose receipt is not final.
            if any_is_being_erased(&mut tx, collection.as_str(), &[from.as_uuid(), person.as_uuid()]).await? {
                return Ok(Err(StoreError::BeingErased));
            }
            let theirs: Vec<Uuid> = sqlx::query_scalar(OF_PERSON)
                .bind(&ids)
                .bind(from.as_uuid())
                .bind(collection.as_str())
                .fetch_all(&mut *tx)
                .await?;
            if theirs.is_empty() {
                return Ok(Ok(None));
            }
            write_person(&mut tx, collection, subject, &name, &serde_json::json!({}), actor).await?;
            let nothing = HashSet::new();
            let faces = assign(&mut tx, collection, &theirs, Some(person.as_uuid()), false, &nothing, actor).await?;
            tx.commit().await?;
            Ok(Ok(Some(Split { person, faces })))
        })?
    }

    /// Gives faces of one collection to a new person. Both or neither: where the faces cannot change hands there is no person either.
    /// `None` where none of these faces is there; the inner error says what stands in the person's way.
    ///
    /// # Errors
    /// [`StoreError::BeingErased`] where an unfinished erasure concerns whose a face is, or is of whoever had the external id;
    /// [`StoreError::Invalid`] for a name without a visible character.
    pub async fn assign_to_new(
        &self,
        collection: &CollectionId,
        faces: &[FaceId],
        subject: &SubjectId,
        name: &str,
        not_this_person: bool,
        actor: &Actor,
    ) -> Result<Result<Option<Split>, PersonCreation>, StoreError> {
        let (name, metadata) = (visible(name)?, serde_json::json!({}));
        let ids: Vec<Uuid> = faces.iter().map(FaceId::as_uuid).collect();
        run!(self, "assign faces to a new person", connection => {
            let mut tx = connection.begin().await?;
            lock_collections(&mut tx, &[collection.as_str()]).await?;
            if concerns_erased(&mut tx, collection, &ids, None).await? {
                return Ok(Err(StoreError::BeingErased));
            }
            let person = match insert_person(&mut tx, collection, subject, &name, &metadata, actor).await? {
                Ok(Ok(person)) => person,
                Ok(Err(refused)) => return Ok(Ok(Err(refused))),
                Err(error) => return Ok(Err(error)),
            };
            let (to, nothing) = (Some(person.as_uuid()), HashSet::new());
            let faces = assign(&mut tx, collection, &ids, to, not_this_person, &nothing, actor).await?;
            if faces.is_empty() {
                return Ok(Ok(Ok(None)));
            }
            tx.commit().await?;
            Ok(Ok(Ok(Some(Split { person, faces }))))
        })?
    }

    /// Tombstones a face: its point, images and row are to be removed by whoever asks, or by the reconciler. `None` where there is
    /// no such face, or it was tombstoned before.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn remove_face(&self, face: FaceId, actor: &Actor) -> Result<Option<ErasedFace>, StoreError> {
        let removed: Option<ErasedColumns> = run!(self, "remove a face", connection => {
            let mut tx = connection.begin().await?;
            let collection: Option<String> = sqlx::query_scalar("SELECT collection FROM faces WHERE face_id = $1")
                .bind(face.as_uuid())
                .fetch_optional(&mut *tx)
                .await?;
            let Some(collection) = collection else { return Ok(None) };
            lock_collections(&mut tx, &[&collection]).await?;
            let removed: Option<ErasedColumns> =
                sqlx::query_as(REMOVE).bind(face.as_uuid()).fetch_optional(&mut *tx).await?;
            let Some(removed) = removed else { return Ok(None) };
            let (person, face) = (removed.person_id.map(PersonId::from), Some(face));
            let event = NewEvent::of(&collection, EventKind::FaceRemoved);
            record(&mut tx, actor, NewEvent { person, face, ..event }).await?;
            tx.commit().await?;
            Ok(Some(removed))
        })?;
        removed.map(ErasedFace::try_from).transpose()
    }
}

/// Whether `to`, or whose a face is, is being erased: the erasure would take what came, or leave what went.
async fn concerns_erased(
    connection: &mut PgConnection,
    collection: &CollectionId,
    faces: &[Uuid],
    to: Option<Uuid>,
) -> Result<bool, sqlx::Error> {
    let erased = being_erased(connection, &[collection.as_str()]).await?;
    if erased.is_empty() {
        return Ok(false);
    }
    if to.is_some_and(|person| erased.contains(&person)) {
        return Ok(true);
    }
    sqlx::query_scalar(OF_ERASED).bind(collection.as_str()).bind(faces).bind(&erased).fetch_one(connection).await
}

/// Moves those of these faces that are not `to`'s, with their events. `withdrawn`: of which it was said until now that they are not
/// that person's. Whoever calls holds the collection's lock.
async fn assign(
    connection: &mut PgConnection,
    collection: &CollectionId,
    faces: &[Uuid],
    to: Option<Uuid>,
    not_this_person: bool,
    withdrawn: &HashSet<Uuid>,
    actor: &Actor,
) -> Result<Vec<FaceId>, sqlx::Error> {
    let moving: Vec<Moving> =
        sqlx::query_as(MOVING).bind(collection.as_str()).bind(faces).bind(to).fetch_all(&mut *connection).await?;
    let ids: Vec<Uuid> = moving.iter().map(|(face, ..)| *face).collect();
    if not_this_person {
        negatives::note_former(connection, &ids, to, actor).await?;
    }
    if to.is_none() {
        sqlx::query(NOTE_FORMER).bind(&ids).execute(&mut *connection).await?;
    }
    sqlx::query(ASSIGN)
        .bind(&ids)
        .bind(to)
        .bind(actor.stored_name())
        .bind(!actor.is_job())
        .execute(&mut *connection)
        .await?;
    sqlx::query(UNSET_PROTOTYPES).bind(&ids).bind(to).execute(&mut *connection).await?;
    sqlx::query(LEAVE_MERGES).bind(&ids).execute(&mut *connection).await?;
    if to.is_some() {
        fill_exemplars(connection, &ids).await?;
    }
    let left: HashSet<Uuid> = moving.iter().filter_map(|(.., cluster)| *cluster).collect();
    forget_centroids(connection, &left.into_iter().collect::<Vec<_>>()).await?;
    let event = |(face, former, _): &Moving| NewEvent {
        person: to.map(PersonId::from),
        other: former.map(PersonId::from),
        face: Some((*face).into()),
        detail: match withdrawn.contains(face) {
            true => serde_json::json!({ "notThisPerson": not_this_person, "withdrawn": true }),
            false => serde_json::json!({ "notThisPerson": not_this_person }),
        },
        ..NewEvent::of(collection.as_str(), EventKind::FaceAssigned)
    };
    record_all(connection, actor, &moving.iter().map(event).collect::<Vec<_>>()).await?;
    Ok(ids.into_iter().map(FaceId::from).collect())
}

/// Confirms those of these faces that are this person's by a job's doing, unless a job says so, with events for them and for those that
/// stay where they are and of which it was said until now that they are not theirs.
async fn say(
    connection: &mut PgConnection,
    collection: &CollectionId,
    faces: &[Uuid],
    person: Uuid,
    withdrawn: &HashSet<Uuid>,
    actor: &Actor,
) -> Result<(), sqlx::Error> {
    let mut confirmed: Vec<Uuid> = Vec::new();
    if !actor.is_job() {
        let theirs = sqlx::query_scalar(CONFIRM).bind(collection.as_str()).bind(faces).bind(person);
        confirmed = theirs.bind(actor.stored_name()).fetch_all(&mut *connection).await?;
    }
    let confirmed: HashSet<Uuid> = confirmed.into_iter().collect();
    // Of one that is somebody else's, or about to go, nothing is said here: it did not become theirs.
    let mut theirs: Vec<Uuid> = Vec::new();
    if !withdrawn.is_empty() {
        let faces: Vec<Uuid> = withdrawn.iter().copied().collect();
        theirs = sqlx::query_scalar(THEIRS).bind(faces).bind(person).fetch_all(&mut *connection).await?;
    }
    let told: HashSet<&Uuid> = confirmed.iter().chain(&theirs).collect();
    let event = |face: &Uuid| NewEvent {
        person: Some(person.into()),
        other: Some(person.into()),
        face: Some((*face).into()),
        detail: serde_json::json!({ "confirmed": confirmed.contains(face), "withdrawn": withdrawn.contains(face) }),
        ..NewEvent::of(collection.as_str(), EventKind::FaceAssigned)
    };
    record_all(connection, actor, &told.into_iter().map(event).collect::<Vec<_>>()).await
}

/// A face, whose it is and in which cluster.
type Moving = (Uuid, Option<Uuid>, Option<Uuid>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_called_as_a_job_is_none() {
        let job = Actor::job(JobId::from(Uuid::from_u128(7)));
        assert!(job.is_job(), "{job:?}");
        assert!(!Actor { key: Some(Uuid::from_u128(8)), ..job }.is_job());
        assert!(!Actor::named("facewire people").is_job());
    }
}
