//! What a new collection is made like: as the options say, or as its predecessor is, so that a rebuild keeps what an
//! operator has set.

use std::collections::HashMap;

use qdrant_client::qdrant::quantization_config::Quantization as Method;
use qdrant_client::qdrant::vectors_config::Config;
use qdrant_client::qdrant::{
    BinaryQuantization, CollectionConfig, CollectionParamsDiff, CreateCollection, Distance, QuantizationConfig,
    QuantizationType, ScalarQuantization, ShardingMethod, Value, VectorParams, VectorsConfig,
};

use crate::options::Quantization;

/// Where a collection's metadata name the model of its vectors.
pub(crate) const MODEL: &str = "facewire_model";

/// What the options say of a collection that has no predecessor; what they do not say is the server's to choose.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Creation {
    pub(crate) shards: Option<u32>,
    pub(crate) replicas: Option<u32>,
    pub(crate) quantization: Option<Quantization>,
}

fn vectors(like: VectorParams, dim: u32) -> Option<VectorsConfig> {
    let params = VectorParams { size: dim.into(), distance: Distance::Cosine as i32, ..like };
    Some(VectorsConfig { config: Some(Config::Params(params)) })
}

fn metadata(model: &str) -> HashMap<String, Value> {
    HashMap::from([(MODEL.to_owned(), Value::from(model))])
}

impl Creation {
    /// The first collection of its alias.
    pub(crate) fn first(&self, collection_name: String, model: &str, dim: u32) -> CreateCollection {
        CreateCollection {
            collection_name,
            shard_number: self.shards,
            replication_factor: self.replicas,
            vectors_config: vectors(VectorParams::default(), dim),
            metadata: metadata(model),
            ..CreateCollection::default()
        }
        .quantized(self.quantization)
    }

    /// A collection with the predecessor's settings, for vectors of `model`; what the options say of quantization stands above.
    pub(crate) fn like(
        &self,
        predecessor: &CollectionConfig,
        collection_name: String,
        model: &str,
        dim: u32,
    ) -> CreateCollection {
        like(predecessor, collection_name, model, dim).quantized(self.quantization)
    }
}

/// How a request is told of quantization.
trait Quantized {
    /// As it is where nothing is said.
    fn quantized(self, how: Option<Quantization>) -> Self;
}

impl Quantized for CreateCollection {
    #[expect(deprecated, reason = "earlier servers know no other flag, and later ones know this one")]
    fn quantized(mut self, how: Option<Quantization>) -> Self {
        let method = match how {
            None => return self,
            Some(Quantization::None) => {
                let was_quantized = self.quantization_config.take().is_some();
                let vectors = self.vectors_config.as_mut().and_then(|vectors| vectors.config.as_mut());
                if let (true, Some(Config::Params(params))) = (was_quantized, vectors) {
                    // As quantizing had set it.
                    params.on_disk = None;
                }
                return self;
            }
            Some(Quantization::Int8) => Method::Scalar(ScalarQuantization {
                r#type: QuantizationType::Int8 as i32,
                always_ram: Some(true),
                ..ScalarQuantization::default()
            }),
            Some(Quantization::Binary) => {
                Method::Binary(BinaryQuantization { always_ram: Some(true), ..BinaryQuantization::default() })
            }
        };
        self.quantization_config = Some(QuantizationConfig { quantization: Some(method) });
        if let Some(Config::Params(params)) = self.vectors_config.as_mut().and_then(|vectors| vectors.config.as_mut()) {
            // What is in memory are the quantized ones.
            params.on_disk = Some(true);
        }
        self
    }
}

#[expect(deprecated, reason = "the older flag is what a collection has that was made with it")]
fn like(predecessor: &CollectionConfig, collection_name: String, model: &str, dim: u32) -> CreateCollection {
    let config = predecessor.clone();
    let params = config.params.unwrap_or_default();
    let vector_params = match params.vectors_config.and_then(|vectors| vectors.config) {
        Some(Config::Params(params)) => params,
        Some(Config::ParamsMap(_)) | None => VectorParams::default(),
    };
    CreateCollection {
        collection_name,
        hnsw_config: config.hnsw_config,
        wal_config: config.wal_config,
        optimizers_config: config.optimizer_config,
        shard_number: Some(params.shard_number).filter(|shards| *shards > 0),
        // Both say the same, and the newer one wins.
        on_disk_payload: params.payload.is_none().then_some(params.on_disk_payload),
        vectors_config: vectors(vector_params, dim),
        replication_factor: params.replication_factor,
        write_consistency_factor: params.write_consistency_factor,
        quantization_config: config.quantization_config,
        // Shards by key are not what our points are written for.
        sharding_method: params.sharding_method.filter(|method| *method == ShardingMethod::Auto as i32),
        strict_mode_config: config.strict_mode_config,
        metadata: config.metadata.into_iter().chain(metadata(model)).collect(),
        payload: params.payload,
        id_tracker: params.id_tracker,
        ..CreateCollection::default()
    }
}

