//! People made, changed and listed by hand; faces given, taken, and said not to be somebody's.

use std::collections::HashSet;

use facewire_domain::FaceId;
use facewire_store_pg::{
    Assignment, AuditFilter, ConflictKind, Enrolment, FaceSelection, NewFace, PersonChanges, PersonCreation,
    PersonFilter, PersonStart, PersonStatus, PersonSummary, PersonUpdate, Store, StoreError,
};
use serde_json::json;

use crate::support::{by, enrol, enrolled, face, head, office, person, test_database, trail_of};

async fn create(store: &Store, subject: &str, name: &str) -> PersonCreation {
    store.create_person(&office(), &subject.parse().unwrap(), name, &json!({}), &by()).await.unwrap()
}

async fn created(store: &Store, subject: &str, name: &str) -> PersonSummary {
    match create(store, subject, name).await {
        PersonCreation::Created(person) => person,
        other => panic!("{other:?}"),
    }
}

async fn update(store: &Store, subject: &str, expected: Option<u32>, changes: PersonChanges) -> PersonUpdate {
    store.update_person(person(subject), expected, &changes, &by()).await.unwrap()
}

fn named(name: &str) -> PersonChanges {
    PersonChanges { name: Some(name.to_owned()), ..PersonChanges::default() }
}

#[tokio::test]
async fn a_person_is_made_once_and_changed_by_who_knows_the_version() {
    let db = test_database().await;
    let store = db.migrated().await;
    assert_eq!(create(&store, "17", "Anna").await, PersonCreation::NoCollection);
    store.create_collection(&office(), &Default::default(), &by()).await.unwrap();
    let anna = created(&store, "17", " Anna\u{7} ").await;
    assert_eq!((anna.person.name.as_str(), anna.person.person_id, anna.version), ("Anna", person("17"), 1));
    assert_eq!((anna.faces, anna.prototypes, anna.merged_into), (0, 0, None));
    assert_eq!(create(&store, "17", "Bert").await, PersonCreation::SubjectTaken(person("17")));
    assert_eq!(create(&store, "18", "ANNA").await, PersonCreation::NameTaken(person("17")));
    created(&store, "18", "Bert").await;

    assert_eq!(update(&store, "19", None, named("Carla")).await, PersonUpdate::NotFound);
    assert_eq!(update(&store, "17", Some(2), named("Carla")).await, PersonUpdate::VersionMismatch(1));
    assert_eq!(update(&store, "17", Some(1), named("bert")).await, PersonUpdate::NameTaken(person("18")));
    let changes = PersonChanges { metadata: Some(json!({ "team": "night" })), hidden: Some(true), ..named("ANNA") };
    let PersonUpdate::Updated(changed) = update(&store, "17", Some(1), changes.clone()).await else { panic!() };
    assert_eq!(
        (changed.version, changed.person.status, changed.person.name.as_str()),
        (2, PersonStatus::Hidden, "ANNA")
    );
    assert_eq!(changed.person.metadata, json!({ "team": "night" }));
    assert!(changed.updated_at > changed.created_at);
    // Nothing is different: nothing is written.
    let PersonUpdate::Updated(same) = update(&store, "17", Some(2), changes).await else { panic!() };
    assert_eq!(same, changed);
    assert_eq!(store.person(person("17")).await.unwrap(), Some(changed));
    assert!(store.hide_person(person("17"), false, &by()).await.unwrap());
    assert!(!store.hide_person(person("19"), false, &by()).await.unwrap());
    db.drop().await;
}

#[tokio::test]
async fn what_cannot_be_a_person_is_refused() {
    let db = test_database().await;
    let store = db.migrated().await;
    store.create_collection(&office(), &Default::default(), &by()).await.unwrap();
    created(&store, "17", "Anna").await;
    let long = json!({ "text": "x".repeat(70_000) });
    for metadata in [json!([]), json!("text"), json!({ "nul": "\0" }), long] {
        let changes = PersonChanges { metadata: Some(metadata.clone()), ..PersonChanges::default() };
        let updated = store.update_person(person("17"), None, &changes, &by()).await;
        assert!(matches!(updated, Err(StoreError::Invalid { .. })), "{updated:?}");
    }
    let nameless = store.create_person(&office(), &"18".parse().unwrap(), "\u{7} ", &json!({}), &by()).await;
    assert!(matches!(nameless, Err(StoreError::Invalid { .. })));
    db.drop().await;
}

async fn page(store: &Store, filter: &PersonFilter, start: Option<PersonStart>, limit: u32) -> (Vec<String>, u64) {
    let page = store.persons_page(&office(), filter, start.as_ref(), limit).await.unwrap();
    assert!(page.exact);
    (page.persons.into_iter().map(|summary| summary.person.name).collect(), page.total)
}

