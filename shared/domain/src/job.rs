//! Long work on a collection: its kinds, its states, and what each kind is told to do. Which job runs, where and how
//! far it came is of the store and the jobs service.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::ids::PersonId;

/// Largest `min_samples`: each face keeps as many neighbours in memory.
pub const MAX_MIN_SAMPLES: u32 = 256;

/// Most exemplars of a person.
pub const MAX_EXEMPLARS: u32 = 16;

/// Exemplars of a person where nobody says otherwise, 1 to [`MAX_EXEMPLARS`].
pub const EXEMPLARS: u32 = 3;

/// HDBSCAN's selection epsilon where none is given, a Euclidean distance between unit vectors: measured, see
/// ARCHITECTURE "Evidence".
pub const HDBSCAN_EPSILON: f64 = 0.875;

/// HDBSCAN's cohesion where none is given, a cosine similarity: measured, see ARCHITECTURE "Evidence".
pub const HDBSCAN_COHESION: f32 = 0.55;

/// DBSCAN's neighbourhood where none is given, a Euclidean distance between unit vectors: measured, see ARCHITECTURE
/// "Evidence".
pub const DBSCAN_EPSILON: f64 = 0.925;

/// Where average linkage is cut if nothing else is given, a Euclidean distance between unit vectors: measured, see
/// ARCHITECTURE "Evidence".
pub const AGGLOMERATIVE_EPSILON: f64 = 1.1;

/// A text that is none of a list of words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no such {what}; there are {words}")]
pub struct UnknownWord {
    /// What the word was for.
    pub what: &'static str,
    /// The words that there are, with commas between them.
    pub words: String,
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident, $what:literal, { $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $text)] $variant),+ }

        impl $name {
            /// All of them, in order.
            pub const ALL: [Self; [$($text),+].len()] = [$(Self::$variant),+];

            /// As rows, subjects and JSON write it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = UnknownWord;
            fn from_str(text: &str) -> Result<Self, UnknownWord> {
                let found = Self::ALL.into_iter().find(|word| word.as_str() == text);
                found.ok_or_else(|| UnknownWord { what: $what, words: Self::ALL.map(Self::as_str).join(", ") })
            }
        }
    };
}

words!(
    /// What a job does.
    JobKind, "kind of job", {
        /// Groups the faces that are nobody's ([`ClusterParams`]).
        Cluster = "cluster",
        /// Gives the faces that are nobody's to known people ([`AssignParams`]).
        Assign = "assign",
        /// Chooses exemplars and centroids of people ([`PrototypesParams`]).
        Prototypes = "prototypes",
        /// Trains a projection head on the faces of people ([`TrainParams`](crate::TrainParams)).
        Train = "train",
        /// Erases, for good ([`EraseParams`](crate::EraseParams)).
        Erase = "erase",
        /// Writes everybody and every face into the object store ([`ExportParams`](crate::ExportParams)).
        Export = "export",
    }
);

words!(
    /// Where a job is: queued → running → one of the three ends. A failed or cancelled one can be queued again.
    JobState, "state of a job", {
        /// Waits for a worker.
        Queued = "queued",
        /// At a worker, or at one that died and whose lease has not ended yet.
        Running = "running",
        /// Has its result.
        Succeeded = "succeeded",
        /// Has its error.
        Failed = "failed",
        /// Somebody stopped it.
        Cancelled = "cancelled",
    }
);

impl JobState {
    /// Whether nothing more happens to it by itself.
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

words!(
    /// How faces are grouped.
    ClusterMethod, "method of clustering", {
        /// By density, over all scales.
        Hdbscan = "hdbscan",
        /// By density, at one distance.
        Dbscan = "dbscan",
        /// By average linkage, cut at one distance. For some 10,000 faces at most.
        Agglomerative = "agglomerative",
    }
);

pub(crate) use words;

/// A parameter of a job is outside its range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {what}")]
pub struct ParamError {
    /// Its name as JSON writes it.
    pub field: &'static str,
    /// What it has to be.
    pub what: &'static str,
}

pub(crate) fn demand(holds: bool, field: &'static str, what: &'static str) -> Result<(), ParamError> {
    if holds { Ok(()) } else { Err(ParamError { field, what }) }
}

/// A cosine similarity; what is not a number is none.
fn is_similarity(value: f32) -> bool {
    (-1.0..=1.0).contains(&value)
}

fn check_quality(threshold: Option<f32>) -> Result<(), ParamError> {
    demand(threshold.is_none_or(|score| (0.0..=1.0).contains(&score)), "qualityThreshold", "a quality score, 0 to 1")
}

/// What a [`JobKind::Cluster`] job is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ClusterParams {
    /// Dual mode: first gives faces to known people, and groups what is left.
    pub assign_known: bool,
    /// The cosine similarity from which a face is a known person's, −1 to 1, in dual mode; none: by error rate, as the
    /// rules of the collection say.
    pub person_threshold: Option<f32>,
    /// How faces are grouped.
    pub method: ClusterMethod,
    /// Faces of a cluster, at least; from 2.
    pub min_cluster_size: u32,
    /// Faces within reach, itself among them, from which a face is in a dense place: 1 to 256. Not for average linkage.
    pub min_samples: u32,
    /// A Euclidean distance between unit vectors, 0 to 2: HDBSCAN's selection epsilon, DBSCAN's neighbourhood, the cut
    /// of average linkage; 0 of HDBSCAN alone. None: the method's default.
    pub epsilon: Option<f64>,
    /// The cosine similarity of a face to the mean of its cluster, −1 to 1, below which it leaves the cluster. None: the
    /// method's default. Not for a clustering that is approximate.
    pub cohesion: Option<f32>,
    /// HDBSCAN takes the leaves of its tree (more and smaller clusters) instead of the most stable clusters.
    pub leaf: bool,
    /// Faces whose `quality.score` is below are left out; 0 to 1.
    pub quality_threshold: Option<f32>,
    /// Faces at most, the newest first; from 1.
    pub max_faces: Option<u64>,
    /// Only faces captured from then on.
    #[serde(with = "crate::moment::option")]
    pub since: Option<OffsetDateTime>,
    /// Only faces captured before.
    #[serde(with = "crate::moment::option")]
    pub until: Option<OffsetDateTime>,
    /// Only counts; nothing is written.
    pub dry_run: bool,
}

