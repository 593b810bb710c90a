//! The workers of one scaled stage, as a cluster runs its pods: started, told to end by SIGTERM, and each must then end by itself
//! with status 0 within its grace period. How many there must be is the caller's affair.

use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::world::TIMEOUT;

use super::worker::{self, LISTENS, Setting};

/// A worker that does not end by itself would be killed by a cluster: so long after its grace period it is waited for here.
const SLACK: Duration = Duration::from_secs(30);

/// Between two looks whether somebody has ended.
const LOOK: Duration = Duration::from_millis(20);

struct Worker {
    number: u32,
    child: Child,
}

/// The workers of a run.
pub(super) struct Crew {
    setting: Setting,
    hired: u32,
    working: Vec<Worker>,
    /// Told to end, and when.
    draining: Vec<(Worker, Instant)>,
    /// How long each that has ended took for it.
    pub(super) drains: Vec<Duration>,
}

impl Crew {
    /// Nobody yet. All will be as `setting`, each with a number of its own.
    pub(super) fn new(setting: Setting) -> Self {
        Self { setting, hired: 0, working: Vec::new(), draining: Vec::new(), drains: Vec::new() }
    }

    /// Workers that were not told to end.
    pub(super) fn working(&self) -> usize {
        self.working.len()
    }

    /// Workers that were told to end and have not.
    pub(super) fn draining(&self) -> usize {
        self.draining.len()
    }

    /// Process ids of those who work.
    pub(super) fn processes(&self) -> Vec<u32> {
        self.working.iter().filter_map(|worker| worker.child.id()).collect()
    }

    /// Starts workers, or tells the newest to end.
    pub(super) async fn resize(&mut self, replicas: usize) -> anyhow::Result<()> {
        let mut started = Vec::new();
        while self.working.len() + started.len() < replicas {
            started.push(self.hire()?);
        }
        for mut worker in started {
            listens(&mut worker).await?;
            self.working.push(worker);
        }
        while self.working.len() > replicas {
            let Some(worker) = self.working.pop() else { break };
            let id = worker.child.id().context("a worker ended by itself")?;
            kill(Pid::from_raw(i32::try_from(id)?), Signal::SIGTERM)?;
            self.draining.push((worker, Instant::now()));
        }
        Ok(())
    }

    fn hire(&mut self) -> anyhow::Result<Worker> {
        let number = self.hired;
        self.hired += 1;
        let setting = Setting { number, ..self.setting.clone() };
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("embed-worker").args(setting.arguments());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let child = command.spawn().context("cannot start a worker")?;
        Ok(Worker { number, child })
    }

    /// Looks who has ended, and whether they may have, and in order.
    pub(super) fn tend(&mut self) -> anyhow::Result<()> {
        for Worker { number, child } in &mut self.working {
            if let Some(status) = child.try_wait()? {
                anyhow::bail!("worker {number} ended though nobody asked: {status}");
            }
        }
        let mut left = Vec::new();
        for (mut worker, told) in self.draining.drain(..) {
            let (number, took) = (worker.number, told.elapsed());
            match worker.child.try_wait()? {
                Some(status) => {
                    anyhow::ensure!(status.success(), "worker {number} did not end in order: {status}");
                    self.drains.push(took);
                }
                None => {
                    anyhow::ensure!(took < worker::grace() + SLACK, "worker {number} does not end");
                    left.push((worker, told));
                }
            }
        }
        self.draining = left;
        Ok(())
    }

    /// Tells all to end, and waits until they have.
    pub(super) async fn dismiss(&mut self) -> anyhow::Result<()> {
        self.resize(0).await?;
        while self.draining() > 0 {
            self.tend()?;
            sleep(LOOK).await;
        }
        Ok(())
    }
}

/// Waits until SIGTERM would drain it: before that, it would end it at once, as it does any process.
async fn listens(worker: &mut Worker) -> anyhow::Result<()> {
    let said = worker.child.stdout.take().context("a worker without an output")?;
    let mut line = String::new();
    timeout(TIMEOUT, BufReader::new(said).read_line(&mut line)).await.context("a worker does not start")??;
    anyhow::ensure!(line.trim_end() == LISTENS, "worker {} does not start", worker.number);
    Ok(())
}
