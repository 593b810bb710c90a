//! A body that has to come at a pace: each piece of it within a time, and none once the service ends. What is in it is read
//! elsewhere.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use bytes::Bytes;
use facewire_runtime::Shutdown;
use futures_util::{Stream, StreamExt, stream};

use crate::error::{ApiError, Code};
use crate::options::Options;

/// A body that is being read.
#[derive(Debug)]
pub(super) struct Paced {
    body: BodyDataStream,
    /// For each piece.
    patience: Duration,
    shutdown: Shutdown,
}

impl Paced {
    pub(super) fn new(body: Body, options: &Options, shutdown: &Shutdown) -> Self {
        Self { body: body.into_data_stream(), patience: options.header_timeout, shutdown: shutdown.clone() }
    }

    /// The next piece; none at the end.
    pub(super) async fn piece(&mut self) -> Result<Option<Bytes>, ApiError> {
        let next = tokio::select! {
            next = tokio::time::timeout(self.patience, self.body.next()) => next,
            () = self.shutdown.draining() => return Err(ending()),
        };
        match next {
            Ok(None) => Ok(None),
            Ok(Some(Ok(bytes))) => Ok(Some(bytes)),
            Ok(Some(Err(_))) => Err(ApiError::new(Code::InvalidRequest, "the body broke off")),
            Err(_) => Err(too_slow()),
        }
    }

    /// As a stream for whoever reads one; what ended it is in the second part.
    pub(super) fn into_stream(self) -> (impl Stream<Item = Result<Bytes, std::io::Error>> + Send + use<>, Ended) {
        let ended = Ended::default();
        let told = ended.clone();
        let pieces = stream::unfold((self, told), async |(mut body, told)| match body.piece().await {
            Ok(bytes) => bytes.map(|bytes| (Ok(bytes), (body, told))),
            Err(error) => {
                told.put(error);
                Some((Err(std::io::Error::other("the body ended early")), (body, told)))
            }
        });
        (pieces, ended)
    }
}

/// Why a body ended early.
#[derive(Debug, Clone, Default)]
pub(super) struct Ended(Arc<Mutex<Option<ApiError>>>);

impl Ended {
    fn put(&self, error: ApiError) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    pub(super) fn take(&self) -> Option<ApiError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The client trickles.
pub(super) fn too_slow() -> ApiError {
    ApiError::new(Code::RequestTimeout, "the items come too slowly: send the rest again")
}

/// The service ends.
pub(super) fn ending() -> ApiError {
    ApiError::new(Code::Unavailable, "the gateway ends: send the rest again").retry_after(Duration::from_secs(1))
}
