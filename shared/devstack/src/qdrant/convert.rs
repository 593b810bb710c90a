//! Values, ids, vectors and selectors between Qdrant's gRPC messages and `qdrant-edge`. Whatever has no direct
//! counterpart is refused with `InvalidArgument`: nothing is dropped silently. Filters have a file of their own.

use std::collections::HashMap;

use qdrant_client::qdrant::{self as grpc, point_id::PointIdOptions, value::Kind};
use qdrant_edge::{OperationError, Payload, PointId, Record, ScoredPoint, VectorStructInternal};
use qdrant_edge::{PayloadSelector, PayloadSelectorExclude, PayloadSelectorInclude, WithPayloadInterface, WithVector};
use serde_json::{Map, Number, Value as Json};
use tonic::Status;

/// `InvalidArgument` in the real server's words.
pub(super) fn wrong_input(text: impl std::fmt::Display) -> Status {
    Status::invalid_argument(format!("Wrong input: {text}"))
}

/// The engine's error as the real server would send it.
pub(super) fn status(error: OperationError) -> Status {
    match error {
        OperationError::PointIdError { .. } => Status::not_found(format!("Not found: {error} found")),
        OperationError::WrongVectorDimension { .. }
        | OperationError::VectorNameNotExists { .. }
        | OperationError::TypeError { .. }
        | OperationError::TypeInferenceError { .. }
        | OperationError::ValidationError { .. }
        | OperationError::WrongSparse
        | OperationError::WrongMulti
        | OperationError::MissingRangeIndexForOrderBy { .. }
        | OperationError::MissingMapIndexForFacet { .. }
        | OperationError::VariableTypeError { .. }
        | OperationError::NonFiniteNumber { .. } => wrong_input(error),
        OperationError::OutOfMemory { .. } => Status::resource_exhausted(error.to_string()),
        OperationError::Cancelled { .. } => Status::cancelled(error.to_string()),
        OperationError::Timeout { .. } => Status::deadline_exceeded(error.to_string()),
        OperationError::ServiceError { .. } | OperationError::InconsistentStorage { .. } => {
            Status::internal(error.to_string())
        }
    }
}

/// A required id.
pub(super) fn point_id(id: Option<grpc::PointId>) -> Result<PointId, Status> {
    match id.and_then(|id| id.point_id_options) {
        Some(PointIdOptions::Num(number)) => Ok(PointId::NumId(number)),
        Some(PointIdOptions::Uuid(text)) => uuid::Uuid::parse_str(&text)
            .map(PointId::Uuid)
            .map_err(|_| wrong_input(format!("Unable to parse UUID: {text}"))),
        None => Err(Status::invalid_argument("Empty ID is not allowed")),
    }
}

/// Required ids, in order.
pub(super) fn point_ids(ids: Vec<grpc::PointId>) -> Result<Vec<PointId>, Status> {
    ids.into_iter().map(|id| point_id(Some(id))).collect()
}

/// The same id on the wire.
pub(super) fn id_out(id: PointId) -> grpc::PointId {
    let options = match id {
        PointId::NumId(number) => PointIdOptions::Num(number),
        PointId::Uuid(uuid) => PointIdOptions::Uuid(uuid.to_string()),
    };
    grpc::PointId { point_id_options: Some(options) }
}

/// A payload value as JSON. Numbers that JSON does not know (NaN, infinities) are refused.
fn json(value: grpc::Value) -> Result<Json, Status> {
    Ok(match value.kind {
        None | Some(Kind::NullValue(_)) => Json::Null,
        Some(Kind::BoolValue(flag)) => Json::Bool(flag),
        Some(Kind::IntegerValue(number)) => Json::Number(number.into()),
        Some(Kind::StringValue(text)) => Json::String(text),
        Some(Kind::DoubleValue(number)) => finite(number)?,
        Some(Kind::ListValue(list)) => Json::Array(list.values.into_iter().map(json).collect::<Result<_, _>>()?),
        Some(Kind::StructValue(fields)) => Json::Object(object(fields.fields)?),
    })
}

/// A number for JSON, or the refusal of one that it has no word for.
pub(super) fn finite(number: f64) -> Result<Json, Status> {
    Number::from_f64(number).map(Json::Number).ok_or_else(|| wrong_input("a number must be finite"))
}

fn object(fields: HashMap<String, grpc::Value>) -> Result<Map<String, Json>, Status> {
    fields.into_iter().map(|(key, value)| Ok((key, json(value)?))).collect()
}

/// A whole payload.
pub(super) fn payload(fields: HashMap<String, grpc::Value>) -> Result<Payload, Status> {
    object(fields).map(Payload)
}

fn json_out(value: Json) -> grpc::Value {
    let kind = match value {
        Json::Null => Kind::NullValue(0),
        Json::Bool(flag) => Kind::BoolValue(flag),
        Json::Number(number) => number
            .as_i64()
            .map(Kind::IntegerValue)
            .unwrap_or_else(|| Kind::DoubleValue(number.as_f64().unwrap_or(f64::NAN))),
        Json::String(text) => Kind::StringValue(text),
        Json::Array(values) => Kind::ListValue(grpc::ListValue { values: values.into_iter().map(json_out).collect() }),
        Json::Object(fields) => Kind::StructValue(grpc::Struct { fields: fields_out(fields) }),
    };
    grpc::Value { kind: Some(kind) }
}

