//! The views that commands and BI tools read: exact counts, causes, percentiles and pages of planted endings.

use facewire_domain::{CollectionId, Detail, Intent, Outcome, Quality, Reason, Stage, Status};
use facewire_store_pg::{CameraSum, CropHead, Ending, FaceQuality, FailureFilter, SignalBounds, Store, Window};
use sqlx::{Connection, Executor};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::support::{failed, finish, head, matched, test_database};

/// An ending of a camera of its own, a second for each number, an hour ago.
fn of(camera: &str, number: u64, base: Ending) -> Ending {
    let finished_at = hour_ago() + Duration::seconds(i64::try_from(number).unwrap());
    let mut crop = head(number);
    crop.camera = camera.parse().unwrap();
    Ending { crop, finished_at: Some(finished_at), ..base }
}

/// The same for the whole process, so that two calls agree.
fn hour_ago() -> OffsetDateTime {
    static AT: std::sync::LazyLock<OffsetDateTime> =
        std::sync::LazyLock::new(|| OffsetDateTime::now_utc().replace_nanosecond(0).unwrap() - Duration::HOUR);
    *AT
}

fn measured(blur: f32, status: &str) -> Option<FaceQuality> {
    let signals = Quality { blur, brightness: 0.5, face_ratio: 0.0001, face_size: 80.0, ..Quality::default() };
    Some(FaceQuality { signals: Quality { score: 0.5, ..signals }, status: status.to_owned() })
}

fn sharp(number: u64, blur: f32) -> Ending {
    of("cam-a", number, Ending { quality: measured(blur, "ok"), ..matched(number) })
}

fn blurred(number: u64, blur: f32) -> Ending {
    let outcome = Outcome::rejected(Stage::Quality, Reason::LowQuality, Detail::limit("blur", blur.into(), 40.0));
    Ending { outcome, decision: None, quality: measured(blur, "blur"), ..sharp(number, blur) }
}

fn ended(number: u64, outcome: Outcome) -> Ending {
    Ending { outcome, decision: None, quality: None, ..sharp(number, 0.0) }
}

/// cam-a: four matched, three blurred, one without a face, one turned away, one miss, one failed and one failed and made
/// good; cam-b: a frame of two faces.
async fn planted() -> (crate::support::TestDatabase, Store) {
    let db = test_database().await;
    let store = db.migrated().await;
    let yaw = Detail::limit("pose", 61.0, 55.0).with_message("yaw");
    let turned = Quality { yaw: -61.0, blur: 90.0, ..Quality::default() };
    let turned = Some(FaceQuality { signals: turned, status: "pose".to_owned() });
    let miss = Detail { similarity: Some(0.25), threshold: Some(0.36), ..Detail::default() };
    let no_face = Outcome::rejected(Stage::Quality, Reason::NoFace, Detail::message("none"));
    let frame = |index| {
        let ending = of("cam-b", 20, matched(20));
        let crop = CropHead { frame: true, ..ending.crop };
        Ending { crop, face_index: index, face_count: 2, ..ending }
    };
    let batch = [
        sharp(0, 100.0),
        sharp(1, 200.0),
        sharp(2, 300.0),
        sharp(3, 400.0),
        blurred(4, 10.0),
        blurred(5, 20.0),
        blurred(6, 39.0),
        ended(7, no_face),
        Ending { quality: turned, ..ended(8, Outcome::rejected(Stage::Quality, Reason::LowQuality, yaw)) },
        Ending { quality: measured(500.0, "ok"), ..ended(9, Outcome::no_match(Reason::BelowThreshold, miss)) },
        of("cam-a", 10, Ending { quality: None, ..failed(10) }),
        of("cam-a", 11, Ending { quality: None, ..failed(11) }),
        frame(0),
        frame(1),
    ];
    finish(&store, &batch).await;
    finish(&store, &[sharp(11, 600.0)]).await;
    (db, store)
}

