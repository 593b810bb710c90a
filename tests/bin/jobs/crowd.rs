//! Faces of made-up people in one collection: the same in every collection of one seed, told apart by their numbers. What is
//! said of them is compared by these numbers, since ids differ.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use facewire_domain::{CollectionId, FaceId, ImageHash};
use facewire_gallery::Gallery;
use facewire_store_pg::KeptFace;
use time::OffsetDateTime;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::dice::Dice;
use crate::world::TIMEOUT;

/// People who come unless somebody says otherwise; with [`STRANGERS`] no factor in common.
const PEOPLE: u64 = 31;
/// One face in so many is of somebody who comes once.
const STRANGERS: u64 = 10;
/// How far a face is from the middle of its person's: two of them have a cosine similarity of about 0.8.
const SPREAD: f32 = 0.5;
/// Faces that are written at a time.
const CHUNK: u64 = 500;
/// Rows of one page.
const PAGE: u32 = 1000;

/// What is said of a face: the lowest number in its cluster, the lowest number of its person's, and whether it stands for them.
pub(super) type Said = (Option<u64>, Option<u64>, bool);

/// How much of each there is.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) faces: u64,
    pub(super) clusters: u64,
    pub(super) persons: u64,
    pub(super) prototypes: u64,
}

/// The faces of one collection.
pub(crate) struct Crowd {
    pub(crate) collection: CollectionId,
    gallery: Gallery,
    /// Upper half of the faces' ids.
    prefix: u64,
    seed: u64,
    people: u64,
    count: u64,
}

impl Crowd {
    /// Nobody yet.
    pub(crate) fn new(gallery: &Gallery, collection: &str, prefix: u64, seed: u64) -> anyhow::Result<Self> {
        Ok(Self { collection: collection.parse()?, gallery: gallery.clone(), prefix, seed, people: PEOPLE, count: 0 })
    }

    /// So many people come, with [`STRANGERS`] no factor in common.
    pub(crate) fn among(self, people: u64) -> Self {
        Self { people, ..self }
    }

    /// More faces, kept without a person.
    pub(crate) async fn grow(&mut self, by: u64) -> anyhow::Result<()> {
        let end = self.count + by;
        while self.count < end {
            let next = end.min(self.count + CHUNK);
            let faces: Vec<KeptFace> = (self.count..next).map(|number| self.face(number)).collect();
            let kept = self.gallery.store.keep_faces(&faces).await?;
            kept.into_iter().collect::<Result<Vec<()>, _>>()?;
            let ids: Vec<FaceId> = faces.iter().map(|face| face.face).collect();
            self.gallery.index_all(&ids).await?;
            self.count = next;
        }
        Ok(())
    }

    /// Waits for the vector engine, which may just have been killed.
    pub(super) async fn searchable(&self) -> anyhow::Result<()> {
        let began = Instant::now();
        loop {
            match self.gallery.vectors.health().await {
                Ok(_) => return Ok(()),
                Err(error) if began.elapsed() > TIMEOUT => return Err(error.into()),
                Err(_) => sleep(Duration::from_millis(100)).await,
            }
        }
    }

    fn face(&self, number: u64) -> KeptFace {
        let id = Uuid::from_u64_pair(self.prefix, number);
        KeptFace {
            face: FaceId::from(id),
            collection: self.collection.clone(),
            crop: id.into(),
            face_index: 0,
            image_hash: ImageHash::of(&number.to_le_bytes()),
            asset: None,
            embedding: self.embedding(number),
            model: self.gallery.model.clone(),
            bounding_box: None,
            landmarks: None,
            quality: None,
            captured_at: OffsetDateTime::UNIX_EPOCH + Duration::from_secs(number),
            matched: None,
        }
    }

    fn embedding(&self, number: u64) -> Vec<f32> {
        let own = self.direction(number + self.people);
        if number.is_multiple_of(STRANGERS) {
            return own;
        }
        let centre = self.direction(number % self.people);
        unit(centre.iter().zip(own).map(|(centre, own)| centre + SPREAD * own).collect())
    }

    /// A unit vector, nearly orthogonal to the others.
    fn direction(&self, number: u64) -> Vec<f32> {
        let mut dice = Dice::new(Dice::new(self.seed ^ number).next());
        unit((0..self.gallery.dim).map(|_| (dice.between(0, 2_000_001) as f32) / 1e6 - 1.0).collect())
    }

    /// The number of a face of this collection.
    pub(super) fn number(&self, face: &str) -> Option<u64> {
        let id: Uuid = face.parse().ok()?;
        let (prefix, number) = id.as_u64_pair();
        (prefix == self.prefix).then_some(number)
    }

    /// What is said of every face.
    pub(super) async fn faces(&self, with_prototypes: bool) -> anyhow::Result<BTreeMap<u64, Said>> {
        let (mut all, mut after) = (BTreeMap::new(), None);
        let (mut clusters, mut persons) = (BTreeMap::new(), BTreeMap::new());
        loop {
            let page = self.gallery.store.records_after(after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(all) };
            after = Some(last.face);
            // In the order of their ids, so that whoever is first of a cluster or a person has the lowest number.
            for record in &page {
                let Some(number) = self.number(&record.face.to_string()) else { continue };
                let cluster = record.cluster_id.map(|id| *clusters.entry(id).or_insert(number));
                let person = record.person.map(|id| *persons.entry(id).or_insert(number));
                all.insert(number, (cluster, person, with_prototypes && record.is_prototype));
            }
        }
    }

    pub(super) async fn counts(&self) -> anyhow::Result<Counts> {
        let faces = self.faces(true).await?;
        let clusters: BTreeSet<u64> = faces.values().filter_map(|(cluster, ..)| *cluster).collect();
        let persons: BTreeSet<u64> = faces.values().filter_map(|(_, person, _)| *person).collect();
        Ok(Counts {
            faces: faces.len() as u64,
            clusters: clusters.len() as u64,
            persons: persons.len() as u64,
            prototypes: faces.values().filter(|(.., is_prototype)| *is_prototype).count() as u64,
        })
    }
}

fn unit(values: Vec<f32>) -> Vec<f32> {
    let norm = values.iter().map(|v| v * v).sum::<f32>().sqrt();
    values.into_iter().map(|v| v / norm).collect()
}
