//! A running jobs service with its queue, its database and its index, and faces as unit vectors around one axis a
//! person. No assertion about what it does lives here.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use facewire_bus::{Bus, StageOptions};
use facewire_config::Secret;
use facewire_devstack::testing::{TestDatabase, TestNats, TestQdrant};
use facewire_domain::{
    Against, ClusterId, CollectionId, CropId, FaceId, ImageHash, JobId, JobKind, JobState, PersonId, Quality, Stage,
};
use facewire_gallery::{Candidate, Enrolled, Gallery, RuleOptions};
use facewire_jobs::{Jobs, Options};
use facewire_runtime::{ServiceError, Shutdown};
use facewire_store_pg::{
    Actor, Claim, FaceQuality, JobRecord, JobToken, KeptFace, NewFace, Store, StoredFace, VectorState,
};
use facewire_store_vec::VecStore;
use serde_json::Value as JsonValue;
use time::OffsetDateTime;
use tokio::task::JoinHandle;

/// Longest wait for anything that must come true.
const DEADLINE: Duration = Duration::from_secs(120);

/// Numbers of an embedding: an axis for each person.
pub(crate) const DIM: usize = 24;
pub(crate) const MODEL: &str = "test@1:00000000";

/// People of lower axes are more alike than any of the others is to anybody: those others are noise and no cluster.
const ALIKE: usize = 8;

pub(crate) struct World {
    pub(crate) bus: Bus,
    pub(crate) gallery: Gallery,
    pub(crate) qdrant: TestQdrant,
    running: Vec<(Shutdown, JoinHandle<Result<(), ServiceError>>)>,
    _nats: TestNats,
    _database: TestDatabase,
}

impl World {
    /// Servers with streams, schema and index; no service runs yet.
    pub(crate) async fn new() -> Self {
        let nats = facewire_devstack::testing::nats().await.unwrap();
        let database = facewire_devstack::testing::database().await.unwrap();
        let qdrant = facewire_devstack::testing::qdrant().await.unwrap();
        // The server sets the streams' limits aside on the disk: small ones, so that tests need no room.
        let small = || "64MiB".parse().unwrap();
        let options = facewire_bus::Options {
            url: Secret::new(nats.url()),
            crops_max_bytes: small(),
            stage_max_bytes: small(),
            ..Default::default()
        };
        let bus = Bus::connect(&options, "jobs test").await.unwrap();
        bus.migrate_streams(&Stage::ALL.map(|stage| (stage, StageOptions::default())), DEADLINE).await.unwrap();
        let url = Secret::new(database.url());
        let store = Store::connect(&facewire_store_pg::Options { url, max_connections: 8, ..Default::default() })
            .await
            .unwrap();
        store.migrate().await.unwrap();
        let options = facewire_store_vec::Options { url: qdrant.url(), ..Default::default() };
        let vectors = VecStore::connect(&options).unwrap();
        let dim = DIM as u32;
        vectors.ensure(MODEL, dim).await.unwrap();
        let gallery = Gallery { store, vectors, images: None, model: MODEL.to_owned(), dim };
        Self { bus, gallery, qdrant, running: Vec::new(), _nats: nats, _database: database }
    }

    /// Starts an instance of the service.
    pub(crate) fn start(&mut self, options: Options) {
        let rules = RuleOptions {
            fpir: 0.01,
            threshold: Some(0.75),
            margin: Some(0.1),
            conflict_fpir: 0.001,
            conflict_similarity: Some(1.0),
            against: Against::Faces,
            collections: Default::default(),
        };
        let (bus, gallery) = (self.bus.clone(), self.gallery.clone());
        let service = Jobs { bus, gallery, rules, calibration: None, options };
        let shutdown = Shutdown::new(Duration::from_secs(20));
        self.running.push((shutdown.clone(), tokio::spawn(service.run(shutdown))));
    }

    /// Ends all instances; each of them in order.
    pub(crate) async fn stop(&mut self) {
        for (shutdown, task) in self.running.drain(..) {
            shutdown.drain();
            tokio::time::timeout(DEADLINE, task).await.unwrap().unwrap().unwrap();
        }
    }

    /// Drops all instances where they are, as killed processes would be.
    pub(crate) async fn kill(&mut self) {
        for (_, task) in self.running.drain(..) {
            task.abort();
            assert!(task.await.is_err());
        }
    }

