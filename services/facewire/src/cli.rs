//! The command line: arguments and help texts. The commands themselves are in `commands`.

mod calibrate;
mod dead;
mod evaluate;
mod face_jobs;
mod faces;
mod heads;
mod health;
mod insight;
mod jobs;
mod keys;
mod nats_config;
mod people;
#[cfg(test)]
mod testing;
mod use_head;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use facewire_store_pg::RolePrefix;

pub(crate) use calibrate::Calibrate;
pub(crate) use dead::{Dead, DeadChoice, DeadCommand, DeadWhich};
pub(crate) use evaluate::{Evaluate, GateSwitch};
pub(crate) use face_jobs::{ExportFaces, StartJob};
pub(crate) use faces::{
    Backfill, CountFaces, EnsureCollection, Faces, FacesCommand, FindOrphans, LabelCluster, ListActs, ListClusters,
    SplitCluster, UndoAct,
};
pub(crate) use heads::{ListHeads, TrainMatching};
pub(crate) use health::{Health, Probe};
pub(crate) use insight::{Cameras, Failures, Why};
pub(crate) use jobs::{Jobs, JobsCommand, ListJobs, Waiting};
pub(crate) use keys::{CreateKey, Keys, KeysCommand};
pub(crate) use nats_config::NatsConfig;
pub(crate) use people::{ErasureArgs, People, PeopleCommand};
pub(crate) use use_head::UseHead;

/// Face recognition for many cameras over NATS JetStream.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, max_term_width = 110)]
pub(crate) struct Cli {
    /// Configuration file (TOML). FACEWIRE__SECTION__KEY variables override it.
    #[arg(long, short, global = true, env = "FACEWIRE_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) place: Place,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Where the servers are.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Servers")]
pub(crate) struct Place {
    /// Data directory of the local stack; commands find a running stack through it.
    #[arg(long, global = true, env = "FACEWIRE_DATA", value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// URL of an existing NATS server.
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) nats: Option<String>,
    /// URL of an existing PostgreSQL server.
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) postgres: Option<String>,
    /// URL of an existing Qdrant server (gRPC).
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) qdrant: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start the local stack and every service in one process.
    #[cfg(feature = "local")]
    Up(Up),
    /// Run one or more services against existing servers.
    Run(Run),
    /// Create or update the database schema, the streams and the vector index.
    Migrate(Migrate),
    /// Demonstrate the whole chain on real faces: start, enrol, simulate cameras, report.
    #[cfg(feature = "local")]
    Demo(Demo),
    /// Enrol a person from image files.
    Enroll(Enroll),
    /// Publish crops as a camera would.
    Publish(Publish),
    /// Show results as they arrive.
    Watch(Watch),
    /// Explain one crop: the decision, every signal against its limit, stages and times.
    Why(Why),
    /// Compare cameras: which signals are poor, and what other limits would change.
    Cameras(Cameras),
    /// List crops that were not recognised, rejected or failed, newest first.
    Failures(Failures),
    /// Show counts, stage lags and the gallery.
    Stats(Stats),
    /// Dead letters (messages that were given up): list, show, replay, drop.
    Dead(Dead),
    /// From faces to people: cluster, assign, label, undo; and the vector index against Postgres.
    Faces(Faces),
    /// Long work: list, show, cancel, retry, watch.
    Jobs(Jobs),
    /// Rebuild the vector index from Postgres while searches continue.
    Rebuild(Rebuild),
    /// Bring the gallery to another model pack from its kept images while searches continue.
    Reembed(Reembed),
    /// Edit people: merge, split, assign faces, hide, erase.
    People(People),
    /// API keys of the HTTP interface: create, list, revoke.
    Keys(Keys),
    /// Write the configuration of a NATS server: a user for each service, with its key and the least rights.
    NatsConfig(NatsConfig),
    /// Check this machine: what is present, missing or wrong, and how to fix it.
    Doctor(Doctor),
    /// Ask a running process whether it is ready, alive or started; exit status 1 where it is not.
    Health(Health),
    /// List and install model packs.
    Models(Models),
    /// Measure error rates on labelled pictures.
    Evaluate(Box<Evaluate>),
    /// Derive thresholds and gate limits from labelled photos, or thresholds from corrections; --apply stores them, --revert
    /// undoes it.
    Calibrate(Box<Calibrate>),
    /// Benchmark this machine; each number comes with an upper bound measured in the same run.
    #[cfg(feature = "local")]
    Bench(Bench),
    /// Print the effective configuration with secrets hidden.
    Config,
}

