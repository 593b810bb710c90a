//! What a collection keeps, and that what is too old goes: in steps, the oldest first, and nothing else.

use std::time::Duration;

use facewire_domain::{Candidate, CollectionId, CropId, Decision, FaceId, KeepFaces, KeepImages, PersonId};
use facewire_store_pg::{
    Assignment, CollectionPolicy, Ending, ExpiredFaces, FaceOrigin, FaceSelection, KeptFace, PolicyChanges,
    RawEmbedding, Store, UnmatchedPlace, VectorState,
};
use sqlx::{AssertSqlSafe, Connection, Executor};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::support::{
    self, TestDatabase, admit, blocked_session, by, crop, face, failed, finish, head, matched, person, rejected,
    test_database,
};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn office() -> CollectionId {
    "office".parse().unwrap()
}

/// Moves the admission and the end of these crops into the past.
async fn age(db: &TestDatabase, numbers: std::ops::Range<u64>, days: u32) {
    let ids: Vec<Uuid> = numbers.map(|number| head(number).crop.as_uuid()).collect();
    let mut operator = db.operator().await;
    for (table, column) in [("crops", "admitted_at"), ("recognitions", "finished_at")] {
        let sql = format!("UPDATE {table} SET {column} = now() - make_interval(days => $2) WHERE crop_id = ANY($1)");
        let update = sqlx::query(AssertSqlSafe(sql)).bind(&ids).bind(i32::try_from(days).unwrap());
        update.execute(&mut operator).await.unwrap();
    }
}

async fn publish(store: &Store, numbers: impl Iterator<Item = u64>) {
    let keys: Vec<(CropId, u32, u32)> = numbers.map(|number| (head(number).crop, 0, 1)).collect();
    store.mark_published(&keys).await.unwrap();
}

/// Crops 0 to 29 ended and published: ten of 40 days, ten of 20, ten of today. Every third was rejected.
async fn planted() -> (TestDatabase, Store) {
    let db = test_database().await;
    let store = db.migrated().await;
    let crops: Vec<_> = (0..30).map(crop).collect();
    admit(&store, &crops).await;
    let endings: Vec<Ending> = (0..30).map(|n| if n % 3 == 0 { rejected(n) } else { matched(n) }).collect();
    finish(&store, &endings).await;
    publish(&store, 0..30).await;
    age(&db, 0..10, 40).await;
    age(&db, 10..20, 20).await;
    (db, store)
}

#[tokio::test]
async fn what_is_too_old_goes_in_steps_with_all_that_became_of_it() {
    let (db, store) = planted().await;
    let now = OffsetDateTime::now_utc();
    assert!(store.expire_results(None, now, 100).await.unwrap().is_empty(), "without an age everything stays");
    let (mut steps, mut crops, mut endings, mut failures) = (0, 0, 0, 0);
    loop {
        let step = store.expire_results(Some(30 * DAY), now, 4).await.unwrap();
        if step.is_empty() {
            break;
        }
        assert!(step.crops <= 4, "{step:?}");
        (steps, crops) = (steps + 1, crops + step.crops);
        (endings, failures) = (endings + step.recognitions, failures + step.failures);
    }
    // 0, 3, 6 and 9 were rejected.
    assert_eq!((steps, crops, endings, failures), (3, 10, 10, 4));
    for number in 0..30 {
        let there = store.why(head(number).crop).await.unwrap().is_some();
        assert_eq!(there, number >= 10, "{number}");
    }
    // A collection's own age comes before the default.
    let changes = PolicyChanges { retain_results: Some(Some(10 * DAY)), ..PolicyChanges::default() };
    assert!(store.update_policy(&office(), &changes, &by()).await.unwrap());
    assert_eq!(store.expire_results(Some(30 * DAY), now, 100).await.unwrap().crops, 10);
    let mut operator = db.operator().await;
    let left: (i64, i64) = sqlx::query_as(
        "SELECT (SELECT count(*) FROM recognitions), (SELECT count(*) FROM stage_failures f
         WHERE NOT EXISTS (SELECT FROM recognitions r WHERE r.crop_id = f.crop_id))",
    )
    .fetch_one(&mut operator)
    .await
    .unwrap();
    assert_eq!(left, (10, 0));
    db.drop().await;
}

