//! The arguments of the commands of `facewire faces` that start a job, and what the job is told. Ranges are those of
//! the domain's parameters, which check them again.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{ArgGroup, Args, value_parser};
use facewire_domain::job::{MAX_EXEMPLARS, MAX_MIN_SAMPLES};
use facewire_domain::{
    AssignParams, ClusterMethod, ClusterParams, CollectionId, ParamError, PersonId, PrototypesParams, SubjectId,
};
use time::OffsetDateTime;

use super::dead::moment;
use super::jobs::Waiting;

/// Where a job works, and what its command does then.
#[derive(Debug, Args)]
pub(crate) struct StartJob {
    /// The collection.
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub(crate) collection: CollectionId,
    #[command(flatten)]
    pub(crate) waiting: Waiting,
    /// One JSON object: the job.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ClusterFaces {
    /// Leave out faces whose quality score is lower, 0 to 1.
    #[arg(long, value_name = "SCORE", value_parser = score)]
    pub(crate) quality_threshold: Option<f32>,
    /// Maximum number of faces, the newest first.
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..))]
    pub(crate) max_faces: Option<u64>,
    /// Faces of a cluster, at least.
    #[arg(
        long, value_name = "N", default_value_t = ClusterParams::default().min_cluster_size,
        value_parser = value_parser!(u32).range(2..)
    )]
    pub(crate) min_cluster_size: u32,
    /// Faces within reach, itself among them, that make a place dense (hdbscan, dbscan).
    #[arg(
        long, value_name = "N", default_value_t = ClusterParams::default().min_samples,
        value_parser = value_parser!(u32).range(1..=i64::from(MAX_MIN_SAMPLES))
    )]
    pub(crate) min_samples: u32,
    /// Euclidean distance of unit vectors, 0 to 2: the selection epsilon of hdbscan, the reach of dbscan, the cut of
    /// agglomerative. Without it, the method's default, which was measured with the default model pack alone: behind another
    /// pack or a projection head, try others with --dry-run.
    #[arg(long, value_name = "DISTANCE", value_parser = distance)]
    pub(crate) epsilon: Option<f64>,
    /// Cosine similarity of a face to the mean of its cluster, -1 to 1, below which it leaves it. Without it, the method's
    /// default, measured as that of --epsilon.
    #[arg(long, value_name = "SIMILARITY", allow_negative_numbers = true, value_parser = similarity)]
    pub(crate) cohesion: Option<f32>,
    /// hdbscan, dbscan or agglomerative (for some 10,000 faces at most).
    #[arg(long, default_value_t = ClusterParams::default().method)]
    pub(crate) method: ClusterMethod,
    /// For hdbscan: more and smaller clusters, the leaves of its tree, instead of the most stable ones.
    #[arg(long)]
    pub(crate) leaf: bool,
    /// Only faces captured then or later: `24h` for a day ago, or an RFC 3339 time.
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    pub(crate) since: Option<OffsetDateTime>,
    /// Only faces captured before.
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    pub(crate) until: Option<OffsetDateTime>,
    /// Count only, and change nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) start: StartJob,
}

impl ClusterFaces {
    /// As the job is told, and checked.
    pub(crate) fn params(&self) -> Result<ClusterParams, ParamError> {
        let params = ClusterParams {
            method: self.method,
            min_cluster_size: self.min_cluster_size,
            min_samples: self.min_samples,
            epsilon: self.epsilon,
            cohesion: self.cohesion,
            leaf: self.leaf,
            quality_threshold: self.quality_threshold,
            max_faces: self.max_faces,
            since: self.since,
            until: self.until,
            dry_run: self.dry_run,
            ..ClusterParams::default()
        };
        params.check().map(|()| params)
    }
}

#[derive(Debug, Args)]
pub(crate) struct ClusterDual {
    /// Similarity from which a face is a known person's, -1 to 1. Without it, by error rate, as matching decides.
    #[arg(long, value_name = "SIMILARITY", allow_negative_numbers = true, value_parser = similarity)]
    pub(crate) person_threshold: Option<f32>,
    /// How the rest is grouped: hdbscan, dbscan or agglomerative.
    #[arg(long, value_name = "METHOD", default_value_t = ClusterParams::default().method)]
    pub(crate) unknown_method: ClusterMethod,
    /// Faces of a cluster, at least.
    #[arg(
        long, value_name = "N", default_value_t = ClusterParams::default().min_cluster_size,
        value_parser = value_parser!(u32).range(2..)
    )]
    pub(crate) unknown_min_cluster_size: u32,
    /// Euclidean distance of unit vectors, 0 to 2, as --epsilon of `faces cluster`.
    #[arg(long, value_name = "DISTANCE", value_parser = distance)]
    pub(crate) unknown_eps: Option<f64>,
    /// Maximum number of faces, the newest first.
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..))]
    pub(crate) max_faces: Option<u64>,
    /// Count only, and change nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// The same as --no-wait.
    #[arg(long, conflicts_with = "wait")]
    pub(crate) queue: bool,
    #[command(flatten)]
    pub(crate) start: StartJob,
}