#[tokio::test]
async fn cameras_are_counted_and_the_commonest_cause_comes_first() {
    let (db, store) = planted().await;
    let (sums, causes) = store.cameras(&Window::default()).await.unwrap();
    let [a, b] = sums.as_slice() else { panic!("{sums:?}") };
    assert_eq!((a.camera.as_str(), a.crops, a.faces, a.measured), ("cam-a", 12, 12, 10));
    assert_eq!((a.matched, a.no_match, a.rejected, a.failed), (5, 1, 5, 1));
    assert_eq!((a.usable, a.success), (Some(6.0 / 11.0), 5.0 / 12.0));
    assert_eq!((b.camera.as_str(), b.crops, b.faces, b.usable), ("cam-b", 1, 2, Some(1.0)));
    let of_a = |c: &facewire_store_pg::Cause| (c.reason.clone(), c.signal.clone(), c.faces, c.median, c.limit);
    let causes: Vec<_> = causes.iter().filter(|cause| cause.camera == "cam-a").map(of_a).collect();
    let cause = |reason: &str, signal: Option<&str>, faces, median, limit| {
        (reason.to_owned(), signal.map(str::to_owned), faces, median, limit)
    };
    let expected = [
        cause("low_quality", Some("blur"), 3, Some(20.0), Some(40.0)),
        cause("store_unavailable", None, 1, None, None),
        cause("below_threshold", Some("similarity"), 1, Some(0.25), Some(0.36)),
        cause("low_quality", Some("yaw"), 1, Some(61.0), Some(55.0)),
        cause("no_face", None, 1, None, None),
    ];
    assert_eq!(causes, expected);

    let narrow = Window { camera: Some("cam-b".parse().unwrap()), ..Window::default() };
    assert_eq!(store.cameras(&narrow).await.unwrap().0, std::slice::from_ref(b));
    let early = Window { until: Some(hour_ago() + Duration::seconds(2)), ..Window::default() };
    assert_eq!(store.cameras(&early).await.unwrap().0[0].faces, 2);
    let none = Window { collection: Some("elsewhere".parse().unwrap()), ..Window::default() };
    assert_eq!(store.cameras(&none).await.unwrap(), (Vec::new(), Vec::new()));
    db.drop().await;
}

#[tokio::test]
async fn cameras_come_in_pages_each_with_its_own_causes() {
    let (db, store) = planted().await;
    // Of another collection, and of a name that would come first.
    let mut elsewhere = of("cam-0", 40, failed(40));
    elsewhere.crop.collection = "zoo".parse().unwrap();
    finish(&store, &[elsewhere]).await;
    let whole = store.cameras(&Window::default()).await.unwrap();
    let names: Vec<&str> = whole.0.iter().map(|sum| sum.camera.as_str()).collect();
    assert_eq!(names, ["cam-a", "cam-b", "cam-0"]);

    let (mut sums, mut causes, mut after) = (Vec::new(), Vec::new(), None::<(String, String)>);
    loop {
        let from = after.as_ref().map(|(collection, camera)| (collection.as_str(), camera.as_str()));
        let page = store.cameras_page(&Window::default(), from, 1).await.unwrap();
        let Some(last) = page.0.last() else { break };
        assert!(page.1.iter().all(|cause| cause.camera == last.camera), "{page:?}");
        after = Some((last.collection.clone(), last.camera.clone()));
        sums.extend(page.0);
        causes.extend(page.1);
    }
    assert_eq!((sums, causes), whole);
    let one = store.cameras_page(&Window::default(), None, 2).await.unwrap();
    assert_eq!(one.0, whole.0[..2]);
    let unwritable = store.cameras_page(&Window::default(), Some(("\0", "\0")), 2).await.unwrap();
    assert_eq!(unwritable, one);
    db.drop().await;
}

#[tokio::test]
async fn what_is_rejected_and_not_by_the_gate_is_no_fault_of_a_camera() {
    let db = test_database().await;
    let store = db.migrated().await;
    let rejected = |camera: &str, number, stage, reason| {
        let outcome = Outcome::rejected(stage, reason, Detail::message("as planted"));
        of(camera, number, ended(number, outcome))
    };
    let conflict = |number| {
        let ending = rejected("kiosk", number, Stage::Match, Reason::IdentityConflict);
        Ending { quality: measured(100.0, "ok"), ..ending }
    };
    let batch = [
        conflict(0),
        conflict(1),
        of("kiosk", 2, sharp(2, 100.0)),
        rejected("kiosk", 3, Stage::Quality, Reason::NoFace),
        rejected("kiosk", 4, Stage::Ingest, Reason::InvalidMessage),
        rejected("mute", 5, Stage::Ingest, Reason::InvalidMessage),
    ];
    finish(&store, &batch).await;
    let (sums, _) = store.cameras(&Window::default()).await.unwrap();
    let told: Vec<_> = sums.iter().map(|sum| (sum.camera.as_str(), sum.faces, sum.rejected, sum.usable)).collect();
    assert_eq!(told, [("kiosk", 5, 4, Some(0.75)), ("mute", 1, 1, None)]);
    // As docs/SQL.md asks.
    let by_hour: f64 = sqlx::query_scalar(
        "SELECT (avg((status <> 'rejected' OR reason = 'identity_conflict')::int)
             FILTER (WHERE status <> 'failed' AND reason IS DISTINCT FROM 'invalid_message'))::float8
         FROM facewire_endings WHERE camera = 'kiosk'",
    )
    .fetch_one(&mut db.operator().await)
    .await
    .unwrap();
    assert_eq!(by_hour, 0.75);
    db.drop().await;
}

