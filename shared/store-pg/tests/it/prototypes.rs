//! Whose prototypes are out of date, whatever changed their faces; and what stands for people, set and read.

use std::time::Duration;

use facewire_domain::{EXEMPLARS, FaceId, JobKind, PersonId, Quality};
use facewire_store_pg::{
    Assignment, FaceQuality, FaceSelection, MergeRef, NewAssignment, NewFace, PersonChanges, StalePerson, Store,
    StoreError, VectorState,
};
use sqlx::Executor;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::clusters::{MODEL, give, kept, number, owner, running, sorted, told, unknown};
use crate::support::{blocked_session, by, enrolled, face, office, person, quality, test_database};

/// Who is out of date, by id. Nobody is afterwards, as if their prototypes had been chosen.
async fn stale(store: &Store) -> Vec<PersonId> {
    let mut persons = Vec::new();
    for stale in store.stale_persons(100).await.unwrap() {
        assert_eq!(stale.collection, office());
        store.set_prototypes(stale.person, MODEL, &[], None, Some(stale.since)).await.unwrap();
        persons.push(stale.person);
    }
    persons.sort();
    persons
}

fn people(subjects: &[&str]) -> Vec<PersonId> {
    let mut people: Vec<PersonId> = subjects.iter().map(|subject| person(subject)).collect();
    people.sort();
    people
}

#[tokio::test]
async fn whoever_gets_or_loses_a_face_is_out_of_date() {
    let db = test_database().await;
    let store = db.migrated().await;
    let theirs = enrolled(&store, &[face("a", None, 90), face("a", None, 91), face("b", None, 92)]).await;
    assert_eq!(stale(&store).await, people(&["a", "b"]), "enrolled");
    assert_eq!(stale(&store).await, []);
    let faces = unknown(&store, 6).await;
    store.mark_indexed(&theirs).await.unwrap();
    store.mark_pending(&theirs).await.unwrap();
    let hide = PersonChanges { hidden: Some(true), ..PersonChanges::default() };
    store.update_person(person("a"), None, &hide, &by()).await.unwrap();
    assert_eq!(stale(&store).await, [], "nothing of theirs is another");

    give(&store, faces[0], "a").await;
    assert_eq!(stale(&store).await, people(&["a"]), "given");
    give(&store, faces[0], "b").await;
    assert_eq!(stale(&store).await, people(&["a", "b"]), "taken from one and given to another");
    store.assign_faces(&office(), &faces[..1], Assignment::to(None), &by()).await.unwrap().unwrap();
    assert_eq!(stale(&store).await, people(&["b"]), "taken");
    let token = running(&store, JobKind::Assign).await;
    let to_b = [NewAssignment { face: faces[1], person: person("b"), similarity: 0.75 }];
    let assigned = store.apply_assignments(token, &office(), &to_b, &[], &by()).await.unwrap().unwrap();
    assert_eq!(stale(&store).await, people(&["b"]), "assigned by a job");
    store.undo_act(assigned.act, &by()).await.unwrap().unwrap();
    assert_eq!(stale(&store).await, people(&["b"]), "undone");

    store.merge_persons(person("a"), person("b"), &by()).await.unwrap().unwrap();
    assert_eq!(stale(&store).await, people(&["a", "b"]), "merged");
    store.unmerge(MergeRef::Source(person("a")), &by()).await.unwrap().unwrap();
    assert_eq!(stale(&store).await, people(&["a", "b"]), "unmerged");
    // An embedding by another model: at first beside the face's own, then in its place.
    store.put_reembeddings("pack-2", &[(theirs[2], vec![1.0, 0.0])]).await.unwrap();
    assert_eq!(stale(&store).await, []);
    let newer = NewFace { model: "pack-2".to_owned(), ..face("b", None, 92) };
    enrolled(&store, &[newer]).await;
    assert_eq!(stale(&store).await, people(&["b"]), "enrolled anew by another model");

    store.remove_face(theirs[0], &by()).await.unwrap().unwrap();
    assert_eq!(stale(&store).await, people(&["a"]), "removed");
    store.forget(&theirs[..1]).await.unwrap();
    assert_eq!(stale(&store).await, [], "it was gone already");
    let what = FaceSelection::Person(person("a"));
    store.tombstone_selected(&what, 10).await.unwrap();
    assert_eq!(stale(&store).await, people(&["a"]), "erased");
    store.forget(&theirs[1..2]).await.unwrap();
    store.delete_persons(&[person("a")]).await.unwrap();
    let delete = format!("DELETE FROM faces WHERE person_id = '{}'", person("b"));
    db.operator().await.execute(sqlx::AssertSqlSafe(delete)).await.unwrap();
    assert_eq!(stale(&store).await, people(&["b"]), "by hand");
    db.drop().await;
}

