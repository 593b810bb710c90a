//! A fresh database for each test, and the crops, endings and faces that tests are about. No assertion lives here.

use std::str::FromStr;
use std::time::Duration;

use facewire_domain::{
    BoundingBox, Candidate, CollectionId, CropId, Decision, Detail, FaceId, ImageHash, Intent, Outcome, PersonId,
    Point, Quality, Reason, Stage, Status,
};
use facewire_store_pg::{
    Actor, Admission, AuditFilter, CropHead, Ending, Enrolment, FaceQuality, Finished, KeptFace, NewCrop, NewFace,
    Options, StageTime, Store, StoredEvent,
};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor};
use time::OffsetDateTime;
use uuid::Uuid;

/// Longest wait for a condition that must come true.
const DEADLINE: Duration = Duration::from_secs(30);

/// The variable that names a server for the tests; without it, devstack's is used.
const SERVER: &str = "FACEWIRE_TEST_POSTGRES_URL";

/// A database of one test.
pub(crate) struct TestDatabase {
    url: PgConnectOptions,
    kept_by: Keeper,
    /// How stores reach it.
    pub(crate) options: Options,
}

/// Who takes the database away again.
enum Keeper {
    /// Devstack, when this is dropped.
    Devstack { _database: facewire_devstack::testing::TestDatabase },
    /// We: on the server that the variable names.
    Server(Box<PgConnectOptions>),
}

/// A new, empty database: on the server of `FACEWIRE_TEST_POSTGRES_URL` where that is set, else on devstack's.
pub(crate) async fn test_database() -> TestDatabase {
    let (url, kept_by) = match std::env::var(SERVER) {
        Ok(server) => {
            let server = PgConnectOptions::from_str(&server).unwrap();
            let name = format!("facewire_test_{}", Uuid::new_v4().simple());
            let mut admin = server.connect().await.unwrap();
            admin.execute(AssertSqlSafe(format!("CREATE DATABASE {name} TEMPLATE template0"))).await.unwrap();
            admin.close().await.unwrap();
            (server.clone().database(&name), Keeper::Server(server.into()))
        }
        Err(_) => {
            let database = facewire_devstack::testing::database().await.unwrap();
            (PgConnectOptions::from_str(&database.url()).unwrap(), Keeper::Devstack { _database: database })
        }
    };
    let options = options(url.to_url_lossy().to_string());
    TestDatabase { url, kept_by, options }
}

/// Options of a store of four connections.
pub(crate) fn options(url: String) -> Options {
    Options { url: url.into(), max_connections: 4, ..Options::default() }
}

impl TestDatabase {
    /// A store of its own pool, as another process would have.
    pub(crate) async fn store(&self) -> Store {
        Store::connect(&self.options).await.unwrap()
    }

    /// A store with the schema in place.
    pub(crate) async fn migrated(&self) -> Store {
        let store = self.store().await;
        store.migrate().await.unwrap();
        store
    }

    /// A connection beside the store's, as an operator with psql has.
    pub(crate) async fn operator(&self) -> PgConnection {
        self.url.connect().await.unwrap()
    }

    /// Takes the database away again. A test that fails on a server of the variable leaves it for inspection.
    pub(crate) async fn drop(self) {
        if let Keeper::Server(server) = &self.kept_by {
            let name = self.url.get_database().unwrap();
            let mut admin = server.connect().await.unwrap();
            admin.execute(AssertSqlSafe(format!("DROP DATABASE {name} WITH (FORCE)"))).await.unwrap();
            admin.close().await.unwrap();
        }
    }
}

/// Waits until a session of the operator's database waits for a lock, and returns its process id.
pub(crate) async fn blocked_session(operator: &mut PgConnection) -> i32 {
    let wait = async {
        loop {
            let blocked: Option<i32> = sqlx::query_scalar(
                "SELECT pid FROM pg_stat_activity
                 WHERE datname = current_database() AND cardinality(pg_blocking_pids(pid)) > 0",
            )
            .fetch_optional(&mut *operator)
            .await
            .unwrap();
            match blocked {
                Some(pid) => break pid,
                None => tokio::task::yield_now().await,
            }
        }
    };
    tokio::time::timeout(DEADLINE, wait).await.expect("nobody waits for a lock")
}

