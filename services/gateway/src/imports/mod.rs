//! Bulk enrolment: a stream of items is read, each becomes a crop of its own at once, and the items end as their crops do.
//! Images are held one at a time and kept nowhere here; what becomes of them is decided by the chain.

mod form;
mod item;
mod lines;
mod pace;
pub(crate) mod settle;
mod take;

use axum::extract::Request;
use axum::http::header::CONTENT_TYPE;
use facewire_store_pg::Import;

use crate::App;
use crate::caller::Caller;
use crate::error::{ApiError, Code};
use crate::options::Options;
use crate::shares::{Place, Shares};
use pace::Paced;
use take::Taker;

pub(crate) use item::MOST_ITEMS;
pub(crate) use take::Report;

/// The camera of imported images.
pub(crate) const CAMERA: &str = "import";

/// Lines of items.
pub(crate) const NDJSON: &str = "application/x-ndjson";

/// The places of imports that are read. One that trickles keeps its place for long: hence half of them are one key's at most.
pub(crate) fn places(options: &Options) -> Shares {
    let most = options.imports.max(1);
    Shares::new(most, most.div_ceil(2))
}

/// A place for as long as a body is read.
pub(crate) fn enter(app: &App, caller: &Caller) -> Result<Place, ApiError> {
    let own = "as many imports of this key are read as may be (half of gateway.imports)";
    let all = "as many imports are read as may be (gateway.imports)";
    app.imports.enter(caller.owner(), 1).map_err(|full| full.told(own, all))
}

/// Takes all items of a body.
///
/// # Errors
/// The body breaks off, comes too slowly or is of another kind, the key may no longer be used, the import takes no
/// items any more, the chain does not take them. `details` say how many were sent: the rest may be sent again, as may
/// all of them.
pub(crate) async fn receive(app: &App, caller: Caller, import: &Import, request: Request) -> Result<Report, ApiError> {
    let kind = request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let media = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let mut taker = Taker::new(app, import)?;
    let done = match media.as_str() {
        NDJSON => lines::take(app, Paced::new(app, caller, request.into_body()), &mut taker).await,
        "multipart/form-data" => form::take(app, caller, request, &mut taker).await,
        _ => Err(ApiError::new(Code::UnsupportedMediaType, "send application/x-ndjson or multipart/form-data")),
    };
    // What came whole is sent, whatever comes behind it.
    let flushed = taker.flush().await;
    let done = done.and(flushed);
    let report = taker.report();
    match done {
        Ok(()) => Ok(report),
        Err(error) => Err(error.with_more(serde_json::json!({
            "sent": report.sent, "skipped": report.skipped, "refused": report.refused,
        }))),
    }
}
