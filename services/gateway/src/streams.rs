//! How many answers may be open that have no end of their own: events, what is followed, exports, imports. Each keeps a
//! connection for as long as its client likes, and events two consumers of NATS beside it.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;

use crate::App;
use crate::caller::{Caller, Owner};
use crate::error::ApiError;
use crate::options::Options;
use crate::shares::{Place, Shares};

/// When another try makes sense: a stream may end at any time, and most go on for long.
const LATER: Duration = Duration::from_secs(5);

/// The places of one process.
#[derive(Debug)]
pub(crate) struct Streams {
    places: Shares,
    most_each: usize,
}

impl Streams {
    pub(crate) fn new(options: &Options) -> Self {
        // The other half of the connections is for requests that end.
        let most = options.streams.min(options.connections / 2).max(1);
        let most_each = options.key_streams.max(1);
        Self { places: Shares::new(most, most_each), most_each }
    }

    fn enter(&self, owner: Owner) -> Result<Place, ApiError> {
        self.places.enter(owner, 1).map_err(|full| {
            let own = format!("at most {} streams of a key are open at a time (gateway.key_streams)", self.most_each);
            full.told(own, "as many streams are open as may be (gateway.streams)").retry_after(LATER)
        })
    }
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
    use crate::error::Code;

    fn streams(streams: usize, key_streams: usize, connections: usize) -> Streams {
        Streams::new(&Options { streams, key_streams, connections, ..Options::default() })
    }

    fn key(number: u128) -> Owner {
        Owner::Key(Uuid::from_u128(number))
    }

    #[test]
    fn whoever_gets_no_place_is_told_whether_it_is_their_own_doing() {
        let streams = streams(3, 2, 100);
        let own = [streams.enter(key(1)).unwrap(), streams.enter(key(1)).unwrap()];
        let refused = streams.enter(key(1)).unwrap_err();
        assert_eq!((refused.code, refused.retry_after), (Code::RateLimited, Some(LATER)));
        let other = streams.enter(key(2)).unwrap();
        assert_eq!(streams.enter(key(2)).unwrap_err().code, Code::Overloaded);
        drop(own);
        let again = [streams.enter(key(1)).unwrap(), streams.enter(key(2)).unwrap()];
        drop((other, again));
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
