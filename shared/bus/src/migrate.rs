//! Making the streams, consumers and buckets of DESIGN §2 what the options say, and checking that they are there. What an
//! operator set beside that (placement, compression, descriptions) stays.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::context::{
    CreateStreamError, CreateStreamErrorKind, GetStreamError, GetStreamErrorKind, RequestError, RequestErrorKind,
};
use async_nats::jetstream::stream::{Config, ConsumerError, ConsumerErrorKind};
use async_nats::jetstream::{ErrorCode, consumer, kv};
use facewire_contracts::subjects;
use facewire_domain::Stage;
use serde::Serialize;
use time::OffsetDateTime;

use crate::client::Bus;
use crate::error::{BusError, refused};
use crate::layout::{self, Queue};
use crate::options::StageOptions;

/// What a change is made to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StreamKind {
    /// A JetStream stream.
    Stream,
    /// The durable consumer of a stage, named like its service, or of the jobs.
    Consumer,
    /// A key-value bucket.
    Bucket,
}

impl fmt::Display for StreamKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stream => "stream",
            Self::Consumer => "consumer",
            Self::Bucket => "bucket",
        })
    }
}

/// One thing that [`Bus::migrate_streams`] creates or changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StreamChange {
    /// Of what kind.
    pub kind: StreamKind,
    /// Its name.
    pub name: String,
    /// The field that changes; `None`: it is created.
    pub field: Option<&'static str>,
    /// The field's value on the server.
    pub from: Option<String>,
    /// The field's value by the options.
    pub to: Option<String>,
}

impl fmt::Display for StreamChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let none = || "none".to_owned();
        match self.field {
            None => write!(f, "create {} {}", self.kind, self.name),
            Some(field) => {
                let (from, to) = (self.from.clone().unwrap_or_else(none), self.to.clone().unwrap_or_else(none));
                write!(f, "change {} {}: {field} from {from} to {to}", self.kind, self.name)
            }
        }
    }
}

