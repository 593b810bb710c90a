//! What a match needs, and who says so: the request, the collection, the configuration, or a calibration with the rate
//! that is asked for and the number of faces that are compared. Pure rules: what they follow from is read elsewhere.

use std::collections::HashMap;
use std::sync::Arc;

use facewire_domain::{Against, Calibration, CameraId, Candidate, CollectionId, Decision, Rule};
use facewire_store_pg::GallerySize;

/// What an operator said of matches; the configuration is `match`'s.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleOptions {
    /// Open-set false positive identification rate, above 0 and below 1.
    pub fpir: f64,
    /// Cosine similarity that a match needs, 0 to 1, in place of `fpir`.
    pub threshold: Option<f32>,
    /// How far the best person must be before the second, in similarity, 0 to 1; in place of the calibration's.
    pub margin: Option<f32>,
    /// As `fpir`, for faces to be enrolled that are like another person's.
    pub conflict_fpir: f64,
    /// Cosine similarity of such a conflict, in place of `conflict_fpir`. 1 or more: nobody wants to know.
    pub conflict_similarity: Option<f32>,
    /// Which faces of people probes are compared with. Faces to be enrolled are compared with all of them.
    pub against: Against,
    /// What single collections have instead.
    pub collections: HashMap<CollectionId, CollectionRule>,
}

/// What a collection has for itself.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct CollectionRule {
    /// See [`RuleOptions::threshold`].
    pub threshold: Option<f32>,
    /// See [`RuleOptions::fpir`]; the collection's own threshold stands above it.
    pub fpir: Option<f64>,
    /// See [`RuleOptions::against`].
    pub against: Option<Against>,
}

impl RuleOptions {
    /// Whether somebody gave a similarity that needs no calibration.
    pub fn has_threshold(&self) -> bool {
        self.threshold.is_some() || self.collections.values().any(|own| own.threshold.is_some())
    }

    /// Which faces of people a probe of this collection is compared with.
    pub fn against(&self, collection: &CollectionId) -> Against {
        self.collections.get(collection).and_then(|own| own.against).unwrap_or(self.against)
    }
}

/// What a request asks for itself; at most one of the two.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Asked {
    /// Cosine similarity that a match needs, 0 to 1.
    pub threshold: Option<f64>,
    /// Rate of false positives, above 0 and below 1.
    pub fpir: Option<f64>,
}

/// Calibrations that users made and that are in force, by collection and camera (`None`: every camera without its own).
pub type Stored = HashMap<(CollectionId, Option<CameraId>), Arc<Calibration>>;

/// A rule and where it comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct Applied {
    /// What a match needs.
    pub rule: Rule,
    /// A calibration's version, or who fixed the threshold.
    pub decided_by: String,
    /// The rate behind the threshold; `None`: it is fixed.
    pub fpir: Option<f64>,
    /// People in the gallery.
    pub people: u32,
    /// Their faces that a probe is compared with: the threshold follows from how many these are.
    pub faces: u32,
    /// For the confidence, also beside a fixed threshold.
    pub calibration: Option<Arc<Calibration>>,
}

