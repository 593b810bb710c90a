//! One item as a client writes it, checked: its number, its image or file, whose it is. Nothing is looked up here.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use facewire_domain::{ImageHash, PersonId, SubjectId};
use facewire_store_pg::{ITEM_METADATA_LENGTH, import_metadata_fits};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::error::{ApiError, Code};
use crate::input;

/// Items of an import, by their numbers: a crop's time is its import's and so many nanoseconds.
pub(crate) const MOST_ITEMS: u64 = 1_000_000_000;

/// Bytes of metadata as they are written: each character may be escaped, with six. What is longer is not parsed, for it takes up
/// to sixty times as much then.
const LONGEST_METADATA: usize = 6 * ITEM_METADATA_LENGTH;

/// A line.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Wire<'a> {
    item: u64,
    /// Base64; in lines that are not of a manifest.
    #[serde(borrow, default)]
    image: Cow<'a, str>,
    /// Which part of the form; in lines of a manifest.
    file: Option<String>,
    external_id: Option<String>,
    person_id: Option<Uuid>,
    name: Option<String>,
    /// Not parsed before its length is known.
    #[serde(borrow)]
    metadata: Option<&'a RawValue>,
}

/// Whose image it is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Who {
    /// The person of this external id, who may be new.
    External(SubjectId),
    /// A person that is there.
    Person(PersonId),
    /// The person of the name, or a new one.
    Named,
}

/// What a line says, but for the image.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Said {
    /// Which line of the body, from 1.
    pub(super) line: u64,
    pub(super) item: u64,
    pub(super) who: Who,
    pub(super) name: Option<String>,
    /// A JSON object, as text: a manifest has many lines.
    pub(super) metadata: String,
}

/// An item that is whole.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Item {
    pub(super) said: Said,
    pub(super) image: Bytes,
    pub(super) hash: ImageHash,
}

/// Why a line is refused, and its number where that could be read.
#[derive(Debug)]
pub(super) struct Wrong {
    pub(super) item: Option<u64>,
    pub(super) error: ApiError,
}

/// Reads a line with an image in it. Blocks: it decodes and hashes.
pub(super) fn with_image(line: u64, text: &[u8], most: u64) -> Result<Item, Wrong> {
    let wire = read(text)?;
    let said = said(line, &wire)?;
    let wrong = |error| Wrong { item: Some(wire.item), error };
    if wire.file.is_some() {
        return Err(wrong(ApiError::invalid("file", "only in the manifest of a form")));
    }
    let image = STANDARD.decode(wire.image.as_bytes());
    let image = image.map_err(|_| wrong(ApiError::invalid("image", "it is no base64 with padding")))?;
    whole(said, image.into(), most)
}

/// Reads a line of a manifest: what it says, and which file it means.
pub(super) fn of_manifest(line: u64, text: &[u8]) -> Result<(String, Said), Wrong> {
    let wire = read(text)?;
    let said = said(line, &wire)?;
    let wrong = |error| Wrong { item: Some(wire.item), error };
    if !wire.image.is_empty() {
        return Err(wrong(ApiError::invalid("image", "not in a manifest: name the file")));
    }
    match wire.file {
        Some(file) if !file.is_empty() => Ok((file, said)),
        _ => Err(wrong(ApiError::invalid("file", "name the part that has the image"))),
    }
}

/// The item with its image. Blocks: it hashes.
pub(super) fn whole(said: Said, image: Bytes, most: u64) -> Result<Item, Wrong> {
    let item = Some(said.item);
    if image.is_empty() {
        return Err(Wrong { item, error: ApiError::invalid("image", "an image of no bytes") });
    }
    if image.len() as u64 > most {
        return Err(Wrong { item, error: too_large(most) });
    }
    let hash = ImageHash::of(&image);
    Ok(Item { said, image, hash })
}

pub(super) fn too_large(most: u64) -> ApiError {
    ApiError::new(Code::PayloadTooLarge, format!("an image has at most {most} bytes (gateway.max_image)"))
}

fn read(text: &[u8]) -> Result<Wire<'_>, Wrong> {
    input::json(text).map_err(|error| Wrong { item: None, error })
}

fn said(line: u64, wire: &Wire<'_>) -> Result<Said, Wrong> {
    let checked = || {
        if wire.item >= MOST_ITEMS {
            return Err(ApiError::invalid("item", format!("below {MOST_ITEMS}")));
        }
        let name = wire.name.as_deref().map(input::person_name).transpose()?;
        let metadata = metadata(wire.metadata.map_or("{}", RawValue::get))?;
        Ok(Said { line, item: wire.item, who: who(wire)?, name, metadata })
    };
    checked().map_err(|error| Wrong { item: Some(wire.item), error })
}

/// The metadata, where they fit into a row.
fn metadata(text: &str) -> Result<String, ApiError> {
    let parsed = (text.len() <= LONGEST_METADATA).then(|| serde_json::from_str::<Value>(text).ok()).flatten();
    let fits = parsed.filter(import_metadata_fits).map(|metadata| metadata.to_string());
    fits.ok_or_else(|| {
        let why = format!("a JSON object of at most {ITEM_METADATA_LENGTH} bytes, without NUL");
        ApiError::invalid("metadata", why)
    })
}

