//! What a plan sees while it runs: messages unacked at each stage, and the memory of each process. What it must see is the
//! plan's affair.

use std::collections::BTreeMap;
use std::time::Duration;

use facewire_bus::{Bus, StageLag};
use facewire_contracts::subjects;
use facewire_domain::Stage;
use serde::Serialize;
use tokio::time::{Instant, interval, sleep};

use crate::check;
use crate::world::{TIMEOUT, World};

/// Between two looks at the streams and the processes.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// The chain stands when its counts are the same for so many looks.
const STANDS: u32 = 15;

/// A process may grow by a tenth and this much: an allocator's pools, page by page. The crops that wait are many times more.
const SLACK_KIB: u64 = 8 << 10;

/// What one stage held.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Held {
    pub(crate) bound: u64,
    /// Most messages unacked at once: while nothing came through, and over the whole plan.
    pub(crate) most_blocked: u64,
    pub(crate) most: u64,
    /// Most bytes in its stream.
    pub(crate) most_bytes: u64,
    /// Deliveries beyond the first of each message.
    pub(crate) extra_deliveries: u64,
}

/// Resident memory of one process, in KiB.
#[derive(Debug, Default, Clone, Serialize)]
pub(crate) struct Memory {
    /// When a quarter of the crops waited and the chain stood.
    pub(crate) quarter: u64,
    /// When all of them had waited.
    pub(crate) end: u64,
    pub(crate) most: u64,
}

impl Memory {
    pub(crate) fn flat(&self) -> bool {
        self.end <= self.quarter + self.quarter / 10 + SLACK_KIB
    }
}

/// What was seen so far.
pub(crate) struct Watch {
    pub(crate) stages: BTreeMap<Stage, Held>,
    pub(crate) memory: BTreeMap<&'static str, Memory>,
    blocked: bool,
}

impl Watch {
    pub(crate) fn new(bounds: BTreeMap<Stage, u64>) -> Self {
        let stages = bounds.into_iter().map(|(stage, bound)| (stage, Held { bound, ..Held::default() })).collect();
        Self { stages, memory: BTreeMap::new(), blocked: true }
    }

    async fn look(&mut self, world: &mut World, bus: &Bus) -> anyhow::Result<Vec<StageLag>> {
        world.fleet.tend()?;
        let lags = bus.lags().await?;
        for lag in &lags {
            let held = self.stages.entry(lag.stage).or_default();
            held.most = held.most.max(lag.ack_pending);
            held.most_bytes = held.most_bytes.max(lag.bytes);
            held.extra_deliveries = lag.extra_deliveries;
            if self.blocked {
                held.most_blocked = held.most;
            }
        }
        for (name, now) in world.fleet.memory() {
            let memory = self.memory.entry(name).or_default();
            memory.most = memory.most.max(now);
        }
        Ok(lags)
    }

    /// Looks again and again while something is done.
    pub(crate) async fn during(
        &mut self,
        world: &mut World,
        bus: &Bus,
        done: impl Future<Output = anyhow::Result<()>>,
    ) -> anyhow::Result<()> {
        let mut looks = interval(POLL_INTERVAL);
        tokio::pin!(done);
        loop {
            tokio::select! {
                done = &mut done => return done,
                _ = looks.tick() => drop(self.look(world, bus).await?),
            }
        }
    }

    /// Waits until nothing moves any more: every stage before `embed-gpu` is full, or has nothing to do.
    pub(crate) async fn stands(&mut self, world: &mut World, bus: &Bus) -> anyhow::Result<Vec<StageLag>> {
        let began = Instant::now();
        let (mut before, mut looks) = (Vec::new(), 0);
        loop {
            let lags = self.look(world, bus).await?;
            let counts: Vec<_> = lags.iter().map(|lag| (lag.pending, lag.ack_pending)).collect();
            looks = if counts == before { looks + 1 } else { 0 };
            before = counts;
            let taken = lags.iter().any(|lag| lag.stage == Stage::Embed && lag.pending > 0);
            if looks >= STANDS && taken {
                return Ok(lags);
            }
            anyhow::ensure!(began.elapsed() < TIMEOUT * 4, "the chain does not come to a stand: {lags:?}");
            sleep(POLL_INTERVAL).await;
        }
    }

    pub(crate) fn quarter(&mut self, world: &World) {
        for (name, now) in world.fleet.memory() {
            self.memory.entry(name).or_default().quarter = now;
        }
    }

    pub(crate) fn end(&mut self, world: &World) {
        for (name, now) in world.fleet.memory() {
            self.memory.entry(name).or_default().end = now;
        }
        self.blocked = false;
    }

    /// Waits for so many endings. `embed-gpu` was not there before, and its memory is not judged.
    pub(crate) async fn ended(&mut self, world: &mut World, bus: &Bus, due: u64) -> anyhow::Result<()> {
        let mut last = (0, Instant::now());
        loop {
            self.look(world, bus).await?;
            self.memory.remove("embed-gpu");
            let ended = bus.stream_messages(subjects::RESULTS).await?;
            if ended >= due {
                return Ok(());
            }
            if ended > last.0 {
                last = (ended, Instant::now());
            }
            anyhow::ensure!(last.1.elapsed() < TIMEOUT, "no new ending for {TIMEOUT:?}, after {} of {due}", last.0);
            sleep(POLL_INTERVAL).await;
        }
    }

    /// Waits until the stages are empty, all of them or all but the first.
    pub(crate) async fn drained(&mut self, world: &mut World, bus: &Bus, but_crops: bool) -> anyhow::Result<()> {
        let done = |lag: &StageLag| {
            let pending = if but_crops && lag.stage == Stage::Ingest { 0 } else { lag.pending };
            pending == 0 && lag.ack_pending == 0
        };
        let mut moved = (0, Instant::now());
        while !self.look(world, bus).await?.iter().all(done) {
            let ended = bus.stream_messages(subjects::RESULTS).await?;
            if ended > moved.0 {
                moved = (ended, Instant::now());
            }
            anyhow::ensure!(moved.1.elapsed() < check::SILENCE, "what was taken does not come to its end");
            sleep(POLL_INTERVAL).await;
        }
        self.memory.remove("embed-gpu");
        Ok(())
    }
}
