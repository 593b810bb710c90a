//! The gradient by every weight against finite differences of the same head in double precision, with dropout's choice fixed.

use super::*;
use crate::random::Random;
use crate::settings::Settings;

const SHAPE: Shape = Shape { input: 7, hidden: 12, output: 5 };

/// Some faces of four people, one of them with a single face.
fn batch(random: &mut Random) -> (Vec<f32>, Vec<u32>) {
    let people = vec![3, 3, 3, 8, 8, 5, 5, 5, 9];
    let mut rows = Vec::new();
    for _ in &people {
        let raw: Vec<f64> = (0..SHAPE.input).map(|_| random.normal()).collect();
        let norm = raw.iter().map(|x| x * x).sum::<f64>().sqrt();
        rows.extend(raw.iter().map(|x| (x / norm) as f32));
    }
    (rows, people)
}

/// One layer of one row: `units` sums and their biases.
fn layer(weights: &[f64], biases: &[f64], row: &[f64]) -> Vec<f64> {
    let unit = |(weights, bias): (&[f64], &f64)| weights.iter().zip(row).map(|(w, x)| w * x).sum::<f64>() + bias;
    weights.chunks_exact(row.len()).zip(biases).map(unit).collect()
}

/// The loss by the definition of the head, in double precision.
fn reference(weights: &[f64], rows: &[f32], people: &[u32], dropout: &Dropout, objective: Objective) -> f64 {
    let [a, b, c, _] = SHAPE.sizes();
    let factor = |factors: &[f32], place: usize| factors.get(place).map_or(1.0, |factor| f64::from(*factor));
    let mut projected: Vec<Vec<f64>> = Vec::new();
    for (i, row) in rows.chunks_exact(SHAPE.input).enumerate() {
        let seen = |(k, x): (usize, &f32)| f64::from(*x) * factor(&dropout.input, i * SHAPE.input + k);
        let row: Vec<f64> = row.iter().enumerate().map(seen).collect();
        let hidden = layer(&weights[..a], &weights[a..a + b], &row);
        let relu = |(k, x): (usize, f64)| x.max(0.0) * factor(&dropout.hidden, i * SHAPE.hidden + k);
        let hidden: Vec<f64> = hidden.into_iter().enumerate().map(relu).collect();
        let output = layer(&weights[a + b..a + b + c], &weights[a + b + c..], &hidden);
        let norm = output.iter().map(|x| x * x).sum::<f64>().sqrt();
        projected.push(output.iter().map(|x| x / norm).collect());
    }
    let product = |a: &Vec<f64>, b: &Vec<f64>| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    let similarities: Vec<f64> = projected.iter().flat_map(|a| projected.iter().map(move |b| product(a, b))).collect();
    objective.judge(Batch { similarities: &similarities, people }).loss
}

#[test]
fn the_gradient_is_that_of_finite_differences() {
    let objectives = [
        Objective::Triplet { margin: 0.9, mining: Mining::SemiHard },
        Objective::Triplet { margin: 0.9, mining: Mining::BatchHard },
        Objective::Contrastive { temperature: 0.3 },
    ];
    let mut checked = 0;
    for (objective, seed) in objectives.into_iter().flat_map(|objective| (0..6).map(move |seed| (objective, seed))) {
        let mut random = Random::new(seed);
        let (rows, people) = batch(&mut random);
        let weights: Vec<f32> = (0..SHAPE.parameters()).map(|_| (0.4 * random.normal()) as f32).collect();
        // Without dropout, of hidden units alone, and of both.
        let (dropout, input_dropout) = [(0.0, 0.0), (0.3, 0.0), (0.3, 0.2)][seed as usize % 3];
        let settings = Settings { shape: SHAPE, dropout, input_dropout, ..Settings::default() };
        let mut step = Step::default();
        step.dropout.draw(&settings, people.len(), &mut random);
        let (loss, gradient) = step.run((SHAPE, &weights), (&rows, &people), objective);
        let gradient = gradient.to_vec();
        let exact: Vec<f64> = weights.iter().map(|w| f64::from(*w)).collect();
        let at = |place: usize, by: f64| {
            let mut moved = exact.clone();
            moved[place] += by;
            reference(&moved, &rows, &people, &step.dropout, objective)
        };
        assert!((loss - at(0, 0.0)).abs() < 1e-5, "{objective:?} {seed}: {loss}");
        assert_eq!(gradient.len(), SHAPE.parameters());
        let greatest = gradient.iter().fold(0.0f32, |greatest, value| greatest.max(value.abs()));
        assert!(greatest > 1e-3, "{objective:?} {seed}: nothing to check");
        for (place, found) in gradient.iter().enumerate() {
            let wanted = (at(place, 1e-6) - at(place, -1e-6)) / 2e-6;
            let off = (f64::from(*found) - wanted).abs();
            assert!(off < 2e-4 * f64::from(greatest).max(0.1), "{objective:?} {seed} at {place}: {found} {wanted}");
            checked += 1;
        }
    }
    assert_eq!(checked, 18 * SHAPE.parameters());
}

#[test]
fn batch_hard_follows_semi_hard() {
    let loss = Loss::Triplet { margin: 0.2, hard_after: 2 };
    let mining = |epoch| match Objective::of(loss, epoch) {
        Objective::Triplet { mining, .. } => mining,
        other => panic!("{other:?}"),
    };
    assert_eq!([0, 1, 2, 9].map(mining), [Mining::SemiHard, Mining::SemiHard, Mining::BatchHard, Mining::BatchHard]);
    assert_eq!(Objective::measured(loss), Objective::Triplet { margin: 0.2, mining: Mining::SemiHard });
    let contrastive = Loss::Contrastive { temperature: 0.1 };
    assert_eq!(Objective::of(contrastive, 9), Objective::Contrastive { temperature: 0.1 });
}

#[test]
fn dropout_leaves_out_its_share_and_keeps_the_sum() {
    let settings = Settings { dropout: 0.25, input_dropout: 0.0, ..Settings::default() };
    let mut dropout = Dropout::default();
    dropout.draw(&settings, 100, &mut Random::new(1));
    assert!(dropout.input.is_empty());
    assert_eq!(dropout.hidden.len(), 100 * settings.shape.hidden);
    let left_out = dropout.hidden.iter().filter(|factor| **factor == 0.0).count() as f64 / dropout.hidden.len() as f64;
    assert!((left_out - 0.25).abs() < 0.02, "{left_out}");
    assert!(dropout.hidden.iter().all(|factor| *factor == 0.0 || *factor == dropout.kept));
    assert!((dropout.kept - 4.0 / 3.0).abs() < 1e-6);
}
