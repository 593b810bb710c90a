//! The experiment that judges a projection head: people whom it has never seen, half of them enrolled with one face each and searched
//! with their others, the other half strangers; and what came of it, as it is kept with the head. The decision is in `verdict`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::bootstrap::{MIN_PEOPLE, Resampling, error_rate};
use crate::compare::{CompareError, Embeddings};
use crate::identification::{Answer, Endings, OpenSet, Probe};
use crate::rank::Gallery;
use crate::rate::Rate;
use crate::verdict::{Gain, VerdictError, verdict_watched};
use crate::watch::Watch;

/// The FPIR at which heads are compared.
pub const HEAD_FPIR: f64 = 0.01;
/// People who have to be held out: [`MIN_PEOPLE`] known ones, and as many strangers.
pub const MIN_HELD_OUT: usize = 2 * MIN_PEOPLE;
/// Steps of a curve that is kept.
const CURVE_STEPS: usize = 40;

/// A head that cannot be judged.
#[derive(Debug, Error, PartialEq)]
pub enum HeldOutError {
    /// Rows that cannot be compared.
    #[error(transparent)]
    Compare(#[from] CompareError),
    /// Experiments that cannot be judged.
    #[error(transparent)]
    Verdict(#[from] VerdictError),
}

/// One of the three: the embeddings as they are, their principal components, or the head.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeadSide {
    /// Numbers of an embedding.
    pub dim: usize,
    /// The similarity at which its FPIR is the one that is compared at.
    pub threshold: f32,
    /// Share of the probes of enrolled people that were right.
    pub tpir: f64,
    /// Lower end of its 95 % interval, people resampled, at this threshold; of fewer than 30 errors the bound, and 1 above.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Probes that were right.
    pub right: u64,
    /// Probes of enrolled people.
    pub probes: u64,
    /// Share of the strangers' probes that were accepted: at most the one that is compared at, and of few probes none at all.
    pub fpir: f64,
    /// The strangers' probes that were accepted. 0 of 0 in a verdict of an earlier release.
    #[serde(default)]
    pub strangers_accepted: u64,
    /// The strangers' probes.
    #[serde(default)]
    pub strange_probes: u64,
    /// TPIR over FPIR: pairs of FPIR and TPIR, by ascending threshold.
    pub curve: Vec<(f64, f64)>,
}

impl HeadSide {
    /// Its TPIR with what is behind it.
    pub fn measured_tpir(&self) -> Rate {
        Rate::of_successes(self.probes.saturating_sub(self.right), self.probes)
    }

    /// Its FPIR with what is behind it. `None` in a verdict of an earlier release, which kept no counts.
    pub fn measured_fpir(&self) -> Option<Rate> {
        (self.strange_probes > 0).then(|| Rate::of_errors(self.strangers_accepted, self.strange_probes))
    }
}

/// A difference of TPIR, head less other, with its 95 % interval by person.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeadGain {
    /// On all held-out people.
    pub value: f64,
    /// Lower end: above zero, the gain is certain.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// What is known of a head, as it is kept and told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeadVerdict {
    /// Both gains are certain.
    pub accepted: bool,
    /// The FPIR at which all are compared.
    pub target_fpir: f64,
    /// Known people who have probes.
    pub people: usize,
    /// Strangers who have probes.
    pub strangers: usize,
    /// The embeddings as they are.
    pub raw: HeadSide,
    /// Their principal components.
    pub pca: HeadSide,
    /// The head.
    pub head: HeadSide,
    /// TPIR of the head less that of the raw embeddings.
    pub over_raw: HeadGain,
    /// TPIR of the head less that of the principal components.
    pub over_pca: HeadGain,
}

/// What came of one epoch.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeadEpoch {
    /// Counted from 1.
    pub epoch: u32,
    /// Mean loss of its batches.
    pub loss: f64,
    /// Loss on the validation people.
    pub validation_loss: f64,
    /// Share of their pairs of one person that match where 1 % of the pairs of two people do.
    pub validation_rate: f64,
    /// The best epoch so far.
    pub improved: bool,
}

/// How a head was trained, as it is kept and told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeadTraining {
    /// Faces of all people who took part.
    pub faces: usize,
    /// People who were trained on.
    pub trained: usize,
    /// People who chose the epoch.
    pub validated: usize,
    /// People who were held out for the verdict.
    pub held_out: usize,
    /// After which epoch the head was the best; 0: it is PCA.
    pub best_epoch: u32,
    /// Every epoch.
    pub history: Vec<HeadEpoch>,
}

