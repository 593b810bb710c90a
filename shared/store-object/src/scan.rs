//! The whole store, a page at a time: what reconciliation compares with Postgres, and how a collection is erased.

use std::time::Duration;

use facewire_domain::CollectionId;
use futures_util::StreamExt;
use object_store::ObjectMeta;
use object_store::path::Path;
use time::OffsetDateTime;

use crate::ObjectError;
use crate::export::PREFIX;
use crate::key::ImageKey;
use crate::store::{ImageStore, blocking};

/// The most keys of one request, as S3 has it.
pub(crate) const MOST: usize = 1000;

/// A kept image, as a listing has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its key.
    pub key: ImageKey,
    /// Its size in bytes.
    pub size: u64,
    /// When it was written, by the store's clock.
    pub modified: OffsetDateTime,
}

/// A part of a listing, in key order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// The images.
    pub objects: Vec<Listed>,
    /// Objects (in a directory also whole directories) that are not Facewire's; they were passed over.
    pub foreign: u64,
    /// Where the next page begins: pass it as `after`. `None`: this was the last.
    pub next: Option<ImageKey>,
}

/// What a step of an erasure came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deleted {
    /// How many images were erased.
    pub objects: u64,
    /// Whether there may be more: call it again.
    pub more: bool,
}

impl ImageStore {
    /// Up to `limit` (at least 1) images after that key, of one collection or of all, in key order. Objects that are not
    /// ours are counted and passed over.
    ///
    /// # Errors
    /// Those of the store; [`ObjectError::Refused`] for a server that does not list in order.
    pub async fn list(
        &self,
        collection: Option<&CollectionId>,
        after: Option<&ImageKey>,
        limit: usize,
    ) -> Result<Page, ObjectError> {
        let limit = limit.max(1);
        if let Some(directory) = self.directory().cloned() {
            let (collection, after) = (collection.cloned(), after.cloned());
            let page = blocking("list", move || directory.page(&start(collection.as_ref()), after.as_ref(), limit));
            return self.timed("list", page).await;
        }
        self.measured("list", self.list_bucket(collection, after, limit)).await
    }

    async fn list_bucket(
        &self,
        collection: Option<&CollectionId>,
        after: Option<&ImageKey>,
        limit: usize,
    ) -> Result<Page, ObjectError> {
        let prefix = collection.map(|collection| Path::from(collection.as_str()));
        let mut objects = match after {
            Some(key) => self.inner.store.list_with_offset(prefix.as_ref(), &key.path()),
            None => self.inner.store.list(prefix.as_ref()),
        };
        let mut page = Page::default();
        // Each request has its own time: between two images there can be any number of foreign objects.
        while let Some(object) = self.in_time("list", objects.next()).await? {
            add(&mut page, after, &object.map_err(|error| ObjectError::of("list", &error))?)?;
            if page.objects.len() == limit {
                page.next = page.objects.last().map(|last| last.key.clone());
                break;
            }
        }
        Ok(page)
    }

    /// Erases up to `limit` images of a collection. Call it until there are no more: images that are written meanwhile
    /// are found by the next call. Foreign objects stay.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn delete_collection(&self, collection: &CollectionId, limit: usize) -> Result<Deleted, ObjectError> {
        let page = self.list(Some(collection), None, limit.clamp(1, MOST)).await?;
        let keys: Vec<ImageKey> = page.objects.into_iter().map(|object| object.key).collect();
        self.delete(&keys).await?;
        let more = page.next.is_some();
        if !more {
            self.sweep(start(Some(collection))).await?;
        }
        Ok(Deleted { objects: keys.len() as u64, more })
    }

    /// Removes what a crash left half-written in a directory, if it is older than that; a write takes less than the
    /// timeout. Gives their number. A bucket has no such thing: an image is one request. Without a collection, parts of
    /// exports too.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn remove_unfinished(
        &self,
        collection: Option<&CollectionId>,
        older_than: Duration,
    ) -> Result<u64, ObjectError> {
        self.remove_unfinished_below(start(collection), older_than).await
    }

    async fn remove_unfinished_below(&self, from: String, older_than: Duration) -> Result<u64, ObjectError> {
        let Some(directory) = self.directory().cloned() else { return Ok(0) };
        let remove = move || directory.remove_unfinished(&from, older_than);
        self.timed("remove_unfinished", blocking("remove_unfinished", remove)).await
    }

    /// After an erasure of all that lay there: nothing half-written stays in a directory, and no directory that holds nothing.
    pub(crate) async fn sweep(&self, from: String) -> Result<(), ObjectError> {
        self.remove_unfinished_below(from.clone(), Duration::ZERO).await?;
        self.remove_empty(vec![from]).await
    }

    /// Removes these directories, and those below them, as far as they hold nothing. A bucket has none.
    pub(crate) async fn remove_empty(&self, directories: Vec<String>) -> Result<(), ObjectError> {
        let Some(directory) = self.directory().cloned() else { return Ok(()) };
        let remove = move || directories.iter().try_for_each(|from| directory.remove_empty(from));
        self.timed("remove_empty", async {
            let _removing = self.inner.removing.write().await;
            blocking("remove_empty", remove).await
        })
        .await
    }
}

/// Where the images of a collection, or all objects, are in a directory.
fn start(collection: Option<&CollectionId>) -> String {
    collection.map(|collection| format!("{collection}/")).unwrap_or_default()
}

fn add(page: &mut Page, after: Option<&ImageKey>, object: &ObjectMeta) -> Result<(), ObjectError> {
    if object.location.as_ref().starts_with(PREFIX) {
        return Ok(());
    }
    let Ok(key) = object.location.as_ref().parse::<ImageKey>() else {
        page.foreign += 1;
        return Ok(());
    };
    // Reconciliation would take an image out of order for an orphan, and erase it.
    if page.objects.last().map(|last| &last.key).or(after).is_some_and(|before| key <= *before) {
        let what = "it does not list in the order of the names".to_owned();
        return Err(ObjectError::Refused { operation: "list", what });
    }
    let modified = std::time::SystemTime::from(object.last_modified).into();
    page.objects.push(Listed { key, size: object.size, modified });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use facewire_domain::{FaultKind, ImageHash};

    #[test]
    fn a_listing_out_of_order_is_refused() {
        let key = |byte| ImageKey::original("office".parse().unwrap(), ImageHash::from_bytes([byte; 32]));
        let object = |location: &str| ObjectMeta {
            location: location.into(),
            last_modified: std::time::SystemTime::UNIX_EPOCH.into(),
            size: 1,
            e_tag: None,
            version: None,
        };
        let mut page = Page::default();
        add(&mut page, Some(&key(1)), &object(&key(2).to_string())).unwrap();
        add(&mut page, Some(&key(1)), &object("foreign")).unwrap();
        assert_eq!((page.objects.len(), page.foreign), (1, 1));
        let error = add(&mut page, Some(&key(1)), &object(&key(2).to_string())).unwrap_err();
        assert_eq!(error.kind(), FaultKind::Systemic);
        assert!(add(&mut Page::default(), Some(&key(3)), &object(&key(2).to_string())).is_err());
    }
}
