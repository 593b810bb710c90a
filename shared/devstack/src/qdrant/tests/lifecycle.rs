//! Collections and aliases, restarts, the optimizer, a second server.

use std::time::Instant;

use qdrant_client::qdrant::{
    CollectionInfo, CollectionStatus, CreateAliasBuilder, CreateCollection, CreateFieldIndexCollectionBuilder,
    DeletePointsBuilder, FieldType, HnswConfigDiffBuilder, OptimizersConfigDiffBuilder, QueryBatchPointsBuilder,
    QueryPointsBuilder, RenameAliasBuilder, SearchParamsBuilder, StrictModeConfigBuilder, UpdateCollection,
    UpdateCollectionBuilder,
};

use super::*;
use crate::qdrant::QdrantError;

async fn info(client: &Qdrant, name: &str) -> CollectionInfo {
    client.collection_info(name).await.unwrap().result.unwrap()
}

#[tokio::test]
async fn collections_come_and_go_and_are_remembered() {
    let (dir, server, client) = fresh().await;
    let again = client
        .create_collection(
            CreateCollectionBuilder::new(NAME).vectors_config(VectorParamsBuilder::new(3, Distance::Dot)),
        )
        .await;
    assert_eq!(code(again).0, Code::AlreadyExists);
    create(&client, "kurz/lang".replace('/', "-").as_str()).await;
    create(&client, "gone").await;
    assert!(client.delete_collection("gone").await.unwrap().result);
    assert!(!client.delete_collection("gone").await.unwrap().result);
    let missing = code(client.collection_info("gone").await);
    assert_eq!(missing, (Code::NotFound, "Not found: Collection `gone` doesn't exist!".to_owned()));
    upsert(&client, vec![point(1, vec![]), point(2, vec![])]).await;
    server.shutdown().await;
    assert_eq!(std::fs::read_dir(dir.path().join("collections")).unwrap().count(), 2, "the deleted one left no files");

    let (server, client) = serve(dir.path()).await;
    let names = client.list_collections().await.unwrap().collections.into_iter().map(|c| c.name);
    assert_eq!(names.collect::<Vec<_>>(), [NAME, "kurz-lang"]);
    assert!(client.collection_exists(NAME).await.unwrap() && !client.collection_exists("gone").await.unwrap());
    let info = info(&client, NAME).await;
    assert_eq!(info.points_count, Some(2));
    let vectors = info.config.unwrap().params.unwrap().vectors_config.unwrap().config.unwrap();
    let qdrant_client::qdrant::vectors_config::Config::Params(params) = vectors else { panic!("named vectors") };
    assert_eq!((params.size, params.distance), (DIM, Distance::Cosine as i32));
    server.shutdown().await;
}

#[tokio::test]
async fn a_collection_that_cannot_be_read_is_an_error_and_one_that_was_never_finished_goes() {
    let (dir, server, client) = fresh().await;
    upsert(&client, vec![point(1, vec![])]).await;
    server.shutdown().await;
    let collections = dir.path().join("collections");
    let home = std::fs::read_dir(&collections).unwrap().next().unwrap().unwrap().path();
    let (meta, beside) = (home.join("collection.json"), dir.path().join("collection.json"));
    std::fs::rename(&meta, &beside).unwrap();
    // A directory is there, and cannot be read as a file.
    std::fs::create_dir(&meta).unwrap();
    let error = LocalQdrant::start(dir.path(), loopback()).await.err().unwrap();
    assert!(matches!(error, QdrantError::Collection { .. }), "{error}");

    std::fs::remove_dir(&meta).unwrap();
    std::fs::rename(&beside, &meta).unwrap();
    let (server, client) = serve(dir.path()).await;
    assert_eq!(count(&client).await, 1, "nothing was removed");
    server.shutdown().await;

    std::fs::remove_file(&meta).unwrap();
    let (server, client) = serve(dir.path()).await;
    assert!(!client.collection_exists(NAME).await.unwrap() && !home.exists());
    server.shutdown().await;
}

#[tokio::test]
async fn aliases_lead_to_collections_and_switch_at_once() {
    let (dir, server, client) = fresh().await;
    create(&client, "next").await;
    upsert(&client, vec![point(1, vec![])]).await;
    client.create_alias(CreateAliasBuilder::new(NAME, "live")).await.unwrap();
    assert_eq!(info(&client, "live").await.points_count, Some(1));
    let error = code(client.create_alias(CreateAliasBuilder::new("nowhere", "x")).await);
    assert_eq!(error.0, Code::NotFound);
    assert_eq!(code(client.create_alias(CreateAliasBuilder::new(NAME, "next")).await).0, Code::InvalidArgument);
    client.create_alias(CreateAliasBuilder::new("next", "live")).await.unwrap();
    client.rename_alias(RenameAliasBuilder::new("live", "alive")).await.unwrap();
    server.shutdown().await;

    let (server, client) = serve(dir.path()).await;
    assert_eq!(info(&client, "alive").await.points_count, Some(0));
    assert_eq!(client.list_collection_aliases("next").await.unwrap().aliases.len(), 1);
    client.delete_collection("next").await.unwrap();
    assert!(client.list_aliases().await.unwrap().aliases.is_empty());
    assert_eq!(code(client.collection_info("alive").await).0, Code::NotFound);
    server.shutdown().await;
}

