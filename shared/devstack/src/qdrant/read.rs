//! Reads: queries, scrolling, retrieval, counting. Requests are translated first, so that what is not served is
//! refused before the engine does any work.

use std::sync::Arc;

use qdrant_client::qdrant::{self as grpc, query, vector_input};
use qdrant_edge::external::ordered_float::OrderedFloat;
use qdrant_edge::{
    CountRequest, NamedQuery, QuantizationSearchParams, QueryEnum, QueryRequest, ScoringQuery, ScrollRequest,
    SearchParams,
};
use tonic::Status;

use super::collection::Collection;
use super::convert::{
    dimension, id_out, no_shard_key, point_id, point_ids, record_out, scored_out, status, with_payload, with_vectors,
    wrong_input,
};
use super::filter::filter;
use super::pool::Pool;

/// The real server's page size where the request has none.
const DEFAULT_LIMIT: u64 = 10;

fn limit(limit: Option<u64>) -> Result<usize, Status> {
    let limit = limit.unwrap_or(DEFAULT_LIMIT);
    if limit == 0 {
        return Err(Status::invalid_argument(
            "Validation error in body: [limit: value 0 invalid, must be 1 or larger]",
        ));
    }
    usize::try_from(limit).map_err(wrong_input)
}

fn search_params(params: Option<grpc::SearchParams>) -> Result<Option<SearchParams>, Status> {
    let Some(params) = params else { return Ok(None) };
    if params.acorn.is_some() || params.idf.is_some() {
        return Err(wrong_input(
            "the local Qdrant serves the search parameters hnsw_ef, exact, indexed_only and quantization",
        ));
    }
    let quantization = params.quantization.map(|asked| QuantizationSearchParams {
        ignore: asked.ignore.unwrap_or_default(),
        rescore: asked.rescore,
        oversampling: asked.oversampling,
    });
    if quantization.and_then(|asked| asked.oversampling).is_some_and(|factor| factor < 1.0 || !factor.is_finite()) {
        return Err(wrong_input("oversampling is 1 and up"));
    }
    Ok(Some(SearchParams {
        hnsw_ef: params.hnsw_ef.map(usize::try_from).transpose().map_err(wrong_input)?,
        exact: params.exact.unwrap_or_default(),
        indexed_only: params.indexed_only.unwrap_or_default(),
        quantization,
        ..SearchParams::default()
    }))
}

/// A nearest-neighbour query for the engine, which adds the offset to the limit but leaves the skipping to its caller.
struct Nearest {
    request: QueryRequest,
    skip: usize,
}

fn nearest(request: grpc::QueryPoints, dim: usize) -> Result<Nearest, Status> {
    no_shard_key(&request.shard_key_selector)?;
    if !request.prefetch.is_empty() || request.lookup_from.is_some() {
        return Err(wrong_input("the local Qdrant does not serve prefetch and lookup_from"));
    }
    if request.using.is_some_and(|name| !name.is_empty()) {
        return Err(wrong_input("the local Qdrant has no named vectors"));
    }
    let Some(query::Variant::Nearest(grpc::VectorInput { variant: Some(vector_input::Variant::Dense(dense)) })) =
        request.query.and_then(|query| query.variant)
    else {
        return Err(wrong_input("the local Qdrant serves queries for the nearest of a dense vector"));
    };
    let vector = dimension(dense.data, dim)?;
    let skip = usize::try_from(request.offset.unwrap_or_default()).map_err(wrong_input)?;
    let request = QueryRequest {
        prefetches: Vec::new(),
        query: Some(ScoringQuery::Vector(QueryEnum::Nearest(NamedQuery::default_dense(vector)))),
        filter: filter(request.filter)?,
        score_threshold: request.score_threshold.map(OrderedFloat),
        limit: limit(request.limit)?.saturating_add(skip),
        offset: 0,
        params: search_params(request.params)?,
        with_vector: with_vectors(request.with_vectors)?,
        with_payload: with_payload(request.with_payload, false)?,
    };
    Ok(Nearest { request, skip })
}