#[tokio::test]
async fn a_result_that_is_not_out_keeps_its_crop_until_twice_the_age() {
    let db = test_database().await;
    let store = db.migrated().await;
    admit(&store, &[crop(0), crop(1), crop(2), crop(3)]).await;
    finish(&store, &[failed(0), matched(1), Ending { face_count: 2, ..matched(2) }]).await;
    publish(&store, 0..1).await;
    publish(&store, 2..3).await;
    age(&db, 0..4, 40).await;
    let now = OffsetDateTime::now_utc();
    // 1 is unpublished, 2 lacks a face, 3 never ended.
    assert_eq!(store.expire_results(Some(30 * DAY), now, 100).await.unwrap().crops, 1);
    assert!(store.why(head(0).crop).await.unwrap().is_none());
    assert_eq!(store.expire_results(Some(15 * DAY), now, 100).await.unwrap().crops, 3);

    // An ending whose crop is gone goes as well.
    finish(&store, &[rejected(5)]).await;
    age(&db, 5..6, 40).await;
    db.operator().await.execute("DELETE FROM crops").await.unwrap();
    let step = store.expire_results(Some(15 * DAY), now, 100).await.unwrap();
    assert_eq!((step.crops, step.recognitions, step.failures), (0, 1, 1));
    db.drop().await;
}

#[tokio::test]
async fn a_policy_is_kept_whole_and_the_default_is_to_keep_little() {
    let db = test_database().await;
    let store = db.migrated().await;
    assert_eq!(store.policy(&office()).await.unwrap(), CollectionPolicy::default());
    let policy = CollectionPolicy {
        keep_faces: KeepFaces::Unmatched,
        keep_images: KeepImages::Aligned,
        retain_results: Some(45 * DAY + Duration::from_millis(1500)),
        retain_unmatched: Some(DAY),
        retain_images: None,
    };
    assert!(store.create_collection(&office(), &policy, &by()).await.unwrap());
    assert!(store.create_collection(&"yard".parse().unwrap(), &CollectionPolicy::default(), &by()).await.unwrap());
    assert_eq!(store.policy(&office()).await.unwrap(), policy);
    let all = store.policies().await.unwrap();
    assert_eq!((all.len(), all[&office()]), (2, policy));
    let none = PolicyChanges { retain_images: Some(Some(Duration::ZERO)), ..PolicyChanges::default() };
    assert!(store.update_policy(&office(), &none, &by()).await.is_err());
    assert_eq!(store.policy(&office()).await.unwrap(), policy);
    db.drop().await;
}

fn kept(number: u64, face_index: u32) -> KeptFace {
    let id = Uuid::from_u128(u128::from(number) * 100 + u128::from(face_index) + 1);
    KeptFace {
        face: FaceId::from(id),
        face_index,
        asset: Some(format!("asset-{number}")),
        embedding: vec![0.25; 8],
        ..support::kept(number)
    }
}

#[tokio::test]
async fn faces_are_kept_without_a_person_beside_the_enrolled_one_of_the_same_picture() {
    let db = test_database().await;
    let store = db.migrated().await;
    // The picture of number 1 is enrolled, and two faces of it are kept, however often they come.
    crate::support::enrol(&store, &[face("17", None, 1)]).await;
    let mut nan = kept(2, 0);
    nan.embedding[3] = f32::NAN;
    let mut prehistoric = kept(3, 0);
    prehistoric.captured_at = time::Date::MIN.midnight().assume_utc();
    let batch = [kept(1, 1), kept(1, 0), nan, prehistoric, kept(1, 0)];
    let answers = store.keep_faces(&batch).await.unwrap();
    assert_eq!(answers.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, true, false, false, true]);
    store.keep_faces(&batch[..2]).await.unwrap();
    let faces = store.faces_after(None, 10).await.unwrap();
    assert_eq!(faces.len(), 3);
    let first = &faces[0].record;
    assert_eq!((first.person, first.origin, first.face_index), (None, FaceOrigin::Kept, 0));
    assert_eq!((first.asset.as_deref(), first.state), (Some("asset-1"), VectorState::Pending));
    let enrolled = &faces.iter().find(|face| face.record.person.is_some()).unwrap().record;
    assert_eq!((enrolled.origin, enrolled.assigned_by.as_deref()), (FaceOrigin::Enrolled, Some("enrolment")));
    assert!(enrolled.assigned_at.is_some());

    // A redelivery neither takes a name away nor brings an erased face back; another model's embedding does come in.
    let ids = [kept(1, 0).face, kept(1, 1).face];
    store.mark_indexed(&ids).await.unwrap();
    let person = enrolled.person.unwrap().as_uuid();
    sqlx::query("UPDATE faces SET person_id = $1, assigned_by = 'user:anna' WHERE face_id = $2")
        .bind(person)
        .bind(ids[0].as_uuid())
        .execute(&mut db.operator().await)
        .await
        .unwrap();
    let newer = [0, 1].map(|index| KeptFace { model: "pack-2".to_owned(), ..kept(1, index) });
    store.keep_faces(&newer).await.unwrap();
    let state = async |id: FaceId| store.faces(&[id]).await.unwrap().remove(0).record;
    assert_eq!((state(ids[0]).await.model, state(ids[0]).await.state), ("pack-1".to_owned(), VectorState::Indexed));
    assert_eq!((state(ids[1]).await.model, state(ids[1]).await.state), ("pack-2".to_owned(), VectorState::Pending));
    store.tombstone(&ids).await.unwrap();
    store.keep_faces(&batch[..2]).await.unwrap();
    assert_eq!(store.tombstoned_faces(None, 10).await.unwrap(), ids);
    assert_eq!(store.tombstoned_faces(Some(ids[0]), 10).await.unwrap(), ids[1..]);
    db.drop().await;
}

