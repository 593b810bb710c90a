//! What a job that erases is told. What is erased where, and in which order, is elsewhere.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::ids::{ImageHash, PersonId};
use crate::job::{ParamError, demand};

/// What a [`JobKind::Erase`](crate::JobKind::Erase) job erases of its collection. Ids only: the job's row outlives what they named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", deny_unknown_fields)]
pub enum EraseParams {
    /// A person, and everybody who was merged into them.
    Person {
        /// Not as `person`: by that name erasing finds and takes out whom other jobs were told of, and this one would no longer know
        /// whom it erases.
        #[serde(rename = "personId")]
        person: PersonId,
    },
    /// The faces of an image.
    Image {
        /// Its hash.
        image: ImageHash,
    },
    /// The faces of the images to which the producer gave this id.
    Asset {
        /// The id; not empty.
        asset: String,
    },
    /// The faces that were stored before a time.
    Before {
        /// The time.
        #[serde(with = "crate::moment")]
        before: OffsetDateTime,
    },
    /// All that the collection holds, and the collection.
    Collection,
}

impl EraseParams {
    /// Whether every value is in its range.
    ///
    /// # Errors
    /// [`ParamError`]: the first that is not.
    pub fn check(&self) -> Result<(), ParamError> {
        match self {
            // A row cannot hold a NUL.
            Self::Asset { asset } => demand(!asset.is_empty() && !asset.contains('\0'), "asset", "an id"),
            Self::Person { .. } | Self::Image { .. } | Self::Before { .. } | Self::Collection => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use time::macros::datetime;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn parameters_come_back_from_their_row_and_name_a_person_by_no_word_that_erasing_looks_for() {
        let (id, image) = (Uuid::from_u128(7), ImageHash::of(b"jpeg"));
        let before = datetime!(2024-05-01 00:00 UTC);
        for (params, row) in [
            (EraseParams::Person { person: id.into() }, json!({ "kind": "person", "personId": id })),
            (EraseParams::Image { image }, json!({ "kind": "image", "image": image.to_string() })),
            (EraseParams::Asset { asset: "album/7".to_owned() }, json!({ "kind": "asset", "asset": "album/7" })),
            (EraseParams::Before { before }, json!({ "kind": "before", "before": "2024-05-01T00:00:00Z" })),
            (EraseParams::Collection, json!({ "kind": "collection" })),
        ] {
            assert_eq!(serde_json::to_value(&params).unwrap(), row);
            assert_eq!(serde_json::from_value::<EraseParams>(row).unwrap(), params);
            assert!(params.check().is_ok());
        }
    }

    #[test]
    fn what_is_erased_has_to_be_said() {
        for wrong in [
            json!({}),
            json!({ "kind": "everybody" }),
            json!({ "kind": "person" }),
            json!({ "kind": "person", "person": Uuid::nil() }),
            json!({ "kind": "image", "image": "photo-17" }),
            json!({ "kind": "before", "before": "yesterday" }),
        ] {
            assert!(serde_json::from_value::<EraseParams>(wrong.clone()).is_err(), "{wrong}");
        }
        for asset in ["", "a\0b"] {
            assert_eq!(EraseParams::Asset { asset: asset.to_owned() }.check().unwrap_err().field, "asset");
        }
    }
}
