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
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The name in parentheses may hold anything; what counts stands behind it, utime and stime as the 12th and 13th.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let ticks = |index: usize| fields.get(index)?.parse::<u32>().ok();
    // Linux tells times in hundredths of a second (USER_HZ), whatever the kernel's own clock is.
    Some((f64::from(ticks(11)?) + f64::from(ticks(12)?)) / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

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
