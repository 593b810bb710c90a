//! Small crops of the sample faces, as a camera's own detector would cut them out: a few KiB each, and good enough that
//! the gate lets them pass.

use anyhow::{Context, anyhow};
use bytes::Bytes;
use facewire_assess::{Request, Rules, judge};
use facewire_composition::models::Loaded;
use facewire_inference::FaceFinder;
use facewire_vision::{DecodeLimits, RgbImage, decode, degrade, encode_jpeg};

/// The longer side of a crop in pixels: the face is still well above the gate's least size.
const SIDE: u32 = 160;

/// Of the face's box, on each side.
const MARGIN: f32 = 0.4;

/// JPEG's, as cheap cameras have it.
const QUALITY: u8 = 80;

/// The crops of these photographs that the gate accepts. Blocks.
pub(crate) fn small(models: &Loaded, photos: &[Bytes]) -> anyhow::Result<Vec<Bytes>> {
    let mut finder = models.pack.finder(&models.runtime, &models.session)?;
    let rules = Rules::default();
    let mut crops = Vec::new();
    for photo in photos {
        let image = decode(photo, &DecodeLimits::default())?;
        let Ok(faces) = judge(&mut finder, &rules, Request::frame("pressure"), photo) else { continue };
        for face in faces {
            let crop = encode_jpeg(&shrunk(&degrade::cut_out(&image, &face.found.bbox, MARGIN)), QUALITY)?;
            if accepted(&mut finder, &rules, &crop) {
                crops.push(Bytes::from(crop));
            }
        }
    }
    (!crops.is_empty()).then_some(crops).context("the gate accepts no crop of the sample faces").map_err(|e| anyhow!(e))
}

fn shrunk(crop: &RgbImage) -> RgbImage {
    let longer = crop.width().max(crop.height()).max(1);
    let scaled = |side: u32| (side * SIDE / longer).max(1);
    degrade::shrink(crop, scaled(crop.width()), scaled(crop.height()))
}

fn accepted(finder: &mut FaceFinder, rules: &Rules, crop: &[u8]) -> bool {
    let judged = judge(finder, rules, Request::crop("pressure"), crop);
    judged.is_ok_and(|faces| faces.iter().all(|face| face.refusal.is_none()))
}
