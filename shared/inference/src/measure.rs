//! From a found face to what the next stage gets: the canonical face and everything that the gate judges.

use std::borrow::Cow;

use facewire_domain::{Landmarks, Quality};
use facewire_vision::light::{self, Lit};
use facewire_vision::{AlignError, AlignedFace, Alignment, align, signals};

use crate::finder::FoundFace;

/// The canonical face and its signals.
#[derive(Debug, Clone)]
pub struct Measured {
    /// 112×112 RGB.
    pub face: AlignedFace,
    /// What the gate judges.
    pub quality: Quality,
}

/// Aligns a face, corrects its light where it is a dark part of a lit picture, and measures it. Fails only where the landmarks lie
/// on one spot, which is a rejected crop (`low_landmark_score`), not a defect.
pub fn measure(picture: &Lit<'_>, found: &FoundFace) -> Result<Measured, AlignError> {
    let (alignment, sent) = lit(picture, &found.landmarks)?;
    let size = (picture.image().width(), picture.image().height());
    let seen = (found.detection_score, found.drift);
    let quality = signals::quality(&alignment, sent.as_ref(), &found.landmarks, &found.bbox, seen, size);
    Ok(Measured { face: alignment.face, quality })
}

/// The face alone, for whoever has no more of it than its points.
///
/// # Errors
/// As [`measure`].
pub fn aligned(picture: &Lit<'_>, landmarks: &Landmarks) -> Result<AlignedFace, AlignError> {
    Ok(lit(picture, landmarks)?.0.face)
}

/// The face as it is embedded, and as the camera sent it where that is another one.
fn lit(picture: &Lit<'_>, landmarks: &Landmarks) -> Result<(Alignment, Option<Alignment>), AlignError> {
    let mut alignment = align(picture.image(), landmarks)?;
    let mut sent = picture.sent().map(|image| align(image, landmarks)).transpose()?;
    if let Cow::Owned(image) = light::corrected(alignment.face.image()) {
        let lit = Alignment { face: AlignedFace::from_image(image).map_err(|_| AlignError)?, ..alignment.clone() };
        sent.get_or_insert(std::mem::replace(&mut alignment, lit));
    }
    Ok((alignment, sent))
}

#[cfg(test)]
mod tests {
    use super::*;
    use facewire_domain::{BoundingBox, Point};
    use facewire_vision::RgbImage;
    use facewire_vision::align::TEMPLATE;

    #[test]
    fn points_that_wander_are_trusted_less_and_points_on_one_spot_are_no_face() {
        let image = RgbImage::filled(112, 112, [120; 3]);
        let bbox = BoundingBox { x1: 0.0, y1: 0.0, x2: 112.0, y2: 112.0 };
        let face = |drift| FoundFace { bbox, detection_score: 0.75, landmarks: TEMPLATE, drift };
        let image = Lit::new(&image);
        let steady = measure(&image, &face(0.0)).unwrap().quality;
        assert!(steady.landmarks_score > 0.999 && steady.detection_score == 0.75, "{steady:?}");
        assert!(measure(&image, &face(0.25)).unwrap().quality.landmarks_score < 0.5);
        assert!(measure(&image, &FoundFace { landmarks: [Point::default(); 5], ..face(0.0) }).is_err());
    }

    #[test]
    fn a_dark_face_is_reported_dark_and_lit_to_be_embedded() {
        let shade = |level: u32| RgbImage::from_fn(300, 112, move |x, y| [(level + x % 20 + y % 10) as u8; 3]);
        let (dark, mut part) = (shade(20), Vec::from(shade(20).into_data()));
        // A lamp beside the face: the picture as a whole is lit.
        part.chunks_exact_mut(900).for_each(|row| row[420..].fill(250));
        let part = RgbImage::new(300, 112, part).unwrap();
        let bbox = BoundingBox { x1: 0.0, y1: 0.0, x2: 112.0, y2: 112.0 };
        let face = FoundFace { bbox, detection_score: 1.0, landmarks: TEMPLATE, drift: 0.0 };
        for image in [&dark, &part] {
            let Measured { face, quality } = measure(&Lit::new(image), &face).unwrap();
            let lit = facewire_vision::GreyImage::of(face.image()).mean() / 255.0;
            assert!(quality.brightness < 0.2 && lit > 0.4, "{} {lit}", quality.brightness);
            assert!(aligned(&Lit::new(image), &TEMPLATE).unwrap() == face, "the same without its signals");
        }
    }
}
