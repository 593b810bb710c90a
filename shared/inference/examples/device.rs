//! What a device does with packs: whether it finds and embeds as the processor does, and how fast it embeds in runs of each
//! size. `iresnet50.py` beside this makes packs that tell the ways to run a model on a GPU apart.
//!
//!     cargo run --release -p facewire-inference --example device -- LIBRARY PROVIDER PICTURES PACK...
//!
//! PICTURES is a folder of aligned faces, 112 × 112. A pack with made-up weights makes nearly the same of all faces: how like
//! each other they are stands beside how like the processor's they are. Speed is in faces a second, with one session and with
//! two, then of the sessions alone, on an input that is in place.

#![expect(clippy::print_stdout, reason = "a program of the command line")]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use facewire_inference::{
    Embedding, FaceEmbedder, FaceFind, GraphInput, OnnxRuntime, Pack, Provider, SessionOptions, timed,
};
use facewire_vision::{AlignedFace, DecodeLimits, RgbImage, decode};

/// Time of each measurement.
const TRIAL: Duration = Duration::from_millis(500);

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [library, provider, pictures, packs @ ..] = arguments.as_slice() else {
        return Err("name a library, a provider, a folder of aligned faces, and packs".into());
    };
    let runtime = OnnxRuntime::load(Path::new(library))?;
    let provider: Provider = provider.parse()?;
    runtime.check(provider)?;
    let pictures = read(Path::new(pictures))?;
    let faces: Vec<AlignedFace> = pictures.iter().cloned().map(AlignedFace::from_image).collect::<Result<_, _>>()?;
    for pack in packs {
        println!("{pack}");
        if let Err(error) = one(&runtime, provider, &pictures, &faces, &Pack::open(Path::new(pack))?) {
            println!("  FAILED: {error}");
        }
    }
    Ok(())
}

fn read(folder: &Path) -> Result<Vec<RgbImage>, Box<dyn Error>> {
    let entries =
        std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<PathBuf>, std::io::Error>>();
    let mut paths: Vec<PathBuf> =
        entries?.into_iter().filter(|path| path.to_string_lossy().ends_with(".png")).collect();
    paths.sort();
    let picture = |path: &PathBuf| Ok(decode(&std::fs::read(path)?, &DecodeLimits::default())?);
    paths.iter().map(picture).collect()
}

fn one(
    runtime: &OnnxRuntime,
    provider: Provider,
    pictures: &[RgbImage],
    faces: &[AlignedFace],
    pack: &Pack,
) -> Result<(), Box<dyn Error>> {
    let processor = SessionOptions { intra_threads: 8, ..SessionOptions::default() };
    finds(runtime, provider, pictures, pack)?;
    let expected = embeddings(pack.embedder(runtime, &processor)?.as_mut(), faces)?;
    let apart = expected.iter().zip(expected.iter().skip(1)).map(|(a, b)| cosine(a, b)).fold(1.0, f32::min);
    for graph_input in [GraphInput::Float, GraphInput::Uint8] {
        let options = SessionOptions { provider, graph_input, ..SessionOptions::default() };
        if let Err(error) = embeds(runtime, &options, faces, pack, &expected) {
            println!("  {graph_input:?}: FAILED: {error}");
        }
    }
    println!("  other faces: {apart:.3}");
    speed(runtime, &SessionOptions::default().on(provider), faces, pack)
}

