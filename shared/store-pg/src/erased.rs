//! What was written of persons while they were being erased. An erasure deletes the persons first and then what names them;
//! whoever writes such a row looks afterwards whether the persons are still there, and takes back what is not to be said. So
//! one of the two always finds it, and no writer waits for an erasure.
//!
//! An ending that says that it was such a person is left to the erasure until its receipt is final: it alone leads to the images of
//! its crop, which whoever writes endings cannot erase. Which of the two it is they settle under a lock of the collection's erasures
//! alone, which nobody holds for longer than a moment. What is written after the receipt is final is taken back at once; its
//! images stay until the reconciler finds them older than results are kept. The same holds of a crop that is for such a person: its
//! images are found by it alone where the enrolment comes to nothing.

use std::collections::HashSet;

use facewire_domain::{Decision, PersonId, SubjectId};
use sqlx::Connection;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

use crate::crops::CropHead;
use crate::ending::Ending;
use crate::erasure::NamedResult;
use crate::erasure_jobs::{being_erased, keep_erasures_open};
use crate::error::StoreError;
use crate::persons::in_order;
use crate::store::{CHUNK, Store, run};

// Ids of what is no person at all have no row either.
const MISSING: &str = "
SELECT i.id FROM UNNEST($1::uuid[]) AS i (id) WHERE NOT EXISTS (SELECT FROM persons p WHERE p.person_id = i.id)";

const ERASED: &str = "
SELECT DISTINCT i.id FROM UNNEST($1::uuid[]) AS i (id) JOIN tombstones t ON t.key = uuid_send(i.id)";

// Who goes with a whole collection has no tombstone of their own. An erasure by age writes the empty key
// too: it deletes nobody, and whoever has no row was erased all the same, since only erasures delete people.
const WITH_COLLECTIONS: &str = "SELECT EXISTS (SELECT FROM tombstones WHERE key = ''::bytea)";

// Not of rows that are left to an erasure: a match is read by its decision alone, and must be found again by whom it names.
const MENTIONS: &str = "
UPDATE recognitions r SET decision = r.decision
    || CASE WHEN r.decision->'best'->>'person' = ANY($3::text[]) THEN '{\"best\": null}'::jsonb ELSE '{}' END
    || CASE WHEN r.decision->'runner_up'->>'person' = ANY($3::text[]) THEN '{\"runner_up\": null}'::jsonb ELSE '{}' END
FROM UNNEST($1::uuid[], $2::integer[]) AS i (crop_id, face_index)
WHERE r.crop_id = i.crop_id AND r.face_index = i.face_index AND r.decision IS NOT NULL
  AND coalesce(r.person_id::text <> ALL($3::text[]), true)";

// Who was erased at any time, or is just being erased: an erasure begins with the tombstone.
const EVER_ERASED: &str = "
SELECT i.crop_id FROM UNNEST($1::uuid[], $2::text[], $3::uuid[]) AS i (crop_id, collection, person_id)
WHERE EXISTS (SELECT FROM tombstones t WHERE t.collection = i.collection AND t.key = uuid_send(i.person_id))";

// As for enrolments: who was erased after the crop was received. Tombstone and erasure are seen in one look: with the one comes the
// other.
const SUBJECTS: &str = "
UPDATE crops c SET subject_id = NULL FROM UNNEST($1::uuid[], $2::uuid[]) AS i (crop_id, person_id)
JOIN tombstones t ON t.key = uuid_send(i.person_id)
WHERE c.crop_id = i.crop_id AND c.subject_id IS NOT NULL AND t.collection = c.collection
  AND t.at > least(c.received_at, c.admitted_at)
  AND NOT EXISTS (SELECT FROM erasures e WHERE e.collection = c.collection AND e.kind = 'person' AND e.finished_at IS NULL
                  AND (e.subject = i.person_id::text OR e.receipt->'unfinished'->'persons' ? i.person_id::text))";

