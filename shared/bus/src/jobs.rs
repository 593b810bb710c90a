//! The queue of jobs: a message says that a job waits, and only which; everything else is in its row. A message stays
//! in the queue until its job has ended, so that another worker takes the job up where one dies. Whether a job may be
//! taken up is decided where its row is.

use std::time::{Duration, Instant};

use async_nats::Subject;
use async_nats::jetstream::AckKind;
use async_nats::jetstream::consumer::PullConsumer;
use bytes::Bytes;
use facewire_contracts::subjects;
use facewire_domain::{JobId, JobKind};
use tokio_util::sync::CancellationToken;

use crate::client::{Bus, Message};
use crate::error::BusError;
use crate::layout::Queue;
use crate::pull::{Stop, answer};
use crate::unreadable::{self, Stored};

/// Shortest pull.
const LEAST_WAIT: Duration = Duration::from_millis(100);

/// Takes messages of jobs, one at a time, over a connection of its own: a message that the client cannot read breaks
/// that one alone.
pub struct JobQueue {
    bus: Bus,
    /// `None`: to be opened anew.
    open: Option<Open>,
}

struct Open {
    consumer: PullConsumer,
    /// Cancelled as soon as the connection breaks.
    broken: CancellationToken,
}

/// A message in hand. Dropped without [`ack`](Self::ack) or [`retry_later`](Self::retry_later), it comes back after 30
/// s, and so it does where those are lost with the connection: whoever takes a job up looks at its row first.
#[derive(Debug)]
pub struct JobMessage {
    /// The job; `None`: the message cannot be read, and there is nothing to do but to ack it.
    pub job: Option<JobId>,
    /// What it does, by the subject. The row counts.
    pub kind: Option<JobKind>,
    bus: Bus,
    source: MessageSource,
}

/// What has to be told of its end.
#[derive(Debug)]
enum MessageSource {
    /// The server, on this subject.
    Delivered(Subject),
    /// Nobody: its number in the stream was looked up because the client cannot read it.
    Stored(u64),
    /// Nobody: it is no delivery.
    Stray,
}

impl Bus {
    /// Says that a job waits. A message of the same attempt that is published again within the duplicate window is
    /// dropped.
    ///
    /// # Errors
    /// What [`Bus::publish`] says.
    pub async fn publish_job(&self, kind: JobKind, job: JobId, attempt: u32) -> Result<(), BusError> {
        let message = Message {
            subject: subjects::job(kind),
            id: Some(subjects::job_message_id(job, attempt)),
            headers: Vec::new(),
            payload: job.to_string().into(),
        };
        self.publish(message).await.map(drop)
    }

    /// The queue of jobs, to take messages from it.
    ///
    /// # Errors
    /// [`BusError::NotMigrated`], [`BusError::Stricter`]: its consumer is missing, or redelivers too early;
    /// [`BusError::Unreachable`], [`BusError::NotReady`], [`BusError::Refused`].
    pub async fn job_queue(&self) -> Result<JobQueue, BusError> {
        let open = Some(connect(self).await?);
        Ok(JobQueue { bus: self.clone(), open })
    }

    /// Messages of jobs that have not ended: those that wait, and those in hand.
    ///
    /// # Errors
    /// [`BusError::NotMigrated`]; [`BusError::NotReady`], [`BusError::Refused`].
    pub async fn jobs_waiting(&self) -> Result<u64, BusError> {
        let consumer = self.made_consumer(Queue::JOBS).await?;
        let info = consumer.cached_info();
        Ok(info.num_pending.saturating_add(info.num_ack_pending as u64))
    }
}

impl std::fmt::Debug for JobQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JobQueue").field("open", &self.open.is_some()).finish_non_exhaustive()
    }
}

impl JobQueue {
    /// The next message; `None`: none came within `wait` (100 ms at least). Messages of jobs that are worked on
    /// elsewhere do not come. After an error the next call connects anew. Dropped while it waits, a message that is
    /// just on its way comes back after 30 s.
    ///
    /// # Errors
    /// [`BusError::Unreachable`]: the connection is broken; [`BusError::NotMigrated`], [`BusError::Stricter`]: the
    /// consumer is not as it should be; [`BusError::NotReady`], [`BusError::Refused`].
    pub async fn next(&mut self, wait: Duration) -> Result<Option<JobMessage>, BusError> {
        let open = match self.open.take().filter(|open| !open.broken.is_cancelled()) {
            Some(open) => open,
            None => connect(&self.bus).await?,
        };
        // Kept in place while it waits.
        let pulled = pull(self.open.insert(open), wait.max(LEAST_WAIT)).await;
        match pulled {
            Ok(message) => Ok(message.map(|message| JobMessage::read(&self.bus, message))),
            Err(lost) => {
                self.open = None;
                self.unreadable().await?.map_or(Err(lost), |message| Ok(Some(message)))
            }
        }
    }

