//! The part of a calibration that says what similarities mean: everybody against everybody, thresholds by rate, and the
//! probability that the best candidate is the right one.

use anyhow::Context;
use facewire_domain::{Calibration, Confidence, FmrPoint, GateOverride, ImageHash};
use facewire_evaluation::calibrate::platt;
use facewire_evaluation::rate::SUPPORTING_ERRORS;
use facewire_evaluation::{Penalty, SUPPORTING_PAIRS, Scores};
use time::Date;

use super::today::Today;
use crate::commands::evaluate::compare::Rows;
use crate::commands::evaluate::data::{Faces, Person};
use crate::commands::evaluate::identify::{Experiment, clean};
use crate::commands::evaluate::work::Sights;

/// Rates that a table may have; it has those that the sample supports.
const TARGETS: [f64; 6] = [1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6];
/// Points that make a table.
const LEAST_POINTS: usize = 2;
/// People of whom a table is made, at least. Pairs that share people are dependent, so that pairs alone do not tell whether a
/// sample is large enough: of 400 random parts of LFW (default pack, 12 photos of each person) with 8 people 95 % put FMR 1e-2
/// between 0.194 and 0.397, where FMR is 3e-2 to 2e-4; with 40 people between 0.240 and 0.270.
const LEAST_PEOPLE: u32 = 40;
/// Characters of a version that name its place: with the date and the hash it has 64 at most.
const PLACE: usize = 46;
/// Digits of a version's hash.
const DIGITS: usize = 8;

/// Faces of several people, compared without a gate.
#[derive(Debug)]
pub(super) struct Compared {
    pub(super) scores: Scores,
    /// Those with a face to compare.
    pub(super) people: u32,
    /// Of them, those of whom each pair has a face: whom the camera saw, where it is a camera's; else all.
    pub(super) probed: u32,
    /// Similarities of the people who are the most alike: see [`facewire_evaluation::AlikePeople`].
    pub(super) alike: Vec<f32>,
    /// How many faces, and what they are: `87 photos with a face`.
    pub(super) faces: String,
    /// One line that says what was measured on.
    pub(super) data: String,
    /// Every face with every other, so that their number tells how many pairs they make.
    pub(super) all_against_all: bool,
    /// What a reader must know of it.
    pub(super) notes: Vec<String>,
}

/// Best candidates of probes.
#[derive(Debug)]
pub(super) struct Candidates {
    /// How similar the best one is, and whether it is the right one.
    pub(super) answers: Vec<(f32, bool)>,
    /// Faces that each probe was compared with: each of them could be best by chance.
    pub(super) faces: u32,
    /// Whose best candidates are always wrong.
    pub(super) wrong: &'static str,
}

impl Compared {
    /// Pairs of two people who match at this threshold, [`SUPPORTING_PAIRS`] at most.
    fn pairs_of_people(&self, threshold: f32) -> usize {
        self.alike.iter().filter(|similarity| **similarity >= threshold).count()
    }

    /// Enough pairs of people are behind the errors at this threshold.
    fn rests_on_people(&self, threshold: f32) -> bool {
        self.pairs_of_people(threshold) >= SUPPORTING_PAIRS
    }
}

/// Everybody of the folders: to enrol, strangers, and those with too few photos for either.
pub(super) fn everybody(faces: &Faces) -> impl Iterator<Item = &Person> {
    faces.people.iter().chain(&faces.strangers).chain(&faces.rest)
}

/// Compares every photo with every other; of more than `most` as many whole people as fit.
pub(super) fn compare(faces: &Faces, sights: &Sights, dim: usize, most: usize) -> anyhow::Result<Compared> {
    let photos = (0u32..).zip(everybody(faces)).flat_map(|(index, person)| {
        let photos = person.gallery.iter().chain(&person.probes);
        photos.filter_map(move |photo| Some((index, clean(sights, *photo)?)))
    });
    let rows = Rows::of_faces(photos, dim, most, |_| None)?;
    let compared = rows.compare()?;
    let alike = compared.alike.similarities();
    // What is kept of it says what was compared, and not what was there.
    let (people, all) = rows.size();
    let number = u32::try_from(people)?;
    Ok(Compared {
        scores: compared.into_scores()?,
        people: number,
        probed: number,
        alike,
        faces: format!("{all} photos with a face"),
        data: format!("{people} people, {all} photos, all against all"),
        all_against_all: true,
        notes: rows.left_out.note().into_iter().collect(),
    })
}

