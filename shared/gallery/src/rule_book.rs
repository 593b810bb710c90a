//! What the rules follow from, remembered: how many people and faces a gallery has, and which calibrations are in force. Both are read
//! again after a while, so that what other processes write is seen; where [`RuleBook::keep_fresh`] runs, beside the probes that need
//! them. The rules themselves are in `rules`.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use facewire_domain::{Against, Calibration, CollectionId};
use facewire_store_pg::{GallerySize, StoreError};
use tokio::time::Instant;

use crate::Gallery;
use crate::rules::{RuleOptions, Rules, Stored, Unruled};

/// Age from which on a number or a calibration is read again.
const FRESH: Duration = Duration::from_secs(5);

/// Between two looks at what grows old.
const LOOK: Duration = Duration::from_secs(1);

/// A count is at least so many times as old as it took: of a gallery of millions it takes a second.
const WORTH: u32 = 20;

/// Collections whose size is remembered; beyond it the memory starts anew.
const COLLECTIONS: usize = 4096;

/// Enrolled faces since a count that make it old at once, as a part of the faces counted: so few more hardly move a
/// threshold, and a bulk enrolment need not count at every batch.
const GROWTH: u64 = 100;

/// The rules of one process, whoever asks: `match` for crops, the gateway for searches and comparisons.
#[derive(Debug)]
pub struct RuleBook {
    options: RuleOptions,
    pack: Option<Arc<Calibration>>,
    known: Known,
}

/// The memory.
#[derive(Debug, Default)]
struct Known {
    memory: Mutex<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    sizes: HashMap<CollectionId, Size>,
    stored: Option<Read>,
}

/// The calibrations in force when they were read.
#[derive(Debug)]
struct Read {
    stored: Arc<Stored>,
    at: Instant,
    /// A probe has needed them since.
    asked: bool,
}

/// The size of a gallery when it was counted.
#[derive(Debug)]
struct Size {
    counted: GallerySize,
    at: Instant,
    /// How long it counts.
    fresh: Duration,
    /// Faces that this process enrolled since it first counted the gallery, and how many of these had been when this count began.
    enrolled: u64,
    known: u64,
    /// A probe has needed it since.
    asked: bool,
}

impl Size {
    fn is_fresh(&self) -> bool {
        self.is_fresh_for(self.fresh)
    }

    fn is_fresh_for(&self, time: Duration) -> bool {
        let since = self.enrolled.saturating_sub(self.known);
        self.at.elapsed() < time && since.saturating_mul(GROWTH) <= self.counted.faces
    }
}

/// The age from which on it is worth reading again what counts for so long: early enough for the look before it is too old.
fn ageing(fresh: Duration) -> Duration {
    fresh * 3 / 4
}

impl Known {
    fn enrolled(&self, collection: &CollectionId) {
        if let Some(size) = self.lock().sizes.get_mut(collection) {
            size.enrolled = size.enrolled.saturating_add(1);
        }
    }

    /// What [`Known::counted`] is told of a count that begins now.
    fn enrolments(&self, collection: &CollectionId) -> u64 {
        self.lock().sizes.get(collection).map_or(0, |size| size.enrolled)
    }

    fn size(&self, collection: &CollectionId) -> Option<GallerySize> {
        let mut memory = self.lock();
        let size = memory.sizes.get_mut(collection).filter(|size| size.is_fresh())?;
        size.asked = true;
        Some(size.counted)
    }

    /// Collections whose size was asked for and will soon be too old.
    fn ageing_sizes(&self) -> Vec<CollectionId> {
        let old_soon = |size: &Size| size.asked && !size.is_fresh_for(ageing(size.fresh));
        self.lock().sizes.iter().filter(|(_, size)| old_soon(size)).map(|(collection, _)| collection.clone()).collect()
    }

    /// The same of the calibrations.
    fn stored_is_ageing(&self) -> bool {
        self.lock().stored.as_ref().is_some_and(|read| read.asked && read.at.elapsed() >= ageing(FRESH))
    }

