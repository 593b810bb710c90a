//! Identities: names that come from outside (collection, camera, subject), and ids that are computed from content, so
//! that the same crop or face has the same id however often it is delivered.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use uuid::Uuid;

/// A name from outside does not have the form that subjects and ids need.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// Collections and cameras are NATS subject tokens: `[A-Za-z0-9_-]{1,64}`.
    #[error("a {kind} is 1 to 64 characters of A-Z a-z 0-9 _ -; this one has {length} characters or others among them")]
    Token {
        /// What the name was for.
        kind: &'static str,
        /// Its length in bytes. The text itself stays out: it is a stranger's.
        length: usize,
    },
    /// Subjects are 1 to 256 bytes of printable text.
    #[error("a subject id is 1 to 256 bytes without control characters; this one has {length} bytes")]
    Subject {
        /// Its length in bytes.
        length: usize,
    },
    /// Not 64 hexadecimal digits.
    #[error("an image hash is 64 hexadecimal digits")]
    Hash,
}

fn is_token(s: &str) -> bool {
    (1..=64).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

macro_rules! token {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The text: matches `[A-Za-z0-9_-]{1,64}`.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;
            fn from_str(s: &str) -> Result<Self, InvalidName> {
                if is_token(s) {
                    Ok(Self(s.to_owned()))
                } else {
                    Err(InvalidName::Token { kind: $kind, length: s.len() })
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(s: String) -> Result<Self, InvalidName> {
                s.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

token!(
    /// A gallery and the cameras that are matched against it.
    CollectionId,
    "collection"
);
token!(
    /// One camera, as its producer names it.
    CameraId,
    "camera"
);

/// A person's id in the caller's world (staff number, ticket): 1 to 256 bytes, no control characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SubjectId(String);

impl SubjectId {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SubjectId {
    type Err = InvalidName;
    fn from_str(s: &str) -> Result<Self, InvalidName> {
        let trimmed = s.trim();
        if (1..=256).contains(&trimmed.len()) && !trimmed.chars().any(char::is_control) {
            Ok(Self(trimmed.to_owned()))
        } else {
            Err(InvalidName::Subject { length: s.len() })
        }
    }
}

impl TryFrom<String> for SubjectId {
    type Error = InvalidName;
    fn try_from(s: String) -> Result<Self, InvalidName> {
        s.parse()
    }
}

impl From<SubjectId> for String {
    fn from(subject: SubjectId) -> String {
        subject.0
    }
}

impl fmt::Display for SubjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// SHA-256 of the original encoded bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageHash([u8; 32]);

impl ImageHash {
    /// Hashes the original encoded bytes (about 2 ms a MiB without SHA extensions: keep it off the async runtime).
    pub fn of(image: &[u8]) -> Self {
        Self(Sha256::digest(image).into())
    }

    /// A hash that was computed before.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl FromStr for ImageHash {
    type Err = InvalidName;

    /// 64 hexadecimal digits, of either case.
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let digit = |c: char| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let digits: Vec<u8> = text.chars().map(digit).collect::<Option<_>>().ok_or(InvalidName::Hash)?;
        let bytes: Vec<u8> =
            digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect();
        let bytes = (digits.len() == 64).then_some(bytes).and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or(InvalidName::Hash)
    }
}

impl TryFrom<String> for ImageHash {
    type Error = InvalidName;
    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<ImageHash> for String {
    fn from(hash: ImageHash) -> String {
        hash.to_string()
    }
}

impl fmt::Display for ImageHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ImageHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// The UUID.
            pub fn as_uuid(&self) -> Uuid {
                self.0
            }
        }

        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(s: &str) -> Result<Self, uuid::Error> {
                s.parse().map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

uuid_id!(
    /// One crop: the same for a redelivered or re-published message (DESIGN §3).
    CropId
);
uuid_id!(
    /// One enrolled face, also its point id in the vector engine (DESIGN §3).
    FaceId
);
uuid_id!(
    /// One enrolled person of one collection.
    PersonId
);
uuid_id!(
    /// A group of faces that are nobody's yet, of one collection.
    ClusterId
);
uuid_id!(
    /// One piece of long work on a collection.
    JobId
);

/// A UUID (version 8: custom) from the first half of a SHA-256 over the parts, each with its length before it so that
/// `("ab", "c")` and `("a", "bc")` differ.
fn content_uuid(parts: &[&[u8]]) -> Uuid {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    let digest: [u8; 32] = hasher.finalize().into();
    let mut half = [0; 16];
    half.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
    uuid::Builder::from_custom_bytes(half).into_uuid()
}

impl CropId {
    /// `sha256(collection, camera, captured_at, image_hash)`; `captured_at` in nanoseconds since the epoch.
    pub fn derive(
        collection: &CollectionId,
        camera: &CameraId,
        captured_at: OffsetDateTime,
        image: &ImageHash,
    ) -> Self {
        Self(content_uuid(&[
            collection.as_str().as_bytes(),
            camera.as_str().as_bytes(),
            &captured_at.unix_timestamp_nanos().to_be_bytes(),
            image.as_bytes(),
        ]))
    }
}

impl PersonId {
    /// The same subject of the same collection is always the same person row.
    pub fn derive(collection: &CollectionId, subject: &SubjectId) -> Self {
        Self(content_uuid(&[b"person", collection.as_str().as_bytes(), subject.as_str().as_bytes()]))
    }
}

impl FaceId {
    /// `sha256(subject_id ‖ image_hash)`, within a collection: the same image is never enrolled twice for a person.
    pub fn derive(collection: &CollectionId, subject: &SubjectId, image: &ImageHash) -> Self {
        Self(content_uuid(&[b"face", collection.as_str().as_bytes(), subject.as_str().as_bytes(), image.as_bytes()]))
    }

    /// `sha256(crop_id, face_index)`: any other face that is kept.
    pub fn of_crop(crop: CropId, face_index: u32) -> Self {
        Self(content_uuid(&[b"kept", crop.as_uuid().as_bytes(), &face_index.to_be_bytes()]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ids() -> (CollectionId, CameraId) {
        ("office".parse().unwrap(), "door-1".parse().unwrap())
    }

    #[test]
    fn names_are_bounded() {
        for good in ["a", "A-b_9", &"x".repeat(64)] {
            assert!(good.parse::<CameraId>().is_ok(), "{good}");
        }
        for bad in ["", "a.b", "a b", "*", ">", "é", &"x".repeat(65)] {
            assert!(bad.parse::<CameraId>().is_err(), "{bad}");
        }
        assert!("\u{7}".parse::<SubjectId>().is_err());
        assert!("  ".parse::<SubjectId>().is_err());
    }

    #[test]
    fn a_crop_id_never_changes() {
        // Pinned: rows written by an older release must meet the same crop again.
        let (collection, camera) = ids();
        let at = OffsetDateTime::from_unix_timestamp(1_700_000_000).unwrap();
        let id = CropId::derive(&collection, &camera, at, &ImageHash::of(b"jpeg"));
        assert_eq!(id, CropId::derive(&collection, &camera, at, &ImageHash::of(b"jpeg")));
        assert_eq!(id.as_uuid().get_version_num(), 8);
        assert_eq!(id.to_string(), "77321bbd-a373-86f1-afa2-bfca622d7889");
        // The third face of it, where it is kept.
        assert_eq!(FaceId::of_crop(id, 2).to_string(), "b2f3289c-43d4-8c29-a793-ad69d7844f62");
    }

    #[test]
    fn the_ids_of_enrolment_never_change() {
        // Pinned: people and faces that an older release enrolled must not become others.
        let (collection, _) = ids();
        let subject: SubjectId = "staff-7".parse().unwrap();
        let person = PersonId::derive(&collection, &subject);
        assert_eq!(person.to_string(), "1e939669-87ac-864a-9ade-0d62c9dbb75b");
        let face = FaceId::derive(&collection, &subject, &ImageHash::of(b"jpeg"));
        assert_eq!(face.to_string(), "c11286cd-1d01-8f97-be84-c4eb050b2ed3");
    }

    proptest! {
        #[test]
        fn every_part_of_a_crop_counts(a in any::<Vec<u8>>(), b in any::<Vec<u8>>(), t in 0i64..4_000_000_000) {
            let (collection, camera) = ids();
            let at = OffsetDateTime::from_unix_timestamp(t).unwrap();
            let other_camera: CameraId = "door-2".parse().unwrap();
            let id = |camera: &CameraId, at, bytes: &[u8]| CropId::derive(&collection, camera, at, &ImageHash::of(bytes));
            prop_assert_eq!(id(&camera, at, &a) == id(&camera, at, &b), a == b);
            prop_assert_ne!(id(&camera, at, &a), id(&other_camera, at, &a));
            prop_assert_ne!(id(&camera, at, &a), id(&camera, at + time::Duration::NANOSECOND, &a));
        }
    }

    #[test]
    fn only_64_hexadecimal_digits_are_a_hash() {
        let hash = ImageHash::of(b"jpeg");
        assert_eq!(hash.to_string().parse(), Ok(hash));
        assert_eq!(hash.to_string().to_uppercase().parse(), Ok(hash));
        for other in ["", "photo-17", &"0".repeat(63), &"0".repeat(65), &"é".repeat(64), &"g".repeat(64)] {
            assert_eq!(other.parse::<ImageHash>(), Err(InvalidName::Hash), "{other}");
        }
    }
}
