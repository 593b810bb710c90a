//! Parts of exports, beside the kept images: named, written, read, listed, erased. What is in a part, and how long it is kept, is not
//! known here.
//!
//! `.exports/<collection>/<job>/<generation>-<number>.ndjson.gz`: no collection is called `.exports`, so that no image has such a name.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use facewire_domain::{CollectionId, JobId};
use futures_util::StreamExt;
use object_store::Attributes;
use object_store::path::Path;

use crate::ObjectError;
use crate::key::InvalidKey;
use crate::store::{ImageStore, PutOutcome, blocking};

/// The directory of all exports.
const ROOT: &str = ".exports";

/// What the names of all parts begin with.
pub(crate) const PREFIX: &str = ".exports/";

/// The largest part that is read. The limit of images is not asked: an operator sets it for images.
const MOST_BYTES: u64 = 32 << 20;

/// The key of one part of an export.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExportKey {
    /// What was exported.
    pub collection: CollectionId,
    /// The job that exports.
    pub job: JobId,
    /// Which state of the collection the export is of: parts of two of them do not belong together.
    pub generation: u64,
    /// Which part, from 0.
    pub number: u32,
}

/// A part, as a listing has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedExport {
    /// Its key.
    pub key: ExportKey,
    /// Its size in bytes.
    pub size: u64,
}

impl ExportKey {
    fn path(&self) -> Path {
        // Every character of a key is one that `Path` leaves as it is.
        Path::from(self.to_string())
    }

    /// Where all parts of its job are in a directory.
    fn directory(&self) -> String {
        format!("{PREFIX}{}/{}/", self.collection, self.job)
    }
}

impl fmt::Display for ExportKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { collection, job, generation, number } = self;
        // Of one width, so that the store's order is the order of the numbers.
        write!(f, "{PREFIX}{collection}/{job}/{generation}-{number:010}.ndjson.gz")
    }
}

fn parse(text: &str) -> Option<ExportKey> {
    let mut parts = text.strip_prefix(PREFIX)?.split('/');
    let (collection, job) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let (generation, number) = parts.next()?.strip_suffix(".ndjson.gz")?.split_once('-')?;
    let key = ExportKey { collection, job, generation: generation.parse().ok()?, number: number.parse().ok()? };
    // One spelling for each key: whatever was left unchecked above shows here.
    (key.to_string() == text).then_some(key)
}

impl FromStr for ExportKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        parse(text).ok_or(InvalidKey)
    }
}

/// Whether parts lie below `.exports/`, `.exports/<collection>/` or `.exports/<collection>/<job>/`.
pub(crate) fn is_level(path: &str) -> bool {
    let Some(below) = path.strip_prefix(PREFIX) else { return false };
    let mut names = below.split_terminator('/');
    let collection = names.next().is_none_or(|name| name.parse::<CollectionId>().is_ok());
    let job = names.next().is_none_or(|name| name.parse::<JobId>().is_ok());
    collection && job && names.next().is_none()
}

/// Where the exports of a collection, or of all, are in a directory.
pub(crate) fn directory_of(collection: Option<&CollectionId>) -> String {
    collection.map_or_else(|| PREFIX.to_owned(), |collection| format!("{PREFIX}{collection}/"))
}

impl ImageStore {
    /// Stores a part unless there is one of this key.
    ///
    /// # Errors
    /// [`ObjectError::TooLarge`] for one that could not be read; those of the store.
    pub async fn put_export(&self, key: &ExportKey, content: Bytes) -> Result<PutOutcome, ObjectError> {
        let size = content.len() as u64;
        if size > MOST_BYTES {
            return Err(ObjectError::TooLarge { size, limit: MOST_BYTES });
        }
        self.write(&key.path(), content, Attributes::new()).await
    }

    /// A part; `None`: there is none.
    ///
    /// # Errors
    /// [`ObjectError::TooLarge`] before any of it is read; those of the store.
    pub async fn export(&self, key: &ExportKey) -> Result<Option<Bytes>, ObjectError> {
        Ok(self.read(&key.path(), MOST_BYTES).await?.map(|(content, _)| content))
    }

