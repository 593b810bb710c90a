//! `facewire why`: the whole life of one crop, from the rows that the stages left. It reads only.

mod advice;
mod render;
mod signals;

use std::collections::HashMap;

use anyhow::{Context, bail};
use facewire_bus::StageLag;
use facewire_composition::Config;
use facewire_contracts::subjects;
use facewire_domain::{CropId, Decision, GateLimits, Intent, PersonId, Stage};
use facewire_store_pg::{CropHistory, EndingRecord, Person, Store, StoreError};
use serde::Serialize;

use super::{connect, gates};
use crate::cli::Why;
use crate::output::{self, Exit};

/// What is known of a crop.
#[derive(Debug, Serialize)]
struct Known {
    #[serde(flatten)]
    life: CropHistory,
    /// Everybody whom the endings name, by id.
    persons: HashMap<PersonId, Person>,
    /// The gate's limits of now, as this configuration and the calibrations in force have them.
    limits: GateLimits,
    /// Where it may be, while endings are missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    on_its_way: Option<OnItsWay>,
}

/// The queues behind ingest, and what was given up.
#[derive(Debug, Serialize)]
struct OnItsWay {
    missing_endings: i64,
    stages: Vec<StageLag>,
    dead_letters: u64,
}

pub(crate) async fn run(config: Config, args: Why) -> anyhow::Result<Exit> {
    let crop: CropId = args.crop.trim().parse().ok().with_context(|| {
        format!("{:?} is no crop id: it is a UUID, as in a result's crop_id and in `facewire watch`", args.crop)
    })?;
    let store = connect::postgres(&config).await?;
    let Some(life) = store.why(crop).await? else { bail!(unknown(&config, crop).await) };
    let crop = &life.crop;
    let intent = crop.intent.parse().unwrap_or(Intent::Recognize);
    let mut limits = gates::now(&config, &store).await?.limits_for(&crop.collection, &crop.camera, intent);
    if life.crop.frame {
        limits = limits.in_frame();
    }
    let persons = persons(&store, &life).await?;
    let on_its_way = on_its_way(&config, &life).await;
    let known = Known { life, persons, limits, on_its_way };
    if args.json {
        output::json(&known)?;
    } else {
        render::render(&known);
    }
    Ok(Exit::Success)
}

/// Not admitted: perhaps not yet.
async fn unknown(config: &Config, crop: CropId) -> String {
    let waiting = async {
        let lags = connect::nats(config, "why").await.ok()?.lags().await.ok()?;
        lags.into_iter().find(|lag| lag.stage == Stage::Ingest).map(|lag| lag.pending + lag.ack_pending)
    };
    let why = match waiting.await {
        Some(0) => "nothing waits for ingest: check the id and the database".to_owned(),
        Some(waiting) => format!("{waiting} crops still wait for ingest, it may be among them: ask again later"),
        None => "and NATS cannot say whether it still waits for ingest".to_owned(),
    };
    format!("no crop {crop} was admitted; {why}")
}

async fn persons(store: &Store, life: &CropHistory) -> Result<HashMap<PersonId, Person>, StoreError> {
    let mut ids = Vec::new();
    for ending in &life.endings {
        ids.extend(ending.person_id.map(PersonId::from));
        let decided = decision(ending);
        ids.extend(decided.into_iter().flat_map(|d| [d.best, d.runner_up]).flatten().map(|candidate| candidate.person));
    }
    if ids.is_empty() { Ok(HashMap::new()) } else { store.persons(&ids).await }
}

/// The decision of an ending, where one was made and can be read.
fn decision(ending: &EndingRecord) -> Option<Decision> {
    serde_json::from_value(ending.decision.clone()?).ok()
}

/// Asks NATS where it may be. A NATS that is away takes nothing from the rest of the story.
async fn on_its_way(config: &Config, life: &CropHistory) -> Option<OnItsWay> {
    let expected = i64::from(life.crop.face_count.max(1));
    let missing_endings = expected - i64::try_from(life.endings.len()).unwrap_or(i64::MAX);
    if missing_endings <= 0 {
        return None;
    }
    let asked = async {
        let bus = connect::nats(config, "why").await?;
        let lags = bus.lags().await?;
        anyhow::Ok((lags, bus.stream_messages(subjects::DEAD).await?))
    };
    match asked.await {
        Ok((lags, dead_letters)) => {
            let stages = lags.into_iter().filter(|lag| lag.stage != Stage::Ingest).collect();
            Some(OnItsWay { missing_endings, stages, dead_letters })
        }
        Err(error) => {
            output::say(format_args!("where it waits is not known: {error:#}"));
            Some(OnItsWay { missing_endings, stages: Vec::new(), dead_letters: 0 })
        }
    }
}
