//! Gains that are there, gains that are not, and experiments that cannot be compared.

use proptest::prelude::*;

use super::*;
use crate::identification::Answer;
use crate::rank::Ranked;
use crate::testing::Lcg;

const TARGET: f64 = 0.01;

fn probe(person: u32, best_person: u32, best: f32) -> Probe {
    Probe { person, answer: Answer::Ranked(Ranked { best_person, best, runner_up: None }) }
}

/// Known people 0, 1, 2 … and strangers from 1000 on, with five probes each. `own` says how similar a known person's probe is to
/// that person; strangers are 0 to 0.4.
fn set(known: u32, strangers: u32, own: impl Fn(u32, u32) -> f32) -> OpenSet {
    let five = |person: u32| (0..5).map(move |k| (person, k));
    let probes = (0..known).flat_map(five).map(|(person, k)| probe(person, person, own(person, k))).collect();
    let strange = |(person, k): (u32, u32)| probe(person, 0, ((person * 7 + k * 3) % 41) as f32 / 100.0);
    OpenSet::new(0..known, 0..known, probes, (1000..1000 + strangers).flat_map(five).map(strange).collect())
}

fn judge(raw: &OpenSet, pca: &OpenSet, head: &OpenSet) -> Verdict {
    verdict(raw, pca, head, TARGET, Resampling::default()).unwrap()
}

/// Right where k is below a number that the person decides, so that people differ.
fn right_of(count: impl Fn(u32) -> u32) -> impl Fn(u32, u32) -> f32 {
    move |person, k| if k < count(person) { 0.9 } else { 0.1 }
}

#[test]
fn a_head_that_helps_everybody_is_accepted() {
    let (raw, pca) = (set(30, 40, right_of(|p| 2 + p % 2)), set(30, 40, right_of(|p| 1 + p % 2)));
    let head = set(30, 40, right_of(|p| 4 + p % 2));
    let found = judge(&raw, &pca, &head);
    assert_eq!((found.people, found.strangers), (30, 40));
    assert!((found.over_raw.value - 0.4).abs() < 1e-12 && (found.over_pca.value - 0.6).abs() < 1e-12);
    assert!(found.accepted && found.over_raw.interval.low > 0.3 && found.over_raw.interval.high < 0.5, "{found:?}");
    assert_eq!((found.raw.tpir.errors, found.head.tpir.errors, found.head.tpir.trials), (75, 15, 150));
    // The same seed, the same interval.
    assert_eq!(judge(&raw, &pca, &head), found);
}

#[test]
fn what_does_not_help_is_refused() {
    let same = set(30, 40, right_of(|p| 2 + p % 2));
    let found = judge(&same, &same, &same);
    assert!(!found.accepted);
    assert_eq!((found.over_raw.value, found.over_raw.interval.low, found.over_raw.interval.high), (0.0, 0.0, 0.0));
    // One person of thirty is helped: a resample without that person has no gain.
    let one = set(30, 40, right_of(|p| if p == 7 { 5 } else { 2 + p % 2 }));
    let found = judge(&same, &same, &one);
    assert!(found.over_raw.value > 0.0 && found.over_raw.interval.low == 0.0 && !found.accepted, "{found:?}");
    // Worse.
    let found = judge(&same, &same, &set(30, 40, right_of(|_| 1)));
    assert!(found.over_raw.interval.high < 0.0 && !found.accepted);
}

#[test]
fn a_head_must_be_better_than_the_principal_components_too() {
    let (raw, better) = (set(30, 40, right_of(|_| 2)), set(30, 40, right_of(|_| 4)));
    let found = judge(&raw, &better, &better);
    assert!(found.over_raw.is_certain() && !found.over_pca.is_certain() && !found.accepted);
    let found = judge(&better, &raw, &better);
    assert!(!found.over_raw.is_certain() && found.over_pca.is_certain() && !found.accepted);
}

#[test]
fn what_cannot_be_compared_is_refused() {
    let good = set(10, 10, right_of(|_| 2));
    let refused = |raw: &OpenSet, head: &OpenSet| verdict(raw, &good, head, TARGET, Resampling::default()).err();
    assert_eq!(refused(&good, &good), None);
    assert_eq!(refused(&set(11, 10, right_of(|_| 2)), &good), Some(VerdictError::Different));
    assert_eq!(refused(&set(10, 11, right_of(|_| 2)), &good), Some(VerdictError::Different));
    let few = set(9, 12, right_of(|_| 2));
    let found = verdict(&few, &few, &few, TARGET, Resampling::default());
    assert_eq!(found.err(), Some(VerdictError::TooFew { known: 9, strangers: 12 }));
    let rejected = |person: u32| Probe { person, answer: Answer::Rejected("no_face".to_owned()) };
    let none = OpenSet::new(0..10, 0..10, (0..10).map(rejected).collect(), (20..30).map(rejected).collect());
    let found = verdict(&none, &none, &none, TARGET, Resampling::default());
    assert_eq!(found.err(), Some(VerdictError::NoScore));
}

#[test]
fn without_a_resample_nothing_is_certain() {
    let (bad, good) = (set(20, 20, right_of(|_| 1)), set(20, 20, right_of(|_| 5)));
    let found = verdict(&bad, &bad, &good, TARGET, Resampling { resamples: 0, seed: 1 }).unwrap();
    assert_eq!((found.over_raw.interval.low, found.over_raw.interval.high, found.accepted), (-1.0, 1.0, false));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Drawn once each, people give the rates of the experiment itself.
    #[test]
    fn a_side_agrees_with_its_experiment(seed in any::<u32>(), target in 0.0f64..0.5, people in 1u32..20) {
        let mut random = Lcg::new(u64::from(seed));
        let mut draw = |person: u32| {
            // Few distinct values, so that there are ties; some are rejected, some taken for another.
            let (best, kind) = ((random.uniform() * 20.0).floor() as f32 / 20.0, random.uniform());
            if kind < 0.1 {
                Probe { person, answer: Answer::Rejected("no_face".to_owned()) }
            } else {
                probe(person, if kind < 0.3 { person + 1 } else { person }, best)
            }
        };
        let known: Vec<Probe> = (0..people * 3).map(|k| draw(k % people)).collect();
        let strangers: Vec<Probe> = (0..people * 5).map(|k| draw(1000 + k % people)).collect();
        let set = OpenSet::new(0..people, 0..people, known, strangers);
        let whose = |probes: &[Probe]| Trials::of(&probes.iter().map(|probe| probe.person).collect::<Vec<u32>>());
        let (known, strangers) = (whose(set.known()), whose(set.strangers()));
        let side = Side::of(&set, &known, &strangers);
        let once = |trials: &Trials| Drawn { times: vec![1; trials.people()], trials: trials.probes.iter().sum() };
        let found = side.tpir(target, &once(&known), &once(&strangers));
        let wanted = set.threshold_at_fpir(target).map(|threshold| set.at(threshold).tpir.value);
        if let Some(wanted) = wanted {
            prop_assert!((found - wanted).abs() < 1e-12, "{} {}", found, wanted);
        }
    }
}
