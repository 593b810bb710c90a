//! Pixels as the embedder's input: the graph that normalises and mirrors by itself gives what the code before it gave, in
//! runs of any size, filled up or not, and from memory that is bound.

use std::path::Path;

use facewire_inference::manifest::{ColourOrder, EmbedderSpec, GpuSpec, ModelFile};
use facewire_inference::{
    Embedded, FaceEmbedder, FaceModel, GraphInput, InferenceError, OnnxEmbedder, Provider, SessionOptions,
};
use facewire_vision::{AlignedFace, RgbImage};
use tempfile::TempDir;

use crate::assets::{Models, cosine, data, picture, runtime};
use crate::onnx::{fixed, free, halves_model};

/// Both embeddings of a face are the same.
fn same(ours: &Embedded, theirs: &Embedded) {
    let (ours, theirs) = (ours.as_ref().unwrap(), theirs.as_ref().unwrap());
    let similarity = cosine(&ours.vector, &theirs.vector);
    assert!(similarity > 0.99999, "{similarity}");
    assert!((ours.length - theirs.length).abs() < 1e-4, "{} {}", ours.length, theirs.length);
}

fn all_same(ours: &[Embedded], theirs: &[Embedded]) {
    assert_eq!(ours.len(), theirs.len());
    ours.iter().zip(theirs).for_each(|(ours, theirs)| same(ours, theirs));
}

fn floats(file: &Path, spec: &EmbedderSpec) -> OnnxEmbedder {
    let model = runtime().open(file, &SessionOptions::default()).unwrap();
    OnnxEmbedder::new(model, spec, "floats@1:0".to_owned()).unwrap()
}

fn model(file: &Path, spec: &EmbedderSpec) -> Result<FaceModel, InferenceError> {
    FaceModel::open(&runtime(), file, spec, &SessionOptions::default())
}

fn pixels(file: &Path, spec: &EmbedderSpec) -> OnnxEmbedder {
    OnnxEmbedder::of_pixels(model(file, spec).unwrap(), spec, "pixels@1:0".to_owned())
}

#[test]
fn the_packs_embedder_gives_the_same_for_pixels() {
    let Some(data) = data() else { return };
    let models = Models::new();
    let mut faces = Vec::new();
    for entry in std::fs::read_dir(data.join("golden")).unwrap() {
        let path = entry.unwrap().path();
        if path.to_string_lossy().ends_with(".aligned.png") {
            faces.push(AlignedFace::from_image(picture(&path)).unwrap());
        }
    }
    assert_eq!(faces.len(), 27);
    let spec = &models.pack.manifest().embedder;
    let file = models.directory.path().join(&spec.file.name);
    for flip in [true, false] {
        let spec = EmbedderSpec { flip, ..spec.clone() };
        let (mut floats, mut pixels) = (floats(&file, &spec), pixels(&file, &spec));
        let expected = floats.embed_measured(&faces).unwrap();
        all_same(&pixels.embed_measured(&faces).unwrap(), &expected);
        all_same(&pixels.embed_measured(&faces[..1]).unwrap(), &expected[..1]);
        all_same(&pixels.embed_measured(&faces[9..16]).unwrap(), &expected[9..16]);
    }
    // As the option asks for it.
    let options = SessionOptions { graph_input: GraphInput::Uint8, ..SessionOptions::default() };
    let mut pixels = models.pack.embedder(&models.runtime, &options).unwrap();
    let expected = models.embedder().embed_measured(&faces[..7]).unwrap();
    all_same(&pixels.embed_measured(&faces[..7]).unwrap(), &expected);
    assert_eq!((pixels.name(), pixels.warm_up()), (models.pack.fingerprint().as_str(), vec![1]));
}

/// A model that tells left from right, in a file of its own.
fn halves(batch: &[u8]) -> (TempDir, std::path::PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("halves.onnx");
    std::fs::write(&path, halves_model(batch)).unwrap();
    (directory, path)
}

