//! What every query of the commands, the views and the retention costs on a large table: fills a database with made-up crops
//! of 30 days and prints each statement's plan nodes and time, as Postgres' own `auto_explain` reports them.
//! Takes a number of crops and the URL of a database of its own (a superuser's, for `auto_explain`); without a URL it starts
//! a server that is thrown away.
//!
//!     cargo run -p facewire-store-pg --example retention -- 2000000 [postgres://postgres@127.0.0.1/bench]

use std::error::Error;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use facewire_store_pg::{FailureFilter, LedgerFilter, Options, Store, StoreError, Window};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, ConnectOptions, Executor};
use time::OffsetDateTime;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::SubscriberExt as _;

type AnyError = Box<dyn Error + Send + Sync>;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Crops in one statement of the filling.
const STEP: u64 = 500_000;

/// Of ten faces seven matched, one was a stranger, one blurred; and of a thousand one failed. `$1` to `$2`: their numbers; `$3`:
/// all of them.
const FILL: &str = r#"
WITH n AS (
    SELECT i, md5('crop ' || i)::uuid AS id, 'site-' || i % 4 AS collection, 'camera-' || i % 48 AS camera,
           now() - interval '30 days' * (1 - i::float8 / $3) AS t, sha256(int8send(i)) AS hash,
           CASE WHEN i % 1000 = 7 THEN 'failed' WHEN i % 10 < 7 THEN 'matched' WHEN i % 10 = 8 THEN 'no_match'
                ELSE 'rejected' END AS status
    FROM generate_series($1::bigint, $2::bigint) i
), crop AS (
    INSERT INTO crops (crop_id, collection, camera, captured_at, received_at, image_hash, bytes, format, width, height, intent,
                       admitted_at)
    SELECT id, collection, camera, t, t, hash, 20000, 'jpeg', 320, 240, 'recognize', t FROM n
), failure AS (
    INSERT INTO stage_failures (crop_id, face_index, stage, status, reason, signal, value, "limit", collection, camera, at)
    SELECT id, 0, 'quality', status, CASE status WHEN 'failed' THEN 'timeout' ELSE 'low_quality' END, 'blur', 20, 40,
           collection, camera, t FROM n WHERE status IN ('rejected', 'failed')
)
INSERT INTO recognitions (crop_id, face_index, collection, camera, status, reason, stage, detail, quality, decision, person_id,
                          similarity, threshold, model, times, received_at, finished_at, published_at)
SELECT id, 0, collection, camera, status,
       CASE status WHEN 'failed' THEN 'timeout' WHEN 'no_match' THEN 'below_threshold' WHEN 'rejected' THEN 'low_quality' END,
       'match', CASE WHEN status = 'rejected' THEN '{"signal":"blur","value":20,"limit":40}'::jsonb END,
       '{"blur":112.5,"brightness":0.42,"face_ratio":0.18,"face_size":80,"landmarks_score":0.91,"score":0.83,"status":"ok",
         "detection_score":0.9,"embedding_length":21.5,"pose":{"yaw":1.5,"pitch":2.5,"roll":0.5}}',
       '{"matched":true,"threshold":0.36}', CASE status WHEN 'matched' THEN md5('person ' || i % 20000)::uuid END, 0.5, 0.36,
       'pack-1', '[{"stage":"ingest","started_at":"2026-01-01T00:00:00Z","finished_at":"2026-01-01T00:00:00Z"}]', t,
       t + interval '250 milliseconds', t + interval '300 milliseconds'
FROM n"#;

