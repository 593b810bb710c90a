//! Turns of what is done one at a time for each key of a kind: a collection, an owner. What is done is elsewhere.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

/// The turns of one process.
#[derive(Debug)]
pub(crate) struct Turns<K>(Mutex<HashMap<K, Arc<Semaphore>>>);

impl<K> Default for Turns<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Clone + Eq + Hash> Turns<K> {
    /// Waits until nobody has the key's turn, and has it until the answer is dropped. Whoever came first is first. How long
    /// it waits is for the caller to bound.
    pub(crate) async fn wait(&self, key: &K) -> Result<OwnedSemaphorePermit, AcquireError> {
        self.of(key).acquire_owned().await
    }

    fn of(&self, key: &K) -> Arc<Semaphore> {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever has a turn or waits for one keeps it from being forgotten.
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        Arc::clone(turns.entry(key.clone()).or_insert_with(|| Arc::new(Semaphore::new(1))))
    }
}

#[cfg(test)]
mod tests {
    use facewire_domain::CollectionId;
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn a_collection_has_one_turn_at_a_time() {
        let turns = Turns::default();
        let [hall, office]: [CollectionId; 2] = ["hall", "office"].map(|name| name.parse().unwrap());
        let now = |collection: &CollectionId| turns.wait(collection).now_or_never().map(Result::unwrap);
        let first = now(&office).unwrap();
        assert!(now(&office).is_none());
        let other = now(&hall).unwrap();
        drop(first);
        let second = now(&office).unwrap();
        assert!(now(&office).is_none());
        drop((other, second));
        assert!(now(&hall).is_some());
        assert_eq!(turns.0.lock().unwrap().len(), 1, "turns that nobody has are forgotten");
    }
}
