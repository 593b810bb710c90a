//! The names of collections: `<alias>-<first 12 hexadecimal digits of the fingerprint's SHA-256>-<number>`; one that is
//! rebuilt for the same model gets the next number. Two aliases lead to the one that serves: `<alias>` says which model
//! serves, and `<alias>-<digits>` is what that model's searches and writes name, so that none of them ever meets another
//! model's vectors, also not while another model takes over.

use sha2::{Digest as _, Sha256};

/// Hexadecimal digits of a model in a name: 48 bits, enough to tell the models of one installation apart.
const DIGITS: usize = 12;

/// The longest alias: Qdrant takes 255 bytes for a name, and ours add up to 33.
pub(crate) const MAX_ALIAS: usize = 200;

/// A model's part of a collection's name.
pub(crate) fn hash(model: &str) -> String {
    let digest = Sha256::digest(model.as_bytes());
    digest
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .take(DIGITS)
        .filter_map(|n| char::from_digit(n.into(), 16))
        .collect()
}

/// A collection's name, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name {
    /// Of the model's fingerprint.
    pub(crate) hash: String,
    /// 1 and up.
    pub(crate) number: u64,
}

impl Name {
    pub(crate) fn of(model: &str, number: u64) -> Self {
        Self { hash: hash(model), number }
    }

    pub(crate) fn under(&self, alias: &str) -> String {
        format!("{alias}-{}-{}", self.hash, self.number)
    }

    /// The model's own alias.
    pub(crate) fn model_alias(hash: &str, alias: &str) -> String {
        format!("{alias}-{hash}")
    }

    /// `None`: not a collection of this alias.
    pub(crate) fn read(collection: &str, alias: &str) -> Option<Self> {
        let (hash, number) = collection.strip_prefix(alias)?.strip_prefix('-')?.split_once('-')?;
        let hexadecimal =
            hash.len() == DIGITS && hash.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        let number = number.parse().ok().filter(|n: &u64| n.to_string() == number)?;
        hexadecimal.then(|| Self { hash: hash.to_owned(), number })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_it_was_written() {
        let name = Name::of("pack@1:0a1b2c3d", 7);
        let text = name.under("faces-of-all");
        assert_eq!(text, format!("faces-of-all-{}-7", hash("pack@1:0a1b2c3d")));
        assert_eq!(Name::read(&text, "faces-of-all"), Some(name));
        assert_eq!(hash("abc"), "ba7816bf8f01", "the start of SHA-256's own example");
        assert_ne!(hash("pack@1:0a1b2c3d"), hash("pack@1:0a1b2c3e"));
    }

    #[test]
    fn what_is_not_ours_is_not_read() {
        for other in [
            "faces",
            "faces-1",
            "faces-ba7816bf8f01",
            "faces-ba7816bf8f01-",
            "faces-ba7816bf8f01-01",
            "faces-BA7816BF8F01-1",
            "faces-ba7816bf8f0-1",
            "faces2-ba7816bf8f01-1",
            "faces-ba7816bf8f01-1-1",
        ] {
            assert_eq!(Name::read(other, "faces"), None, "{other}");
        }
    }
}
