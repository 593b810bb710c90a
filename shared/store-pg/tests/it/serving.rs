//! Which model serves, and the lock under which faces are enrolled.

use facewire_domain::model::projected;
use facewire_domain::{FaceId, PersonId};
use facewire_store_pg::{ModelFaces, NewFace, Options, RawEmbedding, Store, Switch, VectorState};

use crate::support::{blocked_session, by, enrol, enrolled, face, test_database};

#[tokio::test]
async fn the_first_claim_counts_and_only_a_switch_changes_it() {
    let db = test_database().await;
    let store = db.migrated().await;
    assert_eq!(store.serving_model().await.unwrap(), None);
    let mut claims = Vec::new();
    for number in 0..6 {
        let replica = db.store().await;
        claims.push(tokio::spawn(async move { replica.claim_serving(&format!("pack-{number}"), 512).await.unwrap() }));
    }
    let mut answers = Vec::new();
    for claim in claims {
        answers.push(claim.await.unwrap());
    }
    let serving = store.serving_model().await.unwrap().unwrap();
    assert!(answers.iter().all(|answer| *answer == serving), "{answers:?}");

    let switch = async |from: &str, to: &str| store.switch_reembedded(from, to, 128, false).await.unwrap();
    assert_eq!(switch("another", "pack-x").await, Switch::SwitchedMeanwhile);
    assert_eq!(switch(&serving.model, "pack-x").await, Switch::Done);
    assert_eq!(switch(&serving.model, "pack-y").await, Switch::SwitchedMeanwhile, "it serves no longer");
    let now = store.claim_serving("pack-z", 32).await.unwrap();
    assert_eq!((now.model.as_str(), now.dim), ("pack-x", 128));
    assert!(now.since >= serving.since);
    db.drop().await;
}

#[tokio::test]
async fn a_model_serves_once_every_face_has_an_embedding_by_it_and_all_at_once() {
    let db = test_database().await;
    let store = db.migrated().await;
    let old = face("a", None, 1).model;
    store.claim_serving(&old, 2).await.unwrap();
    enrol(&store, &(0..5).map(|n| face(&format!("s{n}"), None, n)).collect::<Vec<_>>()).await;
    let queue = async |after, limit| store.faces_to_reembed("new", after, limit).await.unwrap();
    let first = queue(None, 3).await;
    assert_eq!(first.len(), 3);
    let embedded: Vec<_> = first.iter().map(|face| (face.face, vec![0.0, 1.0, 0.0])).collect();
    store.put_reembeddings("new", &embedded).await.unwrap();
    assert_eq!(queue(None, 10).await.len(), 2, "it goes on where it was");
    let served = store.faces(&[first[0].face]).await.unwrap().remove(0);
    assert_eq!((served.record.model.as_str(), served.embedding.len()), (old.as_str(), served.record.dim as usize));
    assert_eq!(store.switch_reembedded(&old, "new", 3, false).await.unwrap(), Switch::Incomplete);
    assert_eq!(store.reembedded_faces("new", None, 10).await.unwrap().len(), 3);

    assert_eq!(store.switch_reembedded(&old, "new", 3, true).await.unwrap(), Switch::Done);
    let seen = async || {
        let faces = store.faces_after(None, 10).await.unwrap();
        let new = faces.iter().filter(|face| face.record.model == "new" && face.embedding == [0.0, 1.0, 0.0]).count();
        let waiting = faces.iter().filter(|face| face.record.state == VectorState::Reembed).count();
        (new, waiting)
    };
    assert_eq!(seen().await, (3, 2), "at once, before any row was moved");
    assert_eq!((store.apply_reembeddings(2).await.unwrap(), store.apply_reembeddings(2).await.unwrap()), (2, 1));
    assert_eq!((store.apply_reembeddings(2).await.unwrap(), seen().await), (0, (3, 2)));
    // Whoever still has the old model enrols nobody.
    let refused = store.begin_enrolment(&[face("late", None, 9)]).await.unwrap_err();
    assert!(refused.to_string().contains("new"), "{refused}");
    db.drop().await;
}

