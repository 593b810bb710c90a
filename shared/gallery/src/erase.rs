//! Erasing on request, from all stores, with a receipt: first the rows are tombstoned, so that nothing new refers to the
//! faces; then points and images go, then the rows and the person; then, after the streams, what results, the trail and the
//! queues say. Repeated after an error it goes on where it was; what a crash leaves tombstoned, the reconciler removes
//! ([`Gallery::forget_with_images`]). The streams themselves are erased by whoever knows them.

use std::collections::HashSet;
use std::time::Duration;

use facewire_domain::{CollectionId, FaceId, ImageHash, JobId, KeepImages, PersonId, SubjectId};
use facewire_store_object::{ImageKey, ImageKind};
use facewire_store_pg::{Actor, BegunErasure, ErasedFace, FaceSelection, ImageUse, LeavingFace, Named, NamedResult};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Gallery, GalleryError};

/// Faces or rows of one step.
pub(crate) const STEP: u32 = 256;

/// How often something new may come in between before it is given up.
pub(crate) const ROUNDS: u32 = 16;

/// What is to be erased.
pub type Erasure = FaceSelection;

/// What was erased. Stored as it is: fields are added, never renamed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Receipt {
    /// Under which it is stored; none where there was nobody to erase.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub erasure: Option<Uuid>,
    /// Faces: rows with their embeddings, and their points.
    pub faces: u64,
    /// Names of kept images that were erased, whether or not there was one.
    pub images: u64,
    /// Parts of exports of the collection: what was exported may hold what is erased.
    pub exports: u64,
    /// Endings that named the person, and do so no longer.
    pub results: u64,
    /// Decisions about others that named the person as the nearest or second nearest.
    pub mentions: u64,
    /// Enrolments that named the person and came to nothing.
    pub enrolments: u64,
    /// Rows of the audit trail.
    pub trail: u64,
    /// Deliveries to webhooks, waiting or done.
    pub deliveries: u64,
    /// Webhooks whose filters named the person.
    pub webhooks: u64,
    /// Kept answers of requests.
    pub requests: u64,
    /// Items of imports.
    pub imports: u64,
    /// Jobs whose parameters or results named the person.
    pub jobs: u64,
    /// Messages in streams: results, events, waiting crops, dead letters.
    pub messages: u64,
    /// Persons, with those who were merged into them.
    pub persons: u64,
    /// Rows of a deleted collection beside its faces: persons, crops, endings, failures, calibrations.
    pub rows: u64,
}

/// An erasure that is done but for the streams, of which the gallery knows nothing, and for what comes of them.
#[derive(Debug)]
pub struct StartedErasure {
    what: Erasure,
    begun: BegunErasure,
    receipt: Receipt,
}

impl StartedErasure {
    /// What was asked to be erased.
    pub fn what(&self) -> &Erasure {
        &self.what
    }

    /// Of which collection.
    pub fn collection(&self) -> &CollectionId {
        &self.begun.collection
    }

    /// Whom no message may name any more; empty unless a person is erased.
    pub fn persons(&self) -> &[PersonId] {
        &self.begun.persons
    }

    /// Their ids in the producers' world.
    pub fn subjects(&self) -> &[SubjectId] {
        &self.begun.subjects
    }
}

impl Gallery {
    /// [`Gallery::start_erasure`] and [`Gallery::finish_erasure`], where no stream holds anything.
    ///
    /// # Errors
    /// Of any store; [`GalleryError::Busy`].
    pub async fn erase(&self, what: &Erasure, actor: &Actor) -> Result<Receipt, GalleryError> {
        match self.start_erasure(what, actor, None).await? {
            Some(started) => self.finish_erasure(started, 0, actor).await,
            None => Ok(Receipt::default()),
        }
    }

