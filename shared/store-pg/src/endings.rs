//! Endings: exactly one row for each face of a crop, whatever is delivered twice. Results are published elsewhere; here it
//! is only remembered that they were.

use std::borrow::Cow;
use std::collections::HashMap;

use facewire_domain::{CropId, Decision, Detail, Status, SubjectId};
use sqlx::postgres::PgConnection;
use sqlx::types::Json;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::collections::first_use;
use crate::ending::{Ending, FaceQuality, Finished};
use crate::error::StoreError;
use crate::parts::Parts;
use crate::store::{CHUNK, Store, int, run, text, unsigned};
use crate::stored;

// One statement, hence one transaction and one round trip. A crop's row is touched only where it is missing or counts too
// few faces; an ending gives way only if it failed and the new one did not, and the row is of the next generation then.
// A collection may have been deleted while a crop of it was in hand: it gets its row again.
// $27: the commit is not waited for on the disk.
const FINISH: &str = concat!(
    r#"
WITH input AS MATERIALIZED (
    SELECT i.* FROM UNNEST(
        $1::uuid[], $2::integer[], $3::integer[], $4::text[], $5::text[], $6::timestamptz[], $7::timestamptz[],
        $8::bytea[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::jsonb[], $15::jsonb[],
        $16::jsonb[], $17::jsonb[], $18::uuid[], $19::uuid[], $20::real[], $21::real[], $22::real[], $23::text[],
        $24::jsonb[], $25::timestamptz[], $26::boolean[]
    ) AS i (crop_id, face_index, face_count, collection, camera, captured_at, received_at, image_hash, intent,
            subject_id, status, reason, stage, detail, quality, box, decision, person_id, face_id, similarity, threshold,
            runner_up, model, times, finished_at, frame)
    CROSS JOIN (SELECT CASE WHEN $27 THEN set_config('synchronous_commit', 'off', true) END) AS s
), "#,
    first_use!("SELECT DISTINCT collection AS name FROM input"),
    r#", crop AS (
    INSERT INTO crops (crop_id, collection, camera, captured_at, received_at, image_hash, intent, subject_id, face_count,
        frame)
    SELECT DISTINCT ON (i.crop_id) i.crop_id, i.collection, i.camera, i.captured_at, i.received_at, i.image_hash,
           i.intent, i.subject_id, i.face_count, i.frame
    FROM input i LEFT JOIN crops c ON c.crop_id = i.crop_id
    WHERE c.crop_id IS NULL OR c.face_count < i.face_count
    ORDER BY i.crop_id, i.face_count DESC
    ON CONFLICT (crop_id) DO UPDATE SET face_count = greatest(crops.face_count, EXCLUDED.face_count)
), wrote AS (
    INSERT INTO recognitions (crop_id, face_index, collection, camera, status, reason, stage, detail, quality, box,
        decision, person_id, face_id, similarity, threshold, runner_up, model, times, received_at, finished_at)
    SELECT crop_id, face_index, collection, camera, status, reason, stage, detail, quality, box, decision, person_id,
        face_id, similarity, threshold, runner_up, model, times, received_at, coalesce(finished_at, clock_timestamp())
    FROM input
    ON CONFLICT (crop_id, face_index) DO UPDATE SET
        status = EXCLUDED.status, reason = EXCLUDED.reason, stage = EXCLUDED.stage, detail = EXCLUDED.detail,
        quality = EXCLUDED.quality, box = EXCLUDED.box, decision = EXCLUDED.decision, person_id = EXCLUDED.person_id,
        face_id = EXCLUDED.face_id, similarity = EXCLUDED.similarity, threshold = EXCLUDED.threshold,
        runner_up = EXCLUDED.runner_up, model = EXCLUDED.model, times = EXCLUDED.times,
        finished_at = EXCLUDED.finished_at, published_at = NULL, generation = recognitions.generation + 1
    WHERE recognitions.status = 'failed' AND EXCLUDED.status <> 'failed'
    RETURNING crop_id, face_index, status, reason, stage, detail, collection, camera, finished_at, generation
), failures AS (
    INSERT INTO stage_failures (crop_id, face_index, stage, status, reason, signal, value, "limit", message, collection,
        camera, at)
    SELECT crop_id, face_index, stage, status, reason, detail->>'signal', (detail->>'value')::double precision,
        (detail->>'limit')::double precision, detail->>'message', collection, camera, finished_at
    FROM wrote WHERE status IN ('rejected', 'failed')
    ON CONFLICT DO NOTHING
)
SELECT crop_id, face_index, generation, finished_at FROM wrote"#
);