#[tokio::test]
async fn people_come_in_pages_by_name_as_the_filter_leaves_them() {
    let db = test_database().await;
    let store = db.migrated().await;
    let names = ["Anna", "anton", "Bert", "Ännchen", "Hanna 50%_", "Zoe"];
    let faces: Vec<NewFace> = (0_u64..).zip(names).map(|(n, name)| face(name, Some(name), n)).collect();
    enrol(&store, &faces).await;
    enrol(&store, &[NewFace { collection: "lab".parse().unwrap(), ..face("x", Some("Anna"), 50) }]).await;
    store.hide_person(person("Bert"), true, &by()).await.unwrap();
    store.merge_persons(person("Zoe"), person("Anna"), &by()).await.unwrap().unwrap();

    let all = PersonFilter::default();
    let (everybody, total) = page(&store, &all, None, 10).await;
    assert_eq!((everybody.len(), total), (5, 5), "who was merged is left out");
    let (mut read, mut start) = (Vec::new(), None);
    loop {
        let (names, total) = page(&store, &all, start, 2).await;
        assert_eq!(total, 5);
        let Some(last) = names.last() else { break };
        start = Some(PersonStart::After(last.clone()));
        read.extend(names);
    }
    assert_eq!(read, everybody);
    assert_eq!(page(&store, &all, Some(PersonStart::Skip(3)), 2).await.0, everybody[3..]);
    assert_eq!(page(&store, &all, Some(PersonStart::Skip(5)), 2).await, (vec![], 5));

    let of = |status| PersonFilter { status: Some(status), ..PersonFilter::default() };
    assert_eq!(page(&store, &of(PersonStatus::Hidden), None, 10).await, (vec!["Bert".to_owned()], 1));
    assert_eq!(page(&store, &of(PersonStatus::Merged), None, 10).await, (vec!["Zoe".to_owned()], 1));
    let starts = |text: &str| PersonFilter { name_starts: Some(text.to_owned()), ..PersonFilter::default() };
    assert_eq!(page(&store, &starts("AN"), None, 10).await, (vec!["Anna".to_owned(), "anton".to_owned()], 2));
    assert_eq!(page(&store, &starts("änn"), None, 10).await, (vec!["Ännchen".to_owned()], 1));
    let contains = |text: &str| PersonFilter { name_contains: Some(text.to_owned()), ..PersonFilter::default() };
    assert_eq!(page(&store, &contains("nna"), None, 10).await.1, 2);
    assert_eq!(page(&store, &contains("%_"), None, 10).await, (vec!["Hanna 50%_".to_owned()], 1), "no wildcards");
    let anna = store.persons_page(&office(), &starts("anna"), None, 1).await.unwrap().persons.remove(0);
    assert_eq!((anna.faces, anna.person.person_id), (2, person("Anna")));
    db.drop().await;
}

#[tokio::test]
async fn faces_are_listed_by_person_and_by_image() {
    let db = test_database().await;
    let store = db.migrated().await;
    let asset = |n| NewFace { asset: Some("photo-1".to_owned()), ..face("17", None, n) };
    let mut faces = enrolled(&store, &[asset(1), asset(2), face("17", None, 3), face("18", None, 4)]).await;
    let of_asset: Vec<_> = store.faces_of_asset(&office(), "photo-1").await.unwrap();
    assert_eq!(
        of_asset.iter().map(|record| record.face).collect::<std::collections::BTreeSet<_>>(),
        faces[..2].iter().copied().collect()
    );
    let hash = face("17", None, 3).image_hash.to_string();
    assert_eq!(store.faces_of_asset(&office(), &hash).await.unwrap()[0].face, faces[2]);
    assert_eq!(store.faces_of_asset(&"lab".parse().unwrap(), &hash).await.unwrap(), []);

    let mut theirs = faces[..3].to_vec();
    theirs.sort();
    let first = store.faces_page(person("17"), None, 2).await.unwrap();
    assert_eq!(first.iter().map(|record| record.face).collect::<Vec<_>>(), theirs[..2]);
    let rest = store.faces_page(person("17"), Some(theirs[1]), 2).await.unwrap();
    assert_eq!(rest.iter().map(|record| record.face).collect::<Vec<_>>(), theirs[2..]);
    let last = faces.pop().unwrap();
    assert_eq!(store.face(last).await.unwrap().unwrap().person, Some(person("18")));
    let removed = store.remove_face(last, &by()).await.unwrap().unwrap();
    assert_eq!((removed.face, removed.face_index), (last, 0));
    assert_eq!(store.face(last).await.unwrap(), None);
    assert_eq!(store.remove_face(last, &by()).await.unwrap(), None, "it was removed before");
    assert!(store.image_is_used(&office(), face("17", None, 3).image_hash).await.unwrap());
    assert!(!store.image_is_used(&office(), removed.image_hash).await.unwrap());
    db.drop().await;
}