impl Default for ClusterParams {
    fn default() -> Self {
        Self {
            assign_known: false,
            person_threshold: None,
            method: ClusterMethod::Hdbscan,
            min_cluster_size: 3,
            min_samples: 3,
            epsilon: None,
            cohesion: None,
            leaf: false,
            quality_threshold: None,
            max_faces: None,
            since: None,
            until: None,
            dry_run: false,
        }
    }
}

impl ClusterParams {
    /// Whether every value is in its range.
    ///
    /// # Errors
    /// [`ParamError`]: the first that is not.
    pub fn check(&self) -> Result<(), ParamError> {
        let threshold = self.person_threshold.is_none_or(is_similarity);
        demand(threshold, "personThreshold", "a cosine similarity, -1 to 1")?;
        demand(self.min_cluster_size >= 2, "minClusterSize", "2 or more")?;
        demand((1..=MAX_MIN_SAMPLES).contains(&self.min_samples), "minSamples", "1 to 256")?;
        // Of HDBSCAN nothing more is joined; the others would join nothing at all.
        let zero = self.method == ClusterMethod::Hdbscan;
        let epsilon = self.epsilon.is_none_or(|epsilon| (0.0..=2.0).contains(&epsilon) && (zero || epsilon > 0.0));
        demand(epsilon, "epsilon", "a Euclidean distance between unit vectors, 0 to 2; 0 with hdbscan alone")?;
        demand(self.cohesion.is_none_or(is_similarity), "cohesion", "a cosine similarity, -1 to 1")?;
        check_quality(self.quality_threshold)?;
        demand(self.max_faces != Some(0), "maxFaces", "1 or more")?;
        let ordered = self.since.zip(self.until).is_none_or(|(since, until)| since < until);
        demand(ordered, "until", "later than since")
    }

    /// The distance that counts: the given one, or the method's default.
    pub fn distance(&self) -> f64 {
        self.epsilon.unwrap_or(match self.method {
            ClusterMethod::Hdbscan => HDBSCAN_EPSILON,
            ClusterMethod::Dbscan => DBSCAN_EPSILON,
            ClusterMethod::Agglomerative => AGGLOMERATIVE_EPSILON,
        })
    }

    /// The cohesion that counts: the given one, or the method's default; none: faces stay where the method puts them.
    pub fn least_cohesion(&self) -> Option<f32> {
        self.cohesion.or((self.method == ClusterMethod::Hdbscan).then_some(HDBSCAN_COHESION))
    }
}

/// What a [`JobKind::Assign`] job is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AssignParams {
    /// The cosine similarity from which a face is a known person's, −1 to 1; none: by error rate, as the rules of the
    /// collection say.
    pub threshold: Option<f32>,
    /// By how much the best person has to be more similar than the second; 0 to 2. None: as the rules say.
    pub margin: Option<f32>,
    /// Only faces stored from then on.
    #[serde(with = "crate::moment::option")]
    pub since: Option<OffsetDateTime>,
    /// Faces whose `quality.score` is below are left out; 0 to 1.
    pub quality_threshold: Option<f32>,
    /// What is nobody's joins the nearest unlabelled cluster.
    pub join_clusters: bool,
    /// Only counts; nothing is written.
    pub dry_run: bool,
}

impl Default for AssignParams {
    fn default() -> Self {
        Self {
            threshold: None,
            margin: None,
            since: None,
            quality_threshold: None,
            join_clusters: true,
            dry_run: false,
        }
    }
}

impl AssignParams {
    /// Whether every value is in its range.
    ///
    /// # Errors
    /// [`ParamError`]: the first that is not.
    pub fn check(&self) -> Result<(), ParamError> {
        demand(self.threshold.is_none_or(is_similarity), "threshold", "a cosine similarity, -1 to 1")?;
        let margin = self.margin.is_none_or(|margin| (0.0..=2.0).contains(&margin));
        demand(margin, "margin", "a difference of cosine similarities, 0 to 2")?;
        check_quality(self.quality_threshold)
    }
}

