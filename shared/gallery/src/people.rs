//! Faces change hands: merged, reassigned, split. Postgres decides; the points of the faces that moved follow, and
//! where a crash comes in between, the reconciler writes them.

use facewire_domain::{CollectionId, FaceId, PersonId, SubjectId};
use facewire_store_pg::Split;

use crate::{Gallery, GalleryError};

/// Faces whose points are written at a time.
const BATCH: usize = 256;

/// What a merge or a reassignment did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// The faces' person now; `None`: nobody.
    pub to: Option<PersonId>,
    /// How many faces.
    pub faces: u64,
}

impl Gallery {
    /// Makes `into` the person of all faces of `from`; old ids lead there. `None`, and nothing is changed, unless both are
    /// persons of one collection, differ, and are not merged themselves.
    ///
    /// # Errors
    /// Of either store.
    pub async fn merge(&self, from: PersonId, into: PersonId) -> Result<Option<Moved>, GalleryError> {
        if !self.store.merge_persons(from, into).await? {
            return Ok(None);
        }
        let (mut moved, mut after): (u64, Option<FaceId>) = (0, None);
        loop {
            let faces = self.store.pending_of(into, after, BATCH as u32).await?;
            let Some(last) = faces.last() else { return Ok(Some(Moved { to: Some(into), faces: moved })) };
            after = Some(*last);
            moved += self.index_again(&faces).await?;
        }
    }

    /// Gives faces to a person, or to nobody. `by`: the user or job that does it. `None` where the collection has no such
    /// person.
    ///
    /// # Errors
    /// Of either store.
    pub async fn reassign(
        &self,
        collection: &CollectionId,
        faces: &[FaceId],
        to: Option<PersonId>,
        by: &str,
    ) -> Result<Option<Moved>, GalleryError> {
        let Some(moved) = self.store.assign_faces(collection, faces, to, by).await? else { return Ok(None) };
        self.index_all(&moved).await?;
        Ok(Some(Moved { to, faces: moved.len() as u64 }))
    }

    /// Makes a new person of some faces of another. `None` where none of them is that person's.
    ///
    /// # Errors
    /// Of either store; a conflict where the subject or the name is taken.
    pub async fn split(
        &self,
        collection: &CollectionId,
        from: PersonId,
        faces: &[FaceId],
        subject: &SubjectId,
        name: &str,
        by: &str,
    ) -> Result<Option<Split>, GalleryError> {
        let Some(split) = self.store.split_person(collection, from, faces, subject, name, by).await? else {
            return Ok(None);
        };
        self.index_all(&split.faces).await?;
        Ok(Some(split))
    }

    async fn index_all(&self, faces: &[FaceId]) -> Result<(), GalleryError> {
        for chunk in faces.chunks(BATCH) {
            self.index_again(chunk).await?;
        }
        Ok(())
    }
}