    /// Keeps faces that are nobody's, with their points; ids as the faces.
    pub(crate) async fn keep(&self, faces: &[Face]) -> Vec<FaceId> {
        let kept: Vec<KeptFace> = faces.iter().map(|face| face.kept()).collect();
        for answer in self.gallery.store.keep_faces(&kept).await.unwrap() {
            answer.unwrap();
        }
        let ids: Vec<FaceId> = kept.iter().map(|face| face.face).collect();
        self.gallery.index_all(&ids).await.unwrap();
        ids
    }

    /// Enrols faces for one person of a name.
    pub(crate) async fn enrol(&self, subject: &str, faces: &[Face]) -> PersonId {
        let candidates: Vec<Candidate> = faces.iter().map(|face| face.candidate(subject)).collect();
        for answer in self.gallery.enrol(&candidates).await.unwrap() {
            assert!(matches!(answer, Enrolled::Done { .. }), "{answer:?}");
        }
        PersonId::derive(&office(), &subject.parse().unwrap())
    }

    /// Makes a job and publishes its message.
    pub(crate) async fn job(&self, kind: JobKind, params: JsonValue) -> JobId {
        let job = self.gallery.store.create_job(kind, &office(), &params, &by()).await.unwrap().unwrap();
        self.bus.publish_job(kind, job.job, job.attempt).await.unwrap();
        job.job
    }

    /// A job that runs, made by somebody and kept for `lease` by a worker that is this test.
    pub(crate) async fn taken(
        &self,
        collection: &CollectionId,
        kind: JobKind,
        params: JsonValue,
        lease: Duration,
    ) -> JobToken {
        let store = &self.gallery.store;
        let job = store.create_job(kind, collection, &params, &by()).await.unwrap().unwrap().job;
        match store.claim_job(job, "a test", lease, 9).await.unwrap() {
            Claim::Taken(record) => record.token(),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn record(&self, job: JobId) -> JobRecord {
        self.gallery.store.job(job).await.unwrap().unwrap()
    }

    /// The job once it is over.
    pub(crate) async fn ended(&self, job: JobId) -> JobRecord {
        self.until("the end of the job", async || {
            let record = self.record(job).await;
            record.state.is_over().then_some(record)
        })
        .await
    }

    /// The result of a job that succeeds.
    pub(crate) async fn result(&self, job: JobId) -> JsonValue {
        let ended = self.ended(job).await;
        assert_eq!(ended.state, JobState::Succeeded, "{:?}", ended.error);
        ended.result.unwrap()
    }

    /// Makes a job and waits for its result.
    pub(crate) async fn done(&self, kind: JobKind, params: JsonValue) -> JsonValue {
        self.result(self.job(kind, params).await).await
    }

    /// Waits until a running job is at this phase.
    pub(crate) async fn at_phase(&self, job: JobId, phase: &str) {
        self.until(phase, async || {
            let record = self.record(job).await;
            assert!(!record.state.is_over(), "{record:?}");
            (record.progress.phase.as_deref() == Some(phase)).then_some(())
        })
        .await;
    }

    /// The faces of each open cluster.
    pub(crate) async fn clusters(&self) -> BTreeMap<ClusterId, BTreeSet<FaceId>> {
        let mut clusters: BTreeMap<ClusterId, BTreeSet<FaceId>> = BTreeMap::new();
        for (face, cluster) in self.gallery.store.cluster_members(&office()).await.unwrap() {
            clusters.entry(cluster).or_default().insert(face);
        }
        clusters
    }

    /// The groups alone.
    pub(crate) async fn groups(&self) -> BTreeSet<BTreeSet<FaceId>> {
        self.clusters().await.into_values().collect()
    }

    pub(crate) async fn face(&self, face: FaceId) -> StoredFace {
        self.gallery.store.faces(&[face]).await.unwrap().remove(0)
    }

    /// Waits until the index says of these faces what their rows say. Who stands for a person may change at any time.
    pub(crate) async fn indexed(&self, faces: &[FaceId]) {
        self.until("points that say what the rows say", async || {
            let rows = self.gallery.store.faces(faces).await.unwrap();
            assert_eq!(rows.len(), faces.len());
            let points = self.gallery.vectors.retrieve(faces, false).await.unwrap();
            let points: BTreeMap<FaceId, _> = points.into_iter().map(|point| (point.face, point.payload)).collect();
            let same = |row: &StoredFace| {
                let wanted = Some(facewire_gallery::payload(&row.record));
                points.get(&row.record.face) == Some(&wanted) && row.record.state == VectorState::Indexed
            };
            rows.iter().all(same).then_some(())
        })
        .await;
    }

    pub(crate) async fn until<T>(&self, what: &str, mut check: impl AsyncFnMut() -> Option<T>) -> T {
        let waiting = async {
            loop {
                match check().await {
                    Some(found) => break found,
                    None => tokio::task::yield_now().await,
                }
            }
        };
        tokio::time::timeout(DEADLINE, waiting).await.unwrap_or_else(|_| panic!("{what} did not come"))
    }
}

/// A service that notices soon what a test does.
pub(crate) fn quick() -> Options {
    Options {
        threads: 1,
        lease: Duration::from_secs(2),
        // Tests ask for what they want.
        join_interval: Duration::from_secs(3600),
        prototypes_interval: Duration::from_millis(50),
        ..Options::default()
    }
}

/// The same with a graph of neighbours for more than a few faces: a job that waits for Qdrant before it writes.
pub(crate) fn approximate() -> Options {
    Options { approximate_above: 10, ..quick() }
}

/// One picture of somebody.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Face {
    /// Whose axis it is near to, below [`DIM`].
    pub(crate) axis: usize,
    /// Which picture.
    pub(crate) number: u32,
    /// Its score, 0 to 1.
    pub(crate) score: f32,
}

/// Pictures of somebody.
pub(crate) fn pictures(axis: usize, numbers: std::ops::Range<u32>) -> Vec<Face> {
    numbers.map(|number| Face { axis, number, score: 0.5 }).collect()
}

impl Face {
    /// A unit vector near the axis, always the same.
    pub(crate) fn embedding(&self) -> Vec<f32> {
        let mut state = (self.axis as u64 * 1_000_003 + u64::from(self.number)) ^ 0x9e37_79b9_7f4a_7c15;
        let mut next = || {
            // xorshift
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1 << 24) as f32 - 0.5
        };
        (0..4).for_each(|_| assert!(next().is_finite()));
        let mut vector: Vec<f32> = (0..DIM).map(|_| next() * 0.15).collect();
        vector[self.axis] += 1.0;
        if self.axis < ALIKE {
            vector[DIM - 1] += 0.75;
        }
        let norm = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
        vector.iter().map(|x| x / norm).collect()
    }

