//! Errors as clients see them: a closed list of codes, one envelope. Messages name fields, ids and limits; never a name of a
//! person, a secret or a text of a store.

use std::time::Duration;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use facewire_bus::BusError;
use facewire_domain::{Fault, FaultKind};
use facewire_erasure::EraseError;
use facewire_gallery::GalleryError;
use facewire_store_pg::StoreError;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// What went wrong, for programs. The list is closed: a new code is a new version of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// A field, parameter or header has a wrong value; `details.field` names it.
    InvalidRequest,
    /// No key, or one that is not known. Where this machine alone needs none: the request names another host, or comes from a
    /// page of another origin.
    Unauthorized,
    /// The key has expired.
    KeyExpired,
    /// The key was revoked.
    KeyRevoked,
    /// The key lacks the scope; `details.scope` names it.
    ScopeMissing,
    /// The key is not for this collection, or not for all where that is needed.
    CollectionForbidden,
    /// There is nothing of that id, or the key may not know of it.
    NotFound,
    /// The path has no such method.
    MethodNotAllowed,
    /// The client took too long to send its request.
    RequestTimeout,
    /// The name or external id belongs to another person.
    AlreadyExists,
    /// The state of the person, face or job does not allow it.
    Conflict,
    /// The embedding or collection is of another model than the one that serves.
    ModelMismatch,
    /// The collection is not empty; `force` deletes it with all that it holds.
    NotEmpty,
    /// A request with the same `Idempotency-Key` is being worked on.
    IdempotencyInProgress,
    /// The `Idempotency-Key` was used for another request.
    IdempotencyMismatch,
    /// `If-Match` names another version; `details.version` is the current one.
    VersionMismatch,
    /// The body, an image, or the number of parts is above its limit.
    PayloadTooLarge,
    /// The body is not of a content type that the endpoint takes.
    UnsupportedMediaType,
    /// None of the images could be used; `details.images` says why each.
    ImagesRefused,
    /// Too many requests of this key or address, or too many streams, imports or bytes of bodies that it has open; `Retry-After`
    /// says when.
    RateLimited,
    /// More work waits than may wait; `Retry-After` says when.
    Overloaded,
    /// A store or the broker is away, or needs an operator; `Retry-After` says when to try again.
    Unavailable,
    /// The chain did not answer in time; `details.cropId` says where its result will be.
    Timeout,
    /// A defect of the server.
    Internal,
}

impl Code {
    /// As JSON and metrics call it.
    pub fn as_str(self) -> &'static str {
        match self {
            Code::InvalidRequest => "invalid_request",
            Code::Unauthorized => "unauthorized",
            Code::KeyExpired => "key_expired",
            Code::KeyRevoked => "key_revoked",
            Code::ScopeMissing => "scope_missing",
            Code::CollectionForbidden => "collection_forbidden",
            Code::NotFound => "not_found",
            Code::MethodNotAllowed => "method_not_allowed",
            Code::RequestTimeout => "request_timeout",
            Code::AlreadyExists => "already_exists",
            Code::Conflict => "conflict",
            Code::ModelMismatch => "model_mismatch",
            Code::NotEmpty => "not_empty",
            Code::IdempotencyInProgress => "idempotency_in_progress",
            Code::IdempotencyMismatch => "idempotency_mismatch",
            Code::VersionMismatch => "version_mismatch",
            Code::PayloadTooLarge => "payload_too_large",
            Code::UnsupportedMediaType => "unsupported_media_type",
            Code::ImagesRefused => "images_refused",
            Code::RateLimited => "rate_limited",
            Code::Overloaded => "overloaded",
            Code::Unavailable => "unavailable",
            Code::Timeout => "timeout",
            Code::Internal => "internal",
        }
    }

    /// Its HTTP status.
    pub fn status(self) -> StatusCode {
        match self {
            Code::InvalidRequest => StatusCode::BAD_REQUEST,
            Code::Unauthorized | Code::KeyExpired | Code::KeyRevoked => StatusCode::UNAUTHORIZED,
            Code::ScopeMissing | Code::CollectionForbidden => StatusCode::FORBIDDEN,
            Code::NotFound => StatusCode::NOT_FOUND,
            Code::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Code::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Code::AlreadyExists
            | Code::Conflict
            | Code::ModelMismatch
            | Code::NotEmpty
            | Code::IdempotencyInProgress
            | Code::IdempotencyMismatch => StatusCode::CONFLICT,
            Code::VersionMismatch => StatusCode::PRECONDITION_FAILED,
            Code::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Code::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Code::ImagesRefused => StatusCode::UNPROCESSABLE_ENTITY,
            Code::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            Code::Overloaded | Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Code::Timeout => StatusCode::GATEWAY_TIMEOUT,
            Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// An error on its way to the client. The middleware `request` writes it into the envelope, with the request's id.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiError {
    pub(crate) code: Code,
    pub(crate) message: String,
    pub(crate) details: Value,
    pub(crate) retry_after: Option<Duration>,
}

impl ApiError {
    /// An error with nothing but its sentence.
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: Value::Object(serde_json::Map::new()), retry_after: None }
    }

    /// With more for programs: a JSON object.
    pub(crate) fn with(mut self, details: Value) -> Self {
        self.details = details;
        self
    }

    /// With more beside the details that there are.
    pub(crate) fn with_more(mut self, more: Value) -> Self {
        if let (Value::Object(details), Value::Object(more)) = (&mut self.details, more) {
            details.extend(more);
        }
        self
    }

    /// With the time after which another try makes sense.
    pub(crate) fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// A field, parameter or header with a wrong value.
    pub(crate) fn invalid(field: &str, why: impl std::fmt::Display) -> Self {
        // Both may repeat what the client sent.
        let shortened = |text: &str| text.chars().take(LONGEST_TEXT).collect::<String>();
        let (field, why) = (shortened(field), shortened(&why.to_string()));
        Self::new(Code::InvalidRequest, format!("{field}: {why}")).with(serde_json::json!({ "field": field }))
    }

    /// Nothing of that id.
    pub(crate) fn not_found(what: &str) -> Self {
        Self::new(Code::NotFound, format!("there is no such {what}"))
    }

    /// More work waits than may wait.
    pub(crate) fn overloaded(why: impl Into<String>) -> Self {
        Self::new(Code::Overloaded, why).retry_after(SOON)
    }

    /// A defect of ours; the cause is told to operators only.
    pub(crate) fn internal(cause: impl std::fmt::Display) -> Self {
        tracing::error!(%cause, "a request failed by a defect of the gateway");
        Self::new(Code::Internal, "the gateway has a defect; its log says more under the request's id")
    }

    fn of_fault(error: &dyn Fault) -> Self {
        match error.kind() {
            FaultKind::Transient => {
                tracing::warn!(%error, system = error.system(), "a request failed: a server is away");
                let message = format!("{} does not answer", error.system());
                Self::new(Code::Unavailable, message).retry_after(SOON)
            }
            FaultKind::Systemic => {
                tracing::error!(%error, system = error.system(), "a request failed: an operator has to act");
                let message = format!("{} cannot be used until an operator acts", error.system());
                Self::new(Code::Unavailable, message).retry_after(LATER)
            }
            FaultKind::Poison => Self::internal(error),
        }
    }
}

