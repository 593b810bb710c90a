//! The open set: who was enrolled, what every probe was taken for with the gate on and off, and the threshold that is applied.

use std::sync::Arc;

use anyhow::Context;
use facewire_domain::{Calibration, Quality, cosine};
use facewire_evaluation::{
    Answer, Embeddings, FPIR_TARGETS, GateEffect, Gated, OpenSet, Probe, Ranked, Resampling, report::OpenSetRates,
};
use facewire_vision::Camera;

use super::data::{Faces, Person};
use super::enrolled::Enrolled;
use super::seen::{Seen, Standard};
use super::work::Sights;

/// A probe of one camera.
#[derive(Debug)]
pub(in crate::commands) struct Shot<'a> {
    /// By index: first those to enrol, then strangers.
    pub(in crate::commands) person: u32,
    pub(in crate::commands) known: bool,
    pub(in crate::commands) camera: Camera,
    /// Index of the photo.
    pub(in crate::commands) photo: usize,
    pub(in crate::commands) seen: &'a Seen,
    /// Why the gate rejects it, whether or not it is on.
    pub(in crate::commands) reason: Option<String>,
    /// Among those enrolled without a gate.
    pub(in crate::commands) free: Option<Ranked>,
    /// Among those enrolled with it.
    gated: Option<Ranked>,
    /// Similarity to the person's own nearest photo in the gallery that was enrolled without a gate.
    pub(in crate::commands) own: Option<f32>,
}

/// Everything that is known of an open set.
pub(in crate::commands) struct Experiment<'a> {
    pub(in crate::commands) faces: &'a Faces,
    pub(in crate::commands) sights: &'a Sights,
    pub(in crate::commands) cameras: &'static [Camera],
    pub(in crate::commands) judging: Judging,
    pub(in crate::commands) dim: usize,
    pub(in crate::commands) shots: Vec<Shot<'a>>,
    free: Enrolled,
    gated: Enrolled,
}

/// By what faces are judged and decided.
#[derive(Debug, Clone)]
pub(in crate::commands) struct Judging {
    /// Of probes.
    pub(in crate::commands) probe: Standard,
    /// Of photos to enrol.
    pub(in crate::commands) enrol: Standard,
    /// The gate is on.
    pub(in crate::commands) gate: bool,
    /// How far the best person must lead, in similarity.
    pub(in crate::commands) margin: Option<f32>,
}

impl Judging {
    /// Everything that is known of a face, if there is one.
    pub(in crate::commands) fn quality(&self, seen: &Seen) -> Option<Quality> {
        seen.quality().map(|quality| self.probe.completed(*quality))
    }

    /// The same as the limits meet it.
    pub(in crate::commands) fn at_limits(&self, seen: &Seen) -> Option<Quality> {
        seen.quality().map(|quality| self.probe.at_limits(*quality))
    }
}

/// The threshold that is applied and where it comes from.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Operating {
    pub(super) threshold: f32,
    pub(super) how: String,
}

/// People with their indices: those to enrol, then strangers.
pub(in crate::commands) fn everybody(faces: &Faces) -> impl Iterator<Item = (u32, bool, &Person)> {
    let known = faces.people.iter().map(|person| (true, person));
    let strangers = faces.strangers.iter().map(|person| (false, person));
    (0..).zip(known.chain(strangers)).map(|(index, (known, person))| (index, known, person))
}

impl<'a> Experiment<'a> {
    /// Enrols every photo, and searches.
    pub(in crate::commands) fn new(
        (faces, sights): (&'a Faces, &'a Sights),
        cameras: &'static [Camera],
        judging: Judging,
        dim: usize,
    ) -> anyhow::Result<Self> {
        Self::of((faces, sights), cameras, judging, dim, None)
    }

    /// The same; with a number of exemplars only so many of each person's photos are in the gallery.
    pub(super) fn of(
        (faces, sights): (&'a Faces, &'a Sights),
        cameras: &'static [Camera],
        judging: Judging,
        dim: usize,
        exemplars: Option<usize>,
    ) -> anyhow::Result<Self> {
        let free = Enrolled::of((faces, sights), &judging, &Standard::OPEN, dim, exemplars)?;
        let gated = Enrolled::of((faces, sights), &judging, &judging.enrol, dim, exemplars)?;
        let mut shots = shots(faces, sights, cameras, &judging.probe);
        let mut probes = Embeddings::new(dim);
        for embedding in shots.iter().filter_map(|shot| shot.seen.embedding()) {
            probes.push(embedding)?;
        }
        let (by_free, by_gated) = (free.gallery.rank(&probes)?, gated.gallery.rank(&probes)?);
        let searched = shots.iter_mut().filter(|shot| shot.seen.embedding().is_some());
        for (shot, (by_free, by_gated)) in searched.zip(by_free.into_iter().zip(by_gated)) {
            (shot.free, shot.gated) = (by_free, by_gated);
            let enrolled = free.photos_of(shot.person).iter().filter_map(|photo| clean(sights, *photo)?.embedding());
            let probe = shot.seen.embedding().unwrap_or_default();
            shot.own = enrolled.map(|photo| cosine(photo, probe)).reduce(f32::max);
        }
        Ok(Self { faces, sights, cameras, judging, dim, shots, free, gated })
    }