    /// Erases faces with all that is kept of them, of a person also the person, of a collection all that is in it. A crop that was
    /// received before does not bring it back. `None`: there is nobody to erase. Until it is finished the receipt is not final: it
    /// is to be started again then, and goes on. `job`: the receipt is found by it.
    ///
    /// # Errors
    /// Of any store; [`GalleryError::Busy`]; [`GalleryError::NoImages`], and then nothing has begun.
    pub async fn start_erasure(
        &self,
        what: &Erasure,
        actor: &Actor,
        job: Option<JobId>,
    ) -> Result<Option<StartedErasure>, GalleryError> {
        self.images_can_go(what).await?;
        let Some(begun) = self.store.begin_erasure(what, actor).await? else { return Ok(None) };
        if let Some(job) = job {
            self.store.note_erasure_job(begun.erasure, job).await?;
        }
        let mut receipt = Receipt::of(&begun);
        receipt.exports += self.erase_exports(&begun.collection).await?;
        self.erase_faces(what, &begun, &mut receipt).await?;
        if !begun.persons.is_empty() {
            // What waits to be sent first, so that no more of it comes into the streams.
            self.erase_queues(&begun, &mut receipt).await?;
            self.erase_persons(what, &begun, &mut receipt).await?;
        }
        Ok(Some(StartedErasure { what: what.clone(), begun, receipt }))
    }

    /// Without an image store, kept images would stay, and nothing would lead to them any more. What a collection kept under an
    /// earlier policy nobody knows but the store itself.
    pub(crate) async fn images_can_go(&self, what: &Erasure) -> Result<(), GalleryError> {
        if self.images.is_some() {
            return Ok(());
        }
        let Some(collection) = self.store.collection_of_erasure(what).await? else { return Ok(()) };
        match self.store.policy(&collection).await?.keep_images {
            KeepImages::None => Ok(()),
            _ => Err(GalleryError::NoImages { collection }),
        }
    }

    /// Erases what results, the trail and the queues say of the persons, which nobody adds to any more, and makes the receipt
    /// final. `messages`: how many were erased from streams.
    ///
    /// # Errors
    /// Of any store; [`GalleryError::Busy`]: what names the person comes over and over.
    pub async fn finish_erasure(
        &self,
        started: StartedErasure,
        messages: u64,
        actor: &Actor,
    ) -> Result<Receipt, GalleryError> {
        let StartedErasure { what, begun, mut receipt } = started;
        receipt.messages += messages;
        // Somebody ended it, with its collection perhaps: whoever is there under these ids, or in a collection of that name, came since.
        if self.is_final(&begun).await? {
            return Ok(receipt);
        }
        if let Erasure::Collection(_) = what {
            return self.finish_collection(&what, &begun, receipt, actor).await;
        }
        for _ in 0..ROUNDS {
            // One that began after this erasure did may hold some of it.
            receipt.exports += self.erase_exports(&begun.collection).await?;
            // What the services had in hand when it began is stored by now: the streams, which were erased last, hold no more of it.
            self.store.extend_erasure(&begun, &what).await?;
            self.erase_faces(&what, &begun, &mut receipt).await?;
            self.erase_loose_images(&what, &begun, &mut receipt).await?;
            if !begun.persons.is_empty() {
                self.erase_persons(&what, &begun, &mut receipt).await?;
                self.erase_traces(&begun, &mut receipt).await?;
                self.erase_queues(&begun, &mut receipt).await?;
                // An enrolment that came to nothing names nobody but in its crop's row. Last, and again in each round: all results were
                // read meanwhile, and a producer may send one more while that takes its time.
                self.erase_named(&begun, Named::Subjects(&begun.subjects), &mut receipt).await?;
            }
            // A result or a crop that was written since it was erased keeps it open: it leads to images.
            if self.store.finish_erasure(&begun, &what, &receipt.stored(), actor).await?
                || self.is_final(&begun).await?
            {
                return Ok(receipt);
            }
        }
        Err(GalleryError::Busy)
    }

    /// Whether somebody else came to the end of the same erasure.
    async fn is_final(&self, begun: &BegunErasure) -> Result<bool, GalleryError> {
        let receipt = self.store.erasure_receipt(begun.erasure).await?;
        Ok(receipt.is_none_or(|receipt| receipt.finished_at.is_some()))
    }

    /// The selected faces from all stores.
    pub(crate) async fn erase_faces(
        &self,
        what: &Erasure,
        begun: &BegunErasure,
        receipt: &mut Receipt,
    ) -> Result<(), GalleryError> {
        loop {
            let faces = match begun.persons.as_slice() {
                [] => self.store.tombstone_selected(what, STEP).await?,
                persons => self.store.tombstone_faces_of(persons, STEP).await?,
            };
            if faces.is_empty() {
                return Ok(());
            }
            receipt.images += self.erase_images(&faces).await?;
            let ids: Vec<FaceId> = faces.iter().map(|erased| erased.face).collect();
            self.forget(&ids).await?;
            receipt.faces += ids.len() as u64;
            self.store.note_erasure(begun.erasure, &receipt.stored()).await?;
        }
    }

