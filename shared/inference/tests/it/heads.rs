//! Projection heads as the training crate writes them, behind an embedder: the same numbers as the training's own, and what is no
//! head is refused.

use std::path::{Path, PathBuf};

use facewire_domain::model::base_of;
use facewire_inference::manifest::{ColourOrder, EmbedderSpec, ModelFile};
use facewire_inference::{FaceEmbedder, HeadFile, OnnxEmbedder, PackError, Projected, SessionOptions};
use facewire_training::{Faces, Head, Settings, Shape, Trainer};
use facewire_vision::{AlignedFace, RgbImage};
use tempfile::TempDir;

use crate::assets::{Models, runtime};
use crate::onnx::{exp_model, free, halves_model, log_of_log_model, mean_colour_model, with_weights_elsewhere};

/// Numbers between −1 and 1, the same in every run.
fn noise(seed: u32, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    std::iter::repeat_with(&mut next).take(count).collect()
}

/// Rows of length one.
fn rows(dim: usize, count: usize, seed: u32) -> Vec<f32> {
    let mut values = noise(seed, dim * count);
    for row in values.chunks_exact_mut(dim) {
        let length = row.iter().map(|x| x * x).sum::<f32>().sqrt();
        row.iter_mut().for_each(|x| *x /= length);
    }
    values
}

/// The head that a training begins with.
fn head(shape: Shape) -> Head {
    let (people, each) = (60, 5);
    let whose = (0..people).flat_map(|person| [person; 5]).collect();
    let faces = Faces::new(shape.input, rows(shape.input, people as usize * each, 7), whose).unwrap();
    Trainer::new(faces, Settings { shape, ..Settings::default() }).unwrap().best()
}

fn file(directory: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = directory.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

fn near(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5)
}

#[test]
fn a_session_projects_as_the_training_does() {
    let (shape, directory) = (Shape::default(), tempfile::tempdir().unwrap());
    let trained = head(shape);
    let path = file(&directory, "head.onnx", &trained.to_onnx());
    let read = HeadFile::read(&path).unwrap();
    assert_eq!((read.spec().input, read.spec().output), (shape.input, shape.output));
    // More rows than a run takes, and a part of one.
    let rows = rows(shape.input, 1500, 3);
    // What becomes of the file meanwhile does not matter.
    std::fs::remove_file(&path).unwrap();
    let mut session = read.open(&runtime(), &SessionOptions::default()).unwrap();
    let projected = session.project(&rows).unwrap();
    let wanted = trained.project(&rows).unwrap();
    assert_eq!(projected.len(), 1500);
    for (found, wanted) in projected.iter().zip(wanted.chunks_exact(shape.output)) {
        assert!(near(found.as_ref().unwrap(), wanted));
    }
    assert!(session.project(&rows[..shape.input + 1]).is_err(), "no whole rows");
    assert_eq!(session.project(&[]).unwrap(), Vec::<Option<Vec<f32>>>::new());
}

/// A pack's embedder of six numbers; a face that is grey all over has no direction.
fn embedder(directory: &TempDir) -> OnnxEmbedder {
    let path = file(directory, "halves.onnx", &halves_model(&free()));
    let file = ModelFile { name: "halves.onnx".to_owned(), sha256: String::new() };
    let (colour, max_rows) = (ColourOrder::Rgb, 8);
    let spec = EmbedderSpec { file, dim: 6, mean: 100.0, scale: 100.0, colour, max_rows, flip: true, gpu: None };
    let model = runtime().open(&path, &SessionOptions::default()).unwrap();
    OnnxEmbedder::new(model, &spec, "halves@1:0".to_owned()).unwrap()
}

fn face(colour: [u8; 3]) -> AlignedFace {
    AlignedFace::from_image(RgbImage::filled(112, 112, colour)).unwrap()
}

#[test]
fn an_embedder_with_a_head_gives_the_projection_and_the_packs_own_beside() {
    let directory = tempfile::tempdir().unwrap();
    let trained = head(Shape { input: 6, hidden: 6, output: 3 });
    let read = HeadFile::of(Path::new("head.onnx"), trained.to_onnx()).unwrap();
    let session = read.open(&runtime(), &SessionOptions::default()).unwrap();
    let mut plain = embedder(&directory);
    let mut projected = Projected::new(Box::new(embedder(&directory)), session, "halves@1:0+head".to_owned());
    assert_eq!((projected.name(), projected.dim()), ("halves@1:0+head", 3));
    assert_eq!((projected.max_batch(), projected.warm_up()), (plain.max_batch(), plain.warm_up()));
    let faces = [face([9, 30, 200]), face([100; 3]), face([200, 9, 9])];
    let (behind, before) = (projected.embed_measured(&faces).unwrap(), plain.embed_measured(&faces).unwrap());
    assert_eq!(behind.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
    assert_eq!(behind[1].as_ref().unwrap_err().index, 1, "it fails alone");
    for at in [0, 2] {
        let (behind, before) = (behind[at].as_ref().unwrap(), before[at].as_ref().unwrap());
        assert_eq!((behind.length, behind.raw.as_ref()), (before.length, Some(&before.vector)));
        assert!(before.raw.is_none());
        assert!(near(&behind.vector, &trained.project(&before.vector).unwrap()));
    }
}

#[test]
fn a_pack_with_a_head_is_another_model() {
    let models = Models::new();
    let plain = models.pack.clone();
    let small = HeadFile::of(Path::new("six.onnx"), head(Shape { input: 6, hidden: 6, output: 3 }).to_onnx()).unwrap();
    let refused = plain.clone().with_head(small).unwrap_err().to_string();
    assert!(refused.contains("six.onnx") && refused.contains("512") && refused.contains('6'), "{refused}");
    let usual = HeadFile::of(Path::new("head.onnx"), head(Shape::default()).to_onnx()).unwrap();
    let pack = plain.clone().with_head(usual.clone()).unwrap();
    assert_eq!(pack.fingerprint(), format!("{}+{}", plain.fingerprint(), usual.spec().fingerprint));
    assert_eq!(base_of(&pack.fingerprint()), Some(plain.fingerprint().as_str()));
    assert_eq!((pack.manifest().dim(), plain.manifest().dim()), (128, 512));
    assert!(plain.manifest().calibration.is_some() && pack.manifest().calibration.is_none(), "it was not measured");
    let embedder = pack.embedder(&models.runtime, &SessionOptions::default()).unwrap();
    assert_eq!((embedder.name(), embedder.dim()), (pack.fingerprint().as_str(), 128));
}

#[test]
fn what_is_no_head_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let refused = |bytes: Vec<u8>| match HeadFile::of(Path::new("other.onnx"), bytes).unwrap_err() {
        PackError::Head { message, .. } => message,
        other => panic!("{other}"),
    };
    assert!(refused(b"this is no model".to_vec()).contains("no ONNX model"));
    assert!(refused(mean_colour_model(&free())).contains("[n, width]"), "it takes pictures");
    assert!(refused(with_weights_elsewhere(exp_model(3))).contains("other files"));
    assert!(matches!(HeadFile::read(&directory.path().join("none.onnx")), Err(PackError::Io { .. })));
    // Rows to rows, but of any length, and of no numbers.
    for (name, model) in [("exp.onnx", exp_model(3)), ("log.onnx", log_of_log_model(3))] {
        let file = HeadFile::of(Path::new(name), model).unwrap();
        let error = file.open(&runtime(), &SessionOptions::default()).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains("length"), "{error}");
    }
}
