//! `bench embed`: faces a second through the embed stage (queue in, queue out), against bare ONNX Runtime at its best
//! number of sessions and its best batch. Both are warm and take turns.

mod limit;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail};
use facewire_assess::{Request, judge};
use facewire_bus::{Bus, Message};
use facewire_composition::models::{self, Loaded};
use facewire_composition::{self as composition, Chain, Config, Service};
use facewire_contracts::{Message as _, convert, subjects, v1};
use facewire_domain::{CropId, ImageHash, Stage};
use facewire_inference::Observed;
use facewire_runtime::Shutdown;
use facewire_vision::AlignedFace;
use futures_util::{StreamExt, TryStreamExt, stream};
use time::OffsetDateTime;

use self::limit::Limit;
use super::{Durability, Measurement, stack};
use crate::commands::{demo, progress};
use crate::local::unless_stopped;

/// Publishes that wait for their PubAck at a time.
const IN_FLIGHT: usize = 256;

/// Time of each side, over all rounds, at least.
const MIN_TIME: Duration = Duration::from_secs(10);

/// Time of each side in a round.
const ROUND: Duration = Duration::from_secs(2);

/// Rounds of which too little was embedded by all sessions, at most.
const LATE: usize = 3;

/// Faces of a round at most: they lie in the stage's stream before it runs.
const MAX_ROUND: usize = 20_000;

/// What one side did in all rounds.
#[derive(Default)]
struct Side {
    faces: f64,
    took: Duration,
}

impl Side {
    fn add(&mut self, faces: f64, took: Duration) {
        self.faces += faces;
        self.took += took;
    }

