//! Aligned faces to embeddings: normalised input, mirror averaging, and a vector of length one that is checked before it
//! leaves. Comparing embeddings is the vector engine's work.

use facewire_vision::AlignedFace;

use crate::bare::BareSession;
use crate::buckets::Buckets;
use crate::error::{InferenceError, NotFinite};
use crate::manifest::{ColourOrder, EmbedderSpec};
use crate::pixels::FaceModel;
use crate::planes::planes;
use crate::runtime::{Model, Tensor};

/// One model at a time, behind one trait. One thread at a time.
pub trait FaceEmbedder: Send {
    /// The pack's fingerprint: the `model` of records.
    fn name(&self) -> &str;

    /// Numbers of an embedding.
    fn dim(&self) -> usize;

    /// Faces that one run can take at most; 1 where batching brings nothing. `None` means no bound.
    fn max_batch(&self) -> Option<usize>;

    /// Faces of the runs that make a new session ready. A GPU takes long over the first run of each size: there, one of
    /// each size that it will see.
    fn warm_up(&self) -> Vec<usize> {
        vec![1]
    }

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
#[derive(Clone, PartialEq)]
pub struct Embedding {
    /// L2-normalised.
    pub vector: Vec<f32>,
    /// Length of the model's output before anything was normalised; with a mirror image, of the mean of both outputs. A
    /// model is less sure of a face the shorter it is and the less its mirror image agrees. In the model's own unit:
    /// comparable within a pack only.
    pub length: f32,
    /// What the pack's own model made, where a projection head follows it: L2-normalised.
    pub raw: Option<Vec<f32>>,
}

impl std::fmt::Debug for Embedding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Biometric data: it stays out of logs.
        f.debug_struct("Embedding").field("length", &self.length).finish_non_exhaustive()
    }
}

/// An ArcFace-style model.
#[derive(Debug)]
pub struct OnnxEmbedder {
    input: Input,
    spec: EmbedderSpec,
    fingerprint: String,
    /// Images of every run, where the model takes no other number.
    fixed: Option<usize>,
    /// Sizes of runs otherwise; without any, each run is as large as it needs to be.
    buckets: Option<Buckets>,
}

/// What a run gets, and the room in which it is put together.
enum Input {
    /// Normalised planes; a mirror image is an image.
    Planes { model: Model, buffer: Vec<f32> },
    /// Pixels; the graph may mirror them itself.
    Pixels { model: FaceModel, buffer: Vec<u8> },
}

impl OnnxEmbedder {
    /// The embedder of an open model; fails where the manifest allows batches that the model's input does not.
    pub fn new(model: Model, spec: &EmbedderSpec, fingerprint: String) -> Result<Self, InferenceError> {
        let shape = model.input_shape();
        if shape.len() != 4 {
            return Err(model.misshapen(format!("its input has the shape {shape:?}, not [n, 3, 112, 112]")));
        }
        if !model.is_single_precision() {
            let message = "it has no 32-bit floats as input and output; a model in half precision takes pixels: \
                           models.graph_input = \"uint8\"";
            return Err(model.misshapen(message));
        }
        let fixed = shape.first().and_then(|rows| usize::try_from(*rows).ok()).filter(|rows| *rows > 0);
        if let Some(rows) = fixed.filter(|rows| *rows != spec.max_rows) {
            return Err(model.misshapen(format!("its batch is fixed at {rows}: set embedder.max_rows to that")));
        }
        let input = Input::Planes { model, buffer: Vec::new() };
        Ok(Self { input, spec: spec.clone(), fingerprint, fixed, buckets: None })
    }

    /// The embedder of a model that takes pixels.
    pub fn of_pixels(model: FaceModel, spec: &EmbedderSpec, fingerprint: String) -> Self {
        let fixed = model.fixed_faces();
        let input = Input::Pixels { model, buffer: Vec::new() };
        Self { input, spec: spec.clone(), fingerprint, fixed, buckets: None }
    }

    /// Fills each run up to one of the pack's sizes, for devices that plan a model anew for each.
    #[must_use]
    pub fn in_buckets(mut self) -> Self {
        let sizes = self.spec.gpu.as_ref().map(|gpu| gpu.buckets.as_slice()).unwrap_or_default();
        self.buckets = Some(Buckets::new(sizes, self.most()));
        self
    }

