//! Parts of exports: beside the images, and in the way of none of them.

use std::time::Duration;

use bytes::Bytes;
use bytesize::ByteSize;
use facewire_domain::JobId;
use facewire_store_object::{ExportKey, ImageStore, ListedExport, Options, PutOutcome};

use crate::support::{collection, each_store, in_directory, original};

fn job(number: u8) -> JobId {
    format!("00000000-0000-4000-8000-0000000000{number:02}").parse().unwrap()
}

fn part(of: &str, number: u32) -> ExportKey {
    ExportKey { collection: collection(of), job: job(1), generation: 3, number }
}

fn listed(key: &ExportKey, size: u64) -> ListedExport {
    ListedExport { key: key.clone(), size }
}

#[tokio::test]
async fn a_part_is_written_once_and_read_whatever_the_limit_of_images() {
    each_store(|kept| async move {
        let key = part("office", 0);
        let store = ImageStore::connect(&Options { max_bytes: ByteSize::b(2), ..kept.options.clone() }).unwrap();
        assert_eq!(store.export(&key).await.unwrap(), None);
        assert_eq!(store.put_export(&key, Bytes::from("lines")).await.unwrap(), PutOutcome::Written);
        assert_eq!(store.put_export(&key, Bytes::from("other")).await.unwrap(), PutOutcome::Present);
        assert_eq!(store.export(&key).await.unwrap(), Some(Bytes::from("lines")));
        assert_eq!(std::fs::read(kept.files.join(key.to_string())).unwrap(), b"lines");
    })
    .await;
}

#[tokio::test]
async fn parts_are_listed_in_order_and_are_no_images() {
    each_store(|kept| async move {
        let (image, content) = original("office", "jpeg");
        kept.store.put(&image, content).await.unwrap();
        let other = ExportKey { job: job(2), ..part("office", 0) };
        let all = [part("lobby", 0), part("office", 0), part("office", 9), part("office", 10), other];
        for key in all.iter().rev() {
            kept.store.put_export(key, Bytes::from("lines")).await.unwrap();
        }
        kept.write(".exports/office/notes.txt", b"theirs");
        let keys: Vec<ListedExport> = all.iter().map(|key| listed(key, 5)).collect();
        assert_eq!(kept.store.exports(None).await.unwrap(), keys);
        assert_eq!(kept.store.exports(Some(&collection("office"))).await.unwrap(), keys[1..]);
        assert_eq!(kept.store.exports(Some(&collection("off"))).await.unwrap(), []);
        let page = kept.store.list(None, None, 10).await.unwrap();
        assert_eq!((page.objects.len(), page.foreign), (1, 0));
    })
    .await;
}

#[tokio::test]
async fn erasing_exports_leaves_images_and_other_collections() {
    each_store(|kept| async move {
        let (image, content) = original("office", "jpeg");
        kept.store.put(&image, content.clone()).await.unwrap();
        for key in [part("office", 0), part("office", 1), part("lobby", 0)] {
            kept.store.put_export(&key, Bytes::from("lines")).await.unwrap();
        }
        kept.store.delete_exports(&[part("office", 1), part("office", 7)]).await.unwrap();
        assert_eq!(kept.store.erase_exports(&collection("office")).await.unwrap(), 1);
        assert_eq!(kept.store.erase_exports(&collection("office")).await.unwrap(), 0);
        assert_eq!(kept.store.exports(None).await.unwrap(), [listed(&part("lobby", 0), 5)]);
        assert_eq!(kept.store.get(&image).await.unwrap(), Some(content));
        // Its images go, and nobody's exports with them.
        kept.store.delete_collection(&collection("lobby"), 10).await.unwrap();
        assert_eq!(kept.store.exports(None).await.unwrap().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn the_directory_of_a_job_goes_with_its_last_part() {
    let dir = tempfile::tempdir().unwrap();
    let kept = in_directory(&dir);
    let (first, second) = (part("office", 0), part("office", 1));
    let other = ExportKey { job: job(2), ..part("office", 0) };
    for key in [&first, &second, &other] {
        kept.store.put_export(key, Bytes::from("lines")).await.unwrap();
    }
    let is_there = |number| kept.files.join(format!(".exports/office/{}", job(number))).exists();
    kept.store.delete_exports(std::slice::from_ref(&first)).await.unwrap();
    assert_eq!((is_there(1), is_there(2)), (true, true));
    kept.store.delete_exports(std::slice::from_ref(&second)).await.unwrap();
    assert_eq!((is_there(1), is_there(2)), (false, true));
    // Also where it is gone already.
    kept.store.delete_exports(&[first.clone(), second]).await.unwrap();
    assert_eq!(kept.store.put_export(&first, Bytes::from("lines")).await.unwrap(), PutOutcome::Written);
    // What is not ours stays, and so does the directory that it is in.
    kept.write(&format!(".exports/office/{}/notes.txt", job(2)), b"theirs");
    kept.store.delete_exports(&[first, other]).await.unwrap();
    assert_eq!((is_there(1), is_there(2)), (false, true));
    assert_eq!(kept.store.exports(None).await.unwrap(), []);
}

#[tokio::test]
async fn what_a_crash_left_of_a_part_is_no_part_and_goes() {
    let dir = tempfile::tempdir().unwrap();
    let kept = in_directory(&dir);
    let (half, other) = (format!("{}#1", part("office", 0)), format!("{}#1", part("lobby", 0)));
    for path in [&half, &other] {
        kept.write(path, b"li");
    }
    assert_eq!(kept.store.exports(None).await.unwrap(), []);
    assert_eq!(kept.store.remove_unfinished(None, Duration::from_secs(3600)).await.unwrap(), 0);
    // A collection's images are one thing, its exports another.
    assert_eq!(kept.store.remove_unfinished(Some(&collection("office")), Duration::ZERO).await.unwrap(), 0);
    assert_eq!(kept.store.erase_exports(&collection("office")).await.unwrap(), 0);
    assert!(!kept.files.join(".exports/office").exists());
    assert_eq!(kept.store.remove_unfinished(None, Duration::ZERO).await.unwrap(), 1);
    assert!(!kept.files.join(&other).exists());
}
