//! Dynamic batches, on a model that is written here: the mean of each colour plane as an embedding of three numbers.

use facewire_domain::FaultKind;
use facewire_inference::manifest::{ColourOrder, EmbedderSpec, ModelFile};
use facewire_inference::{
    BareSession, FaceEmbedder, FaceModel, InferenceError, NotFinite, OnnxEmbedder, Provider, SessionOptions,
};
use facewire_vision::{AlignedFace, RgbImage};

use crate::assets::{cosine, runtime};
use crate::onnx::{fixed, free, half_mean_colour_model, mean_colour_model};

fn spec(max_rows: usize, flip: bool, colour: ColourOrder) -> EmbedderSpec {
    let file = ModelFile { name: "means.onnx".to_owned(), sha256: String::new() };
    EmbedderSpec { file, dim: 3, mean: 127.5, scale: 127.5, colour, max_rows, flip, gpu: None }
}

fn open(batch: &[u8], spec: &EmbedderSpec) -> Result<OnnxEmbedder, InferenceError> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("means.onnx");
    std::fs::write(&path, mean_colour_model(batch)).unwrap();
    let model = runtime().open(&path, &SessionOptions::default())?;
    OnnxEmbedder::new(model, spec, "means@1:0".to_owned())
}

fn embedder_of(spec: &EmbedderSpec) -> OnnxEmbedder {
    open(&free(), spec).unwrap()
}

fn face(colour: [u8; 3]) -> AlignedFace {
    AlignedFace::from_image(RgbImage::filled(112, 112, colour)).unwrap()
}

#[test]
fn a_batch_gives_what_single_faces_give() {
    let faces: Vec<AlignedFace> = (0..11).map(|i| face([200, i * 20, 255 - i * 20])).collect();
    for (max_rows, flip) in [(64, true), (64, false), (7, true), (1, true), (3, false)] {
        let mut embedder = open(&free(), &spec(max_rows, flip, ColourOrder::Rgb)).unwrap();
        let batch = embedder.embed(&faces).unwrap();
        assert_eq!(batch.len(), faces.len());
        for (one, together) in faces.iter().zip(&batch) {
            let alone = embedder.embed(std::slice::from_ref(one)).unwrap().remove(0);
            assert!((cosine(&alone, together) - 1.0).abs() < 1e-5);
            assert!((cosine(together, together) - 1.0).abs() < 1e-5);
        }
    }
    let embedder = open(&free(), &spec(64, true, ColourOrder::Rgb)).unwrap();
    assert_eq!((embedder.max_batch(), embedder.dim(), embedder.name()), (Some(32), 3, "means@1:0"));
}

#[test]
fn input_is_normalised_and_in_the_manifests_order() {
    for (colour, expected) in [(ColourOrder::Rgb, [1.0, 0.0, -1.0]), (ColourOrder::Bgr, [-1.0, 0.0, 1.0])] {
        let mut embedder = open(&free(), &spec(4, true, colour)).unwrap();
        let embedding = embedder.embed(&[face([255, 128, 0])]).unwrap().remove(0);
        let length = 2f32.sqrt();
        assert!(embedding.iter().zip(expected).all(|(e, x)| (e - x / length).abs() < 0.01), "{embedding:?}");
    }
}

#[test]
fn a_vector_without_length_names_its_face() {
    let mut spec = spec(8, true, ColourOrder::Rgb);
    spec.mean = 100.0;
    let mut embedder = open(&free(), &spec).unwrap();
    let faces = [face([9; 3]), face([100; 3]), face([200, 9, 9])];
    let embedded = embedder.embed_measured(&faces).unwrap();
    let bad = NotFinite { model: "means.onnx".to_owned(), index: 1 };
    assert_eq!(embedded.iter().map(|face| face.as_ref().err()).collect::<Vec<_>>(), [None, Some(&bad), None]);
    let alone = |face: usize| embedder_of(&spec).embed_measured(&faces[face..=face]).unwrap().remove(0);
    assert_eq!([&embedded[0], &embedded[2]], [&alone(0), &alone(2)], "the others have their own");
    let error = embedder.embed(&faces).unwrap_err();
    assert!(matches!(&error, InferenceError::NotFinite(error) if *error == bad) && error.kind() == FaultKind::Poison);
}

