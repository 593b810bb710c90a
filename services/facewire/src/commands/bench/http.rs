//! `bench http`: many clients on `POST /api/v1/recognize` against the same crops over NATS in the same run, and what the front
//! door adds to a single request on an idle chain, against the limit of 10 ms.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;
use facewire_composition::models;
use facewire_composition::{Chain, Config, Parts, Service};
use facewire_domain::Stage;
use facewire_gallery::Gallery;
use facewire_runtime::Shutdown;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use time::OffsetDateTime;
use tokio::task::JoinSet;

use super::load::{Load, PLACE};
use super::memory::Meter;
use super::mixes::{self, Mix};
use super::{Durability, Measurement, Reference, bare, cores, gallery, per_second, stack};
use crate::cli::{HttpBench, MixName};
use crate::commands::progress;
use crate::local::unless_stopped;

/// Crops a core that are on their way over NATS at a time, as in `bench pipeline`.
const WINDOW: usize = 64;
/// How often the two sides take turns.
const TURNS: u32 = 4;
/// Single requests on an idle chain, so many that a few stalls of the machine do not decide their 99th percentile. Before them
/// come some that are not counted: meanwhile the disk takes what the enrolments wrote.
const SINGLE: usize = 1000;
const WARMUP: usize = 100;
/// Between two of them, so that the last one's ending is on disk and its messages are acked before the next one: a message that
/// leaves a stage alone is acked 40 ms later (`bus/src/sink.rs`).
const PAUSE: Duration = Duration::from_millis(60);
/// What follows from the enrolments takes no longer.
const FOLLOWED: Duration = Duration::from_secs(120);
/// What a single request may take beyond its vision, at the 99th percentile.
const ADDED_LIMIT_MS: f64 = 10.0;

type Http = Client<HttpConnector, Full<Bytes>>;

pub(super) async fn run(mut config: Config, args: &HttpBench, shutdown: Shutdown) -> anyhow::Result<Vec<Measurement>> {
    let report = progress::fetching(false);
    // What is measured is the chain, not the limits of a single client.
    config.gateway.rate = std::num::NonZeroU32::MAX;
    config.gateway.burst = std::num::NonZeroU32::MAX;
    let preparing = async {
        let models = models::load(&config.models, report.clone()).await?;
        let (people, mixes) = mixes::prepare(&models, &[MixName::Clean], report.clone()).await?;
        let mix = mixes.into_iter().next().context("no crops to send")?;
        let (directory, mut local) = stack(&mut config, Durability::Synced, &shutdown).await?;
        let filling = async {
            let gallery = Parts::stores(&config).await?.gallery()?;
            gallery::fill(&gallery, people, args.gallery).await?;
            anyhow::Ok(gallery)
        };
        let gallery = local.beside(filling).await.context("the gallery cannot be filled")?;
        anyhow::Ok((models, mix, gallery, directory, local))
    };
    let (models, mix, gallery, _directory, mut local) = unless_stopped(&shutdown, preparing).await?;
    local.start_services(&config, Service::all(), Some(Chain::from(&models)), report);
    let measuring = async {
        let mut load = Load::start(&config.nats, &mix.pictures, WINDOW * cores()).await?;
        // Single requests first, as long as nothing is written behind a load.
        followed(&gallery).await?;
        let added = added(&config, &models, &mix).await?;
        let throughput = throughput(&config, &mut load, &mix, args).await?;
        anyhow::Ok(vec![throughput, added])
    };
    let measured = local.beside(measuring).await;
    let stopped = local.stop().await;
    let measured = measured?;
    stopped?;
    Ok(measured)
}

/// Its camera is not that of the crops over NATS, which are counted by their results.
fn client(config: &Config) -> (Http, String) {
    let http = Client::builder(TokioExecutor::new()).build_http();
    (http, format!("http://{}/api/v1/recognize?collection={PLACE}&camera=http", config.gateway.address()))
}