    /// `known`: the enrolments when the count began. One that began before a count that is here already is of no use.
    fn counted(&self, collection: &CollectionId, counted: GallerySize, took: Duration, known: u64) {
        let mut memory = self.lock();
        if memory.sizes.len() >= COLLECTIONS {
            memory.sizes.clear();
        }
        let before = memory.sizes.get(collection);
        if before.is_some_and(|size| size.known > known) {
            return;
        }
        let (fresh, enrolled) = (FRESH.max(took * WORTH), before.map_or(known, |size| size.enrolled));
        let size = Size { counted, at: Instant::now(), fresh, enrolled, known, asked: false };
        memory.sizes.insert(collection.clone(), size);
    }

    fn stored(&self) -> Option<Arc<Stored>> {
        let mut memory = self.lock();
        let read = memory.stored.as_mut().filter(|read| read.at.elapsed() < FRESH)?;
        read.asked = true;
        Some(Arc::clone(&read.stored))
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RuleBook {
    /// `pack`: what the pack says of its similarities.
    pub fn new(options: RuleOptions, pack: Option<Calibration>) -> Self {
        Self { options, pack: pack.map(Arc::new), known: Known::default() }
    }

    /// Which faces of people a probe of this collection is compared with.
    pub fn against(&self, collection: &CollectionId) -> Against {
        self.options.against(collection)
    }

    /// This process enrolled a face.
    pub fn enrolled(&self, collection: &CollectionId) {
        self.known.enrolled(collection);
    }

    /// All that the rules of these collections follow from, at most [`FRESH`] old; the size of a large gallery may be older.
    ///
    /// # Errors
    /// Of Postgres.
    pub async fn rules<'a>(
        &'a self,
        gallery: &'a Gallery,
        collections: &[CollectionId],
    ) -> Result<Rules<'a>, StoreError> {
        let mut sizes = HashMap::new();
        for collection in collections {
            if !sizes.contains_key(collection) {
                sizes.insert(collection.clone(), self.size(gallery, collection).await?);
            }
        }
        let stored = self.stored(gallery).await?;
        Ok(Rules { options: &self.options, model: &gallery.model, pack: self.pack.as_ref(), stored, sizes })
    }

    /// Reads again what probes have asked for and what will soon be too old, so that the next of them need not wait for it: to count
    /// 2,000 people takes milliseconds. What a store does not say now, the next probe asks it for. Runs until it is dropped.
    pub async fn keep_fresh(&self, gallery: &Gallery) -> Infallible {
        loop {
            tokio::time::sleep(LOOK).await;
            for collection in self.known.ageing_sizes() {
                let _ = self.count(gallery, &collection).await;
            }
            if self.known.stored_is_ageing() {
                let _ = self.read(gallery).await;
            }
        }
    }

    /// What is wrong where no probe could be judged by more than what it asks for itself; `None`: some could.
    ///
    /// # Errors
    /// Of Postgres.
    pub async fn check(&self, gallery: &Gallery) -> Result<Option<Unruled>, StoreError> {
        if self.pack.is_some() || self.options.has_threshold() || !self.stored(gallery).await?.is_empty() {
            return Ok(None);
        }
        Ok(Some(Unruled { model: gallery.model.clone(), of: String::new() }))
    }

    async fn size(&self, gallery: &Gallery, collection: &CollectionId) -> Result<GallerySize, StoreError> {
        match self.known.size(collection) {
            Some(size) => Ok(size),
            None => self.count(gallery, collection).await,
        }
    }

    async fn count(&self, gallery: &Gallery, collection: &CollectionId) -> Result<GallerySize, StoreError> {
        let (began, known) = (Instant::now(), self.known.enrolments(collection));
        let size = gallery.store.gallery_size(collection).await?;
        self.known.counted(collection, size, began.elapsed(), known);
        Ok(size)
    }

