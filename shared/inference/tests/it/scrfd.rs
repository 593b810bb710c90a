//! InsightFace's detector against what its reference implementation found.

use std::path::Path;

use facewire_domain::{BoundingBox, Point};
use facewire_inference::manifest::{DetectorKind, DetectorSpec, ModelFile};
use facewire_inference::{FaceDetector, FaceFind, FaceFinder, Model, Scrfd, SessionOptions};
use serde::Deserialize;

use crate::assets::{data, picture, runtime};

#[derive(Deserialize)]
struct Picture {
    image: String,
    input: u32,
    score_threshold: f32,
    nms_iou: f32,
    faces: Vec<Face>,
}

#[derive(Deserialize)]
struct Face {
    score: f32,
    #[serde(rename = "box")]
    bbox: [f32; 4],
    landmarks: [[f32; 2]; 5],
}

#[test]
fn boxes_and_points_are_the_references() {
    let Some(data) = data() else { return };
    let all: Vec<Picture> = serde_json::from_slice(&std::fs::read(data.join("golden/scrfd.json")).unwrap()).unwrap();
    assert!(!all.is_empty());
    let file = data.join("models/scrfd_500m_kps.onnx");
    for golden in &all {
        let spec = DetectorSpec {
            kind: DetectorKind::Scrfd,
            file: ModelFile { name: "scrfd_500m_kps.onnx".to_owned(), sha256: String::new() },
            input: [golden.input; 2],
            crop_input: None,
            score_threshold: golden.score_threshold,
            nms_iou: golden.nms_iou,
        };
        let open = || Scrfd::new(model(&file), &spec).unwrap();
        let image = picture(&data.join(&golden.image));
        let found = open().detect(&image).unwrap();
        assert_eq!(found.len(), golden.faces.len(), "{}", golden.image);
        let scale = golden.input as f32 / image.width().max(image.height()) as f32;
        for (ours, theirs) in found.iter().zip(&golden.faces) {
            let [x1, y1, x2, y2] = theirs.bbox;
            let near = |a: f32, b: f32| (a - b).abs() * scale <= 1.5;
            let BoundingBox { x1: a, y1: b, x2: c, y2: d } = ours.bbox;
            assert!(near(a, x1) && near(b, y1) && near(c, x2) && near(d, y2), "{}: {:?}", golden.image, ours.bbox);
            assert!((ours.score - theirs.score).abs() < 0.02);
            for (point, [x, y]) in ours.landmarks.unwrap().iter().zip(theirs.landmarks) {
                assert!(point.distance(Point::new(x, y)) * scale <= 1.5, "{}: {point:?}", golden.image);
            }
        }
        let mut finder = FaceFinder::new(Box::new(open()), None);
        assert!(finder.find(&image).unwrap().len() >= golden.faces.len());
        let crops = DetectorSpec { crop_input: Some([320; 2]), ..spec.clone() };
        let refused = Scrfd::new(model(&file), &crops).unwrap_err().to_string();
        assert!(refused.contains("remove detector.crop_input"), "the sample's input is fixed: {refused}");
    }
}

fn model(file: &Path) -> Model {
    runtime().open(file, &SessionOptions::default()).unwrap()
}
