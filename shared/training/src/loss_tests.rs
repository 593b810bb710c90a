//! Losses against their definitions, and their gradients against finite differences.

use proptest::prelude::*;

use super::*;
use crate::random::Random;

/// Faces in arbitrary order, most of them of people with several, and symmetric similarities.
fn made_up(n: usize, people: usize, seed: u64) -> (Vec<f64>, Vec<u32>) {
    let mut random = Random::new(seed);
    let whose: Vec<u32> = (0..n).map(|_| random.below(people) as u32).collect();
    let mut similarities = vec![1.0; n * n];
    for i in 0..n {
        for j in 0..i {
            let value = 2.0 * random.uniform() - 1.0;
            (similarities[i * n + j], similarities[j * n + i]) = (value, value);
        }
    }
    (similarities, whose)
}

/// A loss and its name.
type Objective = (&'static str, fn(Batch<'_>) -> Judged);

const OBJECTIVES: [Objective; 3] = [
    ("semi-hard", |batch| triplet(batch, 0.2, Mining::SemiHard)),
    ("batch-hard", |batch| triplet(batch, 0.2, Mining::BatchHard)),
    ("contrastive", |batch| contrastive(batch, 0.1)),
];

/// Semi-hard triplets as their definition says, by sorting.
fn semi_hard(similarities: &[f64], people: &[u32], margin: f64) -> f64 {
    let n = people.len();
    let (mut sum, mut count) = (0.0, 0u32);
    for (a, person) in people.iter().enumerate() {
        let mut strangers: Vec<f64> =
            (0..n).filter(|k| people[*k] != *person).map(|k| similarities[a * n + k]).collect();
        strangers.sort_by(f64::total_cmp);
        for p in (0..n).filter(|p| *p != a && people[*p] == *person) {
            let positive = similarities[a * n + p];
            let farther = strangers.iter().rev().find(|s| **s < positive);
            if let Some(negative) = farther.or(strangers.first()) {
                sum += (margin + (2.0 - 2.0 * positive) - (2.0 - 2.0 * *negative)).max(0.0);
                count += 1;
            }
        }
    }
    sum / f64::from(count.max(1))
}

fn batch_hard(similarities: &[f64], people: &[u32], margin: f64) -> f64 {
    let n = people.len();
    let (mut sum, mut count) = (0.0, 0u32);
    for (a, person) in people.iter().enumerate() {
        let of = |same: bool| {
            (0..n).filter(move |k| *k != a && (people[*k] == *person) == same).map(move |k| similarities[a * n + k])
        };
        if let (Some(positive), Some(negative)) = (of(true).reduce(f64::min), of(false).reduce(f64::max)) {
            sum += (margin + 2.0 * negative - 2.0 * positive).max(0.0);
            count += 1;
        }
    }
    sum / f64::from(count.max(1))
}

