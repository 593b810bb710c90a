//! Everything an operator may set, gathered from the services' own options. Defaults live with their owners.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// `facewire.toml`, with `FACEWIRE__…` variables over it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    pub(crate) nats: facewire_bus::Options,
    pub(crate) postgres: facewire_store_pg::Options,
    pub(crate) qdrant: facewire_store_vec::Options,
    pub(crate) models: Models,
    pub(crate) ingest: facewire_ingest::Options,
    pub(crate) quality: facewire_quality::Options,
    pub(crate) embed: facewire_embed_gpu::Options,
    #[serde(rename = "match")]
    pub(crate) matching: facewire_match::Options,
    pub(crate) enrich: facewire_enrich::Options,
    pub(crate) reconciler: facewire_reconciler::Options,
    pub(crate) telemetry: facewire_telemetry::Options,
    pub(crate) health: crate::health::Options,
    pub(crate) shutdown: ShutdownOptions,
}

/// Which models run, and on what.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Models {
    /// The pack: `default`, or one that `facewire models install` put in place.
    pub(crate) pack: String,
    /// `cpu`, `cuda` or `cuda:<device>`. A provider that is not there is an error, never the CPU instead.
    pub(crate) provider: String,
    /// Threads inside one run.
    pub(crate) intra_threads: usize,
    /// An ONNX Runtime library of your own (a GPU build); else the pinned one.
    pub(crate) onnxruntime: Option<PathBuf>,
    /// Where packs are installed; else `packs` in the cache directory.
    pub(crate) directory: Option<PathBuf>,
}

impl Default for Models {
    fn default() -> Self {
        Self {
            pack: "default".to_owned(),
            provider: "cpu".to_owned(),
            intra_threads: 1,
            onnxruntime: None,
            directory: None,
        }
    }
}

/// How long a drain may take.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ShutdownOptions {
    /// From SIGTERM to the end; below Kubernetes' `terminationGracePeriodSeconds`.
    #[serde(with = "facewire_config::duration")]
    pub(crate) grace: Duration,
}

impl Default for ShutdownOptions {
    fn default() -> Self {
        Self { grace: Duration::from_secs(25) }
    }
}

impl Config {
    /// Reads the file, if one is named, and the environment. Variables that are not valid Unicode are not ours.
    pub(crate) fn load(file: Option<&Path>) -> anyhow::Result<Self> {
        let environment = std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
        Ok(facewire_config::load(file, environment)?)
    }
}
