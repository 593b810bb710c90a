//! `facewire faces use-head` where a switch was interrupted: the stores are as the switch itself leaves them, and the command finishes
//! what follows it, once. That a gallery goes behind a head and back is tested with the chain. And a head that nothing could judge with
//! is not trained to be used at once.

use std::path::Path;

use facewire_domain::{FaceId, HeadState, ImageHash, JobKind};
use facewire_inference::{HeadFile, builtin_manifest};
use facewire_store_pg::{AuditFilter, KeptFace, NewFace, NewHead, Store, Switch};
use facewire_store_vec::{Options, VecStore};
use facewire_training::{Faces, Settings, Shape, Trainer};
use serde_json::{Value, json};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::jobs::{Operator, by, job, kept, object, office, said, store, succeeded, taken};

/// Faces of the gallery.
pub(crate) const FACES: u64 = 5;

/// The head that a training begins with; nothing was learnt.
fn head() -> HeadFile {
    let (shape, people, each) = (Shape::default(), 60, 5);
    // No face has anything in common with another: nothing is projected here.
    let mut values = vec![0.0; people * each * shape.input];
    values.iter_mut().step_by(shape.input + 1).for_each(|value| *value = 1.0);
    let whose = (0..people as u32).flat_map(|person| [person; 5]).collect();
    let faces = Faces::new(shape.input, values, whose).unwrap();
    let head = Trainer::new(faces, Settings { shape, ..Settings::default() }).unwrap().best();
    HeadFile::of(Path::new("head.onnx"), head.to_onnx()).unwrap()
}

/// Keeps it as the job that trained it would; its id.
async fn keep(store: &Store, model: &str, head: &HeadFile) -> Uuid {
    let (collection, nothing, verdict) = (office(), json!({}), json!({ "accepted": true }));
    let new = NewHead {
        collection: &collection,
        model,
        fingerprint: &head.spec().fingerprint,
        dim: u32::try_from(head.spec().output).unwrap(),
        params: &nothing,
        training: &nothing,
        verdict: &verdict,
        state: HeadState::Accepted,
        onnx: head.bytes(),
    };
    let token = taken(store, job(store, JobKind::Train).await).await;
    store.put_head(token, &new, &by()).await.unwrap().unwrap()
}

/// Where a switch dies.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dies {
    /// Postgres has switched, Qdrant has not.
    Between,
    /// Both have.
    After,
}

/// Brings faces from one model to another up to the switch, and no further.
pub(crate) async fn switch(
    store: &Store,
    vectors: &VecStore,
    faces: &[KeptFace],
    [from, to]: [&str; 2],
    dim: u32,
    dies: Dies,
) {
    let embedded = |(place, face): (usize, &KeptFace)| -> (FaceId, Vec<f32>) {
        let mut embedding = vec![0.0; dim as usize];
        embedding[place] = 1.0;
        (face.face, embedding)
    };
    let embedded: Vec<(FaceId, Vec<f32>)> = faces.iter().enumerate().map(embedded).collect();
    store.put_reembeddings(to, &embedded).await.unwrap();
    let successor = vectors.successor(to, dim).await.unwrap();
    assert_eq!(store.switch_reembedded(from, to, dim, false).await.unwrap(), Switch::Done);
    if dies == Dies::After {
        vectors.switch_alias(&successor).await.unwrap();
    }
}

/// By which models the faces' own embeddings are.
pub(crate) async fn models(store: &Store) -> Vec<String> {
    store.models_of_faces(100).await.unwrap().into_iter().map(|of| of.model).collect()
}

/// The gallery's faces, which are nobody's.
pub(crate) async fn keep_faces(store: &Store, pack: &str, dim: u32) -> Vec<KeptFace> {
    store.claim_serving(pack, dim).await.unwrap();
    let faces: Vec<KeptFace> = (0..FACES).map(|number| kept(number, pack, dim as usize)).collect();
    assert!(store.keep_faces(&faces).await.unwrap().iter().all(Result::is_ok));
    faces
}

/// Somebody of the gallery: what a match needs is asked for collections with people.
pub(crate) async fn enrol(store: &Store, pack: &str, dim: usize) {
    let mut embedding = vec![0.0; dim];
    embedding[0] = 1.0;
    let face = NewFace {
        collection: office(),
        subject: "ada".parse().unwrap(),
        name: None,
        image_hash: ImageHash::of(b"ada"),
        asset: None,
        embedding,
        model: pack.to_owned(),
        bounding_box: None,
        landmarks: None,
        quality: None,
        crop: None,
        captured_at: OffsetDateTime::UNIX_EPOCH,
    };
    assert!(store.begin_enrolment(&[face]).await.unwrap().iter().all(Result::is_ok));
}

