//! Faces as people look at them: those of a person or collection in pages, those of an image, one by its id. None that is
//! tombstoned, and only a collection's with their embeddings.

use facewire_domain::{CollectionId, FaceId, ImageHash, PersonId};
use uuid::Uuid;

use crate::error::StoreError;
use crate::face_record::{Columns, FaceRecord, StoredFace, select_faces};
use crate::store::{CHUNK, Store, int, run, text};

/// Most faces of one answer.
const PAGE: u32 = 1000;

/// Who needs the images of a face that goes, beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageUse {
    /// A face is of the same image.
    pub image: bool,
    /// There is another row for this very face of it: the image came twice.
    pub face: bool,
}

/// The two columns of an [`ImageUse`], of the row `i`: faces that are tombstoned need no image.
macro_rules! image_use {
    () => {
        "EXISTS (SELECT FROM faces f WHERE f.collection = i.collection AND f.image_hash = i.image_hash
             AND f.vector_state <> 'tombstoned') AS image_used,
         EXISTS (SELECT FROM faces f WHERE f.collection = i.collection AND f.image_hash = i.image_hash
             AND f.face_index = i.face_index AND f.vector_state <> 'tombstoned') AS face_used"
    };
}
pub(crate) use image_use;

impl Store {
    /// A page of up to `limit` of a person's faces (1000 at most), by id.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn faces_page(
        &self,
        person: PersonId,
        after: Option<FaceId>,
        limit: u32,
    ) -> Result<Vec<FaceRecord>, StoreError> {
        const SQL: &str = select_faces!(
            "''::bytea",
            "f.person_id = $1 AND f.face_id > $2 AND f.vector_state <> 'tombstoned' ORDER BY f.face_id LIMIT $3"
        );
        let after = after.map_or(Uuid::nil(), |face| face.as_uuid());
        let rows: Vec<Columns> = run!(self, "page of faces", connection => {
            let query = sqlx::query_as(SQL).bind(person.as_uuid()).bind(after).bind(i64::from(limit.min(PAGE)));
            query.fetch_all(connection).await
        })?;
        rows.into_iter().map(FaceRecord::try_from).collect()
    }

    /// A page of up to `limit` of a collection's faces (1000 at most), by id, each with its embedding.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn collection_faces(
        &self,
        collection: &CollectionId,
        after: Option<FaceId>,
        limit: u32,
    ) -> Result<Vec<StoredFace>, StoreError> {
        const SQL: &str = select_faces!(
            "coalesce(r.embedding, f.embedding)",
            "f.collection = $1 AND f.face_id > $2 AND f.vector_state <> 'tombstoned' ORDER BY f.face_id LIMIT $3"
        );
        let after = after.map_or(Uuid::nil(), |face| face.as_uuid());
        let rows: Vec<Columns> = run!(self, "faces of a collection", connection => {
            let query = sqlx::query_as(SQL).bind(collection.as_str()).bind(after).bind(i64::from(limit.min(PAGE)));
            query.fetch_all(connection).await
        })?;
        rows.into_iter().map(StoredFace::try_from).collect()
    }

    /// A face by its id.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn face(&self, face: FaceId) -> Result<Option<FaceRecord>, StoreError> {
        const SQL: &str = select_faces!("''::bytea", "f.face_id = $1 AND f.vector_state <> 'tombstoned'");
        let row: Option<Columns> = run!(self, "face", connection => {
            sqlx::query_as(SQL).bind(face.as_uuid()).fetch_optional(connection).await
        })?;
        row.map(FaceRecord::try_from).transpose()
    }

    /// The faces of an image (1000 at most), by their number in it: of the producer's id of it, or of its hash as 64 hexadecimal
    /// digits.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn faces_of_asset(&self, collection: &CollectionId, asset: &str) -> Result<Vec<FaceRecord>, StoreError> {
        const SQL: &str = select_faces!(
            "''::bytea",
            "f.face_id IN (SELECT a.face_id FROM faces a WHERE a.collection = $1 AND a.asset_id = $2 UNION
             SELECT h.face_id FROM faces h WHERE h.collection = $1 AND h.image_hash = $3 AND h.vector_state <> 'tombstoned')
             AND f.vector_state <> 'tombstoned' ORDER BY f.face_index, f.face_id LIMIT $4"
        );
        let hash = asset.parse::<ImageHash>().ok();
        let asset = text(asset);
        let rows: Vec<Columns> = run!(self, "faces of an image", connection => {
            sqlx::query_as(SQL)
                .bind(collection.as_str())
                .bind(&*asset)
                .bind(hash.as_ref().map(|hash| hash.as_bytes().as_slice()))
                .bind(i64::from(PAGE))
                .fetch_all(connection)
                .await
        })?;
        rows.into_iter().map(FaceRecord::try_from).collect()
    }

    /// Whether any face is of this image.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn image_is_used(&self, collection: &CollectionId, image: ImageHash) -> Result<bool, StoreError> {
        const SQL: &str = "SELECT EXISTS (SELECT FROM faces WHERE collection = $1 AND image_hash = $2
                                          AND vector_state <> 'tombstoned')";
        run!(self, "faces of an image", connection => {
            let query = sqlx::query_scalar(SQL).bind(collection.as_str()).bind(image.as_bytes().as_slice());
            query.fetch_one(connection).await
        })
    }

    /// Who needs the images of each of these faces, in order: of a collection, of the image with this hash, the one with this number.
    /// Faces that are tombstoned need none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn image_uses(&self, faces: &[(&CollectionId, ImageHash, u32)]) -> Result<Vec<ImageUse>, StoreError> {
        const SQL: &str = concat!(
            "SELECT ",
            image_use!(),
            "
FROM UNNEST($1::text[], $2::bytea[], $3::integer[]) WITH ORDINALITY AS i (collection, image_hash, face_index, place)
ORDER BY i.place"
        );
        let mut uses = Vec::with_capacity(faces.len());
        for chunk in faces.chunks(CHUNK) {
            let collections: Vec<&str> = chunk.iter().map(|(collection, ..)| collection.as_str()).collect();
            let images: Vec<&[u8]> = chunk.iter().map(|(_, image, _)| image.as_bytes().as_slice()).collect();
            let indexes: Vec<i32> = chunk.iter().map(|(.., index)| int(*index)).collect();
            let rows: Vec<(bool, bool)> = run!(self, "uses of images", connection => {
                sqlx::query_as(SQL).bind(&collections).bind(&images).bind(&indexes).fetch_all(connection).await
            })?;
            uses.extend(rows.into_iter().map(|(image, face)| ImageUse { image, face }));
        }
        Ok(uses)
    }
}
