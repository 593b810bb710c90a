//! Which messages of a collection are erased: what persons and images have in common. Pure.

use std::sync::Arc;

use async_nats::HeaderMap;
use bytes::Bytes;
use facewire_contracts::{subjects, v1};
use facewire_domain::{CollectionId, ImageHash, PersonId, Stage, SubjectId};
use time::OffsetDateTime;

use super::images::{Images, Which};
use super::named::{Named, Work};

/// Which messages of a collection are erased.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MessageSelection {
    /// What names one of these persons, by their id or by their external id.
    Persons {
        /// Their ids.
        persons: Vec<PersonId>,
        /// Their external ids.
        subjects: Vec<SubjectId>,
    },
    /// This image while it waits, and what was made of it. Of an image there is nothing in results and events.
    Image(ImageHash),
    /// The same of the images to which the producer gave this id.
    Asset(String),
    /// The same of all images that were received before then.
    Before(OffsetDateTime),
}

/// The selection, ready to look at messages. Cloning shares it.
#[derive(Clone)]
pub(super) struct Selected {
    collection: CollectionId,
    by: Arc<By>,
}

enum By {
    Persons(Named),
    Images(Images),
}

impl Selected {
    pub(super) fn new(collection: &CollectionId, selection: &MessageSelection) -> Self {
        let images = |which| By::Images(Images::new(collection, which));
        let by = match selection {
            MessageSelection::Persons { persons, subjects } => By::Persons(Named::new(collection, persons, subjects)),
            MessageSelection::Image(hash) => images(Which::Hash(*hash)),
            MessageSelection::Asset(asset) => images(Which::Asset(asset.clone())),
            MessageSelection::Before(before) => images(Which::Before(*before)),
        };
        Self { collection: collection.clone(), by: Arc::new(by) }
    }

    /// Everything of the collection.
    pub(super) fn all(collection: &CollectionId) -> Self {
        let by = Arc::new(By::Images(Images::new(collection, Which::All)));
        Self { collection: collection.clone(), by }
    }

    /// The persons, where it is by them.
    pub(super) fn named(&self) -> Option<&Named> {
        match &*self.by {
            By::Persons(named) => Some(named),
            By::Images(_) => None,
        }
    }

    /// Where messages of the collection lie in a stage's stream.
    pub(super) fn filter(&self, stage: Stage) -> String {
        work_filter(stage, &self.collection)
    }

    /// Whether a crop that was not admitted yet is selected. May hash the image.
    pub(super) fn crop(&self, headers: &HeaderMap, at: OffsetDateTime, image: &[u8]) -> bool {
        match &*self.by {
            By::Persons(named) => named.crop(headers),
            By::Images(images) => images.crop(headers, at, image),
        }
    }

    /// Whether the message of a stage behind ingest is selected.
    pub(super) fn work(&self, stage: Stage, payload: &Bytes) -> Work {
        match &*self.by {
            By::Persons(named) => named.work(stage, payload),
            By::Images(images) => images.work(stage, payload),
        }
    }

    /// Whether a dead letter is selected. May hash the image.
    pub(super) fn letter(&self, stage: Stage, letter: &v1::DeadLetter) -> bool {
        match &*self.by {
            By::Persons(named) => named.letter(stage, letter),
            By::Images(images) => images.letter(stage, letter),
        }
    }
}

/// Where messages of a collection lie in a stage's stream.
pub(super) fn work_filter(stage: Stage, collection: &CollectionId) -> String {
    match stage {
        Stage::Ingest => format!("crops.{collection}.*"),
        behind => subjects::stage(behind, collection.as_str()),
    }
}
