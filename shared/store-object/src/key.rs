//! The name of a kept image: `<collection>/<kind>/<2 hex>/<sha256 hex>[-<face index>].<extension>`. It follows from the
//! collection, the original image and the face alone, so that a write is idempotent and a face's row leads to its image.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use facewire_domain::{CollectionId, ImageHash};

/// What is kept of an image. In the order of the names in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ImageKind {
    /// The aligned 112×112 face, a PNG.
    Aligned,
    /// The part of the original that shows one face, in an image format of the writer's choice.
    Crop,
    /// The image as it was received: JPEG, PNG or WebP.
    Original,
}

impl ImageKind {
    /// All kinds, in order.
    pub const ALL: [Self; 3] = [Self::Aligned, Self::Crop, Self::Original];

    /// The name, as it appears in the path.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Aligned => "aligned",
            Self::Crop => "crop",
            Self::Original => "original",
        }
    }

    fn extension(self) -> &'static str {
        match self {
            Self::Aligned => "png",
            // The key does not know the format; the content's signature does.
            Self::Crop | Self::Original => "img",
        }
    }
}

/// Not the name of a kept image: somebody else's object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the key of a kept image")]
pub struct InvalidKey;

/// The key of one kept image. Ordered as the store lists: by the bytes of the whole path, so `a-b/…` comes before `a/…`;
/// within a collection by kind, hash and face index.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ImageKey {
    collection: CollectionId,
    kind: ImageKind,
    hash: ImageHash,
    face_index: u32,
}

impl ImageKey {
    /// The key of an original; `hash` is the hash of its content.
    pub fn original(collection: CollectionId, hash: ImageHash) -> Self {
        Self { collection, kind: ImageKind::Original, hash, face_index: 0 }
    }

    /// The key of the part of an original that shows one face; `hash` is the original's.
    pub fn crop(collection: CollectionId, hash: ImageHash, face_index: u32) -> Self {
        Self { collection, kind: ImageKind::Crop, hash, face_index }
    }

    /// The key of the aligned face of an original; `hash` is the original's.
    pub fn aligned(collection: CollectionId, hash: ImageHash, face_index: u32) -> Self {
        Self { collection, kind: ImageKind::Aligned, hash, face_index }
    }

    /// The collection that keeps the image.
    pub fn collection(&self) -> &CollectionId {
        &self.collection
    }

    /// What of the image is kept.
    pub fn kind(&self) -> ImageKind {
        self.kind
    }

    /// The hash of the original image.
    pub fn hash(&self) -> ImageHash {
        self.hash
    }

    /// Which face of the original; `None` for an original itself.
    pub fn face_index(&self) -> Option<u32> {
        (self.kind != ImageKind::Original).then_some(self.face_index)
    }

    pub(crate) fn path(&self) -> object_store::path::Path {
        // Every character of a key is one that `Path` leaves as it is.
        object_store::path::Path::from(self.to_string())
    }
}

impl fmt::Display for ImageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shard = self.hash.as_bytes().first().copied().unwrap_or_default();
        write!(f, "{}/{}/{shard:02x}/{}", self.collection, self.kind.as_str(), self.hash)?;
        if let Some(index) = self.face_index() {
            // Of one width, so that the store's order is the order of the numbers.
            write!(f, "-{index:010}")?;
        }
        write!(f, ".{}", self.kind.extension())
    }
}

fn parse_hash(text: &str) -> Option<ImageHash> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(ImageHash::from_bytes(bytes))
}

fn parse(text: &str) -> Option<ImageKey> {
    let mut parts = text.split('/');
    let collection = parts.next()?.parse().ok()?;
    let kind = parts.next()?;
    let kind = ImageKind::ALL.into_iter().find(|known| known.as_str() == kind)?;
    let (stem, _) = parts.nth(1)?.split_once('.')?;
    let (hash, face_index) = match stem.split_once('-') {
        Some((hash, index)) => (hash, index.parse().ok()?),
        None => (stem, 0),
    };
    let key = ImageKey { collection, kind, hash: parse_hash(hash)?, face_index };
    // One spelling for each key: whatever was left unchecked above shows here.
    (key.to_string() == text).then_some(key)
}

