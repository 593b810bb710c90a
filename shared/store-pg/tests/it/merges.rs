//! Merges undone: exactly the faces that were moved go back, and nobody else's.

use facewire_domain::{FaceId, PersonId};
use facewire_store_pg::{
    Assignment, FaceSelection, MergeRef, Merged, NewFace, PersonChanges, PersonStatus, PersonUpdate, Store, StoreError,
    VectorState,
};
use serde_json::json;

use crate::support::{by, enrol, enrolled, face, office, person, test_database};

async fn merge(store: &Store, from: &str, into: &str) -> Merged {
    store.merge_persons(person(from), person(into), &by()).await.unwrap().unwrap()
}

async fn unmerge(store: &Store, which: MergeRef) -> Option<Merged> {
    store.unmerge(which, &by()).await.unwrap()
}

async fn owners(store: &Store, faces: &[FaceId]) -> Vec<Option<PersonId>> {
    let mut owners = Vec::new();
    for face in faces {
        owners.push(store.face(*face).await.unwrap().unwrap().person);
    }
    owners
}

async fn give(store: &Store, face: FaceId, to: &str) {
    store.assign_faces(&office(), &[face], Assignment::to(Some(person(to))), &by()).await.unwrap().unwrap();
}

fn people<const N: usize>(subjects: [&str; N]) -> [Option<PersonId>; N] {
    subjects.map(|subject| Some(person(subject)))
}

#[tokio::test]
async fn undoing_a_merge_moves_back_what_it_moved_and_nobody_moved_since() {
    let db = test_database().await;
    let store = db.migrated().await;
    let batch: Vec<_> = ["a", "a", "a", "b", "c"].iter().zip(1..).map(|(subject, n)| face(subject, None, n)).collect();
    let faces = enrolled(&store, &batch).await;
    store.mark_indexed(&faces).await.unwrap();
    let merged = merge(&store, "a", "b").await;
    assert_eq!((merged.source, merged.target, merged.faces), (person("a"), person("b"), 3));
    assert_eq!(owners(&store, &faces).await, people(["b", "b", "b", "b", "c"]));
    give(&store, faces[2], "c").await;
    // New of the merged subject since: they are the target's own.
    let late = enrolled(&store, &[face("a", None, 9)]).await;

    store.mark_indexed(&faces).await.unwrap();
    let undone = unmerge(&store, MergeRef::Merge(merged.merge)).await.unwrap();
    assert_eq!((undone.source, undone.target, undone.faces), (person("a"), person("b"), 2));
    assert_eq!(owners(&store, &faces).await, people(["a", "a", "c", "b", "c"]));
    assert_eq!(owners(&store, &late).await, people(["b"]));
    let states = store.faces(&faces[..2]).await.unwrap();
    assert!(states.iter().all(|face| face.record.state == VectorState::Pending), "the engine has to learn of it");
    let a = store.person(person("a")).await.unwrap().unwrap();
    assert_eq!((a.person.status, a.merged_into, a.version, a.faces), (PersonStatus::Active, None, 3, 2));
    assert_eq!(unmerge(&store, MergeRef::Merge(merged.merge)).await, None, "it is undone");
    assert_eq!(unmerge(&store, MergeRef::Source(person("a"))).await, None);
    assert_eq!(unmerge(&store, MergeRef::Source(person("b"))).await, None, "who was never merged");
    db.drop().await;
}

#[tokio::test]
async fn merges_of_merges_are_undone_in_any_order() {
    let db = test_database().await;
    let store = db.migrated().await;
    for outer_first in [true, false] {
        let subjects = ["a", "b", "c"].map(|s| format!("{s}-{outer_first}"));
        let [a, b, c] = subjects.each_ref().map(String::as_str);
        let base = if outer_first { 10 } else { 20 };
        let faces = enrolled(&store, &[face(a, None, base), face(b, None, base + 1), face(c, None, base + 2)]).await;
        merge(&store, a, b).await;
        merge(&store, b, c).await;
        assert_eq!(owners(&store, &faces).await, people([c, c, c]));
        let order = if outer_first { [b, a] } else { [a, b] };
        let first = unmerge(&store, MergeRef::Source(person(order[0]))).await.unwrap();
        assert_eq!(first.target, person(c), "whose the faces were");
        let between = if outer_first { people([b, b, c]) } else { people([a, c, c]) };
        assert_eq!(owners(&store, &faces).await, between);
        unmerge(&store, MergeRef::Source(person(order[1]))).await.unwrap();
        assert_eq!(owners(&store, &faces).await, people([a, b, c]));
    }
    db.drop().await;
}

