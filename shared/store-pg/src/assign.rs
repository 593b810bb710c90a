//! Whose face it is, changed after enrolment: faces given to a person, taken from one, split off into a new one. A face keeps
//! its id; its point has to be written again, so an indexed row becomes pending.

use facewire_domain::{CollectionId, FaceId, PersonId, SubjectId};
use sqlx::Connection;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

use crate::enrol_plan::clean_name;
use crate::error::StoreError;
use crate::persons::{lock_collections, name_key};
use crate::store::{Store, run};

/// A person that was split off another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// The new person.
    pub person: PersonId,
    /// The faces that went along.
    pub faces: Vec<FaceId>,
}

const IS_ACTIVE: &str =
    "SELECT EXISTS (SELECT FROM persons WHERE person_id = $1 AND collection = $2 AND status <> 'merged')";

// A face without a person is one that was kept: only those may have none.
const ASSIGN: &str = "
UPDATE faces SET person_id = $3, assigned_by = $4, assigned_at = now(), updated_at = now(),
    origin = CASE WHEN $3::uuid IS NULL THEN 'kept' ELSE origin END,
    vector_state = CASE vector_state WHEN 'indexed' THEN 'pending' ELSE vector_state END
WHERE collection = $1 AND face_id = ANY($2::uuid[]) AND vector_state <> 'tombstoned' AND person_id IS DISTINCT FROM $3
RETURNING face_id";

const UNSET_PROTOTYPES: &str =
    "DELETE FROM prototypes WHERE face_id = ANY($1::uuid[]) AND person_id IS DISTINCT FROM $2";

impl Store {
    /// Gives faces of one collection to a person, or to nobody (`None`). `by`: the user or job that does it. Returns the faces
    /// that changed hands; `None` where the collection has no such person, or one that was merged into another.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn assign_faces(
        &self,
        collection: &CollectionId,
        faces: &[FaceId],
        person: Option<PersonId>,
        by: &str,
    ) -> Result<Option<Vec<FaceId>>, StoreError> {
        let ids: Vec<Uuid> = faces.iter().map(FaceId::as_uuid).collect();
        run!(self, "assign faces", connection => {
            let mut tx = connection.begin().await?;
            lock_collections(&mut tx, &[collection.as_str()]).await?;
            if let Some(person) = person {
                let active = sqlx::query_scalar(IS_ACTIVE).bind(person.as_uuid()).bind(collection.as_str());
                if !active.fetch_one(&mut *tx).await? {
                    return Ok(None);
                }
            }
            let moved = assign(&mut tx, collection, &ids, person.map(|person| person.as_uuid()), by).await?;
            tx.commit().await?;
            Ok(Some(moved))
        })
    }

    /// Makes a new person of some faces of another. `None` where none of these faces is that person's.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] where the subject or the name is taken.
    pub async fn split_person(
        &self,
        collection: &CollectionId,
        from: PersonId,
        faces: &[FaceId],
        subject: &SubjectId,
        name: &str,
        by: &str,
    ) -> Result<Option<Split>, StoreError> {
        const OF_PERSON: &str = "SELECT face_id FROM faces WHERE face_id = ANY($1::uuid[]) AND person_id = $2
                                 AND collection = $3 AND vector_state <> 'tombstoned'";
        const NEW: &str = "INSERT INTO persons (person_id, collection, subject_id, name, name_key)
                           VALUES ($1, $2, $3, $4, $5)";
        let ids: Vec<Uuid> = faces.iter().map(FaceId::as_uuid).collect();
        let name = clean_name(name).unwrap_or_else(|| subject.as_str().to_owned());
        let person = PersonId::derive(collection, subject);
        run!(self, "split person", connection => {
            let mut tx = connection.begin().await?;
            lock_collections(&mut tx, &[collection.as_str()]).await?;
            let theirs: Vec<Uuid> = sqlx::query_scalar(OF_PERSON)
                .bind(&ids)
                .bind(from.as_uuid())
                .bind(collection.as_str())
                .fetch_all(&mut *tx)
                .await?;
            if theirs.is_empty() {
                return Ok(None);
            }
            sqlx::query(NEW)
                .bind(person.as_uuid())
                .bind(collection.as_str())
                .bind(subject.as_str())
                .bind(&name)
                .bind(name_key(&name))
                .execute(&mut *tx)
                .await?;
            let faces = assign(&mut tx, collection, &theirs, Some(person.as_uuid()), by).await?;
            tx.commit().await?;
            Ok(Some(Split { person, faces }))
        })
    }

    /// Hides a person from results, or shows them again; faces are still recognised. `false` where there is no such person.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn hide_person(&self, person: PersonId, hidden: bool) -> Result<bool, StoreError> {
        const SQL: &str = "UPDATE persons SET status = CASE WHEN $2 THEN 'hidden' ELSE 'active' END, updated_at = now()
                           WHERE person_id = $1 AND status <> 'merged'";
        let changed = run!(self, "hide person", connection => {
            sqlx::query(SQL).bind(person.as_uuid()).bind(hidden).execute(connection).await
        })?;
        Ok(changed.rows_affected() > 0)
    }
}

async fn assign(
    connection: &mut PgConnection,
    collection: &CollectionId,
    faces: &[Uuid],
    person: Option<Uuid>,
    by: &str,
) -> Result<Vec<FaceId>, sqlx::Error> {
    let moved: Vec<Uuid> = sqlx::query_scalar(ASSIGN)
        .bind(collection.as_str())
        .bind(faces)
        .bind(person)
        .bind(by)
        .fetch_all(&mut *connection)
        .await?;
    sqlx::query(UNSET_PROTOTYPES).bind(&moved).bind(person).execute(connection).await?;
    Ok(moved.into_iter().map(FaceId::from).collect())
}
