//! Published twice, counted once; and the copy for whoever asked.

use facewire_contracts::{headers, subjects};
use time::OffsetDateTime;

use super::pictures::Faces;
use super::shot::Shot;
use super::until;
use super::wiretap::Wiretap;
use super::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn the_same_crop_three_times_is_one_row_and_one_result() {
    let faces = Faces::fetch().await;
    let mut world = World::new().await;
    let shot = Shot::photo("door", &faces.stranger()).taken(OffsetDateTime::now_utc());
    let publish = async |world: &World, id: &str| {
        let mut message = shot.message();
        message.id = Some(id.to_owned());
        assert!(!world.bus.publish(message).await.unwrap().duplicate, "the stream knows ids, not crops");
    };
    // All three lie in the stream when the services start: they meet in one batch.
    for id in ["a", "b", "c"] {
        publish(&world, id).await;
    }
    let services = world.start();
    assert_eq!(world.result("door").await.crop_id, shot.crop().to_string());
    world.settled(1, 1).await;

    // And once more, long after it ended.
    publish(&world, "d").await;
    until("the fourth message", async || {
        let left = world.bus.stream_messages("CROPS").await.unwrap();
        if left == 0 { Ok(()) } else { Err(left) }
    })
    .await;
    world.settled(1, 1).await;
    services.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asked_gets_a_copy_of_the_result() {
    let mut world = World::new().await;
    let mut asker = Wiretap::on(&world.stack.nats_url, "answers.*").await;
    let services = world.start();
    for (camera, intent) in [("seven", "recognize"), ("eight", "no such intent")] {
        let shot = Shot::of(camera, "no picture")
            .header(headers::REPLY_TO, &format!("answers.{camera}"))
            .header(headers::INTENT, intent);
        world.publish(&shot).await;
        let (subject, copy) = asker.next().await;
        assert_eq!(subject, format!("answers.{camera}"));
        let event = world.event(|result| result.camera == camera, "the result itself").await;
        assert_eq!(copy, event.json, "the copy is the result");
    }
    // Nobody can have our own streams fed with results.
    let fed = Shot::of("nine", "no picture").header(headers::REPLY_TO, "crops.office.nine");
    assert_eq!(world.ask(&fed).await.failure_reason.as_deref(), Some("invalid_message"));
    world.settled(3, 3).await;
    assert_eq!(world.bus.stream_messages(subjects::DEAD).await.unwrap(), 0);
    services.stop().await;
}