#[tokio::test]
async fn names_and_hiding_survive_a_merge_and_its_undoing() {
    let db = test_database().await;
    let store = db.migrated().await;
    enrol(&store, &[face("a", Some("Anna"), 1), face("b", Some("Bert"), 2)]).await;
    store.hide_person(person("a"), true, &by()).await.unwrap();
    merge(&store, "a", "b").await;
    let rename = PersonChanges { name: Some("anna".to_owned()), ..PersonChanges::default() };
    let update = store.update_person(person("b"), None, &rename, &by()).await.unwrap();
    assert_eq!(
        update,
        PersonUpdate::NameTaken(person("a")),
        "a merged person keeps the name, so that undoing finds it free"
    );
    let update = store.update_person(person("a"), None, &rename, &by()).await.unwrap();
    assert_eq!(update, PersonUpdate::Merged(person("b")));
    unmerge(&store, MergeRef::Source(person("a"))).await.unwrap();
    let a = store.person(person("a")).await.unwrap().unwrap();
    assert_eq!((a.person.name.as_str(), a.person.status), ("Anna", PersonStatus::Hidden));
    db.drop().await;
}

#[tokio::test]
async fn what_is_not_the_source_is_not_the_target_while_they_are_one() {
    let db = test_database().await;
    let store = db.migrated().await;
    let faces =
        enrolled(&store, &[face("a", None, 1), face("b", None, 2), face("x", None, 3), face("y", None, 4)]).await;
    let [not_a, not_b] = [faces[2], faces[3]];
    assert!(store.set_negative(not_a, person("a"), &by()).await.unwrap());
    assert!(store.set_negative(not_b, person("b"), &by()).await.unwrap());
    let of_b = async || {
        let exemplars = store.negative_exemplars(&[person("b")], "pack-1", 64).await.unwrap();
        exemplars.len()
    };
    assert_eq!(of_b().await, 1);
    merge(&store, "a", "b").await;
    assert_eq!(of_b().await, 2);
    let assignment = Assignment::to(Some(person("b")));
    let refused = store.assign_faces(&office(), &[not_a], assignment, &by()).await.unwrap().unwrap().refused;
    assert_eq!(refused, [not_a]);
    unmerge(&store, MergeRef::Source(person("a"))).await.unwrap();
    assert_eq!(of_b().await, 1);
    assert_eq!(store.negatives_of(not_a).await.unwrap()[0].person, person("a"), "what was said of them still is");
    db.drop().await;
}

#[tokio::test]
async fn an_undone_merge_gives_back_only_what_stayed_since_it_was_made() {
    let db = test_database().await;
    let store = db.migrated().await;
    let batch: Vec<_> = ["a", "b", "c", "d"].iter().zip(1..).map(|(subject, n)| face(subject, None, n)).collect();
    let faces = enrolled(&store, &batch).await;
    let source = |subject| MergeRef::Source(person(subject));
    // `a` leaves the line of `b`, and comes to its end by another way.
    merge(&store, "a", "b").await;
    merge(&store, "b", "c").await;
    unmerge(&store, source("a")).await.unwrap();
    merge(&store, "a", "c").await;
    unmerge(&store, source("b")).await.unwrap();
    assert_eq!(owners(&store, &faces).await, people(["c", "b", "c", "d"]));
    unmerge(&store, source("a")).await.unwrap();
    assert_eq!(owners(&store, &faces).await, people(["a", "b", "c", "d"]));
    // Within a line everybody has their own again, from either end.
    merge(&store, "a", "b").await;
    merge(&store, "b", "c").await;
    unmerge(&store, source("b")).await.unwrap();
    unmerge(&store, source("a")).await.unwrap();
    assert_eq!(owners(&store, &faces).await, people(["a", "b", "c", "d"]));
    // A human gave it to somebody else, who was merged then.
    merge(&store, "b", "c").await;
    give(&store, faces[1], "d").await;
    merge(&store, "d", "c").await;
    unmerge(&store, source("b")).await.unwrap();
    assert_eq!(owners(&store, &faces).await, people(["a", "c", "c", "c"]));
    db.drop().await;
}