impl ClusterDual {
    /// As the job is told, and checked.
    pub(crate) fn params(&self) -> Result<ClusterParams, ParamError> {
        let params = ClusterParams {
            assign_known: true,
            person_threshold: self.person_threshold,
            method: self.unknown_method,
            min_cluster_size: self.unknown_min_cluster_size,
            epsilon: self.unknown_eps,
            max_faces: self.max_faces,
            dry_run: self.dry_run,
            ..ClusterParams::default()
        };
        params.check().map(|()| params)
    }

    /// Whether to wait, with `--queue` counted.
    pub(crate) fn waiting(&self) -> Waiting {
        Waiting { no_wait: self.start.waiting.no_wait || self.queue, ..self.start.waiting }
    }
}

#[derive(Debug, Args)]
pub(crate) struct AssignFaces {
    /// Only faces stored then or later: `24h` for a day ago, or an RFC 3339 time.
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    pub(crate) since: Option<OffsetDateTime>,
    /// Similarity from which a face is a known person's, -1 to 1. Without it, by error rate, as matching decides.
    #[arg(long, value_name = "SIMILARITY", allow_negative_numbers = true, value_parser = similarity)]
    pub(crate) threshold: Option<f32>,
    /// By how much the second person has to be less similar, 0 to 2. Without it, as matching decides.
    #[arg(long, value_name = "DIFFERENCE", value_parser = margin)]
    pub(crate) margin: Option<f32>,
    /// Leave out faces whose quality score is lower, 0 to 1.
    #[arg(long, value_name = "SCORE", value_parser = score)]
    pub(crate) quality_threshold: Option<f32>,
    /// Leave the faces that are nobody's where they are: they join no cluster.
    #[arg(long)]
    pub(crate) no_join: bool,
    /// Count only, and change nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) start: StartJob,
}

impl AssignFaces {
    /// As the job is told, and checked.
    pub(crate) fn params(&self) -> Result<AssignParams, ParamError> {
        let params = AssignParams {
            threshold: self.threshold,
            margin: self.margin,
            since: self.since,
            quality_threshold: self.quality_threshold,
            join_clusters: !self.no_join,
            dry_run: self.dry_run,
        };
        params.check().map(|()| params)
    }
}

#[derive(Debug, Args)]
pub(crate) struct Centroids {
    /// Only of this person, by external id.
    #[arg(long, value_name = "ID")]
    pub(crate) person: Option<SubjectId>,
    /// Exemplars of a person, at most. It holds until the person's next change, when the jobs service chooses jobs.exemplars (in the
    /// configuration) anew: set that to keep another number.
    #[arg(
        long, value_name = "N", default_value_t = PrototypesParams::default().exemplars,
        value_parser = value_parser!(u32).range(1..=i64::from(MAX_EXEMPLARS))
    )]
    pub(crate) exemplars: u32,
    #[command(flatten)]
    pub(crate) start: StartJob,
}

impl Centroids {
    /// As the job is told, and checked.
    pub(crate) fn params(&self) -> Result<PrototypesParams, ParamError> {
        let person = self.person.as_ref().map(|person| PersonId::derive(&self.start.collection, person));
        let params = PrototypesParams { person, exemplars: self.exemplars };
        params.check().map(|()| params)
    }
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("target").required(true))]
pub(crate) struct ExportFaces {
    /// With the embeddings of the faces.
    #[arg(long)]
    pub(crate) vectors: bool,
    /// Write them now, into this file, which must not exist yet: a line a person, then a line a face, then one with their numbers.
    #[arg(long, value_name = "FILE", group = "target", conflicts_with_all = ["wait", "no_wait"])]
    pub(crate) out: Option<PathBuf>,
    /// Have a job of the jobs service keep them in the object store, until they expire (configuration: jobs.export_retention), four
    /// newer exports of the collection are there or something is erased from it.
    #[arg(long, group = "target")]
    pub(crate) queue: bool,
    #[command(flatten)]
    pub(crate) start: StartJob,
}

fn within<T: FromStr + PartialOrd>(text: &str, range: RangeInclusive<T>, what: &str) -> Result<T, String> {
    text.parse().ok().filter(|value| range.contains(value)).ok_or_else(|| what.to_owned())
}

fn similarity(text: &str) -> Result<f32, String> {
    within(text, -1.0..=1.0, "a cosine similarity from -1 to 1")
}

fn margin(text: &str) -> Result<f32, String> {
    within(text, 0.0..=2.0, "a difference of cosine similarities from 0 to 2")
}

pub(super) fn score(text: &str) -> Result<f32, String> {
    within(text, 0.0..=1.0, "a quality score from 0 to 1")
}

