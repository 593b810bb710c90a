//! What is erased leaves a receipt and a tombstone, and does not come back with a crop that was received before.

use std::collections::HashSet;

use facewire_domain::{Candidate, Decision, FaceId, Intent, PersonId};
use facewire_store_pg::{
    Admission, Assignment, AuditFilter, ConflictKind, CropHead, Ending, Enrolment, FaceSelection, Named, NamedCrop,
    NewCrop, NewFace, PersonStatus, Store,
};
use serde_json::json;
use sqlx::Connection;
use time::OffsetDateTime;

use crate::support::{
    TestDatabase, admit, blocked_session, by, crop, enrol, enrolled, face, finish, head, kept, matched, office, person,
    test_database,
};

/// An enrolment's crop, received `seconds` from now.
pub(crate) fn enrolment_crop(number: u64, subject: &str, seconds: i64) -> NewCrop {
    let received_at = OffsetDateTime::now_utc() + time::Duration::seconds(seconds);
    let subject = Some(subject.parse().unwrap());
    NewCrop { head: CropHead { intent: Intent::Enroll, subject, received_at, ..head(number) }, ..crop(number) }
}

pub(crate) async fn erase_faces(store: &Store, what: &FaceSelection) -> usize {
    let mut erased = 0;
    loop {
        let faces = store.tombstone_selected(what, 2).await.unwrap();
        if faces.is_empty() {
            return erased;
        }
        erased += faces.len();
        store.forget(&faces.iter().map(|face| face.face).collect::<Vec<_>>()).await.unwrap();
    }
}

pub(crate) fn erased(subject: &str) -> Enrolment {
    Enrolment::Conflict { kind: ConflictKind::Erased, person: person(subject) }
}

#[tokio::test]
async fn an_erased_person_comes_back_by_a_new_decision_alone() {
    let db = test_database().await;
    let store = db.migrated().await;
    admit(&store, &[enrolment_crop(1, "a", -9), enrolment_crop(2, "a", -9), enrolment_crop(3, "b", -9)]).await;
    enrol(&store, &[face("a", Some("Anna"), 1), face("b", None, 3)]).await;
    store.merge_persons(person("b"), person("a"), &by()).await.unwrap().unwrap();
    let what = FaceSelection::Person(person("a"));
    let begun = store.begin_erasure(&what, &by()).await.unwrap().unwrap();
    let mut persons = begun.persons.clone();
    persons.sort();
    let mut both = [person("a"), person("b")];
    both.sort();
    assert_eq!((persons, begun.receipt.clone()), (both.to_vec(), json!({})));
    let hidden = store.person(person("a")).await.unwrap().unwrap();
    assert_eq!(hidden.person.status, PersonStatus::Hidden, "never named from here on");
    // Cut short: the next attempt goes on with the same receipt.
    store.note_erasure(begun.erasure, &json!({ "faces": 1 })).await.unwrap();
    let again = store.begin_erasure(&what, &by()).await.unwrap().unwrap();
    assert_eq!((again.erasure, again.receipt.clone()), (begun.erasure, json!({ "faces": 1 })));
    assert_eq!(erase_faces(&store, &what).await, 2);
    assert_eq!(store.delete_persons(&begun.persons).await.unwrap(), 2);
    let enrolments = store.named_crops(&office(), Named::Subjects(&begun.subjects), 10).await.unwrap();
    assert_eq!(store.erase_names(&enrolments, Named::Subjects(&begun.subjects)).await.unwrap(), 3);
    assert!(store.finish_erasure(&begun, &what, &json!({ "faces": 2 }), &by()).await.unwrap());
    assert!(!store.finish_erasure(&begun, &what, &json!({}), &by()).await.unwrap(), "the receipt is final");
    let receipt = store.erasure_receipt(begun.erasure).await.unwrap().unwrap();
    assert_eq!(
        (receipt.kind.as_str(), receipt.subject, receipt.receipt),
        ("person", person("a").to_string(), json!({ "faces": 2 }))
    );
    assert!(receipt.finished_at.is_some() && receipt.actor == by());
    assert_eq!(store.erasure_receipts(Some(&office()), None, 10).await.unwrap().len(), 1);
    assert_eq!(store.begin_erasure(&what, &by()).await.unwrap(), None, "there is nobody any more");

    // Redelivered: the crop that enrolled them, one that was on its way, that of the merged one.
    let late = [face("a", Some("Anna"), 1), face("a", None, 2), face("b", None, 3)];
    assert_eq!(enrol(&store, &late).await, [erased("a"), erased("a"), erased("b")]);
    let unknown = NewFace { crop: Some(head(77).crop), ..face("a", None, 7) };
    assert_eq!(enrol(&store, &[unknown]).await, [erased("a")], "a crop without a row is an old one");
    assert_eq!(store.gallery(None).await.unwrap().persons, 0);
    // Received since, or without a crop: somebody wants it.
    admit(&store, &[enrolment_crop(4, "a", 9)]).await;
    enrolled(&store, &[face("a", None, 4), NewFace { crop: None, ..face("b", None, 3) }]).await;
    assert_eq!(enrol(&store, &[face("a", None, 2)]).await, [erased("a")], "what is old stays away all the same");
    db.drop().await;
}