    /// The calibrations in force for the gallery's model.
    async fn stored(&self, gallery: &Gallery) -> Result<Arc<Stored>, StoreError> {
        match self.known.stored() {
            Some(stored) => Ok(stored),
            None => self.read(gallery).await,
        }
    }

    async fn read(&self, gallery: &Gallery) -> Result<Arc<Stored>, StoreError> {
        let rows = gallery.store.calibrations_in_force(&gallery.model).await?;
        let matching = rows.into_iter().filter_map(|row| {
            let calibration = Arc::new(row.document.matching?);
            Some(((row.collection, row.camera), calibration))
        });
        let stored: Arc<Stored> = Arc::new(matching.collect());
        self.known.lock().stored = Some(Read { stored: Arc::clone(&stored), at: Instant::now(), asked: false });
        Ok(stored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_count_grows_old_by_time_and_by_own_enrolments() {
        let (known, office): (_, CollectionId) = (Known::default(), "office".parse().unwrap());
        let of = |faces| GallerySize { people: 1, faces, exemplars: 0 };
        let size = |known: &Known| known.size(&office).map(|size| size.faces);
        assert_eq!(size(&known), None);
        known.counted(&office, of(0), Duration::ZERO, known.enrolments(&office));
        assert_eq!(size(&known), Some(0));
        known.enrolled(&office);
        assert_eq!(size(&known), None, "the first face at once");
        known.counted(&office, of(300), Duration::ZERO, known.enrolments(&office));
        for _ in 0..3 {
            assert_eq!(size(&known), Some(300));
            known.enrolled(&office);
        }
        assert_eq!(size(&known), Some(300), "one in a hundred");
        known.enrolled(&office);
        assert_eq!(size(&known), None);
        let before = known.enrolments(&office);
        known.enrolled(&office);
        known.enrolled(&office);
        known.enrolled(&office);
        known.enrolled(&office);
        known.counted(&office, of(304), Duration::ZERO, before);
        assert_eq!(size(&known), None, "enrolled while it was counted");
        known.counted(&office, of(308), Duration::ZERO, known.enrolments(&office));
        known.counted(&office, of(304), Duration::ZERO, before);
        assert_eq!(size(&known), Some(308), "a count that took longer than the next one");
        tokio::time::advance(FRESH).await;
        assert_eq!(size(&known), None, "others enrol too");
        known.counted(&office, of(3_000_000), FRESH, known.enrolments(&office));
        tokio::time::advance(FRESH * (WORTH - 1)).await;
        assert_eq!(size(&known), Some(3_000_000), "what takes long is not done all the time");
        assert_eq!(known.ageing_sizes(), std::slice::from_ref(&office), "asked for, and nearly old");
        for number in 0..COLLECTIONS {
            known.counted(&format!("c{number}").parse().unwrap(), of(1), Duration::ZERO, 0);
        }
        assert!(known.lock().sizes.len() <= COLLECTIONS);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_asked_for_ages_before_it_is_old() {
        let (known, office): (_, CollectionId) = (Known::default(), "office".parse().unwrap());
        let counted = GallerySize { people: 1, faces: 300, exemplars: 0 };
        known.counted(&office, counted, Duration::ZERO, known.enrolments(&office));
        known.lock().stored = Some(Read { stored: Arc::default(), at: Instant::now(), asked: false });
        let ages = || (!known.ageing_sizes().is_empty(), known.stored_is_ageing());
        tokio::time::advance(ageing(FRESH)).await;
        assert_eq!(ages(), (false, false), "nobody has asked for them");
        assert!(known.size(&office).is_some() && known.stored().is_some());
        assert_eq!(ages(), (true, true));
        known.counted(&office, counted, Duration::ZERO, known.enrolments(&office));
        assert!(known.size(&office).is_some());
        assert_eq!(ages(), (false, true), "it is as good as new");
        for _ in 0..4 {
            known.enrolled(&office);
        }
        assert!(ages().0, "grown by more than one in a hundred");
        assert!(ageing(FRESH) + LOOK < FRESH, "a look comes in time");
    }
}
