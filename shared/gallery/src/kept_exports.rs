//! Exports that a job keeps in the object store, in parts of bounded size, until they expire, enough newer ones of their collection
//! are there, or something is erased from it. A part is gzip of whole lines; its header says how many persons and faces there were to
//! its end, so that whoever goes on behind it reads no earlier one. How a job makes them is not known here.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::io::{Read, Write};

use facewire_domain::{CollectionId, JobId, JobKind, JobState};
use facewire_store_object::{ExportKey, ListedExport, PutOutcome};
use facewire_store_pg::JobRecord;
use flate2::read::GzDecoder;
use flate2::{Compression, GzBuilder};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::export::{Place, Sum};
use crate::{Gallery, GalleryError};

/// Bytes of lines in one part at most.
pub const EXPORT_PART_BYTES: usize = 16 << 20;

/// Finished exports of a collection that are kept at most, whatever their age: whoever may read it can have any number made.
const MOST_KEPT: usize = 4;

/// What came of a job that exports, as its row has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExportResult {
    /// Faces.
    pub faces: u64,
    /// Persons, also those who were merged into others.
    pub persons: u64,
    /// Parts in the object store.
    pub parts: u64,
    /// Their size there.
    pub bytes: u64,
    /// When they are removed.
    #[serde(with = "time::serde::rfc3339")]
    pub expires_at: OffsetDateTime,
}

/// The lines of a part, and how many persons and faces there were to its end. No `Debug`: embeddings are biometric.
#[derive(Clone, PartialEq)]
pub struct ExportPart {
    /// Whole lines.
    pub text: Vec<u8>,
    /// From the first part on.
    pub sum: Sum,
}

impl ExportPart {
    /// The place behind its last line; `None` where that is no line of an export.
    pub fn end(&self) -> Option<Place> {
        let line = self.text.strip_suffix(b"\n")?;
        let last = line.rsplit(|byte| *byte == b'\n').next()?;
        Place::behind(last, self.sum)
    }

    fn packed(&self) -> std::io::Result<Vec<u8>> {
        let header = GzBuilder::new().comment(format!("{} {}", self.sum.persons, self.sum.faces));
        // Embeddings are noise to a compressor: a higher level takes longer and gains nothing.
        let mut encoder = header.write(Vec::new(), Compression::fast());
        encoder.write_all(&self.text)?;
        encoder.finish()
    }

    /// `None` where it is no part.
    fn unpacked(packed: &[u8]) -> Option<Self> {
        // No more than a part may have: a longer one is not of ours.
        let mut decoder = GzDecoder::new(packed).take(EXPORT_PART_BYTES as u64 + 1);
        let mut text = Vec::new();
        decoder.read_to_end(&mut text).ok()?;
        let decoder = decoder.into_inner();
        let comment = std::str::from_utf8(decoder.header()?.comment()?).ok()?;
        let (persons, faces) = comment.split_once(' ')?;
        let sum = Sum { persons: persons.parse().ok()?, faces: faces.parse().ok()? };
        (text.len() <= EXPORT_PART_BYTES).then_some(Self { text, sum })
    }
}

impl Gallery {
    /// Stores a part unless there is one of its key. `false`: there is another one.
    ///
    /// # Errors
    /// Of the object store; [`GalleryError::NoExports`].
    pub async fn keep_export_part(&self, key: &ExportKey, part: ExportPart) -> Result<bool, GalleryError> {
        let images = self.images.as_ref().ok_or(GalleryError::NoExports)?;
        let packed = apart(move || part.packed()).await?.map_err(|error| broken(key, &error))?;
        let packed = bytes::Bytes::from(packed);
        match images.put_export(key, packed.clone()).await? {
            PutOutcome::Written => Ok(true),
            // One that is the same may be by a write of ours whose answer was lost.
            PutOutcome::Present => Ok(images.export(key).await? == Some(packed)),
        }
    }

