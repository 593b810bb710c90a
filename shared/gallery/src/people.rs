//! Faces change hands: merged, unmerged, reassigned, split, removed. Postgres decides; the points of the faces that moved follow,
//! and where a crash comes in between, or the index is away, the reconciler writes them.

use std::time::Duration;

use facewire_domain::{CollectionId, FaceId, PersonId, SubjectId};
use facewire_store_pg::{Actor, Assignment, MergeRef, Merged, PersonCreation, Split};

use crate::{Gallery, GalleryError};

/// Faces whose points are written at a time.
const BATCH: usize = 256;

/// What a reassignment did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// The faces' person now; `None`: nobody.
    pub to: Option<PersonId>,
    /// How many faces changed hands.
    pub faces: u64,
    /// Faces of which somebody said that they are not that person's: they stay where they are.
    pub refused: Vec<FaceId>,
}

impl Gallery {
    /// Makes `into` the person of all faces of `from`; old ids lead there. `None`, and nothing is changed, unless both are
    /// persons of one collection, differ, and are not merged themselves.
    ///
    /// # Errors
    /// Of Postgres.
    pub async fn merge(&self, from: PersonId, into: PersonId, actor: &Actor) -> Result<Option<Merged>, GalleryError> {
        let Some(merged) = self.store.merge_persons(from, into, actor).await? else { return Ok(None) };
        or_left_pending(self.index_pending_of(merged.target).await);
        Ok(Some(merged))
    }

    /// Undoes a merge: the person is as before, with the faces that the merge moved and that nobody moved since. `None` where
    /// there is no such merge, it was undone, or an earlier release did it.
    ///
    /// # Errors
    /// Of Postgres.
    pub async fn unmerge(&self, which: MergeRef, actor: &Actor) -> Result<Option<Merged>, GalleryError> {
        let Some(undone) = self.store.unmerge(which, actor).await? else { return Ok(None) };
        or_left_pending(self.index_pending_of(undone.source).await);
        Ok(Some(undone))
    }

    /// Gives faces to a person, or to nobody. `None` where the collection has no such person.
    ///
    /// # Errors
    /// Of Postgres.
    pub async fn reassign(
        &self,
        collection: &CollectionId,
        faces: &[FaceId],
        assignment: Assignment,
        actor: &Actor,
    ) -> Result<Option<Moved>, GalleryError> {
        let assigned = self.store.assign_faces(collection, faces, assignment, actor).await?;
        let Some(assigned) = assigned else { return Ok(None) };
        self.index_changed(&assigned.moved).await;
        Ok(Some(Moved { to: assignment.to, faces: assigned.moved.len() as u64, refused: assigned.refused }))
    }

    /// Gives faces to a new person; both or neither. `None` where none of these faces is there; the inner error says what stands in
    /// the person's way.
    ///
    /// # Errors
    /// Of Postgres.
    pub async fn reassign_to_new(
        &self,
        collection: &CollectionId,
        faces: &[FaceId],
        subject: &SubjectId,
        name: &str,
        not_this_person: bool,
        actor: &Actor,
    ) -> Result<Result<Option<Split>, PersonCreation>, GalleryError> {
        let given = self.store.assign_to_new(collection, faces, subject, name, not_this_person, actor).await?;
        if let Ok(Some(given)) = &given {
            self.index_changed(&given.faces).await;
        }
        Ok(given)
    }

    /// Makes a new person of some faces of another. `None` where none of them is that person's.
    ///
    /// # Errors
    /// Of Postgres; a conflict where the subject or the name is taken.
    pub async fn split(
        &self,
        collection: &CollectionId,
        from: PersonId,
        faces: &[FaceId],
        subject: &SubjectId,
        name: &str,
        actor: &Actor,
    ) -> Result<Option<Split>, GalleryError> {
        let Some(split) = self.store.split_person(collection, from, faces, subject, name, actor).await? else {
            return Ok(None);
        };
        self.index_changed(&split.faces).await;
        Ok(Some(split))
    }

    /// Removes a face with its point and images; what another face needs of the image stays. `false` where there is no such
    /// face. It is no erasure: an image that is enrolled anew comes back.
    ///
    /// # Errors
    /// Of any store.
    pub async fn remove_face(&self, face: FaceId, actor: &Actor) -> Result<bool, GalleryError> {
        let Some(removed) = self.store.remove_face(face, actor).await? else { return Ok(false) };
        if self.images.is_none() {
            // Without an image store the row may have to stay, for whoever has one.
            self.forget_with_images(&[face], Duration::ZERO).await?;
            return Ok(true);
        }
        self.erase_images_of(&removed).await?;
        self.forget(&[face]).await?;
        Ok(true)
    }

    /// [`Gallery::index_all`] of faces that were just changed in Postgres: where it fails, they stay pending.
    pub(crate) async fn index_changed(&self, faces: &[FaceId]) {
        or_left_pending(self.index_all(faces).await);
    }

    async fn index_pending_of(&self, person: PersonId) -> Result<(), GalleryError> {
        let mut after = None;
        loop {
            let faces = self.store.pending_of(person, after, BATCH as u32).await?;
            let Some(last) = faces.last() else { return Ok(()) };
            after = Some(*last);
            self.index_again(&faces).await?;
        }
    }

    /// Writes the points of these faces as their rows are now, some at a time.
    ///
    /// # Errors
    /// Of either store.
    pub async fn index_all(&self, faces: &[FaceId]) -> Result<(), GalleryError> {
        for chunk in faces.chunks(BATCH) {
            self.index_again(chunk).await?;
        }
        Ok(())
    }
}

/// What is committed is told as done, whether or not the points followed: whoever repeated it would be told that it cannot be done,
/// and of an act would never learn the id. The rows are pending, and the reconciler writes their points.
fn or_left_pending(written: Result<(), GalleryError>) {
    if let Err(error) = written {
        tracing::warn!(%error, "the points of faces that changed are left to the reconciler");
    }
}
