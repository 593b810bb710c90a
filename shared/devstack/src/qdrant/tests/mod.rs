//! The local Qdrant through `qdrant-client`, as services use it. What Facewire's own client does with it is tested there.

mod lifecycle;
mod reading;
mod writing;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use qdrant_client::qdrant::{
    Condition, CountPointsBuilder, CreateCollectionBuilder, Distance, Filter, PointStruct, ScrollPointsBuilder,
    UpsertPointsBuilder, VectorParamsBuilder, point_id::PointIdOptions,
};
use qdrant_client::{Payload, Qdrant, QdrantError as ClientError};
use tonic::Code;

use super::{Access, LocalQdrant};

const DIM: u64 = 4;
const NAME: &str = "faces";

fn loopback() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

async fn serve(dir: &Path) -> (LocalQdrant, Qdrant) {
    serve_maintained(dir, super::upkeep::INTERVAL).await
}

async fn serve_maintained(dir: &Path, interval: Duration) -> (LocalQdrant, Qdrant) {
    let server = LocalQdrant::start_with(dir, loopback(), Access::default(), interval).await.unwrap();
    let client = Qdrant::from_url(&server.url()).skip_compatibility_check().build().unwrap();
    (server, client)
}

async fn create(client: &Qdrant, name: &str) {
    let vectors = VectorParamsBuilder::new(DIM, Distance::Cosine);
    client.create_collection(CreateCollectionBuilder::new(name).vectors_config(vectors)).await.unwrap();
}

/// A server with an empty collection.
async fn fresh() -> (tempfile::TempDir, LocalQdrant, Qdrant) {
    let dir = tempfile::tempdir().unwrap();
    let (server, client) = serve(dir.path()).await;
    create(&client, NAME).await;
    (dir, server, client)
}

fn point(id: u64, payload: Vec<(&'static str, qdrant_client::qdrant::Value)>) -> PointStruct {
    let payload: Payload = payload.into_iter().collect::<std::collections::HashMap<_, _>>().into();
    PointStruct::new(id, vec![1.0, id as f32, 0.5, -1.0], payload)
}

async fn upsert(client: &Qdrant, points: Vec<PointStruct>) {
    client.upsert_points(UpsertPointsBuilder::new(NAME, points).wait(true)).await.unwrap();
}

fn number(id: Option<qdrant_client::qdrant::PointId>) -> u64 {
    match id.unwrap().point_id_options.unwrap() {
        PointIdOptions::Num(number) => number,
        PointIdOptions::Uuid(uuid) => panic!("{uuid}"),
    }
}

async fn matching(client: &Qdrant, filter: Filter) -> Result<Vec<u64>, ClientError> {
    let answer = client.scroll(ScrollPointsBuilder::new(NAME).filter(filter).limit(1000)).await?;
    Ok(answer.result.into_iter().map(|point| number(point.id)).collect())
}

async fn with(client: &Qdrant, condition: impl Into<Condition>) -> Vec<u64> {
    matching(client, Filter::must([condition.into()])).await.unwrap()
}

async fn count(client: &Qdrant) -> u64 {
    client.count(CountPointsBuilder::new(NAME).exact(true)).await.unwrap().result.unwrap().count
}

fn code<T: std::fmt::Debug>(result: Result<T, ClientError>) -> (Code, String) {
    match result.unwrap_err() {
        ClientError::ResponseError { status } => (status.code(), status.message().to_owned()),
        other => panic!("{other}"),
    }
}