    fn rate(&self) -> f64 {
        self.faces / self.took.as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

/// At least so many faces, and at least [`MIN_TIME`] for each side.
pub(super) async fn run(mut config: Config, faces: usize, shutdown: Shutdown) -> anyhow::Result<Measurement> {
    let preparing = async {
        let models = models::load(&config.models, progress::fetching(false)).await?;
        let aligned = aligned_samples(&config, &models).await?;
        let limits = {
            let (models, threads, aligned) = (models.clone(), config.embed.threads(), aligned.clone());
            let stop = shutdown.clone();
            tokio::task::spawn_blocking(move || Limit::find(&models, threads, &aligned, &stop)).await??
        };
        let (directory, local) = stack(&mut config, Durability::Unsynced, &shutdown).await?;
        let bus = Bus::connect(&config.nats, "facewire-bench").await?;
        anyhow::Ok((models, aligned, limits, bus, directory, local))
    };
    let (models, aligned, limits, bus, _directory, mut local) = unless_stopped(&shutdown, preparing).await?;
    let limits = Arc::new(limits);
    let mut bare: Vec<(String, Side)> = limits.iter().map(|limit| (limit.what.clone(), Side::default())).collect();
    let fastest = limits.iter().map(|limit| limit.faces_per_second).fold(0.0, f64::max);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a positive number, bounded below")]
    let round = ((fastest * ROUND.as_secs_f64()) as usize).clamp(1, MAX_ROUND);
    let mut stage = StageRun { bus, config, models, aligned, sent: 0 };
    let measuring = async {
        // One short round first: what is slow only once is not timed.
        stage.round(round.div_ceil(10), &shutdown).await?;
        let (mut facewire, mut late) = (Side::default(), 0);
        while facewire.took < MIN_TIME || bare.iter().any(|(_, side)| side.took < MIN_TIME) || stage.sent < faces {
            let limits = Arc::clone(&limits);
            let timed = tokio::task::spawn_blocking(move || {
                limits.iter().map(|limit| limit.run(ROUND)).collect::<anyhow::Result<Vec<_>>>()
            });
            for ((_, side), (rate, took)) in bare.iter_mut().zip(timed.await??) {
                side.add(rate * took.as_secs_f64(), took);
            }
            match stage.round(round, &shutdown).await? {
                Some((faces, took)) => facewire.add(faces as f64, took),
                None if late < LATE => late += 1,
                None => {
                    bail!("the sessions take too long to open to be measured together: most of a round is over by then")
                }
            }
        }
        anyhow::Ok(facewire)
    };
    let measured = local.beside(measuring).await;
    let stopped = local.stop().await;
    let facewire = measured?;
    stopped?;
    let best = bare.into_iter().max_by(|(_, a), (_, b)| a.rate().total_cmp(&b.rate()));
    let (limit_is, limit) = best.ok_or_else(|| anyhow!("no limit was measured"))?;
    Ok(Measurement::new("embed", "faces/s", stage.sent, facewire.rate(), limit.rate(), limit_is))
}

async fn aligned_samples(config: &Config, models: &Loaded) -> anyhow::Result<Vec<AlignedFace>> {
    let pictures = demo::sample_pictures(models, progress::fetching(false)).await?;
    let mut finder = models.pack.finder(&models.runtime, &models.session)?;
    let rules = config.quality.rules(models.score());
    let aligned = tokio::task::spawn_blocking(move || {
        let judged =
            pictures.iter().filter_map(|picture| judge(&mut finder, &rules, Request::crop("bench"), picture).ok());
        judged.flatten().map(|face| face.aligned).collect::<Vec<AlignedFace>>()
    })
    .await?;
    if aligned.is_empty() {
        bail!("no face was found in the sample pictures");
    }
    Ok(aligned)
}

/// The embed stage on servers of its own.
struct StageRun {
    bus: Bus,
    config: Config,
    models: Loaded,
    aligned: Vec<AlignedFace>,
    /// Faces so far.
    sent: usize,
}

impl StageRun {
    /// Puts faces on the stage's stream, then runs the stage until it has embedded them: how many with all sessions, and how
    /// long these took. `None` where that is less than half of them.
    async fn round(&mut self, faces: usize, shutdown: &Shutdown) -> anyhow::Result<Option<(usize, Duration)>> {
        self.fill(faces).await?;
        let before = self.bus.stream_messages(Stage::Match.stream()).await?;
        let round = shutdown.child();
        let (chain, watch) = watched(Chain::from(&self.models));
        let (services, chain) = ([Service::Stage(Stage::Embed)], Some(chain));
        let running = composition::run(&self.config, &services, chain, progress::fetching(false), &round);
        tokio::pin!(running);
        let ended = tokio::select! {
            ended = self.embedded(before, faces) => ended?,
            ended = &mut running => {
                ended?;
                bail!("the stage ended early");
            }
        };
        round.drain();
        running.await?;
        let Watch { joined, last, .. } = *watch.lock().unwrap_or_else(PoisonError::into_inner);
        let all = last.filter(|(_, before)| joined == self.config.embed.threads() && *before <= faces / 2);
        Ok(all.map(|(began, before)| (faces.saturating_sub(before), ended.saturating_duration_since(began))))
    }

    async fn fill(&mut self, faces: usize) -> anyhow::Result<()> {
        let numbers = self.sent..self.sent + faces;
        self.sent = numbers.end;
        let (bus, aligned) = (&self.bus, &self.aligned);
        let publishing = stream::iter(numbers).map(anyhow::Ok).try_for_each_concurrent(IN_FLIGHT, |number| {
            let rgb = aligned.get(number % aligned.len()).map(|face| face.as_bytes().to_vec()).unwrap_or_default();
            async move {
                let task = v1::EmbedTask { crop: Some(crop(number)?), face: None, rgb: rgb.into() };
                let message = Message {
                    subject: subjects::stage(Stage::Embed, "bench"),
                    payload: task.encode_to_vec().into(),
                    ..Message::default()
                };
                bus.publish(message).await?;
                Ok(())
            }
        });
        publishing.await
    }

    /// When the last face was embedded and published.
    async fn embedded(&self, before: u64, faces: usize) -> anyhow::Result<Instant> {
        let wanted = before.saturating_add(faces as u64);
        while self.bus.stream_messages(Stage::Match.stream()).await? < wanted {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(Instant::now())
    }
}

/// What the sessions of a round have done.
#[derive(Debug, Default, Clone, Copy)]
struct Watch {
    /// Faces that were begun.
    faces: usize,
    /// Sessions that embedded a face.
    joined: usize,
    /// When the last of them began with its first face, and the faces that were begun before: to open a session is no work of
    /// the stage, and on a GPU takes a second.
    last: Option<(Instant, usize)>,
}

/// A chain that is watched.
fn watched(chain: Chain) -> (Chain, Arc<Mutex<Watch>>) {
    let watch = Arc::<Mutex<Watch>>::default();
    let (make, watched) = (Arc::clone(&chain.embedders), Arc::clone(&watch));
    let embedders: composition::MakeEmbedder = Arc::new(move |thread| {
        let inner = make(thread)?;
        // The stage tries a session on grey pictures before it takes a face.
        let (mut trials, mut joined, watched) = (inner.warm_up().len(), false, Arc::clone(&watched));
        let before = move |faces: &[AlignedFace]| {
            if let Some(left) = trials.checked_sub(1) {
                trials = left;
                return Ok(());
            }
            let mut watch = watched.lock().unwrap_or_else(PoisonError::into_inner);
            if !std::mem::replace(&mut joined, true) {
                watch.joined += 1;
                watch.last = Some((Instant::now(), watch.faces));
            }
            watch.faces += faces.len();
            Ok(())
        };
        Ok(Box::new(Observed { inner, before }))
    });
    (Chain { embedders, ..chain }, watch)
}

/// A crop of its own for each number.
fn crop(number: usize) -> anyhow::Result<v1::Crop> {
    let (collection, camera) = ("bench".parse()?, "bench".parse()?);
    let (now, image) = (OffsetDateTime::now_utc(), ImageHash::of(&number.to_be_bytes()));
    Ok(v1::Crop {
        crop_id: CropId::derive(&collection, &camera, now, &image).to_string(),
        collection: collection.to_string(),
        camera: camera.to_string(),
        captured_at: Some(convert::timestamp(now)),
        received_at: Some(convert::timestamp(now)),
        image_hash: image.as_bytes().to_vec().into(),
        intent: "recognize".to_owned(),
        face_count: 1,
        ..v1::Crop::default()
    })
}
