//! Admission: a crop's row is written once, however often the crop comes. Endings are written elsewhere.

use std::collections::{HashMap, HashSet};

use facewire_domain::{CameraId, CollectionId, CropId, ImageHash, Intent, SubjectId};
use sqlx::postgres::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::error::StoreError;
use crate::store::{CHUNK, Store, int, run, text};

/// What every stage knows of a crop.
#[derive(Debug, Clone, PartialEq)]
pub struct CropHead {
    /// Derived from collection, camera, `captured_at` and `image_hash` (`CropId::derive`).
    pub crop: CropId,
    /// The gallery.
    pub collection: CollectionId,
    /// The camera.
    pub camera: CameraId,
    /// When the picture was taken; kept to the microsecond.
    pub captured_at: OffsetDateTime,
    /// The stream's time of the message.
    pub received_at: OffsetDateTime,
    /// Of the original bytes.
    pub image_hash: ImageHash,
    /// What the producer wants.
    pub intent: Intent,
    /// Enrol: the person's external id.
    pub subject: Option<SubjectId>,
}

/// A crop as `ingest` saw it.
#[derive(Debug, Clone, PartialEq)]
pub struct NewCrop {
    /// What travels on with it.
    pub head: CropHead,
    /// Length of the original in bytes.
    pub bytes: u64,
    /// `jpeg`, `png` or `webp`; none where the signature is of no known format.
    pub format: Option<String>,
    /// Width and height in pixels, where the header could be read.
    pub size: Option<(u32, u32)>,
}

/// What the store knew of a crop when it was admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Admission {
    /// Its row was written by this call. Of duplicates in one batch the first is new.
    New,
    /// It was admitted before and is on its way, or an ending of it may still be replaced: send it on again.
    Seen,
    /// Every face of it has an ending that is published and did not fail: there is nothing left to do.
    Ended,
}

const ADMIT: &str = "
INSERT INTO crops (crop_id, collection, camera, captured_at, received_at, image_hash, bytes, format, width, height,
                   intent, subject_id)
SELECT * FROM UNNEST($1::uuid[], $2::text[], $3::text[], $4::timestamptz[], $5::timestamptz[], $6::bytea[], $7::bigint[],
                     $8::text[], $9::integer[], $10::integer[], $11::text[], $12::text[])
ON CONFLICT DO NOTHING
RETURNING crop_id";

// A failed ending is left out, since a replay may replace it; an unpublished one, since its result may be lost.
const ENDED: &str = "
SELECT c.crop_id
FROM crops c JOIN recognitions r ON r.crop_id = c.crop_id
WHERE c.crop_id = ANY($1::uuid[])
GROUP BY c.crop_id
HAVING count(*) FILTER (WHERE r.status <> 'failed' AND r.published_at IS NOT NULL) >= greatest(1, c.face_count)";

impl Store {
    /// Writes the rows of the crops that have none; answers in the order of `crops`.
    pub async fn admit(&self, crops: &[NewCrop]) -> Result<Vec<Admission>, StoreError> {
        self.ensure_collections(crops.iter().map(|crop| &crop.head.collection)).await?;
        let mut by_id: HashMap<CropId, &NewCrop> = HashMap::with_capacity(crops.len());
        for crop in crops {
            by_id.entry(crop.head.crop).or_insert(crop);
        }
        let mut unique: Vec<&NewCrop> = by_id.into_values().collect();
        // Every process takes keys in the same order: no deadlock.
        unique.sort_unstable_by_key(|crop| crop.head.crop);
        let (mut new, mut ended) = (HashSet::new(), HashSet::new());
        for chunk in unique.chunks(CHUNK) {
            let written = run!(self, "admit", connection => insert(connection, chunk).await)?;
            new.extend(written);
            let seen: Vec<Uuid> = ids(chunk).filter(|id| !new.contains(id)).collect();
            if !seen.is_empty() {
                ended.extend(run!(self, "admit", connection => {
                    sqlx::query_scalar::<_, Uuid>(ENDED).bind(&seen).fetch_all(connection).await
                })?);
            }
        }
        // Taking the id out leaves duplicates of a new crop as seen.
        Ok(crops.iter().map(|crop| admission(crop.head.crop.as_uuid(), &mut new, &ended)).collect())
    }
}

fn admission(id: Uuid, new: &mut HashSet<Uuid>, ended: &HashSet<Uuid>) -> Admission {
    if new.remove(&id) {
        Admission::New
    } else if ended.contains(&id) {
        Admission::Ended
    } else {
        Admission::Seen
    }
}

fn ids<'a>(crops: &'a [&NewCrop]) -> impl Iterator<Item = Uuid> + 'a {
    crops.iter().map(|crop| crop.head.crop.as_uuid())
}

async fn insert(connection: &mut PgConnection, crops: &[&NewCrop]) -> Result<Vec<Uuid>, sqlx::Error> {
    fn column<'a, T>(crops: &[&'a NewCrop], value: impl Fn(&'a NewCrop) -> T) -> Vec<T> {
        crops.iter().map(|crop| value(crop)).collect()
    }
    sqlx::query_scalar(ADMIT)
        .bind(column(crops, |crop| crop.head.crop.as_uuid()))
        .bind(column(crops, |crop| crop.head.collection.as_str()))
        .bind(column(crops, |crop| crop.head.camera.as_str()))
        .bind(column(crops, |crop| crop.head.captured_at))
        .bind(column(crops, |crop| crop.head.received_at))
        .bind(column(crops, |crop| crop.head.image_hash.as_bytes().as_slice()))
        .bind(column(crops, |crop| i64::try_from(crop.bytes).unwrap_or(i64::MAX)))
        .bind(column(crops, |crop| crop.format.as_deref().map(text)))
        .bind(column(crops, |crop| crop.size.map(|(width, _)| int(width))))
        .bind(column(crops, |crop| crop.size.map(|(_, height)| int(height))))
        .bind(column(crops, |crop| crop.head.intent.as_str()))
        .bind(column(crops, |crop| crop.head.subject.as_ref().map(SubjectId::as_str)))
        .fetch_all(connection)
        .await
}