#[tokio::test]
async fn a_face_that_is_not_somebodys_is_not_given_to_them_again() {
    let db = test_database().await;
    let store = db.migrated().await;
    let faces = enrolled(&store, &[face("a", None, 1), face("a", None, 2), face("b", None, 3)]).await;
    let assign = async |face, to: Option<&str>, not_this_person, force| {
        let assignment = Assignment { to: to.map(person), not_this_person, force };
        store.assign_faces(&office(), &[face], assignment, &by()).await.unwrap().unwrap()
    };
    // Taken from a, and given to nobody.
    assert_eq!(assign(faces[0], None, true, false).await.moved, [faces[0]]);
    let negatives = store.negatives_of(faces[0]).await.unwrap();
    assert_eq!((negatives.len(), negatives[0].person, negatives[0].actor.as_str()), (1, person("a"), "a test"));
    let refused = assign(faces[0], Some("a"), false, false).await;
    assert_eq!((refused.moved, refused.refused), (vec![], vec![faces[0]]));
    assert_eq!(store.face(faces[0]).await.unwrap().unwrap().person, None);
    assert_eq!(assign(faces[0], Some("b"), false, false).await.moved, [faces[0]]);
    let exemplars = store.negative_exemplars(&[person("a"), person("b")], "pack-1", 64).await.unwrap();
    assert_eq!(exemplars.iter().map(|n| (n.person, n.embedding.len())).collect::<Vec<_>>(), [(person("a"), 512)]);
    assert!(store.negative_exemplars(&[person("a")], "pack-2", 64).await.unwrap().is_empty(), "of another model");
    assert!(!format!("{:?}", exemplars[0]).contains("0.5"), "an embedding in a log");
    // Forced: it is theirs after all.
    assert_eq!(assign(faces[0], Some("a"), false, true).await.moved, [faces[0]]);
    assert_eq!(store.negatives_of(faces[0]).await.unwrap(), []);

    // Without moving anything, and taken back.
    assert!(!store.set_negative(faces[1], person("a"), &by()).await.unwrap(), "it is theirs");
    assert!(!store.set_negative(faces[1], person("nobody"), &by()).await.unwrap());
    assert_eq!(store.persons_with_negatives(0).await.unwrap(), Some(HashSet::new()));
    assert!(store.set_negative(faces[1], person("b"), &by()).await.unwrap());
    assert_eq!(store.persons_with_negatives(1).await.unwrap(), Some(HashSet::from([person("b")])));
    assert_eq!(store.persons_with_negatives(0).await.unwrap(), None, "more than asked for");
    assert_eq!(assign(faces[1], Some("b"), false, false).await.refused, [faces[1]]);
    assert_eq!(assign(faces[1], Some("b"), true, true).await.moved, [faces[1]]);
    assert_eq!(store.negatives_of(faces[1]).await.unwrap()[0].person, person("a"));
    db.drop().await;
}

#[tokio::test]
async fn what_says_nothing_against_somebody_takes_no_place_of_what_does() {
    let db = test_database().await;
    let store = db.migrated().await;
    // The embedding of each is its number.
    let made = |subject: &str, n: u16, model: &str| {
        let (embedding, model) = (vec![f32::from(n); 4], model.to_owned());
        NewFace { embedding, model, ..face(subject, None, n.into()) }
    };
    let one = |subject: &str, n: u16| made(subject, n, "pack-1");
    let batch = [one("a", 1), one("b", 2), one("x", 3), one("x", 4), one("x", 5), made("x", 6, "pack-2")];
    let faces = enrolled(&store, &batch).await;
    // In this order: two that count, one of them said twice; one that is gone; of another model; and b's own, said of a.
    for (at, whose) in [(2, "a"), (3, "a"), (3, "b"), (4, "b"), (5, "b"), (1, "a")] {
        assert!(store.set_negative(faces[at], person(whose), &by()).await.unwrap());
    }
    store.tombstone(&faces[4..5]).await.unwrap();
    store.merge_persons(person("a"), person("b"), &by()).await.unwrap().unwrap();
    for (model, each, wanted) in
        [("pack-1", 1, vec![4]), ("pack-1", 2, vec![3, 4]), ("pack-1", 64, vec![3, 4]), ("pack-2", 1, vec![6])]
    {
        let found = store.negative_exemplars(&[person("b")], model, each).await.unwrap();
        let mut numbers: Vec<u32> = found.iter().map(|negative| negative.embedding[0] as u32).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, wanted, "{model} {each}");
    }
    db.drop().await;
}

