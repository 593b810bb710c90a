//! What a match needs, and who says so: the request, the collection, the configuration, or a calibration with the rate
//! that is asked for and the number of people in the gallery.

use std::collections::HashMap;
use std::sync::Arc;

use facewire_contracts::v1;
use facewire_domain::{Calibration, CameraId, Candidate, CollectionId, Decision, Rule};

use crate::options::Options;

/// Calibrations that users made and that are in force, by collection and camera (`None`: every camera without its own).
pub(crate) type Stored = HashMap<(CollectionId, Option<CameraId>), Arc<Calibration>>;

/// A rule and where it comes from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Applied {
    pub(crate) rule: Rule,
    /// A calibration's version, or who fixed the threshold.
    pub(crate) decided_by: String,
    /// The rate behind the threshold; `None`: it is fixed.
    pub(crate) fpir: Option<f64>,
    /// People in the gallery.
    pub(crate) people: u32,
    /// For the confidence, also beside a fixed threshold.
    pub(crate) calibration: Option<Arc<Calibration>>,
}

impl Applied {
    /// The decision, with who decided and how sure it is.
    pub(crate) fn told(self, decision: Decision) -> Decision {
        let sure = |best: Candidate| self.calibration.as_ref()?.confidence(best.similarity, self.people);
        Decision {
            confidence: decision.best.and_then(sure),
            calibration: Some(self.decided_by),
            fpir: self.fpir,
            people: Some(self.people),
            ..decision
        }
    }
}

/// Nothing says what a match needs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "nothing says what a match needs{of}: the pack {model} has no calibration. Make one with `facewire calibrate --faces DIR \
     --apply`, or set match.threshold"
)]
pub(crate) struct Unruled {
    pub(crate) model: String,
    /// ` in collection NAME`, or nothing.
    pub(crate) of: String,
}

/// All that rules follow from, as of one batch.
#[derive(Debug)]
pub(crate) struct Rules<'a> {
    pub(crate) options: &'a Options,
    /// Fingerprint of the pack.
    pub(crate) model: &'a str,
    pub(crate) pack: Option<&'a Arc<Calibration>>,
    pub(crate) stored: Arc<Stored>,
    pub(crate) people: HashMap<CollectionId, u32>,
}

impl Rules<'_> {
    /// What a match of this crop needs. The crop's own threshold stands above its collection's, then come the collection's
    /// rate, everybody's threshold, everybody's rate. A rate becomes a threshold by the camera's calibration, else the
    /// collection's, else the pack's.
    pub(crate) fn rule(
        &self,
        crop: &v1::Crop,
        collection: &CollectionId,
        camera: &CameraId,
    ) -> Result<Applied, Unruled> {
        let calibration = self.calibration(collection, camera);
        let own = self.options.collections.get(collection).copied().unwrap_or_default();
        let general = self.options.threshold.filter(|_| own.fpir.is_none());
        let people = self.people(collection);
        #[expect(clippy::cast_possible_truncation, reason = "a similarity from 0 to 1")]
        let request = crop.threshold.map(|threshold| threshold as f32);
        let fixed = [(request, "request"), (own.threshold, "collection"), (general, "configuration")];
        let fixed = fixed.into_iter().find_map(|(threshold, by)| Some((threshold?, by.to_owned(), None)));
        let by_rate = || {
            let (made, fpir) = (calibration?, own.fpir.unwrap_or(self.options.fpir));
            Some((made.threshold_for(fpir, people), made.version.clone(), Some(fpir)))
        };
        let (threshold, decided_by, fpir) = fixed.or_else(by_rate).ok_or_else(|| self.unruled(collection))?;
        let margin = self.options.margin.or(calibration.map(|made| made.margin)).unwrap_or(0.0);
        let calibration = calibration.cloned();
        Ok(Applied { rule: Rule { threshold, margin }, decided_by, fpir, people, calibration })
    }

    /// Cosine similarity from which on a face to be enrolled is another person's; `None`: nobody wants to know. Without a
    /// calibration two people are taken for one from the similarity on that makes a match.
    pub(crate) fn conflict(&self, collection: &CollectionId, camera: &CameraId) -> Result<Option<f32>, Unruled> {
        if let Some(fixed) = self.options.conflict_similarity {
            return Ok((fixed < 1.0).then_some(fixed));
        }
        if let Some(made) = self.calibration(collection, camera) {
            return Ok(Some(made.threshold_for(self.options.conflict_fpir, self.people(collection))));
        }
        let applied = self.rule(&v1::Crop::default(), collection, camera)?;
        Ok(Some(applied.rule.threshold))
    }

    fn calibration(&self, collection: &CollectionId, camera: &CameraId) -> Option<&Arc<Calibration>> {
        let place = |camera: Option<&CameraId>| self.stored.get(&(collection.clone(), camera.cloned()));
        place(Some(camera)).or_else(|| place(None)).or(self.pack)
    }

    fn people(&self, collection: &CollectionId) -> u32 {
        self.people.get(collection).copied().unwrap_or_default()
    }

    fn unruled(&self, collection: &CollectionId) -> Unruled {
        Unruled { model: self.model.to_owned(), of: format!(" in collection {collection}") }
    }
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
