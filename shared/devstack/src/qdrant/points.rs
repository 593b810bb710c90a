//! Qdrant's `Points` service. Thin: names are looked up, the work runs in the pool, answers are wrapped.

use std::sync::Arc;
use std::time::Instant;

use qdrant_client::qdrant::points_server::Points;
use qdrant_client::qdrant::points_update_operation::{self as wire, Operation};
use qdrant_client::qdrant::{self as grpc, PointsUpdateOperation};
use tonic::{Request, Response, Status};

use super::faults::Faults;
use super::index::index_schema;
use super::read;
use super::store::Store;

/// The service.
pub(super) struct PointsService {
    pub(super) store: Arc<Store>,
    pub(super) faults: Faults,
}

type Answer<T> = Result<Response<T>, Status>;

/// What the local server leaves to a real one.
pub(super) fn unserved<T>(what: &str) -> Answer<T> {
    Err(Status::unimplemented(format!("the local Qdrant does not serve {what}; use a real server for it")))
}

fn updated(operation_id: u64, wait: Option<bool>, faults: &Faults) -> grpc::UpdateResult {
    // The write is done either way; without `wait` the real server would not say so yet.
    let status = match wait.unwrap_or_default() {
        true if faults.is_unconfirmed() => grpc::UpdateStatus::WaitTimeout,
        true => grpc::UpdateStatus::Completed,
        false => grpc::UpdateStatus::Acknowledged,
    };
    grpc::UpdateResult { operation_id: Some(operation_id), status: status as i32 }
}

fn done(result: grpc::UpdateResult, since: Instant) -> Answer<grpc::PointsOperationResponse> {
    let time = since.elapsed().as_secs_f64();
    Ok(Response::new(grpc::PointsOperationResponse { result: Some(result), time, usage: None }))
}

impl PointsService {
    async fn write(
        &self,
        collection: String,
        wait: Option<bool>,
        operation: Operation,
    ) -> Answer<grpc::PointsOperationResponse> {
        let since = Instant::now();
        let operation = PointsUpdateOperation { operation: Some(operation) };
        let id = self.store.write(&collection, move |collection, writer| collection.apply(writer, operation)).await?;
        done(updated(id, wait, &self.faults), since)
    }

    async fn read<T: Send + 'static>(
        &self,
        collection: &str,
        read: impl FnOnce(&super::collection::Collection) -> Result<T, Status> + Send + 'static,
    ) -> Result<T, Status> {
        let collection = self.store.get(collection)?;
        self.store.pool().run(move || read(&collection)).await
    }

    async fn query(
        &self,
        collection: &str,
        queries: Vec<grpc::QueryPoints>,
    ) -> Result<Vec<Vec<grpc::ScoredPoint>>, Status> {
        let collection = self.store.get(collection)?;
        if let Some(strict) = collection.strict() {
            strict.queries(&queries)?;
        }
        read::query(self.store.pool(), &collection, queries).await
    }
}

fn batches(answers: Vec<Vec<grpc::ScoredPoint>>) -> Vec<grpc::BatchResult> {
    answers.into_iter().map(|result| grpc::BatchResult { result }).collect()
}

#[tonic::async_trait]
impl Points for PointsService {
    async fn upsert(&self, request: Request<grpc::UpsertPoints>) -> Answer<grpc::PointsOperationResponse> {
        let request = request.into_inner();
        let list = wire::PointStructList {
            points: request.points,
            shard_key_selector: request.shard_key_selector,
            update_filter: request.update_filter,
            update_mode: request.update_mode,
        };
        self.write(request.collection_name, request.wait, Operation::Upsert(list)).await
    }

    async fn delete(&self, request: Request<grpc::DeletePoints>) -> Answer<grpc::PointsOperationResponse> {
        let request = request.into_inner();
        let op = wire::DeletePoints { points: request.points, shard_key_selector: request.shard_key_selector };
        self.write(request.collection_name, request.wait, Operation::DeletePoints(op)).await
    }

    async fn get(&self, request: Request<grpc::GetPoints>) -> Answer<grpc::GetResponse> {
        let (since, request) = (Instant::now(), request.into_inner());
        let name = request.collection_name.clone();
        let result = self.read(&name, move |collection| read::get(collection, request)).await?;
        Ok(Response::new(grpc::GetResponse { result, time: since.elapsed().as_secs_f64(), usage: None }))
    }

