//! Faces counted by how far they have become people: each is in one place.

use std::ops::Range;
use std::time::Duration;

use facewire_domain::{FaceId, ImageHash, JobKind};
use facewire_store_pg::{
    Claim, ClusterRun, FaceStats, Gallery, JobToken, KeptFace, LabelOutcome, LabelTarget, Member, NewCluster, Store,
};
use serde_json::json;
use uuid::Uuid;

use crate::support::{self, at, by, enrolled, face, office, quality, test_database};

fn kept(number: u64) -> KeptFace {
    KeptFace {
        image_hash: ImageHash::of(&number.to_be_bytes()),
        embedding: vec![0.6, 0.8],
        quality: Some(quality()),
        captured_at: at(0),
        ..support::kept(number)
    }
}

/// The right to write of a clustering job.
async fn job(store: &Store) -> JobToken {
    let job = store.create_job(JobKind::Cluster, &office(), &json!({}), &by()).await.unwrap().unwrap().job;
    match store.claim_job(job, "worker", Duration::from_secs(3600), 5).await.unwrap() {
        Claim::Taken(record) => record.token(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn every_face_is_counted_where_it_is() {
    let db = test_database().await;
    let store = db.migrated().await;
    assert_eq!(store.face_stats(None).await.unwrap(), FaceStats { gallery: exact(0, 0, 0), ..FaceStats::default() });
    assert_eq!(store.count_stale_persons().await.unwrap(), 0);
    enrolled(&store, &[face("17", None, 100), face("17", None, 101)]).await;
    assert_eq!(store.count_stale_persons().await.unwrap(), 1, "a person, not faces");
    let kept: Vec<KeptFace> = (0..10).map(kept).collect();
    assert!(store.keep_faces(&kept).await.unwrap().iter().all(Result::is_ok));
    let stats = store.face_stats(Some(&office())).await.unwrap();
    let before = FaceStats { without_person: 10, exemplars: 2, ..FaceStats::default() };
    assert_eq!(stats, FaceStats { gallery: exact(1, 12, 12), ..before });

    // Two clusters of three and two faces, two faces of noise, three that were not looked at.
    let member = |place: usize| Member { face: kept[place].face, probability: 0.75, outlier: 0.25 };
    let cluster = |members: Range<usize>| NewCluster {
        cluster: Uuid::new_v4().into(),
        is_new: true,
        centroid: vec![0.6, 0.8],
        members: members.map(member).collect(),
    };
    let (clusters, noise) = ([cluster(0..3), cluster(3..5)], [member(5), member(6)]);
    let run = ClusterRun { collection: &office(), model: "pack-1", clusters: &clusters, noise: &noise };
    let changes = store.apply_counted_clusters(job(&store).await, &run, &json!({}), &by()).await.unwrap().unwrap();
    let stats = store.face_stats(Some(&office())).await.unwrap();
    let clustered = FaceStats { clustered: 5, noise: 2, clusters: 2, ..before };
    assert_eq!(stats, FaceStats { gallery: stats.gallery, ..clustered });

    let target = LabelTarget::Name("Ada");
    let labelled = store.label_cluster(&office(), &changes.created[0], target, 2, false, &by()).await.unwrap();
    assert!(matches!(labelled, LabelOutcome::Done(_)), "{labelled:?}");
    let stats = store.face_stats(Some(&office())).await.unwrap();
    let named = FaceStats { without_person: 7, clustered: 2, clusters: 1, labelled: 1, exemplars: 4, ..clustered };
    assert_eq!(stats, FaceStats { gallery: stats.gallery, ..named });
    assert_eq!((stats.gallery.persons, stats.gallery.faces), (2, 12));

    let gone: Vec<FaceId> = kept[3..6].iter().map(|face| face.face).collect();
    store.tombstone(&gone).await.unwrap();
    let stats = store.face_stats(None).await.unwrap();
    let left = FaceStats { without_person: 4, clustered: 0, noise: 1, clusters: 0, ..named };
    assert_eq!(stats, FaceStats { gallery: stats.gallery, ..left });
    let elsewhere = store.face_stats(Some(&"hall".parse().unwrap())).await.unwrap();
    assert_eq!(elsewhere, FaceStats { gallery: exact(0, 0, 0), ..FaceStats::default() });
    db.drop().await;
}

/// Counted, not estimated.
fn exact(persons: u64, faces: u64, pending: u64) -> Gallery {
    Gallery { persons, faces, pending, exact: true, ..Gallery::default() }
}