/// The older search request as a query.
pub(super) fn from_search(search: grpc::SearchPoints) -> Result<grpc::QueryPoints, Status> {
    if search.sparse_indices.is_some() {
        return Err(wrong_input("the local Qdrant has no sparse vectors"));
    }
    Ok(grpc::QueryPoints {
        collection_name: search.collection_name,
        query: Some(search.vector.into()),
        using: search.vector_name,
        filter: search.filter,
        params: search.params,
        score_threshold: search.score_threshold,
        limit: Some(search.limit),
        offset: search.offset,
        with_vectors: search.with_vectors,
        with_payload: search.with_payload,
        shard_key_selector: search.shard_key_selector,
        ..grpc::QueryPoints::default()
    })
}

/// Answers queries in order, shared out over the processors.
pub(super) async fn query(
    pool: &Pool,
    collection: &Arc<Collection>,
    queries: Vec<grpc::QueryPoints>,
) -> Result<Vec<Vec<grpc::ScoredPoint>>, Status> {
    let mut requests =
        queries.into_iter().map(|query| nearest(query, collection.dim())).collect::<Result<Vec<_>, _>>()?;
    let share = requests.len().div_ceil(pool.width()).max(1);
    let mut parts = Vec::new();
    while !requests.is_empty() {
        let rest = requests.split_off(share.min(requests.len()));
        let part = std::mem::replace(&mut requests, rest);
        let collection = Arc::clone(collection);
        parts.push(pool.run(move || part.into_iter().map(|request| one(&collection, request)).collect()));
    }
    let answers: Vec<Vec<_>> = futures_util::future::try_join_all(parts).await?;
    Ok(answers.into_iter().flatten().collect())
}

fn one(collection: &Collection, nearest: Nearest) -> Result<Vec<grpc::ScoredPoint>, Status> {
    let points = collection.shard().query(nearest.request).map_err(status)?;
    Ok(points.into_iter().skip(nearest.skip).map(scored_out).collect())
}

/// One page in id order, and where the next begins.
pub(super) fn scroll(
    collection: &Collection,
    request: grpc::ScrollPoints,
) -> Result<(Vec<grpc::RetrievedPoint>, Option<grpc::PointId>), Status> {
    no_shard_key(&request.shard_key_selector)?;
    if request.order_by.is_some() {
        return Err(wrong_input("the local Qdrant scrolls in id order"));
    }
    if let Some(strict) = collection.strict() {
        strict.page(request.limit.unwrap_or_default().into(), request.filter.as_ref())?;
    }
    let request = ScrollRequest {
        offset: request.offset.map(|offset| point_id(Some(offset))).transpose()?,
        limit: Some(limit(request.limit.map(u64::from))?),
        filter: filter(request.filter)?,
        with_payload: Some(with_payload(request.with_payload, true)?),
        with_vector: with_vectors(request.with_vectors)?,
        order_by: None,
    };
    let (records, next) = collection.shard().scroll(request).map_err(status)?;
    Ok((records.into_iter().map(record_out).collect(), next.map(id_out)))
}

/// The points with these ids, as far as they exist.
pub(super) fn get(collection: &Collection, request: grpc::GetPoints) -> Result<Vec<grpc::RetrievedPoint>, Status> {
    no_shard_key(&request.shard_key_selector)?;
    let ids = point_ids(request.ids)?;
    let payload = with_payload(request.with_payload, true)?;
    let vectors = with_vectors(request.with_vectors)?;
    let records = collection.shard().retrieve(&ids, Some(payload), Some(vectors)).map_err(status)?;
    Ok(records.into_iter().map(record_out).collect())
}

/// How many points match; exact unless the request says otherwise.
pub(super) fn count(collection: &Collection, request: grpc::CountPoints) -> Result<u64, Status> {
    no_shard_key(&request.shard_key_selector)?;
    if let Some(strict) = collection.strict() {
        strict.count(&request)?;
    }
    let request = CountRequest { filter: filter(request.filter)?, exact: request.exact.unwrap_or(true) };
    let count = collection.shard().count(request).map_err(status)?;
    u64::try_from(count).map_err(wrong_input)
}
