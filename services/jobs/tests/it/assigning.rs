//! Faces that are nobody's given to known people, and the dual mode.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytesize::ByteSize;
use facewire_domain::{FaceId, JobId, JobKind, JobState, PersonId};
use facewire_erasure::params_of;
use facewire_gallery::Erasure;
use facewire_jobs::Options;
use facewire_store_pg::{Actor, Assignment, NewAssignment};
use serde_json::json;
use uuid::Uuid;

use crate::world::{World, approximate, by, group, office, pictures, quick};

/// Waits until somebody's prototypes are chosen.
async fn known(world: &World, people: usize) {
    world
        .until("prototypes", async || {
            let page = world.gallery.store.prototypes_page(&office(), &world.gallery.model, None, 1000).await.unwrap();
            let persons: BTreeSet<_> = page.into_iter().map(|prototype| prototype.person).collect();
            let stale = world.gallery.store.stale_persons(10).await.unwrap();
            (persons.len() == people && stale.is_empty()).then_some(())
        })
        .await;
}

#[tokio::test]
async fn faces_of_known_people_are_theirs_and_the_rest_joins_clusters() {
    let mut world = World::new().await;
    let anna = world.enrol("anna", &pictures(0, 0..4)).await;
    let bert = world.enrol("bert", &pictures(1, 0..1)).await;
    world.start(quick());
    known(&world, 2).await;
    let strangers = world.keep(&pictures(3, 0..7)).await;
    let other = world.keep(&pictures(4, 0..7)).await;
    world.done(JobKind::Cluster, json!({})).await;
    let annas = world.keep(&pictures(0, 10..20)).await;
    let berts = world.keep(&pictures(1, 10..13)).await;
    let more = world.keep(&pictures(3, 10..13)).await;
    let nobody = world.keep(&pictures(9, 0..2)).await;

    let counted = world.done(JobKind::Assign, json!({ "dryRun": true })).await;
    assert_eq!((&counted["assigned"], &counted["joined"], &counted["faces"]), (&json!(13), &json!(3), &json!(32)));
    assert_eq!(world.face(annas[0]).await.record.person, None);
    let result = world.done(JobKind::Assign, json!({})).await;
    assert_eq!((&result["assigned"], &result["joined"], &result["refused"]), (&json!(13), &json!(3), &json!(0)));
    for (faces, person) in [(&annas, Some(anna)), (&berts, Some(bert)), (&more, None), (&nobody, None)] {
        for face in faces {
            assert_eq!(world.face(*face).await.record.person, person);
        }
    }
    let groups = world.groups().await;
    let joined: Vec<_> = strangers.iter().chain(&more).copied().collect();
    assert_eq!(groups, BTreeSet::from([group(&joined), group(&other)]));
    let all: Vec<_> = annas.iter().chain(&berts).chain(&joined).copied().collect();
    world.indexed(&all).await;

    let act = result["actId"].as_str().unwrap().parse().unwrap();
    let undone = world.gallery.undo(act, &by()).await.unwrap().unwrap();
    assert_eq!((undone.kind.as_str(), undone.faces.len()), ("assign", 16));
    assert_eq!(world.face(annas[0]).await.record.person, None);
    // Somebody says that one of them is not Anna's; what is more like it than like her is not hers either.
    let negative = Assignment { not_this_person: true, ..Assignment::to(None) };
    world.gallery.reassign(&office(), &annas[..1], Assignment::to(Some(anna)), &by()).await.unwrap().unwrap();
    world.gallery.reassign(&office(), &annas[..1], negative, &by()).await.unwrap().unwrap();
    known(&world, 2).await;
    let result = world.done(JobKind::Assign, json!({ "joinClusters": false })).await;
    assert_eq!((&result["joined"], &result["refused"]), (&json!(0), &json!(0)));
    assert_eq!(world.face(annas[0]).await.record.person, None);
    for face in &berts {
        assert_eq!(world.face(*face).await.record.person, Some(bert));
    }
    world.stop().await;
}

