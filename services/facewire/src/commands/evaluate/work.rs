//! Pictures to what is seen on them: a worker on each core, each content once, and what an earlier run saw is not looked at
//! again. The chain is the services' own; no limit is applied here.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use facewire_assess::{Request, Rules, Unjudged, judge};
use facewire_composition::models::Loaded;
use facewire_domain::{BoundingBox, Detail, ImageHash, Quality, Reason, Refusal};
use facewire_evaluation::datasets::{BinImage, BinSet};
use facewire_inference::{Embedding, FaceEmbedder, FaceFind, FoundFace, InferenceError};
use facewire_vision::{AlignedFace, Camera, DecodeLimits, Lit, RgbImage, decode};
use indicatif::ProgressBar;

use super::cache::Cache;
use super::seen::{Outcome, Seen};
use crate::commands::spoil::{face_side, guessed_side, publish, side};

/// Faces that are embedded in one run at most, however many the model takes.
const BATCH: usize = 16;
/// Whose limits would hold; the rules here have none.
pub(super) const COLLECTION: &str = "evaluate";
/// Findings that wait to be noted.
const WAITING: usize = 64;

/// A picture and the cameras that publish it.
#[derive(Debug, Clone)]
pub(in crate::commands) struct Source {
    pub(in crate::commands) picture: Picture,
    pub(in crate::commands) cameras: &'static [Camera],
}

#[derive(Debug, Clone)]
pub(in crate::commands) enum Picture {
    /// A file, published as it is by a clean camera.
    File(PathBuf),
    /// An aligned face of a test set.
    Aligned(Arc<BinSet>, usize),
}

/// A thread's own models.
pub(super) struct Worker {
    finder: Watched,
    embedder: Box<dyn FaceEmbedder>,
}

impl Worker {
    /// One for each thread.
    pub(super) fn open(models: &Loaded, threads: usize) -> anyhow::Result<Vec<Self>> {
        let one = |_| {
            let finder = Watched { inner: Box::new(models.pack.finder(&models.runtime, &models.session)?), seen: None };
            Ok(Self { finder, embedder: models.pack.embedder(&models.runtime, &models.session)? })
        };
        (0..threads.max(1)).map(one).collect()
    }
}

/// A finder, and what it found last: the judge tells of the face that it means, a camera goes by the largest.
struct Watched {
    inner: Box<dyn FaceFind>,
    /// Faces, and the largest one's box; `None`: it was not asked.
    seen: Option<(u32, Option<BoundingBox>)>,
}

impl FaceFind for Watched {
    fn find(&mut self, image: &RgbImage) -> Result<Vec<FoundFace>, InferenceError> {
        let faces = self.inner.find(image)?;
        let largest = faces.iter().map(|face| face.bbox).max_by(|a, b| a.area().total_cmp(&b.area()));
        self.seen = Some((u32::try_from(faces.len()).unwrap_or(u32::MAX), largest));
        Ok(faces)
    }
}

impl Watched {
    /// The largest face of a picture, looked for as the judge does.
    fn largest(&mut self, image: &RgbImage) -> Result<Option<BoundingBox>, InferenceError> {
        self.find_lit(&Lit::new(image))?;
        Ok(self.seen.and_then(|(_, largest)| largest))
    }
}

/// For each source and each of its cameras, in order, what was seen.
pub(in crate::commands) type Sights = Vec<Vec<Arc<Seen>>>;