    /// The session alone, with these faces and, where the pack wants them, their mirror images in place as the input of one
    /// run, as far as a run takes them. A batch that is fixed is filled up with them.
    ///
    /// # Errors
    /// Memory that cannot be bound, or a first run that fails.
    pub fn bare(self, faces: &[AlignedFace]) -> Result<BareSession, InferenceError> {
        let mirrors: Vec<AlignedFace> = match self.spec.flip && !self.input.mirrors() {
            true => faces.iter().map(AlignedFace::mirrored).collect(),
            false => Vec::new(),
        };
        let all = faces.iter().chain(&mirrors);
        let count = self.fixed.unwrap_or_else(|| all.clone().count().min(self.most()));
        let images: Vec<&AlignedFace> = all.cycle().take(count).collect();
        match self.input {
            Input::Planes { model, mut buffer } => {
                images.iter().for_each(|image| normalise(&self.spec, image, &mut buffer));
                let side = AlignedFace::SIDE as usize;
                BareSession::new(model, [images.len(), 3, side, side], buffer)
            }
            Input::Pixels { model, mut buffer } => {
                images.iter().for_each(|image| buffer.extend_from_slice(image.as_bytes()));
                model.bare(images.len(), buffer)
            }
        }
    }

    /// Images of a run, at most.
    fn most(&self) -> usize {
        if self.input.mirrors() { self.spec.faces_per_run() } else { self.spec.max_rows.max(1) }
    }

    /// Raw outputs of the images of one run, in order, and of their mirror images where the graph mirrors them. What a run
    /// is filled up with is black, or grey, and dropped.
    fn run(&mut self, images: &[&AlignedFace]) -> Result<[Vec<Vec<f32>>; 2], InferenceError> {
        let (count, dim) = (images.len(), self.spec.dim);
        let size = self.fixed.or_else(|| Some(self.buckets.as_ref()?.fit(count))).unwrap_or(count);
        let rows = if self.input.mirrors() { 2 * size } else { size };
        match self.input.run(&self.spec, images, size)? {
            Some(tensor) if tensor.data.len() == rows * dim => {
                let vectors = |first: usize| {
                    let all = tensor.data.chunks_exact(dim).skip(first).take(count);
                    all.map(<[f32]>::to_vec).collect::<Vec<_>>()
                };
                Ok([vectors(0), vectors(size)])
            }
            other => {
                let shape = other.map(|tensor| tensor.shape).unwrap_or_default();
                let message = format!("{size} images gave {shape:?}, not [{rows}, {dim}]");
                Err(InferenceError::Shape { model: self.input.name().to_owned(), message })
            }
        }
    }

    /// Raw outputs of faces that a run can take, and of their mirror images where the pack wants those; in as few runs as
    /// the model's batch allows.
    fn both(&mut self, faces: &[AlignedFace]) -> Result<[Vec<Vec<f32>>; 2], InferenceError> {
        if self.input.mirrors() || !self.spec.flip {
            return self.run(&faces.iter().collect::<Vec<_>>());
        }
        let mirrors: Vec<AlignedFace> = faces.iter().map(AlignedFace::mirrored).collect();
        let images: Vec<&AlignedFace> = faces.iter().chain(&mirrors).collect();
        let mut rows = Vec::with_capacity(images.len());
        for piece in images.chunks(self.most()) {
            let [plain, _] = self.run(piece)?;
            rows.extend(plain);
        }
        let mirrored = rows.split_off(faces.len().min(rows.len()));
        Ok([rows, mirrored])
    }
}

/// Never the faces in its room.
impl std::fmt::Debug for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl Input {
    fn name(&self) -> &str {
        match self {
            Self::Planes { model, .. } => model.name(),
            Self::Pixels { model, .. } => model.name(),
        }
    }

    /// Whether the graph gives the mirror images' rows too.
    fn mirrors(&self) -> bool {
        match self {
            Self::Planes { .. } => false,
            Self::Pixels { model, .. } => model.mirrors(),
        }
    }

