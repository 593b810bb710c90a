//! Forking, so that no child outlives this process however it ends. The kernel's parent-death signal does it, which
//! follows the *thread* that forked: therefore one thread forks every child and lives as long as the process.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::OnceLock;
use std::sync::mpsc::{SyncSender, sync_channel};

use nix::errno::Errno;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::getppid;

struct Job {
    command: Command,
    reply: SyncSender<io::Result<Child>>,
}

/// Starts `command` in a process group of its own (a terminal's Ctrl-C reaches us first, and we stop it in order).
/// It receives `death` when this process ends in any way, `kill -9` included.
///
/// # Errors
/// What the fork or exec said.
pub(crate) fn spawn(mut command: Command, death: Signal) -> io::Result<Child> {
    command.process_group(0);
    bind_to_us(&mut command, death);
    let (reply, answer) = sync_channel(1);
    let gone = || io::Error::other("the thread that starts processes is gone");
    spawner()?.send(Job { command, reply }).map_err(|_| gone())?;
    answer.recv().map_err(|_| gone())?
}

fn spawner() -> io::Result<SyncSender<Job>> {
    // The one global of this crate: a thread whose end would kill every child must outlive whoever asked first.
    static SPAWNER: OnceLock<SyncSender<Job>> = OnceLock::new();
    if let Some(jobs) = SPAWNER.get() {
        return Ok(jobs.clone());
    }
    let (jobs, inbox) = sync_channel::<Job>(8);
    std::thread::Builder::new().name("spawner".to_owned()).spawn(move || {
        for mut job in inbox {
            let child = job.command.spawn();
            let _ = job.reply.send(child);
        }
    })?;
    // A thread that lost this race ends at once, as nobody holds its sender, and has forked nothing.
    Ok(SPAWNER.get_or_init(|| jobs).clone())
}

#[expect(unsafe_code, reason = "the parent-death signal can only be set in the child, between fork and exec")]
fn bind_to_us(command: &mut Command, death: Signal) {
    let parent = std::process::id();
    // After the change of user that std makes first: changing credentials clears the signal.
    let bind = move || {
        set_pdeathsig(death)?;
        // We may have died between the fork and the line above; then nobody would ever send the signal.
        if u32::try_from(getppid().as_raw()) != Ok(parent) {
            return Err(io::Error::from(Errno::ESRCH));
        }
        Ok(())
    };
    // SAFETY: the closure makes two system calls and allocates nothing, so it may run in the child of a process with
    // several threads.
    unsafe {
        command.pre_exec(bind);
    }
}
