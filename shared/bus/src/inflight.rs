//! Long work sends `Progress` acks: every message in hand is registered here, and a keeper tells the server of those that
//! have been in hand for a while, so that it does not deliver them to somebody else.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_nats::Subject;
use bytes::Bytes;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::client::Bus;
use crate::error::BusError;

#[derive(Debug)]
struct Entry {
    reply: Subject,
    /// Taken, or last said to be in progress.
    since: Instant,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    entries: HashMap<u64, Entry>,
}

/// Messages of one stage that are in hand. The keeper ends when the last holder is gone.
#[derive(Debug)]
pub(crate) struct InFlight {
    table: Arc<Mutex<Table>>,
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
        (Arc::new(Self { table, _last_holder_gone: gone.drop_guard() }), keeper)
    }

    pub(crate) fn enter(self: &Arc<Self>, reply: Subject) -> Permit {
        let mut table = lock(&self.table);
        let id = table.next;
        table.next += 1;
        table.entries.insert(id, Entry { reply, since: Instant::now() });
        drop(table);
        Permit { in_flight: Arc::clone(self), id }
    }
}

/// One message in hand; it travels with the item and is let go when dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    in_flight: Arc<InFlight>,
    id: u64,
}

impl Drop for Permit {
    fn drop(&mut self) {
        lock(&self.in_flight.table).entries.remove(&self.id);
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
            .map(|entry| {
                entry.since = now;
                entry.reply.clone()
            })
            .collect();
        for reply in old {
            // A connection that is down loses these; then the server delivers again, which is harmless.
            let _ = bus.client().publish(reply, Bytes::from_static(b"+WPI")).await;
        }
    }
}
