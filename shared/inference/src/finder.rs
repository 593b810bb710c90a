//! Finding faces with their five points: the detector, the landmark model, and what it takes to be right on tight crops.

use facewire_domain::{BoundingBox, Landmarks, Point};
use facewire_vision::{Lit, RgbImage, crop};

use crate::detector::{Detection, FaceDetector};
use crate::error::InferenceError;
use crate::landmarks::LandmarkModel;

/// A face with everything that alignment needs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FoundFace {
    /// In pixels of the picture; corners may lie outside it.
    pub bbox: BoundingBox,
    /// The detector's confidence, 0 to 1.
    pub detection_score: f32,
    /// Left eye, right eye, nose, left and right mouth corner, in pixels of the picture.
    pub landmarks: Landmarks,
    /// How far the points wander when they are looked for again, in eye distances (see [`LandmarkModel::drift`]); 0 where
    /// the detector finds them itself.
    pub drift: f32,
}

impl FoundFace {
    fn moved(mut self, x: f32, y: f32) -> Self {
        let BoundingBox { x1, y1, x2, y2 } = self.bbox;
        self.bbox = BoundingBox { x1: x1 + x, y1: y1 + y, x2: x2 + x, y2: y2 + y };
        self.landmarks = self.landmarks.map(|p| Point::new(p.x + x, p.y + y));
        self
    }

    /// Whether both boxes are of one face: half of the smaller one is in the other.
    fn same_face(&self, other: &FoundFace) -> bool {
        let (a, b) = (&self.bbox, &other.bbox);
        let common = BoundingBox { x1: a.x1.max(b.x1), y1: a.y1.max(b.y1), x2: a.x2.min(b.x2), y2: a.y2.min(b.y2) };
        common.area() > 0.5 * a.area().min(b.area())
    }
}

/// Finds the faces of a picture. One thread at a time.
pub trait FaceFind: Send {
    /// All faces, the most confident first.
    fn find(&mut self, image: &RgbImage) -> Result<Vec<FoundFace>, InferenceError>;

    /// The same in a picture whose light was corrected. Where there is none, once more without regard to what is bright in it.
    fn find_lit(&mut self, picture: &Lit<'_>) -> Result<Vec<FoundFace>, InferenceError> {
        let faces = self.find(picture.image())?;
        if !faces.is_empty() {
            return Ok(faces);
        }
        picture.without_highlights().map_or(Ok(faces), |image| self.find(&image))
    }
}

/// Points that wander further than this are looked for again with a border around the picture.
const DOUBTFUL_DRIFT: f32 = 0.12;

/// Points that wander further than this, beside a face whose points hold still, are on no face: a detector's slip, or a head
/// seen from behind.
const LOST_DRIFT: f32 = 0.3;

/// Points that wander further than this are on no face at all: nothing was found.
const NO_FACE_DRIFT: f32 = 0.75;

/// The border, as a part of the picture's longer side, on each of its sides; of a long picture's short side no more than that.
const BORDER: f32 = 0.25;

/// Pictures with a longer side are not searched with a border: none is a tight crop, and a long one would become many times
/// as large. Six times the largest detector's input; a telephone's twelve megapixels are within.
const LONGEST_BORDERED: u32 = 4096;

/// A box that comes this near to the picture's edge, as a part of its own size, may be a poor one.
const EDGE: f32 = 0.08;

/// The part of the picture from which on a face at its edge makes it a tight crop. Beside the edge SCRFD's points are the same with
/// and without a border up to a third of the picture; of crops that are half face it finds most with a border alone.
const TIGHT: f32 = 0.25;

