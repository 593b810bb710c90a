//! Doubled points. An optimization puts the merged segment beside the old ones before it removes them; a process killed
//! between leaves both, and `qdrant-edge`, unlike the server, does not notice at its next start: counts and pages would be
//! wrong. So a start looks whether there are more points than ids, and stores those again that are there twice.

use qdrant_edge::{
    Condition, CountRequest, EdgeShard, Filter, HasIdCondition, OperationError, OperationResult, PointId,
    PointInsertOperations, PointOperations, PointStructPersisted, Record, ScrollRequest, UpdateOperation,
    VectorStructInternal, VectorStructPersisted, WithPayloadInterface, WithVector,
};

/// Points a step: their vectors and payloads are in memory at once.
const PAGE: usize = 512;

/// Leaves one of each point, its newest version. Gives how many points were stored again.
pub(super) fn dedup(shard: &EdgeShard) -> OperationResult<usize> {
    if shard.info().segments_count < 2 {
        return Ok(0);
    }
    let (mut repeated, mut offset) = (0, None);
    loop {
        let (page, next) = shard.scroll(ScrollRequest {
            offset,
            limit: Some(PAGE),
            with_payload: Some(WithPayloadInterface::Bool(false)),
            with_vector: WithVector::Bool(false),
            ..ScrollRequest::default()
        })?;
        let ids: Vec<PointId> = page.into_iter().map(|record| record.id).collect();
        let filter = Filter::new_must(Condition::HasId(HasIdCondition::from_iter(ids.iter().copied())));
        if shard.count(CountRequest { filter: Some(filter), exact: true })? > ids.len() {
            repeated += store_again(shard, ids)?;
        }
        offset = next;
        if offset.is_none() {
            return Ok(repeated);
        }
    }
}

fn store_again(shard: &EdgeShard, ids: Vec<PointId>) -> OperationResult<usize> {
    let records = shard.retrieve(&ids, Some(WithPayloadInterface::Bool(true)), Some(WithVector::Bool(true)))?;
    let points = records.into_iter().map(point).collect::<OperationResult<Vec<_>>>()?;
    let count = points.len();
    shard.update(UpdateOperation::PointOperation(PointOperations::DeletePoints { ids }))?;
    let list = PointInsertOperations::PointsList(points);
    shard.update(UpdateOperation::PointOperation(PointOperations::UpsertPoints(list)))?;
    Ok(count)
}

fn point(record: Record) -> OperationResult<PointStructPersisted> {
    let Some(VectorStructInternal::Single(vector)) = record.vector else {
        return Err(OperationError::InconsistentStorage { description: "a point has no vector".to_owned() });
    };
    let payload = Some(record.payload.unwrap_or_default());
    Ok(PointStructPersisted { id: record.id, vector: VectorStructPersisted::Single(vector), payload })
}
