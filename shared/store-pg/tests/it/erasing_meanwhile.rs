//! What comes while somebody is erased, and what ends with a collection: nobody comes back behind the erasure, what leads it to images
//! waits for it, and no erasure is left open for ever.

use std::collections::HashSet;
use std::time::Duration;

use facewire_domain::{Candidate, Decision, PersonId};
use facewire_store_pg::{
    Assignment, ClaimLimits, Ending, Enrolment, FaceSelection, Named, NamedCrop, NewDelivery, NewFace, PersonChanges,
    PersonUpdate, Source, Store, StoreError,
};
use serde_json::{Value as JsonValue, json};
use uuid::Uuid;

use crate::erasing::{enrolment_crop, erase_faces, erased};
use crate::support::{admit, by, enrol, enrolled, face, finish, head, matched, office, person, test_database};
use crate::webhooks::webhook;

/// The ending of a crop that is nearest to one person, and then to another.
fn near(number: u64, is_match: bool, best: PersonId, second: PersonId) -> Ending {
    let candidate = |person| Some(Candidate { person, face: Uuid::from_u128(8).into(), similarity: 0.5 });
    let decision =
        Decision { matched: is_match, best: candidate(best), runner_up: candidate(second), ..Decision::default() };
    Ending { decision: Some(decision), ..matched(number) }
}

/// The enrolments of these persons that are left.
async fn waiting(store: &Store, named: Named<'_>) -> Vec<NamedCrop> {
    store.named_crops(&office(), named, 100).await.unwrap()
}

#[tokio::test]
async fn an_enrolment_that_is_admitted_meanwhile_is_left_to_the_erasure_until_its_receipt_is_final() {
    let db = test_database().await;
    let store = db.migrated().await;
    enrolled(&store, &[face("a", None, 1)]).await;
    let what = FaceSelection::Person(person("a"));
    let begun = store.begin_erasure(&what, &by()).await.unwrap().unwrap();
    erase_faces(&store, &what).await;
    assert_eq!(store.delete_persons(&begun.persons).await.unwrap(), 1);
    // One waited when the erasure began, one came since.
    let (waited, came) = (enrolment_crop(2, "a", -9), enrolment_crop(3, "a", 9));
    admit(&store, &[waited.clone(), came]).await;
    let named = Named::Subjects(&begun.subjects);
    let mut found: Vec<_> = waiting(&store, named).await.iter().map(|crop| crop.crop).collect();
    found.sort();
    let mut expected = [head(2).crop, head(3).crop];
    expected.sort();
    assert_eq!(found, expected, "by them the erasure finds their images");
    assert!(!store.finish_erasure(&begun, &what, &json!({}), &by()).await.unwrap());
    let crops = waiting(&store, named).await;
    assert_eq!(store.erase_names(&crops, named).await.unwrap(), 2);
    assert!(store.finish_erasure(&begun, &what, &json!({}), &by()).await.unwrap());
    // Whoever writes one now takes it back.
    admit(&store, &[waited, enrolment_crop(4, "a", -9)]).await;
    assert_eq!(waiting(&store, named).await, []);
    db.drop().await;
}

#[tokio::test]
async fn nobody_is_enrolled_whose_erasure_has_not_ended() {
    let db = test_database().await;
    let store = db.migrated().await;
    enrolled(&store, &[face("a", Some("Anna"), 1), face("b", None, 2)]).await;
    store.merge_persons(person("b"), person("a"), &by()).await.unwrap().unwrap();
    let what = FaceSelection::Person(person("a"));
    let begun = store.begin_erasure(&what, &by()).await.unwrap().unwrap();
    erase_faces(&store, &what).await;
    // Received since it began: with and without their rows, by both ids, by a crop and by hand.
    admit(&store, &[enrolment_crop(4, "a", 9), enrolment_crop(5, "b", 9), enrolment_crop(6, "c", 9)]).await;
    let by_hand = NewFace { crop: None, ..face("a", None, 7) };
    assert_eq!(enrol(&store, &[face("b", None, 5), by_hand.clone()]).await, [erased("a"), erased("a")]);
    assert_eq!(store.delete_persons(&begun.persons).await.unwrap(), 2);
    let batch = [face("a", None, 4), face("b", None, 5), by_hand.clone(), face("c", None, 6)];
    let answers = enrol(&store, &batch).await;
    assert_eq!(answers[..3], [erased("a"), erased("b"), erased("a")]);
    assert!(matches!(answers[3], Enrolment::Pending { .. }), "{answers:?}");
    let events = crate::support::trail_of(&store, Some(office())).await;
    let made = events.iter().filter(|event| event.kind == "person.created").count();
    assert_eq!(made, 3, "nothing of them comes into the streams again");

    let named = Named::Subjects(&begun.subjects);
    let crops = waiting(&store, named).await;
    assert_eq!(store.erase_names(&crops, named).await.unwrap(), 2);
    assert!(store.finish_erasure(&begun, &what, &json!({}), &by()).await.unwrap());
    enrolled(&store, &[by_hand]).await;
    db.drop().await;
}