#[tokio::test]
async fn what_people_took_away_an_enrolment_does_not_bring_back() {
    let db = test_database().await;
    let store = db.migrated().await;
    let faces = enrolled(&store, &[face("a", None, 1), face("a", None, 2)]).await;
    store.mark_indexed(&faces).await.unwrap();
    for (at, not_this_person) in [(0, true), (1, false)] {
        let assignment = Assignment { to: None, not_this_person, force: false };
        store.assign_faces(&office(), &faces[at..=at], assignment, &by()).await.unwrap().unwrap();
    }
    let again = NewFace { crop: Some(head(8).crop), ..face("a", None, 1) };
    let not_them = Enrolment::Conflict { kind: ConflictKind::NotThisPerson, person: person("a") };
    assert_eq!(enrol(&store, &[again]).await, [not_them]);
    // The same crop once more: it was done, and somebody decided since. Another one with the image is asked for anew.
    let done = Enrolment::AlreadyIndexed { person: person("a"), face: faces[1], same_crop: true };
    assert_eq!(enrol(&store, &[face("a", None, 2)]).await, [done]);
    assert_eq!(store.face(faces[1]).await.unwrap().unwrap().person, None);
    let anew = NewFace { crop: Some(head(9).crop), ..face("a", None, 2) };
    assert_eq!(enrolled(&store, &[anew]).await, [faces[1]]);
    assert_eq!(store.face(faces[1]).await.unwrap().unwrap().person, Some(person("a")));
    // Given to somebody else, it is not claimed for the first.
    store.assign_faces(&office(), &faces[1..], Assignment::to(None), &by()).await.unwrap().unwrap();
    enrol(&store, &[face("b", None, 3)]).await;
    store.assign_faces(&office(), &faces[1..], Assignment::to(Some(person("b"))), &by()).await.unwrap().unwrap();
    let other = Enrolment::Conflict { kind: ConflictKind::ImageOfOther, person: person("b") };
    assert_eq!(enrol(&store, &[face("a", None, 2)]).await, [other]);
    db.drop().await;
}

/// What was said of faces that stay whose they are, by face.
async fn said(store: &Store) -> Vec<(Option<FaceId>, serde_json::Value)> {
    let filter = AuditFilter { kind: Some("face.assigned".to_owned()), ..AuditFilter::default() };
    let rows = store.audit_trail(&filter, None, 100).await.unwrap();
    let stayed = rows.into_iter().filter(|row| row.person.is_some() && row.person == row.other);
    stayed.map(|row| (row.face, row.detail)).collect()
}

#[tokio::test]
async fn the_trail_says_what_was_confirmed_and_what_was_withdrawn() {
    let db = test_database().await;
    let store = db.migrated().await;
    let faces = enrolled(&store, &[face("a", None, 1), face("a", None, 2), face("b", None, 3)]).await;
    // As jobs gave them.
    sqlx::query("UPDATE faces SET confirmed = false").execute(&mut db.operator().await).await.unwrap();
    let assign = async |faces: &[FaceId], force| {
        let assignment = Assignment { force, ..Assignment::to(Some(person("a"))) };
        store.assign_faces(&office(), faces, assignment, &by()).await.unwrap().unwrap().moved
    };
    assert_eq!(assign(&faces[..1], false).await, []);
    assert_eq!(said(&store).await, [(Some(faces[0]), json!({ "confirmed": true, "withdrawn": false }))]);
    assert_eq!(assign(&faces[..1], false).await, []);
    assert_eq!(said(&store).await.len(), 1, "it was confirmed before");

    // A face that somebody gave away as not theirs, and that is theirs all the same: the move says that it is withdrawn.
    let denied = Assignment { to: Some(person("b")), not_this_person: true, force: false };
    store.assign_faces(&office(), &faces[1..2], denied, &by()).await.unwrap().unwrap();
    assert_eq!(assign(&faces[1..2], true).await, [faces[1]]);
    let newest = store.audit_trail(&AuditFilter::default(), None, 1).await.unwrap().remove(0);
    assert_eq!((newest.face, newest.other), (Some(faces[1]), Some(person("b"))));
    assert_eq!(newest.detail, json!({ "notThisPerson": false, "withdrawn": true }));
    // One that is theirs by now, by a way that does not ask what was said.
    assert!(store.set_negative(faces[2], person("a"), &by()).await.unwrap());
    store.merge_persons(person("b"), person("a"), &by()).await.unwrap().unwrap();
    assert_eq!(assign(&faces[2..], true).await, []);
    let newest = said(&store).await.remove(0);
    assert_eq!(newest, (Some(faces[2]), json!({ "confirmed": true, "withdrawn": true })));
    assert_eq!(store.negatives_of(faces[2]).await.unwrap(), []);
    // Of one that was somebody else's and is about to go nothing is told: it did not become theirs.
    let gone = enrolled(&store, &[face("c", None, 4)]).await[0];
    assert!(store.set_negative(gone, person("a"), &by()).await.unwrap());
    store.remove_face(gone, &by()).await.unwrap().unwrap();
    let before = said(&store).await;
    assert_eq!(assign(&[gone], true).await, []);
    assert_eq!(said(&store).await, before);
    db.drop().await;
}