/// Looks at every picture. `stop` is asked before each.
pub(super) fn see(
    workers: &mut [Worker],
    sources: &[Source],
    rules: &Rules,
    cache: Option<Cache>,
    stop: &(dyn Fn() -> bool + Sync),
    bar: &ProgressBar,
) -> anyhow::Result<Sights> {
    let board = Board { known: HashMap::new(), cache };
    let shared = Shared {
        sources,
        rules,
        stop,
        next: AtomicUsize::new(0),
        ended: AtomicBool::new(false),
        board: Mutex::new(board),
    };
    let mut keys: Vec<Vec<Option<ImageHash>>> = sources.iter().map(|source| vec![None; source.cameras.len()]).collect();
    std::thread::scope(|scope| {
        let (send, notes) = sync_channel(WAITING);
        let spawn = |worker| {
            let (shared, send) = (&shared, send.clone());
            scope.spawn(move || Run { worker, shared, send, batch: Vec::new() }.work())
        };
        let threads: Vec<_> = workers.iter_mut().map(spawn).collect();
        drop(send);
        let mut noting = Ok(());
        for note in notes {
            match note {
                Note::Published { source, camera, key } => {
                    let place = keys.get_mut(source).and_then(|keys| keys.get_mut(camera));
                    place.into_iter().for_each(|place| *place = Some(key));
                    bar.inc(1);
                }
                Note::Seen(key, seen) if noting.is_ok() => {
                    noting = shared.board().note(key, seen);
                    shared.ended.fetch_or(noting.is_err(), Ordering::Relaxed);
                }
                Note::Seen(..) => {}
            }
        }
        let worked: Vec<anyhow::Result<()>> =
            threads.into_iter().map(|t| t.join().map_err(|_| anyhow!("a worker panicked"))?).collect();
        worked.into_iter().collect::<anyhow::Result<()>>()?;
        noting.context("what was seen cannot be kept: --no-cache goes on without")
    })?;
    if stop() {
        let kept = shared.board().cache.is_some();
        bail!(
            "stopped before the end{}",
            if kept { "; what was seen is kept, and a new run goes on from there" } else { "" }
        );
    }
    let board = shared.board.into_inner().unwrap_or_else(PoisonError::into_inner);
    let sight = |key: Option<ImageHash>| board.known.get(&key?).cloned().flatten();
    let sights = keys.into_iter().map(|keys| keys.into_iter().map(sight).collect::<Option<Vec<_>>>());
    sights.collect::<Option<Sights>>().context("a picture was not looked at")
}

enum Note {
    /// A camera published this.
    Published {
        source: usize,
        camera: usize,
        key: ImageHash,
    },
    Seen(ImageHash, Seen),
}

/// What is known by now; `None`: somebody is looking at it.
struct Board {
    known: HashMap<ImageHash, Option<Arc<Seen>>>,
    cache: Option<Cache>,
}

enum Claim {
    Known(Arc<Seen>),
    /// To be looked at by who asked.
    Mine,
    /// Somebody else is at it.
    Theirs,
}

impl Board {
    fn claim(&mut self, key: ImageHash) -> Claim {
        match self.known.get(&key) {
            Some(Some(seen)) => return Claim::Known(Arc::clone(seen)),
            Some(None) => return Claim::Theirs,
            None => {}
        }
        let before = self.cache.as_ref().and_then(|cache| cache.get(&key)).map(Arc::new);
        self.known.insert(key, before.clone());
        before.map_or(Claim::Mine, Claim::Known)
    }

    fn note(&mut self, key: ImageHash, seen: Seen) -> anyhow::Result<()> {
        let kept = self.cache.as_mut().map_or(Ok(()), |cache| cache.put(&key, &seen));
        self.known.insert(key, Some(Arc::new(seen)));
        kept
    }
}

struct Shared<'a> {
    sources: &'a [Source],
    rules: &'a Rules,
    stop: &'a (dyn Fn() -> bool + Sync),
    next: AtomicUsize,
    /// Somebody failed: all end.
    ended: AtomicBool,
    board: Mutex<Board>,
}

impl Shared<'_> {
    fn board(&self) -> std::sync::MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A face that waits for its embedding.
struct Waiting {
    key: ImageHash,
    face: AlignedFace,
    /// `None`: it was aligned by others.
    quality: Option<Quality>,
    face_side: Option<f32>,
    faces: u32,
}

struct Run<'a> {
    worker: &'a mut Worker,
    shared: &'a Shared<'a>,
    send: SyncSender<Note>,
    batch: Vec<Waiting>,
}

