//! Enrolment: Postgres first, with the face pending (DESIGN §3). Whoever writes persons or faces holds the collection's
//! lock, so that two processes that enrol the same name or image cannot both win. Vectors are indexed elsewhere.

use facewire_domain::PersonId;
use sqlx::Connection;
use sqlx::postgres::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

use crate::audit::{Actor, EventKind, NewEvent, record_all};
use crate::collections::insert_collections;
use crate::embedding;
use crate::enrol_plan::{Known, KnownFace, KnownPerson, Plan, keys, plan};
use crate::enrolment_lock::EnrolmentGuard;
use crate::erasure_jobs::being_erased;
use crate::error::StoreError;
use crate::face_record::VectorState;
use crate::negatives;
use crate::new_face::{Enrolment, NewFace, storable};
use crate::parts::Parts;
use crate::persons::{in_order, lock_collections, name_key};
use crate::prototypes::fill_exemplars;
use crate::store::{Store, run, text};
use crate::tombstones::{Received, erased_since};

// UNION (not ALL) ends on a circle of merges.
const KNOWN_PERSONS: &str = "
WITH RECURSIVE found AS (
    SELECT p.person_id, p.merged_into FROM persons p
      JOIN UNNEST($1::text[], $2::text[]) AS i (collection, subject_id)
        ON p.collection = i.collection AND p.subject_id = i.subject_id
    UNION
    SELECT p.person_id, p.merged_into FROM persons p
      JOIN UNNEST($1::text[], $3::text[]) AS i (collection, name_key)
        ON p.collection = i.collection AND p.name_key = i.name_key
    UNION
    SELECT p.person_id, p.merged_into FROM found JOIN persons p ON p.person_id = found.merged_into
)
SELECT p.person_id, p.collection, p.subject_id, p.name, p.name_key, p.merged_into
FROM found JOIN persons p ON p.person_id = found.person_id";

const KNOWN_FACES: &str = "
SELECT face_id, collection, person_id, crop_id, image_hash, model, vector_state, origin = 'enrolled' AS enrolled FROM faces
WHERE face_id = ANY($1::uuid[])
UNION
SELECT f.face_id, f.collection, f.person_id, f.crop_id, f.image_hash, f.model, f.vector_state, true
FROM faces f JOIN UNNEST($2::text[], $3::bytea[]) AS i (collection, image_hash)
  ON f.collection = i.collection AND f.image_hash = i.image_hash
WHERE f.origin = 'enrolled' AND f.vector_state <> 'tombstoned'";

// The owner of a face whose image was merged over may be unknown by subject and name: look them up for their own merges.
const OWNERS: &str = "
WITH RECURSIVE found AS (
    SELECT person_id, merged_into FROM persons WHERE person_id = ANY($1::uuid[])
    UNION
    SELECT p.person_id, p.merged_into FROM found JOIN persons p ON p.person_id = found.merged_into
)
SELECT p.person_id, p.collection, p.subject_id, p.name, p.name_key, p.merged_into
FROM found JOIN persons p ON p.person_id = found.person_id";

const NEW_PERSONS: &str = "
INSERT INTO persons (person_id, collection, subject_id, name, name_key)
SELECT * FROM UNNEST($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[])";

const RENAMES: &str = "
UPDATE persons p SET name = i.name, name_key = i.name_key, version = version + 1, updated_at = now()
FROM UNNEST($1::uuid[], $2::text[], $3::text[]) AS i (person_id, name, name_key) WHERE p.person_id = i.person_id";

// The crop's row tells the camera. A face that is enrolled anew is of the crop that does it.
const NEW_FACES: &str = "
INSERT INTO faces (face_id, person_id, collection, crop_id, image_hash, embedding, model, box, landmarks, quality,
                   captured_at, asset_id, camera, assigned_by, assigned_at, confirmed)
SELECT i.*, c.camera, 'enrolment', now(), true
FROM UNNEST($1::uuid[], $2::uuid[], $3::text[], $4::uuid[], $5::bytea[], $6::bytea[], $7::text[], $8::jsonb[], $9::jsonb[],
            $10::jsonb[], $11::timestamptz[], $12::text[])
    AS i (face_id, person_id, collection, crop_id, image_hash, embedding, model, box, landmarks, quality, captured_at, asset_id)
