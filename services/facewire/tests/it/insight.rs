//! `why`, `cameras` and `failures` as an operator runs them, on planted endings: exact counts, exact answers to "what if",
//! errors that say what there is, and a stack that has stopped.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use facewire_artifacts::progress;
use facewire_artifacts::{self as artifacts, FetchOptions, Kind};
use facewire_config::Secret;
use facewire_devstack::postgres::{PostgresOptions, PostgresServer};
use facewire_devstack::testing;
use facewire_domain::{
    BoundingBox, Candidate, CropId, Decision, GateLimits, ImageHash, Intent, Outcome, Quality, Stage, Status,
};
use facewire_store_pg::{CropHead, Ending, FaceQuality, NewCrop, Options, StageTime, Store};
use serde_json::Value;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

/// The limits of these tests, whatever the defaults become.
const LIMITS: [(&str, &str); 3] = [("MIN_BLUR", "40"), ("MIN_BRIGHTNESS", "0.125"), ("MIN_FACE_SIZE", "40")];

fn limits() -> GateLimits {
    GateLimits { min_blur: Some(40.0), min_brightness: Some(0.125), min_face_size: Some(40.0), ..GateLimits::default() }
}

/// Runs the binary with nothing of this machine's own.
fn facewire(data: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_facewire"));
    command.arg("--data").arg(data).args(arguments).env_remove("FACEWIRE_CONFIG");
    for (name, value) in LIMITS {
        command.env(format!("FACEWIRE__QUALITY__GATE__{name}"), value);
    }
    command.output().unwrap()
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn good() -> Quality {
    Quality {
        blur: 300.0,
        brightness: 0.5,
        face_ratio: 0.25,
        face_size: 120.0,
        landmarks_score: 0.875,
        detection_score: 0.9375,
        score: 0.5,
        ..Quality::default()
    }
}

/// An ending of now, judged as the gate would.
fn ending(camera: &str, number: u64, signals: Quality) -> (NewCrop, Ending) {
    let (collection, camera) = ("office".parse().unwrap(), camera.parse().unwrap());
    let image_hash = ImageHash::of(&number.to_be_bytes());
    let received_at = OffsetDateTime::now_utc() - Duration::MINUTE;
    let crop = CropId::derive(&collection, &camera, received_at, &image_hash);
    let head = CropHead {
        crop,
        collection,
        camera,
        captured_at: received_at,
        received_at,
        image_hash,
        intent: Intent::Recognize,
        subject: None,
        frame: false,
    };
    let (outcome, decision) = match limits().judge(&signals) {
        Ok(()) => {
            let best =
                Candidate { person: Uuid::from_u128(7).into(), face: Uuid::from_u128(8).into(), similarity: 0.5 };
            let decision = Decision { matched: true, threshold: 0.375, best: Some(best), ..Decision::default() };
            (Outcome::success(Status::Matched, Stage::Match), Some(decision))
        }
        Err(refusal) => (Outcome::rejected(Stage::Quality, refusal.reason, refusal.detail), None),
    };
    let status = outcome.detail.as_ref().and_then(|detail| detail.signal.clone()).unwrap_or("ok".to_owned());
    let finished_at = received_at + Duration::milliseconds(250);
    let times = vec![StageTime { stage: Stage::Ingest, started_at: received_at, finished_at: received_at }];
    let ending = Ending {
        crop: head.clone(),
        face_index: 0,
        face_count: 1,
        outcome,
        quality: Some(FaceQuality { signals, status }),
        bounding_box: Some(BoundingBox { x1: 0.0, y1: 0.0, x2: 120.0, y2: 130.0 }),
        decision,
        person: None,
        face: None,
        model: Some("pack-1".to_owned()),
        times,
        finished_at: Some(finished_at),
    };
    (NewCrop { head, bytes: 1000, format: Some("jpeg".to_owned()), size: Some((640, 480)), asset: None }, ending)
}

/// Of `blurred`: four of ten are sharp; of the others four are bright enough and two are dark as well. `dark`, `small` and
/// `clean` have four each; one of `clean` was never measured.
async fn plant(store: &Store) {
    let mut all = Vec::new();
    for number in 0..4 {
        all.push(ending("blurred", number, good()));
        all.push(ending("clean", number, good()));
        all.push(ending("dark", number, Quality { brightness: 0.063, ..good() }));
        all.push(ending("small", number, Quality { face_size: 25.0, ..good() }));
    }
    for (number, blur) in (4..).zip([10.0, 15.0, 20.0, 30.0]) {
        all.push(ending("blurred", number, Quality { blur, ..good() }));
    }
    for (number, blur) in (8..).zip([12.0, 25.0]) {
        // A limit of the gate's own order: dark comes before blurred.
        all.push(ending("blurred", number, Quality { blur, brightness: 0.063, ..good() }));
    }
    let (crop, mut faceless) = ending("clean", 9, good());
    let none = facewire_domain::Detail::message("the detector found no face");
    faceless.outcome = Outcome::rejected(Stage::Quality, facewire_domain::Reason::NoFace, none);
    (faceless.quality, faceless.decision) = (None, None);
    all.push((crop, faceless));
    let (crops, endings): (Vec<_>, Vec<_>) = all.into_iter().unzip();
    store.admit(&crops).await.unwrap();
    store.finish(&endings).await.unwrap();
}

async fn store(url: &str) -> Store {
    let store = Store::connect(&Options { url: Secret::new(url), ..Options::default() }).await.unwrap();
    store.migrate().await.unwrap();
    store
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bad_cameras_are_told_from_the_good_one_and_what_if_is_exact() {
    let (database, data) = (testing::database().await.unwrap(), tempfile::tempdir().unwrap());
    let url = database.url();
    plant(&store(&url).await).await;
    let ask = |arguments: &[&str]| facewire(data.path(), &[&["--postgres", &url], arguments].concat());
    let json = |arguments: &[&str]| serde_json::from_str::<Value>(&text(&ask(arguments))).unwrap();

    let all = json(&["cameras", "--json"]);
    let told: Vec<_> = all["cameras"]
        .as_array()
        .unwrap()
        .iter()
        .map(|camera| {
            let cause = &camera["causes"][0];
            let blame = cause["signal"].as_str().or(cause["reason"].as_str()).unwrap_or_default();
            (camera["camera"].as_str().unwrap(), camera["verdict"].as_str().unwrap(), blame)
        })
        .collect();
    let expected = [
        ("dark", "bad", "too_dark"),
        ("small", "bad", "face_size"),
        ("blurred", "bad", "blur"),
        ("clean", "fair", "no_face"),
    ];
    assert_eq!(told, expected);
    assert_eq!((&all["cameras"][3]["expected_recognisable"], &all["cameras"][3]["scored"]), (&0.5.into(), &4.into()));
    let shown = text(&ask(&["cameras"]));
    for word in [
        "expected",
        "50 % of 4",
        "office/dark",
        "BAD",
        "too_dark: 4 of 4 rejected, median 0.063 (at least 0.125 is needed)",
    ] {
        assert!(shown.contains(word), "{word}\n{shown}");
    }

    let camera = &json(&["cameras", "--camera", "blurred", "--limit", "blur=15", "--limit", "too_dark=0.05", "--json"])
        ["cameras"][0];
    assert_eq!((&camera["faces"], &camera["rejected"], &camera["usable"]), (&10.into(), &6.into(), &0.4.into()));
    let what_if = &camera["what_if"];
    assert_eq!(
        (&what_if["judged"], &what_if["refused"], &what_if["judged_otherwise_then"]),
        (&10.into(), &6.into(), &0.into())
    );
    let answers: Vec<_> = what_if["answers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|answer| {
            (
                answer["limits"].as_str().unwrap(),
                answer["would_accept"].as_u64().unwrap(),
                answer["would_reject"].as_u64().unwrap(),
                answer["would_fall_to"].to_string(),
            )
        })
        .collect();
    let expected = [
        // 15, 20 and 30 keep it.
        ("blur=15", 3, 0, "{}".to_owned()),
        // Both dark ones are blurred as well.
        ("too_dark=0.05", 0, 0, r#"{"blur":2}"#.to_owned()),
        // 25 is sharp enough then, 12 is not.
        ("blur=15 too_dark=0.05", 4, 0, r#"{"blur":1}"#.to_owned()),
    ];
    assert_eq!(answers, expected);
    let stricter =
        &json(&["cameras", "--camera", "clean", "--limit", "min_blur=301", "--json"])["cameras"][0]["what_if"];
    assert_eq!((&stricter["answers"][0]["would_reject"], &stricter["never_measured"]), (&4.into(), &1.into()));
    assert_eq!(stricter["answers"][0]["lost_recognitions"], 4);
    let gained = &what_if["answers"][2];
    assert_eq!((&gained["gained_recognitions"], &gained["expected_errors"]), (&2.0.into(), &2.0.into()));
    assert_eq!((&gained["unscored"], &gained["lost_recognitions"]), (&0.into(), &0.into()));

    let blur = camera["signals"].as_array().unwrap().iter().find(|signal| signal["signal"] == "blur").unwrap();
    assert_eq!((&blur["below"], &blur["decisive"], &blur["min"]), (&6.into(), &4.into(), &40.0.into()));
    let shown = text(&ask(&["cameras", "--camera", "blurred"]));
    for word in ["at least 40", "6 (60 %)", "blur=11", "+3", "~1.5", "recognised"] {
        assert!(shown.contains(word), "{word}\n{shown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn enrolments_are_judged_by_their_own_limits() {
    let (database, data) = (testing::database().await.unwrap(), tempfile::tempdir().unwrap());
    let url = database.url();
    let store = store(&url).await;
    // Good enough to be recognised, and refused by the limit of enrolment, 0.4.
    let (mut crop, mut refused) = ending("desk", 0, Quality { score: 0.375, ..good() });
    (crop.head.intent, refused.crop.intent) = (Intent::Enroll, Intent::Enroll);
    let detail = facewire_domain::Detail::limit("score", 0.375, 0.4);
    refused.outcome = Outcome::rejected(Stage::Embed, facewire_domain::Reason::LowQuality, detail);
    refused.decision = None;
    store.admit(&[crop]).await.unwrap();
    store.finish(&[refused]).await.unwrap();
    let ask = |arguments: &[&str]| text(&facewire(data.path(), &[&["--postgres", &url], arguments].concat()));

    let shown: Value = serde_json::from_str(&ask(&["cameras", "--camera", "desk", "--json"])).unwrap();
    let what_if = &shown["cameras"][0]["what_if"];
    assert_eq!(
        (&what_if["judged"], &what_if["refused"], &what_if["judged_otherwise_then"]),
        (&1.into(), &1.into(), &0.into())
    );
    let answer = &what_if["answers"][0];
    assert_eq!((&answer["limits"], &answer["would_accept"]), (&"score=0.37".into(), &1.into()));
    let shown = ask(&["cameras", "--camera", "desk"]);
    assert!(shown.contains("score=0.37") && shown.contains("last ended"), "{shown}");
    for wrong in ["no limit of the gate rejected", "judged otherwise"] {
        assert!(!shown.contains(wrong), "{wrong}\n{shown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_listed_and_nonsense_is_answered_with_what_there_is() {
    let (database, data) = (testing::database().await.unwrap(), tempfile::tempdir().unwrap());
    let url = database.url();
    plant(&store(&url).await).await;
    let ask = |arguments: &[&str]| facewire(data.path(), &[&["--postgres", &url], arguments].concat());
    let shown = text(&ask(&["failures", "--reason", "low_quality", "--camera", "dark", "--limit", "2"]));
    assert_eq!(shown.matches("too dark 0.063, at least 0.125 is needed").count(), 2, "{shown}");
    assert!(shown.contains("│     4 ┆ rejected ┆ low_quality ┆ too_dark"), "{shown}");
    let newest = shown.split("facewire why ").nth(1).unwrap().split('`').next().unwrap();
    let why = text(&ask(&["why", newest]));
    for word in ["REJECTED, decided by quality", "broken: this decided", "to do     more light", "not asked"] {
        assert!(why.contains(word), "{word}\n{why}");
    }

    let refused = |arguments: &[&str], status: i32, word: &str| {
        let output = ask(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.code() == Some(status) && said.contains(word),
            "{arguments:?}: {:?}\n{said}",
            output.status
        );
    };
    refused(&["failures", "--reason", "ugly"], 2, "low_quality");
    refused(&["cameras", "--camera", "nowhere"], 1, "blurred, clean, dark, small");
    refused(&["why", "not-an-id"], 1, "is no crop id");
    assert!(text(&ask(&["failures", "--since", "2100-01-01T00:00:00Z"])).contains("nothing that fits failed"));
    assert!(text(&ask(&["cameras", "--collection", "elsewhere"])).contains("nothing ended since"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stack_that_stopped_still_says_why() {
    // Another user's Postgres passes through it.
    let data = tempfile::Builder::new().permissions(std::fs::Permissions::from_mode(0o711)).tempdir().unwrap();
    let found = artifacts::ensure(&[Kind::Postgres], &FetchOptions::default(), progress::silent()).await.unwrap();
    let options = PostgresOptions {
        bin: found.postgres_bin,
        dir: data.path().join("postgres"),
        port: None,
        fsync: false,
        template: None,
    };
    let server = PostgresServer::start(options).await.unwrap();
    let store = store(&server.url()).await;
    plant(&store).await;
    store.close().await;
    server.stop().await.unwrap();
    drop(server);
    for _ in 0..2 {
        let output = facewire(data.path(), &["cameras"]);
        assert!(String::from_utf8_lossy(&output.stderr).contains("Facewire is not running"));
        assert!(text(&output).contains("office/blurred"));
    }
    let empty = tempfile::tempdir().unwrap();
    let nobody = facewire(empty.path(), &["--postgres", "postgres://postgres@127.0.0.1:9/none", "cameras"]);
    assert_eq!(nobody.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("Is Facewire running?"));
}
