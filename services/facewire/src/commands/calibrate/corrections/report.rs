//! What a calibration from corrections is shown with: the sample, today's threshold beside the new one, and what the sample hides.

use facewire_evaluation::{Rate, Scores};
use serde::Serialize;

use super::super::matching::Compared;
use super::super::report::{Crowd, Made};
use super::super::show::{kept, points};
use super::super::today::Today;
use super::pairs::Pairs;
use super::sample::{Face, Sample};
use crate::commands::evaluate::show::{heading, percent, rate};
use crate::output::{line, table};

/// All of it.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    #[serde(flatten)]
    pub(super) made: Made,
    /// The rate that is asked for.
    pub(super) fpir: f64,
    pub(super) gallery: Crowd,
    pub(super) sample: Counts,
    /// `None`: nothing decides today.
    pub(super) today: Option<Side>,
    pub(super) new: Side,
    pub(super) applied: bool,
    pub(super) notes: Vec<String>,
}

/// What was compared.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Counts {
    pub(super) people: u32,
    /// Faces that somebody said whose they are.
    pub(super) confirmed: usize,
    /// Of them, those that the camera saw.
    pub(super) seen: usize,
    /// Faces that somebody said whose they are not.
    pub(super) refused: usize,
    /// Pairs of one person.
    pub(super) genuine: usize,
    /// Pairs of two.
    pub(super) impostor: usize,
    /// Pairs of two that were refused and are not among those.
    pub(super) refused_pairs: usize,
    /// Median quality score of the faces that the camera saw.
    pub(super) seen_quality: Option<f32>,
    /// The same of those that were refused.
    pub(super) refused_quality: Option<f32>,
}

impl Counts {
    pub(super) fn of(sample: &Sample, compared: &Compared, pairs: &Pairs) -> Self {
        let seen = sample.confirmed.faces.iter().filter(|face| face.seen);
        Self {
            people: compared.people,
            confirmed: sample.confirmed.faces.len(),
            seen: sample.seen(),
            refused: sample.refused.faces.len(),
            genuine: compared.scores.genuine().len(),
            impostor: compared.scores.impostor().len(),
            refused_pairs: pairs.refused.len(),
            seen_quality: median(seen),
            refused_quality: median(sample.refused.faces.iter()),
        }
    }
}

/// The middle quality score of faces that have one.
fn median<'a>(faces: impl Iterator<Item = &'a Face>) -> Option<f32> {
    let mut scores: Vec<f32> = faces.filter_map(|face| face.quality).collect();
    scores.sort_unstable_by(f32::total_cmp);
    scores.get(scores.len() / 2).copied()
}

/// The sample by what holds today, or by what is proposed.
#[derive(Debug, Serialize)]
pub(super) struct Side {
    /// A calibration's version, or `configuration`.
    pub(super) decided_by: String,
    pub(super) threshold: f32,
    /// Pairs of two confirmed people at or above it.
    pub(super) fmr: Rate,
    /// Faces that the camera saw and no other face of their person is near enough to.
    pub(super) missed: Rate,
    /// Refused faces that would still be taken for whom they do not show, unless somebody else is nearer.
    pub(super) still_taken: Rate,
}

impl Side {
    pub(super) fn new(confirmed: &Scores, pairs: &Pairs, threshold: f32, decided_by: String) -> Self {
        let own = pairs.seen.iter().filter_map(|nearest| nearest.own);
        let refused = pairs.refusals.iter().map(|refusal| refusal.nearest);
        Self {
            decided_by,
            threshold,
            fmr: confirmed.fmr(threshold),
            missed: share(own, |similarity| similarity < threshold),
            still_taken: share(refused, |similarity| similarity >= threshold),
        }
    }
}

fn share(similarities: impl Iterator<Item = f32>, wrong: impl Fn(f32) -> bool) -> Rate {
    let (errors, trials) =
        similarities.fold((0, 0), |(errors, trials), one| (errors + u64::from(wrong(one)), trials + 1));
    Rate::of_errors(errors, trials)
}

/// What the way in which faces come into the sample does to its rates.
pub(super) fn bias(sample: &Sample, may_lower: bool) -> Vec<String> {
    let lowest = if may_lower { "" } else { " No threshold is below today's; --may-lower takes lower ones too." };
    let mut notes = vec![
        "Missed faces are underestimated: most confirmed faces were matched or clustered first, and who was missed is rarely \
         confirmed."
            .to_owned(),
        format!(
            "False matches: confirmed faces are better pictures than usual, which hides some; refused ones are the strangers most \
             alike, which overstates them. At each rate the higher threshold counts, with and without refused pairs.{lowest}"
        ),
        "The limits of the gate stay as they are: every kept face has passed them.".to_owned(),
    ];
    if sample.left_out > 0 {
        notes.push(format!("{} faces are left out, evenly: there are too many.", sample.left_out));
    }
    if sample.of_no_camera > 0 {
        notes.push(format!(
            "Of {} confirmed faces the camera is not known, because an earlier release kept them and their results expired: they \
             count as seen elsewhere.",
            sample.of_no_camera
        ));
    }
    notes
}

impl Report {
    /// With what a reader must know of the threshold.
    pub(super) fn with_notes(mut self, today: &Today) -> Self {
        let mut notes = self.made.of_threshold(self.fpir, self.gallery, today);
        notes.append(&mut self.notes);
        Self { notes, ..self }
    }
}

pub(super) fn show(report: &Report) {
    let (sample, made) = (&report.sample, &report.made);
    let by = made.camera.as_ref().map_or("cameras".to_owned(), |camera| format!("camera {camera}"));
    line(format_args!(
        "{} confirmed faces of {} people, {} of them seen by {by}; {} refused",
        sample.confirmed, sample.people, sample.seen, sample.refused
    ));
    line(format_args!(
        "{} pairs of one person, {} of two, {} refused; {}",
        sample.genuine, sample.impostor, sample.refused_pairs, made.model
    ));
    if let (Some(seen), Some(refused)) = (sample.seen_quality, sample.refused_quality) {
        line(format_args!("median quality score: {seen:.2} of those seen, {refused:.2} of those refused"));
    }
    points(&made.calibration);
    sides(report);
    report.notes.iter().for_each(line);
    kept(&made.calibration.version, report.applied);
}

fn sides(report: &Report) {
    let whose = if report.gallery.enrolled { "enrolled in the collection" } else { "of the sample" };
    heading(&format!("FPIR {} among {} faces ({whose})", percent(report.fpir), report.gallery.faces));
    let mut rows = table(&["", "decided by", "threshold", "FMR", "missed", "refused, still taken"]);
    let mut add = |name: &str, side: &Side| {
        rows.add_row([
            name.to_owned(),
            side.decided_by.clone(),
            format!("{:.4}", side.threshold),
            rate(&side.fmr),
            rate(&side.missed),
            rate(&side.still_taken),
        ]);
    };
    match &report.today {
        Some(today) => add("today", today),
        None => line("today nothing decides that could be shown beside it"),
    }
    add("new", &report.new);
    line(rows);
    line("on the faces that people confirmed and refused; < and >: bounds at 95 %; without the margin");
}
