//! Reading RESULTS as results.

use facewire_contracts::v1;

use crate::client::Bus;
use crate::error::BusError;
use crate::records::{Record, Records, StartAt};

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

impl From<Record> for ResultEvent {
    fn from(record: Record) -> Self {
        let Record { subject, sequence, json, .. } = record;
        Self { subject, sequence, result: serde_json::from_slice(&json).ok(), json }
    }
}

/// An ordered reader of RESULTS.
#[derive(Debug)]
pub struct Results {
    records: Records,
}

impl Bus {
    /// Reads results that match `filter` (`results.>`, `results.office.*` …): those from now on, or all that the stream
    /// still holds.
    ///
    /// # Errors
    /// [`BusError::Refused`].
    pub async fn results(&self, filter: &str, from_the_start: bool) -> Result<Results, BusError> {
        let start = if from_the_start { StartAt::All } else { StartAt::New };
        Ok(Results { records: self.results_from(filter, start).await? })
    }
}

impl Results {
    /// The next result. It waits for as long as there is none; callers put a timeout or a shutdown around it. After an
    /// error the reader goes on where it was.
    ///
    /// # Errors
    /// [`BusError::Unreachable`], [`BusError::Refused`].
    pub async fn next(&mut self) -> Result<ResultEvent, BusError> {
        self.records.try_next().await.map(Into::into)
    }
}
