//! Searches against a brute-force cosine, and the runner-up.

use std::collections::HashMap;

use facewire_domain::{Against, FaultKind, Hit, PersonId, Rule, decide, nearest};
use facewire_store_vec::{DECISION, FacePayload, FacePoint, Options, Probe, VecError, VecStore};
use qdrant_client::Payload;
use qdrant_client::qdrant::{
    PointStruct, StrictModeConfigBuilder, UpdateCollectionBuilder, UpsertPointsBuilder, Value,
};

use crate::support::{
    DIM, MODEL, assert_stored, client, dot, each_bare_server, each_server, each_server_with_client, face, face_id,
    gallery, normalised, person_id, vector,
};

/// Similarities of two ways to compute differ in the last digits.
const CLOSE: f32 = 1e-5;

fn probe(collection: &str, embedding: Vec<f32>, limit: Option<u32>) -> Probe {
    Probe { collection: gallery(collection), embedding, limit, persons: DECISION, against: Against::Faces }
}

/// The faces of a collection, nearest first.
fn ranked(faces: &[FacePoint], probe: &Probe) -> Vec<Hit> {
    let here = faces.iter().filter(|face| face.payload.collection == probe.collection);
    let hit = |face: &FacePoint| {
        let person = face.payload.person?;
        Some(Hit { face: face.face, person, similarity: dot(&face.embedding, &probe.embedding) })
    };
    let mut hits: Vec<Hit> = here.filter_map(hit).collect();
    hits.sort_by(|a, b| b.similarity.total_cmp(&a.similarity));
    hits
}

/// The two best persons' similarities.
fn two_best(hits: &[Hit]) -> [Option<f32>; 2] {
    let mut best: HashMap<PersonId, f32> = HashMap::new();
    for hit in hits {
        let entry = best.entry(hit.person).or_insert(f32::MIN);
        *entry = entry.max(hit.similarity);
    }
    let mut best: Vec<f32> = best.into_values().collect();
    best.sort_by(|a, b| b.total_cmp(a));
    [best.first().copied(), best.get(1).copied()]
}

/// What is found for each probe, where each has an answer.
async fn all_found(store: &VecStore, probes: &[Probe]) -> Vec<Vec<Hit>> {
    store.search(probes).await.unwrap().into_iter().map(Result::unwrap).collect()
}

const RULE: Rule = Rule { threshold: 0.5, margin: 0.0 };

fn close(a: Option<f32>, b: Option<f32>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => (a - b).abs() < CLOSE,
        (None, None) => true,
        _ => false,
    }
}

fn assert_decision(faces: &[FacePoint], probe: &Probe, hits: &[Hit]) {
    let [best, runner_up] = two_best(&ranked(faces, probe));
    let (decision, _) = decide(hits, &RULE);
    assert!(close(decision.best.map(|c| c.similarity), best), "{decision:?} {best:?}");
    assert!(close(decision.runner_up.map(|c| c.similarity), runner_up), "{decision:?} {runner_up:?}");
}

#[tokio::test]
async fn a_batch_agrees_with_brute_force() {
    each_server(|store| async move {
        // Persons of very different sizes in three collections; one has a single person, one none.
        let mut faces = Vec::new();
        for n in 0..300u128 {
            let collection = ["office", "hall"][(n % 2) as usize];
            faces.push(face(n + 1, n * n % 23 / 2, collection));
        }
        faces.extend((0..30).map(|n| face(1000 + n, 500, "lone")));
        for batch in faces.chunks(64) {
            store.upsert(batch).await.unwrap().all().unwrap();
        }
        let probes: Vec<_> = (0..64u128)
            .map(|n| {
                let collection = ["office", "hall", "lone", "empty"][(n % 4) as usize];
                probe(collection, vector(n + 7000), [None, Some(1), Some(3), Some(100)][(n / 4 % 4) as usize])
            })
            .collect();
        let found = all_found(&store, &probes).await;
        assert_eq!(found.len(), probes.len());
        for (probe, hits) in probes.iter().zip(&found) {
            let expected = ranked(&faces, probe);
            let limit = probe.limit.unwrap_or(16) as usize;
            for (hit, expected) in hits.iter().take(limit).zip(&expected) {
                assert!((hit.similarity - expected.similarity).abs() < CLOSE, "{hit:?} {expected:?}");
            }
            assert!(hits.len() >= expected.len().min(limit));
            assert_decision(&faces, probe, hits);
        }
    })
    .await;
}

