//! ONNX Runtime: loaded once per process by an explicit path, sessions that stay on one thread, and the one place where
//! tensors enter and leave it. What the numbers mean is known by the detectors and the embedder.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use no_denormals::no_denormals;
use ort::environment::Environment;
use ort::ep::{self, ExecutionProvider, ExecutionProviderDispatch};
use ort::logging::LogLevel;
use ort::session::builder::SessionBuilder;
use ort::session::{Session, SessionInputValue};
use ort::value::{Shape, TensorElementType, TensorRef};
use serde::{Deserialize, Serialize};

use crate::capture;
use crate::error::InferenceError;
use crate::provider::Provider;
use crate::session::DeviceSession;

/// What goes into the embedder's graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GraphInput {
    /// Pixels on a GPU, which has little to copy then, and numbers on the processor.
    #[default]
    Auto,
    /// Numbers that were normalised before. What a pack says of a GPU, but for the sizes of runs, does not count then.
    Float,
    /// The pixels as they are: the graph itself normalises and mirrors them.
    Uint8,
}

/// How a session runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionOptions {
    /// Where.
    pub provider: Provider,
    /// Threads inside one run. 1 by default: parallelism comes from several sessions on their own threads, and threads of
    /// a pool never spin.
    pub intra_threads: usize,
    /// What the embedder's graph takes. The other models take numbers.
    pub graph_input: GraphInput,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self { provider: Provider::Cpu, intra_threads: 1, graph_input: GraphInput::Auto }
    }
}

impl SessionOptions {
    /// The same on another device.
    #[must_use]
    pub fn on(self, provider: Provider) -> Self {
        Self { provider, ..self }
    }

    /// Whether the embedder's graph takes pixels.
    pub(crate) fn takes_pixels(&self) -> bool {
        match self.graph_input {
            GraphInput::Auto => self.provider.is_gpu(),
            GraphInput::Float => false,
            GraphInput::Uint8 => true,
        }
    }
}

/// What a pack asks of a session on a GPU. On the processor nothing of it counts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tuning {
    /// CUDA records runs once and plays them back. TensorRT keeps one recording, whatever the size of a run.
    pub(crate) cuda_graph: bool,
    /// CUDA runs convolutions with the channels innermost.
    pub(crate) nhwc: bool,
    /// TensorRT converts to half precision.
    pub(crate) fp16: bool,
    /// The smallest and the largest shape of the input, in TensorRT's words: one engine for all between them.
    pub(crate) shapes: Option<[String; 2]>,
}

/// How ONNX Runtime says that it left a part of a model to the processor, which [`OnnxRuntime::open`] forbids on a GPU.
const FALLBACK: &str = "fallback to CPU EP";

/// The process's ONNX Runtime. Cheap to clone.
#[derive(Debug, Clone)]
pub struct OnnxRuntime {
    environment: Environment,
}

/// A shared library is loaded into the process and never leaves it, so this one global mirrors a fact.
static LOADED: Mutex<Option<(PathBuf, OnnxRuntime)>> = Mutex::new(None);

impl OnnxRuntime {
    /// Loads the library from exactly this path; a second call with the same path gives the same runtime, with another
    /// path an error. Blocks for some tens of milliseconds.
    pub fn load(library: &Path) -> Result<Self, InferenceError> {
        let failed = |message: String| InferenceError::Library { path: library.to_owned(), message };
        let path = library.canonicalize().map_err(|e| failed(e.to_string()))?;
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((first, runtime)) = loaded.as_ref() {
            if *first == path {
                return Ok(runtime.clone());
            }
            return Err(InferenceError::AnotherLibrary { loaded: first.clone(), wanted: path });
        }
        let builder = ort::environment::init_from(&path).map_err(|e| failed(e.to_string()))?;
        let environment =
            builder.with_name("facewire").with_telemetry(false).build().map_err(|e| failed(e.to_string()))?;
        environment.set_log_level(LogLevel::Warning);
        let runtime = Self { environment };
        *loaded = Some((path, runtime.clone()));
        Ok(runtime)
    }

