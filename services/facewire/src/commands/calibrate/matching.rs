//! The part of a calibration that says what similarities mean: everybody against everybody, thresholds by rate, and the
//! probability that the best candidate is the right one.

use anyhow::Context;
use facewire_domain::{Calibration, Confidence, FmrPoint, GateOverride, ImageHash};
use facewire_evaluation::calibrate::platt;
use facewire_evaluation::rate::SUPPORTING_ERRORS;
use facewire_evaluation::{Penalty, Scores};
use time::Date;

use super::today::Today;
use crate::commands::evaluate::compare::Rows;
use crate::commands::evaluate::data::{Faces, Person};
use crate::commands::evaluate::identify::{Experiment, clean};
use crate::commands::evaluate::seen::Seen;
use crate::commands::evaluate::work::Sights;

/// Rates that a table may have; it has those that the sample supports.
const TARGETS: [f64; 6] = [1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6];
/// Points that make a table.
const LEAST_POINTS: usize = 2;
/// Characters of a version that name its place: with the date and the hash it has 64 at most.
const PLACE: usize = 46;
/// Digits of a version's hash.
const DIGITS: usize = 8;

/// Everybody against everybody, without a gate.
#[derive(Debug)]
pub(super) struct Compared {
    pub(super) scores: Scores,
    /// Those with a face to compare.
    pub(super) people: u32,
    /// Photos with a face to compare.
    pub(super) photos: u64,
    /// Photos that were left out because there are too many.
    left_out: usize,
}

impl Compared {
    /// What a reader must know of it.
    pub(super) fn notes(&self) -> Vec<String> {
        let left_out = self.left_out;
        let thinned = (left_out > 0).then(|| format!("{left_out} photos are left out, evenly: there are too many."));
        thinned.into_iter().collect()
    }
}

/// Everybody of the folders: to enrol, strangers, and those with too few photos for either.
pub(super) fn everybody(faces: &Faces) -> impl Iterator<Item = &Person> {
    faces.people.iter().chain(&faces.strangers).chain(&faces.rest)
}

/// Compares every photo with every other.
pub(super) fn compare(faces: &Faces, sights: &Sights, dim: usize) -> anyhow::Result<Compared> {
    let photos = (0u32..).zip(everybody(faces)).flat_map(|(index, person)| {
        let photos = person.gallery.iter().chain(&person.probes);
        photos.filter_map(move |photo| Some((index, clean(sights, *photo)?)))
    });
    let photos: Vec<(u32, &Seen)> = photos.filter(|(_, seen)| seen.embedding().is_some()).collect();
    let mut people: Vec<u32> = photos.iter().map(|(person, _)| *person).collect();
    people.dedup();
    let rows = Rows::of_faces(photos.iter().copied(), dim, |_| None)?;
    let scores = rows.compare()?.into_scores()?;
    let (people, all) = (u32::try_from(people.len())?, photos.len());
    Ok(Compared { scores, people, photos: all as u64, left_out: rows.left_out })
}

/// The points that the sample supports; `None`: they make no table.
fn table(scores: &Scores) -> Option<Vec<FmrPoint>> {
    let mut table: Vec<FmrPoint> = Vec::new();
    for row in scores.fmr_table(&TARGETS).into_iter().take_while(|row| row.fmr.supported()) {
        let point = FmrPoint { fmr: row.target, threshold: row.threshold.clamp(-1.0, 1.0) };
        // Of equal scores the lower rate holds as well.
        if table.last().is_some_and(|last| last.threshold >= point.threshold) {
            table.pop();
        }
        table.push(point);
    }
    (table.len() >= LEAST_POINTS && !scores.genuine().is_empty()).then_some(table)
}

/// The calibration, without a version yet.
pub(super) fn unnamed(
    experiment: &Experiment,
    compared: &Compared,
    today: &Today,
    notes: &mut Vec<String>,
) -> anyhow::Result<Calibration> {
    Ok(Calibration {
        version: String::new(),
        data: format!("{} people, {} photos, all against all", compared.people, compared.photos),
        people: compared.people,
        genuine: compared.scores.genuine().len() as u64,
        impostor: compared.scores.impostor().len() as u64,
        margin: today.margin(),
        table: table(&compared.scores).with_context(|| needed(compared))?,
        confidence: confidence(experiment, today.calibration.as_ref(), notes)?,
    })
}

