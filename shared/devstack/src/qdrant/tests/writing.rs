//! Writes by ids and by filter, what is refused, and what a crash leaves.

use std::path::Path;

use qdrant_client::qdrant::{
    ClearPayloadPointsBuilder, DeletePayloadPointsBuilder, DeletePointsBuilder, NamedVectors, SetPayloadPointsBuilder,
    SparseVectorParamsBuilder, SparseVectorsConfigBuilder, Value, VectorsConfigBuilder,
};

use super::*;

fn payload(fields: &[(&'static str, &str)]) -> Payload {
    fields.iter().map(|(key, value)| (*key, Value::from(*value))).collect::<std::collections::HashMap<_, _>>().into()
}

async fn payloads(client: &Qdrant) -> Vec<(u64, Vec<(String, String)>)> {
    let answer = client.scroll(ScrollPointsBuilder::new(NAME).with_payload(true).limit(100)).await.unwrap();
    let fields = |payload: std::collections::HashMap<String, Value>| {
        let mut fields: Vec<_> =
            payload.into_iter().map(|(key, value)| (key, value.as_str().cloned().unwrap_or_default())).collect();
        fields.sort();
        fields
    };
    answer.result.into_iter().map(|point| (number(point.id), fields(point.payload))).collect()
}

/// All kinds of writes, and what is there afterwards.
async fn write(client: &Qdrant) -> Vec<(u64, Vec<(String, String)>)> {
    let by = |key: &str, value: &str| Filter::must([Condition::matches(key, value.to_owned())]);
    upsert(client, (1..=6).map(|id| point(id, vec![("a", "1".into()), ("b", "2".into())])).collect()).await;
    upsert(client, vec![point(6, vec![])]).await;
    client
        .set_payload(SetPayloadPointsBuilder::new(NAME, payload(&[("c", "3")])).points_selector([1, 2]).wait(true))
        .await
        .unwrap();
    let set = SetPayloadPointsBuilder::new(NAME, payload(&[("a", "9")])).points_selector(by("c", "3")).wait(true);
    client.set_payload(set).await.unwrap();
    let overwrite = SetPayloadPointsBuilder::new(NAME, payload(&[("d", "4")])).points_selector([3]).wait(true);
    client.overwrite_payload(overwrite).await.unwrap();
    let remove = DeletePayloadPointsBuilder::new(NAME, ["b".to_owned()]).points_selector(by("a", "9")).wait(true);
    client.delete_payload(remove).await.unwrap();
    client.clear_payload(ClearPayloadPointsBuilder::new(NAME).points([4]).wait(true)).await.unwrap();
    client.delete_points(DeletePointsBuilder::new(NAME).points([2, 77]).wait(true)).await.unwrap();
    client.delete_points(DeletePointsBuilder::new(NAME).points(by("a", "1")).wait(true)).await.unwrap();
    let field = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    vec![(1, vec![field("a", "9"), field("c", "3")]), (3, vec![field("d", "4")]), (4, vec![]), (6, vec![])]
}

#[tokio::test]
async fn writes_by_ids_and_filters_do_what_they_say_and_survive_a_restart() {
    let (dir, server, client) = fresh().await;
    let expected = write(&client).await;
    assert_eq!(payloads(&client).await, expected);
    server.shutdown().await;
    let (server, client) = serve(dir.path()).await;
    assert_eq!(payloads(&client).await, expected);
    server.shutdown().await;
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target)
        } else {
            std::fs::copy(entry.path(), target).map(drop).unwrap()
        }
    }
}

/// The state of a crash before any flush: the files of a fresh collection with the journal of later writes, also over
/// files that a flush brought to a later state already. (Killing a process is tested by the crate of Facewire's client.)
#[tokio::test]
async fn a_journal_replays_over_an_older_and_over_a_newer_state() {
    let (dir, server, client) = fresh().await;
    server.shutdown().await;
    drop(client);
    let old = tempfile::tempdir().unwrap();
    copy(dir.path(), old.path());
    let (server, client) = serve_maintained(dir.path(), Duration::from_secs(3600)).await;
    let journal =
        std::fs::read_dir(dir.path().join("collections")).unwrap().next().unwrap().unwrap().path().join("journal");
    let expected = write(&client).await;
    let entries = std::fs::read(&journal).unwrap();
    server.shutdown().await;
    assert!(std::fs::read(&journal).unwrap().is_empty(), "a flush empties the journal");
    for state in [old.path(), dir.path()] {
        let collection = std::fs::read_dir(state.join("collections")).unwrap().next().unwrap().unwrap().path();
        std::fs::write(collection.join("journal"), &entries).unwrap();
        let (server, client) = serve(state).await;
        assert_eq!(payloads(&client).await, expected);
        assert_eq!(count(&client).await, 4);
        server.shutdown().await;
    }
}

