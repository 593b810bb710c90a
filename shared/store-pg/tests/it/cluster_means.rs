//! The means of clusters: known only as means of all of their faces, and looked for only where there can be one.

use facewire_domain::{ClusterId, FaceId};
use facewire_store_pg::Store;

use crate::clusters::{MODEL, cluster, clusters, found, id, public, sorted, unknown};
use crate::support::{office, test_database};

/// The clusters of which no mean is known, page by page.
async fn unset(store: &Store, model: &str) -> Vec<ClusterId> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = store.clusters_without_centroid(&office(), model, after, 1).await.unwrap();
        let Some((last, _)) = page.last() else { return all };
        after = Some(*last);
        all.extend(page.iter().map(|(cluster, _)| *cluster));
    }
}

#[tokio::test]
async fn the_mean_of_a_part_of_a_cluster_is_not_its_own() {
    let db = test_database().await;
    let store = db.migrated().await;
    let faces = unknown(&store, 8).await;
    cluster(&store, &[found(1, true, &faces[..5])], &[]).await;
    assert_eq!(store.open_clusters(&office(), MODEL).await.unwrap().len(), 1);
    // A run of the first three faces alone finds them together.
    let part = cluster(&store, &[found(1, false, &faces[..3]), found(2, true, &faces[5..])], &[]).await;
    assert_eq!((part.kept, part.moved), (1, 3));
    assert_eq!(clusters(&store, &faces).await, [(public(1), vec![0, 1, 2, 3, 4]), (public(2), vec![5, 6, 7])]);
    let open = store.open_clusters(&office(), MODEL).await.unwrap();
    assert_eq!(open.iter().map(|(cluster, _)| *cluster).collect::<Vec<_>>(), [id(2)]);
    assert_eq!(unset(&store, MODEL).await, [id(1)]);
    // One of all of them knows the mean again.
    cluster(&store, &[found(1, false, &faces[..5])], &[]).await;
    assert_eq!(store.open_clusters(&office(), MODEL).await.unwrap().len(), 2);
    assert!(unset(&store, MODEL).await.is_empty());
    db.drop().await;
}

#[tokio::test]
async fn a_cluster_without_an_embedding_by_the_model_is_not_looked_at() {
    let db = test_database().await;
    let store = db.migrated().await;
    let faces = unknown(&store, 9).await;
    let made = [found(1, true, &faces[..3]), found(2, true, &faces[3..6]), found(3, true, &faces[6..])];
    cluster(&store, &made, &[]).await;
    assert!(unset(&store, "pack-2").await.is_empty());
    let other = [(faces[1], vec![1.0, 0.0]), (faces[8], vec![0.0, 1.0])];
    store.put_reembeddings("pack-2", &other).await.unwrap();
    assert_eq!(unset(&store, "pack-2").await, [id(1), id(3)]);
    db.drop().await;
}

#[tokio::test]
async fn the_embeddings_of_a_cluster_are_read_in_pages() {
    let db = test_database().await;
    let store = db.migrated().await;
    let faces = unknown(&store, 7).await;
    cluster(&store, &[found(1, true, &faces[..5])], &[]).await;
    let (mut read, mut after): (Vec<FaceId>, Option<FaceId>) = (Vec::new(), None);
    loop {
        let page = store.cluster_vectors_page(id(1), MODEL, after, 2).await.unwrap();
        let Some(last) = page.last() else { break };
        assert!(page.len() <= 2 && page.iter().all(|vector| vector.embedding.len() == 4));
        after = Some(last.face);
        read.extend(page.iter().map(|vector| vector.face));
    }
    assert_eq!(read, sorted(&faces[..5]));
    assert!(store.cluster_vectors_page(id(1), "pack-2", None, 2).await.unwrap().is_empty());
    assert!(store.cluster_vectors_page(id(2), MODEL, None, 2).await.unwrap().is_empty());
    db.drop().await;
}
