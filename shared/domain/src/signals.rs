//! THE TABLE OF SIGNALS: what is measured on a face, and which limits the gate sets. Everything else that knows signals
//! (the fields of [`Quality`], [`GateLimits`] and [`GateOverride`], judging, labels, advice, `--limit`, histograms, wire
//! messages, columns of queries) is derived from these rows, so that a new one touches five files: this one, the function
//! that measures it (`vision::signals`), `proto/`, a migration that adds its column to the views, and `docs/SQL.md`.
//!
//! The order is the order in which the gate judges: the worst fault first, since a wrong alignment makes every later
//! signal meaningless.

mod checks;
#[macro_use]
mod derive;
mod spec;

use serde::{Deserialize, Serialize};

use crate::gate::limit;
use crate::outcome::Reason;

pub use checks::SignalCheck;
pub use spec::{Bound, Side, SignalSpec};

/// Buckets for pixels of a face's side.
const PIXELS: &[f64] = &[16.0, 24.0, 32.0, 40.0, 48.0, 64.0, 80.0, 96.0, 128.0, 192.0, 256.0, 512.0];
/// Buckets for variances of the Laplacian.
const VARIANCES: &[f64] = &[5.0, 10.0, 20.0, 30.0, 40.0, 60.0, 80.0, 120.0, 200.0, 400.0, 800.0, 1600.0];
/// Buckets for parts of a picture's area, most of which are small.
const AREAS: &[f64] = &[0.0005, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0];
/// Buckets for what lies evenly between 0 and 1.
const PARTS: &[f64] =
    &[0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0];
/// Buckets for lengths of embeddings, whose unit is the model's.
const LENGTHS: &[f64] = &[0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 7.5, 10.0, 15.0, 20.0, 25.0, 30.0];
/// Buckets for degrees away from frontal, either way.
const DEGREES: &[f64] = &[2.5, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0, 37.5, 45.0, 55.0, 65.0, 90.0];

impl Signal {
    /// What a face lacks whose points lie on one spot, so that it cannot even be aligned: this signal counts as 0 then.
    pub const OF_ALIGNMENT: Signal = Signal::LandmarksScore;
}