#[tokio::test]
async fn what_a_camera_lets_expect_is_the_mean_of_its_scores() {
    let db = test_database().await;
    let store = db.migrated().await;
    let scored = |number, score| {
        let signals = Quality { blur: 100.0, score, ..Quality::default() };
        let quality = Some(FaceQuality { signals, status: "ok".to_owned() });
        of("cam-s", number, Ending { quality, ..matched(number) })
    };
    let unscored = Ending { crop: of("cam-n", 9, matched(9)).crop, ..scored(9, f32::NAN) };
    let low = Outcome::rejected(Stage::Embed, Reason::LowQuality, Detail::limit("score", 0.125, 0.35));
    let batch = [
        scored(0, 0.75),
        scored(1, 1.0),
        // Refused faces count as well, those without a probability do not.
        Ending { outcome: low, decision: None, ..scored(2, 0.125) },
        scored(3, f32::NAN),
        scored(4, 1.5),
        Ending {
            quality: None,
            ..ended(5, Outcome::rejected(Stage::Quality, Reason::NoFace, Detail::message("none")))
        },
        unscored,
    ];
    finish(&store, &batch).await;
    let (sums, _) = store.cameras(&Window::default()).await.unwrap();
    let told: Vec<_> =
        sums.iter().map(|s| (s.camera.as_str(), s.measured, s.scored, s.expected_recognisable)).collect();
    assert_eq!(told, [("cam-a", 0, 0, None), ("cam-n", 1, 0, None), ("cam-s", 5, 3, Some(0.625))]);
    db.drop().await;
}

#[tokio::test]
async fn the_view_of_the_day_says_what_the_command_says() {
    let (db, store) = planted().await;
    let mut old = of("cam-a", 30, matched(30));
    old.finished_at = old.finished_at.map(|time| time - Duration::hours(30));
    finish(&store, &[old]).await;
    let day = Window { since: Some(OffsetDateTime::now_utc() - Duration::DAY), ..Window::default() };
    let (sums, _) = store.cameras(&day).await.unwrap();
    let mut operator = db.operator().await;
    // The command's own query has the score; the view has not.
    let unscored = "SELECT *, NULL::float8 AS expected_recognisable, 0::bigint AS scored FROM facewire_cameras
                    ORDER BY collection, camera";
    let rows: Vec<CameraSum> = sqlx::query_as(unscored).fetch_all(&mut operator).await.unwrap();
    let of_the_view = |sum| CameraSum { expected_recognisable: None, scored: 0, ..sum };
    assert_eq!(rows, sums.into_iter().map(of_the_view).collect::<Vec<_>>());
    let worst: (String, String) =
        sqlx::query_as("SELECT worst_reason, worst_signal FROM facewire_cameras WHERE camera = 'cam-a'")
            .fetch_one(&mut operator)
            .await
            .unwrap();
    assert_eq!(worst, ("low_quality".to_owned(), "blur".to_owned()));
    operator.close().await.unwrap();
    db.drop().await;
}

