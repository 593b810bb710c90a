//! The command line: arguments and help texts. The commands themselves are in `commands`.

#[cfg(feature = "local")]
mod bench;
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

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand};
use facewire_domain::{CameraId, CollectionId};
use facewire_store_pg::RolePrefix;

#[cfg(feature = "local")]
pub(crate) use bench::{Bench, BenchCommand, HttpBench, MixName, PipelineBench};
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

impl Cli {
    /// What this process was given. Wrong usage ends it, with status 2.
    pub(crate) fn read() -> Self {
        Self::parse().checked().unwrap_or_else(|error| error.exit())
    }

    /// What arguments cannot say of each other by themselves.
    fn checked(self) -> Result<Self, clap::Error> {
        let why = match &self.command {
            Command::Run(args) => crate::commands::run::misused(args),
            _ => None,
        };
        match why {
            Some(why) => Err(Self::command().error(ErrorKind::ArgumentConflict, why)),
            None => Ok(self),
        }
    }
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
    #[command(
        after_help = "A server that is named or configured is used, unless a port for a local one is given. Beside one that is \
                      configured, no local one is started without its port. With a PostgreSQL of yours, images are kept where \
                      images.url says, and nowhere without it."
    )]
    Up(Up),
    /// Run one or more services against existing servers.
    Run(Run),
    /// Create or update the database schema, the streams and the vector index.
    #[command(after_help = "The schema's part has no limit of time. Ended early it is undone, and begins anew.")]
    Migrate(Migrate),
    /// Demonstrate the whole chain on real faces: start, enrol, simulate cameras, report.
    #[cfg(feature = "local")]
    #[command(after_help = "It runs on local servers of its own, whatever servers are named or configured.")]
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
    #[command(after_help = "It runs on local servers of its own, whatever servers are named or configured.")]
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
    #[arg(
        required = true,
        value_name = "SERVICE",
        value_parser = crate::commands::run::known,
        help = crate::commands::run::names()
    )]
    pub(crate) services: Vec<String>,
    /// Address for /livez, /readyz, /startupz and /metrics (configuration: health.listen).
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) health: Option<std::net::SocketAddr>,
    /// For `qdrant` only: the address to listen on (default: 127.0.0.1:6334).
    #[cfg(feature = "local")]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<std::net::SocketAddr>,
}

#[derive(Debug, Args)]
pub(crate) struct Migrate {
    /// Show what would be created or changed, and change nothing. Exit status 3 if there is something.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Postgres: also make the group role of each service and give it its rights. Rights that this release does not list stay, and
    /// are shown: the release before may still use them. Needs a user with CREATEROLE.
    #[arg(long)]
    pub(crate) roles: bool,
    /// Also take away the rights that this release does not list: when the rollout has ended, and nobody wants to go back.
    #[arg(long, requires = "roles")]
    pub(crate) revoke: bool,
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
    pub(crate) collection: CollectionId,
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
    pub(crate) camera: CameraId,
    /// The collection to match against.
    #[arg(long, default_value = "default")]
    pub(crate) collection: CollectionId,
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
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) repeat: u32,
    /// Use the current time as the capture time. Otherwise it is the file's modification time, so that the same file
    /// published twice by the same camera is the same crop and has one result.
    #[arg(long)]
    pub(crate) now: bool,
    /// Maximum crops per second.
    #[arg(long, value_name = "N", value_parser = rate)]
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
    pub(crate) collection: Option<CollectionId>,
    /// Only this camera.
    #[arg(long)]
    pub(crate) camera: Option<CameraId>,
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
    pub(crate) collection: Option<CollectionId>,
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
    /// The pack that is to serve; `facewire models install` puts it in place. The same again goes on with a run that was interrupted.
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

fn duration(text: &str) -> Result<Duration, humantime::DurationError> {
    humantime::parse_duration(text)
}

fn rate(text: &str) -> Result<f64, &'static str> {
    let rate = text.parse().ok().filter(|rate: &f64| rate.is_finite() && *rate > 0.0);
    rate.ok_or("a number of crops a second above 0")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(["facewire"].into_iter().chain(line.split_ascii_whitespace()))?.checked()
    }

    #[test]
    fn wrong_usage_is_told_before_anything_runs() {
        for line in [
            "publish --camera door-1 photos",
            "publish --camera door-1 --repeat 2 --rate 0.5 photos",
            "enroll --person Ada --collection office ada.jpg",
            "watch --collection office --camera door-1",
            "run ingest embed-gpu",
        ] {
            read(line).unwrap();
        }
        for line in [
            "publish --camera a.b photos",
            "publish --camera door-1 --collection a.b photos",
            "publish --camera door-1 --repeat 0 photos",
            "publish --camera door-1 --rate 0 photos",
            "publish --camera door-1 --rate inf photos",
            "enroll --person Ada --collection a.b ada.jpg",
            "watch --camera >",
            "stats --collection a.b",
            "run nosuch",
        ] {
            assert_eq!(read(line).unwrap_err().exit_code(), 2, "{line}");
        }
    }

    #[cfg(feature = "local")]
    #[test]
    fn the_vector_engine_runs_alone_and_nothing_else_takes_its_arguments() {
        for line in ["run qdrant", "run qdrant --listen 127.0.0.1:7000"] {
            read(line).unwrap();
        }
        for line in ["run ingest --listen 127.0.0.1:7000", "run qdrant ingest", "run qdrant --health 127.0.0.1:7000"] {
            assert_eq!(read(line).unwrap_err().exit_code(), 2, "{line}");
        }
    }
}
