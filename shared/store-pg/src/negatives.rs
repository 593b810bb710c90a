//! What people said a face is not: a face and a person who it does not show. Assignment refuses such a pair, and matching compares
//! probes with these faces too; the comparing is done elsewhere.

use std::collections::HashSet;

use facewire_domain::{FaceId, PersonId};
use sqlx::Connection;
use sqlx::postgres::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::audit::Actor;
use crate::embedding;
use crate::error::StoreError;
use crate::person_edit::lock_persons;
use crate::store::{Store, run, text};

/// Somebody said that a face is not this person's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Negative {
    /// The person.
    pub person: PersonId,
    /// When it was said.
    pub at: OffsetDateTime,
    /// By whom.
    pub actor: String,
}

/// A face that is not a person's, as an exemplar. Not `Serialize`: the embedding is biometric data.
#[derive(Clone, PartialEq)]
pub struct NegativeExemplar {
    /// Whom it does not show.
    pub person: PersonId,
    /// L2-normalised.
    pub embedding: Vec<f32>,
}

impl std::fmt::Debug for NegativeExemplar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Nothing biometric in a log.
        f.debug_struct("NegativeExemplar").field("person", &self.person).finish_non_exhaustive()
    }
}

const SET: &str = "
INSERT INTO face_negatives (face_id, person_id, stated_of, actor)
SELECT f.face_id, p.person_id, p.person_id, $3 FROM faces f JOIN persons p ON p.collection = f.collection
WHERE f.face_id = $1 AND p.person_id = $2 AND f.person_id IS DISTINCT FROM p.person_id AND f.vector_state <> 'tombstoned'
ON CONFLICT (face_id, person_id, stated_of) DO UPDATE SET at = now(), actor = EXCLUDED.actor";

const NOTE_FORMER: &str = "
INSERT INTO face_negatives (face_id, person_id, stated_of, actor)
SELECT face_id, person_id, person_id, $3 FROM faces
WHERE face_id = ANY($1::uuid[]) AND person_id IS NOT NULL AND person_id IS DISTINCT FROM $2
ON CONFLICT (face_id, person_id, stated_of) DO UPDATE SET at = now(), actor = EXCLUDED.actor";

// What says nothing is passed over before the newest are counted: a face that is gone, one that is the person's own by now, one without
// an embedding by the model, and what was said of one face more than once. Few persons of those asked for have any negative: they are
// found first, in the index.
const EXEMPLARS: &str = "
SELECT w.person_id, n.embedding
FROM (SELECT DISTINCT person_id FROM face_negatives WHERE person_id = ANY($1::uuid[])) w
CROSS JOIN LATERAL (
    SELECT coalesce(r.embedding, f.embedding) AS embedding
    FROM face_negatives n
    JOIN faces f ON f.face_id = n.face_id AND f.vector_state <> 'tombstoned' AND f.person_id IS DISTINCT FROM n.person_id
    LEFT JOIN reembeddings r ON r.face_id = f.face_id AND r.model = $2
    WHERE n.person_id = w.person_id AND (r.face_id IS NOT NULL OR f.model = $2) AND NOT EXISTS (
        SELECT FROM face_negatives newer WHERE newer.face_id = n.face_id AND newer.person_id = n.person_id
        AND (newer.at, newer.stated_of) > (n.at, n.stated_of)
    )
    ORDER BY n.at DESC LIMIT $3
) n";