#[tokio::test]
async fn only_faces_without_a_person_expire_and_only_where_the_collection_says_so() {
    let db = test_database().await;
    let store = db.migrated().await;
    crate::support::enrol(&store, &[face("17", None, 1)]).await;
    store.keep_faces(&(2..12).map(|number| kept(number, 0)).collect::<Vec<_>>()).await.unwrap();
    let mut operator = db.operator().await;
    operator.execute("UPDATE faces SET created_at = created_at - interval '40 days'").await.unwrap();
    store.keep_faces(&[kept(20, 0)]).await.unwrap();
    let expire =
        async |after, limit| store.expire_unmatched(&office(), after, OffsetDateTime::now_utc(), limit).await.unwrap();
    assert_eq!(expire(None, 100).await, ExpiredFaces { tombstoned: 0, next: None }, "the default is for ever");
    let changes = PolicyChanges { retain_unmatched: Some(Some(30 * DAY)), ..PolicyChanges::default() };
    assert!(store.update_policy(&office(), &changes, &by()).await.unwrap());
    let first = expire(None, 6).await;
    assert_eq!((first.tombstoned, first.next.is_some()), (6, true));
    assert_eq!(expire(first.next, 6).await, ExpiredFaces { tombstoned: 4, next: None });
    assert_eq!(expire(None, 6).await, ExpiredFaces { tombstoned: 0, next: None });
    let gone = store.tombstoned_faces(None, 100).await.unwrap();
    assert_eq!(gone, (2..12).map(|number| kept(number, 0).face).collect::<Vec<_>>());
    assert_eq!(store.forget(&gone).await.unwrap(), 10);
    assert_eq!(store.count_faces().await.unwrap(), 2);
    db.drop().await;
}

