//! Endings: exactly one row for each face of a crop, whatever is delivered twice. Results are published elsewhere; here it
//! is only remembered that they were.

use std::borrow::Cow;
use std::collections::HashMap;

use facewire_domain::{
    BoundingBox, Candidate, Decision, Detail, FaceId, Outcome, PersonId, Quality, Stage, Status, SubjectId,
};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgConnection;
use sqlx::types::Json;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::crops::CropHead;
use crate::error::StoreError;
use crate::store::{CHUNK, Store, int, run, text};
use facewire_domain::CropId;

/// When a stage worked on a crop.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct StageTime {
    /// The stage.
    pub stage: Stage,
    /// It took the crop from its stream.
    #[serde(with = "time::serde::rfc3339")]
    pub started_at: OffsetDateTime,
    /// It handed the crop on.
    #[serde(with = "time::serde::rfc3339")]
    pub finished_at: OffsetDateTime,
}

/// What the gate measured and found, as results show it (DESIGN §4).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FaceQuality {
    /// The signals.
    #[serde(flatten)]
    pub signals: Quality,
    /// `ok`, or the signal that broke its limit.
    pub status: String,
}

/// How one face of a crop ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Ending {
    /// The crop; its row is rebuilt from this where it is missing (a restored database).
    pub crop: CropHead,
    /// Which of the crop's faces, from 0.
    pub face_index: u32,
    /// Endings that the crop will have, 1 and up; raises the crop's own number, never lowers it.
    pub face_count: u32,
    /// Status, reason, stage, detail.
    pub outcome: Outcome,
    /// Where a face was found.
    pub quality: Option<FaceQuality>,
    /// Where a face was found, in pixels of the upright image.
    pub bounding_box: Option<BoundingBox>,
    /// Recognize: who it is or is nearest to.
    pub decision: Option<Decision>,
    /// Enrol: the person. For a match the decision says it.
    pub person: Option<PersonId>,
    /// Enrol: the face.
    pub face: Option<FaceId>,
    /// Pack and version that made the embedding.
    pub model: Option<String>,
    /// The stages it passed.
    pub times: Vec<StageTime>,
    /// When `enrich` wrote it down.
    pub finished_at: OffsetDateTime,
}

impl Ending {
    fn key(&self) -> (Uuid, i32) {
        (self.crop.crop.as_uuid(), int(self.face_index))
    }

    fn failed(&self) -> bool {
        self.outcome.status == Status::Failed
    }

    /// Who was recognised.
    fn matched(&self) -> Option<Candidate> {
        self.decision.as_ref().filter(|decision| decision.matched).and_then(|decision| decision.best)
    }

    /// The recognised or enrolled person.
    fn person_id(&self) -> Option<Uuid> {
        let matched = self.matched();
        self.person.or(matched.map(|best| best.person)).map(|person| person.as_uuid())
    }

    /// The recognised or enrolled face.
    fn face_id(&self) -> Option<Uuid> {
        let matched = self.matched();
        self.face.or(matched.map(|best| best.face)).map(|face| face.as_uuid())
    }
}

/// What became of an [`Ending`] that was handed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Finished {
    /// The row's result was published before: do not publish again.
    pub published: bool,
    /// The row holds this very ending, written by this call. Otherwise an earlier one stands.
    pub first: bool,
    /// With `first`: it took the place of a failed ending, whose result may have been published already.
    pub replaced: bool,
}

