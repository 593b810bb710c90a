//! Projection heads: trained where there is something to learn, refused where there is not, and the same whoever dies meanwhile.

use facewire_domain::{FaceId, HeadState, ImageHash, JobId, JobKind, JobState, PersonId, Quality};
use facewire_gallery::Erasure;
use facewire_store_pg::{Assignment, Enrolment, FaceQuality, HeadCheckpoint, HeadRecord, JobToken, NewFace};
use serde_json::{Value as JsonValue, json};
use time::OffsetDateTime;

use crate::world::{DIM, MODEL, World, by, office, quick};

/// People of a training, and faces of each.
const PEOPLE: u32 = 160;
const FACES: u32 = 8;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Near normal: the sum of twelve.
    fn normal(&mut self) -> f32 {
        (0..12).map(|_| (self.draw() >> 40) as f32 / (1u64 << 24) as f32).sum::<f32>() - 6.0
    }
}

/// How far people are from each other, and each of their faces from them, along every number.
#[derive(Clone, Copy)]
struct Domain {
    own: fn(usize) -> f32,
    noise: fn(usize) -> f32,
}

/// Who somebody is lies in the first half of the numbers; the second half is the picture, and varies more.
const NUISANCE: Domain =
    Domain { own: |i| if i < DIM / 2 { 1.0 } else { 0.0 }, noise: |i| if i < DIM / 2 { 0.2 } else { 1.2 } };

/// All directions are alike: there is nothing to learn that holds of other people.
const ALIKE: Domain = Domain { own: |_| 1.0, noise: |_| 0.7 };

/// Enrols so many people. Their points are not needed.
async fn plant(world: &World, domain: Domain, people: u32) -> Vec<FaceId> {
    let mut random = Random(u64::from(people));
    let mut faces = Vec::new();
    for person in 0..people {
        let centre: Vec<f32> = (0..DIM).map(|i| (domain.own)(i) * random.normal()).collect();
        for number in 0..FACES {
            let raw: Vec<f32> = (0..DIM).map(|i| centre[i] + (domain.noise)(i) * random.normal()).collect();
            let norm = raw.iter().map(|x| x * x).sum::<f32>().sqrt();
            faces.push(face(person, number, raw.iter().map(|x| x / norm).collect()));
        }
    }
    let answers = world.gallery.store.begin_enrolment(&faces).await.unwrap();
    let pending = answers.into_iter().map(|answer| match answer.unwrap() {
        Enrolment::Pending { face, .. } => face,
        other => panic!("{other:?}"),
    });
    pending.collect()
}

fn face(person: u32, number: u32, embedding: Vec<f32>) -> NewFace {
    let signals = Quality { score: 0.9, ..Quality::default() };
    NewFace {
        collection: office(),
        subject: format!("p{person}").parse().unwrap(),
        name: None,
        image_hash: ImageHash::of(format!("{person} {number}").as_bytes()),
        asset: None,
        embedding,
        model: MODEL.to_owned(),
        bounding_box: None,
        landmarks: None,
        quality: Some(FaceQuality { signals, status: "ok".to_owned() }),
        crop: None,
        captured_at: OffsetDateTime::UNIX_EPOCH,
    }
}

/// What such small embeddings need.
fn params(epochs: u32) -> JsonValue {
    json!({ "epochs": epochs, "patience": epochs, "learningRate": 3e-3 })
}

async fn head(world: &World, job: JobId) -> (HeadRecord, Vec<u8>) {
    let head = world.gallery.store.head_of_job(job).await.unwrap().unwrap();
    let onnx = world.gallery.store.head_onnx(head.head).await.unwrap().unwrap();
    (head, onnx)
}

async fn checkpoints(world: &World, job: JobId) -> Vec<HeadCheckpoint> {
    world.gallery.store.head_checkpoints(job).await.unwrap()
}

