//! What people said of faces, in pages, as a calibration reads it: whose face it is, where a human and no job said so (enrolment is a
//! human's word), and whose it is not. What follows from it is decided elsewhere.

use facewire_domain::{CameraId, CollectionId, FaceId, ImageHash, PersonId};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::embedding;
use crate::error::StoreError;
use crate::face_record::FaceOrigin;
use crate::row::row;
use crate::store::{Store, image_hash, run, text};

/// A face of which a human said whose it is, or whose it is not. Not `Serialize`: the embedding is biometric data.
#[derive(Clone, PartialEq)]
pub struct CorrectedFace {
    /// The face.
    pub face: FaceId,
    /// Whose it is; of a refused face, whose it is not. Nobody who was merged into another.
    pub person: PersonId,
    /// L2-normalised.
    pub embedding: Vec<f32>,
    /// Its quality score, 0 to 1; none where none was measured.
    pub quality: Option<f32>,
    /// Enrolled, or kept of a crop.
    pub origin: FaceOrigin,
    /// Which camera's crop it came with. `None` where neither the face's row nor the crop's says so: the face was stored by an earlier
    /// release or without its crop's row, which is not there now either.
    pub camera: Option<CameraId>,
    /// Of the original bytes: a kept and an enrolled face may be of the same picture.
    pub image_hash: ImageHash,
}

impl std::fmt::Debug for CorrectedFace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Nothing biometric in a log.
        f.debug_struct("CorrectedFace").field("face", &self.face).field("person", &self.person).finish_non_exhaustive()
    }
}

row! {
    struct Columns {
        face_id: Uuid,
        person_id: Uuid,
        embedding: Vec<u8>,
        quality: Option<f32>,
        origin: String,
        camera: Option<String>,
        image_hash: Vec<u8>,
    }
}

impl TryFrom<Columns> for CorrectedFace {
    type Error = StoreError;

    fn try_from(row: Columns) -> Result<Self, StoreError> {
        let corrupt = StoreError::corrupt;
        Ok(Self {
            face: row.face_id.into(),
            person: row.person_id.into(),
            embedding: embedding::from_bytes(&row.embedding).ok_or(corrupt("faces.embedding"))?,
            quality: row.quality,
            origin: FaceOrigin::parse(&row.origin).ok_or(corrupt("faces.origin"))?,
            camera: match row.camera {
                Some(camera) => Some(camera.parse().map_err(|_| corrupt("faces.camera"))?),
                None => None,
            },
            image_hash: image_hash(row.image_hash, "faces.image_hash")?,
        })
    }
}

/// The columns of [`Columns`] of the faces `f` of the collection `$2` that have an embedding by the model `$1`; `$start` selects the
/// person.
macro_rules! corrected {
    ($start:literal, $from:literal, $rest:literal) => {
        concat!(
            $start,
            ", coalesce(r.embedding, f.embedding) AS embedding, (f.quality->>'score')::real AS quality, f.origin, ",
            "coalesce(f.camera, c.camera) AS camera, f.image_hash FROM ",
            $from,
            " LEFT JOIN reembeddings r ON r.face_id = f.face_id AND r.model = $1 LEFT JOIN crops c ON c.crop_id = f.crop_id ",
            "WHERE (r.face_id IS NOT NULL OR f.model = $1) AND f.collection = $2 AND f.vector_state <> 'tombstoned' AND ",
            $rest
        )
    };
}

// A merge moves the faces to whoever takes over.
const CONFIRMED: &str = corrected!(
    "SELECT f.face_id, f.person_id",
    "faces f",
    "f.confirmed AND ($3::timestamptz IS NULL OR f.origin = 'enrolled' OR f.assigned_at >= $3) AND f.face_id > $4
     ORDER BY f.face_id LIMIT $5"
);

// A merge copies what was said of the source to whoever takes over, so of those who were merged nothing is read. A face that is
// the person's own by now says nothing against them.
const REFUSED: &str = corrected!(
    "SELECT DISTINCT ON (n.face_id, n.person_id) n.face_id, n.person_id",
    "face_negatives n JOIN faces f ON f.face_id = n.face_id JOIN persons p ON p.person_id = n.person_id",
    "p.status <> 'merged' AND f.person_id IS DISTINCT FROM n.person_id AND ($3::timestamptz IS NULL OR n.at >= $3)
     AND f.face_id >= $4 AND (n.face_id, n.person_id) > ($4, $5) ORDER BY n.face_id, n.person_id LIMIT $6"
);

impl Store {
    /// A page of the faces of a collection of which a human said whose they are, with their embeddings by `model`, by id. With
    /// `since` only those of which a human said so at that time or later; enrolled faces always.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn confirmed_faces(
        &self,
        collection: &CollectionId,
        model: &str,
        since: Option<OffsetDateTime>,
        after: Option<FaceId>,
        limit: u32,
    ) -> Result<Vec<CorrectedFace>, StoreError> {
        let (model, after) = (text(model), after.map_or(Uuid::nil(), |face| face.as_uuid()));
        let rows: Vec<Columns> = run!(self, "confirmed faces", connection => {
            let query = sqlx::query_as(CONFIRMED).bind(&*model).bind(collection.as_str()).bind(since).bind(after);
            query.bind(i64::from(limit)).fetch_all(connection).await
        })?;
        rows.into_iter().map(CorrectedFace::try_from).collect()
    }

    /// A page of the faces of a collection with whom they are said not to show, by both ids: a face once for each person. With
    /// `since` only what was said at that time or later.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn refused_faces(
        &self,
        collection: &CollectionId,
        model: &str,
        since: Option<OffsetDateTime>,
        after: Option<(FaceId, PersonId)>,
        limit: u32,
    ) -> Result<Vec<CorrectedFace>, StoreError> {
        let model = text(model);
        let (face, person) =
            after.map_or((Uuid::nil(), Uuid::nil()), |(face, person)| (face.as_uuid(), person.as_uuid()));
        let rows: Vec<Columns> = run!(self, "refused faces", connection => {
            let query = sqlx::query_as(REFUSED).bind(&*model).bind(collection.as_str()).bind(since);
            query.bind(face).bind(person).bind(i64::from(limit)).fetch_all(connection).await
        })?;
        rows.into_iter().map(CorrectedFace::try_from).collect()
    }
}
