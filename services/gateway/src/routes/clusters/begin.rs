//! The jobs of clusters and prototypes, begun. What they are told is checked by the kind's own parameters; the work is
//! the service `jobs`'.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use facewire_domain::{
    AssignParams, ClusterMethod, ClusterParams, CollectionId, JobKind, ParamError, PrototypesParams, Scope,
};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::super::jobs::Job;
use super::super::people;
use super::Whose;
use crate::App;
use crate::caller::Caller;
use crate::error::ApiError;
use crate::input::{Body, Query};

/// What is left of a request's time for its answer, once the wait for its job is over.
const ANSWER_TIME: Duration = Duration::from_secs(2);

/// How faces are grouped.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Method {
    /// By density, over all scales.
    #[default]
    Hdbscan,
    /// By density, at one distance.
    Dbscan,
    /// By average linkage, cut at one distance; for some 10,000 faces at most.
    Agglomerative,
}

impl From<Method> for ClusterMethod {
    fn from(method: Method) -> Self {
        match method {
            Method::Hdbscan => Self::Hdbscan,
            Method::Dbscan => Self::Dbscan,
            Method::Agglomerative => Self::Agglomerative,
        }
    }
}

/// How to cluster; every field may be left out.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "it describes `ClusterParams`")]
pub(crate) struct ClusterOptions {
    /// First give faces to known people, and group what is left. No, unless given.
    #[schema(required = false)]
    assign_known: bool,
    /// With `assignKnown`: the cosine similarity from which a face is a known person's; by error rate unless given.
    #[schema(minimum = -1.0, maximum = 1.0)]
    person_threshold: Option<f32>,
    /// `hdbscan` unless given.
    #[schema(inline, required = false)]
    method: Method,
    /// Faces of a cluster, at least; 3 unless given.
    #[schema(minimum = 2, required = false)]
    min_cluster_size: u32,
    /// Faces within reach, itself among them, from which a face is in a dense place; 3 unless given.
    #[schema(minimum = 1, maximum = 256, required = false)]
    min_samples: u32,
    /// A Euclidean distance between unit vectors: the selection epsilon of `hdbscan`, the neighbourhood of `dbscan`,
    /// the cut of `agglomerative`; the method's own unless given, which was measured with the default model pack alone.
    #[schema(minimum = 0.0, maximum = 2.0)]
    epsilon: Option<f64>,
    /// The cosine similarity of a face to the mean of its cluster below which it leaves it; the method's own unless given,
    /// measured as that of `epsilon`.
    #[schema(minimum = -1.0, maximum = 1.0)]
    cohesion: Option<f32>,
    /// With `hdbscan`: more and smaller clusters, the leaves of its tree.
    #[schema(required = false)]
    leaf: bool,
    /// Faces whose quality score is below are left out.
    #[schema(minimum = 0.0, maximum = 1.0)]
    quality_threshold: Option<f32>,
    /// Faces at most, the newest first.
    #[schema(minimum = 1)]
    max_faces: Option<u64>,
    /// Captured at this time or later.
    since: Option<OffsetDateTime>,
    /// Captured before this time.
    until: Option<OffsetDateTime>,
    /// The job only counts, and writes nothing.
    #[schema(required = false)]
    dry_run: bool,
}

/// Groups the faces that are nobody's. Scope: enrol. A cluster that is still the same keeps its id; faces of people
/// stay. Clusters without a label are found anew, so parts of one that was split may become one again.
#[utoipa::path(post, path = "/api/v1/faces/cluster", tag = "clusters", params(Whose), request_body = ClusterOptions,
    responses((status = 202, description = "The job that does it", body = Job)))]
pub(crate) async fn cluster(
    State(app): State<App>,
    caller: Caller,
    Query(whose): Query<Whose>,
    Body(params): Body<ClusterParams>,
) -> Result<(StatusCode, Json<Job>), ApiError> {
    let collection = whose.allowed(&caller, Scope::Enrol)?;
    params.check().map_err(invalid)?;
    accepted(&app, JobKind::Cluster, &collection, &params, &caller).await
}