/// Probes and strangers against those enrolled without a gate.
pub(super) fn candidates(experiment: &Experiment) -> anyhow::Result<Candidates> {
    let faces = u32::try_from(experiment.compared_with(false))?;
    let told = experiment.shots.iter().filter(|shot| shot.told());
    let answers =
        told.filter_map(|shot| shot.free.map(|best| (best.best, shot.known && best.best_person == shot.person)));
    Ok(Candidates { answers: answers.collect(), faces, wrong: "strangers" })
}

/// No threshold is too low for a rate.
pub(super) fn any(_rate: f64) -> f32 {
    -1.0
}

/// The points that the sample supports, at each rate `least` or more; `None`: they make no table.
fn table(compared: &Compared, least: impl Fn(f64) -> f32) -> Option<Vec<FmrPoint>> {
    if compared.probed < LEAST_PEOPLE || compared.scores.genuine().is_empty() {
        return None;
    }
    let mut table: Vec<FmrPoint> = Vec::new();
    let rows = compared.scores.fmr_table(&TARGETS).into_iter();
    for row in rows.take_while(|row| row.fmr.supported() && compared.rests_on_people(row.threshold)) {
        let point = FmrPoint { fmr: row.target, threshold: row.threshold.max(least(row.target)).clamp(-1.0, 1.0) };
        // Of equal scores the lower rate holds as well.
        if table.last().is_some_and(|last| last.threshold >= point.threshold) {
            table.pop();
        }
        table.push(point);
    }
    (table.len() >= LEAST_POINTS).then_some(table)
}

/// What a reader must know of a rate with enough errors that are of too few people: the table ends before it.
fn few_people(compared: &Compared) -> Option<String> {
    let rows = compared.scores.fmr_table(&TARGETS).into_iter();
    let row = rows.take_while(|row| row.fmr.supported()).find(|row| !compared.rests_on_people(row.threshold))?;
    Some(format!(
        "The table ends before FMR {:.0e}: the {} errors there are of {} pairs of people, and {SUPPORTING_PAIRS} are needed. Thresholds \
         of lower rates are not measured.",
        row.target,
        row.fmr.errors,
        compared.pairs_of_people(row.threshold)
    ))
}

/// The calibration, without a version yet; at each rate with a threshold of `least` or more.
pub(super) fn unnamed(
    compared: &Compared,
    candidates: &Candidates,
    today: &Today,
    least: impl Fn(f64) -> f32,
    notes: &mut Vec<String>,
) -> anyhow::Result<Calibration> {
    notes.extend(today.margin_note());
    notes.extend(few_people(compared));
    Ok(Calibration {
        version: String::new(),
        data: compared.data.clone(),
        people: compared.people,
        genuine: compared.scores.genuine().len() as u64,
        impostor: compared.scores.impostor().len() as u64,
        margin: today.margin(),
        table: table(compared, least).with_context(|| needed(compared))?,
        confidence: confidence(candidates, today.calibration.as_ref(), notes)?,
    })
}

