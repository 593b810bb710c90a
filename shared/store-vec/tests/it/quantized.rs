//! Collections of quantized vectors: made as the options say, and searched with the similarities of the vectors as they are, whether
//! or not the process that searches has the option.

use facewire_domain::Hit;
use facewire_store_vec::{FacePoint, Options, Quantization, VecStore};
use qdrant_client::qdrant::quantization_config::Quantization as Method;
use qdrant_client::qdrant::{CreateCollectionBuilder, Distance, OptimizersConfigDiffBuilder, VectorParamsBuilder};

use crate::support::{DIM, HASH, MODEL, client, dot, each_bare_server, face, probe, until};

/// Similarities of two ways to compute differ in the last digits; an estimate differs by more.
const CLOSE: f32 = 1e-4;

fn connect(options: &Options) -> VecStore {
    VecStore::connect(options).unwrap()
}

fn faces() -> Vec<FacePoint> {
    (1..=1500).map(|n| face(n, 1 + n % 300, "office")).collect()
}

/// A collection that serves, and whose successors have a vector index, and so quantization, from few vectors on.
async fn serve_first(options: &Options) {
    let first = format!("{}-{HASH}-1", options.collection);
    let request = CreateCollectionBuilder::new(&first)
        .vectors_config(VectorParamsBuilder::new(DIM as u64, Distance::Cosine))
        .optimizers_config(OptimizersConfigDiffBuilder::default().indexing_threshold(1));
    client(&options.url).create_collection(request).await.unwrap();
    let plain = connect(options);
    plain.switch_alias(&plain.at(&first)).await.unwrap();
}

/// A successor as the options of `store` say, which holds these faces, serves, and has a vector index.
async fn serve_successor(store: &VecStore, faces: &[FacePoint]) -> VecStore {
    let successor = store.successor(MODEL, DIM as u32).await.unwrap();
    successor.upsert(faces).await.unwrap().all().unwrap();
    store.switch_alias(&successor).await.unwrap();
    store.ensure(MODEL, DIM as u32).await.unwrap();
    until("a vector index", || async { store.indexing().await.unwrap().unwrap().indexed > 0 }).await;
    successor
}

/// The ten nearest to a face.
async fn nearest(store: &VecStore, to: &FacePoint) -> Vec<Hit> {
    let hits = store.search(&[probe(to, Some(10))]).await.unwrap().remove(0).unwrap();
    assert_eq!(hits.len(), 10);
    hits
}

/// The most by which a similarity differs from that of the vectors as they are.
fn largest_error(hits: &[Hit], to: &FacePoint, faces: &[FacePoint]) -> f32 {
    let error = |hit: &Hit| {
        let found = faces.iter().find(|face| face.face == hit.face).unwrap();
        (hit.similarity - dot(&found.embedding, &to.embedding)).abs()
    };
    hits.iter().map(error).fold(0.0, f32::max)
}

/// How a collection quantizes.
async fn method(options: &Options, collection: &str) -> Option<Method> {
    let info = client(&options.url).collection_info(collection).await.unwrap().result.unwrap();
    info.config.unwrap().quantization_config.and_then(|config| config.quantization)
}

#[tokio::test]
async fn quantized_vectors_find_and_the_true_ones_give_the_similarity() {
    each_bare_server(async |options: Options| {
        let faces = faces();
        serve_first(&options).await;
        for quantization in [Quantization::Int8, Quantization::Binary] {
            let store = connect(&Options { quantization: Some(quantization), ..options.clone() });
            let successor = serve_successor(&store, &faces).await;
            let shown = method(&options, successor.collection()).await;
            let right = match quantization {
                Quantization::Int8 => matches!(shown, Some(Method::Scalar(_))),
                Quantization::Binary => matches!(shown, Some(Method::Binary(_))),
                Quantization::None => false,
            };
            assert!(right, "{quantization:?}: {shown:?}");
            let error = largest_error(&nearest(&store, &faces[7]).await, &faces[7], &faces);
            assert!(error < CLOSE, "{quantization:?}: {error}");
        }
        // The next rebuild keeps it unless told otherwise.
        let next = async |options: &Options| {
            let successor = connect(options).successor(MODEL, DIM as u32).await.unwrap();
            method(options, successor.collection()).await
        };
        assert!(matches!(next(&options).await, Some(Method::Binary(_))));
        assert_eq!(next(&Options { quantization: Some(Quantization::None), ..options.clone() }).await, None);
    })
    .await;
}

#[tokio::test]
async fn a_store_without_the_option_finds_the_true_similarities_in_a_quantized_collection() {
    each_bare_server(async |options: Options| {
        let (faces, probed) = (faces(), face(8, 9, "office"));
        serve_first(&options).await;
        let told = connect(&Options { quantization: Some(Quantization::Int8), ..options.clone() });
        serve_successor(&told, &faces).await;
        // What is not compared anew shows that quantized vectors are searched.
        let estimating = connect(&Options { rescore: Some(false), ..options.clone() });
        let estimates = || async { largest_error(&nearest(&estimating, &probed).await, &probed, &faces) > CLOSE };
        until("estimates", estimates).await;
        for (what, store) in [("with the option", told), ("without", connect(&options))] {
            let hits = nearest(&store, &probed).await;
            let error = largest_error(&hits, &probed, &faces);
            assert!(hits[0].face == probed.face && error < CLOSE, "{what}: {error}");
        }
    })
    .await;
}