#[tokio::test]
async fn a_gain_that_exists_is_accepted_with_its_numbers() {
    let mut world = World::new().await;
    plant(&world, NUISANCE, PEOPLE).await;
    world.start(quick());
    let job = world.job(JobKind::Train, params(20)).await;
    let result = world.result(job).await;
    let counts = ["faces", "persons", "trained", "validated", "heldOut", "epochs"].map(|count| result[count].as_u64());
    assert_eq!(counts, [1280, 160, 96, 24, 40, 20].map(Some), "{result}");
    assert!(result["bestEpoch"].as_u64() > Some(0) && result["accepted"] == json!(true), "{result}");
    let (head, onnx) = head(&world, job).await;
    assert_eq!((head.state, head.model.as_str(), head.dim), (HeadState::Accepted, MODEL, DIM as u32 / 2));
    assert_eq!((head.collection, head.bytes), (Some(office()), onnx.len() as u64));
    assert_eq!((&result["headId"], head.fingerprint.len()), (&json!(head.head), 16));
    let verdict = head.verdict.unwrap();
    for gain in ["overRaw", "overPca"] {
        assert!(verdict[gain]["low"].as_f64() > Some(0.0), "{verdict}");
    }
    assert_eq!((&verdict["people"], &verdict["strangers"]), (&json!(20), &json!(20)));
    assert_eq!(head.training["history"].as_array().unwrap().len(), 20);
    assert_eq!(checkpoints(&world, job).await, [], "it has ended");
    world.stop().await;
}

#[tokio::test]
async fn where_there_is_nothing_to_learn_the_head_is_refused() {
    let mut world = World::new().await;
    plant(&world, ALIKE, PEOPLE).await;
    world.start(quick());
    let job = world.job(JobKind::Train, params(10)).await;
    let result = world.result(job).await;
    assert_eq!(result["accepted"], json!(false), "{result}");
    assert!(result["overRaw"]["low"].as_f64().is_some_and(|low| low <= 0.0), "{result}");
    assert!(result["tpir"]["raw"].is_number(), "{result}");
    assert_eq!(head(&world, job).await.0.state, HeadState::Refused);
    world.stop().await;
}

#[tokio::test]
async fn too_few_people_are_refused_with_the_numbers() {
    let mut world = World::new().await;
    plant(&world, NUISANCE, 30).await;
    world.start(quick());
    let ended = world.ended(world.job(JobKind::Train, params(3)).await).await;
    let error = ended.error.unwrap_or_default();
    assert_eq!(ended.state, JobState::Failed);
    for part in ["30 people", "5 faces", "80 are needed", "840 pairs"] {
        assert!(error.contains(part), "{part}: {error}");
    }
    let wrong = world.ended(world.job(JobKind::Train, json!({ "minFaces": 1 })).await).await;
    assert!(wrong.error.is_some_and(|error| error.contains("minFaces")));
    assert_eq!(world.gallery.store.heads(None, None, 10).await.unwrap(), []);
    world.stop().await;
}

/// A training whose second epoch is kept.
async fn after_two_epochs(world: &World, params: JsonValue) -> JobId {
    let job = world.job(JobKind::Train, params).await;
    world
        .until("the second epoch", async || {
            checkpoints(world, job).await.first().is_some_and(|last| last.epoch >= 2).then_some(())
        })
        .await;
    job
}

/// Waits until the second epoch is kept, and kills the worker.
async fn killed_after_two_epochs(world: &mut World, params: JsonValue) -> (JobId, HeadCheckpoint) {
    let job = after_two_epochs(world, params).await;
    world.kill().await;
    let left = checkpoints(world, job).await;
    assert_eq!((left.len(), world.record(job).await.state), (2, JobState::Running), "it was not done");
    (job, left[0].clone())
}

/// Another worker takes it over.
async fn taken_over(world: &mut World, job: JobId) -> JsonValue {
    world.start(quick());
    world.bus.publish_job(JobKind::Train, job, 1000).await.unwrap();
    let result = world.result(job).await;
    assert_eq!(world.record(job).await.attempt, 2);
    result
}

#[tokio::test]
async fn a_worker_that_dies_is_replaced_and_the_head_is_the_same_to_the_last_bit() {
    let mut world = World::new().await;
    let faces = plant(&world, NUISANCE, PEOPLE).await;
    let long = params(300);
    world.start(quick());
    let undisturbed = world.job(JobKind::Train, long.clone()).await;
    world.result(undisturbed).await;
    let (_, wanted) = head(&world, undisturbed).await;

    let (job, mut last) = killed_after_two_epochs(&mut world, long.clone()).await;
    // A mark by which is seen what was gone on from.
    last.history[0]["validationLoss"] = json!(77.0);
    let token = JobToken { job, attempt: 1 };
    assert!(world.gallery.store.put_head_checkpoint(token, &last).await.unwrap());
    taken_over(&mut world, job).await;
    let (resumed, onnx) = head(&world, job).await;
    assert!(onnx == wanted, "{} and {} bytes", onnx.len(), wanted.len());
    let history = resumed.training["history"].as_array().unwrap();
    assert_eq!((history.len(), &history[0]["validationLoss"]), (300, &json!(77.0)));

    // A face that is nobody's by then: what was learnt of it does not count.
    let (job, _) = killed_after_two_epochs(&mut world, long.clone()).await;
    world.gallery.reassign(&office(), &faces[..1], Assignment::to(None), &by()).await.unwrap().unwrap();
    let result = taken_over(&mut world, job).await;
    assert_eq!(result["faces"], json!(faces.len() - 1));
    let (_, without) = head(&world, job).await;
    let again = world.job(JobKind::Train, long).await;
    world.result(again).await;
    assert!(without != wanted && head(&world, again).await.1 == without);
    world.stop().await;
}

