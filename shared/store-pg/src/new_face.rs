//! A face that is to be enrolled, and what became of it: the shapes that planning and writing share.

use facewire_domain::{BoundingBox, CollectionId, CropId, FaceId, ImageHash, Landmarks, PersonId, SubjectId};
use time::OffsetDateTime;

use crate::ending::FaceQuality;

/// A face to remember for a subject. Its `Debug` shows nothing biometric.
#[derive(Clone, PartialEq)]
pub struct NewFace {
    /// The gallery.
    pub collection: CollectionId,
    /// The person's id in the caller's world; the person row is made where it is missing.
    pub subject: SubjectId,
    /// The person's name. A new person without one is called as their subject; a known one keeps theirs.
    pub name: Option<String>,
    /// Of the original bytes.
    pub image_hash: ImageHash,
    /// The producer's id of the image.
    pub asset: Option<String>,
    /// L2-normalised; finite numbers only.
    pub embedding: Vec<f32>,
    /// Pack and version that made the embedding. A known face of another model is enrolled anew.
    pub model: String,
    /// In pixels of the upright image; finite.
    pub bounding_box: Option<BoundingBox>,
    /// In pixels of the upright image; finite.
    pub landmarks: Option<Landmarks>,
    /// What the gate measured; finite.
    pub quality: Option<FaceQuality>,
    /// The crop that it came with.
    pub crop: Option<CropId>,
    /// When the picture was taken.
    pub captured_at: OffsetDateTime,
}

impl std::fmt::Debug for NewFace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewFace")
            .field("collection", &self.collection)
            .field("crop", &self.crop)
            .field("model", &self.model)
            .finish_non_exhaustive()
    }
}

/// Why a face may not be enrolled for a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConflictKind {
    /// The name (ignoring case) belongs to another subject.
    NameTaken,
    /// The very same image is enrolled for another person.
    ImageOfOther,
    /// Somebody said that this face is not that person's.
    NotThisPerson,
    /// The person, the image or the collection was erased after the crop was received; or the person is just being erased.
    Erased,
}

/// What became of a [`NewFace`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Enrolment {
    /// The row is there and waits for the vector engine: upsert the point, then [`Store::mark_indexed`].
    Pending {
        /// Whose face; after a merge the person that took over.
        person: PersonId,
        /// The face.
        face: FaceId,
        /// The crop that asks is the one that enrols it, now or before. Without a crop two who ask are not told apart.
        same_crop: bool,
    },
    /// That image was enrolled for that person before, and its vector is indexed.
    AlreadyIndexed {
        /// Whose face.
        person: PersonId,
        /// The face.
        face: FaceId,
        /// The crop that asks is the one that enrolled it, and comes once more.
        same_crop: bool,
    },
    /// Nothing was written.
    Conflict {
        /// What is taken.
        kind: ConflictKind,
        /// By whom.
        person: PersonId,
    },
}

/// Whether what was measured of a face can be stored and read again.
pub(crate) fn storable(
    bounding_box: Option<BoundingBox>,
    landmarks: Option<Landmarks>,
    quality: Option<&FaceQuality>,
    model: &str,
) -> Result<(), &'static str> {
    let in_box = bounding_box.iter().flat_map(|b| [b.x1, b.y1, b.x2, b.y2]);
    let in_points = landmarks.iter().flatten().flat_map(|point| [point.x, point.y]);
    let in_quality = quality.iter().flat_map(|quality| quality.signals.values());
    if in_box.chain(in_points).chain(in_quality).any(|number| !number.is_finite()) {
        return Err("its box, landmarks or quality hold what is not a number");
    }
    if model.contains('\0') || quality.is_some_and(|quality| quality.status.contains('\0')) {
        return Err("its model or quality status holds a NUL");
    }
    Ok(())
}
