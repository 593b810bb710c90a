//! Collection and payload-index parameters: from the wire to the engine's configuration and back. Placement hints
//! (on disk, memory) and cluster sizes change no answer and are accepted as they are; what would change an answer and is
//! not served (product quantization, named, sparse or multi vectors) is refused.

use std::num::NonZeroUsize;

use qdrant_client::qdrant::quantization_config::Quantization as Method;
use qdrant_client::qdrant::{self as grpc, payload_index_params::IndexParams, vectors_config};
use qdrant_edge::{
    BinaryQuantizationConfig, DEFAULT_VECTOR_NAME, Distance, EdgeConfig, EdgeOptimizersConfig, EdgeVectorParams,
    HnswIndexConfig, PayloadFieldSchema, PayloadIndexInfo, PayloadSchemaType, QuantizationConfig,
    ScalarQuantizationConfig, ScalarType, WalOptions,
};
use serde_json::json;
use tonic::Status;

use super::convert::wrong_input;

/// Qdrant's own limit.
const MAX_DIM: u64 = 65_536;
/// The engine's log files, of which about three exist a collection; the default is 32 MiB each.
const WAL_FILE_BYTES: usize = 2 * 1024 * 1024;
/// Vectors of a segment, in KB, from which it gets an index: 20,000 faces of 512 numbers, four times the server's default.
/// Building one keeps a small machine busy for a minute, while scanning as many takes a few milliseconds.
const INDEXING_THRESHOLD_KB: usize = 40_000;

/// The engine's configuration for a new collection: vectors and index on disk, mapped, so that memory stays the
/// system's to reclaim.
pub(super) fn edge_config(request: &grpc::CreateCollection) -> Result<EdgeConfig, Status> {
    if request.sparse_vectors_config.as_ref().is_some_and(|sparse| !sparse.map.is_empty()) {
        return Err(wrong_input("the local Qdrant has no sparse vectors"));
    }
    if request.sharding_method.is_some_and(|method| method != grpc::ShardingMethod::Auto as i32) {
        return Err(wrong_input("the local Qdrant has one shard and no shard keys"));
    }
    let Some(vectors_config::Config::Params(params)) = request.vectors_config.as_ref().and_then(|v| v.config.as_ref())
    else {
        return Err(wrong_input("the local Qdrant serves one dense, unnamed vector a point"));
    };
    let hnsw = hnsw(request.hnsw_config.as_ref(), params.hnsw_config.as_ref())?;
    let vector = vector_params(params)?;
    let wal = WalOptions { segment_capacity: WAL_FILE_BYTES, segment_queue_len: 0, retain_closed: NonZeroUsize::MIN };
    let config = EdgeConfig::builder()
        .vector(DEFAULT_VECTOR_NAME, vector)
        .hnsw_config(hnsw)
        .optimizers(optimizers(request.optimizers_config.as_ref())?)
        .wal_options(wal)
        .on_disk_payload(true);
    Ok(match quantization(request.quantization_config.as_ref())? {
        Some(quantization) => config.quantization_config(quantization).build(),
        None => config.build(),
    })
}

