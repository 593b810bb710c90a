//! What is not begun, and what says so.

use facewire_training::{Faces, Run, Settings, Shape, Split, TrainError, Trainer};

use crate::made_up::{DIM, alike, settings, triplets, with_a_nuisance};

#[test]
fn too_few_people_are_refused_before_anything_is_computed() {
    let all = alike(1);
    let few: Vec<u32> = all.people().iter().copied().filter(|person| *person < 30).collect();
    let values = (0..few.len()).flat_map(|row| all.row(row).to_vec()).collect();
    let faces = Faces::new(DIM, values, few).unwrap();
    match Trainer::new(faces.clone(), settings(triplets())) {
        Err(TrainError::TooFew(shortage)) => {
            assert_eq!((shortage.people, shortage.min_people, shortage.pairs), (30, 50, 30 * 28));
        }
        other => panic!("{other:?}"),
    }
    // Whoever lowers the limit may train on them.
    let lower = Settings { min_people: 30, ..settings(triplets()) };
    assert_eq!(Trainer::new(faces, lower).unwrap().split().train.len(), 15);
}

#[test]
fn faces_of_another_width_are_refused() {
    let shape = Shape { input: DIM + 1, hidden: 48, output: 16 };
    let refused = Trainer::new(alike(1), Settings { shape, ..settings(triplets()) });
    assert_eq!(refused.err(), Some(TrainError::Dimension { given: DIM, wanted: DIM + 1 }));
}

#[test]
fn a_split_of_the_caller_is_used_or_refused() {
    let split = Split { train: (0..100).collect(), validation: (100..130).collect(), test: vec![] };
    let trainer = Trainer::with_split(alike(1), split.clone(), settings(triplets())).unwrap();
    assert_eq!(trainer.split(), &split);
    let mixed = Split { validation: (99..130).collect(), ..split };
    let refused = Trainer::with_split(alike(1), mixed, settings(triplets()));
    assert!(matches!(refused.err(), Some(TrainError::Split(_))));
}

#[test]
fn a_checkpoint_goes_on_with_its_own_faces_alone() {
    let bytes = Trainer::new(alike(1), settings(triplets())).unwrap().checkpoint().unwrap();
    assert_eq!(Trainer::resume(alike(2), &bytes).err(), Some(TrainError::OtherFaces));
    let faces = alike(1);
    let mut people = faces.people().to_vec();
    people.swap(0, 10);
    let values = (0..faces.len()).flat_map(|row| faces.row(row).to_vec()).collect();
    assert_eq!(Trainer::resume(Faces::new(DIM, values, people).unwrap(), &bytes).err(), Some(TrainError::OtherFaces));
    assert!(matches!(Trainer::resume(alike(1), &bytes[1..]).err(), Some(TrainError::Checkpoint(_))));
    assert!(Trainer::resume(alike(1), &bytes).is_ok());
}

#[test]
fn after_the_last_epoch_there_is_none() {
    let mut trainer = Trainer::new(with_a_nuisance(1), Settings { epochs: 1, ..settings(triplets()) }).unwrap();
    trainer.epoch(&Run::simple()).unwrap();
    assert_eq!(trainer.epoch(&Run::simple()), Err(TrainError::Finished));
    let mut resumed = Trainer::resume(with_a_nuisance(1), &trainer.checkpoint().unwrap()).unwrap();
    assert_eq!(resumed.epoch(&Run::simple()), Err(TrainError::Finished));
}
