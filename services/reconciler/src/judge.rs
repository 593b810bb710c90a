//! What a face's row and its point say of each other: the five ways in which the stores can differ. Pure; what is done
//! about it is decided elsewhere.

use facewire_store_pg::{FaceRecord, VectorState};
use facewire_store_vec::{FacePayload, StoredPoint};
use serde::Serialize;
use time::OffsetDateTime;

/// How the stores differ over a face.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The row has no point: it gets that of its stored embedding.
    MissingPoint,
    /// The point has no row: it goes after the grace period.
    OrphanPoint,
    /// The row is tombstoned: its point goes, then the row.
    Tombstoned,
    /// The payload is not what the row says: it is written anew.
    PayloadDrift,
    /// The embedding is another model's: the point goes, the face waits to be enrolled anew.
    OtherModel,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 5] =
        [Kind::MissingPoint, Kind::OrphanPoint, Kind::Tombstoned, Kind::PayloadDrift, Kind::OtherModel];

    /// As reports and metrics name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::MissingPoint => "missing_point",
            Kind::OrphanPoint => "orphan_point",
            Kind::Tombstoned => "tombstoned",
            Kind::PayloadDrift => "payload_drift",
            Kind::OtherModel => "other_model",
        }
    }
}

/// What is compared against.
#[derive(Debug, Clone, Copy)]
pub struct Judge<'a> {
    /// The fingerprint of the pack that serves.
    pub model: &'a str,
    /// Numbers of its embeddings.
    pub dim: u32,
    /// A row that changed after this is still on its way.
    pub settled_before: OffsetDateTime,
}

impl Judge<'_> {
    /// The difference, if there is one that nobody is about to mend. At least one of the two is there.
    pub fn judge(&self, record: Option<&FaceRecord>, point: Option<&StoredPoint>) -> Option<Kind> {
        let Some(record) = record else { return point.map(|_| Kind::OrphanPoint) };
        if record.updated_at >= self.settled_before {
            return None;
        }
        // The index holds no face without a person yet.
        if record.person.is_none() && matches!(record.state, VectorState::Pending | VectorState::Indexed) {
            return point.map(|_| Kind::OrphanPoint);
        }
        let ours = record.model == self.model && record.dim == self.dim;
        match record.state {
            VectorState::Tombstoned => Some(Kind::Tombstoned),
            VectorState::Reembed if ours => Some(Kind::MissingPoint),
            VectorState::Reembed => point.map(|_| Kind::OtherModel),
            VectorState::Pending | VectorState::Indexed if !ours => Some(Kind::OtherModel),
            VectorState::Pending => Some(Kind::MissingPoint),
            VectorState::Indexed => match point {
                None => Some(Kind::MissingPoint),
                Some(point) if point.payload != payload(record) => Some(Kind::PayloadDrift),
                Some(_) => None,
            },
        }
    }
}

/// What stands beside a face's vector; none for a face without a person.
pub(crate) fn payload(record: &FaceRecord) -> Option<FacePayload> {
    Some(FacePayload {
        collection: record.collection.clone(),
        person: record.person?,
        cluster: record.cluster_id,
        is_prototype: record.is_prototype,
        asset: Some(record.image_hash),
        instance: record.crop,
        quality_score: record.quality.as_ref().map(|q| q.signals.score),
        detection_confidence: record.quality.as_ref().map(|q| q.signals.detection_score),
        bbox: record.bounding_box,
        taken_at: record.captured_at,
    })
}
