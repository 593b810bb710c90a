//! Answers of a real server that the local one has no occasion for: a required API key, a rate limit, a replica that is
//! away, a write that is not confirmed. For tests of the client, which must take each as what it is.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tonic::service::Interceptor;
use tonic::{Code, Request, Status};

/// The faults of one server; nothing unless a test asks for it. Clones are the same faults.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    key: Mutex<Option<String>>,
    refusals: Mutex<VecDeque<Status>>,
    unconfirmed: AtomicU32,
}

impl Faults {
    /// Every call needs this API key from now on; `None` ends it.
    pub fn require_key(&self, key: Option<&str>) {
        *self.0.key.lock().unwrap_or_else(PoisonError::into_inner) = key.map(str::to_owned);
    }

    /// The next call is answered with this gRPC status, and does nothing. Calls add up.
    pub fn refuse_next(&self, code: i32, message: &str, retry_after_seconds: Option<u64>) {
        let mut status = Status::new(Code::from_i32(code), message);
        if let Some(seconds) = retry_after_seconds {
            status.metadata_mut().insert("retry-after", seconds.into());
        }
        self.0.refusals.lock().unwrap_or_else(PoisonError::into_inner).push_back(status);
    }

    /// So many writes from now on are applied, and answered as if the server had stopped waiting for them.
    pub fn leave_unconfirmed(&self, writes: u32) {
        self.0.unconfirmed.store(writes, Ordering::Release);
    }

    pub(super) fn is_unconfirmed(&self) -> bool {
        self.0.unconfirmed.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1)).is_ok()
    }
}

impl Interceptor for Faults {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(key) = &*self.0.key.lock().unwrap_or_else(PoisonError::into_inner) {
            match request.metadata().get("api-key").map(|given| given.as_bytes() == key.as_bytes()) {
                Some(true) => {}
                Some(false) => return Err(Status::unauthenticated("Invalid API key or JWT")),
                None => {
                    return Err(Status::unauthenticated("Must provide an API key or an Authorization bearer token"));
                }
            }
        }
        match self.0.refusals.lock().unwrap_or_else(PoisonError::into_inner).pop_front() {
            Some(status) => Err(status),
            None => Ok(request),
        }
    }
}