/// From now on a statement that changes or deletes more rows of this table than a statement may have fails, as one fails that takes
/// too long. A cascade is a statement as well.
pub(crate) async fn bound_statements(db: &TestDatabase, table: &str) {
    const BOUND: &str = "
CREATE OR REPLACE FUNCTION bound() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT count(*) FROM touched) > 1024 THEN
        RAISE EXCEPTION 'a statement of too many rows' USING ERRCODE = '57014';
    END IF;
    RETURN NULL;
END $$";
    let mut operator = db.operator().await;
    sqlx::query(BOUND).execute(&mut operator).await.unwrap();
    for event in ["DELETE", "UPDATE"] {
        let trigger = format!(
            "CREATE TRIGGER bound_{event} AFTER {event} ON {table}
             REFERENCING OLD TABLE AS touched FOR EACH STATEMENT EXECUTE FUNCTION bound()"
        );
        sqlx::query(AssertSqlSafe(trigger)).execute(&mut operator).await.unwrap();
    }
}

/// A webhook and an import of the office, which is there, with so many deliveries and items.
pub(crate) async fn fill_queues(db: &TestDatabase, rows: i32) {
    const ROWS: [&str; 2] = [
        "INSERT INTO webhooks (webhook_id, collection, url, secret)
         VALUES (gen_random_uuid(), 'office', 'https://example.org/hook', 'hidden')",
        "INSERT INTO imports (import_id, collection) VALUES (gen_random_uuid(), 'office')",
    ];
    const QUEUES: [&str; 2] = [
        "INSERT INTO webhook_deliveries (webhook_id, source, sequence, order_key, body)
         SELECT webhook_id, 'events', n, 'ada', ''::bytea FROM webhooks, generate_series(1, $1::int) AS n",
        "INSERT INTO import_items (import_id, item, image_hash)
         SELECT import_id, n, sha256(''::bytea) FROM imports, generate_series(1, $1::int) AS n",
    ];
    let mut operator = db.operator().await;
    for sql in ROWS {
        sqlx::query(sql).execute(&mut operator).await.unwrap();
    }
    for sql in QUEUES {
        sqlx::query(sql).bind(rows).execute(&mut operator).await.unwrap();
    }
}

/// How many deliveries and items of imports there are.
pub(crate) async fn queued(db: &TestDatabase) -> (i64, i64) {
    const SQL: &str = "SELECT (SELECT count(*) FROM webhook_deliveries), (SELECT count(*) FROM import_items)";
    sqlx::query_as(SQL).fetch_one(&mut db.operator().await).await.unwrap()
}

/// The trail of a collection, or all of it, the oldest row first.
pub(crate) async fn trail_of(store: &Store, collection: Option<CollectionId>) -> Vec<StoredEvent> {
    let filter = AuditFilter { collection, ..AuditFilter::default() };
    let mut rows = store.audit_trail(&filter, None, 1000).await.unwrap();
    rows.reverse();
    rows
}

pub(crate) fn at(second: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_700_000_000 + second).unwrap()
}

pub(crate) fn head(number: u64) -> CropHead {
    let (collection, camera) = ("office".parse().unwrap(), format!("door-{}", number % 3).parse().unwrap());
    let image_hash = ImageHash::of(&number.to_be_bytes());
    let captured_at = at(i64::try_from(number).unwrap());
    let crop = CropId::derive(&collection, &camera, captured_at, &image_hash);
    let received_at = captured_at + Duration::from_millis(40);
    let intent = Intent::Recognize;
    CropHead { crop, collection, camera, captured_at, received_at, image_hash, intent, subject: None, frame: false }
}

pub(crate) fn crop(number: u64) -> NewCrop {
    let (format, size) = (Some("jpeg".to_owned()), Some((320, 240)));
    NewCrop { head: head(number), bytes: 20_000, format, size, asset: None }
}

pub(crate) fn quality() -> FaceQuality {
    let signals = Quality { blur: 112.5, brightness: 0.5, landmarks_score: 0.875, score: 0.75, ..Quality::default() };
    FaceQuality { signals, status: "ok".to_owned() }
}

