//! `bench embed`: faces a second through the embed stage (queue in, queue out), against bare ONNX Runtime at its best
//! number of threads and its best batch.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::anyhow;
use facewire_assess::{Request, judge};
use facewire_bus::{Bus, Message};
use facewire_composition::models::{self, Loaded};
use facewire_composition::{Chain, Config, Service};
use facewire_contracts::{Message as _, subjects, v1};
use facewire_domain::Stage;
use facewire_inference::SessionOptions;
use facewire_runtime::Shutdown;
use facewire_vision::AlignedFace;
use futures_util::{StreamExt, TryStreamExt, stream};

use super::{Durability, Measurement, cores, per_second, stack};
use crate::commands::{demo, progress};

/// Publishes that wait for their PubAck at a time.
const IN_FLIGHT: usize = 256;

pub(super) async fn run(mut config: Config, faces: usize, shutdown: Shutdown) -> anyhow::Result<Measurement> {
    let report = progress::fetching(false);
    let models = models::load(&config.models, report.clone()).await?;
    let pictures = demo::sample_pictures(&models, report.clone()).await?;
    let mut finder = models.pack.finder(&models.runtime, &models.session)?;
    let rules = config.quality.rules(models.score());
    let aligned = tokio::task::spawn_blocking(move || {
        let judged =
            pictures.iter().filter_map(|picture| judge(&mut finder, &rules, Request::crop("bench"), picture).ok());
        judged.flatten().map(|face| face.aligned).collect::<Vec<AlignedFace>>()
    })
    .await?;
    if aligned.is_empty() {
        return Err(anyhow!("no face was found in the sample pictures"));
    }
    let (limit, limit_is) = bare(&models, &aligned, faces).await?;
    let (mut local, _directory) = stack(&mut config, Durability::Unsynced, &shutdown).await?;
    let bus = Bus::connect(&config.nats, "facewire-bench").await?;
    local.beside(fill(&bus, &aligned, faces)).await?;
    local.start_services(&config, vec![Service::Stage(Stage::Embed)], Some(Chain::from(&models)), report);
    let measured = local.beside(drain(&bus, faces)).await;
    let stopped = local.stop().await;
    let elapsed = measured?;
    stopped?;
    Ok(Measurement::new("embed", "faces/s", faces, per_second(faces, elapsed), limit, limit_is))
}

/// Puts the faces on the stage's stream, before it runs.
async fn fill(bus: &Bus, aligned: &[AlignedFace], faces: usize) -> anyhow::Result<()> {
    let publishing = stream::iter(0..faces).map(anyhow::Ok).try_for_each_concurrent(IN_FLIGHT, |index| {
        let rgb = aligned.get(index % aligned.len()).map(|face| face.as_bytes().to_vec()).unwrap_or_default();
        let crop = v1::Crop { crop_id: index.to_string(), collection: "bench".to_owned(), ..v1::Crop::default() };
        let task = v1::EmbedTask { crop: Some(crop), face: None, rgb: rgb.into() };
        let message = Message {
            subject: subjects::stage(Stage::Embed, "bench"),
            id: None,
            headers: Vec::new(),
            payload: task.encode_to_vec().into(),
        };
        async move { bus.publish(message).await.map(|_| ()).map_err(Into::into) }
    });
    publishing.await
}

/// From the first embedding to the last: starting the sessions is no work of the stage.
async fn drain(bus: &Bus, faces: usize) -> anyhow::Result<Duration> {
    let faces = faces as u64;
    let (mut started, mut at_start) = (None, 0);
    loop {
        let done = bus.stream_messages(Stage::Match.stream()).await?;
        if done > 0 && started.is_none() {
            (started, at_start) = (Some(Instant::now()), done);
        }
        if let (true, Some(started)) = (done >= faces, started) {
            // Scaled to all faces, as if those before the first look had been timed too.
            let timed = faces.saturating_sub(at_start).max(1);
            return Ok(started.elapsed().mul_f64(faces as f64 / timed as f64));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Runs of the bare session: both the face and its mirror image, as the stage does.
async fn bare(models: &Loaded, aligned: &[AlignedFace], faces: usize) -> anyhow::Result<(f64, String)> {
    let (models, aligned) = (models.clone(), aligned.to_vec());
    tokio::task::spawn_blocking(move || {
        let batches: Vec<usize> = match models.max_batch() {
            Some(most) => [1, 4, 8, 16, 32].into_iter().filter(|b| *b <= most.max(1)).collect(),
            None => vec![1, 4, 8, 16, 32],
        };
        let mut best = (0.0, String::new());
        for batch in batches {
            // Several sessions of one thread each, or one session of many threads.
            for (sessions, intra) in [(1, 1), (cores(), 1), (1, cores())] {
                let options = SessionOptions { intra_threads: intra, ..models.session };
                let rate = rate(&models, options, sessions, batch, &aligned, faces)?;
                if rate > best.0 {
                    best = (rate, format!("bare ONNX Runtime, batch {batch}, {sessions} sessions × {intra} threads"));
                }
            }
        }
        anyhow::Ok(best)
    })
    .await?
}

fn rate(
    models: &Loaded,
    options: SessionOptions,
    sessions: usize,
    batch: usize,
    aligned: &[AlignedFace],
    faces: usize,
) -> anyhow::Result<f64> {
    let embedder = models.pack.embedder(&models.runtime, &options)?;
    let spec = &models.pack.manifest().embedder;
    let side = AlignedFace::SIDE as usize;
    let images: Vec<AlignedFace> = aligned
        .iter()
        .cycle()
        .take(batch)
        .flat_map(|f| [f.clone(), f.mirrored()])
        .take(rows(spec.flip, batch))
        .collect();
    let rows_per_run = spec.max_rows.clamp(1, images.len());
    let mut input = Vec::new();
    images.iter().take(rows_per_run).for_each(|face| embedder.preprocess(face, &mut input));
    let runs_per_batch = images.len().div_ceil(rows_per_run);
    let mut opened = Vec::new();
    for _ in 0..sessions {
        opened.push(models.pack.recognition_model(&models.runtime, &options)?);
    }
    let next = AtomicUsize::new(0);
    let started = Instant::now();
    std::thread::scope(|scope| {
        let threads: Vec<_> = opened
            .iter_mut()
            .map(|model| {
                let (next, input) = (&next, &input);
                scope.spawn(move || {
                    while next.fetch_add(batch, Ordering::Relaxed) < faces {
                        for _ in 0..runs_per_batch {
                            model.run([rows_per_run, 3, side, side], input)?;
                        }
                    }
                    anyhow::Ok(())
                })
            })
            .collect();
        threads.into_iter().try_for_each(|t| t.join().map_err(|_| anyhow!("the bare loop panicked"))?)
    })?;
    Ok(per_second(faces, started.elapsed()))
}

fn rows(flip: bool, batch: usize) -> usize {
    if flip { batch * 2 } else { batch }
}