    /// One run of so many images, filled up.
    fn run(
        &mut self,
        spec: &EmbedderSpec,
        images: &[&AlignedFace],
        size: usize,
    ) -> Result<Option<Tensor>, InferenceError> {
        match self {
            Self::Planes { model, buffer } => {
                buffer.clear();
                images.iter().for_each(|image| normalise(spec, image, buffer));
                let side = AlignedFace::SIDE as usize;
                buffer.resize(size * 3 * side * side, 0.0);
                Ok(model.run([size, 3, side, side], buffer)?.into_iter().next().map(|(_, tensor)| tensor))
            }
            Self::Pixels { model, buffer } => {
                buffer.clear();
                images.iter().for_each(|image| buffer.extend_from_slice(image.as_bytes()));
                buffer.resize(size * AlignedFace::BYTES, 0);
                model.run(size, buffer)
            }
        }
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

    fn warm_up(&self) -> Vec<usize> {
        let Some(buckets) = self.buckets.as_ref().filter(|_| self.fixed.is_none()) else { return vec![1] };
        // A face is two images where the graph does not mirror it.
        let images = if self.spec.flip && !self.input.mirrors() { 2 } else { 1 };
        let mut faces: Vec<usize> = buckets.sizes().iter().map(|size| size.div_ceil(images)).collect();
        faces.dedup();
        faces
    }

    fn embed_measured(&mut self, faces: &[AlignedFace]) -> Result<Vec<Embedded>, InferenceError> {
        let mut embeddings = Vec::with_capacity(faces.len());
        for piece in faces.chunks(self.spec.faces_per_run()) {
            let [plain, mirrored] = self.both(piece)?;
            let mut mirrored = mirrored.iter();
            for row in &plain {
                let index = embeddings.len();
                let joined = combine(row, mirrored.next().map(Vec::as_slice));
                embeddings.push(joined.ok_or_else(|| NotFinite { model: self.input.name().to_owned(), index }));
            }
        }
        Ok(embeddings)
    }
}

/// Appends a face as the pack's own model wants it.
fn normalise(spec: &EmbedderSpec, face: &AlignedFace, out: &mut Vec<f32>) {
    let start = out.len();
    planes(face.image(), spec.mean, spec.scale, out);
    if spec.colour == ColourOrder::Bgr {
        let plane = (AlignedFace::SIDE * AlignedFace::SIDE) as usize;
        let planes = out.get_mut(start..).unwrap_or_default();
        if let Some((red, rest)) = planes.split_at_mut_checked(plane) {
            red.iter_mut().zip(rest.iter_mut().skip(plane)).for_each(|(r, b)| std::mem::swap(r, b));
        }
    }
}

/// The face's vector and its mirror image's, each normalised, added, normalised. `None` where a length is 0 or not finite.
pub fn combine(face: &[f32], mirror: Option<&[f32]>) -> Option<Embedding> {
    let (mut vector, mut length) = normalised(face)?;
    if let Some(mirror) = mirror {
        let (mirrored, _) = normalised(mirror)?;
        vector.iter_mut().zip(mirrored).for_each(|(s, m)| *s += m);
        (vector, _) = normalised(&vector)?;
        let mean: Vec<f32> = face.iter().zip(mirror).map(|(f, m)| f.midpoint(*m)).collect();
        (_, length) = normalised(&mean)?;
    }
    Some(Embedding { vector, length, raw: None })
}

/// Of length one, and the length before; `None` where that is 0 or not finite.
pub(crate) fn normalised(values: &[f32]) -> Option<(Vec<f32>, f32)> {
    let norm = values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
    let unit = || values.iter().map(|v| (f64::from(*v) / norm) as f32).collect();
    (norm.is_finite() && norm > 1e-6).then(|| (unit(), norm as f32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_directions_weigh_the_same() {
        let Embedding { vector, length, .. } = combine(&[3.0, 0.0], Some(&[0.0, 0.5])).unwrap();
        assert!((vector[0] - vector[1]).abs() < 1e-6 && (vector[0] - 0.5f32.sqrt()).abs() < 1e-6);
        // Of (1.5, 0.25).
        assert!((length - 2.3125f32.sqrt()).abs() < 1e-6);
        let agreeing = combine(&[3.0, 4.0], Some(&[3.0, 4.0])).unwrap();
        assert!((agreeing.length - 5.0).abs() < 1e-6, "as long as both where they agree");
        assert_eq!(combine(&[0.0, -2.0], None), Some(Embedding { vector: vec![0.0, -1.0], length: 2.0, raw: None }));
    }

    #[test]
    fn a_vector_without_a_direction_is_none() {
        assert_eq!(combine(&[0.0, 0.0], None), None);
        assert_eq!(combine(&[f32::NAN, 1.0], None), None);
        assert_eq!(combine(&[f32::INFINITY, 1.0], None), None);
        assert_eq!(combine(&[1.0, 0.0], Some(&[-1.0, 0.0])), None);
    }
}
