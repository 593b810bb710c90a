//! ONNX files as bytes: a graph that takes aligned faces as they are, made from a pack's own, what a projection head takes and
//! gives, and whether a file is all of its model. No session is opened here.
//!
//! ort's Model Editor API is not used for it: an edited session keeps the list of inputs that it had before the edit, so that
//! a run would name an input that is gone.

mod build;
mod external;
mod faces;
mod rows;
mod wire;

pub(crate) use external::keeps_weights_elsewhere;
pub(crate) use faces::{FACES, FaceGraph, takes_faces};
pub(crate) use rows::widths;
