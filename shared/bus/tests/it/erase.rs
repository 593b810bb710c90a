//! Persons, images and collections are erased from every stream: what names or carries them goes, what does not stays, and
//! what was admitted ends.

use std::time::Duration;

use bytes::Bytes;
use facewire_bus::{ErasedMessages, MessageSelection, StageOptions};
use facewire_contracts::{Message as _, headers, subjects, v1};
use facewire_domain::{CollectionId, ImageHash, PersonId, Reason, Stage};
use futures_util::StreamExt;

use crate::wire::Wire;
use crate::world::{Running, World, until};

const SUBJECT: &str = "ada-7";

fn office() -> CollectionId {
    "office".parse().unwrap()
}

fn ada() -> PersonId {
    PersonId::derive(&office(), &SUBJECT.parse().unwrap())
}

fn crop(subject: &str) -> v1::Crop {
    let text = str::to_owned;
    v1::Crop { crop_id: text("7"), collection: text("office"), subject_id: text(subject), ..v1::Crop::default() }
}

fn work(subject: &str) -> Bytes {
    v1::CropOnly { crop: Some(crop(subject)) }.encode_to_vec().into()
}

async fn publish(world: &World, subject: &str, payload: Bytes, named: Option<&str>) {
    let headers: Vec<_> = named.map(|value| (headers::SUBJECT, value)).into_iter().collect();
    world.publish(subject, &payload, &headers).await;
}

async fn erase(world: &World) -> ErasedMessages {
    let her = MessageSelection::Persons { persons: vec![ada()], subjects: vec![SUBJECT.parse().unwrap()] };
    world.bus.erase_messages(&office(), &her).await.unwrap()
}

/// Every message of a stream as text.
async fn everything(world: &World, stream: &str) -> Vec<String> {
    let client = async_nats::connect(world.bus.options().url.expose()).await.unwrap();
    let stream = async_nats::jetstream::new(client).get_stream(stream).await.unwrap();
    let state = stream.cached_info().state.clone();
    let mut all = Vec::new();
    for sequence in state.first_sequence..=state.last_sequence {
        let Ok(message) = stream.get_raw_message(sequence).await else { continue };
        all.push(format!("{} {:?} {}", message.subject, message.headers, String::from_utf8_lossy(&message.payload)));
    }
    all
}

#[tokio::test]
async fn no_stream_names_an_erased_person() {
    let world = World::new().await;
    let id = ada();
    let json = |text: String| Bytes::from(text);
    for (subject, named) in
        [("crops.office.door", Some(SUBJECT)), ("crops.office.door", Some("bela")), ("crops.lab.door", Some(SUBJECT))]
    {
        publish(&world, subject, Bytes::from_static(b"image"), named).await;
    }
    for stage in ["quality", "embed", "match"] {
        for subject in [SUBJECT, "bela", ""] {
            publish(&world, &format!("stage.{stage}.office"), work(subject), None).await;
        }
    }
    let candidate = |person: String| v1::Candidate { person_id: person, ..v1::Candidate::default() };
    let verdict = v1::Verdict { matched: true, best: Some(candidate(id.to_string())), ..v1::Verdict::default() };
    let ending = v1::Ending { status: "matched".to_owned(), verdict: Some(verdict), ..v1::Ending::default() };
    let task = v1::EnrichTask { crop: Some(crop("")), ending: Some(ending), ..v1::EnrichTask::default() };
    publish(&world, "stage.enrich.office", task.encode_to_vec().into(), None).await;
    for text in [format!("{{\"person\":{{\"person_id\":\"{id}\"}}}}"), "{}".to_owned()] {
        publish(&world, "results.office.door", json(text.clone()), None).await;
        publish(&world, "events.office.person_created", json(text), None).await;
    }
    let letter = v1::DeadLetter {
        subject: "crops.office.door".to_owned(),
        headers: [(headers::SUBJECT.to_owned(), SUBJECT.to_owned())].into(),
        ..v1::DeadLetter::default()
    };
    world.write_raw(&subjects::dead(Stage::Ingest, Reason::Internal), letter.encode_to_vec()).await;
    world.write(Stage::Embed, Reason::Internal, time::OffsetDateTime::now_utc()).await;

    assert_eq!(erase(&world).await, ErasedMessages { work: 5, results: 1, events: 1, dead: 1 });
    for (stream, left) in [
        ("CROPS", 2),
        ("QUALITY", 2),
        ("EMBED", 2),
        ("MATCH", 2),
        ("ENRICH", 4),
        ("RESULTS", 1),
        ("EVENTS", 1),
        ("DEAD", 1),
    ] {
        let all = everything(&world, stream).await;
        assert_eq!(all.len(), left, "{stream}: {all:?}");
        let named = |line: &&String| {
            line.contains(&id.to_string()) || (line.contains(SUBJECT) && !line.starts_with("crops.lab"))
        };
        assert_eq!(all.iter().find(named), None, "{stream}");
    }
    // Again, as after an error: nothing is left, and no crop ends twice.
    assert_eq!(erase(&world).await.total(), 0);
    assert_eq!(world.count("ENRICH").await, 4);
}

