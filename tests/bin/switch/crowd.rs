//! Made-up people for a gallery that goes behind a projection head and back: their faces by the pack and as the head makes them, and
//! probes whose right answer is known for either. How probes are sent is in `stream`.

use std::path::Path;

use anyhow::Context;
use facewire_domain::{CollectionId, FaceId, ImageHash, SubjectId};
use facewire_gallery::Gallery;
use facewire_inference::HeadFile;
use facewire_store_pg::{Enrolment, NewFace};
use facewire_training::{Faces as Labelled, Head, Settings, Shape, Trainer};
use time::OffsetDateTime;

use crate::dice::Dice;
use crate::made_up::{DIM, beside, unit};

/// How far a face is from the middle of its person's: of two of them the cosine similarity is about 0.8, of two people's near 0.
const SPREAD: f32 = 0.5;
/// One probe in so many is of somebody whom the gallery does not know.
const STRANGERS: u64 = 5;
/// Faces that are written at a time.
const CHUNK: usize = 500;
/// People that the head is made of, and faces of each: as few as a training takes.
const LEARNT: (u32, u32) = (60, 5);
/// Of the head: half as many numbers as the pack's embeddings have.
const SHAPE: Shape = Shape { input: DIM, hidden: DIM, output: DIM / 2 };

/// One face by both models. No `Debug`: an embedding.
pub(super) struct Both {
    pub(super) plain: Vec<f32>,
    pub(super) projected: Vec<f32>,
}

/// A face that the gallery is asked about.
pub(super) struct Probe {
    /// The number of whom it shows; `None`: a stranger.
    pub(super) whose: Option<u32>,
    pub(super) face: Both,
    /// How similar the nearest of that person's faces is, by the pack and behind the head.
    pub(super) nearest: (f32, f32),
}

/// Everybody in the gallery, and the head.
pub(super) struct Crowd {
    pub(super) collection: CollectionId,
    head: Head,
    people: Vec<Somebody>,
    seed: u64,
}

struct Somebody {
    centre: Vec<f32>,
    faces: Vec<Both>,
}

impl Crowd {
    /// So many people with so many faces each. Computes for a second or two.
    pub(super) fn new(people: u32, faces_each: u32, seed: u64) -> anyhow::Result<Self> {
        let (mut dice, mut all) = (Dice::new(seed), Vec::new());
        let head = head(&mut dice)?;
        for _ in 0..people {
            let centre = direction(&mut dice);
            let face = |_| both(&head, beside(&centre, SPREAD, &direction(&mut dice)));
            let faces = (0..faces_each).map(face).collect::<anyhow::Result<Vec<Both>>>()?;
            all.push(Somebody { centre, faces });
        }
        Ok(Self { collection: "switch".parse()?, head, people: all, seed })
    }

    /// The head as a file is.
    pub(super) fn head(&self) -> anyhow::Result<HeadFile> {
        Ok(HeadFile::of(Path::new("head.onnx"), self.head.to_onnx())?)
    }

    /// Enrols everybody by the pack.
    pub(super) async fn enrol(&self, gallery: &Gallery) -> anyhow::Result<u64> {
        let everybody = (0..).zip(&self.people);
        let faces = everybody.flat_map(|(person, somebody)| (0..).zip(&somebody.faces).map(move |face| (person, face)));
        let faces = faces.map(|(person, (number, face))| self.face(person, number, face, &gallery.model));
        let faces = faces.collect::<anyhow::Result<Vec<NewFace>>>()?;
        for chunk in faces.chunks(CHUNK) {
            let mut ids: Vec<FaceId> = Vec::with_capacity(chunk.len());
            for answer in gallery.store.begin_enrolment(chunk).await? {
                let Enrolment::Pending { face, .. } = answer? else { anyhow::bail!("somebody is enrolled already") };
                ids.push(face);
            }
            gallery.index_all(&ids).await?;
        }
        Ok(faces.len() as u64)
    }

    fn face(&self, person: u32, number: u32, face: &Both, model: &str) -> anyhow::Result<NewFace> {
        Ok(NewFace {
            collection: self.collection.clone(),
            subject: subject(person)?,
            name: None,
            image_hash: ImageHash::of(format!("{person} {number}").as_bytes()),
            asset: None,
            embedding: face.plain.clone(),
            model: model.to_owned(),
            bounding_box: None,
            landmarks: None,
            quality: None,
            crop: None,
            captured_at: OffsetDateTime::UNIX_EPOCH,
        })
    }

    /// The probe of this number: the same in every run of a seed.
    pub(super) fn probe(&self, number: u64) -> anyhow::Result<Probe> {
        let mut dice = Dice::new(Dice::new(self.seed ^ number.rotate_left(32)).next());
        if dice.between(0, STRANGERS) == 0 {
            let face = both(&self.head, direction(&mut dice))?;
            return Ok(Probe { whose: None, face, nearest: (0.0, 0.0) });
        }
        let person = u32::try_from(dice.between(0, self.people.len() as u64))?;
        let somebody = self.people.get(person as usize).context("nobody has this number")?;
        let face = both(&self.head, beside(&somebody.centre, SPREAD, &direction(&mut dice)))?;
        let most = |similar: fn(&Both, &Both) -> f32| {
            somebody.faces.iter().map(|other| similar(&face, other)).fold(f32::NEG_INFINITY, f32::max)
        };
        let plain = most(|one, other| dot(&one.plain, &other.plain));
        let projected = most(|one, other| dot(&one.projected, &other.projected));
        Ok(Probe { whose: Some(person), face, nearest: (plain, projected) })
    }
}

/// The id of somebody in the producers' world.
pub(super) fn subject(person: u32) -> anyhow::Result<SubjectId> {
    Ok(format!("person-{person}").parse()?)
}

/// Principal components of faces that have nothing in common with the gallery's: it keeps who is like whom, and other similarities
/// come of it.
fn head(dice: &mut Dice) -> anyhow::Result<Head> {
    let (mut values, mut whose) = (Vec::new(), Vec::new());
    for person in 0..LEARNT.0 {
        for _ in 0..LEARNT.1 {
            values.extend(direction(dice));
            whose.push(person);
        }
    }
    let settings = Settings { shape: SHAPE, ..Settings::default() };
    Ok(Trainer::new(Labelled::new(DIM, values, whose)?, settings)?.best())
}

fn both(head: &Head, plain: Vec<f32>) -> anyhow::Result<Both> {
    let projected = head.project(&plain)?;
    Ok(Both { plain, projected })
}

/// A unit vector, nearly orthogonal to the others.
fn direction(dice: &mut Dice) -> Vec<f32> {
    unit((0..DIM).map(|_| dice.between(0, 2_000_001) as f32 / 1e6 - 1.0).collect())
}

fn dot(one: &[f32], other: &[f32]) -> f32 {
    one.iter().zip(other).map(|(one, other)| one * other).sum()
}