fn supervised(similarities: &[f64], people: &[u32], temperature: f64) -> f64 {
    let n = people.len();
    let (mut sum, mut count) = (0.0, 0u32);
    for (a, person) in people.iter().enumerate() {
        let exp = |k: usize| (similarities[a * n + k] / temperature).exp();
        let all: f64 = (0..n).filter(|k| *k != a).map(exp).sum();
        let own: Vec<f64> = (0..n).filter(|k| *k != a && people[*k] == *person).map(|k| -(exp(k) / all).ln()).collect();
        if !own.is_empty() {
            sum += own.iter().sum::<f64>() / own.len() as f64;
            count += 1;
        }
    }
    sum / f64::from(count.max(1))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn losses_are_those_of_their_definition(n in 0usize..24, people in 1usize..8, seed in any::<u64>()) {
        let (similarities, people) = made_up(n, people, seed);
        let wanted = [
            semi_hard(&similarities, &people, 0.2),
            batch_hard(&similarities, &people, 0.2),
            supervised(&similarities, &people, 0.1),
        ];
        for ((name, judge), wanted) in OBJECTIVES.into_iter().zip(wanted) {
            let judged = judge(Batch { similarities: &similarities, people: &people });
            prop_assert!((judged.loss - wanted).abs() < 1e-9, "{}: {} {}", name, judged.loss, wanted);
            prop_assert_eq!(judged.gradient.len(), n * n);
        }
    }

    #[test]
    fn gradients_are_those_of_finite_differences(n in 2usize..14, people in 1usize..5, seed in any::<u64>()) {
        let (similarities, people) = made_up(n, people, seed);
        let step = 1e-6;
        for (name, judge) in OBJECTIVES {
            let at = |place: usize, by: f64| {
                let mut moved = similarities.clone();
                moved[place] += by;
                judge(Batch { similarities: &moved, people: &people }).loss
            };
            let gradient = judge(Batch { similarities: &similarities, people: &people }).gradient;
            for (place, found) in gradient.iter().enumerate() {
                let wanted = (at(place, step) - at(place, -step)) / (2.0 * step);
                prop_assert!((found - wanted).abs() < 1e-5, "{} at {}: {} {}", name, place, found, wanted);
            }
        }
    }

    #[test]
    fn the_order_of_faces_does_not_change_a_loss(n in 2usize..20, seed in any::<u64>()) {
        let (similarities, people) = made_up(n, 4, seed);
        let mut order: Vec<usize> = (0..n).collect();
        Random::new(seed ^ 1).shuffle(&mut order);
        let moved: Vec<f64> = order.iter().flat_map(|i| order.iter().map(|j| similarities[*i * n + *j])).collect();
        let whose: Vec<u32> = order.iter().map(|i| people[*i]).collect();
        for (name, judge) in OBJECTIVES {
            let one = judge(Batch { similarities: &similarities, people: &people }).loss;
            let other = judge(Batch { similarities: &moved, people: &whose }).loss;
            prop_assert!((one - other).abs() < 1e-9, "{}: {} {}", name, one, other);
        }
    }
}

#[test]
fn people_far_apart_have_no_triplet_loss_and_people_alike_have_the_margin() {
    let people = [1, 1, 2, 2];
    let similarity = |same: f64, other: f64| -> Vec<f64> {
        people.iter().flat_map(|a| people.map(|b| if *a == b { same } else { other })).collect()
    };
    let judge = |similarities: &[f64], mining| triplet(Batch { similarities, people: &people }, 0.2, mining);
    for mining in [Mining::SemiHard, Mining::BatchHard] {
        let apart = judge(&similarity(1.0, -1.0), mining);
        assert!(apart.loss == 0.0 && apart.gradient.iter().all(|value| *value == 0.0));
        assert!((judge(&similarity(0.5, 0.5), mining).loss - 0.2).abs() < 1e-12);
        // Strangers nearer than the same person: 0.2 + 2 · (0.9 − 0.1).
        assert!((judge(&similarity(0.1, 0.9), mining).loss - 1.8).abs() < 1e-12);
    }
}

#[test]
fn the_contrastive_loss_has_its_known_values() {
    let judge = |similarities: &[f64], people: &[u32]| contrastive(Batch { similarities, people }, 0.1);
    // All alike: each of the seven others is as likely.
    let people = [1, 1, 1, 1, 2, 2, 2, 2];
    assert!((judge(&[0.3; 64], &people).loss - 7f64.ln()).abs() < 1e-12);
    // Far apart: three positives share everything, and the loss cannot be less.
    let apart: Vec<f64> = people.iter().flat_map(|a| people.map(|b| if *a == b { 1.0 } else { -1.0 })).collect();
    assert!((judge(&apart, &people).loss - 3f64.ln()).abs() < 1e-6);
    // Nobody has a second face.
    let alone = judge(&[0.3; 9], &[1, 2, 3]);
    assert!(alone.loss == 0.0 && alone.gradient.iter().all(|value| *value == 0.0));
}