LEFT JOIN crops c ON c.crop_id = i.crop_id
ON CONFLICT (face_id) DO UPDATE SET person_id = EXCLUDED.person_id, crop_id = EXCLUDED.crop_id, camera = EXCLUDED.camera,
    assigned_by = EXCLUDED.assigned_by, assigned_at = EXCLUDED.assigned_at, confirmed = true,
    cluster_id = NULL, cluster_probability = NULL, cluster_outlier = NULL,
    embedding = EXCLUDED.embedding, model = EXCLUDED.model, box = EXCLUDED.box, landmarks = EXCLUDED.landmarks,
    quality = EXCLUDED.quality, captured_at = EXCLUDED.captured_at, asset_id = coalesce(EXCLUDED.asset_id, faces.asset_id),
    origin = 'enrolled', vector_state = 'pending', updated_at = now(),
    created_at = CASE WHEN faces.vector_state = 'tombstoned' THEN now() ELSE faces.created_at END";

impl Store {
    /// Writes persons and their faces, the faces pending; answers in the order of `faces`. Within a batch the first to ask
    /// for a name or image has it. While fewer than [`EXEMPLARS`](facewire_domain::EXEMPLARS) faces stand for a person, new
    /// ones do. An error within the answer is that face's own fault: it cannot be stored.
    ///
    /// # Errors
    /// What is no face's fault. Some may have been written; handing all in again is harmless.
    pub async fn begin_enrolment(&self, faces: &[NewFace]) -> Result<Vec<Result<Enrolment, StoreError>>, StoreError> {
        self.begin(None, faces).await
    }

    /// [`Store::begin_enrolment`] of what was judged under the enrolment lock: nothing is written once that is lost. Whoever has it
    /// then may have judged already.
    ///
    /// # Errors
    /// As there.
    pub async fn begin_enrolment_under(
        &self,
        lock: &mut EnrolmentGuard,
        faces: &[NewFace],
    ) -> Result<Vec<Result<Enrolment, StoreError>>, StoreError> {
        self.begin(Some(lock), faces).await
    }

    async fn begin(
        &self,
        mut lock: Option<&mut EnrolmentGuard>,
        faces: &[NewFace],
    ) -> Result<Vec<Result<Enrolment, StoreError>>, StoreError> {
        let mut answers: Vec<Option<Result<Enrolment, StoreError>>> = Vec::with_capacity(faces.len());
        let mut items: Vec<(usize, &NewFace, Vec<u8>)> = Vec::with_capacity(faces.len());
        for (index, face) in faces.iter().enumerate() {
            match check(face) {
                Ok(bytes) => {
                    items.push((index, face, bytes));
                    answers.push(None);
                }
                Err(what) => answers.push(Some(Err(StoreError::Invalid { index, what }))),
            }
        }
        let mut parts = Parts::of(items.len());
        while let Some(part) = parts.next() {
            let items_of_part = items.get(part.clone()).unwrap_or_default();
            match run!(self, "enrol", connection => enrol(connection, items_of_part, lock.as_deref_mut()).await) {
                Ok(Err(serving)) => return Err(StoreError::OtherModel { serving }),
                Ok(Ok(enrolments)) => {
                    for ((index, ..), enrolment) in items_of_part.iter().zip(enrolments) {
                        set(&mut answers, *index, Ok(enrolment));
                    }
                }
                Err(error) => {
                    if let Some((index, ..)) = parts.failed(part, error.clone())?.and_then(|at| items.get(at)) {
                        set(&mut answers, *index, Err(error));
                    }
                }
            }
        }
        let unanswered = || Err(StoreError::Query { operation: "enrol", code: "no answer".to_owned() });
        Ok(answers.into_iter().map(|answer| answer.unwrap_or_else(unanswered)).collect())
    }
}

fn set<T>(answers: &mut [Option<T>], index: usize, answer: T) {
    if let Some(place) = answers.get_mut(index) {
        *place = Some(answer);
    }
}

/// The embedding's bytes, if everything about the face can be stored and read again.
fn check(face: &NewFace) -> Result<Vec<u8>, &'static str> {
    storable(face.bounding_box, face.landmarks, face.quality.as_ref(), &face.model)?;
    embedding::to_bytes(&face.embedding).ok_or("its embedding is empty or holds what is not a number")
}

