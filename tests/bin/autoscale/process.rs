//! How much processor time processes and threads used, as Linux counts it.

use std::fs;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Of all threads of a process in seconds, user and system; `None`: it is gone.
pub(crate) fn cpu_seconds(process: u32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name in parentheses may hold anything; what counts stands behind it, utime and stime as the 12th and 13th.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let ticks = |index: usize| fields.get(index)?.parse::<u32>().ok();
    // Linux tells times in hundredths of a second (USER_HZ), whatever the kernel's own clock is.
    Some((f64::from(ticks(11)?) + f64::from(ticks(12)?)) / 100.0)
}

/// Of the calling thread, to the nanosecond.
pub(super) fn thread_seconds() -> anyhow::Result<f64> {
    Ok(Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?).as_secs_f64())
}

/// The processes of this name that this process started.
pub(super) fn children(name: &str) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let processes = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let ours = |process: &u32| {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        let begins = format!("{process} ({name}) ");
        // Behind the name: the state, then the parent.
        let parent = stat.strip_prefix(&begins).and_then(|rest| rest.split(' ').nth(1)?.parse().ok());
        parent == Some(std::process::id())
    };
    processes.filter(ours).collect()
}