    /// What the library says of its build: version, commit, flags.
    pub fn build(&self) -> &'static str {
        ort::info()
    }

    /// Whether a provider can be used at all: checked before a service says that it is ready.
    pub fn check(&self, provider: Provider) -> Result<(), InferenceError> {
        let unavailable = |message: String| InferenceError::Provider { provider: provider.to_string(), message };
        let has = match provider {
            Provider::Cpu => return Ok(()),
            Provider::Cuda { .. } => ep::CUDA::is_available(),
            Provider::TensorRt { .. } => {
                ep::TensorRT::is_available().and_then(|has| Ok(has && ep::CUDA::is_available()?))
            }
        };
        match has {
            Ok(true) => Ok(()),
            Ok(false) => Err(unavailable("this ONNX Runtime was built without it".to_owned())),
            Err(e) => Err(unavailable(e.to_string())),
        }
    }

    /// A session of a model file. On a GPU all of the model runs there, or none: what ONNX Runtime would leave to the
    /// processor is an error.
    pub fn open(&self, file: &Path, options: &SessionOptions) -> Result<Model, InferenceError> {
        let mut builder = self.builder(file, options, &Tuning::default())?;
        Model::opened(file, options, || builder.commit_from_file(file))
    }

    /// The same with a graph that was made from the file's.
    pub(crate) fn open_graph(
        &self,
        file: &Path,
        graph: &[u8],
        options: &SessionOptions,
        tuning: &Tuning,
    ) -> Result<Model, InferenceError> {
        let mut builder = self.builder(file, options, tuning)?;
        Model::opened(file, options, || builder.commit_from_memory(graph))
    }

    fn builder(
        &self,
        file: &Path,
        options: &SessionOptions,
        tuning: &Tuning,
    ) -> Result<SessionBuilder, InferenceError> {
        self.check(options.provider)?;
        let builder = Session::builder(&self.environment)
            .map_err(|e| not_opened(file, options, &e))?
            .with_intra_threads(options.intra_threads.max(1))
            // Published models declare outputs of one size, and ONNX Runtime warns of each run of another. What it may not leave
            // undone is an error here.
            .and_then(|b| b.with_log_level(LogLevel::Error))
            .and_then(|b| b.with_inter_threads(1))
            // For the threads of its own pool, where it has any; this one's are flushed for each run.
            .and_then(|b| b.with_flush_to_zero())
            .and_then(|b| b.with_intra_op_spinning(false))
            .and_then(|b| b.with_inter_op_spinning(false))
            .map_err(|e| not_opened(file, options, &e.into()))?;
        let providers = dispatches(options.provider, tuning);
        if providers.is_empty() {
            return Ok(builder);
        }
        let registered = builder.with_disable_cpu_fallback().and_then(|b| b.with_execution_providers(providers));
        registered
            .map_err(|e| InferenceError::Provider { provider: options.provider.to_string(), message: e.to_string() })
    }
}

fn name_of(file: &Path) -> String {
    file.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

fn not_opened(file: &Path, options: &SessionOptions, error: &ort::Error) -> InferenceError {
    let (file, message) = (file.to_owned(), error.to_string());
    if options.provider.is_gpu() && message.contains(FALLBACK) {
        return InferenceError::Fallback { provider: options.provider.to_string(), file, message };
    }
    InferenceError::Load { file, message }
}

/// What ONNX Runtime is told of a provider, the preferred one first; nothing for the processor.
fn dispatches(provider: Provider, tuning: &Tuning) -> Vec<ExecutionProviderDispatch> {
    let cuda = |cuda_graph| {
        let cuda = ep::CUDA::default()
            .with_device_id(provider.device())
            .with_arena_extend_strategy(ep::ArenaExtendStrategy::SameAsRequested)
            // The exhaustive search takes seconds for each size of a batch.
            .with_conv_algorithm_search(ep::cuda::ConvAlgorithmSearch::Heuristic)
            .with_prefer_nhwc(tuning.nhwc)
            .with_cuda_graph(cuda_graph);
        cuda.build().error_on_failure()
    };
    match provider {
        Provider::Cpu => Vec::new(),
        Provider::Cuda { .. } => vec![cuda(tuning.cuda_graph)],
        Provider::TensorRt { .. } => {
            let mut tensorrt = ep::TensorRT::default().with_device_id(provider.device()).with_fp16(tuning.fp16);
            if let Some([min, max]) = &tuning.shapes {
                tensorrt =
                    tensorrt.with_profile_min_shapes(min).with_profile_opt_shapes(max).with_profile_max_shapes(max);
            }
            vec![tensorrt.build().error_on_failure(), cuda(false)]
        }
    }
}

/// An output of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Sizes, outermost first.
    pub shape: Vec<i64>,
    /// Values, the last dimension fastest.
    pub data: Vec<f32>,
}

