//! How services speak to operators: logs, metrics, traces, and one struct for each operational event. Like `tracing`'s,
//! its state is the process's: what is told has one reader.

mod cardinality;
pub mod events;
mod init;
mod levels;
mod metrics;
mod options;
mod otlp;
mod process;
mod sampling;
#[cfg(feature = "testing")]
pub mod testing;
mod trace;

pub use init::{PROMETHEUS_TYPE, Telemetry, TelemetryError, init, prometheus};
pub use options::{LogFormat, Options, Otlp, Protocol};
pub use trace::{BatchSpan, CropSpan};