#[tokio::test]
async fn the_runner_up_is_found_behind_a_person_who_fills_the_page() {
    each_server(|store| async move {
        let mut faces: Vec<_> = (1..=40).map(|n| face(n, 1, "office")).collect();
        let near = vector(12345);
        for (n, face) in faces.iter_mut().enumerate() {
            // Forty faces of one person, all nearer than anybody else's.
            let shifted = near.iter().enumerate().map(|(i, x)| if i == n % DIM { x + 0.02 } else { *x });
            face.embedding = normalised(shifted.collect());
        }
        let mut other = face(100, 2, "office");
        other.embedding = normalised(near.iter().enumerate().map(|(i, x)| if i == 0 { x + 0.6 } else { *x }).collect());
        let mut third = face(101, 3, "office");
        third.embedding = near.iter().map(|x| -x).collect();
        let elsewhere =
            FacePoint { face: face_id(102), embedding: near.clone(), payload: face(102, 4, "hall").payload };
        faces.extend([other, third, elsewhere]);
        store.upsert(&faces).await.unwrap().all().unwrap();

        let probes = [
            probe("office", near.clone(), None),
            probe("hall", near.clone(), Some(1)),
            probe("office", near, Some(60)),
        ];
        let found = all_found(&store, &probes).await;
        assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), [17, 1, 42]);
        for (probe, hits) in probes.iter().zip(&found) {
            assert_decision(&faces, probe, hits);
        }
        let (decision, _) = decide(&found[0], &RULE);
        assert_eq!(decision.best.unwrap().person, person_id(1));
        assert_eq!(
            (decision.runner_up.unwrap().person, decision.runner_up.unwrap().face),
            (person_id(2), face_id(100))
        );
    })
    .await;
}

