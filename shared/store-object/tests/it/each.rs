//! What holds for a directory and for a bucket alike.

use bytes::Bytes;
use bytesize::ByteSize;
use facewire_domain::{FaultKind, ImageHash};
use facewire_store_object::{ImageKey, ImageStore, ObjectError, Options, Page, PutOutcome};

use crate::support::{Kept, collection, each_store, original};

fn limited(kept: &Kept, bytes: u64) -> ImageStore {
    ImageStore::connect(&Options { max_bytes: ByteSize::b(bytes), ..kept.options.clone() }).unwrap()
}

#[tokio::test]
async fn a_second_write_changes_nothing() {
    each_store(|kept| async move {
        let (key, content) = original("office", "jpeg");
        assert_eq!(kept.store.get(&key).await.unwrap(), None);
        assert_eq!(kept.store.put(&key, content.clone()).await.unwrap(), PutOutcome::Written);
        assert_eq!(kept.store.put(&key, content.clone()).await.unwrap(), PutOutcome::Present);
        assert_eq!(kept.store.get(&key).await.unwrap(), Some(content.clone()));
        assert_eq!(std::fs::read(kept.files.join(key.to_string())).unwrap(), content);
        // The key of an aligned face names the original: whatever comes second is the same face.
        let face = ImageKey::aligned(collection("office"), key.hash(), 3);
        assert_eq!(kept.store.put(&face, Bytes::from("png")).await.unwrap(), PutOutcome::Written);
        assert_eq!(kept.store.put(&face, Bytes::from("other")).await.unwrap(), PutOutcome::Present);
        assert_eq!(kept.store.get(&face).await.unwrap(), Some(Bytes::from("png")));
        kept.store.health().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn an_image_is_bounded_both_ways() {
    each_store(|kept| async move {
        let (key, content) = original("office", "12345");
        let small = limited(&kept, 4);
        let error = small.put(&key, content.clone()).await.unwrap_err();
        assert!(matches!(error, ObjectError::TooLarge { size: 5, limit: 4 }), "{error}");
        kept.store.put(&key, content.clone()).await.unwrap();
        let error = small.get(&key).await.unwrap_err();
        assert!(matches!(error, ObjectError::TooLarge { size: 5, limit: 4 }), "{error}");
        assert_eq!(error.kind(), FaultKind::Poison);
        assert_eq!(limited(&kept, 5).get(&key).await.unwrap(), Some(content));
    })
    .await;
}

#[tokio::test]
async fn an_original_has_its_hash_when_written_and_when_read() {
    each_store(|kept| async move {
        let (key, content) = original("office", "jpeg");
        let error = kept.store.put(&key, Bytes::from("other")).await.unwrap_err();
        assert_eq!((error.kind(), kept.store.get(&key).await.unwrap()), (FaultKind::Poison, None));
        kept.store.put(&key, content).await.unwrap();
        kept.write(&key.to_string(), b"jpfg");
        let error = kept.store.get(&key).await.unwrap_err();
        assert!(matches!(error, ObjectError::Corrupt { .. }), "{error}");
        assert_eq!(error.kind(), FaultKind::Poison);
        assert!(!format!("{error} {error:?}").contains("jpfg"));
    })
    .await;
}

/// Keys of three collections, one of which sorts before the other only with its slash, and of all kinds.
fn keys() -> Vec<ImageKey> {
    let mut keys = Vec::new();
    for name in ["a", "a-b", "b"] {
        for byte in [0x00, 0x0f, 0xf0] {
            let hash = ImageHash::from_bytes([byte; 32]);
            keys.push(ImageKey::crop(collection(name), hash, 1));
            keys.extend([2, 10, 0].map(|face| ImageKey::aligned(collection(name), hash, face)));
        }
    }
    keys
}

const FOREIGN: [&str; 6] =
    ["README.md", "a/notes.txt", "a/aligned/thumb.png", "a/aligned/00/0.png", "a-b/other/00/x", "zoo/original/zz/x"];

async fn filled(kept: &Kept) -> Vec<ImageKey> {
    for key in keys() {
        kept.store.put(&key, Bytes::from(key.to_string())).await.unwrap();
    }
    FOREIGN.iter().for_each(|path| kept.write(path, b"theirs"));
    let mut sorted = keys();
    sorted.sort();
    sorted
}

async fn pages(kept: &Kept, of: Option<&str>, limit: usize) -> Vec<Page> {
    let (of, mut pages) = (of.map(collection), Vec::<Page>::new());
    loop {
        let after = pages.last().and_then(|page| page.next.clone());
        pages.push(kept.store.list(of.as_ref(), after.as_ref(), limit).await.unwrap());
        if pages.last().unwrap().next.is_none() {
            return pages;
        }
    }
}

fn listed(pages: &[Page]) -> Vec<ImageKey> {
    pages.iter().flat_map(|page| page.objects.iter().map(|object| object.key.clone())).collect()
}

#[tokio::test]
async fn everything_is_listed_once_in_key_order() {
    each_store(|kept| async move {
        assert_eq!(kept.store.list(None, None, 10).await.unwrap(), Page::default());
        let sorted = filled(&kept).await;
        for limit in [1, 5, sorted.len(), 1000] {
            let pages = pages(&kept, None, limit).await;
            assert_eq!(listed(&pages), sorted);
            assert!(pages.iter().all(|page| page.objects.len() <= limit));
            assert_eq!(pages.iter().map(|page| page.foreign).sum::<u64>(), FOREIGN.len() as u64, "{limit}");
        }
        for name in ["a", "a-b", "b", "none"] {
            let of: Vec<_> = sorted.iter().filter(|key| key.collection().as_str() == name).cloned().collect();
            assert_eq!(listed(&pages(&kept, Some(name), 4).await), of);
        }
        let page = kept.store.list(None, sorted.get(7), 2).await.unwrap();
        assert_eq!(listed(std::slice::from_ref(&page)), sorted[8..10]);
        assert_eq!(page.objects[0].size, sorted[8].to_string().len() as u64);
        let age = time::OffsetDateTime::now_utc() - page.objects[0].modified;
        assert!(age.whole_hours() == 0, "{age}");
        // A key that is not there is a place in the order all the same.
        kept.store.delete(&sorted[3..5]).await.unwrap();
        assert_eq!(listed(&[kept.store.list(None, sorted.get(3), 1).await.unwrap()]), sorted[5..6]);
    })
    .await;
}

#[tokio::test]
async fn what_is_erased_is_gone_and_nothing_else() {
    each_store(|kept| async move {
        let sorted = filled(&kept).await;
        let (gone, left) = sorted.split_at(9);
        kept.store.delete(gone).await.unwrap();
        kept.store.delete(&sorted[5..7]).await.unwrap();
        kept.store.delete(&[]).await.unwrap();
        assert_eq!(listed(&pages(&kept, None, 1000).await), left);
        assert_eq!(kept.store.get(&gone[0]).await.unwrap(), None);
        // It can be kept again.
        assert_eq!(kept.store.put(&gone[0], Bytes::from("again")).await.unwrap(), PutOutcome::Written);
        assert!(FOREIGN.iter().all(|path| kept.files.join(path).exists()));
    })
    .await;
}

#[tokio::test]
async fn a_collection_is_erased_in_steps() {
    each_store(|kept| async move {
        let sorted = filled(&kept).await;
        let (a, mut steps) = (collection("a"), Vec::new());
        loop {
            let step = kept.store.delete_collection(&a, 5).await.unwrap();
            steps.push(step.objects);
            if !step.more {
                break;
            }
        }
        assert_eq!(steps, [5, 5, 2]);
        let left: Vec<_> = sorted.into_iter().filter(|key| *key.collection() != a).collect();
        assert_eq!(listed(&pages(&kept, None, 1000).await), left);
        assert!(FOREIGN.iter().all(|path| kept.files.join(path).exists()));
        assert_eq!(kept.store.delete_collection(&a, 5).await.unwrap().objects, 0);
    })
    .await;
}
