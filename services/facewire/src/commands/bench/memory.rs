//! This process's memory, as Linux counts it. The servers of the stack are other processes, but the local Qdrant is in.

use serde::Serialize;

/// Resident memory in MiB.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct Memory {
    /// The most since the measurement began.
    pub(super) peak_mib: f64,
    /// After a quarter of the work: what it takes once everything is warm.
    pub(super) quarter_mib: f64,
    /// After all of it.
    pub(super) end_mib: f64,
}

/// Measures over one or more stretches of work; what happens between them does not count.
#[derive(Debug, Default)]
pub(super) struct Meter {
    seen: Memory,
    /// A warm-up is no stretch.
    began: bool,
}

impl Meter {
    /// A stretch begins: the peak so far is forgotten. Where the kernel does not allow that, the peak is the process's whole
    /// life's.
    pub(super) fn begin(&mut self) {
        let _ = std::fs::write("/proc/self/clear_refs", "5");
        self.began = true;
    }

    /// The first stretch's quarter is done.
    pub(super) fn after_a_quarter(&mut self) {
        if self.began && self.seen.quarter_mib == 0.0 {
            self.seen.quarter_mib = field("VmRSS:");
        }
    }

    /// A stretch is over.
    pub(super) fn pause(&mut self) {
        self.seen.end_mib = field("VmRSS:");
        self.seen.peak_mib = self.seen.peak_mib.max(field("VmHWM:"));
    }

    /// What was seen.
    pub(super) fn finish(self) -> Memory {
        self.seen
    }
}

fn field(name: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse::<f64>().ok()).unwrap_or_default() / 1024.0
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_process_has_memory() {
        let mut meter = super::Meter::default();
        meter.begin();
        meter.pause();
        let seen = meter.finish();
        assert!(seen.end_mib > 0.5);
        assert!(seen.peak_mib >= seen.end_mib * 0.5);
    }
}