#[tokio::test]
async fn an_erased_image_and_an_erased_age_come_back_neither_enrolled_nor_kept() {
    let db = test_database().await;
    let store = db.migrated().await;
    admit(&store, &[enrolment_crop(1, "a", -9), crop(2), crop(3)]).await;
    let asset = NewFace { asset: Some("photo".to_owned()), ..face("a", None, 1) };
    enrol(&store, &[asset, face("b", None, 4)]).await;
    store.keep_faces(&[kept(2), kept(3)]).await.unwrap();
    for (what, faces, kind) in [
        (FaceSelection::Asset(office(), "photo".to_owned()), 1, "asset"),
        (FaceSelection::Image(office(), head(2).image_hash), 1, "image"),
        (FaceSelection::Image(office(), head(2).image_hash), 0, "image"),
    ] {
        let begun = store.begin_erasure(&what, &by()).await.unwrap().unwrap();
        assert_eq!(erase_faces(&store, &what).await, faces);
        assert!(store.finish_erasure(&begun, &what, &json!({}), &by()).await.unwrap());
        assert_eq!(store.erasure_receipt(begun.erasure).await.unwrap().unwrap().kind, kind);
    }
    let there = store.count_faces().await.unwrap();
    assert_eq!(enrol(&store, &[face("a", None, 1)]).await, [erased("a")]);
    assert!(store.keep_faces(&[kept(2)]).await.unwrap()[0].is_ok());
    assert_eq!(store.count_faces().await.unwrap(), there, "it is not kept again");
    // Everything that was stored before now: what is there goes, what was received before does not come, what comes later does, also
    // where the time was one to come.
    admit(&store, &[enrolment_crop(5, "b", 60)]).await;
    let what = FaceSelection::Before(office(), OffsetDateTime::now_utc() + time::Duration::seconds(5));
    store.begin_erasure(&what, &by()).await.unwrap().unwrap();
    assert_eq!(erase_faces(&store, &what).await, 2);
    assert!(store.keep_faces(&[kept(3)]).await.unwrap()[0].is_ok());
    assert_eq!(
        (enrol(&store, &[face("b", None, 4)]).await, store.count_faces().await.unwrap()),
        (vec![erased("b")], 0)
    );
    assert_eq!(enrol(&store, &[face("b", None, 5)]).await, [erased("b")], "it was admitted before that time");
    admit(&store, &[enrolment_crop(6, "b", 60)]).await;
    assert!(matches!(enrol(&store, &[face("b", None, 6)]).await[..], [Enrolment::Pending { .. }]), "it comes later");
    let nowhere = FaceSelection::Image("lab".parse().unwrap(), head(2).image_hash);
    assert_eq!(store.begin_erasure(&nowhere, &by()).await.unwrap(), None);
    db.drop().await;
}

