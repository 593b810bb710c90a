//! Every route, and the layers around them. From the outside in: the request's id and envelope, a limit of time, and, for
//! what is not public, authentication, the limit of bytes, idempotency. What has no limit of time has one of number
//! instead.

mod cameras;
mod clusters;
mod collections;
mod crops;
mod erasures;
mod events;
mod exports;
mod follow;
mod heads;
mod imports;
mod jobs;
mod people;
mod recognition;
mod recognitions;
mod system;
mod webhooks;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::HeaderValue;
use axum::http::header::CONTENT_SECURITY_POLICY;
use axum::middleware::{Next, from_fn, from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use utoipa_axum::router::OpenApiRouter;
use utoipa_swagger_ui::SwaggerUi;

use crate::bodies::{self, Bodies};
use crate::error::{ApiError, Code};
use crate::{App, caller, idempotency, openapi, request, streams};

/// All of it.
pub(crate) fn router(app: App) -> Router {
    let max_body = usize::try_from(app.options.max_body.as_u64()).unwrap_or(usize::MAX);
    let authenticated = from_fn_with_state(app.clone(), caller::authenticate);
    let mut private = OpenApiRouter::new()
        .merge(cameras::private())
        .merge(clusters::private())
        .merge(collections::private())
        .merge(crops::private())
        .merge(erasures::private())
        .merge(exports::private())
        .merge(heads::private())
        .merge(imports::private())
        .merge(jobs::private())
        .merge(people::private())
        .merge(recognition::private())
        .merge(recognitions::private())
        .merge(system::private())
        .merge(webhooks::private())
        .layer(from_fn_with_state(app.clone(), idempotency::once))
        .layer(from_fn_with_state(Arc::new(Bodies::new(&app.options)), bodies::hold))
        .layer(authenticated.clone())
        .layer(from_fn_with_state(app.options.request_timeout, in_time))
        .layer(DefaultBodyLimit::max(max_body));
    openapi::with_keys(private.get_openapi_mut());
    let endless = events::endless()
        .merge(exports::endless())
        .merge(imports::endless())
        .merge(jobs::endless())
        .layer(from_fn_with_state(app.clone(), streams::hold))
        .layer(authenticated);
    let (router, document) = OpenApiRouter::with_openapi(openapi::base(app.options.needs_key()))
        .merge(system::public())
        .merge(private)
        .merge(endless)
        .split_for_parts();
    let page = SwaggerUi::new("/docs").url("/openapi.json", openapi::with_refusals(document));
    let page = Router::from(page).layer(map_response(page_policy));
    router.merge(page).fallback(async || ApiError::not_found("path")).layer(from_fn(request::handle)).with_state(app)
}

/// The longest that an answer may take.
async fn in_time(State(limit): State<Duration>, request: Request, next: Next) -> Response {
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => ApiError::new(Code::Timeout, "the request took longer than gateway.request_timeout").into_response(),
    }
}

/// The page runs its own scripts and styles, and nothing of others.
async fn page_policy(mut response: Response) -> Response {
    let policy = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'";
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    response
}
