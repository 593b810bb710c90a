//! Crops by what their producer said of them: whom an enrolment is for, which asset the image is of. An erasure finds by it the
//! images of which no face is kept, and takes it out of the rows. The images themselves are erased elsewhere.

use facewire_domain::{CollectionId, CropId, ImageHash, SubjectId};
use uuid::Uuid;

use crate::error::StoreError;
use crate::store::{Store, image_hash, run, text};

/// What crops are found by.
#[derive(Debug, Clone, Copy)]
pub enum Named<'a> {
    /// Enrolments of these external ids, whatever became of them.
    Subjects(&'a [SubjectId]),
    /// Crops of an image to which the producer gave this id.
    Asset(&'a str),
}

/// A crop, and how its images are named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NamedCrop {
    /// The crop.
    pub crop: CropId,
    /// Of the original image.
    pub image_hash: ImageHash,
}

impl Store {
    /// Up to `limit` crops of the collection that are named so. Empty once none is left.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn named_crops(
        &self,
        collection: &CollectionId,
        named: Named<'_>,
        limit: u32,
    ) -> Result<Vec<NamedCrop>, StoreError> {
        const OF_SUBJECTS: &str =
            "SELECT crop_id, image_hash FROM crops WHERE collection = $1 AND subject_id = ANY($2::text[]) LIMIT $3";
        const OF_ASSET: &str = "SELECT c.crop_id, c.image_hash FROM crop_assets a JOIN crops c ON c.crop_id = a.crop_id
             WHERE a.collection = $1 AND a.asset_id = ANY($2::text[]) LIMIT $3";
        let (sql, names): (_, Vec<String>) = match named {
            Named::Subjects(subjects) => (OF_SUBJECTS, subjects.iter().map(ToString::to_string).collect()),
            Named::Asset(asset) => (OF_ASSET, vec![text(asset).into_owned()]),
        };
        let (collection, limit) = (collection.as_str(), i64::from(limit.max(1)));
        let rows: Vec<(Uuid, Vec<u8>)> = run!(self, "named crops", connection => {
            sqlx::query_as(sql).bind(collection).bind(&names).bind(limit).fetch_all(connection).await
        })?;
        let named = |(crop, hash): (Uuid, Vec<u8>)| {
            Ok(NamedCrop { crop: crop.into(), image_hash: image_hash(hash, "crops.image_hash")? })
        };
        rows.into_iter().map(named).collect()
    }

    /// Takes out of these crops' rows what they were found by. How many said it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn erase_names(&self, crops: &[NamedCrop], named: Named<'_>) -> Result<u64, StoreError> {
        const SUBJECT: &str =
            "UPDATE crops SET subject_id = NULL WHERE crop_id = ANY($1::uuid[]) AND subject_id IS NOT NULL";
        const ASSET: &str = "DELETE FROM crop_assets WHERE crop_id = ANY($1::uuid[])";
        let sql = match named {
            Named::Subjects(_) => SUBJECT,
            Named::Asset(_) => ASSET,
        };
        let crops: Vec<Uuid> = crops.iter().map(|named| named.crop.as_uuid()).collect();
        let erased = run!(self, "erase names of crops", connection => {
            sqlx::query(sql).bind(&crops).execute(connection).await
        })?;
        Ok(erased.rows_affected())
    }
}
