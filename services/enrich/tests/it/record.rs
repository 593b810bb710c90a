//! Every ending becomes one row, and every generation of a row one result, whatever is delivered twice, replaced or at fault.

use std::time::Duration;

use facewire_contracts::{convert, v1};
use facewire_domain::{Decision, Detail, Outcome, PersonId, Reason, Stage, Status};
use facewire_runtime::Shutdown;

use crate::world::{World, at, crop, observed, task};

/// Characters that are six in JSON: more than the server takes of a result, while the task is as long as this says.
const LONG: usize = 3_500_000;

fn failed(message: &str) -> Outcome {
    Outcome::failed(Stage::Match, Reason::StoreUnavailable, Detail::message(message))
}

fn of(result: &serde_json::Value) -> (&str, &str) {
    (result["crop_id"].as_str().unwrap(), result["status"].as_str().unwrap())
}

#[tokio::test]
async fn a_replaced_result_is_published_once_more_and_a_losing_ending_is_not() {
    let mut world = World::new().await;
    world.start();
    let id = crop(1).to_string();
    world.publish(&task(1, failed("away")), "first").await;
    assert_eq!(of(&world.result().await), (id.as_str(), "failed"));
    world.publish(&task(1, observed()), "replayed").await;
    assert_eq!(of(&world.result().await), (id.as_str(), "observed"));
    // Later endings lose: what was published stays the last word. The other crop's result shows that they were worked.
    world.publish(&task(1, failed("again")), "late failure").await;
    world.publish(&task(1, observed()), "twice").await;
    world.publish(&task(2, observed()), "another").await;
    assert_eq!(of(&world.result().await).0, crop(2).to_string());
    world.settled(2).await;
    world.stop().await;
    assert_eq!(world.results().await, 3);
}

#[tokio::test]
async fn a_losing_ending_publishes_what_the_row_holds() {
    let mut world = World::new().await;
    // A replica wrote the row and died before it published.
    let mut written = row_of_a_replica(1);
    written.outcome = Outcome::rejected(Stage::Quality, Reason::NoFace, Detail::message("nobody there"));
    world.store.finish(&[written]).await.unwrap().remove(0).unwrap();
    world.publish(&task(1, failed("too late")), "loser").await;
    world.start();
    let result = world.result().await;
    assert_eq!((of(&result).1, result["failure_reason"].as_str()), ("rejected", Some("no_face")));
    assert_eq!(result["detail"]["message"], "nobody there");
    world.settled(1).await;
    world.stop().await;
    assert_eq!(world.results().await, 1);
}

#[tokio::test]
async fn two_replicas_publish_each_generation_once() {
    let mut world = World::new().await;
    for number in 0..100 {
        world.publish(&task(number, failed("away")), &format!("failed {number}")).await;
        world.publish(&task(number, observed()), &format!("observed {number}")).await;
        world.publish(&task(number, observed()), &format!("repeated {number}")).await;
    }
    world.start();
    world.start();
    world.settled(100).await;
    world
        .until("the end of the work", async || {
            let lag = world.bus.lag(Stage::Enrich).await.unwrap();
            (lag.pending + lag.ack_pending == 0).then_some(())
        })
        .await;
    world.stop().await;
    let results = world.results().await;
    let mut last = std::collections::HashMap::new();
    for _ in 0..results {
        let result = world.result().await;
        let (id, status) = of(&result);
        *last.entry((id.to_owned(), status.to_owned())).or_insert(0) += 1;
    }
    assert!(last.values().all(|count| *count == 1), "{last:?}");
    assert_eq!(last.keys().filter(|(_, status)| status == "observed").count(), 100);
}

#[tokio::test]
async fn a_message_that_can_never_be_recorded_blocks_nobody() {
    let mut world = World::new().await;
    // A time that neither the wire nor Postgres has room for.
    let mut prehistoric = task(1, observed());
    let time = convert::timestamp(time_min());
    prehistoric.crop.as_mut().unwrap().captured_at = Some(time);
    world.publish(&prehistoric, "prehistoric").await;
    // A replica wrote a row that cannot be read, and died.
    let mut unreadable = row_of_a_replica(30);
    unreadable.decision = Some(Decision { threshold: f32::NAN, ..Decision::default() });
    world.store.finish(&[unreadable]).await.unwrap().remove(0).unwrap();
    world.publish(&task(30, observed()), "unreadable").await;
    // The result is larger than the server takes, whole and shortened.
    let mut endless = task(2, observed());
    endless.ending.as_mut().unwrap().model = "\u{1}".repeat(LONG);
    world.publish(&endless, "endless").await;
    for number in 3..23 {
        world.publish(&task(number, observed()), &format!("good {number}")).await;
    }
    world.start();
    let mut found = Vec::new();
    for _ in 3..23 {
        found.push(of(&world.result().await).0.to_owned());
    }
    found.sort();
    let mut expected: Vec<String> = (3..23).map(|number| crop(number).to_string()).collect();
    expected.sort();
    assert_eq!(found, expected);
    world.dead_letters(&["captured_at", "recognitions.decision", "max_payload"]).await;
    world.stop().await;
    assert!(world.store.why(crop(2)).await.unwrap().is_some(), "its row stays");
    assert_eq!(world.store.why(crop(1)).await.unwrap(), None);
}