#[tokio::test]
async fn as_many_persons_as_a_probe_asks_for_are_among_the_hits() {
    each_server(|store| async move {
        // Eight persons of thirty faces each: a page of sixteen is never of more than a few of them.
        let faces: Vec<_> = (0..240u128).map(|n| face(n + 1, n / 30 + 1, "office")).collect();
        for batch in faces.chunks(64) {
            store.upsert(batch).await.unwrap().all().unwrap();
        }
        let probes: Vec<Probe> = [2, 5, 8, 50]
            .into_iter()
            .flat_map(|persons| (0..4).map(move |n| (persons, n)))
            .map(|(persons, n)| Probe { persons, ..probe("office", faces[n * 60].embedding.clone(), None) })
            .collect();
        for (probe, hits) in probes.iter().zip(all_found(&store, &probes).await) {
            let expected = nearest(&ranked(&faces, probe), probe.persons as usize);
            let found = nearest(&hits, expected.len());
            assert_eq!(found.len(), expected.len(), "{} persons", probe.persons);
            for (found, expected) in found.iter().zip(&expected) {
                assert_eq!((found.person, found.face), (expected.person, expected.face));
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_bad_probe_fails_alone() {
    each_server_with_client(|store, _| async move {
        let faces: Vec<_> = (1..=20).map(|n| face(n, n, "office")).collect();
        store.upsert(&faces).await.unwrap().all().unwrap();
        // A handle that did not ensure knows no dimension: the server refuses the batch, and the bad one is looked for.
        let unaware = store.at(&store.serving().await.unwrap().unwrap().collection);
        for store in [store, unaware] {
            for (at, bad) in [(0, vec![0.5; DIM + 1]), (7, vec![f32::NAN; DIM]), (19, vec![0.5; 1])] {
                let mut probes: Vec<_> = faces.iter().map(|f| probe("office", f.embedding.clone(), Some(3))).collect();
                probes[at].embedding = bad;
                let found = store.search(&probes).await.unwrap();
                for (n, (result, face)) in found.iter().zip(&faces).enumerate() {
                    match result {
                        Ok(hits) => assert_eq!((n != at, hits[0].face), (true, face.face)),
                        Err(error) => assert_eq!((n, error.kind()), (at, FaultKind::Poison), "{error}"),
                    }
                }
            }
        }
    })
    .await;
}

#[tokio::test]
async fn faces_of_nobody_are_never_found() {
    each_server(|store| async move {
        let near = vector(4711);
        let mut faces: Vec<_> = (1..=60).map(|n| face(n, 1, "office")).collect();
        for face in &mut faces {
            // All nearer than anybody's.
            face.payload.person = None;
            face.embedding = near.clone();
        }
        faces.push(face(100, 1, "office"));
        faces.push(face(101, 2, "office"));
        store.upsert(&faces).await.unwrap().all().unwrap();
        let probe = probe("office", near, None);
        let found = all_found(&store, std::slice::from_ref(&probe)).await;
        let mut persons: Vec<_> = found[0].iter().map(|hit| hit.person).collect();
        persons.sort_unstable();
        assert_eq!(persons, [person_id(1), person_id(2)]);
        assert_decision(&faces, &probe, &found[0]);
        assert_stored(&store, &faces).await;

        // One that gets a name is found from then on, one that loses it no more.
        let named = FacePayload { person: Some(person_id(3)), ..faces[0].payload.clone() };
        let unnamed = FacePayload { person: None, ..faces[60].payload.clone() };
        store.set_payload(&[(faces[0].face, named), (faces[60].face, unnamed)]).await.unwrap().all().unwrap();
        let found = all_found(&store, &[probe]).await;
        let persons: Vec<_> = found[0].iter().map(|hit| hit.person).collect();
        assert_eq!(persons, [person_id(3), person_id(2)]);
    })
    .await;
}

#[tokio::test]
async fn a_runner_up_is_found_behind_a_face_of_nobody() {
    each_server(|store| async move {
        let near = vector(4711);
        let shifted = |by: f32| normalised(near.iter().zip(vector(1)).map(|(x, y)| x + by * y).collect());
        // A full page of one person, then a face of nobody, then the runner-up: the second query meets the face of nobody.
        let mut faces: Vec<_> =
            (1..=20).map(|n| FacePoint { embedding: near.clone(), ..face(n, 1, "office") }).collect();
        let mut nobodys = FacePoint { embedding: shifted(0.1), ..face(21, 1, "office") };
        nobodys.payload.person = None;
        faces.extend([nobodys, FacePoint { embedding: shifted(0.5), ..face(22, 2, "office") }]);
        store.upsert(&faces).await.unwrap().all().unwrap();
        let probe = probe("office", near, None);
        for when in ["not known that there are faces of nobody", "known"] {
            let found = all_found(&store, std::slice::from_ref(&probe)).await;
            assert_eq!(nearest(&found[0], 3).len(), 2, "{when}");
            assert_decision(&faces, &probe, &found[0]);
        }
    })
    .await;
}

#[tokio::test]
async fn a_probe_may_ask_for_exemplars_alone() {
    each_server(|store| async move {
        let near = vector(4711);
        // Forty faces of somebody, all nearer than their one exemplar; two others with an exemplar each, and one without.
        let mut faces: Vec<_> = (1..=40).map(|n| face(n, 1, "office")).collect();
        faces.extend([face(100, 1, "office"), face(101, 2, "office"), face(102, 3, "office"), face(103, 4, "office")]);
        faces.push(face(104, 5, "hall"));
        for face in &mut faces {
            face.payload.is_prototype = [100, 101, 102, 104].map(face_id).contains(&face.face);
            if face.face.as_uuid().as_u128() <= 40 {
                face.embedding = near.clone();
            }
        }
        store.upsert(&faces).await.unwrap().all().unwrap();
        let exemplars: Vec<FacePoint> = faces.iter().filter(|face| face.payload.is_prototype).cloned().collect();
        let all = probe("office", near.clone(), None);
        let only = Probe { against: Against::Prototypes, ..all.clone() };
        // Both kinds in one call, and more persons than have an exemplar.
        let many = Probe { persons: 9, limit: Some(1), ..only.clone() };
        let found = all_found(&store, &[all.clone(), only.clone(), many]).await;
        assert_decision(&faces, &all, &found[0]);
        let is_exemplar = |hit: &Hit| exemplars.iter().any(|face| face.face == hit.face);
        assert!(!found[0].iter().all(is_exemplar), "{:?}", found[0]);
        for hits in &found[1..] {
            assert!(hits.len() == 3 && hits.iter().all(is_exemplar), "{hits:?}");
            assert_decision(&exemplars, &only, hits);
        }

        // One that becomes an exemplar is found from then on, one that is none any more not.
        let chosen = FacePayload { is_prototype: true, ..faces[0].payload.clone() };
        let left = FacePayload { is_prototype: false, ..faces[40].payload.clone() };
        store.set_payload(&[(faces[0].face, chosen), (faces[40].face, left)]).await.unwrap().all().unwrap();
        let found = all_found(&store, &[only]).await;
        assert_eq!((found[0].len(), found[0][0].face), (3, face_id(1)));
    })
    .await;
}

#[tokio::test]
async fn a_strangers_point_is_no_hit() {
    each_server_with_client(|store, client| async move {
        store.upsert(&[face(1, 1, "office")]).await.unwrap().all().unwrap();
        let payload: Payload =
            HashMap::from([("collection", Value::from("office")), ("person_id", Value::from("no id"))]).into();
        let stranger = PointStruct::new(7, vector(9), payload);
        client.upsert_points(UpsertPointsBuilder::new(store.collection(), vec![stranger]).wait(true)).await.unwrap();
        let found = all_found(&store, &[probe("office", vector(9), None)]).await;
        assert_eq!(found[0].iter().map(|hit| hit.face).collect::<Vec<_>>(), [face_id(1)]);
    })
    .await;
}

#[tokio::test]
async fn a_search_asks_for_the_candidates_that_the_options_say() {
    each_bare_server(async |options: Options| {
        let wide = VecStore::connect(&Options { hnsw_ef: Some(300), ..options.clone() }).unwrap();
        wide.ensure(MODEL, DIM as u32).await.unwrap();
        wide.upsert(&[face(1, 1, "office")]).await.unwrap().all().unwrap();
        let strict = StrictModeConfigBuilder::default().enabled(true).search_max_hnsw_ef(200u32);
        let update = UpdateCollectionBuilder::new(wide.serving().await.unwrap().unwrap().collection);
        client(&options.url).update_collection(update.strict_mode_config(strict)).await.unwrap();
        // A server that allows fewer shows that they were asked for.
        let probe = [probe("office", vector(1), None)];
        let error = wide.search(&probe).await.unwrap_err();
        assert_eq!((matches!(error, VecError::Limit(_)), error.kind()), (true, FaultKind::Systemic), "{error}");
        let narrow = VecStore::connect(&Options { hnsw_ef: Some(200), ..options }).unwrap();
        assert_eq!(all_found(&narrow, &probe).await[0].len(), 1);
    })
    .await;
}
