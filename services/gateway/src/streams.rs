//! How many answers may be open that have no end of their own: events, what is followed, exports, imports. Each keeps a
//! connection for as long as its client likes, and events two consumers of NATS beside it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;

use crate::App;
use crate::caller::{Caller, Owner};
use crate::error::{ApiError, Code};
use crate::options::Options;

/// When another try makes sense: a stream may end at any time, and most go on for long.
const LATER: Duration = Duration::from_secs(5);

/// The places of one process.
#[derive(Debug)]
pub(crate) struct Streams {
    open: Arc<Mutex<Open>>,
    most: usize,
    most_each: usize,
}

/// Places that are taken.
#[derive(Debug, Default)]
struct Open {
    all: usize,
    each: HashMap<Owner, usize>,
}

/// A place that is taken, until this is dropped.
#[derive(Debug)]
struct Place {
    open: Arc<Mutex<Open>>,
    owner: Owner,
}

impl Streams {
    pub(crate) fn new(options: &Options) -> Self {
        // The other half of the connections is for requests that end.
        let most = options.streams.min(options.connections / 2).max(1);
        Self { open: Arc::default(), most, most_each: options.key_streams.max(1) }
    }

    fn enter(&self, owner: Owner) -> Result<Place, ApiError> {
        let mut open = lock(&self.open);
        let own = open.each.get(&owner).copied().unwrap_or_default();
        if own >= self.most_each {
            let why = format!("at most {} streams of a key are open at a time (gateway.key_streams)", self.most_each);
            return Err(ApiError::new(Code::RateLimited, why).retry_after(LATER));
        }
        if open.all >= self.most {
            return Err(ApiError::overloaded("as many streams are open as may be (gateway.streams)").retry_after(LATER));
        }
        open.all += 1;
        open.each.insert(owner, own + 1);
        Ok(Place { open: Arc::clone(&self.open), owner })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = lock(&self.open);
        open.all = open.all.saturating_sub(1);
        let left = open.each.get(&self.owner).copied().unwrap_or_default().saturating_sub(1);
        if left == 0 {
            open.each.remove(&self.owner);
        } else {
            open.each.insert(self.owner, left);
        }
    }
}

fn lock(open: &Mutex<Open>) -> MutexGuard<'_, Open> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The layer of all routes without a limit of time, inside authentication.
pub(crate) async fn hold(State(app): State<App>, caller: Caller, request: Request, next: Next) -> Response {
    let place = match app.streams.enter(caller.owner()) {
        Ok(place) => place,
        Err(error) => return error.into_response(),
    };
    // The place goes with the body, however that ends.
    next.run(request).await.map(|body| {
        Body::new(body.map_err(move |error| {
            let _place = &place;
            error
        }))
    })
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn streams(streams: usize, key_streams: usize, connections: usize) -> Streams {
        Streams::new(&Options { streams, key_streams, connections, ..Options::default() })
    }

    fn key(number: u128) -> Owner {
        Owner::Key(Uuid::from_u128(number))
    }

    #[test]
    fn nobody_takes_the_places_of_all() {
        let streams = streams(3, 2, 100);
        let own = [streams.enter(key(1)).unwrap(), streams.enter(key(1)).unwrap()];
        let refused = streams.enter(key(1)).unwrap_err();
        assert_eq!((refused.code, refused.retry_after), (Code::RateLimited, Some(LATER)));
        let other = streams.enter(key(2)).unwrap();
        assert_eq!(streams.enter(key(2)).unwrap_err().code, Code::Overloaded);
        drop(own);
        let again = [streams.enter(key(1)).unwrap(), streams.enter(key(2)).unwrap()];
        drop((other, again));
        let left = lock(&streams.open);
        assert!(left.all == 0 && left.each.is_empty(), "{left:?}");
    }

    #[test]
    fn half_of_the_connections_is_for_requests_that_end() {
        let streams = streams(256, 256, 4);
        let _places = [streams.enter(key(1)).unwrap(), streams.enter(key(2)).unwrap()];
        assert_eq!(streams.enter(key(3)).unwrap_err().code, Code::Overloaded);
        let streams = self::streams(0, 0, 0);
        assert!(streams.enter(key(1)).is_ok(), "one is always possible");
    }
}
