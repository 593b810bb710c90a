//! The OpenAPI document beyond what the handlers say: what it is, how to authenticate, and the refusals that the layers
//! around every handler can answer with.

use axum::http::StatusCode;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaType, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    ContentBuilder, HeaderBuilder, HttpMethod, Info, OpenApi, OpenApiBuilder, PathItem, Ref, RefOr, Required,
    ResponseBuilder,
};
use utoipa::{OpenApi as _, PartialSchema, ToSchema};

use crate::error::{Code, ErrorBody, ErrorEnvelope};
use crate::idempotency::LONGEST;

/// Bytes as they are. OpenAPI 3.1 describes them by saying nothing.
#[derive(Debug)]
pub(crate) struct Binary;

impl PartialSchema for Binary {
    fn schema() -> RefOr<Schema> {
        RefOr::T(ObjectBuilder::new().schema_type(SchemaType::AnyValue).build().into())
    }
}

impl ToSchema for Binary {}

/// The name of the scheme.
const KEY: &str = "apiKey";

/// Answers that any operation may give.
const COMMON: [StatusCode; 10] = [
    StatusCode::BAD_REQUEST,
    StatusCode::UNAUTHORIZED,
    StatusCode::FORBIDDEN,
    StatusCode::NOT_FOUND,
    StatusCode::METHOD_NOT_ALLOWED,
    StatusCode::REQUEST_TIMEOUT,
    StatusCode::TOO_MANY_REQUESTS,
    StatusCode::INTERNAL_SERVER_ERROR,
    StatusCode::SERVICE_UNAVAILABLE,
    StatusCode::GATEWAY_TIMEOUT,
];

/// Those of an operation that changes something.
const WRITING: [StatusCode; 5] = [
    StatusCode::CONFLICT,
    StatusCode::PRECONDITION_FAILED,
    StatusCode::PAYLOAD_TOO_LARGE,
    StatusCode::UNSUPPORTED_MEDIA_TYPE,
    StatusCode::UNPROCESSABLE_ENTITY,
];

#[derive(utoipa::OpenApi)]
#[openapi(components(schemas(ErrorEnvelope, ErrorBody, Code)))]
struct Errors;

/// The document's beginning: routes add themselves. A key may be sent also where none is needed.
pub(crate) fn base(needs_key: bool) -> OpenApi {
    let mut info = Info::new("Facewire", env!("CARGO_PKG_VERSION"));
    info.description = Some("People and faces over HTTP. Times are RFC 3339, ids UUIDs, cursors opaque.".to_owned());
    let mut document = OpenApiBuilder::from(Errors::openapi()).info(info).build();
    let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("An API key, `fw_…`")).build();
    if let Some(components) = &mut document.components {
        components.add_security_scheme(KEY, SecurityScheme::Http(scheme));
    }
    let key = SecurityRequirement::new(KEY, Vec::<String>::new());
    document.security = Some(if needs_key { vec![key] } else { vec![SecurityRequirement::default(), key] });
    document
}

/// Gives every operation the refusals of the layers around it, where it does not describe them itself.
pub(crate) fn with_refusals(mut document: OpenApi) -> OpenApi {
    for item in document.paths.paths.values_mut() {
        for (method, operation) in operations(item) {
            let writing = if method == HttpMethod::Get { &[][..] } else { &WRITING[..] };
            for status in COMMON.iter().chain(writing) {
                let code = status.as_str().to_owned();
                operation.responses.responses.entry(code).or_insert_with(|| refusal(*status));
            }
        }
    }
    document
}

/// Says of every POST that it is done once under a key: of routes behind the layer that sees to it.
pub(crate) fn with_keys(document: &mut OpenApi) {
    let posts = document.paths.paths.values_mut().filter_map(|item| item.post.as_mut());
    for operation in posts {
        operation.parameters.get_or_insert_default().push(idempotency_key());
        for (status, response) in &mut operation.responses.responses {
            let RefOr::T(response) = response else { continue };
            if status.starts_with('2') {
                let why = "`true`: the answer was kept from an earlier request with this Idempotency-Key";
                let header = HeaderBuilder::new().description(Some(why)).build();
                response.headers.insert("Idempotency-Replayed".to_owned(), header);
            }
        }
    }
}

fn idempotency_key() -> Parameter {
    let text = ObjectBuilder::new().schema_type(Type::String).min_length(Some(1)).max_length(Some(LONGEST));
    let why = "Printable characters. Sent again with it, the same request is answered with the same status and body, and not done \
               again; of the headers only Content-Type is kept. Only a success is kept, and none with embeddings";
    ParameterBuilder::new()
        .name("Idempotency-Key")
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(why))
        .schema(Some(text))
        .build()
}

fn operations(item: &mut PathItem) -> Vec<(HttpMethod, &mut utoipa::openapi::path::Operation)> {
    let all = [
        (HttpMethod::Get, &mut item.get),
        (HttpMethod::Post, &mut item.post),
        (HttpMethod::Put, &mut item.put),
        (HttpMethod::Patch, &mut item.patch),
        (HttpMethod::Delete, &mut item.delete),
    ];
    all.into_iter().filter_map(|(method, operation)| Some((method, operation.as_mut()?))).collect()
}

fn refusal(status: StatusCode) -> RefOr<utoipa::openapi::Response> {
    let schema = Ref::from_schema_name(ErrorEnvelope::name());
    let content = ContentBuilder::new().schema(Some(schema)).build();
    let description = status.canonical_reason().unwrap_or("refused");
    RefOr::T(ResponseBuilder::new().description(description).content("application/json", content).build())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_optional_where_none_is_needed() {
        let security = |needs_key| serde_json::to_value(base(needs_key)).unwrap()["security"].take();
        assert_eq!(security(true), serde_json::json!([{ "apiKey": [] }]));
        assert_eq!(security(false), serde_json::json!([{}, { "apiKey": [] }]));
    }

    #[test]
    fn every_code_has_a_status_that_the_document_may_name() {
        let RefOr::T(schema) = Code::schema() else { panic!("an inline schema") };
        let codes = serde_json::to_value(schema).unwrap()["enum"].as_array().unwrap().clone();
        for code in codes {
            let name = code.as_str().unwrap().to_owned();
            let code: Code = serde_json::from_value(code).unwrap();
            assert_eq!(code.as_str(), name);
            let status = code.status();
            assert!(COMMON.contains(&status) || WRITING.contains(&status), "{code:?}");
        }
    }
}
