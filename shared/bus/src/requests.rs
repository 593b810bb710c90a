//! Calls that wait for the chain: a crop is published with a reply subject of its own, and `enrich` tells its results there.
//! One subscription for the whole process takes the replies of all calls. Everything is bounded: calls that wait, and
//! replies that one of them has not taken. Replies come at most once; whoever waits in vain reads the crop's rows.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use facewire_contracts::{subjects, v1};
use facewire_runtime::{ActorError, Shutdown};
use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::client::Bus;
use crate::error::{BusError, refused};

/// Replies that a call has not taken yet: the faces of a large frame.
const UNTAKEN: usize = 256;

/// Whom the replies go to, by the number of the call.
type Waiting = HashMap<u64, mpsc::Sender<Bytes>>;

/// The calls of this process that wait for a reply. Clones share them.
#[derive(Debug, Clone)]
pub struct Requests {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// `replies.gateway.<process>`; the process by a name that nobody can guess.
    prefix: String,
    most: usize,
    last: AtomicU64,
    waiting: Mutex<Waiting>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hands replies to the calls that wait for them. Somebody has to run it, or no reply arrives.
pub struct Replies {
    shared: Arc<Shared>,
    subscriber: async_nats::Subscriber,
}

impl std::fmt::Debug for Replies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replies").field("prefix", &self.shared.prefix).finish_non_exhaustive()
    }
}

/// A call that waits. Dropped, it is forgotten, and what comes for it later is passed over.
#[derive(Debug)]
pub struct Pending {
    shared: Arc<Shared>,
    number: u64,
    reply_to: String,
    replies: mpsc::Receiver<Bytes>,
}

impl Bus {
    /// The calls of this process, `most` of which may wait at a time, and the actor that hands them their replies. The
    /// server has the subscription when this returns, and is told of it again after each reconnect.
    ///
    /// # Errors
    /// [`BusError::Refused`]: no permission to subscribe; [`BusError::Unreachable`].
    pub async fn requests(&self, most: usize) -> Result<(Requests, Replies), BusError> {
        // The client's own generator of names for inboxes; the prefix is ours.
        let inbox = self.client().new_inbox();
        let process = inbox.rsplit('.').next().unwrap_or(&inbox);
        let prefix = format!("{}.{process}", subjects::GATEWAY_REPLIES);
        let subscriber = self.client().subscribe(format!("{prefix}.*")).await;
        let subscriber = subscriber.map_err(|error| refused("a subscription to replies", error))?;
        self.flush().await?;
        let shared = Arc::new(Shared { prefix, most: most.max(1), last: AtomicU64::new(0), waiting: Mutex::default() });
        Ok((Requests { shared: Arc::clone(&shared) }, Replies { shared, subscriber }))
    }
}

impl Requests {
    /// A new call: publish the crop with [`Pending::reply_to`] in `Facewire-Reply-To`, then wait.
    ///
    /// # Errors
    /// [`BusError::TooManyRequests`]: as many wait as may.
    pub fn begin(&self) -> Result<Pending, BusError> {
        let number = self.shared.last.fetch_add(1, Ordering::Relaxed);
        let (sender, replies) = mpsc::channel(UNTAKEN);
        let mut waiting = self.shared.lock();
        if waiting.len() >= self.shared.most {
            return Err(BusError::TooManyRequests { most: self.shared.most });
        }
        waiting.insert(number, sender);
        drop(waiting);
        let reply_to = format!("{}.{number}", self.shared.prefix);
        Ok(Pending { shared: Arc::clone(&self.shared), number, reply_to, replies })
    }

    /// Calls that wait now.
    pub fn waiting(&self) -> usize {
        self.shared.lock().len()
    }
}

impl Replies {
    /// Runs until the shutdown has begun: what comes afterwards reaches nobody. Calls may be begun for long after a service's
    /// own drain, so this has one of its own.
    ///
    /// # Errors
    /// The client gave the subscription up, which it does only when its connection is closed for good.
    pub async fn run(mut self, shutdown: Shutdown) -> Result<(), ActorError> {
        loop {
            tokio::select! {
                message = self.subscriber.next() => {
                    let message = message.ok_or("the subscription to replies ended")?;
                    hand_on(&self.shared, &message.subject, message.payload);
                }
                () = shutdown.draining() => return Ok(()),
            }
        }
    }
}

/// A reply for nobody is passed over. A call that leaves too many replies untaken is ended: its channel closes.
fn hand_on(shared: &Shared, subject: &str, payload: Bytes) {
    let number = subject.rsplit('.').next().and_then(|token| token.parse::<u64>().ok());
    let Some(number) = number else { return };
    let mut waiting = shared.lock();
    let full = waiting.get(&number).is_some_and(|sender| sender.try_send(payload).is_err());
    if full {
        waiting.remove(&number);
    }
}

impl Pending {
    /// The subject that only this call listens to.
    pub fn reply_to(&self) -> &str {
        &self.reply_to
    }

    /// The next reply, `within` at most. What is no result is passed over.
    ///
    /// # Errors
    /// [`BusError::NoReply`]: none came in time; [`BusError::RepliesLost`].
    pub async fn next(&mut self, within: Duration) -> Result<v1::Result, BusError> {
        let deadline = Instant::now() + within;
        loop {
            let reply = tokio::time::timeout_at(deadline, self.replies.recv()).await;
            let reply = reply.map_err(|_| BusError::NoReply { within })?.ok_or(BusError::RepliesLost)?;
            if let Ok(result) = serde_json::from_slice(&reply) {
                return Ok(result);
            }
        }
    }

    /// The replies of every face of the crop, in the order of their numbers, all of them `within`.
    ///
    /// # Errors
    /// As [`Pending::next`].
    pub async fn all(&mut self, within: Duration) -> Result<Vec<v1::Result>, BusError> {
        let deadline = Instant::now() + within;
        let (mut results, mut seen): (Vec<v1::Result>, HashSet<u32>) = (Vec::new(), HashSet::new());
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let result = self.next(left).await.map_err(|error| match error {
                BusError::NoReply { .. } => BusError::NoReply { within },
                other => other,
            })?;
            let expected = result.face_count.max(1) as usize;
            if seen.insert(result.face_index) {
                results.push(result);
            }
            if results.len() >= expected {
                results.sort_by_key(|result| result.face_index);
                return Ok(results);
            }
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.shared.lock().remove(&self.number);
    }
}