/// The index as a process sees it that has not asked before.
pub(crate) fn index(operator: &Operator) -> VecStore {
    VecStore::connect(&Options { url: operator.stack.qdrant_url.clone(), ..Options::default() }).unwrap()
}

/// What the audit trail says of changes, the newest first.
async fn changes(store: &Store) -> Vec<Value> {
    let filter = AuditFilter { kind: Some("head.changed".to_owned()), ..AuditFilter::default() };
    let trail = store.audit_trail(&filter, None, 100).await.unwrap();
    trail.into_iter().map(|event| event.detail["state"].clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_follows_an_interrupted_switch_is_finished_and_told_once() {
    let operator = Operator::migrated().await;
    let run = |arguments: &[&str]| operator.run(arguments);
    let (store, head) = (store(&operator.stack.postgres_url).await, head());
    let ensured = object(&run(&["faces", "ensure-collection", "--json"]));
    let (pack, dim) = (ensured["model"].as_str().unwrap(), u32::try_from(ensured["dim"].as_u64().unwrap()).unwrap());
    let faces = keep_faces(&store, pack, dim).await;
    let id = keep(&store, pack, &head).await;
    let behind = format!("{pack}+{}", head.spec().fingerprint);
    let vectors = index(&operator);
    let refused = |arguments: &[&str]| {
        let output = run(&[&["faces", "use-head"], arguments].concat());
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        said(&output)
    };
    let finished = |arguments: &[&str]| {
        let output = run(&[&["faces", "use-head"], arguments].concat());
        let told = succeeded(&output);
        assert!(told.contains("5 faces brought to"), "{told}");
        said(&output)
    };
    let state = async || store.head(id).await.unwrap().unwrap().state;

    let output = u32::try_from(head.spec().output).unwrap();
    switch(&store, &vectors, &faces, [pack, &behind], output, Dies::Between).await;
    assert_eq!((models(&store).await, state().await), (vec![pack.to_owned()], HeadState::Accepted));
    let id = id.to_string();
    let left = finished(&[&id, "--batch", "2"]);
    assert!(left.contains("set models.head = "), "{left}");
    let again = refused(&[&id]);
    assert!(again.contains("serves already") && !again.contains("models.head"), "{again}");
    assert_eq!((models(&store).await, state().await), (vec![behind.clone()], HeadState::Serving));
    assert_eq!(changes(&store).await, [json!("serving")]);
    // The index followed, with every face.
    vectors.ensure(&behind, output).await.unwrap();
    let ids: Vec<FaceId> = faces.iter().map(|face| face.face).collect();
    assert_eq!(vectors.retrieve(&ids, false).await.unwrap().len(), faces.len());

    switch(&store, &vectors, &faces, [&behind, pack], dim, Dies::After).await;
    let left = finished(&["--revert"]);
    assert!(left.contains("remove models.head"), "{left}");
    let again = refused(&["--revert"]);
    assert!(again.contains("no head serves") && !again.contains("models.head"), "{again}");
    assert_eq!((models(&store).await, state().await), (vec![pack.to_owned()], HeadState::Retired));
    assert_eq!(changes(&store).await, [json!("retired"), json!("serving")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_nothing_could_judge_with_is_not_trained_to_be_used_at_once() {
    let operator = Operator::migrated().await;
    let (store, pack) = (store(&operator.stack.postgres_url).await, builtin_manifest("default").unwrap());
    let train = ["faces", "train-matching", "--collection", "office", "--apply", "--force"];
    let unserved = operator.run(&train);
    assert!(unserved.status.code() == Some(1) && said(&unserved).contains("no model serves yet"), "{unserved:?}");
    store.claim_serving(&pack.fingerprint(), u32::try_from(pack.dim()).unwrap()).await.unwrap();
    enrol(&store, &pack.fingerprint(), pack.dim()).await;
    let refused = operator.run(&train);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    for part in ["in office", "--project-only", "facewire calibrate --head", "match.threshold", "No job was started"] {
        assert!(said(&refused).contains(part), "{part}: {refused:?}");
    }
    assert!(succeeded(&operator.run(&["jobs", "list"])).contains("no job"));
}
