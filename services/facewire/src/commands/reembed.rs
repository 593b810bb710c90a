//! `facewire reembed`: the gallery brought to another model pack. The reconciler keeps the order of things; here faces are
//! embedded from their kept images.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, bail};
use bytes::Bytes;
use facewire_assess::dominance;
use facewire_composition::models::{self, Loaded};
use facewire_composition::{Config, Models, heads};
use facewire_domain::{BoundingBox, Landmarks};
use facewire_gallery::Gallery;
use facewire_inference::detector::iou;
use facewire_inference::{FaceEmbedder, FaceFind, PackManifest, aligned};
use facewire_reconciler::{Reembed as Embeds, ReembedOptions, Reembedded};
use facewire_store_object::{ImageKey, ImageStore};
use facewire_store_pg::FaceRecord;
use facewire_vision::{AlignedFace, DecodeLimits, Lit, decode};
use indicatif::HumanCount;

use super::{connect, progress};
use crate::cli::Reembed;
use crate::output::{self, Exit};

/// Boxes of the same face overlap by at least this part of their union.
const SAME_FACE: f32 = 0.3;

type Failure = Box<dyn std::error::Error + Send + Sync>;

pub(crate) async fn run(config: Config, args: &Reembed) -> anyhow::Result<Exit> {
    // A head is one pack's.
    let wanted = Models { pack: args.to.clone(), head: None, ..config.models.clone() };
    let target = Config { models: wanted, ..config.clone() };
    let (done, is_finish) = match finish(&target, args).await? {
        Some(done) => (done, true),
        None => (embed(&config, &target.models, args).await?, false),
    };
    if args.json {
        output::json(&done)?
    } else {
        show(&done, is_finish, &args.to)
    }
    Ok(Exit::Success)
}

/// Where the pack serves already, what is left of a switch to it: nothing is embedded. `None`: another model serves.
async fn finish(target: &Config, args: &Reembed) -> anyhow::Result<Option<Reembedded>> {
    let parts = connect::unchecked(target, "reembed").await?;
    let reconciler = facewire_composition::reconciler(target, &parts)?;
    let Gallery { store, model, .. } = &reconciler.gallery;
    store.check_schema().await?;
    if store.serving_model().await?.is_none_or(|serving| serving.model != *model) {
        return Ok(None);
    }
    let done = reconciler.finish_reembed(args.batch.max(1), args.patience).await?;
    if done.is_nothing() {
        bail!("the gallery is of {model} already");
    }
    Ok(Some(done))
}

/// Embeds every face by the pack, and makes it serve.
async fn embed(config: &Config, wanted: &Models, args: &Reembed) -> anyhow::Result<Reembedded> {
    let parts = connect::stores(config, "reembed").await?;
    let reconciler = facewire_composition::reconciler(config, &parts)?;
    reconciler.gallery.check_serving().await?;
    let Some(images) = parts.images else {
        bail!("faces are embedded anew from kept images, and none are kept here: name their place in images.url");
    };
    let manifest = models::manifest(wanted)?;
    if manifest.fingerprint() == reconciler.gallery.model {
        bail!("the gallery is of {} already", reconciler.gallery.model);
    }
    ruled(config, &reconciler.gallery, manifest, &args.to).await?;
    let loaded = models::load(wanted, progress::fetching(false)).await?;
    let options = ReembedOptions {
        model: loaded.pack.fingerprint(),
        dim: u32::try_from(loaded.pack.manifest().embedder.dim)?,
        batch: args.batch.max(1),
        leave_behind: args.leave_behind,
    };
    let session = Session::open(&loaded, config.quality.rules(None).decode)?;
    let embedder = Embedder { images, session: Arc::new(Mutex::new(session)) };
    let bar = progress::bar(reconciler.gallery.store.count_faces().await?, "embedded");
    let done = reconciler.reembed(&options, &embedder, args.patience, &|count| bar.set_position(count)).await;
    bar.finish_and_clear();
    Ok(done?)
}

/// Refuses a switch after which no probe of some collection could be judged; says where a fixed similarity would judge.
async fn ruled(config: &Config, gallery: &Gallery, to: PackManifest, pack: &str) -> anyhow::Result<()> {
    let ruling = heads::ruling(config, gallery, &to.fingerprint(), to.calibration).await?;
    if let Some(places) = ruling.missing() {
        bail!(
            "nothing says what a match needs with the pack {pack} in {places}: it has no calibration, and thresholds are of one model. \
             Measure them for each collection with models.pack = \"{pack}\", without models.head: `facewire calibrate --faces DIR \
             --collection C --apply`; or set match.threshold. Nothing was switched"
        )
    }
    ruling.warning().into_iter().for_each(output::say);
    Ok(())
}

fn show(done: &Reembedded, is_finish: bool, pack: &str) {
    let (embedded, indexed) = (HumanCount(done.embedded), HumanCount(done.indexed));
    if is_finish {
        output::line(format_args!(
            "the switch to {pack} is finished; {indexed} faces are in the index that serves now"
        ));
    } else {
        output::line(format_args!("{embedded} faces embedded anew; {indexed} are in the index that serves now"));
    }
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
    aligner: Aligner,
    embedder: Box<dyn FaceEmbedder>,
}

/// From kept images to faces, as the chain makes them: found and lit in the same way, and decoded within the same limits.
struct Aligner {
    finder: Box<dyn FaceFind>,
    limits: DecodeLimits,
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
    fn open(loaded: &Loaded, limits: DecodeLimits) -> anyhow::Result<Self> {
        let finder = Box::new(loaded.pack.finder(&loaded.runtime, &loaded.session)?);
        let embedder = loaded.pack.embedder(&loaded.runtime, &loaded.session)?;
        Ok(Self { aligner: Aligner { finder, limits }, embedder })
    }

