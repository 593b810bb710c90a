//! Jobs that are cancelled, given back, taken over and lost. While Qdrant is away a job waits: before it writes, where
//! it needs a graph of neighbours, and else when it has written and points have to follow.

use std::collections::BTreeSet;
use std::time::Duration;

use facewire_domain::{CollectionId, FaceId, JobId, JobKind, JobState};
use facewire_store_pg::{ClusterRun, JobFilter, Member, NewCluster};
use serde_json::json;
use uuid::Uuid;

use crate::world::{DIM, MODEL, World, approximate, by, group, office, pictures, quick};

/// Of a worker that does not die.
const LONG: Duration = Duration::from_secs(3600);

/// Two people who keep coming.
async fn kept(world: &World) -> BTreeSet<BTreeSet<FaceId>> {
    let mut groups = BTreeSet::new();
    for axis in 0..2 {
        groups.insert(group(&world.keep(&pictures(axis, 0..8)).await));
    }
    groups
}

/// What a redelivery does after a while: another message of the job.
async fn delivered_again(world: &World, job: JobId) {
    world.bus.publish_job(JobKind::Cluster, job, 1000).await.unwrap();
}

#[tokio::test]
async fn a_cancelled_job_leaves_nothing_written() {
    let mut world = World::new().await;
    let groups = kept(&world).await;
    world.qdrant.stop().await.unwrap();
    world.start(approximate());
    let job = world.job(JobKind::Cluster, json!({})).await;
    world.at_phase(job, "searching").await;
    world.gallery.store.cancel_job(job, &by()).await.unwrap();
    let ended = world.ended(job).await;
    assert_eq!((ended.state, ended.result), (JobState::Cancelled, None));
    assert!(world.groups().await.is_empty());
    // Tried again, it does its work.
    world.qdrant.restart().await.unwrap();
    let again = world.gallery.store.retry_job(job, &by()).await.unwrap().unwrap();
    world.bus.publish_job(JobKind::Cluster, job, again.attempt).await.unwrap();
    assert_eq!(world.result(job).await["clusters"], json!(2));
    assert_eq!(world.groups().await, groups);
    world.stop().await;
}

#[tokio::test]
async fn a_worker_that_dies_before_it_writes_is_replaced() {
    let mut world = World::new().await;
    let groups = kept(&world).await;
    world.qdrant.stop().await.unwrap();
    world.start(approximate());
    let job = world.job(JobKind::Cluster, json!({})).await;
    world.at_phase(job, "searching").await;
    world.kill().await;
    world.qdrant.restart().await.unwrap();
    world.start(approximate());
    delivered_again(&world, job).await;
    let result = world.result(job).await;
    assert_eq!((&result["clusters"], &result["moved"]), (&json!(2), &json!(16)));
    assert_eq!((world.groups().await, world.record(job).await.attempt), (groups, 2));
    world.stop().await;
}

#[tokio::test]
async fn a_worker_that_dies_after_it_wrote_is_replaced_and_nothing_is_written_twice() {
    let mut world = World::new().await;
    let groups = kept(&world).await;
    world.qdrant.stop().await.unwrap();
    world.start(quick());
    let job = world.job(JobKind::Cluster, json!({})).await;
    world.at_phase(job, "indexing").await;
    let written = world.clusters().await;
    world.kill().await;
    world.qdrant.restart().await.unwrap();
    // Whoever clusters anew finds these, too.
    world.keep(&pictures(5, 0..8)).await;
    world.start(quick());
    delivered_again(&world, job).await;
    let result = world.result(job).await;
    assert_eq!((result["created"].as_array().unwrap().len(), &result["moved"]), (2, &json!(16)));
    let counts = ["faces", "clusters", "noise", "kept"].map(|count| result[count].as_u64());
    assert_eq!(counts, [16, 2, 0, 0].map(Some), "{result}");
    assert_eq!((world.groups().await, world.clusters().await), (groups.clone(), written));
    world.indexed(&groups.into_iter().flatten().collect::<Vec<_>>()).await;
    world.stop().await;
}

#[tokio::test]
async fn a_service_that_drains_gives_its_job_back_and_it_costs_no_attempt() {
    let mut world = World::new().await;
    let groups = kept(&world).await;
    world.qdrant.stop().await.unwrap();
    world.start(approximate());
    let job = world.job(JobKind::Cluster, json!({})).await;
    world.at_phase(job, "searching").await;
    world.stop().await;
    assert_eq!(world.record(job).await.state, JobState::Queued);
    world.qdrant.restart().await.unwrap();
    world.start(approximate());
    world.result(job).await;
    assert_eq!(world.groups().await, groups);
    world.stop().await;
}