/// The embedder, against what the processor made of the same faces.
fn embeds(
    runtime: &OnnxRuntime,
    options: &SessionOptions,
    faces: &[AlignedFace],
    pack: &Pack,
    expected: &[Embedding],
) -> Result<(), Box<dyn Error>> {
    let opened = Instant::now();
    let mut embedder = pack.embedder(runtime, options)?;
    let opened = opened.elapsed();
    let warmed = Instant::now();
    for size in embedder.warm_up() {
        embedder.embed_measured(&faces.iter().cycle().take(size).cloned().collect::<Vec<_>>())?;
    }
    let warmed = warmed.elapsed();
    // All at once, and each alone: other sizes of runs, other buffers; twice, for what is recorded and played back.
    let mut same = 1.0_f32;
    for _ in 0..2 {
        let together = embeddings(embedder.as_mut(), faces)?;
        let alone: Vec<Embedding> = faces
            .iter()
            .map(|face| Ok(embeddings(embedder.as_mut(), std::slice::from_ref(face))?.remove(0)))
            .collect::<Result<_, Box<dyn Error>>>()?;
        for (expected, (a, b)) in expected.iter().zip(together.iter().zip(&alone)) {
            same = same.min(cosine(expected, a)).min(cosine(expected, b));
        }
    }
    println!(
        "  {:?}: opened in {:.1} s, every size ready in {:.1} s; like the processor's {same:.6}",
        options.graph_input,
        opened.as_secs_f64(),
        warmed.as_secs_f64()
    );
    Ok(())
}

/// The detector and the landmarks.
fn finds(runtime: &OnnxRuntime, provider: Provider, pictures: &[RgbImage], pack: &Pack) -> Result<(), Box<dyn Error>> {
    let mut here = pack.finder(runtime, &SessionOptions::default())?;
    let mut there = match pack.finder(runtime, &SessionOptions::default().on(provider)) {
        Ok(finder) => finder,
        Err(error) => {
            println!("  finder: FAILED: {error}");
            return Ok(());
        }
    };
    let (mut found, mut missed, mut off) = (0, 0, 0.0_f32);
    for picture in pictures {
        // Larger, with a border: as crops are.
        let picture = RgbImage::from_fn(224, 224, |x, y| {
            picture.pixel(x.saturating_sub(56).min(111), y.saturating_sub(56).min(111)).unwrap_or_default()
        });
        let (a, b) = (here.find(&picture)?, there.find(&picture)?);
        missed += a.len().abs_diff(b.len());
        for (a, b) in a.iter().zip(&b) {
            found += 1;
            let points = a.landmarks.iter().zip(&b.landmarks);
            off = points.map(|(a, b)| (a.x - b.x).abs().max((a.y - b.y).abs())).fold(off, f32::max);
        }
    }
    println!("  finder: {found} faces, {missed} not by both, landmarks at most {off:.4} pixels apart");
    Ok(())
}

fn embeddings(embedder: &mut dyn FaceEmbedder, faces: &[AlignedFace]) -> Result<Vec<Embedding>, Box<dyn Error>> {
    Ok(embedder.embed_measured(faces)?.into_iter().collect::<Result<_, _>>()?)
}

fn cosine(a: &Embedding, b: &Embedding) -> f32 {
    a.vector.iter().zip(&b.vector).map(|(a, b)| a * b).sum()
}

fn speed(
    runtime: &OnnxRuntime,
    options: &SessionOptions,
    faces: &[AlignedFace],
    pack: &Pack,
) -> Result<(), Box<dyn Error>> {
    let open = || pack.own_embedder(runtime, options);
    let images = if pack.manifest().embedder.flip { 2.0 } else { 1.0 };
    for size in open()?.warm_up() {
        let faces: Vec<AlignedFace> = faces.iter().cycle().take(size).cloned().collect();
        let embed = |sessions| timed(sessions, TRIAL, open, |session| Ok(session.embed_measured(&faces)?.len()));
        let bare = |sessions| {
            timed(sessions, TRIAL, || open()?.bare(&faces), |session| session.run().map(|()| session.rows()))
        };
        let [(one, _), (two, _), (bare_one, _), (bare_two, _)] = [embed(1)?, embed(2)?, bare(1)?, bare(2)?];
        let [bare_one, bare_two] = [bare_one, bare_two].map(|rows| rows / images);
        println!("  {size:4} faces a run: {one:8.0} {two:8.0}   in place {bare_one:8.0} {bare_two:8.0}");
    }
    Ok(())
}
