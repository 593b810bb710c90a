//! ONNX Runtime: loaded once per process by an explicit path, sessions that stay on one thread, and the one place where
//! tensors enter and leave it. What the numbers mean is known by the detectors and the embedder.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use no_denormals::no_denormals;
use ort::environment::Environment;
use ort::ep::{self, ExecutionProvider};
use ort::logging::LogLevel;
use ort::session::Session;
use ort::value::TensorRef;

use crate::error::InferenceError;

/// Where models run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Provider {
    /// The processor.
    #[default]
    Cpu,
    /// An NVIDIA GPU.
    Cuda {
        /// Its number, from 0.
        device: u32,
    },
}

impl std::fmt::Display for Provider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Provider::Cpu => f.write_str("cpu"),
            Provider::Cuda { device } => write!(f, "cuda:{device}"),
        }
    }
}

impl std::str::FromStr for Provider {
    type Err = String;
    /// `cpu`, `cuda` or `cuda:<device>`.
    fn from_str(s: &str) -> Result<Self, String> {
        match s.split_once(':') {
            None if s == "cpu" => Ok(Provider::Cpu),
            None if s == "cuda" => Ok(Provider::Cuda { device: 0 }),
            Some(("cuda", device)) if device.parse::<u32>().is_ok() => {
                Ok(Provider::Cuda { device: device.parse().unwrap_or_default() })
            }
            _ => Err(format!("{s:?} is no execution provider; use cpu, cuda or cuda:<device number>")),
        }
    }
}

/// How a session runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionOptions {
    /// Where.
    pub provider: Provider,
    /// Threads inside one run. 1 by default: parallelism comes from several sessions on their own threads, and threads of
    /// a pool never spin.
    pub intra_threads: usize,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self { provider: Provider::Cpu, intra_threads: 1 }
    }
}

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

    /// Whether a provider can be used at all: checked before a service says that it is ready.
    pub fn check(&self, provider: Provider) -> Result<(), InferenceError> {
        let unavailable = |message: String| InferenceError::Provider { provider: provider.to_string(), message };
        match provider {
            Provider::Cpu => Ok(()),
            Provider::Cuda { .. } => match ep::CUDA::is_available() {
                Ok(true) => Ok(()),
                Ok(false) => Err(unavailable("this ONNX Runtime was built without it".to_owned())),
                Err(e) => Err(unavailable(e.to_string())),
            },
        }
    }

    /// A session of a model file.
    pub fn open(&self, file: &Path, options: &SessionOptions) -> Result<Model, InferenceError> {
        self.check(options.provider)?;
        let load = |e: ort::Error| InferenceError::Load { file: file.to_owned(), message: e.to_string() };
        let mut builder = Session::builder(&self.environment)
            .map_err(load)?
            .with_intra_threads(options.intra_threads.max(1))
            .and_then(|b| b.with_inter_threads(1))
            // For the threads of its own pool, where it has any; this one's are flushed for each run.
            .and_then(|b| b.with_flush_to_zero())
            .and_then(|b| b.with_intra_op_spinning(false))
            .and_then(|b| b.with_inter_op_spinning(false))
            .map_err(|e| load(e.into()))?;
        if let Provider::Cuda { device } = options.provider {
            let cuda = ep::CUDA::default()
                .with_device_id(i32::try_from(device).unwrap_or(i32::MAX))
                .with_arena_extend_strategy(ep::ArenaExtendStrategy::SameAsRequested)
                .build()
                .error_on_failure();
            builder = builder.with_execution_providers([cuda]).map_err(|e| InferenceError::Provider {
                provider: options.provider.to_string(),
                message: e.to_string(),
            })?;
        }
        let session = builder.commit_from_file(file).map_err(load)?;
        let name = file.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
        Ok(Model { session, name })
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

/// A session with one float input. One thread at a time may run it.
#[derive(Debug)]
pub struct Model {
    session: Session,
    name: String,
}

impl Model {
    /// The file's name, for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The declared shape of the first input; -1 where it is free.
    pub fn input_shape(&self) -> Vec<i64> {
        let shape = self.session.inputs().first().and_then(|input| input.dtype().tensor_shape());
        shape.map(|s| s.to_vec()).unwrap_or_default()
    }

    /// Runs on one tensor of `shape`; all outputs by name, in the model's order.
    ///
    /// Numbers too small for a normal float count as zero meanwhile, on this thread: ONNX Runtime can do that only for the
    /// thread that opens a process's first session. Nothing that is read changes, but such numbers are slow to multiply: the
    /// default pack's embedder takes 8.0 ms a row with it and 58.9 ms without, and its outputs are the same to the last bit.
    pub fn run(&mut self, shape: [usize; 4], data: &[f32]) -> Result<Vec<(String, Tensor)>, InferenceError> {
        let name = self.name.clone();
        let failed = |message: String| InferenceError::Run { model: name.clone(), message };
        let input = TensorRef::from_array_view((shape, data)).map_err(|e| failed(e.to_string()))?;
        let outputs = flushed(|| self.session.run(ort::inputs![input])).map_err(|e| failed(e.to_string()))?;
        let mut tensors = Vec::with_capacity(outputs.len());
        for (output, value) in &outputs {
            let (shape, data) = value.try_extract_tensor::<f32>().map_err(|e| failed(e.to_string()))?;
            tensors.push((output.to_owned(), Tensor { shape: shape.to_vec(), data: data.to_vec() }));
        }
        Ok(tensors)
    }

    /// The session itself, and the model's name.
    pub(crate) fn into_session(self) -> (Session, String) {
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
