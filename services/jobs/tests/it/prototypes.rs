//! Who stands for a person: chosen anew whenever their faces change, whoever changes them.

use std::time::Duration;

use facewire_domain::{FaceId, JobKind, PersonId};
use facewire_store_pg::{Actor, Assignment, FaceOrigin, JobEnd, NewAssignment};
use serde_json::json;

use crate::world::{Face, World, by, office, pictures, quick};

/// Waits until nobody's prototypes are out of date; then how many somebody has.
async fn settled(world: &World, person: PersonId) -> usize {
    world
        .until("prototypes that are up to date", async || {
            world.gallery.store.stale_persons(1).await.unwrap().is_empty().then_some(())
        })
        .await;
    let page = world.gallery.store.prototypes_page(&office(), &world.gallery.model, None, 1000).await.unwrap();
    page.into_iter().filter(|prototype| prototype.person == person).count()
}

async fn exemplars(world: &World, faces: &[FaceId]) -> Vec<FaceId> {
    let rows = world.gallery.store.faces(faces).await.unwrap();
    rows.into_iter().filter(|row| row.record.is_prototype).map(|row| row.record.face).collect()
}

#[tokio::test]
async fn prototypes_follow_the_faces() {
    let mut world = World::new().await;
    world.start(quick());
    let anna = world.enrol("anna", &pictures(0, 0..1)).await;
    assert_eq!(settled(&world, anna).await, 2, "an exemplar and the mean");
    let kept = world.keep(&pictures(1, 0..2)).await;
    // Of somebody else's axis, so that they say something new.
    world.gallery.reassign(&office(), &kept, Assignment::to(Some(anna)), &by()).await.unwrap().unwrap();
    let prototypes = settled(&world, anna).await;
    assert!((3..=4).contains(&prototypes), "{prototypes}");
    let chosen = exemplars(&world, &kept).await;
    assert!(!chosen.is_empty());
    let before = world.gallery.store.person_vectors(anna, &world.gallery.model, 10).await.unwrap();
    let all: Vec<FaceId> = before.iter().map(|face| face.face).collect();
    world.indexed(&all).await;
    assert!(all.iter().any(|face| !kept.contains(face)));
    // Taken away again.
    world.gallery.reassign(&office(), &kept, Assignment::to(None), &by()).await.unwrap().unwrap();
    assert_eq!(settled(&world, anna).await, 2);
    assert!(exemplars(&world, &kept).await.is_empty());
    let record = world.face(*all.iter().find(|face| !kept.contains(face)).unwrap()).await.record;
    assert_eq!((record.origin, record.is_prototype), (FaceOrigin::Enrolled, true));
    world.stop().await;
}

#[tokio::test]
async fn an_assignment_makes_prototypes_and_a_job_chooses_as_many_as_it_is_told() {
    let mut world = World::new().await;
    let anna = world.enrol("anna", &pictures(0, 0..1)).await;
    world.start(quick());
    settled(&world, anna).await;
    let blurred = Face { score: 0.05, ..pictures(0, 30..31)[0] };
    let mut faces = pictures(0, 10..20);
    faces.push(blurred);
    world.keep(&faces).await;
    let result = world.done(JobKind::Assign, json!({})).await;
    assert_eq!(result["assigned"], json!(11));
    assert_eq!(settled(&world, anna).await, 2, "the face that was enrolled, and the mean of all");
    let result = world.done(JobKind::Prototypes, json!({ "exemplars": 1 })).await;
    assert_eq!(result, json!({ "persons": 1, "exemplars": 1, "centroids": 1 }));
    assert_eq!(settled(&world, anna).await, 2);
    let result = world.done(JobKind::Prototypes, json!({ "person": anna })).await;
    assert_eq!((&result["persons"], &result["centroids"]), (&json!(1), &json!(1)));
    world.stop().await;
}

#[tokio::test]
async fn what_a_job_gave_is_an_exemplar_once_somebody_confirmed_it() {
    let mut world = World::new().await;
    let anna = world.enrol("anna", &pictures(0, 0..1)).await;
    // Far from hers and a better picture, as one of somebody else may be.
    let kept = world.keep(&[Face { score: 0.9, ..pictures(1, 0..1)[0] }]).await;
    let token = world.taken(&office(), JobKind::Assign, json!({}), Duration::from_secs(60)).await;
    let given = [NewAssignment { face: kept[0], person: anna, similarity: 0.8 }];
    let (store, job) = (&world.gallery.store, Actor::job(token.job));
    store.apply_assignments(token, &office(), &given, &[], &job).await.unwrap().unwrap();
    assert!(store.end_job(token, &JobEnd::Succeeded(json!({}))).await.unwrap());
    world.start(quick());
    assert_eq!(settled(&world, anna).await, 2, "an exemplar and the mean");
    assert!(exemplars(&world, &kept).await.is_empty());
    world.gallery.reassign(&office(), &kept, Assignment::to(Some(anna)), &by()).await.unwrap().unwrap();
    assert_eq!(settled(&world, anna).await, 3);
    assert_eq!(exemplars(&world, &kept).await, kept);
    world.stop().await;
}