fn fields_out(fields: Map<String, Json>) -> HashMap<String, grpc::Value> {
    fields.into_iter().map(|(key, value)| (key, json_out(value))).collect()
}

fn payload_out(payload: Option<Payload>) -> HashMap<String, grpc::Value> {
    payload.map(|payload| fields_out(payload.0)).unwrap_or_default()
}

/// One point's vector: dense, unnamed, of the collection's dimension.
pub(super) fn vector(vectors: Option<grpc::Vectors>, dim: usize) -> Result<Vec<f32>, Status> {
    let unserved = || wrong_input("the local Qdrant serves one dense, unnamed vector a point");
    let Some(grpc::vectors::VectorsOptions::Vector(vector)) = vectors.and_then(|vectors| vectors.vectors_options)
    else {
        return Err(unserved());
    };
    #[expect(deprecated, reason = "older clients send the flat fields, and they are still the wire's")]
    let (dense, flat, special) =
        (vector.vector, vector.data, vector.indices.is_some() || vector.vectors_count.is_some());
    match dense {
        Some(grpc::vector::Vector::Dense(dense)) => dimension(dense.data, dim),
        None if !special => dimension(flat, dim),
        _ => Err(unserved()),
    }
}

/// The vector when it has the collection's dimension, else the real server's words.
pub(super) fn dimension(vector: Vec<f32>, dim: usize) -> Result<Vec<f32>, Status> {
    if vector.len() != dim {
        return Err(status(OperationError::WrongVectorDimension { expected_dim: dim, received_dim: vector.len() }));
    }
    if vector.iter().any(|value| !value.is_finite()) {
        return Err(wrong_input("a vector's numbers must be finite"));
    }
    Ok(vector)
}

fn vectors_out(vector: Option<VectorStructInternal>) -> Option<grpc::VectorsOutput> {
    let Some(VectorStructInternal::Single(data)) = vector else { return None };
    let dense = grpc::vector_output::Vector::Dense(grpc::DenseVector { data });
    let output = grpc::VectorOutput { vector: Some(dense), ..Default::default() };
    Some(grpc::VectorsOutput { vectors_options: Some(grpc::vectors_output::VectorsOptions::Vector(output)) })
}

/// One search result.
pub(super) fn scored_out(point: ScoredPoint) -> grpc::ScoredPoint {
    grpc::ScoredPoint {
        id: Some(id_out(point.id)),
        payload: payload_out(point.payload),
        score: point.score,
        version: point.version,
        vectors: vectors_out(point.vector),
        shard_key: None,
        order_value: None,
    }
}

/// One stored point.
pub(super) fn record_out(record: Record) -> grpc::RetrievedPoint {
    grpc::RetrievedPoint {
        id: Some(id_out(record.id)),
        payload: payload_out(record.payload),
        vectors: vectors_out(record.vector),
        shard_key: None,
        order_value: None,
    }
}

/// A payload key, e.g. `a.b[].c`.
pub(super) fn path(key: &str) -> Result<qdrant_edge::JsonPath, Status> {
    qdrant_edge::JsonPath::try_from(key).map_err(|()| wrong_input(format!("invalid payload key `{key}`")))
}

fn paths(keys: Vec<String>) -> Result<Vec<qdrant_edge::JsonPath>, Status> {
    keys.iter().map(|key| path(key)).collect()
}

/// Which payload comes back; `default` where the request does not say.
pub(super) fn with_payload(
    selector: Option<grpc::WithPayloadSelector>,
    default: bool,
) -> Result<WithPayloadInterface, Status> {
    use grpc::with_payload_selector::SelectorOptions;
    Ok(match selector.and_then(|selector| selector.selector_options) {
        None => WithPayloadInterface::Bool(default),
        Some(SelectorOptions::Enable(flag)) => WithPayloadInterface::Bool(flag),
        Some(SelectorOptions::Include(keys)) => {
            let include = paths(keys.fields)?;
            WithPayloadInterface::Selector(PayloadSelector::Include(PayloadSelectorInclude { include }))
        }
        Some(SelectorOptions::Exclude(keys)) => {
            let exclude = paths(keys.fields)?;
            WithPayloadInterface::Selector(PayloadSelector::Exclude(PayloadSelectorExclude { exclude }))
        }
    })
}

/// Whether vectors come back.
pub(super) fn with_vectors(selector: Option<grpc::WithVectorsSelector>) -> Result<WithVector, Status> {
    use grpc::with_vectors_selector::SelectorOptions;
    match selector.and_then(|selector| selector.selector_options) {
        None => Ok(WithVector::Bool(false)),
        Some(SelectorOptions::Enable(flag)) => Ok(WithVector::Bool(flag)),
        Some(SelectorOptions::Include(_)) => Err(wrong_input("the local Qdrant has no named vectors to select")),
    }
}

/// Custom sharding is a cluster's matter.
pub(super) fn no_shard_key(selector: &Option<grpc::ShardKeySelector>) -> Result<(), Status> {
    match selector {
        None => Ok(()),
        Some(selector) if selector.shard_keys.is_empty() && selector.fallback.is_none() => Ok(()),
        Some(_) => Err(wrong_input("the local Qdrant has one shard and no shard keys")),
    }
}