    /// The probes that fit, as the evaluation takes them.
    pub(in crate::commands) fn set(&self, gate: bool, of: impl Fn(&Shot) -> bool) -> anyhow::Result<OpenSet> {
        self.set_of(gate, |_| true, of)
    }

    /// The probes of some of the people, and of all strangers: failures to enrol are those of these people alone. Everybody
    /// who is enrolled is searched.
    pub(super) fn group(&self, gate: bool, people: &[u32]) -> anyhow::Result<OpenSet> {
        let is_theirs = |person: u32| people.contains(&person);
        self.set_of(gate, is_theirs, |shot| !shot.known || is_theirs(shot.person))
    }

    fn set_of(&self, gate: bool, counts: impl Fn(u32) -> bool, of: impl Fn(&Shot) -> bool) -> anyhow::Result<OpenSet> {
        let answer = |shot: &Shot| {
            let (rejected, ranked) =
                if gate { (shot.reason.clone(), shot.gated) } else { (shot.seen.reason(&Standard::OPEN), shot.free) };
            let answer = match rejected {
                Some(reason) => Answer::Rejected(reason),
                None => {
                    Answer::Ranked(ranked.context("nobody could be enrolled: see the gate's limits, or --gate off")?)
                }
            };
            anyhow::Ok(Probe { person: shot.person, answer })
        };
        let probes = |known: bool| {
            self.shots
                .iter()
                .filter(|shot| shot.known == known && of(shot))
                .map(answer)
                .collect::<anyhow::Result<Vec<_>>>()
        };
        let people = (0..u32::try_from(self.faces.people.len())?).filter(|person| counts(*person));
        let enrolled = self.enrolled(gate).people();
        let set = OpenSet::new(people, enrolled, probes(true)?, probes(false)?);
        Ok(match self.judging.margin {
            Some(margin) => set.with_margin(margin),
            None => set,
        })
    }

    fn enrolled(&self, gate: bool) -> &Enrolled {
        if gate { &self.gated } else { &self.free }
    }

    /// People in the gallery, of whatever group.
    pub(super) fn people_enrolled(&self, gate: bool) -> usize {
        self.enrolled(gate).people().count()
    }

    /// Faces that each probe is compared with: of a person who is enrolled with several photos, each.
    pub(in crate::commands) fn compared_with(&self, gate: bool) -> usize {
        self.enrolled(gate).gallery.len()
    }

    /// `fixed`, else what the calibration says of so many faces, else what keeps the rate on these strangers.
    pub(super) fn operating(
        &self,
        fixed: Option<f32>,
        calibration: Option<&Calibration>,
        fpir: f64,
    ) -> anyhow::Result<Option<Operating>> {
        let set = self.set(self.judging.gate, |_| true)?;
        let faces = self.compared_with(self.judging.gate);
        let calibrated = || {
            let calibration = calibration?;
            let threshold = calibration.threshold_for(fpir, u32::try_from(faces).unwrap_or(u32::MAX));
            Some((
                threshold,
                format!("the pack's calibration {} for FPIR {fpir} among {faces} faces", calibration.version),
            ))
        };
        let measured =
            || Some((set.threshold_at_fpir(fpir)?, format!("measured here, on all cameras, for FPIR {fpir}")));
        let given = fixed.map(|threshold| (threshold, "--threshold".to_owned()));
        Ok(given.or_else(calibrated).or_else(measured).map(|(threshold, how)| Operating { threshold, how }))
    }

