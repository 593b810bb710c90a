//! An actor's one inbox: a channel whose capacity is required and bounded, with a metric of the time that
//! senders were blocked on it.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use facewire_telemetry::events::Blocked;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::watch;

/// Paced batches that may follow each other at once after a pause.
const BURST: u32 = 2;

/// The same at most, where waiting brings nothing together.
const MOST_BURST: u32 = 512;

/// The receiver is gone: the pipeline is ending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the inbox of the next actor is closed")]
pub struct Closed;

/// Tells how long a sender was blocked on an edge.
fn note_blocked(edge: &str, since: Instant) {
    Blocked { edge, waited: since.elapsed() }.emit();
}

/// Makes an inbox. `edge` names it in metrics: one name for every inbox that does the same.
pub fn inbox<T>(edge: impl Into<Box<str>>, capacity: NonZeroUsize) -> (Outbox<T>, Inbox<T>) {
    let (sender, receiver) = mpsc::channel(capacity.get());
    let edge = edge.into();
    // So that the edge is there before anybody had to wait.
    Blocked { edge: &edge, waited: Duration::ZERO }.emit();
    (Outbox { sender, edge: edge.into() }, Inbox { receiver, pace: Pace::default(), gathered: Vec::new() })
}

/// The sending side; many actors may share one.
#[derive(Debug)]
pub struct Outbox<T> {
    sender: mpsc::Sender<T>,
    /// Its name in metrics.
    edge: Arc<str>,
}

impl<T> Clone for Outbox<T> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone(), edge: Arc::clone(&self.edge) }
    }
}

impl<T> Outbox<T> {
    /// Sends, and waits for room if there is none.
    pub async fn send(&self, item: T) -> Result<(), Closed> {
        match self.sender.try_send(item) {
            Ok(()) => {}
            Err(TrySendError::Closed(_)) => return Err(Closed),
            Err(TrySendError::Full(item)) => {
                let since = Instant::now();
                let sent = watch::for_room(self.sender.send(item)).await;
                note_blocked(&self.edge, since);
                sent.map_err(|_| Closed)?;
            }
        }
        Ok(())
    }

    /// The same from a dedicated thread. Panics nowhere, but must not be called on the async runtime.
    pub fn blocking_send(&self, item: T) -> Result<(), Closed> {
        match self.sender.try_send(item) {
            Ok(()) => {}
            Err(TrySendError::Closed(_)) => return Err(Closed),
            Err(TrySendError::Full(item)) => {
                let since = Instant::now();
                let sent = self.sender.blocking_send(item);
                note_blocked(&self.edge, since);
                sent.map_err(|_| Closed)?;
            }
        }
        Ok(())
    }
}

/// The receiving side: one actor's, or a pool of equal threads' behind a lock of their own.
#[derive(Debug)]
pub struct Inbox<T> {
    receiver: mpsc::Receiver<T>,
    pace: Pace,
    /// The next paced batch so far: kept here so that a caller who stops waiting loses nothing.
    gathered: Vec<T>,
}

/// When paced batches go.
#[derive(Debug)]
struct Pace {
    /// When the next one would be due if all were `interval` apart.
    next: Option<tokio::time::Instant>,
    /// How many may follow each other at once.
    burst: u32,
    /// The last item that had to wait had waited alone.
    in_vain: bool,
}

impl Default for Pace {
    fn default() -> Self {
        Self { next: None, burst: BURST, in_vain: false }
    }
}

impl Pace {
    /// Until when a batch that is not full waits.
    fn due(&self, interval: Duration) -> Option<tokio::time::Instant> {
        self.next?.checked_sub(interval * (self.burst - 1))
    }

    /// A batch of so many items goes. Where items waited alone twice and more, they come from somebody who sends the next one when
    /// the last is done: pacing would share nothing, and be all that they wait for. It is tried ever more seldom, until items
    /// come together again.
    fn goes(&mut self, items: usize, waited: bool, interval: Duration) {
        if items > 1 {
            (self.burst, self.in_vain) = (BURST, false);
        } else if waited {
            self.burst = if self.in_vain { (self.burst * 4).min(MOST_BURST) } else { self.burst };
            self.in_vain = true;
        }
        let now = tokio::time::Instant::now();
        let next = self.next.map_or(now, |next| next.max(now)) + interval;
        // Full batches that came at once delay nobody after them.
        self.next = Some(next.min(now + interval * self.burst));
    }
}

impl<T> Inbox<T> {
    /// The next item; `None` once every outbox is gone and the inbox is empty.
    pub async fn recv(&mut self) -> Option<T> {
        watch::for_work(self.receiver.recv()).await
    }

    /// The same from a dedicated thread.
    pub fn blocking_recv(&mut self) -> Option<T> {
        self.receiver.blocking_recv()
    }

    /// Waits for one item, then takes what is there, up to `limit` in all. Empty means closed.
    pub async fn recv_ready(&mut self, limit: usize) -> Vec<T> {
        let mut items = Vec::new();
        watch::for_work(self.receiver.recv_many(&mut items, limit.max(1))).await;
        items
    }

    /// Waits for one item, then gathers up to `limit` for at most `wait` after it. Empty means closed.
    pub async fn recv_batch(&mut self, limit: usize, wait: Duration) -> Vec<T> {
        let mut items = self.recv_ready(limit).await;
        // A timer is rounded up to the next millisecond, and would delay each item that comes alone by that.
        if items.is_empty() || wait.is_zero() {
            return items;
        }
        let deadline = tokio::time::Instant::now() + wait;
        while items.len() < limit {
            match tokio::time::timeout_at(deadline, self.receiver.recv()).await {
                Ok(Some(item)) => items.push(item),
                Ok(None) | Err(_) => break,
            }
        }
        items
    }