/// The experiment on these faces: rows and whose they are. Of the people in the order in which they are first seen, every other one is
/// enrolled with their first face, and searched with the rest; the others are strangers. The same faces in the same order make
/// experiments that can be compared.
///
/// # Errors
/// Rows that are not unit rows of one width; [`CompareError::Cancelled`] by the watch.
pub fn held_out<'a>(
    dim: usize,
    faces: impl IntoIterator<Item = (u32, &'a [f32])>,
    watch: Watch<'_>,
) -> Result<OpenSet, CompareError> {
    let (mut gallery, mut seen): (Gallery, BTreeMap<u32, bool>) = (Gallery::new(dim), BTreeMap::new());
    let [mut known, mut strange] = [(Embeddings::new(dim), Vec::new()), (Embeddings::new(dim), Vec::new())];
    for (person, row) in faces {
        let (people, is_new) = (seen.len(), !seen.contains_key(&person));
        let is_known: bool = *seen.entry(person).or_insert(people.is_multiple_of(2));
        if is_known && is_new {
            gallery.enrol(person, row)?;
        } else {
            let (embeddings, whose) = if is_known { &mut known } else { &mut strange };
            embeddings.push(row)?;
            whose.push(person);
        }
    }
    let enrolled = gallery.people().to_vec();
    let all = (known.1.len() + strange.1.len()).max(1) as f64;
    // `before`: probes that were searched already.
    let probes = |(embeddings, whose): (Embeddings, Vec<u32>), before: usize| -> Result<Vec<Probe>, CompareError> {
        let reached = |part: f64| watch((before as f64 + part * whose.len() as f64) / all);
        let ranked = gallery.rank_watched(&embeddings, &reached)?;
        // Nobody is enrolled where there is no face.
        let probe = |(person, ranked): (u32, Option<_>)| Some(Probe { person, answer: Answer::Ranked(ranked?) });
        Ok(whose.into_iter().zip(ranked).filter_map(probe).collect())
    };
    let before = known.1.len();
    Ok(OpenSet::new(enrolled.clone(), enrolled, probes(known, 0)?, probes(strange, before)?))
}

/// Judges a head by the three experiments, each with the width of its embeddings.
///
/// # Errors
/// See [`verdict_watched`].
pub fn judge_head(
    [raw, pca, head]: [(usize, &OpenSet); 3],
    resampling: Resampling,
    watch: Watch<'_>,
) -> Result<HeadVerdict, VerdictError> {
    let found = verdict_watched(raw.1, pca.1, head.1, HEAD_FPIR, resampling, watch)?;
    let gain = |gain: Gain| HeadGain { value: gain.value, low: gain.interval.low, high: gain.interval.high };
    Ok(HeadVerdict {
        accepted: found.accepted,
        target_fpir: found.target,
        people: found.people,
        strangers: found.strangers,
        raw: side(raw, &found.raw, resampling),
        pca: side(pca, &found.pca, resampling),
        head: side(head, &found.head, resampling),
        over_raw: gain(found.over_raw),
        over_pca: gain(found.over_pca),
    })
}