    /// Rates over all cameras, of each, and, beside a gate that is on, over all without it.
    pub(super) fn rates(&self, operating: f32, fpir: f64, resampling: Resampling) -> anyhow::Result<Vec<OpenSetRates>> {
        let mut targets = FPIR_TARGETS.to_vec();
        if !targets.contains(&fpir) {
            targets.push(fpir);
            targets.sort_by(f64::total_cmp);
        }
        let rates = |name: &str, gate: bool, camera: Option<Camera>| {
            let set = self.set(gate, |shot| camera.is_none_or(|camera| shot.camera == camera))?;
            let mut rates = OpenSetRates::new(name, &set, &targets, &[operating], resampling);
            rates.enrolment_reasons = self.enrolled(gate).reasons.clone();
            rates.faces = Some(self.compared_with(gate));
            anyhow::Ok(rates)
        };
        let mut all = vec![rates(ALL, self.judging.gate, None)?];
        if self.cameras.len() > 1 {
            for camera in self.cameras {
                all.push(rates(camera.name(), self.judging.gate, Some(*camera))?);
            }
        }
        if self.judging.gate {
            all.push(rates(UNGATED, false, None)?);
        }
        Ok(all)
    }

    /// What the gate rejects, over all cameras and of each. Everything is searched without a gate.
    pub(in crate::commands) fn effects(&self, threshold: f32) -> anyhow::Result<Vec<GateEffect>> {
        let set = self.set(false, |_| true)?;
        let effect = |name: &str, camera: Option<Camera>| {
            let of = |known: bool| {
                let shots = self.shots.iter().filter(move |shot| shot.known == known && shot.told());
                let shots = shots.filter(|shot| camera.is_none_or(|camera| shot.camera == camera));
                shots.map(|shot| Gated { right: right(&set, shot, threshold), reason: shot.reason.clone() })
            };
            GateEffect::new(name, threshold, &of(true).collect::<Vec<_>>(), &of(false).collect::<Vec<_>>())
        };
        let each = self.cameras.iter().filter(|_| self.cameras.len() > 1).map(|c| effect(c.name(), Some(*c)));
        Ok(std::iter::once(effect(ALL, None)).chain(each).collect())
    }
}

impl Shot<'_> {
    /// Whether an error is the probe's own: it was searched, and who is on it is enrolled or a stranger.
    pub(in crate::commands) fn told(&self) -> bool {
        self.free.is_some() && (!self.known || self.own.is_some())
    }
}

/// The name of what is over all cameras.
pub(super) const ALL: &str = "all cameras";
/// The same without a gate.
const UNGATED: &str = "all cameras, gate off";

/// Who a shot is taken for, searched without a gate: `None` for nobody.
pub(super) fn taken_for(set: &OpenSet, shot: &Shot, threshold: f32) -> Option<u32> {
    let ranked = shot.free?;
    let probe = Probe { person: ranked.best_person, answer: Answer::Ranked(ranked) };
    set.is_right(&probe, threshold).then_some(ranked.best_person)
}

/// Whether that is right: the person, or, of a stranger, nobody.
pub(in crate::commands) fn right(set: &OpenSet, shot: &Shot, threshold: f32) -> bool {
    taken_for(set, shot, threshold) == shot.known.then_some(shot.person)
}

/// What the first camera of a photo, the clean one, saw.
pub(in crate::commands) fn clean(sights: &Sights, photo: usize) -> Option<&Seen> {
    sights.get(photo)?.first().map(Arc::as_ref)
}

