//! What holds today at the place that is calibrated: the pack's or a stored calibration, a threshold that the configuration
//! fixes, the gate, and how many faces are compared.

use facewire_composition::Config;
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

/// The place and what holds there.
#[derive(Debug)]
pub(super) struct Today {
    pub(super) collection: CollectionId,
    pub(super) camera: Option<CameraId>,
    /// The stored one of this camera, else of the collection, else the pack's.
    pub(super) calibration: Option<Calibration>,
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
        Ok(Self {
            calibration: stored(&rows, &collection, args.camera.as_ref()).or(pack.calibration.as_ref()).cloned(),
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

    /// How far the best person must lead.
    pub(super) fn margin(&self) -> f32 {
        let calibrated = self.calibration.as_ref().map(|calibration| calibration.margin);
        self.matching.margin.or(calibrated).unwrap_or(0.0)
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