/// Says what a table would need.
fn needed(compared: &Compared) -> String {
    let (people, photos) = (compared.people, compared.photos);
    let (genuine, impostor) = (compared.scores.genuine().len(), compared.scores.impostor().len());
    let rate = TARGETS.get(LEAST_POINTS - 1).copied().unwrap_or(1.0);
    let pairs = SUPPORTING_ERRORS as f64 / rate;
    // n photos of as many people are n (n - 1) / 2 pairs; of fewer people, fewer of them are of two.
    let mixed = 1.0 - 1.0 / f64::from(people.max(2));
    let wanted = (pairs * 2.0 / mixed).sqrt().ceil() + 1.0;
    format!(
        "the sample is too small: {people} people, {photos} photos with a face, {genuine} pairs of one person, {impostor} of two. \
         Two points of a table (FMR {:.0e} and {rate:.0e}, each with {SUPPORTING_ERRORS} errors behind it) need {pairs:.0} pairs of \
         two people, some {wanted} photos of as many people as these or more, and a pair of one person",
        TARGETS.first().copied().unwrap_or(1.0),
    )
}

/// The probability that the best candidate is right, fitted on probes and strangers against those enrolled without a gate.
/// Where too few are right or wrong, today's stays.
fn confidence(
    experiment: &Experiment,
    today: Option<&Calibration>,
    notes: &mut Vec<String>,
) -> anyhow::Result<Option<Confidence>> {
    let people = u32::try_from(experiment.set(false, |_| true)?.enrolled())?;
    let told = experiment.shots.iter().filter(|shot| shot.told());
    let (similarities, right): (Vec<f64>, Vec<bool>) = told
        .filter_map(|shot| shot.free.map(|best| (f64::from(best.best), shot.known && best.best_person == shot.person)))
        .unzip();
    let rights = right.iter().filter(|right| **right).count() as u64;
    let wrongs = right.len() as u64 - rights;
    if rights < SUPPORTING_ERRORS || wrongs < SUPPORTING_ERRORS {
        let kept = today.and_then(|today| today.confidence);
        let what = if kept.is_some() { "today's stays" } else { "there is none" };
        notes.push(format!(
            "Confidence: {rights} right and {wrongs} wrong best candidates are too few to fit it, {SUPPORTING_ERRORS} of each are \
             needed (strangers count as wrong): {what}."
        ));
        return Ok(kept);
    }
    let fit = platt(&similarities, &right, Penalty::default())?;
    notes.push(format!("Confidence: fitted on {rights} right and {wrongs} wrong best candidates of {people} people."));
    let (slope, intercept) = (fit.model.slope, fit.model.intercept);
    Ok((slope > 0.0).then_some(Confidence { slope, intercept, people }))
}

/// `<collection>[-<camera>]-<date>-<hash of what it says>`.
pub(super) fn version(
    today: &Today,
    model: &str,
    says: (&Calibration, &GateOverride),
    date: Date,
) -> anyhow::Result<String> {
    let camera = today.camera.as_ref().map(|camera| format!("-{camera}")).unwrap_or_default();
    let place: String = format!("{}{camera}", today.collection).chars().take(PLACE).collect();
    let document = serde_json::to_vec(&(&today.collection, &today.camera, model, says))?;
    let hash: String = ImageHash::of(&document).to_string().chars().take(DIGITS).collect();
    let (year, month, day) = (date.year(), u8::from(date.month()), date.day());
    Ok(format!("{place}-{year:04}{month:02}{day:02}-{hash}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compared(genuine: Vec<f32>, impostor: Vec<f32>) -> Compared {
        let scores = Scores::new(genuine, impostor).unwrap();
        Compared { scores, people: 20, photos: 80, left_out: 0 }
    }

    #[test]
    fn a_table_has_the_points_that_thirty_errors_support() {
        let impostor: Vec<f32> = (0..3_000).map(|n| n as f32 / 10_000.0).collect();
        let table = table(&Scores::new(vec![0.8], impostor.clone()).unwrap()).unwrap();
        assert_eq!(table.iter().map(|point| point.fmr).collect::<Vec<_>>(), [1e-1, 1e-2]);
        assert_eq!(table[1].threshold, 0.297);
        let few = compared(vec![0.8], impostor.into_iter().take(2_000).collect());
        assert_eq!(super::table(&few.scores), None);
        let said = needed(&few);
        for word in ["20 people", "80 photos", "2000 of two", "3000 pairs", "30 errors"] {
            assert!(said.contains(word), "{word}: {said}");
        }
        assert_eq!(super::table(&Scores::new(Vec::new(), vec![0.1; 10_000]).unwrap()), None, "nobody twice");
    }

    #[test]
    fn equal_scores_make_one_point() {
        // Most pairs score alike: 1 % and 0.1 % have the same threshold.
        let impostor = [vec![0.1; 300_000], (0..300).map(|n| 0.5 + n as f32 / 1e4).collect()].concat();
        let table = table(&Scores::new(vec![0.8], impostor).unwrap()).unwrap();
        assert!(table.is_sorted_by(|a, b| a.fmr > b.fmr && a.threshold < b.threshold), "{table:?}");
        assert_eq!(table[0].fmr, 1e-3);
    }
}
