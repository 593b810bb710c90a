//! What a producer asks of single crops beside who it is: the embedding alone, the nearest persons, a rate of its own, an id
//! of the image. What is told to the reply subject, and what is stored.

use facewire_bus::{Pending, Requests};
use facewire_composition::Parts;
use facewire_contracts::{headers, v1};
use facewire_domain::{FaceId, ImageHash, KeepFaces, KeepImages};
use facewire_runtime::{Pipeline, Shutdown};
use facewire_store_object::ImageStore;
use facewire_store_pg::{Actor, CollectionPolicy};
use tempfile::TempDir;

use super::TIMEOUT;
use super::pictures::Faces;
use super::shot::{OFFICE, Shot};
use super::world::World;

/// A world whose collection keeps all that it can, and somebody who waits for replies.
struct Asking {
    world: World,
    images: ImageStore,
    requests: Requests,
    _replies: Pipeline,
    _directory: TempDir,
}

impl Asking {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options = facewire_store_object::Options::default().or_directory(&directory.path().join("images"));
        let images = ImageStore::connect(&options).unwrap();
        let world = World::new().await;
        let policy = CollectionPolicy {
            keep_faces: KeepFaces::All,
            keep_images: KeepImages::Original,
            ..CollectionPolicy::default()
        };
        world.store.create_collection(&OFFICE.parse().unwrap(), &policy, &Actor::named("a test")).await.unwrap();
        let (requests, replies) = world.bus.requests(16).await.unwrap();
        let mut pipeline = Pipeline::new();
        pipeline.spawn("replies", replies.run(Shutdown::new(TIMEOUT)));
        Self { world, images, requests, _replies: pipeline, _directory: directory }
    }

    fn parts(&self) -> Parts {
        Parts { images: Some(self.images.clone()), ..self.world.parts() }
    }

    /// Publishes with a reply subject.
    async fn publish(&self, shot: Shot) -> Pending {
        let call = self.requests.begin().unwrap();
        self.world.publish(&shot.header(headers::REPLY_TO, call.reply_to())).await;
        call
    }

    /// The replies of every face, and what RESULTS has of the camera: as many.
    async fn ask(&mut self, shot: Shot) -> (Vec<v1::Result>, Vec<v1::Result>) {
        let camera = shot.camera.clone();
        let mut call = self.publish(shot).await;
        let replies = call.all(TIMEOUT).await.unwrap();
        let mut results = Vec::new();
        for _ in &replies {
            results.push(self.world.result(camera.as_str()).await);
        }
        results.sort_by_key(|result| result.face_index);
        (replies, results)
    }

    async fn ask_one(&mut self, shot: Shot) -> (v1::Result, v1::Result) {
        let (mut replies, mut results) = self.ask(shot).await;
        assert_eq!(replies.len(), 1);
        (replies.remove(0), results.remove(0))
    }

    async fn kept_images(&self) -> usize {
        self.images.list(None, None, 1000).await.unwrap().objects.len()
    }
}

