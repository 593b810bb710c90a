//! A delivery that is given back uses up no attempt; what is given up has an ending, and holds up nobody.

use std::time::Duration;

use bytes::Bytes;
use bytesize::ByteSize;
use facewire_bus::{DeadFilter, Delivery, MOST_GIVEN_BACK, Message, Options, StageOptions};
use facewire_contracts::admission::admission;
use facewire_contracts::{Message as _, ProducerHeaders, convert, headers, subjects, v1};
use facewire_domain::{Reason, Stage};
use time::OffsetDateTime;

use crate::wire::Wire;
use crate::world::{PATIENCE, Running, World, until};

fn crop_id(delivery: &Delivery) -> String {
    let (headers, error) = ProducerHeaders::parse(|name| delivery.header(name));
    assert_eq!(error, None);
    admission(delivery.subject(), &headers, delivery.stream_time, &delivery.payload).unwrap().crop.crop_id
}

#[tokio::test]
async fn a_delivery_given_back_comes_again_as_a_first_one_however_often() {
    let world = World::new().await;
    let options = StageOptions { max_deliver: 1, ack_wait: PATIENCE, ..StageOptions::default() };
    for id in [None, Some("the stage's before")] {
        let pairs = [(headers::INTENT, "observe".to_owned()), (headers::TRACEPARENT, "00-aa-bb-01".to_owned())];
        let message = Message {
            subject: "stage.embed.office".to_owned(),
            id: id.map(str::to_owned),
            headers: pairs.to_vec(),
            payload: Bytes::from_static(b"work"),
        };
        world.bus.publish(message).await.unwrap();
        let mut stage = Running::start(&world, Stage::Embed, &options).await;
        let mut delivery = stage.take().await;
        for times in 1..4 {
            stage.done.send(delivery.give_back().unwrap()).await.unwrap();
            delivery = stage.take().await;
            assert_eq!((delivery.payload.as_ref(), delivery.delivered), (b"work".as_slice(), 1));
            assert_eq!(delivery.header(headers::GIVEN_BACK), Some(times.to_string().as_str()));
            assert_eq!(delivery.header(headers::INTENT), Some("observe"));
            let id = delivery.header(headers::MSG_ID).unwrap();
            assert!(id.ends_with(&format!(":back:{times}")) && id.matches(":back:").count() == 1, "{id}");
        }
        stage.done.send(delivery.done(Vec::new())).await.unwrap();
        stage.stop().await;
        assert_eq!((world.count("EMBED").await, world.count("DEAD").await), (0, 0));
    }
}

#[tokio::test]
async fn what_was_given_back_too_often_uses_up_its_attempts() {
    let world = World::new().await;
    let options = StageOptions { max_deliver: 2, ack_wait: Duration::from_secs(1), ..StageOptions::default() };
    let before = (MOST_GIVEN_BACK - 1).to_string();
    world.publish("stage.embed.office", &Bytes::from_static(b"work"), &[(headers::GIVEN_BACK, &before)]).await;
    let mut stage = Running::start(&world, Stage::Embed, &options).await;
    let delivery = stage.take().await;
    stage.done.send(delivery.give_back().unwrap()).await.unwrap();
    for delivered in 1..=2 {
        let delivery = stage.take().await;
        assert_eq!(delivery.header(headers::GIVEN_BACK), Some(MOST_GIVEN_BACK.to_string().as_str()));
        assert_eq!(delivery.delivered, delivered);
        assert!(delivery.give_back().is_none());
    }
    assert_eq!(world.only_letter().await.letter.unwrap().reason, Reason::Internal.as_str());
    stage.stop().await;
}

/// The only message of ENRICH, taken by a stage of its own, which is left running.
async fn ending(stage: &mut Running) -> (Delivery, v1::EnrichTask) {
    let delivery = stage.take().await;
    let task = convert::decode::<v1::EnrichTask>(delivery.payload.clone(), "EnrichTask").unwrap();
    (delivery, task)
}

#[tokio::test]
async fn a_crop_that_ingest_gives_up_after_too_many_deliveries_ends_as_failed() {
    let world = World::new().await;
    let options = StageOptions { max_deliver: 1, ack_wait: Duration::from_millis(300), ..StageOptions::images() };
    let pairs = [(headers::INTENT, "observe"), (headers::REPLY_TO, "answers.7")];
    world.publish("crops.office.door", &Bytes::from_static(b"image"), &pairs).await;
    let mut ingest = Running::start(&world, Stage::Ingest, &options).await;
    let taken = ingest.take().await;
    let expected = crop_id(&taken);
    drop(taken);

    let mut enrich = Running::start(&world, Stage::Enrich, &options).await;
    let (delivery, task) = ending(&mut enrich).await;
    let (crop, ended) = (task.crop.unwrap(), task.ending.unwrap());
    assert_eq!((&crop.crop_id, crop.reply_to.as_str(), crop.intent.as_str()), (&expected, "answers.7", "observe"));
    convert::CropIdentity::try_from(&crop).unwrap();
    let how = (ended.status.as_str(), ended.reason.as_str(), ended.stage.as_str());
    assert_eq!(how, ("failed", "internal", "ingest"));
    enrich.done.send(delivery.done(Vec::new())).await.unwrap();
    assert_eq!(world.only_letter().await.letter.unwrap().crop_id, expected);
    ingest.stop().await;
    enrich.stop().await;
}