/// How to assign and cluster; every field may be left out.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct DualOptions {
    /// The cosine similarity from which a face is a known person's; by error rate unless given.
    #[schema(minimum = -1.0, maximum = 1.0)]
    person_threshold: Option<f32>,
    /// How the faces of nobody are grouped; `hdbscan` unless given.
    #[schema(inline)]
    unknown_method: Method,
    /// Faces of a cluster, at least; 3 unless given.
    #[schema(minimum = 2)]
    unknown_min_cluster_size: Option<u32>,
    /// A Euclidean distance between unit vectors, as `epsilon` of `POST /api/v1/faces/cluster`.
    #[schema(minimum = 0.0, maximum = 2.0)]
    unknown_eps: Option<f64>,
    /// Faces at most, the newest first.
    #[schema(minimum = 1)]
    max_faces: Option<u64>,
    /// Answer at once; yes, unless given. Otherwise the answer waits for the job's end, as long as a request may take.
    queue: Option<bool>,
}

impl DualOptions {
    fn params(&self) -> Result<ClusterParams, ApiError> {
        let usual = ClusterParams::default();
        let params = ClusterParams {
            assign_known: true,
            person_threshold: self.person_threshold,
            method: self.unknown_method.into(),
            min_cluster_size: self.unknown_min_cluster_size.unwrap_or(usual.min_cluster_size),
            epsilon: self.unknown_eps,
            max_faces: self.max_faces,
            ..usual
        };
        let own_name = |error: ParamError| match error.field {
            "minClusterSize" => ParamError { field: "unknownMinClusterSize", ..error },
            "epsilon" => ParamError { field: "unknownEps", ..error },
            _ => error,
        };
        params.check().map_err(|error| invalid(own_name(error)))?;
        Ok(params)
    }
}

/// Gives faces of nobody to known people, and groups the rest. Scope: enrol. With `queue: false` the answer is the job
/// as it ended; one that takes longer than a request may goes on, and the answer is as with `queue`.
#[utoipa::path(post, path = "/api/v1/faces/cluster/dual", tag = "clusters", params(Whose), request_body = DualOptions,
    responses((status = 200, description = "The job, which has ended", body = Job),
        (status = 202, description = "The job that does it", body = Job)))]
pub(crate) async fn dual(
    State(app): State<App>,
    caller: Caller,
    Query(whose): Query<Whose>,
    Body(options): Body<DualOptions>,
) -> Result<(StatusCode, Json<Job>), ApiError> {
    let collection = whose.allowed(&caller, Scope::Enrol)?;
    let params = options.params()?;
    let job = app.begin_job(JobKind::Cluster, &collection, &params, &caller).await?;
    if options.queue.unwrap_or(true) {
        return Ok((StatusCode::ACCEPTED, Json(job.into())));
    }
    let job = app.await_job(job, app.options.request_timeout.saturating_sub(ANSWER_TIME)).await?;
    let status = if job.state.is_over() { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok((status, Json(job.into())))
}

/// How to assign; every field may be left out.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "it describes `AssignParams`")]
pub(crate) struct AssignOptions {
    /// The cosine similarity from which a face is a known person's; by error rate unless given.
    #[schema(minimum = -1.0, maximum = 1.0)]
    threshold: Option<f32>,
    /// By how much the nearest person has to be nearer than the second; as the rules say unless given.
    #[schema(minimum = 0.0, maximum = 2.0)]
    margin: Option<f32>,
    /// Stored at this time or later.
    since: Option<OffsetDateTime>,
    /// Faces whose quality score is below are left out.
    #[schema(minimum = 0.0, maximum = 1.0)]
    quality_threshold: Option<f32>,
    /// What is nobody's joins the nearest cluster without a label. Yes, unless given.
    #[schema(required = false)]
    join_clusters: bool,
    /// The job only counts, and writes nothing.
    #[schema(required = false)]
    dry_run: bool,
}

/// Gives the faces that are nobody's to known people. Scope: enrol.
#[utoipa::path(post, path = "/api/v1/faces/assign", tag = "clusters", params(Whose), request_body = AssignOptions,
    responses((status = 202, description = "The job that does it", body = Job)))]
pub(crate) async fn assign(
    State(app): State<App>,
    caller: Caller,
    Query(whose): Query<Whose>,
    Body(params): Body<AssignParams>,
) -> Result<(StatusCode, Json<Job>), ApiError> {
    let collection = whose.allowed(&caller, Scope::Enrol)?;
    params.check().map_err(invalid)?;
    accepted(&app, JobKind::Assign, &collection, &params, &caller).await
}

/// Whose prototypes; every field may be left out.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct PrototypeOptions {
    /// Only of this person of the collection; of everybody unless given.
    person_id: Option<Uuid>,
    /// Exemplars of a person at most; 3 unless given. It holds until the person's next change, when as many are chosen as
    /// the service `jobs` is configured for.
    #[schema(minimum = 1, maximum = 16)]
    exemplars: Option<u32>,
}

