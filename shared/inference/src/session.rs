//! A session of ONNX Runtime and where it runs: on a GPU it is used, and given back, with a permit. What it computes is its
//! owner's.

use std::ops::{Deref, DerefMut};

use ort::session::Session;

use crate::capture::{self, Permit};

/// A session that is dropped while nobody records.
#[derive(Debug)]
pub(crate) struct DeviceSession {
    // Dropped before the permit.
    session: Session,
    gpu: bool,
    _leaving: Option<Permit>,
}

impl DeviceSession {
    pub(crate) fn new(session: Session, gpu: bool) -> Self {
        Self { session, gpu, _leaving: None }
    }

    /// The name of its first input; empty where it has none.
    pub(crate) fn input(&self) -> String {
        self.inputs().first().map(|input| input.name().to_owned()).unwrap_or_default()
    }

    /// Held while it runs beside others.
    pub(crate) fn running(&self) -> Option<Permit> {
        self.gpu.then(capture::among_others)
    }
}

impl Drop for DeviceSession {
    fn drop(&mut self) {
        self._leaving = self.running();
    }
}

impl Deref for DeviceSession {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.session
    }
}

impl DerefMut for DeviceSession {
    fn deref_mut(&mut self) -> &mut Session {
        &mut self.session
    }
}