// A replica that published an earlier generation must not mark the one that took its place.
const PUBLISHED: &str = "
UPDATE recognitions r SET published_at = now()
FROM UNNEST($1::uuid[], $2::integer[], $3::integer[]) AS i (crop_id, face_index, generation)
WHERE r.crop_id = i.crop_id AND r.face_index = i.face_index AND r.generation = i.generation AND r.published_at IS NULL";

// The message is of no use but that its commit is waited for: what was committed before it is on the disk then. Where a row was
// lost and its face ended anew, only the time tells the two apart.
const SETTLED: &str = "
SELECT pg_logical_emit_message(true, 'facewire', ''::text)::text, ARRAY(
    SELECT i.place
    FROM UNNEST($1::uuid[], $2::integer[], $3::integer[], $4::timestamptz[])
        WITH ORDINALITY AS i (crop_id, face_index, generation, finished_at, place)
    WHERE NOT EXISTS (
        SELECT FROM recognitions r
        WHERE r.crop_id = i.crop_id AND r.face_index = i.face_index
          AND (r.generation > i.generation OR (r.generation = i.generation AND r.finished_at = i.finished_at))))";

type Key = (Uuid, i32);

/// When a write counts as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Commit {
    OnDisk,
    /// Everybody sees it; a Postgres that dies within the second loses it.
    Seen,
}

/// What one batch came to.
#[derive(Default)]
struct Batch {
    /// Generation and time of what this call wrote.
    wrote: HashMap<Key, (u32, OffsetDateTime)>,
    /// What other calls wrote.
    stored: HashMap<Key, Result<Finished, StoreError>>,
    faults: HashMap<Key, StoreError>,
}

impl Store {
    /// Writes the endings that have no row yet, or whose row failed while they did not (a replayed dead letter); every
    /// other row stays as it is. Answers in the order of `endings` what the rows hold now. What is rejected or failed also
    /// enters `stage_failures`. Persons who were erased meanwhile are in none of them. An error within the answer is that
    /// ending's own fault: its values cannot be stored.
    ///
    /// # Errors
    /// What is no ending's fault. Some may have been written; handing all in again is harmless.
    pub async fn finish(&self, endings: &[Ending]) -> Result<Vec<Result<Finished, StoreError>>, StoreError> {
        let mut answers = self.write(endings, Commit::OnDisk).await?;
        let erased =
            self.take_back(answers.iter().flatten().map(|finished| &finished.row).collect(), |_| false).await?;
        answers.iter_mut().flatten().for_each(|finished| finished.row.forget(&erased));
        Ok(answers)
    }

    /// The same, with less waited for: the rows are there, but surely on the disk only after [`Store::settle`], and persons
    /// may be in them who were erased meanwhile. Before they are published, [`Store::take_back`] says who was erased, and
    /// [`Ending::forget`] leaves them out.
    ///
    /// # Errors
    /// As [`Store::finish`].
    pub async fn record(&self, endings: &[Ending]) -> Result<Vec<Result<Finished, StoreError>>, StoreError> {
        self.write(endings, Commit::Seen).await
    }

    async fn write(&self, endings: &[Ending], commit: Commit) -> Result<Vec<Result<Finished, StoreError>>, StoreError> {
        let chosen = choose(endings);
        let mut unique: Vec<&Ending> = chosen.values().filter_map(|index| endings.get(*index)).collect();
        // Every process takes keys in the same order: no deadlock.
        unique.sort_unstable_by_key(|ending| ending.key());
        let mut batch = Batch::default();
        let mut parts = Parts::of(unique.len());
        while let Some(part) = parts.next() {
            let items = unique.get(part.clone()).unwrap_or_default();
            match run!(self.hot(), "finish", connection => write(connection, items, commit).await) {
                Ok(rows) => batch.wrote.extend(
                    rows.into_iter().map(|(crop, face, generation, at)| ((crop, face), (unsigned(generation), at))),
                ),
                Err(error) => {
                    let at_fault = parts.failed(part, error.clone())?.and_then(|index| unique.get(index));
                    batch.faults.extend(at_fault.map(|ending| (ending.key(), error)));
                }
            }
        }
        let mut others: Vec<Key> = unique.iter().map(|ending| ending.key()).collect();
        others.retain(|key| !batch.wrote.contains_key(key) && !batch.faults.contains_key(key));
        for chunk in others.chunks(CHUNK) {
            let keys: (Vec<Uuid>, Vec<i32>) = chunk.iter().copied().unzip();
            let rows = run!(self.hot(), "finish", connection => stored::rows(connection, &keys).await)?;
            batch.stored.extend(rows.into_iter().map(|row| (row.key(), row.try_into())));
        }
        let answers = endings.iter().enumerate().map(|(index, ending)| answer(endings, &chosen, &batch, index, ending));
        Ok(answers.collect())
    }

