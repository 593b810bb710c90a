//! Enrolment (DESIGN §3): under the collection's lock the gallery is searched for another person with the same face, then the
//! row is written as pending with its embedding, then the point, then the row is marked. The lock lasts from the search to
//! the mark: two replicas, or two items of one batch, cannot both enrol the same face for different people. What somebody left
//! who died, or lost the lock, between the row and the point is finished before the search.

use std::borrow::Cow;

use facewire_domain::{Against, CollectionId, FaceId, Hit, PersonId, cosine};
use facewire_store_pg::{ConflictKind, Enrolment, EnrolmentGuard, NewFace, StoreError};
use facewire_store_vec::{DECISION, Probe};

use crate::{Gallery, GalleryError};

/// Faces that are finished at a time.
const PENDING: u32 = 256;

/// How many of them one try finishes: a few seconds' work, far below what the watchdog takes for a hang.
const AT_ONCE: u64 = 16_384;

/// A face that somebody wants to enrol.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The face and whose it is said to be.
    pub face: NewFace,
    /// Cosine similarity from which on a face of another person is taken for the same face; `None`: nobody wants to know.
    pub conflict_from: Option<f32>,
}

/// What became of a [`Candidate`].
#[derive(Debug, Clone, PartialEq)]
pub enum Enrolled {
    /// It is in both stores.
    Done {
        /// Whose face; after a merge the person that took over.
        person: PersonId,
        /// The face.
        face: FaceId,
        /// It was there before, enrolled by another crop.
        before: bool,
    },
    /// Nothing was written: a person must settle it.
    Conflict(Conflict),
    /// Nothing was written: it cannot be stored, for this reason.
    Refused(String),
}

/// Why a face may not be enrolled for a subject.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Conflict {
    /// The name (ignoring case) belongs to another subject.
    NameTaken,
    /// The very same image is enrolled for another person.
    ImageOfOther,
    /// Somebody said that this face is not that person's.
    NotThisPerson,
    /// The person, the image or the collection was erased after the crop was received; or the person is just being erased.
    Erased,
    /// The face is that of another enrolled person.
    Lookalike {
        /// Cosine similarity to that person's nearest face.
        similarity: f32,
        /// What was allowed.
        limit: f32,
    },
}

/// A candidate's nearest face of another person.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Nearest {
    similarity: f32,
    /// It is that of an earlier item of the batch, which may yet be refused.
    mate: Option<usize>,
}

impl Gallery {
    /// Enrols a batch, in its order; one answer a candidate.
    ///
    /// # Errors
    /// Of either store; [`GalleryError::Unfinished`]. The whole batch may be repeated: what was done before is found done.
    pub async fn enrol(&self, candidates: &[Candidate]) -> Result<Vec<Enrolled>, GalleryError> {
        if candidates.is_empty() {
            return Ok(Vec::new());
        }
        let collections: Vec<_> = candidates.iter().map(|candidate| candidate.face.collection.clone()).collect();
        let mut lock = self.store.enrolment_lock(&collections).await?;
        let asked = self.to_be_judged(candidates, &mut lock).await?;
        let candidates: &[Candidate] = &asked;
        let own = self.own_persons(candidates).await?;
        let mut answers: Vec<Option<Enrolled>> = vec![None; candidates.len()];
        let hits = self.near(candidates, &mut answers).await?;
        // A candidate that is refused only for the face of an earlier one is judged again once that one was refused itself.
        while answers.iter().any(Option::is_none) {
            let judged = judge(candidates, &own, &hits, &answers);
            let fit: Vec<usize> =
                (0..).zip(&judged).filter(|(_, j)| matches!(j, Judged::Fit)).map(|(at, _)| at).collect();
            let faces: Vec<NewFace> = fit.iter().filter_map(|at| Some(candidates.get(*at)?.face.clone())).collect();
            let written = self.write(&faces, &mut lock).await?;
            for (at, judged) in judged.into_iter().enumerate() {
                if let (Judged::Refused(conflict), Some(answer)) = (judged, answers.get_mut(at)) {
                    *answer = Some(Enrolled::Conflict(conflict));
                }
            }
            for (at, enrolled) in fit.into_iter().zip(written) {
                if let Some(answer) = answers.get_mut(at) {
                    *answer = Some(enrolled);
                }
            }
        }
        lock.release().await?;
        Ok(answers.into_iter().flatten().collect())
    }