/// Everything in the database as text.
async fn everything(db: &TestDatabase) -> String {
    let mut operator = db.operator().await;
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT relname::text FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace",
    )
    .fetch_all(&mut operator)
    .await
    .unwrap();
    let mut all = String::new();
    for table in tables {
        let sql = format!("SELECT '{table} ' || t::text FROM {table} t");
        let rows: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_all(&mut operator).await.unwrap();
        all.extend(rows.into_iter().map(|row| row + "\n"));
    }
    all
}

#[tokio::test]
async fn nothing_says_anything_of_an_erased_person_but_receipt_and_tombstone() {
    let db = test_database().await;
    let store = db.migrated().await;
    admit(&store, &[enrolment_crop(1, "subject-a", -9), enrolment_crop(2, "subject-a", -9), crop(3), crop(4)]).await;
    let faces = enrolled(&store, &[face("subject-a", Some("Anna"), 1), face("b", None, 9)]).await;
    let (a, b) = (person("subject-a"), person("b"));
    store.merge_persons(b, a, &by()).await.unwrap().unwrap();
    store.unmerge(facewire_store_pg::MergeRef::Source(b), &by()).await.unwrap().unwrap();
    // Named in a match; as the second of another's match; as the nearest of a miss.
    let candidate = |person| Candidate { person, face: faces[0], similarity: 0.5 };
    let decision = |matched, best, second| Decision {
        matched,
        threshold: 0.25,
        best: Some(candidate(best)),
        runner_up: Some(candidate(second)),
        ..Decision::default()
    };
    let ending = |number, decision| Ending { decision: Some(decision), ..matched(number) };
    finish(
        &store,
        &[ending(3, decision(true, a, b)), ending(4, decision(true, b, a)), ending(5, decision(false, a, b))],
    )
    .await;

    let what = FaceSelection::Person(a);
    let begun = store.begin_erasure(&what, &by()).await.unwrap().unwrap();
    erase_faces(&store, &what).await;
    let named = store.results_of(&begun.persons, 100).await.unwrap();
    assert_eq!(store.erase_from_results(&begun.persons, &named).await.unwrap(), 1);
    assert_eq!(store.results_of(&begun.persons, 100).await.unwrap(), []);
    assert_eq!(begun.subjects, ["subject-a".parse().unwrap()]);
    let named = Named::Subjects(&begun.subjects);
    for crop in [1, 2] {
        let next = store.named_crops(&office(), named, 1).await.unwrap();
        assert_eq!(next, [NamedCrop { crop: head(crop).crop, image_hash: head(crop).image_hash }]);
        assert_eq!(store.erase_names(&next, named).await.unwrap(), 1);
    }
    assert_eq!(store.named_crops(&office(), named, 100).await.unwrap(), []);
    assert_eq!(store.erase_mentions(&begun.persons, 0).await.unwrap(), (2, None));
    let mut rows = 0;
    loop {
        match store.erase_from_trail(&begun.persons, 2).await.unwrap() {
            0 => break,
            step => rows += step,
        }
    }
    assert_eq!(rows, 4, "made, enrolled, merged, unmerged");
    store.delete_persons(&begun.persons).await.unwrap();
    store.finish_erasure(&begun, &what, &json!({}), &by()).await.unwrap();

    let all = everything(&db).await;
    for trace in ["Anna", "anna", "subject-a", faces[0].to_string().as_str()] {
        // The face of a decision about somebody else is that of no row.
        let lines: Vec<&str> =
            all.lines().filter(|line| line.contains(trace) && !line.starts_with("recognitions")).collect();
        assert_eq!(lines, [""; 0], "{trace}");
    }
    let id = a.to_string();
    let mut tables: Vec<&str> =
        all.lines().filter(|line| line.contains(&id)).filter_map(|line| line.split(' ').next()).collect();
    tables.sort_unstable();
    assert_eq!(tables, ["erasures"], "the receipt");
    let bytes = a.as_uuid().simple().to_string();
    assert_eq!(all.lines().filter(|line| line.contains(&bytes)).count(), 1, "the tombstone");
    let trail = store.audit_trail(&AuditFilter::default(), None, 1).await.unwrap();
    let said = (trail[0].kind.as_str(), trail[0].person, trail[0].detail.clone());
    assert_eq!(
        said,
        ("person.erased", None, json!({ "erasureId": begun.erasure })),
        "the receipt leads to whom it was"
    );
    // Who else was named is so still; the redelivered enrolment is no other wish than it was.
    let b_rows = all.lines().filter(|line| line.starts_with("recognitions") && line.contains(&b.to_string())).count();
    assert_eq!(b_rows, 2);
    let again = admit(&store, &[enrolment_crop(1, "subject-a", -9)]).await;
    assert_eq!(again, [Admission::Seen]);
    db.drop().await;
}

