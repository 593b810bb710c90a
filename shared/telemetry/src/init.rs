//! Logging to standard error: for people, or as JSON lines for machines.

use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For a terminal.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

/// What an operator may set.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// `tracing` directives, e.g. `info,facewire_bus=debug`.
    pub filter: String,
    /// How a line looks.
    pub format: LogFormat,
}

impl Default for Options {
    fn default() -> Self {
        Self { filter: "info,ort=warn,async_nats=warn,sqlx=warn".to_owned(), format: LogFormat::Human }
    }
}

/// Telemetry that cannot start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The directives cannot be read.
    #[error("telemetry.filter is not a list of tracing directives: {0}")]
    Filter(String),
    /// Somebody else set a subscriber in this process.
    #[error("logging was started twice in this process")]
    Twice,
}

/// Starts logging for this process. `ansi` allows colours: pass whether standard error is a terminal.
pub fn init(options: &Options, ansi: bool) -> Result<(), TelemetryError> {
    let filter = EnvFilter::try_new(&options.filter).map_err(|error| TelemetryError::Filter(error.to_string()))?;
    let registry = tracing_subscriber::registry().with(filter);
    let fmt = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    match options.format {
        LogFormat::Human => registry.with(fmt.with_ansi(ansi).with_target(false)).try_init(),
        LogFormat::Json => registry.with(fmt.json().flatten_event(true)).try_init(),
    }
    .map_err(|_| TelemetryError::Twice)?;
    Ok(())
}