impl Applied {
    /// The decision, with who decided and how sure it is.
    pub fn told(self, decision: Decision) -> Decision {
        let sure = |best: Candidate| self.calibration.as_ref()?.confidence(best.similarity, self.faces);
        Decision {
            confidence: decision.best.and_then(sure),
            calibration: Some(self.decided_by),
            fpir: self.fpir,
            people: Some(self.people),
            faces: Some(self.faces),
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
pub struct Unruled {
    /// Fingerprint of the pack.
    pub(crate) model: String,
    /// ` in collection NAME`, or nothing.
    pub(crate) of: String,
}

/// All that rules follow from, as of one batch.
#[derive(Debug)]
pub struct Rules<'a> {
    pub(crate) options: &'a RuleOptions,
    /// Fingerprint of the pack.
    pub(crate) model: &'a str,
    pub(crate) pack: Option<&'a Arc<Calibration>>,
    pub(crate) stored: Arc<Stored>,
    pub(crate) sizes: HashMap<CollectionId, GallerySize>,
}

impl Rules<'_> {
    /// What a match needs. What is asked for stands above the collection's threshold, then come the collection's rate,
    /// everybody's threshold, everybody's rate. A rate becomes a threshold by the camera's calibration, else the collection's,
    /// else the pack's; `camera`: none where the probe is of no camera.
    ///
    /// # Errors
    /// [`Unruled`]: a rate is to become a threshold, and there is no calibration.
    pub fn rule(
        &self,
        asked: &Asked,
        collection: &CollectionId,
        camera: Option<&CameraId>,
    ) -> Result<Applied, Unruled> {
        let margin = self.options.margin.or(self.calibration(collection, camera).map(|made| made.margin));
        let size = self.size(collection);
        let faces = match self.options.against(collection) {
            Against::Faces => size.faces,
            Against::Prototypes => size.exemplars,
        };
        self.applied(asked, collection, camera, (narrow(size.people), narrow(faces), margin.unwrap_or(0.0)))
    }

    /// What a face needs to count as a person's: the same, in a gallery of that person alone, with as many of their faces as it
    /// is compared with. Of one face the rate of false positives is that of false matches. There is no second person to be
    /// before.
    ///
    /// # Errors
    /// As [`Rules::rule`].
    pub fn verification(
        &self,
        asked: &Asked,
        collection: &CollectionId,
        camera: Option<&CameraId>,
        faces: usize,
    ) -> Result<Applied, Unruled> {
        let faces = u32::try_from(faces.max(1)).unwrap_or(u32::MAX);
        self.applied(asked, collection, camera, (1, faces, 0.0))
    }

    /// In a gallery of so many people and faces, with this margin.
    fn applied(
        &self,
        asked: &Asked,
        collection: &CollectionId,
        camera: Option<&CameraId>,
        (people, faces, margin): (u32, u32, f32),
    ) -> Result<Applied, Unruled> {
        let calibration = self.calibration(collection, camera);
        let own = self.options.collections.get(collection).copied().unwrap_or_default();
        let own_threshold = own.threshold.filter(|_| asked.fpir.is_none());
        let general = self.options.threshold.filter(|_| asked.fpir.or(own.fpir).is_none());
        #[expect(clippy::cast_possible_truncation, reason = "a similarity from 0 to 1")]
        let request = asked.threshold.map(|threshold| threshold as f32);
        let fixed = [(request, "request"), (own_threshold, "collection"), (general, "configuration")];
        let fixed = fixed.into_iter().find_map(|(threshold, by)| Some((threshold?, by.to_owned(), None)));
        let by_rate = || {
            let (made, fpir) = (calibration?, asked.fpir.or(own.fpir).unwrap_or(self.options.fpir));
            Some((made.threshold_for(fpir, faces), made.version.clone(), Some(fpir)))
        };
        let (threshold, decided_by, fpir) = fixed.or_else(by_rate).ok_or_else(|| self.unruled(collection))?;
        let calibration = calibration.cloned();
        Ok(Applied { rule: Rule { threshold, margin }, decided_by, fpir, people, faces, calibration })
    }

    /// Cosine similarity from which on a face to be enrolled is another person's; `None`: nobody wants to know. Without a
    /// calibration two people are taken for one from the similarity on that makes a match.
    ///
    /// # Errors
    /// As [`Rules::rule`].
    pub fn conflict(&self, collection: &CollectionId, camera: Option<&CameraId>) -> Result<Option<f32>, Unruled> {
        if let Some(fixed) = self.options.conflict_similarity {
            return Ok((fixed < 1.0).then_some(fixed));
        }
        if let Some(made) = self.calibration(collection, camera) {
            // Enrolment looks at all faces, whatever matching does.
            let faces = narrow(self.size(collection).faces);
            return Ok(Some(made.threshold_for(self.options.conflict_fpir, faces)));
        }
        let applied = self.rule(&Asked::default(), collection, camera)?;
        Ok(Some(applied.rule.threshold))
    }

    fn calibration(&self, collection: &CollectionId, camera: Option<&CameraId>) -> Option<&Arc<Calibration>> {
        let place = |camera: Option<&CameraId>| self.stored.get(&(collection.clone(), camera.cloned()));
        camera.and_then(|camera| place(Some(camera))).or_else(|| place(None)).or(self.pack)
    }

    fn size(&self, collection: &CollectionId) -> GallerySize {
        self.sizes.get(collection).copied().unwrap_or_default()
    }

    fn unruled(&self, collection: &CollectionId) -> Unruled {
        Unruled { model: self.model.to_owned(), of: format!(" in collection {collection}") }
    }
}

fn narrow(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