#[tokio::test]
async fn a_service_that_drains_while_points_are_to_follow_ends_its_job() {
    let mut world = World::new().await;
    let groups = kept(&world).await;
    world.qdrant.stop().await.unwrap();
    world.start(quick());
    let job = world.job(JobKind::Cluster, json!({})).await;
    world.at_phase(job, "indexing").await;
    world.stop().await;
    let ended = world.record(job).await;
    assert_eq!((ended.state, &ended.result.unwrap()["clusters"]), (JobState::Succeeded, &json!(2)));
    assert_eq!(world.groups().await, groups);
    // Their points are the reconciler's to write.
    let pending = world.gallery.store.pending_faces(Duration::ZERO, None, 100).await.unwrap();
    assert_eq!(pending.len(), 16);
}

#[tokio::test]
async fn a_job_whose_message_is_lost_is_done_all_the_same() {
    let mut world = World::new().await;
    kept(&world).await;
    // Its maker died before it could publish.
    let made = world.gallery.store.create_job(JobKind::Cluster, &office(), &json!({}), &by()).await.unwrap().unwrap();
    world.start(quick());
    assert_eq!(world.result(made.job).await["clusters"], json!(2));
    world.stop().await;
}

#[tokio::test]
async fn a_job_whose_message_is_lost_is_done_while_others_wait_for_long() {
    let mut world = World::new().await;
    kept(&world).await;
    // In another collection one job is at work, and another waits for it: both have their messages, and one has two, so
    // that there are as many messages as jobs.
    let lab: CollectionId = "lab".parse().unwrap();
    let store = world.gallery.store.clone();
    assert!(store.create_collection(&lab, &Default::default(), &by()).await.unwrap());
    let first = world.taken(&lab, JobKind::Assign, json!({}), LONG).await;
    let second = store.create_job(JobKind::Cluster, &lab, &json!({}), &by()).await.unwrap().unwrap();
    world.bus.publish_job(JobKind::Assign, first.job, 0).await.unwrap();
    for attempt in [0, 1000] {
        world.bus.publish_job(JobKind::Cluster, second.job, attempt).await.unwrap();
    }
    let made = store.create_job(JobKind::Cluster, &office(), &json!({}), &by()).await.unwrap().unwrap();
    world.start(quick());
    assert_eq!(world.result(made.job).await["clusters"], json!(2));
    assert_eq!(world.record(second.job).await.state, JobState::Queued);
    let waiting = async || (world.bus.jobs_waiting().await.unwrap() == 3).then_some(());
    world.until("the messages of the others, and no more", waiting).await;
    world.stop().await;
}

#[tokio::test]
async fn a_job_that_is_to_stop_after_it_has_written_says_what_it_wrote() {
    let mut world = World::new().await;
    let groups = kept(&world).await;
    // Its worker dies when it has written.
    let token = world.taken(&office(), JobKind::Cluster, json!({}), Duration::ZERO).await;
    let member = |face: &FaceId| Member { face: *face, probability: 1.0, outlier: 0.0 };
    let cluster = |faces: &BTreeSet<FaceId>| NewCluster {
        cluster: Uuid::new_v4().into(),
        is_new: true,
        centroid: vec![0.5; DIM],
        members: faces.iter().map(member).collect(),
    };
    let clusters: Vec<NewCluster> = groups.iter().map(cluster).collect();
    let run = ClusterRun { collection: &office(), model: MODEL, clusters: &clusters, noise: &[] };
    let store = world.gallery.store.clone();
    let written = store.apply_counted_clusters(token, &run, &json!({}), &by()).await.unwrap().unwrap();
    assert!(store.cancel_job(token.job, &by()).await.unwrap().unwrap().cancel_requested);
    world.start(quick());
    delivered_again(&world, token.job).await;
    let result = world.result(token.job).await;
    assert_eq!((&result["actId"], &result["moved"]), (&json!(written.act), &json!(16)), "{result}");
    assert_eq!(world.groups().await, groups);
    world.stop().await;
}

#[tokio::test]
async fn jobs_of_one_collection_take_turns() {
    let mut world = World::new().await;
    let groups = kept(&world).await;
    world.start(quick());
    world.start(quick());
    let jobs = [world.job(JobKind::Cluster, json!({})).await, world.job(JobKind::Cluster, json!({})).await];
    for job in jobs {
        let result = world.result(job).await;
        assert_eq!(result["clusters"], json!(2));
    }
    assert_eq!(world.groups().await, groups);
    let filter = JobFilter { state: Some(JobState::Succeeded), ..JobFilter::default() };
    assert_eq!(world.gallery.store.jobs(&filter, None, 10).await.unwrap().len(), 2);
    world.stop().await;
}
