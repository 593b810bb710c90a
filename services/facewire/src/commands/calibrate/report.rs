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

/// What is kept and put in force.
#[derive(Debug, Serialize)]
pub(super) struct Made {
    pub(super) collection: CollectionId,
    pub(super) camera: Option<CameraId>,
    /// Fingerprint of the pack.
    pub(super) model: String,
    pub(super) calibration: Calibration,
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
        if !self.calibration.supported(fmr) {
            notes.push(format!(
                "TOO SMALL for this threshold: FPIR {fpir} among {} faces is an FMR of {fmr:.1e}, and 30 errors at it need {:.0} \
                 pairs of two people; the sample has {}. The threshold lies behind what it supports, and is not measured.",
                gallery.faces,
                (30.0 / fmr).ceil(),
                self.calibration.impostor
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
