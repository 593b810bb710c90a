//! Each operation by itself.

use facewire_store_vec::{Selection, VecError, VecStore};
use qdrant_client::Payload;
use qdrant_client::qdrant::{PointStruct, UpsertPointsBuilder};

use crate::support::{
    DIM, all, assert_stored, each_server, each_server_with_client, face, face_id, gallery, options, person_id,
};

#[tokio::test]
async fn what_is_stored_comes_back_in_id_order() {
    each_server(|store| async move {
        assert_stored(&store, &[]).await;
        let faces: Vec<_> = (1..=40).rev().map(|n| face(n << 90 | n, n % 5, "office")).collect();
        store.upsert(&faces).await.unwrap();
        assert_stored(&store, &faces).await;
        let from = store.scroll(Some(face_id(20 << 90)), 1, false).await.unwrap();
        assert_eq!((from.points[0].face, from.points[0].embedding.clone()), (face_id(20 << 90 | 20), None));
        assert_eq!(from.next, Some(face_id(21 << 90 | 21)));
        // The same again changes nothing.
        store.upsert(&faces[10..20]).await.unwrap();
        assert_stored(&store, &faces).await;
    })
    .await;
}

#[tokio::test]
async fn an_upsert_replaces_vector_and_payload() {
    each_server(|store| async move {
        store.upsert(&[face(1, 1, "office")]).await.unwrap();
        let mut later = face(1, 2, "hall");
        later.payload.cluster = None;
        later.payload.bbox = None;
        later.embedding.rotate_left(1);
        store.upsert(std::slice::from_ref(&later)).await.unwrap();
        assert_stored(&store, &[later]).await;
    })
    .await;
}

#[tokio::test]
async fn counting_and_deleting() {
    each_server(|store| async move {
        let faces: Vec<_> = (1..=30).map(|n| face(n, n % 3, if n % 2 == 0 { "office" } else { "hall" })).collect();
        store.upsert(&faces).await.unwrap();
        assert_eq!(store.count(None).await.unwrap(), 30);
        assert_eq!(store.count(Some(&gallery("hall"))).await.unwrap(), 15);
        assert_eq!(store.count(Some(&gallery("roof"))).await.unwrap(), 0);
        store.delete(&[face_id(1), face_id(2), face_id(999)]).await.unwrap();
        assert_eq!(store.count(None).await.unwrap(), 28);
        store.delete_all(&Selection::Collection(gallery("hall"))).await.unwrap();
        assert_eq!((store.count(None).await.unwrap(), store.count(Some(&gallery("hall"))).await.unwrap()), (14, 0));
        store.delete_all(&Selection::Person(person_id(0))).await.unwrap();
        let left: Vec<_> =
            faces.into_iter().filter(|f| f.payload.collection == gallery("office") && f.face != face_id(2)).collect();
        let left: Vec<_> = left.into_iter().filter(|f| f.payload.person != person_id(0)).collect();
        assert_stored(&store, &left).await;
        store.delete(&[]).await.unwrap();
        store.upsert(&[]).await.unwrap();
        store.set_payload(&[]).await.unwrap();
        assert_eq!(store.search(&[]).await.unwrap().len(), 0);
    })
    .await;
}

#[tokio::test]
async fn retrieving_gives_what_is_there() {
    each_server(|store| async move {
        store.upsert(&[face(1, 1, "office"), face(2, 2, "office")]).await.unwrap();
        let got = store.retrieve(&[face_id(2), face_id(3)], false).await.unwrap();
        assert_eq!((got.len(), got[0].face, got[0].embedding.clone()), (1, face_id(2), None));
        assert_eq!(store.retrieve(&[face_id(1)], true).await.unwrap()[0].embedding.as_ref().unwrap().len(), DIM);
        assert_eq!(store.retrieve(&[], true).await.unwrap(), []);
    })
    .await;
}

#[tokio::test]
async fn a_payload_is_replaced_as_a_whole_and_the_vector_stays() {
    each_server(|store| async move {
        let mut faces: Vec<_> = (1..=4).map(|n| face(n, 1, "office")).collect();
        store.upsert(&faces).await.unwrap();
        for (n, face) in faces.iter_mut().enumerate().skip(1) {
            face.payload = crate::support::face(50 + n as u128, 9, "hall").payload;
            face.payload.cluster = None;
        }
        let changes: Vec<_> = faces[1..].iter().map(|face| (face.face, face.payload.clone())).collect();
        store.set_payload(&changes).await.unwrap();
        assert_stored(&store, &faces).await;
        let missing = store.set_payload(&[(face_id(77), faces[0].payload.clone())]).await.unwrap_err();
        assert!(matches!(missing, VecError::Rejected(_)), "{missing}");
        assert_eq!(store.count(None).await.unwrap(), 4);
    })
    .await;
}

#[tokio::test]
async fn a_strangers_points_are_told_apart() {
    each_server_with_client(|store, client| async move {
        store.upsert(&[face(1, 1, "office")]).await.unwrap();
        let mut points: Vec<_> = (0..5u64).map(|n| PointStruct::new(n, vec![0.5; DIM], Payload::new())).collect();
        points.push(PointStruct::new(uuid::Uuid::from_u128(9).to_string(), vec![0.5; DIM], Payload::new()));
        client.upsert_points(UpsertPointsBuilder::new(store.collection(), points).wait(true)).await.unwrap();
        let stored = all(&store, 2).await;
        assert_eq!(stored.iter().map(|point| point.face).collect::<Vec<_>>(), [face_id(1), face_id(9)]);
        assert_eq!(stored.iter().map(|point| point.payload.is_some()).collect::<Vec<_>>(), [true, false]);
    })
    .await;
}

#[tokio::test]
async fn ensuring_twice_is_fine_and_another_dimension_is_not() {
    each_server(|store| async move {
        store.ensure(DIM as u32).await.unwrap();
        let error = store.ensure(512).await.unwrap_err();
        assert!(
            matches!(error, VecError::WrongDimension { expected: 512, found, .. } if found == DIM as u64),
            "{error}"
        );
        assert!(!error.is_transient());
        let mut bad = face(1, 1, "office");
        bad.embedding.push(0.0);
        let error = store.upsert(&[face(2, 1, "office"), bad]).await.unwrap_err();
        assert!(matches!(error, VecError::Rejected(_)) && !error.is_transient(), "{error}");
        assert_eq!(store.count(None).await.unwrap(), 0);
    })
    .await;
}

#[tokio::test]
async fn many_may_ensure_at_once_and_before_that_there_is_no_collection() {
    let dir = tempfile::tempdir().unwrap();
    let start = facewire_devstack::qdrant::LocalQdrant::start(dir.path(), ([127, 0, 0, 1], 0).into());
    let server = start.await.unwrap();
    let stores: Vec<_> = (0..4).map(|_| VecStore::connect(&options(&server.url(), "shared")).unwrap()).collect();
    let error = stores[0].count(None).await.unwrap_err();
    assert!(matches!(&error, VecError::NoCollection { collection } if collection == "shared"), "{error}");
    assert!(!stores[0].health().await.unwrap().is_empty());
    let tasks: Vec<_> =
        stores.iter().cloned().map(|store| tokio::spawn(async move { store.ensure(16).await })).collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    let client = qdrant_client::Qdrant::from_url(&server.url()).skip_compatibility_check().build().unwrap();
    let info = client.collection_info("shared").await.unwrap().result.unwrap();
    assert_eq!(info.payload_schema.len(), 9, "{:?}", info.payload_schema.keys());
    server.shutdown().await;
}
