//! Endings whose rows are written, and the names that their results need: not of those who were erased meanwhile.

use std::collections::HashSet;

use facewire_bus::Delivery;
use facewire_domain::{CropId, FaultKind, PersonId};
use facewire_store_pg::{Ending, Finished, StoreError};
use facewire_telemetry::events;

use crate::Worker;
use crate::compose::{self, Persons};
use crate::read::Reply;

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

    /// What is told of it says who somebody is.
    pub(crate) fn names_somebody(&self) -> bool {
        self.persons().next().is_some()
    }

    /// Whose names the result and the reply need.
    fn persons(&self) -> impl Iterator<Item = PersonId> {
        let candidates = self.reply.iter().flat_map(|reply| &reply.candidates);
        compose::persons(&self.finished.row).chain(candidates.map(|candidate| candidate.person))
    }
}

impl Worker {
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
