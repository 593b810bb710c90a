//! The messages of one stage that are in this process's hands: how many are being worked on, how many bytes they hold, and
//! since when. A keeper sends `Progress` acks for those that have been in hand for a while, so that the server does not
//! deliver them to another instance.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_nats::Subject;
use bytes::Bytes;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::client::Bus;
use crate::error::BusError;

#[derive(Debug)]
struct Entry {
    /// The ack subject; none where there is nothing to ack.
    reply: Option<Subject>,
    /// Taken, or last said to be in progress.
    since: Instant,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    entries: HashMap<u64, Entry>,
}

/// How much is in hand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Load {
    /// Messages that were handed on: with a worker, the sink, or in an inbox between them.
    pub(crate) worked_on: usize,
    /// Bytes of all messages, also of those that wait in the source.
    pub(crate) bytes: usize,
}

/// Messages of one stage that are in hand. The keeper ends when the last holder is gone.
#[derive(Debug)]
pub(crate) struct InFlight {
    table: Arc<Mutex<Table>>,
    load: watch::Sender<Load>,
    _last_holder_gone: DropGuard,
}

fn lock(table: &Mutex<Table>) -> MutexGuard<'_, Table> {
    // The table is never left half-changed, so a poisoned lock is as good as any.
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

impl InFlight {
    /// The registry, and the future that keeps its messages.
    pub(crate) fn new(bus: Bus, ack_wait: Duration) -> (Arc<Self>, impl Future<Output = Result<(), BusError>>) {
        let table = Arc::new(Mutex::new(Table::default()));
        let gone = CancellationToken::new();
        let keeper = keep(bus, Arc::clone(&table), ack_wait / 3, gone.clone());
        let load = watch::Sender::new(Load::default());
        (Arc::new(Self { table, load, _last_holder_gone: gone.drop_guard() }), keeper)
    }

    pub(crate) fn enter(self: &Arc<Self>, reply: Option<Subject>, bytes: usize) -> Permit {
        let mut table = lock(&self.table);
        let id = table.next;
        table.next += 1;
        table.entries.insert(id, Entry { reply, since: Instant::now() });
        drop(table);
        self.load.send_modify(|load| load.bytes += bytes);
        Permit { in_flight: Arc::clone(self), id, bytes, worked_on: false }
    }

    /// How much is in hand.
    pub(crate) fn load(&self) -> Load {
        *self.load.borrow()
    }

    /// Waits until it is as `wanted`; at once if it is so already. Cancel safe.
    pub(crate) async fn wait_for(&self, mut wanted: impl FnMut(Load) -> bool) {
        // The sender lives as long as `self`: this cannot fail.
        let _ = self.load.subscribe().wait_for(|load| wanted(*load)).await;
    }

    /// Waits until nothing that was handed on is left.
    pub(crate) async fn idle(&self) {
        self.wait_for(|load| load.worked_on == 0).await;
    }
}

/// One message in hand; it travels with the item and is let go when dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    in_flight: Arc<InFlight>,
    id: u64,
    bytes: usize,
    worked_on: bool,
}

impl Permit {
    /// Counts it among those that are worked on.
    pub(crate) fn hand_on(&mut self) {
        if !std::mem::replace(&mut self.worked_on, true) {
            self.in_flight.load.send_modify(|load| load.worked_on += 1);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        lock(&self.in_flight.table).entries.remove(&self.id);
        self.in_flight.load.send_modify(|load| {
            load.bytes -= self.bytes;
            load.worked_on -= usize::from(self.worked_on);
        });
    }
}

async fn keep(bus: Bus, table: Arc<Mutex<Table>>, every: Duration, gone: CancellationToken) -> Result<(), BusError> {
    loop {
        tokio::select! {
            () = gone.cancelled() => return Ok(()),
            () = tokio::time::sleep(every) => {}
        }
        let now = Instant::now();
        let old: Vec<Subject> = lock(&table)
            .entries
            .values_mut()
            .filter(|entry| now.duration_since(entry.since) >= every)
            .filter_map(|entry| {
                entry.since = now;
                entry.reply.clone()
            })
            .collect();
        let tell = async {
            for reply in old {
                // A connection that is down loses these; then the server delivers again, which is harmless.
                let _ = bus.client().publish(reply, Bytes::from_static(b"+WPI")).await;
            }
        };
        // Without a connection the client takes no more than its channel holds.
        tokio::select! {
            () = gone.cancelled() => return Ok(()),
            _ = tokio::time::timeout(bus.options().request_timeout, tell) => {}
        }
    }
}