/// Says what a table would need.
fn needed(compared: &Compared) -> String {
    let (people, probed, faces) = (compared.people, compared.probed, &compared.faces);
    let (genuine, impostor) = (compared.scores.genuine().len(), compared.scores.impostor().len());
    let rate = TARGETS.get(LEAST_POINTS - 1).copied().unwrap_or(1.0);
    let pairs = SUPPORTING_ERRORS as f64 / rate;
    // n faces of as many people are n (n - 1) / 2 pairs; of fewer people, fewer of them are of two.
    let mixed = 1.0 - 1.0 / f64::from(people.max(LEAST_PEOPLE));
    let wanted = (pairs * 2.0 / mixed).sqrt().ceil() + 1.0;
    let (seen, wanted) = if compared.all_against_all {
        (String::new(), format!(", some {wanted} faces of as many people or more"))
    } else {
        (format!(" ({probed} of them seen)"), String::new())
    };
    let alike = compared.scores.threshold_at_fmr(rate).map_or(0, |threshold| compared.pairs_of_people(threshold));
    format!(
        "the sample is too small: {people} people{seen}, {faces}, {genuine} pairs of one person, {impostor} of two. \
         {LEAST_PEOPLE} people are needed, because pairs that share people tell less than others. Two points of a table (FMR {:.0e} and \
         {rate:.0e}, each with {SUPPORTING_ERRORS} errors behind it) need {pairs:.0} pairs of two people{wanted}, and a pair of one \
         person; and the errors have to be of {SUPPORTING_PAIRS} pairs of people (at {rate:.0e} they are of {alike})",
        TARGETS.first().copied().unwrap_or(1.0),
    )
}

