//! Aligned faces to embeddings: normalised input, mirror averaging, and a vector of length one that is checked before it
//! leaves. Comparing embeddings is the vector engine's work.

use facewire_vision::AlignedFace;

use crate::error::{InferenceError, NotFinite};
use crate::manifest::{ColourOrder, EmbedderSpec};
use crate::planes::planes;
use crate::runtime::Model;

/// One model at a time, behind one trait. One thread at a time.
pub trait FaceEmbedder: Send {
    /// The pack's fingerprint: the `model` of records.
    fn name(&self) -> &str;

    /// Numbers of an embedding.
    fn dim(&self) -> usize;

    /// Faces that one run can take at most; 1 where batching brings nothing. `None` means no bound.
    fn max_batch(&self) -> Option<usize>;

    /// Appends one face as the model wants it.
    fn preprocess(&self, face: &AlignedFace, out: &mut Vec<f32>);

    /// One answer a face, in order. Any number of faces: they are run in pieces of `max_batch`. Fails as a whole only where
    /// the model could not be run; a face whose own numbers are no embedding fails alone.
    fn embed_measured(&mut self, faces: &[AlignedFace]) -> Result<Vec<Embedded>, InferenceError>;

    /// The vectors alone; fails for the first face that has none.
    fn embed(&mut self, faces: &[AlignedFace]) -> Result<Vec<Vec<f32>>, InferenceError> {
        self.embed_measured(faces)?.into_iter().map(|embedded| Ok(embedded?.vector)).collect()
    }
}

/// What came of one face of a batch.
pub type Embedded = Result<Embedding, NotFinite>;

/// What a face became.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedding {
    /// L2-normalised.
    pub vector: Vec<f32>,
    /// Length of the model's output before it was normalised, the mean of the face's and its mirror image's: a model is
    /// less sure of a face the shorter it is. In the model's own unit: comparable within a pack only.
    pub length: f32,
}

/// An ArcFace-style model.
#[derive(Debug)]
pub struct OnnxEmbedder {
    model: Model,
    spec: EmbedderSpec,
    fingerprint: String,
    /// Rows of every run, where the model takes no other number.
    fixed_rows: Option<usize>,
    buffer: Vec<f32>,
}

impl OnnxEmbedder {
    /// The embedder of an open model; fails where the manifest allows batches that the model's input does not.
    pub fn new(model: Model, spec: &EmbedderSpec, fingerprint: String) -> Result<Self, InferenceError> {
        let shape = model.input_shape();
        if shape.len() != 4 {
            return Err(model.misshapen(format!("its input has the shape {shape:?}, not [n, 3, 112, 112]")));
        }
        let fixed_rows = shape.first().and_then(|rows| usize::try_from(*rows).ok()).filter(|rows| *rows > 0);
        if let Some(rows) = fixed_rows.filter(|rows| *rows != spec.max_rows) {
            return Err(model.misshapen(format!("its batch is fixed at {rows}: set embedder.max_rows to that")));
        }
        Ok(Self { model, spec: spec.clone(), fingerprint, fixed_rows, buffer: Vec::new() })
    }

    /// Raw outputs of the faces given, in order. A batch of fixed size is filled up with black images.
    fn rows<'a>(
        &mut self,
        faces: impl ExactSizeIterator<Item = &'a AlignedFace>,
    ) -> Result<Vec<Vec<f32>>, InferenceError> {
        let count = faces.len();
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        faces.for_each(|face| self.preprocess(face, &mut buffer));
        let side = AlignedFace::SIDE as usize;
        let rows = self.fixed_rows.unwrap_or(count);
        buffer.resize(rows * 3 * side * side, 0.0);
        let outputs = self.model.run([rows, 3, side, side], &buffer);
        self.buffer = buffer;
        let dim = self.spec.dim;
        match outputs?.into_iter().next() {
            Some((_, tensor)) if tensor.data.len() == rows * dim => {
                Ok(tensor.data.chunks_exact(dim).take(count).map(<[f32]>::to_vec).collect())
            }
            other => {
                let shape = other.map(|(_, tensor)| tensor.shape).unwrap_or_default();
                Err(self.model.misshapen(format!("{rows} faces gave {shape:?}, not [{rows}, {dim}]")))
            }
        }
    }

    /// Raw outputs of all images, in as few runs as the model's batch allows.
    fn all_rows(&mut self, images: &[&AlignedFace]) -> Result<Vec<Vec<f32>>, InferenceError> {
        let mut rows = Vec::with_capacity(images.len());
        for piece in images.chunks(self.spec.max_rows.max(1)) {
            rows.extend(self.rows(piece.iter().copied())?);
        }
        Ok(rows)
    }
}