    /// Waits until these rows are on the disk, and says of each in order whether it is there. One that is not was removed, or
    /// lost by a Postgres that died since [`Store::record`]; another ending may have taken its place.
    ///
    /// # Errors
    /// As [`Store::finish`].
    pub async fn settle(&self, rows: &[&Finished]) -> Result<Vec<bool>, StoreError> {
        let mut there = vec![true; rows.len()];
        for (rows, there) in rows.chunks(CHUNK).zip(there.chunks_mut(CHUNK)) {
            let crops: Vec<Uuid> = rows.iter().map(|finished| finished.row.crop.crop.as_uuid()).collect();
            let faces: Vec<i32> = rows.iter().map(|finished| int(finished.row.face_index)).collect();
            let generations: Vec<i32> = rows.iter().map(|finished| int(finished.generation)).collect();
            let times: Vec<Option<OffsetDateTime>> = rows.iter().map(|finished| finished.row.finished_at).collect();
            let (_, gone): (String, Vec<i64>) = run!(self.hot(), "settle", connection => {
                let settled = sqlx::query_as(SETTLED).bind(&crops).bind(&faces).bind(&generations).bind(&times);
                settled.fetch_one(connection).await
            })?;
            for place in gone {
                // Postgres counts from 1.
                let place = usize::try_from(place).ok().and_then(|place| there.get_mut(place.checked_sub(1)?));
                place.into_iter().for_each(|there| *there = false);
            }
        }
        Ok(there)
    }

    /// Remembers that the results of these generations were published. Returns how many were not remembered before.
    pub async fn mark_published(&self, results: &[(CropId, u32, u32)]) -> Result<u64, StoreError> {
        let mut keys: Vec<(Uuid, i32, i32)> =
            results.iter().map(|(crop, face, generation)| (crop.as_uuid(), int(*face), int(*generation))).collect();
        keys.sort_unstable();
        keys.dedup();
        let mut marked = 0;
        for chunk in keys.chunks(CHUNK) {
            let crops: Vec<Uuid> = chunk.iter().map(|key| key.0).collect();
            let faces: Vec<i32> = chunk.iter().map(|key| key.1).collect();
            let generations: Vec<i32> = chunk.iter().map(|key| key.2).collect();
            marked += run!(self.hot(), "mark published", connection => {
                sqlx::query(PUBLISHED).bind(&crops).bind(&faces).bind(&generations).execute(connection).await
            })?
            .rows_affected();
        }
        Ok(marked)
    }
}

fn has_its_reason(ending: &Ending) -> bool {
    let needs_reason = matches!(ending.outcome.status, Status::NoMatch | Status::Rejected | Status::Failed);
    needs_reason == ending.outcome.reason.is_some()
}

/// Which ending of a batch counts for each key: the first, but a failed one gives way as its row would.
fn choose(endings: &[Ending]) -> HashMap<Key, usize> {
    let mut chosen: HashMap<Key, (usize, bool)> = HashMap::with_capacity(endings.len());
    for (index, ending) in endings.iter().enumerate().filter(|(_, ending)| has_its_reason(ending)) {
        let entry = chosen.entry(ending.key()).or_insert((index, ending.failed()));
        if entry.1 && !ending.failed() {
            *entry = (index, false);
        }
    }
    chosen.into_iter().map(|(key, (index, _))| (key, index)).collect()
}

fn answer(
    endings: &[Ending],
    chosen: &HashMap<Key, usize>,
    batch: &Batch,
    index: usize,
    ending: &Ending,
) -> Result<Finished, StoreError> {
    if !has_its_reason(ending) {
        return Err(StoreError::Invalid { index, what: "exactly the endings that are no success have a reason" });
    }
    let key = ending.key();
    if let Some(error) = batch.faults.get(&key) {
        return Err(error.clone());
    }
    let written = chosen.get(&key).and_then(|at| Some((*at, endings.get(*at)?, *batch.wrote.get(&key)?)));
    if let Some((at, ending, (generation, time))) = written {
        let row = Ending { finished_at: Some(time), ..ending.clone() };
        return Ok(Finished { row, generation, published: false, wrote: at == index });
    }
    // Retention may remove a row between the two statements; then the ending is new the next time.
    let gone = || StoreError::Unavailable { operation: "finish", cause: "the row was removed meanwhile".to_owned() };
    batch.stored.get(&key).cloned().unwrap_or_else(|| Err(gone()))
}

