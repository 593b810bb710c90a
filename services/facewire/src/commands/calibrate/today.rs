//! What holds today at the place that is calibrated: the pack's or a stored calibration, a threshold that the configuration
//! fixes, the gate, and how many faces are compared.

use facewire_composition::models::{self};
use facewire_composition::{Config, Models};
use facewire_domain::{
    Against, CalibratedGate, Calibration, CameraId, CollectionId, Gate, GateLimits, GateOverride, Intent,
};
use facewire_inference::PackManifest;
use facewire_store_pg::{CalibrationRow, Store};

use crate::cli::Calibrate;
use crate::commands::connect::viewed;
use crate::commands::gates;

/// The collection that commands use unless told otherwise.
const DEFAULT: &str = "default";
/// How far the best person must lead where nobody says it: as far as with the default pack.
const MARGIN: f32 = 0.05;

/// The place and what holds there.
#[derive(Debug)]
pub(super) struct Today {
    pub(super) collection: CollectionId,
    pub(super) camera: Option<CameraId>,
    /// The stored one of this camera, else of the collection, else the pack's.
    pub(super) calibration: Option<Calibration>,
    /// The pack's own, where it has one: a table behind the end of a small sample has its shape. A stored one may be of a sample as small.
    pub(super) shape: Option<Calibration>,
    /// That of the pack's own calibration, also where a head is behind it, of which that one says nothing else.
    pack_margin: Option<f32>,
    matching: facewire_match::Options,
    /// The gate without calibrations.
    pub(super) configured: Gate,
    /// What calibrations of other places say.
    pub(super) elsewhere: Vec<CalibratedGate>,
    /// What the calibration in force at this very place says of the gate.
    pub(super) here: GateOverride,
    /// The gate in force.
    pub(super) gate: Gate,
    /// What the configuration says of this collection, above every calibration.
    pub(super) own: GateOverride,
    /// Faces that a probe is compared with there, where a server said so.
    pub(super) faces: Option<u32>,
}

impl Today {
    pub(super) async fn read(
        config: &Config,
        args: &Calibrate,
        pack: &PackManifest,
        store: Option<&Store>,
    ) -> anyhow::Result<Self> {
        let collection = match &args.collection {
            Some(collection) => collection.clone(),
            None => DEFAULT.parse()?,
        };
        let (rows, faces) = match store {
            Some(store) => {
                let rows = viewed(store.calibrations_in_force(&pack.fingerprint()).await)?;
                let size = viewed(store.gallery_size(&collection).await)?;
                let faces = match config.matching.rules().against(&collection) {
                    Against::Faces => size.faces,
                    Against::Prototypes => size.exemplars,
                };
                (rows, Some(u32::try_from(faces).unwrap_or(u32::MAX)))
            }
            None => (Vec::new(), None),
        };
        let calibrated = gates::calibrated(&rows)?;
        let here = |gate: &CalibratedGate| gate.collection == collection && gate.camera == args.camera;
        let configured = config.quality.gate();
        let bare = || models::manifest(&Models { head: None, ..config.models.clone() }).ok()?.calibration;
        Ok(Self {
            pack_margin: pack.calibration.clone().or_else(bare).map(|calibration| calibration.margin),
            calibration: stored(&rows, &collection, args.camera.as_ref()).or(pack.calibration.as_ref()).cloned(),
            shape: pack.calibration.clone(),
            matching: config.matching.clone(),
            gate: configured.clone().with_calibrated(calibrated.iter().cloned().collect()),
            elsewhere: calibrated.iter().filter(|gate| !here(gate)).cloned().collect(),
            here: calibrated.iter().find(|gate| here(gate)).map(|gate| gate.limits).unwrap_or_default(),
            configured,
            own: config.quality.collections.get(&collection).copied().unwrap_or_default(),
            faces,
            camera: args.camera.clone(),
            collection,
        })
    }

    /// A gate's limits at this place.
    pub(super) fn limits(&self, gate: &Gate, intent: Intent) -> GateLimits {
        let camera = self.camera.as_ref().map_or("", CameraId::as_str);
        gate.limits_for(self.collection.as_str(), camera, intent)
    }

    /// The limits at this place if it had no calibration of its own.
    pub(super) fn limits_elsewhere(&self) -> GateLimits {
        let gate = self.configured.clone().with_calibrated(self.elsewhere.iter().cloned().collect());
        self.limits(&gate, Intent::Recognize)
    }

