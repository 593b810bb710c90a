//! Limits that a stored calibration sets: they reach the stages that judge while these run, hold for one camera, and are gone
//! when the calibration is reverted; also when NATS lost what it was told.

use std::time::Duration;

use facewire_contracts::v1;
use facewire_domain::CalibratedGates;
use facewire_store_pg::{Actor, NewCalibration, StoredCalibration};

use super::pictures::Faces;
use super::shot::{OFFICE, Shot};
use super::world::World;
use super::{in_time, until};

/// Of one camera: a face must be larger than any picture.
fn refusing(world: &World, camera: &str) -> NewCalibration {
    NewCalibration {
        version: "office-gate-1".to_owned(),
        collection: OFFICE.parse().unwrap(),
        camera: Some(camera.parse().unwrap()),
        model: world.models.name(),
        document: StoredCalibration { matching: None, gate: Some(serde_json::json!({ "min_face_size": 60_000 })) },
    }
}

/// Asks until the crop is refused by this stage, or by none. Adds the crops that it took.
async fn asked(world: &mut World, shot: &Shot, refused_by: Option<&str>, count: &mut u64) -> v1::Result {
    let asking = async {
        loop {
            let result = world.ask(shot).await;
            *count += 1;
            if refused(&result) == refused_by {
                return result;
            }
            // Nobody tells when a stage has heard of it; they hear of it one after the other.
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    in_time(&format!("a crop that is refused by {refused_by:?}"), asking).await
}

fn refused(result: &v1::Result) -> Option<&str> {
    if result.status == "rejected" { result.stage.as_deref() } else { None }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_calibrated_gate_refuses_one_cameras_crops_until_it_is_reverted() {
    let faces = Faces::fetch().await;
    let mut world = World::new().await;
    let services = world.start();
    let (far, near) = (Shot::photo("far", &faces.obama().probes[0]), Shot::photo("near", &faces.obama().probes[0]));
    let mut count = 0;
    asked(&mut world, &far, None, &mut count).await;

    assert!(world.store.save_calibration(&refusing(&world, "far")).await.unwrap());
    assert!(world.store.apply_calibration("office-gate-1", &Actor::named("a test")).await.unwrap());
    let refused = asked(&mut world, &far, Some("quality"), &mut count).await;
    assert_eq!(refused.failure_reason.as_deref(), Some("face_too_small"));
    assert_eq!(refused.detail.unwrap().limit, Some(60_000.0));
    let passed = world.ask(&near).await;
    assert_eq!(passed.status, "no_match", "another camera is not concerned: {passed:?}");
    let passed = world.ask(&far.clone().into_collection("garage")).await;
    assert_eq!(passed.status, "no_match", "nor is another collection: {passed:?}");
    count += 2;

    // What was told is lost: the truth is told again.
    let (settings, key) = (world.bus.settings().await.unwrap(), CalibratedGates::key(&world.models.name()));
    let told = settings.get(&key).await.unwrap().unwrap();
    settings.put(&key, "lost".into()).await.unwrap();
    until("the gates told again", async || {
        let now = settings.get(&key).await.unwrap();
        if now.as_ref() == Some(&told) { Ok(()) } else { Err(now) }
    })
    .await;
    asked(&mut world, &far, Some("quality"), &mut count).await;

    assert!(world.store.revert_calibration("office-gate-1", &Actor::named("a test")).await.unwrap());
    asked(&mut world, &far, None, &mut count).await;
    world.settled(count, count).await;
    services.stop().await;
}