impl Run<'_> {
    fn work(mut self) -> anyhow::Result<()> {
        let done = self.all();
        self.shared.ended.fetch_or(done.is_err(), Ordering::Relaxed);
        done
    }

    fn all(&mut self) -> anyhow::Result<()> {
        let shared = self.shared;
        while !(shared.stop)() && !shared.ended.load(Ordering::Relaxed) {
            let index = shared.next.fetch_add(1, Ordering::Relaxed);
            let Some(source) = shared.sources.get(index) else { break };
            match &source.picture {
                Picture::File(path) => {
                    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
                    self.photo(index, source.cameras, bytes.into())?;
                }
                Picture::Aligned(set, image) => self.aligned(index, set.image(*image))?,
            }
        }
        self.embed()
    }

    /// A photo by each camera: the clean one first, which says how large the face is.
    fn photo(&mut self, source: usize, cameras: &[Camera], original: Bytes) -> anyhow::Result<()> {
        let clean = cameras.iter().position(|camera| *camera == Camera::Clean);
        let mut known = match clean {
            Some(camera) => self.publish(source, camera, &original)?,
            None => None,
        };
        let mut scene = None;
        for (index, camera) in cameras.iter().enumerate().filter(|(index, _)| Some(*index) != clean) {
            let image = scene.get_or_insert_with(|| decode(&original, &self.shared.rules.decode).ok());
            let Some(image) = image else {
                // As in the demonstration: every camera publishes it as it is.
                self.publish(source, index, &original)?;
                continue;
            };
            let strength = match known {
                Some(side) => side.unwrap_or_else(|| guessed_side(image)),
                None => {
                    let largest = self.worker.finder.largest(image)?;
                    known = Some(largest.as_ref().map(side));
                    face_side(largest.as_ref(), image)
                }
            };
            let bytes = publish(*camera, image, strength, Some(&original))?;
            self.publish(source, index, &bytes)?;
        }
        Ok(())
    }

    /// Looks at what a camera published, unless that is known. The size of the largest face, if this found out: `Some(None)`
    /// where there is none.
    fn publish(&mut self, source: usize, camera: usize, bytes: &Bytes) -> anyhow::Result<Option<Option<f32>>> {
        let key = ImageHash::of(bytes);
        self.note(Note::Published { source, camera, key })?;
        let claim = self.shared.board().claim(key);
        match claim {
            Claim::Known(seen) => Ok(Some(seen.face_side)),
            Claim::Theirs => Ok(None),
            Claim::Mine => self.look(key, bytes).map(Some),
        }
    }

    fn look(&mut self, key: ImageHash, bytes: &[u8]) -> anyhow::Result<Option<f32>> {
        self.worker.finder.seen = None;
        let judged = judge(&mut self.worker.finder, self.shared.rules, Request::crop(COLLECTION), bytes);
        let (faces, largest) = self.worker.finder.seen.unwrap_or_default();
        let face_side = largest.as_ref().map(side);
        match judged {
            // One face of a crop, whose limits are all off.
            Ok(judged) => match judged.into_iter().next() {
                Some(one) => {
                    let (face, quality) = (one.aligned, Some(one.quality));
                    self.batch.push(Waiting { key, face, quality, face_side, faces });
                    if self.batch.len() >= self.worker.embedder.max_batch().unwrap_or(BATCH).clamp(1, BATCH) {
                        self.embed()?;
                    }
                }
                None => {
                    let refusal = Refusal { reason: Reason::NoFace, detail: Detail::default() };
                    self.note(Note::Seen(key, Seen { face_side, faces, ..Seen::refused(refusal) }))?;
                }
            },
            Err(Unjudged::Rejected(refusal)) => {
                self.note(Note::Seen(key, Seen { face_side, faces, ..Seen::refused(refusal) }))?;
            }
            Err(Unjudged::Inference(error)) => return Err(error.into()),
        }
        Ok(face_side)
    }

    /// A face that is aligned already; only decoding is left.
    fn aligned(&mut self, source: usize, image: Option<BinImage<'_>>) -> anyhow::Result<()> {
        let image = image.context("an image of the set is missing")?;
        let (name, data): (String, &[u8]) = match image {
            BinImage::Encoded(data) => ("aligned".to_owned(), data),
            BinImage::Pixels { height, width, data } => (format!("aligned {width}x{height}"), data),
        };
        // Never the key of the same bytes as a photo.
        let key = ImageHash::of(&[name.as_bytes(), b"\n", data].concat());
        self.note(Note::Published { source, camera: 0, key })?;
        if !matches!(self.shared.board().claim(key), Claim::Mine) {
            return Ok(());
        }
        match aligned_face(&image, &self.shared.rules.decode) {
            Ok(face) => {
                self.batch.push(Waiting { key, face, quality: None, face_side: None, faces: 0 });
                if self.batch.len() >= self.worker.embedder.max_batch().unwrap_or(BATCH).clamp(1, BATCH) {
                    self.embed()?;
                }
                Ok(())
            }
            Err(refusal) => self.note(Note::Seen(key, Seen::refused(refusal))),
        }
    }

    /// Embeds what waits. A face whose embedding is no direction fails alone.
    fn embed(&mut self) -> anyhow::Result<()> {
        let waiting = std::mem::take(&mut self.batch);
        if waiting.is_empty() {
            return Ok(());
        }
        let faces: Vec<AlignedFace> = waiting.iter().map(|waiting| waiting.face.clone()).collect();
        let embeddings = self.worker.embedder.embed_measured(&faces)?;
        for (waiting, embedding) in waiting.into_iter().zip(embeddings) {
            let Waiting { key, quality, face_side, faces, .. } = waiting;
            let outcome = match (embedding, quality) {
                (Ok(Embedding { vector: embedding, length, .. }), Some(quality)) => {
                    let quality = Quality { embedding_length: length, ..quality };
                    Outcome::Face { quality, embedding }
                }
                (Ok(embedding), None) => Outcome::Aligned { embedding: embedding.vector },
                (Err(_), _) => {
                    let detail = Detail::message("the embedding has no direction");
                    Outcome::Refused(Refusal { reason: Reason::InferenceError, detail })
                }
            };
            self.note(Note::Seen(key, Seen { face_side, faces, outcome }))?;
        }
        Ok(())
    }

    fn note(&self, note: Note) -> anyhow::Result<()> {
        self.send.send(note).map_err(|_| anyhow!("nobody notes what is seen"))
    }
}

