//! The gate's default limits: clean faces pass, spoiled ones are refused by the signal that was spoiled, and what passes is
//! recognised.

use std::collections::BTreeMap;

use facewire_domain::GateLimits;
use facewire_inference::{FaceFind, measure};
use facewire_vision::{Camera, RgbImage, degrade};

use crate::assets::{Models, cosine, data, picture};

/// Single faces, of the pairs and of the people.
const FACES: [&str; 16] = [
    "pairs/img2.jpg",
    "pairs/img4.jpg",
    "pairs/img7.jpg",
    "pairs/img10.jpg",
    "pairs/img12.jpg",
    "pairs/img13.jpg",
    "pairs/img14.jpg",
    "pairs/img17.jpg",
    "pairs/img18.jpg",
    "pairs/img20.jpg",
    "pairs/img23.jpg",
    "pairs/img25.jpg",
    "people/enroll/biden/biden.jpg",
    "people/enroll/kit_harington/john1.jpeg",
    "people/enroll/obama/obama2.jpg",
    "people/enroll/rose_leslie/img2.jpg",
];

#[test]
fn each_camera_is_told_by_its_own_signal() {
    let Some(data) = data() else { return };
    let models = Models::new();
    let (mut finder, mut embedder) = (models.finder(), models.embedder());
    let limits = GateLimits::default();
    let mut refused: BTreeMap<(&str, String), usize> = BTreeMap::new();
    let mut right = 0;
    let mut accepted = 0;
    for name in FACES {
        let whole = picture(&data.join(name));
        let faces = finder.find(&whole).unwrap();
        assert_eq!(faces.len(), 1, "{name}");
        let clean = embedder.embed(&[measure(&whole, &faces[0]).unwrap().face]).unwrap().remove(0);
        let crop = degrade::cut_out(&whole, &faces[0].bbox, 0.4);
        let side = faces[0].bbox.width().min(faces[0].bbox.height());
        for camera in Camera::ALL {
            let seen: RgbImage = camera.degrade(&crop, side);
            let found = finder.find(&seen).unwrap();
            let Some(face) = found.first() else {
                *refused.entry((camera.name(), "no_face".to_owned())).or_default() += 1;
                continue;
            };
            let measured = measure(&seen, face).unwrap();
            if let Err(refusal) = limits.judge(&measured.quality) {
                *refused.entry((camera.name(), refusal.detail.signal.unwrap())).or_default() += 1;
                continue;
            }
            accepted += 1;
            let embedding = embedder.embed(&[measured.face]).unwrap().remove(0);
            right += usize::from(cosine(&embedding, &clean) >= 0.36);
        }
    }
    let count = |camera: &str, signal: &str| {
        let matching = refused.iter().filter(|((c, s), _)| *c == camera && (signal.is_empty() || s == signal));
        matching.map(|(_, count)| *count).sum::<usize>()
    };
    assert_eq!(count("clean", ""), 0, "{refused:?}");
    for (camera, signal) in [("blurred", "blur"), ("dark", "too_dark"), ("small-tilted", "face_size")] {
        let (by_signal, all) = (count(camera, signal), count(camera, ""));
        assert!(by_signal >= 4 && by_signal * 3 >= all * 2, "{camera}: {refused:?}");
    }
    assert!(accepted >= 16 && right * 100 >= accepted * 97, "{right} of {accepted} accepted faces were recognised");
}
