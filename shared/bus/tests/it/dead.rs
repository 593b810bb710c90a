//! Letters of DEAD: listed, shown, put back once, dropped.

use std::time::Duration;

use bytes::Bytes;
use facewire_bus::{BusError, DeadFilter, Message, StageOptions};
use facewire_contracts::{Message as _, headers, subjects, v1};
use facewire_domain::{Reason, Stage};
use time::OffsetDateTime;

use crate::world::{PATIENCE, Running, World, until};

#[tokio::test]
async fn letters_are_read_in_order_and_by_stage_reason_and_time() {
    let world = World::new().await;
    let now = OffsetDateTime::now_utc();
    let hours = |count| now - time::Duration::hours(count);
    // More than a page, so that the reader has to ask again.
    let mut all = Vec::new();
    for number in 0..40_i64 {
        let (stage, reason) = match number % 4 {
            0 => (Stage::Embed, Reason::Timeout),
            1 => (Stage::Embed, Reason::Internal),
            2 => (Stage::Match, Reason::Timeout),
            _ => (Stage::Enrich, Reason::InvalidMessage),
        };
        all.push((world.write(stage, reason, hours(40 - number)).await, stage, reason));
    }
    let strange = world.write_raw("dead.embed.of_another_release", b"\xFF\xFF".to_vec()).await;
    let fitting = |fits: &dyn Fn(Stage, Reason) -> bool| -> Vec<u64> {
        all.iter().filter(|(_, stage, reason)| fits(*stage, *reason)).map(|(sequence, ..)| *sequence).collect()
    };

    let everything = world.sequences(DeadFilter::default()).await;
    assert_eq!(everything, [fitting(&|_, _| true), vec![strange]].concat());
    let embed = DeadFilter { stage: Some(Stage::Embed), ..DeadFilter::default() };
    assert_eq!(world.sequences(embed).await, [fitting(&|stage, _| stage == Stage::Embed), vec![strange]].concat());
    let late = DeadFilter { reason: Some(Reason::Timeout), ..DeadFilter::default() };
    assert_eq!(world.sequences(late).await, fitting(&|_, reason| reason == Reason::Timeout));
    let both = DeadFilter { stage: Some(Stage::Match), reason: Some(Reason::Internal), ..DeadFilter::default() };
    assert_eq!(world.sequences(both).await, Vec::<u64>::new());
    let ten_hours = DeadFilter { since: Some(hours(30)), until: Some(hours(20)), ..DeadFilter::default() };
    let expected: Vec<u64> = all.iter().skip(10).take(10).map(|(sequence, ..)| *sequence).collect();
    assert_eq!(world.sequences(ten_hours).await, expected);

    // What came before is read and what comes after is not, or an operator who replays would never end.
    let mut reader = world.letters.read(DeadFilter::default()).await.unwrap();
    world.write(Stage::Embed, Reason::Timeout, now).await;
    let mut read = 0;
    while reader.next().await.unwrap().is_some() {
        read += 1;
    }
    assert_eq!(read, everything.len());

    let unreadable = world.letters.get(strange).await.unwrap();
    assert_eq!((unreadable.letter, unreadable.reason.as_str()), (None, "of_another_release"));
    assert!(matches!(world.letters.replay(strange).await, Err(BusError::NotALetter { .. })));
    world.letters.remove(strange).await.unwrap();
    for missing in [0, strange, 1_000_000] {
        let refusal = world.letters.get(missing).await.unwrap_err();
        assert!(matches!(refusal, BusError::NoLetter { sequence } if sequence == missing), "{refusal}");
    }
}

