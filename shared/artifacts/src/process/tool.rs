//! Programs that run to their end (pip, npm, initdb, createdb), with what they say kept for an error.

use std::fs::File;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::{Ended, Process, last_lines};
use crate::offload::Cancel;

/// How a program ended.
pub struct ToolRun {
    /// Its status.
    pub ended: Ended,
    /// The last lines of both its outputs.
    pub tail: String,
}

/// Runs a program to its end. Its outputs go to the file `talk`; `tick` runs a few times a second; a set `cancel` kills
/// it and all that it started.
///
/// # Errors
/// The program did not start, or `cancel` was set (`Interrupted`).
pub fn run_tool(mut command: Command, talk: &Path, cancel: &Cancel, mut tick: impl FnMut()) -> io::Result<ToolRun> {
    let out = File::create(talk)?;
    command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
    let process = Process::start(command, Signal::SIGKILL)?;
    while !process.wait(Duration::from_millis(100)) {
        tick();
        if cancel.is_set() {
            process.signal_group(Signal::SIGKILL);
            process.wait(Duration::from_secs(5));
            return Err(io::ErrorKind::Interrupted.into());
        }
    }
    let ended = process.status().ok_or_else(|| io::Error::other("a reaped program has no status"))?;
    let tail = last_lines(&String::from_utf8_lossy(&std::fs::read(talk)?));
    Ok(ToolRun { ended, tail })
}
