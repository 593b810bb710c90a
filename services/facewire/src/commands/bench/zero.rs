//! Models that cost nothing, for measuring everything around them. They stand in the chain where a pack's do; nothing else
//! of the chain knows.

use std::sync::Arc;

use facewire_composition::Chain;
use facewire_domain::{BoundingBox, Point};
use facewire_inference::{Embedded, Embedding, FaceEmbedder, FaceFind, FoundFace, InferenceError};
use facewire_vision::align::TEMPLATE;
use facewire_vision::{AlignedFace, RgbImage};

struct Finder;

impl FaceFind for Finder {
    /// One face that fills the picture, with its points where a face's are.
    fn find(&mut self, image: &RgbImage) -> Result<Vec<FoundFace>, InferenceError> {
        let (width, height) = (image.width() as f32, image.height() as f32);
        let (x, y) = (width / AlignedFace::SIDE as f32, height / AlignedFace::SIDE as f32);
        let landmarks = TEMPLATE.map(|p| Point::new(p.x * x, p.y * y));
        let bbox = BoundingBox { x1: 0.0, y1: 0.0, x2: width, y2: height };
        Ok(vec![FoundFace { bbox, detection_score: 1.0, landmarks, drift: 0.0 }])
    }
}

struct Embedder {
    dim: usize,
}

impl FaceEmbedder for Embedder {
    fn name(&self) -> &str {
        "zero"
    }

    fn dim(&self) -> usize {
        self.dim
    }

    fn max_batch(&self) -> Option<usize> {
        None
    }

    /// The same direction for every face.
    fn embed_measured(&mut self, faces: &[AlignedFace]) -> Result<Vec<Embedded>, InferenceError> {
        let unit = (self.dim as f32).sqrt().recip();
        let embedding = || Embedding { vector: vec![unit; self.dim], length: 1.0, raw: None };
        Ok(faces.iter().map(|_| Ok(embedding())).collect())
    }
}

/// A chain without models, for embeddings of this size. They pass for those of `model`, whose the gallery is: of any other, match
/// would end every crop as failed.
pub(super) fn chain(dim: usize, model: String) -> Chain {
    Chain {
        finders: Arc::new(|_| Ok(Box::new(Finder))),
        embedders: Arc::new(move |_| Ok(Box::new(Embedder { dim }))),
        model,
        max_batch: None,
        score: None,
    }
}