#[tokio::test]
async fn what_was_on_its_way_while_a_person_was_erased_names_nobody() {
    let db = test_database().await;
    let store = db.migrated().await;
    let faces = enrolled(&store, &[face("a", None, 1), face("b", None, 9)]).await;
    let (a, b) = (person("a"), person("b"));
    let what = FaceSelection::Person(a);
    let begun = store.begin_erasure(&what, &by()).await.unwrap().unwrap();
    erase_faces(&store, &what).await;
    assert_eq!(store.delete_persons(&begun.persons).await.unwrap(), 1);
    // Cut short, and gone on with by the receipt alone: the rows are gone.
    assert_eq!(store.unfinished_erasure_of(a).await.unwrap(), Some(office()));
    let again = store.begin_erasure(&what, &by()).await.unwrap().unwrap();
    assert_eq!((again.erasure, &again.persons, &again.subjects), (begun.erasure, &begun.persons, &begun.subjects));
    let shown = store.erasure_receipt(begun.erasure).await.unwrap().unwrap();
    assert_eq!(shown.receipt, json!({}), "whom it is of is not shown");

    let candidate = |person, face| Candidate { person, face, similarity: 0.5 };
    let decision = |best, second| Decision {
        matched: true,
        best: Some(candidate(best, faces[0])),
        runner_up: Some(candidate(second, faces[1])),
        ..Decision::default()
    };
    let ending = |number, decision| Ending { decision: Some(decision), ..matched(number) };
    let endings = [ending(3, decision(a, b)), ending(4, decision(b, a))];
    let taken_back = |present: fn(&PersonId) -> bool| store.take_back(endings.iter().collect(), present);
    assert_eq!(taken_back(|_| true).await.unwrap(), HashSet::new(), "everybody was seen");
    assert_eq!(taken_back(|seen| *seen == person("b")).await.unwrap(), HashSet::from([a]));
    // As one of them was not seen, the time has passed to look for all.
    assert_eq!(taken_back(|seen| *seen == person("a")).await.unwrap(), HashSet::from([a]));
    // The second time the rows are there already.
    for _ in 0..2 {
        let finished = finish(&store, &endings).await;
        let rows: Vec<&Ending> = finished.iter().map(|finished| &finished.row).collect();
        assert_eq!(rows[0].decision, None);
        let other = rows[1].decision.as_ref().unwrap();
        assert_eq!((other.best.unwrap().person, other.runner_up), (b, None));
    }
    admit(&store, &[enrolment_crop(5, "a", -9), enrolment_crop(6, "b", -9)]).await;
    assert_eq!(store.erase_from_trail(&again.persons, 100).await.unwrap(), 2);
    let named = store.results_of(&again.persons, 100).await.unwrap();
    assert_eq!(store.erase_from_results(&again.persons, &named).await.unwrap(), 1);
    let enrolments = store.named_crops(&office(), Named::Subjects(&again.subjects), 10).await.unwrap();
    assert_eq!(store.erase_names(&enrolments, Named::Subjects(&again.subjects)).await.unwrap(), 1);
    assert!(store.finish_erasure(&again, &what, &json!({}), &by()).await.unwrap());
    assert_eq!(store.unfinished_erasure_of(a).await.unwrap(), None);

    let all = everything(&db).await;
    let id = a.to_string();
    let lines: Vec<&str> = all.lines().filter(|line| line.contains(&id) && !line.starts_with("erasures")).collect();
    assert_eq!(lines, [""; 0]);
    let subjects: Vec<Option<String>> =
        sqlx::query_scalar("SELECT subject_id FROM crops WHERE intent = 'enroll' ORDER BY image_hash = $1")
            .bind(head(6).image_hash.as_bytes().as_slice())
            .fetch_all(&mut db.operator().await)
            .await
            .unwrap();
    assert_eq!(subjects, [None, Some("b".to_owned())]);
    // Received before the end, admitted after it, and wanted again since.
    admit(&store, &[enrolment_crop(7, "a", -9), enrolment_crop(8, "a", 9)]).await;
    assert_eq!(enrol(&store, &[face("a", None, 7)]).await, [erased("a")]);
    enrolled(&store, &[face("a", None, 8)]).await;
    let named = finish(&store, &[ending(10, decision(a, b))]).await;
    assert_eq!(named[0].row.decision.as_ref().unwrap().best.unwrap().person, a);
    db.drop().await;
}

