//! Each operation by itself.

use facewire_domain::FaultKind;
use facewire_store_vec::Selection;
use qdrant_client::Payload;
use qdrant_client::qdrant::{PointStruct, UpsertPointsBuilder};

use crate::support::{
    DIM, all, assert_stored, each_server, each_server_with_client, face, face_id, gallery, person_id,
};

#[tokio::test]
async fn what_is_stored_comes_back_in_id_order() {
    each_server(|store| async move {
        assert_stored(&store, &[]).await;
        let faces: Vec<_> = (1..=40).rev().map(|n| face(n << 90 | n, n % 5, "office")).collect();
        store.upsert(&faces).await.unwrap().all().unwrap();
        assert_stored(&store, &faces).await;
        let from = store.scroll(Some(face_id(20 << 90)), 1, false).await.unwrap();
        assert_eq!((from.points[0].face, from.points[0].embedding.clone()), (face_id(20 << 90 | 20), None));
        assert_eq!(from.next, Some(face_id(21 << 90 | 21)));
        // The same again changes nothing.
        store.upsert(&faces[10..20]).await.unwrap().all().unwrap();
        assert_stored(&store, &faces).await;
    })
    .await;
}

#[tokio::test]
async fn an_upsert_replaces_vector_and_payload() {
    each_server(|store| async move {
        store.upsert(&[face(1, 1, "office")]).await.unwrap().all().unwrap();
        let mut later = face(1, 2, "hall");
        later.payload.cluster = None;
        later.payload.bbox = None;
        later.embedding.rotate_left(1);
        store.upsert(std::slice::from_ref(&later)).await.unwrap().all().unwrap();
        assert_stored(&store, &[later]).await;
    })
    .await;
}

#[tokio::test]
async fn counting_and_deleting() {
    each_server(|store| async move {
        let faces: Vec<_> = (1..=30).map(|n| face(n, n % 3, if n % 2 == 0 { "office" } else { "hall" })).collect();
        store.upsert(&faces).await.unwrap().all().unwrap();
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
        let left: Vec<_> = left.into_iter().filter(|f| f.payload.person != Some(person_id(0))).collect();
        assert_stored(&store, &left).await;
        store.delete(&[]).await.unwrap();
        store.upsert(&[]).await.unwrap().all().unwrap();
        store.set_payload(&[]).await.unwrap().all().unwrap();
        assert_eq!(store.search(&[]).await.unwrap().len(), 0);
    })
    .await;
}

#[tokio::test]
async fn retrieving_gives_what_is_there() {
    each_server(|store| async move {
        store.upsert(&[face(1, 1, "office"), face(2, 2, "office")]).await.unwrap().all().unwrap();
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
        store.upsert(&faces).await.unwrap().all().unwrap();
        for (n, face) in faces.iter_mut().enumerate().skip(1) {
            face.payload = crate::support::face(50 + n as u128, 9, "hall").payload;
            face.payload.cluster = None;
        }
        let changes: Vec<_> = faces[1..].iter().map(|face| (face.face, face.payload.clone())).collect();
        store.set_payload(&changes).await.unwrap().all().unwrap();
        assert_stored(&store, &faces).await;
        // One that is not stored is rejected alone.
        faces[0].payload.quality_score = Some(0.75);
        let changes = [face_id(77), face_id(1), face_id(78)].map(|id| (id, faces[0].payload.clone()));
        let done = store.set_payload(&changes).await.unwrap();
        assert_eq!(done.rejected.iter().map(|(face, _)| *face).collect::<Vec<_>>(), [face_id(77), face_id(78)]);
        assert!(done.rejected.iter().all(|(_, error)| error.kind() == FaultKind::Poison), "{done:?}");
        assert_stored(&store, &faces).await;
        assert_eq!(store.count(None).await.unwrap(), 4);
    })
    .await;
}

#[tokio::test]
async fn a_strangers_points_are_told_apart() {
    each_server_with_client(|store, client| async move {
        store.upsert(&[face(1, 1, "office")]).await.unwrap().all().unwrap();
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
async fn a_bad_point_is_rejected_alone() {
    each_server(|store| async move {
        let unaware = store.at(&store.serving().await.unwrap().unwrap().collection);
        for store in [&store, &unaware] {
            let mut faces: Vec<_> = (1..=20).map(|n| face(n, 1, "office")).collect();
            faces[3].embedding.push(0.0);
            faces[11].embedding[0] = f32::NAN;
            let done = store.upsert(&faces).await.unwrap();
            let mut rejected: Vec<_> = done.rejected.iter().map(|(face, _)| *face).collect();
            rejected.sort_unstable();
            assert_eq!(rejected, [face_id(4), face_id(12)]);
            assert!(done.rejected.iter().all(|(_, error)| error.kind() == FaultKind::Poison), "{done:?}");
            assert!(done.all().is_err());
            faces.retain(|face| !rejected.contains(&face.face));
            assert_stored(store, &faces).await;
            store.delete_all(&Selection::Collection(gallery("office"))).await.unwrap();
        }
    })
    .await;
}
