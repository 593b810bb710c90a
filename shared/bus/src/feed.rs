//! The source's other half: hands what was pulled to the workers, redelivered messages in isolated groups, and gives up those
//! that were delivered too often.

use std::collections::VecDeque;
use std::sync::Arc;

use facewire_domain::{Reason, Stage};
use facewire_runtime::{Closed, Outbox};
use tokio::sync::mpsc;

use crate::delivery::{Delivery, Done};
use crate::inflight::InFlight;
use crate::isolation::{Delivered, Group, Isolation};

impl Delivered for Delivery {
    fn delivered(&self) -> u64 {
        self.delivered
    }
}

pub(crate) struct Feeder {
    pub(crate) stage: Stage,
    pub(crate) max_deliver: u64,
    pub(crate) in_flight: Arc<InFlight>,
    pub(crate) isolation: Isolation,
    pub(crate) out: Outbox<Delivery>,
    /// For messages that are given up before a worker sees them.
    pub(crate) sink: Outbox<Done>,
}

impl Feeder {
    /// Hands on everything that comes, until `pulled` is closed and the last isolated group is done.
    pub(crate) async fn run(&mut self, mut pulled: mpsc::Receiver<Delivery>) -> Result<(), Closed> {
        let mut waiting = VecDeque::new();
        loop {
            if waiting.is_empty() {
                match pulled.recv().await {
                    Some(delivery) => waiting.push_back(delivery),
                    None => return Ok(()),
                }
            }
            take_all(&mut pulled, &mut waiting);
            if Isolation::is_needed(&waiting) {
                self.in_flight.idle().await;
                // What came meanwhile may have to go first.
                take_all(&mut pulled, &mut waiting);
            }
            if let Some(group) = self.isolation.next(&mut waiting) {
                self.hand_on(group).await?;
            }
        }
    }

    async fn hand_on(&mut self, group: Group<Delivery>) -> Result<(), Closed> {
        let strictest = group.messages.iter().map(|delivery| delivery.delivered).max().unwrap_or(1);
        let size = group.messages.len();
        for mut delivery in group.messages {
            if delivery.delivered <= self.max_deliver {
                delivery.handed_on();
                self.out.send(delivery).await?;
                continue;
            }
            // Nobody works on it, and nothing waits for it: what becomes of it may need room in this stage's own stream, which
            // only those make that come behind it.
            let error = format!("given up after {} deliveries", self.max_deliver);
            if let Some(done) = delivery.dead_apart(self.stage, Reason::Internal, error).await {
                self.sink.send(done).await?;
            }
        }
        if group.isolated {
            self.in_flight.idle().await;
            self.isolation.done(strictest, size);
        }
        Ok(())
    }
}

fn take_all(pulled: &mut mpsc::Receiver<Delivery>, waiting: &mut VecDeque<Delivery>) {
    while let Ok(delivery) = pulled.try_recv() {
        waiting.push_back(delivery);
    }
}
