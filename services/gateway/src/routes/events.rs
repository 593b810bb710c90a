//! `GET /events`: results and changes as they happen, as server-sent events, from where a client left off.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName};
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use facewire_bus::{Records, StartAt};
use facewire_contracts::subjects;
use facewire_domain::{CollectionId, Scope};
use facewire_runtime::Shutdown;
use facewire_store_pg::{Source, WebhookFilter};
use futures_util::{Stream, StreamExt};
use serde::Deserialize;
use serde_json::json;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::webhooks::Filter;
use crate::App;
use crate::caller::Caller;
use crate::error::ApiError;
use crate::events::filter::Said;
use crate::input::Query;

/// Of the standard of server-sent events.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Between two comments where nothing happens, so that intermediaries do not close the connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Not under the limit of time of other requests.
pub(crate) fn endless() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(events))
}

/// Which messages.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
struct EventsQuery {
    /// Of this collection; all that the key is for unless given.
    #[param(pattern = "^[A-Za-z0-9_-]{1,64}$")]
    collection: Option<String>,
    /// `recognition`, or a kind of events.
    kind: Option<String>,
    /// Of results: this status.
    status: Option<String>,
    /// Of results: this camera.
    #[param(pattern = "^[A-Za-z0-9_-]{1,64}$")]
    camera: Option<String>,
    /// Of this person.
    person: Option<Uuid>,
    /// Only results that name nobody.
    #[serde(default)]
    unknown_only: bool,
}

/// Results and changes as they happen. Scope: read. Each event has an id: a client that sends the last one as
/// `Last-Event-ID` misses nothing that the streams still hold.
#[utoipa::path(get, path = "/api/v1/events", tag = "events",
    params(EventsQuery, ("Last-Event-ID" = Option<String>, Header, description = "The id of the last event")),
    responses((status = 200, description = "Server-sent events; the data are `source`, `sequence`, `kind`, `data`",
        body = String, content_type = "text/event-stream")))]
async fn events(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    Query(query): Query<EventsQuery>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    caller.has(Scope::Read)?;
    let collection = caller.narrowed(query.collection.as_deref())?;
    let filter = Filter::of(query.kind, query.status, query.camera, query.person, query.unknown_only).stored()?;
    let from = match headers.get(&LAST_EVENT_ID) {
        Some(value) => Some(Position::read(value.to_str().unwrap_or_default())?),
        None => None,
    };
    // Both readers begin behind the position that the client is told: nothing comes in between.
    let position = match from {
        Some(position) => position,
        None => Position {
            results: app.bus.last_sequence(subjects::RESULTS).await?,
            events: app.bus.last_sequence(subjects::EVENTS).await?,
        },
    };
    let start = |last: u64| StartAt::Sequence(last.saturating_add(1));
    let of = collection.as_ref();
    let reader = Reader {
        results: app.bus.results_from(&subjects::results_filter(of, None), start(position.results)).await?,
        events: app.bus.events_from(&subjects::events_filter(of, None), start(position.events)).await?,
        position,
        filter,
        caller: caller.clone(),
        shutdown: app.shutdown.clone(),
    };
    let stream = futures_util::stream::unfold(reader, async |mut reader| {
        let event = reader.next().await?;
        Some((Ok(event), reader))
    });
    let stream = stream.take_until(caller.until_invalid(app));
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

/// Up to where a client has both streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Position {
    results: u64,
    events: u64,
}

impl Position {
    fn read(text: &str) -> Result<Self, ApiError> {
        let read = || {
            let (results, events) = text.split_once('-')?;
            Some(Self { results: results.parse().ok()?, events: events.parse().ok()? })
        };
        read().ok_or_else(|| ApiError::invalid("Last-Event-ID", "it is no id of an event"))
    }

    fn write(self) -> String {
        format!("{}-{}", self.results, self.events)
    }
}

struct Reader {
    results: Records,
    events: Records,
    position: Position,
    filter: WebhookFilter,
    caller: Caller,
    shutdown: Shutdown,
}

impl Reader {
    /// The next message that the client wants; none once the service ends.
    async fn next(&mut self) -> Option<Event> {
        loop {
            let (source, record) = tokio::select! {
                record = self.results.next() => (Source::Results, record),
                record = self.events.next() => (Source::Events, record),
                () = self.shutdown.draining() => return None,
            };
            match source {
                Source::Results => self.position.results = record.sequence,
                Source::Events => self.position.events = record.sequence,
            }
            let said = Said::read(source, &record).filter(|said| self.wants(said, &said.collection));
            if let Some(said) = said {
                let data = json!({
                    "source": source.as_str(), "sequence": said.sequence, "kind": said.kind, "data": said.data,
                });
                return Some(Event::default().id(self.position.write()).event(said.kind).data(data.to_string()));
            }
        }
    }

    fn wants(&self, said: &Said, collection: &CollectionId) -> bool {
        self.caller.is_of(collection) && said.passes(&self.filter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_as_it_was_written() {
        let position = Position { results: 7, events: 0 };
        assert_eq!(Position::read(&position.write()), Ok(position));
        for wrong in ["", "7", "7-", "a-b", "7-8-9", "-1-2"] {
            assert!(Position::read(wrong).is_err(), "{wrong}");
        }
    }
}