#[tokio::test]
async fn a_person_who_came_back_keeps_the_receipt_open() {
    let db = test_database().await;
    let store = db.migrated().await;
    enrolled(&store, &[face("a", None, 1)]).await;
    let what = FaceSelection::Person(person("a"));
    let begun = store.begin_erasure(&what, &by()).await.unwrap().unwrap();
    assert!(!store.finish_erasure(&begun, &what, &json!({}), &by()).await.unwrap());
    assert_eq!(store.erasure_receipt(begun.erasure).await.unwrap().unwrap().finished_at, None);
    erase_faces(&store, &what).await;
    store.delete_persons(&begun.persons).await.unwrap();
    assert!(store.finish_erasure(&begun, &what, &json!({}), &by()).await.unwrap());
    db.drop().await;
}

#[tokio::test]
async fn faces_kept_of_crops_in_which_a_person_was_recognised_go_with_them() {
    let db = test_database().await;
    let store = db.migrated().await;
    let faces = enrolled(&store, &[face("a", None, 1)]).await;
    admit(&store, &[crop(2), crop(3)]).await;
    store.keep_faces(&[kept(2), kept(3)]).await.unwrap();
    let best = Candidate { person: person("a"), face: faces[0], similarity: 0.5 };
    let decision = Decision { matched: true, best: Some(best), ..Decision::default() };
    let face = Some(FaceId::of_crop(head(2).crop, 0));
    finish(&store, &[Ending { decision: Some(decision), face, ..matched(2) }]).await;
    assert_eq!(erase_faces(&store, &FaceSelection::Person(person("a"))).await, 2);
    assert_eq!(store.count_faces().await.unwrap(), 1, "that of crop 3 is of nobody");
    db.drop().await;
}

#[tokio::test]
async fn a_face_that_was_taken_from_a_person_goes_with_them_unless_it_was_said_not_to_be_theirs() {
    let db = test_database().await;
    let store = db.migrated().await;
    let faces = enrolled(&store, &[face("a", None, 1), face("a", None, 2), face("b", None, 9)]).await;
    // No result says whose they were.
    for (at, not_this_person) in [(0, false), (1, true)] {
        let assignment = Assignment { not_this_person, ..Assignment::to(None) };
        store.assign_faces(&office(), &faces[at..=at], assignment, &by()).await.unwrap().unwrap();
    }
    let what = FaceSelection::Person(person("a"));
    let begun = store.begin_erasure(&what, &by()).await.unwrap().unwrap();
    assert_eq!(erase_faces(&store, &what).await, 1);
    let mut left: Vec<FaceId> = store.faces(&faces).await.unwrap().iter().map(|face| face.record.face).collect();
    left.sort_unstable();
    let mut others = [faces[1], faces[2]];
    others.sort_unstable();
    assert_eq!(left, others);
    assert_eq!(store.delete_persons(&begun.persons).await.unwrap(), 1);
    assert!(store.tombstone_faces_of(&begun.persons, 10).await.unwrap().is_empty());
    assert!(store.finish_erasure(&begun, &what, &json!({}), &by()).await.unwrap());
    db.drop().await;
}