async fn ask(http: &Http, url: &str, image: Bytes) -> anyhow::Result<(StatusCode, Bytes)> {
    let request = Request::builder()
        .method(Method::POST)
        .uri(url)
        .header("content-type", "application/octet-stream")
        .body(Full::new(image))?;
    let response = http.request(request).await?;
    let status = response.status();
    Ok((status, response.into_body().collect().await?.to_bytes()))
}

/// The two sides take turns of the same length of time, so that a machine that is slower for a while is slower for both.
async fn throughput(config: &Config, load: &mut Load, mix: &Mix, args: &HttpBench) -> anyhow::Result<Measurement> {
    let ((http, url), window) = (client(config), load.window);
    let turn = args.time / TURNS;
    let (mut answered, mut asked_for, mut published, mut published_for) = (0, Duration::ZERO, 0, Duration::ZERO);
    let mut statuses: BTreeMap<String, u64> = BTreeMap::new();
    let mut memory = Meter::default();
    for number in 0..TURNS {
        memory.begin();
        let started = Instant::now();
        for (status, count) in clients(&http, &url, &mix.pictures, args.clients, turn).await? {
            answered += if status == StatusCode::OK { count } else { 0 };
            *statuses.entry(format!("HTTP {}", status.as_u16())).or_default() += count as u64;
        }
        asked_for += started.elapsed();
        if number == 0 {
            memory.after_a_quarter();
        }
        memory.pause();
        // As many crops as the clients sent: the machine is as warm.
        let crops = (answered / (number as usize + 1)).max(window);
        published_for += load.run(crops, window).await?;
        published += crops;
    }
    let limit_is = format!("the same crops over NATS, {window} on their way at a time, in turns");
    let (value, limit) = (per_second(answered, asked_for), per_second(published, published_for));
    let mut measurement = Measurement::new("http", "requests/s", answered, value, limit, limit_is);
    (measurement.statuses, measurement.memory) = (statuses, Some(memory.finish()));
    Ok(measurement)
}

