//! Everything an operator may set, gathered from the services' own options. Defaults live with their owners.

use std::path::{Path, PathBuf};
use std::time::Duration;

use facewire_bus::StageOptions;
use facewire_domain::Stage;
use serde::{Deserialize, Serialize};

/// `facewire.toml`, with `FACEWIRE__…` variables over it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// NATS.
    pub nats: facewire_bus::Options,
    /// Postgres.
    pub postgres: facewire_store_pg::Options,
    /// The vector index.
    pub qdrant: facewire_store_vec::Options,
    /// Kept images. Nowhere unless `url` says where; `up` and `demo` keep them in the data directory.
    pub images: facewire_store_object::Options,
    /// The models.
    pub models: Models,
    /// The stage `ingest`.
    pub ingest: facewire_ingest::Options,
    /// The stage `quality`.
    pub quality: facewire_quality::Options,
    /// The stage `embed`.
    pub embed: facewire_embed_gpu::Options,
    /// The stage `match`.
    #[serde(rename = "match")]
    pub matching: facewire_match::Options,
    /// The stage `enrich`.
    pub enrich: facewire_enrich::Options,
    /// The reconciler.
    pub reconciler: facewire_reconciler::Options,
    /// The REST API.
    pub gateway: facewire_gateway::Options,
    /// Long work: clustering, assignment, prototypes.
    pub jobs: facewire_jobs::Options,
    /// Logs, metrics and traces.
    pub telemetry: facewire_telemetry::Options,
    /// Health and metrics over HTTP.
    pub health: crate::health::Options,
    /// How services end.
    pub shutdown: ShutdownOptions,
}

/// Which models run, and on what.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Models {
    /// The pack: `default`, or one that `facewire models install` put in place.
    pub pack: String,
    /// `cpu`, `cuda` or `cuda:<device>`. A provider that is not there is an error, never the CPU instead.
    pub provider: String,
    /// Threads inside one run.
    pub intra_threads: usize,
    /// An ONNX Runtime library of your own (a GPU build); else the pinned one.
    pub onnxruntime: Option<PathBuf>,
    /// Where packs are installed; else `packs` in the cache directory.
    pub directory: Option<PathBuf>,
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
pub struct ShutdownOptions {
    /// From SIGTERM to the end; below Kubernetes' `terminationGracePeriodSeconds`.
    #[serde(with = "facewire_config::duration")]
    pub grace: Duration,
}

impl Default for ShutdownOptions {
    fn default() -> Self {
        Self { grace: Duration::from_secs(25) }
    }
}

impl Config {
    /// Reads the file, if one is named, and the environment. Variables that are not valid Unicode are ignored.
    ///
    /// # Errors
    /// A file that cannot be read, an unknown key, a value out of range.
    pub fn load(file: Option<&Path>) -> anyhow::Result<Self> {
        let environment = std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
        Ok(facewire_config::load(file, environment)?)
    }

    /// Every stage with its options, for streams and consumers.
    pub fn stages(&self) -> Vec<(Stage, StageOptions)> {
        Stage::ALL.into_iter().map(|stage| (stage, self.stage(stage).clone())).collect()
    }

    /// What a stage has of its own for its stream and consumer.
    pub fn stage(&self, stage: Stage) -> &StageOptions {
        match stage {
            Stage::Ingest => &self.ingest.stage,
            Stage::Quality => &self.quality.stage,
            Stage::Embed => &self.embed.stage,
            Stage::Match => &self.matching.stage,
            Stage::Enrich => &self.enrich.stage,
        }
    }

    /// The same, to be changed.
    pub fn stage_mut(&mut self, stage: Stage) -> &mut StageOptions {
        match stage {
            Stage::Ingest => &mut self.ingest.stage,
            Stage::Quality => &mut self.quality.stage,
            Stage::Embed => &mut self.embed.stage,
            Stage::Match => &mut self.matching.stage,
            Stage::Enrich => &mut self.enrich.stage,
        }
    }
}