impl Store {
    /// Notes that a face is not this person's. `false` where the person's collection has no such face, or it is theirs now: take
    /// it from them instead.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn set_negative(&self, face: FaceId, person: PersonId, actor: &Actor) -> Result<bool, StoreError> {
        let name = actor.stored_name();
        run!(self, "note a negative", connection => {
            let mut tx = connection.begin().await?;
            if !lock_persons(&mut tx, person.as_uuid()).await? {
                return Ok(false);
            }
            let set = sqlx::query(SET).bind(face.as_uuid()).bind(person.as_uuid()).bind(&name).execute(&mut *tx).await?;
            tx.commit().await?;
            Ok(set.rows_affected() > 0)
        })
    }

    /// Whose a face is not, the newest first. With a person who was merged, those whom they lead to are named too.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn negatives_of(&self, face: FaceId) -> Result<Vec<Negative>, StoreError> {
        const SQL: &str = "SELECT DISTINCT ON (person_id) person_id, at, actor FROM face_negatives
                           WHERE face_id = $1 ORDER BY person_id, at DESC";
        let rows: Vec<(Uuid, OffsetDateTime, String)> = run!(self, "negatives of a face", connection => {
            sqlx::query_as(SQL).bind(face.as_uuid()).fetch_all(connection).await
        })?;
        let read = |(person, at, actor): (Uuid, OffsetDateTime, String)| Negative { person: person.into(), at, actor };
        let mut negatives: Vec<Negative> = rows.into_iter().map(read).collect();
        negatives.sort_by_key(|negative| std::cmp::Reverse(negative.at));
        Ok(negatives)
    }

    /// The persons of whom anything was said, where at most `most` faces are said not to be somebody's; `None` where there are more.
    /// Whoever looks for persons can ask this meanwhile, and needs the exemplars of none but these.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn persons_with_negatives(&self, most: u32) -> Result<Option<HashSet<PersonId>>, StoreError> {
        const SQL: &str = "SELECT person_id FROM face_negatives LIMIT $1";
        let ids: Vec<Uuid> = run!(self.hot(), "persons with negatives", connection => {
            sqlx::query_scalar(SQL).bind(i64::from(most) + 1).fetch_all(connection).await
        })?;
        let all = ids.len() <= most as usize;
        Ok(all.then(|| ids.into_iter().map(PersonId::from).collect()))
    }

    /// The faces that are said not to be these persons', with their embeddings by `model`: of each person those of whom it was said
    /// last, at most `each`. Faces that are gone, the person's own by now, or without such an embedding are passed over. Empty for
    /// persons of whom nothing was said.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn negative_exemplars(
        &self,
        persons: &[PersonId],
        model: &str,
        each: u32,
    ) -> Result<Vec<NegativeExemplar>, StoreError> {
        let ids: Vec<Uuid> = persons.iter().map(PersonId::as_uuid).collect();
        let model = text(model);
        let rows: Vec<(Uuid, Vec<u8>)> = run!(self.hot(), "negative exemplars", connection => {
            sqlx::query_as(EXEMPLARS).bind(&ids).bind(&*model).bind(i64::from(each)).fetch_all(connection).await
        })?;
        let read = |(person, bytes): (Uuid, Vec<u8>)| {
            let embedding = embedding::from_bytes(&bytes).ok_or(StoreError::corrupt("faces.embedding"))?;
            Ok(NegativeExemplar { person: person.into(), embedding })
        };
        rows.into_iter().map(read).collect()
    }
}

/// Notes of those of these faces that are somebody's other than `to`'s that they are not that person's.
pub(crate) async fn note_former(
    connection: &mut PgConnection,
    faces: &[Uuid],
    to: Option<Uuid>,
    actor: &Actor,
) -> Result<(), sqlx::Error> {
    sqlx::query(NOTE_FORMER).bind(faces).bind(to).bind(actor.stored_name()).execute(connection).await.map(|_| ())
}

/// Those of these faces that are said not to be this person's.
pub(crate) async fn negative_for(
    connection: &mut PgConnection,
    faces: &[Uuid],
    person: Uuid,
) -> Result<Vec<Uuid>, sqlx::Error> {
    const SQL: &str = "SELECT DISTINCT face_id FROM face_negatives WHERE face_id = ANY($1::uuid[]) AND person_id = $2";
    sqlx::query_scalar(SQL).bind(faces).bind(person).fetch_all(connection).await
}

/// These faces with the persons whose they are said not to be.
pub(crate) async fn pairs_of(connection: &mut PgConnection, faces: &[Uuid]) -> Result<Vec<(Uuid, Uuid)>, sqlx::Error> {
    const SQL: &str = "SELECT DISTINCT face_id, person_id FROM face_negatives WHERE face_id = ANY($1::uuid[])";
    sqlx::query_as(SQL).bind(faces).fetch_all(connection).await
}

/// Takes back what was said of these faces and this person, and of everybody who is merged into them. Of which faces anything was.
pub(crate) async fn clear(
    connection: &mut PgConnection,
    faces: &[Uuid],
    person: Uuid,
) -> Result<HashSet<Uuid>, sqlx::Error> {
    const SQL: &str = "DELETE FROM face_negatives n USING face_negatives said
                       WHERE said.face_id = ANY($1::uuid[]) AND said.person_id = $2
                         AND n.face_id = said.face_id AND n.stated_of = said.stated_of RETURNING n.face_id";
    let cleared: Vec<Uuid> = sqlx::query_scalar(SQL).bind(faces).bind(person).fetch_all(connection).await?;
    Ok(cleared.into_iter().collect())
}
