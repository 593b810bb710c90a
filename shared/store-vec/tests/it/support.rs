//! Servers, stores and faces for the tests.

use std::future::Future;
use std::time::{Duration, Instant};

use facewire_config::Secret;
use facewire_devstack::qdrant::LocalQdrant;
use facewire_domain::{Against, BoundingBox, CollectionId, FaceId, PersonId};
use facewire_store_vec::{DECISION, Ensured, FacePayload, FacePoint, Options, Probe, StoredPoint, VecStore};
use qdrant_client::Qdrant;
use time::OffsetDateTime;
use uuid::Uuid;

pub(crate) const DIM: usize = 8;
/// The fingerprint of the model that the tests' vectors are said to be of.
pub(crate) const MODEL: &str = "test@1:00000000";
/// The first twelve digits of SHA-256 of `MODEL`, by another program.
pub(crate) const HASH: &str = "7361ae1c94fc";

pub(crate) fn options(url: &str, collection: &str) -> Options {
    Options {
        url: url.to_owned(),
        collection: collection.to_owned(),
        timeout: Duration::from_secs(20),
        ..Options::default()
    }
}

/// Runs the test against the local Qdrant, and against the real one where it is named. The store is ensured.
pub(crate) async fn each_server<F: Future<Output = ()>>(test: impl Fn(VecStore) -> F) {
    each_server_with_client(|store, _| test(store)).await;
}

/// The real server's API key.
fn key() -> Option<String> {
    std::env::var("FACEWIRE_TEST_QDRANT_API_KEY").ok().filter(|key| !key.is_empty())
}

pub(crate) fn client(url: &str) -> Qdrant {
    Qdrant::from_url(url).api_key(key()).skip_compatibility_check().build().unwrap()
}

/// The same with a bare client, for what the store does not offer.
pub(crate) async fn each_server_with_client<F: Future<Output = ()>>(test: impl Fn(VecStore, Qdrant) -> F) {
    each_bare_server(async |options: Options| {
        let store = VecStore::connect(&options).unwrap();
        assert_eq!(store.ensure(MODEL, DIM as u32).await.unwrap(), Ensured::Created);
        test(store, client(&options.url)).await;
    })
    .await;
}

/// The same where nothing is there yet.
pub(crate) async fn each_bare_server(test: impl AsyncFn(Options)) {
    let dir = tempfile::tempdir().unwrap();
    let local = LocalQdrant::start(dir.path(), ([127, 0, 0, 1], 0).into()).await.unwrap();
    test(options(&local.url(), "facewire_faces")).await;
    local.shutdown().await;

    let Some(url) = std::env::var("FACEWIRE_TEST_QDRANT_URL").ok().filter(|url| !url.is_empty()) else { return };
    let alias = format!("facewire_test_{}", Uuid::new_v4().simple());
    // Whoever names a server of their own with a key says how it is reached.
    test(Options { api_key: key().map(Secret::new), allow_key_in_clear: true, ..options(&url, &alias) }).await;
    let client = client(&url);
    for collection in client.list_collections().await.unwrap().collections {
        if collection.name.starts_with(&alias) {
            client.delete_collection(collection.name).await.unwrap();
        }
    }
}

/// Waits until it is true, at most a minute.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut ready: impl FnMut() -> F) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !ready().await {
        assert!(Instant::now() < deadline, "waited in vain for: {what}");
        tokio::task::yield_now().await;
    }
}

pub(crate) fn gallery(name: &str) -> CollectionId {
    name.parse().unwrap()
}

pub(crate) fn face_id(n: u128) -> FaceId {
    Uuid::from_u128(n).into()
}

pub(crate) fn person_id(n: u128) -> PersonId {
    Uuid::from_u128(n).into()
}

/// A repeatable vector of length 1.
pub(crate) fn vector(seed: u128) -> Vec<f32> {
    let mut state = seed as u64 ^ 0x9e37_79b9_7f4a_7c15;
    let mut next = || {
        // xorshift
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..4).for_each(|_| assert!(next().is_finite()));
    normalised((0..DIM).map(|_| next()).collect())
}

pub(crate) fn normalised(mut vector: Vec<f32>) -> Vec<f32> {
    let norm = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    vector.iter_mut().for_each(|x| *x /= norm);
    vector
}

pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

pub(crate) fn face(n: u128, person: u128, collection: &str) -> FacePoint {
    FacePoint {
        face: face_id(n),
        embedding: vector(n),
        payload: FacePayload {
            collection: gallery(collection),
            person: Some(person_id(person)),
            cluster: n.is_multiple_of(2).then(|| Uuid::from_u128(person + 1000)),
            is_prototype: n.is_multiple_of(3),
            asset: None,
            instance: Some(Uuid::from_u128(n + 5).into()),
            quality_score: Some(0.25),
            detection_confidence: Some(1.0),
            bbox: Some(BoundingBox { x1: -1.0, y1: 2.5, x2: 64.0, y2: 80.0 }),
            taken_at: OffsetDateTime::from_unix_timestamp(1_700_000_000 + n as i64).unwrap(),
        },
    }
}

/// A probe that is exactly a face's.
pub(crate) fn probe(face: &FacePoint, limit: Option<u32>) -> Probe {
    let (collection, embedding) = (face.payload.collection.clone(), face.embedding.clone());
    Probe { collection, embedding, limit, persons: DECISION, against: Against::Faces }
}

/// Everything that is stored, page by page.
pub(crate) async fn all(store: &VecStore, page: u32) -> Vec<StoredPoint> {
    let (mut points, mut from) = (Vec::new(), None);
    loop {
        let got = store.scroll(from, page, true).await.unwrap();
        assert!(got.points.len() <= page as usize);
        points.extend(got.points);
        from = got.next;
        if from.is_none() {
            return points;
        }
    }
}

/// Whether exactly these faces are stored.
pub(crate) async fn assert_stored(store: &VecStore, faces: &[FacePoint]) {
    let mut expected = faces.to_vec();
    expected.sort_by_key(|point| point.face);
    let stored = all(store, 7).await;
    assert_eq!(stored.len(), expected.len());
    for (stored, expected) in stored.iter().zip(&expected) {
        assert_eq!((stored.face, stored.payload.as_ref()), (expected.face, Some(&expected.payload)));
        assert!(dot(stored.embedding.as_ref().unwrap(), &expected.embedding) > 0.9999);
    }
}
