//! Keeping faces without a person (a collection's `keep_faces`). An image that is detected again, under its asset's id or as
//! the same bytes, gives no face a second row: the row that is there stands for the face (DESIGN §3).
//!
//! Two processes that keep the same new image at the same moment do not see each other: then each keeps its own.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use facewire_domain::{BoundingBox, CollectionId, CropId, FaceId, PersonId};
use facewire_store_pg::{FaceOrigin, FaceRecord, KeptFace, StoreError};

use crate::{Gallery, GalleryError};

/// Two boxes of one image are one face's from this part of their union on that they share.
const SAME_BOX: f32 = 0.9;

/// An image of a collection: the producer's id of it, else its hash.
type Asset = (CollectionId, String);

/// A face of an asset that has a row, or is about to have one.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Known {
    face: FaceId,
    crop: Option<CropId>,
    bbox: Option<BoundingBox>,
}

impl Gallery {
    /// Keeps faces without a person: rows, then points that matching does not see. Answers in the order of `faces`: the row that
    /// stands for the face, or why it cannot be stored.
    ///
    /// # Errors
    /// Of either store; handing all in again is harmless.
    pub async fn keep(&self, faces: &[KeptFace]) -> Result<Vec<Result<FaceId, StoreError>>, GalleryError> {
        let standing = self.standing(faces).await?;
        let new: Vec<KeptFace> = faces
            .iter()
            .zip(&standing)
            .filter(|(face, standing)| face.face == **standing)
            .map(|(f, _)| f.clone())
            .collect();
        let kept = self.store.keep_faces(&new).await?;
        let ids: Vec<FaceId> =
            new.iter().zip(&kept).filter(|(_, kept)| kept.is_ok()).map(|(face, _)| face.face).collect();
        self.index_again(&ids).await?;
        self.note_matched(faces, &standing).await?;
        let mut kept = kept.into_iter();
        let answers = faces.iter().zip(standing).map(|(face, standing)| {
            if face.face == standing { kept.next().unwrap_or(Ok(())).map(|()| standing) } else { Ok(standing) }
        });
        Ok(answers.collect())
    }

    /// Notes who was recognised in the faces, at the rows that stand for them: whoever erases the person finds those.
    async fn note_matched(&self, faces: &[KeptFace], standing: &[FaceId]) -> Result<(), StoreError> {
        let both = faces.iter().zip(standing);
        let matched: Vec<(FaceId, PersonId)> =
            both.filter_map(|(face, standing)| Some((*standing, face.matched?))).collect();
        // What is tombstoned the reconciler removes, with its point and images.
        let erased = self.store.note_matched(&matched).await?;
        self.store.tombstone_unowned(&erased).await.map(|_| ())
    }

    /// The row that stands for each face, or is to.
    async fn standing(&self, faces: &[KeptFace]) -> Result<Vec<FaceId>, StoreError> {
        let mut assets: HashMap<Asset, Vec<Known>> = HashMap::new();
        for face in faces {
            if let Entry::Vacant(unread) = assets.entry(asset(face)) {
                let (collection, asset) = unread.key();
                let records = self.store.faces_of_asset(collection, asset).await?;
                let ours =
                    records.iter().filter(|record| record.origin == FaceOrigin::Kept && record.model == face.model);
                unread.insert(ours.map(known).collect());
            }
        }
        Ok(faces.iter().map(|face| stands_for(face, assets.entry(asset(face)).or_default())).collect())
    }
}

fn asset(face: &KeptFace) -> Asset {
    (face.collection.clone(), face.asset.clone().unwrap_or_else(|| face.image_hash.to_string()))
}

fn known(record: &FaceRecord) -> Known {
    Known { face: record.face, crop: record.crop, bbox: record.bounding_box }
}

/// The known face of this one's box, which is none of its own crop's: those are told apart by their numbers. A face without one
/// is known from now on.
fn stands_for(face: &KeptFace, known: &mut Vec<Known>) -> FaceId {
    let same = |other: &&Known| {
        let boxes = other.bbox.zip(face.bounding_box);
        other.crop != Some(face.crop) && boxes.is_some_and(|(a, b)| a.iou(&b) >= SAME_BOX)
    };
    let redelivered = known.iter().any(|other| other.face == face.face);
    if let Some(other) = known.iter().find(same).filter(|_| !redelivered) {
        return other.face;
    }
    known.push(Known { face: face.face, crop: Some(face.crop), bbox: face.bounding_box });
    face.face
}

#[cfg(test)]
mod tests {
    use super::*;
    use facewire_domain::ImageHash;
    use time::OffsetDateTime;

    /// A face of a crop, with its left edge at `x` in pixels; its box is 100 wide.
    fn face(crop: u128, face_index: u32, x: Option<f32>) -> KeptFace {
        let crop = CropId::from(uuid::Uuid::from_u128(crop));
        KeptFace {
            face: FaceId::of_crop(crop, face_index),
            collection: "office".parse().unwrap(),
            crop,
            face_index,
            image_hash: ImageHash::of(b"image"),
            asset: None,
            embedding: vec![1.0, 0.0],
            model: "pack-1".to_owned(),
            bounding_box: x.map(|x| BoundingBox { x1: x, y1: 0.0, x2: x + 100.0, y2: 100.0 }),
            landmarks: None,
            quality: None,
            captured_at: OffsetDateTime::UNIX_EPOCH,
            matched: None,
        }
    }

    #[test]
    fn the_same_box_of_another_crop_is_the_same_face() {
        let mut known = Vec::new();
        let (first, beside) = (face(1, 0, Some(0.0)), face(1, 1, Some(1.0)));
        assert_eq!(stands_for(&first, &mut known), first.face);
        assert_eq!(stands_for(&beside, &mut known), beside.face, "faces of one crop are not one face");
        assert_eq!(stands_for(&face(2, 0, Some(2.0)), &mut known), first.face);
        let elsewhere = face(3, 0, Some(50.0));
        assert_eq!(stands_for(&elsewhere, &mut known), elsewhere.face);
        let unplaced = face(4, 0, None);
        assert_eq!(stands_for(&unplaced, &mut known), unplaced.face, "without a box nobody can say");
    }

    #[test]
    fn a_redelivery_is_its_own_row_again() {
        let mut known = Vec::new();
        let first = face(1, 0, Some(0.0));
        let moved = face(2, 0, Some(30.0));
        for kept in [&first, &moved, &first, &moved] {
            assert_eq!(stands_for(kept, &mut known), kept.face);
        }
    }

    #[test]
    fn an_asset_is_named_by_the_producer_or_by_its_bytes() {
        let plain = face(1, 0, None);
        assert_eq!(asset(&plain).1, ImageHash::of(b"image").to_string());
        assert_eq!(asset(&KeptFace { asset: Some("album/7".to_owned()), ..plain }).1, "album/7");
    }
}
