//! How persons are answered, and which version of one a request expects. What is said of persons and faces is `facewire_gallery`'s.

use axum::http::HeaderValue;
use axum::http::header::ETAG;
use axum::response::{IntoResponse, Response};
use axum::{Json, http::HeaderMap};
use facewire_store_pg::PersonSummary;

use crate::error::ApiError;

pub(crate) use facewire_gallery::views::{KeptFace, Person, Status};

/// A person as an answer, with their version as its ETag.
pub(crate) struct Versioned(Person);

impl From<PersonSummary> for Versioned {
    fn from(row: PersonSummary) -> Self {
        Self(row.into())
    }
}

impl IntoResponse for Versioned {
    fn into_response(self) -> Response {
        let etag = HeaderValue::from_str(&format!("\"{}\"", self.0.version()));
        let mut response = Json(self.0).into_response();
        if let Ok(etag) = etag {
            response.headers_mut().insert(ETAG, etag);
        }
        response
    }
}

/// The version that a request expects; none where it does not say. `If-Match: *` expects only that the person is there.
pub(crate) fn expected(headers: &HeaderMap) -> Result<Option<u32>, ApiError> {
    let Some(value) = headers.get(axum::http::header::IF_MATCH) else { return Ok(None) };
    let wrong = || ApiError::invalid("If-Match", "send the ETag of the person as it was read");
    let text = value.to_str().map_err(|_| wrong())?.trim();
    if text == "*" {
        return Ok(None);
    }
    let version = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).ok_or_else(wrong)?;
    version.parse().map(Some).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use axum::http::header::IF_MATCH;

    use super::*;

    #[test]
    fn an_expected_version_is_an_etag() {
        let of = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(IF_MATCH, HeaderValue::from_str(value).unwrap());
            expected(&headers)
        };
        assert_eq!(of("\"7\""), Ok(Some(7)));
        assert_eq!(of("*"), Ok(None));
        assert_eq!(expected(&HeaderMap::new()), Ok(None));
        for wrong in ["7", "\"x\"", "W/\"7\"", ""] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }
}
