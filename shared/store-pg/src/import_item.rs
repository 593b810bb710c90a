//! Items of imports: what one is, and its bounds. What happens to them is in `import_items`.

use facewire_domain::{CropId, FaceId, ImageHash, PersonId, SubjectId};
use sqlx::types::JsonValue;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::error::StoreError;
use crate::person_edit::holds_nul;
use crate::row::row;
use crate::store::{CHUNK, count, unsigned};

/// Longest name, in bytes.
const NAME: usize = 1024;

/// Largest metadata of an item, in bytes of JSON.
pub const ITEM_METADATA_LENGTH: usize = 16 * 1024;

/// An image that is to be enrolled.
#[derive(Debug, Clone, PartialEq)]
pub struct NewImportItem {
    /// Its place in the manifest, from 0: the same item twice is one.
    pub item: u64,
    /// Of the original bytes.
    pub image_hash: ImageHash,
    /// Whose face it shows.
    pub subject: SubjectId,
    /// The person's name, at most 1,024 bytes.
    pub name: Option<String>,
    /// A JSON object of at most 16 KiB.
    pub metadata: JsonValue,
}

/// How far an item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ItemState {
    /// Nobody sent it yet.
    Waiting,
    /// Its image is on its way through the chain.
    Sent,
    /// It has its ending.
    Done,
}

impl ItemState {
    /// As the table writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Sent => "sent",
            Self::Done => "done",
        }
    }

    pub(crate) fn parse(text: &str) -> Result<Self, StoreError> {
        match text {
            "waiting" => Ok(Self::Waiting),
            "sent" => Ok(Self::Sent),
            "done" => Ok(Self::Done),
            _ => Err(StoreError::corrupt("import_items.state")),
        }
    }
}

/// An item as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportItem {
    /// Its place in the manifest.
    pub item: u64,
    /// Of the original bytes.
    pub image_hash: ImageHash,
    /// Whose face it shows; `None` where that person was erased since.
    pub subject: Option<SubjectId>,
    /// The person's name.
    pub name: Option<String>,
    /// A JSON object.
    pub metadata: JsonValue,
    /// The crop as which it was sent last.
    pub crop: Option<CropId>,
    /// How far it is.
    pub state: ItemState,
    /// How it ended.
    pub status: Option<String>,
    /// Why it is no success.
    pub reason: Option<String>,
    /// The measured value and its limit.
    pub detail: Option<JsonValue>,
    /// The enrolled face.
    pub face: Option<FaceId>,
    /// Times that it was sent.
    pub attempts: u32,
    /// When it changed last.
    pub updated_at: OffsetDateTime,
}

/// How an item ended.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ItemEnding {
    /// A status of results, such as `enrolled`.
    pub status: String,
    /// Why it is no success.
    pub reason: Option<String>,
    /// The measured value and its limit.
    pub detail: Option<JsonValue>,
    /// The enrolled face.
    pub face: Option<FaceId>,
}

/// The place of a sent item in the order of sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ItemPlace {
    /// When it was sent last.
    pub sent_at: OffsetDateTime,
    /// Its place in the manifest.
    pub item: u64,
}

/// Sent items whose crops have ended.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ItemEndings {
    /// Those that have.
    pub ended: Vec<EndedItem>,
    /// Where to look on; `None`: no sent item is left.
    pub next: Option<ItemPlace>,
}

/// A sent item whose crop has ended.
#[derive(Debug, Clone, PartialEq)]
pub struct EndedItem {
    /// Its crop.
    pub crop: CropId,
    /// How it ended.
    pub ending: ItemEnding,
    /// Whose face was enrolled.
    pub person: Option<PersonId>,
    /// What the item says of the person: a JSON object.
    pub metadata: JsonValue,
}

/// Items of one state, status and reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemCount {
    /// How far they are.
    pub state: ItemState,
    /// How they ended.
    pub status: Option<String>,
    /// Why they are no success.
    pub reason: Option<String>,
    /// How many.
    pub items: u64,
}

/// Which items of an import. What is not given does not narrow.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ItemFilter {
    /// Only of this state.
    pub state: Option<ItemState>,
    /// Only done with this status.
    pub status: Option<String>,
    /// Only done for this reason.
    pub reason: Option<String>,
}

row! {
    pub(crate) struct ItemRow {
        item: i64,
        image_hash: Vec<u8>,
        subject: Option<String>,
        name: Option<String>,
        metadata: JsonValue,
        crop_id: Option<Uuid>,
        state: String,
        status: Option<String>,
        reason: Option<String>,
        detail: Option<JsonValue>,
        face_id: Option<Uuid>,
        attempts: i32,
        updated_at: OffsetDateTime,
    }
}

impl TryFrom<ItemRow> for ImportItem {
    type Error = StoreError;

    fn try_from(row: ItemRow) -> Result<Self, StoreError> {
        let corrupt = StoreError::corrupt;
        let hash: [u8; 32] = row.image_hash.try_into().map_err(|_| corrupt("import_items.image_hash"))?;
        let subject = row.subject.map(|text| text.parse()).transpose();
        Ok(Self {
            item: count(row.item),
            image_hash: ImageHash::from_bytes(hash),
            subject: subject.map_err(|_| corrupt("import_items.subject"))?,
            name: row.name,
            metadata: row.metadata,
            crop: row.crop_id.map(CropId::from),
            state: ItemState::parse(&row.state)?,
            status: row.status,
            reason: row.reason,
            detail: row.detail,
            face: row.face_id.map(FaceId::from),
            attempts: unsigned(row.attempts),
            updated_at: row.updated_at,
        })
    }
}

row! {
    pub(crate) struct EndedRow {
        item: i64,
        crop_id: Option<Uuid>,
        due_at: OffsetDateTime,
        metadata: JsonValue,
        status: Option<String>,
        reason: Option<String>,
        detail: Option<JsonValue>,
        face_id: Option<Uuid>,
        person_id: Option<Uuid>,
    }
}

impl EndedRow {
    pub(crate) fn place(&self) -> ItemPlace {
        ItemPlace { sent_at: self.due_at, item: count(self.item) }
    }

    /// `None`: its crop is on its way.
    pub(crate) fn ended(self) -> Option<EndedItem> {
        let ending = ItemEnding {
            status: self.status?,
            reason: self.reason,
            detail: self.detail,
            face: self.face_id.map(FaceId::from),
        };
        let person = self.person_id.map(PersonId::from);
        Some(EndedItem { crop: self.crop_id?.into(), ending, person, metadata: self.metadata })
    }
}

pub(crate) fn check(items: &[NewImportItem]) -> Result<(), StoreError> {
    if items.len() > CHUNK {
        return Err(StoreError::Invalid { index: CHUNK, what: "more items than one call takes" });
    }
    for (index, item) in items.iter().enumerate() {
        let invalid = |what| Err(StoreError::Invalid { index, what });
        if i64::try_from(item.item).is_err() {
            return invalid("an item's number is below 2^63");
        }
        if item.name.as_ref().is_some_and(|name| name.len() > NAME) {
            return invalid("a name above 1,024 bytes");
        }
        if !import_metadata_fits(&item.metadata) {
            return invalid("metadata is a JSON object of at most 16 KiB, without NUL");
        }
    }
    Ok(())
}

/// Whether it is a JSON object of at most [`ITEM_METADATA_LENGTH`] bytes, without a NUL, which Postgres does not keep.
pub fn import_metadata_fits(metadata: &JsonValue) -> bool {
    let text = metadata.to_string();
    metadata.is_object() && text.len() <= ITEM_METADATA_LENGTH && !holds_nul(&text)
}
