//! One picture to judged faces: decode, find, align, measure, judge. The quality stage, evaluations, benchmarks and
//! measurements on photo sets call the same function, so that they speak of what runs. It has no queue, no store and no
//! async; which limits there are is the domain's, pixels are `vision`'s, and models are handed in.

use facewire_domain::{Detail, Gate, GateLimits, Intent, Logit, Point, Quality, Reason, Refusal, score};
use facewire_inference::{FaceFind, FoundFace, InferenceError, Measured, measure};
use facewire_vision::{AlignedFace, DecodeLimits, Lit, decode};

/// What a picture is judged by.
#[derive(Debug, Clone)]
pub struct Rules {
    /// What may be decoded.
    pub decode: DecodeLimits,
    /// Faces of one frame at most; the smallest are left out, and never the dominant one.
    pub max_faces: usize,
    /// In a crop, a second face makes it doubtful who is meant only from this part of the first one's dominance on (see
    /// [`dominance`]), 0 to 1.
    pub second_face_ratio: f32,
    /// The limits of every collection.
    pub gate: Gate,
    /// Predicts from a picture's signals whether its face will be recognised; without it every face scores 1.
    pub score: Option<Logit>,
}

/// What somebody wants of a picture.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Whose limits hold.
    pub collection: &'a str,
    /// Who took it: a calibration may be of one camera. Empty where nobody knows.
    pub camera: &'a str,
    /// Enrolment may be stricter.
    pub intent: Intent,
    /// Every face counts, not only the subject's.
    pub frame: bool,
}

impl<'a> Request<'a> {
    /// A crop to be recognised.
    pub fn crop(collection: &'a str) -> Self {
        Self { collection, camera: "", intent: Intent::Recognize, frame: false }
    }

    /// A whole frame of people to be recognised.
    pub fn frame(collection: &'a str) -> Self {
        Self { frame: true, ..Self::crop(collection) }
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            decode: DecodeLimits::default(),
            max_faces: 64,
            second_face_ratio: 0.9,
            gate: Gate::default(),
            score: None,
        }
    }
}

/// One face of a picture, judged.
#[derive(Debug, Clone)]
pub struct Judged {
    /// Where it is.
    pub found: FoundFace,
    /// The canonical face.
    pub aligned: AlignedFace,
    /// What was measured, with the score.
    pub quality: Quality,
    /// The first limit that it broke.
    pub refusal: Option<Refusal>,
}