    /// A part; `None`: there is none.
    ///
    /// # Errors
    /// Of the object store; [`GalleryError::NoExports`]; [`GalleryError::BrokenPart`].
    pub async fn export_part(&self, key: &ExportKey) -> Result<Option<ExportPart>, GalleryError> {
        let images = self.images.as_ref().ok_or(GalleryError::NoExports)?;
        let Some(packed) = images.export(key).await? else { return Ok(None) };
        let part = apart(move || ExportPart::unpacked(&packed)).await?;
        part.map(Some).ok_or_else(|| broken(key, &"it is no gzip of lines"))
    }

    /// The parts that a job has kept so far, of whatever generation, in order.
    ///
    /// # Errors
    /// Of the object store; [`GalleryError::NoExports`].
    pub async fn export_parts(&self, collection: &CollectionId, job: JobId) -> Result<Vec<ListedExport>, GalleryError> {
        let images = self.images.as_ref().ok_or(GalleryError::NoExports)?;
        let mut parts = images.exports(Some(collection)).await?;
        parts.retain(|part| part.key.job == job);
        parts.sort_unstable_by_key(|part| (part.key.generation, part.key.number));
        Ok(parts)
    }

    /// The parts of an export that is there as a whole; `None` where it is not: it has expired, or made room for newer ones,
    /// something was erased from its collection since it began, or the job came to no such result.
    ///
    /// # Errors
    /// Of Postgres or the object store.
    pub async fn finished_export(
        &self,
        job: &JobRecord,
        now: OffsetDateTime,
    ) -> Result<Option<Vec<ExportKey>>, GalleryError> {
        let Some(result) = result_of(job).filter(|result| now < result.expires_at) else { return Ok(None) };
        if self.images.is_none() {
            return Ok(None);
        }
        let generation = self.store.erasure_generation(&job.collection).await?;
        let parts = self.export_parts(&job.collection, job.job).await?;
        let parts: Vec<ExportKey> =
            parts.into_iter().map(|part| part.key).filter(|key| key.generation == generation).collect();
        Ok((parts.len() as u64 == result.parts && export_is_whole(&parts)).then_some(parts))
    }

    /// Removes these parts.
    ///
    /// # Errors
    /// Of the object store; [`GalleryError::NoExports`].
    pub async fn drop_export_parts(&self, parts: &[ExportKey]) -> Result<(), GalleryError> {
        let images = self.images.as_ref().ok_or(GalleryError::NoExports)?;
        Ok(images.delete_exports(parts).await?)
    }

    /// Makes room for the export of a job that is about to succeed: removes the parts of the oldest finished exports of its
    /// collection, so that four are left with this one. Jobs that wait or run keep theirs.
    ///
    /// # Errors
    /// Of Postgres or the object store; [`GalleryError::NoExports`].
    pub async fn drop_oldest_exports(&self, collection: &CollectionId, job: JobId) -> Result<(), GalleryError> {
        let images = self.images.as_ref().ok_or(GalleryError::NoExports)?;
        let mut finished = Vec::new();
        for (other, parts) in by_job(images.exports(Some(collection)).await?) {
            if other != job
                && let Some(record) = self.store.job(other).await?
                && result_of(&record).is_some()
            {
                finished.push((record.finished_at, parts));
            }
        }
        // The newest first. The ids of jobs have no order.
        finished.sort_unstable_by_key(|(finished_at, _)| Reverse(*finished_at));
        let dropped: Vec<ExportKey> = finished.into_iter().skip(MOST_KEPT - 1).flat_map(|(_, parts)| parts).collect();
        Ok(images.delete_exports(&dropped).await?)
    }

