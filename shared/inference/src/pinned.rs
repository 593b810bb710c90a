//! Runs from pinned memory, which a GPU reads without a copy by the processor: each size of run has an input of its own, made
//! once. A session runs one batch at a time; while one is on the GPU, the second thread of the same device fills its own.
//! The rows come back into ordinary memory: ONNX Runtime 1.31 refuses an output in pinned memory, by "dst_data != src_data".

use std::collections::BTreeMap;
use std::thread::{self, ThreadId};

use ort::memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType};
use ort::session::{IoBinding, RunOptions, Session};
use ort::value::Tensor as OrtTensor;

use crate::capture;
use crate::error::InferenceError;
use crate::provider::Provider;
use crate::runtime::{Model, Tensor, flushed};
use crate::session::DeviceSession;

/// ONNX Runtime's name for the number of a recorded run: each size has its own.
const GRAPH_ID: &str = "gpu_graph_id";

/// A session from bytes to one vector a row. One thread at a time.
#[derive(Debug)]
pub(crate) struct PinnedSession {
    // Dropped before the session that they belong to.
    sizes: BTreeMap<usize, Buffers>,
    session: DeviceSession,
    model: String,
    provider: Provider,
    cuda_graph: bool,
}

/// What one size of run needs.
#[derive(Debug)]
struct Buffers {
    binding: IoBinding,
    /// In pinned memory.
    pixels: OrtTensor<u8>,
    recorded: Option<Recorded>,
}

/// Memory of the GPU that a recorded run always reads from and writes to.
struct Recorded {
    pixels: OrtTensor<u8>,
    rows: OrtTensor<f32>,
    /// Where they are copied to.
    here: OrtTensor<f32>,
    options: RunOptions,
    /// The thread that recorded it: ONNX Runtime keeps recordings by thread.
    by: Option<ThreadId>,
}

impl std::fmt::Debug for Recorded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Recorded")
    }
}

impl PinnedSession {
    /// Of a model that was opened on this provider.
    pub(crate) fn new(model: Model, provider: Provider, cuda_graph: bool) -> Self {
        let (session, model) = model.into_session();
        Self { sizes: BTreeMap::new(), session, model, provider, cuda_graph }
    }

    /// The file's name, for messages.
    pub(crate) fn name(&self) -> &str {
        &self.model
    }

    /// One run on bytes of `shape`; its first output, which a recording expects to be of `rows` vectors with `dim` numbers.
    pub(crate) fn run(
        &mut self,
        shape: [usize; 4],
        data: &[u8],
        [rows, dim]: [usize; 2],
    ) -> Result<Tensor, InferenceError> {
        let size = shape.first().copied().unwrap_or_default();
        let ran = match self.sizes.remove(&size).map_or_else(|| self.buffers(shape, [rows, dim]), Ok) {
            Ok(mut buffers) => {
                let ran = buffers.run(&mut self.session, data);
                self.sizes.insert(size, buffers);
                ran
            }
            Err(error) => Err(error),
        };
        ran.map_err(|e| InferenceError::Run { model: self.model.clone(), message: e.to_string() })
    }

    /// The last run of so many images once more, on the input that is in place.
    pub(crate) fn again(&mut self, images: usize) -> Result<(), InferenceError> {
        let failed = |message: String| InferenceError::Run { model: self.model.clone(), message };
        let buffers =
            self.sizes.get_mut(&images).ok_or_else(|| failed(format!("{images} images were not run before")))?;
        buffers.again(&mut self.session).map_err(|e| failed(e.to_string()))
    }

    fn buffers(&self, shape: [usize; 4], output: [usize; 2]) -> ort::Result<Buffers> {
        let _running = self.session.running();
        let pinned = match self.provider {
            Provider::Cpu => AllocationDevice::CPU,
            Provider::Cuda { .. } | Provider::TensorRt { .. } => AllocationDevice::CUDA_PINNED,
        };
        let pixels = OrtTensor::<u8>::new(&self.allocator(pinned, MemoryType::CPUInput)?, shape)?;
        let mut binding = self.session.create_binding()?;
        let recorded = if self.cuda_graph { Some(self.recorded(&mut binding, shape, output)?) } else { None };
        if recorded.is_none() {
            let here = MemoryInfo::new(AllocationDevice::CPU, 0, AllocatorType::Device, MemoryType::Default)?;
            binding.bind_output_to_device(self.output(), &here)?;
        }
        Ok(Buffers { binding, pixels, recorded })
    }

