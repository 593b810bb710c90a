//! Trainings that are stopped: what goes on is the very same training.

use std::cell::Cell;
use std::ops::ControlFlow;

use facewire_training::{Faces, Loss, Progress, Run, Settings, TrainError, Trainer};

use crate::made_up::{settings, triplets, with_a_nuisance};

const EPOCHS: u32 = 6;

/// Both minings, and everything that is drawn.
fn short(loss: Loss) -> Settings {
    let loss = match loss {
        Loss::Triplet { margin, .. } => Loss::Triplet { margin, hard_after: 3 },
        other => other,
    };
    Settings { loss, epochs: EPOCHS, dropout: 0.2, input_dropout: 0.1, ..settings(loss) }
}

/// The checkpoint after each epoch of an undisturbed training, the first of them before any.
fn undisturbed(faces: &Faces, settings: &Settings) -> Vec<Vec<u8>> {
    let mut trainer = Trainer::new(faces.clone(), settings.clone()).unwrap();
    let mut checkpoints = vec![trainer.checkpoint().unwrap()];
    while trainer.finished().is_none() {
        trainer.epoch(&Run::simple()).unwrap();
        checkpoints.push(trainer.checkpoint().unwrap());
    }
    checkpoints
}

#[test]
fn killed_after_any_epoch_it_goes_on_to_the_same_bits() {
    let faces = with_a_nuisance(5);
    for loss in [triplets(), Loss::Contrastive { temperature: 0.1 }] {
        let settings = short(loss);
        let wanted = undisturbed(&faces, &settings);
        assert_eq!(wanted.len(), EPOCHS as usize + 1);
        assert!(wanted.windows(2).all(|pair| pair[0] != pair[1]));
        // Every epoch in a process of its own.
        for (before, after) in wanted.iter().zip(&wanted[1..]) {
            let mut trainer = Trainer::resume(faces.clone(), before).unwrap();
            assert!(trainer.checkpoint().unwrap() == *before);
            trainer.epoch(&Run::simple()).unwrap();
            assert!(trainer.checkpoint().unwrap() == *after, "epoch {}", trainer.epochs_done());
        }
    }
}

/// An epoch that is killed within it, so that what it did is lost.
fn killed(trainer: &mut Trainer, step: usize) {
    let steps = Cell::new(0);
    let watch = |_: Progress| {
        steps.set(steps.get() + 1);
        if steps.get() == step { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    assert_eq!(trainer.epoch(&Run { watch: &watch }), Err(TrainError::Cancelled));
    assert_eq!(steps.get(), step);
}

#[test]
fn killed_twice_within_epochs_it_ends_in_the_same_head() {
    let faces = with_a_nuisance(6);
    let settings = short(triplets());
    let wanted = undisturbed(&faces, &settings).pop().unwrap();
    let mut trainer = Trainer::new(faces.clone(), settings).unwrap();
    for (epochs, step) in [(2, 7), (2, 13)] {
        for _ in 0..epochs {
            trainer.epoch(&Run::simple()).unwrap();
        }
        let checkpoint = trainer.checkpoint().unwrap();
        killed(&mut trainer, step);
        drop(trainer);
        trainer = Trainer::resume(faces.clone(), &checkpoint).unwrap();
    }
    while trainer.finished().is_none() {
        trainer.epoch(&Run::simple()).unwrap();
    }
    assert!(trainer.checkpoint().unwrap() == wanted);
    let resumed = Trainer::resume(faces, &wanted).unwrap();
    assert!(resumed.best() == trainer.best() && resumed.best_epoch() > 0);
    assert!(resumed.best().to_onnx() == trainer.best().to_onnx());
}

#[test]
fn a_cancelled_epoch_leaves_no_trace() {
    let mut trainer = Trainer::new(with_a_nuisance(5), short(triplets())).unwrap();
    trainer.epoch(&Run::simple()).unwrap();
    let before = trainer.checkpoint().unwrap();
    killed(&mut trainer, 1);
    killed(&mut trainer, 20);
    assert!(trainer.checkpoint().unwrap() == before);
    let once = trainer.epoch(&Run::simple()).unwrap();
    let again = Trainer::resume(with_a_nuisance(5), &before).unwrap().epoch(&Run::simple()).unwrap();
    assert_eq!(once, again);
}

#[test]
fn the_watch_sees_every_step() {
    let mut trainer = Trainer::new(with_a_nuisance(5), short(triplets())).unwrap();
    let seen = Cell::new(0);
    let watch = |progress: Progress| {
        seen.set(seen.get() + 1);
        assert_eq!((progress.epoch, progress.step, progress.steps), (1, seen.get(), 20));
        assert!(progress.loss.is_finite());
        ControlFlow::Continue(())
    };
    trainer.epoch(&Run { watch: &watch }).unwrap();
    assert_eq!(seen.get(), 20);
}

#[test]
fn another_seed_is_another_training() {
    let faces = with_a_nuisance(5);
    let settings = short(triplets());
    let other = Settings { seed: 2, ..settings.clone() };
    let [one, other] = [settings, other].map(|settings| Trainer::new(faces.clone(), settings).unwrap());
    assert_ne!(one.split(), other.split());
    assert!(one.best() != other.best());
}
