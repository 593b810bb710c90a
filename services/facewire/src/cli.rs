//! The command line. Help texts are for people; what a command does stands in `commands`.

mod calibrate;
mod dead;
mod evaluate;
mod insight;
mod people;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

pub(crate) use calibrate::Calibrate;
pub(crate) use dead::{Dead, DeadChoice, DeadCommand, DeadWhich};
pub(crate) use evaluate::{Evaluate, GateSwitch};
pub(crate) use insight::{Cameras, Failures, Why};
pub(crate) use people::{People, PeopleCommand};

/// Face recognition for many cameras over NATS JetStream.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, max_term_width = 110)]
pub(crate) struct Cli {
    /// Configuration file (TOML); FACEWIRE__SECTION__KEY variables lie over it.
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
    /// Where the local stack keeps its data, and where commands find a running one.
    #[arg(long, global = true, env = "FACEWIRE_DATA", value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// A NATS server of your own.
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) nats: Option<String>,
    /// A PostgreSQL of your own.
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) postgres: Option<String>,
    /// A Qdrant of your own (gRPC).
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) qdrant: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start the local stack and every service in one process.
    #[cfg(feature = "local")]
    Up(Up),
    /// Run one service or several against servers that are there.
    Run(Run),
    /// Create or update the database schema, the streams and the vector index.
    Migrate(Migrate),
    /// The whole chain on real faces: start, enrol, play cameras, sum up.
    #[cfg(feature = "local")]
    Demo(Demo),
    /// Enrol a person from image files.
    Enroll(Enroll),
    /// Publish crops as a camera would: an outside producer.
    Publish(Publish),
    /// Show results as they come.
    Watch(Watch),
    /// The whole life of one crop: what decided, every signal against its limit, stages and times.
    Why(Why),
    /// Which camera is bad, by which signal, and what other limits would change.
    Cameras(Cameras),
    /// What was not recognised, rejected or failed, newest first.
    Failures(Failures),
    /// Counts, lags and the gallery.
    Stats(Stats),
    /// Messages that were given up: list, show, put back, drop.
    Dead(Dead),
    /// Enrolled faces: whether Postgres and the vector engine hold the same.
    Faces(Faces),
    /// Build the vector index anew from Postgres, while searches go on.
    Rebuild(Rebuild),
    /// Bring the gallery to another model pack from its kept images, while searches go on.
    Reembed(Reembed),
    /// People by hand: merge, split, assign faces, hide, erase.
    People(People),
    /// What is present, missing or wrong on this machine, and the mend.
    Doctor(Doctor),
    /// Model packs.
    Models(Models),
    /// How well people are recognised, on pictures whose truth is known: rates with their evidence.
    Evaluate(Box<Evaluate>),
    /// Thresholds and limits from your own people's photos: shown beside today's, kept with --apply, undone with --revert.
    Calibrate(Box<Calibrate>),
    /// Measure this machine; every number has a limit taken in the same run.
    #[cfg(feature = "local")]
    Bench(Bench),
    /// Print the resolved configuration, secrets hidden.
    Config,
}

#[cfg(feature = "local")]
#[derive(Debug, Args)]
pub(crate) struct Up {
    /// Port of the local nats-server (a free one unless named).
    #[arg(long, value_name = "PORT")]
    pub(crate) nats_port: Option<u16>,
    /// Port of the local PostgreSQL.
    #[arg(long, value_name = "PORT")]
    pub(crate) postgres_port: Option<u16>,
    /// Port of the local Qdrant.
    #[arg(long, value_name = "PORT")]
    pub(crate) qdrant_port: Option<u16>,
    /// Start the servers only; run the services yourself.
    #[arg(long)]
    pub(crate) no_services: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    #[arg(required = true, value_name = "SERVICE", help = crate::commands::run::names())]
    pub(crate) services: Vec<String>,
    /// Where /livez, /readyz and /startupz answer (configuration: health.listen).
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) health: Option<std::net::SocketAddr>,
    /// For `qdrant`: where to listen.
    #[cfg(feature = "local")]
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:6334")]
    pub(crate) listen: std::net::SocketAddr,
}