fn aligned_face(image: &BinImage<'_>, limits: &DecodeLimits) -> Result<AlignedFace, Refusal> {
    let refuse = |message: String| Refusal { reason: Reason::InvalidImage, detail: Detail::message(message) };
    let image = match *image {
        BinImage::Encoded(data) => {
            decode(data, limits).map_err(|error| Refusal { reason: error.reason(), detail: error.detail() })?
        }
        BinImage::Pixels { height, width, data } => {
            let side = |side: usize| u32::try_from(side).unwrap_or(u32::MAX);
            RgbImage::new(side(width), side(height), data.to_vec()).map_err(|error| refuse(error.to_string()))?
        }
    };
    AlignedFace::from_image(image).map_err(|error| refuse(error.to_string()))
}

#[cfg(test)]
mod tests {
    use facewire_vision::align::TEMPLATE;
    use facewire_vision::encode_png;

    use super::*;

    /// Finds a face in pictures whose first pixel is light.
    struct InLight;

    impl FaceFind for InLight {
        fn find(&mut self, image: &RgbImage) -> Result<Vec<FoundFace>, InferenceError> {
            let bbox = BoundingBox { x1: 0.0, y1: 0.0, x2: 100.0, y2: 100.0 };
            let face = FoundFace { bbox, detection_score: 0.9, landmarks: TEMPLATE, drift: 0.0 };
            Ok(if image.data()[0] > 100 { vec![face] } else { vec![] })
        }
    }

    #[test]
    fn whoever_measures_a_dark_face_finds_it_as_whoever_looks_at_it() {
        let (light, dark) = ([40; 3], [10; 3]);
        let checkers = |x: u32, y: u32| if (x / 4 + y / 4).is_multiple_of(2) { light } else { dark };
        let image = RgbImage::from_fn(600, 200, |x, y| if x > 580 && y < 40 { [255; 3] } else { checkers(x, y) });
        let mut finder = Watched { inner: Box::new(InLight), seen: None };
        let found = finder.largest(&image).unwrap().map(|face| face.x2);
        assert_eq!((found, finder.seen.map(|(faces, _)| faces)), (Some(100.0), Some(1)));
    }

    #[test]
    fn an_aligned_face_is_decoded_within_the_limits_of_the_rules() {
        let bytes = encode_png(&RgbImage::filled(112, 112, [90; 3])).unwrap();
        let decoded = |max_pixels| {
            let limits = DecodeLimits { max_pixels, ..DecodeLimits::default() };
            aligned_face(&BinImage::Encoded(&bytes), &limits).map(|_| ()).map_err(|refusal| refusal.reason)
        };
        assert_eq!(decoded(112 * 112), Ok(()));
        assert_eq!(decoded(112 * 112 - 1), Err(Reason::ImageTooLarge));
    }
}
