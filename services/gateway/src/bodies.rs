//! The memory that bodies of requests may take, over all requests: a body has its place before it is read. A client takes one by what
//! it announces, and may then send nothing for long: hence half of the places are one key's at most.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use facewire_gallery::EXPORT_PART_BYTES;

use crate::caller::{Caller, Owner};
use crate::error::{ApiError, Code};
use crate::input;
use crate::options::Options;
use crate::shares::{Place, Shares};

/// What the places are counted in.
const UNIT: u64 = 1024;

/// The places.
#[derive(Debug)]
pub(crate) struct Bodies {
    places: Shares,
    /// Bytes of a body without a length.
    most: u64,
}

/// A body's place, in the extensions of its request, for what goes on where its client went away.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    _place: Arc<Place>,
}

impl Bodies {
    pub(crate) fn new(options: &Options) -> Self {
        let most = options.max_body.as_u64();
        // One of the largest always fits.
        let all = options.bodies.as_u64().max(most);
        Self { places: Shares::new(units(all), units((all / 2).max(most))), most }
    }

    fn enter(&self, owner: Owner, bytes: u64) -> Result<Held, ApiError> {
        let own = "too many bytes of this key are in hand (half of gateway.bodies)";
        let all = "too many bytes are in hand (gateway.bodies)";
        let place = self.places.enter(owner, units(bytes)).map_err(|full| full.told(own, all))?;
        Ok(Held { _place: Arc::new(place) })
    }
}

/// The places of kept exports that are read, each with a part of one in memory: as many as have room in the bytes of all bodies, beside
/// those. Whoever reads slowly keeps one for long: hence half of them are one key's at most.
pub(crate) fn exports(options: &Options) -> Shares {
    let most = options.bodies.as_u64() / EXPORT_PART_BYTES as u64;
    let most = usize::try_from(most).unwrap_or(usize::MAX).max(1);
    Shares::new(most, most.div_ceil(2))
}

fn units(bytes: u64) -> usize {
    usize::try_from(bytes.div_ceil(UNIT)).unwrap_or(usize::MAX)
}

/// The layer of everything that reads bodies, inside authentication.
pub(crate) async fn hold(
    State(bodies): State<Arc<Bodies>>,
    caller: Caller,
    mut request: Request,
    next: Next,
) -> Response {
    let length = request.headers().get(CONTENT_LENGTH).map(|length| length.to_str().ok()?.parse::<u64>().ok());
    let is_chunked = request.headers().contains_key(TRANSFER_ENCODING);
    let bytes = match length {
        Some(Some(bytes)) => bytes,
        Some(None) => return ApiError::invalid("Content-Length", "it is no number").into_response(),
        None if is_chunked => bodies.most.min(input::most(request.headers())),
        None => 0,
    };
    if bytes > bodies.most {
        let why = format!("a body has at most {} bytes (gateway.max_body)", bodies.most);
        return ApiError::new(Code::PayloadTooLarge, why).into_response();
    }
    match bodies.enter(caller.owner(), bytes) {
        Ok(held) => {
            // One more than the request's own, which may go before its answer is there.
            request.extensions_mut().insert(held.clone());
            next.run(request).await
        }
        Err(error) => error.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use bytesize::ByteSize;
    use uuid::Uuid;

    use super::*;
    use crate::error::SOON;
    use crate::shares::Full;

    const LARGEST: u64 = 64 << 10;

    fn bodies(bytes: u64) -> Bodies {
        let (max_body, bodies) = (ByteSize::b(LARGEST), ByteSize::b(bytes));
        Bodies::new(&Options { max_body, bodies, ..Options::default() })
    }

    fn key(number: u128) -> Owner {
        Owner::Key(Uuid::from_u128(number))
    }

    #[test]
    fn half_of_the_bytes_in_hand_are_a_keys_at_most() {
        let bodies = bodies(4 * LARGEST);
        let own = [1, 2].map(|_| bodies.enter(key(1), LARGEST).unwrap());
        let refused = bodies.enter(key(1), 1).unwrap_err();
        assert_eq!((refused.code, refused.retry_after), (Code::RateLimited, Some(SOON)));
        assert!(bodies.enter(key(1), 0).is_ok(), "what has no body is let in");
        let others = [2, 2].map(|other| bodies.enter(key(other), LARGEST).unwrap());
        assert_eq!(bodies.enter(key(3), 1).unwrap_err().code, Code::Overloaded);
        drop((own, others));
        assert!(bodies.enter(key(3), LARGEST).is_ok());
    }

    #[test]
    fn half_of_the_kept_exports_that_are_read_are_a_keys_at_most() {
        let part = EXPORT_PART_BYTES as u64;
        for (bytes, most, own) in [(4 * part, 4, 2), (4 * part - 1, 3, 2), (0, 1, 1)] {
            let exports = exports(&Options { bodies: ByteSize::b(bytes), ..Options::default() });
            let _own: Vec<Place> = (0..own).map(|_| exports.enter(key(1), 1).unwrap()).collect();
            assert_eq!(exports.enter(key(1), 1).unwrap_err(), Full::Own);
            let _others: Vec<Place> = (own..most).map(|_| exports.enter(key(2), 1).unwrap()).collect();
            assert_eq!(exports.enter(key(3), 1).unwrap_err(), Full::All);
        }
    }

    #[test]
    fn one_of_the_largest_always_fits() {
        let bodies = bodies(0);
        let held = bodies.enter(key(1), LARGEST).unwrap();
        assert_eq!(bodies.enter(key(2), 1).unwrap_err().code, Code::Overloaded);
        drop(held);
        assert!(bodies.enter(key(2), LARGEST).is_ok());
    }
}
