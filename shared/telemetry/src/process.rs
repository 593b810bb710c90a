//! What the process itself uses: memory and CPU, read from the kernel when metrics are collected.

use std::fs;

/// Resident memory in bytes; `None` where the kernel does not say.
pub(crate) fn resident() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    Some(line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok()?.saturating_mul(1024))
}

/// CPU time of all threads in seconds, user and system.
pub(crate) fn cpu_seconds() -> Option<f64> {
    seconds_in(&fs::read_to_string("/proc/self/stat").ok()?)
}

/// User and system time in a line of `/proc/<pid>/stat`.
fn seconds_in(stat: &str) -> Option<f64> {
    // The name in parentheses may hold anything; what counts stands behind it, utime and stime as the 12th and 13th.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    // A process on many cores passes 32 bits of ticks within weeks.
    let ticks = |index: usize| fields.get(index)?.parse::<u64>().ok();
    let ticks = ticks(11)?.saturating_add(ticks(12)?);
    // Linux tells times in hundredths of a second (USER_HZ), whatever the kernel's own clock is.
    #[expect(clippy::cast_precision_loss, reason = "2^53 hundredths of a second are three million years")]
    let seconds = ticks as f64 / 100.0;
    Some(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_ran_for_years_is_still_counted() {
        // More ticks than 32 bits hold, and a name that holds what else ends the name.
        let stat = "42 (face) wire) S 1 42 42 0 -1 4194560 9 0 0 0 6000000000 150 0 0 20 0 8 0 1 1 1";
        assert_eq!(seconds_in(stat), Some(60_000_001.5));
        assert_eq!(seconds_in("42 (facewire) S 1 42"), None);
    }

    #[test]
    fn this_process_uses_something() {
        assert!(resident().unwrap() > 100_000);
        // Time passes while it works; a spin is enough to be seen at a hundredth of a second.
        let before = cpu_seconds().unwrap();
        let mut x = 1_u64;
        while cpu_seconds().unwrap() <= before {
            x = std::hint::black_box(x.wrapping_mul(6_364_136_223_846_793_005));
        }
    }
}