    /// What results and the trail say of the persons.
    async fn erase_traces(&self, begun: &BegunErasure, receipt: &mut Receipt) -> Result<(), GalleryError> {
        let (store, persons) = (&self.store, &begun.persons);
        loop {
            // A result leads to the images of its crop, whether or not a face is kept of it. Their own faces are gone by now.
            let named = store.results_of(persons, STEP).await?;
            receipt.images += self.erase_images_of_results(&named).await?;
            let erased =
                [store.erase_from_results(persons, &named).await?, store.erase_from_trail(persons, STEP).await?];
            if erased == [0; 2] {
                break;
            }
            let [results, trail] = erased;
            receipt.results += results;
            receipt.trail += trail;
            store.note_erasure(begun.erasure, &receipt.stored()).await?;
        }
        let mut from = Some(0);
        while let Some(part) = from {
            let (erased, next) = store.erase_mentions(persons, part).await?;
            receipt.mentions += erased;
            from = next;
        }
        Ok(store.note_erasure(begun.erasure, &receipt.stored()).await?)
    }

    /// What waits for somebody and names the persons: webhooks, repeated requests, imports, jobs.
    async fn erase_queues(&self, begun: &BegunErasure, receipt: &mut Receipt) -> Result<(), GalleryError> {
        receipt.webhooks += self.store.erase_from_webhooks(&begun.persons).await?;
        receipt.jobs += self.store.erase_from_jobs(&begun.persons).await?;
        for person in &begun.persons {
            receipt.deliveries += self.store.erase_deliveries_of(*person).await?;
            receipt.requests += self.store.erase_requests_of(*person).await?;
            receipt.imports += self.store.erase_import_items_of(*person).await?;
        }
        Ok(self.store.note_erasure(begun.erasure, &receipt.stored()).await?)
    }

    /// The persons themselves, and what was enrolled for them meanwhile.
    async fn erase_persons(
        &self,
        what: &Erasure,
        begun: &BegunErasure,
        receipt: &mut Receipt,
    ) -> Result<(), GalleryError> {
        for _ in 0..ROUNDS {
            receipt.results += self.store.part_from_negatives(&begun.persons).await?;
            let deleted = self.store.delete_persons(&begun.persons).await?;
            receipt.persons += deleted;
            if deleted > 0 || self.store.persons(&begun.persons).await?.is_empty() {
                return Ok(self.store.note_erasure(begun.erasure, &receipt.stored()).await?);
            }
            self.erase_faces(what, begun, receipt).await?;
        }
        Err(GalleryError::Busy)
    }

    /// Everything that may be kept of these faces' images, but for the pictures of a face of which there is another row: the image came
    /// twice, and that row stays. They are tombstoned.
    async fn erase_images(&self, faces: &[ErasedFace]) -> Result<u64, GalleryError> {
        let named: Vec<_> = faces.iter().map(|face| (&face.collection, face.image_hash, face.face_index)).collect();
        let uses = self.store.image_uses(&named).await?;
        let keys: Vec<ImageKey> = faces
            .iter()
            .zip(uses)
            .flat_map(|(face, used)| unused_images(face, ImageUse { image: false, ..used }))
            .collect();
        self.erase_keys(&keys).await
    }

    /// Everything that may be kept of the images in which these results found somebody. A face of which there is a row is somebody
    /// else's, or nobody's, and keeps its images.
    async fn erase_images_of_results(&self, named: &[NamedResult]) -> Result<u64, GalleryError> {
        let faces: Vec<(&CollectionId, ImageHash, u32)> =
            named.iter().filter_map(|named| Some((&named.collection, named.image?, named.face_index))).collect();
        let uses = self.store.image_uses(&faces).await?;
        let theirs = faces.into_iter().zip(uses).filter(|(_, used)| !used.face);
        let keys: Vec<ImageKey> =
            theirs.flat_map(|((collection, image, face), _)| images_of(collection, image, face)).collect();
        self.erase_keys(&keys).await
    }

    /// What is kept of this face alone: neither pictures of a face of which there is another row, nor an image in which there is
    /// another face. It is tombstoned.
    pub(crate) async fn erase_images_of(&self, face: &ErasedFace) -> Result<u64, GalleryError> {
        let uses = self.store.image_uses(&[(&face.collection, face.image_hash, face.face_index)]).await?;
        let keys: Vec<ImageKey> = uses.into_iter().flat_map(|used| unused_images(face, used)).collect();
        self.erase_keys(&keys).await
    }

