//! What a match needs: by the pack's calibration and the people in the gallery, by a stored calibration, by the request; the
//! margin to the second person; and a stage that nobody told.

use std::time::Duration;

use facewire_composition::Service;
use facewire_contracts::{headers, v1};
use facewire_domain::{Calibration, Confidence, FmrPoint, Stage};
use facewire_match::Options;
use facewire_runtime::{ServiceError, Shutdown};
use facewire_store_pg::{Actor, NewCalibration, StoredCalibration};

use super::in_time;
use super::pictures::{Faces, changed};
use super::shot::{OFFICE, Shot};
use super::world::World;

/// A picture that is another file and hardly another face.
fn twin(picture: &[u8], darker: u8) -> Vec<u8> {
    changed(picture, |image| image.clone().map(|value| value.saturating_sub(darker)))
}

#[tokio::test(flavor = "multi_thread")]
async fn two_people_with_nearly_the_same_face_are_a_doubt() {
    let faces = Faces::fetch().await;
    let mut world = World::new().await;
    let obama = faces.obama();
    let picture = std::fs::read(&obama.enroll).unwrap();

    let services = world.start_matching(Options { conflict_similarity: Some(1.0), ..Options::default() });
    let first = Shot::of("first", picture.clone()).enroll(obama.subject, obama.name);
    let second = Shot::of("second", twin(&picture, 2)).enroll("twin", "His Twin");
    for shot in [first, second] {
        let result = world.ask(&shot).await;
        assert_eq!(result.status, "enrolled", "{result:?}");
    }
    let doubt = world.ask(&Shot::photo("door", &obama.probes[0])).await;
    assert_eq!((doubt.status.as_str(), doubt.failure_reason.as_deref()), ("no_match", Some("ambiguous")), "{doubt:?}");
    let (detail, decision) = (doubt.detail.unwrap(), doubt.decision.unwrap());
    assert!(detail.similarity > detail.threshold && detail.runner_up > detail.threshold, "{detail:?}");
    assert!(detail.message.unwrap().contains("second person"));
    assert!(!decision.matched && decision.person.is_none(), "nobody is named where two are meant: {decision:?}");
    services.stop().await;

    // Unless told otherwise, a face that is another person's is not enrolled in the first place.
    let services = world.start();
    let third = world.ask(&Shot::of("third", twin(&picture, 4)).enroll("third", "Somebody Else")).await;
    let ending = (third.status.as_str(), third.failure_reason.as_deref());
    assert_eq!(ending, ("rejected", Some("identity_conflict")), "{third:?}");
    let detail = third.detail.unwrap();
    assert!(detail.similarity > detail.threshold, "{detail:?}");
    world.settled(4, 4).await;
    services.stop().await;
}

/// Asks for more than any photo of a person reaches.
fn strict(world: &World) -> NewCalibration {
    let point = |fmr, threshold| FmrPoint { fmr, threshold };
    let matching = Calibration {
        version: "office-1".to_owned(),
        data: "a test".to_owned(),
        people: 10,
        genuine: 100,
        impostor: 100_000,
        margin: 0.01,
        table: vec![point(1e-2, 0.97), point(1e-3, 0.98)],
        confidence: Some(Confidence { slope: 30.0, intercept: -9.0, faces: 2 }),
    };
    NewCalibration {
        version: "office-1".to_owned(),
        collection: OFFICE.parse().unwrap(),
        camera: None,
        model: world.models.name(),
        document: StoredCalibration { matching: Some(matching), gate: None },
    }
}

/// Asks until the decision is made by this calibration. Adds the crops that it took.
async fn decided_by(world: &mut World, shot: &Shot, version: &str, asked: &mut u64) -> v1::Result {
    let asking = async {
        loop {
            let result = world.ask(shot).await;
            *asked += 1;
            if result.decision.as_ref().and_then(|d| d.calibration.as_deref()) == Some(version) {
                return result;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    in_time(&format!("a decision by {version}"), asking).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stored_calibration_decides_until_it_is_reverted() {
    let faces = Faces::fetch().await;
    let mut world = World::new().await;
    let services = world.start();
    let pack = world.models.calibration().unwrap();
    for person in [faces.obama(), faces.biden()] {
        world.ask(&Shot::photo(person.subject, &person.enroll).enroll(person.subject, person.name)).await;
    }
    let mut asked = 2;
    let door = Shot::photo("door", &faces.obama().probes[0]);

    let by_pack = decided_by(&mut world, &door, &pack.version, &mut asked).await;
    assert_eq!((by_pack.status.as_str(), asked), ("matched", 3), "{by_pack:?}");
    let decision = by_pack.decision.unwrap();
    assert_eq!((decision.people, decision.fpir), (Some(2), Some(0.01)), "both people count at once");
    assert!((decision.threshold - f64::from(pack.threshold_for(0.01, 2))).abs() < 1e-6);

    assert!(world.store.save_calibration(&strict(&world)).await.unwrap());
    assert!(world.store.apply_calibration("office-1", &Actor::named("a test")).await.unwrap());
    let strict = decided_by(&mut world, &door, "office-1", &mut asked).await;
    assert_eq!(strict.failure_reason.as_deref(), Some("below_threshold"), "{strict:?}");
    let decision = strict.decision.unwrap();
    assert!(decision.threshold > 0.97 && decision.confidence.unwrap() > 0.5, "{decision:?}");

    let own = world.ask(&door.clone().header(headers::THRESHOLD, "0.2")).await;
    let decision = own.decision.unwrap();
    assert_eq!((own.status.as_str(), decision.calibration.as_deref()), ("matched", Some("request")));
    assert_eq!((decision.fpir, decision.margin), (None, Some(0.01)), "the margin stays the calibration's");
    // Another collection is not concerned.
    let elsewhere = world.ask(&door.clone().into_collection("garage")).await;
    assert_eq!(elsewhere.decision.unwrap().calibration, Some(pack.version.clone()));
    asked += 2;

    assert!(world.store.revert_calibration("office-1", &Actor::named("a test")).await.unwrap());
    let again = decided_by(&mut world, &door, &pack.version, &mut asked).await;
    assert_eq!(again.status, "matched", "{again:?}");
    world.settled(asked, asked).await;
    services.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stage_that_nobody_told_what_a_match_needs_does_not_start() {
    let world = World::new().await;
    let mut parts = world.parts();
    parts.index.as_mut().unwrap().pack.calibration = None;
    let start = |shutdown: &Shutdown| {
        world.start_on(&parts, &[Service::Stage(Stage::Match)], Options::default(), shutdown).wait()
    };
    let refused = in_time("a refusal", start(&Shutdown::new(Duration::from_secs(5)))).await.unwrap_err();
    assert!(matches!(refused.downcast_ref(), Some(ServiceError::Refused { .. })), "{refused}");
    for said in ["facewire calibrate", "match.threshold", world.models.name().as_str()] {
        assert!(refused.to_string().contains(said), "{refused}");
    }
    // One calibration that was applied is enough to start.
    world.store.save_calibration(&strict(&world)).await.unwrap();
    world.store.apply_calibration("office-1", &Actor::named("a test")).await.unwrap();
    let shutdown = Shutdown::new(Duration::from_secs(30));
    let running = tokio::spawn(start(&shutdown));
    in_time("a service that is ready", async {
        while !shutdown.health().is_ready() {
            assert!(!running.is_finished());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    shutdown.drain();
    in_time("the end of the service", running).await.unwrap().unwrap();
}