#[tokio::test]
async fn two_servers_do_not_share_a_directory_nor_a_port() {
    let (dir, server, _client) = fresh().await;
    let second = LocalQdrant::start(dir.path(), loopback()).await.err().unwrap();
    assert!(matches!(second, QdrantError::InUse { .. }), "{second}");
    let other = tempfile::tempdir().unwrap();
    let taken = LocalQdrant::start(other.path(), server.address()).await.err().unwrap();
    assert!(matches!(taken, QdrantError::Listen { .. }), "{taken}");
    server.shutdown().await;
    let (server, client) = serve(dir.path()).await;
    assert_eq!(count(&client).await, 0);
    server.shutdown().await;
}

/// Embeddings are biometric data.
#[tokio::test]
async fn what_it_keeps_is_its_owners_alone_and_a_directory_of_somebody_stays_as_it_is() {
    use std::fs::{Permissions, create_dir_all, metadata, set_permissions};
    use std::os::unix::fs::PermissionsExt;
    let base = tempfile::tempdir().unwrap();
    let modes = |root: &Path| {
        [root.to_owned(), root.join("collections")].map(|path| metadata(path).unwrap().permissions().mode() & 0o777)
    };
    let (new, old) = (base.path().join("new"), base.path().join("old"));
    // As an earlier release made it, or somebody by hand.
    create_dir_all(old.join("collections")).unwrap();
    for path in [old.clone(), old.join("collections")] {
        set_permissions(path, Permissions::from_mode(0o755)).unwrap();
    }
    for (root, expected) in [(new, [0o700, 0o700]), (old, [0o755, 0o700])] {
        let (server, _client) = serve(&root).await;
        assert_eq!(modes(&root), expected, "{}", root.display());
        server.shutdown().await;
    }
}

#[tokio::test]
async fn what_is_not_served_says_so() {
    let (_dir, server, client) = fresh().await;
    let hnsw = HnswConfigDiffBuilder::default().m(8);
    let (code, text) = code(client.update_collection(UpdateCollectionBuilder::new(NAME).hnsw_config(hnsw)).await);
    assert_eq!(code, Code::Unimplemented);
    assert!(text.contains("local Qdrant"), "{text}");
    server.shutdown().await;
}

#[tokio::test]
async fn metadata_and_settings_are_remembered_and_shown() {
    let dir = tempfile::tempdir().unwrap();
    let (server, client) = serve(dir.path()).await;
    let vectors = VectorParamsBuilder::new(DIM, Distance::Cosine).on_disk(true);
    let request = CreateCollectionBuilder::new(NAME).vectors_config(vectors).shard_number(3).replication_factor(2);
    let mut request: CreateCollection = request.into();
    request.metadata.insert("model".to_owned(), "a".into());
    client.create_collection(request).await.unwrap();
    let mut update = UpdateCollection { collection_name: NAME.to_owned(), ..UpdateCollection::default() };
    update.metadata.insert("owner".to_owned(), "ops".into());
    client.update_collection(update).await.unwrap();
    let before = info(&client, NAME).await;
    server.shutdown().await;

    let (server, client) = serve(dir.path()).await;
    let after = info(&client, NAME).await;
    assert_eq!((&after.config, &after.created_at), (&before.config, &before.created_at));
    assert!(after.created_at.unwrap().seconds > 1_700_000_000);
    let config = after.config.unwrap();
    assert_eq!((&config.metadata["model"], &config.metadata["owner"]), (&"a".into(), &"ops".into()));
    let params = config.params.unwrap();
    assert_eq!((params.shard_number, params.replication_factor), (3, Some(2)));
    server.shutdown().await;
}

