//! `bench pipeline`: crops a second from the producer's publish to the last result, against the same decode-to-embedding
//! work on the same pictures in a bare loop on all cores.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use bytes::Bytes;
use facewire_bus::{Bus, Options};
use facewire_quality::{Unjudged, judge};
use facewire_runtime::Shutdown;
use futures_util::{StreamExt, TryStreamExt, stream};
use time::OffsetDateTime;

use super::memory::{self, Memory};
use super::{Measurement, cores, per_second, stack};
use crate::commands::producer::Target;
use crate::commands::{demo, progress};
use crate::compose::{Chain, Service};
use crate::config::Config;
use crate::models::{self, Loaded};

/// Publishes that wait for their PubAck at a time.
const IN_FLIGHT: usize = 64;
/// Without a result for this long, something is wrong.
const STALLED: Duration = Duration::from_secs(60);

pub(super) async fn run(mut config: Config, crops: usize, shutdown: Shutdown) -> anyhow::Result<Measurement> {
    let report = progress::fetching(false);
    let models = models::load(&config.models, report.clone()).await?;
    let pictures = demo::sample_pictures(&models, report.clone()).await?;
    let bare = bare_loop(&config, &models, &pictures, crops).await?;
    memory::forget_peak();
    let (mut local, _directory) = stack(&mut config, &shutdown).await?;
    local.start_services(&config, Service::all(), Some(Chain::from(&models)), report);
    let measured = local.beside(through_the_chain(&config.nats, &pictures, crops)).await;
    let stopped = local.stop().await;
    let (elapsed, memory) = measured?;
    stopped?;
    let limit_is = format!("the same work in a bare loop on {} threads", cores());
    let (value, limit) = (per_second(crops, elapsed), per_second(crops, bare));
    let measurement = Measurement::new("pipeline", "crops/s", crops, value, limit, limit_is);
    Ok(Measurement { memory: Some(memory), ..measurement })
}

/// Decode, find, align, judge, embed; no queue, no store.
async fn bare_loop(config: &Config, models: &Loaded, pictures: &[Bytes], crops: usize) -> anyhow::Result<Duration> {
    let (models, pictures, rules) = (models.clone(), pictures.to_vec(), config.quality.rules());
    tokio::task::spawn_blocking(move || {
        let mut sessions = Vec::new();
        for _ in 0..cores() {
            sessions.push((
                models.pack.finder(&models.runtime, &models.session)?,
                models.pack.embedder(&models.runtime, &models.session)?,
            ));
        }
        let next = AtomicUsize::new(0);
        let started = Instant::now();
        std::thread::scope(|scope| {
            let threads: Vec<_> = sessions
                .iter_mut()
                .map(|(finder, embedder)| {
                    let (next, pictures, rules) = (&next, &pictures, &rules);
                    scope.spawn(move || {
                        while let Some(index) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|i| *i < crops) {
                            let Some(picture) = pictures.get(index % pictures.len()) else { continue };
                            match judge(finder, rules, "bench", false, picture) {
                                Ok(faces) => {
                                    let passed = faces.into_iter().filter(|face| face.refusal.is_none());
                                    let faces: Vec<_> = passed.map(|face| face.aligned).collect();
                                    embedder.embed(&faces)?;
                                }
                                Err(Unjudged::Rejected(_)) => {}
                                Err(Unjudged::Inference(error)) => return Err(anyhow::Error::from(error)),
                            }
                        }
                        Ok(())
                    })
                })
                .collect();
            threads.into_iter().try_for_each(|t| t.join().map_err(|_| anyhow!("the bare loop panicked"))?)
        })?;
        Ok(started.elapsed())
    })
    .await?
}

/// Publishes every crop as an outside producer and waits for as many results.
pub(super) async fn through_the_chain(
    options: &Options,
    pictures: &[Bytes],
    crops: usize,
) -> anyhow::Result<(Duration, Memory)> {
    let producer = Bus::connect(options, "facewire-bench producer").await?;
    producer.ensure_streams().await?;
    let mut results = producer.results("results.bench.*", true).await?;
    let target = Target::new("bench".parse()?, "bench".parse()?, Vec::new())?;
    let base = OffsetDateTime::now_utc();
    // Sessions are opened before the bare loop's clock starts; so are the services'. One crop a thread proves it.
    let warm = 2 * super::cores();
    for index in 0..warm {
        let image = pictures.get(index % pictures.len().max(1)).cloned().unwrap_or_default();
        producer.publish(target.crop(image, base - Duration::from_secs(1 + index as u64))?.message).await?;
    }
    for _ in 0..warm {
        tokio::time::timeout(STALLED, results.next()).await.context("the services do not start")??;
    }
    let bar = progress::bar(crops as u64, "bench");
    let started = Instant::now();
    let publishing = stream::iter(0..crops).map(anyhow::Ok).try_for_each_concurrent(IN_FLIGHT, |index| {
        let image = pictures.get(index % pictures.len().max(1)).cloned().unwrap_or_default();
        // Each a crop of its own, though the pictures repeat.
        let crop = target.crop(image, base + Duration::from_micros(index as u64));
        let producer = &producer;
        async move { producer.publish(crop?.message).await.map(|_| ()).map_err(Into::into) }
    });
    let collecting = async {
        let mut memory = Memory::default();
        for number in 0..crops {
            let next = tokio::time::timeout(STALLED, results.next());
            next.await.with_context(|| format!("no result for {STALLED:?}, after {number} of {crops}"))??;
            bar.inc(1);
            if number == crops / 4 {
                memory.quarter_mib = memory::now_mib();
            }
        }
        memory.end_mib = memory::now_mib();
        memory.peak_mib = memory::peak_mib();
        anyhow::Ok((started.elapsed(), memory))
    };
    let ((), measured) = tokio::try_join!(publishing, collecting)?;
    bar.finish_and_clear();
    Ok(measured)
}
