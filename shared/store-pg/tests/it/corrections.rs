//! What people said of faces, read in pages: their word and no job's, by one model, whatever was merged and erased since.

use facewire_domain::{FaceId, JobKind, PersonId};
use facewire_store_pg::{Assignment, CorrectedFace, FaceOrigin, KeptFace, NewAssignment, Store};
use sqlx::{AssertSqlSafe, Executor};
use time::OffsetDateTime;

use crate::clusters::{MODEL, give, kept, running, sorted, unknown};
use crate::support::{admit, by, crop, enrolled, face, head, office, person, test_database};

/// All pages, of two faces each.
async fn confirmed_since(store: &Store, model: &str, since: Option<OffsetDateTime>) -> Vec<CorrectedFace> {
    let (mut all, mut after): (Vec<CorrectedFace>, _) = (Vec::new(), None);
    loop {
        let page = store.confirmed_faces(&office(), model, since, after, 2).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.face);
        all.extend(page);
    }
    assert!(all.is_sorted_by(|a, b| a.face < b.face), "each once");
    all
}

async fn confirmed(store: &Store) -> Vec<(FaceId, PersonId)> {
    confirmed_since(store, MODEL, None).await.into_iter().map(|face| (face.face, face.person)).collect()
}

async fn refused_since(store: &Store, since: Option<OffsetDateTime>) -> Vec<CorrectedFace> {
    let (mut all, mut after): (Vec<CorrectedFace>, _) = (Vec::new(), None);
    loop {
        let page = store.refused_faces(&office(), MODEL, since, after, 2).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some((last.face, last.person));
        all.extend(page);
    }
    assert!(all.is_sorted_by(|a, b| (a.face, a.person) < (b.face, b.person)), "each pair once");
    all
}

async fn refused(store: &Store) -> Vec<(FaceId, PersonId)> {
    refused_since(store, None).await.into_iter().map(|face| (face.face, face.person)).collect()
}

fn pairs(faces: &[(FaceId, &str)]) -> Vec<(FaceId, PersonId)> {
    let mut pairs: Vec<(FaceId, PersonId)> = faces.iter().map(|(face, subject)| (*face, person(subject))).collect();
    pairs.sort();
    pairs
}

#[tokio::test]
async fn a_face_is_confirmed_by_people_and_not_by_jobs() {
    let db = test_database().await;
    let store = db.migrated().await;
    let theirs = enrolled(&store, &[face("a", None, 90), face("b", None, 91)]).await;
    admit(&store, &[crop(1), crop(2)]).await;
    let faces = unknown(&store, 5).await;
    let gallery = [(theirs[0], "a"), (theirs[1], "b")];
    assert_eq!(confirmed(&store).await, pairs(&gallery), "faces of nobody are not");

    give(&store, faces[0], "a").await;
    let token = running(&store, JobKind::Assign).await;
    let by_job = [NewAssignment { face: faces[1], person: person("a"), similarity: 0.75 }];
    store.apply_assignments(token, &office(), &by_job, &[], &by()).await.unwrap().unwrap();
    let with_one = [&gallery[..], &[(faces[0], "a")]].concat();
    assert_eq!(confirmed(&store).await, pairs(&with_one), "a job's word is none");
    give(&store, faces[1], "a").await;
    let with_both = [&with_one[..], &[(faces[1], "a")]].concat();
    assert_eq!(confirmed(&store).await, pairs(&with_both), "a human said the same");
    let by_human = store.face(faces[1]).await.unwrap().unwrap().assigned_by;
    assert_eq!(by_human, Some(by().name), "it is the human's word now");

    let all = confirmed_since(&store, MODEL, None).await;
    let of = |wanted: FaceId| all.iter().find(|face| face.face == wanted).unwrap();
    let seen = of(faces[0]);
    assert_eq!((seen.origin, seen.camera.as_ref()), (FaceOrigin::Kept, Some(&head(1).camera)));
    assert_eq!((seen.quality, &seen.embedding, seen.image_hash), (Some(0.001), &kept(1).embedding, head(1).image_hash));
    let first = of(theirs[0]);
    assert_eq!((first.origin, &first.camera), (FaceOrigin::Enrolled, &None), "its crop has no row");
    assert!(all.iter().all(|face| !format!("{face:?}").contains("embedding")), "biometric data in a log");
    db.drop().await;
}

