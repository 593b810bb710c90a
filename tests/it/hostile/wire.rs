//! Messages between stages as no stage would send them: bytes that are no protobuf, and protobuf that makes no sense. Each
//! names its marker somewhere, so that what becomes of it can be found.

use bytes::Bytes;
use facewire_contracts::{Message, convert, subjects, v1};
use facewire_domain::{CropId, ImageHash, Stage};
use pictures::KINDS;
use time::OffsetDateTime;

use super::dice::{Dice, flipped, spliced, truncated};
use super::{pictures, png};

/// Stages that read protobuf.
const STAGES: [Stage; 4] = [Stage::Quality, Stage::Embed, Stage::Match, Stage::Enrich];

/// Numbers of the default pack's embedding.
const DIM: usize = 512;

/// Bytes of a canonical face.
const RGB: usize = 112 * 112 * 3;

/// Where a message goes, and what it is.
pub(crate) type Task = (Stage, Vec<u8>);

type Make = fn(&mut Dice, &str) -> Task;

/// Every kind of stage message by name.
pub(crate) const WIRE: [(&str, Make); 10] = [
    ("wire-random", random),
    ("wire-damaged", damaged),
    ("wire-lengths", lengths),
    ("wire-types", types),
    ("wire-crop", nonsense_crop),
    ("wire-numbers", numbers),
    ("wire-rgb", rgb),
    ("wire-many", many),
    ("wire-ending", nonsense_ending),
    ("wire-picture", picture),
];

/// The id of every sound crop of a marker.
pub(crate) fn crop_id(marker: &str) -> CropId {
    let mut id = [0; 16];
    id.copy_from_slice(&ImageHash::of(marker.as_bytes()).as_bytes()[..16]);
    id.iter().map(|byte| format!("{byte:02x}")).collect::<String>().parse().unwrap()
}

/// The id that a stage reads in a message to it: damage may have made it another one's or nobody's, and the camera's name
/// with it.
pub(crate) fn told_id(subject: &str, payload: &[u8]) -> Option<String> {
    let bytes = Bytes::copy_from_slice(payload);
    let crop = match subject.split('.').nth(1)?.parse().ok()? {
        Stage::Ingest => None,
        Stage::Quality => v1::QualityTask::decode(bytes).ok()?.crop,
        Stage::Embed => v1::EmbedTask::decode(bytes).ok()?.crop,
        Stage::Match => v1::MatchTask::decode(bytes).ok()?.crop,
        Stage::Enrich => v1::EnrichTask::decode(bytes).ok()?.crop,
    };
    let id = crop?.crop_id;
    Some(id.parse::<CropId>().map_or(id, |id| id.to_string()))
}

/// A crop with nothing wrong. Every marker has its own id.
fn crop(marker: &str) -> v1::Crop {
    let now = convert::timestamp(OffsetDateTime::UNIX_EPOCH + time::Duration::days(20_000));
    v1::Crop {
        crop_id: crop_id(marker).to_string(),
        collection: "office".to_owned(),
        camera: marker.to_owned(),
        captured_at: Some(now),
        received_at: Some(now),
        image_hash: Bytes::from(vec![7; 32]),
        intent: "recognize".to_owned(),
        face_count: 1,
        ..v1::Crop::default()
    }
}