fn shots<'a>(faces: &Faces, sights: &'a Sights, cameras: &[Camera], standard: &Standard) -> Vec<Shot<'a>> {
    let mut shots = Vec::new();
    for (person, known, who) in everybody(faces) {
        for photo in &who.probes {
            for (camera, seen) in cameras.iter().zip(sights.get(*photo).into_iter().flatten()) {
                let (camera, photo, reason) = (*camera, *photo, seen.reason(standard));
                shots.push(Shot { person, known, camera, photo, seen, reason, free: None, gated: None, own: None });
            }
        }
    }
    shots
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::seen::tests::{face, no_face};
    use super::*;
    use facewire_domain::{Bound, GateLimits, Side};

    const CAMERAS: &[Camera] = &[Camera::Clean, Camera::Dark];

    /// A limit that 0.25 breaks and 1 does not.
    fn limits() -> GateLimits {
        let lower = Bound::all().find(|bound| bound.side == Side::Min).unwrap();
        GateLimits::OFF.with(lower, Some(0.5))
    }

    pub(in crate::commands::evaluate) fn judging(gate: bool, margin: Option<f32>) -> Judging {
        let standard = Standard { limits: limits(), model: None };
        Judging { probe: standard.clone(), enrol: standard, gate, margin }
    }

    fn good(angle: f32) -> Arc<Seen> {
        Arc::new(face(Quality::from_fn(|_| 1.0), [angle.cos(), angle.sin()]))
    }

    fn poor(angle: f32) -> Arc<Seen> {
        Arc::new(face(Quality::from_fn(|_| 0.25), [angle.cos(), angle.sin()]))
    }

    /// Two people a right angle apart, one of whom cannot be enrolled with the gate on, and a stranger in between.
    pub(in crate::commands::evaluate) fn sample() -> (Faces, Sights) {
        let person = |name: &str, gallery: &[usize], probes: &[usize]| Person {
            name: name.to_owned(),
            gallery: gallery.to_vec(),
            probes: probes.to_vec(),
        };
        let faces = Faces {
            files: (0..5).map(|n| format!("{n}.jpg").into()).collect(),
            people: vec![person("a", &[0], &[1]), person("b", &[2], &[3])],
            strangers: vec![person("c", &[], &[4])],
            rest: Vec::new(),
        };
        let sights = vec![
            vec![good(0.0)],
            vec![good(0.1), poor(0.5)],
            vec![poor(1.57)],
            vec![good(1.5), Arc::new(no_face())],
            vec![good(0.8), poor(0.3)],
        ];
        (faces, sights)
    }

    #[test]
    fn with_and_without_a_gate_side_by_side() {
        let (faces, sights) = sample();
        let experiment = Experiment::new((&faces, &sights), CAMERAS, judging(true, None), 2).unwrap();
        let at = |gate: bool| experiment.set(gate, |_| true).unwrap().at(0.8);
        let (on, off) = (at(true), at(false));
        assert_eq!((on.right, on.wrong, on.missed, on.rejected), (1, 0, 1, 2));
        assert_eq!((off.right, off.wrong, off.missed, off.rejected), (3, 0, 0, 1));
        assert_eq!((on.strangers_accepted, off.strangers_accepted), (0, 1));
        let rates = experiment.rates(0.8, 0.01, Resampling { resamples: 10, seed: 1 }).unwrap();
        let names: Vec<&str> = rates.iter().map(|rates| rates.name.as_str()).collect();
        assert_eq!(names, [ALL, "clean", "dark", UNGATED]);
        assert_eq!(rates[0].failure_to_enrol.errors, 1);
        assert_eq!(rates[0].enrolment_reasons.values().sum::<u64>(), 1);
        assert!(rates[3].enrolment_reasons.is_empty());
        let effect = experiment.effects(0.8).unwrap().remove(0);
        assert_eq!((effect.probes, effect.rejected, effect.loss.errors, effect.loss.trials), (3, 1, 1, 3));
        assert_eq!((effect.strangers_rejected.errors, effect.strangers_accepted.errors), (1, 0));
    }

    #[test]
    fn a_groups_failures_to_enrol_are_its_own() {
        let (faces, sights) = sample();
        let experiment = Experiment::new((&faces, &sights), CAMERAS, judging(true, None), 2).unwrap();
        let found = |people: &[u32]| {
            let set = experiment.group(true, people).unwrap();
            (set.failure_to_enrol().errors, set.failure_to_enrol().trials, set.known().len(), set.strangers().len())
        };
        // Person 1 cannot be enrolled; number 2 is a stranger.
        assert_eq!((found(&[0]), found(&[1, 2]), found(&[0, 1])), ((0, 1, 2, 2), (1, 1, 2, 2), (1, 2, 4, 2)));
        assert_eq!((experiment.people_enrolled(true), experiment.people_enrolled(false)), (1, 2));
    }

    #[test]
    fn the_threshold_is_fixed_or_measured_and_a_margin_counts() {
        let (faces, sights) = sample();
        let experiment = Experiment::new((&faces, &sights), CAMERAS, judging(false, None), 2).unwrap();
        assert_eq!(experiment.operating(Some(0.3), None, 0.01).unwrap().unwrap().threshold, 0.3);
        let measured = experiment.operating(None, None, 0.01).unwrap().unwrap();
        assert!(measured.threshold > 0.3f32.cos() && measured.how.contains("measured"));
        let led = Experiment::new((&faces, &sights), CAMERAS, judging(false, Some(0.9)), 2).unwrap();
        assert_eq!(led.set(false, |_| true).unwrap().at(0.8).right, 1);
    }

    #[test]
    fn a_shot_is_told_by_whom_it_is_taken_for() {
        let (faces, sights) = sample();
        let experiment = Experiment::new((&faces, &sights), CAMERAS, judging(true, None), 2).unwrap();
        let set = experiment.set(false, |_| true).unwrap();
        let taken: Vec<Option<u32>> = experiment.shots.iter().map(|shot| taken_for(&set, shot, 0.8)).collect();
        assert_eq!(taken, [Some(0), Some(0), Some(1), None, None, Some(0)]);
        let rights: Vec<bool> = experiment.shots.iter().map(|shot| right(&set, shot, 0.8)).collect();
        assert_eq!(rights, [true, true, true, false, true, false]);
    }
}