#[tokio::test]
async fn faces_that_were_just_taken_from_a_person_are_passed_over_in_bounded_steps() {
    let db = test_database().await;
    let store = db.migrated().await;
    store.keep_faces(&(0..20).map(|number| kept(number, 0)).collect::<Vec<_>>()).await.unwrap();
    let changes = PolicyChanges { retain_unmatched: Some(Some(30 * DAY)), ..PolicyChanges::default() };
    assert!(store.update_policy(&office(), &changes, &by()).await.unwrap());
    let taken: Vec<Uuid> = (0..10).map(|number| kept(number, 0).face.as_uuid()).collect();
    sqlx::query(
        "UPDATE faces SET created_at = created_at - interval '40 days',
             assigned_at = CASE WHEN face_id = ANY($1) THEN now() END",
    )
    .bind(&taken)
    .execute(&mut db.operator().await)
    .await
    .unwrap();
    let (mut after, mut steps): (Option<UnmatchedPlace>, Vec<u64>) = (None, Vec::new());
    loop {
        let step = store.expire_unmatched(&office(), after, OffsetDateTime::now_utc(), 4).await.unwrap();
        steps.push(step.tombstoned);
        after = step.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(steps, [0, 0, 2, 4, 4, 0], "each step begins where the one before ended");
    let gone: Vec<FaceId> = (10..20).map(|number| kept(number, 0).face).collect();
    assert_eq!(store.tombstoned_faces(None, 100).await.unwrap(), gone);
    db.drop().await;
}

/// Whom [`matched`] endings name.
fn known() -> PersonId {
    Uuid::from_u128(7).into()
}

/// The ending of a crop of which a face was kept.
fn recognised(number: u64) -> Ending {
    Ending { face: Some(kept(number, 0).face), ..matched(number) }
}

async fn notes(db: &TestDatabase) -> Vec<(Uuid, Uuid)> {
    let sql = "SELECT face_id, person_id FROM matched_faces ORDER BY face_id";
    sqlx::query_as(sql).fetch_all(&mut db.operator().await).await.unwrap()
}

#[tokio::test]
async fn whom_a_kept_face_shows_is_noted_when_the_result_that_says_so_goes() {
    let db = test_database().await;
    let store = db.migrated().await;
    admit(&store, &[crop(2), crop(3), crop(4)]).await;
    // As an earlier release kept them: nobody noted who it was. The face of crop 4 was enrolled for somebody since.
    store.keep_faces(&[kept(2, 0), kept(3, 0), kept(4, 0), kept(5, 0)]).await.unwrap();
    crate::support::enrol(&store, &[face("17", None, 9)]).await;
    sqlx::query("UPDATE faces SET person_id = (SELECT person_id FROM persons), assigned_by = 'x' WHERE face_id = $1")
        .bind(kept(4, 0).face.as_uuid())
        .execute(&mut db.operator().await)
        .await
        .unwrap();
    finish(&store, &[recognised(2), recognised(3), recognised(4)]).await;
    publish(&store, 2..5).await;
    age(&db, 2..5, 40).await;
    sqlx::query("DELETE FROM crops WHERE crop_id = $1")
        .bind(head(3).crop.as_uuid())
        .execute(&mut db.operator().await)
        .await
        .unwrap();
    let now = OffsetDateTime::now_utc();
    // First the crops, then the ending that has none.
    let expire = async || store.expire_results(Some(15 * DAY), now, 100).await.unwrap();
    let (first, second) = (expire().await, expire().await);
    assert_eq!((first.crops, first.recognitions, second.crops, second.recognitions), (2, 2, 0, 1));
    let faces = [kept(2, 0), kept(3, 0)].map(|face| face.face);
    assert_eq!(notes(&db).await, faces.map(|face| (face.as_uuid(), known().as_uuid())));
    let found = store.tombstone_faces_of(&[known()], 10).await.unwrap();
    let mut found: Vec<FaceId> = found.into_iter().map(|face| face.face).collect();
    found.sort();
    assert_eq!(found, faces, "an erasure finds them");
    db.drop().await;
}

#[tokio::test]
async fn nobody_is_noted_whom_an_erasure_took_out_of_the_result_or_whom_the_face_does_not_show() {
    let db = test_database().await;
    let store = db.migrated().await;
    admit(&store, &[crop(2), crop(3)]).await;
    store.keep_faces(&[kept(2, 0), kept(3, 0)]).await.unwrap();
    crate::support::enrol(&store, &[face("17", None, 9)]).await;
    let best = Candidate { person: person("17"), face: Uuid::from_u128(8).into(), similarity: 0.5 };
    let decision = Decision { matched: true, best: Some(best), ..Decision::default() };
    finish(&store, &[Ending { decision: Some(decision), ..recognised(2) }, recognised(3)]).await;
    assert!(store.set_negative(kept(2, 0).face, person("17"), &by()).await.unwrap());
    publish(&store, 2..4).await;
    age(&db, 2..4, 40).await;
    // An erasure is just at the other result.
    let (mut operator, mut holder) = (db.operator().await, db.operator().await);
    let mut erasure = holder.begin().await.unwrap();
    let take_out = sqlx::query("UPDATE recognitions SET person_id = NULL WHERE crop_id = $1");
    take_out.bind(head(3).crop.as_uuid()).execute(&mut *erasure).await.unwrap();
    let expiring = store.clone();
    let expire = async move { expiring.expire_results(Some(30 * DAY), OffsetDateTime::now_utc(), 100).await };
    let expired = tokio::spawn(expire);
    blocked_session(&mut operator).await;
    erasure.commit().await.unwrap();
    assert_eq!(expired.await.unwrap().unwrap().recognitions, 2);
    assert!(notes(&db).await.is_empty());
    db.drop().await;
}

/// Does something while somebody deletes a face, which they end once it waits for that.
async fn beside_a_deletion<T: Send + 'static>(
    db: &TestDatabase,
    face: FaceId,
    operation: impl Future<Output = T> + Send + 'static,
) -> T {
    let (mut operator, mut holder) = (db.operator().await, db.operator().await);
    let mut deletion = holder.begin().await.unwrap();
    let delete = sqlx::query("DELETE FROM faces WHERE face_id = $1").bind(face.as_uuid());
    delete.execute(&mut *deletion).await.unwrap();
    let task = tokio::spawn(operation);
    blocked_session(&mut operator).await;
    deletion.commit().await.unwrap();
    task.await.unwrap()
}