fn face() -> v1::Face {
    let quality = v1::Quality { blur: 90.0, status: "ok".to_owned(), ..v1::Quality::default() };
    v1::Face { r#box: None, landmarks: vec![v1::Point { x: 1.0, y: 2.0 }; 5], quality: Some(quality) }
}

fn ending() -> v1::Ending {
    v1::Ending { status: "observed".to_owned(), stage: "quality".to_owned(), ..v1::Ending::default() }
}

fn embedding(dice: &mut Dice, dim: usize) -> Vec<f32> {
    #[expect(clippy::cast_precision_loss, reason = "noise")]
    std::iter::repeat_with(|| dice.within(0, 2_000) as f32 / 1_000.0 - 1.0).take(dim).collect()
}

/// The task of a stage that would be taken as it is.
fn sound(dice: &mut Dice, stage: Stage, crop: v1::Crop) -> Vec<u8> {
    let crop = Some(crop);
    match stage {
        Stage::Quality => v1::QualityTask { crop, image: png::plain(40).into() }.encode_to_vec(),
        Stage::Embed => v1::EmbedTask { crop, face: Some(face()), rgb: Bytes::from(dice.bytes(RGB)) }.encode_to_vec(),
        Stage::Match => {
            let embedding = embedding(dice, DIM);
            let model = "model@1:0".to_owned();
            v1::MatchTask { crop, face: Some(face()), embedding, model, ..v1::MatchTask::default() }.encode_to_vec()
        }
        Stage::Ingest | Stage::Enrich => {
            v1::EnrichTask { crop, face: Some(face()), ending: Some(ending()), reply_only: None }.encode_to_vec()
        }
    }
}

fn random(dice: &mut Dice, _: &str) -> Task {
    let len = dice.index(2_000);
    (dice.pick(&STAGES), dice.bytes(len))
}

fn damaged(dice: &mut Dice, marker: &str) -> Task {
    let stage = dice.pick(&STAGES);
    let whole = sound(dice, stage, crop(marker));
    let damage = dice.pick(&[truncated as fn(&mut Dice, Vec<u8>) -> Vec<u8>, flipped, spliced]);
    (stage, damage(dice, whole))
}

/// Fields that say they are longer than anything is.
fn lengths(dice: &mut Dice, _: &str) -> Task {
    let tag = dice.pick(&[0x0A_u8, 0x12, 0x1A, 0x22]);
    let length: &[u8] = dice.pick(&[
        [0xFF, 0xFF, 0xFF, 0xFF, 0x0F].as_slice(),
        &[0xFF, 0xFF, 0xFF, 0xFF, 0x7F],
        &[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F],
        &[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01],
        &[0xFF; 11],
        &[0x80, 0x80, 0x80],
    ]);
    let len = dice.index(100);
    (dice.pick(&STAGES), [&[tag], length, &dice.bytes(len)].concat())
}

/// Another wire type than the field has, groups in groups in groups.
fn types(dice: &mut Dice, _: &str) -> Task {
    let stage = dice.pick(&STAGES);
    let bytes = match dice.within(0, 3) {
        // Field 1, the crop, as a varint, as eight bytes, as four.
        0 => dice.pick(&[vec![0x08, 0x01], [vec![0x09], vec![0; 8]].concat(), [vec![0x0D], vec![0; 4]].concat()]),
        1 => vec![0x7B; dice.index(100_000)],
        2 => vec![0x7C; dice.index(10)],
        // Field 0, and field numbers beyond all.
        _ => dice.pick(&[vec![0x02, 0x00], vec![0xFA, 0xFF, 0xFF, 0xFF, 0x7F, 0x00], Vec::new()]),
    };
    (stage, bytes)
}

/// One field of the crop that cannot be. The camera, or the name, still holds the marker.
fn nonsense_crop(dice: &mut Dice, marker: &str) -> Task {
    let stage = dice.pick(&STAGES);
    let stamp = |seconds, nanos| Some(pbjson_types::Timestamp { seconds, nanos });
    let base = v1::Crop { person_name: marker.to_owned(), ..crop(marker) };
    let subject =
        dice.pick(&["", ".", "a.b", "*", ">", "a b", "x\r\nPUB crops.a.b 0\r\n\r\n", "\0", "büro"]).to_owned();
    let seconds = dice.pick(&[i64::MIN, i64::MAX, -62_167_219_201, -300_000_000_000, 253_402_300_800]);
    // One that could name messages holds the marker: of two with one name, the server drops the second.
    let ids = [String::new(), format!("7-{marker}"), "\r\nNats-Rollup: all".to_owned(), marker.to_owned()];
    let crop = match dice.within(0, 11) {
        0 => v1::Crop { crop_id: dice.pick(&ids), ..base },
        1 => v1::Crop { collection: subject, ..base },
        2 => v1::Crop { camera: subject, ..base },
        3 => v1::Crop { captured_at: stamp(seconds, 0), ..base },
        4 => v1::Crop { received_at: stamp(0, dice.pick(&[-1, 1_000_000_000, i32::MAX, i32::MIN])), ..base },
        5 => v1::Crop { captured_at: None, received_at: None, ..base },
        6 => v1::Crop { image_hash: Bytes::from(vec![0; dice.pick(&[0, 31, 33, 5_000])]), ..base },
        7 => v1::Crop { intent: dice.pick(&["", "identify", "\0"]).to_owned(), ..base },
        8 => v1::Crop { reply_to: subject, ..base },
        9 => v1::Crop { face_index: dice.pick(&[1, 7, u32::MAX]), face_count: dice.pick(&[0, 1, u32::MAX]), ..base },
        10 => v1::Crop { threshold: Some(dice.pick(&[f64::NAN, f64::INFINITY, -1.0, 1e300])), ..base },
        _ => {
            let name = dice.pick(&["\0", "a\0b", "\u{7F}"]).to_owned();
            let intent = "enroll".to_owned();
            v1::Crop { subject_id: marker.to_owned(), person_name: name, intent, ..base }
        }
    };
    (stage, sound(dice, stage, crop))
}

/// Embeddings that are no numbers, zero, beyond any length, or of another dimension than the model's.
fn numbers(dice: &mut Dice, marker: &str) -> Task {
    let mut embedding = embedding(dice, DIM);
    match dice.within(0, 4) {
        0 => embedding[dice.index(DIM)] = dice.pick(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY]),
        1 => embedding = vec![0.0; DIM],
        2 => embedding = vec![dice.pick(&[f32::MAX, f32::MIN, f32::MIN_POSITIVE, 1e-45]); DIM],
        3 => embedding.truncate(dice.index(DIM)),
        _ => {}
    }
    let wild = dice.pick(&[f32::NAN, f32::INFINITY, -1.0, 3e38]);
    let mut face = face();
    face.r#box = Some(v1::Box { x1: wild, y1: 0.0, x2: wild, y2: wild });
    face.landmarks.truncate(dice.pick(&[0, 4, 5, 5, 5]));
    face.quality = Some(v1::Quality { blur: wild, score: wild, ..v1::Quality::default() });
    let mut crop = crop(marker);
    if dice.one_in(3) {
        (crop.intent, crop.subject_id) = ("enroll".to_owned(), marker.to_owned());
    }
    let (crop, face, model) = (Some(crop), Some(face), "model@1:0".to_owned());
    let task = v1::MatchTask { crop, face, embedding, model, ..v1::MatchTask::default() };
    (Stage::Match, task.encode_to_vec())
}

