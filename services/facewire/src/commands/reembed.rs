//! `facewire reembed`: the gallery brought to another model pack. The reconciler keeps the order of things; here faces are
//! embedded from their kept images.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, bail};
use bytes::Bytes;
use facewire_composition::models::{self, Loaded};
use facewire_composition::{Config, Models};
use facewire_domain::BoundingBox;
use facewire_inference::detector::iou;
use facewire_inference::{FaceEmbedder, FaceFind, FaceFinder};
use facewire_reconciler::{Reembed as Embeds, ReembedOptions, Reembedded};
use facewire_store_object::{ImageKey, ImageStore};
use facewire_store_pg::FaceRecord;
use facewire_vision::{AlignedFace, DecodeLimits, align, decode};
use indicatif::HumanCount;

use super::{connect, progress};
use crate::cli::Reembed;
use crate::output::{self, Exit};

/// Boxes of the same face overlap by at least this part of their union.
const SAME_FACE: f32 = 0.3;

type Failure = Box<dyn std::error::Error + Send + Sync>;

pub(crate) async fn run(config: Config, args: &Reembed) -> anyhow::Result<Exit> {
    let parts = connect::stores(&config, "reembed").await?;
    let Some(images) = parts.images.clone() else {
        bail!("faces are embedded anew from kept images, and none are kept here: name their place in images.url");
    };
    // A head is one pack's.
    let wanted = Models { pack: args.to.clone(), head: None, ..config.models.clone() };
    let loaded = models::load(&wanted, progress::fetching(false)).await?;
    let reconciler = facewire_composition::reconciler(&config, &parts)?;
    let options = ReembedOptions {
        model: loaded.pack.fingerprint(),
        dim: u32::try_from(loaded.pack.manifest().embedder.dim)?,
        batch: args.batch.max(1),
        leave_behind: args.leave_behind,
    };
    if options.model == reconciler.gallery.model {
        bail!("the gallery is of {} already", options.model);
    }
    let embedder = Embedder { images, session: Arc::new(Mutex::new(Session::open(&loaded)?)) };
    let bar = progress::bar(reconciler.gallery.store.count_faces().await?, "embedded");
    let done = reconciler.reembed(&options, &embedder, args.patience, &|count| bar.set_position(count)).await;
    bar.finish_and_clear();
    let done = done?;
    if args.json {
        output::json(&done)?
    } else {
        show(&done, &args.to)
    }
    Ok(Exit::Success)
}

fn show(done: &Reembedded, pack: &str) {
    let (embedded, indexed) = (HumanCount(done.embedded), HumanCount(done.indexed));
    output::line(format_args!("{embedded} faces embedded anew; {indexed} are in the index that serves now"));
    if done.missing > 0 {
        output::line(format_args!("{} faces had no image to embed and were left behind", HumanCount(done.missing)));
    }
    output::say(format_args!(
        "now set models.pack = \"{pack}\", without models.head, and restart the services: until then nobody can be enrolled"
    ));
}

/// Embeds faces from their kept images.
struct Embedder {
    images: ImageStore,
    session: Arc<Mutex<Session>>,
}

/// The models of the pack that is to serve.
struct Session {
    finder: FaceFinder,
    embedder: Box<dyn FaceEmbedder>,
}

/// What is kept of a face, in the order in which it is wanted.
enum Kept {
    /// The picture as it was published.
    Original(Bytes),
    /// The face with its surroundings.
    Crop(Bytes),
    /// The face as another model's landmarks aligned it.
    Aligned(Bytes),
}

impl Embeds for Embedder {
    async fn embed(&self, faces: Vec<FaceRecord>) -> Result<Vec<Option<Vec<f32>>>, Failure> {
        let mut kept = Vec::with_capacity(faces.len());
        for face in faces {
            kept.push((self.kept(&face).await?, face));
        }
        let session = Arc::clone(&self.session);
        let embedding = move || session.lock().unwrap_or_else(PoisonError::into_inner).embed(&kept);
        Ok(tokio::task::spawn_blocking(embedding).await??)
    }
}

