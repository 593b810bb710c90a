//! Writes: a gRPC operation becomes one of `qdrant-edge`. Operations by filter are pinned to the ids that match now, so
//! that the journal can replay them; conditional ones, which a replay would judge anew, are refused.

use qdrant_client::qdrant::points_selector::PointsSelectorOneOf;
use qdrant_client::qdrant::points_update_operation as wire;
use qdrant_client::qdrant::{self as grpc, PointsUpdateOperation};
use qdrant_edge::{
    DeletePayloadOp, PayloadOps, PointId, PointInsertOperations, PointOperations, PointStructPersisted, SetPayloadOp,
    UpdateOperation, VectorStructPersisted,
};
use tonic::Status;
use wire::Operation;

use super::convert::{id_out, no_shard_key, path, payload, point_id, point_ids, vector, wrong_input};

/// The selector of an operation that has one.
fn selector(operation: &mut Operation) -> Option<&mut Option<grpc::PointsSelector>> {
    match operation {
        Operation::SetPayload(op) => Some(&mut op.points_selector),
        Operation::OverwritePayload(op) => Some(&mut op.points_selector),
        Operation::DeletePayload(op) => Some(&mut op.points_selector),
        Operation::ClearPayload(op) => Some(&mut op.points),
        Operation::DeletePoints(op) => Some(&mut op.points),
        _ => None,
    }
}

/// How large a write is: the points that it brings, or the filter that it is for.
pub(super) fn extent(operation: &PointsUpdateOperation) -> (usize, Option<&grpc::Filter>) {
    let selector = match &operation.operation {
        Some(Operation::Upsert(list)) => return (list.points.len(), None),
        Some(Operation::SetPayload(op)) => op.points_selector.as_ref(),
        Some(Operation::OverwritePayload(op)) => op.points_selector.as_ref(),
        Some(Operation::DeletePayload(op)) => op.points_selector.as_ref(),
        Some(Operation::ClearPayload(op)) => op.points.as_ref(),
        Some(Operation::DeletePoints(op)) => op.points.as_ref(),
        _ => None,
    };
    match selector.and_then(|selector| selector.points_selector_one_of.as_ref()) {
        Some(PointsSelectorOneOf::Filter(filter)) => (0, Some(filter)),
        _ => (0, None),
    }
}

/// Rewrites the older spellings and replaces a filter by the ids that `matching` finds for it.
#[expect(deprecated, reason = "the older spellings are still on the wire of older clients")]
pub(super) fn pin(
    operation: PointsUpdateOperation,
    matching: impl FnOnce(grpc::Filter) -> Result<Vec<PointId>, Status>,
) -> Result<PointsUpdateOperation, Status> {
    let mut operation = match operation.operation.ok_or_else(|| wrong_input("an update operation is empty"))? {
        Operation::DeleteDeprecated(points) => {
            Operation::DeletePoints(wire::DeletePoints { points: Some(points), shard_key_selector: None })
        }
        Operation::ClearPayloadDeprecated(points) => {
            Operation::ClearPayload(wire::ClearPayload { points: Some(points), shard_key_selector: None })
        }
        other => other,
    };
    if let Some(selector) = selector(&mut operation) {
        let ids = match selector.take().and_then(|selector| selector.points_selector_one_of) {
            Some(PointsSelectorOneOf::Points(list)) => list.ids,
            Some(PointsSelectorOneOf::Filter(filter)) => matching(filter)?.into_iter().map(id_out).collect(),
            None => return Err(wrong_input("a points selector is expected")),
        };
        *selector = Some(ids_selector(ids));
    }
    Ok(PointsUpdateOperation { operation: Some(operation) })
}

fn ids_selector(ids: Vec<grpc::PointId>) -> grpc::PointsSelector {
    let list = grpc::PointsIdsList { ids };
    grpc::PointsSelector { points_selector_one_of: Some(PointsSelectorOneOf::Points(list)) }
}

/// Keeps the ids that `exists` answers for: at a replay, points that a later entry deletes may be gone already, and the
/// engine stops at the first payload change of a missing point.
pub(super) fn keep(
    mut operation: PointsUpdateOperation,
    existing: impl FnOnce(Vec<PointId>) -> Result<Vec<PointId>, Status>,
) -> Result<PointsUpdateOperation, Status> {
    if let Some(selector) = operation.operation.as_mut().and_then(selector) {
        let ids = existing(selected(selector.take())?)?;
        *selector = Some(ids_selector(ids.into_iter().map(id_out).collect()));
    }
    Ok(operation)
}

