//! A model's session on an input that is in place: what the hardware can do, for benchmarks to compare with. No picture is
//! prepared, and nothing is copied but the input once, and the rows to where their user would have them.

use ort::memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType};
use ort::session::IoBinding;
use ort::value::{PrimitiveTensorElementType, Tensor};

use crate::error::InferenceError;
use crate::pinned::PinnedSession;
use crate::runtime::{Model, flushed};
use crate::session::DeviceSession;

/// A session whose input and outputs are bound. One thread at a time may run it.
#[derive(Debug)]
pub struct BareSession {
    bound: Bound,
    rows: usize,
}

#[derive(Debug)]
enum Bound {
    Plain(Box<Plain>),
    Pinned { session: PinnedSession, images: usize },
}

#[derive(Debug)]
struct Plain {
    // Dropped before the session that it belongs to.
    binding: IoBinding,
    session: DeviceSession,
    model: String,
}

impl BareSession {
    /// Binds an input of `shape`; on a GPU it is copied there now. Outputs come to the processor's memory, as they do for
    /// whoever uses them.
    ///
    /// # Errors
    /// An input that is not of the shape.
    pub fn new<T>(model: Model, shape: [usize; 4], data: Vec<T>) -> Result<Self, InferenceError>
    where
        T: PrimitiveTensorElementType + std::fmt::Debug + Clone + 'static,
    {
        let (session, model) = model.into_session();
        let copying = session.running();
        let [rows, ..] = shape;
        let failed = |e: ort::Error| InferenceError::Run { model: model.clone(), message: e.to_string() };
        let tensor = Tensor::from_array((shape, data)).map_err(failed)?;
        let mut binding = session.create_binding().map_err(failed)?;
        binding.bind_input(session.input(), &tensor).map_err(failed)?;
        let memory = MemoryInfo::new(AllocationDevice::CPU, 0, AllocatorType::Device, MemoryType::Default);
        let memory = memory.map_err(failed)?;
        for output in session.outputs() {
            binding.bind_output_to_device(output.name(), &memory).map_err(failed)?;
        }
        drop(copying);
        Ok(Self { bound: Bound::Plain(Box::new(Plain { binding, session, model })), rows })
    }

    /// Of a session that ran so many images: it runs them again.
    pub(crate) fn pinned(session: PinnedSession, images: usize) -> Self {
        Self { bound: Bound::Pinned { session, images }, rows: images }
    }

    /// The same, where a run makes another number of rows than it takes images.
    pub(crate) fn with_rows(self, rows: usize) -> Self {
        Self { rows, ..self }
    }

    /// Rows of a run.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// One run on the whole input.
    ///
    /// # Errors
    /// The model could not be run.
    pub fn run(&mut self) -> Result<(), InferenceError> {
        match &mut self.bound {
            Bound::Plain(plain) => {
                let Plain { binding, session, model } = plain.as_mut();
                let _running = session.running();
                let done = flushed(|| session.run_binding(binding).map(drop));
                done.map_err(|e| InferenceError::Run { model: model.clone(), message: e.to_string() })
            }
            Bound::Pinned { session, images } => session.again(*images),
        }
    }
}