// One statement, hence one transaction and one round trip. A crop's row is touched only where it is missing or counts too
// few faces; a standing ending gives way only if it failed and the new one did not.
const FINISH: &str = r#"
WITH input AS MATERIALIZED (
    SELECT * FROM UNNEST(
        $1::uuid[], $2::integer[], $3::integer[], $4::text[], $5::text[], $6::timestamptz[], $7::timestamptz[],
        $8::bytea[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::jsonb[], $15::jsonb[],
        $16::jsonb[], $17::jsonb[], $18::uuid[], $19::uuid[], $20::real[], $21::real[], $22::real[], $23::text[],
        $24::jsonb[], $25::timestamptz[]
    ) AS i (crop_id, face_index, face_count, collection, camera, captured_at, received_at, image_hash, intent,
            subject_id, status, reason, stage, detail, quality, box, decision, person_id, face_id, similarity, threshold,
            runner_up, model, times, finished_at)
), crop AS (
    INSERT INTO crops (crop_id, collection, camera, captured_at, received_at, image_hash, intent, subject_id, face_count)
    SELECT DISTINCT ON (i.crop_id) i.crop_id, i.collection, i.camera, i.captured_at, i.received_at, i.image_hash,
           i.intent, i.subject_id, i.face_count
    FROM input i LEFT JOIN crops c ON c.crop_id = i.crop_id
    WHERE c.crop_id IS NULL OR c.face_count < i.face_count
    ORDER BY i.crop_id, i.face_count DESC
    ON CONFLICT (crop_id) DO UPDATE SET face_count = greatest(crops.face_count, EXCLUDED.face_count)
), wrote AS (
    INSERT INTO recognitions (crop_id, face_index, collection, camera, status, reason, stage, detail, quality, box,
        decision, person_id, face_id, similarity, threshold, runner_up, model, times, received_at, finished_at)
    SELECT crop_id, face_index, collection, camera, status, reason, stage, detail, quality, box,
        decision, person_id, face_id, similarity, threshold, runner_up, model, times, received_at, finished_at
    FROM input
    ON CONFLICT (crop_id, face_index) DO UPDATE SET
        status = EXCLUDED.status, reason = EXCLUDED.reason, stage = EXCLUDED.stage, detail = EXCLUDED.detail,
        quality = EXCLUDED.quality, box = EXCLUDED.box, decision = EXCLUDED.decision, person_id = EXCLUDED.person_id,
        face_id = EXCLUDED.face_id, similarity = EXCLUDED.similarity, threshold = EXCLUDED.threshold,
        runner_up = EXCLUDED.runner_up, model = EXCLUDED.model, times = EXCLUDED.times,
        finished_at = EXCLUDED.finished_at, published_at = NULL
    WHERE recognitions.status = 'failed' AND EXCLUDED.status <> 'failed'
    RETURNING crop_id, face_index, status, reason, stage, detail, collection, camera, finished_at, xmax <> 0 AS replaced
), failures AS (
    INSERT INTO stage_failures (crop_id, face_index, stage, status, reason, signal, value, "limit", message, collection,
        camera, at)
    SELECT crop_id, face_index, stage, status, reason, detail->>'signal', (detail->>'value')::double precision,
        (detail->>'limit')::double precision, detail->>'message', collection, camera, finished_at
    FROM wrote WHERE status IN ('rejected', 'failed')
    ON CONFLICT DO NOTHING
)
SELECT crop_id, face_index, replaced FROM wrote"#;

const STANDING: &str = "
SELECT r.crop_id, r.face_index, r.published_at IS NOT NULL
FROM recognitions r JOIN UNNEST($1::uuid[], $2::integer[]) AS i (crop_id, face_index)
  ON r.crop_id = i.crop_id AND r.face_index = i.face_index";

const PUBLISHED: &str = "
UPDATE recognitions r SET published_at = now()
FROM UNNEST($1::uuid[], $2::integer[]) AS i (crop_id, face_index)
WHERE r.crop_id = i.crop_id AND r.face_index = i.face_index AND r.published_at IS NULL";

impl Store {
    /// Writes the endings that have no row yet, or whose row failed while they did not (a replayed dead letter); every
    /// other row stays as it is. Answers in the order of `endings`. What is rejected or failed also enters
    /// `stage_failures`.
    pub async fn finish(&self, endings: &[Ending]) -> Result<Vec<Finished>, StoreError> {
        let kept = keep(endings)?;
        let mut unique: Vec<&Ending> = kept.values().filter_map(|index| endings.get(*index)).collect();
        // Every process takes keys in the same order: no deadlock.
        unique.sort_unstable_by_key(|ending| ending.key());
        let mut wrote: HashMap<(Uuid, i32), bool> = HashMap::with_capacity(unique.len());
        let mut standing: HashMap<(Uuid, i32), bool> = HashMap::new();
        for chunk in unique.chunks(CHUNK) {
            let rows = run!(self, "finish", connection => write(connection, chunk).await)?;
            wrote.extend(rows.into_iter().map(|(crop, face, replaced)| ((crop, face), replaced)));
            let others: (Vec<Uuid>, Vec<i32>) =
                chunk.iter().map(|ending| ending.key()).filter(|key| !wrote.contains_key(key)).unzip();
            if !others.0.is_empty() {
                let rows = run!(self, "finish", connection => look_up(connection, &others).await)?;
                standing.extend(rows.into_iter().map(|(crop, face, published)| ((crop, face), published)));
            }
        }
        Ok(endings
            .iter()
            .enumerate()
            .map(|(index, ending)| {
                let key = ending.key();
                let first = wrote.contains_key(&key) && kept.get(&key) == Some(&index);
                Finished {
                    published: standing.get(&key).copied().unwrap_or(false),
                    first,
                    replaced: first && wrote.get(&key).copied().unwrap_or(false),
                }
            })
            .collect())
    }

    /// Remembers that the results of these endings were published. Returns how many were not remembered before.
    pub async fn mark_published(&self, endings: &[(CropId, u32)]) -> Result<u64, StoreError> {
        let mut keys: Vec<(Uuid, i32)> = endings.iter().map(|(crop, face)| (crop.as_uuid(), int(*face))).collect();
        keys.sort_unstable();
        keys.dedup();
        let mut marked = 0;
        for chunk in keys.chunks(CHUNK) {
            let (crops, faces): (Vec<Uuid>, Vec<i32>) = chunk.iter().copied().unzip();
            marked += run!(self, "mark published", connection => {
                sqlx::query(PUBLISHED).bind(&crops).bind(&faces).execute(connection).await
            })?
            .rows_affected();
        }
        Ok(marked)
    }
}

/// Which ending of a batch counts for each key: the first, but a failed one gives way as its row would.
fn keep(endings: &[Ending]) -> Result<HashMap<(Uuid, i32), usize>, StoreError> {
    let mut kept: HashMap<(Uuid, i32), (usize, bool)> = HashMap::with_capacity(endings.len());
    for (index, ending) in endings.iter().enumerate() {
        let needs_reason = matches!(ending.outcome.status, Status::NoMatch | Status::Rejected | Status::Failed);
        if needs_reason != ending.outcome.reason.is_some() {
            return Err(StoreError::Invalid { index, what: "exactly the endings that are no success have a reason" });
        }
        let entry = kept.entry(ending.key()).or_insert((index, ending.failed()));
        if entry.1 && !ending.failed() {
            *entry = (index, false);
        }
    }
    Ok(kept.into_iter().map(|(key, (index, _))| (key, index)).collect())
}

async fn look_up(
    connection: &mut PgConnection,
    keys: &(Vec<Uuid>, Vec<i32>),
) -> Result<Vec<(Uuid, i32, bool)>, sqlx::Error> {
    sqlx::query_as(STANDING).bind(&keys.0).bind(&keys.1).fetch_all(connection).await
}

async fn write(connection: &mut PgConnection, endings: &[&Ending]) -> Result<Vec<(Uuid, i32, bool)>, sqlx::Error> {
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
