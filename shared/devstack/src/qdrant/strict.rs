//! Strict mode: the limits that an operator sets on a collection, refused in the real server's words. Without it a filter
//! on a field that has no index, or a batch of any size, works here and fails on a server that forbids it.

use std::collections::BTreeMap;

use qdrant_client::qdrant::{self as grpc, StrictModeConfig, condition::ConditionOneOf, r#match::MatchValue};
use qdrant_edge::PayloadFieldSchema;
use tonic::Status;

/// What is in force on a collection.
pub(super) struct Strict {
    config: StrictModeConfig,
    indexed: Vec<String>,
}

fn refuse(error: String, help: &str) -> Status {
    Status::invalid_argument(format!("Bad request: {error}. Help: {help}"))
}

fn limit(value: u64, limit: Option<u64>, name: &str) -> Result<(), Status> {
    match limit {
        Some(limit) if value > limit => Err(refuse(
            format!("Limit exceeded {value} > {limit} for \"{name}\""),
            &format!("Reduce the \"{name}\" parameter to or below {limit}."),
        )),
        _ => Ok(()),
    }
}

impl Strict {
    /// `None`: strict mode is off.
    pub(super) fn of(
        config: Option<&StrictModeConfig>,
        indexes: &BTreeMap<String, PayloadFieldSchema>,
    ) -> Option<Self> {
        let config = config.filter(|config| config.enabled == Some(true))?;
        Some(Self { config: config.clone(), indexed: indexes.keys().cloned().collect() })
    }

    /// A batch of queries.
    pub(super) fn queries(&self, queries: &[grpc::QueryPoints]) -> Result<(), Status> {
        limit(queries.len() as u64, self.config.search_max_batchsize, "search batch size")?;
        for query in queries {
            self.page(query.limit.unwrap_or_default(), query.filter.as_ref())?;
            let Some(params) = &query.params else { continue };
            limit(params.hnsw_ef.unwrap_or_default(), self.config.search_max_hnsw_ef.map(u64::from), "hnsw_ef")?;
            self.exact(params.exact)?;
        }
        Ok(())
    }

    /// A page, of a query or of a scroll.
    pub(super) fn page(&self, size: u64, filter: Option<&grpc::Filter>) -> Result<(), Status> {
        limit(size, self.config.max_query_limit.map(u64::from), "limit")?;
        self.filter(filter, self.config.unindexed_filtering_retrieve)
    }

    /// A count.
    pub(super) fn count(&self, request: &grpc::CountPoints) -> Result<(), Status> {
        self.filter(request.filter.as_ref(), self.config.unindexed_filtering_retrieve)?;
        self.exact(Some(request.exact.unwrap_or(true)))
    }

    /// A write of so many points, or by a filter.
    pub(super) fn write(&self, points: usize, filter: Option<&grpc::Filter>) -> Result<(), Status> {
        limit(points as u64, self.config.upsert_max_batchsize, "upsert limit")?;
        self.filter(filter, self.config.unindexed_filtering_update)
    }

    fn exact(&self, exact: Option<bool>) -> Result<(), Status> {
        match (exact, self.config.search_allow_exact) {
            (Some(true), Some(false)) => Err(refuse("Exact search disabled!".to_owned(), "Set exact=false.")),
            _ => Ok(()),
        }
    }

    fn filter(&self, filter: Option<&grpc::Filter>, allowed: Option<bool>) -> Result<(), Status> {
        let Some(filter) = filter.filter(|_| allowed == Some(false)) else { return Ok(()) };
        for condition in filter.must.iter().chain(&filter.should).chain(&filter.must_not) {
            let (key, types) = match &condition.condition_one_of {
                Some(ConditionOneOf::Field(field)) => (&field.key, types(field)),
                Some(ConditionOneOf::IsEmpty(field)) => (&field.key, "keyword"),
                Some(ConditionOneOf::IsNull(field)) => (&field.key, "keyword"),
                Some(ConditionOneOf::Filter(inner)) => {
                    self.filter(Some(inner), allowed)?;
                    continue;
                }
                _ => continue,
            };
            if !self.indexed.contains(key) {
                return Err(refuse(
                    format!("Index required but not found for \"{key}\" of one of the following types: [{types}]"),
                    "Create an index for this key or use a different filter.",
                ));
            }
        }
        Ok(())
    }
}

fn types(field: &grpc::FieldCondition) -> &'static str {
    match field.r#match.as_ref().and_then(|found| found.match_value.as_ref()) {
        Some(MatchValue::Boolean(_)) => "bool",
        Some(MatchValue::Integer(_) | MatchValue::Integers(_) | MatchValue::ExceptIntegers(_)) => "integer",
        Some(_) => "keyword",
        None if field.datetime_range.is_some() => "datetime",
        None => "float",
    }
}