/// Why a picture as a whole yields no face.
#[derive(Debug, thiserror::Error)]
pub enum Unjudged {
    /// The crop's own fault.
    #[error("rejected")]
    Rejected(Refusal),
    /// The model could not be run.
    #[error(transparent)]
    Inference(#[from] InferenceError),
}

/// Judges a picture: every face of a frame, or the one face that a crop is of. Their places in the answer are their numbers.
pub fn judge(
    finder: &mut dyn FaceFind,
    rules: &Rules,
    request: Request<'_>,
    image: &[u8],
) -> Result<Vec<Judged>, Unjudged> {
    let image = decode(image, &rules.decode).map_err(|error| refuse(error.reason(), error.detail()))?;
    let picture = Lit::new(&image);
    let mut faces = finder.find_lit(&picture)?;
    if faces.is_empty() {
        return Err(refuse(Reason::NoFace, Detail::message("the detector found no face")));
    }
    let size = (image.width(), image.height());
    faces.sort_by(|a, b| dominance(b, size).total_cmp(&dominance(a, size)));
    let mut limits = rules.gate.limits_for(request.collection, request.camera, request.intent);
    if request.frame {
        number(&mut faces, rules.max_faces);
        limits = limits.in_frame();
    } else {
        faces = vec![subject(faces, size, rules.second_face_ratio)?];
    }
    let judged: Vec<_> = faces.into_iter().map(|found| judge_face(&picture, found, rules, &limits)).collect();
    if judged.iter().any(Result::is_ok) {
        // In a frame, a head whose points fall together cannot even be aligned; the others still count.
        return judged.into_iter().filter(|face| !matches!(face, Err(Unjudged::Rejected(_)))).collect();
    }
    judged.into_iter().collect()
}

/// Puts the faces of a frame into the order of their numbers; they come with the dominant one first. It stays there, because
/// a crop of the same bytes is of it alone: kept images are named by the hash of the bytes and the number of the face, and
/// written once, so that a number must mean the same face in both. The others follow from left to right, the same however
/// often the frame is judged.
fn number(faces: &mut Vec<FoundFace>, max_faces: usize) {
    if let Some((_, others)) = faces.split_first_mut() {
        others.sort_by(|a, b| b.bbox.area().total_cmp(&a.bbox.area()));
    }
    faces.truncate(max_faces.max(1));
    if let Some((_, others)) = faces.split_first_mut() {
        others.sort_by(|a, b| a.bbox.x1.total_cmp(&b.bbox.x1));
    }
}

/// The face that a crop is of: the one that dominates it, the first of these. `multiple_faces` only where a second one does
/// so nearly as much.
fn subject(faces: Vec<FoundFace>, size: (u32, u32), second_ratio: f32) -> Result<FoundFace, Unjudged> {
    let mut ranked = faces.into_iter();
    let first = ranked.next().ok_or_else(|| refuse(Reason::NoFace, Detail::default()))?;
    let min = dominance(&first, size) * second_ratio;
    let rivals = ranked.filter(|face| dominance(face, size) >= min).count();
    if rivals == 0 {
        return Ok(first);
    }
    let detail = Detail::limit("faces", count(rivals + 1), 1.0);
    let advice = "declare it a frame to recognize them all, with a Facewire-Captured-At of its own";
    Err(refuse(Reason::MultipleFaces, detail.with_message(advice)))
}

/// How much a crop is of a face: its side in pixels, less with the distance of its centre from the picture's (none left in
/// a corner). On 3,312 photos of LFW's View 1, whose subject is the one nearest to the centre, this never chose another
/// one, nor did a second face reach 0.9 of it; the largest face is the wrong one in 13, and a second one has a quarter of
/// its area in 270.
pub fn dominance(face: &FoundFace, (width, height): (u32, u32)) -> f32 {
    let (centre, middle) = (Point::new(width as f32 / 2.0, height as f32 / 2.0), face.bbox.centre());
    let away = middle.distance(centre) / Point::default().distance(centre).max(1.0);
    face.bbox.area().sqrt() * (1.0 - away).max(0.0)
}

fn judge_face(picture: &Lit<'_>, found: FoundFace, rules: &Rules, limits: &GateLimits) -> Result<Judged, Unjudged> {
    let Measured { face: aligned, mut quality } =
        measure(picture, &found).map_err(|error| Unjudged::Rejected(limits.unaligned(error.to_string())))?;
    let refusal = score::judge(rules.score.as_ref(), limits, &mut quality);
    Ok(Judged { found, aligned, quality, refusal })
}

#[expect(clippy::cast_precision_loss, reason = "a count of faces")]
fn count(faces: usize) -> f64 {
    faces as f64
}

fn refuse(reason: Reason, detail: Detail) -> Unjudged {
    Unjudged::Rejected(Refusal { reason, detail })
}

#[cfg(test)]
mod tests {
    use super::*;
    use facewire_domain::{BoundingBox, GateOverride, Shape, Term};
    use facewire_vision::align::TEMPLATE;
    use facewire_vision::{RgbImage, encode_png};
    use std::collections::HashMap;

    /// Finds what it is told to.
    struct Finds(Vec<FoundFace>);

    impl FaceFind for Finds {
        fn find(&mut self, _: &RgbImage) -> Result<Vec<FoundFace>, InferenceError> {
            Ok(self.0.clone())
        }
    }

