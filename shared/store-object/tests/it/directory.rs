//! What holds for a directory alone: who may read it, and what a crash leaves there.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use facewire_domain::FaultKind;
use facewire_store_object::{ImageKey, ImageStore, ObjectError, Options, PutOutcome};

use crate::support::{collection, in_directory, original, write};

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn only_the_owner_may_look() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("new/images");
    let store = ImageStore::connect(&Options::default().or_directory(&root)).unwrap();
    let (key, content) = original("office", "jpeg");
    store.put(&key, content).await.unwrap();
    let file = root.join(key.to_string());
    assert_eq!(mode(&file), 0o600);
    for directory in file.ancestors().skip(1).take(4) {
        assert_eq!(mode(directory), 0o700, "{}", directory.display());
    }
    assert_eq!(mode(&root), 0o700);
}

#[tokio::test]
async fn a_directory_that_was_there_keeps_its_permissions() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o750)).unwrap();
    let store = ImageStore::connect(&Options::default().or_directory(dir.path())).unwrap();
    let (key, content) = original("office", "jpeg");
    store.put(&key, content).await.unwrap();
    assert_eq!((mode(dir.path()), mode(&dir.path().join("office"))), (0o750, 0o700));
}

#[tokio::test]
async fn writers_of_one_image_agree_on_who_wrote_it() {
    let dir = tempfile::tempdir().unwrap();
    let kept = in_directory(&dir);
    let (key, content) = original("office", "jpeg");
    let writers: Vec<_> = (0..8)
        .map(|_| {
            let (store, key, content) = (kept.store.clone(), key.clone(), content.clone());
            tokio::spawn(async move { store.put(&key, content).await.unwrap() })
        })
        .collect();
    let mut written = 0;
    for writer in writers {
        written += usize::from(writer.await.unwrap() == PutOutcome::Written);
    }
    assert_eq!(written, 1);
    assert_eq!(kept.store.get(&key).await.unwrap(), Some(content));
    assert_eq!(kept.store.remove_unfinished(None, Duration::ZERO).await.unwrap(), 0);
}

#[tokio::test]
async fn what_a_crash_left_half_written_is_no_image_and_is_erased() {
    let dir = tempfile::tempdir().unwrap();
    let kept = in_directory(&dir);
    let (key, content) = original("office", "jpeg");
    let (other, _) = original("lobby", "jpeg");
    kept.write(&format!("{key}#1"), b"jp");
    kept.write(&format!("{other}#7"), b"jp");
    kept.write("office/notes#1", b"theirs");
    let page = kept.store.list(None, None, 10).await.unwrap();
    assert_eq!((page.objects.len(), page.foreign), (0, 1));
    // It is in nobody's way.
    assert_eq!(kept.store.put(&key, content).await.unwrap(), PutOutcome::Written);
    assert_eq!(kept.store.remove_unfinished(None, Duration::from_secs(3600)).await.unwrap(), 0);
    assert_eq!(kept.store.delete_collection(&collection("office"), 10).await.unwrap().objects, 1);
    assert!(!kept.files.join(format!("{key}#1")).exists());
    assert!(kept.files.join("office/notes#1").exists());
    assert_eq!(kept.store.remove_unfinished(None, Duration::ZERO).await.unwrap(), 1);
    assert!(!kept.files.join(format!("{other}#7")).exists());
}

#[tokio::test]
async fn an_erased_collection_leaves_no_directory() {
    let dir = tempfile::tempdir().unwrap();
    let kept = in_directory(&dir);
    let (key, content) = original("office", "jpeg");
    let face = ImageKey::aligned(collection("office"), key.hash(), 0);
    kept.store.put(&key, content).await.unwrap();
    kept.store.put(&face, Bytes::from("png")).await.unwrap();
    kept.store.delete_collection(&collection("office"), 10).await.unwrap();
    assert_eq!(std::fs::read_dir(&kept.files).unwrap().count(), 0);
    kept.store.put(&face, Bytes::from("png")).await.unwrap();
}

/// Erases a collection again and again, which removes its directories, while the other store writes to it. Gives what the writes came to.
async fn write_beside_an_erasure(erasing: ImageStore, writing: &ImageStore) -> Vec<Result<PutOutcome, ObjectError>> {
    let erasing = tokio::spawn(async move {
        for _ in 0..50 {
            erasing.delete_collection(&collection("office"), 10).await.unwrap();
        }
    });
    let (hash, mut outcomes) = (original("office", "jpeg").0.hash(), Vec::new());
    for face in 0..50 {
        let key = ImageKey::aligned(collection("office"), hash, face);
        outcomes.push(writing.put(&key, Bytes::from("png")).await);
    }
    erasing.await.unwrap();
    outcomes
}

#[tokio::test]
async fn a_write_beside_an_erasure_succeeds() {
    let dir = tempfile::tempdir().unwrap();
    let kept = in_directory(&dir);
    for outcome in write_beside_an_erasure(kept.store.clone(), &kept.store).await {
        assert_eq!(outcome.unwrap(), PutOutcome::Written);
    }
}

#[tokio::test]
async fn a_write_beside_an_erasure_by_another_process_is_tried_again_at_worst() {
    let dir = tempfile::tempdir().unwrap();
    let kept = in_directory(&dir);
    let other = ImageStore::connect(&kept.options).unwrap();
    for outcome in write_beside_an_erasure(other, &kept.store).await {
        assert!(outcome.as_ref().err().is_none_or(|error| error.kind() == FaultKind::Transient), "{outcome:?}");
    }
}

#[tokio::test]
async fn a_link_is_not_followed_by_listing_nor_erasing() {
    let dir = tempfile::tempdir().unwrap();
    let kept = in_directory(&dir);
    let (key, _) = original("office", "jpeg");
    let theirs = dir.path().join("theirs");
    write(&theirs.join(key.to_string()), b"jpeg");
    symlink(theirs.join("office"), kept.files.join("office")).unwrap();
    let page = kept.store.list(None, None, 10).await.unwrap();
    assert_eq!((page.objects.len(), page.foreign), (0, 1));
    kept.store.delete_collection(&collection("office"), 10).await.unwrap();
    assert!(theirs.join(key.to_string()).exists());
}

#[tokio::test]
async fn a_directory_that_cannot_be_used_is_for_the_operator() {
    let dir = tempfile::tempdir().unwrap();
    let kept = in_directory(&dir);
    let (key, content) = original("office", "jpeg");
    std::fs::remove_dir_all(&kept.files).unwrap();
    // Neither absent, nor erased: out of reach.
    let errors = [
        kept.store.health().await.err(),
        kept.store.put(&key, content).await.err(),
        kept.store.get(&key).await.err(),
        kept.store.list(None, None, 1).await.err(),
        kept.store.delete(&[key]).await.err(),
    ];
    for error in errors.map(Option::unwrap) {
        assert!(matches!(error, ObjectError::NoBucket), "{error}");
    }
    assert!(!kept.files.exists());
    write(&kept.files, b"a file");
    let error = ImageStore::connect(&kept.options).unwrap_err();
    assert_eq!(error.kind(), FaultKind::Systemic, "{error}");
}