fn spec(max_rows: usize, flip: bool, colour: ColourOrder) -> EmbedderSpec {
    let file = ModelFile { name: "halves.onnx".to_owned(), sha256: String::new() };
    EmbedderSpec { file, dim: 6, mean: 100.0, scale: 80.0, colour, max_rows, flip, gpu: None }
}

/// Faces whose halves and colours all differ.
fn faces(count: u8) -> Vec<AlignedFace> {
    let face = |number: u8| {
        let left = [200, 10 + 9 * number, 40];
        let right = [7 * number, 120, 255 - 5 * number];
        AlignedFace::from_image(RgbImage::from_fn(112, 112, |x, _| if x < 56 { left } else { right })).unwrap()
    };
    (0..count).map(face).collect()
}

#[test]
fn colours_mirror_images_and_batches_are_the_graphs_own_work() {
    let (_directory, path) = halves(&free());
    let faces = faces(7);
    for colour in [ColourOrder::Rgb, ColourOrder::Bgr] {
        for (max_rows, flip) in [(64, true), (64, false), (7, true), (3, false), (1, true)] {
            let spec = spec(max_rows, flip, colour);
            let expected = floats(&path, &spec).embed_measured(&faces).unwrap();
            let mut pixels = pixels(&path, &spec);
            assert_eq!(model(&path, &spec).unwrap().mirrors(), flip && max_rows > 1);
            all_same(&pixels.embed_measured(&faces).unwrap(), &expected);
            for (face, expected) in faces.iter().zip(&expected) {
                same(&pixels.embed_measured(std::slice::from_ref(face)).unwrap()[0], expected);
            }
        }
    }
    // Not for nothing: the mirror image and the order of the colours both count.
    let of = |spec: &EmbedderSpec| floats(&path, spec).embed(&faces).unwrap().remove(0);
    let plain = of(&spec(64, false, ColourOrder::Rgb));
    assert!(cosine(&plain, &of(&spec(64, true, ColourOrder::Rgb))) < 0.99);
    assert!(cosine(&plain, &of(&spec(64, false, ColourOrder::Bgr))) < 0.99);
}

#[test]
fn a_fixed_batch_stays_fixed() {
    let faces = faces(5);
    for (rows, mirrors, in_a_run) in [(4, true, 2), (1, false, 1), (3, false, 3)] {
        let (_directory, path) = halves(&fixed(rows));
        let spec = spec(usize::from(rows), true, ColourOrder::Rgb);
        let opened = model(&path, &spec).unwrap();
        assert_eq!((opened.mirrors(), opened.fixed_faces()), (mirrors, Some(in_a_run)), "{rows}");
        let expected = floats(&path, &spec).embed_measured(&faces).unwrap();
        all_same(&pixels(&path, &spec).embed_measured(&faces).unwrap(), &expected);
        all_same(&pixels(&path, &spec).in_buckets().embed_measured(&faces).unwrap(), &expected);
        assert_eq!(pixels(&path, &spec).in_buckets().warm_up(), [1], "every run has one size");
    }
    let (_directory, path) = halves(&fixed(4));
    let error = model(&path, &spec(8, true, ColourOrder::Rgb)).unwrap_err();
    assert!(error.to_string().contains("max_rows"), "{error}");
}

#[test]
fn what_fills_a_run_up_changes_nothing() {
    let (_directory, path) = halves(&free());
    let faces = faces(7);
    let gpu = Some(GpuSpec { buckets: vec![2, 8], ..GpuSpec::default() });
    for flip in [true, false] {
        let usual = spec(64, flip, ColourOrder::Bgr);
        let own = EmbedderSpec { gpu: gpu.clone(), ..usual.clone() };
        let expected = floats(&path, &usual).embed_measured(&faces).unwrap();
        for spec in [&usual, &own] {
            for mut filled in [pixels(&path, spec).in_buckets(), floats(&path, spec).in_buckets()] {
                all_same(&filled.embed_measured(&faces).unwrap(), &expected);
                all_same(&filled.embed_measured(&faces[2..5]).unwrap(), &expected[2..5]);
            }
        }
    }
    // In faces, of which each is two images where the graph does not mirror it.
    let spec = spec(64, true, ColourOrder::Rgb);
    assert_eq!(pixels(&path, &spec).in_buckets().warm_up(), [1, 4, 16, 32]);
    assert_eq!(floats(&path, &spec).in_buckets().warm_up(), [1, 2, 8, 16, 32]);
    assert_eq!(pixels(&path, &spec).warm_up(), [1], "without sizes any run is like the first");
}