    /// A sharp, bright, frontal face of that many pixels, its left edge there.
    fn face(left: f32, side: f32) -> FoundFace {
        let scale = side / AlignedFace::SIDE as f32;
        let landmarks = TEMPLATE.map(|p| Point::new(left + p.x * scale, p.y * scale));
        let bbox = BoundingBox { x1: left, y1: 0.0, x2: left + side, y2: side };
        FoundFace { bbox, detection_score: 0.9, landmarks, drift: 0.0 }
    }

    fn picture() -> Vec<u8> {
        encode_png(&RgbImage::from_fn(600, 200, |x, y| if (x / 4 + y / 4) % 2 == 0 { [180; 3] } else { [70; 3] }))
            .unwrap()
    }

    fn assessed(faces: Vec<FoundFace>, frame: bool) -> Result<Vec<Judged>, Unjudged> {
        judge(&mut Finds(faces), &Rules::default(), asked("office", frame), &picture())
    }

    fn asked(collection: &str, frame: bool) -> Request<'_> {
        Request { frame, ..Request::crop(collection) }
    }

    fn refused(faces: Vec<FoundFace>, frame: bool) -> Refusal {
        match assessed(faces, frame) {
            Err(Unjudged::Rejected(refusal)) => refusal,
            other => panic!("{other:?}"),
        }
    }

    /// Finds its face in pictures whose first pixel is light.
    struct InLight(FoundFace);

    impl FaceFind for InLight {
        fn find(&mut self, image: &RgbImage) -> Result<Vec<FoundFace>, InferenceError> {
            let [level, ..] = image.pixel(0, 0).unwrap();
            Ok(if level > 100 { vec![self.0] } else { vec![] })
        }
    }

    #[test]
    fn a_dark_face_beside_a_lamp_is_found() {
        let (light, dark) = ([40; 3], [10; 3]);
        let checkers = |x: u32, y: u32| if (x / 4 + y / 4).is_multiple_of(2) { light } else { dark };
        let image = RgbImage::from_fn(600, 200, |x, y| if x > 580 && y < 40 { [255; 3] } else { checkers(x, y) });
        let mut finder = InLight(face(250.0, 100.0));
        let judged = judge(&mut finder, &Rules::default(), asked("office", false), &encode_png(&image).unwrap());
        assert_eq!(places(&judged.unwrap()), [250.0]);
    }

    #[test]
    fn a_crop_has_one_face_that_counts() {
        // The larger one stands in the corner of the picture: somebody passes by.
        let judged = assessed(vec![face(0.0, 110.0), face(250.0, 100.0)], false).unwrap();
        assert_eq!(places(&judged), [250.0]);
        assert_eq!((judged[0].refusal.as_ref(), judged[0].quality.detection_score), (None, 0.9));
        assert_eq!(judged[0].quality.score, 1.0, "without a model nothing speaks against a face");
        let two = refused(vec![face(150.0, 100.0), face(350.0, 100.0), face(0.0, 40.0)], false);
        assert_eq!((two.reason, two.detail.value), (Reason::MultipleFaces, Some(2.0)));
        assert_eq!(refused(vec![], true).reason, Reason::NoFace);
    }

    fn places(judged: &[Judged]) -> Vec<f32> {
        judged.iter().map(|face| face.found.bbox.x1).collect()
    }

    #[test]
    fn behind_a_frames_dominant_face_the_others_come_from_left_to_right_and_the_smallest_are_left_out() {
        let faces = vec![face(400.0, 90.0), face(500.0, 60.0), face(250.0, 100.0), face(0.0, 110.0)];
        let numbered = |max_faces| {
            let rules = Rules { max_faces, ..Rules::default() };
            places(&judge(&mut Finds(faces.clone()), &rules, asked("office", true), &picture()).unwrap())
        };
        assert_eq!(numbered(64), [250.0, 0.0, 400.0, 500.0]);
        assert_eq!(numbered(3), [250.0, 0.0, 400.0]);
        assert_eq!(numbered(1), [250.0], "not the largest, which is in the corner");
    }

