//! Calibrations: one in force for each place, and the one before when it is reverted; and how many people a gallery has.

use facewire_domain::{Calibration, FmrPoint};
use facewire_store_pg::{
    AuditFilter, Enrolment, GallerySize, NewCalibration, NewFace, Store, StoreError, StoredCalibration, StoredEvent,
};
use serde_json::json;
use sqlx::Executor;

use crate::support::{by, enrol, face, test_database};

fn calibration(version: &str, camera: Option<&str>) -> NewCalibration {
    let point = |fmr, threshold| FmrPoint { fmr, threshold };
    let matching = Calibration {
        version: version.to_owned(),
        data: "people of a test".to_owned(),
        people: 50,
        genuine: 100,
        impostor: 100_000,
        margin: 0.05,
        table: vec![point(1e-2, 0.3), point(1e-3, 0.4)],
        confidence: None,
    };
    NewCalibration {
        version: version.to_owned(),
        collection: "office".parse().unwrap(),
        camera: camera.map(|camera| camera.parse().unwrap()),
        model: "pack-1".to_owned(),
        document: StoredCalibration { matching: Some(matching), gate: Some(serde_json::json!({ "min_blur": 12.5 })) },
    }
}

/// Camera and version of what is in force.
async fn in_force(store: &Store) -> Vec<(Option<String>, String)> {
    let rows = store.calibrations_in_force("pack-1").await.unwrap();
    rows.into_iter().map(|row| (row.camera.map(|camera| camera.to_string()), row.version)).collect()
}

#[tokio::test]
async fn reverting_puts_the_one_before_in_force() {
    let db = test_database().await;
    let store = db.migrated().await;
    let office = |version: &str| vec![(None, version.to_owned())];
    for version in ["a", "b", "c"] {
        assert!(store.save_calibration(&calibration(version, None)).await.unwrap());
    }
    assert_eq!(in_force(&store).await, [], "kept is not applied");
    for version in ["a", "b", "c"] {
        assert!(store.apply_calibration(version, &by()).await.unwrap());
        assert_eq!(in_force(&store).await, office(version));
    }
    assert!(store.revert_calibration("c", &by()).await.unwrap());
    assert!(!store.revert_calibration("c", &by()).await.unwrap(), "it is reverted already");
    assert_eq!(in_force(&store).await, office("b"));
    assert!(store.revert_calibration("a", &by()).await.unwrap(), "one that was behind leaves the history");
    assert_eq!(in_force(&store).await, office("b"));
    assert!(store.revert_calibration("b", &by()).await.unwrap());
    assert_eq!(in_force(&store).await, []);
    assert!(store.apply_calibration("a", &by()).await.unwrap());
    assert_eq!(in_force(&store).await, office("a"));
    assert!(
        !store.apply_calibration("d", &by()).await.unwrap() && !store.revert_calibration("d", &by()).await.unwrap()
    );

    let row = store.calibration("a").await.unwrap().unwrap();
    assert_eq!(row.document, calibration("a", None).document);
    assert!(row.applied_at.unwrap() > row.created_at && row.reverted_at.is_none());
    assert_eq!(store.calibration("d").await.unwrap(), None);
    db.drop().await;
}

/// What the trail says of calibrations, the oldest first.
async fn trail(store: &Store) -> Vec<StoredEvent> {
    let mut rows = store.audit_trail(&AuditFilter::default(), None, 100).await.unwrap();
    rows.retain(|row| row.kind.starts_with("calibration."));
    rows.reverse();
    rows
}

#[tokio::test]
async fn who_applied_and_reverted_a_calibration_is_in_the_trail() {
    let db = test_database().await;
    let store = db.migrated().await;
    let gate = NewCalibration {
        document: StoredCalibration { matching: None, ..calibration("gate", None).document },
        ..calibration("gate", None)
    };
    for new in [&calibration("a", Some("door-1")), &gate] {
        assert!(store.save_calibration(new).await.unwrap());
    }
    assert_eq!(trail(&store).await, [], "kept is not applied");
    assert!(store.apply_calibration("a", &by()).await.unwrap());
    assert!(store.revert_calibration("a", &by()).await.unwrap());
    assert!(!store.revert_calibration("a", &by()).await.unwrap());
    assert!(!store.apply_calibration("nobodys", &by()).await.unwrap());
    assert!(store.apply_calibration("gate", &by()).await.unwrap());

    let told = trail(&store).await;
    let kinds: Vec<&str> = told.iter().map(|row| row.kind.as_str()).collect();
    assert_eq!(
        kinds,
        ["calibration.applied", "calibration.reverted", "calibration.applied"],
        "what changed nothing is not"
    );
    let said = json!({
        "version": "a", "collection": "office", "camera": "door-1", "model": "pack-1", "people": 50, "genuine": 100,
        "impostor": 100_000, "gate": { "min_blur": 12.5 },
    });
    assert!(told.iter().take(2).all(|row| row.detail == said && row.actor == by()), "{told:#?}");
    assert_eq!((&told[2].detail["version"], &told[2].detail["people"]), (&json!("gate"), &json!(null)));
    let events = store.unpublished_events(100).await.unwrap();
    assert!(events.iter().all(|event| !event.kind.starts_with("calibration.")), "{events:#?}");
    db.drop().await;
}