    /// How far the best person must lead, as somebody said it.
    fn said_margin(&self) -> Option<f32> {
        self.matching.margin.or(self.calibration.as_ref().map(|calibration| calibration.margin))
    }

    /// How far they must lead today: where nobody said it, as the match stage has it, not at all.
    pub(super) fn margin_in_force(&self) -> f32 {
        self.said_margin().unwrap_or(0.0)
    }

    /// How far they must lead by what is made here.
    pub(super) fn margin(&self) -> f32 {
        self.said_margin().or(self.pack_margin).unwrap_or(MARGIN)
    }

    /// What a reader must know of that.
    pub(super) fn margin_note(&self) -> Option<String> {
        let margin = self.margin();
        match (self.said_margin(), self.pack_margin) {
            _ if margin <= 0.0 => {
                Some("The margin is 0: no match is ambiguous, however near the second person is.".to_owned())
            }
            (Some(_), _) => None,
            (None, Some(_)) => Some(format!("The margin of {margin} is the pack's: nothing says one for this head.")),
            (None, None) => Some(format!("The margin of {margin} is the default pack's: nothing says another one.")),
        }
    }

    /// The rate that is asked for.
    pub(super) fn fpir(&self, args: &Calibrate) -> f64 {
        let own = self.matching.collections.get(&self.collection).and_then(|own| own.fpir);
        args.fpir.or(own).unwrap_or(self.matching.fpir)
    }

    /// The threshold that the configuration fixes, so that no calibration moves it.
    pub(super) fn fixed(&self) -> Option<f32> {
        let own = self.matching.collections.get(&self.collection).copied().unwrap_or_default();
        own.threshold.or(self.matching.threshold.filter(|_| own.fpir.is_none()))
    }

    /// The threshold of today, and who decides it.
    pub(super) fn threshold(&self, fpir: f64, faces: u32) -> Option<(f32, String)> {
        let fixed = self.fixed().map(|threshold| (threshold, "configuration".to_owned()));
        fixed.or_else(|| {
            let calibration = self.calibration.as_ref()?;
            Some((calibration.threshold_for(fpir, faces), calibration.version.clone()))
        })
    }
}

/// As the match stage chooses.
fn stored<'a>(
    rows: &'a [CalibrationRow],
    collection: &CollectionId,
    camera: Option<&CameraId>,
) -> Option<&'a Calibration> {
    let of = |camera: Option<&CameraId>| {
        let row = rows.iter().find(|row| row.collection == *collection && row.camera.as_ref() == camera);
        row.and_then(|row| row.document.matching.as_ref())
    };
    of(camera).or_else(|| of(None))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A pack that says nothing, and nothing is configured.
    pub(in crate::commands::calibrate) fn bare() -> Today {
        Today {
            collection: DEFAULT.parse().unwrap(),
            camera: None,
            calibration: None,
            shape: None,
            pack_margin: None,
            matching: facewire_match::Options::default(),
            configured: Gate::default(),
            elsewhere: Vec::new(),
            here: GateOverride::default(),
            gate: Gate::default(),
            own: GateOverride::default(),
            faces: None,
        }
    }

    #[test]
    fn no_margin_of_zero_is_kept_in_silence() {
        let told = |today: &Today| (today.margin(), today.margin_in_force(), today.margin_note().unwrap_or_default());
        let (margin, in_force, note) = told(&bare());
        assert_eq!((margin, in_force), (0.05, 0.0));
        assert!(note.contains("0.05") && note.contains("default pack"), "{note}");
        let behind_a_head = Today { pack_margin: Some(0.07), ..bare() };
        let (margin, in_force, note) = told(&behind_a_head);
        assert_eq!((margin, in_force), (0.07, 0.0));
        assert!(note.contains("0.07") && note.contains("head"), "{note}");
        let configured = |margin| {
            let matching = facewire_match::Options { margin: Some(margin), ..facewire_match::Options::default() };
            Today { matching, ..bare() }
        };
        assert_eq!(told(&configured(0.1)), (0.1, 0.1, String::new()));
        let (margin, in_force, note) = told(&configured(0.0));
        assert_eq!((margin, in_force), (0.0, 0.0));
        assert!(note.contains("margin is 0"), "{note}");
    }
}