    /// A message that the client cannot read, which may be what broke the connection. There is none to look for while
    /// the server is away.
    async fn unreadable(&self) -> Result<Option<JobMessage>, BusError> {
        if !self.bus.is_connected() {
            return Ok(None);
        }
        let consumer = self.bus.jobs_consumer().await?;
        let info = consumer.cached_info();
        let (mut next, last) = (info.ack_floor.stream_sequence + 1, info.delivered.stream_sequence);
        let (stream, filter) = (subjects::JOBS, subjects::JOBS_FILTER);
        while let Some(stored) = Stored::first(&self.bus, stream, filter, next, last).await? {
            next = stored.seq + 1;
            if !stored.is_readable()? {
                let kind = subjects::job_kind(&stored.subject);
                let source = MessageSource::Stored(stored.seq);
                return Ok(Some(JobMessage { job: None, kind, bus: self.bus.clone(), source }));
            }
        }
        Ok(None)
    }
}

async fn connect(bus: &Bus) -> Result<Open, BusError> {
    let (own, broken) = bus.connect_again().await?;
    Ok(Open { consumer: own.jobs_consumer().await?, broken })
}

/// One message, or none within `wait`.
async fn pull(open: &Open, wait: Duration) -> Result<Option<async_nats::jetstream::Message>, BusError> {
    let lost = |why: &str| BusError::Unreachable(format!("the queue of jobs: {why}"));
    let began = Instant::now();
    let batch = open.consumer.batch().max_messages(1).expires(wait).messages().await;
    let mut batch = batch.map_err(|error| lost(&error.to_string()))?;
    match answer(&mut batch, wait, &open.broken).await {
        Ok(message) => Ok(Some(message)),
        Err(Stop::End) if began.elapsed() >= wait / 2 => Ok(None),
        // So ends a pull whose connection has ended for good.
        Err(Stop::End | Stop::TooLarge) => Err(lost("the pull ended early")),
        Err(Stop::Lost(why)) => Err(lost(&why)),
    }
}

impl JobMessage {
    fn read(bus: &Bus, message: async_nats::jetstream::Message) -> Self {
        let message = message.message;
        let text = std::str::from_utf8(&message.payload).ok();
        let job: Option<JobId> = text.and_then(|text| text.trim().parse().ok());
        let kind = subjects::job_kind(&message.subject);
        let source = message.reply.map_or(MessageSource::Stray, MessageSource::Delivered);
        Self { job, kind, bus: bus.clone(), source }
    }

    /// Its job is worked on: it does not come to another worker for the next 30 s.
    pub async fn in_progress(&self) {
        self.tell(AckKind::Progress).await;
    }

    /// Its job has ended, or it is of no job: it does not come back.
    pub async fn ack(self) {
        match self.source {
            MessageSource::Stored(sequence) => {
                // Where this fails, it is found again.
                let _ = unreadable::delete(&self.bus, subjects::JOBS, sequence).await;
            }
            MessageSource::Delivered(_) | MessageSource::Stray => self.tell(AckKind::Ack).await,
        }
    }

    /// Its job cannot be taken up now: it comes back, to any worker, after this time.
    pub async fn retry_later(self, after: Duration) {
        self.tell(AckKind::Nak(Some(after))).await;
    }

    /// Tells the server, and makes sure that it left before the process does.
    async fn tell(&self, kind: AckKind) {
        let MessageSource::Delivered(reply) = &self.source else { return };
        let told = async {
            // What is lost with the connection means one more delivery, which is harmless.
            let _ = self.bus.client().publish(reply.clone(), Bytes::from(kind)).await;
            let _ = self.bus.flush().await;
        };
        // A client that is not connected keeps what it is told for later.
        let _ = tokio::time::timeout(self.bus.options().request_timeout, told).await;
    }
}