/// A field's name, and its value as text.
type Field = (&'static str, String);

fn stream_fields(config: &Config) -> Vec<Field> {
    vec![
        ("subjects", config.subjects.join(" ")),
        ("retention", format!("{:?}", config.retention)),
        ("storage", format!("{:?}", config.storage)),
        ("discard", format!("{:?}", config.discard)),
        ("max_bytes", config.max_bytes.to_string()),
        ("max_age", format!("{:?}", config.max_age)),
        ("duplicate_window", format!("{:?}", config.duplicate_window)),
        ("num_replicas", config.num_replicas.to_string()),
    ]
}

/// The server's configuration with our fields; what is not ours stays as it is.
fn merged(current: Config, wanted: &Config) -> Config {
    Config {
        subjects: wanted.subjects.clone(),
        retention: wanted.retention,
        storage: wanted.storage,
        discard: wanted.discard,
        max_bytes: wanted.max_bytes,
        max_age: wanted.max_age,
        duplicate_window: wanted.duplicate_window,
        num_replicas: wanted.num_replicas,
        ..current
    }
}

fn consumer_fields(config: &consumer::Config) -> Vec<Field> {
    vec![
        ("ack_policy", format!("{:?}", config.ack_policy)),
        ("ack_wait", format!("{:?}", config.ack_wait)),
        ("max_deliver", config.max_deliver.to_string()),
        ("max_ack_pending", config.max_ack_pending.to_string()),
    ]
}

fn bucket_fields(max_bytes: i64, max_value_size: i32, max_age: Duration, replicas: usize) -> Vec<Field> {
    vec![
        ("max_bytes", max_bytes.to_string()),
        ("max_value_size", max_value_size.to_string()),
        ("max_age", format!("{max_age:?}")),
        ("num_replicas", replicas.to_string()),
    ]
}

/// The fields that differ, or that all of it is to be created.
fn compare(kind: StreamKind, name: &str, current: Option<Vec<Field>>, wanted: Vec<Field>) -> Vec<StreamChange> {
    let change = |field, from, to| StreamChange { kind, name: name.to_owned(), field, from, to };
    let Some(current) = current else { return vec![change(None, None, None)] };
    let pairs = current.into_iter().zip(wanted).filter(|((_, is), (_, should))| is != should);
    pairs.map(|((field, is), (_, should))| change(Some(field), Some(is), Some(should))).collect()
}

impl Bus {
    /// What [`Bus::migrate_streams`] would create or change; nothing is written.
    ///
    /// # Errors
    /// [`BusError::NotReady`], [`BusError::Refused`].
    pub async fn plan_streams(
        &self,
        stages: &[(Stage, StageOptions)],
        leases: Duration,
    ) -> Result<Vec<StreamChange>, BusError> {
        self.explained(self.planned(stages, leases)).await
    }

    async fn planned(&self, stages: &[(Stage, StageOptions)], leases: Duration) -> Result<Vec<StreamChange>, BusError> {
        let mut changes = Vec::new();
        for wanted in layout::streams(self.options()) {
            let current = self.stream_config(&wanted.name).await?.map(|config| stream_fields(&config));
            changes.extend(compare(StreamKind::Stream, &wanted.name, current, stream_fields(&wanted)));
        }
        for (queue, wanted) in layout::consumers(stages) {
            let current = self.existing_consumer(queue).await?.map(|it| consumer_fields(&it.cached_info().config));
            let wanted = consumer_fields(&consumer::IntoConsumerConfig::into_consumer_config(wanted));
            changes.extend(compare(StreamKind::Consumer, queue.consumer, current, wanted));
        }
        for wanted in [layout::settings(self.options()), layout::leases(leases, self.options())] {
            let current = self.stream_config(&layout::bucket_stream(&wanted.bucket)).await?;
            let current =
                current.map(|is| bucket_fields(is.max_bytes, is.max_message_size, is.max_age, is.num_replicas));
            let fields = bucket_fields(wanted.max_bytes, wanted.max_value_size, wanted.max_age, wanted.num_replicas);
            changes.extend(compare(StreamKind::Bucket, &wanted.bucket, current, fields));
        }
        Ok(changes)
    }

    /// Creates every stream, the durable consumers of these stages and of the jobs, the bucket of settings and that of
    /// leases which live for `leases`, or changes them to what the options say. Calling it again changes nothing.
    ///
    /// # Errors
    /// [`BusError::NoStorage`] where the server has too little room for what the streams reserve; [`BusError::Denied`];
    /// [`BusError::NotReady`], [`BusError::Refused`].
    pub async fn migrate_streams(&self, stages: &[(Stage, StageOptions)], leases: Duration) -> Result<(), BusError> {
        self.explained(self.migrated(stages, leases)).await
    }

    async fn migrated(&self, stages: &[(Stage, StageOptions)], leases: Duration) -> Result<(), BusError> {
        for wanted in layout::streams(self.options()) {
            self.migrate_stream(wanted).await?;
        }
        for (queue, wanted) in layout::consumers(stages) {
            let made = self.jetstream().create_consumer_on_stream(wanted, queue.stream).await;
            made.map_err(|error| refused(queue.to_string(), error))?;
        }
        for bucket in [layout::settings(self.options()), layout::leases(leases, self.options())] {
            self.migrate_bucket(bucket).await?;
        }
        Ok(())
    }

    async fn migrate_stream(&self, wanted: Config) -> Result<(), BusError> {
        let name = wanted.name.clone();
        let made = match self.stream_config(&name).await? {
            None => match self.jetstream().create_stream(numbered(wanted.clone())).await {
                // Somebody else made it at the same time, with the same fields.
                Err(error) if is_there(&error) => return Ok(()),
                made => made.map(drop),
            },
            Some(current) if stream_fields(&current) == stream_fields(&wanted) => return Ok(()),
            Some(current) => self.jetstream().update_stream(merged(current, &wanted)).await.map(drop),
        };
        made.map_err(|error| not_made(format!("the stream {name}"), &error))
    }

    /// Whether all that a stage needs is there, and its consumer does not give messages up before the stage does.
    ///
    /// # Errors
    /// [`BusError::NotMigrated`], [`BusError::Stricter`]; [`BusError::Denied`]; [`BusError::NotReady`],
    /// [`BusError::Refused`].
    pub async fn check_stage(&self, stage: Stage, options: &StageOptions) -> Result<(), BusError> {
        self.check_streams().await?;
        self.explained(self.consumer(stage, options)).await.map(drop)
    }

    /// Whether every stream, every consumer and the bucket of settings are there. What they are set to is not looked at.
    ///
    /// # Errors
    /// [`BusError::NotMigrated`] names the first that is missing; [`BusError::Denied`]; [`BusError::NotReady`],
    /// [`BusError::Refused`].
    pub async fn check_streams(&self) -> Result<(), BusError> {
        self.explained(self.checked_streams()).await
    }

    async fn checked_streams(&self) -> Result<(), BusError> {
        for wanted in layout::streams(self.options()) {
            let name = wanted.name;
            let missing = || BusError::NotMigrated { what: format!("the stream {name}") };
            self.stream_config(&name).await?.ok_or_else(missing)?;
        }
        for queue in Queue::all() {
            self.made_consumer(queue).await?;
        }
        self.bucket(layout::settings(self.options())).await.map(drop)
    }

    /// How a stream is set; `None`: the server says that there is none.
    pub(crate) async fn stream_config(&self, name: &str) -> Result<Option<Config>, BusError> {
        match self.jetstream().get_stream(name).await {
            Ok(stream) => Ok(Some(stream.cached_info().config.clone())),
            Err(error) => match error.kind() {
                GetStreamErrorKind::JetStream(e) if e.error_code() == ErrorCode::STREAM_NOT_FOUND => Ok(None),
                _ => Err(unanswered(format!("the stream {name}"), &error)),
            },
        }
    }

    async fn existing_consumer(&self, queue: Queue) -> Result<Option<PullConsumer>, BusError> {
        match self.jetstream().get_consumer_from_stream(queue.consumer, queue.stream).await {
            Ok(consumer) => Ok(Some(consumer)),
            Err(error) => match error.kind() {
                ConsumerErrorKind::JetStream(e)
                    if [ErrorCode::CONSUMER_NOT_FOUND, ErrorCode::STREAM_NOT_FOUND].contains(&e.error_code()) =>
                {
                    Ok(None)
                }
                _ => Err(unanswered(queue.to_string(), &error)),
            },
        }
    }

    /// The queue's durable consumer, however it is set.
    pub(crate) async fn made_consumer(&self, queue: Queue) -> Result<PullConsumer, BusError> {
        self.existing_consumer(queue).await?.ok_or_else(|| BusError::NotMigrated { what: queue.to_string() })
    }

    /// The stage's durable consumer.
    pub(crate) async fn consumer(&self, stage: Stage, options: &StageOptions) -> Result<PullConsumer, BusError> {
        self.checked_consumer(Queue::of(stage), options.ack_wait).await
    }

    /// The durable consumer of the jobs.
    pub(crate) async fn jobs_consumer(&self) -> Result<PullConsumer, BusError> {
        self.checked_consumer(Queue::JOBS, layout::JOBS_ACK_WAIT).await
    }

    /// The queue's durable consumer. One that redelivers before whoever took a message says that it is at work, or
    /// stops by itself, would do a message twice or lose it: it is refused.
    async fn checked_consumer(&self, queue: Queue, ack_wait: Duration) -> Result<PullConsumer, BusError> {
        let consumer = self.made_consumer(queue).await?;
        let is = &consumer.cached_info().config;
        let stricter = |field, is, wanted| BusError::Stricter { what: queue.to_string(), field, is, wanted };
        if is.ack_wait < ack_wait {
            return Err(stricter("ack_wait", format!("{:?}", is.ack_wait), format!("{ack_wait:?}")));
        }
        if is.max_deliver > 0 {
            return Err(stricter("max_deliver", is.max_deliver.to_string(), "no limit".to_owned()));
        }
        Ok(consumer)
    }

    async fn migrate_bucket(&self, config: kv::Config) -> Result<(), BusError> {
        let what = bucket_of(&config);
        self.jetstream().create_or_update_key_value(config).await.map(drop).map_err(|error| {
            let source =
                std::error::Error::source(&error).and_then(|source| source.downcast_ref::<CreateStreamError>());
            source.map_or_else(|| refused(what.clone(), &error), |source| not_made(what.clone(), source))
        })
    }

    /// A bucket that was made before.
    pub(crate) async fn bucket(&self, config: kv::Config) -> Result<kv::Store, BusError> {
        let what = bucket_of(&config);
        if self.stream_config(&layout::bucket_stream(&config.bucket)).await?.is_none() {
            return Err(BusError::NotMigrated { what });
        }
        self.jetstream().get_key_value(config.bucket).await.map_err(|error| refused(what, error))
    }
}

/// A stream whose readers keep their place (webhooks, event streams): its numbers begin with the microseconds since 1970. Made
/// anew after a loss it goes on above every number that a reader knows, for it takes less than a message a microsecond.
fn numbered(config: Config) -> Config {
    if ![subjects::RESULTS, subjects::EVENTS].contains(&config.name.as_str()) {
        return config;
    }
    let now = OffsetDateTime::now_utc().unix_timestamp_nanos() / 1000;
    Config { first_sequence: u64::try_from(now).ok(), ..config }
}

fn is_there(error: &CreateStreamError) -> bool {
    matches!(error.kind(), CreateStreamErrorKind::JetStream(e) if e.error_code() == ErrorCode::STREAM_NAME_EXIST)
}

fn bucket_of(config: &kv::Config) -> String {
    format!("the bucket {}", config.bucket)
}

fn not_made(what: String, error: &CreateStreamError) -> BusError {
    const NO_ROOM: [ErrorCode; 2] = [ErrorCode::INSUFFICIENT_RESOURCES, ErrorCode::STORAGE_RESOURCES_EXCEEDED];
    let mut inner: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(one) = inner {
        let kind = one.downcast_ref::<CreateStreamError>().map(CreateStreamError::kind);
        if matches!(kind, Some(CreateStreamErrorKind::JetStream(e)) if NO_ROOM.contains(&e.error_code())) {
            return BusError::NoStorage { what };
        }
        inner = one.source();
    }
    refused(what, error)
}

/// What was asked of a stream or a consumer failed: for good, or until JetStream has a leader.
fn unanswered(what: String, error: &(dyn Error + 'static)) -> BusError {
    let mut inner = Some(error);
    while let Some(one) = inner {
        if passes(one) {
            return BusError::NotReady { what, error: error.to_string() };
        }
        inner = one.source();
    }
    refused(what, error)
}

/// No answer in time, or one that says that the servers are away which could give it. Without a majority of its servers
/// JetStream is silent at first, and says later that it is not available.
fn passes(error: &(dyn Error + 'static)) -> bool {
    const AWAY: [ErrorCode; 4] = [
        ErrorCode::CLUSTER_NOT_AVAILABLE,
        ErrorCode::CLUSTER_NOT_LEADER,
        ErrorCode::STREAM_OFFLINE,
        ErrorCode::CONSUMER_OFFLINE,
    ];
    let late = error.downcast_ref::<RequestError>().is_some_and(|error| error.kind() == RequestErrorKind::TimedOut);
    let stream = error.downcast_ref::<GetStreamError>().map(GetStreamError::kind);
    let consumer = error.downcast_ref::<ConsumerError>().map(ConsumerError::kind);
    let code = match (stream, consumer) {
        (Some(GetStreamErrorKind::JetStream(answer)), _) | (_, Some(ConsumerErrorKind::JetStream(answer))) => {
            Some(answer.error_code())
        }
        (_, Some(ConsumerErrorKind::TimedOut)) => return true,
        _ => None,
    };
    late || code.is_some_and(|code| AWAY.contains(&code))
}
