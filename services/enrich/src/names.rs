//! Endings whose rows are written, and the names that their results need: not of those who were erased meanwhile.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use facewire_bus::Delivery;
use facewire_domain::{CropId, FaultKind, PersonId};
use facewire_store_pg::{Ending, Finished, StoreError};
use facewire_telemetry::events;

use crate::Worker;
use crate::compose::{self, Persons};
use crate::read::Reply;
use crate::record::Readable;

/// How long a name that was looked up may be told without looking again: shorter than an erasure takes.
const FRESH: Duration = Duration::from_millis(20);

/// Which result: crop, face, generation.
pub(crate) type Key = (CropId, u32, u32);

/// An ending whose row is written.
pub(crate) struct Recorded {
    pub(crate) delivery: Delivery,
    /// Taken when it is told.
    pub(crate) reply: Option<Reply>,
    /// The reply left.
    pub(crate) told: bool,
    pub(crate) finished: Finished,
}

impl Recorded {
    pub(crate) fn key(&self) -> Key {
        (self.finished.row.crop.crop, self.finished.row.face_index, self.finished.generation)
    }

    /// Somebody asked for a copy of a result that is not out.
    pub(crate) fn is_waited_for(&self) -> bool {
        self.reply.is_some() && !self.finished.published
    }

    /// Whose names the result and the reply need.
    fn persons(&self) -> impl Iterator<Item = PersonId> {
        persons(&self.finished.row, self.reply.as_ref())
    }
}

fn persons(row: &Ending, reply: Option<&Reply>) -> impl Iterator<Item = PersonId> {
    let candidates = reply.into_iter().flat_map(|reply| &reply.candidates);
    compose::persons(row).chain(candidates.map(|candidate| candidate.person))
}

/// Persons who were looked up beside the write of the rows that name them.
pub(crate) struct Early {
    persons: Persons,
    since: Instant,
}

impl Early {
    /// The persons, where they are all that whoever waits needs, seen a moment ago. The row may be another's ending than the one
    /// at hand, and whoever was not found is to be left out of it.
    pub(crate) fn complete(self, recorded: &[Recorded]) -> Option<Persons> {
        let is_fresh = self.since.elapsed() < FRESH;
        let mut needed = recorded.iter().filter(|recorded| recorded.is_waited_for()).flat_map(Recorded::persons);
        needed.all(|person| is_fresh && self.persons.contains_key(&person)).then_some(self.persons)
    }
}

impl Worker {
    /// Looks up who is to be named to whoever waits, once and before the rows are there: beside their write it costs no time.
    /// Where it fails [`Worker::named`] is asked.
    pub(crate) async fn early(&self, readable: &Readable) -> Option<Early> {
        let waited = readable.iter().filter(|(_, reply)| reply.is_some());
        let ids: Vec<PersonId> = waited.flat_map(|(row, reply)| persons(row, reply)).collect();
        let since = Instant::now();
        let persons = self.service.store.persons(&ids).await.ok()?;
        Some(Early { persons, since })
    }

    /// Looks up who is to be named, and leaves out persons who were erased while their rows were written: both when the rows
    /// are there. Where all of them are found, nobody is looked for again. Whoever is erased later is erased from what was
    /// published too.
    pub(crate) async fn named(&self, recorded: &mut [Recorded]) -> Result<Persons, StoreError> {
        let store = &self.service.store;
        let rows: Vec<&Ending> = recorded.iter().map(|recorded| &recorded.finished.row).collect();
        let unpublished = recorded.iter().filter(|recorded| !recorded.finished.published);
        let mut persons = self.persons(unpublished.flat_map(Recorded::persons)).await?;
        let is_there = |person: &PersonId| persons.contains_key(person);
        let erased = self.patience.wait(|| store.take_back(rows.clone(), is_there)).await?;
        recorded.iter_mut().for_each(|recorded| recorded.finished.row.forget(&erased));
        if !erased.is_empty() {
            // To take them back may have taken long: whoever was erased meanwhile is not to be named either.
            let unpublished = recorded.iter().filter(|recorded| !recorded.finished.published);
            persons = self.persons(unpublished.flat_map(Recorded::persons)).await?;
        }
        Ok(persons)
    }

    /// Looks persons up. One whose row cannot be read stays without a name, and keeps no result back.
    async fn persons(&self, ids: impl Iterator<Item = PersonId>) -> Result<Persons, StoreError> {
        let ids: HashSet<PersonId> = ids.collect();
        let ids: Vec<PersonId> = ids.into_iter().collect();
        if ids.is_empty() {
            return Ok(Persons::new());
        }
        let store = &self.service.store;
        match self.patience.wait(|| store.persons(&ids)).await {
            Err(error) if error.kind() == FaultKind::Poison => {}
            answer => return answer,
        }
        let mut persons = Persons::new();
        for id in ids {
            match self.patience.wait(|| store.persons(std::slice::from_ref(&id))).await {
                Ok(found) => persons.extend(found),
                Err(error) if error.kind() == FaultKind::Poison => {
                    events::StoreWaited { service: crate::SERVICE, store: "postgresql", failures: 0, error: &error }
                        .emit();
                }
                Err(error) => return Err(error),
            }
        }
        Ok(persons)
    }
}
