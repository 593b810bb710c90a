//! What strangers send: every bad crop ends with the reason that fits, what has no room to end in goes to DEAD, and the
//! chain goes on.

use bytes::Bytes;
use facewire_bus::Message;
use facewire_contracts::{Message as _, headers, v1};
use facewire_vision::degrade;
use time::OffsetDateTime;

use super::pictures::{Faces, blank, changed, claims};
use super::shot::Shot;
use super::wiretap::Wiretap;
use super::world::World;

/// What a producer sends, and how it must end.
struct Case {
    shot: Shot,
    reason: &'static str,
    stage: &'static str,
    /// `detail.signal`, where a limit was broken.
    signal: Option<&'static str>,
}

fn case(shot: Shot, reason: &'static str, stage: &'static str, signal: Option<&'static str>) -> Case {
    Case { shot, reason, stage, signal }
}

fn cases(face: &[u8], group: &[u8]) -> Vec<Case> {
    let sharp = || Bytes::copy_from_slice(face);
    let head = |camera: &str, name, value| Shot::of(camera, sharp()).header(name, value);
    let half = Bytes::copy_from_slice(&face[..face.len() / 2]);
    let small = changed(face, |image| degrade::shrink(image, image.width() / 12, image.height() / 12));
    vec![
        case(Shot::of("empty", ""), "invalid_image", "ingest", None),
        case(Shot::of("text", "not a picture at all"), "unsupported_format", "ingest", None),
        case(Shot::of("gif", "GIF89a\u{1}\0\u{1}\0"), "unsupported_format", "ingest", None),
        case(Shot::of("stub", sharp().slice(..20)), "invalid_image", "ingest", None),
        case(Shot::of("half", half), "invalid_image", "quality", None),
        case(Shot::of("bomb", claims(20_000, 20_000)), "image_too_large", "ingest", Some("side")),
        case(Shot::of("many-pixels", claims(16_000, 16_000)), "image_too_large", "ingest", Some("pixels")),
        case(Shot::of("hollow", claims(200, 200)), "invalid_image", "quality", None),
        case(Shot::of("tiny", blank(8)), "image_too_small", "ingest", Some("side")),
        case(Shot::of("blank", blank(160)), "no_face", "quality", None),
        case(Shot::of("group", Bytes::copy_from_slice(group)), "multiple_faces", "quality", Some("faces")),
        case(Shot::of("small", small), "face_too_small", "quality", Some("face_size")),
        case(head("when", headers::CAPTURED_AT, "yesterday"), "invalid_message", "ingest", None),
        case(head("intent", headers::INTENT, "identify"), "invalid_message", "ingest", None),
        case(head("whom", headers::INTENT, "enroll"), "invalid_message", "ingest", None),
        case(head("threshold", headers::THRESHOLD, "seven"), "invalid_message", "ingest", None),
        case(head("frame", headers::FRAME, "maybe"), "invalid_message", "ingest", None),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn each_bad_crop_ends_with_its_reason_and_the_chain_goes_on() {
    let faces = Faces::fetch().await;
    let mut world = World::new().await;
    let services = world.start();
    let face = std::fs::read(faces.obama().enroll).unwrap();
    let group = std::fs::read(faces.group()).unwrap();
    let cases = cases(&face, &group);
    for case in &cases {
        world.publish(&case.shot).await;
    }
    let mut wrong = Vec::new();
    for case in &cases {
        let camera = case.shot.camera.as_str();
        let result = world.result(camera).await;
        let detail = result.detail.clone().unwrap_or_default();
        let seen = (result.status.as_str(), result.failure_reason.as_deref(), result.stage.as_deref());
        let fits = seen == ("rejected", Some(case.reason), Some(case.stage)) && detail.signal.as_deref() == case.signal;
        // A reason is never only a code: the value and its limit, or a sentence.
        let told = if case.signal.is_some() {
            detail.value.is_some() && detail.limit.is_some()
        } else {
            detail.message.is_some()
        };
        if !(fits && told) {
            wrong.push(format!("{camera}: {seen:?} {detail:?}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));

    let good = world.ask(&Shot::of("good", face).observe()).await;
    assert_eq!(good.status, "observed", "{good:?}");
    let crops = cases.len() as u64 + 1;
    world.settled(crops, crops).await;
    assert_eq!(world.dead().await, 0);
    services.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_goes_to_dead() {
    let faces = Faces::fetch().await;
    let mut world = World::new().await;
    let mut tap = Wiretap::on(&world.stack.nats_url, "dead.>").await;
    let services = world.start();
    let raw = |subject: &str, payload: &[u8]| Message {
        subject: subject.to_owned(),
        headers: vec![(headers::INTENT, "observe".to_owned())],
        payload: Bytes::copy_from_slice(payload),
        ..Message::default()
    };

    // A subject that names no camera: there is nowhere to put a result.
    world.bus.publish(raw("crops.bad!name.cam", b"image")).await.unwrap();
    let (subject, letter) = tap.letter().await;
    assert_eq!(subject, "dead.ingest.invalid_message");
    assert_eq!((letter.subject.as_str(), letter.payload.as_ref()), ("crops.bad!name.cam", b"image".as_slice()));
    assert_eq!(letter.headers.get(headers::INTENT).map(String::as_str), Some("observe"), "the original, whole");
    assert!(!letter.error.is_empty() && letter.died_at.is_some());

    for stage in ["quality", "embed", "match", "enrich"] {
        world.bus.publish(raw(&format!("stage.{stage}.office"), b"\xFF\xFF\xFF")).await.unwrap();
        let (subject, letter) = tap.letter().await;
        assert_eq!(subject, format!("dead.{stage}.invalid_message"));
        assert_eq!((letter.stage.as_str(), letter.payload.as_ref()), (stage, b"\xFF\xFF\xFF".as_slice()));
    }
    world.settled(0, 0).await;

    // Where the crop can be read, it ends all the same.
    let shot = Shot::of("broken", "pixels").taken(OffsetDateTime::now_utc());
    let task = v1::EmbedTask { crop: Some(shot.admitted()), face: None, rgb: Bytes::from_static(b"three") };
    world.bus.publish(raw("stage.embed.office", &task.encode_to_vec())).await.unwrap();
    let (subject, letter) = tap.letter().await;
    assert_eq!((subject.as_str(), letter.crop_id), ("dead.embed.invalid_message", shot.crop().to_string()));
    let result = world.result("broken").await;
    assert_eq!((result.status.as_str(), result.stage.as_deref()), ("failed", Some("embed")), "{result:?}");

    assert_eq!(world.dead().await, 6);
    let good = world.ask(&Shot::photo("good", &faces.obama().enroll).observe()).await;
    assert_eq!(good.status, "observed");
    world.settled(2, 2).await;
    services.stop().await;
}
