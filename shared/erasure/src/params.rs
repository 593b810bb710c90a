//! An erasure as a job is told of it, and back.

use facewire_domain::{CollectionId, EraseParams};
use facewire_gallery::Erasure;

/// What a job that does this erasure is told. The collection is the job's.
pub fn params_of(what: &Erasure) -> EraseParams {
    match what {
        Erasure::Person(person) => EraseParams::Person { person: *person },
        Erasure::Image(_, image) => EraseParams::Image { image: *image },
        Erasure::Asset(_, asset) => EraseParams::Asset { asset: asset.clone() },
        Erasure::Before(_, before) => EraseParams::Before { before: *before },
        Erasure::Collection(_) => EraseParams::Collection,
    }
}

/// What a job of a collection erases.
pub fn erasure_of(params: &EraseParams, collection: &CollectionId) -> Erasure {
    let collection = collection.clone();
    match params {
        EraseParams::Person { person } => Erasure::Person(*person),
        EraseParams::Image { image } => Erasure::Image(collection, *image),
        EraseParams::Asset { asset } => Erasure::Asset(collection, asset.clone()),
        EraseParams::Before { before } => Erasure::Before(collection, *before),
        EraseParams::Collection => Erasure::Collection(collection),
    }
}

#[cfg(test)]
mod tests {
    use facewire_domain::ImageHash;
    use time::OffsetDateTime;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_job_erases_what_was_asked_for() {
        let office: CollectionId = "office".parse().unwrap();
        for what in [
            Erasure::Person(Uuid::from_u128(7).into()),
            Erasure::Image(office.clone(), ImageHash::of(b"jpeg")),
            Erasure::Asset(office.clone(), "album/7".to_owned()),
            Erasure::Before(office.clone(), OffsetDateTime::UNIX_EPOCH),
            Erasure::Collection(office.clone()),
        ] {
            assert_eq!(erasure_of(&params_of(&what), &office), what);
        }
    }
}
