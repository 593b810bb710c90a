//! Reading RESULTS as a consumer does: in order, from a chosen time, across reconnects.

use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::consumer::pull::{Ordered, OrderedConfig};
use facewire_contracts::{subjects, v1};
use futures_util::StreamExt;

use crate::client::Bus;
use crate::error::{BusError, refused};

/// One result as it came.
#[derive(Debug, Clone)]
pub struct ResultEvent {
    /// `results.<collection>.<camera>`.
    pub subject: String,
    /// Its number in the stream.
    pub sequence: u64,
    /// The result; `None` if its JSON is not one.
    pub result: Option<v1::Result>,
    /// The JSON as it came.
    pub json: bytes::Bytes,
}

/// An ordered reader of RESULTS.
pub struct Results {
    messages: Ordered,
}

impl std::fmt::Debug for Results {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Results")
    }
}

impl Bus {
    /// Reads results that match `filter` (`results.>`, `results.office.*` …): those from now on, or all that the stream
    /// still holds.
    pub async fn results(&self, filter: &str, from_the_start: bool) -> Result<Results, BusError> {
        const READER: &str = "a reader of RESULTS";
        let config = OrderedConfig {
            filter_subject: filter.to_owned(),
            deliver_policy: if from_the_start { DeliverPolicy::All } else { DeliverPolicy::New },
            ..OrderedConfig::default()
        };
        let consumer = self
            .jetstream()
            .create_consumer_on_stream(config, subjects::RESULTS)
            .await
            .map_err(|error| refused(READER, error))?;
        Ok(Results { messages: consumer.messages().await.map_err(|error| refused(READER, error))? })
    }
}

impl Results {
    /// The next result. It waits for as long as there is none; callers put a timeout or a shutdown around it.
    pub async fn next(&mut self) -> Result<ResultEvent, BusError> {
        let lost = |error: String| BusError::Unreachable(error);
        let message = self
            .messages
            .next()
            .await
            .ok_or_else(|| lost("the reader of RESULTS ended".to_owned()))?
            .map_err(|error| lost(error.to_string()))?;
        let sequence = message.info().map(|info| info.stream_sequence).unwrap_or_default();
        Ok(ResultEvent {
            subject: message.subject.to_string(),
            sequence,
            result: serde_json::from_slice(&message.payload).ok(),
            json: message.payload.clone(),
        })
    }
}
