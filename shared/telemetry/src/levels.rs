//! Levels that somebody reads elsewhere, kept for whoever asks for metrics: what was read last, while it is fresh. What
//! nobody can read has no value: a 0, or a number of an hour ago, would be taken for the truth. Nothing is read here.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What was read longer ago is told no more. Levels are read every few seconds.
const FRESH: Duration = Duration::from_secs(60);

/// The last level of each key.
#[derive(Debug)]
pub(crate) struct Levels<K, V> {
    read: Mutex<HashMap<K, (V, Instant)>>,
}

impl<K, V> Default for Levels<K, V> {
    fn default() -> Self {
        Self { read: Mutex::default() }
    }
}

impl<K: Copy + Eq + Hash, V: Copy> Levels<K, V> {
    /// Keeps what was just read; `None`: it could not be read.
    pub(crate) fn set(&self, key: K, level: Option<V>) {
        self.set_at(Instant::now(), key, level);
    }

    /// Every level that is fresh.
    pub(crate) fn fresh(&self) -> Vec<(K, V)> {
        self.fresh_at(Instant::now())
    }

    fn set_at(&self, now: Instant, key: K, level: Option<V>) {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        match level {
            Some(level) => read.insert(key, (level, now)),
            None => read.remove(&key),
        };
    }

    fn fresh_at(&self, now: Instant) -> Vec<(K, V)> {
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = read.iter().filter(|(_, (_, at))| now.saturating_duration_since(*at) < FRESH);
        fresh.map(|(key, (level, _))| (*key, *level)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_read_lately_has_no_value() {
        let (levels, start) = (Levels::default(), Instant::now());
        levels.set_at(start, "a", Some(1));
        levels.set_at(start, "b", Some(2));
        levels.set_at(start + FRESH / 2, "a", Some(0));
        let mut fresh = levels.fresh_at(start + FRESH / 2);
        fresh.sort_unstable();
        assert_eq!(fresh, [("a", 0), ("b", 2)], "0 is a value");
        assert_eq!(levels.fresh_at(start + FRESH), [("a", 0)]);
        levels.set_at(start + FRESH, "a", None);
        assert!(levels.fresh_at(start + FRESH).is_empty());
    }
}
