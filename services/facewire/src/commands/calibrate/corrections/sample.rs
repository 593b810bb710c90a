//! The faces that people spoke of, read from Postgres page by page into bounded memory: whose they are, and whose they are not.

use std::collections::HashSet;

use anyhow::bail;
use facewire_domain::{CameraId, CollectionId, FaceId, ImageHash, PersonId};
use facewire_evaluation::Embeddings;
use facewire_store_pg::{CorrectedFace, FaceOrigin, Store};
use time::OffsetDateTime;

use crate::commands::connect::viewed;

/// Confirmed faces that are compared at most: their similarities are held twice, without and with those of refused faces, in as
/// much memory as a comparison of `evaluate`.
const MOST: usize = 10_000;
/// Faces of a page.
const PAGE: u32 = 1024;

/// Which faces are asked for.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    pub(super) collection: &'a CollectionId,
    /// Whose probes are calibrated; `None`: those of all cameras.
    pub(super) camera: Option<&'a CameraId>,
    /// Fingerprint of the pack.
    pub(super) model: &'a str,
    pub(super) dim: usize,
    /// Since when people spoke of them.
    pub(super) since: Option<OffsetDateTime>,
}

impl Wanted<'_> {
    /// Whether a face is what a probe is: a camera's crop, and no enrolled picture.
    fn is_seen(&self, face: &CorrectedFace) -> bool {
        face.origin == FaceOrigin::Kept && self.camera.is_none_or(|camera| face.camera.as_ref() == Some(camera))
    }
}

/// A face without its embedding.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Face {
    pub(super) id: FaceId,
    /// Whose it is; of a refused face, whose it is not.
    pub(super) person: PersonId,
    pub(super) image: ImageHash,
    pub(super) quality: Option<f32>,
    /// The camera saw it; any camera, where none is asked for.
    pub(super) seen: bool,
}

/// Faces and, in the same order, their embeddings. Not `Debug`: those are biometric data.
pub(super) struct Faces {
    pub(super) faces: Vec<Face>,
    pub(super) embeddings: Embeddings,
}

impl Faces {
    pub(super) fn new(dim: usize) -> Self {
        Self { faces: Vec::new(), embeddings: Embeddings::new(dim) }
    }

    pub(super) fn push(&mut self, face: Face, embedding: &[f32]) -> anyhow::Result<()> {
        self.embeddings.push(embedding)?;
        self.faces.push(face);
        Ok(())
    }

    fn add(&mut self, found: &CorrectedFace, seen: bool) -> anyhow::Result<()> {
        let CorrectedFace { face, person, image_hash, quality, .. } = *found;
        self.push(Face { id: face, person, image: image_hash, quality, seen }, &found.embedding)
    }
}

/// What people said.
pub(super) struct Sample {
    /// Whose probes are calibrated: of every pair one face at least is this camera's.
    pub(super) camera: Option<CameraId>,
    /// Faces that somebody said whose they are; those that are compared with all others come first.
    pub(super) confirmed: Faces,
    /// How many of the confirmed are compared with all others: without a camera all.
    pub(super) probes: usize,
    /// Faces that somebody said whose they are not.
    pub(super) refused: Faces,
    /// Faces that were left out because there are too many.
    pub(super) left_out: usize,
    /// Confirmed faces of which nobody knows whether the camera saw them.
    pub(super) of_no_camera: usize,
}

impl Sample {
    /// Reads what people said of a collection's faces. Too many are thinned out evenly; ids are hashes, so that their order says
    /// nothing of what they show.
    pub(super) async fn read(store: &Store, wanted: &Wanted<'_>) -> anyhow::Result<Self> {
        // A camera's faces are few beside the others: they are thinned apart.
        let most = if wanted.camera.is_some() { MOST / 2 } else { MOST };
        let (mut probes, mut others, mut of_no_camera) = (Thinned::new(most), Thinned::new(most), 0);
        let mut after = None;
        loop {
            let (collection, model) = (wanted.collection, wanted.model);
            let page = viewed(store.confirmed_faces(collection, model, wanted.since, after, PAGE).await)?;
            let Some(last) = page.last() else { break };
            after = Some(last.face);
            for face in page {
                let seen = wanted.is_seen(&face);
                let probe = seen || wanted.camera.is_none();
                of_no_camera += usize::from(!probe && face.origin == FaceOrigin::Kept && face.camera.is_none());
                if probe { probes.push((face, seen)) } else { others.push((face, seen)) }
            }
        }
        let refused = Self::refused(store, wanted).await?;
        let left_out = probes.left_out() + others.left_out() + refused.left_out();
        let mut sample = Self {
            camera: wanted.camera.cloned(),
            confirmed: Faces::new(wanted.dim),
            probes: probes.kept.len(),
            refused: Faces::new(wanted.dim),
            left_out,
            of_no_camera,
        };
        for (face, seen) in probes.kept.iter().chain(&others.kept) {
            sample.confirmed.add(face, *seen)?;
        }
        for (face, seen) in &refused.kept {
            sample.refused.add(face, *seen)?;
        }
        Ok(sample)
    }