    async fn update_vectors(&self, _: Request<grpc::UpdatePointVectors>) -> Answer<grpc::PointsOperationResponse> {
        unserved("changes of vectors by themselves")
    }

    async fn delete_vectors(&self, _: Request<grpc::DeletePointVectors>) -> Answer<grpc::PointsOperationResponse> {
        unserved("changes of vectors by themselves")
    }

    async fn set_payload(&self, request: Request<grpc::SetPayloadPoints>) -> Answer<grpc::PointsOperationResponse> {
        let request = request.into_inner();
        let op = wire::SetPayload {
            payload: request.payload,
            points_selector: request.points_selector,
            shard_key_selector: request.shard_key_selector,
            key: request.key,
        };
        self.write(request.collection_name, request.wait, Operation::SetPayload(op)).await
    }

    async fn overwrite_payload(
        &self,
        request: Request<grpc::SetPayloadPoints>,
    ) -> Answer<grpc::PointsOperationResponse> {
        let request = request.into_inner();
        let op = wire::OverwritePayload {
            payload: request.payload,
            points_selector: request.points_selector,
            shard_key_selector: request.shard_key_selector,
            key: request.key,
        };
        self.write(request.collection_name, request.wait, Operation::OverwritePayload(op)).await
    }

    async fn delete_payload(
        &self,
        request: Request<grpc::DeletePayloadPoints>,
    ) -> Answer<grpc::PointsOperationResponse> {
        let request = request.into_inner();
        let op = wire::DeletePayload {
            keys: request.keys,
            points_selector: request.points_selector,
            shard_key_selector: request.shard_key_selector,
        };
        self.write(request.collection_name, request.wait, Operation::DeletePayload(op)).await
    }

    async fn clear_payload(&self, request: Request<grpc::ClearPayloadPoints>) -> Answer<grpc::PointsOperationResponse> {
        let request = request.into_inner();
        let op = wire::ClearPayload { points: request.points, shard_key_selector: request.shard_key_selector };
        self.write(request.collection_name, request.wait, Operation::ClearPayload(op)).await
    }

    async fn create_field_index(
        &self,
        request: Request<grpc::CreateFieldIndexCollection>,
    ) -> Answer<grpc::PointsOperationResponse> {
        let (since, request) = (Instant::now(), request.into_inner());
        let schema = index_schema(request.field_type, request.field_index_params)?;
        let field = request.field_name;
        let id = self
            .store
            .write(&request.collection_name, move |collection, writer| collection.create_index(writer, &field, schema))
            .await?;
        done(updated(id, request.wait, &self.faults), since)
    }

    async fn delete_field_index(
        &self,
        request: Request<grpc::DeleteFieldIndexCollection>,
    ) -> Answer<grpc::PointsOperationResponse> {
        let (since, request) = (Instant::now(), request.into_inner());
        let field = request.field_name;
        let id = self
            .store
            .write(&request.collection_name, move |collection, writer| collection.delete_index(writer, &field))
            .await?;
        done(updated(id, request.wait, &self.faults), since)
    }

    async fn create_vector_name(
        &self,
        _: Request<grpc::CreateVectorNameRequest>,
    ) -> Answer<grpc::PointsOperationResponse> {
        unserved("named vectors")
    }

    async fn delete_vector_name(
        &self,
        _: Request<grpc::DeleteVectorNameRequest>,
    ) -> Answer<grpc::PointsOperationResponse> {
        unserved("named vectors")
    }

    async fn search(&self, request: Request<grpc::SearchPoints>) -> Answer<grpc::SearchResponse> {
        let (since, request) = (Instant::now(), request.into_inner());
        let name = request.collection_name.clone();
        let answers = PointsService::query(self, &name, vec![read::from_search(request)?]).await?;
        let result = answers.into_iter().flatten().collect();
        Ok(Response::new(grpc::SearchResponse { result, time: since.elapsed().as_secs_f64(), usage: None }))
    }

    async fn search_batch(&self, request: Request<grpc::SearchBatchPoints>) -> Answer<grpc::SearchBatchResponse> {
        let (since, request) = (Instant::now(), request.into_inner());
        let queries = request.search_points.into_iter().map(read::from_search).collect::<Result<_, _>>()?;
        let result = batches(PointsService::query(self, &request.collection_name, queries).await?);
        Ok(Response::new(grpc::SearchBatchResponse { result, time: since.elapsed().as_secs_f64(), usage: None }))
    }

