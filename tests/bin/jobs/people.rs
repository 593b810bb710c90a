//! People with enough faces each for a head to be trained, in a collection of their own. Training changes no face: of the same
//! faces it makes the same head, whoever was killed meanwhile.

use facewire_domain::{CollectionId, FaceId, ImageHash};
use facewire_gallery::Gallery;
use facewire_store_pg::{Enrolment, NewFace};
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::dice::Dice;
use crate::made_up::{beside, unit};

/// A quarter of the people is held out, and twenty are needed there.
const PEOPLE: u64 = 100;
/// As many as a person needs to take part.
const FACES: u64 = 5;
/// How far a face is from the middle of its person's: two of them have a cosine similarity of about 0.2, so that there is
/// something to learn.
const SPREAD: f32 = 2.0;
/// Long enough to be struck, and short beside the start of a worker.
const EPOCHS: u32 = 40;

/// What the job is told: these faces have no quality score.
pub(super) fn training() -> Value {
    json!({ "epochs": EPOCHS, "patience": EPOCHS, "learningRate": 1e-3, "qualityThreshold": 0.0 })
}

/// The head that a job made.
pub(super) fn head(ended: &Value) -> Option<&str> {
    ended.get("result")?.get("fingerprint")?.as_str()
}

/// Enrols them, in both stores.
pub(crate) async fn enrol(gallery: &Gallery, collection: &CollectionId, seed: u64) -> anyhow::Result<()> {
    let mut dice = Dice::new(seed);
    let mut direction = || unit((0..gallery.dim).map(|_| (dice.between(0, 2_000_001) as f32) / 1e6 - 1.0).collect());
    let mut faces = Vec::new();
    for person in 0..PEOPLE {
        let centre = direction();
        for number in 0..FACES {
            faces.push(face(gallery, collection, (person, number), beside(&centre, SPREAD, &direction()))?);
        }
    }
    let mut ids: Vec<FaceId> = Vec::new();
    for answer in gallery.store.begin_enrolment(&faces).await? {
        match answer? {
            Enrolment::Pending { face, .. } => ids.push(face),
            other @ (Enrolment::AlreadyIndexed { .. } | Enrolment::Conflict { .. }) => {
                anyhow::bail!("a face of a new collection is there: {other:?}")
            }
        }
    }
    Ok(gallery.index_all(&ids).await?)
}

fn face(
    gallery: &Gallery,
    collection: &CollectionId,
    (person, number): (u64, u64),
    embedding: Vec<f32>,
) -> anyhow::Result<NewFace> {
    Ok(NewFace {
        collection: collection.clone(),
        subject: format!("person-{person}").parse()?,
        name: None,
        image_hash: ImageHash::of(format!("{person} {number}").as_bytes()),
        asset: None,
        embedding,
        model: gallery.model.clone(),
        bounding_box: None,
        landmarks: None,
        quality: None,
        crop: None,
        captured_at: OffsetDateTime::UNIX_EPOCH,
    })
}