async fn write(
    connection: &mut PgConnection,
    endings: &[&Ending],
    commit: Commit,
) -> Result<Vec<(Uuid, i32, i32, OffsetDateTime)>, sqlx::Error> {
    fn column<'a, T>(endings: &[&'a Ending], value: impl Fn(&'a Ending) -> T) -> Vec<T> {
        endings.iter().map(|ending| value(ending)).collect()
    }
    fn best(ending: &Ending) -> Option<f32> {
        ending.decision.as_ref().and_then(|decision| decision.best).map(|best| best.similarity)
    }
    fn runner_up(ending: &Ending) -> Option<f32> {
        ending.decision.as_ref().and_then(|decision| decision.runner_up).map(|second| second.similarity)
    }
    let e = endings;
    sqlx::query_as(FINISH)
        .bind(column(e, |ending| ending.crop.crop.as_uuid()))
        .bind(column(e, |ending| int(ending.face_index)))
        .bind(column(e, |ending| int(ending.face_count.max(1))))
        .bind(column(e, |ending| ending.crop.collection.as_str()))
        .bind(column(e, |ending| ending.crop.camera.as_str()))
        .bind(column(e, |ending| ending.crop.captured_at))
        .bind(column(e, |ending| ending.crop.received_at))
        .bind(column(e, |ending| ending.crop.image_hash.as_bytes().as_slice()))
        .bind(column(e, |ending| ending.crop.intent.as_str()))
        .bind(column(e, |ending| ending.crop.subject.as_ref().map(SubjectId::as_str)))
        .bind(column(e, |ending| ending.outcome.status.as_str()))
        .bind(column(e, |ending| ending.outcome.reason.map(|reason| reason.as_str())))
        .bind(column(e, |ending| ending.outcome.stage.as_str()))
        .bind(column(e, |ending| ending.outcome.detail.as_ref().map(clean_detail).map(Json)))
        .bind(column(e, |ending| ending.quality.as_ref().map(clean_quality).map(Json)))
        .bind(column(e, |ending| ending.bounding_box.map(Json)))
        .bind(column(e, |ending| ending.decision.as_ref().map(clean_decision).map(Json)))
        .bind(column(e, Ending::person_id))
        .bind(column(e, Ending::face_id))
        .bind(column(e, |ending| finite(best(ending))))
        .bind(column(e, |ending| finite(ending.decision.as_ref().map(|decision| decision.threshold))))
        .bind(column(e, |ending| finite(runner_up(ending))))
        .bind(column(e, |ending| ending.model.as_deref().map(text)))
        .bind(column(e, |ending| Json(&ending.times)))
        .bind(column(e, |ending| ending.finished_at))
        .bind(column(e, |ending| ending.crop.frame))
        .bind(commit == Commit::Seen)
        .fetch_all(connection)
        .await
}

/// What is not a number is stored as nothing (in JSON as null).
fn finite(value: Option<f32>) -> Option<f32> {
    value.filter(|number| number.is_finite())
}

/// JSON in Postgres holds no NUL.
fn clean_detail(detail: &Detail) -> Cow<'_, Detail> {
    let dirty = |field: &Option<String>| field.as_ref().is_some_and(|value| value.contains('\0'));
    if !dirty(&detail.message) && !dirty(&detail.signal) {
        return Cow::Borrowed(detail);
    }
    let clean = |field: &Option<String>| field.as_deref().map(|value| text(value).into_owned());
    Cow::Owned(Detail { message: clean(&detail.message), signal: clean(&detail.signal), ..detail.clone() })
}

fn clean_decision(decision: &Decision) -> Cow<'_, Decision> {
    match decision.calibration.as_deref().map(text) {
        Some(Cow::Owned(clean)) => Cow::Owned(Decision { calibration: Some(clean), ..decision.clone() }),
        _ => Cow::Borrowed(decision),
    }
}

fn clean_quality(quality: &FaceQuality) -> Cow<'_, FaceQuality> {
    match text(&quality.status) {
        Cow::Borrowed(_) => Cow::Borrowed(quality),
        Cow::Owned(status) => Cow::Owned(FaceQuality { status, ..quality.clone() }),
    }
}
