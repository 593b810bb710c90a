//! Everything an operator may set, gathered from the services' own options. Defaults live with their owners.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use facewire_bus::StageOptions;
use facewire_config::ConfigError;
use facewire_domain::Stage;
use facewire_inference::{GraphInput, Provider, Providers};
use serde::{Deserialize, Deserializer, Serialize};

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
    /// Kept images. Nowhere unless `url` says where; `demo` and `bench`, and `up` with a Postgres of its own, keep them in the
    /// data directory then.
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
    /// `cpu`, `cuda`, `tensorrt`, or the last two with `:<device>`; several as a list, or with commas: a stage's threads are
    /// dealt over them. A provider that is not there is an error, and so is one that cannot run all of a model; never the
    /// CPU instead.
    #[serde(deserialize_with = "providers")]
    pub provider: String,
    /// Threads inside one run.
    pub intra_threads: usize,
    /// What goes into the embedder's graph: `float`, `uint8` (the graph itself normalises and mirrors the pixels), or
    /// `auto`, which is `uint8` on a GPU.
    pub graph_input: GraphInput,
    /// An ONNX Runtime library of your own (a GPU build); else the pinned one.
    pub onnxruntime: Option<PathBuf>,
    /// Where packs are installed; else `packs` in the cache directory.
    pub directory: Option<PathBuf>,
    /// The projection head behind the pack's embedder: a file, or the 16 digits of the fingerprint of one that `facewire faces
    /// use-head` put into the pack's directory. Every service of an installation has the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head: Option<PathBuf>,
    /// What a stage has otherwise.
    pub stages: ModelStages,
}

impl Default for Models {
    fn default() -> Self {
        Self {
            pack: "default".to_owned(),
            provider: "cpu".to_owned(),
            intra_threads: 1,
            graph_input: GraphInput::Auto,
            onnxruntime: None,
            directory: None,
            head: None,
            stages: ModelStages::default(),
        }
    }
}

impl Models {
    /// Where a stage runs its models.
    pub fn provider_of(&self, stage: Stage) -> &str {
        let own = match stage {
            Stage::Quality => self.stages.quality.provider.as_deref(),
            Stage::Embed => self.stages.embed.provider.as_deref(),
            _ => None,
        };
        own.unwrap_or(&self.provider)
    }
}

/// The stages that run models.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelStages {
    /// Finds faces.
    pub quality: StageModels,
    /// Makes embeddings.
    pub embed: StageModels,
}

/// What one stage has otherwise than the others.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StageModels {
    /// As `models.provider`, which holds where this is not set.
    #[serde(deserialize_with = "own_providers", skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
}

/// A text, or a list that becomes one.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a provider, such as \"cuda:0\", or a list of providers")]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl From<OneOrMore> for String {
    fn from(names: OneOrMore) -> Self {
        match names {
            OneOrMore::One(name) => name,
            OneOrMore::More(names) => names.join(","),
        }
    }
}

fn providers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    OneOrMore::deserialize(deserializer).map(String::from)
}