// Held to the end of the transaction: whoever makes another model serve waits for it, and sees what was written.
const SERVING: &str = "SELECT model FROM serving WHERE name = 'index' FOR SHARE";

/// The answers; or the model that serves, where an embedding is of another one: then nothing is written.
async fn enrol(
    connection: &mut PgConnection,
    items: &[(usize, &NewFace, Vec<u8>)],
    lock: Option<&mut EnrolmentGuard>,
) -> Result<Result<Vec<Enrolment>, String>, sqlx::Error> {
    let batch: Vec<&NewFace> = items.iter().map(|(_, face, _)| *face).collect();
    let mut tx = connection.begin().await?;
    let collections = in_order(batch.iter().map(|item| item.collection.as_str()));
    insert_collections(&mut tx, &collections).await?;
    lock_collections(&mut tx, &collections).await?;
    if let Some(lock) = lock {
        // Only now: whoever takes it from here on waits for this transaction, and sees what it wrote (`pending_enrolments`).
        lock.ping().await?;
    }
    let serving: Option<String> = sqlx::query_scalar(SERVING).fetch_optional(&mut *tx).await?;
    if let Some(serving) = serving.filter(|serving| batch.iter().any(|item| item.model != *serving)) {
        return Ok(Err(serving));
    }
    let known = read(&mut tx, &batch).await?;
    let plan = plan(&batch, known);
    write_persons(&mut tx, &plan).await?;
    write_faces(&mut tx, &plan, items).await?;
    write_events(&mut tx, &plan, &batch).await?;
    tx.commit().await?;
    Ok(Ok(plan.answers))
}

type PersonColumns = (Uuid, String, String, String, String, Option<Uuid>);
type FaceColumns = (Uuid, String, Option<Uuid>, Option<Uuid>, Vec<u8>, String, String, bool);

async fn read(connection: &mut PgConnection, batch: &[&NewFace]) -> Result<Known, sqlx::Error> {
    let keys = keys(batch);
    let mut known = Known::default();
    let faces: Vec<FaceColumns> = sqlx::query_as(KNOWN_FACES)
        .bind(&keys.faces)
        .bind(&keys.collections)
        .bind(&keys.images)
        .fetch_all(&mut *connection)
        .await?;
    let owners: Vec<Uuid> = faces.iter().filter_map(|face| face.2).collect();
    let mut persons: Vec<PersonColumns> = sqlx::query_as(KNOWN_PERSONS)
        .bind(&keys.collections)
        .bind(&keys.subjects)
        .bind(&keys.names)
        .fetch_all(&mut *connection)
        .await?;
    if !owners.is_empty() {
        persons.extend(sqlx::query_as::<_, PersonColumns>(OWNERS).bind(&owners).fetch_all(&mut *connection).await?);
    }
    for (id, collection, subject, name, key, merged_into) in persons {
        known.subjects.insert((collection.clone(), subject), id);
        known.names.insert((collection, key), id);
        known.persons.insert(id, KnownPerson { name, merged_into });
    }
    for (id, collection, person, crop, image, model, state, enrolled) in faces {
        // The table's CHECKs allow nothing else; what they let through anyway is treated as not indexed.
        let state = VectorState::parse(&state).unwrap_or(VectorState::Pending);
        if let (Ok(image), true) = (<[u8; 32]>::try_from(image), enrolled && state != VectorState::Tombstoned) {
            known.images.insert((collection, image), id);
        }
        known.faces.insert(id, KnownFace { person, crop, model, state });
    }
    let known_faces: Vec<Uuid> = known.faces.keys().copied().collect();
    if !known_faces.is_empty() {
        known.negatives = negatives::pairs_of(connection, &known_faces).await?.into_iter().collect();
    }
    known.erased = erased_since(connection, &batch.iter().map(|item| received(item)).collect::<Vec<_>>())
        .await?
        .into_iter()
        .collect();
    known.being_erased = being_erased(connection, &keys.collections).await?.into_iter().collect();
    Ok(known)
}

fn received<'a>(item: &'a NewFace) -> Received<'a> {
    Received {
        collection: item.collection.as_str(),
        person: PersonId::derive(&item.collection, &item.subject).as_uuid(),
        image: item.image_hash.as_bytes(),
        crop: item.crop.map(|crop| crop.as_uuid()),
    }
}