/// Every client sends its next request when the last one is answered; one that is told to wait waits.
async fn clients(
    http: &Http,
    url: &str,
    pictures: &[Bytes],
    clients: usize,
    time: Duration,
) -> anyhow::Result<BTreeMap<StatusCode, usize>> {
    let (deadline, next) = (Instant::now() + time, Arc::new(AtomicUsize::new(0)));
    let mut tasks = JoinSet::new();
    for _ in 0..clients.max(1) {
        let (http, url, pictures, next) = (http.clone(), url.to_owned(), pictures.to_vec(), Arc::clone(&next));
        tasks.spawn(async move {
            let mut seen: BTreeMap<StatusCode, usize> = BTreeMap::new();
            while Instant::now() < deadline {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let image = pictures.get(number % pictures.len().max(1)).cloned().unwrap_or_default();
                let (status, _) = ask(&http, &url, image).await?;
                *seen.entry(status).or_default() += 1;
                if status != StatusCode::OK {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
            anyhow::Ok(seen)
        });
    }
    let mut seen: BTreeMap<StatusCode, usize> = BTreeMap::new();
    while let Some(done) = tasks.join_next().await {
        for (status, count) in done?? {
            *seen.entry(status).or_default() += count;
        }
    }
    Ok(seen)
}

/// Waits until the services have done what follows from the enrolments (everybody's prototypes, and the points that say so):
/// before that the chain is not idle.
async fn followed(gallery: &Gallery) -> anyhow::Result<()> {
    let waiting = async {
        loop {
            let stale = gallery.store.stale_persons(1).await?;
            let pending = gallery.store.pending_faces(Duration::ZERO, None, 1).await?;
            if stale.is_empty() && pending.is_empty() {
                return anyhow::Ok(());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let waited = tokio::time::timeout(FOLLOWED, waiting).await;
    waited.with_context(|| format!("what follows from the enrolments is not done after {FOLLOWED:?}"))?
}

/// What a single request takes beyond its vision, one after the other and each on an idle chain: beyond what its own stages
/// spent on the picture, and for comparison beyond the same picture in a bare loop, which varies by itself. The bare loop runs
/// after them all: in between it would be other work on the machine.
async fn added(config: &Config, models: &models::Loaded, mix: &Mix) -> anyhow::Result<Measurement> {
    let (http, url) = client(config);
    let mut singles = Vec::with_capacity(SINGLE);
    for (number, picture) in mix.pictures.iter().cycle().take(WARMUP + SINGLE).enumerate() {
        let started = Instant::now();
        let (status, answer) = ask(&http, &url, picture.clone()).await?;
        let whole = started.elapsed();
        ensure!(status == StatusCode::OK, "a single request was answered with {status}");
        let Answer { crop_id } = serde_json::from_slice(&answer)?;
        if number >= WARMUP {
            singles.push((whole, crop_id, picture.clone()));
        }
        tokio::time::sleep(PAUSE).await;
    }
    let (rules, mut sessions) = (config.quality.rules(models.score()), bare::sessions(models)?);
    sessions.truncate(1);
    let (mut beyond_own, mut beyond_bare, mut own_vision, mut bare_vision) = (vec![], vec![], vec![], vec![]);
    for (whole, crop, picture) in singles {
        let own = spent(&http, config, &crop).await?;
        let rules = rules.clone();
        let vision = tokio::task::spawn_blocking(move || {
            bare::bare_loop(&mut sessions, &rules, &[picture], 1).map(|vision| (sessions, vision))
        });
        let (back, bare) = vision.await??;
        sessions = back;
        beyond_own.push(millis(whole.saturating_sub(own)));
        beyond_bare.push(millis(whole.saturating_sub(bare)));
        own_vision.push(millis(own));
        bare_vision.push(millis(bare));
    }
    let limit_is = format!(
        "what one request may take beyond its vision, 99th percentile; the median is {:.1} ms. Vision, medians: {:.1} ms in \
         the stages, {:.1} ms in a bare loop",
        quantile(&mut beyond_own, 0.5),
        quantile(&mut own_vision, 0.5),
        quantile(&mut bare_vision, 0.5),
    );
    let p99 = quantile(&mut beyond_own, 0.99);
    let mut measurement = Measurement::new("http added", "ms", SINGLE, p99, ADDED_LIMIT_MS, limit_is);
    let value = quantile(&mut beyond_bare, 0.99);
    let name = "beyond the same picture in the bare loop, 99th percentile".to_owned();
    measurement.references.push(Reference { name, value, ratio: p99 / value });
    Ok(measurement)
}

/// Of an answer to a recognition.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    crop_id: String,
}

/// Of a crop's history.
#[derive(Deserialize)]
struct History {
    endings: Vec<Ending>,
}

#[derive(Deserialize)]
struct Ending {
    times: Vec<Spent>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spent {
    stage: Stage,
    #[serde(with = "time::serde::rfc3339")]
    started_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    finished_at: OffsetDateTime,
}

/// How long the stages that look at pixels had a crop in hand. It is no frame, and has one ending.
async fn spent(http: &Http, config: &Config, crop: &str) -> anyhow::Result<Duration> {
    let url = format!("http://{}/api/v1/crops/{crop}", config.gateway.address()).parse()?;
    let response = http.get(url).await?;
    ensure!(response.status() == StatusCode::OK, "a crop's history was answered with {}", response.status());
    let History { endings } = serde_json::from_slice(&response.into_body().collect().await?.to_bytes())?;
    let times = endings.into_iter().next().context("a crop without an ending")?.times;
    let vision = times.iter().filter(|spent| matches!(spent.stage, Stage::Quality | Stage::Embed));
    Ok(vision.map(|spent| (spent.finished_at - spent.started_at).unsigned_abs()).sum())
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// The value that this part of all does not exceed.
fn quantile(values: &mut [f64], part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = ((values.len() as f64 * part) as usize).min(values.len().saturating_sub(1));
    values.get(at).copied().unwrap_or_default()
}