/// One byte or one bit a number, of segments that have a vector index; the others are compared as they are.
#[expect(deprecated, reason = "a client may send the older flag alone")]
fn quantization(config: Option<&grpc::QuantizationConfig>) -> Result<Option<QuantizationConfig>, Status> {
    let in_memory = |flag: Option<bool>, memory: Option<i32>| match memory {
        Some(memory) => Some(memory == grpc::Memory::Pinned as i32),
        None => flag,
    };
    match config.and_then(|config| config.quantization) {
        None => Ok(None),
        Some(Method::Scalar(scalar)) if scalar.r#type == grpc::QuantizationType::Int8 as i32 => {
            let (quantile, always_ram) = (scalar.quantile, in_memory(scalar.always_ram, scalar.memory));
            if quantile.is_some_and(|quantile| !(0.5..=1.0).contains(&quantile)) {
                return Err(wrong_input("a quantile is 0.5 to 1"));
            }
            Ok(Some(ScalarQuantizationConfig { r#type: ScalarType::Int8, quantile, always_ram }.into()))
        }
        Some(Method::Binary(binary)) if binary.encoding.is_none() && binary.query_encoding.is_none() => {
            let always_ram = in_memory(binary.always_ram, binary.memory);
            Ok(Some(BinaryQuantizationConfig { always_ram, encoding: None, query_encoding: None }.into()))
        }
        Some(_) => Err(wrong_input("the local Qdrant quantizes to int8, and to one bit a number")),
    }
}

fn vector_params(params: &grpc::VectorParams) -> Result<EdgeVectorParams, Status> {
    if params.quantization_config.is_some() || params.multivector_config.is_some() {
        return Err(wrong_input("the local Qdrant quantizes whole collections, and has no multi vectors"));
    }
    let plain = [grpc::Datatype::Default as i32, grpc::Datatype::Float32 as i32];
    if params.datatype.is_some_and(|datatype| !plain.contains(&datatype)) {
        return Err(wrong_input("the local Qdrant stores 32-bit floats"));
    }
    let distance = match grpc::Distance::try_from(params.distance) {
        Ok(grpc::Distance::Cosine) => Distance::Cosine,
        Ok(grpc::Distance::Euclid) => Distance::Euclid,
        Ok(grpc::Distance::Dot) => Distance::Dot,
        Ok(grpc::Distance::Manhattan) => Distance::Manhattan,
        Ok(grpc::Distance::UnknownDistance) | Err(_) => return Err(wrong_input("a distance is expected")),
    };
    if !(1..=MAX_DIM).contains(&params.size) {
        return Err(wrong_input(format!("a vector has 1 to {MAX_DIM} dimensions, not {}", params.size)));
    }
    Ok(EdgeVectorParams::builder(number(params.size)?, distance).on_disk(true).build())
}

fn number(number: u64) -> Result<usize, Status> {
    usize::try_from(number).map_err(wrong_input)
}

fn hnsw(
    collection: Option<&grpc::HnswConfigDiff>,
    vector: Option<&grpc::HnswConfigDiff>,
) -> Result<HnswIndexConfig, Status> {
    let mut config = HnswIndexConfig { on_disk: Some(true), ..HnswIndexConfig::default() };
    for diff in [collection, vector].into_iter().flatten() {
        for (value, field) in [
            (diff.m, &mut config.m),
            (diff.ef_construct, &mut config.ef_construct),
            (diff.full_scan_threshold, &mut config.full_scan_threshold),
            (diff.max_indexing_threads, &mut config.max_indexing_threads),
        ] {
            if let Some(value) = value {
                *field = number(value)?;
            }
        }
        if let Some(payload_m) = diff.payload_m {
            config.payload_m = Some(number(payload_m)?);
        }
    }
    Ok(config)
}

fn optimizers(diff: Option<&grpc::OptimizersConfigDiff>) -> Result<EdgeOptimizersConfig, Status> {
    let Some(diff) = diff else {
        return Ok(EdgeOptimizersConfig { indexing_threshold: Some(INDEXING_THRESHOLD_KB), ..Default::default() });
    };
    Ok(EdgeOptimizersConfig {
        deleted_threshold: diff.deleted_threshold,
        vacuum_min_vector_number: diff.vacuum_min_vector_number.map(number).transpose()?,
        default_segment_number: diff.default_segment_number.map(number).transpose()?,
        max_segment_size: diff.max_segment_size.map(number).transpose()?,
        indexing_threshold: Some(diff.indexing_threshold.map_or(Ok(INDEXING_THRESHOLD_KB), number)?),
        prevent_unoptimized: None,
    })
}

/// How the configuration is shown: what the engine runs with, and for the rest what was asked for.
#[expect(deprecated, reason = "a real server still shows the older flag")]
pub(super) fn config_out(config: &EdgeConfig, asked: grpc::CreateCollection) -> grpc::CollectionConfig {
    let on_disk = match asked.vectors_config.and_then(|vectors| vectors.config) {
        Some(vectors_config::Config::Params(params)) => params.on_disk,
        _ => None,
    };
    let vectors = config.vectors.get(DEFAULT_VECTOR_NAME).map(|params| {
        let distance = match params.distance {
            Distance::Cosine => grpc::Distance::Cosine,
            Distance::Euclid => grpc::Distance::Euclid,
            Distance::Dot => grpc::Distance::Dot,
            Distance::Manhattan => grpc::Distance::Manhattan,
        };
        let (size, distance) = (params.size as u64, distance as i32);
        let params = grpc::VectorParams { size, distance, on_disk, ..Default::default() };
        grpc::VectorsConfig { config: Some(vectors_config::Config::Params(params)) }
    });
    let hnsw = &config.hnsw_config;
    grpc::CollectionConfig {
        params: Some(grpc::CollectionParams {
            shard_number: asked.shard_number.unwrap_or(1),
            vectors_config: vectors,
            replication_factor: Some(asked.replication_factor.unwrap_or(1)),
            write_consistency_factor: Some(asked.write_consistency_factor.unwrap_or(1)),
            on_disk_payload: asked.on_disk_payload.unwrap_or(true),
            ..Default::default()
        }),
        hnsw_config: Some(grpc::HnswConfigDiff {
            m: Some(hnsw.m as u64),
            ef_construct: Some(hnsw.ef_construct as u64),
            full_scan_threshold: Some(hnsw.full_scan_threshold as u64),
            max_indexing_threads: Some(hnsw.max_indexing_threads as u64),
            payload_m: hnsw.payload_m.map(|m| m as u64),
            ..Default::default()
        }),
        optimizer_config: Some(grpc::OptimizersConfigDiff {
            deleted_threshold: config.optimizers.deleted_threshold,
            indexing_threshold: Some(config.optimizers.get_indexing_threshold_kb() as u64),
            ..Default::default()
        }),
        quantization_config: asked.quantization_config,
        strict_mode_config: asked.strict_mode_config,
        metadata: asked.metadata,
        ..Default::default()
    }
}

/// The engine's schema of a payload index.
pub(super) fn index_schema(
    field_type: Option<i32>,
    params: Option<grpc::PayloadIndexParams>,
) -> Result<PayloadFieldSchema, Status> {
    let schema = match params.and_then(|params| params.index_params) {
        Some(params) => index_params(params)?,
        None => match field_type.map(grpc::FieldType::try_from) {
            Some(Ok(grpc::FieldType::Keyword)) => json!("keyword"),
            Some(Ok(grpc::FieldType::Integer)) => json!("integer"),
            Some(Ok(grpc::FieldType::Float)) => json!("float"),
            Some(Ok(grpc::FieldType::Bool)) => json!("bool"),
            Some(Ok(grpc::FieldType::Datetime)) => json!("datetime"),
            Some(Ok(grpc::FieldType::Uuid)) => json!("uuid"),
            Some(Ok(grpc::FieldType::Geo | grpc::FieldType::Text)) => return Err(unserved()),
            Some(Err(_)) | None => return Err(wrong_input("field type is missing")),
        },
    };
    serde_json::from_value(schema).map_err(|error| wrong_input(format!("index: {error}")))
}

fn unserved() -> Status {
    wrong_input("the local Qdrant does not serve text and geo indexes, nor prefix and nested ones")
}

fn index_params(params: IndexParams) -> Result<serde_json::Value, Status> {
    Ok(match params {
        IndexParams::KeywordIndexParams(p) if p.prefix.is_none() && p.nested.is_none() => {
            json!({ "type": "keyword", "is_tenant": p.is_tenant, "enable_hnsw": p.enable_hnsw })
        }
        IndexParams::UuidIndexParams(p) if p.nested.is_none() => {
            json!({ "type": "uuid", "is_tenant": p.is_tenant, "enable_hnsw": p.enable_hnsw })
        }
        IndexParams::IntegerIndexParams(p) if p.nested.is_none() => json!({
            "type": "integer", "lookup": p.lookup, "range": p.range, "is_principal": p.is_principal,
            "enable_hnsw": p.enable_hnsw
        }),
        IndexParams::FloatIndexParams(p) if p.nested.is_none() => {
            json!({ "type": "float", "is_principal": p.is_principal, "enable_hnsw": p.enable_hnsw })
        }
        IndexParams::BoolIndexParams(p) if p.nested.is_none() => {
            json!({ "type": "bool", "enable_hnsw": p.enable_hnsw })
        }
        IndexParams::DatetimeIndexParams(p) if p.nested.is_none() => {
            json!({ "type": "datetime", "is_principal": p.is_principal, "enable_hnsw": p.enable_hnsw })
        }
        _ => return Err(unserved()),
    })
}

/// How a payload index is shown.
pub(super) fn index_out(index: PayloadIndexInfo) -> grpc::PayloadSchemaInfo {
    let data_type = match index.data_type {
        PayloadSchemaType::Keyword => grpc::PayloadSchemaType::Keyword,
        PayloadSchemaType::Integer => grpc::PayloadSchemaType::Integer,
        PayloadSchemaType::Float => grpc::PayloadSchemaType::Float,
        PayloadSchemaType::Geo => grpc::PayloadSchemaType::Geo,
        PayloadSchemaType::Text => grpc::PayloadSchemaType::Text,
        PayloadSchemaType::Bool => grpc::PayloadSchemaType::Bool,
        PayloadSchemaType::Datetime => grpc::PayloadSchemaType::Datetime,
        PayloadSchemaType::Uuid => grpc::PayloadSchemaType::Uuid,
    };
    grpc::PayloadSchemaInfo { data_type: data_type as i32, params: None, points: Some(index.points as u64) }
}