/// 5,000 people a collection, and a kept face for every tenth crop; one of ten of them has a person, by a human's word, and one of
/// hundred is said not to be somebody's.
const FACES: [&str; 3] = [
    "INSERT INTO persons (person_id, collection, subject_id, name, name_key)
     SELECT md5('person ' || i)::uuid, 'site-' || i % 4, 's' || i, 'Person ' || i, 'person ' || i FROM generate_series(0, 19999) i",
    "INSERT INTO faces (face_id, collection, person_id, crop_id, image_hash, embedding, model, vector_state, captured_at,
                        created_at, updated_at, origin, assigned_by, confirmed)
     SELECT md5('face ' || i)::uuid, 'site-' || i % 4, CASE WHEN i % 10 = 0 THEN md5('person ' || i / 10 % 20000)::uuid END,
            md5('crop ' || i)::uuid, sha256(int8send(i)), sha256('x'), CASE WHEN i % 100 = 3 THEN 'pack-0' ELSE 'pack-1' END,
            CASE WHEN i % 5000 = 1 THEN 'pending' WHEN i % 5000 = 2 THEN 'tombstoned' ELSE 'indexed' END, t, t, t,
            CASE WHEN i % 10 = 0 THEN 'enrolled' ELSE 'kept' END, 'enrolment', i % 10 = 0
     FROM (SELECT i, now() - interval '30 days' * (1 - i::float8 / $1::bigint) AS t FROM generate_series(0, $1::bigint / 10) i) n",
    "INSERT INTO face_negatives (face_id, person_id, stated_of, actor)
     SELECT md5('face ' || i)::uuid, md5('person ' || i % 20000)::uuid, md5('person ' || i % 20000)::uuid, 'an example'
     FROM generate_series(5, $1::bigint / 10, 100) i",
];

/// Collects what `auto_explain` says.
#[derive(Clone, Default)]
struct Notices(Arc<Mutex<Vec<String>>>);

struct Message(String);

impl tracing::field::Visit for Message {
    // `Debug` of a text would write its line breaks as two characters.
    fn record_str(&mut self, field: &tracing::field::Field, value: &str) {
        if field.name() == "message" {
            self.0.push_str(value);
        }
    }

    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            let _ = write!(self.0, "{value:?}");
        }
    }
}

impl<S: tracing::Subscriber> Layer<S> for Notices {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        if event.metadata().target() == "sqlx::postgres::notice" {
            let mut message = Message(String::new());
            event.record(&mut message);
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(message.0);
        }
    }
}