#[test]
fn a_fixed_batch_must_be_in_the_manifest() {
    let error = open(&fixed(1), &spec(8, true, ColourOrder::Rgb)).unwrap_err();
    assert!(error.to_string().contains("max_rows"), "{error}");
    let mut embedder = open(&fixed(1), &spec(1, true, ColourOrder::Rgb)).unwrap();
    assert_eq!(embedder.max_batch(), Some(1));
    assert_eq!(embedder.embed(&[face([1, 2, 3]), face([9, 8, 7])]).unwrap().len(), 2);
    // Three faces and their mirror images in runs of exactly four rows.
    let faces = [face([1, 2, 3]), face([9, 8, 7]), face([50, 0, 200])];
    let mut embedder = open(&fixed(4), &spec(4, true, ColourOrder::Rgb)).unwrap();
    let mut single = open(&fixed(1), &spec(1, true, ColourOrder::Rgb)).unwrap();
    assert_eq!(embedder.embed(&faces).unwrap(), single.embed(&faces).unwrap());
    let wrong = EmbedderSpec { dim: 4, ..spec(1, false, ColourOrder::Rgb) };
    let error = open(&fixed(1), &wrong).unwrap().embed(&[face([1, 2, 3])]).unwrap_err();
    assert!(matches!(error, InferenceError::Shape { .. }), "{error}");
}

#[test]
fn half_precision_comes_from_pixels_and_not_from_floats() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("half.onnx");
    std::fs::write(&path, half_mean_colour_model()).unwrap();
    let (spec, faces) = (spec(8, true, ColourOrder::Rgb), [face([200, 20, 90]), face([3, 140, 250])]);
    let model = runtime().open(&path, &SessionOptions::default()).unwrap();
    let error = OnnxEmbedder::new(model, &spec, "half@1:0".to_owned()).unwrap_err();
    assert!(error.to_string().contains("graph_input") && error.to_string().contains("half"), "{error}");
    let model = FaceModel::open(&runtime(), &path, &spec, &SessionOptions::default()).unwrap();
    let half = OnnxEmbedder::of_pixels(model, &spec, "half@1:0".to_owned()).embed(&faces).unwrap();
    let single = embedder_of(&spec).embed(&faces).unwrap();
    assert!(half.iter().zip(&single).all(|(half, single)| cosine(half, single) > 0.9999));
}

#[test]
fn a_missing_gpu_is_an_error_that_says_what_to_do() {
    let runtime = runtime();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("means.onnx");
    std::fs::write(&path, mean_colour_model(&free())).unwrap();
    for provider in [Provider::Cuda { device: 0 }, Provider::TensorRt { device: 1 }] {
        if runtime.check(provider).is_ok() {
            eprintln!("NOT CHECKED: this ONNX Runtime has {provider}, so its absence could not be tried");
            continue;
        }
        let options = SessionOptions::default().on(provider);
        let error = runtime.open(&path, &options).unwrap_err();
        assert!(matches!(error, InferenceError::Provider { .. }) && error.kind() == FaultKind::Systemic, "{error}");
        let said = error.to_string();
        assert!(said.contains("onnxruntime-gpu") && said.contains(&provider.to_string()), "{said}");
        let spec = spec(8, true, ColourOrder::Rgb);
        let error = FaceModel::open(&runtime, &path, &spec, &options).unwrap_err();
        assert!(matches!(error, InferenceError::Provider { .. }), "with pixels as input too: {error}");
    }
}

#[test]
fn a_damaged_model_and_another_library_are_told() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("broken.onnx");
    std::fs::write(&path, b"this is no model").unwrap();
    let runtime = runtime();
    assert!(matches!(runtime.open(&path, &SessionOptions::default()), Err(InferenceError::Load { .. })));
    let again = facewire_inference::OnnxRuntime::load(&path).unwrap_err();
    assert!(matches!(again, InferenceError::AnotherLibrary { .. }), "{again}");
    let missing = facewire_inference::OnnxRuntime::load(&directory.path().join("none.so")).unwrap_err();
    assert!(matches!(missing, InferenceError::Library { .. }), "{missing}");
}

#[test]
fn a_bare_session_runs_on_the_input_that_was_bound() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("means.onnx");
    std::fs::write(&path, mean_colour_model(&free())).unwrap();
    let open = || runtime().open(&path, &SessionOptions::default()).unwrap();
    let (shape, data) = ([2, 3, 112, 112], vec![0.5_f32; 2 * 3 * 112 * 112]);
    let mut bare = BareSession::new(open(), shape, data.clone()).unwrap();
    assert!((0..3).all(|_| bare.run().is_ok()));
    let error = BareSession::new(open(), [2, 3, 100, 112], data).unwrap_err();
    assert!(matches!(error, InferenceError::Run { .. }), "an input of another length: {error}");
}
