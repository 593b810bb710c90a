//! The tolerances of REFERENCE.md, one by one.

use facewire_domain::{Landmarks, Point};
use facewire_inference::{FaceFind, measure};
use facewire_vision::{AlignedFace, Lit, align, signals};
use serde::Deserialize;

use crate::assets::{Models, cosine, data, picture};

#[derive(Deserialize)]
struct Golden {
    image: String,
    aligned: String,
    #[serde(rename = "box")]
    bbox: [f32; 4],
    landmarks: [[f32; 2]; 5],
    signals: Signals,
    embedding_flip: Vec<f32>,
}

#[derive(Deserialize)]
struct Signals {
    blur: f32,
    brightness: f32,
    face_ratio: f32,
}

fn landmarks(golden: &Golden) -> Landmarks {
    golden.landmarks.map(|[x, y]| Point::new(x, y))
}

#[test]
fn the_chain_is_the_references() {
    let Some(data) = data() else { return };
    let text = std::fs::read(data.join("golden/golden.json")).unwrap();
    let all: Vec<Golden> = serde_json::from_slice(&text).unwrap();
    assert_eq!(all.len(), 27);
    let models = Models::new();
    let (mut finder, mut embedder) = (models.finder(), models.embedder());
    let mut chain = Vec::new();
    for golden in &all {
        let name = &golden.image;
        let image = picture(&data.join(name));
        let aligned = AlignedFace::from_image(picture(&data.join("golden").join(&golden.aligned))).unwrap();

        let embedding = embedder.embed(std::slice::from_ref(&aligned)).unwrap().remove(0);
        assert!(cosine(&embedding, &golden.embedding_flip) >= 0.9999, "{name}: embedding");
        assert!((cosine(&embedding, &embedding) - 1.0).abs() < 1e-5);
        assert!((signals::blur(&aligned) - golden.signals.blur).abs() < golden.signals.blur * 1e-4, "{name}: blur");
        assert!((signals::brightness(&aligned) - golden.signals.brightness).abs() < 1e-4, "{name}: brightness");

        let own = align(&image, &landmarks(golden)).unwrap().face;
        let sum: u64 = own.as_bytes().iter().zip(aligned.as_bytes()).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
        assert!(sum as f64 / AlignedFace::BYTES as f64 <= 1.5, "{name}: aligned");

        let found = finder.find(&image).unwrap();
        let face = found.first().unwrap_or_else(|| panic!("{name}: no face"));
        let side = face.bbox.width();
        for (ours, theirs) in [face.bbox.x1, face.bbox.y1, face.bbox.x2, face.bbox.y2].iter().zip(golden.bbox) {
            assert!((ours - theirs).abs() <= side * 0.06, "{name}: box {:?} against {:?}", face.bbox, golden.bbox);
        }
        let measured = measure(&Lit::new(&image), face).unwrap();
        assert!((measured.quality.face_ratio - golden.signals.face_ratio).abs() < 0.02, "{name}: face_ratio");
        let embedding = embedder.embed(&[measured.face]).unwrap().remove(0);
        chain.push(cosine(&embedding, &golden.embedding_flip));
    }
    chain.sort_by(f32::total_cmp);
    let median = chain[chain.len() / 2];
    assert!(median >= 0.98 && chain[0] > 0.9, "whole chain: median {median}, worst {}", chain[0]);
}
