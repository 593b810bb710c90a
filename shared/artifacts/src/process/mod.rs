//! Child processes: started by one long-lived thread, reaped by a thread each, signalled only while they are alive.
//! What they are (pip, npm, the servers of the local stack) is the caller's knowledge.

mod spawn;
mod tool;

use std::io;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;
use tokio::sync::watch;

pub use tool::{ToolRun, run_tool};

/// How a child ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Its status in words (`exit status: 1`, `signal: 9 (SIGKILL)`).
    pub status: String,
    /// Whether that is the status of success.
    pub success: bool,
}

/// One running or ended child.
#[derive(Debug)]
pub struct Process {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    pid: Pid,
    /// `None` once reaped: after that the process id may belong to a stranger.
    child: Mutex<Option<Child>>,
    reaped: Condvar,
    ended: watch::Sender<Option<Ended>>,
}

impl Process {
    /// Starts `command`; `death` reaches it when this process ends.
    ///
    /// # Errors
    /// What the fork or exec said.
    pub fn start(command: Command, death: Signal) -> io::Result<Self> {
        let child = spawn::spawn(command, death)?;
        let pid = Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other)?);
        let shared = Arc::new(Shared {
            pid,
            child: Mutex::new(Some(child)),
            reaped: Condvar::new(),
            ended: watch::Sender::new(None),
        });
        let reaper = Arc::clone(&shared);
        std::thread::Builder::new().name("reaper".to_owned()).spawn(move || reaper.reap())?;
        Ok(Self { shared })
    }

    /// Its process id; after its end the id may belong to another process.
    pub fn pid(&self) -> Pid {
        self.shared.pid
    }

    /// Changes once, to `Some`, when the child has ended.
    pub fn ended(&self) -> watch::Receiver<Option<Ended>> {
        self.shared.ended.subscribe()
    }

    /// The status in words, once ended.
    pub fn status(&self) -> Option<Ended> {
        self.shared.ended.borrow().clone()
    }

    /// Sends a signal, if the child still lives.
    pub fn signal(&self, signal: Signal) {
        let child = self.shared.child.lock().unwrap_or_else(PoisonError::into_inner);
        if child.is_some() {
            // Not reaped while we hold the lock, so the id is still the child's. A zombie takes a signal silently.
            let _ = kill(self.shared.pid, signal);
        }
    }

    /// Sends a signal to the whole group, for children that start others.
    pub fn signal_group(&self, signal: Signal) {
        let child = self.shared.child.lock().unwrap_or_else(PoisonError::into_inner);
        if child.is_some() {
            let _ = nix::sys::signal::killpg(self.shared.pid, signal);
        }
    }

    /// Waits for the end, at most `patience`; says whether it came.
    pub fn wait(&self, patience: Duration) -> bool {
        let child = self.shared.child.lock().unwrap_or_else(PoisonError::into_inner);
        let (child, _) = self
            .shared
            .reaped
            .wait_timeout_while(child, patience, |child| child.is_some())
            .unwrap_or_else(PoisonError::into_inner);
        child.is_none()
    }

    /// Asks with `signal`, waits `grace`, then kills.
    pub fn stop(&self, signal: Signal, grace: Duration) {
        self.signal(signal);
        // A stopped (paused) process takes no other signal.
        self.signal(Signal::SIGCONT);
        if !self.wait(grace) {
            tracing::warn!(pid = self.shared.pid.as_raw(), "a child did not stop in its grace period: killing it");
            self.signal(Signal::SIGKILL);
            self.wait(Duration::from_secs(10));
        }
    }
}

impl Shared {
    fn reap(&self) {
        // WNOWAIT leaves the zombie, and with it the process id, until the lock is held.
        while waitid(Id::Pid(self.pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) == Err(Errno::EINTR) {}
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        let status = child.as_mut().map(Child::wait);
        *child = None;
        self.reaped.notify_all();
        // Still under the lock: who sees the child reaped also sees how it ended.
        self.ended.send_replace(Some(Ended::from(status)));
    }
}

impl From<Option<io::Result<ExitStatus>>> for Ended {
    fn from(status: Option<io::Result<ExitStatus>>) -> Self {
        match status {
            Some(Ok(status)) => Self { status: status.to_string(), success: status.success() },
            Some(Err(error)) => Self { status: format!("status unknown: {error}"), success: false },
            None => Self { status: "status unknown".to_owned(), success: false },
        }
    }
}

/// The last 20 lines that say something.
pub fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    lines.split_at(lines.len().saturating_sub(20)).1.join("\n")
}

/// Tries `probe` every few milliseconds until it gives something or `patience` is over.
pub fn poll<T>(patience: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        if let Some(found) = probe() {
            return Some(found);
        }
        if start.elapsed() >= patience {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