#[tokio::test]
async fn cameras_models_and_collections_have_their_own() {
    let db = test_database().await;
    let store = db.migrated().await;
    let of_lab = NewCalibration { collection: "lab".parse().unwrap(), ..calibration("lab", None) };
    let of_model = NewCalibration { model: "pack-2".to_owned(), ..calibration("other", None) };
    let all = [calibration("all", None), calibration("door", Some("door-1")), of_lab, of_model];
    for new in &all {
        assert!(store.save_calibration(new).await.unwrap());
        assert!(store.apply_calibration(&new.version, &by()).await.unwrap());
    }
    let mut found = in_force(&store).await;
    found.sort();
    let pair = |camera: Option<&str>, version: &str| (camera.map(str::to_owned), version.to_owned());
    assert_eq!(found, [pair(None, "all"), pair(None, "lab"), pair(Some("door-1"), "door")]);
    // A clock that was set back does not undo the order.
    let mut operator = db.operator().await;
    operator
        .execute("UPDATE calibrations SET applied_at = now() + interval '1 hour' WHERE version = 'all'")
        .await
        .unwrap();
    store.save_calibration(&calibration("later", None)).await.unwrap();
    store.apply_calibration("later", &by()).await.unwrap();
    assert!(in_force(&store).await.contains(&pair(None, "later")));
    db.drop().await;
}

#[tokio::test]
async fn a_version_is_one_calibration_and_a_broken_one_is_not_kept() {
    let db = test_database().await;
    let store = db.migrated().await;
    let first = calibration("a", None);
    assert!(store.save_calibration(&first).await.unwrap());
    assert!(store.save_calibration(&first).await.unwrap(), "the same again");
    let mut other = first.clone();
    other.document.matching.as_mut().unwrap().margin = 0.1;
    assert!(!store.save_calibration(&other).await.unwrap());
    assert!(!store.save_calibration(&calibration("a", Some("door-1"))).await.unwrap());

    let mut broken = calibration("b", None);
    broken.document.matching.as_mut().unwrap().table.clear();
    let renamed = NewCalibration { version: "c".to_owned(), ..calibration("b", None) };
    let nameless =
        NewCalibration { version: "a b".to_owned(), document: StoredCalibration::default(), ..first.clone() };
    for wrong in [broken, renamed, nameless] {
        let error = store.save_calibration(&wrong).await.unwrap_err();
        assert!(matches!(error, StoreError::Invalid { .. }), "{error:?}");
    }
    // What somebody wrote by hand is said, not skipped.
    let mut operator = db.operator().await;
    operator
        .execute(r#"UPDATE calibrations SET document = '{"matching": {"version": 7}}', applied_at = now()"#)
        .await
        .unwrap();
    let error = store.calibrations_in_force("pack-1").await.unwrap_err();
    assert_eq!(error, StoreError::Corrupt { column: "calibrations.document".into() });
    db.drop().await;
}

#[tokio::test]
async fn a_gallery_counts_the_people_and_faces_that_can_be_found() {
    let db = test_database().await;
    let store = db.migrated().await;
    let office = "office".parse().unwrap();
    assert_eq!(store.gallery_size(&office).await.unwrap(), GallerySize::default());
    let elsewhere = NewFace { collection: "lab".parse().unwrap(), ..face("9", None, 9) };
    let faces = [face("1", None, 1), face("1", None, 2), face("2", None, 3), face("3", None, 4), elsewhere];
    let enrolled = enrol(&store, &faces).await;
    let pending = |at: usize| match enrolled[at] {
        Enrolment::Pending { person, face, .. } => (person, face),
        ref other => panic!("{other:?}"),
    };
    let size = async || {
        let GallerySize { people, faces, exemplars } = store.gallery_size(&office).await.unwrap();
        (people, faces, exemplars)
    };
    assert_eq!(size().await, (3, 4, 4), "two faces are one person");
    store.tombstone(&[pending(3).1]).await.unwrap();
    assert_eq!(size().await, (2, 3, 3), "a person without a face");
    assert!(store.merge_persons(pending(2).0, pending(0).0, &by()).await.unwrap().is_some());
    assert_eq!(size().await, (1, 3, 3), "a merged person");
    db.drop().await;
}

#[tokio::test]
async fn what_was_kept_is_listed_newest_first() {
    let db = test_database().await;
    let store = db.migrated().await;
    assert_eq!(store.calibrations(None, 10).await.unwrap(), []);
    let of_lab = NewCalibration { collection: "lab".parse().unwrap(), ..calibration("c", None) };
    for new in [calibration("a", None), calibration("b", Some("door-1")), of_lab] {
        assert!(store.save_calibration(&new).await.unwrap());
    }
    store.apply_calibration("a", &by()).await.unwrap();
    store.revert_calibration("a", &by()).await.unwrap();
    let (office, lab) = ("office".parse().unwrap(), "lab".parse().unwrap());
    let versions = async |collection, most| -> Vec<String> {
        let rows = store.calibrations(collection, most).await.unwrap();
        rows.into_iter().map(|row| row.version).collect()
    };
    assert_eq!(versions(None, 10).await, ["c", "b", "a"]);
    assert_eq!(versions(None, 1).await, ["c"]);
    assert_eq!(versions(Some(&office), 10).await, ["b", "a"]);
    assert_eq!(versions(Some(&lab), 10).await, ["c"]);
    let row = store.calibrations(Some(&office), 10).await.unwrap().pop().unwrap();
    assert!(row.applied_at.is_some() && row.reverted_at.is_some());
}