fn side((dim, set): (usize, &OpenSet), endings: &Endings, resampling: Resampling) -> HeadSide {
    let fnir = error_rate(&set.fnir_tallies(endings.threshold), resampling);
    let bound = endings.tpir.bound().unwrap_or(0.0);
    let (low, high) = fnir.map_or((bound, 1.0), |fnir| (1.0 - fnir.high, 1.0 - fnir.low));
    HeadSide {
        dim,
        threshold: endings.threshold,
        tpir: endings.tpir.value,
        low,
        high,
        right: endings.right,
        probes: endings.tpir.trials,
        fpir: endings.fpir.value,
        strangers_accepted: endings.fpir.errors,
        strange_probes: endings.fpir.trials,
        curve: set.curve(CURVE_STEPS).into_iter().map(|point| (point.fpir, point.tpir)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::ops::ControlFlow;

    use super::*;
    use crate::testing::{Lcg, unit};
    use crate::watch::unwatched;

    const DIM: usize = 16;

    /// Faces around a direction for each person, so far from it; by person.
    fn faces(people: u32, noise: f32) -> Vec<(u32, Vec<f32>)> {
        let mut random = Lcg::new(8);
        let mut all = Vec::new();
        for person in 0..people {
            let centre = unit(&mut random, DIM);
            for _ in 0..6 {
                let other = unit(&mut random, DIM);
                let raw: Vec<f32> = centre.iter().zip(&other).map(|(c, o)| c + noise * o).collect();
                let norm = raw.iter().map(|x| x * x).sum::<f32>().sqrt();
                all.push((person, raw.iter().map(|x| x / norm).collect()));
            }
        }
        all
    }

    fn rows(faces: &[(u32, Vec<f32>)]) -> impl Iterator<Item = (u32, &[f32])> {
        faces.iter().map(|(person, row)| (*person, row.as_slice()))
    }

    fn experiment(people: u32, noise: f32) -> OpenSet {
        held_out(DIM, rows(&faces(people, noise)), unwatched()).unwrap()
    }

    #[test]
    fn every_other_person_is_enrolled_with_one_face() {
        let set = experiment(9, 0.2);
        assert_eq!((set.enrolled(), set.known().len(), set.strangers().len()), (5, 5 * 5, 4 * 6));
        assert!(set.known().iter().all(|probe| probe.person.is_multiple_of(2)));
        assert!(set.strangers().iter().all(|probe| !probe.person.is_multiple_of(2)));
        let nobody = held_out(DIM, [], unwatched()).unwrap();
        assert_eq!((nobody.enrolled(), nobody.known().len()), (0, 0));
        assert!(held_out(3, [(0, &[1.0, 0.0][..])], unwatched()).is_err());
    }

    #[test]
    fn a_better_head_is_accepted_and_an_equal_one_is_not() {
        let (worse, better) = (experiment(60, 1.4), experiment(60, 0.4));
        let sides = [(DIM, &worse), (8, &worse), (4, &better)];
        let found = judge_head(sides, Resampling::default(), unwatched()).unwrap();
        assert!(found.accepted && found.over_raw.low > 0.0 && found.over_pca.low > 0.0, "{found:?}");
        assert_eq!((found.people, found.strangers, found.raw.dim, found.head.dim), (30, 30, DIM, 4));
        for side in [&found.raw, &found.head] {
            assert!(side.low <= side.tpir && side.tpir <= side.high && side.fpir <= HEAD_FPIR, "{side:?}");
            assert_eq!((side.probes, side.strange_probes, side.curve.is_empty()), (30 * 5, 30 * 6, false));
            // 1 % of them is one.
            let fpir = side.measured_fpir().unwrap();
            assert!(fpir.errors <= 1 && !fpir.supported() && fpir.value == side.fpir, "{fpir:?}");
        }
        let same = judge_head([(DIM, &worse); 3], Resampling::default(), unwatched()).unwrap();
        assert!(!same.accepted && same.over_raw.value == 0.0);
        let few = experiment(MIN_HELD_OUT as u32 - 1, 0.4);
        let refused = judge_head([(DIM, &few); 3], Resampling::default(), unwatched());
        assert!(matches!(refused, Err(VerdictError::TooFew { .. })));
    }

    #[test]
    fn whoever_watches_is_told_of_every_part_and_may_stop() {
        let faces = faces(400, 0.8);
        let told = RefCell::new(Vec::new());
        let watch = |part: f64| {
            told.borrow_mut().push(part);
            ControlFlow::Continue(())
        };
        let stop = |part: f64| {
            told.borrow_mut().push(part);
            ControlFlow::Break(())
        };
        // 1,000 probes of known people and 1,200 of strangers: two blocks and three.
        let set = held_out(DIM, rows(&faces), &watch).unwrap();
        let parts = told.take();
        assert!(parts.len() == 5 && parts.is_sorted() && parts.last() == Some(&1.0), "{parts:?}");
        assert_eq!(held_out(DIM, rows(&faces), &stop).unwrap_err(), CompareError::Cancelled);
        assert_eq!(told.take().len(), 1);
        let twenty = Resampling { resamples: 20, seed: 1 };
        judge_head([(DIM, &set); 3], twenty, &watch).unwrap();
        let parts = told.take();
        assert!(parts.len() == 20 && parts.is_sorted() && parts.last() == Some(&1.0), "{parts:?}");
        assert_eq!(judge_head([(DIM, &set); 3], twenty, &stop), Err(VerdictError::Cancelled));
        assert_eq!(told.take().len(), 1);
    }

    #[test]
    fn a_verdict_comes_back_from_its_row() {
        let set = experiment(40, 0.8);
        let found = judge_head([(DIM, &set); 3], Resampling { resamples: 20, seed: 1 }, unwatched()).unwrap();
        let row = serde_json::to_value(&found).unwrap();
        assert!(row["overRaw"]["low"].is_number() && row["targetFpir"] == 0.01);
        assert_eq!(serde_json::from_value::<HeadVerdict>(row.clone()).unwrap(), found);
        // An earlier release kept no counts.
        let mut earlier = row;
        for side in ["raw", "pca", "head"] {
            let side = earlier[side].as_object_mut().unwrap();
            assert!(side.remove("strangersAccepted").is_some() && side.remove("strangeProbes").is_some());
        }
        let read: HeadVerdict = serde_json::from_value(earlier).unwrap();
        assert_eq!((read.head.tpir, read.head.measured_fpir()), (found.head.tpir, None));
    }
}
