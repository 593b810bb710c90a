//! Labelled embeddings → a projection head: pure, no I/O. REFERENCE "Training a projection head" has the facts.
//!
//! The head is Gemm, ReLU, Gemm and L2 normalisation over the embeddings of a frozen embedder ([`Head`]). Training starts at
//! PCA, which the head expresses exactly, with triplets or a supervised contrastive loss ([`Loss`]) over batches of several
//! faces for each of several people, and keeps the best weights on people that it does not train on, the start among them.
//! People are split, and never photographs ([`Split`]). A [`Trainer`] is driven epoch by epoch; its checkpoint goes on to the very
//! same numbers. Whether a head is worth using is decided elsewhere: `facewire_evaluation::verdict`.
//!
//! Everything runs on the caller's thread and every sum has a fixed order, so a result depends on the data, the settings and the
//! instruction set of the processor alone. Embeddings and weights are never in Debug output or errors.

mod adamw;
mod batches;
mod checkpoint;
mod eigen;
mod error;
mod faces;
mod head;
mod loss;
mod matrix;
mod memory;
mod network;
mod onnx;
mod pca;
mod random;
mod run;
mod settings;
mod split;
mod state;
mod step;
mod trainer;
mod validation;

pub use error::{Shortage, TrainError};
pub use faces::Faces;
pub use head::Head;
pub use memory::MemoryNeeded;
pub use run::{Progress, Run};
pub use settings::{Fractions, Loss, Settings, Shape};
pub use split::Split;
pub use trainer::{EpochReport, Finish, Trainer};
pub use validation::{Measure, VALIDATION_FMR};
