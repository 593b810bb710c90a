//! Messages between stages: any bytes as the task of any stage, read and checked as the stages do it. Run it with
//! `cargo fuzz run --sanitizer none protobuf` from the workspace root; what it finds becomes a test of `shared/contracts`.

#![no_main]

use bytes::Bytes;
use facewire_contracts::convert::{self, CropIdentity};
use facewire_contracts::{Message, subjects, v1};
use facewire_domain::{Decision, Outcome, Quality, Stage};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((stage, payload)) = input.split_first() else { return };
    let payload = Bytes::copy_from_slice(payload);
    let crop = match stage % 5 {
        0 => convert::decode::<v1::QualityTask>(payload, "QualityTask").ok().and_then(|task| task.crop),
        1 => convert::decode::<v1::EmbedTask>(payload, "EmbedTask").ok().and_then(|task| task.crop),
        2 => convert::decode::<v1::MatchTask>(payload, "MatchTask").ok().and_then(|task| {
            let _ = task.face.as_ref().map(v1::Face::five);
            task.crop
        }),
        3 => convert::decode::<v1::EnrichTask>(payload, "EnrichTask").ok().and_then(ended),
        _ => v1::CropOnly::decode(payload).ok().and_then(|task| task.crop),
    };
    let Some(crop) = crop else { return };
    // Whatever was read can be handed on: to a subject of its stage, under an id that is a header's value.
    let subject = subjects::stage(Stage::Enrich, &crop.collection);
    assert!(subjects::filter(Stage::Enrich).len() <= subject.len() && subject.split('.').count() == 3);
    assert!(subjects::message_id(&crop.crop_id, "enrich", crop.face_index).bytes().all(|b| b.is_ascii_graphic()));
    if let Ok(identity) = CropIdentity::try_from(&crop) {
        assert!((1..=9999).contains(&identity.captured_at.year()));
        assert!(crop.face_index < crop.face_count.max(1));
    }
});

fn ended(task: v1::EnrichTask) -> Option<v1::Crop> {
    let ending = task.ending?;
    if let Ok(outcome) = Outcome::try_from(&ending) {
        assert_eq!(v1::Ending::from(outcome).status, ending.status);
    }
    let _ = ending.verdict.as_ref().map(Decision::try_from);
    let _ = task.face.as_ref().and_then(|face| face.quality.as_ref()).map(Quality::from);
    task.crop
}
