//! Who asks first for a name or an image has it, whoever else asks at the same time.

use std::collections::HashSet;

use facewire_domain::PersonId;
use facewire_store_pg::{ConflictKind, Enrolment, NewFace, PersonChanges, PersonUpdate, StoreError};
use sqlx::{Connection, Executor};

use crate::support::{TestDatabase, blocked_session, by, enrol, face, head, test_database};

fn person(subject: &str) -> PersonId {
    PersonId::derive(&"office".parse().unwrap(), &subject.parse().unwrap())
}

fn taken(kind: ConflictKind, subject: &str) -> Enrolment {
    Enrolment::Conflict { kind, person: person(subject) }
}

fn pending(enrolment: Enrolment) -> facewire_domain::FaceId {
    match enrolment {
        Enrolment::Pending { face, .. } => face,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_face_is_pending_until_it_is_indexed() {
    let db = test_database().await;
    let store = db.migrated().await;
    let answers = enrol(&store, &[face("17", Some("Anna"), 1), face("17", None, 1)]).await;
    let id = pending(answers[0]);
    assert_eq!(answers[0], answers[1]);
    // The crop that enrolled it comes once more; and then its image with another crop, and with none.
    let other = NewFace { crop: Some(head(2).crop), ..face("17", None, 1) };
    let none = NewFace { crop: None, ..face("17", None, 1) };
    let batch = [face("17", None, 1), other, none];
    let waiting = |same_crop| Enrolment::Pending { person: person("17"), face: id, same_crop };
    assert_eq!(enrol(&store, &batch).await, [waiting(true), waiting(false), waiting(false)]);
    assert_eq!(store.mark_indexed(&[id, id]).await.unwrap(), 1);
    let again = enrol(&store, &batch).await;
    let indexed = |same_crop| Enrolment::AlreadyIndexed { person: person("17"), face: id, same_crop };
    assert_eq!(again, [indexed(true), indexed(false), indexed(false)]);
    // Another model means another embedding, which has to be indexed.
    let newer = NewFace { model: "pack-2".to_owned(), embedding: vec![0.5; 4], ..face("17", None, 1) };
    assert_eq!(enrol(&store, &[newer]).await, answers[..1]);
    let stored = store.faces_after(None, 10).await.unwrap();
    assert_eq!((stored.len(), stored[0].record.model.as_str(), stored[0].embedding.len()), (1, "pack-2", 4));
    // A face that was taken away can come back.
    store.tombstone(&[id]).await.unwrap();
    assert_eq!(enrol(&store, &[face("17", None, 1)]).await, answers[..1]);
    db.drop().await;
}

#[tokio::test]
async fn names_and_images_belong_to_one_person() {
    let db = test_database().await;
    let store = db.migrated().await;
    let batch = [
        face("17", Some("Ängela"), 1),
        face("18", Some(" ÄNGELA "), 2),
        face("18", None, 1),
        face("18", Some("Bert"), 2),
        face("17", Some("Angela"), 3),
        face("bert", None, 4),
    ];
    let answers = enrol(&store, &batch).await;
    assert_eq!(answers[1], taken(ConflictKind::NameTaken, "17"));
    assert_eq!(answers[2], taken(ConflictKind::ImageOfOther, "17"));
    pending(answers[3]);
    pending(answers[4]);
    assert_eq!(answers[5], taken(ConflictKind::NameTaken, "18"), "a subject's id is their name where none is given");
    assert_eq!(enrol(&store, &batch).await[2..], answers[2..], "a second delivery is told the same");

    let names = |list: Vec<facewire_store_pg::PersonSummary>| {
        list.into_iter().map(|summary| (summary.person.name, summary.faces)).collect::<Vec<_>>()
    };
    let office = "office".parse().unwrap();
    let all = names(store.persons_list(&office, None, 10).await.unwrap());
    assert_eq!(all, [("Angela".to_owned(), 2), ("Bert".to_owned(), 1)]);
    let rest = names(store.persons_list(&office, Some("ANGELA"), 10).await.unwrap());
    assert_eq!(rest, [("Bert".to_owned(), 1)]);
    // Another collection has its own names and images.
    let elsewhere = NewFace { collection: "lab".parse().unwrap(), ..face("99", Some("angela"), 1) };
    pending(enrol(&store, &[elsewhere]).await[0]);
    let (here, all) = (store.gallery(Some(&office)).await.unwrap(), store.gallery(None).await.unwrap());
    assert_eq!((here.persons, here.faces, all.persons, all.faces, all.pending), (2, 3, 3, 4, 4));
    db.drop().await;
}

#[tokio::test]
async fn a_crop_that_comes_once_more_changes_no_name_and_meets_none() {
    let db = test_database().await;
    let store = db.migrated().await;
    let item = face("17", Some("Anna"), 1);
    let first = enrol(&store, std::slice::from_ref(&item)).await;
    let id = pending(first[0]);
    let changes = PersonChanges { name: Some("Berta".to_owned()), ..PersonChanges::default() };
    let renamed = store.update_person(person("17"), None, &changes, &by()).await.unwrap();
    assert!(matches!(renamed, PersonUpdate::Updated(_)), "{renamed:?}");
    let name = async || store.person(person("17")).await.unwrap().unwrap().person.name;
    assert_eq!(enrol(&store, std::slice::from_ref(&item)).await, first);
    assert_eq!(name().await, "Berta", "an operator said so since");
    // The name of then is another person's by now.
    pending(enrol(&store, &[face("18", Some("Anna"), 2)]).await[0]);
    assert_eq!(enrol(&store, std::slice::from_ref(&item)).await, first);
    store.mark_indexed(&[id]).await.unwrap();
    let done = Enrolment::AlreadyIndexed { person: person("17"), face: id, same_crop: true };
    assert_eq!(enrol(&store, std::slice::from_ref(&item)).await, [done]);
    // Another crop of the image is a wish of its own.
    let other = NewFace { crop: Some(head(3).crop), ..item };
    assert_eq!(enrol(&store, std::slice::from_ref(&other)).await, [taken(ConflictKind::NameTaken, "18")]);
    assert_eq!(name().await, "Berta");
    enrol(&store, &[NewFace { name: Some("Clara".to_owned()), ..other }]).await;
    assert_eq!(name().await, "Clara");
    db.drop().await;
}

async fn race(db: &TestDatabase, faces: Vec<NewFace>) -> Vec<Enrolment> {
    let mut tasks = Vec::new();
    for face in faces {
        let store = db.store().await;
        tasks.push(tokio::spawn(async move { enrol(&store, &[face]).await[0] }));
    }
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(task.await.unwrap());
    }
    answers
}

#[tokio::test]
async fn of_many_at_once_exactly_one_gets_a_name() {
    let db = test_database().await;
    let store = db.migrated().await;
    let answers = race(&db, (0..12).map(|i| face(&format!("s{i}"), Some("Anna"), i)).collect()).await;
    let winners: Vec<_> = answers.iter().filter(|answer| matches!(answer, Enrolment::Pending { .. })).collect();
    assert_eq!(winners.len(), 1);
    let Enrolment::Pending { person, .. } = *winners[0] else { unreachable!() };
    let lost = Enrolment::Conflict { kind: ConflictKind::NameTaken, person };
    assert_eq!(answers.iter().filter(|answer| **answer == lost).count(), 11);
    assert_eq!(store.gallery(None).await.unwrap().persons, 1);
    db.drop().await;
}

#[tokio::test]
async fn of_many_at_once_exactly_one_gets_an_image() {
    let db = test_database().await;
    let store = db.migrated().await;
    let answers = race(&db, (0..12).map(|i| face(&format!("s{i}"), None, 5)).collect()).await;
    let kinds: HashSet<Option<ConflictKind>> = answers
        .iter()
        .map(|answer| match answer {
            Enrolment::Conflict { kind, .. } => Some(*kind),
            _ => None,
        })
        .collect();
    assert_eq!(kinds, HashSet::from([None, Some(ConflictKind::ImageOfOther)]));
    assert_eq!(answers.iter().filter(|answer| matches!(answer, Enrolment::Pending { .. })).count(), 1);
    // The same subject with the same image is no race at all: everybody is told the same.
    let same = race(&db, vec![face("t", None, 6); 6]).await;
    assert!(same.iter().all(|answer| *answer == same[0]), "{same:?}");
    pending(same[0]);
    let gallery = store.gallery(None).await.unwrap();
    assert_eq!((gallery.persons, gallery.faces), (2, 2));
    db.drop().await;
}

#[tokio::test]
async fn a_name_taken_by_hand_in_the_middle_is_a_conflict_not_an_error() {
    let db = test_database().await;
    let store = db.migrated().await;
    let mut operator = db.operator().await;
    let mut by_hand = db.operator().await;
    by_hand.execute("INSERT INTO collections VALUES ('office')").await.unwrap();
    let mut tx = by_hand.begin().await.unwrap();
    sqlx::query("INSERT INTO persons (person_id, collection, subject_id, name, name_key) VALUES ($1, 'office', '1', 'Anna', 'anna')")
        .bind(person("1").as_uuid())
        .execute(&mut *tx)
        .await
        .unwrap();
    let racing = store.clone();
    let task = tokio::spawn(async move { racing.begin_enrolment(&[face("2", Some("Anna"), 1)]).await });
    blocked_session(&mut operator).await;
    tx.commit().await.unwrap();
    assert_eq!(task.await.unwrap().unwrap(), [Ok(taken(ConflictKind::NameTaken, "1"))]);
    db.drop().await;
}

#[tokio::test]
async fn merged_persons_lead_to_the_one_who_took_over() {
    let db = test_database().await;
    let store = db.migrated().await;
    let batch = [face("1", Some("Anna"), 1), face("2", Some("Anna K."), 2), face("3", Some("A. K."), 3)];
    let faces: Vec<_> = enrol(&store, &batch).await.into_iter().map(pending).collect();
    store.mark_indexed(&faces).await.unwrap();
    assert!(store.merge_persons(person("1"), person("2"), &by()).await.unwrap().is_some());
    assert!(store.merge_persons(person("2"), person("3"), &by()).await.unwrap().is_some());
    assert!(store.merge_persons(person("1"), person("3"), &by()).await.unwrap().is_none(), "is merged already");
    assert!(store.merge_persons(person("3"), person("3"), &by()).await.unwrap().is_none());
    assert!(store.merge_persons(person("3"), person("1"), &by()).await.unwrap().is_none(), "would make a circle");

    let found = store.persons(&[person("1"), person("3"), person("4")]).await.unwrap();
    assert_eq!(found.len(), 2);
    assert_eq!((found[&person("1")].person_id, found[&person("1")].name.as_str()), (person("3"), "A. K."));
    let stored = store.faces_after(None, 10).await.unwrap();
    assert!(stored.iter().all(|face| face.record.person == Some(person("3"))), "{stored:?}");
    assert_eq!(store.gallery(None).await.unwrap().pending, 2, "the vector engine has to learn the new owner");
    store.mark_indexed(&faces).await.unwrap();

    // The subject of old goes on under the new person: a known image, and a new one.
    let answers = enrol(&store, &[face("1", Some("Anna"), 1), face("1", None, 9)]).await;
    assert_eq!(answers[0], Enrolment::AlreadyIndexed { person: person("3"), face: faces[0], same_crop: true });
    assert!(matches!(answers[1], Enrolment::Pending { person: owner, .. } if owner == person("3")));
    // An image of the merged person, now under the name of the one who took over, is theirs as well.
    let answers = enrol(&store, &[face("3", None, 1)]).await;
    assert_eq!(answers, [Enrolment::AlreadyIndexed { person: person("3"), face: faces[0], same_crop: true }]);
    let answers = enrol(&store, &[face("5", None, 1), face("6", Some("anna"), 7)]).await;
    assert_eq!(answers, [taken(ConflictKind::ImageOfOther, "3"), taken(ConflictKind::NameTaken, "3")]);
    db.drop().await;
}

#[tokio::test]
async fn what_cannot_be_read_again_is_not_enrolled() {
    let db = test_database().await;
    let store = db.migrated().await;
    let mut nan = face("2", None, 2);
    nan.embedding[17] = f32::NAN;
    let mut prehistoric = face("3", None, 3);
    prehistoric.captured_at = time::Date::MIN.midnight().assume_utc();
    let batch = [face("1", None, 1), nan, prehistoric, face("4", None, 4), face("5", None, 1)];
    let answers = store.begin_enrolment(&batch).await.unwrap();
    assert!(matches!(answers[1], Err(StoreError::Invalid { index: 1, .. })), "{answers:?}");
    assert_eq!(answers[2].as_ref().unwrap_err().kind(), facewire_domain::FaultKind::Poison);
    assert!(matches!((&answers[0], &answers[3]), (Ok(Enrolment::Pending { .. }), Ok(Enrolment::Pending { .. }))));
    assert_eq!(answers[4], Ok(taken(ConflictKind::ImageOfOther, "1")), "the first to ask has it all the same");
    assert_eq!(store.gallery(None).await.unwrap().faces, 2);
    db.drop().await;
}

#[tokio::test]
async fn whoever_lost_the_enrolment_lock_writes_nothing() {
    const KILL: &str =
        "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted AND database =
                        (SELECT oid FROM pg_database WHERE datname = current_database())";
    let db = test_database().await;
    let store = db.migrated().await;
    let mut operator = db.operator().await;
    let office = ["office".parse().unwrap()];
    let (first, late) = (face("1", None, 1), face("2", None, 2));
    let mut lock = store.enrolment_lock(&office).await.unwrap();
    let begun = store.begin_enrolment_under(&mut lock, std::slice::from_ref(&first)).await.unwrap();
    let id = pending(*begun[0].as_ref().unwrap());
    operator.execute(KILL).await.unwrap();
    store.enrolment_lock(&office).await.unwrap().release().await.unwrap();
    let refused = store.begin_enrolment_under(&mut lock, std::slice::from_ref(&late)).await.unwrap_err();
    assert!(refused.is_transient(), "{refused}");
    assert_eq!(store.gallery(None).await.unwrap().faces, 1);
    assert_eq!(store.enrolled_before(&[&late, &first]).await.unwrap(), [1_usize]);
    let other_crop = NewFace { crop: late.crop, ..first.clone() };
    assert_eq!(store.enrolled_before(&[&other_crop]).await.unwrap(), [0_usize; 0]);

    // Who asks what waits for its point waits for whoever is writing.
    let mut writing = operator.begin().await.unwrap();
    let take = sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended('facewire persons of office', 0))");
    take.execute(&mut *writing).await.unwrap();
    let (asking, wanted) = (store.clone(), office.clone());
    let asked = tokio::spawn(async move { asking.pending_enrolments(&wanted, None, 10).await });
    blocked_session(&mut db.operator().await).await;
    writing.commit().await.unwrap();
    let waiting = asked.await.unwrap().unwrap();
    assert_eq!(waiting.iter().map(|face| face.record.face).collect::<Vec<_>>(), [id]);
    assert_eq!(store.pending_enrolments(&office, Some(id), 10).await.unwrap(), []);
    store.mark_indexed(&[id]).await.unwrap();
    assert_eq!(store.pending_enrolments(&office, None, 10).await.unwrap(), []);
    db.drop().await;
}
