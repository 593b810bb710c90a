//! The image store itself: whole images in and out, by key; and what parts of exports share with them.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use facewire_domain::ImageHash;
use facewire_telemetry::events;
use futures_util::StreamExt;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, Error as StoreError, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
};
use tokio::sync::RwLock;

use crate::ObjectError;
use crate::directory::Directory;
use crate::key::{ImageKey, ImageKind};
use crate::options::{Options, Place};
use crate::scan::MOST;

/// The hash of the content, stored beside it where the store can (S3 can, a directory cannot): the key of an aligned face
/// or a crop names the original.
const CONTENT_HASH: Attribute = Attribute::Metadata(std::borrow::Cow::Borrowed("sha256"));

/// How often a write is tried whose directory is removed meanwhile: another process erases the collection.
const RACES: usize = 10;

/// What a write came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutOutcome {
    /// The image is stored.
    Written,
    /// It was there already, and was left as it is.
    Present,
}

/// A store of kept images. Cheap to clone; shares its connections, which are made when they are first needed and made
/// anew when they break.
///
/// Erasing is final only where nothing else keeps copies: a bucket must not be versioned, or must have a rule that
/// removes old versions.
#[derive(Clone)]
pub struct ImageStore {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) store: Box<dyn ObjectStore>,
    backing: Backing,
    /// Writers of files read it; whoever removes their directories writes it.
    pub(crate) removing: RwLock<()>,
    timeout: Duration,
    max_bytes: u64,
    name: String,
}

/// What the store is made of.
enum Backing {
    Directory(Directory),
    #[cfg(feature = "s3")]
    Bucket(crate::s3::Probe),
}

impl fmt::Debug for ImageStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The client's configuration holds the keys.
        f.debug_struct("ImageStore").field("name", &self.inner.name).finish_non_exhaustive()
    }
}

impl ImageStore {
    /// Opens a directory, which is made where it is missing, or takes in the options of a bucket. Makes no request: the
    /// server may come up later, and [`health`](Self::health) finds out. Reads files: call it at the start.
    ///
    /// # Errors
    /// [`ObjectError::Options`] for options that cannot be used; those of the directory.
    pub fn connect(options: &Options) -> Result<Self, ObjectError> {
        let (store, backing, name): (Box<dyn ObjectStore>, _, _) = match options.place()? {
            Place::Directory(path) => {
                let directory = Directory::open(&path).map_err(|error| ObjectError::io("open", &error))?;
                let store = LocalFileSystem::new_with_prefix(directory.root())
                    .map_err(|error| ObjectError::of("open", &error))?
                    // A write that was reported is still there after a power failure.
                    .with_fsync(true);
                (Box::new(store), Backing::Directory(directory), "directory".to_owned())
            }
            #[cfg(feature = "s3")]
            Place::Bucket { name, prefix } => {
                let (store, probe) = crate::s3::open(options, &name, &prefix)?;
                (store, Backing::Bucket(probe), format!("bucket {name}"))
            }
            #[cfg(not(feature = "s3"))]
            Place::Bucket { .. } => return Err(crate::options::refuse("this build has no S3")),
        };
        let (timeout, max_bytes) = (options.timeout, options.max_bytes.as_u64());
        Ok(Self { inner: Arc::new(Inner { store, backing, removing: RwLock::new(()), timeout, max_bytes, name }) })
    }

    /// Whether the store answers, and lets this process list. The identity also needs the permissions to read, write and
    /// delete; without the one to list, S3 does not even say that an object is absent.
    ///
    /// # Errors
    /// Transient ones while it is away; systemic ones for credentials, permissions, bucket or region.
    pub async fn health(&self) -> Result<(), ObjectError> {
        self.timed("health", async {
            match &self.inner.backing {
                Backing::Directory(_) => self.check_root("health").await,
                #[cfg(feature = "s3")]
                Backing::Bucket(probe) => probe.ask().await.map_err(|error| ObjectError::of("health", &error)),
            }
        })
        .await
    }

    /// Stores an image under its key unless one is there already: the same key means the same image.
    ///
    /// # Errors
    /// [`ObjectError::TooLarge`]; [`ObjectError::Corrupt`] for an original that does not have its key's hash; else those
    /// of the store.
    pub async fn put(&self, key: &ImageKey, content: Bytes) -> Result<PutOutcome, ObjectError> {
        self.check_size(content.len() as u64)?;
        let hash = match key.kind() {
            ImageKind::Crop | ImageKind::Aligned if self.directory().is_some() => None,
            _ => Some(hash_of(content.clone()).await?),
        };
        if key.kind() == ImageKind::Original && hash != Some(key.hash()) {
            return Err(ObjectError::Corrupt { key: key.to_string() });
        }
        let attributes = hash.map(|hash| (CONTENT_HASH, hash.to_string()));
        self.write(&key.path(), content, attributes.into_iter().collect()).await
    }

