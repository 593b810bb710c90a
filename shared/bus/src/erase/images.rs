//! Whether a message carries an image that is erased, or what was made of one, and what is put in place of work that does. Results
//! and events carry neither pixels nor embeddings: they are not looked at. Pure.

use async_nats::HeaderMap;
use bytes::Bytes;
use facewire_contracts::{Message as _, convert, headers, v1};
use facewire_domain::{CollectionId, ImageHash, Stage};
use time::OffsetDateTime;

use super::named::Work;

/// Which images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Which {
    /// With this hash.
    Hash(ImageHash),
    /// To which the producer gave this id.
    Asset(String),
    /// Received before then.
    Before(OffsetDateTime),
    /// All of the collection.
    All,
}

/// Images of a collection.
pub(super) struct Images {
    collection: CollectionId,
    which: Which,
}

impl Images {
    pub(super) fn new(collection: &CollectionId, which: Which) -> Self {
        Self { collection: collection.clone(), which }
    }

    /// Whether a crop that was not admitted yet is one of them. Hashes the image where that decides: not for a runtime's thread.
    pub(super) fn crop(&self, headers: &HeaderMap, at: OffsetDateTime, image: &[u8]) -> bool {
        match &self.which {
            Which::Hash(hash) => ImageHash::of(image) == *hash,
            Which::Asset(asset) => headers.get_all(headers::ASSET).any(|value| value.as_str().trim() == asset),
            Which::Before(before) => at < *before,
            Which::All => true,
        }
    }

    /// Whether the message of a stage behind ingest carries something of them.
    pub(super) fn work(&self, stage: Stage, payload: &Bytes) -> Work {
        if stage == Stage::Enrich {
            return v1::EnrichTask::decode(payload.clone()).map_or(Work::Other, |task| self.ending(task));
        }
        let crop = v1::CropOnly::decode(payload.clone()).ok().and_then(|task| task.crop);
        crop.filter(|crop| self.is_ours(crop)).map_or(Work::Other, |crop| Work::ended(stage, crop))
    }

    fn is_ours(&self, crop: &v1::Crop) -> bool {
        let is_older = |before: OffsetDateTime| {
            convert::time(crop.received_at.as_ref(), "received_at").is_ok_and(|received| received < before)
        };
        crop.collection == self.collection.as_str()
            && match &self.which {
                Which::Hash(hash) => crop.image_hash[..] == hash.as_bytes()[..],
                Which::Asset(asset) => crop.asset_id == *asset,
                Which::Before(before) => is_older(*before),
                Which::All => true,
            }
    }

    /// An ending carries an embedding where somebody asked for it. The rest of it says what became of the crop, and stays.
    fn ending(&self, mut task: v1::EnrichTask) -> Work {
        let is_ours = task.crop.as_ref().is_some_and(|crop| self.is_ours(crop));
        match &mut task.reply_only {
            Some(told) if is_ours && !told.embedding.is_empty() => told.embedding.clear(),
            _ => return Work::Other,
        }
        Work::Replaced(Box::new(task))
    }

    /// Whether the original of a dead letter is one of them, or of one.
    pub(super) fn letter(&self, stage: Stage, letter: &v1::DeadLetter) -> bool {
        // By the subject itself: of what a stage could not publish it is not the stage's own, but the next one's.
        let mut tokens = letter.subject.split('.');
        let collection = match tokens.next() {
            Some("crops") => tokens.next(),
            Some("stage") => tokens.nth(1),
            _ => None,
        };
        if collection != Some(self.collection.as_str()) {
            return false;
        }
        match &self.which {
            Which::All => true,
            _ if stage != Stage::Ingest => self.work(stage, &letter.payload) != Work::Other,
            Which::Hash(hash) => ImageHash::of(&letter.payload) == *hash,
            Which::Asset(asset) => {
                let mut said = letter.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case(headers::ASSET));
                said.any(|(_, value)| value.trim() == asset)
            }
            Which::Before(before) => convert::time(letter.died_at.as_ref(), "died_at").is_ok_and(|died| died < *before),
        }
    }
}

#[cfg(test)]
mod tests {
    use facewire_contracts::convert::timestamp;
    use time::Duration;

    use super::*;

    const NOON: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    fn each() -> [Images; 4] {
        let which =
            [Which::Hash(ImageHash::of(b"jpeg")), Which::Asset("album/7".to_owned()), Which::Before(NOON), Which::All];
        which.map(|which| Images::new(&"office".parse().unwrap(), which))
    }

