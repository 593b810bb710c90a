//! What is written is read in every bit, and what is no checkpoint is refused.

use super::*;

fn held(loss: Loss) -> Held {
    let shape = Shape { input: 6, hidden: 5, output: 2 };
    let settings = Settings {
        shape,
        loss,
        epochs: 31,
        patience: 7,
        batch_size: 24,
        faces_per_person: 3,
        learning_rate: 0.1 + 0.2,
        weight_decay: 0.017,
        beta1: 0.85,
        beta2: 0.99,
        clip_norm: 1.7,
        dropout: 0.15,
        input_dropout: 0.05,
        min_faces: 4,
        min_people: 9,
        min_pairs: u64::from(u32::MAX) + 1,
        fractions: Fractions { train: 0.55, validation: 0.3 },
        seed: u64::MAX,
    };
    let mut random = Random::new(8);
    let mut draw = || -> Vec<f32> { (0..shape.parameters()).map(|_| random.normal() as f32).collect() };
    let best = Best { weights: draw(), epoch: 2, measure: Measure { rate: 1.0 / 3.0, loss: f64::MIN_POSITIVE } };
    let state = State {
        weights: draw(),
        moments: Moments { first: draw(), second: draw(), step: 77 },
        random: Random::new(u64::MAX - 5),
        epoch: 3,
        stale: 1,
        start: Measure { rate: 0.1, loss: 0.7 },
        best,
    };
    let split = Split { train: vec![u32::MAX, 1], validation: vec![5, 4, 3], test: vec![] };
    Held { settings, split, state, digest: 0x0123_4567_89AB_CDEF }
}

fn written(held: &Held) -> Vec<u8> {
    write(&held.settings, &held.split, &held.state, held.digest).unwrap()
}

#[test]
fn what_is_written_is_read_in_every_bit() {
    for loss in [Loss::Triplet { margin: 0.3, hard_after: 6 }, Loss::Contrastive { temperature: 0.07 }] {
        let held = held(loss);
        let bytes = written(&held);
        let found = read(&bytes).unwrap();
        assert_eq!(found.settings, held.settings);
        assert_eq!((found.split, found.digest), (held.split.clone(), held.digest));
        assert!(found.state == held.state);
        // One state has one file.
        assert_eq!(written(&held), bytes);
    }
}

#[test]
fn its_tensors_have_the_shapes_of_their_layers() {
    let bytes = written(&held(Loss::Triplet { margin: 0.3, hard_after: 6 }));
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    for set in ["head", "moment1", "moment2", "best"] {
        for (part, wanted) in PARTS.iter().zip([vec![5, 6], vec![5], vec![2, 5], vec![2]]) {
            assert_eq!(tensors.tensor(&format!("{set}.{part}")).unwrap().shape(), wanted);
        }
    }
}

#[test]
fn what_is_no_checkpoint_is_refused() {
    let refused = |bytes: &[u8], hint: &str| match read(bytes) {
        Err(TrainError::Checkpoint(why)) => assert!(why.contains(hint), "{why}"),
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("taken, but {hint}"),
    };
    let good = held(Loss::Triplet { margin: 0.3, hard_after: 6 });
    let bytes = written(&good);
    refused(b"", "header");
    refused(b"safetensors of somebody", "");
    for cut in [8, bytes.len() / 2, bytes.len() - 1] {
        refused(&bytes[..cut], "");
    }
    // Another model's file.
    let other: Vec<(String, Tensor)> = Vec::new();
    refused(&safetensors::serialize(other, None).unwrap(), "version");
    // A weight that is no number.
    let mut broken = held(Loss::Triplet { margin: 0.3, hard_after: 6 });
    broken.state.best.weights[3] = f32::NAN;
    refused(&written(&broken), "best.first.weight is not 30 finite numbers");
    // A setting out of its range.
    let mut wild = held(Loss::Triplet { margin: 0.3, hard_after: 6 });
    wild.settings.beta1 = 1.0;
    assert!(matches!(read(&written(&wild)), Err(TrainError::Setting { name: "beta1", .. })));
}
