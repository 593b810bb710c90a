//! Faces that share one run: each gets its own embedding, and what is wrong with one ends that one alone.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use facewire_bus::{Bus, Delivery, Message, StageOptions};
use facewire_config::Secret;
use facewire_contracts::admission::admission;
use facewire_contracts::{Message as _, ProducerHeaders, convert, subjects, v1};
use facewire_devstack::testing::{models, nats};
use facewire_domain::{Gate, Stage};
use facewire_embed_gpu::{Embed, MakeEmbedder, Options};
use facewire_inference::manifest::{ColourOrder, EmbedderSpec, ModelFile};
use facewire_inference::{Observed, OnnxEmbedder, OnnxRuntime, SessionOptions};
use facewire_runtime::{Inbox, Outbox, Pipeline, Shutdown};
use facewire_vision::{AlignedFace, RgbImage};
use time::OffsetDateTime;

use crate::onnx::{free, mean_colour_model};

/// Longest wait for anything that must come true.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Messages of the one batch.
const BATCH: usize = 8;

/// A face of this grey becomes a vector of zeros: the model's input is `(x − 100) / 100`.
const NO_DIRECTION: u8 = 100;

/// A pack's embedder that takes eight faces with their mirror images; it notes how many faces each run gets.
async fn embedders(runs: Arc<Mutex<Vec<usize>>>) -> MakeEmbedder {
    let runtime = OnnxRuntime::load(&models().await.unwrap().0).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("means.onnx");
    std::fs::write(&path, mean_colour_model(&free())).unwrap();
    let file = ModelFile { name: "means.onnx".to_owned(), sha256: String::new() };
    let (max_rows, colour) = (2 * BATCH, ColourOrder::Rgb);
    let spec = EmbedderSpec { file, dim: 3, mean: 100.0, scale: 100.0, colour, max_rows, flip: true, gpu: None };
    Arc::new(move |_| {
        let model = runtime.open(&directory.path().join("means.onnx"), &SessionOptions::default())?;
        let inner = OnnxEmbedder::new(model, &spec, "means@1:0".to_owned())?;
        let runs = Arc::clone(&runs);
        let before = move |faces: &[AlignedFace]| {
            runs.lock().unwrap().push(faces.len());
            Ok(())
        };
        Ok(Box::new(Observed { inner: Box::new(inner), before }))
    })
}

fn crop(camera: &str) -> v1::Crop {
    let (subject, now) = (format!("crops.office.{camera}"), OffsetDateTime::now_utc());
    admission(&subject, &ProducerHeaders::default(), now, camera.as_bytes()).unwrap().crop
}

async fn publish(bus: &Bus, camera: &str, rgb: Bytes) {
    let task = v1::EmbedTask { crop: Some(crop(camera)), face: None, rgb };
    let (subject, payload) = (subjects::stage(Stage::Embed, "office"), task.encode_to_vec().into());
    bus.publish(Message { subject, payload, ..Message::default() }).await.unwrap();
}

fn rgb(colour: [u8; 3]) -> Bytes {
    RgbImage::filled(AlignedFace::SIDE, AlignedFace::SIDE, colour).into_data()
}

/// The next stage's messages, by camera.
async fn taken<T>(
    bus: &Bus,
    stage: Stage,
    count: usize,
    read: impl Fn(&Delivery) -> (String, T),
) -> BTreeMap<String, T> {
    let shutdown = Shutdown::new(TIMEOUT);
    let mut pipeline = Pipeline::within("test", &shutdown);
    let (mut items, done): (Inbox<Delivery>, Outbox<_>) =
        bus.stage(&mut pipeline, stage, &StageOptions::default(), &shutdown);
    let running = tokio::spawn({
        let shutdown = shutdown.clone();
        async move { pipeline.run(&shutdown).await }
    });
    let mut taken = BTreeMap::new();
    while taken.len() < count {
        let delivery = tokio::time::timeout(TIMEOUT, items.recv()).await.unwrap().unwrap();
        taken.extend([read(&delivery)]);
        done.send(delivery.done(Vec::new())).await.unwrap();
    }
    shutdown.drain();
    drop((items, done));
    running.await.unwrap().unwrap();
    taken
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_one_run_and_each_face_ends_for_itself() {
    let nats = nats().await.unwrap();
    let options = facewire_bus::Options { url: Secret::new(nats.url()), ..Default::default() };
    let bus = Bus::connect(&options, "embed batches").await.unwrap();
    bus.migrate_streams(&Stage::ALL.map(|stage| (stage, StageOptions::default())), TIMEOUT).await.unwrap();
    let colours = [[250, 100, 100], [100, 250, 100], [100, 100, 250], [0, 100, 100], [200, 50, 100], [1, 2, 3]];
    for (number, colour) in colours.iter().enumerate() {
        publish(&bus, &format!("good-{number}"), rgb(*colour)).await;
        match number {
            2 => publish(&bus, "no-direction", rgb([NO_DIRECTION; 3])).await,
            4 => publish(&bus, "no-pixels", Bytes::from_static(b"three")).await,
            _ => {}
        }
    }
    let runs = Arc::<Mutex<Vec<usize>>>::default();
    let embed = Embed {
        bus: bus.clone(),
        embedder: embedders(Arc::clone(&runs)).await,
        model: "means@1:0".to_owned(),
        max_batch: Some(BATCH),
        score: None,
        gate: Gate::default(),
        // A batch ends when it is full: no clock decides.
        options: Options {
            threads: Some(1),
            batch: BATCH,
            batch_wait: Duration::from_secs(3600),
            ..Options::default()
        },
    };
    let shutdown = Shutdown::new(TIMEOUT);
    let running = tokio::spawn(embed.run(shutdown.clone()));

    let matches = taken(&bus, Stage::Match, colours.len(), |delivery| {
        let task: v1::MatchTask = convert::decode(delivery.payload.clone(), "MatchTask").unwrap();
        (task.crop.unwrap().camera, (task.embedding, task.model))
    });
    let matches = matches.await;
    for (number, colour) in colours.iter().enumerate() {
        let raw = colour.map(|value| (f32::from(value) - 100.0) / 100.0);
        let length = raw.iter().map(|value| value * value).sum::<f32>().sqrt();
        let (embedding, model) = &matches[&format!("good-{number}")];
        assert!(
            embedding.iter().zip(raw).all(|(got, raw)| (got - raw / length).abs() < 1e-3),
            "{number} {embedding:?}"
        );
        assert_eq!(model, "means@1:0");
    }
    let endings = taken(&bus, Stage::Enrich, 2, |delivery| {
        let task: v1::EnrichTask = convert::decode(delivery.payload.clone(), "EnrichTask").unwrap();
        let ending = task.ending.unwrap();
        (task.crop.unwrap().camera, (ending.status, ending.reason))
    });
    let failed = |reason: &str| ("failed".to_owned(), reason.to_owned());
    let expected = [("no-direction", failed("inference_error")), ("no-pixels", failed("invalid_message"))];
    assert_eq!(endings.await, expected.map(|(camera, ending)| (camera.to_owned(), ending)).into());
    assert_eq!(bus.stream_messages(subjects::DEAD).await.unwrap(), 1, "only what is no message is a dead letter");
    assert_eq!(*runs.lock().unwrap(), [1, BATCH - 1], "the trial of the session, and one run for all readable faces");

    shutdown.drain();
    running.await.unwrap().unwrap();
}