    async fn search_groups(&self, _: Request<grpc::SearchPointGroups>) -> Answer<grpc::SearchGroupsResponse> {
        unserved("groups")
    }

    async fn scroll(&self, request: Request<grpc::ScrollPoints>) -> Answer<grpc::ScrollResponse> {
        let (since, request) = (Instant::now(), request.into_inner());
        let name = request.collection_name.clone();
        let (result, next_page_offset) = self.read(&name, move |collection| read::scroll(collection, request)).await?;
        let time = since.elapsed().as_secs_f64();
        Ok(Response::new(grpc::ScrollResponse { next_page_offset, result, time, usage: None }))
    }

    async fn recommend(&self, _: Request<grpc::RecommendPoints>) -> Answer<grpc::RecommendResponse> {
        unserved("recommendations")
    }

    async fn recommend_batch(&self, _: Request<grpc::RecommendBatchPoints>) -> Answer<grpc::RecommendBatchResponse> {
        unserved("recommendations")
    }

    async fn recommend_groups(&self, _: Request<grpc::RecommendPointGroups>) -> Answer<grpc::RecommendGroupsResponse> {
        unserved("recommendations")
    }

    async fn discover(&self, _: Request<grpc::DiscoverPoints>) -> Answer<grpc::DiscoverResponse> {
        unserved("discovery")
    }

    async fn discover_batch(&self, _: Request<grpc::DiscoverBatchPoints>) -> Answer<grpc::DiscoverBatchResponse> {
        unserved("discovery")
    }

    async fn count(&self, request: Request<grpc::CountPoints>) -> Answer<grpc::CountResponse> {
        let (since, request) = (Instant::now(), request.into_inner());
        let name = request.collection_name.clone();
        let count = self.read(&name, move |collection| read::count(collection, request)).await?;
        let result = Some(grpc::CountResult { count });
        Ok(Response::new(grpc::CountResponse { result, time: since.elapsed().as_secs_f64(), usage: None }))
    }

    async fn update_batch(&self, request: Request<grpc::UpdateBatchPoints>) -> Answer<grpc::UpdateBatchResponse> {
        let (since, request) = (Instant::now(), request.into_inner());
        let (operations, wait, faults) = (request.operations, request.wait, self.faults.clone());
        let result = self
            .store
            .write(&request.collection_name, move |collection, writer| {
                let apply = |operation| collection.apply(writer, operation).map(|id| updated(id, wait, &faults));
                operations.into_iter().map(apply).collect::<Result<Vec<_>, _>>()
            })
            .await?;
        Ok(Response::new(grpc::UpdateBatchResponse { result, time: since.elapsed().as_secs_f64(), usage: None }))
    }

    async fn query(&self, request: Request<grpc::QueryPoints>) -> Answer<grpc::QueryResponse> {
        let (since, request) = (Instant::now(), request.into_inner());
        let name = request.collection_name.clone();
        let answers = PointsService::query(self, &name, vec![request]).await?;
        let result = answers.into_iter().flatten().collect();
        Ok(Response::new(grpc::QueryResponse { result, time: since.elapsed().as_secs_f64(), usage: None }))
    }

    async fn query_batch(&self, request: Request<grpc::QueryBatchPoints>) -> Answer<grpc::QueryBatchResponse> {
        let (since, request) = (Instant::now(), request.into_inner());
        let answers = PointsService::query(self, &request.collection_name, request.query_points).await?;
        let result = batches(answers);
        Ok(Response::new(grpc::QueryBatchResponse { result, time: since.elapsed().as_secs_f64(), usage: None }))
    }

    async fn query_groups(&self, _: Request<grpc::QueryPointGroups>) -> Answer<grpc::QueryGroupsResponse> {
        unserved("groups")
    }

    async fn facet(&self, _: Request<grpc::FacetCounts>) -> Answer<grpc::FacetResponse> {
        unserved("facets")
    }

    async fn search_matrix_pairs(
        &self,
        _: Request<grpc::SearchMatrixPoints>,
    ) -> Answer<grpc::SearchMatrixPairsResponse> {
        unserved("distance matrices")
    }

    async fn search_matrix_offsets(
        &self,
        _: Request<grpc::SearchMatrixPoints>,
    ) -> Answer<grpc::SearchMatrixOffsetsResponse> {
        unserved("distance matrices")
    }
}