fn selected(selector: Option<grpc::PointsSelector>) -> Result<Vec<PointId>, Status> {
    match selector.and_then(|selector| selector.points_selector_one_of) {
        Some(PointsSelectorOneOf::Points(list)) => point_ids(list.ids),
        _ => Err(wrong_input("a points selector is expected")),
    }
}

/// The engine's operation for a pinned one, or `None` where there is nothing to do.
#[expect(deprecated, reason = "the older spellings are still on the wire of older clients")]
pub(super) fn compile(operation: PointsUpdateOperation, dim: usize) -> Result<Option<UpdateOperation>, Status> {
    match operation.operation.ok_or_else(|| wrong_input("an update operation is empty"))? {
        Operation::Upsert(list) => upsert(list, dim),
        Operation::DeletePoints(op) => {
            no_shard_key(&op.shard_key_selector)?;
            let ids = selected(op.points)?;
            let operation = PointOperations::DeletePoints { ids: ids.clone() };
            Ok((!ids.is_empty()).then_some(UpdateOperation::PointOperation(operation)))
        }
        Operation::SetPayload(op) => {
            no_shard_key(&op.shard_key_selector)?;
            payload_op(op.points_selector, op.payload, op.key, PayloadOps::SetPayload)
        }
        Operation::OverwritePayload(op) => {
            no_shard_key(&op.shard_key_selector)?;
            payload_op(op.points_selector, op.payload, op.key, PayloadOps::OverwritePayload)
        }
        Operation::DeletePayload(op) => {
            no_shard_key(&op.shard_key_selector)?;
            let keys = op.keys.iter().map(|key| path(key)).collect::<Result<_, _>>()?;
            Ok(some_ids(op.points_selector)?.map(|ids| {
                let op = DeletePayloadOp { keys, points: Some(ids), filter: None };
                UpdateOperation::PayloadOperation(PayloadOps::DeletePayload(op))
            }))
        }
        Operation::ClearPayload(op) => {
            no_shard_key(&op.shard_key_selector)?;
            let points = some_ids(op.points)?;
            Ok(points.map(|points| UpdateOperation::PayloadOperation(PayloadOps::ClearPayload { points })))
        }
        Operation::UpdateVectors(_) | Operation::DeleteVectors(_) => {
            Err(Status::unimplemented("the local Qdrant does not change vectors by themselves: upsert the point"))
        }
        Operation::DeleteDeprecated(_) | Operation::ClearPayloadDeprecated(_) => {
            Err(Status::internal("an operation was not pinned"))
        }
    }
}

fn some_ids(selector: Option<grpc::PointsSelector>) -> Result<Option<Vec<PointId>>, Status> {
    selected(selector).map(|ids| (!ids.is_empty()).then_some(ids))
}

fn upsert(list: wire::PointStructList, dim: usize) -> Result<Option<UpdateOperation>, Status> {
    no_shard_key(&list.shard_key_selector)?;
    if list.update_filter.is_some() || list.update_mode.is_some_and(|mode| mode != grpc::UpdateMode::Upsert as i32) {
        return Err(wrong_input("the local Qdrant does not serve conditional upserts"));
    }
    let point = |point: grpc::PointStruct| {
        Ok(PointStructPersisted {
            id: point_id(point.id)?,
            vector: VectorStructPersisted::Single(vector(point.vectors, dim)?),
            payload: Some(payload(point.payload)?),
        })
    };
    let points = list.points.into_iter().map(point).collect::<Result<Vec<_>, Status>>()?;
    let operation = (!points.is_empty())
        .then_some(PointOperations::UpsertPoints(PointInsertOperations::PointsList(points)))
        .map(UpdateOperation::PointOperation);
    Ok(operation)
}

fn payload_op(
    points: Option<grpc::PointsSelector>,
    fields: std::collections::HashMap<String, grpc::Value>,
    key: Option<String>,
    kind: impl FnOnce(SetPayloadOp) -> PayloadOps,
) -> Result<Option<UpdateOperation>, Status> {
    let payload = payload(fields)?;
    let key = key.as_deref().map(path).transpose()?;
    Ok(some_ids(points)?.map(|ids| {
        let op = SetPayloadOp { payload, points: Some(ids), filter: None, key };
        UpdateOperation::PayloadOperation(kind(op))
    }))
}