/// As a process leaves it that is killed at the end of an optimization: the same points in two segments.
#[tokio::test]
async fn points_that_an_interrupted_optimization_doubled_are_single_again() {
    let (dir, server, client) = fresh().await;
    let expected = write(&client).await;
    server.shutdown().await;
    let only = |dir: &Path| std::fs::read_dir(dir).unwrap().next().unwrap().unwrap().path();
    let segments = only(&dir.path().join("collections")).join("shard/segments");
    copy(&only(&segments), &segments.join(uuid::Uuid::new_v4().to_string()));
    for _ in 0..2 {
        let (server, client) = serve(dir.path()).await;
        assert_eq!(payloads(&client).await, expected);
        assert_eq!(count(&client).await, 4);
        assert_eq!(client.collection_info(NAME).await.unwrap().result.unwrap().points_count, Some(4));
        client.delete_points(DeletePointsBuilder::new(NAME).points([77]).wait(true)).await.unwrap();
        server.shutdown().await;
    }
}

#[tokio::test]
async fn a_wrong_point_stores_nothing() {
    let (_dir, server, client) = fresh().await;
    let good = || point(1, vec![]);
    let bad = [
        PointStruct::new(2, vec![1.0; 3], Payload::new()),
        PointStruct::new(2, vec![f32::NAN; 4], Payload::new()),
        PointStruct::new("not a uuid", vec![1.0; 4], Payload::new()),
        PointStruct::new(2, NamedVectors::default().add_vector("x", vec![1.0; 4]), Payload::new()),
        PointStruct { id: None, ..good() },
        PointStruct { vectors: None, ..good() },
        point(2, vec![("x", f64::INFINITY.into())]),
    ];
    for point in bad {
        let refused =
            client.upsert_points(UpsertPointsBuilder::new(NAME, vec![good(), point.clone()]).wait(true)).await;
        assert_eq!(code(refused).0, Code::InvalidArgument, "{point:?}");
    }
    assert_eq!(count(&client).await, 0);
    let missing = SetPayloadPointsBuilder::new(NAME, payload(&[("a", "1")])).points_selector([5]).wait(true);
    assert_eq!(code(client.set_payload(missing).await).0, Code::NotFound);
    let stranger = client.upsert_points(UpsertPointsBuilder::new("nowhere", vec![good()])).await;
    assert_eq!(code(stranger).0, Code::NotFound);
    server.shutdown().await;
}

#[tokio::test]
async fn collections_that_could_not_be_served_are_refused() {
    let (_dir, server, client) = fresh().await;
    let mut named = VectorsConfigBuilder::default();
    named.add_named_vector_params("x", VectorParamsBuilder::new(4, Distance::Cosine));
    let mut sparse = SparseVectorsConfigBuilder::default();
    sparse.add_named_vector_params("x", SparseVectorParamsBuilder::default());
    let plain = |dim| VectorParamsBuilder::new(dim, Distance::Cosine);
    let requests = [
        CreateCollectionBuilder::new("x").vectors_config(named),
        CreateCollectionBuilder::new("x").vectors_config(plain(4)).sparse_vectors_config(sparse),
        CreateCollectionBuilder::new("x").vectors_config(plain(0)),
        CreateCollectionBuilder::new("x").vectors_config(plain(70_000)),
        CreateCollectionBuilder::new("x"),
        CreateCollectionBuilder::new("../x").vectors_config(plain(4)),
        CreateCollectionBuilder::new("").vectors_config(plain(4)),
    ];
    for request in requests {
        assert_eq!(code(client.create_collection(request.clone()).await).0, Code::InvalidArgument, "{request:?}");
    }
    server.shutdown().await;
}

/// The engine's own log is cut at each flush, and cutting it loses neither points nor the count of operations, by which the
/// engine would pass over new writes as old ones.
#[tokio::test]
async fn the_engines_log_does_not_grow_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let (server, client) = serve_maintained(dir.path(), Duration::from_secs(3600)).await;
    let vectors = VectorParamsBuilder::new(2048, Distance::Dot);
    client.create_collection(CreateCollectionBuilder::new(NAME).vectors_config(vectors)).await.unwrap();
    let face = |id: u64, value: f32| PointStruct::new(id, vec![value; 2048], Payload::new());
    // About 10 KiB a point in the log, whose files have 2 MiB.
    for batch in 0..8 {
        upsert(&client, (0..100).map(|n| face(batch * 100 + n, 0.1)).collect()).await;
    }
    let collection = std::fs::read_dir(dir.path().join("collections")).unwrap().next().unwrap().unwrap().path();
    let closed = || {
        let files = std::fs::read_dir(collection.join("shard/wal")).unwrap();
        files.filter(|file| file.as_ref().unwrap().file_name().to_string_lossy().starts_with("closed-")).count()
    };
    assert!(closed() > 2, "the test writes too little: {}", closed());
    server.shutdown().await;
    assert_eq!(closed(), 1);
    for restart in 0..2 {
        let (server, client) = serve(dir.path()).await;
        assert_eq!(count(&client).await, 800 + restart);
        upsert(&client, vec![face(1, 2.0 + restart as f32), face(1000 + restart, 1.0)]).await;
        let known = qdrant_client::qdrant::GetPointsBuilder::new(NAME, vec![1.into()]).with_vectors(true);
        let point = client.get_points(known).await.unwrap().result.into_iter().next().unwrap();
        let vector = point.vectors.unwrap().get_vector().unwrap();
        let qdrant_client::qdrant::vector_output::Vector::Dense(dense) = vector else { panic!("not dense") };
        assert_eq!(dense.data[0], 2.0 + restart as f32);
        server.shutdown().await;
    }
}