    /// Batches that are `interval` apart on average, each of up to `limit` items; a full one comes at once, and so do the
    /// first two after a pause. An item that comes alone does not wait, items that come one by one, each when the last is done,
    /// wait ever more seldom, and under load what a batch costs (a round trip, a commit) is shared. Empty means closed. Cancel
    /// safe; not to be mixed with the other ways of receiving.
    pub async fn recv_paced(&mut self, limit: usize, interval: Duration) -> Vec<T> {
        watch::for_work(self.gather(limit, interval)).await
    }

    async fn gather(&mut self, limit: usize, interval: Duration) -> Vec<T> {
        let limit = limit.max(1);
        if self.gathered.is_empty() {
            self.receiver.recv_many(&mut self.gathered, limit).await;
        }
        let due = self.pace.due(interval).filter(|_| (1..limit).contains(&self.gathered.len()));
        let waits = due.is_some_and(|due| due > tokio::time::Instant::now());
        if let Some(due) = due {
            while self.gathered.len() < limit {
                let room = limit - self.gathered.len();
                match tokio::time::timeout_at(due, self.receiver.recv_many(&mut self.gathered, room)).await {
                    Ok(0) | Err(_) => break,
                    Ok(_) => {}
                }
            }
        }
        self.pace.goes(self.gathered.len(), waits, interval);
        std::mem::take(&mut self.gathered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn two<T>() -> (Outbox<T>, Inbox<T>) {
        inbox("a->b", NonZeroUsize::new(2).unwrap())
    }

    #[tokio::test]
    async fn a_full_inbox_blocks_until_there_is_room() {
        let (out, mut inbox) = two();
        out.send(1).await.unwrap();
        out.send(2).await.unwrap();
        let third = tokio::spawn({
            let out = out.clone();
            async move { out.send(3).await }
        });
        tokio::task::yield_now().await;
        assert!(!third.is_finished(), "no room for the third yet");
        assert_eq!(inbox.recv().await, Some(1));
        third.await.unwrap().unwrap();
        assert_eq!(inbox.recv_ready(9).await, vec![2, 3]);
    }

    #[tokio::test]
    async fn a_batch_closes_on_size_or_at_the_end() {
        let (out, mut inbox) = two();
        out.send(1).await.unwrap();
        out.send(2).await.unwrap();
        assert_eq!(inbox.recv_batch(2, Duration::from_secs(3600)).await, vec![1, 2]);
        out.send(3).await.unwrap();
        drop(out);
        assert_eq!(inbox.recv_batch(2, Duration::from_secs(3600)).await, vec![3]);
        assert!(inbox.recv_batch(2, Duration::ZERO).await.is_empty());
    }

    #[tokio::test]
    async fn a_batch_without_a_wait_needs_no_timer() {
        let (out, mut inbox) = two();
        out.send(1).await.unwrap();
        assert_eq!(inbox.recv_batch(2, Duration::ZERO).now_or_never(), Some(vec![1]));
    }

    #[tokio::test(start_paused = true)]
    async fn few_items_go_at_once_and_many_are_gathered() {
        let interval = Duration::from_secs(60);
        let (out, mut inbox) = inbox("a->b", NonZeroUsize::new(9).unwrap());
        let start = tokio::time::Instant::now();
        for item in [1, 2] {
            out.send(item).await.unwrap();
            assert_eq!(inbox.recv_paced(4, interval).await, vec![item]);
        }
        assert_eq!(start.elapsed(), Duration::ZERO, "the first two do not wait");
        out.send(3).await.unwrap();
        let later = tokio::spawn(async move {
            tokio::time::sleep(interval / 2).await;
            out.send(4).await.unwrap();
            tokio::time::sleep(interval).await;
            for item in 5..10 {
                out.send(item).await.unwrap();
            }
            out
        });
        assert_eq!(inbox.recv_paced(4, interval).await, vec![3, 4]);
        assert_eq!(start.elapsed(), interval);
        assert_eq!(inbox.recv_paced(4, interval).await, vec![5, 6, 7, 8]);
        assert_eq!(start.elapsed(), interval * 3 / 2, "a full batch does not wait");
        let out = later.await.unwrap();
        assert_eq!(inbox.recv_paced(4, interval).await, vec![9]);
        assert_eq!(
            start.elapsed(),
            interval * 5 / 2,
            "nor do many of them delay what follows for longer than the interval"
        );
        tokio::time::sleep(interval * 2).await;
        for item in [10, 11] {
            out.send(item).await.unwrap();
            assert_eq!(inbox.recv_paced(4, interval).await, vec![item]);
        }
        assert_eq!(start.elapsed(), interval * 9 / 2, "after a pause two do not wait again");
        drop(out);
        assert!(inbox.recv_paced(4, interval).await.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn items_that_come_one_after_the_other_are_not_paced_for_long() {
        let interval = Duration::from_secs(60);
        let (out, mut inbox) = two();
        let mut waits = 0;
        for item in 0..1000 {
            let start = tokio::time::Instant::now();
            out.send(item).await.unwrap();
            assert_eq!(inbox.recv_paced(4, interval).await, vec![item]);
            waits += u32::from(!start.elapsed().is_zero());
            tokio::time::sleep(interval / 2).await;
        }
        assert!((2..8).contains(&waits), "{waits}");
        for item in [1, 2] {
            out.send(item).await.unwrap();
        }
        assert_eq!(inbox.recv_paced(4, interval).await, vec![1, 2]);
        let start = tokio::time::Instant::now();
        out.send(3).await.unwrap();
        assert_eq!(inbox.recv_paced(4, interval).await, vec![3]);
        assert_eq!(start.elapsed(), interval, "there was something to share again");
    }
}