#[derive(Debug, Args)]
pub(crate) struct Migrate {
    /// Show what would be created or changed, and change nothing. Exit status 3 if there is something.
    #[arg(long)]
    pub(crate) dry_run: bool,
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
    /// People of your own: DIR/<person>/*; the sample faces otherwise.
    #[arg(long, value_name = "DIR")]
    pub(crate) faces: Option<PathBuf>,
    /// Of each person, enrol this many files; the rest are probes.
    #[arg(long, value_name = "K", default_value_t = 1)]
    pub(crate) enroll: usize,
    /// Probes of nobody enrolled.
    #[arg(long, value_name = "DIR")]
    pub(crate) strangers: Option<PathBuf>,
    /// What the cameras do to the probes.
    #[arg(long, value_enum, default_value_t = Degrade::Cameras)]
    pub(crate) degrade: Degrade,
    /// Keep nothing: without it, the last demo's data stays in DIR/last-demo (see --data), for `why`, `cameras` and
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
    /// The person's id in your world; made from the name unless given.
    #[arg(long, value_name = "ID")]
    pub(crate) subject: Option<String>,
    /// The gallery.
    #[arg(long, default_value = "default")]
    pub(crate) collection: String,
    /// Image files, one face each.
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Longest wait for the results.
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
    /// The gallery to match against.
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
    /// Whole frames: every face becomes its own result.
    #[arg(long)]
    pub(crate) frame: bool,
    /// Similarity that a match needs, 0 to 1.
    #[arg(long)]
    pub(crate) threshold: Option<f64>,
    /// Publish everything this many times, each as a crop of its own (implies --now).
    #[arg(long, default_value_t = 1)]
    pub(crate) repeat: u32,
    /// Captured now. Without it a file counts as captured when it was last changed, so that the same file published twice
    /// by the same camera is the same crop, and has one result.
    #[arg(long)]
    pub(crate) now: bool,
    /// Crops a second at most.
    #[arg(long, value_name = "N")]
    pub(crate) rate: Option<f64>,
    /// Notes what is published, so that an interrupted run goes on where it was.
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
    /// Begin with what the stream still holds.
    #[arg(long)]
    pub(crate) all: bool,
    /// End after this many results.
    #[arg(long, short = 'n', value_name = "N")]
    pub(crate) count: Option<u64>,
    /// Results as they are, a line each.
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
    /// The packs that Facewire knows, and which are installed.
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
        /// You have read the pack's licence and it allows what you do.
        #[arg(long)]
        accept_license: bool,
        /// The archive, if you have it already.
        #[arg(long, value_name = "FILE.zip")]
        from: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Faces {
    #[command(subcommand)]
    pub(crate) command: FacesCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum FacesCommand {
    /// Compare every face in Postgres with its point in Qdrant. Exit status 3 if something is left to mend.
    FindOrphans(FindOrphans),
}

#[derive(Debug, Args)]
pub(crate) struct FindOrphans {
    /// Repair what is found.
    #[arg(long)]
    pub(crate) fix: bool,
    /// Stop after this many differences.
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<u64>,
    /// A point without a face is removed only if it still has none after this long (configuration: reconciler.grace).
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) grace: Option<Duration>,
    /// Faces checked in a second, at most (configuration: reconciler.rate).
    #[arg(long, value_name = "N")]
    pub(crate) rate: Option<u32>,
    /// With --fix: wait this long for a reconciler that is at work.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "1m")]
    pub(crate) patience: Duration,
    /// Remove however many points have no face, or are of another model.
    #[arg(long)]
    pub(crate) allow_mass_removal: bool,
    /// One JSON object.
    #[arg(long)]
    pub(crate) json: bool,
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
    /// Wait this long for a reconciler that is at work.
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
    /// One JSON object.
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
    /// Crops a second end to end, against the same work in a bare loop on all cores.
    Pipeline(PipelineBench),
    /// The chain with traces, metrics and logs exported, against the same chain without.
    Telemetry {
        /// Crops to send on each side.
        #[arg(long, default_value_t = 4_000)]
        crops: usize,
    },
    /// The chain with a model that costs nothing, against one JetStream hop with the same payload.
    Bus {
        /// Crops to send.
        #[arg(long, default_value_t = 20_000)]
        crops: usize,
    },
    /// Faces a second, against bare ONNX Runtime at its best batch and threads.
    Embed {
        /// Faces to embed, at least. Each side runs for 10 seconds or more.
        #[arg(long, default_value_t = 600)]
        faces: usize,
    },
    /// Pictures a second through `facewire evaluate`, against the same work in a bare loop on all cores.
    Evaluate {
        /// Pictures of your own; the samples otherwise.
        #[arg(long = "pictures", value_name = "DIR")]
        folder: Option<PathBuf>,
        /// Pictures to look at, several times over.
        #[arg(long, default_value_t = 200)]
        count: usize,
    },
}

fn duration(text: &str) -> Result<Duration, humantime::DurationError> {
    humantime::parse_duration(text)
}