#[test]
fn bound_memory_gives_the_same_and_is_used_again() {
    let (_directory, path) = halves(&free());
    let (faces, spec) = (faces(7), spec(8, true, ColourOrder::Rgb));
    let expected = floats(&path, &spec).embed_measured(&faces).unwrap();
    for cuda_graph in [false, true] {
        let bound = model(&path, &spec).unwrap().pinned(Provider::Cpu, cuda_graph);
        let mut bound = OnnxEmbedder::of_pixels(bound, &spec, "bound@1:0".to_owned()).in_buckets();
        for _ in 0..2 {
            all_same(&bound.embed_measured(&faces).unwrap(), &expected);
            all_same(&bound.embed_measured(&faces[3..4]).unwrap(), &expected[3..4]);
        }
    }
}

#[test]
fn a_bare_session_has_one_runs_images_in_place() {
    let (faces, spec) = (faces(4), spec(8, true, ColourOrder::Bgr));
    let (_directory, path) = halves(&free());
    let bound = |cuda_graph| model(&path, &spec).unwrap().pinned(Provider::Cpu, cuda_graph);
    let bound = |cuda_graph| OnnxEmbedder::of_pixels(bound(cuda_graph), &spec, "bound@1:0".to_owned());
    for embedder in [floats(&path, &spec), pixels(&path, &spec), bound(false), bound(true)] {
        let mut bare = embedder.bare(&faces).unwrap();
        assert_eq!(bare.rows(), 8);
        assert!((0..3).all(|_| bare.run().is_ok()));
    }
    // A batch of one holds half of a face that is mirrored; more than it holds is left out.
    let single = self::spec(1, true, ColourOrder::Bgr);
    let (_directory, path) = halves(&fixed(1));
    for embedder in [floats(&path, &single), pixels(&path, &single)] {
        let mut bare = embedder.bare(&faces).unwrap();
        assert_eq!((bare.rows(), bare.run().is_ok()), (1, true));
    }
    // A batch that is fixed is filled up.
    let four = self::spec(4, true, ColourOrder::Bgr);
    let (_directory, path) = halves(&fixed(4));
    for embedder in [floats(&path, &four), pixels(&path, &four)] {
        let mut bare = embedder.bare(&faces[..1]).unwrap();
        assert_eq!((bare.rows(), bare.run().is_ok()), (4, true));
    }
    // Where the graph mirrors an odd number of rows, one stays empty.
    let seven = self::spec(7, true, ColourOrder::Bgr);
    let (_directory, path) = halves(&free());
    assert_eq!(pixels(&path, &seven).bare(&faces).unwrap().rows(), 6);
}

#[test]
fn what_cannot_take_pixels_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("halves.onnx");
    let whole = halves_model(&free());
    // The version of the operators is the file's last byte.
    let old = [&whole[..whole.len() - 1], &[6]].concat();
    for (content, said) in [(b"this is no model".to_vec(), "no ONNX model"), (old, "version 6")] {
        std::fs::write(&path, content).unwrap();
        let error = model(&path, &spec(64, true, ColourOrder::Rgb)).unwrap_err();
        assert!(matches!(error, InferenceError::Load { .. }), "{error}");
        assert!(error.to_string().contains(said) && error.to_string().contains("graph_input"), "{error}");
    }
}
