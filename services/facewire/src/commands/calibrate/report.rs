//! What a calibration is shown with: the sample behind it, what changes, and what is too small to be told.

use facewire_domain::{Calibration, CameraId, CollectionId, GateOverride};
use facewire_evaluation::report::OpenSetRow;
use facewire_evaluation::{GateEffect, Rate};
use serde::Serialize;

use super::limits::{Proposal, Verdict};
use super::matching::Compared;
use super::today::Today;
use crate::commands::evaluate::data::Faces;
use crate::commands::evaluate::identify::clean;
use crate::commands::evaluate::work::Sights;

/// A rate that is computed may be so much below the one that is meant.
const ROUNDING: f64 = 1e-9;

/// What is kept and put in force.
#[derive(Debug, Serialize)]
pub(super) struct Made {
    pub(super) collection: CollectionId,
    pub(super) camera: Option<CameraId>,
    /// Fingerprint of the pack.
    pub(super) model: String,
    pub(super) calibration: Calibration,
    /// The last rate that the sample measures: behind it the table is another's curve, or a line continued.
    #[serde(skip)]
    pub(super) measured_to: f64,
    /// Of the gate, only what differs from the limits that hold without a calibration of this place.
    pub(super) gate: GateOverride,
}

/// All of it.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    #[serde(flatten)]
    pub(super) made: Made,
    /// The rate that is asked for.
    pub(super) fpir: f64,
    pub(super) gallery: Crowd,
    pub(super) sample: Sample,
    /// `None`: nothing decides today.
    pub(super) today: Option<Side>,
    pub(super) new: Side,
    pub(super) limits: Vec<Proposal>,
    pub(super) applied: bool,
    pub(super) notes: Vec<String>,
}

/// The faces whose number a threshold follows from.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Crowd {
    pub(super) faces: u32,
    /// They are those enrolled in the collection, not those of the sample.
    pub(super) enrolled: bool,
}

impl Crowd {
    /// `sample`: faces of the sample that a probe is compared with, where nobody else is known.
    pub(super) fn of(today: &Today, sample: usize) -> Self {
        match today.faces.filter(|faces| *faces > 0) {
            Some(faces) => Self { faces, enrolled: true },
            None => Self { faces: u32::try_from(sample).unwrap_or(u32::MAX), enrolled: false },
        }
    }
}

impl Made {
    /// What a reader must know of the threshold that follows from it.
    pub(super) fn of_threshold(&self, fpir: f64, gallery: Crowd, today: &Today) -> Vec<String> {
        let mut notes = Vec::new();
        let faces = f64::from(gallery.faces.max(1));
        let fmr = -((-fpir).ln_1p() / faces).exp_m1();
        let asked =
            format!("TOO SMALL for this threshold: FPIR {fpir} among {} faces is an FMR of {fmr:.1e}", gallery.faces);
        if !self.calibration.supported(fmr) {
            notes.push(format!(
                "{asked}, and 30 errors at it need {:.0} pairs of two people; the sample has {}. The threshold lies behind what it \
                 supports, and is not measured.",
                (30.0 / fmr).ceil(),
                self.calibration.impostor
            ));
        } else if fmr < self.measured_to * (1.0 - ROUNDING) {
            notes.push(format!(
                "{asked}. The sample has pairs enough for that rate, and measures to FMR {:.0e}: at the next rate of its table the errors \
                 are too few, or of too few people. The threshold lies behind what it measures.",
                self.measured_to
            ));
        }
        if today.fixed().is_some() {
            notes.push("The configuration fixes the threshold: it stands above every calibration.".to_owned());
        }
        notes
    }
}

/// What was looked at.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Sample {
    /// To enrol; the others are strangers or have too few photos.
    pub(super) people: usize,
    pub(super) strangers: usize,
    pub(super) others: usize,
    pub(super) photos: usize,
    /// Photos without a face to use.
    pub(super) without_face: usize,
    /// Pairs of one person.
    pub(super) genuine: usize,
    /// Pairs of two.
    pub(super) impostor: usize,
}

impl Sample {
    pub(super) fn of(faces: &Faces, sights: &Sights, compared: &Compared) -> Self {
        let blank = |photo: &usize| clean(sights, *photo).is_none_or(|seen| seen.embedding().is_none());
        Self {
            people: faces.people.len(),
            strangers: faces.strangers.len(),
            others: faces.rest.len(),
            photos: faces.files.len(),
            without_face: (0..faces.files.len()).filter(blank).count(),
            genuine: compared.scores.genuine().len(),
            impostor: compared.scores.impostor().len(),
        }
    }
}