fn rgb(dice: &mut Dice, marker: &str) -> Task {
    let len = dice.pick(&[0, 1, RGB - 1, RGB, RGB + 1, RGB * 2, 1 << 20]);
    let task = v1::EmbedTask { crop: Some(crop(marker)), face: Some(face()), rgb: Bytes::from(dice.bytes(len)) };
    (Stage::Embed, task.encode_to_vec())
}

/// Up to a million of what there should be a handful of.
fn many(dice: &mut Dice, marker: &str) -> Task {
    let most = if dice.one_in(24) { 20 } else { 12 };
    let count = 1 << dice.within(8, most);
    let mut crop = crop(marker);
    let mut face = face();
    if dice.one_in(2) {
        face.landmarks = vec![v1::Point { x: 1.0, y: 1.0 }; count];
    } else {
        crop.times = vec![v1::StageTime::default(); count];
    }
    let (crop, face, embedding) = (Some(crop), Some(face), embedding(dice, DIM));
    if dice.one_in(2) {
        return (Stage::Match, v1::MatchTask { crop, face, embedding, ..v1::MatchTask::default() }.encode_to_vec());
    }
    (Stage::Enrich, v1::EnrichTask { crop, face, ending: Some(ending()), reply_only: None }.encode_to_vec())
}

/// An ending whose words and numbers do not go together, or into a database.
fn nonsense_ending(dice: &mut Dice, marker: &str) -> Task {
    let base = ending();
    let text = dice.pick(&["", "\0", "lost", "matched", "rejected", "blur"]).to_owned();
    let detail = v1::Detail {
        signal: Some(text.clone()),
        value: Some(dice.pick(&[f64::NAN, f64::INFINITY, 1e308])),
        message: Some("\0".repeat(dice.index(3))),
        ..v1::Detail::default()
    };
    let candidate = v1::Candidate { person_id: text.clone(), face_id: text.clone(), similarity: f32::NAN };
    let verdict = v1::Verdict { matched: true, threshold: f32::NAN, best: Some(candidate), ..v1::Verdict::default() };
    let mut face = face();
    let ending = match dice.within(0, 8) {
        0 => v1::Ending { status: text, ..base },
        1 => v1::Ending { reason: dice.pick(&["blur", "no_face", "\0"]).to_owned(), ..base },
        2 => v1::Ending { stage: text, ..base },
        3 => v1::Ending { detail: Some(detail), ..base },
        4 => v1::Ending { verdict: Some(verdict), ..base },
        5 => v1::Ending { person_id: text.clone(), face_id: text, ..base },
        6 => v1::Ending { model: dice.pick(&["\0", "m\0", "x"]).repeat(dice.index(3_000)), ..base },
        7 => v1::Ending { status: "no_match".to_owned(), ..base },
        _ => {
            let status = dice.pick(&["\0", "ok\0", ""]).to_owned();
            face.quality = Some(v1::Quality { blur: f32::NAN, status, ..v1::Quality::default() });
            base
        }
    };
    let reply_only = dice.one_in(2).then(|| v1::ReplyOnly {
        embedding: vec![dice.pick(&[f32::NAN, 0.5]); dice.pick(&[0, 3, DIM, 1 << 16])],
        candidates: vec![v1::Candidate { person_id: "\0".to_owned(), ..v1::Candidate::default() }; dice.index(60)],
    });
    let task = v1::EnrichTask { crop: Some(crop(marker)), face: Some(face), ending: Some(ending), reply_only };
    (Stage::Enrich, task.encode_to_vec())
}

/// Any hostile picture, past the stage that would have refused it.
fn picture(dice: &mut Dice, marker: &str) -> Task {
    let (_, make) = KINDS[dice.index(KINDS.len())];
    let task = v1::QualityTask { crop: Some(crop(marker)), image: make(dice).into() };
    (Stage::Quality, task.encode_to_vec())
}

#[test]
fn the_id_that_each_stage_is_told_is_read() {
    let (mut dice, marker) = (Dice::new(1, 1), "h0000001");
    for stage in STAGES {
        let task = sound(&mut dice, stage, crop(marker));
        assert_eq!(told_id(&subjects::stage(stage, marker), &task), Some(crop_id(marker).to_string()), "{stage}");
    }
    assert_eq!(told_id("crops.office.h0000001", b"picture"), None);
}