/// The probability that the best candidate is right. Where too few are right or wrong, today's stays.
fn confidence(
    candidates: &Candidates,
    today: Option<&Calibration>,
    notes: &mut Vec<String>,
) -> anyhow::Result<Option<Confidence>> {
    let faces = candidates.faces;
    let (similarities, right): (Vec<f64>, Vec<bool>) =
        candidates.answers.iter().map(|(similarity, right)| (f64::from(*similarity), *right)).unzip();
    let rights = right.iter().filter(|right| **right).count() as u64;
    let wrongs = right.len() as u64 - rights;
    if rights < SUPPORTING_ERRORS || wrongs < SUPPORTING_ERRORS {
        let kept = today.and_then(|today| today.confidence);
        let what = if kept.is_some() { "today's stays" } else { "there is none" };
        notes.push(format!(
            "Confidence: {rights} right and {wrongs} wrong best candidates are too few to fit it, {SUPPORTING_ERRORS} of each are \
             needed ({} count as wrong): {what}.",
            candidates.wrong
        ));
        return Ok(kept);
    }
    let fit = platt(&similarities, &right, Penalty::default())?;
    let on = format!("{rights} right and {wrongs} wrong best candidates among {faces} faces");
    let (slope, intercept) = (fit.model.slope, fit.model.intercept);
    if slope > 0.0 {
        notes.push(format!("Confidence: fitted on {on}."));
        return Ok(Some(Confidence { slope, intercept, faces }));
    }
    notes.push(format!("Confidence: there is none. By {on} a candidate that is more alike is no more often right."));
    Ok(None)
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
pub(super) mod tests {
    use std::sync::Arc;

    use facewire_domain::Quality;
    use facewire_vision::Camera;

    use super::*;
    use crate::commands::evaluate::identify::Judging;
    use crate::commands::evaluate::seen::{Outcome, Seen, Standard};

    /// A photo at an angle in degrees.
    fn photo(degrees: f32) -> Vec<Arc<Seen>> {
        let embedding = vec![degrees.to_radians().cos(), degrees.to_radians().sin()];
        let outcome = Outcome::Face { quality: Quality::from_fn(|_| 1.0), embedding };
        vec![Arc::new(Seen { face_side: Some(80.0), faces: 1, outcome })]
    }

    /// Two people, three photos of each enrolled and one searched with; and a stranger.
    pub(in crate::commands::calibrate) fn three_photos_each() -> (Faces, Sights) {
        let person = |name: &str, gallery: &[usize], probe| Person {
            name: name.to_owned(),
            gallery: gallery.to_vec(),
            probes: vec![probe],
        };
        let faces = Faces {
            files: (0..9).map(|n| format!("{n}.jpg").into()).collect(),
            people: vec![person("a", &[0, 1, 2], 3), person("b", &[4, 5, 6], 7)],
            strangers: vec![person("c", &[], 8)],
            ..Faces::default()
        };
        let sights = [0.0, 1.0, 2.0, 3.0, 60.0, 61.0, 62.0, 63.0, 40.0].into_iter().map(photo).collect();
        (faces, sights)
    }

    #[test]
    fn a_confidence_counts_each_enrolled_face_that_a_probe_was_compared_with() {
        let (faces, sights) = three_photos_each();
        let judging = Judging { probe: Standard::OPEN, enrol: Standard::OPEN, gate: true, margin: None };
        let experiment = Experiment::new((&faces, &sights), &[Camera::Clean], judging, 2).unwrap();
        let found = candidates(&experiment).unwrap();
        let right: Vec<bool> = found.answers.iter().map(|(_, right)| *right).collect();
        assert_eq!((found.faces, right), (6, vec![true, true, false]));

        // What is fitted on such answers holds among as many faces.
        let answers = (0..80).map(|n: u8| (f32::from(n) / 100.0, n >= 40 || n.is_multiple_of(8))).collect();
        let mut notes = Vec::new();
        let fit = confidence(&Candidates { answers, ..found }, None, &mut notes).unwrap().unwrap();
        assert_eq!(fit.faces, 6);
        assert!(notes.iter().any(|note| note.contains("among 6 faces")), "{notes:?}");
    }

    #[test]
    fn a_confidence_that_was_dropped_is_not_told_as_fitted() {
        // The more alike, the more often wrong.
        let answers = (0..80).map(|n: u8| (f32::from(n) / 100.0, n < 40)).collect();
        let mut notes = Vec::new();
        let found = confidence(&Candidates { answers, faces: 6, wrong: "strangers" }, None, &mut notes).unwrap();
        assert_eq!((found, notes.len()), (None, 1));
        assert!(notes[0].contains("there is none") && !notes[0].contains("fitted"), "{notes:?}");
    }

    #[test]
    fn what_is_kept_says_what_was_compared() {
        let (faces, sights) = three_photos_each();
        let all = compare(&faces, &sights, 2, 9).unwrap();
        assert_eq!((all.people, all.data.as_str(), all.notes.len()), (3, "3 people, 9 photos, all against all", 0));
        let fewer = compare(&faces, &sights, 2, 8).unwrap();
        let photos = fewer.faces.trim_end_matches(" with a face");
        assert_eq!((fewer.people, &fewer.data), (2, &format!("2 people, {photos}, all against all")));
        // Whole people: of each who stays all pairs do.
        let genuine = fewer.scores.genuine().len();
        assert!([6, 12].contains(&genuine) && fewer.notes[0].contains("(1 people"), "{genuine}: {:?}", fewer.notes);
    }

    #[test]
    fn many_photos_of_few_people_are_one_pair() {
        let person = |name: &str, photos: std::ops::Range<usize>| Person {
            name: name.to_owned(),
            gallery: Vec::new(),
            probes: photos.collect(),
        };
        let faces = Faces { people: vec![person("a", 0..60), person("b", 60..120)], ..Faces::default() };
        let sights: Sights = (0..120u8).map(|n| photo(f32::from(n))).collect();
        let two = compare(&faces, &sights, 2, 200).unwrap();
        assert_eq!((two.people, two.scores.impostor().len(), two.alike.len()), (2, 3_600, 1));
        // Thirty errors are behind 1e-1 and 1e-2, and there are too few people for either.
        assert_eq!(table(&two, any), None);
        let said = needed(&two);
        for word in ["2 people", "120 photos", "3600 of two", "40 people are needed", "of 10 pairs", "they are of 1"] {
            assert!(said.contains(word), "{word}: {said}");
        }
    }

    #[test]
    fn a_margin_goes_into_what_is_kept() {
        let impostor: Vec<f32> = (0..3_000).map(|n| n as f32 / 10_000.0).collect();
        let candidates = Candidates { answers: Vec::new(), faces: 6, wrong: "strangers" };
        let (few, mut notes) = (compared(vec![0.8], impostor), Vec::new());
        let made = unnamed(&few, &candidates, &super::super::today::tests::bare(), any, &mut notes).unwrap();
        assert_eq!(made.margin, 0.05);
        assert!(notes.iter().any(|note| note.contains("margin of 0.05")), "{notes:?}");
    }

    /// Of enough people, each pair of whom has one pair of faces.
    fn compared(genuine: Vec<f32>, impostor: Vec<f32>) -> Compared {
        let scores = Scores::new(genuine, impostor).unwrap();
        let alike = scores.impostor().iter().rev().take(SUPPORTING_PAIRS).copied().collect();
        let (faces, data) = ("80 photos with a face".to_owned(), String::new());
        let (people, probed) = (50, 50);
        Compared { scores, people, probed, alike, faces, data, all_against_all: true, notes: Vec::new() }
    }

    #[test]
    fn a_table_has_the_points_that_thirty_errors_support() {
        let impostor: Vec<f32> = (0..3_000).map(|n| n as f32 / 10_000.0).collect();
        let enough = compared(vec![0.8], impostor.clone());
        let table = table(&enough, any).unwrap();
        assert_eq!(table.iter().map(|point| point.fmr).collect::<Vec<_>>(), [1e-1, 1e-2]);
        assert_eq!(table[1].threshold, 0.297);
        let least = |rate: f64| if rate < 0.05 { 0.4 } else { 0.1 };
        let raised = super::table(&enough, least).unwrap();
        assert_eq!((raised[0], raised[1].threshold), (table[0], 0.4), "the higher one of each rate");
        let few = compared(vec![0.8], impostor.into_iter().take(2_000).collect());
        assert_eq!(super::table(&few, any), None);
        let said = needed(&few);
        for word in ["50 people", "80 photos", "2000 of two", "3000 pairs", "30 errors", "they are of 10"] {
            assert!(said.contains(word), "{word}: {said}");
        }
        assert!(said.contains("some") && !needed(&Compared { all_against_all: false, ..few }).contains("some"));
        assert_eq!(super::table(&compared(Vec::new(), vec![0.1; 10_000]), any), None, "nobody twice");
    }

    #[test]
    fn a_table_is_of_enough_people_and_ends_where_its_errors_are_of_few_pairs_of_them() {
        let impostor: Vec<f32> = (0..30_000).map(|n| n as f32 / 100_000.0).collect();
        let points = |compared: &Compared| table(compared, any).map(|table| table.len());
        let enough = compared(vec![0.8], impostor.clone());
        assert_eq!((points(&enough), few_people(&enough)), (Some(3), None));
        // Of a camera those count whom it saw.
        let seen = |probed| Compared { probed, ..compared(vec![0.8], impostor.clone()) };
        assert_eq!((points(&seen(LEAST_PEOPLE - 1)), points(&seen(LEAST_PEOPLE))), (None, Some(3)));
        // Thirty errors are behind 1e-3, at 0.2997, and only four of these pairs of people.
        let mut alike = vec![0.29999, 0.29995, 0.2999, 0.2998];
        alike.extend(vec![0.2985; SUPPORTING_PAIRS - 4]);
        let few = Compared { alike, ..compared(vec![0.8], impostor.clone()) };
        assert_eq!(points(&few), Some(2));
        let note = few_people(&few).unwrap();
        assert!(note.contains("FMR 1e-3: the 30 errors there are of 4 pairs of people"), "{note}");
    }

    #[test]
    fn equal_scores_make_one_point() {
        // Most pairs score alike: 1 % and 0.1 % have the same threshold.
        let impostor = [vec![0.1; 300_000], (0..300).map(|n| 0.5 + n as f32 / 1e4).collect()].concat();
        let table = table(&compared(vec![0.8], impostor), any).unwrap();
        assert!(table.is_sorted_by(|a, b| a.fmr > b.fmr && a.threshold < b.threshold), "{table:?}");
        assert_eq!(table[0].fmr, 1e-3);
    }
}
