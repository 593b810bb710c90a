//! Enrolment across the two stores: once a person and image, one owner a name, and whole whatever a crash left.

use std::time::Duration;

use facewire_composition::Service;
use facewire_domain::ImageHash;
use facewire_store_pg::{Enrolment, FaceQuality, NewFace};
use time::OffsetDateTime;

use super::pictures::Faces;
use super::shot::{OFFICE, Shot};
use super::world::World;
use super::{sql, until};

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_enrolled_once_and_a_name_has_one_owner() {
    let faces = Faces::fetch().await;
    let mut world = World::new().await;
    let services = world.start();
    let (obama, biden) = (faces.obama(), faces.biden());

    let first = world.ask(&Shot::photo("first", &obama.enroll).enroll(obama.subject, obama.name)).await;
    assert_eq!(first.status, "enrolled", "{first:?}");
    // Another camera, another time: another crop, but the same image of the same person.
    let again = world.ask(&Shot::photo("again", &obama.enroll).enroll(obama.subject, obama.name)).await;
    assert_eq!(again.status, "already_enrolled", "{again:?}");
    assert_eq!(again.face_id, first.face_id);
    assert_ne!(again.crop_id, first.crop_id);

    let other = "somebody-else";
    let name = world.ask(&Shot::photo("name", &biden.enroll).enroll(other, &obama.name.to_uppercase())).await;
    let image = world.ask(&Shot::photo("image", &obama.enroll).enroll(other, "Somebody Else")).await;
    for conflict in [name, image] {
        assert_eq!(conflict.status, "rejected", "{conflict:?}");
        assert_eq!(conflict.failure_reason.as_deref(), Some("identity_conflict"));
        assert_eq!(conflict.stage.as_deref(), Some("match"));
        assert!(conflict.detail.is_some());
    }
    let gallery = world.store.gallery(None).await.unwrap();
    assert_eq!((gallery.persons, gallery.faces, gallery.pending), (1, 1, 0), "conflicts wrote nothing");
    assert_eq!(world.vectors.count(None).await.unwrap(), 1);
    world.settled(4, 4).await;
    services.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_between_the_two_stores_is_completed() {
    let faces = Faces::fetch().await;
    let mut world = World::new().await;
    let obama = faces.obama();
    let image = std::fs::read(&obama.enroll).unwrap();

    // What a match stage leaves that died after the row and before the point.
    let (models, picture) = (world.models.clone(), image.clone());
    let (judged, embedding) = tokio::task::spawn_blocking(move || models.embed(&picture)).await.unwrap();
    let (at, hash) = (OffsetDateTime::now_utc(), ImageHash::of(&image));
    let shot = Shot::of("desk", image.clone()).taken(at).enroll(obama.subject, obama.name);
    let face = NewFace {
        collection: OFFICE.parse().unwrap(),
        subject: obama.subject.parse().unwrap(),
        name: Some(obama.name.to_owned()),
        image_hash: hash,
        asset: None,
        embedding,
        model: world.models.name(),
        bounding_box: Some(judged.found.bbox),
        landmarks: Some(judged.found.landmarks),
        quality: Some(FaceQuality { signals: judged.quality, status: "ok".to_owned() }),
        crop: Some(shot.crop()),
        captured_at: at,
    };
    let begun = world.store.begin_enrolment(std::slice::from_ref(&face)).await.unwrap();
    let Some(&Ok(Enrolment::Pending { face: id, person, .. })) = begun.first() else { panic!("{begun:?}") };

    // The jobs write points as well, of whoever becomes an exemplar.
    let chain: Vec<Service> = Service::all().into_iter().filter(|service| *service != Service::Jobs).collect();
    let services = world.start_these(&chain);
    let before = world.ask(&Shot::photo("before", &obama.probes[0])).await;
    assert_eq!(before.failure_reason.as_deref(), Some("empty_gallery"), "the point is missing: {before:?}");

    // A face that may still be on its way is left alone.
    let patient = world.reconciler(facewire_reconciler::Options::default());
    assert_eq!(patient.complete().await.unwrap(), 0);
    let options = facewire_reconciler::Options { pending_after: Duration::ZERO, ..Default::default() };
    let reconciler = world.reconciler(options);
    assert_eq!(reconciler.complete().await.unwrap(), 1);
    assert_eq!(reconciler.complete().await.unwrap(), 0, "it is whole now");

    let points = world.vectors.retrieve(&[id], true).await.unwrap();
    let [point] = points.as_slice() else { panic!("{points:?}") };
    let payload = point.payload.as_ref().unwrap();
    assert_eq!((payload.person, payload.instance, payload.asset), (Some(person), face.crop, Some(hash)));
    let kept = point.embedding.as_ref().unwrap().iter().zip(&face.embedding).all(|(a, b)| (a - b).abs() < 1e-5);
    assert!(kept, "the stored embedding became the point's, and no other");
    let gallery = world.store.gallery(None).await.unwrap();
    assert_eq!((gallery.faces, gallery.pending), (1, 0));

    let after = world.ask(&Shot::photo("after", &obama.probes[0])).await;
    assert_eq!(after.status, "matched", "{after:?}");
    assert_eq!(after.decision.unwrap().person.unwrap().external_id, obama.subject);
    // The crop itself comes once more and tells what it did; whoever comes later with that image finds it done.
    let told = world.ask(&shot).await;
    assert_eq!((told.status.as_str(), told.face_id), ("enrolled", Some(id.to_string())));
    let again = world.ask(&Shot::of("again", image).enroll(obama.subject, obama.name)).await;
    assert_eq!((again.status.as_str(), again.face_id), ("already_enrolled", Some(id.to_string())));
    world.settled(4, 4).await;
    services.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_probe_waits_for_an_enrolment_that_waits() {
    /// What a clustering holds from the beginning to the end of its write: whoever writes people or faces of the collection waits.
    const HOLD: &str = "BEGIN; SELECT pg_advisory_xact_lock(hashtextextended('facewire persons of office', 0));";
    const WAITING: &str = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database());";
    let faces = Faces::fetch().await;
    let mut world = World::new().await;
    let chain: Vec<Service> = Service::all().into_iter().filter(|service| *service != Service::Jobs).collect();
    let services = world.start_these(&chain);
    let obama = faces.obama();
    let mut clustering = sql::Session::open(&world.stack.postgres_url);
    clustering.run(HOLD);
    world.publish(&Shot::photo("desk", &obama.enroll).enroll(obama.subject, obama.name)).await;
    until("an enrolment that waits", async || {
        let waiting = clustering.run(WAITING);
        if waiting == ["1"] { Ok(()) } else { Err(waiting) }
    })
    .await;
    for collection in ["vault", OFFICE] {
        let probe = world.ask(&Shot::photo("door", &obama.probes[0]).into_collection(collection)).await;
        assert_eq!(probe.failure_reason.as_deref(), Some("empty_gallery"), "{probe:?}");
    }
    assert_eq!(world.store.gallery(None).await.unwrap().faces, 0, "it waits still");
    clustering.run("COMMIT;");
    let enrolled = world.result("desk").await;
    assert_eq!(enrolled.status, "enrolled", "{enrolled:?}");
    world.settled(3, 3).await;
    services.stop().await;
}