impl Store {
    /// Which of these persons were erased, alone or with their collection, and did not come back.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn erased_persons(&self, persons: &[PersonId]) -> Result<HashSet<PersonId>, StoreError> {
        let gone = self.gone_among(persons.iter().map(PersonId::as_uuid).collect()).await?;
        Ok(gone.into_iter().map(PersonId::from).collect())
    }

    /// Which of these ids are of persons who were erased and did not come back. Other ids may be among them, and so those who went
    /// with their collection are not told.
    pub(crate) async fn erased_among(&self, ids: Vec<Uuid>) -> Result<HashSet<Uuid>, StoreError> {
        self.missing_among(ids, false).await
    }

    /// Which of these persons were erased, alone or with their collection, and did not come back. A person has a row before anything
    /// names them, and nothing but an erasure deletes it: where a collection was ever erased, whole or by age, whoever has none is gone.
    pub(crate) async fn gone_among(&self, persons: Vec<Uuid>) -> Result<HashSet<Uuid>, StoreError> {
        self.missing_among(persons, true).await
    }

    async fn missing_among(&self, mut ids: Vec<Uuid>, only_persons: bool) -> Result<HashSet<Uuid>, StoreError> {
        ids.sort_unstable();
        ids.dedup();
        let mut erased = HashSet::new();
        for chunk in ids.chunks(CHUNK) {
            let found = run!(self.hot(), "erased persons", connection => among(connection, chunk, only_persons).await)?;
            erased.extend(found);
        }
        Ok(erased)
    }

    /// Takes the persons out of the rows of these endings who were erased, and says who that is. `present`: who was just seen,
    /// after the rows were written. Where that is everybody, nobody is looked for again. Who it was stays in the rows as long as
    /// the erasure of that person goes on, which then finds it.
    ///
    /// # Errors
    /// [`StoreError`]; repeating it is harmless.
    pub async fn take_back(
        &self,
        mut endings: Vec<&Ending>,
        present: impl Fn(&PersonId) -> bool,
    ) -> Result<HashSet<PersonId>, StoreError> {
        let persons: Vec<Uuid> = endings.iter().copied().flat_map(named).collect();
        if persons.iter().all(|person| present(&PersonId::from(*person))) {
            return Ok(HashSet::new());
        }
        // To look may take long: whoever was seen may be gone by then.
        let erased = self.gone_among(persons).await?;
        if erased.is_empty() {
            return Ok(HashSet::new());
        }
        endings.retain(|ending| named(ending).any(|person| erased.contains(&person)));
        self.take_back_results(&endings, &erased).await?;
        let (crops, faces): (Vec<Uuid>, Vec<i32>) = endings.iter().map(|ending| ending.key()).unzip();
        let texts: Vec<String> = erased.iter().map(Uuid::to_string).collect();
        run!(self, "take back mentions", connection => {
            sqlx::query(MENTIONS).bind(&crops).bind(&faces).bind(&texts).execute(connection).await.map(|_| ())
        })?;
        Ok(erased.into_iter().map(PersonId::from).collect())
    }

    /// Takes out of these rows who it was, as far as no erasure of that person goes on.
    async fn take_back_results(&self, endings: &[&Ending], erased: &HashSet<Uuid>) -> Result<(), StoreError> {
        let is_theirs = |ending: &&Ending| ending.person_id().is_some_and(|person| erased.contains(&person));
        let theirs: Vec<&Ending> = endings.iter().copied().filter(is_theirs).collect();
        let collections = in_order(theirs.iter().map(|ending| ending.crop.collection.as_str()));
        if collections.is_empty() {
            return Ok(());
        }
        let unfinished = run!(self, "persons being erased", connection => unfinished(connection, &collections).await)?;
        let over: Vec<PersonId> = erased.difference(&unfinished).copied().map(PersonId::from).collect();
        if over.is_empty() {
            return Ok(());
        }
        for chunk in theirs.chunks(CHUNK) {
            let named: Vec<NamedResult> = chunk.iter().map(|ending| row_of(ending)).collect();
            self.erase_from_results(&over, &named).await?;
        }
        Ok(())
    }

    /// Takes the external ids of erased persons out of the rows of these crops, as far as no erasure of that person goes on, which
    /// finds the images of an enrolment that comes to nothing by them.
    pub(crate) async fn take_back_subjects(&self, crops: &[&CropHead]) -> Result<(), StoreError> {
        let mut named: Vec<(Uuid, &str, Uuid)> = Vec::new();
        for crop in crops {
            named.extend(derived(crop).map(|person| (crop.crop.as_uuid(), crop.collection.as_str(), person)));
        }
        if named.is_empty() {
            return Ok(());
        }
        let ids: Vec<Uuid> = named.iter().map(|(crop, ..)| *crop).collect();
        let collections: Vec<&str> = named.iter().map(|(_, collection, _)| *collection).collect();
        let persons: Vec<Uuid> = named.iter().map(|(.., person)| *person).collect();
        let concerned: Vec<Uuid> = run!(self.hot(), "crops of erased persons", connection => {
            sqlx::query_scalar(EVER_ERASED).bind(&ids).bind(&collections).bind(&persons).fetch_all(connection).await
        })?;
        if concerned.is_empty() {
            return Ok(());
        }
        let concerned: HashSet<Uuid> = concerned.into_iter().collect();
        named.retain(|(crop, ..)| concerned.contains(crop));
        run!(self, "take back subjects", connection => take_subjects(connection, &named).await)
    }
}