fn own_providers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<OneOrMore>::deserialize(deserializer)?.map(String::from))
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
        Ok(Self::load_from(file, environment)?)
    }

    /// The same with these variables in place of the process's own.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load_from(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let environment: Vec<(String, String)> = environment.into_iter().collect();
        environment.iter().try_for_each(|(variable, _)| names_no_other_collection(variable))?;
        let mut config: Self = facewire_config::load(file, environment)?;
        config.deal_threads();
        Ok(config)
    }

    /// Of the embed stage, as many as its devices want: sessions of a GPU have nothing to do with the processor's cores.
    fn deal_threads(&mut self) {
        let usual = self.embed.threads();
        // What is no provider is told where it is used.
        let places = self.models.provider_of(Stage::Embed).parse::<Providers>().unwrap_or_default();
        let gpu = places.all().any(Provider::is_gpu);
        self.embed.threads.get_or_insert(if gpu { 2 * places.all().count() } else { usual });
    }

    /// Every stage with its options, for streams and consumers.
    pub fn stages(&self) -> Vec<(Stage, StageOptions)> {
        Stage::ALL.into_iter().map(|stage| (stage, self.stage(stage).clone())).collect()
    }

    /// Whether these stages can run with their options.
    ///
    /// # Errors
    /// A value out of range, with its section.
    pub(crate) fn check_stages(&self, stages: impl IntoIterator<Item = Stage>) -> anyhow::Result<()> {
        let check = |stage: Stage| {
            let section = || format!("the section `{stage}.stage` of the configuration cannot be used");
            self.stage(stage).check().with_context(section)
        };
        stages.into_iter().try_for_each(check)
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

/// Variables are read in small letters, and a collection's name may have capitals: what is meant for it would be set for
/// another collection, or for none.
fn names_no_other_collection(variable: &str) -> Result<(), ConfigError> {
    let mut keys = variable.strip_prefix("FACEWIRE__").unwrap_or_default().split("__").skip(1);
    let of_a_collection = keys.next().is_some_and(|key| key.eq_ignore_ascii_case("collections"));
    match keys.next() {
        Some(name) if of_a_collection && name.chars().any(char::is_uppercase) => Err(ConfigError::Invalid(format!(
            "{variable} would be read as of the collection {:?}: write that name in small letters if it is meant, and set \
             what holds for {name:?} in the configuration file",
            name.to_lowercase()
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn models(toml: &str, environment: &[(&str, &str)]) -> Result<Models, ConfigError> {
        config(toml, environment).map(|config| config.models)
    }

    fn config(toml: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("facewire.toml");
        std::fs::write(&path, toml).unwrap();
        let environment = environment.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Config::load_from(Some(&path), environment)
    }

    fn places(models: &Models) -> [&str; 2] {
        [Stage::Quality, Stage::Embed].map(|stage| models.provider_of(stage))
    }

    #[test]
    fn a_stage_has_its_own_providers_or_the_one_of_all() {
        assert_eq!(places(&Models::default()), ["cpu", "cpu"]);
        assert_eq!(places(&models("[models]\nprovider = \"cuda:1\"", &[]).unwrap()), ["cuda:1", "cuda:1"]);
        let embed = "[models.stages.embed]\nprovider = [\"cuda:0\", \"tensorrt:1\"]";
        assert_eq!(places(&models(embed, &[]).unwrap()), ["cpu", "cuda:0,tensorrt:1"]);
        let environment = [("FACEWIRE__MODELS__STAGES__EMBED__PROVIDER", "cuda:2,cuda:3")];
        assert_eq!(places(&models(embed, &environment).unwrap()), ["cpu", "cuda:2,cuda:3"]);
    }

    #[test]
    fn a_gpu_has_two_sessions_and_a_processor_one_a_core() {
        let threads = |toml: &str, environment: &[(&str, &str)]| config(toml, environment).unwrap().embed.threads;
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        assert_eq!(threads("[models]\nprovider = \"cpu\"", &[]), Some(cores));
        assert_eq!(threads("[models]\nprovider = \"cuda:0\"", &[]), Some(2));
        assert_eq!(threads("[models.stages.quality]\nprovider = \"cuda:0\"", &[]), Some(cores));
        let two = "[models.stages.embed]\nprovider = [\"cuda:0\", \"cuda:1\"]";
        assert_eq!(threads(two, &[]), Some(4));
        assert_eq!(threads(two, &[("FACEWIRE__EMBED__THREADS", "7")]), Some(7), "what was set holds");
        assert_eq!(config("[embed]\nthreads = 0", &[]).unwrap().embed.threads(), 1);
    }

    #[test]
    fn a_variable_sets_what_holds_for_the_collection_that_it_names() {
        let vault: facewire_domain::CollectionId = "vault".parse().unwrap();
        let small = [("FACEWIRE__MATCH__COLLECTIONS__vault__FPIR", "0.001")];
        assert_eq!(config("# none", &small).unwrap().matching.collections[&vault].fpir, Some(0.001));
        let off = [("FACEWIRE__QUALITY__COLLECTIONS__vault__MAX_YAW", "off")];
        assert_eq!(config("# none", &off).unwrap().quality.collections[&vault].max_yaw, Some(None));
        for name in ["Vault", "VAULT", "vault-A"] {
            let variable = format!("FACEWIRE__MATCH__COLLECTIONS__{name}__FPIR");
            let said = config("# none", &[(variable.as_str(), "0.001")]).unwrap_err().to_string();
            assert!(said.contains(name) && said.contains("small letters"), "{said}");
        }
    }

    #[test]
    fn every_kind_of_option_is_read_from_a_variable() {
        let environment = [
            ("FACEWIRE__NATS__REPLICAS", "3"),
            ("FACEWIRE__NATS__CROPS_MAX_BYTES", "64MB"),
            ("FACEWIRE__NATS__STAGE_MAX_BYTES", "1048576"),
            ("FACEWIRE__NATS__TLS__REQUIRED", "true"),
            ("FACEWIRE__QDRANT__API_KEY", "00123456"),
            ("FACEWIRE__QDRANT__HNSW_EF", "64"),
            ("FACEWIRE__QDRANT__OVERSAMPLING", "2"),
            ("FACEWIRE__QDRANT__QUANTIZATION", "int8"),
            ("FACEWIRE__QUALITY__GATE__MIN_BLUR", "40"),
            ("FACEWIRE__MATCH__MARGIN", "0"),
            ("FACEWIRE__MATCH__STAGE__MAX_ACK_PENDING", "-1"),
            ("FACEWIRE__GATEWAY__LISTEN", "127.0.0.1:0"),
            ("FACEWIRE__GATEWAY__RATE", "7"),
            ("FACEWIRE__TELEMETRY__OTLP__SAMPLE", "1"),
            ("FACEWIRE__RECONCILER__RETENTION__RESULTS", "forever"),
            ("FACEWIRE__SHUTDOWN__GRACE", "3s"),
        ];
        let read = config("# none", &environment).unwrap();
        let sizes = [read.nats.crops_max_bytes, read.nats.stage_max_bytes].map(|size| size.as_u64());
        assert_eq!((read.nats.replicas, sizes, read.nats.tls.required), (3, [64_000_000, 1 << 20], true));
        assert_eq!(read.qdrant.api_key.as_ref().map(|key| key.expose()), Some("00123456"));
        assert_eq!((read.qdrant.hnsw_ef, read.qdrant.oversampling), (Some(64), Some(2.0)));
        assert!(read.qdrant.quantization.is_some());
        assert_eq!((read.quality.gate.min_blur, read.matching.margin), (Some(40.0), Some(0.0)));
        assert_eq!(read.matching.stage.max_ack_pending, -1);
        assert_eq!((read.gateway.listen.map(|at| at.port()), read.gateway.rate.get()), (Some(0), 7));
        assert_eq!((read.telemetry.otlp.sample, read.reconciler.retention.results), (1.0, None));
        assert_eq!(read.shutdown.grace, Duration::from_secs(3));
    }

    #[test]
    fn a_stage_that_could_not_work_is_refused_by_its_section() {
        Config::default().check_stages(Stage::ALL).unwrap();
        let read = config("[match.stage]\nmax_deliver = 0", &[]).unwrap();
        let said = format!("{:#}", read.check_stages(Stage::ALL).unwrap_err());
        assert!(said.contains("`match.stage`") && said.contains("max_deliver"), "{said}");
        read.check_stages([Stage::Ingest]).unwrap();
    }

    #[test]
    fn what_is_no_provider_or_no_stage_is_refused() {
        for (toml, said) in [
            ("[models]\nprovider = { gpu = 1 }", "list of providers"),
            ("[models.stages.match]\nprovider = \"cpu\"", "match"),
            ("[models.stages.embed]\ndevice = 1", "device"),
            ("[models]\ngraph_input = \"int8\"", "models.graph_input"),
        ] {
            let error = models(toml, &[]).unwrap_err().to_string();
            assert!(error.contains(said), "{toml}: {error}");
        }
    }
}
