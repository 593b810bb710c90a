//! The embedder's session that takes aligned faces as they are: the pack's file with a graph that begins with pixels, on the
//! processor, or from pinned memory on a GPU. How the graph is changed is `onnx`'s.

use std::path::Path;

use facewire_vision::AlignedFace;

use crate::bare::BareSession;
use crate::error::InferenceError;
use crate::manifest::{EmbedderSpec, GpuSpec};
use crate::onnx::{FACES, FaceGraph, takes_faces};
use crate::pinned::PinnedSession;
use crate::provider::Provider;
use crate::runtime::{Model, OnnxRuntime, SessionOptions, Tensor, Tuning};

/// A model from pixels to embeddings. One thread at a time.
#[derive(Debug)]
pub struct FaceModel {
    run: Run,
    mirrors: bool,
    faces: Option<usize>,
    dim: usize,
}

#[derive(Debug)]
enum Run {
    Plain(Model),
    Pinned(PinnedSession),
}

impl FaceModel {
    /// Opens the model of a file with pixels as its input; fails where the manifest allows batches that the model's input
    /// does not.
    pub fn open(
        runtime: &OnnxRuntime,
        file: &Path,
        spec: &EmbedderSpec,
        options: &SessionOptions,
    ) -> Result<Self, InferenceError> {
        let load = |message: String| InferenceError::Load { file: file.to_owned(), message };
        let bytes = std::fs::read(file).map_err(|e| load(e.to_string()))?;
        let made = takes_faces(&bytes, spec).map_err(|message| {
            load(format!("it cannot take pixels: {message}; with models.graph_input = \"float\" it runs as it is"))
        })?;
        drop(bytes);
        let gpu = spec.gpu.clone().unwrap_or_default();
        let cuda = matches!(options.provider, Provider::Cuda { .. });
        if let Some(message) = cuda.then(|| unfit_for_cuda(&gpu)).flatten() {
            return Err(load(message.to_owned()));
        }
        let model = runtime.open_graph(file, &made.model, options, &tuning(&gpu, &made, spec))?;
        if let Some(rows) = made.rows.filter(|rows| *rows != spec.max_rows) {
            return Err(model.misshapen(format!("its batch is fixed at {rows}: set embedder.max_rows to that")));
        }
        let faces = Self { run: Run::Plain(model), mirrors: made.mirrors, faces: made.faces(), dim: spec.dim };
        Ok(if options.provider.is_gpu() { faces.pinned(options.provider, cuda && gpu.cuda_graph) } else { faces })
    }

    /// The same from pinned memory, where it was opened on a GPU; elsewhere in memory as the processor has it.
    #[must_use]
    pub fn pinned(self, provider: Provider, cuda_graph: bool) -> Self {
        let run = match self.run {
            Run::Plain(model) => Run::Pinned(PinnedSession::new(model, provider, cuda_graph)),
            pinned @ Run::Pinned(_) => pinned,
        };
        Self { run, ..self }
    }

    /// The file's name, for messages.
    pub fn name(&self) -> &str {
        match &self.run {
            Run::Plain(model) => model.name(),
            Run::Pinned(session) => session.name(),
        }
    }

    /// Whether the rows of the mirror images follow the faces' own.
    pub fn mirrors(&self) -> bool {
        self.mirrors
    }

    /// Faces of every run, where the model takes no other number.
    pub fn fixed_faces(&self) -> Option<usize> {
        self.faces
    }

    /// The session alone, with these bytes of so many faces in place.
    pub(crate) fn bare(self, faces: usize, pixels: Vec<u8>) -> Result<BareSession, InferenceError> {
        let (shape, rows) = self.sizes(faces);
        let bare = match self.run {
            Run::Plain(model) => BareSession::new(model, shape, pixels)?,
            Run::Pinned(mut session) => {
                session.run(shape, &pixels, [rows, self.dim])?;
                BareSession::pinned(session, faces)
            }
        };
        Ok(bare.with_rows(rows))
    }

    /// The shape of the input of so many faces, and the rows that come out.
    fn sizes(&self, faces: usize) -> ([usize; 4], usize) {
        let side = AlignedFace::SIDE as usize;
        ([faces, side, side, 3], if self.mirrors { 2 * faces } else { faces })
    }

    /// One run on the bytes of so many faces; its first output.
    pub(crate) fn run(&mut self, faces: usize, pixels: &[u8]) -> Result<Option<Tensor>, InferenceError> {
        let (shape, rows) = self.sizes(faces);
        match &mut self.run {
            Run::Plain(model) => Ok(model.run_bytes(shape, pixels)?.into_iter().next().map(|(_, tensor)| tensor)),
            Run::Pinned(session) => session.run(shape, pixels, [rows, self.dim]).map(Some),
        }
    }
}

/// What CUDA cannot do of what a pack asks for.
fn unfit_for_cuda(gpu: &GpuSpec) -> Option<&'static str> {
    match gpu {
        GpuSpec { fp16: true, file: None, .. } => {
            Some("the pack asks for fp16, and CUDA needs a model that was converted: name it in embedder.gpu.file")
        }
        GpuSpec { nhwc: true, file: Some(_), .. } => Some(
            "ONNX Runtime ended the process over nhwc with a model in half precision: set embedder.gpu.nhwc = false",
        ),
        _ => None,
    }
}

/// For TensorRT, one engine for every number of faces, where the model takes more than one.
fn tuning(gpu: &GpuSpec, made: &FaceGraph, spec: &EmbedderSpec) -> Tuning {
    let side = AlignedFace::SIDE;
    let shape = |faces: usize| format!("{FACES}:{faces}x{side}x{side}x3");
    let most = if made.mirrors { spec.faces_per_run() } else { spec.max_rows };
    let shapes = made.rows.is_none().then(|| [shape(1), shape(most.max(1))]);
    Tuning { cuda_graph: gpu.cuda_graph, nhwc: gpu.nhwc, fp16: gpu.fp16, shapes }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::ModelFile;

    #[test]
    fn what_cuda_cannot_do_is_told() {
        let file = Some(ModelFile { name: "half.onnx".to_owned(), sha256: String::new() });
        let gpu =
            |nhwc, fp16, file: &Option<ModelFile>| GpuSpec { nhwc, fp16, file: file.clone(), ..GpuSpec::default() };
        assert!(unfit_for_cuda(&gpu(false, true, &None)).unwrap().contains("converted"));
        assert!(unfit_for_cuda(&gpu(true, true, &file)).unwrap().contains("nhwc"));
        for fit in [gpu(true, false, &None), gpu(false, true, &file), GpuSpec::default()] {
            assert_eq!(unfit_for_cuda(&fit), None);
        }
    }
}
