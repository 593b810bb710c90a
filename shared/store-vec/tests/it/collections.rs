//! One collection for each model behind the alias: how it is made, checked, replaced and dropped.

use facewire_domain::FaultKind;
use facewire_store_vec::{Ensured, Options, Selection, VecError, VecStore};
use qdrant_client::Qdrant;
use qdrant_client::qdrant::{
    CreateAliasBuilder, CreateCollectionBuilder, Distance, HnswConfigDiffBuilder, OptimizersConfigDiffBuilder,
    StrictModeConfigBuilder, UpdateCollectionBuilder, VectorParamsBuilder,
};

use crate::support::{
    DIM, HASH, MODEL, assert_stored, client, each_bare_server, each_server, each_server_with_client, face, person_id,
    probe,
};

const OTHER: &str = "other@2:11111111";

fn connect(options: &Options) -> VecStore {
    VecStore::connect(options).unwrap()
}

#[tokio::test]
async fn a_collection_carries_its_models_name_and_serves_through_the_alias() {
    each_bare_server(async |options: Options| {
        let store = connect(&options);
        let error = store.count(None).await.unwrap_err();
        assert!(
            matches!(&error, VecError::NoCollection { collection } if *collection == options.collection),
            "{error}"
        );
        assert_eq!((error.kind(), store.serving().await.unwrap()), (FaultKind::Systemic, None));
        assert_eq!(store.ensure(MODEL, DIM as u32).await.unwrap(), Ensured::Created);
        let serving = store.serving().await.unwrap().unwrap();
        assert_eq!(serving.collection, format!("{}-{HASH}-1", options.collection));
        assert_eq!(serving.model.as_deref(), Some(MODEL));
        // Whatever Postgres has is still missing.
        assert_eq!(store.ensure(MODEL, DIM as u32).await.unwrap(), Ensured::Created);
        store.upsert(&[face(1, 1, "office")]).await.unwrap().all().unwrap();
        assert_eq!(store.ensure(MODEL, DIM as u32).await.unwrap(), Ensured::Present);
        assert_eq!(store.serving().await.unwrap().unwrap(), serving);
    })
    .await;
}

#[tokio::test]
async fn an_index_that_is_gone_is_made_anew_and_says_so() {
    each_server_with_client(|store, client| async move {
        store.upsert(&[face(1, 1, "office")]).await.unwrap().all().unwrap();
        client.delete_collection(store.serving().await.unwrap().unwrap().collection).await.unwrap();
        let error = store.upsert(&[face(1, 1, "office")]).await.unwrap_err();
        assert!(matches!(error, VecError::NoCollection { .. }), "{error}");
        assert_eq!(store.ensure(MODEL, DIM as u32).await.unwrap(), Ensured::Created);
        store.upsert(&[face(1, 1, "office")]).await.unwrap().all().unwrap();
    })
    .await;
}

#[tokio::test]
async fn many_may_ensure_at_once() {
    each_bare_server(async |options: Options| {
        let tasks: Vec<_> = (0..4)
            .map(|_| connect(&options))
            .map(|store| tokio::spawn(async move { store.ensure(MODEL, DIM as u32).await }))
            .collect();
        for task in tasks {
            task.await.unwrap().unwrap();
        }
        let info = client(&options.url).collection_info(&options.collection).await.unwrap().result.unwrap();
        assert_eq!(info.payload_schema.len(), 9, "{:?}", info.payload_schema.keys());
        assert_eq!(connect(&options).unserved().await.unwrap().len(), 0);
    })
    .await;
}

#[tokio::test]
async fn another_models_collection_is_refused() {
    each_server(|store| async move {
        store.upsert(&[face(1, 1, "office")]).await.unwrap().all().unwrap();
        let error = store.ensure(OTHER, DIM as u32).await.unwrap_err();
        let expected =
            matches!(&error, VecError::OtherModel { serving, wanted, .. } if serving == MODEL && wanted == OTHER);
        assert!(expected && error.kind() == FaultKind::Systemic, "{error}");
        assert!(error.to_string().contains("facewire reembed"), "{error}");
        let error = store.ensure(MODEL, 512).await.unwrap_err();
        let expected = matches!(error, VecError::WrongDimension { expected: 512, found, .. } if found == DIM as u64);
        assert!(expected && error.kind() == FaultKind::Systemic, "{error}");
        assert_eq!(store.count(None).await.unwrap(), 1);
    })
    .await;
}

async fn plain(client: &Qdrant, name: &str, distance: Distance) {
    let vectors = VectorParamsBuilder::new(DIM as u64, distance);
    client.create_collection(CreateCollectionBuilder::new(name).vectors_config(vectors)).await.unwrap();
}