#[tokio::test]
async fn a_face_that_is_deleted_meanwhile_fails_neither_a_note_nor_retention() {
    let db = test_database().await;
    let store = db.migrated().await;
    admit(&store, &[crop(2), crop(3), crop(4)]).await;
    store.keep_faces(&[kept(2, 0), kept(3, 0), kept(4, 0)]).await.unwrap();
    let [deleted, noted, expired] = [2, 3, 4].map(|number| kept(number, 0).face);
    let noting = store.clone();
    let note = async move { noting.note_matched(&[(deleted, known()), (noted, known())]).await };
    assert!(beside_a_deletion(&db, deleted, note).await.unwrap().is_empty());
    assert_eq!(notes(&db).await, [(noted.as_uuid(), known().as_uuid())]);

    finish(&store, &[recognised(4)]).await;
    publish(&store, 4..5).await;
    age(&db, 4..5, 40).await;
    let expiring = store.clone();
    let expire = async move { expiring.expire_results(Some(30 * DAY), OffsetDateTime::now_utc(), 100).await };
    assert_eq!(beside_a_deletion(&db, expired, expire).await.unwrap().crops, 1);
    assert_eq!(notes(&db).await.len(), 1);
    db.drop().await;
}

#[tokio::test]
async fn a_face_that_is_deleted_meanwhile_fails_no_second_embedding_of_others() {
    let db = test_database().await;
    let store = db.migrated().await;
    admit(&store, &[crop(2), crop(3), crop(4)]).await;
    store.keep_faces(&[kept(2, 0), kept(3, 0), kept(4, 0)]).await.unwrap();
    let [first, second, stays] = [2, 3, 4].map(|number| kept(number, 0).face);
    let putting = store.clone();
    let embedded = [first, stays].map(|face| (face, vec![1.0, 0.0]));
    let put = async move { putting.put_reembeddings("pack-2", &embedded).await };
    beside_a_deletion(&db, first, put).await.unwrap();
    let putting = store.clone();
    let raw = [second, stays].map(|face| RawEmbedding { face, model: "pack-0".to_owned(), embedding: vec![0.0, 1.0] });
    let put = async move { putting.put_raw_embeddings(&raw).await };
    beside_a_deletion(&db, second, put).await.unwrap();
    for table in ["reembeddings", "raw_embeddings"] {
        let faces: Vec<Uuid> = sqlx::query_scalar(AssertSqlSafe(format!("SELECT face_id FROM {table}")))
            .fetch_all(&mut db.operator().await)
            .await
            .unwrap();
        assert_eq!(faces, [stays.as_uuid()], "{table}");
    }
    db.drop().await;
}

#[tokio::test]
async fn a_face_of_somebody_and_one_that_is_not_theirs_are_noted_of_nobody_and_stay() {
    let db = test_database().await;
    let store = db.migrated().await;
    admit(&store, &[crop(2), crop(3), crop(4)]).await;
    store.keep_faces(&[kept(2, 0), kept(3, 0), kept(4, 0)]).await.unwrap();
    let [given, nobodys, denied] = [2, 3, 4].map(|number| kept(number, 0).face);
    crate::support::enrol(&store, &[face("a", None, 8), face("b", None, 9)]).await;
    let (a, b) = (person("a"), person("b"));
    assert!(store.set_negative(denied, b, &by()).await.unwrap());
    assert!(store.note_matched(&[(denied, b)]).await.unwrap().is_empty());
    assert!(notes(&db).await.is_empty(), "nothing leads from b to it, also once what was said is gone with b");

    // A crop in which `a` was recognised comes after the end of `a`: of a picture whose face is somebody's by now, and of another's.
    let erased = FaceSelection::Person(a);
    let begun = store.begin_erasure(&erased, &by()).await.unwrap().unwrap();
    let faces = store.tombstone_selected(&erased, 10).await.unwrap();
    store.forget(&faces.iter().map(|face| face.face).collect::<Vec<_>>()).await.unwrap();
    assert_eq!(store.delete_persons(&begun.persons).await.unwrap(), 1);
    assert!(store.finish_erasure(&begun, &erased, &serde_json::json!({}), &by()).await.unwrap());
    store.assign_faces(&office(), &[given], Assignment::to(Some(b)), &by()).await.unwrap().unwrap();
    assert_eq!(store.note_matched(&[(given, a), (nobodys, a)]).await.unwrap(), [nobodys]);
    assert_eq!(notes(&db).await, [(nobodys.as_uuid(), a.as_uuid())]);
    // Given to somebody before that is heard.
    assert_eq!(store.tombstone_unowned(&[given, nobodys]).await.unwrap(), 1);
    assert_eq!(store.face(given).await.unwrap().unwrap().person, Some(b));
    assert_eq!(store.face(nobodys).await.unwrap(), None);
    db.drop().await;
}
