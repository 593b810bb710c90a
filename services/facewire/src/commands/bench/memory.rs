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

/// Forgets the peak so far. Where the kernel does not allow that, the peak is the process's whole life's.
pub(super) fn forget_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// The peak since [`forget_peak`].
pub(super) fn peak_mib() -> f64 {
    field("VmHWM:")
}

/// Resident now.
pub(super) fn now_mib() -> f64 {
    field("VmRSS:")
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
        assert!(super::now_mib() > 0.5);
        assert!(super::peak_mib() >= super::now_mib() * 0.5);
    }
}