    /// Removes the parts of exports that nobody can have any more: expired ones, those of jobs that failed, were cancelled or are
    /// gone, and those from whose collection something was erased since. Jobs that wait or run keep theirs. How many parts.
    ///
    /// # Errors
    /// Of Postgres or the object store.
    pub async fn prune_exports(&self, now: OffsetDateTime) -> Result<u64, GalleryError> {
        let Some(images) = &self.images else { return Ok(0) };
        let mut removed = 0;
        for (job, mut parts) in by_job(images.exports(None).await?) {
            match self.store.job(job).await? {
                Some(record) if !record.state.is_over() => continue,
                Some(record) if result_of(&record).is_some_and(|result| now < result.expires_at) => {
                    let generation = self.store.erasure_generation(&record.collection).await?;
                    parts.retain(|part| part.generation != generation);
                }
                _ => {}
            }
            images.delete_exports(&parts).await?;
            removed += parts.len() as u64;
        }
        Ok(removed)
    }

    /// Removes every export of a collection, from which something is erased. How many parts. A job that exports at that moment finds
    /// that its generation is over.
    pub(crate) async fn erase_exports(&self, collection: &CollectionId) -> Result<u64, GalleryError> {
        let Some(images) = &self.images else { return Ok(0) };
        Ok(images.erase_exports(collection).await?)
    }
}

/// The parts of each job.
fn by_job(parts: Vec<ListedExport>) -> BTreeMap<JobId, Vec<ExportKey>> {
    let mut jobs: BTreeMap<JobId, Vec<ExportKey>> = BTreeMap::new();
    for part in parts {
        jobs.entry(part.key.job).or_default().push(part.key);
    }
    jobs
}

/// The result of an export that succeeded.
fn result_of(job: &JobRecord) -> Option<ExportResult> {
    let succeeded = job.kind == JobKind::Export && job.state == JobState::Succeeded;
    succeeded.then(|| serde_json::from_value(job.result.clone()?).ok()).flatten()
}

/// Whether these are the parts of one export from the first on, in order and without a gap.
pub fn export_is_whole(parts: &[ExportKey]) -> bool {
    !parts.is_empty() && parts.iter().zip(0..).all(|(part, number)| part.number == number)
}

/// What takes some milliseconds of a processor.
async fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, GalleryError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| GalleryError::Stopped)
}

fn broken(key: &ExportKey, why: &dyn std::fmt::Display) -> GalleryError {
    GalleryError::BrokenPart { key: key.to_string(), why: why.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(text: &str) -> ExportPart {
        ExportPart { text: text.as_bytes().to_vec(), sum: Sum { persons: 3, faces: 7 } }
    }

    #[test]
    fn a_part_comes_back_with_its_sum_and_is_the_same_each_time() {
        let lines = "{\"type\":\"person\",\"name\":\"Ada\"}\n{\"type\":\"end\",\"persons\":3,\"faces\":7}\n";
        let packed = part(lines).packed().unwrap();
        assert_eq!(packed, part(lines).packed().unwrap());
        let back = ExportPart::unpacked(&packed).unwrap();
        assert!(back == part(lines));
        assert_eq!(back.end().unwrap().sum(), Sum { persons: 3, faces: 7 });
    }

    #[test]
    fn what_is_cut_off_or_too_long_is_no_part() {
        let packed = part("{}\n").packed().unwrap();
        assert!(ExportPart::unpacked(&packed[..packed.len() - 1]).is_none());
        assert!(ExportPart::unpacked(b"{}\n").is_none());
        let long = ExportPart { text: vec![b' '; EXPORT_PART_BYTES + 1], sum: Sum::default() };
        assert!(ExportPart::unpacked(&long.packed().unwrap()).is_none());
        assert!(part("{\"type\":\"end\"}").end().is_none(), "a line without its end");
        assert!(part("").end().is_none());
    }

    #[test]
    fn an_export_is_whole_from_its_first_part_on() {
        let key = |number| ExportKey {
            collection: "office".parse().unwrap(),
            job: uuid::Uuid::nil().into(),
            generation: 0,
            number,
        };
        assert!(export_is_whole(&[key(0), key(1)]));
        for parts in [&[][..], &[key(1)], &[key(0), key(2)], &[key(1), key(0)]] {
            assert!(!export_is_whole(parts));
        }
    }
}
