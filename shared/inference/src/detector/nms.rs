//! Non-maximum suppression: of boxes on the same face the most confident one stays.

use std::cmp::Ordering;

use facewire_domain::BoundingBox;

use super::{Detection, MAX_DETECTIONS};

/// Intersection over union, 0 to 1. `extra` is added to widths and heights: 1 as SCRFD's reference counts pixels, else 0.
pub fn iou(a: &BoundingBox, b: &BoundingBox, extra: f32) -> f32 {
    let side = |low: f32, high: f32| (high - low + extra).max(0.0);
    let area = |r: &BoundingBox| side(r.x1, r.x2) * side(r.y1, r.y2);
    let overlap = side(a.x1.max(b.x1), a.x2.min(b.x2)) * side(a.y1.max(b.y1), a.y2.min(b.y2));
    let union = area(a) + area(b) - overlap;
    if union > 0.0 { overlap / union } else { 0.0 }
}

/// Boxes a decoder may hand over: suppression compares each with each that stays.
const MAX_CANDIDATES: usize = 4096;

/// The most confident first; those that overlap a better one by more than `threshold` are dropped. At most
/// [`MAX_DETECTIONS`] stay, so that a broken model cannot make the work quadratic in its output.
pub fn non_maximum_suppression(mut found: Vec<Detection>, threshold: f32, extra: f32) -> Vec<Detection> {
    found.sort_by(|a, b| b.score.partial_cmp(&a.score).unwrap_or(Ordering::Equal));
    found.truncate(MAX_CANDIDATES);
    let mut kept: Vec<Detection> = Vec::new();
    for candidate in found {
        if kept.len() == MAX_DETECTIONS {
            break;
        }
        if kept.iter().all(|k| iou(&k.bbox, &candidate.bbox, extra) <= threshold) {
            kept.push(candidate);
        }
    }
    kept
}