    /// One embedding a face; `None` where nothing was kept, or nothing that can be embedded.
    fn embed(&mut self, kept: &[(Option<Kept>, FaceRecord)]) -> anyhow::Result<Vec<Option<Vec<f32>>>> {
        let mut aligned = Vec::with_capacity(kept.len());
        for (image, face) in kept {
            aligned.push(match image {
                Some(Kept::Original(bytes)) => self.aligner.same(bytes, face.bounding_box, face.landmarks)?,
                Some(Kept::Crop(bytes)) => self.aligner.meant(bytes)?,
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
}

impl Aligner {
    /// A crop was cut around its face, so it is the one that a crop's face is chosen by: a neighbour in its margin may be larger.
    fn meant(&mut self, bytes: &[u8]) -> anyhow::Result<Option<AlignedFace>> {
        let Ok(image) = decode(bytes, &self.limits) else { return Ok(None) };
        let picture = Lit::new(&image);
        let found = self.finder.find_lit(&picture)?;
        let size = (image.width(), image.height());
        let meant = found.iter().max_by(|a, b| dominance(a, size).total_cmp(&dominance(b, size)));
        Ok(meant.and_then(|face| aligned(&picture, &face.landmarks).ok()))
    }

    /// As the new pack sees the picture; where it finds another face or none, by the landmarks that are stored.
    fn same(
        &mut self,
        bytes: &[u8],
        place: Option<BoundingBox>,
        stored: Option<Landmarks>,
    ) -> anyhow::Result<Option<AlignedFace>> {
        let Ok(image) = decode(bytes, &self.limits) else { return Ok(None) };
        let picture = Lit::new(&image);
        let found = self.finder.find_lit(&picture)?;
        let same = place.and_then(|wanted| {
            let overlap = |found: &BoundingBox| iou(&wanted, found, 0.0);
            found
                .iter()
                .max_by(|a, b| overlap(&a.bbox).total_cmp(&overlap(&b.bbox)))
                .filter(|f| overlap(&f.bbox) >= SAME_FACE)
        });
        let landmarks = same.map(|face| face.landmarks).or(stored);
        Ok(landmarks.and_then(|landmarks| aligned(&picture, &landmarks).ok()))
    }
}

/// A kept aligned face.
fn decoded(bytes: &[u8]) -> Option<AlignedFace> {
    AlignedFace::from_image(decode(bytes, &DecodeLimits::default()).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use facewire_domain::Point;
    use facewire_inference::{FoundFace, InferenceError, measure};
    use facewire_vision::align::TEMPLATE;
    use facewire_vision::{GreyImage, RgbImage, encode_png};

    use super::*;

    /// Sees these faces in pictures that are lit.
    struct Sees(Vec<FoundFace>);

    impl FaceFind for Sees {
        fn find(&mut self, image: &RgbImage) -> Result<Vec<FoundFace>, InferenceError> {
            assert!(GreyImage::of(image).mean() > 80.0, "it is looked for in the picture as it was sent");
            Ok(self.0.clone())
        }
    }

    #[test]
    fn a_dark_picture_is_lit_as_the_chain_lights_it_and_decoded_within_its_limits() {
        let dark = RgbImage::from_fn(300, 112, |x, y| [(20 + x % 20 + y % 10) as u8; 3]);
        let bytes = encode_png(&dark).unwrap();
        let bbox = BoundingBox { x1: 0.0, y1: 0.0, x2: 112.0, y2: 112.0 };
        let face = FoundFace { bbox, detection_score: 1.0, landmarks: TEMPLATE, drift: 0.0 };
        let wanted = measure(&Lit::new(&dark), &face).unwrap().face;
        let aligner = |faces: &[FoundFace], max_pixels| Aligner {
            finder: Box::new(Sees(faces.to_vec())),
            limits: DecodeLimits { max_pixels, ..DecodeLimits::default() },
        };
        for (what, made) in [
            ("found again", aligner(&[face], 33_600).same(&bytes, Some(bbox), None)),
            ("by its stored points", aligner(&[], 33_600).same(&bytes, Some(bbox), Some(TEMPLATE))),
            ("a crop", aligner(&[face], 33_600).meant(&bytes)),
        ] {
            assert!(made.unwrap().unwrap() == wanted, "{what}");
        }
        assert!(aligner(&[face], 33_599).meant(&bytes).unwrap().is_none());
        assert!(aligner(&[face], 33_599).same(&bytes, Some(bbox), Some(TEMPLATE)).unwrap().is_none());
    }

    #[test]
    fn a_crop_is_of_the_face_that_it_was_cut_around_also_beside_a_larger_one() {
        let image = RgbImage::from_fn(300, 200, |x, y| [(90 + x % 100 + y % 60) as u8; 3]);
        let at = |left: f32, size: f32| {
            let bbox = BoundingBox { x1: left, y1: 50.0, x2: left + size, y2: 50.0 + size };
            let landmarks = TEMPLATE.map(|p| Point::new(p.x * size / 112.0 + left, p.y * size / 112.0 + 50.0));
            FoundFace { bbox, detection_score: 1.0, landmarks, drift: 0.0 }
        };
        let (meant, neighbour) = (at(100.0, 100.0), at(-60.0, 110.0));
        let limits = DecodeLimits::default();
        let made =
            Aligner { finder: Box::new(Sees(vec![neighbour, meant])), limits }.meant(&encode_png(&image).unwrap());
        assert!(made.unwrap().unwrap() == measure(&Lit::new(&image), &meant).unwrap().face);
    }
}