#[tokio::test]
async fn whose_face_is_confirmed_is_out_of_date_and_confirmed_faces_are_read_first() {
    let db = test_database().await;
    let store = db.migrated().await;
    let theirs = enrolled(&store, &[face("a", None, 90)]).await;
    let faces = unknown(&store, 2).await;
    let token = running(&store, JobKind::Assign).await;
    let by_a_job = [0, 1].map(|at| NewAssignment { face: faces[at], person: person("a"), similarity: 0.75 });
    store.apply_assignments(token, &office(), &by_a_job, &[], &by()).await.unwrap().unwrap();
    assert_eq!(stale(&store).await, people(&["a"]));
    let read = async || -> Vec<(FaceId, bool)> {
        let vectors = store.person_vectors(person("a"), MODEL, 10).await.unwrap();
        vectors.iter().map(|vector| (vector.face, vector.confirmed)).collect()
    };
    assert_eq!(read().await, [(theirs[0], true), (faces[1], false), (faces[0], false)]);
    give(&store, faces[0], "a").await;
    assert_eq!(stale(&store).await, people(&["a"]), "confirmed");
    assert_eq!(read().await, [(faces[0], true), (theirs[0], true), (faces[1], false)]);
    give(&store, faces[0], "a").await;
    assert_eq!(stale(&store).await, [], "it was");
    db.drop().await;
}

/// Since when a person is out of date.
fn since(all: &[StalePerson], subject: &str) -> Option<OffsetDateTime> {
    all.iter().find(|stale| stale.person == person(subject)).map(|stale| stale.since)
}

#[tokio::test]
async fn who_changed_meanwhile_stays_out_of_date() {
    let db = test_database().await;
    let store = db.migrated().await;
    let theirs = enrolled(&store, &[face("a", None, 90), face("b", None, 91)]).await;
    let all = store.stale_persons(10).await.unwrap();
    assert!(all.is_sorted_by_key(|stale| stale.since), "the longest first");
    let read_at = since(&all, "a");
    // A change that is not committed when the prototypes are set.
    let faces = unknown(&store, 1).await;
    let mut other = db.operator().await;
    other.execute("BEGIN").await.unwrap();
    sqlx::query("UPDATE faces SET person_id = $1, assigned_by = 'x' WHERE face_id = $2")
        .bind(person("a").as_uuid())
        .bind(faces[0].as_uuid())
        .execute(&mut other)
        .await
        .unwrap();
    let racing = store.clone();
    // Enrolment made the face an exemplar.
    let task = tokio::spawn(async move { racing.set_prototypes(person("a"), MODEL, &[], None, read_at).await });
    blocked_session(&mut db.operator().await).await;
    other.execute("COMMIT").await.unwrap();
    assert_eq!(task.await.unwrap().unwrap(), theirs[..1]);
    let now = store.stale_persons(10).await.unwrap();
    assert!(since(&now, "a") > read_at, "{now:?}");
    // Without knowing since when, nobody is up to date afterwards.
    store.set_prototypes(person("b"), MODEL, &theirs[1..], None, None).await.unwrap();
    assert_eq!(store.stale_persons(10).await.unwrap().len(), 2);
    store.set_prototypes(person("a"), MODEL, &theirs[..1], None, since(&now, "a")).await.unwrap();
    assert_eq!(stale(&store).await, people(&["b"]));

    assert_eq!(store.mark_all_stale(&office()).await.unwrap(), 2);
    assert_eq!(store.mark_all_stale(&"lab".parse().unwrap()).await.unwrap(), 0);
    assert_eq!(stale(&store).await, people(&["a", "b"]));
    db.drop().await;
}

async fn prototypes(store: &Store, model: &str) -> Vec<(PersonId, Vec<f32>)> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = store.prototypes_page(&office(), model, after, 2).await.unwrap();
        let Some(last) = page.last() else { return all };
        after = Some(last.id);
        assert!(
            page.iter().all(|prototype| !format!("{prototype:?}").contains("embedding")),
            "biometric data in a log"
        );
        all.extend(page.into_iter().map(|prototype| (prototype.person, prototype.embedding)));
    }
}

/// Sets what stands for `a`; the faces whose points have to follow.
async fn set(store: &Store, exemplars: &[FaceId], mean: Option<&[f32]>) -> Vec<FaceId> {
    sorted(&store.set_prototypes(person("a"), MODEL, exemplars, mean, None).await.unwrap())
}