    /// Stores an object unless one of its name is there. A directory keeps no attributes.
    pub(crate) async fn write(
        &self,
        path: &Path,
        content: Bytes,
        attributes: Attributes,
    ) -> Result<PutOutcome, ObjectError> {
        self.timed("put", async {
            let Some(directory) = self.directory() else {
                return self.create(path, content, attributes).await;
            };
            let _writing = self.inner.removing.read().await;
            for _ in 0..RACES {
                match self.put_file(directory, path, content.clone()).await {
                    // The root is there: a directory below it was removed before the write ended.
                    Err(ObjectError::NoBucket) => self.check_root("put").await?,
                    done => return done,
                }
            }
            Err(ObjectError::unavailable("put", "the image's directory is being removed"))
        })
        .await
    }

    async fn put_file(&self, directory: &Directory, path: &Path, content: Bytes) -> Result<PutOutcome, ObjectError> {
        let (of, to) = (directory.clone(), path.clone());
        blocking("put", move || of.before_write(to.as_ref())).await?;
        let outcome = self.create(path, content, Attributes::new()).await?;
        let (of, to) = (directory.clone(), path.clone());
        blocking("put", move || of.after_write(to.as_ref())).await?;
        Ok(outcome)
    }

    async fn create(&self, path: &Path, content: Bytes, attributes: Attributes) -> Result<PutOutcome, ObjectError> {
        let options = PutOptions { mode: PutMode::Create, attributes, ..PutOptions::default() };
        match self.inner.store.put_opts(path, PutPayload::from(content), options).await {
            Ok(_) => Ok(PutOutcome::Written),
            Err(StoreError::AlreadyExists { source, .. }) if is_conflict(source.as_ref()) => {
                Err(ObjectError::unavailable("put", "another request for the same image is in progress"))
            }
            Err(StoreError::AlreadyExists { .. }) => Ok(PutOutcome::Present),
            Err(error) => Err(ObjectError::of("put", &error)),
        }
    }

    /// The image under the key; `None`: there is none.
    ///
    /// # Errors
    /// [`ObjectError::TooLarge`] before any of it is read; [`ObjectError::Corrupt`] if the content of an original does
    /// not have its key's hash, or other content not the hash that S3 stored with it (in a directory there is none);
    /// else those of the store.
    pub async fn get(&self, key: &ImageKey) -> Result<Option<Bytes>, ObjectError> {
        let found = self.read(&key.path(), self.inner.max_bytes).await?;
        let Some((content, attributes)) = found else { return Ok(None) };
        if let Some(expected) = expected_hash(key, &attributes)
            && hash_of(content.clone()).await?.to_string() != expected
        {
            return Err(ObjectError::Corrupt { key: key.to_string() });
        }
        Ok(Some(content))
    }

    /// The object of this name with what the store keeps beside it; `None`: there is none.
    pub(crate) async fn read(&self, path: &Path, limit: u64) -> Result<Option<(Bytes, Attributes)>, ObjectError> {
        self.timed("get", async {
            let found = match self.inner.store.get(path).await {
                Err(error) if is_absent(&error) => return self.check_root("get").await.map(|()| None),
                found => found.map_err(|error| ObjectError::of("get", &error))?,
            };
            // The transport ends at the announced size.
            let (size, attributes) = (found.meta.size, found.attributes.clone());
            if size > limit {
                return Err(ObjectError::TooLarge { size, limit });
            }
            let content = found.bytes().await.map_err(|error| ObjectError::of("get", &error))?;
            Ok(Some((content, attributes)))
        })
        .await
    }

