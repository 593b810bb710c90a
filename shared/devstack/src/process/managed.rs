//! A server as a child: it can be stopped, started again on the same port and data, and made to fail for a test.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use facewire_artifacts::offload::{Cancel, offload};
use facewire_artifacts::process::{Process, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::log_tail;
use crate::error::StackError;

/// Starts the server and waits until it is ready.
type Launch = Box<dyn Fn(&Cancel) -> Result<Process, StackError> + Send + Sync>;

/// What all starts of one server have in common.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    pub(crate) name: &'static str,
    /// The signal for an orderly stop.
    pub(crate) stop: Signal,
    /// How long an orderly stop may take before the kill.
    pub(crate) grace: Duration,
    /// The signal for a handle that is dropped without a stop.
    pub(crate) on_drop: Signal,
    pub(crate) log: PathBuf,
}

/// A server of the stack that ended by itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{server} ended by itself ({status}). The end of its log {log}:\n{tail}")]
pub struct Died {
    /// `nats-server` or `postgres`.
    pub server: &'static str,
    /// Its status in words.
    pub status: String,
    /// Its log file.
    pub log: PathBuf,
    /// The log's last lines.
    pub tail: String,
}

/// The handle; clones act on the same server. Dropping the last stops it.
#[derive(Clone)]
pub(crate) struct Managed(Arc<Inner>);

struct Inner {
    spec: Spec,
    launch: Launch,
    running: Mutex<Option<Process>>,
}

impl Managed {
    /// Starts the server (blocking).
    pub(crate) fn start(
        spec: Spec,
        cancel: &Cancel,
        launch: impl Fn(&Cancel) -> Result<Process, StackError> + Send + Sync + 'static,
    ) -> Result<Self, StackError> {
        let inner = Inner { spec, launch: Box::new(launch), running: Mutex::new(None) };
        inner.launch(cancel)?;
        Ok(Self(Arc::new(inner)))
    }

    /// Stops it in order; stopping a stopped server is nothing.
    pub(crate) async fn stop(&self) -> Result<(), StackError> {
        let inner = Arc::clone(&self.0);
        offload(move |_| {
            inner.stop(inner.spec.stop, inner.spec.grace);
            Ok(())
        })
        .await
    }

    /// Starts it again on the same port and data, stopping it first if it runs.
    pub(crate) async fn restart(&self) -> Result<(), StackError> {
        let inner = Arc::clone(&self.0);
        offload(move |cancel| {
            inner.stop(inner.spec.stop, inner.spec.grace);
            inner.launch(cancel)
        })
        .await
    }

    /// `kill -9`, and waits until it is gone.
    pub(crate) async fn kill9(&self) -> Result<(), StackError> {
        let inner = Arc::clone(&self.0);
        offload(move |_| {
            let process = inner.running().take().ok_or(StackError::NotRunning { server: inner.spec.name })?;
            process.stop(Signal::SIGKILL, Duration::from_secs(10));
            Ok(())
        })
        .await
    }

    /// Freezes it and the processes it started: it holds its connections and answers nothing.
    pub(crate) fn pause(&self) -> Result<(), StackError> {
        self.0.signal_family(Signal::SIGSTOP)
    }

    /// Ends a pause.
    pub(crate) fn resume(&self) -> Result<(), StackError> {
        self.0.signal_family(Signal::SIGCONT)
    }

    /// Resolves when the process that runs now ends; never where none runs.
    pub(crate) async fn died(&self) -> Died {
        let Some(mut ended) = self.0.running().as_ref().map(Process::ended) else {
            return std::future::pending().await;
        };
        let status = match ended.wait_for(Option::is_some).await {
            Ok(ended) => ended.as_ref().map(|ended| ended.status.clone()).unwrap_or_default(),
            Err(_) => "status unknown".to_owned(),
        };
        let spec = &self.0.spec;
        Died { server: spec.name, status, log: spec.log.clone(), tail: log_tail(&spec.log) }
    }
}

impl Inner {
    fn running(&self) -> std::sync::MutexGuard<'_, Option<Process>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn launch(&self, cancel: &Cancel) -> Result<(), StackError> {
        let process = (self.launch)(cancel)?;
        *self.running() = Some(process);
        Ok(())
    }

    fn stop(&self, signal: Signal, grace: Duration) {
        // Resumed first: a frozen server takes no signal but the kill.
        let _ = self.signal_family(Signal::SIGCONT);
        if let Some(process) = self.running().take() {
            process.stop(signal, grace);
        }
    }

    fn signal_family(&self, signal: Signal) -> Result<(), StackError> {
        let running = self.running();
        let process = running.as_ref().ok_or(StackError::NotRunning { server: self.spec.name })?;
        let pid = process.pid();
        if signal == Signal::SIGSTOP {
            // The parent first: once frozen it starts and reaps no child, so the ids read next stay theirs.
            process.signal(signal);
            poll(Duration::from_secs(1), || stat_of(pid.as_raw()).is_none_or(|stat| stat.state == 'T').then_some(()));
        }
        for child in children_of(pid) {
            let _ = kill(child, signal);
        }
        if signal != Signal::SIGSTOP {
            process.signal(signal);
        }
        Ok(())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop(self.spec.on_drop, Duration::from_secs(3));
    }
}

/// The direct children of a process, from `/proc`.
fn children_of(parent: Pid) -> Vec<Pid> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| stat_of(*pid).is_some_and(|stat| stat.parent == parent.as_raw()))
        .map(Pid::from_raw)
        .collect()
}

struct Stat {
    /// `T` is stopped, `Z` is dead and not yet reaped.
    state: char,
    parent: i32,
}

fn stat_of(pid: i32) -> Option<Stat> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // `pid (name) state parent …`; the name may hold anything, a parenthesis too.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    Some(Stat { state: fields.next()?.chars().next()?, parent: fields.next()?.parse().ok()? })
}