#[cfg(feature = "local")]
#[derive(Debug, Args)]
pub(crate) struct Up {
    /// Port of the local nats-server (default: a free one).
    #[arg(long, value_name = "PORT")]
    pub(crate) nats_port: Option<u16>,
    /// Port of the local PostgreSQL (default: a free one).
    #[arg(long, value_name = "PORT")]
    pub(crate) postgres_port: Option<u16>,
    /// Port of the local Qdrant (default: a free one).
    #[arg(long, value_name = "PORT")]
    pub(crate) qdrant_port: Option<u16>,
    /// Port of the HTTP gateway on loopback (default: `gateway.listen`, else a free one).
    #[arg(long, value_name = "PORT")]
    pub(crate) http_port: Option<u16>,
    /// Start the servers only, without the services.
    #[arg(long)]
    pub(crate) no_services: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    #[arg(required = true, value_name = "SERVICE", help = crate::commands::run::names())]
    pub(crate) services: Vec<String>,
    /// Address for /livez, /readyz, /startupz and /metrics (configuration: health.listen).
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) health: Option<std::net::SocketAddr>,
    /// For `qdrant`: the address to listen on.
    #[cfg(feature = "local")]
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:6334")]
    pub(crate) listen: std::net::SocketAddr,
}

#[derive(Debug, Args)]
pub(crate) struct Migrate {
    /// Show what would be created or changed, and change nothing. Exit status 3 if there is something.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Postgres: also make the group role of each service, with its rights and no others. Needs a user with CREATEROLE.
    #[arg(long)]
    pub(crate) roles: bool,
    /// What the group roles' names begin with (`facewire_match`). A server has one set of roles for all of its databases.
    #[arg(long, value_name = "NAME", default_value_t, requires = "roles")]
    pub(crate) role_prefix: RolePrefix,
    /// One JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[cfg(feature = "local")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Degrade {
    /// Each probe as it is.
    None,
    /// Each probe by four cameras: clean, blurred, dark, small and tilted.
    Cameras,
}