#[tokio::test]
async fn a_poisoned_message_comes_back_once_whoever_and_however_often_it_is_replayed() {
    let world = World::new().await;
    let work = Bytes::from_static(b"\xFFpoison");
    let options = StageOptions { max_deliver: 1, ack_wait: Duration::from_millis(300), ..StageOptions::default() };
    world.publish("stage.embed.office", &work, &[(headers::TRACEPARENT, "00-aa-bb-01")]).await;

    // Lost once; its second delivery is one too many, and the stage gives it up.
    let mut stage = Running::start(&world, Stage::Embed, &options).await;
    drop(stage.take().await);
    let entry = world.only_letter().await;
    stage.stop().await;
    let letter = entry.letter.clone().unwrap();
    assert_eq!((entry.subject.as_str(), entry.stage.as_str()), ("dead.embed.internal", "embed"));
    assert_eq!((letter.subject.as_str(), &letter.payload, letter.delivered), ("stage.embed.office", &work, 2));
    assert!(letter.error.contains("1 deliveries") && entry.received_at.unwrap() <= entry.died_at, "{entry:?}");
    until("an empty EMBED", async || (world.count("EMBED").await == 0).then_some(())).await;

    // Two operators at once, and one more who is late.
    let (one, other) = tokio::join!(world.letters.replay(entry.sequence), world.letters.replay(entry.sequence));
    let fresh = [&one, &other].into_iter().flatten().filter(|replayed| !replayed.published.duplicate).count();
    assert_eq!(fresh, 1, "{one:?} {other:?}");
    for refusal in [one, other, world.letters.replay(entry.sequence).await].into_iter().filter_map(Result::err) {
        assert!(matches!(refusal, BusError::NoLetter { .. }), "{refusal}");
    }
    assert_eq!((world.count("EMBED").await, world.count("DEAD").await), (1, 0));

    // The stage takes it as any other, as it was, with all its deliveries before it.
    let mut stage = Running::start(&world, Stage::Embed, &options).await;
    let again = stage.take().await;
    assert_eq!((again.subject(), &again.payload, again.delivered), ("stage.embed.office", &work, 1));
    assert_eq!(again.header(headers::TRACEPARENT), Some("00-aa-bb-01"));
    // And if it dies again, that is another letter, which can be put back again.
    stage.done.send(again.dead(Stage::Embed, Reason::InvalidMessage, "still poison")).await.unwrap();
    let second = world.only_letter().await;
    assert!(second.sequence > entry.sequence);
    stage.stop().await;
    assert!(!world.letters.replay(second.sequence).await.unwrap().published.duplicate);
    assert_eq!((world.count("EMBED").await, world.count("DEAD").await), (1, 0));
}

#[tokio::test]
async fn a_replay_whose_puback_was_lost_is_repeated_without_a_second_message() {
    let world = World::new().await;
    let sequence = world.write(Stage::Match, Reason::Timeout, OffsetDateTime::now_utc()).await;
    let raw = async_nats::connect(world.bus.options().url.expose()).await.unwrap();
    let dead = async_nats::jetstream::new(raw).get_stream(subjects::DEAD).await.unwrap();
    // What such a replay leaves: its message is there, and so is the letter.
    let first = Message {
        subject: subjects::stage(Stage::Match, "office"),
        id: Some(format!("replay:DEAD:{}:{sequence}", dead.cached_info().created.unix_timestamp_nanos())),
        payload: Bytes::from_static(b"work"),
        ..Message::default()
    };
    assert!(!world.bus.publish(first).await.unwrap().duplicate);
    assert!(world.letters.replay(sequence).await.unwrap().published.duplicate);
    assert_eq!((world.count("MATCH").await, world.count("DEAD").await), (1, 0));
}