/// The ending of a crop that one person matched, and another came near to.
fn between(number: u64, best: PersonId, second: PersonId) -> Ending {
    let candidate = |person| Some(Candidate { person, face: uuid::Uuid::from_u128(8).into(), similarity: 0.5 });
    let decision =
        Decision { matched: true, best: candidate(best), runner_up: candidate(second), ..Decision::default() };
    Ending { decision: Some(decision), ..matched(number) }
}

#[tokio::test]
async fn a_late_result_is_left_to_the_erasure_that_goes_on_and_is_taken_back_once_the_receipt_is_final() {
    let db = test_database().await;
    let store = db.migrated().await;
    enrolled(&store, &[face("a", None, 1), face("b", None, 9)]).await;
    let (a, b) = (person("a"), person("b"));
    let what = FaceSelection::Person(a);
    let begun = store.begin_erasure(&what, &by()).await.unwrap().unwrap();
    erase_faces(&store, &what).await;
    assert_eq!(store.delete_persons(&begun.persons).await.unwrap(), 1);
    let found = async || store.results_of(&[a], 100).await.unwrap();

    // A clustering of the collection is just writing, which may take long: it holds up nobody who writes endings.
    let mut operator = db.operator().await;
    let mut writing = operator.begin().await.unwrap();
    let lock = "SELECT pg_advisory_xact_lock(hashtextextended('facewire persons of office', 0))";
    sqlx::query(lock).execute(&mut *writing).await.unwrap();
    let late = finish(&store, &[between(3, a, b)]).await;
    writing.rollback().await.unwrap();
    assert_eq!(late[0].row.decision, None, "whoever publishes it names nobody");
    // It leads to the images of its crop: the erasure does not end without having seen it.
    let named = found().await;
    assert_eq!(named.iter().map(|named| named.crop).collect::<Vec<_>>(), [head(3).crop]);
    assert_eq!(named[0].image, Some(head(3).image_hash));
    assert!(!store.finish_erasure(&begun, &what, &json!({}), &by()).await.unwrap());
    assert_eq!(store.erasure_receipt(begun.erasure).await.unwrap().unwrap().finished_at, None);
    assert_eq!(store.erase_from_results(&begun.persons, &named).await.unwrap(), 1);
    assert!(store.finish_erasure(&begun, &what, &json!({}), &by()).await.unwrap());

    // Whoever writes one now takes back that one, and no row of others.
    assert!(store.record(&[between(4, a, b)]).await.unwrap()[0].is_ok());
    assert_eq!(finish(&store, &[between(5, a, b)]).await[0].row.decision, None);
    assert_eq!(found().await.iter().map(|named| named.crop).collect::<Vec<_>>(), [head(4).crop]);
    let others = [between(4, a, b)];
    assert_eq!(store.take_back(others.iter().collect(), |_| false).await.unwrap(), HashSet::from([a]));
    assert!(found().await.is_empty());
    db.drop().await;
}

