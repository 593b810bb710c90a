//! What a training is worth on people whom it has never seen, by the verdict that decides on its use.

use facewire_evaluation::{Answer, Embeddings, Gallery, OpenSet, Probe, Resampling, Verdict, verdict};
use facewire_training::{Faces, Finish, Loss, Run, Settings, Shape, Trainer};

use crate::made_up::{DIM, alike, settings, triplets, with_a_nuisance};

/// The held-out people: every other one is enrolled with the first face and searched with the others; the rest are strangers.
fn open_set(faces: &Faces, people: &[u32], dim: usize, project: impl Fn(&[f32]) -> Vec<f32>) -> OpenSet {
    let (mut gallery, mut enrolled) = (Gallery::new(dim), Vec::new());
    let (mut known, mut strange) = ((Embeddings::new(dim), Vec::new()), (Embeddings::new(dim), Vec::new()));
    for (i, person) in people.iter().enumerate() {
        let rows = (0..faces.len()).filter(|row| faces.people()[*row] == *person);
        for (k, row) in rows.enumerate() {
            let projected = project(faces.row(row));
            if i.is_multiple_of(2) && k == 0 {
                gallery.enrol(*person, &projected).unwrap();
                enrolled.push(*person);
            } else {
                let (embeddings, whose) = if i.is_multiple_of(2) { &mut known } else { &mut strange };
                embeddings.push(&projected).unwrap();
                whose.push(*person);
            }
        }
    }
    let probes = |(embeddings, whose): &(Embeddings, Vec<u32>)| -> Vec<Probe> {
        let ranked = gallery.rank(embeddings).unwrap().into_iter().map(|ranked| Answer::Ranked(ranked.unwrap()));
        whose.iter().zip(ranked).map(|(person, answer)| Probe { person: *person, answer }).collect()
    };
    OpenSet::new(enrolled.clone(), enrolled, probes(&known), probes(&strange))
}

/// Trains to the end, and judges the best head by the people who were held out.
fn judged(faces: Faces, settings: Settings) -> (Trainer, Verdict) {
    let output = settings.shape.output;
    let mut trainer = Trainer::new(faces, settings).unwrap();
    while trainer.finished().is_none() {
        trainer.epoch(&Run::simple()).unwrap();
    }
    let (faces, test) = (trainer.faces(), &trainer.split().test);
    let (pca, head) = (trainer.pca(), trainer.best());
    let raw = open_set(faces, test, DIM, <[f32]>::to_vec);
    let pca = open_set(faces, test, output, |row| pca.project(row).unwrap());
    let head = open_set(faces, test, output, |row| head.project(row).unwrap());
    let found = verdict(&raw, &pca, &head, 0.01, Resampling::default()).unwrap();
    (trainer, found)
}

#[test]
fn a_gain_that_exists_is_found_with_triplets() {
    let (trainer, found) = judged(with_a_nuisance(1), settings(triplets()));
    assert_eq!(trainer.finished(), Some(Finish::Epochs));
    assert!(trainer.best_epoch() > 0 && trainer.best_measure().rate > trainer.pca_measure().rate + 0.3, "{trainer:?}");
    assert!(found.accepted && found.over_raw.value > 0.1 && found.over_pca.value > 0.1, "{found:?}");
}

#[test]
fn a_gain_that_exists_is_found_with_the_contrastive_loss() {
    let (trainer, found) = judged(with_a_nuisance(2), settings(Loss::Contrastive { temperature: 0.1 }));
    assert!(trainer.best_measure().rate > trainer.pca_measure().rate + 0.3, "{trainer:?}");
    assert!(found.accepted && found.over_raw.value > 0.1 && found.over_pca.value > 0.1, "{found:?}");
}

#[test]
fn where_nothing_can_be_learnt_the_head_is_refused() {
    // As many numbers as before, and half of them.
    for (hidden, output) in [(64, 32), (48, 16)] {
        let shape = Shape { input: DIM, hidden, output };
        let (trainer, found) = judged(alike(3), Settings { shape, learning_rate: 1e-3, ..settings(triplets()) });
        assert!(!found.accepted, "{found:?}");
        // Whatever was tried, on the validation people the best is no worse than PCA.
        assert!(trainer.best_measure().rate >= trainer.pca_measure().rate);
    }
}

#[test]
fn the_measure_and_the_loss_tell_how_training_goes() {
    let mut trainer = Trainer::new(with_a_nuisance(1), settings(triplets())).unwrap();
    let (mut losses, mut best) = (Vec::new(), trainer.pca_measure());
    while trainer.finished().is_none() {
        let report = trainer.epoch(&Run::simple()).unwrap();
        assert_eq!((report.epoch, report.steps), (losses.len() as u32 + 1, 80 * 8 / 32));
        assert!(report.loss > 0.0 && report.gradient_norm > 0.0 && (0.0..=1.0).contains(&report.validation.rate));
        assert_eq!(report.finish, trainer.finished());
        assert_eq!(report.improved, report.best_epoch == report.epoch);
        if report.improved {
            assert!(report.validation.rate >= best.rate);
            best = report.validation;
        }
        assert_eq!(trainer.best_measure(), best);
        losses.push(report.loss);
    }
    // Semi-hard triplets for six epochs, which become easier.
    assert!(losses[5] < 0.8 * losses[0], "{losses:?}");
    assert_eq!((losses.len(), trainer.epochs_done()), (12, 12));
}

#[test]
fn training_ends_early_where_nothing_gets_better() {
    // So great a rate forgets PCA and learns nothing as good.
    let wild = Settings { learning_rate: 0.5, patience: 2, ..settings(triplets()) };
    let mut trainer = Trainer::new(alike(4), wild).unwrap();
    let start = trainer.best();
    while trainer.finished().is_none() {
        trainer.epoch(&Run::simple()).unwrap();
    }
    assert_eq!((trainer.finished(), trainer.epochs_done(), trainer.best_epoch()), (Some(Finish::Patience), 2, 0));
    // The start is kept, and is PCA.
    assert!(trainer.best() == start && trainer.pca() == start);
}
