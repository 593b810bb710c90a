//! Non-maximum suppression: of boxes on the same face the most confident one stays.

use std::cmp::Ordering;

use facewire_domain::BoundingBox;

use super::detection::{Detection, MAX_DETECTIONS};

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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn detection(x: f32, y: f32, side: f32, score: f32) -> Detection {
        Detection { bbox: BoundingBox { x1: x, y1: y, x2: x + side, y2: y + side }, score, landmarks: None }
    }

    #[test]
    fn overlap_is_a_part_of_the_union() {
        let (a, b) = (detection(0.0, 0.0, 10.0, 1.0).bbox, detection(5.0, 0.0, 10.0, 1.0).bbox);
        assert!((iou(&a, &b, 0.0) - 1.0 / 3.0).abs() < 1e-6);
        assert!((iou(&a, &b, 1.0) - 66.0 / 176.0).abs() < 1e-6);
        assert_eq!(iou(&a, &detection(20.0, 0.0, 10.0, 1.0).bbox, 0.0), 0.0);
    }

    proptest! {
        #[test]
        fn the_best_stays_and_none_overlap(
            boxes in prop::collection::vec((0f32..100.0, 0f32..100.0, 1f32..60.0, 0f32..1.0), 0..60), limit in 0.1f32..0.9,
        ) {
            let all: Vec<Detection> = boxes.iter().map(|(x, y, s, p)| detection(*x, *y, *s, *p)).collect();
            let kept = non_maximum_suppression(all.clone(), limit, 0.0);
            prop_assert_eq!(kept.is_empty(), all.is_empty());
            prop_assert!(kept.is_sorted_by(|a, b| a.score >= b.score));
            for (i, a) in kept.iter().enumerate() {
                prop_assert!(kept.iter().skip(i + 1).all(|b| iou(&a.bbox, &b.bbox, 0.0) <= limit));
            }
            for dropped in all.iter().filter(|d| !kept.contains(d)) {
                let by = kept.iter().any(|k| k.score >= dropped.score && iou(&k.bbox, &dropped.bbox, 0.0) > limit);
                prop_assert!(by);
            }
        }
    }
}
