//! `facewire demo`: the main job on real faces. A fresh stack, people enrolled, cameras played by outside producers, and a
//! sum that says whether every crop ended exactly once and whether the answers were right.

mod demo_dir;
mod plan;
mod play;
mod report;
mod tally;

use std::io::IsTerminal;

use facewire_artifacts::progress::Reporter;
use facewire_bus::Bus;
use facewire_composition::models::{self};
use facewire_composition::{Chain, Config, Service};
use facewire_devstack::StackOptions;
use facewire_domain::{CollectionId, GateOverride, KeepImages};
use facewire_runtime::Shutdown;
use facewire_store_pg::{Actor, CollectionPolicy, LedgerFilter, Store};

use super::{data_dir, progress};
use crate::cli::{Degrade, Demo, Place};
use crate::local::{Local, gateway_url, unless_stopped};
use crate::output::{self, Exit};
use crate::signals;

use demo_dir::DemoDir;
pub(crate) use plan::{Plan, Play};
use play::Gate;
use report::Report;
use tally::Tally;

pub(crate) async fn run(mut config: Config, place: &Place, args: &Demo) -> anyhow::Result<Exit> {
    let shutdown = Shutdown::new(config.shutdown.grace);
    signals::listen(shutdown.clone())?;
    let report = progress::fetching(std::io::stderr().is_terminal());
    let preparing = async {
        let models = models::load(&config.models, report.clone()).await?;
        let plan = plan::prepare(args, &models, false, report.clone()).await?;
        let directory = directory(place, args)?;
        // Nothing in it needs to survive a power cut.
        let options = StackOptions { durable: false, ..StackOptions::new(directory.stack()) };
        let open: CollectionId = Gate::Off.collection().parse()?;
        config.quality.collections.insert(open, GateOverride::OFF);
        let local = Local::alone(&mut config, options, report.clone(), shutdown.clone()).await?;
        anyhow::Ok((models, plan, directory, local))
    };
    // Dropped last to first: the servers before their directory.
    let (models, plan, directory, mut local) = unless_stopped(&shutdown, preparing).await?;
    let done = act(&mut local, &config, Chain::from(&models), report, &plan, &shutdown).await;
    let stopped = local.stop().await;
    let mut sum = done?;
    stopped?;
    sum.kept = directory.keep();
    if args.json {
        output::json(&sum)?
    } else {
        report::show(&sum)
    }
    Ok(if sum.holds() && sum.recognises() { Exit::Success } else { Exit::ProblemsFound })
}

/// Where it runs. What killed ones left goes: among temporary files too, where a demo without a data directory was.
fn directory(place: &Place, args: &Demo) -> anyhow::Result<DemoDir> {
    let directory = made(place, args)?;
    directory.sweep_temporary();
    Ok(directory)
}

/// A machine without a data directory plays a demo all the same, unless one was named.
fn made(place: &Place, args: &Demo) -> anyhow::Result<DemoDir> {
    if args.forget {
        return demo_dir::temporary();
    }
    match data_dir(place).and_then(|base| demo_dir::fresh(&base)) {
        Err(error) if place.data.is_none() => {
            output::say(format_args!("the demo's data will not be kept: {error:#}"));
            demo_dir::temporary()
        }
        fresh => fresh,
    }
}

/// What the default demo's cameras would publish if they cut the faces out, for measurements on the same faces: crops, not
/// whole photographs.
pub(crate) async fn sample_pictures(models: &models::Loaded, report: Reporter) -> anyhow::Result<Vec<bytes::Bytes>> {
    Ok(sample_plan(models, report).await?.plays.into_iter().map(|play| play.image).collect())
}

/// The same with the people to enrol, and the camera of each crop.
pub(crate) async fn sample_plan(models: &models::Loaded, report: Reporter) -> anyhow::Result<Plan> {
    let args = Demo { faces: None, enroll: 1, strangers: None, degrade: Degrade::Cameras, forget: true, json: true };
    plan::prepare(&args, models, true, report).await
}

async fn act(
    local: &mut Local,
    config: &Config,
    chain: Chain,
    report: Reporter,
    plan: &Plan,
    shutdown: &Shutdown,
) -> anyhow::Result<Report> {
    let bus = Bus::connect(&config.nats, "facewire-demo").await?;
    let store = Store::connect(&config.postgres).await?;
    keep_faces(&store).await?;
    local.start_services(config, Service::all(), Some(chain), report);
    output::say(format_args!("HTTP  {}/docs while the demo runs", gateway_url(config)));
    let playing = async {
        tokio::select! {
            tally = play(config, &bus, plan) => tally,
            () = shutdown.draining() => anyhow::bail!("stopped before the end"),
        }
    };
    let tally = local.beside(playing).await?;
    // Only after every service has finished can a second result for a crop no longer come.
    local.drain().await?;
    let ledger = store.ledger(&LedgerFilter::default()).await?;
    let results = bus.stream_messages(facewire_contracts::subjects::RESULTS).await?;
    Ok(tally.report(plan, &ledger, results))
}

/// Before the first crop: who looks at the demo's data afterwards sees its faces. They lie with those data, and go with them.
async fn keep_faces(store: &Store) -> anyhow::Result<()> {
    let policy = CollectionPolicy { keep_images: KeepImages::Aligned, ..CollectionPolicy::default() };
    let demo: CollectionId = Gate::On.collection().parse()?;
    store.create_collection(&demo, &policy, &Actor::named("facewire demo")).await?;
    Ok(())
}

/// Everything with the gate; then what it cost the crops anything, once more without.
async fn play(config: &Config, bus: &Bus, plan: &Plan) -> anyhow::Result<Tally> {
    let mut results = bus.results("results.>", true).await?;
    let mut tally = Tally::default();
    for gate in [Gate::On, Gate::Off] {
        tally.expect(play::enrolments(bus, plan, gate).await?);
    }
    tally.collect(&mut results, &progress::bar(tally.open(), "enrol")).await?;
    let all: Vec<usize> = (0..plan.plays.len()).collect();
    let bar = progress::bar(plan.plays.len() as u64, "recognize");
    tally.start();
    tally.expect(play::cameras(&config.nats, plan, &all, Gate::On).await?);
    tally.collect(&mut results, &bar).await?;
    tally.stop();
    let held_back = tally.held_back(plan);
    let bar = progress::bar(held_back.len() as u64, "without the gate");
    tally.expect(play::cameras(&config.nats, plan, &held_back, Gate::Off).await?);
    tally.collect(&mut results, &bar).await?;
    Ok(tally)
}