    #[test]
    fn a_crop_and_a_frame_of_the_same_bytes_mean_the_same_face_by_its_number() {
        for faces in [
            vec![face(0.0, 110.0), face(250.0, 100.0)],
            vec![face(250.0, 100.0), face(0.0, 110.0)],
            vec![face(450.0, 40.0), face(0.0, 40.0), face(200.0, 150.0)],
        ] {
            let [crop, frame] = [false, true].map(|frame| places(&assessed(faces.clone(), frame).unwrap()));
            assert_eq!((crop.len(), frame.len()), (1, faces.len()));
            assert_eq!(crop[0], frame[0], "{frame:?}");
        }
    }

    #[test]
    fn a_head_that_cannot_be_aligned_leaves_the_others_alone() {
        let spot = FoundFace { landmarks: [Point::new(5.0, 5.0); 5], ..face(300.0, 100.0) };
        assert_eq!(assessed(vec![spot, face(0.0, 150.0)], true).unwrap().len(), 1);
        let refusal = refused(vec![spot], true);
        assert_eq!((refusal.reason, refusal.detail.value), (Reason::LowLandmarkScore, Some(0.0)));
    }

    #[test]
    fn a_collection_is_judged_by_its_own_limits_and_a_frame_by_fewer() {
        let own = GateOverride { min_face_size: Some(Some(500.0)), ..GateOverride::default() };
        let small = GateOverride { min_face_ratio: Some(Some(0.9)), ..GateOverride::default() };
        let own = HashMap::from([("vault".parse().unwrap(), own), ("near".parse().unwrap(), small)]);
        let rules = Rules { gate: Gate::new(GateLimits::default(), &own), ..Rules::default() };
        let reason = |collection: &str, frame: bool| {
            let judged =
                judge(&mut Finds(vec![face(0.0, 150.0)]), &rules, asked(collection, frame), &picture()).unwrap();
            judged[0].refusal.as_ref().map(|refusal| refusal.reason)
        };
        assert_eq!([reason("office", false), reason("office", true)], [None, None]);
        assert_eq!(reason("vault", true), Some(Reason::FaceTooSmall));
        assert_eq!([reason("near", false), reason("near", true)], [Some(Reason::LowQuality), None]);
    }

    #[test]
    fn what_is_no_picture_is_the_crops_own_fault() {
        let judged = judge(&mut Finds(vec![face(0.0, 150.0)]), &Rules::default(), asked("office", false), b"GIF89a");
        assert!(matches!(judged, Err(Unjudged::Rejected(refusal)) if refusal.reason == Reason::UnsupportedFormat));
    }

    #[test]
    fn a_low_score_says_what_the_face_lacks_and_enrolment_asks_for_more() {
        let size = Term { signal: "face_size".to_owned(), shape: Shape::Log, weight: 2.0, usual: 100.0 };
        let score = Some(Logit { intercept: -8.5, terms: vec![size] });
        let enroll = GateOverride { min_score: Some(Some(0.8)), ..GateOverride::default() };
        let limits = GateLimits { min_score: Some(0.4), ..GateLimits::OFF };
        let gate = Gate::new(limits, &HashMap::new()).with_enroll(enroll);
        let rules = Rules { score, gate, ..Rules::default() };
        let refusal = |side, intent| {
            let request = Request { intent, ..asked("office", false) };
            let judged = judge(&mut Finds(vec![face(200.0, side)]), &rules, request, &picture()).unwrap();
            judged.into_iter().next().unwrap().refusal.map(|refusal| refusal.detail)
        };
        assert_eq!([refusal(90.0, Intent::Recognize), refusal(150.0, Intent::Enroll)], [None, None]);
        let low = refusal(50.0, Intent::Recognize).unwrap();
        assert_eq!(
            (low.signal.as_deref(), low.message.as_deref()),
            (Some("score"), Some("mostly for its face size of 50.000"))
        );
        assert!(refusal(90.0, Intent::Enroll).is_some(), "good enough to be recognised, not to be enrolled");
    }
}
