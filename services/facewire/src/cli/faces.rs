//! The arguments of `facewire faces`: which commands there are, clusters by hand, counts, and the vector index against
//! Postgres. Those of the commands that start a job are in `face_jobs`.

use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand, value_parser};
use facewire_domain::{ClusterParams, CollectionId, SubjectId};
use uuid::Uuid;

use super::duration;
use super::face_jobs::{AssignFaces, Centroids, ClusterDual, ClusterFaces, ExportFaces};
use super::heads::{ListHeads, TrainMatching};
use super::use_head::UseHead;

#[derive(Debug, Args)]
pub(crate) struct Faces {
    #[command(subcommand)]
    pub(crate) command: FacesCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum FacesCommand {
    /// Group the faces that are nobody's (a job): clusters that are still the same keep their ids. All that nobody has named are found
    /// anew, so what was split by hand may become one cluster again.
    Cluster(ClusterFaces),
    /// Give faces to known people by their prototypes, then group what is left (a job).
    ClusterDual(ClusterDual),
    /// Give faces that are nobody's to known people (a job); the rest joins the nearest unlabelled clusters.
    Assign(AssignFaces),
    /// Choose the prototypes of people anew (a job): exemplars and a centroid. The jobs service does it after every
    /// change by itself.
    Centroids(Centroids),
    /// Train a projection head on the confirmed faces of people (a job), and judge it by people whom it has never seen. Exit status 3
    /// if it was waited for and the head is refused.
    TrainMatching(TrainMatching),
    /// Write everybody and every face of a collection as lines of JSON into a file, or have a job keep them for the API.
    Export(ExportFaces),
    /// List projection heads, the newest first, or show one with all of its numbers.
    Heads(ListHeads),
    /// List clusters, the largest first.
    Clusters(ListClusters),
    /// Name a cluster: its faces become one person's.
    Label(LabelCluster),
    /// Split a cluster where it falls apart. The next `faces cluster` finds clusters anew and may join the parts again: name them before.
    Split(SplitCluster),
    /// List what jobs, labels and splits did with many faces at once, the newest first.
    Acts(ListActs),
    /// Take back what a job, a label or a split did. What somebody changed since stays.
    Undo(UndoAct),
    /// Bring the gallery behind a projection head, or back to the pack's own embeddings. No image is needed: stored embeddings are
    /// projected while searches go on, and the switch comes when none is missing.
    UseHead(UseHead),
    /// Count faces: whose they are, in clusters, noise; clusters, people, prototypes.
    Stats(CountFaces),
    /// Write the points of all faces that wait for it, now. Exit status 3 if some are left.
    Backfill(Backfill),
    /// Create the vector index of the configured model pack, or complete it; `facewire migrate` does it too.
    EnsureCollection(EnsureCollection),
    /// Compare every face in Postgres with its point in Qdrant. Exit status 3 if a difference remains, or --limit left faces uncompared.
    FindOrphans(FindOrphans),
}

/// Where a command on clusters works, and how it answers.
#[derive(Debug, Args)]
pub(crate) struct OnClusters {
    /// The collection.
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub(crate) collection: CollectionId,
    /// One JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ListClusters {
    /// Clusters that were labelled, too.
    #[arg(long)]
    pub(crate) labelled: bool,
    /// Which page, from 1.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u32).range(1..))]
    pub(crate) page: u32,
    /// Clusters of a page.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = value_parser!(u32).range(1..=1000))]
    pub(crate) page_size: u32,
    #[command(flatten)]
    pub(crate) on: OnClusters,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("whose").required(true))]
pub(crate) struct LabelCluster {
    /// The cluster, as `facewire faces clusters` lists it.
    #[arg(value_name = "CLUSTER_ID")]
    pub(crate) cluster: String,
    /// The person's name, whatever its case; a person of this name is made unless there is one.
    #[arg(long, group = "whose", value_parser = person_name)]
    pub(crate) name: Option<String>,
    /// The external id of a person that exists.
    #[arg(long, value_name = "ID", group = "whose")]
    pub(crate) person: Option<SubjectId>,
    /// Count only, and change nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) on: OnClusters,
}

