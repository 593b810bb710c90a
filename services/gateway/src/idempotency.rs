//! `Idempotency-Key`: a POST that was answered is answered the same again, and not done again. Only successes are kept; what
//! failed may be tried again. Whoever asked is told what came of it, whether or not that can be noted at once.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use facewire_domain::{FaultKind, PersonId};
use facewire_runtime::{Backoff, retry};
use facewire_store_pg::{ANSWER_BYTES, Begun, RequestTicket, Store, StoreError, StoredAnswer};
use memchr::memmem;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;
use uuid::Uuid;

use crate::App;
use crate::bodies::Held;
use crate::caller::Caller;
use crate::error::{ApiError, Code};
use crate::input;

/// The header, as of draft-ietf-httpapi-idempotency-key-header.
pub(crate) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Tells that an answer was kept from an earlier request.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// Longest key.
pub(crate) const LONGEST: usize = 128;
/// Longest boundary between parts, as of RFC 2046.
const LONGEST_BOUNDARY: usize = 70;

/// Marks an answer with embeddings in its extensions: it is never kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Biometric;

/// What an answer may take on top of the request's own limit before another process takes the request over.
const LEASE_SLACK: Duration = Duration::from_secs(30);

/// Between two tries to note the end of a request.
const PAUSES: Backoff = Backoff { first: Duration::from_millis(100), max: Duration::from_secs(5) };

/// The right to do a request, until another process may take it over.
struct Ours {
    ticket: RequestTicket,
    until: Instant,
}

/// What is noted of a request that was done.
enum End {
    /// Whoever comes again is answered the same.
    Answered(StoredAnswer, Vec<PersonId>),
    /// Whoever comes again tries again.
    Abandoned,
}

impl End {
    async fn note(&self, store: &Store, ticket: &RequestTicket) -> Result<(), StoreError> {
        match self {
            Self::Answered(answer, persons) => store.finish_request(ticket, answer, persons).await.map(|_| ()),
            Self::Abandoned => store.abandon_request(ticket).await,
        }
    }
}

/// The layer of the routes of `/api/v1`, inside authentication.
pub(crate) async fn once(State(app): State<App>, caller: Caller, request: Request, next: Next) -> Response {
    if request.method() != Method::POST {
        return next.run(request).await;
    }
    match given(request.headers()) {
        Ok(None) => next.run(request).await,
        Ok(Some(key)) => answer(&app, caller.key(), &key, request, next).await.unwrap_or_else(|e| e.into_response()),
        Err(error) => error.into_response(),
    }
}

fn given(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    let fits = |key: &&str| !key.is_empty() && key.len() <= LONGEST && key.bytes().all(|byte| byte.is_ascii_graphic());
    let key = value.to_str().ok().filter(fits);
    let key = key.ok_or_else(|| ApiError::invalid("Idempotency-Key", "it has to be 1 to 128 printable characters"))?;
    Ok(Some(key.to_owned()))
}

async fn answer(app: &App, owner: Option<Uuid>, key: &str, request: Request, next: Next) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let named = Named::read(&parts)?;
    let body = input::bytes(Request::from_parts(parts.clone(), body), &()).await?;
    let (hash, body) = hashed(named, parts.extensions.get::<Held>().cloned(), body).await?;
    let store = &app.gallery.store;
    let lease = app.options.request_timeout + LEASE_SLACK;
    let until = Instant::now() + lease;
    let ticket = match store.begin_request(owner, key, hash, lease).await? {
        Begun::New(ticket) => ticket,
        Begun::Finished(answer) => return replayed(answer),
        Begun::Running => {
            let why = "a request with this Idempotency-Key is being worked on";
            return Err(ApiError::new(Code::IdempotencyInProgress, why).retry_after(Duration::from_secs(1)));
        }
        Begun::Mismatch => {
            let why = "the Idempotency-Key was used for another request: every request needs one of its own";
            return Err(ApiError::new(Code::IdempotencyMismatch, why));
        }
    };
    // A client that goes away meanwhile comes again with the key. It is answered then: what was begun goes on.
    let begun = finish(app.clone(), Ours { ticket, until }, Request::from_parts(parts, Body::from(body)), next);
    app.going_on.spawn(begun.in_current_span()).await.map_err(ApiError::internal)?
}