#[tokio::test]
async fn a_crop_that_ingest_gave_up_comes_back_as_the_same_crop() {
    let world = World::new().await;
    let options = StageOptions { ack_wait: PATIENCE, ..StageOptions::images() };
    let image = Bytes::from_static(b"image");
    let pairs = [(headers::INTENT, "observe"), (headers::MSG_ID, "the producer's")];
    world.publish("crops.office.door", &image, &pairs).await;
    let mut stage = Running::start(&world, Stage::Ingest, &options).await;
    let first = stage.take().await;
    let taken = first.stream_time;
    stage.done.send(first.dead(Stage::Ingest, Reason::Internal, "a defect")).await.unwrap();
    let entry = world.only_letter().await;
    assert_eq!(entry.received_at, Some(taken));

    // The producer's own id is still in the duplicate window: with it, the replay would be dropped.
    world.letters.replay(entry.sequence).await.unwrap();
    let again = stage.take().await;
    assert_eq!((again.payload.clone(), again.header(headers::INTENT)), (image, Some("observe")));
    let (said, error) = facewire_contracts::ProducerHeaders::parse(|name| again.header(name));
    assert_eq!((said.captured_at, error), (Some(taken), None), "the crop's id derives from this");
    stage.done.send(again.done(Vec::new())).await.unwrap();
    stage.stop().await;
    assert_eq!((world.count("CROPS").await, world.count("DEAD").await), (0, 0));
}

#[tokio::test]
async fn letters_go_by_filter_and_the_others_stay() {
    let world = World::new().await;
    let now = OffsetDateTime::now_utc();
    let stays =
        [world.write(Stage::Embed, Reason::Internal, now).await, world.write(Stage::Match, Reason::Timeout, now).await];
    for _ in 0..3 {
        world.write(Stage::Embed, Reason::Timeout, now).await;
    }
    let filter = DeadFilter { stage: Some(Stage::Embed), reason: Some(Reason::Timeout), ..DeadFilter::default() };
    let dropped = world.sequences(filter).await;
    assert_eq!(dropped.len(), 3);
    for sequence in &dropped {
        world.letters.remove(*sequence).await.unwrap();
    }
    assert_eq!(world.sequences(DeadFilter::default()).await, stays);
    let refusal = world.letters.remove(dropped[0]).await.unwrap_err();
    assert!(matches!(refusal, BusError::NoLetter { .. }), "{refusal}");
    assert_eq!(world.count("EMBED").await + world.count("MATCH").await, 0, "dropping puts nothing back");
}

#[tokio::test]
async fn a_letter_without_its_message_says_so_and_stays() {
    let world = World::new().await;
    let letter = v1::DeadLetter {
        subject: subjects::stage(Stage::Quality, "office"),
        error: "too large".to_owned(),
        ..v1::DeadLetter::default()
    };
    let subject = subjects::dead(Stage::Quality, Reason::Internal);
    let sequence = world.write_raw(&subject, letter.encode_to_vec()).await;
    let refusal = world.letters.replay(sequence).await.unwrap_err();
    assert!(matches!(refusal, BusError::NoOriginal { .. }) && refusal.to_string().contains("too large"), "{refusal}");
    assert!(world.letters.get(sequence).await.unwrap().replayable().is_err());
    assert_eq!((world.count("QUALITY").await, world.count("DEAD").await), (0, 1));
}

#[tokio::test]
async fn a_letter_of_an_extraction_holds_no_message() {
    let world = World::new().await;
    let options = StageOptions { ack_wait: PATIENCE, ..StageOptions::images() };
    let image = Bytes::from_static(b"a face");
    let pairs = [(headers::INTENT, "extract"), (headers::REPLY_TO, "replies.a.1")];
    world.publish("crops.office.door", &image, &pairs).await;
    let mut stage = Running::start(&world, Stage::Ingest, &options).await;
    let delivery = stage.take().await;
    stage.done.send(delivery.dead(Stage::Ingest, Reason::Internal, "a defect")).await.unwrap();
    let entry = world.only_letter().await;
    assert!(entry.letter.as_ref().unwrap().payload.is_empty());
    let refusal = world.letters.replay(entry.sequence).await.unwrap_err();
    assert!(matches!(refusal, BusError::NoOriginal { .. }), "{refusal}");
    stage.stop().await;
}
