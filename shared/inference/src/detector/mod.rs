//! Detectors: a picture in, boxes (and for some, five points) out. Decoding a model's raw numbers is a pure function of
//! each kind, so that it can be tested and fuzzed without the model.

mod detection;
mod nms;
mod rfb;
mod scrfd;

pub use detection::{Detection, FaceDetector, MAX_DETECTIONS};
pub use nms::{iou, non_maximum_suppression};
pub use rfb::{Rfb320, decode_rfb};
pub use scrfd::{Scrfd, decode_scrfd};