    fn crop(collection: &str, image: &[u8], asset: &str, seconds: i64) -> v1::Crop {
        v1::Crop {
            collection: collection.to_owned(),
            image_hash: ImageHash::of(image).as_bytes().to_vec().into(),
            asset_id: asset.to_owned(),
            received_at: Some(timestamp(NOON + Duration::seconds(seconds))),
            ..v1::Crop::default()
        }
    }

    #[test]
    fn work_on_an_image_ends_and_other_work_stays() {
        let ends = |crop: &v1::Crop| {
            let payload = v1::CropOnly { crop: Some(crop.clone()) }.encode_to_vec().into();
            each().map(|images| images.work(Stage::Embed, &payload) != Work::Other)
        };
        assert_eq!(ends(&crop("office", b"jpeg", "", 1)), [true, false, false, true]);
        assert_eq!(ends(&crop("office", b"png", "album/7", 1)), [false, true, false, true]);
        assert_eq!(ends(&crop("office", b"png", "", -1)), [false, false, true, true]);
        assert_eq!(ends(&crop("lab", b"jpeg", "album/7", -1)), [false; 4]);
    }

    #[test]
    fn an_ending_loses_the_embedding_alone() {
        let told = v1::ReplyOnly { embedding: vec![1.0], ..v1::ReplyOnly::default() };
        let crop = Some(crop("office", b"jpeg", "album/7", -1));
        let task = v1::EnrichTask { crop: crop.clone(), reply_only: Some(told), ..v1::EnrichTask::default() };
        let without = v1::EnrichTask { reply_only: Some(v1::ReplyOnly::default()), ..task.clone() };
        for images in each() {
            let work = images.work(Stage::Enrich, &task.encode_to_vec().into());
            assert_eq!(work, Work::Replaced(Box::new(without.clone())));
            assert_eq!(images.work(Stage::Enrich, &without.encode_to_vec().into()), Work::Other);
        }
    }

    #[test]
    fn crops_are_found_before_they_are_admitted_and_when_they_died() {
        let mut said = HeaderMap::new();
        said.insert(headers::ASSET, "album/7");
        let later = NOON + Duration::SECOND;
        let found = |headers: &HeaderMap, at, image: &[u8]| each().map(|images| images.crop(headers, at, image));
        assert_eq!(found(&said, NOON, b"png"), [false, true, false, true]);
        assert_eq!(found(&HeaderMap::new(), later, b"jpeg"), [true, false, false, true]);
        assert_eq!(found(&HeaderMap::new(), NOON - Duration::SECOND, b"png"), [false, false, true, true]);
        let letter = v1::DeadLetter {
            subject: "crops.office.door".to_owned(),
            headers: [(headers::ASSET.to_lowercase(), "album/7".to_owned())].into(),
            payload: b"jpeg".as_slice().into(),
            died_at: Some(timestamp(NOON - Duration::SECOND)),
            ..v1::DeadLetter::default()
        };
        let elsewhere = v1::DeadLetter { subject: "crops.lab.door".to_owned(), ..letter.clone() };
        assert_eq!(each().map(|images| images.letter(Stage::Ingest, &letter)), [true; 4]);
        assert_eq!(each().map(|images| images.letter(Stage::Ingest, &elsewhere)), [false; 4]);
        // A damaged one says nothing of its crop but where it lay.
        let damaged = v1::DeadLetter { subject: "stage.embed.office".to_owned(), ..v1::DeadLetter::default() };
        assert_eq!(each().map(|images| images.letter(Stage::Embed, &damaged)), [false, false, false, true]);
    }

    #[test]
    fn a_letter_is_of_the_collection_that_its_subject_names_whichever_stage_wrote_it() {
        let all = Images::new(&"office".parse().unwrap(), Which::All);
        let found = |subject: &str| {
            let letter = v1::DeadLetter { subject: subject.to_owned(), ..v1::DeadLetter::default() };
            Stage::ALL.into_iter().filter(|stage| all.letter(*stage, &letter)).count()
        };
        for subject in ["crops.office.door", "stage.quality.office", "stage.enrich.office"] {
            assert_eq!(found(subject), Stage::ALL.len(), "{subject}");
        }
        for subject in ["crops.lab.office", "stage.office.lab", "replies.office.office", "office", ""] {
            assert_eq!(found(subject), 0, "{subject}");
        }
    }
}