#[tokio::test]
async fn a_signal_is_spread_and_held_against_its_bounds() {
    let (db, store) = planted().await;
    let bounds = |signal: &str, min, max, in_frames| SignalBounds {
        collection: "office".to_owned(),
        signal: signal.to_owned(),
        min,
        max,
        in_frames,
    };
    let bounds = [
        bounds("blur", Some(40.0), Some(450.0), true),
        bounds("yaw", Some(-55.0), Some(55.0), true),
        bounds("face_ratio", Some(0.0005), None, false),
    ];
    let spreads = store.signal_spreads(&Window::default(), &bounds).await.unwrap();
    let one = |camera: &str, signal: &str| {
        spreads.iter().find(|s| s.camera == camera && s.signal == signal).cloned().unwrap()
    };
    // 10 20 39 90 100 200 300 400 500 600
    let blur = one("cam-a", "blur");
    assert_eq!((blur.faces, blur.below, blur.above, blur.decisive), (10, 3, 2, 3));
    let whole = |share: Option<f64>| share.map(|value| (value * 10.0).round());
    assert_eq!([blur.p5, blur.p50, blur.p95].map(whole), [Some(145.0), Some(1500.0), Some(5550.0)]);
    let yaw = one("cam-a", "yaw");
    assert_eq!((yaw.faces, yaw.below, yaw.above, yaw.decisive), (10, 1, 0, 1));
    assert_eq!((one("cam-a", "face_ratio").below, one("cam-b", "face_ratio").below), (10, 0), "no ratio in a frame");
    assert_eq!((one("cam-a", "roll").below, one("cam-a", "roll").above), (0, 0), "without bounds there is no beyond");

    let mut none = sharp(40, f32::NAN);
    none.crop.camera = "cam-c".parse().unwrap();
    finish(&store, &[none]).await;
    let window = Window { camera: Some("cam-c".parse().unwrap()), ..Window::default() };
    let spreads = store.signal_spreads(&window, &bounds).await.unwrap();
    let blur = spreads.iter().find(|s| s.signal == "blur").unwrap();
    assert_eq!((blur.faces, blur.p50, blur.below), (1, None, 1), "what is no number keeps no limit");
    db.drop().await;
}

#[tokio::test]
async fn failures_are_newest_first_and_what_a_replay_mended_does_not_stand() {
    let (db, store) = planted().await;
    let (rows, counts) = store.failures(&FailureFilter::default(), 100).await.unwrap();
    let told: Vec<_> = rows.iter().map(|row| (row.reason.as_str(), row.signal.as_deref(), row.is_current)).collect();
    let blur = ("low_quality", Some("blur"), true);
    let expected = [
        ("store_unavailable", None, false),
        ("store_unavailable", None, true),
        ("below_threshold", Some("similarity"), true),
        ("low_quality", Some("yaw"), true),
        ("no_face", None, true),
        blur,
        blur,
        blur,
    ];
    assert_eq!(told, expected);
    assert_eq!((rows[2].signal_value, rows[2].signal_limit), (Some(0.25), Some(0.36)));
    assert_eq!((rows[3].message.as_deref(), rows[4].message.as_deref()), (None, Some("none")));
    assert_eq!((counts[0].signal.as_deref(), counts[0].faces), (Some("blur"), 3));
    assert_eq!((counts[1].reason.as_str(), counts[1].faces), ("store_unavailable", 2));

    let of_quality =
        FailureFilter { stage: Some(Stage::Quality), reason: Some(Reason::LowQuality), ..Default::default() };
    let (rows, counts) = store.failures(&of_quality, 2).await.unwrap();
    assert_eq!((rows.len(), rows[0].signal.as_deref()), (2, Some("yaw")));
    assert_eq!(counts.iter().map(|count| count.faces).sum::<i64>(), 4, "counts are of all that fit");
    let window = Window { camera: Some("cam-b".parse().unwrap()), ..Window::default() };
    let (rows, _) = store.failures(&FailureFilter { window, ..Default::default() }, 9).await.unwrap();
    assert_eq!(rows, []);
    db.drop().await;
}

