//! What every request goes through first: its id, its log line and metric, the envelope of its error, the headers of every
//! answer. It decides nothing.

use std::time::Instant;

use axum::Json;
use axum::extract::{MatchedPath, Request};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, RETRY_AFTER, STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use facewire_telemetry::events;
use tracing::Instrument;
use uuid::Uuid;

use crate::error::{ApiError, Code, ErrorBody, ErrorEnvelope};

/// Names a request, from the client or made here.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest id that is taken from a client.
const LONGEST_ID: usize = 128;

/// Methods that are told by their names.
const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"];
/// All others, as the semantic conventions call them: a client may make up as many as it likes, and each would be a
/// series of its own for ever.
const OTHER_METHOD: &str = "_OTHER";

/// The request's id, in its extensions.
#[derive(Debug, Clone)]
pub(crate) struct RequestId(pub(crate) String);

/// The outermost layer.
pub(crate) async fn handle(mut request: Request, next: Next) -> Response {
    let id = id_of(request.headers());
    let method = told(request.method());
    // The template, never the path: ids are no labels.
    let route = request.extensions().get::<MatchedPath>().map_or("unknown", MatchedPath::as_str).to_owned();
    request.extensions_mut().insert(RequestId(id.clone()));
    let span = tracing::info_span!("request", request_id = %id, method, route);
    let started = Instant::now();
    let response = next.run(request).instrument(span.clone()).await;
    let mut response = enveloped(response, &id);
    let (status, took) = (response.status().as_u16(), started.elapsed());
    span.in_scope(|| events::RequestAnswered { method, route: &route, status, took }.emit());
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    secure(response.headers_mut());
    response
}

/// A method's name for metrics and logs.
fn told(method: &Method) -> &'static str {
    METHODS.into_iter().find(|known| *known == method.as_str()).unwrap_or(OTHER_METHOD)
}

/// The client's, where it is one of printable ASCII; else a new one.
fn id_of(headers: &HeaderMap) -> String {
    let given = headers.get(&REQUEST_ID).and_then(|value| value.to_str().ok());
    let fits = |id: &&str| !id.is_empty() && id.len() <= LONGEST_ID && id.bytes().all(|byte| byte.is_ascii_graphic());
    given.filter(fits).map_or_else(|| Uuid::new_v4().to_string(), str::to_owned)
}

/// Gives an error its body. Axum's own refusals, which carry no error of ours, get the code of their status.
fn enveloped(response: Response, id: &str) -> Response {
    let status = response.status();
    let error = match response.extensions().get::<ApiError>() {
        Some(error) => error.clone(),
        None if status == StatusCode::METHOD_NOT_ALLOWED => {
            ApiError::new(Code::MethodNotAllowed, "the path has no such method; `Allow` lists those that it has")
        }
        None => return response,
    };
    let (mut parts, _) = response.into_parts();
    if let Some(after) = error.retry_after {
        parts.headers.insert(RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
    }
    events::RequestRefused { code: error.code.as_str() }.emit();
    let error = ErrorBody { code: error.code, message: error.message, details: error.details };
    let mut answer = (status, Json(ErrorEnvelope { error, request_id: id.to_owned() })).into_response();
    for (name, value) in &parts.headers {
        if !answer.headers().contains_key(name) {
            answer.headers_mut().append(name.clone(), value.clone());
        }
    }
    answer
}

/// Answers are for programs, and hold data of people: nothing is cached, framed, guessed or run, and no page of another origin
/// shows it. The page of the API has a policy of its own.
fn secure(headers: &mut HeaderMap) {
    let fixed = [
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
        (STRICT_TRANSPORT_SECURITY, "max-age=31536000"),
        (HeaderName::from_static("referrer-policy"), "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    for (name, value) in fixed {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_that_a_client_makes_up_has_no_name_of_its_own() {
        assert_eq!((told(&Method::GET), told(&Method::PATCH), told(&Method::DELETE)), ("GET", "PATCH", "DELETE"));
        for made_up in ["BREW", "get", "GET1", "_OTHER"] {
            assert_eq!(told(&Method::from_bytes(made_up.as_bytes()).unwrap()), "_OTHER", "{made_up}");
        }
    }

    #[test]
    fn every_answer_is_for_its_own_origin_alone() {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'self'"));
        secure(&mut headers);
        let said = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        assert_eq!(said("cross-origin-resource-policy"), Some("same-origin"));
        assert_eq!(said("content-security-policy"), Some("default-src 'self'"), "a page's own stays");
    }

    #[test]
    fn a_clients_id_is_taken_only_where_it_is_harmless() {
        let id = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, HeaderValue::from_bytes(value.as_bytes()).unwrap());
            id_of(&headers)
        };
        assert_eq!(id("order-7"), "order-7");
        for hostile in ["", "a b", "\u{e9}", &"x".repeat(LONGEST_ID + 1)] {
            assert!(id(hostile).parse::<Uuid>().is_ok(), "{hostile:?}");
        }
    }
}