#[tokio::test]
async fn an_ending_that_enrich_gives_up_is_replaced_once() {
    let world = World::new().await;
    let options = StageOptions { ack_wait: PATIENCE, ..StageOptions::default() };
    let now = OffsetDateTime::now_utc();
    let read = admission("crops.office.door", &ProducerHeaders::default(), now, b"image").unwrap();
    // Its ending has no status that there is: `enrich` cannot record it.
    let task =
        v1::EnrichTask { crop: Some(read.crop.clone()), ending: Some(v1::Ending::default()), ..Default::default() };
    world.publish("stage.enrich.office", &Bytes::from(task.encode_to_vec()), &[]).await;
    let mut enrich = Running::start(&world, Stage::Enrich, &options).await;
    let bad = enrich.take().await;
    enrich.done.send(bad.dead(Stage::Enrich, Reason::InvalidMessage, "no such status")).await.unwrap();

    let (replacement, task) = ending(&mut enrich).await;
    let ended = task.ending.unwrap();
    let of = task.crop.unwrap();
    assert_eq!(of.crop_id, read.crop.crop_id);
    let how = (ended.status.as_str(), ended.reason.as_str(), ended.stage.as_str());
    assert_eq!(how, ("failed", "invalid_message", "enrich"));
    assert_eq!(replacement.header(headers::MSG_ID), Some(subjects::failure_id(&of).as_str()));

    // If that is given up too, it stays at that.
    enrich.done.send(replacement.dead(Stage::Enrich, Reason::Internal, "again")).await.unwrap();
    until("two dead letters", async || (world.sequences(DeadFilter::default()).await.len() == 2).then_some(())).await;
    enrich.stop().await;
    assert_eq!(world.count("ENRICH").await, 0);

    // And nothing is written of a crop that could not be recorded either.
    let strange = v1::Crop { captured_at: None, ..read.crop };
    let task = v1::EnrichTask { crop: Some(strange), ending: Some(v1::Ending::default()), ..Default::default() };
    world.publish("stage.enrich.office", &Bytes::from(task.encode_to_vec()), &[]).await;
    let mut enrich = Running::start(&world, Stage::Enrich, &options).await;
    let bad = enrich.take().await;
    enrich.done.send(bad.dead(Stage::Enrich, Reason::InvalidMessage, "no time")).await.unwrap();
    enrich.stop().await;
    assert_eq!((world.count("ENRICH").await, world.count("DEAD").await), (0, 3));
}

/// Enrich, whose own stream is full, with one message in it that is given up, of this crop: those behind it are worked on, and
/// its ending comes when they have made room.
async fn holds_up_nobody(world: &World, options: &StageOptions, crop: &v1::Crop) {
    let mut enrich = Running::start(world, Stage::Enrich, options).await;
    assert_eq!(world.only_letter().await.letter.unwrap().crop_id, crop.crop_id);
    loop {
        let delivery = enrich.take().await;
        let is_ending = delivery.header(headers::MSG_ID) == Some(subjects::failure_id(crop).as_str());
        enrich.done.send(delivery.done(Vec::new())).await.unwrap();
        if is_ending {
            break;
        }
    }
    until("an empty ENRICH", async || (world.count("ENRICH").await == 0).then_some(())).await;
    enrich.stop().await;
}

/// A full ENRICH whose first message is an ending of a crop, under these headers.
async fn full(options: &StageOptions, block: &[u8]) -> (World, Wire, v1::Crop) {
    let world = World::with(Options { stage_max_bytes: ByteSize::kib(64), ..Options::default() }).await;
    world.migrate(Stage::Enrich, options).await;
    let now = OffsetDateTime::now_utc();
    let crop = admission("crops.office.door", &ProducerHeaders::default(), now, b"image").unwrap().crop;
    let task = v1::EnrichTask { crop: Some(crop.clone()), ..v1::EnrichTask::default() };
    let mut wire = Wire::connect(&world).await;
    wire.publish_block("stage.enrich.office", block, &task.encode_to_vec()).await;
    world.fill("stage.enrich.office").await;
    (world, wire, crop)
}

#[tokio::test]
async fn what_enrich_gives_up_while_its_stream_is_full_holds_up_nobody() {
    let options = StageOptions { max_deliver: 1, ack_wait: PATIENCE, ..StageOptions::default() };
    let (world, mut wire, crop) = full(&options, b"NATS/1.0\r\nNobody: reads it\r\n\r\n").await;
    // Somebody had it in hand already: it comes once more.
    let reply = wire.take(Stage::Enrich).await;
    wire.nak(&reply).await;
    holds_up_nobody(&world, &options, &crop).await;
}

#[tokio::test]
async fn so_it_is_with_one_that_nobody_can_read() {
    // What was under way with it when it broke the connection comes again after this.
    let options = StageOptions { ack_wait: Duration::from_secs(1), ..StageOptions::default() };
    let (world, _, crop) = full(&options, b"NATS/1.0\r\nno colon\r\n\r\n").await;
    holds_up_nobody(&world, &options, &crop).await;
}
