//! `facewire calibrate` as a person runs it, on folders made of the design's photos: too few are refused with the numbers that
//! would be needed; enough are shown beside today's, kept, listed, and taken back.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use facewire_config::Secret;
use facewire_devstack::testing;
use facewire_inference::builtin_manifest;
use facewire_store_pg::{AuditFilter, Options, Store};
use serde_json::Value;

/// The design's photos beside the workspace, by person; says so loudly where they are not.
fn photos() -> Option<Vec<(String, Vec<PathBuf>)>> {
    let root = testing::shared_data("lfw/images")?;
    let list = |folder: &Path| {
        let mut all: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        all.sort();
        all
    };
    let name = |folder: &Path| folder.file_name().unwrap().to_str().unwrap().to_owned();
    Some(list(&root).iter().map(|folder| (name(folder), list(folder))).collect())
}

/// Folders of so many people with three photos, and of so many with one.
fn folders(root: &Path, photos: &[(String, Vec<PathBuf>)], several: usize, one: usize) {
    let with = |least: usize, most: usize| photos.iter().filter(move |(_, all)| (least..=most).contains(&all.len()));
    let chosen = with(3, usize::MAX).take(several).map(|person| (person, 3));
    for ((name, all), count) in chosen.chain(with(1, 1).take(one).map(|person| (person, 1))) {
        std::fs::create_dir_all(root.join(name)).unwrap();
        for photo in all.iter().take(count) {
            std::fs::copy(photo, root.join(name).join(photo.file_name().unwrap())).unwrap();
        }
    }
}

/// Runs the binary with nothing configured and nothing running.
fn facewire(data: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_facewire"));
    command.arg("--data").arg(data.join("no-stack")).arg("calibrate").args(arguments);
    command.env_remove("FACEWIRE_CONFIG").output().unwrap()
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn too_few_photos_are_refused_with_what_would_be_needed() {
    let Some(photos) = photos() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (people, seen) = (folder.path().join("people"), folder.path().join("seen"));
    folders(&people, &photos, 3, 1);
    let arguments = ["--faces", people.to_str().unwrap(), "--cache", seen.to_str().unwrap()];
    let said = refused(&facewire(folder.path(), &arguments));
    for word in
        ["too small: 4 people", "10 photos", "9 pairs of one person, 36 of two", "40 people are needed", "3000 pairs"]
    {
        assert!(said.contains(word), "{word}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_calibration_is_shown_kept_listed_and_taken_back() {
    let Some(photos) = photos() else { return };
    let (database, folder) = (testing::database().await.unwrap(), tempfile::tempdir().unwrap());
    let url = database.url();
    let store = Store::connect(&Options { url: Secret::new(&url), ..Options::default() }).await.unwrap();
    store.migrate().await.unwrap();
    let (people, seen) = (folder.path().join("people"), folder.path().join("seen"));
    folders(&people, &photos, 25, 16);
    let data = ["--faces", people.to_str().unwrap(), "--cache", seen.to_str().unwrap(), "--strangers-single", "10"];
    let place = ["--postgres", url.as_str(), "--collection", "office", "--camera", "door"];

    // Without a place nothing is asked for and nothing changes.
    let shown = text(&facewire(folder.path(), &data));
    for word in
        ["91 photos", "today", "new", "default-lfw-view1-1", "nothing was changed", "stay as they are", "TOO SMALL"]
            .into_iter()
            .chain(["lead the second by 0.05", "at least 50.0 % fail", "is turned off"])
    {
        assert!(shown.contains(word), "{word}\n{shown}");
    }
    assert!(photos.iter().all(|(name, _)| !shown.contains(name)), "nobody is named");

    // Of each person two photos are enrolled: the threshold is for as many faces.
    let twice = text(&facewire(folder.path(), &[&data[..], &["--enroll", "2", "--json"]].concat()));
    let twice: Value = serde_json::from_str(&twice).unwrap();
    let faces = twice["gallery"]["faces"].as_u64().unwrap();
    assert!((26..=50).contains(&faces) && twice["gallery"]["enrolled"] == false, "{faces}");

    let applied = text(&facewire(folder.path(), &[&data[..], &place[..], &["--apply", "--json"]].concat()));
    let report: Value = serde_json::from_str(&applied).unwrap();
    assert_eq!((&report["applied"], &report["sample"]["others"]), (&true.into(), &6.into()));
    let made = &report["calibration"];
    assert_eq!((&made["people"], &made["genuine"]), (&41.into(), &75.into()));
    assert_eq!(made["data"], "41 people, 91 photos, all against all; behind FMR 1e-2 the curve of default-lfw-view1-1");
    // Behind the two points that the sample supports the pack's table goes on.
    let usual = builtin_manifest("default").unwrap().calibration.clone().unwrap();
    let above = |point: &Value| {
        let (fmr, threshold) = (point["fmr"].as_f64().unwrap(), point["threshold"].as_f64().unwrap());
        (fmr, threshold - f64::from(usual.threshold_at_fmr(fmr)))
    };
    let points: Vec<(f64, f64)> = made["table"].as_array().unwrap().iter().map(above).collect();
    assert_eq!([points[0].0, points[1].0, points[4].0], [0.1, 0.01, 1e-5]);
    assert!(points[1..].iter().all(|point| (point.1 - points[1].1).abs() < 1e-5), "{points:?}");
    let version = made["version"].as_str().unwrap();
    assert!(
        version.starts_with("office-door-20") && version.len() == "office-door-20260102-01234567".len(),
        "{version}"
    );
    let row = store.calibration(version).await.unwrap().unwrap();
    assert_eq!((row.collection.as_str(), row.camera.unwrap().as_str()), ("office", "door"));
    assert!(row.applied_at.is_some() && row.document.matching.unwrap().version == version);

    // The same again is the same calibration; then it is today's.
    let again: Value =
        serde_json::from_str(&text(&facewire(folder.path(), &[&data[..], &place[..], &["--json"]].concat()))).unwrap();
    assert_eq!((&again["today"]["decided_by"], &again["applied"]), (&version.into(), &false.into()));
    assert_eq!(again["calibration"]["table"], made["table"], "it is moved once");
    let listed = text(&facewire(folder.path(), &["--list", "--postgres", &url]));
    assert!(listed.contains(version) && listed.contains("in force"), "{listed}");

    let elsewhere = ["--revert", "--postgres", &url, "--collection", "office"];
    assert!(refused(&facewire(folder.path(), &elsewhere)).contains("no calibration is in force"));
    let reverted = text(&facewire(folder.path(), &[&["--revert"], &place[..]].concat()));
    assert!(reverted.contains(version), "{reverted}");
    assert!(refused(&facewire(folder.path(), &["--revert", version, "--postgres", &url])).contains("not applied"));
    assert!(store.calibrations_in_force(&row.model).await.unwrap().is_empty());
    let trail = store.audit_trail(&AuditFilter::default(), None, 100).await.unwrap();
    let told = trail.iter().filter(|row| row.detail["version"] == version);
    let told: Vec<(&str, &str)> = told.map(|row| (row.kind.as_str(), row.actor.name.as_str())).collect();
    let by = "facewire calibrate";
    assert_eq!(told, [("calibration.reverted", by), ("calibration.applied", by)], "the newest first");
    assert!(refused(&facewire(folder.path(), &["--revert", "nobodys", "--postgres", &url])).contains("--list"));
}