#[tokio::test]
async fn a_face_that_was_taken_from_somebody_is_not_theirs_again_once_they_are_erased() {
    let db = test_database().await;
    let store = db.migrated().await;
    let faces = enrolled(&store, &[face("a", None, 1)]).await;
    let denied = Assignment { not_this_person: true, ..Assignment::to(None) };
    store.assign_faces(&office(), &faces, denied, &by()).await.unwrap().unwrap();
    let what = FaceSelection::Person(person("a"));
    let begun = store.begin_erasure(&what, &by()).await.unwrap().unwrap();
    assert_eq!(erase_faces(&store, &what).await, 0, "it stays, and what was said of it goes with the person");
    assert_eq!(store.delete_persons(&begun.persons).await.unwrap(), 1);
    let again = |number| NewFace { crop: Some(head(number).crop), ..face("a", None, 1) };
    assert_eq!(enrol(&store, &[again(2), face("a", None, 1)]).await, [erased("a"), erased("a")]);
    assert!(store.finish_erasure(&begun, &what, &json!({}), &by()).await.unwrap());
    assert_eq!(enrol(&store, &[again(2), face("a", None, 1)]).await, [erased("a"), erased("a")]);
    assert_eq!(store.face(faces[0]).await.unwrap().unwrap().person, None);
    assert_eq!(store.gallery(None).await.unwrap().persons, 0);
    // Received since: somebody wants it.
    admit(&store, &[enrolment_crop(3, "a", 9)]).await;
    assert_eq!(enrolled(&store, &[again(3)]).await, faces);
    db.drop().await;
}

#[tokio::test]
async fn an_unfinished_erasure_of_a_person_ends_with_the_collection_and_what_was_left_to_it_goes_first() {
    let db = test_database().await;
    let store = db.migrated().await;
    enrolled(&store, &[face("a", None, 1), face("b", None, 2)]).await;
    let (a, b) = (person("a"), person("b"));
    let what = FaceSelection::Person(a);
    let begun = store.begin_erasure(&what, &by()).await.unwrap().unwrap();
    store.note_erasure(begun.erasure, &json!({ "faces": 1 })).await.unwrap();
    // It is cut short.
    let all = FaceSelection::Collection(office());
    let whole = store.begin_erasure(&all, &by()).await.unwrap().unwrap();
    erase_faces(&store, &all).await;
    while store.empty_collection(&office(), 10).await.unwrap() > 0 {}
    // A service had these in hand, and leaves them to the erasure of the person.
    finish(&store, &[near(3, true, a, b)]).await;
    assert_eq!(store.results_of(&[a], 10).await.unwrap().len(), 1);
    admit(&store, &[enrolment_crop(4, "a", -9)]).await;
    assert!(!store.delete_erased_collection(&whole, &json!({}), &by()).await.unwrap());
    assert_eq!(store.erasure_receipt(whole.erasure).await.unwrap().unwrap().finished_at, None);
    while store.empty_collection(&office(), 10).await.unwrap() > 0 {}
    assert!(store.delete_erased_collection(&whole, &json!({}), &by()).await.unwrap());

    let receipts: Vec<(JsonValue, bool)> =
        sqlx::query_as("SELECT receipt, finished_at IS NOT NULL FROM erasures ORDER BY kind")
            .fetch_all(&mut db.operator().await)
            .await
            .unwrap();
    assert_eq!(receipts, [(json!({}), true), (json!({ "faces": 1 }), true)], "without saying whom it was of");
    assert_eq!(store.begin_erasure(&what, &by()).await.unwrap(), None, "there is nobody to go on with");
    // Somebody of that id comes into a collection of that name, and is anybody.
    enrolled(&store, &[NewFace { crop: None, ..face("a", None, 5) }]).await;
    let changes = PersonChanges { name: Some("Anna".to_owned()), ..PersonChanges::default() };
    let updated = store.update_person(a, None, &changes, &by()).await.unwrap();
    assert!(matches!(updated, PersonUpdate::Updated(_)), "{updated:?}");
    db.drop().await;
}

