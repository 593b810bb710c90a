//! What changes until it ends, told as server-sent events while it does. What is looked at, and who may look, is the
//! caller's.

use std::convert::Infallible;
use std::time::Duration;

use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use facewire_runtime::Shutdown;
use futures_util::{Stream, StreamExt};
use serde::Serialize;

use crate::App;
use crate::caller::Caller;
use crate::error::ApiError;

/// Between two looks.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Between two comments where nothing happens, so that intermediaries do not close the connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// How something is, as clients get it.
pub(crate) trait Followed: PartialEq + Serialize {
    /// Whether nothing more happens to it.
    fn has_ended(&self) -> bool;
}

/// An event named `progress` for each change that `look` sees, the first at once. It ends once the end was told, where
/// there is nothing to look at any more, with the caller's key, and with the service.
pub(crate) fn follow<T, F, R>(
    app: App,
    caller: Caller,
    look: F,
) -> Sse<impl Stream<Item = Result<Event, Infallible>> + Send>
where
    T: Followed + Send + 'static,
    F: Fn() -> R + Send + 'static,
    R: Future<Output = Result<Option<T>, ApiError>> + Send + 'static,
{
    let follower = Follower { shutdown: app.shutdown.clone(), look, last: None };
    let stream = futures_util::stream::unfold(follower, |mut follower| async move {
        let event = follower.next().await?;
        Some((Ok(event), follower))
    });
    let stream = stream.take_until(caller.until_invalid(app));
    Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
}

struct Follower<T, F> {
    shutdown: Shutdown,
    look: F,
    last: Option<T>,
}

impl<T, F, R> Follower<T, F>
where
    T: Followed,
    F: Fn() -> R,
    R: Future<Output = Result<Option<T>, ApiError>>,
{
    async fn next(&mut self) -> Option<Event> {
        if self.last.as_ref().is_some_and(T::has_ended) {
            return None;
        }
        loop {
            let seen = (self.look)();
            match seen.await {
                Ok(None) => return None,
                Ok(Some(now)) if self.last.as_ref() != Some(&now) => {
                    let event = Event::default().event("progress").json_data(&now).ok()?;
                    self.last = Some(now);
                    return Some(event);
                }
                // The store is away for a moment, which was logged: the next look may see more.
                Ok(Some(_)) | Err(_) => {}
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
                () = self.shutdown.draining() => return None,
            }
        }
    }
}
