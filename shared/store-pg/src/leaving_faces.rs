//! Faces that are tombstoned and about to be removed, with what decides about their images: whether an erasure tombstoned them, who
//! else needs the images, and whether such an image is just on its way through the chain. Nothing is changed here.

use std::time::Duration;

use facewire_domain::FaceId;
use uuid::Uuid;

use crate::erasure::ErasedFace;
use crate::error::StoreError;
use crate::face_list::{ImageUse, image_use};
use crate::row::row;
use crate::store::{CHUNK, Store, image_hash, run, unsigned};

/// Crops of a collection among which those of an image are looked for, the newest: no index leads from an image to its crops, and
/// those that are on their way are the newest, but for a backlog of more.
const NEWEST: i64 = 20_000;

/// A tombstoned face, and what decides about its images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeavingFace {
    /// The face, and how its images are named.
    pub face: ErasedFace,
    /// Who else needs them.
    pub used: ImageUse,
    /// It is of an erasure: of its person, of whoever was recognised in it, of its image, or of its collection at a time when it was
    /// there. Otherwise it was too old, or removed.
    pub erased: bool,
    /// Another crop of the same image was received lately: its images may be there, and its face not yet.
    pub awaited: bool,
}

row! {
    struct Columns {
        face_id: Uuid,
        collection: String,
        image_hash: Vec<u8>,
        face_index: i32,
        image_used: bool,
        face_used: bool,
        erased: bool,
        awaited: bool,
    }
}

impl Store {
    /// Those of these faces that are tombstoned. `lately`: how long the face of a crop may be on its way.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn leaving_faces(&self, faces: &[FaceId], lately: Duration) -> Result<Vec<LeavingFace>, StoreError> {
        // A person who came back since has their tombstone still. A face of theirs that was removed, and that a crash left, counts as
        // erased then: better too much of it goes than too little.
        const SQL: &str = concat!(
            "
WITH leaving AS MATERIALIZED (
    SELECT f.face_id, f.collection, f.image_hash, f.face_index, f.person_id, f.crop_id, f.created_at, m.person_id AS matched
    FROM faces f LEFT JOIN matched_faces m ON m.face_id = f.face_id
    WHERE f.face_id = ANY($1::uuid[]) AND f.vector_state = 'tombstoned'
), received AS MATERIALIZED (
    SELECT c.collection, c.image_hash, c.crop_id FROM (SELECT DISTINCT collection FROM leaving) l
    CROSS JOIN LATERAL (
        SELECT c.collection, c.image_hash, c.crop_id FROM crops c
        WHERE c.collection = l.collection AND c.admitted_at > now() - make_interval(secs => $2)
        ORDER BY c.admitted_at DESC LIMIT $3
    ) c
    WHERE c.image_hash IN (SELECT image_hash FROM leaving)
)
SELECT i.face_id, i.collection, i.image_hash, i.face_index, ",
            image_use!(),
            ",
    EXISTS (SELECT FROM tombstones t WHERE t.collection = i.collection
        AND t.key = ANY(ARRAY[uuid_send(i.person_id), uuid_send(i.matched), i.image_hash, ''::bytea])
        AND (t.key <> ''::bytea OR t.at > i.created_at)) AS erased,
    EXISTS (SELECT FROM received c WHERE c.collection = i.collection AND c.image_hash = i.image_hash
        AND c.crop_id IS DISTINCT FROM i.crop_id) AS awaited
FROM leaving i ORDER BY i.face_id"
        );
        let seconds = lately.as_secs_f64();
        let mut leaving = Vec::with_capacity(faces.len());
        for chunk in faces.chunks(CHUNK) {
            let ids: Vec<Uuid> = chunk.iter().map(FaceId::as_uuid).collect();
            let rows: Vec<Columns> = run!(self, "leaving faces", connection => {
                sqlx::query_as(SQL).bind(&ids).bind(seconds).bind(NEWEST).fetch_all(connection).await
            })?;
            for row in rows {
                leaving.push(row.try_into()?);
            }
        }
        Ok(leaving)
    }
}

impl TryFrom<Columns> for LeavingFace {
    type Error = StoreError;

    fn try_from(row: Columns) -> Result<Self, StoreError> {
        let face = ErasedFace {
            face: row.face_id.into(),
            collection: row.collection.parse().map_err(|_| StoreError::corrupt("faces.collection"))?,
            image_hash: image_hash(row.image_hash, "faces.image_hash")?,
            face_index: unsigned(row.face_index),
        };
        let used = ImageUse { image: row.image_used, face: row.face_used };
        Ok(Self { face, used, erased: row.erased, awaited: row.awaited })
    }
}
