//! Which galleries were seen to hold faces of nobody known, so that their searches leave those out at once. It only saves work: an
//! answer is looked through whatever is remembered.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use facewire_domain::CollectionId;

/// Galleries that are remembered; beyond it the memory starts anew.
const COLLECTIONS: usize = 4096;

#[derive(Debug, Default)]
pub(crate) struct Mixed(Mutex<HashSet<CollectionId>>);

impl Mixed {
    pub(crate) fn has(&self, collection: &CollectionId) -> bool {
        self.lock().contains(collection)
    }

    pub(crate) fn add(&self, collection: &CollectionId) {
        let mut collections = self.lock();
        if collections.len() >= COLLECTIONS {
            collections.clear();
        }
        collections.insert(collection.clone());
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<CollectionId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
