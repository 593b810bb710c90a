//! How services speak to operators: logs, and one struct for each operational event. Names of persons, pixels, embeddings
//! and secrets must not come in.

pub mod events;
mod init;

pub use init::{LogFormat, Options, TelemetryError, init};
