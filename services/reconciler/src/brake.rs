//! Against emptying the index by mistake: a Postgres that was restored from an old backup, an empty one, a wrong pack in the
//! configuration all look like an index full of faces that have to go. Pure.

use serde::{Deserialize, Serialize};

/// When removals are held back until somebody allows them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Brake {
    /// So many removals in one pass are always allowed, as long as there are rows at all.
    pub free: u64,
    /// More than that are allowed up to this part of the points that were compared, 0 to 1.
    pub part: f64,
}

impl Default for Brake {
    fn default() -> Self {
        Self { free: 100, part: 0.1 }
    }
}

impl Brake {
    /// Whether `removals` of `points` have to wait, where `rows` were found in Postgres.
    pub fn holds(&self, removals: u64, points: u64, rows: u64) -> bool {
        #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
        let many = removals > self.free && removals as f64 > self.part * points as f64;
        removals > 0 && (rows == 0 || many)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_postgres_removes_nothing() {
        let brake = Brake::default();
        assert!(brake.holds(1, 1, 0) && brake.holds(5, 1_000_000, 0));
        assert!(!brake.holds(0, 0, 0));
    }

    #[test]
    fn a_few_are_free_and_many_only_as_a_small_part() {
        let brake = Brake::default();
        assert!(!brake.holds(100, 100, 1));
        assert!(brake.holds(101, 1000, 900));
        assert!(!brake.holds(101, 1010, 900));
        assert!(!brake.holds(10_000, 1_000_000, 990_000));
        assert!(brake.holds(200_000, 1_000_000, 800_000));
    }
}