#[tokio::test]
async fn a_collection_that_is_not_ours_is_left_alone() {
    each_bare_server(async |options: Options| {
        let (store, client) = (connect(&options), client(&options.url));
        plain(&client, &options.collection, Distance::Cosine).await;
        let error = store.ensure(MODEL, DIM as u32).await.unwrap_err();
        assert!(matches!(error, VecError::Foreign { .. }) && error.kind() == FaultKind::Systemic, "{error}");
        client.delete_collection(&options.collection).await.unwrap();

        // Behind our alias, and nothing says whose vectors it has.
        let nameless = format!("{}-legacy", options.collection);
        plain(&client, &nameless, Distance::Cosine).await;
        store.switch_alias(&store.at(&nameless)).await.unwrap();
        let error = store.ensure(MODEL, DIM as u32).await.unwrap_err();
        assert!(matches!(error, VecError::Foreign { .. }), "{error}");
        client.delete_collection(&nameless).await.unwrap();

        // A server without metadata: the name says it.
        let named = format!("{}-{HASH}-4", options.collection);
        plain(&client, &named, Distance::Cosine).await;
        store.switch_alias(&store.at(&named)).await.unwrap();
        assert_eq!(store.ensure(MODEL, DIM as u32).await.unwrap(), Ensured::Created);
        assert!(matches!(store.ensure(OTHER, DIM as u32).await, Err(VecError::OtherModel { serving, .. }) if serving == HASH));

        let other = format!("{}-{HASH}-5", options.collection);
        plain(&client, &other, Distance::Dot).await;
        store.switch_alias(&store.at(&other)).await.unwrap();
        assert!(matches!(store.ensure(MODEL, DIM as u32).await, Err(VecError::Foreign { .. })));
    })
    .await;
}

#[tokio::test]
async fn a_successor_takes_over_at_once_and_keeps_the_settings() {
    each_bare_server(async |options: Options| {
        let (store, client) = (connect(&options), client(&options.url));
        // As an operator made it.
        let first = format!("{}-{HASH}-1", options.collection);
        let request = CreateCollectionBuilder::new(&first)
            .vectors_config(VectorParamsBuilder::new(DIM as u64, Distance::Cosine).on_disk(true))
            .hnsw_config(HnswConfigDiffBuilder::default().m(24).ef_construct(77))
            .optimizers_config(OptimizersConfigDiffBuilder::default().indexing_threshold(12_345))
            .shard_number(3);
        client.create_collection(request).await.unwrap();
        store.switch_alias(&store.at(&first)).await.unwrap();
        store.ensure(MODEL, DIM as u32).await.unwrap();
        store.upsert(&[face(1, 1, "office")]).await.unwrap().all().unwrap();

        let successor = store.successor(MODEL, DIM as u32).await.unwrap();
        assert_eq!(successor.collection(), format!("{}-{HASH}-2", options.collection));
        let config = |info: qdrant_client::qdrant::GetCollectionInfoResponse| info.result.unwrap().config.unwrap();
        let before = config(client.collection_info(&first).await.unwrap());
        let after = config(client.collection_info(successor.collection()).await.unwrap());
        assert_eq!((&after.params, &after.hnsw_config), (&before.params, &before.hnsw_config));
        assert_eq!(after.optimizer_config, before.optimizer_config);
        assert_eq!(after.params.unwrap().shard_number, 3);
        assert_eq!(after.hnsw_config.unwrap().m, Some(24));

        // Filled beside the one that serves, and not seen before the switch.
        successor.upsert(&[face(2, 2, "office"), face(3, 3, "office")]).await.unwrap().all().unwrap();
        assert_stored(&store, &[face(1, 1, "office")]).await;
        let predecessor = store.switch_alias(&successor).await.unwrap().unwrap();
        assert_eq!(predecessor.collection(), first);
        assert_stored(&store, &[face(2, 2, "office"), face(3, 3, "office")]).await;
        assert_eq!(store.ensure(MODEL, DIM as u32).await.unwrap(), Ensured::Present);
        assert!(store.switch_alias(&successor).await.unwrap().is_none(), "it serves already");

        for serving in [&store, &successor] {
            let error = serving.drop_collection().await.unwrap_err();
            assert!(matches!(error, VecError::Serving { .. }), "{error}");
        }
        predecessor.drop_collection().await.unwrap();
        predecessor.drop_collection().await.unwrap();
        assert_eq!(store.count(None).await.unwrap(), 2);
    })
    .await;
}