#[tokio::test]
async fn the_models_of_the_faces_are_counted_up_to_a_bound() {
    let db = test_database().await;
    let store = db.migrated().await;
    assert_eq!(store.models_of_faces(10).await.unwrap(), []);
    let of =
        |number: u64, model: &str| NewFace { model: model.to_owned(), ..face(&format!("s{number}"), None, number) };
    let faces: Vec<_> = (0..9).map(|n| of(n, if n < 2 { "a" } else { "b" })).chain([of(9, "c")]).collect();
    enrol(&store, &faces).await;
    let found = |model: &str, faces| ModelFaces { model: model.to_owned(), faces };
    assert_eq!(store.models_of_faces(5).await.unwrap(), [found("b", 5), found("a", 2), found("c", 1)]);
    db.drop().await;
}

#[tokio::test]
async fn changed_faces_come_in_the_order_of_their_changes() {
    let db = test_database().await;
    let store = db.migrated().await;
    enrol(&store, &(0..7).map(|n| face(&format!("s{n}"), None, n)).collect::<Vec<_>>()).await;
    let faces = store.faces_after(None, 10).await.unwrap();
    let before = faces.iter().map(|face| face.record.updated_at).max().unwrap();
    // The last of them by id changes first.
    for face in faces.iter().rev().take(5) {
        store.mark_indexed(&[face.record.face]).await.unwrap();
    }
    let (mut found, mut place) = (Vec::new(), (before + time::Duration::microseconds(1), None));
    loop {
        let page = store.faces_changed(place, 2).await.unwrap();
        let Some(last) = page.last() else { break };
        place = (last.record.updated_at, Some(last.record.face));
        found.extend(page.into_iter().map(|face| face.record.face));
    }
    let expected: Vec<_> = faces.iter().rev().take(5).map(|face| face.record.face).collect();
    assert_eq!(found, expected);
    // All of one moment, in pages.
    let (mut all, mut place) = (0, (before - time::Duration::HOUR, None));
    while let Some(last) = store.faces_changed(place, 3).await.unwrap().last() {
        place = (last.record.updated_at, Some(last.record.face));
        all += 1;
    }
    assert_eq!(all, 3, "7 faces in pages of 3");
    db.drop().await;
}

#[tokio::test]
async fn a_merged_person_leads_to_whoever_took_over() {
    let db = test_database().await;
    let store = db.migrated().await;
    let person = |subject: &str| PersonId::derive(&"office".parse().unwrap(), &subject.parse().unwrap());
    enrol(&store, &[face("a", None, 1), face("b", None, 2), face("c", None, 3)]).await;
    assert!(store.merge_persons(person("a"), person("b"), &by()).await.unwrap().is_some());
    assert!(store.merge_persons(person("b"), person("c"), &by()).await.unwrap().is_some());
    let [a, b, c] = ["a", "b", "c"].map(person);
    let found = store.survivors(&[a, b, c, a, person("nobody")]).await.unwrap();
    assert_eq!(found, [(a, c), (b, c), (c, c)].into());
    db.drop().await;
}

#[tokio::test]
async fn the_enrolment_lock_excludes_others_and_not_its_holder() {
    let db = test_database().await;
    let holder = db.migrated().await;
    // Even with one connection the holder can write while it holds the lock.
    let narrow = Store::connect(&Options { max_connections: 1, ..db.options.clone() }).await.unwrap();
    let collections = ["yard".parse().unwrap(), "office".parse().unwrap(), "office".parse().unwrap()];
    let mut guard = narrow.enrolment_lock(&collections).await.unwrap();
    enrol(&narrow, &[face("a", None, 1)]).await;
    guard.check().await.unwrap();

    let mut operator = db.operator().await;
    let (other, wanted) = (holder.clone(), collections.clone());
    let waiting = tokio::spawn(async move { other.enrolment_lock(&wanted[1..2]).await.map(|_guard| ()) });
    blocked_session(&mut operator).await;
    holder.enrolment_lock(&["hall".parse().unwrap()]).await.unwrap().release().await.unwrap();
    guard.release().await.unwrap();
    waiting.await.unwrap().unwrap();

    // Dropping it releases it too; so does the death of the connection, and then the holder learns of it.
    drop(narrow.enrolment_lock(&collections).await.unwrap());
    let mut guard = holder.enrolment_lock(&collections).await.unwrap();
    sqlx::query(
        "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted AND database =
         (SELECT oid FROM pg_database WHERE datname = current_database())",
    )
    .execute(&mut operator)
    .await
    .unwrap();
    narrow.enrolment_lock(&collections).await.unwrap().release().await.unwrap();
    assert!(guard.check().await.is_err());
    assert!(guard.release().await.is_err());
    db.drop().await;
}

