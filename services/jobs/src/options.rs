//! What an operator may set of the service. What a match needs is set of `match`; what a single job does stands in its
//! parameters.

use std::num::NonZeroUsize;
use std::time::Duration;

use bytesize::ByteSize;
use facewire_domain::EXEMPLARS;
use serde::{Deserialize, Serialize};

/// Longest time between two signs of life of a running job: whoever watches or cancels it waits so long.
const HEARTBEAT: Duration = Duration::from_secs(2);

/// What an operator may set of the service.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// Jobs that one instance works on at a time. Two jobs of one collection never run at once.
    pub workers: usize,
    /// Threads of one job that computes; half of the cores unless given, so that recognition keeps the others.
    pub threads: usize,
    /// Memory of one clustering or training at most. What it needs is known before it starts, and one that needs more fails.
    pub max_bytes: ByteSize,
    /// A running job that is not heard of for so long is taken over by another worker.
    #[serde(with = "facewire_config::duration")]
    pub lease: Duration,
    /// Workers that may die of a job before it fails.
    pub max_attempts: u32,
    /// How long jobs that ended are kept, and bulk changes with what their undoing needs.
    #[serde(with = "facewire_config::duration")]
    pub retain: Duration,
    /// How long an export stays in the object store, from its end: it holds biometric data. No longer than `retain`, in effect.
    #[serde(with = "facewire_config::duration")]
    pub export_retention: Duration,
    /// More faces than this are clustered over a graph of nearest neighbours from the vector index: approximate, and
    /// the result says so. Only HDBSCAN can; 500,000 at most.
    pub approximate_above: u64,
    /// Between two looks for new faces that join clusters which nobody has named yet.
    #[serde(with = "facewire_config::duration")]
    pub join_interval: Duration,
    /// Between two looks for persons whose faces changed and whose prototypes are to be chosen anew.
    #[serde(with = "facewire_config::duration")]
    pub prototypes_interval: Duration,
    /// Exemplars that are kept up to date of each person, 1 to 16.
    pub exemplars: u32,
}

impl Default for Options {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self {
            workers: 1,
            threads: (cores / 2).max(1),
            max_bytes: ByteSize::gib(1),
            lease: Duration::from_secs(30),
            max_attempts: 5,
            retain: Duration::from_secs(30 * 24 * 3600),
            export_retention: Duration::from_secs(24 * 3600),
            approximate_above: 200_000,
            join_interval: Duration::from_secs(60),
            prototypes_interval: Duration::from_secs(2),
            exemplars: EXEMPLARS,
        }
    }
}

impl Options {
    /// Between two signs of life of a running job, which also say how far it is and ask whether it was cancelled.
    pub(crate) fn heartbeat(&self) -> Duration {
        (self.lease / 3).min(HEARTBEAT)
    }

    /// Faces from which on a clustering is approximate: what the exact algorithms take bounds it.
    pub(crate) fn exact_faces(&self) -> u64 {
        self.approximate_above.min(facewire_clustering::MAX_ROWS as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_strictly() {
        let options: Options = serde_json::from_str(r#"{"lease": "3s", "max_bytes": "600MiB"}"#).unwrap();
        assert_eq!((options.heartbeat(), options.max_bytes), (Duration::from_secs(1), ByteSize::mib(600)));
        assert_eq!(Options::default().heartbeat(), HEARTBEAT);
        assert!(options.threads >= 1);
        assert!(serde_json::from_str::<Options>(r#"{"leese": "9s"}"#).is_err());
        let many = Options { approximate_above: u64::MAX, ..Options::default() };
        assert_eq!(many.exact_faces(), 500_000);
    }
}
