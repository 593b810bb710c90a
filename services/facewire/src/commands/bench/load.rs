//! An outside producer that keeps a chain busy, and counts what came of its crops.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use facewire_bus::{Bus, Options, Results};
use facewire_domain::Status;
use futures_util::{StreamExt, TryStreamExt, stream};
use time::OffsetDateTime;
use tokio::sync::Semaphore;

use super::{cores, memory};
use crate::commands::producer::Target;
use crate::commands::progress;

/// Publishes that wait for their PubAck at a time.
const IN_FLIGHT: usize = 64;
/// Crops a core before the clock starts.
const WARM: usize = 2;
/// Without a result for this long, something is wrong.
const STALLED: Duration = Duration::from_secs(60);

/// The collection and camera of every bench.
pub(super) const PLACE: &str = "bench";

/// Endings by status and reason, of the timed crops.
pub(super) type Statuses = BTreeMap<String, u64>;

/// An outside producer, and who waits for its results.
pub(super) struct Load {
    producer: Bus,
    results: Results,
    target: Target,
    pictures: Vec<Bytes>,
    /// Crops that may be on their way.
    pub(super) window: usize,
    /// No two crops are the same crop, though the pictures repeat: each has a time of its own.
    next: OffsetDateTime,
    pub(super) memory: memory::Meter,
    pub(super) statuses: Statuses,
}

impl Load {
    /// Connects, and waits until the services are warm: their sessions are open before a clock starts, as the bare loop's
    /// are.
    pub(super) async fn start(options: &Options, pictures: &[Bytes], window: usize) -> anyhow::Result<Self> {
        let producer = Bus::connect(options, "facewire-bench producer").await?;
        let results = producer.results(&format!("results.{PLACE}.{PLACE}"), false).await?;
        let target = Target::new(PLACE.parse()?, PLACE.parse()?, Vec::new())?;
        let (pictures, next) = (pictures.to_vec(), OffsetDateTime::now_utc());
        let (memory, statuses) = Default::default();
        let mut load = Self { producer, results, target, pictures, window, next, memory, statuses };
        load.send(WARM * cores(), 0).await.context("the services do not start")?;
        load.statuses.clear();
        Ok(load)
    }

    /// Publishes crops, waits for as many results and says how long they took; `margin` more come before and after, which
    /// are not timed. The memory is that of these times alone.
    ///
    /// # Errors
    /// Crops that failed: they did not come through the whole chain, and how long they took says nothing of it.
    pub(super) async fn run(&mut self, crops: usize, margin: usize) -> anyhow::Result<Duration> {
        self.memory.begin();
        let elapsed = self.send(crops, margin).await?;
        self.memory.pause();
        none_failed(&self.statuses)?;
        Ok(elapsed)
    }

    async fn send(&mut self, timed: usize, margin: usize) -> anyhow::Result<Duration> {
        let crops = margin + timed + margin;
        let Self { producer, results, target, pictures, window, next, memory, statuses } = self;
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
                let event =
                    next.await.with_context(|| format!("no result for {STALLED:?}, before {number} of {crops}"))??;
                let result = event.result.context("a result cannot be read")?;
                if number > margin && number <= margin + timed {
                    let reason = result.failure_reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
                    *statuses.entry(format!("{}{reason}", result.status)).or_default() += 1;
                }
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

fn none_failed(statuses: &Statuses) -> anyhow::Result<()> {
    let failed = statuses.iter().filter(|(status, _)| status.starts_with(Status::Failed.as_str()));
    let failed: Vec<String> = failed.map(|(status, count)| format!("{count} {status}")).collect();
    anyhow::ensure!(failed.is_empty(), "crops did not come through the chain: {}", failed.join(", "));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crops_that_failed_are_no_measurement() {
        let mut statuses = Statuses::from([("matched".to_owned(), 3), ("rejected (low_quality)".to_owned(), 1)]);
        assert!(none_failed(&statuses).is_ok());
        statuses.insert("failed (internal)".to_owned(), 2);
        assert!(none_failed(&statuses).unwrap_err().to_string().contains("2 failed (internal)"));
    }
}