/// All that could take faces to `p` or away from them, of whom `s` is a part, is refused.
async fn assert_untouchable(store: &Store, faces: &[FaceId]) {
    let by = by();
    for (from, into) in [("p", "q"), ("q", "p")] {
        let merged = store.merge_persons(person(from), person(into), &by).await;
        assert_eq!(merged, Err(StoreError::BeingErased), "{from} into {into}");
    }
    let unmerged = store.unmerge(MergeRef::Source(person("s")), &by).await;
    assert_eq!(unmerged, Err(StoreError::BeingErased));
    for (face, to) in [(faces[1], Some("p")), (faces[1], Some("s")), (faces[0], Some("q")), (faces[2], None)] {
        let assigned = store.assign_faces(&office(), &[face], Assignment::to(to.map(person)), &by).await;
        assert_eq!(assigned, Err(StoreError::BeingErased), "to {to:?}");
    }
    let subject = "new".parse().unwrap();
    let split = store.split_person(&office(), person("p"), &faces[..1], &subject, "New", &by).await;
    assert_eq!(split, Err(StoreError::BeingErased));
    let merged = store.begin_erasure(&FaceSelection::Person(person("s")), &by).await;
    assert_eq!(merged, Err(StoreError::Merged { into: person("p") }), "their faces are somebody else's");
}

#[tokio::test]
async fn nothing_changes_hands_with_whom_an_unfinished_erasure_concerns() {
    let db = test_database().await;
    let store = db.migrated().await;
    let batch: Vec<_> = ["p", "q", "s", "r"].iter().zip(1..).map(|(subject, n)| face(subject, None, n)).collect();
    let faces = enrolled(&store, &batch).await;
    merge(&store, "s", "p").await;
    let what = FaceSelection::Person(person("p"));
    let begun = store.begin_erasure(&what, &by()).await.unwrap().unwrap();
    assert_untouchable(&store, &faces).await;
    assert_eq!(owners(&store, &faces).await, people(["p", "q", "p", "r"]));
    // Other people are not concerned.
    merge(&store, "q", "r").await;
    unmerge(&store, MergeRef::Source(person("q"))).await.unwrap();

    let gone = store.tombstone_selected(&what, 10).await.unwrap();
    assert_eq!(gone.len(), 2);
    store.forget(&gone.iter().map(|face| face.face).collect::<Vec<_>>()).await.unwrap();
    assert_eq!(store.delete_persons(&begun.persons).await.unwrap(), 2);
    let to_p = Assignment::to(Some(person("p")));
    let assigned = store.assign_faces(&office(), &faces[1..2], to_p, &by()).await;
    assert_eq!(assigned, Err(StoreError::BeingErased), "the receipt is not final");
    let split = store.split_person(&office(), person("r"), &faces[3..], &"p".parse().unwrap(), "P", &by()).await;
    assert_eq!(split, Err(StoreError::BeingErased));
    assert!(store.finish_erasure(&begun, &what, &json!({}), &by()).await.unwrap());
    assert_eq!(store.assign_faces(&office(), &faces[1..2], to_p, &by()).await, Ok(None), "there is nobody any more");
    // Somebody wants them again.
    let back = enrolled(&store, &[NewFace { crop: None, ..face("p", None, 9) }]).await;
    merge(&store, "q", "p").await;
    unmerge(&store, MergeRef::Source(person("q"))).await.unwrap();
    give(&store, faces[3], "p").await;
    assert_eq!(owners(&store, &[back[0], faces[1], faces[3]]).await, people(["p", "q", "p"]));
    db.drop().await;
}

#[tokio::test]
async fn an_erasure_that_began_before_its_person_was_merged_goes_on() {
    let db = test_database().await;
    let store = db.migrated().await;
    enrolled(&store, &[face("s", None, 1), face("p", None, 2)]).await;
    merge(&store, "s", "p").await;
    let what = FaceSelection::Person(person("s"));
    let refused = store.begin_erasure(&what, &by()).await;
    assert_eq!(refused, Err(StoreError::Merged { into: person("p") }));
    // As an earlier release may have left it.
    let erasure = uuid::Uuid::from_u128(5);
    sqlx::query(
        "INSERT INTO erasures (erasure_id, collection, kind, subject, actor) VALUES ($1, 'office', 'person', $2, 'x')",
    )
    .bind(erasure)
    .bind(person("s").to_string())
    .execute(&mut db.operator().await)
    .await
    .unwrap();
    assert_eq!(store.unmerge(MergeRef::Source(person("s")), &by()).await, Err(StoreError::BeingErased));
    let begun = store.begin_erasure(&what, &by()).await.unwrap().unwrap();
    assert_eq!((begun.erasure, begun.persons.clone()), (erasure, vec![person("s")]));
    assert_eq!(store.delete_persons(&begun.persons).await.unwrap(), 1);
    assert!(store.finish_erasure(&begun, &what, &json!({}), &by()).await.unwrap());
    assert_eq!(store.count_faces().await.unwrap(), 2, "both are of p");
    db.drop().await;
}