impl ApiError {
    /// Why nothing more of a kind is made: a conflict where there are as many as may be, `limit`.
    pub(crate) fn of_crowd(error: StoreError, limit: u32, why: impl Into<String>) -> Self {
        match error {
            StoreError::Conflict { .. } => Self::new(Code::Conflict, why).with(serde_json::json!({ "limit": limit })),
            error => error.into(),
        }
    }
}

/// Characters of a text of the client's in an answer.
const LONGEST_TEXT: usize = 300;
/// When another try makes sense after a server was away or too much waited.
pub(crate) const SOON: Duration = Duration::from_secs(1);
/// The same where an operator has to act.
const LATER: Duration = Duration::from_secs(30);

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.code.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::OtherModel { .. } => {
                Self::new(Code::ModelMismatch, "the embedding is of another model than the one that serves")
            }
            error @ (StoreError::BeingErased | StoreError::Merged { .. }) => {
                Self::new(Code::Conflict, error.to_string())
            }
            error => Self::of_fault(&error),
        }
    }
}

impl From<GalleryError> for ApiError {
    fn from(error: GalleryError) -> Self {
        match error {
            GalleryError::OtherModel { .. } => {
                Self::new(Code::ModelMismatch, "the gallery is of another model than the configured one")
            }
            GalleryError::Rows(error) => error.into(),
            error => Self::of_fault(&error),
        }
    }
}

impl From<EraseError> for ApiError {
    fn from(error: EraseError) -> Self {
        match error {
            EraseError::Gallery(error) => error.into(),
            EraseError::Bus(error) => error.into(),
        }
    }
}

impl From<BusError> for ApiError {
    fn from(error: BusError) -> Self {
        match error {
            BusError::StreamFull { .. } => Self::overloaded("the chain is behind: its stream is full"),
            BusError::TooLarge { bytes, .. } => {
                Self::new(Code::PayloadTooLarge, format!("an image of {bytes} bytes is larger than the broker takes"))
            }
            error => Self::of_fault(&error),
        }
    }
}

/// The envelope of every error.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ErrorEnvelope {
    /// What went wrong.
    pub error: ErrorBody,
    /// Names the request in logs and in the audit.
    pub request_id: String,
}

/// What went wrong.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// For programs.
    pub code: Code,
    /// For people.
    pub message: String,
    /// More for programs; each code says what.
    #[schema(value_type = Object)]
    pub details: Value,
}