#[tokio::test]
async fn nobody_is_made_or_changed_whom_an_unfinished_erasure_concerns() {
    let db = test_database().await;
    let store = db.migrated().await;
    let faces = enrolled(&store, &[face("a", Some("Anna"), 1), face("b", None, 2)]).await;
    let what = FaceSelection::Person(person("a"));
    let begun = store.begin_erasure(&what, &by()).await.unwrap().unwrap();
    let shown = store.update_person(person("a"), None, &named("Anna K."), &by()).await;
    assert_eq!(shown, Err(StoreError::BeingErased));
    assert_eq!(store.hide_person(person("a"), false, &by()).await, Err(StoreError::BeingErased));
    let hidden = store.person(person("a")).await.unwrap().unwrap();
    assert_eq!(hidden.person.status, PersonStatus::Hidden);
    let gone = store.tombstone_selected(&what, 10).await.unwrap();
    store.forget(&gone.iter().map(|face| face.face).collect::<Vec<_>>()).await.unwrap();
    assert_eq!(store.delete_persons(&begun.persons).await.unwrap(), 1);

    let again = |store: Store, faces: Vec<FaceId>| async move {
        let subject = "a".parse().unwrap();
        let made = store.create_person(&office(), &subject, "Anna", &json!({}), &by()).await;
        (made, store.assign_to_new(&office(), &faces, &subject, "Anna", false, &by()).await)
    };
    let (made, given) = again(store.clone(), faces[1..].to_vec()).await;
    assert_eq!((made, given), (Err(StoreError::BeingErased), Err(StoreError::BeingErased)));
    assert!(store.finish_erasure(&begun, &what, &json!({}), &by()).await.unwrap());
    let (made, given) = again(store.clone(), faces[1..].to_vec()).await;
    assert!(matches!(made, Ok(PersonCreation::Created(_))), "{made:?}");
    assert_eq!(given, Ok(Err(PersonCreation::SubjectTaken(person("a")))));
    db.drop().await;
}

#[tokio::test]
async fn a_person_is_made_with_their_first_face_or_not_at_all() {
    let db = test_database().await;
    let store = db.migrated().await;
    let faces = enrolled(&store, &[face("a", None, 1), face("a", None, 2)]).await;
    let give = async |face: FaceId, subject: &str, name: &str| {
        store.assign_to_new(&office(), &[face], &subject.parse().unwrap(), name, true, &by()).await.unwrap()
    };
    assert_eq!(give(faces[0], "new", " A ").await, Err(PersonCreation::NameTaken(person("a"))));
    let given = give(faces[0], "new", "Nora").await.unwrap().unwrap();
    assert_eq!((given.person, &given.faces[..]), (person("new"), &faces[..1]));
    assert_eq!(store.negatives_of(faces[0]).await.unwrap()[0].person, person("a"));
    let nora = store.person(person("new")).await.unwrap().unwrap();
    assert_eq!((nora.person.name.as_str(), nora.faces, nora.prototypes), ("Nora", 1, 1));

    let before = trail_of(&store, None).await;
    store.remove_face(faces[1], &by()).await.unwrap().unwrap();
    assert_eq!(give(faces[1], "other", "Olga").await, Ok(None), "the face is gone");
    let begun = store.begin_erasure(&FaceSelection::Person(person("new")), &by()).await.unwrap();
    assert!(begun.is_some());
    let refused = store.assign_to_new(&office(), &faces[..1], &"other".parse().unwrap(), "Olga", false, &by()).await;
    assert_eq!(refused, Err(StoreError::BeingErased));
    assert_eq!(store.person(person("other")).await.unwrap(), None);
    let after = trail_of(&store, None).await;
    let since: Vec<&str> = after[before.len()..].iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(since, ["face.removed"]);
    db.drop().await;
}
