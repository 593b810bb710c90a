//! Qdrant's `Collections` service and its health check.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use qdrant_client::qdrant as grpc;
use qdrant_client::qdrant::collections_server::Collections;
use qdrant_client::qdrant::qdrant_server::Qdrant;
use tonic::{Request, Response, Status};

use super::collection::Collection;
use super::index::{config_out, edge_config, index_out};
use super::points::unserved;
use super::store::Store;

/// The version of Qdrant's API whose messages are served: that of the `qdrant-client` crate.
const API_VERSION: &str = "1.20.0";

/// The service.
pub(super) struct CollectionsService(pub(super) Arc<Store>);

/// The health check.
pub(super) struct HealthService;

type Answer<T> = Result<Response<T>, Status>;

fn done(result: bool, since: Instant) -> Answer<grpc::CollectionOperationResponse> {
    Ok(Response::new(grpc::CollectionOperationResponse { result, time: since.elapsed().as_secs_f64() }))
}

fn info(collection: &Collection) -> grpc::CollectionInfo {
    let info = collection.shard().info();
    let status =
        if collection.is_optimizing() { grpc::CollectionStatus::Yellow } else { grpc::CollectionStatus::Green };
    let schema = info.payload_schema.into_iter().map(|(field, index)| (field.to_string(), index_out(index)));
    let mut shown = grpc::CollectionInfo {
        status: status as i32,
        optimizer_status: Some(grpc::OptimizerStatus { ok: true, error: String::new() }),
        segments_count: info.segments_count as u64,
        config: Some(config_out(&collection.shard().config(), collection.settings())),
        payload_schema: schema.collect(),
        points_count: Some(info.points_count as u64),
        indexed_vectors_count: Some(info.indexed_vectors_count as u64),
        ..grpc::CollectionInfo::default()
    };
    shown.created_at.get_or_insert_default().seconds = collection.created_at();
    shown
}

impl CollectionsService {
    fn described(&self, of: Option<&str>) -> Vec<grpc::AliasDescription> {
        let all = self.0.aliases().into_iter();
        let chosen = all.filter(|(_, collection)| of.is_none_or(|of| of == collection));
        chosen.map(|(alias_name, collection_name)| grpc::AliasDescription { alias_name, collection_name }).collect()
    }
}

#[tonic::async_trait]
impl Collections for CollectionsService {
    async fn get(&self, request: Request<grpc::GetCollectionInfoRequest>) -> Answer<grpc::GetCollectionInfoResponse> {
        let since = Instant::now();
        let collection = self.0.get(&request.into_inner().collection_name)?;
        let result = self.0.pool().run(move || Ok(info(&collection))).await?;
        let time = since.elapsed().as_secs_f64();
        Ok(Response::new(grpc::GetCollectionInfoResponse { result: Some(result), time }))
    }

    async fn list(&self, _: Request<grpc::ListCollectionsRequest>) -> Answer<grpc::ListCollectionsResponse> {
        let since = Instant::now();
        let names = self.0.all().into_iter().map(|collection| collection.name().to_owned());
        let mut collections: Vec<_> = names.map(|name| grpc::CollectionDescription { name }).collect();
        collections.sort_by(|a, b| a.name.cmp(&b.name));
        let time = since.elapsed().as_secs_f64();
        Ok(Response::new(grpc::ListCollectionsResponse { collections, time }))
    }

    async fn create(&self, request: Request<grpc::CreateCollection>) -> Answer<grpc::CollectionOperationResponse> {
        let (since, request) = (Instant::now(), request.into_inner());
        let config = edge_config(&request)?;
        self.0.create(request, config).await?;
        done(true, since)
    }

