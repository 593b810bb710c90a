//! Detector decoding: any numbers as the raw outputs of both kinds of detector. Run it with
//! `cargo fuzz run --sanitizer none detector` from the workspace root; what it finds becomes a test of
//! `shared/inference`.

#![no_main]

use facewire_inference::detector::{MAX_DETECTIONS, decode_rfb, decode_scrfd};
use facewire_inference::{Detection, Tensor};
use libfuzzer_sys::fuzz_target;

/// A small SCRFD: 64x32 has few anchors, and every stride.
const INPUT: [u32; 2] = [64, 32];
const ANCHORS: [usize; 3] = [64, 16, 4];

fuzz_target!(|input: &[u8]| {
    let mut numbers = input.chunks_exact(4).filter_map(|four| Some(f32::from_le_bytes(four.try_into().ok()?)));
    let mut next = || numbers.next().unwrap_or(0.0);
    let (threshold, overlap, scale) = (next().clamp(0.0, 1.0), next().clamp(0.0, 1.0), [next(), next()]);
    let size = (next(), next());
    let rest: Vec<f32> = numbers.collect();
    let (scores, boxes) = rest.split_at(rest.len() / 3);
    sound(&decode_rfb(scores, boxes, size, threshold, overlap));

    // The right shapes with whatever numbers there are, and any shape at all.
    let mut cycle = rest.iter().copied().chain(std::iter::repeat(0.0));
    let mut tensor = |rows: usize, last: usize| Tensor {
        shape: vec![rows as i64, last as i64],
        data: cycle.by_ref().take(rows * last).collect(),
    };
    let outputs: Vec<Tensor> =
        ANCHORS.iter().flat_map(|rows| [1, 4, 10].map(|last| (*rows, last))).map(|(r, l)| tensor(r, l)).collect();
    sound(&decode_scrfd(&outputs, INPUT, scale, threshold, overlap).unwrap_or_default());
    let odd = Tensor { shape: rest.iter().map(|v| *v as i64).collect(), data: rest };
    let _ = decode_scrfd(&[odd], INPUT, scale, threshold, overlap);
});

/// Whatever a model says, a face is a box of finite numbers.
fn sound(found: &[Detection]) {
    assert!(found.len() <= MAX_DETECTIONS);
    for face in found {
        assert!(face.score.is_finite() && face.bbox.area().is_finite() && face.bbox.area() > 0.0, "{face:?}");
        assert!(face.landmarks.iter().flatten().all(|p| p.x.is_finite() && p.y.is_finite()), "{face:?}");
    }
}
