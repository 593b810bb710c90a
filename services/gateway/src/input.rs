//! Requests read with their errors told by field: JSON bodies, query strings, ids in paths. Unknown fields are the types' to
//! refuse.

use axum::body::{Body as Content, Bytes};
use axum::extract::{FromRequest, FromRequestParts, Path as AxumPath, Request};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use facewire_domain::{CollectionId, SubjectId};
use http_body_util::Limited;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::error::{ApiError, Code};

/// Longest name of a person, in bytes; as `Facewire-Name`.
const LONGEST_NAME: usize = 256;

/// Items that pages by number skip at most: the store reads all of them for each page.
const MOST_SKIPPED: u32 = 100_000;

/// Bytes of a body of JSON, where the limit of all bodies is not lower. It is parsed on a thread that others' requests
/// wait for, before it is known what the key may, and takes ten times its size then. The longest that any route asks
/// for in JSON, a person's metadata of 64 KiB with every character escaped, has less than half of it.
const MOST_JSON: usize = 1024 * 1024;

/// A JSON body.
#[derive(Debug)]
pub(crate) struct Body<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        if !is_json(request.headers()) {
            return Err(ApiError::new(Code::UnsupportedMediaType, "the body has to be application/json"));
        }
        let bytes = bytes(request, state).await?;
        json(&bytes).map(Body)
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json")
}

/// Bytes of the body of a request with these headers, where the limit of all bodies is not lower.
pub(crate) fn most(headers: &HeaderMap) -> u64 {
    if is_json(headers) { MOST_JSON as u64 } else { u64::MAX }
}

/// The whole body, within the limit of the router, and of JSON where it says that it is some.
pub(crate) async fn bytes<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, ApiError> {
    let is_json = is_json(request.headers());
    let request = if is_json { request.map(|body| Content::new(Limited::new(body, MOST_JSON))) } else { request };
    Bytes::from_request(request, state).await.map_err(|rejection| match rejection.status().as_u16() {
        413 if is_json => {
            let why = format!("a body of JSON has at most {MOST_JSON} bytes, and no more than gateway.max_body");
            ApiError::new(Code::PayloadTooLarge, why)
        }
        413 => ApiError::new(Code::PayloadTooLarge, "the body is above the limit of gateway.max_body"),
        _ => ApiError::new(Code::InvalidRequest, "the body broke off"),
    })
}

/// JSON with the field of an error.
pub(crate) fn json<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, ApiError> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let read = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let field = field(error.path());
        ApiError::invalid(&field, error.into_inner())
    })?;
    reader.end().map_err(|error| ApiError::invalid("body", error))?;
    Ok(read)
}

fn field(path: &serde_path_to_error::Path) -> String {
    let path = path.to_string();
    // A question mark: it broke where no field is known.
    if path == "." || path == "?" { "body".to_owned() } else { path }
}

/// A query string.
#[derive(Debug)]
pub(crate) struct Query<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        query(parts.uri.query().unwrap_or_default()).map(Query)
    }
}

pub(crate) fn query<T: DeserializeOwned>(text: &str) -> Result<T, ApiError> {
    let reader = serde_urlencoded::Deserializer::new(form(text));
    serde_path_to_error::deserialize(reader).map_err(|error| {
        let path = error.path().to_string();
        let field = if path == "." { "query".to_owned() } else { path };
        ApiError::invalid(&field, error.into_inner())
    })
}

fn form(text: &str) -> form_urlencoded::Parse<'_> {
    form_urlencoded::parse(text.as_bytes())
}

/// What a path names: an id, or a tuple of them.
#[derive(Debug)]
pub(crate) struct Path<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let read = AxumPath::<T>::from_request_parts(parts, state).await;
        read.map(|AxumPath(value)| Self(value)).map_err(|rejection| ApiError::invalid("path", rejection.body_text()))
    }
}

/// The collection that a request names, or `default`.
pub(crate) fn collection(given: Option<&str>) -> Result<CollectionId, ApiError> {
    given.unwrap_or("default").parse().map_err(|error| ApiError::invalid("collection", error))
}

/// The external id that a request gives a person in `field`, or a made-up one.
pub(crate) fn external_id(field: &str, given: Option<&str>) -> Result<SubjectId, ApiError> {
    match given {
        Some(external) => external.parse().map_err(|error| ApiError::invalid(field, error)),
        None => Uuid::new_v4().to_string().parse().map_err(ApiError::internal),
    }
}

