//! Photographs to embeddings, as `facewire evaluate` looks at them: each is judged as a crop without any limit and embedded,
//! and what the gate says of it is noted beside. Kept in one file between runs, for its owner alone.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, OpenOptions};
use std::io::{BufReader, BufWriter, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, anyhow};
use facewire_assess::{Request, Rules, Unjudged, judge};
use facewire_composition::Config;
use facewire_composition::models::Loaded;
use facewire_domain::{Gate, GateLimits, Intent, Quality, ScoreModel, score};
use facewire_inference::{FaceEmbedder, FaceFind, FaceFinder};
use facewire_vision::{Camera, DecodeLimits, decode, encode_jpeg};
use serde::{Deserialize, Serialize};

/// Whose limits would hold.
const COLLECTION: &str = "clusters";
/// Photographs after which the progress is told.
const TOLD: usize = 500;
/// Of spoiled pictures, so that the encoder adds little of its own.
const JPEG_QUALITY: u8 = 92;

/// A photograph and whose it is.
#[derive(Debug)]
pub(crate) struct Photo {
    /// The person's folder and the file's name; behind it the camera where it is none that leaves it as it is.
    pub(crate) key: String,
    pub(crate) path: PathBuf,
    pub(crate) person: u32,
    /// Who takes it, as in the demonstration.
    pub(crate) camera: Camera,
}

/// The face of a photograph.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Face {
    pub(crate) embedding: Vec<f32>,
    /// Whether the gate lets it pass, by its default limits.
    pub(crate) passes: bool,
}

/// What was seen before, by the photograph's key; `None`: there is no face to use.
#[derive(Serialize, Deserialize)]
struct Cache {
    model: String,
    faces: BTreeMap<String, Option<Face>>,
}

/// The face of each photograph. Blocks for as long as it takes.
pub(crate) fn of(
    photos: &[Photo],
    config: &Config,
    models: &Loaded,
    cache: Option<&Path>,
    threads: usize,
) -> anyhow::Result<Vec<Option<Face>>> {
    let mut known = Cache::read(cache, models.pack.fingerprint())?;
    let missing: Vec<&Photo> = photos.iter().filter(|photo| !known.faces.contains_key(&photo.key)).collect();
    if !missing.is_empty() {
        known.faces.extend(look(&missing, config, models, threads)?);
        cache.map_or(Ok(()), |path| known.write(path))?;
    }
    Ok(photos.iter().map(|photo| known.faces.get(&photo.key).cloned().flatten()).collect())
}

impl Cache {
    fn read(path: Option<&Path>, model: String) -> anyhow::Result<Self> {
        let none = Self { model: model.clone(), faces: BTreeMap::new() };
        let Some(path) = path else { return Ok(none) };
        let file = match fs::File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(none),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        let known: Self =
            serde_json::from_reader(BufReader::new(file)).with_context(|| format!("{} is damaged", path.display()))?;
        anyhow::ensure!(known.model == model, "{} is of {}, not of {model}: name another", path.display(), known.model);
        Ok(known)
    }

    /// Whole or not at all.
    fn write(&self, path: &Path) -> anyhow::Result<()> {
        let part = path.with_extension("part");
        let opened = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part);
        let mut file = BufWriter::new(opened.with_context(|| format!("cannot write {}", part.display()))?);
        serde_json::to_writer(&mut file, self)?;
        file.flush()?;
        fs::rename(&part, path).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// Looks at photographs on all threads.
fn look(
    photos: &[&Photo],
    config: &Config,
    models: &Loaded,
    threads: usize,
) -> anyhow::Result<Vec<(String, Option<Face>)>> {
    // The services' rules without a limit: the gate is applied to what was measured.
    let open = Gate::new(GateLimits::OFF, &HashMap::new());
    let rules = Rules { gate: open, ..config.quality.rules(None) };
    let limits = config.quality.gate().limits_for(COLLECTION, "", Intent::Recognize);
    let (rules, next) = (&rules, AtomicUsize::new(0));
    let lookers = (0..threads.clamp(1, photos.len().max(1))).map(|_| {
        let finder = models.pack.finder(&models.runtime, &models.session)?;
        let embedder = models.pack.embedder(&models.runtime, &models.session)?;
        anyhow::Ok(Looker { rules, limits, model: models.pack.manifest().score.clone(), finder, embedder })
    });
    let lookers = lookers.collect::<anyhow::Result<Vec<_>>>()?;
    let run = |mut looker: Looker<'_>| {
        let mut seen = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(photo) = photos.get(number) else { break anyhow::Ok(seen) };
            if number.is_multiple_of(TOLD) {
                eprintln!("{number} of {} photographs", photos.len());
            }
            seen.push((photo.key.clone(), looker.look(photo)?));
        }
    };
    std::thread::scope(|scope| {
        let running: Vec<_> = lookers.into_iter().map(|looker| scope.spawn(move || run(looker))).collect();
        let seen = running.into_iter().map(|thread| thread.join().map_err(|_| anyhow!("a thread panicked"))?);
        Ok(seen.collect::<anyhow::Result<Vec<_>>>()?.concat())
    })
}

/// A thread's own models.
struct Looker<'a> {
    rules: &'a Rules,
    limits: GateLimits,
    model: Option<ScoreModel>,
    finder: FaceFinder,
    embedder: Box<dyn FaceEmbedder>,
}

impl Looker<'_> {
    fn look(&mut self, photo: &Photo) -> anyhow::Result<Option<Face>> {
        let image = fs::read(&photo.path).with_context(|| format!("cannot read {}", photo.path.display()))?;
        let image = self.spoiled(image, photo.camera)?;
        let judged = match judge(&mut self.finder, self.rules, Request::crop(COLLECTION), &image) {
            Ok(judged) => judged,
            Err(Unjudged::Rejected(_)) => return Ok(None),
            Err(Unjudged::Inference(error)) => return Err(error.into()),
        };
        // One face of a crop.
        let Some(one) = judged.into_iter().next() else { return Ok(None) };
        let embedded = self.embedder.embed_measured(&[one.aligned])?.into_iter().next();
        // Where a face has no direction there is none to use.
        let Some(Ok(embedding)) = embedded else { return Ok(None) };
        let quality = Quality { embedding_length: embedding.length, ..one.quality };
        Ok(Some(Face { embedding: embedding.vector, passes: self.passes(quality) }))
    }

    /// What the camera publishes of a photograph; its strength goes by the largest face.
    fn spoiled(&mut self, image: Vec<u8>, camera: Camera) -> anyhow::Result<Vec<u8>> {
        if camera == Camera::Clean {
            return Ok(image);
        }
        let Ok(scene) = decode(&image, &DecodeLimits::default()) else { return Ok(image) };
        let sides = self.finder.find(&scene)?.into_iter().map(|face| face.bbox.width().min(face.bbox.height()));
        // Where no face is found: as large as it may be.
        let side = sides.reduce(f32::max).unwrap_or(scene.width().min(scene.height()) as f32 / 2.0);
        Ok(encode_jpeg(&camera.degrade(&scene, side), JPEG_QUALITY)?)
    }

    /// By the limits before a face is embedded, and once more after.
    fn passes(&self, quality: Quality) -> bool {
        let (mut before, mut after, model) = (quality, quality, self.model.as_ref());
        score::judge(model.map(|model| &model.early), &self.limits, &mut before)
            .or_else(|| score::judge_embedded(model?, &self.limits, &mut after))
            .is_none()
    }
}