/// A result without what only replies tell, and that.
fn split(mut reply: v1::Result) -> (v1::Result, v1::Reply) {
    // Where there is nothing to tell, the copy is the result.
    let told = reply.reply.take().unwrap_or_default();
    (reply, told)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_extraction_tells_the_embedding_to_whoever_asked_and_stores_nothing() {
    let faces = Faces::fetch().await;
    let mut asking = Asking::new().await;
    let services = asking.world.start_all(&asking.parts(), facewire_match::Options::default());
    let extract = |shot: Shot| shot.header(headers::INTENT, "extract");
    let photo = std::fs::read(&faces.obama().enroll).unwrap();
    let (reply, result) = asking.ask_one(extract(Shot::of("door", photo.clone()))).await;
    let (reply, told) = split(reply);
    assert_eq!((reply.status.as_str(), reply.intent.as_str()), ("extracted", "extract"), "{reply:?}");
    let (_, expected) = asking.world.models.embed(&photo);
    let cosine: f32 = told.embedding.iter().zip(&expected).map(|(a, b)| a * b).sum();
    assert!(told.embedding.len() == expected.len() && cosine > 0.999, "{cosine}");
    assert_eq!((told.landmarks.len(), reply.decision.as_ref()), (5, None));

    // RESULTS has the same without the embedding, and so has the row; no face and no image is kept.
    assert_eq!(result, reply);
    let life = asking.world.store.why(reply.crop_id.parse().unwrap()).await.unwrap().unwrap();
    let ending = life.endings.first().unwrap();
    assert_eq!(
        (ending.status.as_str(), ending.decision.as_ref(), life.crop.intent.as_str()),
        ("extracted", None, "extract")
    );
    assert!(ending.model.is_some() && ending.quality.is_some());
    let face = FaceId::of_crop(reply.crop_id.parse().unwrap(), 0);
    assert!(asking.world.store.faces(&[face]).await.unwrap().is_empty());
    assert_eq!((asking.kept_images().await, reply.face_id.as_ref()), (0, None));

    // Every face of a frame; and one that is rejected says why, and has no embedding.
    let (frame, _) = asking.ask(extract(Shot::photo("hall", &faces.group()).frame())).await;
    assert_eq!(frame.len(), 6);
    let told: Vec<(v1::Result, v1::Reply)> = frame.into_iter().map(split).collect();
    let extracted = told.iter().filter(|(result, _)| result.status == "extracted");
    assert!(extracted.clone().count() > 0 && extracted.clone().all(|(_, told)| told.embedding.len() == expected.len()));
    let (doubtful, _) = asking.ask_one(extract(Shot::photo("group", &faces.group()))).await;
    assert_eq!(doubtful.failure_reason.as_deref(), Some("multiple_faces"));
    assert!(split(doubtful).1.embedding.is_empty());
    assert_eq!(asking.kept_images().await, 0);

    // Without anybody to tell it to, it is refused.
    let refused = asking.world.ask(&extract(Shot::of("nobody", photo))).await;
    assert_eq!((refused.status.as_str(), refused.failure_reason.as_deref()), ("rejected", Some("invalid_message")));
    assert!(refused.detail.unwrap().message.unwrap().contains("Facewire-Reply-To"));
    asking.world.settled(4, 9).await;
    services.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn candidates_are_told_to_whoever_asked_and_hidden_people_to_nobody() {
    let faces = Faces::fetch().await;
    let mut asking = Asking::new().await;
    let services = asking.world.start_all(&asking.parts(), facewire_match::Options::default());
    let (obama, biden) = (faces.obama(), faces.biden());
    let photo = std::fs::read(&obama.enroll).unwrap();
    let darker = super::pictures::changed(&photo, |image| image.clone().map(|value| value.saturating_sub(3)));
    for (camera, image, person) in
        [("a", photo, &obama), ("b", darker, &obama), ("c", std::fs::read(&biden.enroll).unwrap(), &biden)]
    {
        let result = asking.world.ask(&Shot::of(camera, image).enroll(person.subject, person.name)).await;
        assert_eq!(result.status, "enrolled", "{result:?}");
    }
    let probe = |camera| Shot::photo(camera, &obama.probes[0]).header(headers::CANDIDATES, "5");
    let (reply, result) = asking.ask_one(probe("door")).await;
    let (reply, told) = split(reply);
    assert_eq!(result, reply, "RESULTS has none of it");
    let candidates = told.candidates;
    let named: Vec<&str> = candidates.iter().map(|person| person.external_id.as_str()).collect();
    assert_eq!(named, ["barack-obama", "joe-biden"], "best first, and one entry a person");
    assert!(candidates[0].similarity > candidates[1].similarity && candidates[1].similarity.is_some());

    // A stranger's nearest too; none where none are asked for.
    let (stranger, _) =
        asking.ask_one(Shot::photo("stranger", &faces.stranger()).header(headers::CANDIDATES, "1")).await;
    assert_eq!(stranger.status, "no_match");
    assert_eq!(split(stranger).1.candidates.len(), 1);
    let (plain, _) = asking.ask_one(Shot::photo("plain", &obama.probes[0])).await;
    let told = split(plain).1;
    assert!(told.candidates.is_empty() && told.landmarks.len() == 5);

    let hidden = candidates[1].person_id.parse().unwrap();
    assert!(asking.world.store.hide_person(hidden, true, &Actor::named("a test")).await.unwrap());
    let (reply, _) = asking.ask_one(probe("later")).await;
    let named: Vec<String> = split(reply).1.candidates.into_iter().map(|person| person.external_id).collect();
    assert_eq!(named, ["barack-obama"]);
    services.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crop_asks_for_a_rate_of_its_own() {
    let faces = Faces::fetch().await;
    let mut world = World::new().await;
    // Everybody's fixed threshold, which the request's rate stands above.
    let services = world.start_matching(facewire_match::Options { threshold: Some(0.99), ..Default::default() });
    let obama = faces.obama();
    let enrolled = world.ask(&Shot::photo("desk", &obama.enroll).enroll(obama.subject, obama.name)).await;
    assert_eq!(enrolled.status, "enrolled", "{enrolled:?}");
    let general = world.ask(&Shot::photo("general", &obama.probes[0])).await;
    assert_eq!(general.failure_reason.as_deref(), Some("below_threshold"));
    let calibration = world.models.calibration().unwrap();
    for (camera, rate) in [("lax", 0.01), ("strict", 0.0001)] {
        let asked = world.ask(&Shot::photo(camera, &obama.probes[0]).header(headers::FPIR, &rate.to_string())).await;
        let decision = asked.decision.unwrap();
        assert_eq!((decision.fpir, decision.calibration.as_deref()), (Some(rate), Some(calibration.version.as_str())));
        let expected = f64::from(calibration.threshold_for(rate, 1));
        assert!((decision.threshold - expected).abs() < 1e-6, "{decision:?}");
    }
    let both = Shot::photo("both", &obama.probes[0]).header(headers::FPIR, "0.01").header(headers::THRESHOLD, "0.4");
    let refused = world.ask(&both).await;
    assert_eq!(refused.failure_reason.as_deref(), Some("invalid_message"), "{refused:?}");
    services.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn faces_carry_the_producers_id_of_their_image() {
    let faces = Faces::fetch().await;
    let mut asking = Asking::new().await;
    let services = asking.world.start_all(&asking.parts(), facewire_match::Options::default());
    let (obama, biden) = (faces.obama(), faces.biden());
    let enrolled = Shot::photo("desk", &obama.enroll).enroll(obama.subject, obama.name);
    let enrolled = asking.world.ask(&enrolled.header(headers::ASSET, "album/7 left")).await;
    let kept = asking.world.ask(&Shot::photo("door", &biden.enroll).header(headers::ASSET, "album/8")).await;
    let plain = asking.world.ask(&Shot::photo("hall", &faces.stranger())).await;
    for (result, asset) in [(&enrolled, Some("album/7 left")), (&kept, Some("album/8")), (&plain, None)] {
        let face: FaceId = result.face_id.as_deref().expect("a kept face").parse().unwrap();
        let record = asking.world.store.faces(&[face]).await.unwrap().remove(0).record;
        assert_eq!(record.asset.as_deref(), asset, "{result:?}");
    }
    // The same image again, under another crop and the same id: its face has its row already. The same bytes too.
    let again = asking.world.ask(&Shot::photo("door-2", &biden.enroll).header(headers::ASSET, "album/8")).await;
    assert_eq!((again.face_id.as_ref(), again.crop_id == kept.crop_id), (kept.face_id.as_ref(), false));
    let same_bytes = asking.world.ask(&Shot::photo("hall-2", &faces.stranger())).await;
    assert_eq!(same_bytes.face_id, plain.face_id);
    assert_eq!(plain.image_hash, ImageHash::of(&std::fs::read(faces.stranger()).unwrap()).to_string());
    services.stop().await;
}
