//! People and their faces, with the paths and fields of the image-search API under `/api/v1/faces`.

mod assets;
mod faces;
mod persons;
mod views;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::App;

pub(crate) use persons::find as find_person;
pub(crate) use views::KeptFace;

pub(crate) fn private() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(persons::list, persons::create))
        .routes(routes!(persons::get, persons::update, persons::erase))
        .routes(routes!(persons::merge))
        .routes(routes!(persons::unmerge))
        .routes(routes!(faces::list, faces::add))
        .routes(routes!(faces::get, faces::remove))
        .routes(routes!(faces::reassign))
        .routes(routes!(faces::image))
        .routes(routes!(assets::get, assets::erase))
        .routes(routes!(assets::detect))
}