fn distance(text: &str) -> Result<f64, String> {
    within(text, 0.0..=2.0, "a Euclidean distance of unit vectors from 0 to 2")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::FacesCommand;
    use crate::cli::testing::faces;

    #[test]
    fn what_is_not_said_is_as_the_domain_has_it() {
        let FacesCommand::Cluster(cluster) = faces("cluster").unwrap() else { panic!() };
        assert_eq!(cluster.params().unwrap(), ClusterParams::default());
        let FacesCommand::ClusterDual(dual) = faces("cluster-dual").unwrap() else { panic!() };
        assert_eq!(dual.params().unwrap(), ClusterParams { assign_known: true, ..ClusterParams::default() });
        let FacesCommand::Assign(assign) = faces("assign").unwrap() else { panic!() };
        assert_eq!(assign.params().unwrap(), AssignParams::default());
        let FacesCommand::Centroids(centroids) = faces("centroids").unwrap() else { panic!() };
        assert_eq!(centroids.params().unwrap(), PrototypesParams::default());
        assert_eq!(centroids.start.collection.as_str(), "default");
    }

    #[test]
    fn what_is_said_reaches_the_job() {
        let line = "cluster --quality-threshold 0.5 --max-faces 1000 --min-cluster-size 4 --min-samples 2 \
                    --epsilon 0.9 --cohesion -0.1 --method dbscan --leaf --since 2026-01-31T12:00:00Z \
                    --until 2026-02-01T12:00:00Z --dry-run --collection office --no-wait";
        let FacesCommand::Cluster(cluster) = faces(line).unwrap() else { panic!() };
        let params = cluster.params().unwrap();
        assert_eq!((params.quality_threshold, params.max_faces), (Some(0.5), Some(1000)));
        assert_eq!((params.min_cluster_size, params.min_samples, params.epsilon), (4, 2, Some(0.9)));
        assert_eq!((params.method, params.leaf, params.dry_run), (ClusterMethod::Dbscan, true, true));
        assert_eq!(params.cohesion, Some(-0.1));
        assert_eq!(params.until.unwrap() - params.since.unwrap(), time::Duration::DAY);
        assert!(!cluster.start.waiting.wanted(true));

        let line = "cluster-dual --person-threshold 0.7 --unknown-method agglomerative --unknown-min-cluster-size 3 \
                    --unknown-eps 1.1 --max-faces 50 --queue";
        let FacesCommand::ClusterDual(dual) = faces(line).unwrap() else { panic!() };
        let params = dual.params().unwrap();
        assert_eq!((params.assign_known, params.person_threshold), (true, Some(0.7)));
        assert_eq!((params.method, params.min_cluster_size), (ClusterMethod::Agglomerative, 3));
        assert_eq!((params.epsilon, params.max_faces), (Some(1.1), Some(50)));
        assert!(!dual.waiting().wanted(true), "queued only");

        let line = "assign --since 1h --threshold -0.1 --margin 0.05 --quality-threshold 0.25 --no-join --wait";
        let FacesCommand::Assign(assign) = faces(line).unwrap() else { panic!() };
        let params = assign.params().unwrap();
        assert_eq!((params.threshold, params.margin, params.join_clusters), (Some(-0.1), Some(0.05), false));
        assert!(params.since.is_some() && assign.start.waiting.wanted(false));

        let line = "centroids --person 17 --exemplars 5 --collection office";
        let FacesCommand::Centroids(centroids) = faces(line).unwrap() else { panic!() };
        let person = PersonId::derive(&"office".parse().unwrap(), &"17".parse().unwrap());
        assert_eq!(centroids.params().unwrap(), PrototypesParams { person: Some(person), exemplars: 5 });
    }

    #[test]
    fn an_export_goes_into_a_file_or_is_a_job() {
        let FacesCommand::Export(export) = faces("export --out faces.ndjson --collection office").unwrap() else {
            panic!()
        };
        assert_eq!((export.out, export.queue, export.vectors), (Some("faces.ndjson".into()), false, false));
        assert_eq!(export.start.collection.as_str(), "office");
        let FacesCommand::Export(export) = faces("export --queue --vectors --no-wait").unwrap() else { panic!() };
        assert_eq!((export.out, export.queue, export.vectors), (None, true, true));
        assert!(!export.start.waiting.wanted(true));
        for wrong in ["export", "export --out a --queue", "export --out a --wait"] {
            assert!(faces(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_out_of_range_is_wrong_usage() {
        assert!(faces("cluster --method kmeans").unwrap_err().to_string().contains("agglomerative"));
        for wrong in [
            "cluster --min-cluster-size 1",
            "cluster --min-samples 0",
            "cluster --min-samples 257",
            "cluster --epsilon 2.1",
            "cluster --quality-threshold NaN",
            "cluster --max-faces 0",
            "cluster --since lately",
            "cluster --wait --no-wait",
            "cluster-dual --person-threshold 1.5",
            "cluster-dual --queue --wait",
            "assign --margin -0.1",
            "centroids --exemplars 17",
        ] {
            assert!(faces(wrong).is_err(), "{wrong}");
        }
        let FacesCommand::Cluster(cluster) = faces("cluster --since 1h --until 2h").unwrap() else { panic!() };
        assert_eq!(cluster.params().unwrap_err().field, "until");
    }
}