#[tokio::test]
async fn another_model_takes_over_and_nobody_meets_its_vectors() {
    each_server_with_client(|store, _| async move {
        store.upsert(&[face(1, 1, "office")]).await.unwrap().all().unwrap();
        // As many numbers as the old one's: nothing but the model tells them apart.
        let successor = store.successor(OTHER, DIM as u32).await.unwrap();
        let later = store.at(successor.collection());
        assert!(store.ensure(OTHER, DIM as u32).await.is_err());
        successor.upsert(&[face(2, 2, "office")]).await.unwrap().all().unwrap();
        let predecessor = store.switch_alias(&successor).await.unwrap().unwrap();

        // A service of the old model that goes on finds and writes the old model's.
        let found = store.search(&[probe(&face(2, 2, "office"), None)]).await.unwrap();
        assert_eq!(found[0].as_ref().unwrap()[0].face, face(1, 1, "office").face);
        store.upsert(&[face(3, 3, "office")]).await.unwrap().all().unwrap();
        assert_stored(&later, &[face(2, 2, "office")]).await;
        assert!(matches!(store.ensure(MODEL, DIM as u32).await, Err(VecError::OtherModel { serving, .. }) if serving == OTHER));
        let names: Vec<_> = store.unserved().await.unwrap().iter().map(|u| u.store.collection().to_owned()).collect();
        assert_eq!(names, [predecessor.collection()]);
        predecessor.drop_collection().await.unwrap();
        let error = store.search(&[probe(&face(2, 2, "office"), None)]).await.unwrap_err();
        assert!(matches!(error, VecError::NoCollection { .. }) && error.kind() == FaultKind::Systemic, "{error}");

        assert_eq!(store.ensure(OTHER, DIM as u32).await.unwrap(), Ensured::Present);
        assert_stored(&store, &[face(2, 2, "office")]).await;
    })
    .await;
}

#[tokio::test]
async fn a_switch_that_is_interrupted_between_its_aliases_loses_nothing() {
    each_server_with_client(|store, client| async move {
        store.upsert(&[face(1, 1, "office")]).await.unwrap().all().unwrap();
        let first = store.serving().await.unwrap().unwrap().collection;
        let successor = store.successor(MODEL, DIM as u32).await.unwrap();
        successor.upsert(&[face(1, 1, "office"), face(2, 2, "office")]).await.unwrap().all().unwrap();
        let alias = CreateAliasBuilder::new(successor.collection(), format!("{}-{HASH}", store.collection()));
        client.create_alias(alias).await.unwrap();

        assert_eq!(store.serving().await.unwrap().unwrap().collection, successor.collection());
        store.ensure(MODEL, DIM as u32).await.unwrap();
        assert_stored(&store, &[face(1, 1, "office"), face(2, 2, "office")]).await;
        assert_eq!(store.unserved().await.unwrap().len(), 0);
        for served in [&first, successor.collection()] {
            assert!(matches!(store.at(served).drop_collection().await, Err(VecError::Serving { .. })));
        }
        // Done again, it is complete, and the first is nobody's.
        store.switch_alias(&successor).await.unwrap();
        let names: Vec<_> = store.unserved().await.unwrap().iter().map(|u| u.store.collection().to_owned()).collect();
        assert_eq!(names, [first]);

        // An alias that is gone is made anew, and the collection is kept.
        client.delete_alias(store.collection()).await.unwrap();
        assert_eq!(store.ensure(MODEL, DIM as u32).await.unwrap(), Ensured::Present);
        assert_stored(&store, &[face(1, 1, "office"), face(2, 2, "office")]).await;
    })
    .await;
}

#[tokio::test]
async fn what_an_interrupted_rebuild_leaves_is_found_and_dropped() {
    each_server_with_client(|store, client| async move {
        assert_eq!(store.unserved().await.unwrap().len(), 0);
        // Somebody else's, with a name that begins as ours do.
        let stranger = format!("{}-backup", store.collection());
        plain(&client, &stranger, Distance::Cosine).await;
        let left = store.successor(MODEL, DIM as u32).await.unwrap();
        left.upsert(&[face(1, 1, "office")]).await.unwrap().all().unwrap();
        let next = store.successor(MODEL, DIM as u32).await.unwrap();
        assert_ne!(left.collection(), next.collection());
        let mut unserved = store.unserved().await.unwrap();
        unserved.sort_by_key(|unserved| std::cmp::Reverse(unserved.points));
        let names: Vec<_> = unserved.iter().map(|unserved| unserved.store.collection()).collect();
        assert_eq!(names, [left.collection(), next.collection()]);
        assert_eq!((unserved[0].model.as_deref(), unserved[0].points), (Some(MODEL), 1));
        let age = time::OffsetDateTime::now_utc() - unserved[0].created_at.unwrap();
        assert!((-time::Duration::minutes(5)..time::Duration::minutes(5)).contains(&age), "{age}");

        // Continued by another process, then in the others' place.
        let continued = store.at(left.collection());
        continued.open(DIM as u32).await.unwrap();
        assert!(continued.open(512).await.is_err());
        store.switch_alias(&continued).await.unwrap();
        for unserved in store.unserved().await.unwrap() {
            unserved.store.drop_collection().await.unwrap();
        }
        assert_eq!(store.unserved().await.unwrap().len(), 0);
        assert_eq!(store.count(None).await.unwrap(), 1);
        assert!(client.collection_exists(&stranger).await.unwrap());
    })
    .await;
}

