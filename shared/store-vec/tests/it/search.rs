//! Searches against a brute-force cosine, and the runner-up.

use std::collections::HashMap;

use facewire_domain::{Hit, PersonId, Rule, decide};
use facewire_store_vec::{FacePoint, Probe, VecError};

use crate::support::{DIM, dot, each_server, face, face_id, gallery, normalised, person_id, vector};

/// Similarities of two ways to compute differ in the last digits.
const CLOSE: f32 = 1e-5;

fn probe(collection: &str, embedding: Vec<f32>, limit: Option<u32>) -> Probe {
    Probe { collection: gallery(collection), embedding, limit }
}

/// The faces of a collection, nearest first.
fn ranked(faces: &[FacePoint], probe: &Probe) -> Vec<Hit> {
    let here = faces.iter().filter(|face| face.payload.collection == probe.collection);
    let hit = |face: &FacePoint| Hit {
        face: face.face,
        person: face.payload.person,
        similarity: dot(&face.embedding, &probe.embedding),
    };
    let mut hits: Vec<Hit> = here.map(hit).collect();
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
            store.upsert(batch).await.unwrap();
        }
        let probes: Vec<_> = (0..64u128)
            .map(|n| {
                let collection = ["office", "hall", "lone", "empty"][(n % 4) as usize];
                probe(collection, vector(n + 7000), [None, Some(1), Some(3), Some(100)][(n / 4 % 4) as usize])
            })
            .collect();
        let found = store.search(&probes).await.unwrap();
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
        store.upsert(&faces).await.unwrap();

        let probes = [
            probe("office", near.clone(), None),
            probe("hall", near.clone(), Some(1)),
            probe("office", near, Some(60)),
        ];
        let found = store.search(&probes).await.unwrap();
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
async fn a_probe_of_another_model_is_refused() {
    each_server(|store| async move {
        store.upsert(&[face(1, 1, "office")]).await.unwrap();
        let error = store.search(&[probe("office", vec![1.0; DIM + 1], None)]).await.unwrap_err();
        assert!(matches!(error, VecError::Rejected(_)), "{error}");
    })
    .await;
}