impl Notices {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// `Seq Scan on crops`, `Index Only Scan using crops_admitted` …, each once.
fn nodes(plan: &str) -> Vec<String> {
    let mut nodes: Vec<String> = Vec::new();
    for line in plan.lines().filter(|line| line.contains("(cost=")) {
        let name = line.trim_start().trim_start_matches("->").trim();
        let name = name.split("  (cost=").next().unwrap_or_default();
        let scan = name.contains("Scan") && !name.starts_with("CTE") && !name.starts_with("Subquery");
        let name = name.split(" on ").next().map_or(name, |first| {
            if name.starts_with("Seq") || name.starts_with("Parallel Seq") { name } else { first }
        });
        if scan && !nodes.iter().any(|known| known == name) {
            nodes.push(name.to_owned());
        }
    }
    nodes
}

struct Bench {
    store: Store,
    notices: Notices,
}

impl Bench {
    async fn run<T>(&self, name: &str, operation: impl Future<Output = Result<T, StoreError>>) -> Option<T> {
        self.notices.take();
        let start = Instant::now();
        let answer = operation.await;
        let took = start.elapsed();
        let mut scans: Vec<String> = self.notices.take().iter().flat_map(|plan| nodes(plan)).collect();
        scans.dedup();
        let outcome = answer.as_ref().err().map(|error| format!(" FAILED: {error}")).unwrap_or_default();
        eprintln!("{name:<34} {:>9.1} ms  {}{outcome}", took.as_secs_f64() * 1e3, scans.join(", "));
        answer.ok()
    }
}

async fn fill(operator: &mut PgConnection, crops: u64) -> Result<(), AnyError> {
    operator.execute("SET synchronous_commit = off").await?;
    let all = crops as f64;
    for from in (0..crops).step_by(STEP as usize) {
        let to = (from + STEP).min(crops) - 1;
        sqlx::query(FILL).bind(from as i64).bind(to as i64).bind(all).execute(&mut *operator).await?;
        eprintln!("{} of {crops} crops", to + 1);
    }
    operator.execute(FACES[0]).await?;
    for sql in FACES.into_iter().skip(1) {
        sqlx::query(sql).bind(crops as i64).execute(&mut *operator).await?;
    }
    for table in ["crops", "recognitions", "stage_failures", "persons", "faces", "face_negatives", "collections"] {
        operator.execute(AssertSqlSafe(format!("VACUUM (ANALYZE) {table}"))).await?;
    }
    Ok(())
}

async fn views(operator: &mut PgConnection, notices: &Notices) -> Result<(), AnyError> {
    operator.execute("SET client_min_messages = log").await?;
    for (name, sql) in [
        ("view facewire_cameras", "SELECT * FROM facewire_cameras"),
        (
            "view endings, a week by hour",
            "SELECT date_trunc('hour', finished_at), count(*) FROM facewire_endings
             WHERE collection = 'site-1' AND camera = 'camera-1' AND finished_at >= now() - interval '7 days' GROUP BY 1",
        ),
        (
            "view signals, one signal of a day",
            "SELECT camera, count(*), percentile_cont(0.5) WITHIN GROUP (ORDER BY value) FROM facewire_signals
             WHERE signal = 'blur' AND finished_at >= now() - interval '1 day' GROUP BY camera",
        ),
        (
            "view failures of an hour",
            "SELECT reason, count(*) FROM facewire_failures WHERE status = 'failed' AND at >= now() - interval '1 hour' GROUP BY 1",
        ),
    ] {
        notices.take();
        let start = Instant::now();
        operator.execute(sql).await?;
        let scans: Vec<String> = notices.take().iter().flat_map(|plan| nodes(plan)).collect();
        eprintln!("{name:<34} {:>9.1} ms  {}", start.elapsed().as_secs_f64() * 1e3, scans.join(", "));
    }
    Ok(())
}

async fn commands(bench: &Bench, crops: u64) -> Result<(), AnyError> {
    let store = &bench.store;
    let now = OffsetDateTime::now_utc();
    let site = "site-1".parse()?;
    let since = |span: Duration| LedgerFilter { admitted_since: Some(now - span), ..LedgerFilter::default() };
    let window = |span: Duration| Window { since: Some(now - span), ..Window::default() };
    let camera = Window { collection: Some("site-1".parse()?), camera: Some("camera-1".parse()?), ..window(7 * DAY) };
    bench.run("ledger, all", store.ledger(&LedgerFilter::default())).await;
    bench.run("ledger, a day", store.ledger(&since(DAY))).await;
    bench.run("ledger, an hour", store.ledger(&since(DAY / 24))).await;
    bench.run("cameras, a day", store.cameras(&window(DAY))).await;
    bench.run("cameras, one camera, a week", store.cameras(&camera)).await;
    bench.run("signals, one camera, a week", store.signal_spreads(&camera, &[])).await;
    let of = |window: Window| FailureFilter { window, ..FailureFilter::default() };
    let (day, one) = (of(window(DAY)), of(camera.clone()));
    bench.run("failures, a day", store.failures(&day, 20)).await;
    bench.run("failures, one camera, a week", store.failures(&one, 20)).await;
    bench.run("measured faces, a page", store.measured_faces(&site, &"camera-1".parse()?, None, None, 1000)).await;
    let page = bench.run("records after, a page", store.records_after(None, 1000)).await.unwrap_or_default();
    bench.run("faces after, a page", store.faces_after(page.last().map(|record| record.face), 1000)).await;
    bench.run("changed faces, a page", store.faces_changed((now - DAY, None), 1000)).await;
    bench.run("pending faces, a page", store.pending_faces(Duration::from_secs(60), None, 1000)).await;
    bench.run("tombstoned faces, a page", store.tombstoned_faces(None, 1000)).await;
    bench.run("confirmed faces, a page", store.confirmed_faces(&site, "pack-1", None, None, 1000)).await;
    bench.run("refused faces, a page", store.refused_faces(&site, "pack-1", None, None, 1000)).await;
    bench.run("count faces", store.count_faces()).await;
    bench.run("models of faces", store.models_of_faces(100_000)).await;
    bench.run("gallery size, one collection", store.gallery_size(&site)).await;
    bench.run("gallery, one collection", store.gallery(Some(&site))).await;
    bench.run("gallery, all", store.gallery(None)).await;
    bench.run("persons, a page", store.persons_list(&site, None, 50)).await;
    if let Some(crop) = page.iter().find_map(|record| record.crop) {
        bench.run("why", store.why(crop)).await;
    }
    let age = Some(29 * DAY);
    for _ in 0..3 {
        bench.run("expire results, 5000 crops", store.expire_results(age, now, 5000)).await;
    }
    let mut expired = 0;
    while let Ok(step) = store.expire_results(age, now, 5000).await
        && !step.is_empty()
        && expired < crops / 30
    {
        expired += step.crops;
    }
    bench.run("expire results, nothing left", store.expire_results(age, now, 5000)).await;
    let actor = facewire_store_pg::Actor::named("an example");
    let changes = facewire_store_pg::PolicyChanges { retain_unmatched: Some(age), ..Default::default() };
    store.update_policy(&site, &changes, &actor).await?;
    bench.run("expire unmatched, 1000 faces", store.expire_unmatched(&site, None, now, 1000)).await;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), AnyError> {
    let mut arguments = std::env::args().skip(1);
    let crops: u64 = arguments.next().map_or(Ok(1_000_000), |number| number.parse())?;
    let server = match arguments.next() {
        Some(url) => Err(url),
        None => Ok(facewire_devstack::testing::isolated_database().await?),
    };
    let url = match &server {
        Ok(server) => server.url(),
        Err(url) => url.clone(),
    };
    let notices = Notices::default();
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(notices.clone()))?;
    let explain = [
        ("session_preload_libraries", "auto_explain"),
        ("auto_explain.log_min_duration", "0"),
        ("auto_explain.log_analyze", "on"),
        ("auto_explain.log_timing", "off"),
        ("client_min_messages", "log"),
    ];
    let connect = |settings: &[(&str, &str)]| {
        url.parse::<sqlx::postgres::PgConnectOptions>().map(|options| options.options(settings.iter().copied()))
    };
    let plain = Store::connect(&Options { url: url.clone().into(), ..Options::default() }).await?;
    plain.migrate().await?;
    let actor = facewire_store_pg::Actor::named("an example");
    for site in 0..4 {
        plain.create_collection(&format!("site-{site}").parse()?, &Default::default(), &actor).await?;
    }
    let start = Instant::now();
    let mut operator = connect(&[])?.connect().await?;
    let there: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM crops)").fetch_one(&mut operator).await?;
    if !there {
        fill(&mut operator, crops).await?;
    }
    let size: String = sqlx::query_scalar("SELECT pg_size_pretty(pg_database_size(current_database()))")
        .fetch_one(&mut operator)
        .await?;
    eprintln!("{crops} crops, {size}, filled in {:.0} s", start.elapsed().as_secs_f64());
    let settings: Vec<String> = explain.iter().map(|(name, value)| format!("-c%20{name}%3D{value}")).collect();
    let explained = format!("{url}{}options={}", if url.contains('?') { '&' } else { '?' }, settings.join("%20"));
    let bench = Bench {
        store: Store::connect(&Options {
            url: explained.into(),
            max_connections: 1,
            statement_timeout: Duration::from_secs(120),
            ..Options::default()
        })
        .await?,
        notices: notices.clone(),
    };
    commands(&bench, crops).await?;
    views(&mut connect(&explain)?.connect().await?, &notices).await
}