#[tokio::test]
async fn a_kept_face_of_which_somebody_said_that_it_is_not_theirs_stays_without_them() {
    let db = test_database().await;
    let store = db.migrated().await;
    enrolled(&store, &[face("a", None, 1), face("s", None, 8), face("b", None, 9)]).await;
    let [a, s, b] = ["a", "s", "b"].map(person);
    admit(&store, &[crop(2), crop(3), crop(4), crop(5), crop(6)]).await;
    let faces = [kept(2), kept(3), kept(4), kept(5), kept(6)];
    assert!(store.keep_faces(&faces).await.unwrap().iter().all(Result::is_ok));
    let [denied, theirs, others, noted, told] = faces.map(|face| face.face);
    let matched = [(denied, a), (theirs, a), (others, a), (noted, s)];
    assert!(store.note_matched(&matched).await.unwrap().is_empty());
    let of = |number, face, who| Ending { face: Some(face), ..between(number, who, b) };
    finish(&store, &[of(2, denied, a), of(3, theirs, a), of(5, noted, s), of(6, told, s)]).await;
    assert!(store.set_negative(denied, a, &by()).await.unwrap());
    store.assign_faces(&office(), &[others], Assignment::to(Some(b)), &by()).await.unwrap().unwrap();
    // Recognised as one of two, who are one person when somebody says that it is not that person.
    store.merge_persons(s, a, &by()).await.unwrap().unwrap();
    for assignment in [Assignment::to(Some(a)), Assignment { not_this_person: true, ..Assignment::to(None) }] {
        store.assign_faces(&office(), &[noted, told], assignment, &by()).await.unwrap().unwrap();
    }

    let what = FaceSelection::Person(a);
    let begun = store.begin_erasure(&what, &by()).await.unwrap().unwrap();
    assert_eq!(erase_faces(&store, &what).await, 3, "the enrolled ones, and the one that nobody denied");
    assert_eq!(store.part_from_negatives(&begun.persons).await.unwrap(), 3);
    assert_eq!(store.delete_persons(&begun.persons).await.unwrap(), 2);
    // What was said went with the person.
    assert!(store.tombstone_faces_of(&begun.persons, 10).await.unwrap().is_empty());
    let named = store.results_of(&begun.persons, 100).await.unwrap();
    assert_eq!(named.iter().map(|named| named.crop).collect::<Vec<_>>(), [head(3).crop], "the other images stay");
    store.erase_from_results(&begun.persons, &named).await.unwrap();
    assert!(store.finish_erasure(&begun, &what, &json!({}), &by()).await.unwrap());
    assert_eq!(store.count_faces().await.unwrap(), 5, "that of b, and four kept ones");
    assert!(!everything(&db).await.lines().any(|line| line.starts_with("matched_faces")));
    db.drop().await;
}

#[tokio::test]
async fn a_face_that_is_just_given_to_somebody_else_is_not_erased_with_whom_it_showed() {
    let db = test_database().await;
    let store = db.migrated().await;
    let faces = enrolled(&store, &[face("a", None, 1), face("b", None, 9)]).await;
    let (a, b) = (person("a"), person("b"));
    admit(&store, &[crop(2)]).await;
    assert!(store.keep_faces(&[kept(2)]).await.unwrap()[0].is_ok());
    let given = kept(2).face;
    assert!(store.note_matched(&[(given, a)]).await.unwrap().is_empty());
    store.begin_erasure(&FaceSelection::Person(a), &by()).await.unwrap().unwrap();
    let (mut operator, mut holder) = (db.operator().await, db.operator().await);
    let mut giving = holder.begin().await.unwrap();
    sqlx::query("UPDATE faces SET person_id = $1, assigned_by = 'x', assigned_at = now() WHERE face_id = $2")
        .bind(b.as_uuid())
        .bind(given.as_uuid())
        .execute(&mut *giving)
        .await
        .unwrap();
    let erasing = store.clone();
    let erased = tokio::spawn(async move { erasing.tombstone_faces_of(&[a], 10).await });
    blocked_session(&mut operator).await;
    giving.commit().await.unwrap();
    let erased: Vec<FaceId> = erased.await.unwrap().unwrap().into_iter().map(|face| face.face).collect();
    assert_eq!(erased, faces[..1], "theirs, and not that of the other");
    assert_eq!(store.face(given).await.unwrap().unwrap().person, Some(b));
    db.drop().await;
}