impl FaceEmbedder for OnnxEmbedder {
    fn name(&self) -> &str {
        &self.fingerprint
    }

    fn dim(&self) -> usize {
        self.spec.dim
    }

    fn max_batch(&self) -> Option<usize> {
        Some(self.spec.faces_per_run())
    }

    fn preprocess(&self, face: &AlignedFace, out: &mut Vec<f32>) {
        let start = out.len();
        planes(face.image(), self.spec.mean, self.spec.scale, out);
        if self.spec.colour == ColourOrder::Bgr {
            let plane = (AlignedFace::SIDE * AlignedFace::SIDE) as usize;
            let planes = out.get_mut(start..).unwrap_or_default();
            if let Some((red, rest)) = planes.split_at_mut_checked(plane) {
                red.iter_mut().zip(rest.iter_mut().skip(plane)).for_each(|(r, b)| std::mem::swap(r, b));
            }
        }
    }

    fn embed_measured(&mut self, faces: &[AlignedFace]) -> Result<Vec<Embedded>, InferenceError> {
        let mut embeddings = Vec::with_capacity(faces.len());
        for piece in faces.chunks(self.spec.faces_per_run()) {
            let mirrors: Vec<AlignedFace> =
                if self.spec.flip { piece.iter().map(AlignedFace::mirrored).collect() } else { Vec::new() };
            let images: Vec<&AlignedFace> = piece.iter().chain(&mirrors).collect();
            let rows = self.all_rows(&images)?;
            let (plain, mirrored) = rows.split_at_checked(piece.len()).unwrap_or((&rows, &[]));
            let mut mirrored = mirrored.iter();
            for row in plain {
                let index = embeddings.len();
                let joined = combine(row, mirrored.next().map(Vec::as_slice));
                embeddings.push(joined.ok_or_else(|| NotFinite { model: self.model.name().to_owned(), index }));
            }
        }
        Ok(embeddings)
    }
}

/// The face's vector and its mirror image's, each normalised, added, normalised. `None` where a length is 0 or not finite.
pub fn combine(face: &[f32], mirror: Option<&[f32]>) -> Option<Embedding> {
    let (mut vector, mut length) = normalised(face)?;
    if let Some(mirror) = mirror {
        let (mirrored, other) = normalised(mirror)?;
        vector.iter_mut().zip(mirrored).for_each(|(s, m)| *s += m);
        (vector, _) = normalised(&vector)?;
        length = (length + other) / 2.0;
    }
    Some(Embedding { vector, length })
}

fn normalised(values: &[f32]) -> Option<(Vec<f32>, f32)> {
    let norm = values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
    let unit = || values.iter().map(|v| (f64::from(*v) / norm) as f32).collect();
    (norm.is_finite() && norm > 1e-6).then(|| (unit(), norm as f32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_directions_weigh_the_same() {
        let Embedding { vector, length } = combine(&[3.0, 0.0], Some(&[0.0, 0.5])).unwrap();
        assert!((vector[0] - vector[1]).abs() < 1e-6 && (vector[0] - 0.5f32.sqrt()).abs() < 1e-6);
        assert!((length - 1.75).abs() < 1e-6);
        assert_eq!(combine(&[0.0, -2.0], None), Some(Embedding { vector: vec![0.0, -1.0], length: 2.0 }));
    }

    #[test]
    fn a_vector_without_a_direction_is_none() {
        assert_eq!(combine(&[0.0, 0.0], None), None);
        assert_eq!(combine(&[f32::NAN, 1.0], None), None);
        assert_eq!(combine(&[f32::INFINITY, 1.0], None), None);
        assert_eq!(combine(&[1.0, 0.0], Some(&[-1.0, 0.0])), None);
    }
}