async fn among(connection: &mut PgConnection, ids: &[Uuid], only_persons: bool) -> Result<Vec<Uuid>, sqlx::Error> {
    let missing: Vec<Uuid> = sqlx::query_scalar(MISSING).bind(ids).fetch_all(&mut *connection).await?;
    // Nearly always: tombstones have no index by persons alone.
    if missing.is_empty() {
        return Ok(missing);
    }
    if only_persons && sqlx::query_scalar::<_, bool>(WITH_COLLECTIONS).fetch_one(&mut *connection).await? {
        return Ok(missing);
    }
    sqlx::query_scalar(ERASED).bind(&missing).fetch_all(connection).await
}

/// Of crops with their collections and persons. No erasure ends meanwhile: one that goes on sees the crops, which were written before
/// this, and does not end with them.
async fn take_subjects(connection: &mut PgConnection, named: &[(Uuid, &str, Uuid)]) -> Result<(), sqlx::Error> {
    let collections = in_order(named.iter().map(|(_, collection, _)| *collection));
    let (crops, persons): (Vec<Uuid>, Vec<Uuid>) = named.iter().map(|(crop, _, person)| (*crop, *person)).unzip();
    let mut tx = connection.begin().await?;
    keep_erasures_open(&mut tx, &collections).await?;
    sqlx::query(SUBJECTS).bind(&crops).bind(&persons).execute(&mut *tx).await?;
    tx.commit().await
}

/// Everybody of these collections whose erasure goes on. None of them ends meanwhile: one that goes on sees the rows that were written
/// before this, and does not end with them.
async fn unfinished(connection: &mut PgConnection, collections: &[&str]) -> Result<HashSet<Uuid>, sqlx::Error> {
    let mut tx = connection.begin().await?;
    keep_erasures_open(&mut tx, collections).await?;
    let persons = being_erased(&mut tx, collections).await?;
    tx.commit().await?;
    Ok(persons.into_iter().collect())
}

/// The row of an ending, as an erasure names it.
fn row_of(ending: &Ending) -> NamedResult {
    NamedResult {
        crop: ending.crop.crop,
        face_index: ending.face_index,
        collection: ending.crop.collection.clone(),
        image: Some(ending.crop.image_hash),
    }
}

/// Whom an enrolment is for.
pub(crate) fn derived(crop: &CropHead) -> Option<Uuid> {
    let subject: &SubjectId = crop.subject.as_ref()?;
    Some(PersonId::derive(&crop.collection, subject).as_uuid())
}

/// Everybody whom an ending names: who it is, who is nearest, who comes second.
fn named(ending: &Ending) -> impl Iterator<Item = Uuid> + use<> {
    let candidates = |decision: &Decision| [decision.best, decision.runner_up];
    let candidates = ending.decision.as_ref().map(candidates).unwrap_or_default();
    let persons = candidates.into_iter().flatten().map(|candidate| candidate.person.as_uuid());
    persons.chain(ending.person_id())
}
