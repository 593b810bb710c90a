//! The audit trail: a row for each change, in its transaction, with who did it; and what of it has yet to be published.

use facewire_store_pg::{
    Actor, Assignment, AuditFilter, EventKind, MergeRef, NewEvent, NewFace, PersonChanges, Store, StoredEvent,
};
use serde_json::json;

use crate::support::{by, enrol, enrolled, face, head, office, person, test_database, trail_of};

async fn trail(store: &Store) -> Vec<StoredEvent> {
    trail_of(store, Some(office())).await
}

fn kinds(events: &[StoredEvent]) -> Vec<&str> {
    events.iter().map(|event| event.kind.as_str()).collect()
}

#[tokio::test]
async fn every_change_of_people_faces_and_collections_leaves_one_row() {
    let db = test_database().await;
    let store = db.migrated().await;
    store.create_collection(&office(), &Default::default(), &by()).await.unwrap();
    assert!(!store.create_collection(&office(), &Default::default(), &by()).await.unwrap());
    assert!(store.update_policy(&office(), &Default::default(), &by()).await.unwrap());
    let faces = enrolled(&store, &[face("a", Some("Anna"), 1), face("b", None, 2)]).await;
    enrol(&store, &[face("a", Some("Anna"), 1)]).await;
    enrol(&store, &[NewFace { crop: Some(head(9).crop), ..face("a", Some("Anna K."), 1) }]).await;
    let changes = PersonChanges { metadata: Some(json!({ "secret": "Anna" })), ..PersonChanges::default() };
    store.update_person(person("a"), None, &changes, &by()).await.unwrap();
    store.update_person(person("a"), None, &changes, &by()).await.unwrap();
    store.merge_persons(person("a"), person("b"), &by()).await.unwrap().unwrap();
    store.merge_persons(person("a"), person("b"), &by()).await.unwrap();
    store.unmerge(MergeRef::Source(person("a")), &by()).await.unwrap().unwrap();
    let assignment = Assignment { not_this_person: true, ..Assignment::to(None) };
    store.assign_faces(&office(), &faces, assignment, &by()).await.unwrap().unwrap();
    store.assign_faces(&office(), &faces, assignment, &by()).await.unwrap().unwrap();
    store.remove_face(faces[0], &by()).await.unwrap().unwrap();
    let events = trail(&store).await;
    let mut sorted = kinds(&events);
    assert_eq!(sorted[0], "collection.created");
    sorted.sort_unstable();
    assert_eq!(
        sorted,
        [
            "collection.created",
            "collection.updated",
            "face.assigned",
            "face.assigned",
            "face.enrolled",
            "face.enrolled",
            "face.removed",
            "person.created",
            "person.created",
            "person.merged",
            "person.unmerged",
            "person.updated",
            "person.updated",
        ]
    );
    let of = |kind: EventKind| events.iter().find(|event| event.kind == kind.as_str()).unwrap();
    let merged = of(EventKind::PersonMerged);
    assert_eq!((merged.person, merged.other, &merged.actor), (Some(person("a")), Some(person("b")), &by()));
    assert_eq!(merged.detail["facesMoved"], 1);
    let assigned = events.iter().find(|event| event.kind == "face.assigned" && event.face == Some(faces[0])).unwrap();
    assert_eq!((assigned.person, assigned.other), (None, Some(person("a"))));
    assert_eq!(of(EventKind::FaceEnrolled).actor.name, "enrolment");
    let text = format!("{events:?}");
    assert!(!text.contains("Anna"), "a name in the trail: {text}");
    assert!(events.is_sorted_by_key(|event| event.id));
    db.drop().await;
}

#[tokio::test]
async fn a_change_that_does_not_happen_leaves_no_row() {
    let db = test_database().await;
    let store = db.migrated().await;
    enrol(&store, &[face("a", Some("Anna"), 1), face("b", Some("Bert"), 2)]).await;
    let before = trail(&store).await;
    let rename = PersonChanges { name: Some("Bert".to_owned()), ..PersonChanges::default() };
    store.update_person(person("a"), None, &rename, &by()).await.unwrap();
    store.update_person(person("a"), Some(7), &PersonChanges::default(), &by()).await.unwrap();
    store.merge_persons(person("a"), person("a"), &by()).await.unwrap();
    enrol(&store, &[face("c", Some("Bert"), 9)]).await;
    store.remove_face(facewire_domain::FaceId::from(uuid::Uuid::from_u128(1)), &by()).await.unwrap();
    assert_eq!(trail(&store).await, before);
    db.drop().await;
}

#[tokio::test]
async fn what_is_not_published_is_handed_out_until_it_is_marked() {
    let db = test_database().await;
    let store = db.migrated().await;
    enrol(&store, &[face("a", None, 1), face("b", None, 2)]).await;
    // A row of the trail that is no event.
    let key = NewEvent { collection: None, kind: "key.created", ..NewEvent::of("", EventKind::ImportFinished) };
    let id = store.record_event(&Actor::named(&"x".repeat(500)), &key).await.unwrap();
    let all = store.unpublished_events(100).await.unwrap();
    assert_eq!(all.len(), 5, "{all:?}");
    assert!(all.is_sorted_by_key(|event| event.id) && all.iter().all(|event| event.id < id));
    let first = store.unpublished_events(2).await.unwrap();
    assert_eq!(first, all[..2]);
    let ids: Vec<i64> = first.iter().map(|event| event.id).collect();
    assert_eq!(store.mark_events_published(&ids).await.unwrap(), 2);
    assert_eq!(store.mark_events_published(&ids).await.unwrap(), 0);
    assert_eq!(store.unpublished_events(100).await.unwrap(), all[2..]);

    let everything = store.audit_trail(&AuditFilter::default(), None, 100).await.unwrap();
    assert_eq!((everything.len(), everything[0].id, everything[0].actor.name.len()), (6, id, 200));
    let next = store.audit_trail(&AuditFilter::default(), Some(everything[1].id), 2).await.unwrap();
    assert_eq!(next, everything[2..4]);
    let of =
        AuditFilter { person: Some(person("a")), kind: Some("face.enrolled".to_owned()), ..AuditFilter::default() };
    assert_eq!(store.audit_trail(&of, None, 100).await.unwrap().len(), 1);
    let elsewhere = AuditFilter { collection: Some("lab".parse().unwrap()), ..AuditFilter::default() };
    assert_eq!(store.audit_trail(&elsewhere, None, 100).await.unwrap(), []);
    db.drop().await;
}

#[tokio::test]
async fn ids_grow_in_the_order_of_commits_for_each_person() {
    let db = test_database().await;
    let store = db.migrated().await;
    enrol(&store, &[face("a", None, 1)]).await;
    let mut tasks = Vec::new();
    for round in 0..16_u64 {
        let store = db.store().await;
        tasks.push(tokio::spawn(async move {
            let changes = PersonChanges { metadata: Some(json!({ "round": round })), ..PersonChanges::default() };
            store.update_person(person("a"), None, &changes, &by()).await.unwrap();
            trail_of(&store, None).await
        }));
    }
    let mut seen = Vec::new();
    for task in tasks {
        seen.push(task.await.unwrap());
    }
    // What one reader saw is the beginning of what every later reader sees: nothing came in before it.
    seen.sort_by_key(Vec::len);
    for pair in seen.windows(2) {
        assert_eq!(pair[0], pair[1][..pair[0].len()]);
    }
    assert_eq!(store.person(person("a")).await.unwrap().unwrap().version, 17);
    db.drop().await;
}