#[tokio::test]
async fn confirmed_faces_follow_merges_erasing_models_and_time() {
    let db = test_database().await;
    let store = db.migrated().await;
    let theirs = enrolled(&store, &[face("a", None, 90), face("b", None, 91)]).await;
    let faces = unknown(&store, 3).await;
    give(&store, faces[0], "a").await;
    give(&store, faces[1], "b").await;
    store.merge_persons(person("a"), person("b"), &by()).await.unwrap().unwrap();
    let merged = [(theirs[0], "b"), (theirs[1], "b"), (faces[0], "b"), (faces[1], "b")];
    assert_eq!(confirmed(&store).await, pairs(&merged));

    // What was said long ago does not count with `since`; who is enrolled always does.
    let mut operator = db.operator().await;
    let old = format!("UPDATE faces SET assigned_at = assigned_at - interval '9 days' WHERE face_id = '{}'", faces[0]);
    operator.execute(AssertSqlSafe(old)).await.unwrap();
    let since = Some(OffsetDateTime::now_utc() - time::Duration::days(8));
    let recent: Vec<FaceId> = confirmed_since(&store, MODEL, since).await.into_iter().map(|face| face.face).collect();
    assert_eq!(recent, sorted(&[theirs[0], theirs[1], faces[1]]));

    // By another model only what has an embedding of it.
    assert!(confirmed_since(&store, "pack-2", None).await.is_empty());
    store.put_reembeddings("pack-2", &[(faces[1], vec![1.0, 0.0])]).await.unwrap();
    let other = confirmed_since(&store, "pack-2", None).await;
    assert_eq!((other.len(), other[0].face, &other[0].embedding[..]), (1, faces[1], &[1.0, 0.0][..]));

    store.tombstone(&faces[..1]).await.unwrap();
    assert_eq!(confirmed(&store).await, pairs(&[merged[0], merged[1], merged[3]]), "being erased");
    store.assign_faces(&office(), &faces[1..2], Assignment::to(None), &by()).await.unwrap().unwrap();
    assert_eq!(confirmed(&store).await, pairs(&merged[..2]), "nobody's again");
    assert!(store.confirmed_faces(&"lab".parse().unwrap(), MODEL, None, None, 10).await.unwrap().is_empty());
    db.drop().await;
}

#[tokio::test]
async fn what_a_job_did_counts_since_a_human_said_the_same() {
    let db = test_database().await;
    let store = db.migrated().await;
    enrolled(&store, &[face("a", None, 90)]).await;
    let faces = unknown(&store, 2).await;
    let token = running(&store, JobKind::Assign).await;
    let by_job = faces
        .iter()
        .map(|face| NewAssignment { face: *face, person: person("a"), similarity: 0.75 })
        .collect::<Vec<_>>();
    store.apply_assignments(token, &office(), &by_job, &[], &by()).await.unwrap().unwrap();
    let mut operator = db.operator().await;
    operator.execute("UPDATE faces SET assigned_at = assigned_at - interval '9 days'").await.unwrap();
    let since = Some(OffsetDateTime::now_utc() - time::Duration::days(8));
    let of_crops = async || -> Vec<FaceId> {
        let all = confirmed_since(&store, MODEL, since).await;
        all.into_iter().filter(|face| face.origin == FaceOrigin::Kept).map(|face| face.face).collect()
    };
    assert_eq!(of_crops().await, [], "nobody confirmed them");
    give(&store, faces[0], "a").await;
    assert_eq!(of_crops().await, [faces[0]]);

    // Who says once more what they said says nothing new.
    operator.execute("UPDATE faces SET assigned_at = assigned_at - interval '9 days'").await.unwrap();
    give(&store, faces[0], "a").await;
    assert_eq!(of_crops().await, []);
    db.drop().await;
}

#[tokio::test]
async fn a_face_knows_its_camera_when_its_crop_is_gone() {
    let db = test_database().await;
    let store = db.migrated().await;
    admit(&store, &[crop(1), crop(2), crop(90)]).await;
    let theirs = enrolled(&store, &[face("a", None, 90)]).await;
    let faces = unknown(&store, 3).await;
    for id in &faces {
        give(&store, *id, "a").await;
    }
    let mut operator = db.operator().await;
    // As the release before writes a face.
    let without = format!("UPDATE faces SET camera = NULL WHERE face_id = '{}'", faces[1]);
    operator.execute(AssertSqlSafe(without)).await.unwrap();
    let camera = async |wanted: FaceId| {
        let all = confirmed_since(&store, MODEL, None).await;
        all.into_iter().find(|face| face.face == wanted).unwrap().camera
    };
    assert_eq!(camera(faces[1]).await, Some(head(2).camera), "the crop's row tells it");
    operator.execute("DELETE FROM crops").await.unwrap();
    assert_eq!(camera(faces[0]).await, Some(head(1).camera));
    assert_eq!(camera(theirs[0]).await, Some(head(90).camera), "an enrolled face has one too");
    assert_eq!((camera(faces[1]).await, camera(faces[2]).await), (None, None), "nobody knows");

    // Embedded by another model it is written again, and so is its camera where that was missing.
    admit(&store, &[crop(2)]).await;
    store.assign_faces(&office(), &faces[1..2], Assignment::to(None), &by()).await.unwrap().unwrap();
    let newer = KeptFace { model: "pack-2".to_owned(), ..kept(2) };
    assert!(store.keep_faces(&[newer]).await.unwrap().iter().all(Result::is_ok));
    operator.execute("DELETE FROM crops").await.unwrap();
    give(&store, faces[1], "a").await;
    let written = confirmed_since(&store, "pack-2", None).await;
    assert_eq!((written.len(), written[0].camera.as_ref()), (1, Some(&head(2).camera)));
    db.drop().await;
}