fn who(wire: &Wire<'_>) -> Result<Who, ApiError> {
    match (&wire.external_id, wire.person_id, &wire.name) {
        (Some(_), Some(_), _) => Err(ApiError::invalid("externalId", "not beside personId")),
        (None, Some(_), Some(_)) => Err(ApiError::invalid("name", "not beside personId")),
        (Some(external), None, _) => {
            external.parse().map(Who::External).map_err(|error| ApiError::invalid("externalId", error))
        }
        (None, Some(person), None) => Ok(Who::Person(person.into())),
        (None, None, Some(_)) => Ok(Who::Named),
        (None, None, None) => Err(ApiError::invalid("name", "say who it is: personId, externalId or name")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(wrong: Wrong) -> (Option<u64>, String) {
        (wrong.item, wrong.error.details["field"].as_str().unwrap_or_default().to_owned())
    }

    #[test]
    fn a_line_says_who_and_what() {
        let line = br#"{"item":17,"image":"AQID","externalId":"ada","name":" Ada ","metadata":{"badge":7}}"#;
        let item = with_image(3, line, 10).unwrap();
        assert_eq!((item.said.line, item.said.item, &item.image[..]), (3, 17, &[1, 2, 3][..]));
        assert_eq!(item.hash, ImageHash::of(&[1, 2, 3]));
        assert_eq!(item.said.who, Who::External("ada".parse().unwrap()));
        assert_eq!((item.said.name.as_deref(), item.said.metadata.as_str()), (Some("Ada"), r#"{"badge":7}"#));
        // A slash may be escaped.
        assert!(with_image(1, br#"{"item":1,"image":"\/\/\/\/","name":"A"}"#, 10).is_ok());
        let (file, said) = of_manifest(1, br#"{"item":2,"file":"a.jpg","name":"Ada"}"#).unwrap();
        assert_eq!((file.as_str(), said.who, said.metadata.as_str()), ("a.jpg", Who::Named, "{}"));
    }

    #[test]
    fn long_metadata_are_refused_before_they_are_parsed() {
        let read = |metadata: &str| {
            let line = format!(r#"{{"item":1,"file":"a","name":"A","metadata":{metadata}}}"#);
            of_manifest(1, line.as_bytes()).map(|(_, said)| said.metadata)
        };
        // Parsed, the spaces would be gone.
        let spaced = |spaces: usize| format!(r#"{{{}"a":1}}"#, " ".repeat(spaces));
        let most = LONGEST_METADATA - spaced(0).len();
        assert_eq!(read(&spaced(most)).unwrap(), r#"{"a":1}"#);
        assert_eq!(field(read(&spaced(most + 1)).unwrap_err()), (Some(1), "metadata".to_owned()));
        // As long as they may be, and with each letter escaped.
        let letters = ITEM_METADATA_LENGTH - r#"{"a":""}"#.len();
        let plain = format!(r#"{{"a":"{}"}}"#, "b".repeat(letters));
        assert_eq!(read(&plain).unwrap(), plain);
        assert_eq!(read(&format!(r#"{{"a":"{}"}}"#, r"\u0062".repeat(letters))).unwrap(), plain);
        assert!(read(&format!(r#"{{"a":"{}"}}"#, "b".repeat(letters + 1))).is_err());
        assert_eq!(read("null").unwrap(), "{}");
    }

    #[test]
    fn a_wrong_line_names_its_item_and_field() {
        let cases = [
            (r#"{"item":1"#, None, "body"),
            (r#"{"item":-1,"image":"AQID","name":"A"}"#, None, "item"),
            (r#"{"item":1,"image":"AQID","name":"A","colour":1}"#, None, "colour"),
            (r#"{"item":1,"image":"AQID"}"#, Some(1), "name"),
            (r#"{"item":1,"image":"AQID","name":""}"#, Some(1), "name"),
            (r#"{"item":1,"image":"?","name":"A"}"#, Some(1), "image"),
            (r#"{"item":1,"name":"A"}"#, Some(1), "image"),
            (r#"{"item":1,"file":"a","name":"A"}"#, Some(1), "file"),
            (
                r#"{"item":1,"image":"AQID","externalId":"a","personId":"00000000-0000-0000-0000-000000000001"}"#,
                Some(1),
                "externalId",
            ),
            (r#"{"item":1,"image":"AQID","name":"A","metadata":[]}"#, Some(1), "metadata"),
            (r#"{"item":1,"image":"AQID","name":"A","metadata":{"a":"\u0000"}}"#, Some(1), "metadata"),
            (r#"{"item":1000000000,"image":"AQID","name":"A"}"#, Some(1_000_000_000), "item"),
        ];
        for (line, item, of) in cases {
            assert_eq!(field(with_image(1, line.as_bytes(), 10).unwrap_err()), (item, of.to_owned()), "{line}");
        }
        let large = with_image(1, br#"{"item":1,"image":"AQID","name":"A"}"#, 2).unwrap_err();
        assert_eq!((large.item, large.error.code), (Some(1), Code::PayloadTooLarge));
    }
}