/// Those of the predecessor's settings that a creation does not take.
pub(crate) fn later(predecessor: &CollectionConfig) -> Option<CollectionParamsDiff> {
    let params = predecessor.params.as_ref()?;
    let (factor, delay) = (params.read_fan_out_factor, params.read_fan_out_delay_ms);
    (factor.is_some() || delay.is_some()).then(|| CollectionParamsDiff {
        read_fan_out_factor: factor,
        read_fan_out_delay_ms: delay,
        ..CollectionParamsDiff::default()
    })
}

#[cfg(test)]
mod tests {
    use qdrant_client::qdrant::{
        CollectionParams, HnswConfigDiff, OptimizersConfigDiff, ProductQuantization, StrictModeConfig,
    };

    use super::*;

    #[test]
    #[expect(deprecated, reason = "see above")]
    fn a_successor_keeps_what_an_operator_set() {
        let quantized = QuantizationConfig {
            quantization: Some(Method::Scalar(ScalarQuantization { always_ram: Some(true), ..Default::default() })),
        };
        let hnsw = HnswConfigDiff { m: Some(32), payload_m: Some(16), ..HnswConfigDiff::default() };
        let optimizers = OptimizersConfigDiff { indexing_threshold: Some(7), ..OptimizersConfigDiff::default() };
        let strict = StrictModeConfig { enabled: Some(true), ..StrictModeConfig::default() };
        let on_disk = VectorParams { on_disk: Some(true), size: 4, distance: 1, ..VectorParams::default() };
        let config = CollectionConfig {
            params: Some(CollectionParams {
                shard_number: 6,
                on_disk_payload: true,
                vectors_config: Some(VectorsConfig { config: Some(Config::Params(on_disk)) }),
                replication_factor: Some(2),
                write_consistency_factor: Some(2),
                read_fan_out_factor: Some(1),
                ..CollectionParams::default()
            }),
            hnsw_config: Some(hnsw),
            optimizer_config: Some(optimizers),
            quantization_config: Some(quantized),
            strict_mode_config: Some(strict.clone()),
            metadata: HashMap::from([("owner".to_owned(), Value::from("ops")), (MODEL.to_owned(), Value::from("old"))]),
            ..CollectionConfig::default()
        };
        let made = Creation::default().like(&config, "faces-2".to_owned(), "new", 8);
        assert_eq!(
            (made.shard_number, made.replication_factor, made.write_consistency_factor),
            (Some(6), Some(2), Some(2))
        );
        assert_eq!((made.on_disk_payload, made.collection_name), (Some(true), "faces-2".to_owned()));
        assert_eq!((made.hnsw_config, made.optimizers_config), (Some(hnsw), Some(optimizers)));
        assert_eq!((made.quantization_config, made.strict_mode_config), (Some(quantized), Some(strict)));
        assert_eq!(made.metadata[MODEL], Value::from("new"));
        assert_eq!(made.metadata["owner"], Value::from("ops"));
        let Some(Config::Params(vectors)) = made.vectors_config.unwrap().config else { panic!("named vectors") };
        assert_eq!((vectors.size, vectors.on_disk, vectors.distance), (8, Some(true), Distance::Cosine as i32));
        assert_eq!(later(&config).unwrap().read_fan_out_factor, Some(1));
        assert_eq!(later(&CollectionConfig::default()), None);
    }

    #[test]
    fn a_first_collection_is_as_the_options_say() {
        let made = Creation { shards: Some(3), ..Creation::default() }.first("faces-1".to_owned(), "model", 8);
        assert_eq!((made.shard_number, made.replication_factor, made.quantization_config), (Some(3), None, None));
        assert_eq!(made.metadata[MODEL], Value::from("model"));
    }

    #[test]
    #[expect(deprecated, reason = "see above")]
    fn quantized_vectors_are_in_memory_and_the_others_on_disk() {
        let product = QuantizationConfig { quantization: Some(Method::Product(ProductQuantization::default())) };
        let before = CollectionConfig { quantization_config: Some(product), ..CollectionConfig::default() };
        let made = |quantization| {
            let creation = Creation { quantization, ..Creation::default() };
            let requests = [
                creation.first("faces-1".to_owned(), "model", 8),
                creation.like(&before, "faces-2".to_owned(), "model", 8),
            ];
            requests.map(|made| {
                let Some(Config::Params(vectors)) = made.vectors_config.unwrap().config else {
                    panic!("named vectors")
                };
                (made.quantization_config.and_then(|config| config.quantization), vectors.on_disk)
            })
        };
        assert_eq!(
            made(None),
            [(None, None), (product.quantization, None)],
            "as the server, or the predecessor, has it"
        );
        assert_eq!(made(Some(Quantization::None)), [(None, None); 2], "a rebuild undoes it");
        let [first, second] = made(Some(Quantization::Int8));
        assert!(matches!(first, (Some(Method::Scalar(scalar)), Some(true)) if scalar.r#type == 1), "{first:?}");
        assert_eq!(first, second);
        assert!(matches!(made(Some(Quantization::Binary)), [(Some(Method::Binary(_)), Some(true)), _]));
    }
}
