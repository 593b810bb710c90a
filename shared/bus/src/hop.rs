//! One bare JetStream hop, as fast as this client and server can: the limit that `bench bus` measures the chain against.
//! None of the stage runtime is used, or the limit would move with it. Feature `bench`: services do not need it.

use std::time::{Duration, Instant};

use async_nats::jetstream::consumer::pull;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{Config, RetentionPolicy, StorageType};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::client::Bus;
use crate::error::{BusError, refused};

const STREAM: &str = "BENCH_HOP";
const SUBJECT: &str = "bench.hop";

/// Messages asked for at a time.
const PULL: usize = 256;

fn failed(error: impl std::fmt::Display) -> BusError {
    refused("the stream of the benchmark", error)
}

impl Bus {
    /// Publishes `count` messages with their own ids, waits for the PubAcks, fetches and acks them, all at once and with
    /// `in_flight` publishes at a time. The stream is a work queue on disk, as a stage's is.
    pub async fn measure_hop(&self, payload: Bytes, count: usize, in_flight: usize) -> Result<Duration, BusError> {
        let config = Config {
            name: STREAM.to_owned(),
            subjects: vec![SUBJECT.to_owned()],
            retention: RetentionPolicy::WorkQueue,
            storage: StorageType::File,
            duplicate_window: self.options().duplicate_window,
            ..Config::default()
        };
        let stream = self.jetstream().create_stream(config).await.map_err(failed)?;
        let consumer = stream
            .create_consumer(pull::Config {
                durable_name: Some("hop".to_owned()),
                max_ack_pending: 16_384,
                ..pull::Config::default()
            })
            .await
            .map_err(failed)?;
        let started = Instant::now();
        let publishing = stream::iter(0..count).map(Ok).try_for_each_concurrent(in_flight, |number| {
            let message = PublishMessage::build().payload(payload.clone()).message_id(number.to_string());
            async move { self.jetstream().send_publish(SUBJECT, message).await?.await.map(|_| ()) }
        });
        let taking = async {
            let mut taken = 0;
            while taken < count {
                // A pull waits for all that it asks for, or its expiry: the last asks for what is left and no more.
                let wanted = (count - taken).min(PULL);
                let mut batch =
                    consumer.batch().max_messages(wanted).expires(Duration::from_secs(1)).messages().await?;
                while let Some(message) = batch.next().await {
                    message?.ack().await?;
                    taken += 1;
                }
            }
            // Acks are plain publishes; this waits until the server has read them.
            self.client().flush().await?;
            Ok::<_, async_nats::Error>(())
        };
        tokio::try_join!(async { publishing.await.map_err(failed) }, async { taking.await.map_err(failed) })?;
        let elapsed = started.elapsed();
        self.jetstream().delete_stream(STREAM).await.map_err(failed)?;
        Ok(elapsed)
    }
}
