//! Admission: a crop's row is written once, however often the crop comes. Endings are written elsewhere.

use std::collections::{HashMap, HashSet};

use facewire_domain::{CameraId, CollectionId, CropId, ImageHash, Intent, SubjectId};
use sqlx::postgres::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::collections::first_use;
use crate::erased::derived;
use crate::error::StoreError;
use crate::parts::Parts;
use crate::row::row;
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
    /// A whole frame: every face of it has an ending of its own.
    pub frame: bool,
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
    /// Width and height of the upright picture in pixels, as boxes have them, where the header could be read.
    pub size: Option<(u32, u32)>,
    /// The producer's id of the image: an erasure finds the crop by it.
    pub asset: Option<String>,
}

/// What the store knew of a crop when it was admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Admission {
    /// Its row was written by this call. Of duplicates in one batch the first is new.
    New,
    /// It was admitted before with another intent, or for another subject, and that stays: this one is to be refused with an
    /// answer, since the crop's id does not contain what is wanted of it.
    OtherIntent {
        /// The intent that it was admitted with.
        first: Intent,
    },
    /// It was admitted before as a crop and comes as a frame, or the other way round; the same holds as of another intent.
    OtherFrame {
        /// Whether it was admitted as a frame.
        first: bool,
    },
    /// It was admitted before and is on its way, or its result may be lost: send it on again.
    Seen,
    /// It was admitted before and a face of it failed: it is to be tried again.
    Failed,
    /// Every face of it has an ending that is published and did not fail: there is nothing left to do.
    Ended,
    /// It has ended so, refused for what its message said or for whom it was to enrol, and comes in another message, which may be
    /// mended: the ending stays, and this one is to be refused with an answer as well.
    Refused,
}

// Nobody waits until the row is on the disk: should the server die within that second, the ending writes the row that is
// missing, without what only `ingest` knew (bytes, format, size).
const ADMIT: &str = concat!(
    "
WITH input AS MATERIALIZED (
    SELECT i.* FROM UNNEST($1::uuid[], $2::text[], $3::text[], $4::timestamptz[], $5::timestamptz[], $6::bytea[],
                           $7::bigint[], $8::text[], $9::integer[], $10::integer[], $11::text[], $12::text[], $13::boolean[])
        AS i (crop_id, collection, camera, captured_at, received_at, image_hash, bytes, format, width, height, intent,
              subject_id, frame)
    CROSS JOIN (SELECT set_config('synchronous_commit', 'off', true)) AS s
), ",
    first_use!("SELECT DISTINCT collection AS name FROM input"),
    "
INSERT INTO crops (crop_id, collection, camera, captured_at, received_at, image_hash, bytes, format, width, height,
                   intent, subject_id, frame)
SELECT * FROM input
ON CONFLICT DO NOTHING
RETURNING crop_id"
);

// Of all crops of a batch, also those that were there: who died in between comes again. The crops are locked first: one that is
// removed meanwhile has no asset, and fails nobody else's.
const ASSETS: &str = "
INSERT INTO crop_assets (crop_id, collection, asset_id)
SELECT i.* FROM UNNEST($1::uuid[], $2::text[], $3::text[]) AS i (crop_id, collection, asset_id)
JOIN crops c ON c.crop_id = i.crop_id
FOR KEY SHARE OF c
ON CONFLICT DO NOTHING";

// A failed ending does not count as one, since a success may replace it; nor does an unpublished one, since its result may
// be lost.
const SEEN: &str = "
SELECT c.crop_id, c.intent, c.subject_id, c.frame, c.received_at,
       EXISTS (SELECT FROM recognitions r WHERE r.crop_id = c.crop_id AND r.status = 'failed') AS failed,
       (SELECT count(*) FROM recognitions r
        WHERE r.crop_id = c.crop_id AND r.status <> 'failed' AND r.published_at IS NOT NULL) >= greatest(1, c.face_count) AS ended,
       EXISTS (SELECT FROM recognitions r WHERE r.crop_id = c.crop_id AND r.status = 'rejected'
               AND r.reason IN ('invalid_message', 'identity_conflict')) AS refused