    /// Removes what is tombstoned: the points of these faces, their images, then the rows, which lead to both. Rows in another state
    /// stay, and so do images that others need. `grace`: how long the face of an image may be on its way; such an image then goes
    /// by its age. Where there is no image store, rows of collections that keep images stay tombstoned for whoever has one. How many
    /// stayed so.
    ///
    /// # Errors
    /// Of any store; what is left is removed by another call.
    pub async fn forget_with_images(&self, faces: &[FaceId], grace: Duration) -> Result<u64, GalleryError> {
        self.vectors.delete_everywhere(faces).await?;
        let stay = self.with_images_elsewhere(faces).await?;
        if self.images.is_some() {
            let leaving = self.store.leaving_faces(faces, grace).await?;
            let mut keys: Vec<ImageKey> = leaving.iter().flat_map(images_that_go).collect();
            // Faces of one image share it.
            keys.sort();
            keys.dedup();
            self.erase_keys(&keys).await?;
        }
        if !stay.is_empty() {
            tracing::warn!(
                faces = stay.len(),
                "removed faces stay for whoever has the image store: images.url is not set here"
            );
        }
        let gone: Vec<FaceId> = faces.iter().copied().filter(|face| !stay.contains(face)).collect();
        self.forget_rows(&gone).await?;
        Ok(stay.len() as u64)
    }

    /// Those of these tombstoned faces of which images may be kept that cannot be erased here: nothing but their rows leads to them.
    async fn with_images_elsewhere(&self, faces: &[FaceId]) -> Result<HashSet<FaceId>, GalleryError> {
        if self.images.is_some() {
            return Ok(HashSet::new());
        }
        let mut policies = self.store.policies().await?;
        policies.retain(|_, policy| policy.keep_images != KeepImages::None);
        if policies.is_empty() {
            return Ok(HashSet::new());
        }
        let leaving = self.store.leaving_faces(faces, Duration::ZERO).await?;
        let kept = leaving.into_iter().filter(|leaving| policies.contains_key(&leaving.face.collection));
        Ok(kept.map(|leaving| leaving.face.face).collect())
    }

    async fn erase_keys(&self, keys: &[ImageKey]) -> Result<u64, GalleryError> {
        let Some(images) = &self.images else { return Ok(0) };
        images.delete(keys).await?;
        Ok(keys.len() as u64)
    }
}

/// Of a tombstoned face. An erasure takes the original too that shows others besides, however young it is, as it does where nobody
/// cuts it short. What was too old, or removed, leaves what another face needs, or one that is on its way.
fn images_that_go(leaving: &LeavingFace) -> Vec<ImageKey> {
    let LeavingFace { face, used, erased, awaited } = leaving;
    let used = match erased {
        true => ImageUse { image: false, face: used.face },
        false => ImageUse { image: used.image || *awaited, face: used.face || *awaited },
    };
    unused_images(face, used)
}

/// What may be kept of a face and is not needed by others.
fn unused_images(face: &ErasedFace, used: ImageUse) -> Vec<ImageKey> {
    let goes = |key: &ImageKey| match key.kind() {
        ImageKind::Original => !used.image,
        ImageKind::Aligned | ImageKind::Crop => !used.face,
    };
    images_of(&face.collection, face.image_hash, face.face_index).into_iter().filter(goes).collect()
}

/// All that may be kept of a face of an image.
pub(crate) fn images_of(collection: &CollectionId, image: ImageHash, face: u32) -> [ImageKey; 3] {
    [
        ImageKey::aligned(collection.clone(), image, face),
        ImageKey::crop(collection.clone(), image, face),
        ImageKey::original(collection.clone(), image),
    ]
}

impl Receipt {
    /// What an earlier attempt noted, and the erasure's id.
    pub(crate) fn of(begun: &BegunErasure) -> Self {
        let noted: Self = serde_json::from_value(begun.receipt.clone()).unwrap_or_default();
        Self { erasure: Some(begun.erasure), ..noted }
    }

    /// As it lies in its row, which has the id itself.
    pub(crate) fn stored(&self) -> serde_json::Value {
        serde_json::to_value(Self { erasure: None, ..*self }).unwrap_or_default()
    }
}