    /// The parts of all exports of a collection, or of all collections, in the order of their keys' texts.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn exports(&self, collection: Option<&CollectionId>) -> Result<Vec<ListedExport>, ObjectError> {
        if let Some(directory) = self.directory().cloned() {
            let from = directory_of(collection);
            let listed = blocking("list", move || directory.exports(&from));
            return self.timed("list", listed).await;
        }
        self.measured("list", self.exports_in_bucket(collection)).await
    }

    async fn exports_in_bucket(&self, collection: Option<&CollectionId>) -> Result<Vec<ListedExport>, ObjectError> {
        let prefix = collection.map_or_else(|| ROOT.to_owned(), |collection| format!("{ROOT}/{collection}"));
        let mut objects = self.inner.store.list(Some(&Path::from(prefix)));
        let mut listed = Vec::new();
        // Each request has its own time.
        while let Some(object) = self.in_time("list", objects.next()).await? {
            let object = object.map_err(|error| ObjectError::of("list", &error))?;
            if let Ok(key) = object.location.as_ref().parse::<ExportKey>() {
                listed.push(ListedExport { key, size: object.size });
            }
        }
        Ok(listed)
    }

    /// Erases parts. One that is absent is erased already. In a directory, that of a job goes with its last part.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn delete_exports(&self, keys: &[ExportKey]) -> Result<(), ObjectError> {
        let paths: Vec<Path> = keys.iter().map(ExportKey::path).collect();
        self.delete_paths(&paths).await?;
        if keys.is_empty() {
            return Ok(());
        }
        let directories: BTreeSet<String> = keys.iter().map(ExportKey::directory).collect();
        self.remove_empty(directories.into_iter().collect()).await
    }

    /// Erases every part of every export of a collection, also what is half-written. How many parts there were.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn erase_exports(&self, collection: &CollectionId) -> Result<u64, ObjectError> {
        let keys: Vec<ExportKey> = self.exports(Some(collection)).await?.into_iter().map(|listed| listed.key).collect();
        self.delete_exports(&keys).await?;
        self.sweep(directory_of(Some(collection))).await?;
        Ok(keys.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(generation: u64, number: u32) -> ExportKey {
        let job = "00000000-0000-4000-8000-000000000001".parse().unwrap();
        ExportKey { collection: "office".parse().unwrap(), job, generation, number }
    }

    #[test]
    fn a_key_survives_its_text_and_its_path() {
        let part = key(7, 12);
        let text = ".exports/office/00000000-0000-4000-8000-000000000001/7-0000000012.ndjson.gz";
        assert_eq!((part.to_string().as_str(), part.path().as_ref()), (text, text));
        for part in [part, key(0, 0), key(u64::MAX, u32::MAX)] {
            assert_eq!(part.to_string().parse(), Ok(part));
        }
        assert!(text.parse::<crate::ImageKey>().is_err());
    }

    #[test]
    fn what_is_not_ours_is_no_key() {
        let job = "00000000-0000-4000-8000-000000000001";
        for text in [
            String::new(),
            format!("exports/office/{job}/7-0000000012.ndjson.gz"),
            format!(".exports/of.fice/{job}/7-0000000012.ndjson.gz"),
            format!(".exports/office/{}/7-0000000012.ndjson.gz", job.replace('-', "")),
            format!(".exports/office/{job}/7-12.ndjson.gz"),
            format!(".exports/office/{job}/+7-0000000012.ndjson.gz"),
            format!(".exports/office/{job}/7-0000000012.ndjson"),
            format!(".exports/office/{job}/7-0000000012.ndjson.gz/more"),
        ] {
            assert_eq!(text.parse::<ExportKey>(), Err(InvalidKey), "{text}");
        }
    }

    #[test]
    fn parts_lie_below_a_collection_and_a_job() {
        let job = "00000000-0000-4000-8000-000000000001";
        for level in [PREFIX.to_owned(), directory_of(Some(&key(0, 0).collection)), format!("{PREFIX}office/{job}/")] {
            assert!(is_level(&level), "{level}");
        }
        for other in ["office/", ".exports/of.fice/", ".exports/office/7/", ".exports/office/x/y/"] {
            assert!(!is_level(other), "{other}");
        }
        assert!(!is_level(&format!("{PREFIX}office/{job}/more/")));
    }
}