/// Does what was asked, and keeps the answer of a success.
async fn finish(app: App, ours: Ours, request: Request, next: Next) -> Result<Response, ApiError> {
    let _place = request.extensions().get::<Held>().cloned();
    let Ok(response) = tokio::time::timeout_at(ours.until, next.run(request)).await else {
        note(&app, ours, End::Abandoned).await;
        return Err(ApiError::new(Code::Timeout, "the request took longer than another one with its key waits"));
    };
    if !response.status().is_success() || response.extensions().get::<Biometric>().is_some() {
        note(&app, ours, End::Abandoned).await;
        return Ok(response);
    }
    let (head, body) = response.into_parts();
    let body = to_bytes(body, usize::MAX).await.map_err(ApiError::internal)?;
    let end = if body.len() <= ANSWER_BYTES {
        let kind = head.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let answer = StoredAnswer { status: head.status.as_u16(), content_type: kind.to_owned(), body: body.to_vec() };
        End::Answered(answer, persons(&body))
    } else {
        End::Abandoned
    };
    note(&app, ours, end).await;
    Ok(Response::from_parts(head, Body::from(body)))
}

/// Notes the end of a request. Where that fails it is tried again while nobody else may take the request over, which would do it a
/// second time; until it succeeds, the request is in progress for whoever comes again. No more of them wait than were being done when
/// the store went away: without it none is begun. A drain waits for them, within the grace period.
async fn note(app: &App, ours: Ours, end: End) {
    let Err(error) = end.note(&app.gallery.store, &ours.ticket).await else { return };
    tracing::warn!(%error, "the end of a request with an Idempotency-Key is not noted yet");
    let store = app.gallery.store.clone();
    let again = async move {
        let (never, passes) = (CancellationToken::new(), |error: &StoreError| error.kind() != FaultKind::Poison);
        let noted = retry(PAUSES, &never, passes, |_, _| {}, || end.note(&store, &ours.ticket));
        match tokio::time::timeout_at(ours.until, noted).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the end of a request with an Idempotency-Key cannot be noted"),
            Err(_) => tracing::error!("the end of a request with an Idempotency-Key could not be noted in its time"),
        }
    };
    app.going_on.spawn(again.in_current_span());
}