impl Tensor {
    pub(crate) fn of((shape, data): (&Shape, &[f32])) -> Self {
        Self { shape: shape.to_vec(), data: data.to_vec() }
    }
}

/// A session with one input. One thread at a time may run it.
#[derive(Debug)]
pub struct Model {
    session: DeviceSession,
    name: String,
}

impl Model {
    fn opened(
        file: &Path,
        options: &SessionOptions,
        open: impl FnOnce() -> ort::Result<Session>,
    ) -> Result<Self, InferenceError> {
        let gpu = options.provider.is_gpu();
        let _opening = gpu.then(capture::among_others);
        let session = open().map_err(|e| not_opened(file, options, &e))?;
        Ok(Self { session: DeviceSession::new(session, gpu), name: name_of(file) })
    }

    /// The file's name, for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The declared shape of the first input; -1 where it is free.
    pub fn input_shape(&self) -> Vec<i64> {
        let shape = self.session.inputs().first().and_then(|input| input.dtype().tensor_shape());
        shape.map(|s| s.to_vec()).unwrap_or_default()
    }

    /// Whether the first input and the first output are tensors of 32-bit floats.
    pub fn is_single_precision(&self) -> bool {
        let input = self.session.inputs().first().and_then(|input| input.dtype().tensor_type());
        let output = self.session.outputs().first().and_then(|output| output.dtype().tensor_type());
        [input, output] == [Some(TensorElementType::Float32); 2]
    }

    /// Runs on one tensor of `shape`; all outputs by name, in the model's order.
    ///
    /// Numbers too small for a normal float count as zero meanwhile, on this thread: ONNX Runtime can do that only for the
    /// thread that opens a process's first session. Nothing that is read changes, but such numbers are slow to multiply: the
    /// default pack's embedder takes 8.0 ms a row with it and 58.9 ms without, and its outputs are the same to the last bit.
    pub fn run(&mut self, shape: [usize; 4], data: &[f32]) -> Result<Vec<(String, Tensor)>, InferenceError> {
        let input = TensorRef::from_array_view((shape, data)).map_err(|e| self.failed(&e))?;
        self.run_on(input.into())
    }

    /// The same for rows of one width.
    pub(crate) fn run_rows(
        &mut self,
        shape: [usize; 2],
        data: &[f32],
    ) -> Result<Vec<(String, Tensor)>, InferenceError> {
        let input = TensorRef::from_array_view((shape, data)).map_err(|e| self.failed(&e))?;
        self.run_on(input.into())
    }

    /// The same for a model that takes bytes.
    pub(crate) fn run_bytes(
        &mut self,
        shape: [usize; 4],
        data: &[u8],
    ) -> Result<Vec<(String, Tensor)>, InferenceError> {
        let input = TensorRef::from_array_view((shape, data)).map_err(|e| self.failed(&e))?;
        self.run_on(input.into())
    }

    fn run_on(&mut self, input: SessionInputValue<'_>) -> Result<Vec<(String, Tensor)>, InferenceError> {
        let _running = self.session.running();
        let name = self.name.clone();
        let failed = |message: String| InferenceError::Run { model: name.clone(), message };
        let outputs = flushed(|| self.session.run(ort::inputs![input])).map_err(|e| failed(e.to_string()))?;
        let mut tensors = Vec::with_capacity(outputs.len());
        for (output, value) in &outputs {
            let tensor = value.try_extract_tensor::<f32>().map_err(|e| failed(e.to_string()))?;
            tensors.push((output.to_owned(), Tensor::of(tensor)));
        }
        Ok(tensors)
    }

    fn failed(&self, error: &ort::Error) -> InferenceError {
        InferenceError::Run { model: self.name.clone(), message: error.to_string() }
    }

    /// The session itself, and the model's name.
    pub(crate) fn into_session(self) -> (DeviceSession, String) {
        (self.session, self.name)
    }

    /// An error that the outputs are not as expected.
    pub(crate) fn misshapen(&self, message: impl Into<String>) -> InferenceError {
        InferenceError::Shape { model: self.name.clone(), message: message.into() }
    }
}

/// Calls ONNX Runtime with denormal numbers as zero on this thread.
#[expect(
    unsafe_code,
    reason = "the flags hold for foreign code only: no Rust computes with floats before they are reset"
)]
pub(crate) fn flushed<T>(run: impl FnOnce() -> T) -> T {
    unsafe { no_denormals(run) }
}