/// Detector and landmarks of a pack.
///
/// A detector picks poor boxes on tight crops (no background around the face), and a poor box gives well-shaped points in
/// the wrong place. So where no face is found, or one lies at the picture's edge, or its points do not hold still, the
/// picture is searched once more with a black border, unless it is a huge one, and of two findings of the same face the
/// steadier one stays; of two that are as steady the one with the border.
/// Measured on crops cut exactly at the detector's own box: 8 of 63 were ruined without it, none with it.
///
/// The points of a detector that finds them itself do not depend on its box, and every face is smaller in a picture with a border:
/// there a face at the edge is looked for again only where it fills much of the picture.
pub struct FaceFinder {
    detector: Box<dyn FaceDetector>,
    landmarks: Option<LandmarkModel>,
}

impl FaceFinder {
    /// Joins a detector and, where it finds no points itself, a landmark model.
    pub fn new(detector: Box<dyn FaceDetector>, landmarks: Option<LandmarkModel>) -> Self {
        Self { detector, landmarks }
    }

    fn search(&mut self, image: &RgbImage) -> Result<Vec<FoundFace>, InferenceError> {
        let detections = self.detector.detect(image)?;
        let mut faces = Vec::with_capacity(detections.len());
        for detection in &detections {
            faces.extend(self.complete(image, detection)?);
        }
        Ok(faces)
    }

    /// What is found with a border around the picture. Nothing where the picture is too large for one.
    fn bordered(&mut self, image: &RgbImage) -> Result<Vec<FoundFace>, InferenceError> {
        let longer = image.width().max(image.height());
        if longer > LONGEST_BORDERED {
            return Ok(Vec::new());
        }
        let (width, height) = (image.width() as f32, image.height() as f32);
        let border = (longer as f32 * BORDER).round();
        // No wider than the side itself: `crop` cuts no further out.
        let (x, y) = (border.min(width), border.min(height));
        let wide = BoundingBox { x1: -x, y1: -y, x2: width + x, y2: height + y };
        let found = self.search(&crop(image, &wide))?;
        Ok(found.into_iter().map(|face| face.moved(-x, -y)).collect())
    }

    fn complete(&mut self, image: &RgbImage, detection: &Detection) -> Result<Option<FoundFace>, InferenceError> {
        let (landmarks, drift) = match (detection.landmarks, &mut self.landmarks) {
            (Some(points), _) => (points, 0.0),
            (None, Some(model)) => match model.find(image, &detection.bbox)? {
                Some(points) => (points, model.drift(image, &points)?),
                None => return Ok(None),
            },
            (None, None) => return Ok(None),
        };
        let Detection { bbox, score: detection_score, .. } = *detection;
        Ok(Some(FoundFace { bbox, detection_score, landmarks, drift }))
    }
}

impl FaceFind for FaceFinder {
    fn find(&mut self, image: &RgbImage) -> Result<Vec<FoundFace>, InferenceError> {
        let plain = self.search(image)?;
        let (width, height) = (image.width() as f32, image.height() as f32);
        let own_points = self.landmarks.is_none();
        let doubtful = |face: &FoundFace| {
            let cut = at_edge(&face.bbox, width, height) && !(own_points && is_small(&face.bbox, width, height));
            face.drift > DOUBTFUL_DRIFT || cut
        };
        if !plain.is_empty() && !plain.iter().any(doubtful) {
            return Ok(plain);
        }
        let bordered = self.bordered(image)?;
        let (contested, sure) = plain.into_iter().partition(doubtful);
        Ok(without_ghosts(steadiest(sure, contested, bordered)))
    }
}

fn at_edge(bbox: &BoundingBox, width: f32, height: f32) -> bool {
    let (x, y) = (bbox.width() * EDGE, bbox.height() * EDGE);
    bbox.x1 < x || bbox.y1 < y || bbox.x2 > width - x || bbox.y2 > height - y
}

/// Whether what the picture shows of a box is a small part of it.
fn is_small(bbox: &BoundingBox, width: f32, height: f32) -> bool {
    bbox.clip(width, height).area() < TIGHT * width * height
}

/// Drops what is surely no face, and what is probably none beside one that is. A lone doubtful face stays: the gate says
/// what is wrong with it.
fn without_ghosts(mut faces: Vec<FoundFace>) -> Vec<FoundFace> {
    let certain = faces.iter().any(|face| face.drift <= DOUBTFUL_DRIFT);
    faces.retain(|face| face.drift < if certain { LOST_DRIFT } else { NO_FACE_DRIFT });
    faces
}