#[tokio::test]
async fn a_face_is_refused_once_for_each_person_who_it_does_not_show() {
    let db = test_database().await;
    let store = db.migrated().await;
    enrolled(&store, &[face("a", None, 90), face("b", None, 91), face("c", None, 92)]).await;
    admit(&store, &[crop(1)]).await;
    let faces = unknown(&store, 4).await;
    for (number, subject) in [(0, "a"), (0, "b"), (1, "a"), (2, "c")] {
        assert!(store.set_negative(faces[number], person(subject), &by()).await.unwrap());
    }
    give(&store, faces[3], "a").await;
    let taken = Assignment { to: Some(person("c")), not_this_person: true, force: false };
    store.assign_faces(&office(), &faces[3..], taken, &by()).await.unwrap().unwrap();
    let said = [(faces[0], "a"), (faces[0], "b"), (faces[1], "a"), (faces[2], "c"), (faces[3], "a")];
    assert_eq!(refused(&store).await, pairs(&said));
    let all = refused_since(&store, None).await;
    let first = all.iter().find(|face| face.face == faces[0]).unwrap();
    assert_eq!((&first.embedding, first.camera.as_ref()), (&kept(1).embedding, Some(&head(1).camera)));

    // Of two who are one, a face is refused once.
    store.merge_persons(person("a"), person("b"), &by()).await.unwrap().unwrap();
    let merged = [(faces[0], "b"), (faces[1], "b"), (faces[2], "c"), (faces[3], "b")];
    assert_eq!(refused(&store).await, pairs(&merged));
    let force = Assignment { to: Some(person("b")), not_this_person: false, force: true };
    store.assign_faces(&office(), &faces[1..2], force, &by()).await.unwrap().unwrap();
    assert_eq!(refused(&store).await, pairs(&[merged[0], merged[2], merged[3]]), "it is theirs after all");

    let mut operator = db.operator().await;
    let old = format!("UPDATE face_negatives SET at = at - interval '9 days' WHERE face_id = '{}'", faces[0]);
    operator.execute(AssertSqlSafe(old)).await.unwrap();
    let since = Some(OffsetDateTime::now_utc() - time::Duration::days(8));
    let recent: Vec<FaceId> = refused_since(&store, since).await.into_iter().map(|face| face.face).collect();
    assert_eq!(recent, sorted(&faces[2..]));
    store.tombstone(&faces[2..3]).await.unwrap();
    assert_eq!(refused(&store).await, pairs(&[merged[0], merged[3]]), "being erased");
    db.drop().await;
}

#[tokio::test]
async fn corrections_are_read_by_an_index() {
    let db = test_database().await;
    let store = db.migrated().await;
    enrolled(&store, &[face("a", None, 90)]).await;
    let mut operator = db.operator().await;
    // Enough faces of nobody that reading them all would cost more.
    operator
        .execute(
            "INSERT INTO faces (face_id, collection, image_hash, embedding, model, vector_state, captured_at, origin)
             SELECT md5('face ' || i)::uuid, 'office', sha256(int8send(i)), sha256('x'), 'pack-1', 'indexed', now(), 'kept'
             FROM generate_series(1, 20000) i",
        )
        .await
        .unwrap();
    operator
        .execute(AssertSqlSafe(format!(
            "INSERT INTO face_negatives (face_id, person_id, stated_of, actor)
             SELECT face_id, '{0}', '{0}', 'a test' FROM faces WHERE person_id IS NULL",
            person("a")
        )))
        .await
        .unwrap();
    operator.execute("ANALYZE faces, face_negatives, persons").await.unwrap();
    let place = "'80000000-0000-0000-0000-000000000000'";
    // The conditions by which the store pages.
    for (query, index, table) in [
        (
            format!(
                "SELECT f.embedding FROM faces f WHERE f.collection = 'office' AND f.vector_state <> 'tombstoned'
                 AND f.confirmed AND f.face_id > {place} ORDER BY f.face_id LIMIT 100"
            ),
            "faces_confirmed_by_id",
            "faces",
        ),
        (
            format!(
                "SELECT DISTINCT ON (n.face_id, n.person_id) n.face_id, n.person_id, f.embedding
                 FROM face_negatives n JOIN faces f ON f.face_id = n.face_id JOIN persons p ON p.person_id = n.person_id
                 WHERE f.collection = 'office' AND f.vector_state <> 'tombstoned' AND p.status <> 'merged'
                 AND f.face_id >= {place} AND (n.face_id, n.person_id) > ({place}, {place}) ORDER BY n.face_id, n.person_id LIMIT 100"
            ),
            "face_negatives_pkey",
            "face_negatives",
        ),
    ] {
        let explain = AssertSqlSafe(format!("EXPLAIN {query}"));
        let plan: Vec<String> = sqlx::query_scalar(explain).fetch_all(&mut operator).await.unwrap();
        assert!(plan.iter().any(|line| line.contains(index)), "{query}\n{plan:#?}");
        assert!(!plan.iter().any(|line| line.contains(&format!("Seq Scan on {table} "))), "{query}\n{plan:#?}");
    }
    drop(operator);
    db.drop().await;
}