#[tokio::test]
async fn a_result_that_is_too_large_is_published_without_its_sentence() {
    let mut world = World::new().await;
    world.start();
    world.publish(&task(1, failed(&"\u{1}".repeat(LONG))), "long").await;
    let result = world.result().await;
    assert_eq!(of(&result), (crop(1).to_string().as_str(), "failed"));
    assert_eq!(result["failure_reason"], "store_unavailable");
    assert!(result["detail"]["message"].is_null(), "the sentence was published");
    world.settled(1).await;
    world.stop().await;
}

#[tokio::test]
async fn a_hidden_person_is_not_named() {
    let mut world = World::new().await;
    let person = anna(&world).await;
    world.start();
    world.publish(&enrolled(1, person), "shown").await;
    assert_eq!(world.result().await["person"]["name"], "Anna");
    assert!(world.store.hide_person(person, true, &facewire_store_pg::Actor::named("a test")).await.unwrap());
    world.publish(&enrolled(2, person), "hidden").await;
    let result = world.result().await;
    assert_eq!(result["person"]["person_id"], person.to_string());
    assert!(!result.to_string().contains("Anna"), "{result}");
    world.stop().await;
}

#[tokio::test]
async fn whoever_waits_is_told_whom_the_row_names() {
    let mut world = World::new().await;
    let anna = anna(&world).await;
    // A replica wrote this row and died; the ending that comes again names nobody.
    let mut written = row_of_a_replica(2);
    written.outcome = Outcome::success(Status::Enrolled, Stage::Match);
    written.person = Some(anna);
    world.store.finish(&[written]).await.unwrap().remove(0).unwrap();
    let (requests, replies) = world.bus.requests(8).await.unwrap();
    let shutdown = Shutdown::new(Duration::from_secs(5));
    let handing = tokio::spawn(replies.run(shutdown.clone()));
    world.start();
    let nobody = PersonId::derive(&"office".parse().unwrap(), &"nobody".parse().unwrap());
    let named = [(enrolled(1, anna), Some("Anna")), (task(2, observed()), Some("Anna")), (enrolled(3, nobody), None)];
    for (number, (mut task, name)) in named.into_iter().enumerate() {
        let mut waiting = requests.begin().unwrap();
        task.crop.as_mut().unwrap().reply_to = waiting.reply_to().to_owned();
        world.publish(&task, &format!("waited for {number}")).await;
        let reply = waiting.next(Duration::from_secs(60)).await.unwrap();
        assert_eq!(reply.person.as_ref().map(|person| person.name.as_str()), name, "{reply:?}");
    }
    world.settled(3).await;
    world.stop().await;
    shutdown.drain();
    handing.await.unwrap().unwrap();
}

/// Enrols somebody.
async fn anna(world: &World) -> PersonId {
    let subject: facewire_domain::SubjectId = "17".parse().unwrap();
    let person = PersonId::derive(&"office".parse().unwrap(), &subject);
    let face = facewire_store_pg::NewFace {
        collection: "office".parse().unwrap(),
        subject,
        name: Some("Anna".to_owned()),
        image_hash: facewire_domain::ImageHash::of(b"anna"),
        asset: None,
        embedding: vec![0.5; 4],
        model: "pack-1".to_owned(),
        bounding_box: None,
        landmarks: None,
        quality: None,
        crop: None,
        captured_at: at(0),
    };
    world.store.begin_enrolment(&[face]).await.unwrap().remove(0).unwrap();
    person
}

/// A crop that was enrolled for a person.
fn enrolled(number: i64, person: PersonId) -> v1::EnrichTask {
    let mut task = task(number, Outcome::success(Status::Enrolled, Stage::Match));
    task.ending.as_mut().unwrap().person_id = person.to_string();
    task
}

fn time_min() -> time::OffsetDateTime {
    time::Date::MIN.midnight().assume_utc()
}

/// A row as another replica writes it.
fn row_of_a_replica(number: i64) -> facewire_store_pg::Ending {
    let v1::EnrichTask { crop: Some(crop), .. } = task(number, observed()) else { panic!("a task has a crop") };
    let identity = convert::CropIdentity::try_from(&crop).unwrap();
    facewire_store_pg::Ending {
        crop: facewire_store_pg::CropHead {
            crop: identity.crop,
            collection: identity.collection,
            camera: identity.camera,
            captured_at: identity.captured_at,
            received_at: identity.received_at,
            image_hash: identity.image,
            intent: identity.intent,
            subject: identity.subject,
            frame: false,
        },
        face_index: 0,
        face_count: 1,
        outcome: observed(),
        quality: None,
        bounding_box: None,
        decision: None,
        person: None,
        face: None,
        model: None,
        times: Vec::new(),
        finished_at: None,
    }
}