// A signal: its variant and its name in JSON, SQL and metrics, `in` the object that holds it in JSON, if one does. Then its
// limits, each with the name of the configuration and the one that refusals, `--limit` and people use. A limit whose
// default is `None` is off unless the configuration sets it.
//
// How the defaults were chosen: on LFW's View 1 with the default pack (298 people with five photos or more, the first one
// enrolled, four probes each by the demo's four cameras: 4,767 probes, of which 14.8 % fail at an FPIR of 1 %). A limit
// stays only where the crops beyond it fail at least five times as often as those within: `facewire evaluate` shows the
// table for any data, ARCHITECTURE.md what became of each older limit. "Fails" means that a crop is not told right.
signals! {
    ($)

    /// Shorter side of the box in pixels of the original image.
    FaceSize = face_size {
        label: "face size", unit: "pixel", magnitude: false, buckets: PIXELS,
        /// `face_too_small` below this many pixels. All 4 faces below 30 fail, 75 % of the 12 below 31.5, 32 % of those below
        /// 36. At 40, where this limit was, 73 % of what it rejected would have been recognised.
        Min min_face_size {
            name: "face_size", reason: FaceTooSmall, default: Some(30.0), in_frames: true,
            advice: "too few pixels: bring the camera nearer, zoom, or cut the crop from the full resolution",
        }
    }

    /// How well the five points fit a face's shape, 0 to 1.
    LandmarksScore = landmarks_score {
        label: "landmarks score", unit: "", magnitude: false, buckets: PARTS,
        /// `low_landmark_score` below this, 0 to 1. 75 % of the faces below 0.25 fail, 5.1 times as many as above; below 0.5,
        /// where this limit was, 49 %.
        Min min_landmarks_score {
            name: "landmarks_score", reason: LowLandmarkScore, default: Some(0.25), in_frames: true,
            advice: "eyes, nose or mouth are covered, cut off or blurred, or it is no face: look at the picture",
        }
    }

    /// Left or right in degrees, 0 is frontal. Like the other angles a rough measure from five points: good for a gate.
    Yaw = yaw in pose {
        label: "yaw", unit: "degree", magnitude: true, buckets: DEGREES,
        /// `pose` beyond this many degrees either way. Off: of the 43 faces beyond 40 degrees 44 % fail, three times as many
        /// as within.
        Max max_yaw {
            name: "yaw", reason: LowQuality, default: None, in_frames: true,
            advice: "the head is turned away: mount the camera where people look towards it, at eye level",
        }
    }

    /// Up or down in degrees, 0 is level.
    Pitch = pitch in pose {
        label: "pitch", unit: "degree", magnitude: true, buckets: DEGREES,
        /// `pose` beyond this many degrees either way. Off: of the 24 faces beyond 35 degrees 38 % fail, 2.6 times as many as
        /// within.
        Max max_pitch {
            name: "pitch", reason: LowQuality, default: None, in_frames: true,
            advice: "the head is turned away: mount the camera where people look towards it, at eye level",
        }
    }

    /// In the image plane in degrees, 0 is upright.
    Roll = roll in pose {
        label: "roll", unit: "degree", magnitude: true, buckets: DEGREES,
        /// `pose` beyond this many degrees either way. Off: alignment undoes roll; of the 71 faces beyond 30 degrees 42 % fail,
        /// 2.9 times as many as within, and beyond 40 the detector sees hardly any.
        Max max_roll {
            name: "roll", reason: LowQuality, default: None, in_frames: true,
            advice: "the head is tilted: turn the camera upright, or the picture before it is published",
        }
    }

    /// Mean grey / 255 of the canonical aligned face, 0 to 1.
    Brightness = brightness {
        label: "brightness", unit: "", magnitude: false, buckets: PARTS,
        /// `too_dark` below this, 0 to 1. Off: poor light is corrected (`vision::light`). Below 0.12, where this limit was, fewer
        /// faces fail (12.8 %) than above.
        Min min_brightness {
            name: "too_dark", reason: LowQuality, default: None, in_frames: true,
            advice: "more light on the face, a longer exposure, or no bright window behind it",
        }
        /// `too_bright` above this, 0 to 1. Off: no face of the data is brighter than 0.8, so nothing speaks for a limit.
        Max max_brightness {
            name: "too_bright", reason: LowQuality, default: None, in_frames: true,
            advice: "less light or a shorter exposure; a lamp or the sun shines into the face",
        }
    }

    /// Variance of the Laplacian of the canonical aligned face, poor light corrected, 0 and up; higher is sharper.
    Blur = blur {
        label: "blur (sharpness)", unit: "", magnitude: false, buckets: VARIANCES,
        /// `blur` below this variance. Off: of the faces below 40, where this limit was, 84 % would have been recognised; below
        /// 12, the sharpness of a strong motion, 30 % fail, twice as many as above.
        Min min_blur {
            name: "blur", reason: LowQuality, default: None, in_frames: true,
            advice: "out of focus or in motion: focus and clean the lens, shorten the exposure, give it more light",
        }
    }

    /// Box area inside the image / image area, 0 to 1.
    FaceRatio = face_ratio {
        label: "face / image area", unit: "", magnitude: false, buckets: AREAS,
        /// `face_ratio` below this, 0 to 1; of crops only, since a face is always a small part of a frame. Off: the size in
        /// pixels is what counts.
        Min min_face_ratio {
            name: "face_ratio", reason: LowQuality, default: None, in_frames: false,
            advice: "cut the crop nearer around the face, or publish it as a frame (Facewire-Frame: true)",
        }
    }

    /// The detector's confidence, 0 to 1.
    DetectionScore = detection_score {
        label: "detection score", unit: "", magnitude: false, buckets: PARTS,
    }

    /// Length of the embedding before it was normalised, in the model's own unit (of the mean of the face's and its mirror
    /// image's, where the pack has both); 0 until the face was embedded. The shorter it is, the less the model saw.
    EmbeddingLength = embedding_length {
        label: "embedding length", unit: "", magnitude: false, buckets: LENGTHS,
    }

    /// Probability that the face will be recognised, 0 to 1 (`quality.score`): from the picture at first, and anew once the
    /// face was embedded.
    Score = score {
        label: "score", unit: "", magnitude: false, buckets: PARTS,
        /// `score` below this, 0 to 1. Of the 0.8 % of the faces that score less after embedding 86 % fail, 6.6 times as many
        /// as of the others; 0.1 % of what would have been recognised is lost.
        Min min_score {
            name: "score", reason: LowQuality, default: Some(0.30), in_frames: true,
            advice: "little of it can be recognised: the message names what the face lacks most, else look at the picture",
        }
    }
}