#[tokio::test]
async fn dual_mode_names_who_is_known_and_groups_the_rest() {
    let mut world = World::new().await;
    let anna = world.enrol("anna", &pictures(0, 0..4)).await;
    world.start(quick());
    known(&world, 1).await;
    let annas = world.keep(&pictures(0, 10..20)).await;
    let strangers = [world.keep(&pictures(3, 0..7)).await, world.keep(&pictures(4, 0..5)).await];
    let nobody = world.keep(&pictures(9, 0..1)).await;
    let params = json!({ "assignKnown": true });
    let counted = world.done(JobKind::Cluster, json!({ "assignKnown": true, "dryRun": true })).await;
    assert_eq!((&counted["assigned"], &counted["clusters"], &counted["faces"]), (&json!(10), &json!(2), &json!(23)));
    let result = world.done(JobKind::Cluster, params).await;
    assert_eq!((&result["assigned"], &result["clusters"], &result["noise"]), (&json!(10), &json!(2), &json!(1)));
    let named: BTreeMap<String, u64> = result["named"]
        .as_array()
        .unwrap()
        .iter()
        .map(|named| (named["name"].as_str().unwrap().to_owned(), named["faces"].as_u64().unwrap()))
        .collect();
    let mut sizes: Vec<u64> = named.values().copied().collect();
    sizes.sort_unstable();
    assert_eq!((sizes, named[&format!("person_{anna}")]), (vec![5, 7, 10], 10));
    assert!(named.contains_key("unknown_cluster_1") && named.contains_key("unknown_cluster_2"));
    let wanted: BTreeSet<_> = strangers.iter().map(|faces| group(faces)).collect();
    assert_eq!(world.groups().await, wanted);
    assert_eq!(world.face(annas[3]).await.record.person, Some(anna));
    assert!(!result["actId"].is_null() && !result["assignActId"].is_null());
    let noise = world.face(nobody[0]).await.record;
    assert_eq!((noise.person, noise.cluster_id), (None, None));
    world.stop().await;
}

/// Faces as somebody's, as a worker decided.
fn theirs(faces: &[FaceId], person: PersonId) -> Vec<NewAssignment> {
    faces.iter().map(|face| NewAssignment { face: *face, person, similarity: 0.875 }).collect()
}

#[tokio::test]
async fn an_assignment_that_is_taken_over_after_it_was_written_says_what_was_written() {
    let mut world = World::new().await;
    let anna = world.enrol("anna", &pictures(0, 0..4)).await;
    let annas = world.keep(&pictures(0, 10..13)).await;
    world.keep(&pictures(9, 0..2)).await;
    // Its worker dies when it has written: nobody is left to be known.
    let token = world.taken(&office(), JobKind::Assign, json!({}), Duration::ZERO).await;
    let given = theirs(&annas, anna);
    let written = world.gallery.store.apply_assignments(token, &office(), &given, &[], &by()).await.unwrap().unwrap();
    world.start(quick());
    world.bus.publish_job(JobKind::Assign, token.job, token.attempt).await.unwrap();
    let result = world.result(token.job).await;
    assert_eq!((&result["actId"], &result["assigned"]), (&json!(written.act), &json!(3)), "{result}");
    assert_eq!((&result["faces"], &result["joined"]), (&json!(5), &json!(0)), "{result}");
    world.indexed(&annas).await;
    world.stop().await;
}

#[tokio::test]
async fn a_joining_between_runs_that_is_taken_over_gives_no_face_to_anybody() {
    let mut world = World::new().await;
    world.enrol("anna", &pictures(0, 0..4)).await;
    world.start(quick());
    known(&world, 1).await;
    let strangers = world.keep(&pictures(3, 0..7)).await;
    let other = world.keep(&pictures(4, 0..7)).await;
    world.done(JobKind::Cluster, json!({})).await;
    let annas = world.keep(&pictures(0, 10..13)).await;
    let more = world.keep(&pictures(3, 10..13)).await;
    // As the service makes it, and dies.
    let service = Actor::named(facewire_jobs::SERVICE);
    let store = &world.gallery.store;
    let made = store.create_job(JobKind::Assign, &office(), &json!({}), &service).await.unwrap().unwrap();
    world.bus.publish_job(JobKind::Assign, made.job, made.attempt).await.unwrap();
    let result = world.result(made.job).await;
    assert_eq!((&result["assigned"], &result["joined"], &result["faces"]), (&json!(0), &json!(3), &json!(6)));
    for face in &annas {
        assert_eq!(world.face(*face).await.record.person, None);
    }
    let joined: Vec<_> = strangers.iter().chain(&more).copied().collect();
    assert_eq!(world.groups().await, BTreeSet::from([group(&joined), group(&other)]));
    // Whoever asks for an assignment gets one.
    let asked = world.done(JobKind::Assign, json!({})).await;
    assert_eq!((&asked["assigned"], &asked["joined"]), (&json!(3), &json!(0)), "{asked}");
    world.stop().await;
}

