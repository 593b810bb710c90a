//! Tight crops: no background around the face, and what becomes of them.

use facewire_domain::{BoundingBox, GateLimits, score};
use facewire_inference::{FaceFind, FoundFace, measure};
use facewire_vision::{Lit, RgbImage, crop, degrade};

use crate::assets::{Models, cosine, data, picture};

#[test]
fn a_crop_at_the_detectors_own_box_is_still_the_same_face() {
    let Some(data) = data() else { return };
    let models = Models::new();
    let (mut finder, mut embedder) = (models.finder(), models.embedder());
    let mut worst: f32 = 1.0;
    for number in [2, 5, 7, 10, 11, 12, 14, 15, 16, 18, 19, 20] {
        let whole = picture(&data.join(format!("pairs/img{number}.jpg")));
        let face = finder.find(&whole).unwrap()[0];
        let reference = embedder.embed(&[measure(&Lit::new(&whole), &face).unwrap().face]).unwrap().remove(0);
        for margin in [-0.03, 0.0, 0.05, 0.3] {
            let tight = degrade::cut_out(&whole, &face.bbox, margin);
            let found = finder.find(&tight).unwrap();
            assert_eq!(found.len(), 1, "img{number} at margin {margin}");
            let embedding = embedder.embed(&[measure(&Lit::new(&tight), &found[0]).unwrap().face]).unwrap().remove(0);
            worst = worst.min(cosine(&reference, &embedding));
        }
    }
    assert!(worst > 0.7, "the worst tight crop has a similarity of {worst} with its own photograph");
}

#[test]
fn landmarks_in_the_wrong_place_are_refused() {
    let Some(data) = data() else { return };
    let models = Models::new();
    let options = facewire_inference::SessionOptions::default();
    let file = models.directory.path().join("fr_landmark.onnx");
    let mut model = facewire_inference::LandmarkModel::new(models.runtime.open(&file, &options).unwrap());
    let mut finder = models.finder();
    let (limits, early) = (GateLimits::default(), models.pack.manifest().score.clone().unwrap().early);
    let judge = |image: &RgbImage, face: &FoundFace| {
        score::judge(Some(&early), &limits, &mut measure(&Lit::new(image), face).unwrap().quality)
    };
    let (mut refused, mut tried) = (0, 0);
    for number in [2, 5, 7, 10, 12, 13, 15, 18, 19, 20] {
        let image = picture(&data.join(format!("pairs/img{number}.jpg")));
        let good = finder.find(&image).unwrap()[0];
        assert_eq!(judge(&image, &good), None, "img{number}");
        let (w, h) = (good.bbox.width(), good.bbox.height());
        for (dx, dy, grow) in [(0.5, 0.0, 0.0), (-0.5, 0.1, 0.0), (0.0, 0.45, 0.0), (0.0, -0.45, 0.0), (0.1, 0.1, -0.3)]
        {
            let bbox = BoundingBox {
                x1: good.bbox.x1 + (dx - grow) * w,
                x2: good.bbox.x2 + (dx + grow) * w,
                y1: good.bbox.y1 + (dy - grow) * h,
                y2: good.bbox.y2 + (dy + grow) * h,
            };
            let Some(landmarks) = model.find(&image, &bbox).unwrap() else { continue };
            let eye = good.landmarks[0].distance(good.landmarks[1]);
            let off = landmarks.iter().zip(&good.landmarks).map(|(a, b)| a.distance(*b)).fold(0.0, f32::max) / eye;
            if off < 0.5 {
                continue;
            }
            let drift = model.drift(&image, &landmarks).unwrap();
            let poor = FoundFace { bbox, detection_score: 0.99, landmarks, drift };
            tried += 1;
            refused += usize::from(judge(&image, &poor).is_some());
        }
    }
    assert!(tried >= 10 && refused * 10 >= tried * 8, "{refused} of {tried} wrong landmarks were refused");
}

#[test]
fn a_picture_without_a_face_has_none() {
    let mut finder = Models::new().finder();
    let noise = RgbImage::from_fn(200, 160, |x, y| [((x * 37) ^ (y * 91)) as u8, (x * y) as u8, (y * 13) as u8]);
    for image in [RgbImage::filled(160, 160, [128; 3]), RgbImage::filled(16, 400, [0; 3]), noise.clone()] {
        assert_eq!(finder.find(&image).unwrap(), vec![]);
    }
    let sliver = crop(&noise, &BoundingBox { x1: 0.0, y1: 0.0, x2: 1.0, y2: 1.0 });
    assert!(finder.find(&sliver).is_ok());
}
