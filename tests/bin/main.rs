//! `facewire-tests`: what is too long, or needs too many processes, for `cargo test`. `faults` plays a seeded plan of
//! kills and pauses against services in processes of their own, and checks what is left; `imports` kills the gateway and
//! services under an import; `outage` takes one server away under load; `pressure` stops the chain before its slowest stage;
//! `reconcile` measures a pass; `clusters` compares ways of clustering on photographs of known people, or with scikit-learn; `jobs`
//! kills under jobs; `beside` measures recognition beside clusterings; `against` searches among all faces and among exemplars;
//! `rolling` restarts every service under load; `switch` brings a gallery behind a head and back under load; `autoscale` scales the
//! embed stage by its lag, and `embed-wide` measures how wide it is; `train` cross-validates projection heads; `vectors` measures
//! smaller vectors.

#![expect(clippy::print_stdout, reason = "a plan's report is what it is for")]

mod against;
mod autoscale;
mod beside;
mod bounds;
mod check;
mod clusters;
mod crops;
mod dice;
mod faults;
mod fleet;
mod imports;
mod jobs;
mod load;
mod made_up;
mod numbered;
mod outage;
mod pressure;
mod reconcile;
mod rolling;
mod service;
mod switch;
mod table;
mod train;
mod vectors;
mod watch;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(about = "Facewire's long tests")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Let a burst of faces scale real embed-gpu processes with a simulated accelerator from none to many and back to none.
    Autoscale(autoscale::Plan),
    /// Search among all faces of people and among their exemplars: how fast, and how often with the same answer.
    Against(against::Plan),
    /// Let clusterings run beside a chain that is full: it loses no more than the cores that they were given.
    Beside(beside::Plan),
    /// Cluster the faces of known people in every way, and say how good the clusters are; or compare with scikit-learn.
    Clusters(clusters::Plan),
    /// Faces a second through one embed-gpu whose embedder takes no time, against what one core can copy.
    EmbedWide(autoscale::wide::Plan),
    /// One embed-gpu with a simulated accelerator, as a process of its own.
    #[command(hide = true)]
    EmbedWorker(autoscale::worker::Setting),
    /// Kill and pause services and servers at random moments while producers publish; then count.
    Faults(Plan),
    /// Kill the gateway and two services at a time while a client imports images over HTTP; then count.
    Imports(imports::Plan),
    /// Kill the service `jobs`, Postgres and the vector engine under clusterings, assignments, prototypes and trainings; then compare
    /// with jobs in peace.
    Jobs(jobs::Plan),
    /// Take a server away under a steady load and bring it back: nothing is lost, and no delivery attempt is burnt.
    Outage(outage::Plan),
    /// Let crops wait on disk before a stopped embed-gpu: what is in flight is bounded, and memory stays flat.
    Pressure(pressure::Plan),
    /// Plant differences of every kind among many faces, and let one pass of the reconciler find them.
    Reconcile(reconcile::Planted),
    /// Restart every service under load, one after another: the new instance comes before the old one drains.
    Rolling(rolling::Plan),
    /// Bring a gallery behind a projection head and back under load: every crop ends once, and by a model that it was embedded by.
    Switch(switch::Plan),
    /// Train projection heads on photographs of known people, and say what they are worth on people whom they have never seen.
    Train(train::Plan),
    /// Search among vectors as they are, projected and quantized: recall, time of a search, bytes a face.
    Vectors(vectors::Plan),
    /// One service or the vector engine, as a process of its own; ends when its standard input does.
    #[command(hide = true)]
    Service {
        /// A service's name, or `qdrant`.
        name: String,
        /// For `qdrant`: where its data is, and its port.
        #[arg(long)]
        dir: Option<PathBuf>,
        #[arg(long, default_value_t = 0)]
        port: u16,
    },
}

/// What is played. The defaults are a short plan; the long one is `--crops 20000 --faults 50`.
#[derive(Debug, Clone, clap::Args)]
struct Plan {
    /// Crops to publish.
    #[arg(long, default_value_t = 400)]
    crops: u64,
    /// Faults to play.
    #[arg(long, default_value_t = 8)]
    faults: u32,
    /// The same seed strikes the same targets in the same order; a new one each time unless named.
    #[arg(long)]
    seed: Option<u64>,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    // As the services have it, and two at least: what is measured must not wait for what measures.
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).div_ceil(4).max(2);
    let done = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build();
    let done = done.map_err(Into::into);
    let done = done.and_then(|runtime: tokio::runtime::Runtime| match cli.command {
        Command::Against(plan) => runtime.block_on(against::run(plan)),
        Command::Autoscale(plan) => runtime.block_on(autoscale::run(plan)),
        Command::Beside(plan) => runtime.block_on(beside::run(plan)),
        Command::Clusters(plan) => runtime.block_on(clusters::run(plan)),
        Command::EmbedWide(plan) => runtime.block_on(autoscale::wide::run(plan)),
        Command::EmbedWorker(setting) => runtime.block_on(autoscale::worker::run(setting)).map(|()| true),
        Command::Faults(plan) => runtime.block_on(faults::run(plan)),
        Command::Imports(plan) => runtime.block_on(imports::run(plan)),
        Command::Jobs(plan) => runtime.block_on(jobs::run(plan)),
        Command::Outage(plan) => runtime.block_on(outage::run(plan)),
        Command::Pressure(plan) => runtime.block_on(pressure::run(plan)),
        Command::Reconcile(planted) => runtime.block_on(reconcile::run(planted)),
        Command::Rolling(plan) => runtime.block_on(rolling::run(plan)),
        Command::Switch(plan) => runtime.block_on(switch::run(plan)),
        Command::Train(plan) => runtime.block_on(train::run(plan)),
        Command::Vectors(plan) => runtime.block_on(vectors::run(plan)),
        Command::Service { name, dir, port } => runtime.block_on(service::run(&name, dir, port)).map(|()| true),
    });
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(3),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
