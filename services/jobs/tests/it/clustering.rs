//! Clusters of faces that are nobody's: found, kept, told, joined.

use std::collections::BTreeSet;
use std::time::Duration;

use facewire_domain::{ClusterId, FaceId, JobKind, JobState};
use facewire_jobs::Options;
use facewire_store_pg::{JobFilter, LabelOutcome, LabelTarget};
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;

use crate::world::{DIM, Face, MODEL, World, approximate, by, group, office, pictures, quick};

/// Two pictures each of two people who are like nobody: no cluster.
fn strangers() -> Vec<Face> {
    (10..12).flat_map(|axis| pictures(axis, 0..2)).collect()
}

/// Eight pictures each of three people.
fn people() -> Vec<Vec<Face>> {
    (0..3).map(|axis| pictures(axis, 0..8)).collect()
}

async fn kept(world: &World) -> (Vec<FaceId>, BTreeSet<BTreeSet<FaceId>>) {
    let mut groups = BTreeSet::new();
    for pictures in people() {
        groups.insert(group(&world.keep(&pictures).await));
    }
    (world.keep(&strangers()).await, groups)
}

#[tokio::test]
async fn people_who_keep_coming_are_found_and_strangers_are_not() {
    let mut world = World::new().await;
    let (strangers, groups) = kept(&world).await;
    world.start(quick());
    let before = world.done(JobKind::Cluster, json!({ "dryRun": true })).await;
    assert_eq!((&before["clusters"], &before["noise"], &before["faces"]), (&json!(3), &json!(4), &json!(28)));
    assert_eq!((&before["moved"], &before["actId"]), (&json!(24), &json!(null)));
    assert!(world.groups().await.is_empty(), "a dry run writes nothing");
    for method in ["hdbscan", "dbscan", "agglomerative"] {
        let result = world.done(JobKind::Cluster, json!({ "method": method, "epsilon": 0.7 })).await;
        assert_eq!((&result["clusters"], &result["noise"]), (&json!(3), &json!(4)), "{method}");
        assert_eq!((&result["approximate"], &result["dryRun"]), (&json!(false), &json!(false)));
        assert_eq!(result["assigned"], json!(null), "not in dual mode");
        assert_eq!(world.groups().await, groups, "{method}");
    }
    let all: Vec<FaceId> = groups.iter().flatten().copied().chain(strangers).collect();
    world.indexed(&all).await;
    let (clusters, total) = world.gallery.store.clusters_page(&office(), true, 1, 10).await.unwrap();
    let mut names: Vec<&str> = clusters.iter().map(|cluster| cluster.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!((names, total), (vec!["unknown_cluster_1", "unknown_cluster_2", "unknown_cluster_3"], 3));
    world.stop().await;
}

#[tokio::test]
async fn over_a_graph_of_neighbours_the_same_is_found_and_said_to_be_approximate() {
    let mut world = World::new().await;
    let (_, groups) = kept(&world).await;
    world.start(approximate());
    let result = world.done(JobKind::Cluster, json!({})).await;
    assert_eq!((&result["approximate"], &result["clusters"]), (&json!(true), &json!(3)));
    assert_eq!(world.groups().await, groups);
    let refused = world.ended(world.job(JobKind::Cluster, json!({ "method": "dbscan" })).await).await;
    assert_eq!(refused.state, JobState::Failed);
    assert!(refused.error.unwrap().contains("hdbscan, which has an approximate mode"));
    world.stop().await;
}

#[tokio::test]
async fn a_second_run_keeps_ids_and_names_and_tells_what_changed() {
    let mut world = World::new().await;
    kept(&world).await;
    world.start(quick());
    let first = world.done(JobKind::Cluster, json!({})).await;
    assert_eq!((first["created"].as_array().unwrap().len(), &first["kept"]), (3, &json!(0)));
    let before = world.clusters().await;
    // More of one of them, and somebody new; another is named.
    let more = world.keep(&pictures(0, 8..12)).await;
    let new = world.keep(&pictures(5, 0..6)).await;
    let of_two = group(&world.keep(&pictures(2, 0..1)).await);
    let named = before.iter().find(|(_, faces)| of_two.is_subset(faces)).map(|(cluster, _)| *cluster).unwrap();
    let records = world.gallery.store.clusters_page(&office(), false, 1, 10).await.unwrap().0;
    let record = records.iter().find(|record| record.cluster == named).unwrap();
    let labelled = world
        .gallery
        .label_cluster(&office(), &record.public_id, LabelTarget::Name("Anna"), false, &by())
        .await
        .unwrap();
    let LabelOutcome::Done(labelled) = labelled else { panic!("{labelled:?}") };
    assert_eq!(labelled.faces.len(), 8);

    let second = world.done(JobKind::Cluster, json!({})).await;
    assert_eq!((second["created"].as_array().unwrap().len(), &second["kept"]), (1, &json!(2)));
    assert_eq!((&second["dissolved"], &second["moved"]), (&json!([]), &json!(10)));
    let after = world.clusters().await;
    for (cluster, faces) in before.iter().filter(|(cluster, _)| **cluster != named) {
        assert!(faces.is_subset(&after[cluster]));
    }
    assert!(after.values().any(|faces| group(&more).is_subset(faces)) && after.values().any(|f| *f == group(&new)));
    assert_eq!(world.face(labelled.faces[0]).await.record.person, Some(labelled.person), "what is named stays");

    let undone = world.gallery.undo(second["actId"].as_str().unwrap().parse().unwrap(), &by()).await.unwrap().unwrap();
    assert_eq!((undone.kind.as_str(), undone.faces.len()), ("cluster", 10));
    let unnamed: Vec<_> = before.into_iter().filter(|(cluster, _)| *cluster != named).collect();
    assert_eq!(world.clusters().await.into_iter().collect::<Vec<_>>(), unnamed);
    world.stop().await;
}

#[tokio::test]
async fn somebody_who_is_left_alone_keeps_their_cluster() {
    let mut world = World::new().await;
    let annas = group(&world.keep(&pictures(0, 0..8)).await);
    let berts = world.keep(&pictures(1, 0..8)).await;
    // Of one visit.
    world.keep(&pictures(10, 0..2)).await;
    world.start(quick());
    assert_eq!(world.done(JobKind::Cluster, json!({})).await["clusters"], json!(2));
    let before = world.clusters().await;
    let of_bert = world.face(berts[0]).await.record.cluster_id.map(ClusterId::from);
    let records = world.gallery.store.clusters_page(&office(), false, 1, 10).await.unwrap().0;
    let record = records.iter().find(|record| Some(record.cluster) == of_bert).unwrap();
    let name = LabelTarget::Name("Bert");
    let labelled = world.gallery.label_cluster(&office(), &record.public_id, name, false, &by()).await.unwrap();
    assert!(matches!(labelled, LabelOutcome::Done(_)), "{labelled:?}");

    for params in [json!({}), json!({ "assignKnown": true })] {
        let again = world.done(JobKind::Cluster, params).await;
        let counts = ["faces", "clusters", "kept", "noise", "moved"].map(|count| again[count].as_u64());
        assert_eq!((counts, &again["dissolved"]), ([10, 1, 1, 2, 0].map(Some), &json!([])), "{again}");
        let left = world.clusters().await;
        assert_eq!(left.values().collect::<Vec<_>>(), [&annas]);
        assert!(left.keys().all(|cluster| before.contains_key(cluster) && Some(*cluster) != of_bert));
    }
    world.stop().await;
}

#[tokio::test]
async fn a_run_is_of_the_newest_of_a_time_and_of_a_quality() {
    let mut world = World::new().await;
    // Pictures are a second apart by their numbers, and two people are taken at the same moments.
    let first = world.keep(&pictures(0, 0..8)).await;
    world.keep(&pictures(1, 0..8)).await;
    let poor: Vec<Face> = pictures(2, 100..108).into_iter().map(|face| Face { score: 0.1, ..face }).collect();
    let poor = world.keep(&poor).await;
    world.start(quick());
    let count = async |params| world.done(JobKind::Cluster, params).await["faces"].as_u64().unwrap();
    assert_eq!(count(json!({ "dryRun": true, "qualityThreshold": 0.3 })).await, 16);
    assert_eq!(count(json!({ "dryRun": true, "maxFaces": 11 })).await, 11);
    assert_eq!(count(json!({ "dryRun": true, "maxFaces": 1000 })).await, 24);
    let since = world.face(poor[0]).await.record.captured_at.format(&Rfc3339).unwrap();
    let until = json!({ "dryRun": true, "until": &since });
    assert_eq!(count(until).await, 16);
    let result = world.done(JobKind::Cluster, json!({ "since": &since, "assignKnown": false })).await;
    assert_eq!((&result["faces"], &result["clusters"]), (&json!(8), &json!(1)), "one group alone is a cluster too");
    assert_eq!(world.face(first[0]).await.record.cluster_id, None);
    world.stop().await;
}

/// The faces with this number and later ones.
async fn since(world: &World, number: u32) -> Value {
    let face = world.keep(&pictures(0, number..number + 1)).await[0];
    json!({ "since": world.face(face).await.record.captured_at.format(&Rfc3339).unwrap() })
}

#[tokio::test]
async fn a_run_of_a_part_leaves_what_it_does_not_look_at_where_it_is() {
    let mut world = World::new().await;
    kept(&world).await;
    world.start(quick());
    world.done(JobKind::Cluster, json!({})).await;
    let before = world.clusters().await;
    assert_eq!(before.len(), 3);
    // One of each makes no cluster, but each has its own already.
    let few = world.done(JobKind::Cluster, since(&world, 7).await).await;
    let counts = ["faces", "clusters", "noise", "moved"].map(|count| few[count].as_u64());
    assert_eq!((counts, world.clusters().await), ([3, 0, 0, 0].map(Some), before.clone()), "{few}");
    let part = world.done(JobKind::Cluster, since(&world, 3).await).await;
    let counts = ["faces", "clusters", "kept", "moved"].map(|count| part[count].as_u64());
    assert_eq!((counts, world.clusters().await), ([15, 3, 3, 0].map(Some), before), "{part}");

    // The means of a part are not theirs: they are computed of all.
    let store = world.gallery.store.clone();
    assert!(store.open_clusters(&office(), MODEL).await.unwrap().is_empty());
    world.stop().await;
    world.start(Options { join_interval: Duration::from_millis(100), ..quick() });
    let open = world
        .until("the means of the clusters", async || {
            let open = store.open_clusters(&office(), MODEL).await.unwrap();
            (open.len() == 3).then_some(open)
        })
        .await;
    for (cluster, mean) in open {
        let mut sum = [0.0; DIM];
        for face in store.cluster_vectors(cluster).await.unwrap() {
            sum.iter_mut().zip(face.embedding).for_each(|(sum, x)| *sum += x);
        }
        let length = sum.iter().map(|x| x * x).sum::<f32>().sqrt();
        assert!(sum.iter().zip(&mean).all(|(sum, x)| (sum / length - x).abs() < 1e-5), "{cluster}");
    }
    world.stop().await;
}

#[tokio::test]
async fn new_faces_join_while_something_is_erased() {
    let mut world = World::new().await;
    kept(&world).await;
    world.start(quick());
    world.done(JobKind::Cluster, json!({})).await;
    world.stop().await;
    let old = json!({ "kind": "before", "before": "2020-01-01T00:00:00Z" });
    let erases = world.taken(&office(), JobKind::Erase, old, Duration::from_secs(3600)).await;
    world.start(Options { join_interval: Duration::from_millis(100), ..quick() });
    let near = world.keep(&pictures(1, 8..10)).await;
    world
        .until("the new faces in their cluster", async || {
            let joined = world.clusters().await.into_values().any(|faces| group(&near).is_subset(&faces));
            joined.then_some(())
        })
        .await;
    assert_eq!(world.record(erases.job).await.state, JobState::Running);
    world.stop().await;
}

#[tokio::test]
async fn new_faces_join_what_was_found_and_nothing_else_does() {
    let mut world = World::new().await;
    kept(&world).await;
    world.start(Options { join_interval: Duration::from_millis(100), ..quick() });
    world.done(JobKind::Cluster, json!({})).await;
    let before = world.clusters().await;
    let near = world.keep(&pictures(1, 8..10)).await;
    let far = world.keep(&pictures(20, 0..1)).await;
    world
        .until("the new faces in their cluster", async || {
            let joined = world.clusters().await.into_values().any(|faces| group(&near).is_subset(&faces));
            joined.then_some(())
        })
        .await;
    let after = world.clusters().await;
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
    assert_eq!(world.face(far[0]).await.record.cluster_id, None);
    world
        .until("their points", async || {
            let points = world.gallery.vectors.retrieve(&near, false).await.unwrap();
            points
                .iter()
                .all(|point| point.payload.as_ref().is_some_and(|payload| payload.cluster.is_some()))
                .then_some(())
        })
        .await;
    // It is a job like any other, which can be undone.
    let filter = JobFilter { kind: Some(JobKind::Assign), ..JobFilter::default() };
    let jobs = world.gallery.store.jobs(&filter, None, 10).await.unwrap();
    assert!(!jobs.is_empty() && jobs.iter().all(|job| job.actor.name == "jobs"), "{jobs:?}");
    world.stop().await;
}