impl Embedder {
    async fn kept(&self, face: &FaceRecord) -> Result<Option<Kept>, Failure> {
        let (collection, hash) = (&face.collection, face.image_hash);
        if let Some(image) = self.images.get(&ImageKey::original(collection.clone(), hash)).await? {
            return Ok(Some(Kept::Original(image)));
        }
        if let Some(image) = self.images.get(&ImageKey::crop(collection.clone(), hash, face.face_index)).await? {
            return Ok(Some(Kept::Crop(image)));
        }
        let aligned = ImageKey::aligned(collection.clone(), hash, face.face_index);
        Ok(self.images.get(&aligned).await?.map(Kept::Aligned))
    }
}

impl Session {
    fn open(loaded: &Loaded) -> anyhow::Result<Self> {
        let finder = loaded.pack.finder(&loaded.runtime, &loaded.session)?;
        let embedder = loaded.pack.embedder(&loaded.runtime, &loaded.session)?;
        Ok(Self { finder, embedder })
    }

    /// One embedding a face; `None` where nothing was kept, or nothing that can be embedded.
    fn embed(&mut self, kept: &[(Option<Kept>, FaceRecord)]) -> anyhow::Result<Vec<Option<Vec<f32>>>> {
        let mut aligned = Vec::with_capacity(kept.len());
        for (image, face) in kept {
            aligned.push(match image {
                Some(Kept::Original(bytes)) => self.align(bytes, face)?,
                Some(Kept::Crop(bytes)) => self.align_largest(bytes)?,
                Some(Kept::Aligned(bytes)) => decoded(bytes),
                None => None,
            });
        }
        let faces: Vec<AlignedFace> = aligned.iter().flatten().cloned().collect();
        let mut embedded = self.embedder.embed_measured(&faces)?.into_iter();
        let one = |face: Option<AlignedFace>| match face {
            None => Ok(None),
            // A face whose numbers are not finite is one that cannot be embedded.
            Some(_) => Ok(embedded.next().context("an embedding is missing")?.ok().map(|embedding| embedding.vector)),
        };
        aligned.into_iter().map(one).collect()
    }

    /// A crop was cut around its face: the largest one.
    fn align_largest(&mut self, bytes: &[u8]) -> anyhow::Result<Option<AlignedFace>> {
        let Ok(image) = decode(bytes, &DecodeLimits::default()) else { return Ok(None) };
        let found = self.finder.find(&image)?;
        let largest = found.iter().max_by(|a, b| a.bbox.area().total_cmp(&b.bbox.area()));
        Ok(largest.and_then(|face| align(&image, &face.landmarks).ok()).map(|alignment| alignment.face))
    }

    /// As the new pack sees the picture; where it finds another face or none, by the landmarks that are stored.
    fn align(&mut self, bytes: &[u8], face: &FaceRecord) -> anyhow::Result<Option<AlignedFace>> {
        let Ok(image) = decode(bytes, &DecodeLimits::default()) else { return Ok(None) };
        let found = self.finder.find(&image)?;
        let same = face.bounding_box.and_then(|wanted| {
            let overlap = |found: &BoundingBox| iou(&wanted, found, 0.0);
            found
                .iter()
                .max_by(|a, b| overlap(&a.bbox).total_cmp(&overlap(&b.bbox)))
                .filter(|f| overlap(&f.bbox) >= SAME_FACE)
        });
        let landmarks = same.map(|face| face.landmarks).or(face.landmarks);
        Ok(landmarks.and_then(|landmarks| align(&image, &landmarks).ok()).map(|alignment| alignment.face))
    }
}

/// A kept aligned face.
fn decoded(bytes: &[u8]) -> Option<AlignedFace> {
    AlignedFace::from_image(decode(bytes, &DecodeLimits::default()).ok()?).ok()
}
