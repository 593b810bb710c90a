//! What an operator may set about logs, traces and metrics.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use facewire_config::Secret;
use serde::{Deserialize, Serialize};

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

/// Logs, and what is exported.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// `tracing` directives, e.g. `info,facewire_bus=debug`.
    pub filter: String,
    /// How a line looks.
    pub format: LogFormat,
    /// Cameras that metrics tell apart; whatever comes after the first so many is counted as `other`. Each camera costs some
    /// 150 time series.
    pub cameras: usize,
    /// Export to an OpenTelemetry collector.
    pub otlp: Otlp,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            filter: "info,ort=warn,async_nats=warn,sqlx=warn".to_owned(),
            format: LogFormat::Human,
            cameras: 200,
            otlp: Otlp::default(),
        }
    }
}

/// OTLP's two wire forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// gRPC, usually port 4317.
    #[default]
    Grpc,
    /// Protobuf over HTTP, usually port 4318.
    Http,
}

/// Where traces, metrics and logs go.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Otlp {
    /// `http://collector:4317`; nothing is exported unless it is set. `https` needs `ca`, and gRPC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// How it is spoken to.
    pub protocol: Protocol,
    /// PEM file with the authority that signed the collector's certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// Sent with every export, e.g. an authorization.
    pub headers: BTreeMap<String, Secret>,
    /// Longest wait for one export.
    #[serde(with = "facewire_config::duration")]
    pub timeout: Duration,
    /// Export traces.
    pub traces: bool,
    /// Export metrics.
    pub metrics: bool,
    /// Export logs.
    pub logs: bool,
    /// Between two exports of metrics.
    #[serde(with = "facewire_config::duration")]
    pub metrics_interval: Duration,
    /// Part of the traces that is exported, 0 to 1. A producer that sampled its own trace is followed, and the stages at which a
    /// crop was rejected or failed, and all after them, are always exported.
    pub sample: f64,
}

impl Default for Otlp {
    fn default() -> Self {
        Self {
            endpoint: None,
            protocol: Protocol::Grpc,
            ca: None,
            headers: BTreeMap::new(),
            timeout: Duration::from_secs(10),
            traces: true,
            metrics: true,
            logs: true,
            metrics_interval: Duration::from_secs(15),
            sample: 1.0,
        }
    }
}