/// The same people, by what holds today or by what is proposed.
#[derive(Debug, Serialize)]
pub(super) struct Side {
    /// A calibration's version, or `configuration`.
    pub(super) decided_by: String,
    #[serde(flatten)]
    pub(super) row: OpenSetRow,
    /// People of whom no photo to enrol passes.
    pub(super) enrolments_refused: Rate,
    /// What the gate rejects, had it passed.
    pub(super) gate: GateEffect,
}

impl Report {
    /// What the limits that change do to the probes, in numbers.
    fn cost(&self) -> Option<String> {
        let (before, after) = (&self.today.as_ref()?.gate, &self.new.gate);
        let moved = |limit: &&Proposal| limit.proposed != limit.today;
        let names: Vec<&str> = self.limits.iter().filter(moved).map(|limit| limit.bound.name).collect();
        if names.is_empty() {
            return None;
        }
        let side = |gate: &GateEffect| {
            let (all, lost) = (gate.errors_rejected.trials, gate.loss.errors);
            format!("{all} of {} probes, {lost} of which would have been right", gate.probes)
        };
        Some(format!(
            "With other limits ({}) the gate rejects {}; today it rejects {}.",
            names.join(", "),
            side(after),
            side(before)
        ))
    }

    /// With what a reader must know before they apply it.
    pub(super) fn with_notes(mut self, today: &Today) -> Self {
        let mut notes = self.made.of_threshold(self.fpir, self.gallery, today);
        if self.sample.strangers == 0 {
            notes.push("No strangers: FPIR is not measured; give --strangers or --strangers-single.".to_owned());
        } else if !self.new.row.endings.fpir.supported() {
            notes.push("Fewer than 30 strangers were taken for somebody: only a bound of FPIR is told.".to_owned());
        }
        notes.extend(self.cost());
        let unsupported = self.limits.iter().filter(|limit| limit.verdict == Verdict::Unsupported).count();
        if unsupported > 0 {
            notes.push(format!(
                "{unsupported} limits stay as they are: too few crops speak of them. {} failed ones are needed to propose a limit, \
                 and as many rejected ones to turn one off.",
                super::limits::LEAST
            ));
        }
        notes.append(&mut self.notes);
        Self { notes, ..self }
    }
}

#[cfg(test)]
mod tests {
    use facewire_domain::FmrPoint;

    use super::super::today::tests::bare;
    use super::*;

    /// Of 100,000 pairs of two people, measured down to this rate.
    fn made(measured_to: f64) -> Made {
        let point = |(fmr, threshold)| FmrPoint { fmr, threshold };
        let calibration = Calibration {
            version: "of-a-test".to_owned(),
            data: "people of a test".to_owned(),
            people: 50,
            genuine: 100,
            impostor: 100_000,
            margin: 0.05,
            table: [(1e-1, 0.1), (1e-2, 0.2), (1e-3, 0.3), (1e-4, 0.4)].map(point).to_vec(),
            confidence: None,
        };
        let (collection, model) = ("office".parse().unwrap(), "a-model".to_owned());
        Made { collection, camera: None, model, calibration, measured_to, gate: GateOverride::default() }
    }

    #[test]
    fn a_threshold_that_was_not_measured_is_told_as_such() {
        let told = |measured_to, fpir, faces| {
            made(measured_to).of_threshold(fpir, Crowd { faces, enrolled: true }, &bare()).join(" ")
        };
        // 200 errors are behind a rate of 2e-3, and the table ends before it for want of people.
        let few_people = told(1e-2, 0.01, 5);
        for word in ["TOO SMALL", "FMR of 2.0e-3", "measures to FMR 1e-2", "of too few people"] {
            assert!(few_people.contains(word), "{word}: {few_people}");
        }
        let few_pairs = told(1e-3, 0.01, 1000);
        assert!(few_pairs.contains("TOO SMALL") && few_pairs.contains("the sample has 100000"), "{few_pairs}");
        assert_eq!(told(1e-3, 0.01, 5), "");
        assert_eq!(told(1e-2, 0.01, 1), "", "at the last rate itself");
    }
}