#[tokio::test]
async fn exemplars_and_means_stand_for_a_person_until_others_do() {
    let db = test_database().await;
    let store = db.migrated().await;
    let of_a: Vec<NewFace> = (90..94).map(|image| face("a", None, image)).collect();
    let theirs = enrolled(&store, &of_a).await;
    let others = enrolled(&store, &[face("b", None, 95)]).await;
    // As if nobody had an exemplar yet.
    for subject in ["a", "b"] {
        store.set_prototypes(person(subject), MODEL, &[], None, None).await.unwrap();
    }
    store.mark_indexed(&[&theirs[..], &others[..]].concat()).await.unwrap();
    let mean = [0.5, 0.25];
    let with_strangers = [theirs[0], theirs[1], others[0], FaceId::from(Uuid::from_u128(7))];
    assert_eq!(set(&store, &with_strangers, Some(&mean[..])).await, sorted(&theirs[..2]), "a's alone");
    let state = async |face| {
        let record = store.face(face).await.unwrap().unwrap();
        (record.is_prototype, record.state)
    };
    assert_eq!(state(theirs[0]).await, (true, VectorState::Pending));
    assert_eq!(state(theirs[2]).await, (false, VectorState::Indexed));
    let summary = async || store.person(person("a")).await.unwrap().unwrap().prototypes;
    assert_eq!(summary().await, 3);
    let stand = prototypes(&store, MODEL).await;
    assert_eq!(stand.len(), 3);
    assert!(stand.iter().all(|(whom, _)| *whom == person("a")));
    assert_eq!(stand.iter().filter(|(_, embedding)| embedding[..] == mean).count(), 1);

    // One stays, one goes, one comes; the mean is another.
    store.mark_indexed(&theirs).await.unwrap();
    assert_eq!(set(&store, &theirs[1..3], Some(&[0.75, 0.5])).await, sorted(&[theirs[0], theirs[2]]));
    assert_eq!(state(theirs[1]).await, (true, VectorState::Indexed));
    assert_eq!(summary().await, 3);
    assert_eq!(set(&store, &theirs[1..3], None).await, []);
    assert_eq!(summary().await, 2);
    let refused = store.set_prototypes(person("a"), MODEL, &[], Some(&[f32::NAN]), None).await;
    assert!(matches!(refused, Err(StoreError::Invalid { .. })));
    let nobody = store.set_prototypes(person("nobody"), MODEL, &theirs[..1], None, None).await;
    assert_eq!(nobody.unwrap(), []);

    // By another model only what has an embedding of it; of those who were merged nothing.
    assert_eq!(prototypes(&store, "pack-2").await, []);
    store.put_reembeddings("pack-2", &[(theirs[1], vec![1.0, 0.0])]).await.unwrap();
    assert_eq!(prototypes(&store, "pack-2").await, [(person("a"), vec![1.0, 0.0])]);
    set(&store, &theirs[1..3], Some(&mean[..])).await;
    store.tombstone(&theirs[1..2]).await.unwrap();
    assert_eq!(prototypes(&store, MODEL).await.len(), 2, "an exemplar that is gone stands for nobody");
    store.merge_persons(person("a"), person("b"), &by()).await.unwrap().unwrap();
    assert!(prototypes(&store, MODEL).await.iter().all(|(whom, _)| *whom == person("b")));
    assert_eq!((number(&db, "prototypes").await, told(&store, "face.assigned").await), (3, 0));
    store.delete_persons(&[person("b")]).await.unwrap();
    assert_eq!(number(&db, "prototypes").await, 3, "there are faces of theirs");
    db.drop().await;
}

/// A face of the office with this score.
fn scored(subject: &str, image: u64, score: f32) -> NewFace {
    let signals = Quality { score, ..quality().signals };
    NewFace { quality: Some(FaceQuality { signals, ..quality() }), ..face(subject, None, image) }
}

/// Exemplars of somebody, as the list and as the faces' rows say it.
async fn exemplars(store: &Store, subject: &str) -> Vec<FaceId> {
    let listed = store.exemplars_of(person(subject)).await.unwrap();
    let rows = store.faces_page(person(subject), None, 100).await.unwrap();
    let marked: Vec<FaceId> = rows.iter().filter(|row| row.is_prototype).map(|row| row.face).collect();
    assert_eq!(listed, marked);
    listed
}