FROM crops c WHERE c.crop_id = ANY($1::uuid[])";

// Whoever was erased, or is just being erased: an erasure begins with the tombstone.
const ERASED: &str = "
SELECT DISTINCT i.person_id FROM UNNEST($1::text[], $2::uuid[]) AS i (collection, person_id)
JOIN tombstones t ON t.collection = i.collection AND t.key = uuid_send(i.person_id)";

row! {
    /// A crop that was there.
    struct Seen {
        crop_id: Uuid,
        intent: String,
        subject_id: Option<String>,
        frame: bool,
        received_at: OffsetDateTime,
        /// Whether a face of it failed.
        failed: bool,
        /// Whether every face of it has ended without failing.
        ended: bool,
        /// Whether a face of it was refused for what the message said, or for whom it was to enrol.
        refused: bool,
    }
}

impl Store {
    /// Writes the rows of the crops that have none, and those of their collections; answers in the order of `crops`. An error
    /// within the answer is that crop's own fault: its values cannot be stored.
    ///
    /// # Errors
    /// What is no crop's fault; nothing is known of any of them then.
    pub async fn admit(&self, crops: &[NewCrop]) -> Result<Vec<Result<Admission, StoreError>>, StoreError> {
        let mut first: HashMap<CropId, (usize, &NewCrop)> = HashMap::with_capacity(crops.len());
        for (index, crop) in crops.iter().enumerate() {
            first.entry(crop.head.crop).or_insert((index, crop));
        }
        let mut unique: Vec<&NewCrop> = first.values().map(|(_, crop)| *crop).collect();
        // Every process takes keys in the same order: no deadlock.
        unique.sort_unstable_by_key(|crop| crop.head.crop);
        let mut written = Written::default();
        let mut parts = Parts::of(unique.len());
        while let Some(part) = parts.next() {
            let items = unique.get(part.clone()).unwrap_or_default();
            match run!(self.hot(), "admit", connection => insert(connection, items).await) {
                Ok(new) => {
                    written.new.extend(new);
                    let others = ids(items).filter(|id| !written.new.contains(id)).collect();
                    written.seen.extend(self.seen(others).await?);
                }
                Err(error) => {
                    let at_fault = parts.failed(part, error.clone())?.and_then(|index| unique.get(index));
                    written.faults.extend(at_fault.map(|crop| (crop.head.crop, error)));
                }
            }
        }
        written.erased = self.erased_subjects(crops, &written.seen).await?;
        unique.retain(|crop| !written.faults.contains_key(&crop.head.crop));
        self.note_assets(&unique).await?;
        self.take_back_subjects(&unique.iter().map(|crop| &crop.head).collect::<Vec<_>>()).await?;
        let answer = |(index, crop): (usize, &NewCrop)| {
            let (at, first) = first.get(&crop.head.crop).copied().unwrap_or((index, crop));
            written.admission(crop, first, at == index)
        };
        Ok(crops.iter().enumerate().map(answer).collect())
    }

    /// Notes what the producer calls the images of these crops, where it calls them anything.
    async fn note_assets(&self, crops: &[&NewCrop]) -> Result<(), StoreError> {
        let asset =
            |crop: &NewCrop| crop.asset.as_deref().map(|asset| text(asset).into_owned()).filter(|a| !a.is_empty());
        let named: Vec<(&NewCrop, String)> = crops.iter().filter_map(|crop| Some((*crop, asset(crop)?))).collect();
        for chunk in named.chunks(CHUNK) {
            let ids: Vec<Uuid> = chunk.iter().map(|(crop, _)| crop.head.crop.as_uuid()).collect();
            let collections: Vec<&str> = chunk.iter().map(|(crop, _)| crop.head.collection.as_str()).collect();
            let assets: Vec<&str> = chunk.iter().map(|(_, asset)| asset.as_str()).collect();
            run!(self.hot(), "note assets", connection => {
                sqlx::query(ASSETS).bind(&ids).bind(&collections).bind(&assets).execute(connection).await
            })?;
        }
        Ok(())
    }