/// A known person, faces of hers that are nobody's, and two strangers who keep coming.
async fn planted(world: &World) -> (PersonId, Vec<FaceId>) {
    let anna = world.enrol("anna", &pictures(0, 0..4)).await;
    let annas = world.keep(&pictures(0, 10..13)).await;
    world.keep(&pictures(3, 0..7)).await;
    world.keep(&pictures(4, 0..7)).await;
    (anna, annas)
}

/// A dual job whose worker died when it had given faces to a person; and the act that did.
async fn half_written(world: &World, anna: PersonId, annas: &[FaceId]) -> (JobId, Uuid) {
    let token = world.taken(&office(), JobKind::Cluster, json!({ "assignKnown": true }), Duration::ZERO).await;
    let (store, given) = (&world.gallery.store, theirs(annas, anna));
    let written = store.apply_assignments(token, &office(), &given, &[], &by()).await.unwrap().unwrap();
    (token.job, written.act)
}

async fn is_taken_back(world: &World, act: Uuid, annas: &[FaceId]) {
    assert!(world.gallery.store.act(act).await.unwrap().unwrap().undone_at.is_some());
    for face in annas {
        assert_eq!(world.face(*face).await.record.person, None);
    }
    assert!(world.groups().await.is_empty());
}

#[tokio::test]
async fn a_dual_job_that_is_to_stop_between_its_two_parts_takes_the_first_back() {
    let mut world = World::new().await;
    let (anna, annas) = planted(&world).await;
    let (job, act) = half_written(&world, anna, &annas).await;
    assert!(world.gallery.store.cancel_job(job, &by()).await.unwrap().unwrap().cancel_requested);
    world.start(quick());
    world.bus.publish_job(JobKind::Cluster, job, 1).await.unwrap();
    assert_eq!(world.ended(job).await.state, JobState::Cancelled);
    is_taken_back(&world, act, &annas).await;
    world.stop().await;
}

#[tokio::test]
async fn a_dual_job_that_is_taken_over_and_then_stopped_takes_back_what_it_had_given() {
    let mut world = World::new().await;
    let (anna, annas) = planted(&world).await;
    let (job, act) = half_written(&world, anna, &annas).await;
    world.qdrant.stop().await.unwrap();
    world.start(approximate());
    world.bus.publish_job(JobKind::Cluster, job, 1).await.unwrap();
    world.at_phase(job, "searching").await;
    assert!(world.gallery.store.cancel_job(job, &by()).await.unwrap().unwrap().cancel_requested);
    let ended = world.ended(job).await;
    assert_eq!((ended.state, ended.result, ended.attempt), (JobState::Cancelled, None, 2));
    is_taken_back(&world, act, &annas).await;
    world.stop().await;
}

#[tokio::test]
async fn a_dual_job_that_is_taken_over_and_fails_takes_back_what_it_had_given() {
    let mut world = World::new().await;
    let (anna, annas) = planted(&world).await;
    for (options, said) in [
        (Options { max_bytes: ByteSize::kib(1), ..quick() }, "jobs.max_bytes"),
        (Options { max_attempts: 1, ..quick() }, "no worker came to its end"),
    ] {
        let (job, act) = half_written(&world, anna, &annas).await;
        world.start(options);
        world.bus.publish_job(JobKind::Cluster, job, 1).await.unwrap();
        let ended = world.ended(job).await;
        assert_eq!((ended.state, ended.result), (JobState::Failed, None));
        assert!(ended.error.as_ref().is_some_and(|error| error.contains(said)), "{:?}", ended.error);
        is_taken_back(&world, act, &annas).await;
        world.stop().await;
    }
}

