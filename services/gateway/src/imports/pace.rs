//! A body that has to come at a pace: each piece of it within a time, each item as well, and none once the service ends
//! or the key of whoever sends it. What is in it is read elsewhere.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::{Body, BodyDataStream};
use bytes::Bytes;
use facewire_runtime::Shutdown;
use futures_util::future::{BoxFuture, Fuse};
use futures_util::{FutureExt, Stream, StreamExt, stream};

use crate::App;
use crate::caller::Caller;
use crate::error::{ApiError, Code};

/// Bytes for which an import goes on as for an item: lines that are refused and files that nobody names are no trickle where
/// they come as fast as this.
const AS_AN_ITEM: u64 = 1024 * 1024;

/// A body that is being read.
pub(super) struct Paced {
    body: BodyDataStream,
    read: ReadBytes,
    /// For each piece.
    patience: Duration,
    shutdown: Shutdown,
    /// The end of the key.
    invalid: Fuse<BoxFuture<'static, ApiError>>,
}

impl Paced {
    pub(super) fn new(app: &App, caller: Caller, body: Body) -> Self {
        let invalid: BoxFuture<'static, ApiError> = Box::pin(caller.until_invalid(app.clone()));
        Self {
            body: body.into_data_stream(),
            read: ReadBytes::default(),
            patience: app.options.header_timeout,
            shutdown: app.shutdown.clone(),
            invalid: invalid.fuse(),
        }
    }

    /// How much of it was read, as it grows.
    pub(super) fn read(&self) -> ReadBytes {
        self.read.clone()
    }

    /// The next piece; none at the end.
    pub(super) async fn piece(&mut self) -> Result<Option<Bytes>, ApiError> {
        let next = tokio::select! {
            // In this order: a client that never pauses is ended as well.
            biased;
            why = &mut self.invalid => return Err(why),
            () = self.shutdown.draining() => return Err(ending()),
            next = tokio::time::timeout(self.patience, self.body.next()) => next,
        };
        match next {
            Ok(None) => Ok(None),
            Ok(Some(Ok(bytes))) => {
                self.read.add(bytes.len() as u64);
                Ok(Some(bytes))
            }
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

/// How many bytes were read, for whoever reads them and whoever looks on. Cloning shares it.
#[derive(Debug, Clone, Default)]
pub(super) struct ReadBytes(Arc<AtomicU64>);

impl ReadBytes {
    fn add(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How long an import goes on without an item. It has one of few places, and pieces without anything in them would keep
/// it.
pub(super) struct Patience {
    limit: Duration,
    since: Instant,
    read: ReadBytes,
    /// As many were read at `since`.
    read_then: u64,
}

impl Patience {
    /// `read`: of the body that the items are in.
    pub(super) fn new(limit: Duration, read: ReadBytes) -> Self {
        let read_then = read.get();
        Self { limit, since: Instant::now(), read, read_then }
    }

    /// An item came: the next one has as much time.
    pub(super) fn renew(&mut self) {
        self.since = Instant::now();
        self.read_then = self.read.get();
    }

    /// Whether so much came that it counts as an item.
    fn is_renewed_by_bytes(&self) -> bool {
        self.read.get().saturating_sub(self.read_then) >= AS_AN_ITEM
    }

    /// What comes before the patience is at its end.
    pub(super) async fn wait<T>(&mut self, next: impl Future<Output = T>) -> Result<T, ApiError> {
        let mut next = std::pin::pin!(next);
        loop {
            let left = self.left();
            // What is there already is told by a timeout however late it is.
            if left.is_zero() {
                return Err(too_slow());
            }
            match tokio::time::timeout(left, next.as_mut()).await {
                Ok(next) => return Ok(next),
                // A large item on a slow line takes longer than the limit, and comes at the pace all the same.
                Err(_) if self.is_renewed_by_bytes() => {}
                Err(_) => return Err(too_slow()),
            }
        }
    }

    /// How long it still goes on; all of it again where so much came that it counts as an item.
    fn left(&mut self) -> Duration {
        if self.is_renewed_by_bytes() {
            self.renew();
            return self.limit;
        }
        self.limit.saturating_sub(self.since.elapsed())
    }
}

/// The client trickles.
fn too_slow() -> ApiError {
    ApiError::new(Code::RequestTimeout, "the items come too slowly: send the rest again")
}

/// The service ends.
pub(super) fn ending() -> ApiError {
    ApiError::new(Code::Unavailable, "the gateway ends: send the rest again").retry_after(Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use super::*;

    #[tokio::test]
    async fn what_is_no_item_gives_no_time() {
        let mut patience = Patience::new(Duration::from_secs(3600), ReadBytes::default());
        assert_eq!(patience.wait(async { 7 }).await, Ok(7));
        patience.limit = Duration::ZERO;
        for _ in 0..2 {
            assert_eq!(patience.wait(async { 7 }).await.unwrap_err().code, Code::RequestTimeout);
        }
        patience.limit = Duration::from_secs(3600);
        patience.renew();
        assert_eq!(patience.wait(async { 7 }).await, Ok(7));
    }

    #[tokio::test]
    async fn a_mebibyte_that_was_read_gives_as_much_time_as_an_item() {
        let read = ReadBytes::default();
        read.add(AS_AN_ITEM);
        let mut patience = Patience::new(Duration::from_secs(3600), read.clone());
        assert!(!patience.is_renewed_by_bytes(), "what came before it began");
        let trickled = AS_AN_ITEM - 1;
        read.add(trickled);
        patience.wait(async {}).await.unwrap();
        assert_eq!(patience.read_then, AS_AN_ITEM, "a trickle gives no time");
        read.add(1);
        patience.wait(async {}).await.unwrap();
        assert_eq!(patience.read_then, 2 * AS_AN_ITEM, "it was renewed");
        read.add(trickled);
        patience.renew();
        read.add(1);
        assert!(!patience.is_renewed_by_bytes(), "an item is paid for once");
    }

    /// A millisecond is over twice before this item is there; how long that takes does not matter.
    #[tokio::test]
    async fn an_item_that_takes_longer_than_the_limit_is_waited_for_as_long_as_its_bytes_come() {
        for (bytes, comes) in [(AS_AN_ITEM, true), (1, false)] {
            let read = ReadBytes::default();
            let mut patience = Patience::new(Duration::from_millis(1), read.clone());
            read.add(AS_AN_ITEM);
            let mut polls = 0;
            // Polled when a timeout begins, and when it is over.
            let item = std::future::poll_fn(|_| {
                polls += 1;
                read.add(bytes);
                if comes && polls > 5 { Poll::Ready(7) } else { Poll::Pending }
            });
            assert_eq!(patience.wait(item).await.ok(), comes.then_some(7), "{bytes} bytes a poll");
        }
    }
}