/// Chooses the exemplars and centroids of people anew. Scope: enrol. They are kept up to date without it, too.
#[utoipa::path(post, path = "/api/v1/faces/prototypes", tag = "clusters", params(Whose),
    request_body = PrototypeOptions, responses((status = 202, description = "The job that does it", body = Job)))]
pub(crate) async fn prototypes(
    State(app): State<App>,
    caller: Caller,
    Query(whose): Query<Whose>,
    Body(options): Body<PrototypeOptions>,
) -> Result<(StatusCode, Json<Job>), ApiError> {
    let collection = whose.allowed(&caller, Scope::Enrol)?;
    let usual = PrototypesParams::default();
    let mut params = PrototypesParams { person: None, exemplars: options.exemplars.unwrap_or(usual.exemplars) };
    params.check().map_err(invalid)?;
    if let Some(id) = options.person_id {
        let person = people::find_person(&app, &caller, id).await?;
        if person.collection != collection {
            return Err(ApiError::not_found("person of this collection"));
        }
        params.person = Some(person.person.person_id);
    }
    accepted(&app, JobKind::Prototypes, &collection, &params, &caller).await
}

fn invalid(error: ParamError) -> ApiError {
    ApiError::invalid(error.field, error.what)
}

async fn accepted<P: Serialize>(
    app: &App,
    kind: JobKind,
    collection: &CollectionId,
    params: &P,
    caller: &Caller,
) -> Result<(StatusCode, Json<Job>), ApiError> {
    let job = app.begin_job(kind, collection, params, caller).await?;
    Ok((StatusCode::ACCEPTED, Json(job.into())))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use utoipa::PartialSchema;

    use super::*;
    use crate::input;

    fn described<T: PartialSchema>() -> BTreeSet<String> {
        let schema = serde_json::to_value(T::schema()).unwrap();
        assert!(schema.get("required").is_none(), "every field may be left out: {schema}");
        schema["properties"].as_object().unwrap().keys().cloned().collect()
    }

    fn taken<T: Default + Serialize>() -> BTreeSet<String> {
        serde_json::to_value(T::default()).unwrap().as_object().unwrap().keys().cloned().collect()
    }

    #[test]
    fn the_document_names_what_is_taken() {
        assert_eq!(described::<ClusterOptions>(), taken::<ClusterParams>());
        assert_eq!(described::<AssignOptions>(), taken::<AssignParams>());
        assert_eq!((described::<DualOptions>().len(), described::<PrototypeOptions>().len()), (6, 2));
        for method in ClusterMethod::ALL {
            let named: Method = serde_json::from_value(method.as_str().into()).unwrap();
            assert_eq!(ClusterMethod::from(named), method);
        }
    }

    fn dual(text: &str) -> Result<ClusterParams, ApiError> {
        input::json::<DualOptions>(text.as_bytes())?.params()
    }

    #[test]
    fn dual_mode_assigns_first_and_names_its_own_fields() {
        let usual = ClusterParams { assign_known: true, ..ClusterParams::default() };
        assert_eq!(dual("{}").unwrap(), usual);
        let given = r#"{"personThreshold": 0.5, "unknownMethod": "dbscan", "unknownMinClusterSize": 2,
            "unknownEps": 0.75, "maxFaces": 10, "queue": false}"#;
        let params = ClusterParams {
            person_threshold: Some(0.5),
            method: ClusterMethod::Dbscan,
            min_cluster_size: 2,
            epsilon: Some(0.75),
            max_faces: Some(10),
            ..usual
        };
        assert_eq!(dual(given).unwrap(), params);
        let wrong = [
            (r#"{"unknownMinClusterSize": 1}"#, "unknownMinClusterSize"),
            (r#"{"unknownEps": 3}"#, "unknownEps"),
            (r#"{"personThreshold": 2}"#, "personThreshold"),
            (r#"{"unknownMethod": "kmeans"}"#, "unknownMethod"),
            (r#"{"minClusterSize": 2}"#, "minClusterSize"),
        ];
        for (text, field) in wrong {
            assert_eq!(dual(text).unwrap_err().details["field"], field, "{text}");
        }
    }

    #[test]
    fn what_is_out_of_range_is_named() {
        let params = ClusterParams { min_samples: 0, ..ClusterParams::default() };
        assert_eq!(invalid(params.check().unwrap_err()).details["field"], "minSamples");
    }
}
