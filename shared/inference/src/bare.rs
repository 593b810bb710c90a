//! A model's session on an input that is in place: what the hardware can do, for benchmarks to compare with. No picture is
//! prepared, and nothing is copied but the input once and the outputs by ONNX Runtime.

use ort::memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType};
use ort::session::{IoBinding, Session};
use ort::value::Tensor;

use crate::error::InferenceError;
use crate::runtime::{Model, flushed};

/// A session whose input and outputs are bound. One thread at a time may run it.
#[derive(Debug)]
pub struct BareSession {
    session: Session,
    binding: IoBinding,
    model: String,
}

impl BareSession {
    /// Binds an input of `shape`; on a GPU it is copied there now. Outputs come to the processor's memory, as they do for
    /// whoever uses them.
    pub fn new(model: Model, shape: [usize; 4], data: Vec<f32>) -> Result<Self, InferenceError> {
        let (session, model) = model.into_session();
        let failed = |e: ort::Error| InferenceError::Run { model: model.clone(), message: e.to_string() };
        let input = session.inputs().first().map(|input| input.name().to_owned()).unwrap_or_default();
        let tensor = Tensor::from_array((shape, data)).map_err(failed)?;
        let mut binding = session.create_binding().map_err(failed)?;
        binding.bind_input(input, &tensor).map_err(failed)?;
        let memory = MemoryInfo::new(AllocationDevice::CPU, 0, AllocatorType::Device, MemoryType::Default);
        let memory = memory.map_err(failed)?;
        for output in session.outputs() {
            binding.bind_output_to_device(output.name(), &memory).map_err(failed)?;
        }
        Ok(Self { session, binding, model })
    }

    /// One run on the whole input.
    pub fn run(&mut self) -> Result<(), InferenceError> {
        let done = flushed(|| self.session.run_binding(&self.binding).map(drop));
        done.map_err(|e| InferenceError::Run { model: self.model.clone(), message: e.to_string() })
    }
}