    async fn update(&self, request: Request<grpc::UpdateCollection>) -> Answer<grpc::CollectionOperationResponse> {
        let (since, request) = (Instant::now(), request.into_inner());
        let grpc::UpdateCollection { collection_name, strict_mode_config: strict, metadata, .. } = request.clone();
        let served = |request| grpc::UpdateCollection {
            collection_name: String::new(),
            timeout: None,
            strict_mode_config: None,
            metadata: HashMap::new(),
            ..request
        };
        if served(request) != grpc::UpdateCollection::default() {
            return unserved("changes of a collection's parameters other than its strict mode and metadata");
        }
        let change = move |settings: &mut grpc::CreateCollection| {
            settings.strict_mode_config = strict.or(settings.strict_mode_config.take());
            settings.metadata.extend(metadata);
        };
        self.0.write(&collection_name, move |collection, writer| collection.change_settings(writer, change)).await?;
        done(true, since)
    }

    async fn delete(&self, request: Request<grpc::DeleteCollection>) -> Answer<grpc::CollectionOperationResponse> {
        let since = Instant::now();
        let existed = self.0.delete(request.into_inner().collection_name).await?;
        done(existed, since)
    }

    async fn update_aliases(&self, request: Request<grpc::ChangeAliases>) -> Answer<grpc::CollectionOperationResponse> {
        let since = Instant::now();
        self.0.change_aliases(request.into_inner().actions).await?;
        done(true, since)
    }

    async fn list_collection_aliases(
        &self,
        request: Request<grpc::ListCollectionAliasesRequest>,
    ) -> Answer<grpc::ListAliasesResponse> {
        let since = Instant::now();
        let collection = self.0.get(&request.into_inner().collection_name)?;
        let aliases = self.described(Some(collection.name()));
        Ok(Response::new(grpc::ListAliasesResponse { aliases, time: since.elapsed().as_secs_f64() }))
    }

    async fn list_aliases(&self, _: Request<grpc::ListAliasesRequest>) -> Answer<grpc::ListAliasesResponse> {
        let since = Instant::now();
        let aliases = self.described(None);
        Ok(Response::new(grpc::ListAliasesResponse { aliases, time: since.elapsed().as_secs_f64() }))
    }

    async fn collection_cluster_info(
        &self,
        _: Request<grpc::CollectionClusterInfoRequest>,
    ) -> Answer<grpc::CollectionClusterInfoResponse> {
        unserved("clusters")
    }

    async fn collection_exists(
        &self,
        request: Request<grpc::CollectionExistsRequest>,
    ) -> Answer<grpc::CollectionExistsResponse> {
        let since = Instant::now();
        let exists = self.0.get(&request.into_inner().collection_name).is_ok();
        let result = Some(grpc::CollectionExists { exists });
        Ok(Response::new(grpc::CollectionExistsResponse { result, time: since.elapsed().as_secs_f64() }))
    }

    async fn update_collection_cluster_setup(
        &self,
        _: Request<grpc::UpdateCollectionClusterSetupRequest>,
    ) -> Answer<grpc::UpdateCollectionClusterSetupResponse> {
        unserved("clusters")
    }

    async fn create_shard_key(&self, _: Request<grpc::CreateShardKeyRequest>) -> Answer<grpc::CreateShardKeyResponse> {
        unserved("shard keys")
    }

    async fn delete_shard_key(&self, _: Request<grpc::DeleteShardKeyRequest>) -> Answer<grpc::DeleteShardKeyResponse> {
        unserved("shard keys")
    }

    async fn list_shard_keys(&self, _: Request<grpc::ListShardKeysRequest>) -> Answer<grpc::ListShardKeysResponse> {
        unserved("shard keys")
    }
}

#[tonic::async_trait]
impl Qdrant for HealthService {
    async fn health_check(&self, _: Request<grpc::HealthCheckRequest>) -> Answer<grpc::HealthCheckReply> {
        let title = "Facewire's local Qdrant, over qdrant-edge 0.7.2".to_owned();
        Ok(Response::new(grpc::HealthCheckReply { title, version: API_VERSION.to_owned(), commit: None }))
    }
}