    async fn seen(&self, ids: Vec<Uuid>) -> Result<Vec<(Uuid, Seen)>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let rows: Vec<Seen> = run!(self.hot(), "admit", connection => {
            sqlx::query_as(SEEN).bind(&ids).fetch_all(connection).await
        })?;
        Ok(rows.into_iter().map(|seen| (seen.crop_id, seen)).collect())
    }

    /// Who was erased of those whom these crops are to enrol, as far as the crops' rows name nobody.
    async fn erased_subjects(
        &self,
        crops: &[NewCrop],
        seen: &HashMap<Uuid, Seen>,
    ) -> Result<HashSet<Uuid>, StoreError> {
        let is_nameless = |seen: &Seen| seen.subject_id.is_none();
        let nameless = crops.iter().filter(|crop| seen.get(&crop.head.crop.as_uuid()).is_some_and(is_nameless));
        let (collections, persons): (Vec<&str>, Vec<Uuid>) =
            nameless.filter_map(|crop| Some((crop.head.collection.as_str(), derived(&crop.head)?))).unzip();
        if persons.is_empty() {
            return Ok(HashSet::new());
        }
        let erased: Vec<Uuid> = run!(self.hot(), "admit", connection => {
            sqlx::query_scalar(ERASED).bind(&collections).bind(&persons).fetch_all(connection).await
        })?;
        Ok(erased.into_iter().collect())
    }
}

/// What became of the crops of a batch.
#[derive(Default)]
struct Written {
    new: HashSet<Uuid>,
    seen: HashMap<Uuid, Seen>,
    /// Persons whose crops name nobody any more.
    erased: HashSet<Uuid>,
    faults: HashMap<CropId, StoreError>,
}

impl Written {
    /// The answer for `crop`; `first` is the first of its id in the batch, and `is_first` says that it is the same.
    fn admission(&self, crop: &NewCrop, first: &NewCrop, is_first: bool) -> Result<Admission, StoreError> {
        if let Some(error) = self.faults.get(&crop.head.crop) {
            return Err(error.clone());
        }
        let wanted = |crop: &NewCrop| (crop.head.intent, crop.head.subject.clone());
        if self.new.contains(&crop.head.crop.as_uuid()) {
            return Ok(match is_first {
                true => Admission::New,
                false if wanted(crop) != wanted(first) => Admission::OtherIntent { first: first.head.intent },
                false if crop.head.frame != first.head.frame => Admission::OtherFrame { first: first.head.frame },
                false => Admission::Seen,
            });
        }
        // A row that was removed between the two statements: the crop comes again, and is new then.
        let Some(seen) = self.seen.get(&crop.head.crop.as_uuid()) else { return Ok(Admission::Seen) };
        let first: Intent = seen.intent.parse().map_err(|_| StoreError::corrupt("crops.intent"))?;
        let subject = crop.head.subject.as_ref().map(SubjectId::as_str);
        // An enrolment whose person was erased has lost its subject: its further way refuses it. Another came without one.
        let is_erased = || derived(&crop.head).is_some_and(|person| self.erased.contains(&person));
        let lost_subject = first == Intent::Enroll && seen.subject_id.is_none() && is_erased();
        let same_subject = seen.subject_id.as_deref() == subject || lost_subject;
        if first != crop.head.intent || !same_subject {
            return Ok(Admission::OtherIntent { first });
        }
        if seen.frame != crop.head.frame {
            return Ok(Admission::OtherFrame { first: seen.frame });
        }
        // Redelivered, it has the time of the stream that the row has, to the microsecond.
        let is_redelivered = (crop.head.received_at - seen.received_at).abs() < time::Duration::MICROSECOND;
        Ok(match seen {
            Seen { failed: true, .. } => Admission::Failed,
            Seen { ended: true, refused: true, .. } if !is_redelivered => Admission::Refused,
            Seen { ended: true, .. } => Admission::Ended,
            _ => Admission::Seen,
        })
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
        .bind(column(crops, |crop| crop.head.frame))
        .fetch_all(connection)
        .await
}