/// Everybody whom an answer names: it is erased with them. Results of jobs call people `person_…`.
fn persons(body: &[u8]) -> Vec<PersonId> {
    fn names(key: &str) -> bool {
        let key = key.to_ascii_lowercase();
        key.ends_with("personid") || key.ends_with("personids") || ["id", "name", "person", "persons"].contains(&&*key)
    }
    // `key`: of the value, or of the array that it is in.
    fn find(key: &str, value: &Value, into: &mut Vec<PersonId>) {
        match value {
            Value::Object(map) => map.iter().for_each(|(key, value)| find(key, value, into)),
            Value::Array(items) => items.iter().for_each(|item| find(key, item, into)),
            Value::String(text) if names(key) => {
                let id = text.strip_prefix("person_").unwrap_or(text);
                into.extend(id.parse::<Uuid>().ok().map(PersonId::from));
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    if let Ok(body) = serde_json::from_slice(body) {
        find("", &body, &mut found);
    }
    found
}

fn replayed(answer: StoredAnswer) -> Result<Response, ApiError> {
    let status = StatusCode::from_u16(answer.status).map_err(ApiError::internal)?;
    let mut response = (status, answer.body).into_response();
    response.headers_mut().remove(CONTENT_TYPE);
    if !answer.content_type.is_empty() {
        let kind = HeaderValue::from_str(&answer.content_type).map_err(ApiError::internal)?;
        response.headers_mut().insert(CONTENT_TYPE, kind);
    }
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    Ok(response)
}

/// Hashes away from the runtime: a body may be large. It goes on where its client went away, and keeps the body's
/// place.
async fn hashed(named: Named, place: Option<Held>, body: Bytes) -> Result<([u8; 32], Bytes), ApiError> {
    let hash = move || {
        let _place = place;
        (named.hash(&body), body)
    };
    tokio::task::spawn_blocking(hash).await.map_err(ApiError::internal)
}

/// What makes a request the same, beside its body. A client that sends parts again separates them anew: the boundary
/// does not count.
#[derive(Debug)]
struct Named {
    path: String,
    /// The content type, up to its boundary.
    kind: String,
    /// Empty where there is none.
    boundary: String,
}

impl Named {
    fn read(parts: &Parts) -> Result<Self, ApiError> {
        let path = parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
        let kind = parts.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let (kind, boundary) = kind.split_once("boundary=").unwrap_or((kind, ""));
        let boundary = boundary.trim_matches('"');
        if boundary.len() > LONGEST_BOUNDARY {
            let why = format!("a boundary has at most {LONGEST_BOUNDARY} characters");
            return Err(ApiError::invalid("Content-Type", why));
        }
        Ok(Self { path, kind: kind.to_owned(), boundary: boundary.to_owned() })
    }

    fn hash(&self, body: &[u8]) -> [u8; 32] {
        let mut hash = Sha256::new();
        for part in [self.path.as_bytes(), self.kind.as_bytes()] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let boundary = self.boundary.as_bytes();
        let mut from = 0;
        // What is empty would be found everywhere.
        for at in memmem::find_iter(body, boundary).take_while(|_| !boundary.is_empty()) {
            hash.update(body.get(from..at).unwrap_or_default());
            hash.update([0]);
            from = at + boundary.len();
        }
        hash.update(body.get(from..).unwrap_or_default());
        hash.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(kind: &str) -> Result<Named, ApiError> {
        let request = axum::http::Request::builder().uri("/api/v1/recognize").header(CONTENT_TYPE, kind);
        Named::read(&request.body(()).unwrap().into_parts().0)
    }

    fn of(kind: &str, body: &str) -> [u8; 32] {
        named(kind).unwrap().hash(body.as_bytes())
    }

    #[test]
    fn an_answer_is_of_everybody_whom_it_names() {
        let [ada, bela, carl, dora] = [1, 2, 3, 4].map(Uuid::from_u128);
        let job = serde_json::json!({
            "jobId": Uuid::from_u128(9), "params": {"person": ada}, "personId": bela,
            "result": {"named": [{"name": format!("person_{carl}")}, {"name": "unknown_cluster_1"}]},
            "filter": {"persons": [dora]},
        });
        let mut found = persons(job.to_string().as_bytes());
        found.sort();
        assert_eq!(found, [ada, bela, carl, dora].map(PersonId::from));
    }

    #[test]
    fn the_boundary_does_not_make_a_request_another() {
        let a = of("multipart/form-data; boundary=aaa", "--aaa\r\n\r\nimage\r\n--aaa--");
        let b = of("multipart/form-data; boundary=bb", "--bb\r\n\r\nimage\r\n--bb--");
        let other = of("multipart/form-data; boundary=bb", "--bb\r\n\r\nimagf\r\n--bb--");
        assert_eq!(a, b);
        assert_ne!(a, other);
        assert_ne!(of("application/json", "{}"), of("text/plain", "{}"));
        assert_ne!(of("application/json", "{}"), of("application/json", "{ }"));
    }

    #[test]
    fn a_boundary_is_no_longer_than_the_standard_has_it() {
        let of_length = |length: usize| named(&format!("multipart/form-data; boundary=\"{}\"", "x".repeat(length)));
        assert!(of_length(LONGEST_BOUNDARY).is_ok());
        let refused = of_length(LONGEST_BOUNDARY + 1).unwrap_err();
        assert_eq!(refused.code, Code::InvalidRequest);
        assert_eq!(refused.details["field"], "Content-Type");
    }
}