    fn image(&self) -> ImageHash {
        ImageHash::of(format!("{} {}", self.axis, self.number).as_bytes())
    }

    fn captured_at(&self) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_700_000_000 + i64::from(self.number)).unwrap()
    }

    fn crop(&self) -> CropId {
        CropId::derive(&office(), &"door".parse().unwrap(), self.captured_at(), &self.image())
    }

    fn quality(&self) -> Option<FaceQuality> {
        let signals = Quality { score: self.score, ..Quality::default() };
        Some(FaceQuality { signals, status: "ok".to_owned() })
    }

    fn kept(&self) -> KeptFace {
        KeptFace {
            face: FaceId::of_crop(self.crop(), 0),
            collection: office(),
            crop: self.crop(),
            face_index: 0,
            image_hash: self.image(),
            asset: None,
            embedding: self.embedding(),
            model: MODEL.to_owned(),
            bounding_box: None,
            landmarks: None,
            quality: self.quality(),
            captured_at: self.captured_at(),
            matched: None,
        }
    }

    fn candidate(&self, subject: &str) -> Candidate {
        let face = NewFace {
            collection: office(),
            subject: subject.parse().unwrap(),
            name: Some(subject.to_owned()),
            image_hash: self.image(),
            asset: None,
            embedding: self.embedding(),
            model: MODEL.to_owned(),
            bounding_box: None,
            landmarks: None,
            quality: self.quality(),
            crop: None,
            captured_at: self.captured_at(),
        };
        Candidate { face, conflict_from: None }
    }
}

pub(crate) fn by() -> Actor {
    Actor::named("a test")
}

pub(crate) fn office() -> CollectionId {
    "office".parse().unwrap()
}

/// The faces of somebody as a group.
pub(crate) fn group(faces: &[FaceId]) -> BTreeSet<FaceId> {
    faces.iter().copied().collect()
}
