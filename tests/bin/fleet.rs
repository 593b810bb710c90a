//! The services and the vector engine as processes: started, killed, paused, and started again when they end, as whoever
//! runs a cluster would. What to strike and when is the plan's affair.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::Context;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

/// Every process that is ours.
pub(crate) const NAMES: [&str; 7] = ["qdrant", "ingest", "quality", "embed-gpu", "match", "enrich", "reconciler"];

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

    /// Starts what does not run.
    pub(crate) fn start(&mut self, name: &'static str) -> anyhow::Result<()> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("service").arg(name);
        if name == "qdrant" {
            command.arg("--dir").arg(&self.qdrant.0).arg("--port").arg(self.qdrant.1.to_string());
        }
        command.envs(self.environment.iter().map(|(key, value)| (key, value)));
        command.stdin(Stdio::piped()).stdout(Stdio::null()).kill_on_drop(true);
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        self.running.insert(name, child);
        Ok(())
    }

    pub(crate) async fn kill(&mut self, name: &'static str) -> anyhow::Result<()> {
        if let Some(mut child) = self.running.remove(name) {
            child.kill().await?;
        }
        self.start(name)
    }

    pub(crate) fn signal(&self, name: &str, signal: Signal) -> anyhow::Result<()> {
        if let Some(id) = self.running.get(name).and_then(Child::id) {
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

    /// Ends them all in order: their standard input closes.
    pub(crate) async fn stop(&mut self) -> anyhow::Result<()> {
        for (name, mut child) in std::mem::take(&mut self.running).into_iter().rev() {
            drop(child.stdin.take());
            let ended = tokio::time::timeout(std::time::Duration::from_secs(40), child.wait()).await;
            ended.with_context(|| format!("{name} does not end"))??;
        }
        Ok(())
    }
}