#[tokio::test]
async fn a_collection_of_which_something_is_being_erased_is_not_deleted_as_an_empty_one() {
    let db = test_database().await;
    let store = db.migrated().await;
    enrolled(&store, &[face("a", None, 1)]).await;
    let what = FaceSelection::Person(person("a"));
    let begun = store.begin_erasure(&what, &by()).await.unwrap().unwrap();
    erase_faces(&store, &what).await;
    assert_eq!(store.delete_persons(&begun.persons).await.unwrap(), 1);
    // Nothing is left in it, and the streams may still name them.
    assert!(store.collection(&office()).await.unwrap().unwrap().is_empty());
    assert_eq!(store.delete_collection(&office(), &by()).await, Err(StoreError::BeingErased));
    assert!(store.finish_erasure(&begun, &what, &json!({}), &by()).await.unwrap());
    assert_eq!(store.delete_collection(&office(), &by()).await, Ok(true));
    db.drop().await;
}

#[tokio::test]
async fn one_of_two_erasures_takes_the_other_person_out_of_the_decisions_that_it_changes() {
    let db = test_database().await;
    let store = db.migrated().await;
    enrolled(&store, &[face("a", None, 1), face("b", None, 2), face("c", None, 9)]).await;
    let [a, b, c] = ["a", "b", "c"].map(person);
    finish(&store, &[near(3, false, a, b), near(4, true, a, b), near(5, true, c, b), near(6, true, c, a)]).await;
    for other in [a, b] {
        store.begin_erasure(&FaceSelection::Person(other), &by()).await.unwrap().unwrap();
    }
    // The rows may move to where the erasure of `a` has been already.
    assert_eq!(store.erase_mentions(&[b], 0).await.unwrap(), (3, None));
    let decisions: Vec<(JsonValue, JsonValue)> = sqlx::query_as(
        "SELECT coalesce(decision->'best'->'person', 'null'), coalesce(decision->'runner_up'->'person', 'null')
         FROM recognitions ORDER BY received_at",
    )
    .fetch_all(&mut db.operator().await)
    .await
    .unwrap();
    let expected = [(json!(null), json!(null)), (json!(a), json!(null)), (json!(c), json!(null)), (json!(c), json!(a))];
    assert_eq!(decisions, expected, "who it was stays for their own erasure, and what was not changed does");
    db.drop().await;
}

#[tokio::test]
async fn who_went_with_a_collection_is_named_by_nothing_that_is_written_later() {
    let db = test_database().await;
    let store = db.migrated().await;
    enrolled(&store, &[face("a", None, 1), face("b", None, 2)]).await;
    let lab = "lab".parse().unwrap();
    enrolled(&store, &[NewFace { collection: lab, ..face("c", None, 3) }]).await;
    let others = PersonId::derive(&"lab".parse().unwrap(), &"c".parse().unwrap());
    let (a, b) = (person("a"), person("b"));
    let hook = webhook(&store).await.webhook_id;
    let what = FaceSelection::Collection(office());
    let begun = store.begin_erasure(&what, &by()).await.unwrap().unwrap();
    erase_faces(&store, &what).await;
    while store.empty_collection(&office(), 10).await.unwrap() > 0 {}
    assert!(store.delete_erased_collection(&begun, &json!({}), &by()).await.unwrap());

    assert_eq!(store.erased_persons(&[a, b, others]).await.unwrap(), HashSet::from([a, b]));
    let written = finish(&store, &[near(4, true, a, b)]).await;
    assert_eq!(written[0].row.decision, None);
    assert_eq!(store.results_of(&[a, b], 10).await.unwrap(), []);
    let told = [(1, vec![a]), (2, vec![others]), (3, vec![others, b])].map(|(sequence, persons)| NewDelivery {
        sequence,
        order_key: sequence.to_string(),
        persons,
        body: b"{}".to_vec(),
    });
    store.enqueue(hook, Source::Results, 0, 3, &told).await.unwrap();
    let limits = ClaimLimits { limit: 10, per_webhook: 10, lease: Duration::from_secs(60) };
    let claimed = store.claim_deliveries(limits, &[]).await.unwrap();
    assert_eq!(claimed.iter().map(|delivery| delivery.sequence).collect::<Vec<_>>(), [2]);
    db.drop().await;
}
