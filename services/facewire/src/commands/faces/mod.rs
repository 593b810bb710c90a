//! `facewire faces`: from faces to people, by jobs and by hand, and the vector index against Postgres. What each job
//! does is the jobs service's, what is done by hand the gallery's.

mod acts;
mod backfill;
mod clusters;
mod export;
mod heads;
mod index;
mod orphans;
mod stats;
mod use_head;

use facewire_composition::Config;
use facewire_domain::JobKind;
use serde::Serialize;

use super::jobs::{self, NewJob};
use crate::cli::{FacesCommand, StartJob, Waiting};
use crate::output::Exit;

pub(crate) use orphans::rebuild;

/// As connections, rows and the audit trail name it.
const COMMAND: &str = "faces";

pub(crate) async fn run(config: Config, command: &FacesCommand) -> anyhow::Result<Exit> {
    match command {
        FacesCommand::Cluster(args) => {
            start(&config, JobKind::Cluster, &args.params()?, &args.start, args.start.waiting).await
        }
        FacesCommand::ClusterDual(args) => {
            start(&config, JobKind::Cluster, &args.params()?, &args.start, args.waiting()).await
        }
        FacesCommand::Assign(args) => {
            start(&config, JobKind::Assign, &args.params()?, &args.start, args.start.waiting).await
        }
        FacesCommand::Centroids(args) => {
            start(&config, JobKind::Prototypes, &args.params()?, &args.start, args.start.waiting).await
        }
        FacesCommand::TrainMatching(args) => heads::train(&config, args).await,
        FacesCommand::Export(args) => export::run(&config, args).await,
        FacesCommand::Heads(args) => heads::list(&config, args).await,
        FacesCommand::Clusters(args) => clusters::list(&config, args).await,
        FacesCommand::Label(args) => clusters::label(&config, args).await,
        FacesCommand::Split(args) => clusters::split(&config, args).await,
        FacesCommand::Acts(args) => acts::list(&config, args).await,
        FacesCommand::Undo(args) => clusters::undo(&config, args).await,
        FacesCommand::UseHead(args) => use_head::run(&config, args).await,
        FacesCommand::Stats(args) => stats::run(&config, args).await,
        FacesCommand::Backfill(args) => backfill::run(&config, args).await,
        FacesCommand::EnsureCollection(args) => index::run(&config, args).await,
        FacesCommand::FindOrphans(args) => orphans::find_orphans(config, args).await,
    }
}

async fn start(
    config: &Config,
    kind: JobKind,
    params: &impl Serialize,
    args: &StartJob,
    waiting: Waiting,
) -> anyhow::Result<Exit> {
    let params = serde_json::to_value(params)?;
    let (collection, json) = (&args.collection, args.json);
    jobs::start(config, NewJob { command: COMMAND, kind, collection, params, waiting, json }).await
}