#[tokio::test]
async fn measured_faces_come_page_by_page_without_a_gap() {
    let (db, store) = planted().await;
    // Endings of one moment, so that a page ends among them.
    let mut same: Vec<Ending> =
        (50..57).map(|number| Ending { finished_at: Some(hour_ago()), ..sharp(number, 700.0) }).collect();
    for ending in same.iter_mut().take(2) {
        ending.crop.intent = Intent::Enroll;
    }
    finish(&store, &same).await;
    let (office, camera): (CollectionId, _) = ("office".parse().unwrap(), "cam-a".parse().unwrap());
    let (mut read, mut after) = (Vec::new(), None);
    loop {
        let page = store.measured_faces(&office, &camera, None, after, 4).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.place);
        read.extend(page);
    }
    let mut blurs: Vec<f32> = read.iter().map(|face| face.signals.blur).collect();
    assert_eq!(blurs.len(), 17);
    assert_eq!(blurs[0], 600.0, "newest first");
    blurs.sort_by(f32::total_cmp);
    assert_eq!(blurs[..5], [10.0, 20.0, 39.0, 90.0, 100.0]);
    assert_eq!(read.iter().filter(|face| face.refused).count(), 4);
    assert_eq!(read.iter().filter(|face| face.matched).count(), 12);
    assert!(read.iter().all(|face| !face.of_frame));
    assert_eq!(read.iter().filter(|face| face.intent == Intent::Enroll).count(), 2);
    assert!(read.iter().any(|face| !face.refused && !face.matched), "a miss is neither");
    assert_eq!(read.iter().find(|face| face.signals.blur == 90.0).unwrap().signals.yaw, -61.0);
    let since = Some(hour_ago() + Duration::seconds(5));
    assert_eq!(store.measured_faces(&office, &camera, since, None, 100).await.unwrap().len(), 5);
    let frame = store.measured_faces(&office, &"cam-b".parse().unwrap(), None, None, 9).await.unwrap();
    assert!(frame.len() == 2 && frame.iter().all(|face| face.of_frame), "{frame:?}");
    db.drop().await;
}

#[tokio::test]
async fn a_reader_of_the_views_needs_no_other_right() {
    let (db, _store) = planted().await;
    let mut operator = db.operator().await;
    let role = format!("facewire_bi_{}", Uuid::new_v4().simple());
    let views = "facewire_endings, facewire_signals, facewire_failures, facewire_cameras";
    let run = |sql: String| sqlx::AssertSqlSafe(sql);
    operator
        .execute(run(format!("CREATE ROLE {role}; GRANT SELECT ON {views} TO {role}; SET ROLE {role}")))
        .await
        .unwrap();
    for view in views.split(", ") {
        let count: i64 =
            sqlx::query_scalar(run(format!("SELECT count(*) FROM {view}"))).fetch_one(&mut operator).await.unwrap();
        assert!(count > 0, "{view} is empty");
    }
    for table in ["faces", "persons", "recognitions", "crops"] {
        let refused = operator.execute(run(format!("SELECT 1 FROM {table}"))).await.unwrap_err();
        assert_eq!(refused.as_database_error().unwrap().code().as_deref(), Some("42501"), "{table}");
    }
    operator.execute(run(format!("RESET ROLE; REVOKE ALL ON {views} FROM {role}; DROP ROLE {role}"))).await.unwrap();
    operator.close().await.unwrap();
    db.drop().await;
}

#[tokio::test]
async fn a_range_of_time_reaches_an_index() {
    let (db, store) = planted().await;
    // Enough rows that reading them all would cost more.
    let many: Vec<Ending> = (1000..6000).map(|number| of("cam-d", number, matched(number))).collect();
    finish(&store, &many).await;
    let mut operator = db.operator().await;
    operator.execute("ANALYZE recognitions, crops, stage_failures").await.unwrap();
    let recent = "collection = 'office' AND camera = 'cam-a' AND finished_at > now() - interval '2 hours'";
    for (query, index) in [
        (format!("SELECT status, count(*) FROM facewire_endings WHERE {recent} GROUP BY status"), "recognitions_camera_time"),
        (format!("SELECT avg(value) FROM facewire_signals WHERE {recent} AND signal = 'blur'"), "recognitions_camera_time"),
        ("SELECT * FROM facewire_failures WHERE reason = 'no_face' AND status = 'rejected' AND at > now() - interval '2 hours'".to_owned(), "recognitions_reason"),
    ] {
        let plan: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(format!("EXPLAIN {query}"))).fetch_all(&mut operator).await.unwrap();
        assert!(plan.iter().any(|line| line.contains(index)), "{query}\n{plan:#?}");
        assert!(!plan.iter().any(|line| line.contains("Seq Scan on recognitions")), "{query}\n{plan:#?}");
    }
    assert_eq!(Status::ALL.len(), 8, "facewire_cameras has a column for each status");
    operator.close().await.unwrap();
    db.drop().await;
}
