//! One `embed-gpu` in a process of its own: the real service, with an embedder that stands for an accelerator. A run takes a
//! fixed time and no CPU, and an embedding follows from the pixels alone, so that results can be checked. No model.

use std::sync::Arc;
use std::time::Duration;

use facewire_bus::{Bus, StageOptions};
use facewire_composition::ShutdownOptions;
use facewire_config::Secret;
use facewire_domain::{Gate, Stage};
use facewire_embed_gpu::{Embed, Options};
use facewire_inference::{Embedded, Embedding, FaceEmbedder, InferenceError};
use facewire_runtime::Shutdown;
use facewire_vision::AlignedFace;
use tokio::signal::unix::{SignalKind, signal};

use crate::service::parent_is_gone;

/// Numbers of an embedding, as ArcFace-style models have.
const DIM: usize = 512;

/// What a worker says once SIGTERM drains it and no longer kills it.
pub(super) const LISTENS: &str = "listening";

/// How a worker is.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Setting {
    /// NATS.
    #[arg(long)]
    pub(super) nats: String,
    /// Told in what it embeds.
    #[arg(long, default_value_t = 0)]
    pub(super) number: u32,
    /// Faces in one run, at most.
    #[arg(long)]
    pub(super) batch: usize,
    /// Time of one run, however many faces.
    #[arg(long, value_parser = humantime::parse_duration)]
    pub(super) run: Duration,
    /// Messages of one pull, and in the inbox behind it; the service's own unless set.
    #[arg(long)]
    pub(super) pull: Option<usize>,
    /// Publishes in flight; the service's own unless set.
    #[arg(long)]
    pub(super) sink: Option<usize>,
}

impl Setting {
    /// As a command line.
    pub(super) fn arguments(&self) -> Vec<String> {
        let run = humantime::format_duration(self.run).to_string();
        let numbers = [("--number", self.number.to_string()), ("--batch", self.batch.to_string()), ("--run", run)];
        let optional = [("--pull", self.pull), ("--sink", self.sink)];
        let optional = optional.into_iter().filter_map(|(name, value)| Some((name, value?.to_string())));
        let named = [("--nats", self.nats.clone())].into_iter().chain(numbers).chain(optional);
        named.flat_map(|(name, value)| [name.to_owned(), value]).collect()
    }

    fn service(self, bus: Bus) -> Embed {
        let mut stage = Options::default().stage;
        if let Some(pull) = self.pull {
            stage = StageOptions { pull_batch: pull, inbox: pull, ..stage };
        }
        stage.sink_in_flight = self.sink.unwrap_or(stage.sink_in_flight);
        let (batch, time) = (self.batch.max(1), self.run);
        Embed {
            bus,
            embedder: Arc::new(move |_| Ok(Box::new(Accelerator { batch, time }))),
            model: model(self.number),
            max_batch: Some(batch),
            score: None,
            gate: Gate::default(),
            options: Options { stage, threads: Some(1), batch, ..Options::default() },
        }
    }
}

/// What a worker's embeddings are recorded under.
pub(super) fn model(number: u32) -> String {
    format!("accelerator@{number}")
}

/// Every stage's options: those of the services that run here.
pub(super) fn stages() -> [(Stage, StageOptions); Stage::ALL.len()] {
    Stage::ALL.map(|stage| match stage {
        Stage::Embed => (stage, Options::default().stage),
        _ => (stage, StageOptions::default()),
    })
}

/// From SIGTERM to the end, as in production.
pub(super) fn grace() -> Duration {
    ShutdownOptions::default().grace
}

/// Runs until SIGTERM, or until whoever started it is gone.
pub(crate) async fn run(setting: Setting) -> anyhow::Result<()> {
    let mut told = signal(SignalKind::terminate())?;
    println!("{LISTENS}");
    let options = facewire_bus::Options { url: Secret::new(setting.nats.clone()), ..Default::default() };
    let bus = Bus::connect(&options, &format!("embed worker {}", setting.number)).await?;
    let shutdown = Shutdown::new(grace());
    let mut running = setting.service(bus).run(shutdown.clone());
    tokio::select! {
        ended = &mut running => return Ok(ended?),
        _ = told.recv() => {}
        () = parent_is_gone() => {}
    }
    shutdown.drain();
    Ok(running.await?)
}

struct Accelerator {
    batch: usize,
    time: Duration,
}

impl FaceEmbedder for Accelerator {
    fn name(&self) -> &str {
        "accelerator"
    }

    fn dim(&self) -> usize {
        DIM
    }

    fn max_batch(&self) -> Option<usize> {
        Some(self.batch)
    }

    fn embed_measured(&mut self, faces: &[AlignedFace]) -> Result<Vec<Embedded>, InferenceError> {
        let runs = u32::try_from(faces.len().div_ceil(self.batch)).unwrap_or(u32::MAX);
        if !self.time.is_zero() {
            std::thread::sleep(self.time.saturating_mul(runs));
        }
        let of = |face: &AlignedFace| Embedding { vector: embedding(face.as_bytes()), length: 1.0, raw: None };
        Ok(faces.iter().map(|face| Ok(of(face))).collect())
    }
}

/// Of length one; other pixels give another.
pub(super) fn embedding(pixels: &[u8]) -> Vec<f32> {
    let sampled = pixels.iter().step_by(AlignedFace::BYTES / DIM).take(DIM);
    // No number is zero, so the length is not.
    let mut vector: Vec<f32> = sampled.map(|value| f32::from(*value) - 127.5).collect();
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    vector.iter_mut().for_each(|x| *x /= length);
    vector
}
