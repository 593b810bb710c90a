//! A training as `safetensors`: weights, both moments, counters, the generator's state, the split, the best weights and the settings. Any
//! reader of the format can open one. Every number is held in all its bits, so that what goes on is the very same training.

use std::borrow::Cow;

use safetensors::{Dtype, SafeTensorError, SafeTensors, View};

use crate::adamw::Moments;
use crate::error::TrainError;
use crate::random::Random;
use crate::settings::{Fractions, Loss, Settings, Shape};
use crate::split::Split;
use crate::state::{Best, State};
use crate::validation::Measure;

/// Of this layout.
const VERSION: u64 = 1;
/// The four parts of a set of weights, in their order.
const PARTS: [&str; 4] = ["first.weight", "first.bias", "second.weight", "second.bias"];

/// What a checkpoint holds.
pub(crate) struct Held {
    pub(crate) settings: Settings,
    pub(crate) split: Split,
    pub(crate) state: State,
    /// Of the faces.
    pub(crate) digest: u64,
}

/// A tensor that is written.
struct Tensor {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl View for Tensor {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

fn fault(error: &SafeTensorError) -> TrainError {
    TrainError::Checkpoint(error.to_string())
}

pub(crate) fn write(settings: &Settings, split: &Split, state: &State, digest: u64) -> Result<Vec<u8>, TrainError> {
    let mut tensors = Vec::new();
    let shape = settings.shape;
    weights(&mut tensors, "head", shape, &state.weights);
    weights(&mut tensors, "moment1", shape, &state.moments.first);
    weights(&mut tensors, "moment2", shape, &state.moments.second);
    weights(&mut tensors, "best", shape, &state.best.weights);
    for (name, people) in [("train", &split.train), ("validation", &split.validation), ("test", &split.test)] {
        let bytes: Vec<u8> = people.iter().flat_map(|person| person.to_le_bytes()).collect();
        tensors.push((format!("split.{name}"), Tensor { dtype: Dtype::U32, shape: vec![people.len()], bytes }));
    }
    let state_counts = [
        ("version", VERSION),
        ("digest", digest),
        ("state.step", state.moments.step),
        ("state.random", state.random.state()),
        ("state.epoch", u64::from(state.epoch)),
        ("state.stale", u64::from(state.stale)),
        ("best.epoch", u64::from(state.best.epoch)),
    ];
    for (name, count) in state_counts.into_iter().chain(counts(settings)) {
        one(&mut tensors, name, Dtype::U64, count.to_le_bytes());
    }
    let state_reals = [
        ("start.rate", state.start.rate),
        ("start.loss", state.start.loss),
        ("best.rate", state.best.measure.rate),
        ("best.loss", state.best.measure.loss),
    ];
    for (name, real) in state_reals.into_iter().chain(reals(settings)) {
        one(&mut tensors, name, Dtype::F64, real.to_le_bytes());
    }
    safetensors::serialize(tensors, None).map_err(|error| fault(&error))
}

fn weights(tensors: &mut Vec<(String, Tensor)>, set: &str, shape: Shape, mut all: &[f32]) {
    for ((part, len), shape) in PARTS.iter().zip(shape.sizes()).zip(shapes(shape)) {
        let (values, rest) = all.split_at_checked(len).unwrap_or((all, &[]));
        all = rest;
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        tensors.push((format!("{set}.{part}"), Tensor { dtype: Dtype::F32, shape, bytes }));
    }
}

fn shapes(shape: Shape) -> [Vec<usize>; 4] {
    let Shape { input, hidden, output } = shape;
    [vec![hidden, input], vec![hidden], vec![output, hidden], vec![output]]
}

fn one(tensors: &mut Vec<(String, Tensor)>, name: &str, dtype: Dtype, bytes: [u8; 8]) {
    tensors.push((name.to_owned(), Tensor { dtype, shape: vec![1], bytes: bytes.to_vec() }));
}

/// Settings that are whole numbers.
fn counts(settings: &Settings) -> [(&'static str, u64); 13] {
    let (loss, hard_after) = match settings.loss {
        Loss::Triplet { hard_after, .. } => (0, hard_after),
        Loss::Contrastive { .. } => (1, 0),
    };
    [
        ("settings.input", settings.shape.input as u64),
        ("settings.hidden", settings.shape.hidden as u64),
        ("settings.output", settings.shape.output as u64),
        ("settings.loss", loss),
        ("settings.hard_after", u64::from(hard_after)),
        ("settings.epochs", u64::from(settings.epochs)),
        ("settings.patience", u64::from(settings.patience)),
        ("settings.batch_size", settings.batch_size as u64),
        ("settings.faces_per_person", settings.faces_per_person as u64),
        ("settings.min_faces", settings.min_faces as u64),
        ("settings.min_people", settings.min_people as u64),
        ("settings.min_pairs", settings.min_pairs),
        ("settings.seed", settings.seed),
    ]
}

/// Settings that are fractions.
fn reals(settings: &Settings) -> [(&'static str, f64); 10] {
    // The margin of triplets, or the temperature.
    let scale = match settings.loss {
        Loss::Triplet { margin, .. } => margin,
        Loss::Contrastive { temperature } => temperature,
    };
    [
        ("settings.loss_scale", scale),
        ("settings.learning_rate", settings.learning_rate),
        ("settings.weight_decay", settings.weight_decay),
        ("settings.beta1", settings.beta1),
        ("settings.beta2", settings.beta2),
        ("settings.clip_norm", settings.clip_norm),
        ("settings.dropout", settings.dropout),
        ("settings.input_dropout", settings.input_dropout),
        ("settings.train", settings.fractions.train),
        ("settings.validation", settings.fractions.validation),
    ]
}

pub(crate) fn read(bytes: &[u8]) -> Result<Held, TrainError> {
    let source = Source(SafeTensors::deserialize(bytes).map_err(|error| fault(&error))?);
    let version = source.count("version")?;
    if version != VERSION {
        return Err(TrainError::Checkpoint(format!("its layout is {version}, this release reads {VERSION}")));
    }
    let settings = source.settings()?;
    settings.check()?;
    let moments = Moments {
        first: source.weights("moment1", settings.shape)?,
        second: source.weights("moment2", settings.shape)?,
        step: source.count("state.step")?,
    };
    let measure = |set: &str| -> Result<Measure, TrainError> {
        Ok(Measure { rate: source.real(&format!("{set}.rate"))?, loss: source.real(&format!("{set}.loss"))? })
    };
    let best = Best {
        weights: source.weights("best", settings.shape)?,
        epoch: source.count32("best.epoch")?,
        measure: measure("best")?,
    };
    let state = State {
        weights: source.weights("head", settings.shape)?,
        moments,
        random: Random::new(source.count("state.random")?),
        epoch: source.count32("state.epoch")?,
        stale: source.count32("state.stale")?,
        start: measure("start")?,
        best,
    };
    let split = Split {
        train: source.people("split.train")?,
        validation: source.people("split.validation")?,
        test: source.people("split.test")?,
    };
    Ok(Held { settings, split, state, digest: source.count("digest")? })
}

struct Source<'s>(SafeTensors<'s>);

impl<'s> Source<'s> {
    fn bytes(&self, name: &str, dtype: Dtype) -> Result<&'s [u8], TrainError> {
        let tensor = self.0.tensor(name).map_err(|error| fault(&error))?;
        if tensor.dtype() == dtype {
            Ok(tensor.data())
        } else {
            Err(TrainError::Checkpoint(format!("{name} has another type of numbers")))
        }
    }

    fn eight(&self, name: &str, dtype: Dtype) -> Result<[u8; 8], TrainError> {
        let bytes = self.bytes(name, dtype)?;
        bytes.try_into().map_err(|_| TrainError::Checkpoint(format!("{name} is not one number")))
    }

    fn count(&self, name: &str) -> Result<u64, TrainError> {
        Ok(u64::from_le_bytes(self.eight(name, Dtype::U64)?))
    }

    fn count32(&self, name: &str) -> Result<u32, TrainError> {
        let too_large = |_| TrainError::Checkpoint(format!("{name} is too large"));
        u32::try_from(self.count(name)?).map_err(too_large)
    }

    fn size(&self, name: &str) -> Result<usize, TrainError> {
        Ok(self.count32(name)? as usize)
    }

    fn real(&self, name: &str) -> Result<f64, TrainError> {
        Ok(f64::from_le_bytes(self.eight(name, Dtype::F64)?))
    }

    fn people(&self, name: &str) -> Result<Vec<u32>, TrainError> {
        let (people, _) = self.bytes(name, Dtype::U32)?.as_chunks::<4>();
        Ok(people.iter().map(|person| u32::from_le_bytes(*person)).collect())
    }

    fn weights(&self, set: &str, shape: Shape) -> Result<Vec<f32>, TrainError> {
        let mut all: Vec<f32> = Vec::new();
        for (part, len) in PARTS.iter().zip(shape.sizes()) {
            let name = format!("{set}.{part}");
            let (values, _) = self.bytes(&name, Dtype::F32)?.as_chunks::<4>();
            let before = all.len();
            all.extend(values.iter().map(|value| f32::from_le_bytes(*value)));
            if values.len() != len || !all.iter().skip(before).all(|value| value.is_finite()) {
                return Err(TrainError::Checkpoint(format!("{name} is not {len} finite numbers")));
            }
        }
        Ok(all)
    }

    fn settings(&self) -> Result<Settings, TrainError> {
        let setting = |name: &str| format!("settings.{name}");
        let (count, size) = (|name: &str| self.count32(&setting(name)), |name: &str| self.size(&setting(name)));
        let real = |name: &str| self.real(&setting(name));
        let scale = real("loss_scale")?;
        let loss = match count("loss")? {
            0 => Loss::Triplet { margin: scale, hard_after: count("hard_after")? },
            1 => Loss::Contrastive { temperature: scale },
            other => return Err(TrainError::Checkpoint(format!("there is no loss {other}"))),
        };
        Ok(Settings {
            shape: Shape { input: size("input")?, hidden: size("hidden")?, output: size("output")? },
            loss,
            epochs: count("epochs")?,
            patience: count("patience")?,
            batch_size: size("batch_size")?,
            faces_per_person: size("faces_per_person")?,
            learning_rate: real("learning_rate")?,
            weight_decay: real("weight_decay")?,
            beta1: real("beta1")?,
            beta2: real("beta2")?,
            clip_norm: real("clip_norm")?,
            dropout: real("dropout")?,
            input_dropout: real("input_dropout")?,
            min_faces: size("min_faces")?,
            min_people: size("min_people")?,
            min_pairs: self.count("settings.min_pairs")?,
            fractions: Fractions { train: real("train")?, validation: real("validation")? },
            seed: self.count("settings.seed")?,
        })
    }
}

#[cfg(test)]
#[path = "checkpoint_tests.rs"]
mod tests;