#[tokio::test]
async fn behind_a_head_the_packs_own_embeddings_stay_and_lead_back() {
    let db = test_database().await;
    let store = db.migrated().await;
    let pack = face("a", None, 1).model;
    let head = projected(&pack, "0123456789abcdef");
    store.claim_serving(&pack, 512).await.unwrap();
    let ids = enrolled(&store, &(0..3).map(|n| face(&format!("s{n}"), None, n)).collect::<Vec<_>>()).await;
    let before = store.raw_embeddings(&pack, &ids).await.unwrap();
    assert_eq!((before.len(), &before[&ids[0]]), (3, &face("a", None, 1).embedding), "a face's own");
    assert!(store.raw_embeddings("another", &ids).await.unwrap().is_empty());
    let brought = async |model: &str, embeddings: Vec<(FaceId, Vec<f32>)>| {
        store.put_reembeddings(model, &embeddings).await.unwrap();
        let from = store.serving_model().await.unwrap().unwrap().model;
        let dim = embeddings[0].1.len().try_into().unwrap();
        assert_eq!(store.switch_reembedded(&from, model, dim, false).await.unwrap(), Switch::Done);
        assert_eq!(store.raw_embeddings(&pack, &ids).await.unwrap(), before, "at once, before any row was moved");
        while store.apply_reembeddings(2).await.unwrap() > 0 {}
    };
    brought(&head, ids.iter().map(|id| (*id, vec![1.0, 0.0])).collect()).await;
    let stored = store.faces(&ids).await.unwrap();
    assert!(stored.iter().all(|face| face.record.model == head && face.embedding == [1.0, 0.0]));
    assert_eq!(store.raw_embeddings(&pack, &ids).await.unwrap(), before);

    // Somebody is enrolled while the head serves: the pack's own embedding comes beside, twice, as a redelivery brings it.
    let late = NewFace { model: head.clone(), embedding: vec![0.0, 1.0], ..face("late", None, 9) };
    let late = enrolled(&store, &[late]).await[0];
    let raw = |embedding| RawEmbedding { face: late, model: pack.clone(), embedding };
    store.put_raw_embeddings(&[raw(vec![0.5; 512]), raw(vec![0.25; 512])]).await.unwrap();
    store.put_raw_embeddings(&[raw(vec![0.25; 512])]).await.unwrap();
    let gone = RawEmbedding { face: uuid::Uuid::from_u128(1).into(), ..raw(vec![1.0]) };
    store.put_raw_embeddings(&[gone]).await.unwrap();
    assert_eq!(store.raw_embeddings(&pack, &[late]).await.unwrap()[&late], [0.25; 512]);
    assert!(store.put_raw_embeddings(&[raw(vec![f32::NAN])]).await.is_err());

    let everybody: Vec<FaceId> = ids.iter().copied().chain([late]).collect();
    let kept = store.raw_embeddings(&pack, &everybody).await.unwrap();
    assert_eq!(store.faces_to_reembed(&pack, None, 10).await.unwrap().len(), 4);
    brought(&pack, kept.clone().into_iter().collect()).await;
    let stored = store.faces(&everybody).await.unwrap();
    assert!(stored.iter().all(|face| face.record.model == pack && face.embedding == kept[&face.record.face]));
    let beside = "SELECT count(*) FROM raw_embeddings";
    let beside: i64 = sqlx::query_scalar(beside).fetch_one(&mut db.operator().await).await.unwrap();
    assert_eq!(beside, 0, "nothing is kept twice");
    db.drop().await;
}