    /// Makes the search see everybody: faces of people that wait for their points get them. Then the candidates as they are to
    /// be judged: of those whom their own crops have enrolled already nobody asks whom they are like, whoever came since.
    async fn to_be_judged<'a>(
        &self,
        candidates: &'a [Candidate],
        lock: &mut EnrolmentGuard,
    ) -> Result<Cow<'a, [Candidate]>, GalleryError> {
        let asking = candidates.iter().filter(|candidate| candidate.conflict_from.is_some());
        let collections: Vec<CollectionId> = asking.map(|candidate| candidate.face.collection.clone()).collect();
        let mut judged = Cow::Borrowed(candidates);
        if collections.is_empty() {
            return Ok(judged);
        }
        let (mut after, mut finished) = (None, 0);
        loop {
            let faces = self.store.pending_enrolments(&collections, after, PENDING).await?;
            after = faces.last().map(|face| face.record.face);
            let were_all = faces.len() < PENDING as usize;
            finished += self.index(faces).await?;
            if were_all {
                break;
            }
            // These are marked: the next try begins with the others. What is of another model is not written, and only read.
            if finished >= AT_ONCE {
                return Err(GalleryError::Unfinished { finished });
            }
            // After a change of very many people it takes a while, and nobody else may come between.
            lock.check().await?;
        }
        let faces: Vec<&NewFace> = candidates.iter().map(|candidate| &candidate.face).collect();
        for place in self.store.enrolled_before(&faces).await? {
            if let Some(candidate) = judged.to_mut().get_mut(place) {
                candidate.conflict_from = None;
            }
        }
        Ok(judged)
    }

    /// Whose face each would be: after merges, the person that took over.
    async fn own_persons(&self, candidates: &[Candidate]) -> Result<Vec<PersonId>, GalleryError> {
        let derive = |candidate: &Candidate| PersonId::derive(&candidate.face.collection, &candidate.face.subject);
        let named: Vec<PersonId> = candidates.iter().map(derive).collect();
        let survivors = self.store.survivors(&named).await?;
        Ok(named.into_iter().map(|person| survivors.get(&person).copied().unwrap_or(person)).collect())
    }

    /// What the gallery holds near each candidate that asks for it. One that cannot be searched for has its answer.
    async fn near(
        &self,
        candidates: &[Candidate],
        answers: &mut [Option<Enrolled>],
    ) -> Result<Vec<Vec<Hit>>, GalleryError> {
        let asked = |candidate: &&Candidate| candidate.conflict_from.is_some();
        let probe = |candidate: &Candidate| Probe {
            collection: candidate.face.collection.clone(),
            embedding: candidate.face.embedding.clone(),
            limit: None,
            persons: DECISION,
            // Whoever decides by exemplars alone wants to know of every face that is somebody else's.
            against: Against::Faces,
        };
        let probes: Vec<Probe> = candidates.iter().filter(asked).map(probe).collect();
        let mut found = self.vectors.search(&probes).await?.into_iter();
        let hits = candidates.iter().zip(answers).map(|(candidate, answer)| {
            let asked = candidate.conflict_from.and_then(|_| found.next());
            asked.transpose().unwrap_or_else(|error| {
                *answer = Some(Enrolled::Refused(error.to_string()));
                None
            })
        });
        Ok(hits.map(Option::unwrap_or_default).collect())
    }

    /// Rows, points, marks. No row, where the lock is lost.
    async fn write(&self, faces: &[NewFace], lock: &mut EnrolmentGuard) -> Result<Vec<Enrolled>, GalleryError> {
        let enrolments = self.store.begin_enrolment_under(lock, faces).await?;
        let pending: Vec<FaceId> = enrolments
            .iter()
            .filter_map(|enrolment| match enrolment {
                Ok(Enrolment::Pending { face, .. }) => Some(*face),
                Ok(Enrolment::AlreadyIndexed { .. } | Enrolment::Conflict { .. }) | Err(_) => None,
            })
            .collect();
        if !pending.is_empty() {
            self.index_again(&pending).await?;
        }
        Ok(enrolments.into_iter().map(answer).collect())
    }
}

