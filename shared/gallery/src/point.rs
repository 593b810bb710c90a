//! From a face's row to its point. Whoever compares the two, or writes one, goes through here: a second version of this rule
//! would make every face differ.

use facewire_store_pg::{FaceRecord, StoredFace};
use facewire_store_vec::{FacePayload, FacePoint};

/// What is stored beside a face's vector.
pub fn payload(record: &FaceRecord) -> FacePayload {
    FacePayload {
        collection: record.collection.clone(),
        person: record.person,
        cluster: record.cluster_id,
        is_prototype: record.is_prototype,
        asset: Some(record.image_hash),
        instance: record.crop,
        quality_score: record.quality.as_ref().map(|q| q.signals.score),
        detection_confidence: record.quality.as_ref().map(|q| q.signals.detection_score),
        bbox: record.bounding_box,
        taken_at: record.captured_at,
    }
}

/// The point that a row must have.
pub fn point(face: StoredFace) -> FacePoint {
    FacePoint { face: face.record.face, payload: payload(&face.record), embedding: face.embedding }
}