/// Items of a page: what is asked for, else `usual`; 1 to `most`.
pub(crate) fn page_size(asked: Option<u32>, usual: u32, most: u32) -> Result<u32, ApiError> {
    let size = asked.unwrap_or(usual);
    if (1..=most).contains(&size) { Ok(size) } else { Err(ApiError::invalid("pageSize", format!("1 to {most}"))) }
}

/// Items on the pages before this one, which is counted from 1.
pub(crate) fn skipped(page: u32, page_size: u32) -> Result<u32, ApiError> {
    let before = page.checked_sub(1).ok_or_else(|| ApiError::invalid("page", "pages are counted from 1"))?;
    let skipped = before.checked_mul(page_size).filter(|skipped| *skipped <= MOST_SKIPPED);
    skipped.ok_or_else(|| {
        let why = format!("at most {MOST_SKIPPED} items are before a page; where the list has a cursor, use that");
        ApiError::invalid("page", why)
    })
}

/// Items where a request names a `limit`: what is asked for, else `usual`; 1 to `most`.
pub(crate) fn limit(asked: Option<u32>, usual: u32, most: u32) -> Result<u32, ApiError> {
    let limit = asked.unwrap_or(usual);
    let wrong = || ApiError::invalid("limit", format!("a number from 1 to {most}"));
    (1..=most).contains(&limit).then_some(limit).ok_or_else(wrong)
}

/// A name that a row and a header can hold.
pub(crate) fn person_name(given: &str) -> Result<String, ApiError> {
    let name = given.trim();
    if (1..=LONGEST_NAME).contains(&name.len()) && !name.chars().any(char::is_control) {
        return Ok(name.to_owned());
    }
    Err(ApiError::invalid("name", format!("1 to {LONGEST_NAME} bytes of printable text")))
}

#[cfg(test)]
mod tests {
    use axum::extract::DefaultBodyLimit;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields, rename_all = "camelCase")]
    struct Example {
        page_size: Option<u8>,
        names: Option<Vec<String>>,
    }

    fn field_of(error: ApiError) -> String {
        error.details["field"].as_str().unwrap().to_owned()
    }

    #[test]
    fn pages_are_counted_from_one_and_end() {
        assert_eq!((skipped(1, 20), skipped(3, 20), skipped(101, 1000)), (Ok(0), Ok(40), Ok(100_000)));
        for (page, page_size) in [(0, 1), (102, 1000), (u32::MAX, u32::MAX)] {
            assert_eq!(field_of(skipped(page, page_size).unwrap_err()), "page", "{page} of {page_size}");
        }
    }

    #[tokio::test]
    async fn json_is_short() {
        let read = async |kind: &str, length: usize| {
            let request = axum::http::Request::builder().header(CONTENT_TYPE, kind);
            let mut request = request.body(Content::from(vec![b' '; length])).unwrap();
            DefaultBodyLimit::disable().apply(&mut request);
            bytes(request, &()).await.map(|bytes| bytes.len()).map_err(|error| error.code)
        };
        for json in ["application/json", "Application/JSON; charset=utf-8"] {
            assert_eq!(read(json, MOST_JSON).await, Ok(MOST_JSON));
            assert_eq!(read(json, MOST_JSON + 1).await, Err(Code::PayloadTooLarge));
        }
        assert_eq!(read("image/jpeg", MOST_JSON + 1).await, Ok(MOST_JSON + 1));
        let most_of = |kind: &str| most(&HeaderMap::from_iter([(CONTENT_TYPE, kind.parse().unwrap())]));
        assert_eq!((most_of("application/json"), most_of("image/jpeg")), (MOST_JSON as u64, u64::MAX));
    }

    #[test]
    fn an_error_names_its_field() {
        assert_eq!(field_of(json::<Example>(b"{\"pageSize\":300}").unwrap_err()), "pageSize");
        assert_eq!(field_of(json::<Example>(b"{\"names\":[\"a\",7]}").unwrap_err()), "names[1]");
        assert_eq!(field_of(json::<Example>(b"[").unwrap_err()), "body");
        assert_eq!(field_of(json::<Example>(b"{} {}").unwrap_err()), "body");
        assert!(json::<Example>(b"{\"page\":1}").unwrap_err().message.contains("unknown field"));
        assert_eq!(field_of(query::<Example>("pageSize=x").unwrap_err()), "pageSize");
        assert!(query::<Example>("page=1").unwrap_err().message.contains("unknown field"));
        assert_eq!(query::<Example>("pageSize=7").unwrap(), Example { page_size: Some(7), names: None });
    }
}