    async fn refused(store: &Store, wanted: &Wanted<'_>) -> anyhow::Result<Thinned<(CorrectedFace, bool)>> {
        let (mut refused, mut after) = (Thinned::new(MOST), None);
        loop {
            let (collection, model) = (wanted.collection, wanted.model);
            let page = viewed(store.refused_faces(collection, model, wanted.since, after, PAGE).await)?;
            let Some(last) = page.last() else { return Ok(refused) };
            after = Some((last.face, last.person));
            for face in page {
                let seen = wanted.is_seen(&face);
                refused.push((face, seen));
            }
        }
    }

    /// Confirmed faces that the camera saw.
    pub(super) fn seen(&self) -> usize {
        self.confirmed.faces.iter().filter(|face| face.seen).count()
    }

    /// People with a confirmed face.
    pub(super) fn people(&self) -> usize {
        people_of(&self.confirmed.faces)
    }

    /// Of them, those with a face that is compared with all others: whom the camera saw, where one is asked for.
    pub(super) fn people_probed(&self) -> usize {
        people_of(self.confirmed.faces.get(..self.probes).unwrap_or(&self.confirmed.faces))
    }

    /// Faces that a face which a camera saw is compared with: every confirmed one but itself.
    pub(super) fn compared_with(&self) -> usize {
        self.confirmed.faces.len().saturating_sub(1)
    }

    /// Thousands of pairs of a few faces are few observations: pairs alone do not tell whether the sample is large enough.
    pub(super) fn enough(&self, least: usize) -> anyhow::Result<()> {
        let (seen, confirmed, refused) = (self.seen(), self.confirmed.faces.len(), self.refused.faces.len());
        if seen >= least {
            return Ok(());
        }
        let by = self.camera.as_ref().map_or("cameras".to_owned(), |camera| format!("camera {camera}"));
        let lost = match self.of_no_camera {
            0 => String::new(),
            lost => {
                format!(
                    "; of {lost} confirmed faces the camera is not known: an earlier release kept them, and their results expired"
                )
            }
        };
        bail!(
            "the sample is too small: {seen} confirmed faces seen by {by}, and {least} are needed (--least). {confirmed} faces of {} \
             people are confirmed, and {refused} refused{lost}. A face that a camera saw counts once a human has said whose it is, \
             and a collection keeps such faces by its policy (keep_faces: unmatched or all)",
            self.people(),
        );
    }
}

fn people_of(faces: &[Face]) -> usize {
    faces.iter().map(|face| face.person).collect::<HashSet<_>>().len()
}

/// An even part of what comes, at most so many: at first all, then every second, every fourth, and so on.
#[derive(Debug)]
struct Thinned<T> {
    most: usize,
    kept: Vec<T>,
    step: usize,
    came: usize,
}

impl<T> Thinned<T> {
    fn new(most: usize) -> Self {
        Self { most: most.max(1), kept: Vec::new(), step: 1, came: 0 }
    }

    fn push(&mut self, item: T) {
        let place = self.came;
        self.came += 1;
        if !place.is_multiple_of(self.step) {
            return;
        }
        if self.kept.len() >= self.most {
            let mut second = true;
            self.kept.retain(|_| {
                second = !second;
                !second
            });
            self.step = self.step.saturating_mul(2);
            if !place.is_multiple_of(self.step) {
                return;
            }
        }
        self.kept.push(item);
    }

    fn left_out(&self) -> usize {
        self.came - self.kept.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_is_thinned_evenly() {
        for (came, most) in [(0, 4), (4, 4), (5, 4), (9, 4), (1000, 4), (1000, 7), (3, 1), (64, 1)] {
            let mut thinned = Thinned::new(most);
            (0..came).for_each(|place| thinned.push(place));
            let even: Vec<usize> = (0..came).step_by(thinned.step).collect();
            assert_eq!(thinned.kept, even, "{came} of which {most} fit");
            assert!(thinned.kept.len() <= most && 2 * thinned.kept.len() >= most.min(came), "{came}, {most}");
            assert_eq!(thinned.left_out(), came - even.len());
        }
    }
}
