//! The three stores for one test, and faces as unit vectors at angles. No assertion lives here.

use std::time::{Duration, SystemTime};

use facewire_devstack::qdrant::LocalQdrant;
use facewire_devstack::testing::TestDatabase;
use facewire_domain::{
    Against, CameraId, Candidate as Best, CollectionId, CropId, Decision, FaceId, Hit, ImageHash, Intent, Outcome,
    PersonId, Stage, Status,
};
use facewire_gallery::{Candidate, Enrolled, Gallery};
use facewire_store_object::{ImageKey, ImageStore};
use facewire_store_pg::{Actor, CropHead, Ending, KeptFace, NewFace, Store};
use facewire_store_vec::{DECISION, Probe, VecStore};
use tempfile::TempDir;
use time::OffsetDateTime;

const DIM: u32 = 8;
const MODEL: &str = "test@1:00000000";

/// The stores of one test, gone with it.
pub(crate) struct World {
    pub(crate) gallery: Gallery,
    pub(crate) images: ImageStore,
    qdrant: LocalQdrant,
    _database: TestDatabase,
    directory: TempDir,
}

impl World {
    pub(crate) async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let database = facewire_devstack::testing::database().await.unwrap();
        let options =
            facewire_store_pg::Options { url: database.url().into(), max_connections: 4, ..Default::default() };
        let store = Store::connect(&options).await.unwrap();
        store.migrate().await.unwrap();
        let qdrant = LocalQdrant::start(&directory.path().join("points"), ([127, 0, 0, 1], 0).into()).await.unwrap();
        let options = facewire_store_vec::Options { url: qdrant.url(), ..Default::default() };
        let vectors = VecStore::connect(&options).unwrap();
        vectors.ensure(MODEL, DIM).await.unwrap();
        let options = facewire_store_object::Options::default().or_directory(&directory.path().join("images"));
        let images = ImageStore::connect(&options).unwrap();
        let gallery = Gallery { store, vectors, images: Some(images.clone()), model: MODEL.to_owned(), dim: DIM };
        Self { gallery, images, qdrant, _database: database, directory }
    }

    pub(crate) async fn end(self) {
        self.qdrant.shutdown().await;
    }

    /// The index answers no call, or answers again.
    pub(crate) fn index_is_away(&self, away: bool) {
        self.qdrant.faults().require_key(away.then_some("another"));
    }

    /// As if this image had been kept an hour from now.
    pub(crate) fn keep_later(&self, key: &ImageKey) {
        let path = self.directory.path().join("images").join(key.to_string());
        let file = std::fs::File::options().write(true).open(path).unwrap();
        file.set_modified(SystemTime::now() + Duration::from_secs(3600)).unwrap();
    }

    /// What a search at that angle finds.
    pub(crate) async fn hits(&self, degrees: f32) -> Vec<Hit> {
        self.hits_among(degrees, Against::Faces).await
    }

    /// The same among these faces alone.
    pub(crate) async fn hits_among(&self, degrees: f32, against: Against) -> Vec<Hit> {
        self.gallery.vectors.search(&[probe(degrees, against)]).await.unwrap().remove(0).unwrap()
    }

    /// What a search at that angle finds, as people have corrected it.
    pub(crate) async fn corrected(&self, degrees: f32) -> Vec<Hit> {
        self.gallery.search(&[probe(degrees, Against::Faces)]).await.unwrap().remove(0).unwrap().hits
    }

    /// The nearest person.
    pub(crate) async fn nearest(&self, degrees: f32) -> Option<PersonId> {
        let hits = self.hits(degrees).await;
        hits.into_iter().max_by(|a, b| a.similarity.total_cmp(&b.similarity)).map(|hit| hit.person)
    }

    /// Enrols faces of these subjects at these angles.
    pub(crate) async fn enrolled(&self, faces: &[(&str, f32)]) -> Vec<FaceId> {
        let batch: Vec<Candidate> = faces.iter().map(|(subject, degrees)| candidate(subject, *degrees)).collect();
        let answers = self.gallery.enrol(&batch).await.unwrap();
        answers
            .into_iter()
            .map(|answer| match answer {
                Enrolled::Done { face, .. } => face,
                other => panic!("{other:?}"),
            })
            .collect()
    }
}

fn probe(degrees: f32, against: Against) -> Probe {
    Probe { collection: office(), embedding: at(degrees), limit: None, persons: DECISION, against }
}

pub(crate) fn by() -> Actor {
    Actor::named("a test")
}

pub(crate) fn office() -> CollectionId {
    "office".parse().unwrap()
}

pub(crate) fn person(subject: &str) -> PersonId {
    PersonId::derive(&office(), &subject.parse().unwrap())
}

/// A unit vector in the plane of the first two numbers.
pub(crate) fn at(degrees: f32) -> Vec<f32> {
    let mut vector = vec![0.0; DIM as usize];
    (vector[0], vector[1]) = (degrees.to_radians().cos(), degrees.to_radians().sin());
    vector
}

pub(crate) fn image_of(subject: &str, degrees: f32) -> ImageHash {
    ImageHash::of(format!("{subject} at {degrees}").as_bytes())
}

/// Came with a crop of its own, of which no row is known.
pub(crate) fn candidate(subject: &str, degrees: f32) -> Candidate {
    let image_hash = image_of(subject, degrees);
    let captured_at = OffsetDateTime::UNIX_EPOCH;
    let face = NewFace {
        collection: office(),
        subject: subject.parse().unwrap(),
        name: None,
        image_hash,
        asset: None,
        embedding: at(degrees),
        model: MODEL.to_owned(),
        bounding_box: None,
        landmarks: None,
        quality: None,
        crop: Some(CropId::derive(&office(), &"desk".parse().unwrap(), captured_at, &image_hash)),
        captured_at,
    };
    Candidate { face, conflict_from: None }
}

/// A face without a person of that image, at that angle.
pub(crate) fn kept_of(world: &World, image_hash: ImageHash, degrees: f32) -> KeptFace {
    let captured_at = OffsetDateTime::UNIX_EPOCH;
    let crop = CropId::derive(&office(), &"desk".parse().unwrap(), captured_at, &image_hash);
    KeptFace {
        face: FaceId::of_crop(crop, 0),
        collection: office(),
        crop,
        face_index: 0,
        image_hash,
        asset: None,
        embedding: at(degrees),
        model: world.gallery.model.clone(),
        bounding_box: None,
        landmarks: None,
        quality: None,
        captured_at,
        matched: None,
    }
}

/// The ending of an image of which no face is kept, with its crop's row.
pub(crate) async fn recognised(world: &World, subject: &str, image_hash: ImageHash) {
    let (camera, now): (CameraId, _) = ("desk".parse().unwrap(), OffsetDateTime::UNIX_EPOCH);
    let best = Best { person: person(subject), face: uuid::Uuid::from_u128(8).into(), similarity: 0.5 };
    let ending = Ending {
        crop: CropHead {
            crop: CropId::derive(&office(), &camera, now, &image_hash),
            collection: office(),
            camera,
            captured_at: now,
            received_at: now,
            image_hash,
            intent: Intent::Recognize,
            subject: None,
            frame: false,
        },
        face_index: 1,
        face_count: 2,
        outcome: Outcome::success(Status::Matched, Stage::Match),
        quality: None,
        bounding_box: None,
        decision: Some(Decision { matched: true, threshold: 0.375, best: Some(best), ..Decision::default() }),
        person: None,
        face: None,
        model: None,
        times: Vec::new(),
        finished_at: None,
    };
    assert!(world.gallery.store.finish(&[ending]).await.unwrap().iter().all(Result::is_ok));
}