fn answer(enrolment: Result<Enrolment, StoreError>) -> Enrolled {
    let enrolment = match enrolment {
        Ok(enrolment) => enrolment,
        Err(error) => return Enrolled::Refused(error.to_string()),
    };
    match enrolment {
        // The same crop: it enrols its face now, or did and died before it could say so.
        Enrolment::Pending { person, face, same_crop } | Enrolment::AlreadyIndexed { person, face, same_crop } => {
            Enrolled::Done { person, face, before: !same_crop }
        }
        Enrolment::Conflict { kind, .. } => Enrolled::Conflict(match kind {
            ConflictKind::NameTaken => Conflict::NameTaken,
            ConflictKind::ImageOfOther => Conflict::ImageOfOther,
            ConflictKind::NotThisPerson => Conflict::NotThisPerson,
            ConflictKind::Erased => Conflict::Erased,
        }),
    }
}

/// One round's verdict.
#[derive(Debug, Clone, PartialEq)]
enum Judged {
    /// It has its answer from an earlier round, or waits for what becomes of an earlier item.
    Later,
    /// To be written now.
    Fit,
    /// Another person's face.
    Refused(Conflict),
}

/// Judges every candidate without an answer. Refused for good is who is like somebody in the gallery, or like an item that
/// was enrolled.
fn judge(candidates: &[Candidate], own: &[PersonId], hits: &[Vec<Hit>], answers: &[Option<Enrolled>]) -> Vec<Judged> {
    let mut judged: Vec<Judged> = Vec::with_capacity(candidates.len());
    for (at, candidate) in candidates.iter().enumerate() {
        let verdict = match (answers.get(at), candidate.conflict_from) {
            (Some(Some(_)), _) => Judged::Later,
            (_, None) => Judged::Fit,
            (_, Some(limit)) => {
                let gone = |mate: usize| {
                    matches!(answers.get(mate), Some(Some(Enrolled::Conflict(_) | Enrolled::Refused(_))))
                        || matches!(judged.get(mate), Some(Judged::Refused(_)))
                };
                let undecided = |mate: usize| matches!(answers.get(mate), Some(None));
                match nearest(at, candidates, own, hits, gone).filter(|nearest| nearest.similarity >= limit) {
                    None => Judged::Fit,
                    Some(Nearest { mate: Some(mate), .. }) if undecided(mate) => Judged::Later,
                    Some(Nearest { similarity, .. }) => Judged::Refused(Conflict::Lookalike { similarity, limit }),
                }
            }
        };
        judged.push(verdict);
    }
    judged
}

/// The nearest face of another person: in the gallery, or of an earlier item of the same collection that is not refused.
fn nearest(
    at: usize,
    candidates: &[Candidate],
    own: &[PersonId],
    hits: &[Vec<Hit>],
    gone: impl Fn(usize) -> bool,
) -> Option<Nearest> {
    let (candidate, person) = (candidates.get(at)?, own.get(at)?);
    let in_gallery = hits.get(at)?.iter().filter(|hit| hit.person != *person);
    let in_gallery = in_gallery.map(|hit| Nearest { similarity: hit.similarity, mate: None });
    let earlier = candidates.iter().zip(own).enumerate().take(at).filter(|(mate, (other, theirs))| {
        other.face.collection == candidate.face.collection && *theirs != person && !gone(*mate)
    });
    let in_batch = earlier.map(|(mate, (other, _))| Nearest {
        similarity: cosine(&other.face.embedding, &candidate.face.embedding),
        mate: Some(mate),
    });
    in_gallery.chain(in_batch).max_by(|a, b| a.similarity.total_cmp(&b.similarity))
}

#[cfg(test)]
#[path = "enrol_tests.rs"]
mod tests;