/// Both findings joined: the sure ones as they are, of others that are one face the one whose points hold stiller; the
/// most confident first.
fn steadiest(sure: Vec<FoundFace>, contested: Vec<FoundFace>, bordered: Vec<FoundFace>) -> Vec<FoundFace> {
    let mut others = bordered;
    others.extend(contested);
    others.sort_by(|a, b| a.drift.total_cmp(&b.drift));
    let mut kept = sure;
    for face in others {
        if !kept.iter().any(|k| k.same_face(&face)) {
            kept.push(face);
        }
    }
    kept.sort_by(|a, b| b.detection_score.total_cmp(&a.detection_score));
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use facewire_vision::align::TEMPLATE;
    use std::sync::{Arc, Mutex};

    fn face(x: f32, score: f32, drift: f32) -> FoundFace {
        let bbox = BoundingBox { x1: x, y1: 0.0, x2: x + 100.0, y2: 120.0 };
        FoundFace { bbox, detection_score: score, landmarks: TEMPLATE, drift }
    }

    /// Sees one face at the left edge that fills a part of the picture, and notes how large the pictures are.
    struct Notes {
        sizes: Arc<Mutex<Vec<(u32, u32)>>>,
        part: f32,
    }

    impl FaceDetector for Notes {
        fn detect(&mut self, image: &RgbImage) -> Result<Vec<Detection>, InferenceError> {
            let (width, height) = (image.width(), image.height());
            self.sizes.lock().unwrap().push((width, height));
            let bbox = BoundingBox { x1: 0.0, y1: 0.0, x2: width as f32 * self.part, y2: height as f32 };
            Ok(vec![Detection { bbox, score: 0.9, landmarks: Some(TEMPLATE) }])
        }
    }

    /// The pictures that such a detector is shown for one of this width.
    fn looked_at(width: u32, part: f32) -> Vec<(u32, u32)> {
        let sizes = Arc::new(Mutex::new(Vec::new()));
        let mut finder = FaceFinder::new(Box::new(Notes { sizes: Arc::clone(&sizes), part }), None);
        let found = finder.find(&RgbImage::filled(width, 16, [90; 3])).unwrap();
        assert!(!found.is_empty(), "what is doubtful is still found");
        sizes.lock().unwrap().clone()
    }

    #[test]
    fn a_huge_picture_gets_no_border() {
        // The border is a quarter of the longer side; a picture is not made more than three times as high.
        assert_eq!(looked_at(240, 0.5), [(240, 16), (360, 48)]);
        assert_eq!(looked_at(LONGEST_BORDERED, 0.5).len(), 2);
        assert_eq!(looked_at(LONGEST_BORDERED + 1, 0.5), [(LONGEST_BORDERED + 1, 16)]);
    }

    #[test]
    fn a_small_face_at_the_edge_with_points_of_its_own_is_not_looked_for_again() {
        assert_eq!(looked_at(240, 0.1), [(240, 16)]);
        assert_eq!(looked_at(240, TIGHT + 0.01).len(), 2, "a tight crop");
    }

    /// Sees one face where this pixel is light enough, and notes how light it was.
    struct Needs {
        level: u8,
        seen: Vec<u8>,
    }

    impl FaceFind for Needs {
        fn find(&mut self, image: &RgbImage) -> Result<Vec<FoundFace>, InferenceError> {
            let [level, ..] = image.pixel(19, 0).unwrap();
            self.seen.push(level);
            Ok(if level >= self.level { vec![face(0.0, 0.9, 0.0)] } else { vec![] })
        }
    }

    #[test]
    fn a_dark_face_beside_a_lamp_is_looked_for_without_it() {
        let shade = |x: u32, y: u32| [(20 + (x + y) % 20) as u8; 3];
        let dark = RgbImage::from_fn(100, 100, shade);
        let lamp = RgbImage::from_fn(100, 100, |x, y| if x > 90 && y > 90 { [255; 3] } else { shade(x, y) });
        let looks = |image: &RgbImage, level: u8| {
            let mut finder = Needs { level, seen: Vec::new() };
            let found = finder.find_lit(&Lit::new(image)).unwrap().len();
            (found, finder.seen)
        };
        assert_eq!(looks(&lamp, 30), (1, vec![39]), "what is found is not looked for again");
        assert_eq!(looks(&lamp, 100), (1, vec![39, 243]));
        assert_eq!(looks(&lamp, 250), (0, vec![39, 243]));
        assert_eq!(looks(&dark, 250), (0, vec![243]), "there is nothing to do without");
    }

    /// Sees one face where a picture is white.
    struct White;

    impl FaceDetector for White {
        fn detect(&mut self, image: &RgbImage) -> Result<Vec<Detection>, InferenceError> {
            let pixels = (0..image.height()).flat_map(|y| (0..image.width()).map(move |x| (x, y)));
            let white: Vec<(u32, u32)> = pixels.filter(|(x, y)| image.pixel(*x, *y) == Some([255; 3])).collect();
            let (first, last) = (white[0], white[white.len() - 1]);
            let corner = Point::new(first.0 as f32, first.1 as f32);
            let bbox = BoundingBox { x1: corner.x, y1: corner.y, x2: last.0 as f32 + 1.0, y2: last.1 as f32 + 1.0 };
            Ok(vec![Detection { bbox, score: 0.9, landmarks: Some([corner; 5]) }])
        }
    }

    #[test]
    fn a_face_in_a_long_picture_is_where_it_is() {
        for (width, height) in [(400_u32, 16_u32), (16, 400), (400, 120)] {
            // At the edge, and half of it: it is looked for with a border too.
            let white = |x: u32, y: u32| x < width / 2 && y >= height / 4;
            let image = RgbImage::from_fn(width, height, |x, y| if white(x, y) { [255; 3] } else { [9; 3] });
            let found = FaceFinder::new(Box::new(White), None).find(&image).unwrap();
            let top = height as f32 / 4.0;
            let bbox = BoundingBox { x1: 0.0, y1: top, x2: width as f32 / 2.0, y2: height as f32 };
            let face = FoundFace { bbox, detection_score: 0.9, landmarks: [Point::new(0.0, top); 5], drift: 0.0 };
            assert_eq!(found, [face], "{width}x{height}");
        }
    }

    #[test]
    fn of_one_face_the_steadier_finding_stays() {
        let drifts = |faces: Vec<FoundFace>| faces.iter().map(|f| f.drift).collect::<Vec<_>>();
        let (sure, poor) = (face(500.0, 0.7, 0.05), face(0.0, 1.0, 0.4));
        let bordered = vec![face(20.0, 0.8, 0.02), face(510.0, 0.9, 0.01)];
        assert_eq!(drifts(steadiest(vec![sure], vec![poor], bordered)), [0.02, 0.05]);
        assert_eq!(drifts(steadiest(vec![], vec![poor], vec![])), [0.4]);
    }

    #[test]
    fn a_ghost_goes_only_where_there_is_a_face() {
        assert_eq!(without_ghosts(vec![face(0.0, 1.0, 0.05), face(300.0, 0.9, 0.5)]).len(), 1);
        assert_eq!(without_ghosts(vec![face(300.0, 0.9, 0.5)]).len(), 1);
        assert_eq!(without_ghosts(vec![face(300.0, 0.9, 0.8)]).len(), 0);
    }

    #[test]
    fn the_edge_is_relative_to_the_box() {
        let bbox = BoundingBox { x1: 10.0, y1: 10.0, x2: 110.0, y2: 110.0 };
        assert!(!at_edge(&bbox, 120.0, 120.0));
        assert!(at_edge(&bbox, 117.0, 120.0));
    }
}