    /// Erases images. One that is absent is erased already. An error of one does not keep the others; the first is given.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn delete(&self, keys: &[ImageKey]) -> Result<(), ObjectError> {
        let paths: Vec<Path> = keys.iter().map(ImageKey::path).collect();
        self.delete_paths(&paths).await
    }

    pub(crate) async fn delete_paths(&self, paths: &[Path]) -> Result<(), ObjectError> {
        let mut first = Ok(());
        for part in paths.chunks(MOST) {
            let done = self.timed("delete", async {
                // Without its root, what it held is not erased but out of reach.
                self.check_root("delete").await?;
                let done = self.delete_part(part).await;
                self.sync(part).await?;
                done
            });
            first = first.and(done.await);
        }
        first
    }

    async fn delete_part(&self, paths: &[Path]) -> Result<(), ObjectError> {
        let paths: Vec<_> = paths.iter().cloned().map(Ok).collect();
        let mut answers = self.inner.store.delete_stream(futures_util::stream::iter(paths).boxed());
        let mut first = Ok(());
        while let Some(answer) = answers.next().await {
            let done = match answer {
                Err(error) if is_absent(&error) => Ok(()),
                answer => answer.map(drop).map_err(|error| ObjectError::of("delete", &error)),
            };
            first = first.and(done);
        }
        first
    }

    /// What is erased stays so after a power failure: `object_store` makes only writes durable.
    async fn sync(&self, paths: &[Path]) -> Result<(), ObjectError> {
        let Some(directory) = self.directory().cloned() else { return Ok(()) };
        let paths: Vec<String> = paths.iter().map(|path| path.as_ref().to_owned()).collect();
        blocking("delete", move || directory.sync(&paths)).await
    }

    /// An absent file means nothing in a directory that is gone.
    async fn check_root(&self, operation: &'static str) -> Result<(), ObjectError> {
        match self.directory().cloned() {
            None => Ok(()),
            Some(directory) => blocking(operation, move || directory.check()).await,
        }
    }

    /// The directory, where it is one.
    pub(crate) fn directory(&self) -> Option<&Directory> {
        match &self.inner.backing {
            Backing::Directory(directory) => Some(directory),
            #[cfg(feature = "s3")]
            Backing::Bucket(_) => None,
        }
    }

    fn check_size(&self, size: u64) -> Result<(), ObjectError> {
        let limit = self.inner.max_bytes;
        if size > limit { Err(ObjectError::TooLarge { size, limit }) } else { Ok(()) }
    }

    /// One operation: bounded in time, and measured.
    pub(crate) async fn timed<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T, ObjectError>>,
    ) -> Result<T, ObjectError> {
        self.measured(operation, async { self.in_time(operation, call).await? }).await
    }

    pub(crate) async fn in_time<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = T>,
    ) -> Result<T, ObjectError> {
        let waited = self.inner.timeout;
        tokio::time::timeout(waited, call).await.map_err(|_| ObjectError::Timeout { operation, waited })
    }

    pub(crate) async fn measured<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T, ObjectError>>,
    ) -> Result<T, ObjectError> {
        let started = Instant::now();
        let answer = call.await;
        let (took, well) = (started.elapsed(), answer.is_ok());
        events::StoreAnswered { system: "object-store", operation, took, well }.emit();
        answer
    }
}

/// The operating system's calls wait for disks: away from the runtime.
pub(crate) async fn blocking<T: Send + 'static>(
    operation: &'static str,
    call: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, ObjectError> {
    let done = tokio::task::spawn_blocking(call).await;
    done.map_err(|_| ObjectError::unavailable(operation, "stopped"))?
        .map_err(|error| ObjectError::io(operation, &error))
}

async fn hash_of(content: Bytes) -> Result<ImageHash, ObjectError> {
    blocking("hash", move || Ok(ImageHash::of(&content))).await
}

fn expected_hash(key: &ImageKey, attributes: &Attributes) -> Option<String> {
    match key.kind() {
        ImageKind::Original => Some(key.hash().to_string()),
        ImageKind::Crop | ImageKind::Aligned => attributes.get(&CONTENT_HASH).map(|hash| hash.to_string()),
    }
}

/// The object is absent; a bucket that is absent is a fault.
fn is_absent(error: &StoreError) -> bool {
    matches!(error, StoreError::NotFound { source, .. } if !source.to_string().contains("NoSuchBucket"))
}

/// S3 answers 409, not 412, while another write or a deletion of the same key is in progress.
fn is_conflict(source: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    source.to_string().contains("status code: 409")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absent_bucket_is_no_absent_object() {
        let missing = |code: &str| {
            let source =
                format!("Server returned non-2xx status code: 404 Not Found: <Error><Code>{code}</Code></Error>");
            StoreError::NotFound { path: "x".to_owned(), source: source.into() }
        };
        assert!(is_absent(&missing("NoSuchKey")));
        assert!(!is_absent(&missing("NoSuchBucket")));
        assert!(matches!(ObjectError::of("get", &missing("NoSuchBucket")), ObjectError::NoBucket));
    }
}