/// The rows of the trail for what was written.
async fn write_events(connection: &mut PgConnection, plan: &Plan, batch: &[&NewFace]) -> Result<(), sqlx::Error> {
    let mut events = Vec::with_capacity(plan.persons.len() + plan.renames.len() + plan.faces.len());
    for (person, written) in &plan.persons {
        let event = NewEvent::of(&written.collection, EventKind::PersonCreated);
        events.push(NewEvent { person: Some((*person).into()), ..event });
    }
    for (person, (collection, _)) in &plan.renames {
        let detail = serde_json::json!({ "fields": ["name"] });
        let event = NewEvent::of(collection, EventKind::PersonUpdated);
        events.push(NewEvent { person: Some((*person).into()), detail, ..event });
    }
    for (face, (index, person)) in &plan.faces {
        let Some(item) = batch.get(*index) else { continue };
        let detail = item.crop.map_or_else(|| serde_json::json!({}), |crop| serde_json::json!({ "cropId": crop }));
        let (person, face) = (Some((*person).into()), Some((*face).into()));
        let event = NewEvent::of(item.collection.as_str(), EventKind::FaceEnrolled);
        events.push(NewEvent { person, face, detail, ..event });
    }
    record_all(connection, &Actor::named("enrolment"), &events).await
}

async fn write_persons(connection: &mut PgConnection, plan: &Plan) -> Result<(), sqlx::Error> {
    if !plan.persons.is_empty() {
        sqlx::query(NEW_PERSONS)
            .bind(plan.persons.keys().copied().collect::<Vec<Uuid>>())
            .bind(plan.persons.values().map(|person| person.collection.as_str()).collect::<Vec<_>>())
            .bind(plan.persons.values().map(|person| person.subject.as_str()).collect::<Vec<_>>())
            .bind(plan.persons.values().map(|person| person.name.as_str()).collect::<Vec<_>>())
            .bind(plan.persons.values().map(|person| name_key(&person.name)).collect::<Vec<_>>())
            .execute(&mut *connection)
            .await?;
    }
    if !plan.renames.is_empty() {
        sqlx::query(RENAMES)
            .bind(plan.renames.keys().copied().collect::<Vec<Uuid>>())
            .bind(plan.renames.values().map(|(_, name)| name.as_str()).collect::<Vec<_>>())
            .bind(plan.renames.values().map(|(_, name)| name_key(name)).collect::<Vec<_>>())
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

async fn write_faces(
    connection: &mut PgConnection,
    plan: &Plan,
    items: &[(usize, &NewFace, Vec<u8>)],
) -> Result<(), sqlx::Error> {
    let rows: Vec<(Uuid, Uuid, &NewFace, &[u8])> = plan
        .faces
        .iter()
        .filter_map(|(face, (index, person))| {
            let (_, item, bytes) = items.get(*index)?;
            Some((*face, *person, *item, bytes.as_slice()))
        })
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    let items: Vec<&NewFace> = rows.iter().map(|row| row.2).collect();
    sqlx::query(NEW_FACES)
        .bind(rows.iter().map(|row| row.0).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.1).collect::<Vec<_>>())
        .bind(items.iter().map(|item| item.collection.as_str()).collect::<Vec<_>>())
        .bind(items.iter().map(|item| item.crop.map(|crop| crop.as_uuid())).collect::<Vec<_>>())
        .bind(items.iter().map(|item| item.image_hash.as_bytes().as_slice()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.3).collect::<Vec<_>>())
        .bind(items.iter().map(|item| text(&item.model)).collect::<Vec<_>>())
        .bind(items.iter().map(|item| item.bounding_box.map(Json)).collect::<Vec<_>>())
        .bind(items.iter().map(|item| item.landmarks.map(Json)).collect::<Vec<_>>())
        .bind(items.iter().map(|item| item.quality.as_ref().map(Json)).collect::<Vec<_>>())
        .bind(items.iter().map(|item| item.captured_at).collect::<Vec<_>>())
        .bind(items.iter().map(|item| item.asset.as_deref().map(text).filter(|id| !id.is_empty())).collect::<Vec<_>>())
        .execute(&mut *connection)
        .await?;
    fill_exemplars(connection, &rows.iter().map(|row| row.0).collect::<Vec<_>>()).await
}
