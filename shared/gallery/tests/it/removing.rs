//! Faces that are removed while they come back, and by whoever has no images. What is erased with a receipt is in `erasing`.

use facewire_domain::KeepImages;
use facewire_gallery::Gallery;
use facewire_store_object::ImageKey;
use facewire_store_pg::PolicyChanges;

use crate::erasing::{DAY, images, kept};
use crate::support::{World, by, image_of, office, person};

#[tokio::test(flavor = "multi_thread")]
async fn a_face_that_is_enrolled_again_while_it_is_removed_is_found() {
    let world = World::new().await;
    let gallery = &world.gallery;
    let faces = world.enrolled(&[("a", 0.0), ("b", 60.0)]).await;
    // Whoever removes it found it tombstoned before that.
    let comes_back = async || {
        gallery.store.tombstone(&faces[..1]).await.unwrap();
        assert_eq!(world.enrolled(&[("a", 0.0)]).await, faces[..1]);
    };
    comes_back().await;
    gallery.forget(&faces[..1]).await.unwrap();
    assert_eq!(world.nearest(0.0).await, Some(person("a")));
    comes_back().await;
    assert_eq!(gallery.forget_with_images(&faces[..1], DAY).await.unwrap(), 0);
    assert_eq!(world.nearest(0.0).await, Some(person("a")));
    comes_back().await;
    gallery.remove_points(&faces[..1]).await.unwrap();
    assert_eq!(world.nearest(0.0).await, Some(person("a")));
    assert_eq!(gallery.store.gallery(None).await.unwrap().pending, 0);
    // Nothing comes back of one that is removed.
    gallery.store.tombstone(&faces[..1]).await.unwrap();
    gallery.remove_points(&faces[..1]).await.unwrap();
    assert_eq!(world.nearest(0.0).await, Some(person("b")));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_face_stays_for_whoever_has_its_images() {
    let world = World::new().await;
    let gallery = &world.gallery;
    let enrolled = world.enrolled(&[("a", 0.0)]).await;
    let old = kept(&world, "old", None);
    assert!(gallery.keep(std::slice::from_ref(&old)).await.unwrap().iter().all(Result::is_ok));
    for image in [image_of("a", 0.0), old.image_hash] {
        world.images.put(&ImageKey::aligned(office(), image, 0), "picture".into()).await.unwrap();
    }
    let blind = Gallery { images: None, ..gallery.clone() };
    let keep = async |images| {
        let changes = PolicyChanges { keep_images: Some(images), ..PolicyChanges::default() };
        assert!(blind.store.update_policy(&office(), &changes, &by()).await.unwrap());
    };
    keep(KeepImages::Aligned).await;
    gallery.store.tombstone(&[old.face]).await.unwrap();
    assert_eq!(blind.forget_with_images(&[old.face], DAY).await.unwrap(), 1);
    assert!(blind.remove_face(enrolled[0], &by()).await.unwrap());
    let left = gallery.store.gallery(None).await.unwrap();
    assert_eq!((left.tombstoned, gallery.vectors.count(None).await.unwrap()), (2, 0));
    assert_eq!(images(&world).await.len(), 2);
    let tombstoned = gallery.store.tombstoned_faces(None, 10).await.unwrap();
    assert_eq!(gallery.forget_with_images(&tombstoned, DAY).await.unwrap(), 0);
    assert_eq!(images(&world).await, []);
    assert_eq!(gallery.store.count_faces().await.unwrap(), 0);
    // Where no images are kept, nobody else is waited for.
    keep(KeepImages::None).await;
    let new = kept(&world, "new", None);
    assert!(gallery.keep(std::slice::from_ref(&new)).await.unwrap().iter().all(Result::is_ok));
    gallery.store.tombstone(&[new.face]).await.unwrap();
    assert_eq!(blind.forget_with_images(&[new.face], DAY).await.unwrap(), 0);
    assert_eq!(gallery.store.count_faces().await.unwrap(), 0);
    world.end().await;
}
