//! Images in, faces out: recognised, enrolled, compared, measured. Every answer is the chain's own; only searches and
//! comparisons of embeddings are made here, by the gallery's rules.

mod compare;
mod extract;
pub(crate) mod face;
pub(crate) mod form;
pub(crate) mod recognize;
pub(crate) mod register;
pub(crate) mod search;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::App;

pub(crate) fn private() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(recognize::recognize))
        .routes(routes!(register::register))
        .routes(routes!(compare::compare))
        .routes(routes!(extract::detect))
        .routes(routes!(extract::embeddings))
        .routes(routes!(search::search))
}
