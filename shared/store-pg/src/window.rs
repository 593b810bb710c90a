//! Which endings a question is about: a collection, a camera, a span of time.

use facewire_domain::{CameraId, CollectionId};
use time::OffsetDateTime;

/// Endings by where they came from and when they ended. What is not given does not narrow.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Window {
    /// Only this collection.
    pub collection: Option<CollectionId>,
    /// Only this camera, of every collection that has one of the name.
    pub camera: Option<CameraId>,
    /// Ended at this time or later.
    pub since: Option<OffsetDateTime>,
    /// Ended before this time.
    pub until: Option<OffsetDateTime>,
}

/// The condition of a window on a view; `$1` to `$4` are bound by [`bind_window`], and `$time` is the view's time.
macro_rules! in_window {
    ($time:literal) => {
        concat!(
            " ($1::text IS NULL OR collection = $1) AND ($2::text IS NULL OR camera = $2)",
            " AND ($3::timestamptz IS NULL OR ",
            $time,
            " >= $3) AND ($4::timestamptz IS NULL OR ",
            $time,
            " < $4) "
        )
    };
}
pub(crate) use in_window;

/// Binds a window as the first four parameters of a query.
macro_rules! bind_window {
    ($query:expr, $window:expr) => {
        $query
            .bind($window.collection.as_ref().map(facewire_domain::CollectionId::as_str))
            .bind($window.camera.as_ref().map(facewire_domain::CameraId::as_str))
            .bind($window.since)
            .bind($window.until)
    };
}
pub(crate) use bind_window;