#[tokio::test]
async fn what_a_stage_has_in_hand_is_waited_for_and_found_in_the_next() {
    let world = World::new().await;
    let options = StageOptions { ack_wait: Duration::from_secs(60), ..StageOptions::default() };
    let mut stage = Running::start(&world, Stage::Embed, &options).await;
    publish(&world, "stage.embed.office", work(SUBJECT), None).await;
    let delivery = stage.take().await;
    let started = tokio::sync::Notify::new();
    let hand_on = async {
        // Not before the erasure has looked at it.
        let client = async_nats::connect(world.bus.options().url.expose()).await.unwrap();
        let mut asked = client.subscribe("$JS.API.CONSUMER.INFO.EMBED.*").await.unwrap();
        client.flush().await.unwrap();
        started.notify_one();
        asked.next().await.unwrap();
        let next =
            facewire_bus::Outgoing::work(Stage::Match, &crop(SUBJECT), &v1::CropOnly { crop: Some(crop(SUBJECT)) });
        stage.done.send(delivery.done(vec![next])).await.unwrap();
    };
    let erasing = async {
        started.notified().await;
        erase(&world).await
    };
    let (erased, ()) = tokio::join!(erasing, hand_on);
    assert_eq!(erased.work, 1);
    assert_eq!((world.count("EMBED").await, world.count("MATCH").await, world.count("ENRICH").await), (0, 0, 1));
    stage.stop().await;
    // A stage that never acks holds no erasure up for ever.
    publish(&world, "stage.match.office", work(SUBJECT), None).await;
    let mut stuck = Running::start(&world, Stage::Match, &options).await;
    let kept = stuck.take().await;
    assert_eq!(erase(&world).await.work, 1);
    drop(kept);
    until("no message", async || (world.count("MATCH").await == 0).then_some(())).await;
    stuck.stop().await;
}

fn image_work(collection: &str, image: &[u8], asset: &str) -> Bytes {
    let crop = v1::Crop {
        collection: collection.to_owned(),
        image_hash: ImageHash::of(image).as_bytes().to_vec().into(),
        asset_id: asset.to_owned(),
        received_at: Some(facewire_contracts::convert::timestamp(time::OffsetDateTime::now_utc())),
        ..crop("")
    };
    v1::CropOnly { crop: Some(crop) }.encode_to_vec().into()
}

/// An image that waits, one that is embedded, a result, one that died; in two collections.
async fn images(world: &World) {
    for collection in ["office", "lab"] {
        for (image, asset) in [("jpeg", "album/7"), ("png", "album/8")] {
            let letter = v1::DeadLetter {
                subject: format!("crops.{collection}.door"),
                headers: [(headers::ASSET.to_owned(), asset.to_owned())].into(),
                payload: Bytes::from_static(image.as_bytes()),
                died_at: Some(facewire_contracts::convert::timestamp(time::OffsetDateTime::now_utc())),
                ..v1::DeadLetter::default()
            };
            world.write_raw(&subjects::dead(Stage::Ingest, Reason::Internal), letter.encode_to_vec()).await;
            let said = [(headers::ASSET, asset)];
            world.publish(&format!("crops.{collection}.door"), &Bytes::from_static(image.as_bytes()), &said).await;
            let work = image_work(collection, image.as_bytes(), asset);
            publish(world, &format!("stage.embed.{collection}"), work, None).await;
        }
        publish(world, &format!("results.{collection}.door"), Bytes::from_static(b"{}"), None).await;
        publish(world, &format!("events.{collection}.person_created"), Bytes::from_static(b"{}"), None).await;
    }
}

