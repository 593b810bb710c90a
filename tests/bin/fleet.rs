//! The services and the vector engine as processes: started, killed, paused, and started again when they end, as whoever
//! runs a cluster would. What to strike and when is the plan's affair.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context;
use facewire_composition::Service;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

/// Every process that is ours.
pub(crate) fn names() -> Vec<&'static str> {
    ["qdrant"].into_iter().chain(Service::all().into_iter().map(Service::name)).collect()
}

/// Longest wait for the end of a process: longer than a service's grace period.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Running processes.
pub(crate) struct Fleet {
    /// Variables of every process.
    environment: Vec<(String, String)>,
    /// The vector engine's data and port.
    qdrant: (PathBuf, u16),
    running: BTreeMap<&'static str, Child>,
    /// How often a process ended that nobody had killed.
    pub(crate) gave_up: u64,
}

impl Fleet {
    pub(crate) fn new(environment: Vec<(String, String)>, qdrant: (PathBuf, u16)) -> Self {
        Self { environment, qdrant, running: BTreeMap::new(), gave_up: 0 }
    }

    /// A process of ours that is not started yet. It finds the servers, and ends when its standard input does.
    pub(crate) fn command(&self, name: &str) -> anyhow::Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("service").arg(name);
        if name == "qdrant" {
            command.arg("--dir").arg(&self.qdrant.0).arg("--port").arg(self.qdrant.1.to_string());
        }
        command.envs(self.environment.iter().map(|(key, value)| (key, value)));
        command.stdin(Stdio::piped()).stdout(Stdio::null()).kill_on_drop(true);
        Ok(command)
    }

    /// Starts what does not run.
    pub(crate) fn start(&mut self, name: &'static str) -> anyhow::Result<()> {
        let child = self.command(name)?.spawn().with_context(|| format!("cannot start {name}"))?;
        self.running.insert(name, child);
        Ok(())
    }

    pub(crate) async fn kill(&mut self, name: &'static str) -> anyhow::Result<()> {
        if let Some(mut child) = self.running.remove(name) {
            child.kill().await?;
        }
        self.start(name)
    }

    /// Kills it, and leaves it dead.
    pub(crate) async fn end(&mut self, name: &str) -> anyhow::Result<()> {
        match self.running.remove(name) {
            Some(mut child) => Ok(child.kill().await?),
            None => Ok(()),
        }
    }

    /// The process of this name, while it runs.
    pub(crate) fn id(&self, name: &str) -> Option<u32> {
        self.running.get(name).and_then(Child::id)
    }

    /// Resident memory in KiB of each process that runs.
    pub(crate) fn memory(&self) -> BTreeMap<&'static str, u64> {
        let running = self.running.iter().filter_map(|(name, child)| Some((*name, resident(child.id()?)?)));
        running.collect()
    }

    pub(crate) fn signal(&self, name: &str, signal: Signal) -> anyhow::Result<()> {
        if let Some(id) = self.id(name) {
            kill(Pid::from_raw(i32::try_from(id)?), signal)?;
        }
        Ok(())
    }

    /// Whoever ended by itself is started again, as a cluster would.
    pub(crate) fn tend(&mut self) -> anyhow::Result<()> {
        let mut ended = Vec::new();
        for (name, child) in &mut self.running {
            if child.try_wait()?.is_some() {
                ended.push(*name);
            }
        }
        for name in ended {
            self.gave_up += 1;
            self.start(name)?;
        }
        Ok(())
    }

    /// Ends one in order: its standard input closes, and it finishes what it has in hand.
    pub(crate) async fn stop_one(&mut self, name: &str) -> anyhow::Result<ExitStatus> {
        let mut child = self.running.remove(name).with_context(|| format!("{name} does not run"))?;
        drop(child.stdin.take());
        let ended = tokio::time::timeout(TIMEOUT, child.wait()).await;
        Ok(ended.with_context(|| format!("{name} does not end"))??)
    }

    /// Ends them all in order.
    pub(crate) async fn stop(&mut self) -> anyhow::Result<()> {
        let names: Vec<&'static str> = self.running.keys().rev().copied().collect();
        for name in names {
            self.stop_one(name).await?;
        }
        Ok(())
    }
}

fn resident(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_ascii_whitespace().nth(1)?.parse().ok()
}
