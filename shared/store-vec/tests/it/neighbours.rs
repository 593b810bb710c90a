//! Lists of neighbours against brute force: who is among them, and in which order.

use facewire_domain::FaceId;
use facewire_store_vec::{FacePoint, Unknown, VecError, VecStore};
use time::OffsetDateTime;

use crate::support::{DIM, dot, each_server, face, face_id, gallery, person_id, vector};

/// Similarities of two ways to compute differ in the last digits.
const CLOSE: f32 = 1e-5;

/// Of nobody.
fn unknown(n: u128, collection: &str) -> FacePoint {
    let mut point = face(n, 1, collection);
    point.payload.person = None;
    point
}

/// The nearest others of one face that are nobody's, nearest first.
fn ranked(faces: &[FacePoint], of: &FacePoint) -> Vec<(FaceId, f32)> {
    let others = faces.iter().filter(|other| {
        let same = other.payload.collection == of.payload.collection;
        same && other.payload.person.is_none() && other.face != of.face
    });
    let mut ranked: Vec<(FaceId, f32)> =
        others.map(|other| (other.face, dot(&other.embedding, &of.embedding))).collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
    ranked
}

async fn lists(store: &VecStore, among: &Unknown, of: &[FacePoint], most: u32) -> Vec<Vec<(FaceId, f32)>> {
    let asked: Vec<_> = of.iter().map(|face| (face.face, face.embedding.as_slice())).collect();
    let found = store.neighbours(among, &asked, most).await.unwrap();
    found
        .into_iter()
        .map(|list| list.unwrap().into_iter().map(|other| (other.face, other.similarity)).collect())
        .collect()
}

#[tokio::test]
async fn each_face_is_told_the_nearest_others_that_are_nobodys() {
    each_server(|store| async move {
        let mut faces: Vec<_> = (1..=60).map(|n| unknown(n, "office")).collect();
        faces.extend((101..=120).map(|n| face(n, n, "office")));
        faces.extend((201..=220).map(|n| unknown(n, "hall")));
        store.upsert(&faces).await.unwrap().all().unwrap();
        let among = Unknown::of(gallery("office"));
        let found = lists(&store, &among, &faces[..60], 7).await;
        assert_eq!(found.len(), 60);
        for (face, list) in faces.iter().zip(&found) {
            let expected = ranked(&faces, face);
            assert_eq!(list.len(), 7);
            for ((_, similarity), (_, expected)) in list.iter().zip(&expected) {
                assert!((similarity - expected).abs() < CLOSE, "{similarity} {expected}");
            }
            assert!(list.iter().all(|(other, _)| *other != face.face));
        }
        // One that is not stored has as many.
        let stranger = unknown(999, "office");
        assert_eq!(lists(&store, &among, std::slice::from_ref(&stranger), 7).await[0].len(), 7);
        // A face that gets a person is no neighbour any more.
        let (nearest, _) = found[0][0];
        let mut named = faces.iter().find(|face| face.face == nearest).unwrap().payload.clone();
        named.person = Some(person_id(9));
        store.set_payload(&[(nearest, named)]).await.unwrap().all().unwrap();
        let found = lists(&store, &among, &faces[..1], 59).await;
        assert_eq!((found[0].len(), found[0].iter().any(|(other, _)| *other == nearest)), (58, false));
        assert_eq!(store.neighbours(&among, &[], 7).await.unwrap().len(), 0);
    })
    .await;
}

#[tokio::test]
async fn bounds_leave_faces_out() {
    each_server(|store| async move {
        let mut faces: Vec<_> = (1..=20).map(|n| unknown(n, "office")).collect();
        for (n, face) in faces.iter_mut().enumerate() {
            face.payload.quality_score = (n >= 4).then_some(if n < 10 { 0.25 } else { 0.75 });
        }
        store.upsert(&faces).await.unwrap().all().unwrap();
        let of = unknown(500, "office");
        let count = async |among: Unknown| lists(&store, &among, std::slice::from_ref(&of), 100).await[0].len();
        let all = Unknown::of(gallery("office"));
        assert_eq!(count(all.clone()).await, 20);
        assert_eq!(count(Unknown { min_quality: Some(0.25), ..all.clone() }).await, 16);
        assert_eq!(count(Unknown { min_quality: Some(0.5), ..all.clone() }).await, 10);
        // The fixture's faces are a second apart.
        let at = |second: i64| Some(OffsetDateTime::from_unix_timestamp(1_700_000_000 + second).unwrap());
        assert_eq!(count(Unknown { taken_since: at(11), ..all.clone() }).await, 10);
        assert_eq!(count(Unknown { taken_since: at(11), taken_until: at(15), ..all.clone() }).await, 4);
        assert_eq!(count(Unknown { taken_until: at(1), ..all }).await, 0);
    })
    .await;
}

#[tokio::test]
async fn a_face_that_cannot_be_searched_for_is_rejected_alone() {
    each_server(|store| async move {
        store.upsert(&[unknown(1, "office"), unknown(2, "office")]).await.unwrap().all().unwrap();
        let (fine, short, wrong) = (vector(1), vec![1.0; DIM - 1], vec![f32::NAN; DIM]);
        let asked = [(face_id(7), short.as_slice()), (face_id(1), fine.as_slice()), (face_id(8), wrong.as_slice())];
        let found = store.neighbours(&Unknown::of(gallery("office")), &asked, 3).await.unwrap();
        assert!(matches!(found[0], Err(VecError::Rejected(_))) && matches!(found[2], Err(VecError::Rejected(_))));
        let others: Vec<_> = found[1].as_ref().unwrap().iter().map(|other| other.face).collect();
        assert_eq!(others, [face_id(2)]);
    })
    .await;
}
