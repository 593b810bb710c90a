//! `Prefer: respond-async` (RFC 7240): the client wants no outcome, but an answer at once that says where the outcome will be. Which
//! requests can do that is theirs to say.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue};

const PREFER: HeaderName = HeaderName::from_static("prefer");
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
const RESPOND_ASYNC: &str = "respond-async";

/// Whether the client does not want to wait.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Later(pub(crate) bool);

impl Later {
    /// As a request's headers say.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        Self(headers.get_all(PREFER).iter().any(prefers_async))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Later {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(&parts.headers))
    }
}

/// Says in an answer that the preference was followed.
pub(crate) fn applied() -> [(HeaderName, HeaderValue); 1] {
    [(PREFERENCE_APPLIED, HeaderValue::from_static(RESPOND_ASYNC))]
}

fn prefers_async(value: &HeaderValue) -> bool {
    let preferences = value.to_str().unwrap_or_default().split(',');
    preferences.into_iter().any(|preference| preference.trim().eq_ignore_ascii_case(RESPOND_ASYNC))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preference_is_one_of_a_list_and_may_stand_in_several_headers() {
        let prefers = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            values.iter().for_each(|value| {
                headers.append(PREFER, HeaderValue::from_str(value).unwrap());
            });
            Later::of(&headers).0
        };
        assert!(prefers(&["respond-async"]) && prefers(&["wait=10, Respond-Async"]));
        assert!(prefers(&["wait=10", "respond-async"]));
        assert!(!prefers(&["respond-sync"]) && !prefers(&[""]) && !prefers(&[]));
    }
}