#[tokio::test]
async fn strict_mode_refuses_in_the_real_servers_words() {
    let (dir, server, client) = fresh().await;
    upsert(&client, (1..=5).map(|id| point(id, vec![("who", "ann".into())])).collect()).await;
    let strict = StrictModeConfigBuilder::default()
        .enabled(true)
        .max_query_limit(4u32)
        .unindexed_filtering_retrieve(false)
        .unindexed_filtering_update(false)
        .search_allow_exact(false)
        .search_max_hnsw_ef(50u32)
        .search_max_batchsize(1u64)
        .upsert_max_batchsize(2u64);
    client.update_collection(UpdateCollectionBuilder::new(NAME).strict_mode_config(strict)).await.unwrap();
    server.shutdown().await;
    let (server, client) = serve(dir.path()).await;

    let who = || Filter::must([Condition::matches("who", "ann".to_owned())]);
    let query = || QueryPointsBuilder::new(NAME).query(vec![1.0; 4]).limit(4);
    let words = |result: (Code, String)| {
        assert_eq!(result.0, Code::InvalidArgument);
        result.1
    };
    let index = "Bad request: Index required but not found for \"who\" of one of the following types: [keyword]. \
                 Help: Create an index for this key or use a different filter.";
    assert_eq!(words(code(client.query(query().filter(who())).await)), index);
    assert_eq!(
        words(code(matching(&client, who()).await)),
        "Bad request: Limit exceeded 1000 > 4 for \"limit\". \
        Help: Reduce the \"limit\" parameter to or below 4."
    );
    assert_eq!(words(code(client.scroll(ScrollPointsBuilder::new(NAME).limit(4).filter(who())).await)), index);
    let exact = "Bad request: Exact search disabled!. Help: Set exact=false.";
    assert_eq!(words(code(client.count(CountPointsBuilder::new(NAME).exact(true)).await)), exact);
    let params = SearchParamsBuilder::default().exact(true);
    assert_eq!(words(code(client.query(query().params(params)).await)), exact);
    let params = SearchParamsBuilder::default().hnsw_ef(51);
    assert!(words(code(client.query(query().params(params)).await)).contains("Limit exceeded 51 > 50 for \"hnsw_ef\""));
    let batch = QueryBatchPointsBuilder::new(NAME, vec![query().build(), query().build()]);
    assert!(words(code(client.query_batch(batch).await)).contains("Limit exceeded 2 > 1"));
    let three = (1..=3).map(|id| point(id, vec![])).collect::<Vec<_>>();
    let refused = client.upsert_points(UpsertPointsBuilder::new(NAME, three).wait(true)).await;
    assert!(words(code(refused)).contains("Limit exceeded 3 > 2 for \"upsert limit\""));
    let delete = || DeletePointsBuilder::new(NAME).points(who()).wait(true);
    assert_eq!(words(code(client.delete_points(delete()).await)), index);
    assert_eq!(client.query(query()).await.unwrap().result.len(), 4);

    let keyword = CreateFieldIndexCollectionBuilder::new(NAME, "who", FieldType::Keyword).wait(true);
    client.create_field_index(keyword).await.unwrap();
    assert_eq!(client.query(query().filter(who())).await.unwrap().result.len(), 4);
    client.delete_points(delete()).await.unwrap();
    let off = StrictModeConfigBuilder::default().enabled(false);
    client.update_collection(UpdateCollectionBuilder::new(NAME).strict_mode_config(off)).await.unwrap();
    assert_eq!(count(&client).await, 0);
    server.shutdown().await;
}

/// Enough vectors that the optimizer indexes them, with writes all the while: nothing is lost or doubled, the payload
/// index stays, answers stay those of a full scan.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_optimizer_indexes_and_loses_nothing() {
    const POINTS: u64 = 600;
    let dir = tempfile::tempdir().unwrap();
    let (server, client) = serve_maintained(dir.path(), Duration::from_millis(20)).await;
    // In KB; 600 vectors of 64 numbers take 150.
    let optimizers = OptimizersConfigDiffBuilder::default().indexing_threshold(64);
    let vectors = VectorParamsBuilder::new(64, Distance::Cosine);
    let request = CreateCollectionBuilder::new(NAME).vectors_config(vectors).optimizers_config(optimizers);
    client.create_collection(request).await.unwrap();
    let index = CreateFieldIndexCollectionBuilder::new(NAME, "kind", FieldType::Integer).wait(true);
    client.create_field_index(index).await.unwrap();
    let vector = |id: u64| (0..64).map(|i| ((id * 31 + i * 17) % 101) as f32 - 50.0).collect::<Vec<_>>();
    let face = |id: u64| {
        let payload: Payload =
            std::collections::HashMap::from([("kind", qdrant_client::qdrant::Value::from((id % 3) as i64))]).into();
        PointStruct::new(id, vector(id), payload)
    };
    upsert(&client, (0..POINTS).map(face).collect()).await;
    let deadline = Instant::now() + Duration::from_secs(120);
    let mut written = POINTS;
    loop {
        let seen = info(&client, NAME).await;
        if seen.indexed_vectors_count.unwrap() >= 300 {
            break;
        }
        assert!(Instant::now() < deadline, "the optimizer did not index");
        if seen.status == CollectionStatus::Yellow as i32 {
            // Writes while it optimizes, which must not get lost; it begins only when nobody has written for a while.
            upsert(&client, vec![face(written), face(written % 50)]).await;
            written += 1;
        } else {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    server.shutdown().await;
    let (server, client) = serve(dir.path()).await;
    assert_eq!(count(&client).await, written);
    assert_eq!(matching(&client, Filter::default()).await.unwrap().len() as u64, written.min(1000));
    assert_eq!(with(&client, Condition::matches("kind", 1)).await.len() as u64, ((written + 1) / 3).min(1000));
    assert_eq!(info(&client, NAME).await.payload_schema["kind"].points, Some(written));
    for exact in [true, false] {
        let params = SearchParamsBuilder::default().exact(exact);
        let answer =
            client.query(QueryPointsBuilder::new(NAME).query(vector(77)).limit(1).params(params)).await.unwrap();
        let best = answer.result.into_iter().next().unwrap();
        // 31·101 apart is the same vector again.
        assert_eq!((number(best.id) % 101, (best.score * 1000.0).round()), (77, 1000.0));
    }
    server.shutdown().await;
}