#[tokio::test]
async fn what_was_given_to_somebody_who_is_being_erased_is_taken_back_once_they_are() {
    let mut world = World::new().await;
    let (anna, annas) = planted(&world).await;
    let (job, act) = half_written(&world, anna, &annas).await;
    let store = world.gallery.store.clone();
    let what = Erasure::Person(anna);
    store.begin_erasure(&what, &by()).await.unwrap().unwrap();
    assert!(store.cancel_job(job, &by()).await.unwrap().unwrap().cancel_requested);
    assert_eq!(quick().workers, 1);
    world.start(quick());
    world.bus.publish_job(JobKind::Cluster, job, 1).await.unwrap();
    world
        .until("a job that waits in the queue", async || {
            let record = world.record(job).await;
            (record.state == JobState::Queued && record.attempt > 1).then_some(())
        })
        .await;
    assert_eq!(store.act(act).await.unwrap().unwrap().undone_at, None);
    // The one worker is free for the erasure that the job waits for.
    let erases = world.job(JobKind::Erase, serde_json::to_value(params_of(&what)).unwrap()).await;
    world.result(erases).await;
    assert_eq!(world.ended(job).await.state, JobState::Cancelled);
    assert!(store.act(act).await.unwrap().unwrap().undone_at.is_some());
    world.stop().await;
}

#[tokio::test]
async fn a_dual_job_that_is_taken_over_after_it_was_written_tells_what_was_written() {
    let mut world = World::new().await;
    let anna = world.enrol("anna", &pictures(0, 0..4)).await;
    world.start(quick());
    known(&world, 1).await;
    world.keep(&pictures(0, 10..20)).await;
    for strangers in [pictures(3, 0..7), pictures(4, 0..5), pictures(9, 0..1)] {
        world.keep(&strangers).await;
    }
    world.qdrant.stop().await.unwrap();
    let job = world.job(JobKind::Cluster, json!({ "assignKnown": true })).await;
    world.at_phase(job, "indexing").await;
    world.kill().await;
    world.qdrant.restart().await.unwrap();
    let groups = world.groups().await;
    // Whoever clusters anew finds these, too.
    world.keep(&pictures(5, 0..8)).await;
    world.start(quick());
    world.bus.publish_job(JobKind::Cluster, job, 1000).await.unwrap();
    let result = world.result(job).await;
    let counts =
        ["faces", "assigned", "clusters", "noise", "kept", "moved"].map(|count| result[count].as_u64().unwrap());
    assert_eq!(counts, [23, 10, 2, 1, 0, 12], "{result}");
    assert_eq!((result["created"].as_array().unwrap().len(), &result["approximate"]), (2, &json!(false)), "{result}");
    let named = result["named"].as_array().unwrap();
    let sizes: Vec<u64> = named.iter().map(|named| named["faces"].as_u64().unwrap()).collect();
    assert_eq!((sizes, &named[0]["name"]), (vec![10, 7, 5], &json!(format!("person_{anna}"))), "{result}");
    assert_eq!((world.groups().await, world.record(job).await.attempt), (groups, 2));
    let acts = world.gallery.store.acts_of_job(job).await.unwrap();
    let ids: Vec<_> = acts.iter().map(|act| json!(act.act)).collect();
    assert_eq!(ids, [result["assignActId"].clone(), result["actId"].clone()]);
    world.stop().await;
}

#[tokio::test]
async fn a_job_that_makes_no_sense_fails_with_a_reason() {
    let mut world = World::new().await;
    world.keep(&pictures(0, 0..3)).await;
    world.start(quick());
    for (kind, params, said) in [
        (JobKind::Cluster, json!({ "minClusterSize": 1 }), "minClusterSize"),
        (JobKind::Cluster, json!({ "colour": "red" }), "colour"),
        (JobKind::Assign, json!({ "threshold": 7 }), "threshold"),
        (JobKind::Prototypes, json!({ "person": uuid::Uuid::nil() }), "no such person"),
    ] {
        let ended = world.ended(world.job(kind, params).await).await;
        assert_eq!((ended.state, ended.result), (JobState::Failed, None));
        assert!(ended.error.as_ref().is_some_and(|error| error.contains(said)), "{:?}", ended.error);
    }
    let result = world.done(JobKind::Assign, json!({})).await;
    assert_eq!((&result["assigned"], &result["actId"]), (&json!(0), &json!(null)), "nobody is known yet");
    world.stop().await;
}
