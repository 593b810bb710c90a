//! How much lies in the streams: what KEDA, the metrics and `facewire stats` look at.

use std::time::Duration;

use async_nats::jetstream::consumer::pull;
use async_nats::jetstream::stream::State;
use facewire_contracts::subjects;
use facewire_domain::Stage;
use facewire_telemetry::events::{QueueLevel, QueueSeen, WorkQueue};
use futures_util::future::join_all;
use serde::Serialize;
use time::OffsetDateTime;

use crate::client::Bus;
use crate::error::{BusError, refused};
use crate::layout::Queue;

/// How far a stage is behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StageLag {
    /// Which.
    pub stage: Stage,
    /// Messages not delivered yet.
    pub pending: u64,
    /// Messages delivered and not acked yet.
    pub ack_pending: u64,
    /// Messages delivered more than once and not acked yet.
    pub redelivered: u64,
    /// Deliveries beyond the first of each message, since the consumer was made: attempts that were burnt. One too few for each
    /// message that was erased before it was delivered.
    pub extra_deliveries: u64,
    /// Bytes that the stream holds.
    pub bytes: u64,
    /// Age of the oldest message that is not done, in milliseconds; 0 where there is none.
    pub oldest_ms: u64,
}

impl Bus {
    /// How far each stage is behind. A stage whose consumer was never made counts its whole stream as pending.
    pub async fn lags(&self) -> Result<Vec<StageLag>, BusError> {
        let mut lags = Vec::with_capacity(Stage::ALL.len());
        for stage in Stage::ALL {
            lags.push(self.lag(stage).await?);
        }
        Ok(lags)
    }

    /// How far one stage is behind.
    pub async fn lag(&self, stage: Stage) -> Result<StageLag, BusError> {
        let stream = self.stream(stage.stream()).await?;
        let state = &stream.cached_info().state;
        let consumer = stream.get_consumer::<pull::Config>(subjects::consumer(stage)).await;
        let (pending, ack_pending, redelivered, extra_deliveries) = match &consumer {
            Ok(consumer) => {
                let info = consumer.cached_info();
                // One consumer takes every message of its stream, in order: each delivery counts up the one number, and the
                // first of each message the other. What was erased before it was delivered is passed over by the other alone.
                let extra_deliveries = info.delivered.consumer_sequence.saturating_sub(info.delivered.stream_sequence);
                (info.num_pending, info.num_ack_pending as u64, info.num_redelivered as u64, extra_deliveries)
            }
            Err(_) => (state.messages, 0, 0, 0),
        };
        let oldest_ms = oldest_ms(state);
        Ok(StageLag { stage, pending, ack_pending, redelivered, extra_deliveries, bytes: state.bytes, oldest_ms })
    }

    /// Tells telemetry how far every stage and the jobs are behind, whoever works on them.
    pub async fn tell_lags(&self) {
        let queues = Stage::ALL.into_iter().map(WorkQueue::Stage).chain([WorkQueue::Jobs]);
        join_all(queues.map(|queue| self.tell_lag(queue))).await;
    }

    /// Tells telemetry how far a queue is behind; that nobody knows it, where the server does not answer or the consumer
    /// is missing.
    pub(crate) async fn tell_lag(&self, queue: WorkQueue) {
        let level = self.level(queue).await.ok();
        QueueSeen { queue, level }.emit();
    }

    async fn level(&self, queue: WorkQueue) -> Result<QueueLevel, BusError> {
        let queue = match queue {
            WorkQueue::Stage(stage) => Queue::of(stage),
            WorkQueue::Jobs => Queue::JOBS,
        };
        let stream = self.stream(queue.stream).await?;
        let consumer = stream.get_consumer::<pull::Config>(queue.consumer).await;
        let consumer = consumer.map_err(|error| refused(queue.to_string(), error))?;
        let (state, info) = (&stream.cached_info().state, consumer.cached_info());
        Ok(QueueLevel {
            lag: info.num_pending,
            unacked: info.num_ack_pending as u64,
            stored: state.bytes,
            oldest: Duration::from_millis(oldest_ms(state)),
        })
    }

    /// Messages in a stream by its name (`RESULTS`, `DEAD`, or a stage's).
    pub async fn stream_messages(&self, name: &str) -> Result<u64, BusError> {
        let stream = self.stream(name).await?;
        Ok(stream.cached_info().state.messages)
    }

    /// The number of a stream's last message; 0 where there was none yet.
    ///
    /// # Errors
    /// [`BusError::Refused`]: the stream is not there, or the server does not answer.
    pub async fn last_sequence(&self, name: &str) -> Result<u64, BusError> {
        let stream = self.stream(name).await?;
        Ok(stream.cached_info().state.last_sequence)
    }
}

/// Age of the first message of a work queue, which is the oldest that is not done; 0 where there is none.
fn oldest_ms(state: &State) -> u64 {
    let age = (OffsetDateTime::now_utc() - state.first_timestamp).whole_milliseconds();
    if state.messages > 0 { u64::try_from(age).unwrap_or(0) } else { 0 }
}
