//! What a collection keeps of its crops (DESIGN §7), and which faces of its people probes are compared with.

use serde::{Deserialize, Serialize};

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $text)] $variant),+ }

        impl $name {
            /// As the table and JSON write it.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            /// As the table and JSON write it.
            pub fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

words!(
    /// Which faces' embeddings stay.
    KeepFaces {
        /// Those that were enrolled.
        #[default]
        Enrolled = "enrolled",
        /// Also those of crops that matched nobody.
        Unmatched = "unmatched",
        /// Those of every crop.
        All = "all",
    }
);

words!(
    /// Which images stay.
    KeepImages {
        /// None.
        #[default]
        None = "none",
        /// The aligned face.
        Aligned = "aligned",
        /// The face with its surroundings.
        Crop = "crop",
        /// The image as it was published.
        Original = "original",
    }
);

words!(
    /// Which faces of people a probe is compared with.
    Against {
        /// All of them.
        #[default]
        Faces = "faces",
        /// Those that stand for their person as exemplars.
        Prototypes = "prototypes",
    }
);

impl KeepFaces {
    /// Whether the face of a crop that was not enrolled is kept.
    pub fn keeps(self, matched: bool) -> bool {
        match self {
            Self::Enrolled => false,
            Self::Unmatched => !matched,
            Self::All => true,
        }
    }
}
