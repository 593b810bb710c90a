//! `bench pipeline`: crops a second from the producer's publish to the last result, against the same decode-to-embedding
//! work on the same pictures in a bare loop on all cores.

use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use facewire_bus::{Bus, Options, Results};
use facewire_composition::models::{self, Loaded};
use facewire_composition::{Chain, Config, Service};
use facewire_runtime::Shutdown;
use futures_util::{StreamExt, TryStreamExt, stream};
use time::OffsetDateTime;
use tokio::sync::Semaphore;

use super::memory::{self, Memory};
use super::{Measurement, bare, cores, per_second, stack};
use crate::commands::producer::Target;
use crate::commands::{demo, progress};

/// Crops that are on their way at a time: enough to keep every stage busy. More are published as results come, so that the
/// producer's and every stage's work falls into the time that is measured.
const WINDOW: usize = 128;
/// Publishes that wait for their PubAck at a time.
const IN_FLIGHT: usize = 64;
/// How often the two sides take turns.
const TURNS: usize = 8;
/// Crops a core before the clock starts.
const WARM: usize = 2;
/// Results of a turn that come before its clock starts, and crops that are still on their way when it stops: the chain is
/// measured while it is full, not while it fills and drains. As many as the window, so that the clock starts and stops on
/// equally full stages.
const MARGIN: usize = WINDOW;
/// Without a result for this long, something is wrong.
const STALLED: Duration = Duration::from_secs(60);

pub(super) async fn run(mut config: Config, crops: usize, shutdown: Shutdown) -> anyhow::Result<Measurement> {
    let report = progress::fetching(false);
    let models = models::load(&config.models, report.clone()).await?;
    let pictures = demo::sample_pictures(&models, report.clone()).await?;
    let (mut local, _directory) = stack(&mut config, &shutdown).await?;
    local.start_services(&config, Service::all(), Some(Chain::from(&models)), report);
    let measured = local.beside(in_turns(&config, &models, &pictures, crops)).await;
    let stopped = local.stop().await;
    let (chain, bare, memory) = measured?;
    stopped?;
    let limit_is = format!("the same work in a bare loop on {} threads", cores());
    let (value, limit) = (per_second(crops, chain), per_second(crops, bare));
    let measurement = Measurement::new("pipeline", "crops/s", crops, value, limit, limit_is);
    Ok(Measurement { memory: Some(memory), ..measurement })
}

/// The chain and the bare loop take turns, so that a machine that is slower for a while is slower for both. The services
/// idle while the bare loop runs.
async fn in_turns(
    config: &Config,
    models: &Loaded,
    pictures: &[Bytes],
    crops: usize,
) -> anyhow::Result<(Duration, Duration, Memory)> {
    let mut load = Load::start(&config.nats, pictures, WINDOW).await?;
    let (mut chain, mut bare) = (Duration::ZERO, Duration::ZERO);
    for turn in 0..TURNS {
        let share = crops * (turn + 1) / TURNS - crops * turn / TURNS;
        bare += bare_loop(config, models, pictures, share).await?;
        chain += load.run(share, MARGIN).await?;
    }
    Ok((chain, bare, load.memory.finish()))
}

/// On threads of its own: it blocks.
async fn bare_loop(config: &Config, models: &Loaded, pictures: &[Bytes], crops: usize) -> anyhow::Result<Duration> {
    let (models, pictures, rules) = (models.clone(), pictures.to_vec(), config.quality.rules(models.score()));
    let work = move || bare::bare_loop(&mut bare::sessions(&models)?, &rules, &pictures, crops);
    tokio::task::spawn_blocking(work).await?
}

/// An outside producer, and who waits for its results.
pub(super) struct Load {
    producer: Bus,
    results: Results,
    target: Target,
    pictures: Vec<Bytes>,
    /// Crops that may be on their way.
    window: usize,
    /// No two crops are the same crop, though the pictures repeat: each has a time of its own.
    next: OffsetDateTime,
    pub(super) memory: memory::Meter,
}

impl Load {
    /// Connects, and waits until the services are warm: their sessions are open before a clock starts, as the bare loop's
    /// are.
    pub(super) async fn start(options: &Options, pictures: &[Bytes], window: usize) -> anyhow::Result<Self> {
        let producer = Bus::connect(options, "facewire-bench producer").await?;
        let results = producer.results("results.bench.*", true).await?;
        let target = Target::new("bench".parse()?, "bench".parse()?, Vec::new())?;
        let (pictures, next) = (pictures.to_vec(), OffsetDateTime::now_utc());
        let mut load = Self { producer, results, target, pictures, window, next, memory: memory::Meter::default() };
        load.send(WARM * cores(), 0).await.context("the services do not start")?;
        Ok(load)
    }

    /// Publishes crops, waits for as many results and says how long they took; `margin` more come before and after, which
    /// are not timed. The memory is that of these times alone.
    pub(super) async fn run(&mut self, crops: usize, margin: usize) -> anyhow::Result<Duration> {
        self.memory.begin();
        let elapsed = self.send(crops, margin).await?;
        self.memory.pause();
        Ok(elapsed)
    }

    async fn send(&mut self, timed: usize, margin: usize) -> anyhow::Result<Duration> {
        let crops = margin + timed + margin;
        let Self { producer, results, target, pictures, window, next, memory } = self;
        let base = *next;
        *next += Duration::from_micros(crops as u64);
        let bar = progress::bar(crops as u64, "bench");
        let room = Semaphore::new(*window);
        let mut started = Instant::now();
        let publishing = stream::iter(0..crops).map(anyhow::Ok).try_for_each_concurrent(IN_FLIGHT, |index| {
            let image = pictures.get(index % pictures.len().max(1)).cloned().unwrap_or_default();
            let crop = target.crop(image, base + Duration::from_micros(index as u64));
            let (producer, room) = (&*producer, &room);
            async move {
                room.acquire().await?.forget();
                producer.publish(crop?.message).await.map(|_| ()).map_err(Into::into)
            }
        });
        let collecting = async {
            let mut elapsed = Duration::ZERO;
            for number in 1..=crops {
                let next = tokio::time::timeout(STALLED, results.next());
                next.await.with_context(|| format!("no result for {STALLED:?}, before {number} of {crops}"))??;
                room.add_permits(1);
                bar.inc(1);
                if number == margin {
                    started = Instant::now();
                }
                if number == margin + timed {
                    elapsed = started.elapsed();
                }
                if number == crops / 4 {
                    memory.after_a_quarter();
                }
            }
            anyhow::Ok(elapsed)
        };
        let ((), elapsed) = tokio::try_join!(publishing, collecting)?;
        bar.finish_and_clear();
        Ok(elapsed)
    }
}