#[cfg(feature = "local")]
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Your own people, as DIR/<person>/* (default: the sample faces).
    #[arg(long, value_name = "DIR")]
    pub(crate) faces: Option<PathBuf>,
    /// Files to enrol for each person; the rest are probes.
    #[arg(long, value_name = "K", default_value_t = 1)]
    pub(crate) enroll: usize,
    /// Probes of people who are not enrolled.
    #[arg(long, value_name = "DIR")]
    pub(crate) strangers: Option<PathBuf>,
    /// How the simulated cameras degrade the probes.
    #[arg(long, value_enum, default_value_t = Degrade::Cameras)]
    pub(crate) degrade: Degrade,
    /// Delete the demo's data at the end. Otherwise it stays in DIR/last-demo (see --data) for `why`, `cameras` and
    /// `failures`.
    #[arg(long)]
    pub(crate) forget: bool,
    /// One JSON object instead of tables.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Enroll {
    /// The person's name.
    #[arg(long, value_name = "NAME")]
    pub(crate) person: String,
    /// The person's external id (default: derived from the name).
    #[arg(long, value_name = "ID")]
    pub(crate) subject: Option<String>,
    /// The collection to enrol into.
    #[arg(long, default_value = "default")]
    pub(crate) collection: String,
    /// Image files, one face each.
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// How long to wait for the results.
    #[arg(long, default_value = "60s", value_parser = duration)]
    pub(crate) timeout: Duration,
    /// One JSON object a file.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Publish {
    /// The camera's name.
    #[arg(long, value_name = "CAM")]
    pub(crate) camera: String,
    /// The collection to match against.
    #[arg(long, default_value = "default")]
    pub(crate) collection: String,
    /// Files, or directories of JPEG, PNG and WebP.
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// recognize, enroll or observe.
    #[arg(long, default_value = "recognize")]
    pub(crate) intent: String,
    /// For enroll: the person's id.
    #[arg(long)]
    pub(crate) subject: Option<String>,
    /// The files are whole frames: every face gets its own result.
    #[arg(long)]
    pub(crate) frame: bool,
    /// Similarity required for a match, 0 to 1.
    #[arg(long)]
    pub(crate) threshold: Option<f64>,
    /// Publish everything this many times, each time as new crops (implies --now).
    #[arg(long, default_value_t = 1)]
    pub(crate) repeat: u32,
    /// Use the current time as the capture time. Otherwise it is the file's modification time, so that the same file
    /// published twice by the same camera is the same crop and has one result.
    #[arg(long)]
    pub(crate) now: bool,
    /// Maximum crops per second.
    #[arg(long, value_name = "N")]
    pub(crate) rate: Option<f64>,
    /// Records what was published, so that an interrupted run can be resumed.
    #[arg(long, value_name = "FILE")]
    pub(crate) resume: Option<PathBuf>,
    /// One JSON object at the end.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// Only this collection.
    #[arg(long)]
    pub(crate) collection: Option<String>,
    /// Only this camera.
    #[arg(long)]
    pub(crate) camera: Option<String>,
    /// Begin with the results that the stream still holds.
    #[arg(long)]
    pub(crate) all: bool,
    /// Stop after this many results.
    #[arg(long, short = 'n', value_name = "N")]
    pub(crate) count: Option<u64>,
    /// Print each result as one JSON line.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Stats {
    /// Only this collection.
    #[arg(long)]
    pub(crate) collection: Option<String>,
    /// One JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// One JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Models {
    #[command(subcommand)]
    pub(crate) command: ModelsCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ModelsCommand {
    /// List the known packs and whether they are installed.
    List {
        /// One JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Install a pack. InsightFace's weights are for non-commercial research only.
    Install {
        /// default, buffalo_l, buffalo_m, buffalo_s, buffalo_sc or antelopev2.
        #[arg(value_name = "NAME")]
        name: String,
        /// Confirm that you have read the pack's licence and that it permits your use.
        #[arg(long)]
        accept_license: bool,
        /// Install from this archive (for `default`: from the directory with its files) instead of downloading it.
        #[arg(long, value_name = "PATH")]
        from: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Reembed {
    /// The pack that is to serve; `facewire models install` puts it in place.
    #[arg(long, value_name = "PACK")]
    pub(crate) to: String,
    /// Switch although some faces have no kept image: they leave the index until they are enrolled anew.
    #[arg(long)]
    pub(crate) leave_behind: bool,
    /// Faces embedded at a time.
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub(crate) batch: u32,
    /// Wait this long for a reconciler that is at work.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "1m")]
    pub(crate) patience: Duration,
    /// One JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Rebuild {
    /// How long to wait for a running reconciler.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "1m")]
    pub(crate) patience: Duration,
    /// Remove however many points have no face, or are of another model.
    #[arg(long)]
    pub(crate) allow_mass_removal: bool,
    /// One JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[cfg(feature = "local")]
#[derive(Debug, Args)]
pub(crate) struct Bench {
    #[command(subcommand)]
    pub(crate) command: BenchCommand,
    /// One JSON object, with a list of measurements.
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[cfg(feature = "local")]
#[derive(Debug, Clone, Args)]
pub(crate) struct PipelineBench {
    /// Crops to send of each mix.
    #[arg(long, default_value_t = 2_000)]
    pub(crate) crops: usize,
    /// What the crops show: `clean` photos, what the demo's four `cameras` send, `tight` cuts at the detector's box.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = MixName::all())]
    pub(crate) mix: Vec<MixName>,
    /// People in the gallery.
    #[arg(long, default_value_t = 100_000)]
    pub(crate) gallery: usize,
    /// A Python with numpy, onnxruntime and opencv, for a loop with the same models beside (`python3` unless named).
    #[arg(long, value_name = "FILE")]
    pub(crate) python: Option<PathBuf>,
}

#[cfg(feature = "local")]
#[derive(Debug, Clone, Args)]
pub(crate) struct HttpBench {
    /// Clients that send at a time.
    #[arg(long, default_value_t = 64)]
    pub(crate) clients: usize,
    /// How long they send, over all turns.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = humantime::parse_duration)]
    pub(crate) time: std::time::Duration,
    /// People in the gallery.
    #[arg(long, default_value_t = 2_000)]
    pub(crate) gallery: usize,
}

/// What the crops of a bench show.
#[cfg(feature = "local")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum MixName {
    /// Photos as they are.
    Clean,
    /// What four cameras send: clean, blurred, dark, small and tilted.
    Cameras,
    /// Cut at the detector's box.
    Tight,
}

#[cfg(feature = "local")]
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum BenchCommand {
    /// Crops per second end to end, compared with the same work in a bare loop on all cores and in a Python loop.
    Pipeline(PipelineBench),
    /// Requests per second of many clients of the HTTP gateway, compared with the same crops over NATS, and what HTTP adds to a
    /// single request.
    Http(HttpBench),
    /// The chain with traces, metrics and logs exported, compared with the same chain without export.
    Telemetry {
        /// Crops to send on each side.
        #[arg(long, default_value_t = 4_000)]
        crops: usize,
    },
    /// The chain with a model that costs nothing, compared with one JetStream hop with the same payload.
    Bus {
        /// Crops to send.
        #[arg(long, default_value_t = 20_000)]
        crops: usize,
    },
    /// Faces per second, compared with bare ONNX Runtime at its best batch size and thread count.
    Embed {
        /// Faces to embed, at least. Each side runs for 10 seconds or more.
        #[arg(long, default_value_t = 600)]
        faces: usize,
    },
    /// Pictures per second through `facewire evaluate`, compared with the same work in a bare loop on all cores.
    Evaluate {
        /// Your own pictures (default: the samples).
        #[arg(long = "pictures", value_name = "DIR")]
        folder: Option<PathBuf>,
        /// Pictures to process on each side, over all turns; they are repeated as needed.
        #[arg(long, default_value_t = 600)]
        count: usize,
    },
}

fn duration(text: &str) -> Result<Duration, humantime::DurationError> {
    humantime::parse_duration(text)
}