#[tokio::test]
async fn no_stream_carries_an_erased_image_and_its_work_ends() {
    let world = World::new().await;
    images(&world).await;
    let erase = async |selection| world.bus.erase_messages(&office(), &selection).await.unwrap();
    let nothing = ErasedMessages::default();
    let one = ErasedMessages { work: 2, dead: 1, ..nothing };
    assert_eq!(erase(MessageSelection::Image(ImageHash::of(b"jpeg"))).await, one);
    assert_eq!(erase(MessageSelection::Asset("album/7".to_owned())).await, nothing, "it was that image");
    assert_eq!(erase(MessageSelection::Before(time::OffsetDateTime::UNIX_EPOCH)).await, nothing);
    assert_eq!(erase(MessageSelection::Asset("album/8".to_owned())).await, one);
    images(&world).await;
    let all = MessageSelection::Before(time::OffsetDateTime::now_utc() + time::Duration::HOUR);
    assert_eq!(erase(all).await, ErasedMessages { work: 4, dead: 2, ..nothing });
    for (stream, left) in [("CROPS", 4), ("EMBED", 4), ("ENRICH", 4), ("RESULTS", 4), ("DEAD", 4)] {
        assert_eq!(world.count(stream).await, left, "{stream}");
    }
}

/// They wait among others until `ingest` gives them up.
#[tokio::test]
async fn headers_that_no_client_can_read_hold_no_erasure_up_and_say_what_they_can() {
    let world = World::new().await;
    let blocks: [(&[u8], &str); 4] = [
        (b"NATS/1.0\r\nFacewire-Name: b\xFCro\r\nFacewire-Subject: ada-7\r\n\r\n", "hers"),
        (b"NATS/1.0\r\nno colon\r\nFacewire-Asset: album/7\r\n\r\n", "of the album"),
        (b"NATS/1.0\r\nFacewire-Name: a\rb\r\n\r\n", "jpeg"),
        (b"HTTP/1.1 200 OK\r\nHost: a\r\n\r\n", "png"),
    ];
    let mut wire = Wire::connect(&world).await;
    for (block, image) in blocks {
        wire.publish_block("crops.office.door", block, image.as_bytes()).await;
    }
    until("the crops", async || (world.count("CROPS").await == 4).then_some(())).await;
    publish(&world, "crops.office.door", Bytes::from_static(b"image"), Some(SUBJECT)).await;
    let work = |work| ErasedMessages { work, ..ErasedMessages::default() };
    assert_eq!(erase(&world).await, work(2), "hers, and the one behind them");
    let erase = async |selection| world.bus.erase_messages(&office(), &selection).await.unwrap();
    assert_eq!(erase(MessageSelection::Asset("album/7".to_owned())).await, work(1));
    assert_eq!(erase(MessageSelection::Image(ImageHash::of(b"jpeg"))).await, work(1));
    assert_eq!(erase(MessageSelection::Before(time::OffsetDateTime::UNIX_EPOCH)).await, work(0));
    let all = MessageSelection::Before(time::OffsetDateTime::now_utc() + time::Duration::HOUR);
    assert_eq!((erase(all).await, world.count("CROPS").await), (work(1), 0));
}

#[tokio::test]
async fn no_stream_knows_an_erased_collection() {
    let world = World::new().await;
    images(&world).await;
    // What ingest could not publish died on its way to the next stage.
    for collection in ["office", "lab"] {
        let subject = subjects::stage(Stage::Quality, collection);
        let letter = v1::DeadLetter { subject, ..v1::DeadLetter::default() };
        world.write_raw(&subjects::dead(Stage::Ingest, Reason::Internal), letter.encode_to_vec()).await;
    }
    let erased = world.bus.erase_collection_messages(&office()).await.unwrap();
    assert_eq!(erased, ErasedMessages { work: 4, results: 1, events: 1, dead: 3 });
    let left = [("CROPS", 2), ("EMBED", 2), ("ENRICH", 0), ("RESULTS", 1), ("EVENTS", 1), ("DEAD", 3)];
    for (stream, left) in left {
        assert_eq!(world.count(stream).await, left, "{stream}");
        assert!(everything(&world, stream).await.iter().all(|line| !line.contains("office")), "{stream}");
    }
    assert_eq!(world.bus.erase_collection_messages(&office()).await.unwrap().total(), 0);
}