/// Erases somebody with all of their faces.
async fn erase(world: &World, person: u32) {
    let person = PersonId::derive(&office(), &format!("p{person}").parse().unwrap());
    let receipt = world.gallery.erase(&Erasure::Person(person), &by()).await.unwrap();
    assert_eq!((receipt.persons, receipt.faces), (1, u64::from(FACES)));
}

#[tokio::test]
async fn who_is_erased_while_it_runs_is_not_in_the_head() {
    let mut world = World::new().await;
    let faces = plant(&world, NUISANCE, PEOPLE).await;
    let long = params(300);
    world.start(quick());
    let job = after_two_epochs(&world, long.clone()).await;
    erase(&world, PEOPLE - 1).await;
    let result = world.result(job).await;
    let left = [u64::from((PEOPLE - 1) * FACES), u64::from(PEOPLE - 1), 300];
    assert_eq!(["faces", "persons", "epochs"].map(|count| result[count].as_u64()), left.map(Some), "{result}");
    assert_eq!((world.record(job).await.attempt, checkpoints(&world, job).await), (1, vec![]));

    // It is to the last bit what a training makes that has never seen them: nothing that was learnt of them is in it.
    let (_, onnx) = head(&world, job).await;
    let never = world.job(JobKind::Train, long.clone()).await;
    world.result(never).await;
    assert!(head(&world, never).await.1 == onnx);

    // A face that is nobody's by then is not erased: what runs goes on with it.
    let job = after_two_epochs(&world, long).await;
    world.gallery.reassign(&office(), &faces[..1], Assignment::to(None), &by()).await.unwrap().unwrap();
    assert_eq!(world.record(job).await.state, JobState::Running, "it was not done");
    assert_eq!(world.result(job).await["faces"], json!(left[0]));
    assert!(head(&world, job).await.1 == onnx);
    world.stop().await;
}

#[tokio::test]
async fn a_training_that_begins_anew_again_and_again_fails_and_says_why() {
    let mut world = World::new().await;
    plant(&world, NUISANCE, PEOPLE).await;
    world.start(quick());
    let job = world.job(JobKind::Train, params(10_000)).await;
    let mut seen: Option<HeadCheckpoint> = None;
    // After an erasure at most one more checkpoint is kept before it is noticed: every second one is noticed at the latest.
    for person in 0..PEOPLE / 2 {
        let next = world
            .until("another checkpoint, or the end", async || {
                if world.record(job).await.state.is_over() {
                    return Some(None);
                }
                let last = checkpoints(&world, job).await.into_iter().next()?;
                (seen.as_ref() != Some(&last)).then_some(Some(last))
            })
            .await;
        if next.is_none() {
            break;
        }
        seen = next;
        erase(&world, person).await;
    }
    let ended = world.ended(job).await;
    let error = ended.error.unwrap_or_default();
    assert_eq!((ended.state, ended.attempt), (JobState::Failed, 1), "{error}");
    assert!(error.contains("were erased or removed while it ran, 5 times"), "{error}");
    assert_eq!(checkpoints(&world, job).await, []);
    assert_eq!(world.gallery.store.heads(None, None, 10).await.unwrap(), []);
    world.stop().await;
}

#[tokio::test]
async fn a_cancelled_training_leaves_nothing() {
    let mut world = World::new().await;
    plant(&world, NUISANCE, PEOPLE).await;
    world.start(quick());
    let job = world.job(JobKind::Train, params(10_000)).await;
    let words = world
        .until("an epoch", async || {
            let phase = world.record(job).await.progress.phase?;
            phase.contains("validation loss").then_some(phase)
        })
        .await;
    assert!(words.starts_with("training: epoch ") && words.ends_with(" s left"), "{words}");
    world.gallery.store.cancel_job(job, &by()).await.unwrap();
    let ended = world.ended(job).await;
    assert_eq!((ended.state, ended.result), (JobState::Cancelled, None));
    assert_eq!(checkpoints(&world, job).await, []);
    assert_eq!(world.gallery.store.heads(None, None, 10).await.unwrap(), []);
    world.stop().await;
}