pub(crate) fn matched(number: u64) -> Ending {
    let best = Candidate { person: Uuid::from_u128(7).into(), face: Uuid::from_u128(8).into(), similarity: 0.5 };
    let decision = Decision { matched: true, threshold: 0.375, best: Some(best), ..Decision::default() };
    let crop = head(number);
    let finished_at = crop.received_at + Duration::from_millis(200);
    let time = StageTime { stage: Stage::Ingest, started_at: crop.received_at, finished_at };
    Ending {
        crop,
        face_index: 0,
        face_count: 1,
        outcome: Outcome::success(Status::Matched, Stage::Match),
        quality: Some(quality()),
        bounding_box: Some(BoundingBox { x1: 1.0, y1: 2.0, x2: 30.5, y2: 40.0 }),
        decision: Some(decision),
        person: None,
        face: None,
        model: Some("pack-1".to_owned()),
        times: vec![time],
        finished_at: Some(finished_at),
    }
}

pub(crate) fn rejected(number: u64) -> Ending {
    let outcome = Outcome::rejected(Stage::Quality, Reason::LowQuality, Detail::limit("blur", 38.25, 60.0));
    Ending { outcome, decision: None, model: None, ..matched(number) }
}

pub(crate) fn failed(number: u64) -> Ending {
    let outcome = Outcome::failed(Stage::Match, Reason::StoreUnavailable, Detail::message("the index stayed down"));
    Ending { outcome, decision: None, model: None, ..matched(number) }
}

pub(crate) fn face(subject: &str, name: Option<&str>, image: u64) -> NewFace {
    NewFace {
        collection: "office".parse().unwrap(),
        subject: subject.parse().unwrap(),
        name: name.map(str::to_owned),
        image_hash: ImageHash::of(&image.to_be_bytes()),
        asset: None,
        embedding: (0..512u16).map(|i| f32::from(i) / 512.0 - 0.5).collect(),
        model: "pack-1".to_owned(),
        bounding_box: Some(BoundingBox { x1: 1.0, y1: 2.0, x2: 30.5, y2: 40.0 }),
        landmarks: Some([Point::new(0.5, 1.5); 5]),
        quality: Some(quality()),
        crop: Some(head(image).crop),
        captured_at: at(0),
    }
}

/// Who changes something in a test.
pub(crate) fn by() -> Actor {
    Actor { key: Some(Uuid::from_u128(99)), name: "a test".to_owned(), request: Some("request-1".to_owned()) }
}

pub(crate) fn office() -> CollectionId {
    "office".parse().unwrap()
}

/// The person of a subject of the office.
pub(crate) fn person(subject: &str) -> PersonId {
    PersonId::derive(&office(), &subject.parse().unwrap())
}

/// Enrols faces that nobody objects to; their ids.
pub(crate) async fn enrolled(store: &Store, faces: &[NewFace]) -> Vec<FaceId> {
    let answers = enrol(store, faces).await;
    answers
        .into_iter()
        .map(|answer| match answer {
            Enrolment::Pending { face, .. } => face,
            other => panic!("{other:?}"),
        })
        .collect()
}

/// Admits crops of which none is at fault.
pub(crate) async fn admit(store: &Store, crops: &[NewCrop]) -> Vec<Admission> {
    store.admit(crops).await.unwrap().into_iter().map(Result::unwrap).collect()
}

/// Finishes endings of which none is at fault.
pub(crate) async fn finish(store: &Store, endings: &[Ending]) -> Vec<Finished> {
    store.finish(endings).await.unwrap().into_iter().map(Result::unwrap).collect()
}

/// Enrols faces of which none is at fault.
pub(crate) async fn enrol(store: &Store, faces: &[NewFace]) -> Vec<Enrolment> {
    store.begin_enrolment(faces).await.unwrap().into_iter().map(Result::unwrap).collect()
}

/// The face of a crop that nobody recognised.
pub(crate) fn kept(number: u64) -> KeptFace {
    KeptFace {
        face: FaceId::of_crop(head(number).crop, 0),
        collection: office(),
        crop: head(number).crop,
        face_index: 0,
        image_hash: head(number).image_hash,
        asset: None,
        embedding: vec![0.5; 4],
        model: "pack-1".to_owned(),
        bounding_box: None,
        landmarks: None,
        quality: None,
        captured_at: head(number).captured_at,
        matched: None,
    }
}
