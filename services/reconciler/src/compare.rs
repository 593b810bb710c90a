//! What a face's row and its point say of each other: the five ways in which the stores can differ. Pure; what is done
//! about it is decided elsewhere.

use facewire_gallery::payload;
use facewire_store_pg::{FaceRecord, VectorState};
use facewire_store_vec::StoredPoint;
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
    /// The row is tombstoned: its point goes, and its images, then the row.
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

    /// Repairing it removes a point whose row does not say that it is erased.
    pub(crate) fn removes(self) -> bool {
        matches!(self, Kind::OrphanPoint | Kind::OtherModel)
    }

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

/// What a row and a point are compared by.
#[derive(Debug, Clone, Copy)]
pub struct Comparison<'a> {
    /// The fingerprint of the pack that serves.
    pub model: &'a str,
    /// Numbers of its embeddings.
    pub dim: u32,
    /// A row that changed after this is still on its way.
    pub settled_before: OffsetDateTime,
}

impl Comparison<'_> {
    /// The difference, if there is one that nobody is about to fix. At least one of the two is there.
    pub fn difference(&self, record: Option<&FaceRecord>, point: Option<&StoredPoint>) -> Option<Kind> {
        let Some(record) = record else { return point.map(|_| Kind::OrphanPoint) };
        if record.updated_at >= self.settled_before {
            return None;
        }
        let ours = record.is_by(self.model, self.dim);
        match record.state {
            VectorState::Tombstoned => Some(Kind::Tombstoned),
            VectorState::Reembed if ours => Some(Kind::MissingPoint),
            VectorState::Reembed => point.map(|_| Kind::OtherModel),
            VectorState::Pending | VectorState::Indexed if !ours => Some(Kind::OtherModel),
            VectorState::Pending => Some(Kind::MissingPoint),
            VectorState::Indexed => match point {
                None => Some(Kind::MissingPoint),
                Some(point) if point.payload.as_ref() != Some(&payload(record)) => Some(Kind::PayloadDrift),
                Some(_) => None,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use facewire_domain::ImageHash;
    use facewire_store_pg::FaceOrigin;
    use time::Duration;
    use uuid::Uuid;

    use super::*;

    const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    fn row(state: VectorState, model: &str) -> FaceRecord {
        FaceRecord {
            face: Uuid::from_u128(1).into(),
            collection: "office".parse().unwrap(),
            person: Some(Uuid::from_u128(2).into()),
            origin: FaceOrigin::Enrolled,
            crop: None,
            face_index: 0,
            asset: None,
            assigned_by: None,
            assigned_at: None,
            image_hash: ImageHash::of(b"image"),
            model: model.to_owned(),
            dim: 2,
            bounding_box: None,
            landmarks: None,
            quality: None,
            state,
            cluster_id: None,
            is_prototype: false,
            captured_at: NOW,
            updated_at: NOW - Duration::HOUR,
        }
    }

    fn point_of(record: &FaceRecord) -> StoredPoint {
        StoredPoint { face: record.face, payload: Some(payload(record)), embedding: None }
    }

    fn difference(record: Option<&FaceRecord>, point: Option<&StoredPoint>) -> Option<Kind> {
        let comparison = Comparison { model: "ours", dim: 2, settled_before: NOW - Duration::MINUTE };
        comparison.difference(record, point)
    }

    #[test]
    fn a_row_and_its_point_agree() {
        let record = row(VectorState::Indexed, "ours");
        assert_eq!(difference(Some(&record), Some(&point_of(&record))), None);
    }

    #[test]
    fn each_state_wants_its_own_repair() {
        use VectorState::{Indexed, Pending, Reembed, Tombstoned};
        // State, model of the row, whether there is a point, what is found.
        for (state, model, stored, wanted) in [
            (Pending, "ours", false, Some(Kind::MissingPoint)),
            (Pending, "ours", true, Some(Kind::MissingPoint)),
            (Indexed, "ours", false, Some(Kind::MissingPoint)),
            (Indexed, "other", true, Some(Kind::OtherModel)),
            (Pending, "other", false, Some(Kind::OtherModel)),
            (Reembed, "other", true, Some(Kind::OtherModel)),
            (Reembed, "other", false, None),
            (Reembed, "ours", false, Some(Kind::MissingPoint)),
            (Tombstoned, "ours", true, Some(Kind::Tombstoned)),
            (Tombstoned, "other", false, Some(Kind::Tombstoned)),
        ] {
            let record = row(state, model);
            let point = stored.then(|| point_of(&record));
            assert_eq!(difference(Some(&record), point.as_ref()), wanted, "{state:?} of {model}, point: {stored}");
        }
    }

    #[test]
    fn what_just_changed_is_left_alone_but_a_point_without_a_row_is_not() {
        let record = FaceRecord { updated_at: NOW, ..row(VectorState::Pending, "ours") };
        assert_eq!(difference(Some(&record), None), None);
        assert_eq!(difference(None, Some(&point_of(&record))), Some(Kind::OrphanPoint));
    }

    #[test]
    fn another_payload_drifted_and_so_did_one_that_cannot_be_read() {
        let record = row(VectorState::Indexed, "ours");
        let mut other = point_of(&record);
        if let Some(payload) = &mut other.payload {
            payload.is_prototype = true;
        }
        let damaged = StoredPoint { payload: None, ..point_of(&record) };
        for point in [other, damaged] {
            assert_eq!(difference(Some(&record), Some(&point)), Some(Kind::PayloadDrift));
        }
    }
}
