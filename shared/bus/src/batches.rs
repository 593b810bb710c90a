//! The receiving end of a worker that works in batches: what was taken is measured and traced alike in every stage.

use std::time::Duration;

use facewire_domain::Stage;
use facewire_runtime::Inbox;
use facewire_telemetry::{BatchSpan, events};

use crate::delivery::Delivery;

/// How a worker takes its batches.
#[derive(Debug, Clone, Copy)]
pub struct BatchOptions {
    /// The stage that the worker belongs to.
    pub stage: Stage,
    /// The name of the batch's span in traces.
    pub span: &'static str,
    /// Items of a batch, at most.
    pub size: usize,
    /// Least time between two batches; a full one comes at once, and so does an item that comes alone.
    pub interval: Duration,
}

/// An inbox, read in batches.
#[derive(Debug)]
pub struct Batches<T> {
    inbox: Inbox<T>,
    delivery: fn(&T) -> &Delivery,
    options: BatchOptions,
}

/// Some items, and the span that lasts as long as they are worked on.
#[derive(Debug)]
pub struct Batch<T> {
    /// One or more.
    pub items: Vec<T>,
    /// Ends when it is dropped.
    pub span: BatchSpan,
}

impl<T> Batches<T> {
    /// Reads `inbox`; `delivery` finds the message that an item came with.
    pub fn new(inbox: Inbox<T>, delivery: fn(&T) -> &Delivery, options: BatchOptions) -> Self {
        Self { inbox, delivery, options }
    }

    /// The next batch; `None` once the inbox is closed and empty.
    pub async fn next(&mut self) -> Option<Batch<T>> {
        let BatchOptions { stage, span, size, interval } = self.options;
        let items = self.inbox.recv_paced(size, interval).await;
        let waited = (self.delivery)(items.first()?).waited();
        events::BatchTaken { stage, size: items.len(), waited }.emit();
        let span = BatchSpan::start(span, stage, items.iter().map(|item| (self.delivery)(item).span()));
        Some(Batch { items, span })
    }
}