#[tokio::test]
async fn whoever_is_enrolled_has_exemplars_at_once_and_not_more_than_there_are_to_be() {
    let db = test_database().await;
    let store = db.migrated().await;
    // Two of one person in one batch, beside somebody else.
    let first = enrolled(&store, &[scored("a", 90, 0.5), scored("b", 91, 0.5), scored("a", 92, 0.4)]).await;
    assert_eq!(exemplars(&store, "a").await, sorted(&[first[0], first[2]]));
    assert_eq!(exemplars(&store, "b").await, first[1..2]);
    // Of the next batch the best; then nobody any more. The upkeep still hears of it.
    let second = enrolled(&store, &[scored("a", 93, 0.1), scored("a", 94, 0.9), scored("a", 95, 0.2)]).await;
    let three = sorted(&[first[0], first[2], second[1]]);
    assert_eq!((three.len() as u32, exemplars(&store, "a").await), (EXEMPLARS, three.clone()));
    enrolled(&store, &[scored("a", 96, 1.0)]).await;
    assert_eq!(exemplars(&store, "a").await, three);
    assert_eq!(stale(&store).await, people(&["a", "b"]));
    // In one batch more than there are to be.
    let many: Vec<NewFace> = (0..5).map(|n| scored("c", 100 + n, n as f32 / 10.0)).collect();
    let many = enrolled(&store, &many).await;
    assert_eq!(exemplars(&store, "c").await, sorted(&many[2..]));
    // Asked for again: the same.
    enrolled(&store, &[scored("c", 100, 0.0)]).await;
    assert_eq!(exemplars(&store, "c").await, sorted(&many[2..]));
    db.drop().await;
}

#[tokio::test]
async fn an_exemplar_that_no_search_finds_makes_room_for_one_that_is_found() {
    let db = test_database().await;
    let store = db.migrated().await;
    let theirs = enrolled(&store, &[scored("a", 90, 0.5), scored("a", 91, 0.5), scored("a", 92, 0.5)]).await;
    // One waits for its image, one is on its way out.
    store.queue_reembedding(&theirs[..1], "pack-2").await.unwrap();
    store.tombstone(&theirs[1..2]).await.unwrap();
    let more = enrolled(&store, &[scored("a", 93, 0.3), scored("a", 94, 0.2), scored("a", 95, 0.1)]).await;
    assert_eq!(exemplars(&store, "a").await, sorted(&[theirs[0], theirs[2], more[0], more[1]]));
    // A face that is enrolled anew is what it was, and by the new model.
    store.queue_reembedding(&more[..1], "pack-2").await.unwrap();
    let anew = NewFace { model: "pack-2".to_owned(), ..scored("a", 93, 0.3) };
    assert_eq!(enrolled(&store, &[anew]).await, more[..1]);
    assert!(exemplars(&store, "a").await.contains(&more[0]));
    assert_eq!(number(&db, "prototypes WHERE model = 'pack-2'").await, 1);
    db.drop().await;
}

#[tokio::test]
async fn faces_that_are_given_by_hand_stand_for_whoever_has_too_few() {
    let db = test_database().await;
    let store = db.migrated().await;
    let theirs = enrolled(&store, &[scored("a", 90, 0.5), scored("a", 91, 0.6), scored("b", 92, 0.5)]).await;
    let (subject, carla) = ("c".parse().unwrap(), "Carla");
    store.split_person(&office(), person("a"), &theirs[..1], &subject, carla, &by()).await.unwrap().unwrap();
    assert_eq!(exemplars(&store, "c").await, theirs[..1]);
    assert_eq!(exemplars(&store, "a").await, theirs[1..2]);
    // The newest of six have the higher scores: two of them find room.
    let faces = unknown(&store, 6).await;
    let given = Assignment::to(Some(person("b")));
    store.assign_faces(&office(), &faces, given, &by()).await.unwrap().unwrap();
    assert_eq!(exemplars(&store, "b").await, sorted(&[theirs[2], faces[4], faces[5]]));
    // Taken from everybody, they stand for nobody.
    store.assign_faces(&office(), &faces, Assignment::to(None), &by()).await.unwrap().unwrap();
    assert_eq!(exemplars(&store, "b").await, theirs[2..]);
    db.drop().await;
}

#[tokio::test]
async fn the_faces_of_a_person_are_read_with_the_newest_first() {
    let db = test_database().await;
    let store = db.migrated().await;
    enrolled(&store, &[face("a", None, 90)]).await;
    let faces = unknown(&store, 5).await;
    for face in &faces[..4] {
        store.assign_faces(&office(), &[*face], Assignment::to(Some(person("a"))), &by()).await.unwrap().unwrap();
    }
    store.tombstone(&faces[2..3]).await.unwrap();
    let read = async |limit| store.person_vectors(person("a"), MODEL, limit).await.unwrap();
    let all = read(10).await;
    let newest: Vec<FaceId> = all.iter().map(|vector| vector.face).take(3).collect();
    assert_eq!((all.len(), newest), (4, vec![faces[3], faces[1], faces[0]]));
    assert_eq!((all[0].quality, &all[0].embedding), (Some(0.004), &kept(4).embedding));
    assert!(all[0].created_at <= OffsetDateTime::now_utc() + Duration::from_secs(60));
    assert_eq!(read(2).await.len(), 2);
    assert_eq!(owner(&store, faces[4]).await, None);
    assert!(store.person_vectors(person("a"), "pack-2", 10).await.unwrap().is_empty());
    db.drop().await;
}
