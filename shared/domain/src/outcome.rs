//! How a crop ends: status, reason, and the measured value with the limit that it broke (DESIGN §4). The names here are
//! the wire and database names; adding one is a contract change.

use serde::{Deserialize, Serialize};

use crate::stage::Stage;

macro_rules! names {
    ($(#[$doc:meta])* $name:ident, $unknown:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $text)] $variant),+ }

        impl $name {
            /// Every value, in the order of the design.
            pub const ALL: &'static [$name] = &[$($name::$variant),+];

            /// The name on the wire and in rows.
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $text),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $unknown;
            fn from_str(s: &str) -> Result<Self, $unknown> {
                $name::ALL.iter().copied().find(|value| value.as_str() == s).ok_or($unknown)
            }
        }

        /// The text is none of the names.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
        #[error("unknown {}; one of: {}", stringify!($name), [$($text),+].join(", "))]
        pub struct $unknown;
    };
}

names!(
    /// What the producer wants of a crop.
    Intent, UnknownIntent {
        /// Say who it is. The default.
        Recognize = "recognize",
        /// Remember this face for the named subject.
        Enroll = "enroll",
        /// Judge the picture only; nobody is looked up and no embedding is made.
        Observe = "observe",
        /// Tell the embedding to the reply subject; nobody is looked up and nothing biometric is stored.
        Extract = "extract",
    }
);

impl Intent {
    /// Whether images of such a crop may be kept, where its collection keeps any: of an extraction nothing biometric is stored, and of
    /// who is only observed neither.
    pub const fn keeps_images(self) -> bool {
        !matches!(self, Self::Observe | Self::Extract)
    }
}

names!(
    /// The one ending of a crop (or of a face of a frame).
    Status, UnknownStatus {
        /// A person of the gallery, at or above the threshold.
        Matched = "matched",
        /// Nobody of the gallery.
        NoMatch = "no_match",
        /// A new face of a person.
        Enrolled = "enrolled",
        /// That image was enrolled for that person before.
        AlreadyEnrolled = "already_enrolled",
        /// Judged only, as asked.
        Observed = "observed",
        /// Its embedding was told to whoever asked, and stored nowhere.
        Extracted = "extracted",
        /// The crop's own fault.
        Rejected = "rejected",
        /// Our fault.
        Failed = "failed",
    }
);

names!(
    /// Why an ending is not a success.
    Reason, UnknownReason {
        /// Not JPEG, PNG or WebP by its signature.
        UnsupportedFormat = "unsupported_format",
        /// Damaged, truncated or empty.
        InvalidImage = "invalid_image",
        /// More bytes or pixels than allowed.
        ImageTooLarge = "image_too_large",
        /// Fewer pixels than a face needs.
        ImageTooSmall = "image_too_small",
        /// The detector saw none.
        NoFace = "no_face",
        /// More than one, and the crop was not declared a frame.
        MultipleFaces = "multiple_faces",
        /// The box is smaller than the limit.
        FaceTooSmall = "face_too_small",
        /// The five points do not lie as a face's do, or the model doubts them.
        LowLandmarkScore = "low_landmark_score",
        /// A signal broke its limit; the detail says which.
        LowQuality = "low_quality",
        /// Headers or subject are not as DESIGN §2 says.
        InvalidMessage = "invalid_message",
        /// The best person is too far away.
        BelowThreshold = "below_threshold",
        /// Another person is nearly as near as the best.
        Ambiguous = "ambiguous",
        /// Nobody is enrolled in the collection.
        EmptyGallery = "empty_gallery",
        /// The subject's name, image or face belongs to somebody else; or what it concerns was erased since, or is being erased.
        IdentityConflict = "identity_conflict",
        /// A deadline passed.
        Timeout = "timeout",
        /// The model could not be run on this face.
        InferenceError = "inference_error",
        /// A store stayed down.
        StoreUnavailable = "store_unavailable",
        /// A defect of ours.
        Internal = "internal",
    }
);

/// The measured value and the limit that it broke. Only numbers and fixed words: no pixels, no embedding, no names.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Detail {
    /// Which signal, e.g. `blur`, `too_dark`, `bytes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// What was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// What is allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<f64>,
    /// A sentence for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The best similarity that was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub similarity: Option<f64>,
    /// The threshold in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
    /// The second person's similarity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner_up: Option<f64>,
}

impl Detail {
    /// A signal that broke its limit.
    pub fn limit(signal: &str, value: f64, limit: f64) -> Self {
        Self { signal: Some(signal.to_owned()), value: Some(value), limit: Some(limit), ..Self::default() }
    }

    /// A sentence, where there is nothing to measure.
    pub fn message(text: impl Into<String>) -> Self {
        Self { message: Some(text.into()), ..Self::default() }
    }

    /// The same with a sentence.
    #[must_use]
    pub fn with_message(mut self, text: impl Into<String>) -> Self {
        self.message = Some(text.into());
        self
    }
}

/// The number that a person wrote, not its binary shadow: 0.36, and not 0.36000001430511475.
pub fn decimal(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

/// An ending, with the stage that found it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// How it ended.
    pub status: Status,
    /// Why, for every ending that is not a success.
    pub reason: Option<Reason>,
    /// The stage that ended it.
    pub stage: Stage,
    /// The measured value and its limit.
    pub detail: Option<Detail>,
}

impl Outcome {
    /// A success.
    pub fn success(status: Status, stage: Stage) -> Self {
        Self { status, reason: None, stage, detail: None }
    }

    /// The crop's own fault.
    pub fn rejected(stage: Stage, reason: Reason, detail: Detail) -> Self {
        Self { status: Status::Rejected, reason: Some(reason), stage, detail: Some(detail) }
    }

    /// Our fault.
    pub fn failed(stage: Stage, reason: Reason, detail: Detail) -> Self {
        Self { status: Status::Failed, reason: Some(reason), stage, detail: Some(detail) }
    }

    /// Nobody of the gallery.
    pub fn no_match(reason: Reason, detail: Detail) -> Self {
        Self { status: Status::NoMatch, reason: Some(reason), stage: Stage::Match, detail: Some(detail) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for status in Status::ALL {
            assert_eq!(status.as_str().parse::<Status>().unwrap(), *status);
        }
        for reason in Reason::ALL {
            assert_eq!(reason.as_str().parse::<Reason>().unwrap(), *reason);
            assert_eq!(serde_json::to_string(reason).unwrap(), format!("\"{reason}\""));
        }
        assert!("identify".parse::<Intent>().unwrap_err().to_string().contains("recognize, enroll, observe, extract"));
    }

    #[test]
    fn a_threshold_reads_as_it_was_written() {
        assert_eq!(decimal(0.36), 0.36);
        assert_eq!(decimal(-1.0), -1.0);
        assert!(decimal(f32::NAN).is_nan());
    }

    #[test]
    fn a_detail_shows_only_what_was_measured() {
        let json = serde_json::to_string(&Detail::limit("blur", 38.2, 60.0)).unwrap();
        assert_eq!(json, r#"{"signal":"blur","value":38.2,"limit":60.0}"#);
    }
}