    fn recorded(&self, binding: &mut IoBinding, shape: [usize; 4], output: [usize; 2]) -> ort::Result<Recorded> {
        let device = match self.provider {
            Provider::Cpu => AllocationDevice::CPU,
            Provider::Cuda { .. } | Provider::TensorRt { .. } => AllocationDevice::CUDA,
        };
        let memory = self.allocator(device, MemoryType::Default)?;
        let pixels = OrtTensor::<u8>::new(&memory, shape)?;
        let mut rows = OrtTensor::<f32>::new(&memory, output)?;
        binding.bind_input(self.session.input(), &pixels)?;
        binding.bind_output(self.output(), &mut rows)?;
        let here = OrtTensor::<f32>::new(&Allocator::default(), output)?;
        let mut options = RunOptions::new()?;
        options.set(GRAPH_ID, shape.first().copied().unwrap_or_default().to_string())?;
        Ok(Recorded { pixels, rows, here, options, by: None })
    }

    fn allocator(&self, device: AllocationDevice<'static>, kind: MemoryType) -> ort::Result<Allocator> {
        // The processor's own memory is one kind only.
        let kind = if self.provider.is_gpu() { kind } else { MemoryType::Default };
        let memory = MemoryInfo::new(device, self.provider.device(), AllocatorType::Device, kind)?;
        Allocator::new(&self.session, memory)
    }

    fn output(&self) -> String {
        self.session.outputs().first().map(|output| output.name().to_owned()).unwrap_or_default()
    }
}

impl Buffers {
    fn run(&mut self, session: &mut DeviceSession, data: &[u8]) -> ort::Result<Tensor> {
        let (_, pixels) = self.pixels.try_extract_tensor_mut::<u8>()?;
        pixels.iter_mut().zip(data).for_each(|(to, from)| *to = *from);
        match &mut self.recorded {
            None => {
                let _running = session.running();
                // Copies to the GPU.
                self.binding.bind_input(session.input(), &self.pixels)?;
                Self::rows(session, &self.binding)
            }
            Some(recorded) => {
                recorded.run(session, &self.binding, Some(&self.pixels))?;
                Ok(Tensor::of(recorded.here.try_extract_tensor()?))
            }
        }
    }

    /// What is on the GPU.
    fn again(&mut self, session: &mut DeviceSession) -> ort::Result<()> {
        match &mut self.recorded {
            None => {
                let _running = session.running();
                Self::rows(session, &self.binding).map(drop)
            }
            Some(recorded) => recorded.run(session, &self.binding, None),
        }
    }

    fn rows(session: &mut Session, binding: &IoBinding) -> ort::Result<Tensor> {
        let outputs = flushed(|| session.run_binding(binding))?;
        let Some((_, output)) = outputs.iter().next() else {
            return Ok(Tensor { shape: Vec::new(), data: Vec::new() });
        };
        Ok(Tensor::of(output.try_extract_tensor()?))
    }
}

impl Recorded {
    /// Plays the recording back, and makes it first where this thread has none.
    fn run(
        &mut self,
        session: &mut DeviceSession,
        binding: &IoBinding,
        pixels: Option<&OrtTensor<u8>>,
    ) -> ort::Result<()> {
        let thread = thread::current().id();
        let _permit = if self.by == Some(thread) { session.running() } else { Some(capture::alone()) };
        if let Some(pixels) = pixels {
            pixels.copy_into(&mut self.pixels)?;
        }
        flushed(|| session.run_binding_with_options(binding, &self.options).map(drop))?;
        self.rows.copy_into(&mut self.here)?;
        self.by = Some(thread);
        Ok(())
    }
}
