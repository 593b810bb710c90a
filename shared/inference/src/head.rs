//! A projection head: a small model from a pack's embeddings to others, of its own fingerprint. It follows the pack's embedder on the
//! same thread, always on the processor: 0.2 million products a face are less work than a device's round trip.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use facewire_domain::model::HEAD_DIGITS;
use facewire_vision::AlignedFace;
use sha2::{Digest as _, Sha256};

use crate::checksum::hex;
use crate::embedder::{Embedded, Embedding, FaceEmbedder, normalised};
use crate::error::{InferenceError, NotFinite, PackError};
use crate::onnx::{keeps_weights_elsewhere, widths};
use crate::provider::Provider;
use crate::runtime::{Model, OnnxRuntime, SessionOptions, Tuning};

/// A head's file is no larger: the usual one has 0.7 MB.
const MAX_BYTES: u64 = 64 << 20;
/// Rows of one run.
const ROWS: usize = 1024;
/// A head normalises its output: to a length of one, but for rounding.
const TOLERANCE: f32 = 1e-3;

/// What a head is, without its weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadSpec {
    /// The first 16 hexadecimal digits of the SHA-256 of its file.
    pub fingerprint: String,
    /// Numbers of the embeddings that it takes.
    pub input: usize,
    /// Numbers of those that it gives.
    pub output: usize,
}

/// A head's file, read once: whatever becomes of the file, every session is of the weights that the fingerprint names.
#[derive(Clone)]
pub struct HeadFile {
    path: PathBuf,
    bytes: Arc<[u8]>,
    spec: HeadSpec,
}

impl std::fmt::Debug for HeadFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HeadFile").field("path", &self.path).field("spec", &self.spec).finish_non_exhaustive()
    }
}

impl HeadFile {
    /// Reads a file. Blocks.
    ///
    /// # Errors
    /// A file that cannot be read, or that is no model from rows to rows.
    pub fn read(path: &Path) -> Result<Self, PackError> {
        let io = |source| PackError::Io { path: path.to_owned(), source };
        if std::fs::metadata(path).map_err(io)?.len() > MAX_BYTES {
            let message = "it has more than 64 MiB".to_owned();
            return Err(PackError::Head { file: path.to_owned(), message });
        }
        Self::of(path, std::fs::read(path).map_err(io)?)
    }

    /// The same of bytes that were read elsewhere; messages name them by `path`.
    ///
    /// # Errors
    /// Bytes that are no model from rows to rows, or not all of one.
    pub fn of(path: &Path, bytes: Vec<u8>) -> Result<Self, PackError> {
        let unfit = |message| PackError::Head { file: path.to_owned(), message };
        if keeps_weights_elsewhere(&bytes) {
            return Err(unfit(
                "it keeps weights in other files, which its fingerprint does not cover: save it as one".to_owned(),
            ));
        }
        let [input, output] = widths(&bytes).map_err(unfit)?;
        let fingerprint: String = hex(&Sha256::digest(&bytes)).chars().take(HEAD_DIGITS).collect();
        Ok(Self { path: path.to_owned(), bytes: bytes.into(), spec: HeadSpec { fingerprint, input, output } })
    }

    /// What it is.
    pub fn spec(&self) -> &HeadSpec {
        &self.spec
    }

    /// Where it was.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its content.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// A session of its own, for one thread, after a trial run.
    ///
    /// # Errors
    /// A model that cannot be loaded or run, or whose output is not normalised.
    pub fn open(&self, runtime: &OnnxRuntime, options: &SessionOptions) -> Result<Head, InferenceError> {
        let options = options.on(Provider::Cpu);
        let model = runtime.open_graph(&self.path, &self.bytes, &options, &Tuning::default())?;
        let mut head = Head { model, spec: self.spec.clone() };
        let even = (self.spec.input as f32).sqrt().recip();
        let trial = head.rows(&vec![even; self.spec.input])?;
        let length = trial.iter().map(|value| value * value).sum::<f32>().sqrt();
        let off = (length - 1.0).abs();
        if off.is_nan() || off > TOLERANCE {
            return Err(head.model.misshapen(format!("its output has the length {length}, and not 1")));
        }
        Ok(head)
    }
}

/// An open head. One thread at a time.
#[derive(Debug)]
pub struct Head {
    model: Model,
    spec: HeadSpec,
}

impl Head {
    /// What it is.
    pub fn spec(&self) -> &HeadSpec {
        &self.spec
    }

    /// Projects L2-normalised embeddings, which lie one after another; one answer each, L2-normalised, in order. `None` for
    /// one whose numbers are not finite or have no direction.
    ///
    /// # Errors
    /// A model that cannot be run, and numbers that are no rows of the input's width.
    pub fn project(&mut self, rows: &[f32]) -> Result<Vec<Option<Vec<f32>>>, InferenceError> {
        let mut projected = Vec::with_capacity(rows.len() / self.spec.input.max(1));
        for block in rows.chunks(ROWS * self.spec.input.max(1)) {
            let made = self.rows(block)?;
            let one = |row: &[f32]| normalised(row).map(|(vector, _)| vector);
            projected.extend(made.chunks_exact(self.spec.output.max(1)).map(one));
        }
        Ok(projected)
    }

    /// One run.
    fn rows(&mut self, rows: &[f32]) -> Result<Vec<f32>, InferenceError> {
        let (count, input) = (rows.len() / self.spec.input.max(1), self.spec.input);
        if rows.len() != count * input {
            return Err(self.model.misshapen(format!("{} numbers are no rows of {input}", rows.len())));
        }
        let made = self.model.run_rows([count, input], rows)?.into_iter().next().map(|(_, tensor)| tensor);
        match made {
            Some(tensor) if tensor.data.len() == count * self.spec.output => Ok(tensor.data),
            other => {
                let shape = other.map(|tensor| tensor.shape).unwrap_or_default();
                let message = format!("{count} rows gave {shape:?}, not [{count}, {}]", self.spec.output);
                Err(self.model.misshapen(message))
            }
        }
    }
}

/// An embedder with a head behind it. Its name and dimension are the projection's; the length is still that of the pack's own model.
pub struct Projected {
    inner: Box<dyn FaceEmbedder>,
    head: Head,
    name: String,
}

impl Projected {
    /// `name`: the fingerprint of both.
    pub fn new(inner: Box<dyn FaceEmbedder>, head: Head, name: String) -> Self {
        Self { inner, head, name }
    }
}

impl FaceEmbedder for Projected {
    fn name(&self) -> &str {
        &self.name
    }

    fn dim(&self) -> usize {
        self.head.spec.output
    }

    fn max_batch(&self) -> Option<usize> {
        self.inner.max_batch()
    }

    fn warm_up(&self) -> Vec<usize> {
        self.inner.warm_up()
    }

    fn embed_measured(&mut self, faces: &[AlignedFace]) -> Result<Vec<Embedded>, InferenceError> {
        let embedded = self.inner.embed_measured(faces)?;
        let rows: Vec<f32> = embedded.iter().flatten().flat_map(|raw| raw.vector.iter().copied()).collect();
        let mut projected = self.head.project(&rows)?.into_iter();
        let behind = |(index, raw): (usize, Embedded)| -> Embedded {
            let Embedding { vector: raw, length, .. } = raw?;
            let not_finite = || NotFinite { model: self.head.model.name().to_owned(), index };
            let vector = projected.next().flatten().ok_or_else(not_finite)?;
            Ok(Embedding { vector, length, raw: Some(raw) })
        };
        Ok(embedded.into_iter().enumerate().map(behind).collect())
    }
}
