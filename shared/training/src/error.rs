//! Why a head was not trained. No message holds a number of an embedding or of a weight.

use thiserror::Error;

/// What there is to train on, and what is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shortage {
    /// Faces that a person needs to count.
    pub min_faces: usize,
    /// People who have so many.
    pub people: usize,
    /// People that are needed.
    pub min_people: usize,
    /// People who have fewer faces.
    pub below: usize,
    /// Pairs of two faces of one of those people.
    pub pairs: u64,
    /// Pairs that are needed.
    pub min_pairs: u64,
}

impl std::fmt::Display for Shortage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { min_faces, people, min_people, below, pairs, min_pairs } = self;
        write!(
            f,
            "{people} people have {min_faces} faces or more, {min_people} are needed; their faces make {pairs} pairs of one \
             person, {min_pairs} are needed; {below} more people have fewer faces. Only confirmed faces count: confirm more, or \
             lower the limits"
        )
    }
}

/// An input that is refused, a training that fails, or a caller's wish to stop. The trainer is then as it was before the call.
#[derive(Debug, Error, Clone, PartialEq)]
pub enum TrainError {
    /// The numbers are no rows.
    #[error("{len} numbers are no whole rows of {dim}: give n × d numbers with d above 0")]
    Shape {
        /// Numbers given.
        len: usize,
        /// Numbers in a row.
        dim: usize,
    },
    /// Rows of another dimension than the head takes.
    #[error("rows of {given} numbers, but the head takes {wanted}")]
    Dimension {
        /// Numbers in a row.
        given: usize,
        /// The head's input.
        wanted: usize,
    },
    /// A label for each face is needed.
    #[error("{people} labels for {faces} faces")]
    Labels {
        /// Labels given.
        people: usize,
        /// Faces given.
        faces: usize,
    },
    /// A row with a NaN or an infinity, or whose norm is not 1.
    #[error("row {row} is not a finite row of the norm 1: normalise it first")]
    Row {
        /// Which.
        row: usize,
    },
    /// A setting out of its range.
    #[error("{name} is {value}, which must be {range}")]
    Setting {
        /// Which.
        name: &'static str,
        /// What was given.
        value: f64,
        /// What is taken.
        range: &'static str,
    },
    /// Too few people, or too few faces of them.
    #[error("too few people to train on: {0}")]
    TooFew(Shortage),
    /// A split of the people that cannot be trained with.
    #[error("the split of the people: {0}")]
    Split(&'static str),
    /// The loss or a gradient is not finite.
    #[error("the loss is no finite number in step {step} of epoch {epoch}: lower the learning rate")]
    Diverged {
        /// Counted from 1.
        epoch: u32,
        /// Within the epoch, counted from 1.
        step: usize,
    },
    /// Training has ended: there is no further epoch.
    #[error("the training has ended: take its best head")]
    Finished,
    /// The caller's watch said stop.
    #[error("the training was cancelled")]
    Cancelled,
    /// Bytes that are no checkpoint of a training.
    #[error("this is no checkpoint of a training: {0}")]
    Checkpoint(String),
    /// A checkpoint of a training on other faces.
    #[error(
        "the checkpoint belongs to a training on other faces: give the very same rows and people, in the same order"
    )]
    OtherFaces,
}

/// Refuses a setting that is not `right`.
pub(crate) fn demand(right: bool, name: &'static str, value: f64, range: &'static str) -> Result<(), TrainError> {
    if right { Ok(()) } else { Err(TrainError::Setting { name, value, range }) }
}
