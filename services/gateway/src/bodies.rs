//! The memory that bodies of requests may take, over all requests: a body has its place before it is read.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{ApiError, Code};
use crate::options::Options;

/// What the places are counted in.
const UNIT: u64 = 1024;

/// The places.
#[derive(Debug)]
pub(crate) struct Bodies {
    free: Arc<Semaphore>,
    /// Bytes of a body without a length.
    most: u64,
}

/// A body's place, in the extensions of its request, for what goes on where its client went away.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    _permit: Arc<OwnedSemaphorePermit>,
}

impl Bodies {
    pub(crate) fn new(options: &Options) -> Self {
        let most = options.max_body.as_u64();
        // One of the largest always fits.
        let all = options.bodies.as_u64().max(most).div_ceil(UNIT) + 1;
        let all = usize::try_from(all).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Self { free: Arc::new(Semaphore::new(all)), most }
    }
}

/// The layer of everything that reads bodies.
pub(crate) async fn hold(State(bodies): State<Arc<Bodies>>, mut request: Request, next: Next) -> Response {
    let length = request.headers().get(CONTENT_LENGTH).map(|length| length.to_str().ok()?.parse::<u64>().ok());
    let is_chunked = request.headers().contains_key(TRANSFER_ENCODING);
    let bytes = match length {
        Some(Some(bytes)) => bytes,
        Some(None) => return ApiError::invalid("Content-Length", "it is no number").into_response(),
        None if is_chunked => bodies.most,
        None => 0,
    };
    if bytes > bodies.most {
        let why = format!("a body has at most {} bytes (gateway.max_body)", bodies.most);
        return ApiError::new(Code::PayloadTooLarge, why).into_response();
    }
    let places = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX);
    match Arc::clone(&bodies.free).try_acquire_many_owned(places) {
        Ok(permit) => {
            let held = Held { _permit: Arc::new(permit) };
            // One more than the request's own, which may go before its answer is there.
            request.extensions_mut().insert(held.clone());
            next.run(request).await
        }
        Err(_) => ApiError::overloaded("too many bytes are in hand").into_response(),
    }
}