impl FromStr for ImageKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        parse(text).ok_or(InvalidKey)
    }
}

impl Ord for ImageKey {
    fn cmp(&self, other: &Self) -> Ordering {
        let directory = |key: &Self| key.collection.as_str().to_owned() + "/";
        let rest = |key: &Self| (key.kind, key.hash, key.face_index);
        directory(self).cmp(&directory(other)).then_with(|| rest(self).cmp(&rest(other)))
    }
}

impl PartialOrd for ImageKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn keys() -> impl Strategy<Value = ImageKey> {
        // Few collections and hashes, so that every part decides an order now and then.
        let collection = prop_oneof![Just("a".to_owned()), Just("a-b".to_owned()), "[A-Za-z0-9_-]{1,64}"];
        let hash = prop_oneof![Just([7; 32]), any::<[u8; 32]>()];
        (collection, 0..3usize, hash, prop_oneof![0..20u32, any::<u32>()]).prop_map(|(collection, kind, hash, face)| {
            let (collection, hash) = (collection.parse().unwrap(), ImageHash::from_bytes(hash));
            match ImageKind::ALL[kind] {
                ImageKind::Aligned => ImageKey::aligned(collection, hash, face),
                ImageKind::Crop => ImageKey::crop(collection, hash, face),
                ImageKind::Original => ImageKey::original(collection, hash),
            }
        })
    }

    proptest! {
        #[test]
        fn a_key_survives_its_text(key in keys()) {
            prop_assert_eq!(key.to_string().parse::<ImageKey>(), Ok(key.clone()));
            let path = key.path();
            prop_assert_eq!(path.as_ref(), key.to_string());
        }

        #[test]
        fn keys_are_ordered_as_their_texts(a in keys(), b in keys()) {
            prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
        }

        #[test]
        fn a_changed_text_is_another_key_or_none(key in keys(), at in any::<prop::sample::Index>(), to in "[ -~]") {
            let text = key.to_string();
            let at = at.index(text.len());
            let changed = format!("{}{to}{}", &text[..at], &text[at + 1..]);
            if let Ok(parsed) = changed.parse::<ImageKey>() {
                prop_assert_eq!(parsed.to_string(), changed);
            }
        }
    }

    #[test]
    fn names_never_change() {
        // Pinned: what an older release kept must be found, and erased, by a newer one.
        let (office, hash) = ("office".parse::<CollectionId>().unwrap(), ImageHash::from_bytes([0xab; 32]));
        let hex = "ab".repeat(32);
        let original = ImageKey::original(office.clone(), hash);
        assert_eq!(original.to_string(), format!("office/original/ab/{hex}.img"));
        assert_eq!(original.face_index(), None);
        let aligned = ImageKey::aligned(office.clone(), hash, 12);
        assert_eq!(aligned.to_string(), format!("office/aligned/ab/{hex}-0000000012.png"));
        assert_eq!(aligned.face_index(), Some(12));
        assert_eq!(ImageKey::crop(office, hash, 0).to_string(), format!("office/crop/ab/{hex}-0000000000.img"));
    }

    #[test]
    fn what_is_not_ours_is_no_key() {
        let hex = "ab".repeat(32);
        for text in [
            "",
            "notes.txt",
            "office/original",
            &format!("office/original/cd/{hex}.img"),
            &format!("office/original/ab/{hex}.png"),
            &format!("office/original/ab/{hex}-0000000000.img"),
            &format!("office/aligned/ab/{hex}.png"),
            &format!("office/aligned/ab/{hex}-12.png"),
            &format!("office/aligned/ab/{hex}-+000000012.png"),
            &format!("office/original/AB/{}.img", hex.to_uppercase()),
            &format!("office/original/ab/{hex}.img/more"),
            &format!("office/original/ab/{hex}.img#1"),
            &format!("/office/original/ab/{hex}.img"),
            &format!("of.fice/original/ab/{hex}.img"),
            &format!("office/thumbnail/ab/{hex}.img"),
        ] {
            assert_eq!(text.parse::<ImageKey>(), Err(InvalidKey), "{text}");
        }
    }
}