#[tokio::test]
async fn a_face_is_deleted_from_every_collection_of_ours() {
    each_server(|store| async move {
        let (gone, stays) = (face(1, 1, "office"), face(2, 2, "office"));
        let both = [gone.clone(), stays.clone()];
        store.upsert(&both).await.unwrap().all().unwrap();
        store.delete_everywhere(&[gone.face]).await.unwrap();
        assert_stored(&store, std::slice::from_ref(&stays)).await;

        // What a rebuild left behind, and what takes over: then the first is another model's.
        let left = store.successor(MODEL, DIM as u32).await.unwrap();
        let later = store.successor(OTHER, DIM as u32).await.unwrap();
        for each in [&store, &left, &later] {
            each.upsert(&both).await.unwrap().all().unwrap();
        }
        store.switch_alias(&later).await.unwrap();
        store.delete_everywhere(&[]).await.unwrap();
        store.delete_everywhere(&[gone.face]).await.unwrap();
        for each in [&store, &left, &later] {
            assert_stored(each, std::slice::from_ref(&stays)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn an_index_of_a_field_that_is_gone_or_of_another_type_is_made_anew() {
    each_server_with_client(|store, client| async move {
        use qdrant_client::qdrant::{
            CreateFieldIndexCollectionBuilder, DeleteFieldIndexCollectionBuilder, FieldType, PayloadSchemaType,
        };
        let collection = store.serving().await.unwrap().unwrap().collection;
        let gone = DeleteFieldIndexCollectionBuilder::new(&collection, "person_id").wait(true);
        client.delete_field_index(gone).await.unwrap();
        let wrong = DeleteFieldIndexCollectionBuilder::new(&collection, "is_prototype").wait(true);
        client.delete_field_index(wrong).await.unwrap();
        let keyword =
            CreateFieldIndexCollectionBuilder::new(&collection, "is_prototype", FieldType::Keyword).wait(true);
        client.create_field_index(keyword).await.unwrap();
        store.ensure(MODEL, DIM as u32).await.unwrap();
        let schema = client.collection_info(&collection).await.unwrap().result.unwrap().payload_schema;
        assert_eq!(schema["person_id"].data_type, PayloadSchemaType::Keyword as i32);
        assert_eq!(schema["is_prototype"].data_type, PayloadSchemaType::Bool as i32);
        assert_eq!(schema.len(), 9);
    })
    .await;
}

#[tokio::test]
async fn strict_mode_is_kept_to() {
    each_server_with_client(|store, client| async move {
        let strict = StrictModeConfigBuilder::default()
            .enabled(true)
            .unindexed_filtering_retrieve(false)
            .unindexed_filtering_update(false)
            .max_query_limit(10u32)
            .upsert_max_batchsize(4u64)
            .search_max_batchsize(3u64);
        let collection = store.serving().await.unwrap().unwrap().collection;
        let update = UpdateCollectionBuilder::new(&collection).strict_mode_config(strict);
        client.update_collection(update).await.unwrap();
        let faces: Vec<_> = (1..=25).map(|n| face(n, n % 5, "office")).collect();
        // Set while we run, smaller calls are found out; known from the next `ensure` on.
        for _ in 0..2 {
            store.upsert(&faces).await.unwrap().all().unwrap();
            let payloads: Vec<_> = faces.iter().map(|face| (face.face, face.payload.clone())).collect();
            store.set_payload(&payloads).await.unwrap().all().unwrap();
            let probes: Vec<_> = faces.iter().take(8).map(|face| probe(face, Some(5))).collect();
            let found = store.search(&probes).await.unwrap();
            let nearest: Vec<_> = found.into_iter().map(|hits| hits.unwrap()[0].face).collect();
            assert_eq!(nearest, faces.iter().take(8).map(|face| face.face).collect::<Vec<_>>());
            store.ensure(MODEL, DIM as u32).await.unwrap();
        }
        // Larger pages than the collection allows become smaller ones.
        assert_eq!(store.scroll(None, 20, false).await.unwrap().points.len(), 10);
        let hits = store.search(&[probe(&faces[0], None)]).await.unwrap();
        assert!(hits[0].as_ref().unwrap().len() >= 10);
        assert_stored(&store, &faces).await;
        store.delete_all(&Selection::Person(person_id(1))).await.unwrap();
        assert_eq!(store.count(None).await.unwrap(), 20);
    })
    .await;
}