/// What a [`JobKind::Prototypes`] job is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PrototypesParams {
    /// Whose; none: of everybody of the collection.
    pub person: Option<PersonId>,
    /// Exemplars of a person, at most: 1 to 16.
    pub exemplars: u32,
}

impl Default for PrototypesParams {
    fn default() -> Self {
        Self { person: None, exemplars: EXEMPLARS }
    }
}

impl PrototypesParams {
    /// Whether every value is in its range.
    ///
    /// # Errors
    /// [`ParamError`]: the first that is not.
    pub fn check(&self) -> Result<(), ParamError> {
        demand((1..=MAX_EXEMPLARS).contains(&self.exemplars), "exemplars", "1 to 16")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use time::macros::datetime;

    use super::*;

    #[test]
    fn every_word_is_read_as_it_is_written() {
        for kind in JobKind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(kind));
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
        for state in JobState::ALL {
            assert_eq!(state.as_str().parse(), Ok(state));
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
        }
        for method in ClusterMethod::ALL {
            assert_eq!(method.to_string().parse(), Ok(method));
        }
        let unknown = "Cluster".parse::<JobKind>().unwrap_err().to_string();
        assert_eq!(unknown, "no such kind of job; there are cluster, assign, prototypes, train, erase, export");
    }

    #[test]
    fn what_is_queued_or_running_is_not_over() {
        let over: Vec<JobState> = JobState::ALL.into_iter().filter(|state| state.is_over()).collect();
        assert_eq!(over, [JobState::Succeeded, JobState::Failed, JobState::Cancelled]);
    }

    #[test]
    fn nothing_has_to_be_said_and_nothing_unknown_may_be() {
        assert_eq!(serde_json::from_value::<ClusterParams>(json!({})).unwrap(), ClusterParams::default());
        assert_eq!(serde_json::from_value::<AssignParams>(json!({})).unwrap(), AssignParams::default());
        assert_eq!(serde_json::from_value::<PrototypesParams>(json!({})).unwrap(), PrototypesParams::default());
        assert!(serde_json::from_value::<ClusterParams>(json!({ "min_cluster_size": 2 })).is_err());
        assert!(serde_json::from_value::<ClusterParams>(json!({ "method": "kmeans" })).is_err());
        assert!(ClusterParams::default().check().is_ok());
        assert!(AssignParams::default().check().is_ok());
        assert!(PrototypesParams::default().check().is_ok());
    }

    #[test]
    fn parameters_come_back_from_their_row() {
        let params = ClusterParams {
            assign_known: true,
            person_threshold: Some(0.5),
            method: ClusterMethod::Dbscan,
            since: Some(datetime!(2024-05-01 00:00 UTC)),
            max_faces: Some(100_000),
            ..ClusterParams::default()
        };
        let row = serde_json::to_value(&params).unwrap();
        assert_eq!((&row["since"], &row["until"]), (&json!("2024-05-01T00:00:00Z"), &json!(null)));
        assert_eq!(serde_json::from_value::<ClusterParams>(row).unwrap(), params);
        assert!((params.distance() - DBSCAN_EPSILON).abs() < f64::EPSILON);
    }

    #[test]
    fn what_is_out_of_range_is_named() {
        fn clusters(change: impl FnOnce(&mut ClusterParams)) -> &'static str {
            let mut params = ClusterParams::default();
            change(&mut params);
            params.check().unwrap_err().field
        }
        assert_eq!(clusters(|params| params.person_threshold = Some(1.5)), "personThreshold");
        assert_eq!(clusters(|params| params.person_threshold = Some(f32::NAN)), "personThreshold");
        assert_eq!(clusters(|params| params.min_cluster_size = 1), "minClusterSize");
        assert_eq!(clusters(|params| params.min_samples = 0), "minSamples");
        assert_eq!(clusters(|params| params.min_samples = MAX_MIN_SAMPLES + 1), "minSamples");
        assert_eq!(clusters(|params| params.epsilon = Some(2.1)), "epsilon");
        for method in [ClusterMethod::Dbscan, ClusterMethod::Agglomerative] {
            let nothing = |params: &mut ClusterParams| (params.method, params.epsilon) = (method, Some(0.0));
            assert_eq!(clusters(nothing), "epsilon");
        }
        ClusterParams { epsilon: Some(0.0), ..ClusterParams::default() }.check().unwrap();
        assert_eq!(clusters(|params| params.quality_threshold = Some(-0.1)), "qualityThreshold");
        assert_eq!(clusters(|params| params.max_faces = Some(0)), "maxFaces");
        let day = datetime!(2024-05-01 00:00 UTC);
        assert_eq!(clusters(|params| (params.since, params.until) = (Some(day), Some(day))), "until");
        assert_eq!(AssignParams { margin: Some(-0.1), ..AssignParams::default() }.check().unwrap_err().field, "margin");
        assert_eq!(PrototypesParams { person: None, exemplars: 17 }.check().unwrap_err().field, "exemplars");
    }
}
