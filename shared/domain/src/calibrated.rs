//! Limits of the gate that calibrations set, by collection and camera, and the document in which the stages hear of
//! them.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::ids::{CameraId, CollectionId, ImageHash};
use crate::signals::{GateLimits, GateOverride};

/// The gate's part of a calibration that is in force.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CalibratedGate {
    /// The calibration's.
    pub version: String,
    /// Whose crops it is for.
    pub collection: CollectionId,
    /// One camera's; absent: those of every camera of the collection, under its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub camera: Option<CameraId>,
    /// What it changes.
    pub limits: GateOverride,
}

/// All that are in force for one model.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CalibratedGates {
    collections: HashMap<String, Place>,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Place {
    every: GateOverride,
    cameras: HashMap<String, GateOverride>,
}

/// The form in which they travel.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document<G> {
    gates: G,
}

impl CalibratedGates {
    /// Names the document of a model's fingerprint, in letters that any key-value store takes.
    pub fn key(model: &str) -> String {
        format!("gates.{:.16}", ImageHash::of(model.as_bytes()).to_string())
    }

    /// The document of these. The same gates in the same order give the same bytes.
    pub fn document(gates: &[CalibratedGate]) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(&Document { gates })
    }

    /// Reads a document. One that says something unknown is refused whole: half of it would be another gate.
    pub fn read(document: &[u8]) -> Result<Self, serde_json::Error> {
        let read: Document<Vec<CalibratedGate>> = serde_json::from_slice(document)?;
        Ok(read.gates.into_iter().collect())
    }

    /// The limits with the collection's over them, and the camera's over those.
    pub(crate) fn over(&self, collection: &str, camera: &str, limits: GateLimits) -> GateLimits {
        let Some(place) = self.collections.get(collection) else { return limits };
        let limits = place.every.over(limits);
        place.cameras.get(camera).map_or(limits, |own| own.over(limits))
    }
}

impl FromIterator<CalibratedGate> for CalibratedGates {
    fn from_iter<I: IntoIterator<Item = CalibratedGate>>(gates: I) -> Self {
        let mut all = Self::default();
        for gate in gates {
            let place = all.collections.entry(gate.collection.into()).or_default();
            match gate.camera {
                Some(camera) => {
                    place.cameras.insert(camera.into(), gate.limits);
                }
                None => place.every = gate.limits,
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::Gate;
    use crate::outcome::Intent;
    use crate::signals::Bound;

    /// Says this of the five limits that a test looks at: one for each that may say something.
    fn saying(values: &[(usize, f32)]) -> GateOverride {
        let bound = |index: usize| Bound::all().nth(index).unwrap();
        values.iter().fold(GateOverride::default(), |own, (index, value)| own.with(bound(*index), Some(Some(*value))))
    }

    fn gate(camera: Option<&str>, limits: GateOverride) -> CalibratedGate {
        let camera = camera.map(|camera| camera.parse().unwrap());
        CalibratedGate { version: "v1".to_owned(), collection: "office".parse().unwrap(), camera, limits }
    }

    #[test]
    fn each_stands_above_the_ones_before() {
        // The first limit is said by the weakest alone, the last by all five.
        let values = |from: usize, value: f32| saying(&(from..5).map(|index| (index, value)).collect::<Vec<_>>());
        let common = values(0, 1.0).over(GateLimits::OFF);
        let own = HashMap::from([("office".parse().unwrap(), values(4, 5.0))]);
        let calibrated = [gate(None, values(1, 2.0)), gate(Some("door"), values(2, 3.0))];
        let gates = Gate::new(common, &own)
            .with_enroll(values(3, 4.0))
            .with_calibrated(CalibratedGates::read(&CalibratedGates::document(&calibrated).unwrap()).unwrap());
        let found = |collection: &str, camera: &str, intent: Intent| {
            let limits = gates.limits_for(collection, camera, intent);
            Bound::all().take(5).map(|bound| limits.get(bound).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(found("office", "door", Intent::Enroll), [1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(found("office", "door", Intent::Recognize), [1.0, 2.0, 3.0, 3.0, 5.0]);
        assert_eq!(found("office", "window", Intent::Observe), [1.0, 2.0, 2.0, 2.0, 5.0]);
        assert_eq!(found("garage", "door", Intent::Recognize), [1.0; 5]);
        assert_eq!(found("garage", "door", Intent::Enroll), [1.0, 1.0, 1.0, 4.0, 4.0]);
    }

    #[test]
    fn a_document_comes_back_and_an_unknown_one_is_refused() {
        let off = GateOverride::default().with(Bound::all().next().unwrap(), Some(None));
        let gates = [gate(None, off), gate(Some("door"), saying(&[(1, 0.5)]))];
        let document = CalibratedGates::document(&gates).unwrap();
        assert_eq!(CalibratedGates::read(&document).unwrap(), gates.iter().cloned().collect());
        assert_eq!(document, CalibratedGates::document(&gates).unwrap());
        let limits = Gate::new(saying(&[(0, 1.0)]).over(GateLimits::OFF), &HashMap::new())
            .with_calibrated(gates.into_iter().collect())
            .limits("office", "door");
        assert_eq!(limits, saying(&[(1, 0.5)]).over(GateLimits::OFF), "a camera's leaves what its collection's says");
        for wrong in [
            r#"{"gates": [{"version": "v", "collection": "office", "limits": {"min_sparkle": 1}}]}"#,
            r#"{"gates": [], "more": 1}"#,
            r#"{"gates": [{"version": "v", "collection": "an office", "limits": {}}]}"#,
            "",
        ] {
            assert!(CalibratedGates::read(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