#[derive(Debug, Args)]
pub(crate) struct SplitCluster {
    /// The cluster, as `facewire faces clusters` lists it.
    #[arg(value_name = "CLUSTER_ID")]
    pub(crate) cluster: String,
    /// Faces of each part, at least.
    #[arg(
        long, value_name = "N", default_value_t = ClusterParams::default().min_cluster_size,
        value_parser = value_parser!(u32).range(2..)
    )]
    pub(crate) min_cluster_size: u32,
    /// Tell its parts only, and change nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) on: OnClusters,
}

#[derive(Debug, Args)]
pub(crate) struct ListActs {
    /// Only of this collection.
    #[arg(long, value_name = "NAME")]
    pub(crate) collection: Option<CollectionId>,
    /// Acts at most.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = value_parser!(u32).range(1..=1000))]
    pub(crate) limit: u32,
    /// One JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct UndoAct {
    /// The act, as `facewire faces acts` lists it.
    #[arg(value_name = "ACT_ID")]
    pub(crate) act: Uuid,
    /// One JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CountFaces {
    /// Only this collection.
    #[arg(long, value_name = "NAME")]
    pub(crate) collection: Option<CollectionId>,
    /// One JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Backfill {
    /// One JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct EnsureCollection {
    /// One JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct FindOrphans {
    /// Repair the differences.
    #[arg(long)]
    pub(crate) fix: bool,
    /// Stop after this many differences.
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<u64>,
    /// Remove a point without a face only if it still has none after this time (configuration: reconciler.grace).
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) grace: Option<Duration>,
    /// Maximum faces checked per second (configuration: reconciler.rate).
    #[arg(long, value_name = "N")]
    pub(crate) rate: Option<u32>,
    /// With --fix: how long to wait for a running reconciler.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "1m")]
    pub(crate) patience: Duration,
    /// Remove however many points have no face, or are of another model.
    #[arg(long)]
    pub(crate) allow_mass_removal: bool,
    /// One JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

fn person_name(text: &str) -> Result<String, String> {
    let name = text.trim();
    if name.is_empty() { Err("a name that is not empty".to_owned()) } else { Ok(name.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::faces;

    #[test]
    fn a_cluster_is_labelled_by_a_name_or_as_a_person_that_exists() {
        let FacesCommand::Label(label) = faces("label clu_0123456789ab --name Ada --dry-run").unwrap() else {
            panic!()
        };
        assert_eq!((label.name.as_deref(), label.person, label.dry_run), (Some("Ada"), None, true));
        assert_eq!(label.on.collection.as_str(), "default");
        let FacesCommand::Label(label) = faces("label clu_1 --person 17 --collection office").unwrap() else {
            panic!()
        };
        assert_eq!((label.name, label.person.unwrap().as_str()), (None, "17"));
        for wrong in ["label clu_1", "label --name Ada", "label clu_1 --name Ada --person 17"] {
            assert!(faces(wrong).is_err(), "{wrong}");
        }
        assert!(person_name("  ").is_err());
    }

    #[test]
    fn parts_of_a_cluster_and_pages_have_a_least_size() {
        let FacesCommand::Split(split) = faces("split clu_1").unwrap() else { panic!() };
        assert_eq!(split.min_cluster_size, ClusterParams::default().min_cluster_size);
        for well in [
            "split clu_1 --min-cluster-size 2 --dry-run",
            "clusters --labelled --page 2 --page-size 100",
            "stats --json",
            "acts --limit 5 --json",
        ] {
            assert!(faces(well).is_ok(), "{well}");
        }
        for wrong in
            ["split clu_1 --min-cluster-size 1", "split", "clusters --page 0", "acts --limit 0", "undo 7", "undo"]
        {
            assert!(faces(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_index_has_its_commands() {
        let FacesCommand::FindOrphans(orphans) = faces("find-orphans --fix --grace 5s").unwrap() else { panic!() };
        assert_eq!((orphans.fix, orphans.grace), (true, Some(Duration::from_secs(5))));
        for well in ["backfill", "backfill --json", "ensure-collection --json", "find-orphans --rate 100"] {
            assert!(faces(well).is_ok(), "{well}");
        }
        assert!(faces("backfill --collection office").is_err(), "the index is of all collections");
    }
}
