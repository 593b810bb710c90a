//! Who is it? Enrolled people, strangers, empty galleries, frames; and how the result reads.

use std::collections::BTreeSet;
use std::time::Duration;

use facewire_composition::Service;
use facewire_contracts::{headers, v1};
use facewire_domain::{Against, EXEMPLARS, PersonId};
use facewire_match::Options;
use facewire_runtime::Shutdown;
use serde_json::Value;

use super::in_time;
use super::pictures::{Faces, lying, numbered};
use super::shot::{OFFICE, Shot};
use super::world::World;

/// `status` and `failure_reason`.
fn ending(result: &v1::Result) -> (&str, Option<&str>) {
    (&result.status, result.failure_reason.as_deref())
}

async fn enroll_both(world: &mut World, faces: &Faces) {
    for person in [faces.obama(), faces.biden()] {
        let shot = Shot::photo(person.subject, &person.enroll).enroll(person.subject, person.name);
        let result = world.ask(&shot).await;
        assert_eq!(ending(&result), ("enrolled", None), "{result:?}");
        assert_eq!(result.person.unwrap().name, person.name);
        assert!(result.face_id.is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_enrolled_are_recognised_and_nobody_else() {
    let faces = Faces::fetch().await;
    let mut world = World::new().await;
    let services = world.start();
    enroll_both(&mut world, &faces).await;

    let probes = faces.obama().probes;
    assert!(!probes.is_empty());
    for (number, probe) in (0..).zip(&probes) {
        let result = world.ask(&Shot::photo(&format!("door-{number}"), probe)).await;
        assert_eq!(ending(&result), ("matched", None), "{}: {result:?}", probe.display());
        let decision = result.decision.unwrap();
        let (person, runner_up) = (decision.person.unwrap(), decision.runner_up.unwrap());
        assert!(decision.matched && decision.similarity.unwrap() >= decision.threshold);
        assert_eq!((person.external_id.as_str(), person.name.as_str()), ("barack-obama", "Barack Obama"));
        assert_eq!((runner_up.external_id.as_str(), runner_up.name.as_str()), ("joe-biden", "Joe Biden"));
        assert!(runner_up.similarity < person.similarity, "the runner-up is the second");
    }

    let stranger = world.ask(&Shot::photo("stranger", &faces.stranger())).await;
    assert_eq!(ending(&stranger), ("no_match", Some("below_threshold")), "{stranger:?}");
    let detail = stranger.detail.unwrap();
    assert!(detail.similarity < detail.threshold && detail.runner_up <= detail.similarity, "{detail:?}");
    assert!(detail.runner_up.is_some());
    let decision = stranger.decision.unwrap();
    assert!(!decision.matched && decision.person.is_none(), "a stranger is nobody: {decision:?}");

    // The crop's own threshold counts.
    let strict = Shot::photo("strict", &probes[0]).header(headers::THRESHOLD, "0.999");
    let strict = world.ask(&strict).await;
    assert_eq!(ending(&strict), ("no_match", Some("below_threshold")));
    assert!((strict.detail.unwrap().threshold.unwrap() - 0.999).abs() < 1e-6);

    // Another collection knows none of them.
    let elsewhere = world.ask(&Shot::photo("elsewhere", &probes[0]).into_collection("garage")).await;
    assert_eq!(ending(&elsewhere), ("no_match", Some("empty_gallery")), "{elsewhere:?}");

    let crops = 5 + probes.len() as u64;
    world.settled(crops, crops).await;
    services.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn against_prototypes_exemplars_alone_decide_and_whoever_was_just_enrolled_has_one() {
    let faces = Faces::fetch().await;
    let mut world = World::new().await;
    // Nobody chooses exemplars but the enrolment.
    let chain: Vec<Service> = Service::all().into_iter().filter(|service| *service != Service::Jobs).collect();
    let options = Options { against: Against::Prototypes, ..Options::default() };
    let shutdown = Shutdown::new(Duration::from_secs(60));
    let running = world.start_on(&world.parts(), &chain, options, &shutdown);
    let obama = faces.obama();
    let portrait = std::fs::read(&obama.enroll).unwrap();
    let enrol = |number: u64, picture: &[u8]| {
        Shot::of(&format!("desk-{number}"), numbered(picture, number)).enroll(obama.subject, obama.name)
    };
    let first = world.ask(&enrol(0, &portrait)).await;
    assert_eq!(ending(&first), ("enrolled", None), "{first:?}");
    let probe = std::fs::read(&obama.probes[0]).unwrap();
    let seen = world.ask(&Shot::of("door", probe.clone())).await;
    assert_eq!(ending(&seen), ("matched", None), "at once: {seen:?}");
    assert_eq!(seen.decision.unwrap().person.unwrap().face_id, first.face_id);

    // So many stand for him; then what the probe shows is enrolled as well, and does not.
    for number in 1..u64::from(EXEMPLARS) {
        let more = world.ask(&enrol(number, &portrait)).await;
        assert_eq!(ending(&more), ("enrolled", None), "{more:?}");
    }
    let own = world.ask(&enrol(20, &probe)).await;
    assert_eq!(ending(&own), ("enrolled", None), "{own:?}");
    let person = PersonId::derive(&OFFICE.parse().unwrap(), &obama.subject.parse().unwrap());
    let exemplars = world.store.exemplars_of(person).await.unwrap();
    assert_eq!(exemplars.len(), EXEMPLARS as usize);
    let again = world.ask(&Shot::of("again", numbered(&probe, 21))).await;
    assert_eq!(ending(&again), ("matched", None), "{again:?}");
    let decision = again.decision.unwrap();
    let by = decision.person.unwrap().face_id;
    assert!(exemplars.iter().any(|face| Some(face.to_string()) == by), "{by:?} is none of {exemplars:?}");
    assert!(decision.similarity < Some(0.99), "the very same face was compared: {:?}", decision.similarity);

    let crops = 4 + u64::from(EXEMPLARS - 1);
    world.settled(crops, crops).await;
    in_time("the end of the services", running.drain()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn each_face_of_a_frame_has_its_own_result() {
    let faces = Faces::fetch().await;
    let mut world = World::new().await;
    let services = world.start();

    world.publish(&Shot::photo("hall", &faces.group()).frame().observe()).await;
    let mut results = Vec::new();
    for _ in 0..6 {
        results.push(world.result("hall").await);
    }
    let numbers: BTreeSet<u32> = results.iter().map(|result| result.face_index).collect();
    assert_eq!(numbers, (0..6).collect(), "each face has its own number");
    assert!(results.iter().all(|result| result.face_count == 6), "{results:?}");
    let crops: BTreeSet<&str> = results.iter().map(|result| result.crop_id.as_str()).collect();
    assert_eq!(crops.len(), 1, "one frame is one crop");
    let boxes: BTreeSet<String> = results.iter().map(|result| format!("{:?}", result.r#box.unwrap())).collect();
    assert_eq!(boxes.len(), 6, "six places in the frame");
    world.settled(1, 6).await;

    // Declared a crop, the same picture leaves in doubt who is meant.
    let crop = world.ask(&Shot::photo("door", &faces.group())).await;
    assert_eq!(ending(&crop), ("rejected", Some("multiple_faces")));
    assert_eq!(crop.stage.as_deref(), Some("quality"));
    world.settled(2, 7).await;
    services.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_reads_as_the_design_says() {
    let faces = Faces::fetch().await;
    let mut world = World::new().await;
    let services = world.start();
    enroll_both(&mut world, &faces).await;
    for shot in [
        Shot::photo("door", &faces.obama().probes[0]),
        Shot::photo("stranger", &faces.stranger()),
        Shot::photo("observed", &faces.stranger()).observe(),
        Shot::of("text", "no picture"),
        Shot::of("lying", lying()),
    ] {
        world.publish(&shot).await;
    }

    let matched = json(&mut world, "door").await;
    for field in [
        "/crop_id",
        "/collection",
        "/camera",
        "/captured_at",
        "/received_at",
        "/finished_at",
        "/intent",
        "/status",
        "/image_hash",
        "/model",
        "/face_count",
        "/box/x1",
        "/quality/blur",
        "/quality/brightness",
        "/quality/face_ratio",
        "/quality/landmarks_score",
        "/quality/pose/yaw",
        "/quality/pose/pitch",
        "/quality/pose/roll",
        "/quality/score",
        "/quality/status",
        "/decision/matched",
        "/decision/threshold",
        "/decision/similarity",
        "/decision/calibration",
        "/decision/margin",
        "/decision/fpir",
        "/decision/people",
        "/decision/person/person_id",
        "/decision/person/external_id",
        "/decision/person/name",
        "/decision/person/similarity",
        "/decision/runner_up/name",
        "/decision/runner_up/similarity",
        "/times/0/started_at",
        "/times/0/finished_at",
    ] {
        assert!(matched.pointer(field).is_some(), "{field} is missing in {matched}");
    }
    assert_eq!(matched["quality"]["status"], "ok");
    assert_eq!(matched["decision"]["matched"], true);
    assert_eq!(matched["decision"]["person"]["name"], "Barack Obama");
    let stages: Vec<&str> = matched["times"].as_array().unwrap().iter().map(|t| t["stage"].as_str().unwrap()).collect();
    assert!(stages.starts_with(&["ingest", "quality", "embed", "match"]), "{stages:?}");
    assert!(matched.get("failure_reason").is_none(), "a success has no reason");

    let stranger = json(&mut world, "stranger").await;
    assert_eq!((&stranger["status"], &stranger["failure_reason"]), (&"no_match".into(), &"below_threshold".into()));
    assert_eq!(stranger["stage"], "match");
    assert!(stranger["detail"]["similarity"].is_number() && stranger["detail"]["threshold"].is_number());

    let observed = json(&mut world, "observed").await;
    assert_eq!((&observed["status"], &observed["intent"]), (&"observed".into(), &"observe".into()));
    assert!(observed["quality"]["blur"].is_number() && observed.get("decision").is_none());

    let text = json(&mut world, "text").await;
    assert_eq!((&text["status"], &text["failure_reason"]), (&"rejected".into(), &"unsupported_format".into()));
    assert_eq!(text["stage"], "ingest");

    let crop = json(&mut world, "lying").await["crop_id"].as_str().unwrap().parse().unwrap();
    let seen = world.store.why(crop).await.unwrap().unwrap().crop;
    assert_eq!((seen.width, seen.height), (Some(48), Some(64)), "upright, as boxes are");
    world.settled(7, 7).await;
    services.stop().await;
}

async fn json(world: &mut World, camera: &str) -> Value {
    let event = world.event(|result| result.camera == camera, &format!("the result of {camera}")).await;
    assert_eq!(event.subject, format!("results.office.{camera}"));
    serde_json::from_slice(&event.json).unwrap()
}
