//! Operational events: what happens to a service, not to a crop. Each is a struct that says itself once.

use std::fmt::Display;

use facewire_domain::{Reason, Stage};

/// A service's pipeline failed and is built anew, or the service gives up.
#[derive(Debug)]
pub struct ServiceFailed<'a> {
    /// Which.
    pub service: &'a str,
    /// In a row.
    pub failures: u32,
    /// The last error.
    pub error: &'a str,
}

impl ServiceFailed<'_> {
    /// Says it.
    pub fn emit(&self) {
        tracing::error!(service = self.service, failures = self.failures, error = self.error, "service failed");
    }
}

/// A service takes work.
#[derive(Debug)]
pub struct ServiceStarted<'a> {
    /// Which.
    pub service: &'a str,
}

impl ServiceStarted<'_> {
    /// Says it.
    pub fn emit(&self) {
        tracing::info!(service = self.service, "service started");
    }
}

/// The consumer was lost (broker restart, missed end of a pull) and is made anew.
#[derive(Debug)]
pub struct ConsumerRecreated<'a> {
    /// Whose.
    pub stage: Stage,
    /// In a row.
    pub failures: u32,
    /// What was seen.
    pub error: &'a str,
}

impl ConsumerRecreated<'_> {
    /// Says it.
    pub fn emit(&self) {
        tracing::warn!(stage = %self.stage, failures = self.failures, error = self.error, "consumer recreated");
    }
}

/// The server would not make or change a stream.
#[derive(Debug)]
pub struct StreamRefused<'a> {
    /// Which.
    pub what: &'a str,
    /// The server's answer.
    pub error: &'a str,
}

impl StreamRefused<'_> {
    /// Says it.
    pub fn emit(&self) {
        tracing::warn!(what = self.what, error = self.error, "stream refused");
    }
}

/// A message came once more.
#[derive(Debug)]
pub struct Redelivered {
    /// To which stage.
    pub stage: Stage,
    /// How often by now.
    pub delivered: u64,
}

impl Redelivered {
    /// Says it.
    pub fn emit(&self) {
        tracing::debug!(stage = %self.stage, delivered = self.delivered, "message redelivered");
    }
}

/// Something came to a pull that JetStream did not deliver; nobody waits for its ack.
#[derive(Debug)]
pub struct NotADelivery {
    /// To which stage.
    pub stage: Stage,
}

impl NotADelivery {
    /// Says it.
    pub fn emit(&self) {
        tracing::warn!(stage = %self.stage, "a message that is no JetStream delivery was passed over");
    }
}

/// A message was given up.
#[derive(Debug)]
pub struct DeadLettered<'a> {
    /// By which stage.
    pub stage: Stage,
    /// Why.
    pub reason: Reason,
    /// In words.
    pub error: &'a str,
}

impl DeadLettered<'_> {
    /// Says it.
    pub fn emit(&self) {
        tracing::error!(stage = %self.stage, reason = %self.reason, error = self.error, "message dead-lettered");
    }
}

/// A publish got no PubAck and is tried again.
#[derive(Debug)]
pub struct PublishRetried<'a, E: Display> {
    /// By which stage.
    pub stage: Stage,
    /// In a row.
    pub failures: u32,
    /// What was seen.
    pub error: &'a E,
}

impl<E: Display> PublishRetried<'_, E> {
    /// Says it.
    pub fn emit(&self) {
        tracing::warn!(stage = %self.stage, failures = self.failures, error = %self.error, "publish tried again");
    }
}

/// A store does not answer; the stage waits and takes no new work.
#[derive(Debug)]
pub struct StoreWaited<'a, E: Display> {
    /// Which stage or service waits.
    pub service: &'a str,
    /// Which store.
    pub store: &'a str,
    /// In a row.
    pub failures: u32,
    /// What was seen.
    pub error: &'a E,
}

impl<E: Display> StoreWaited<'_, E> {
    /// Says it.
    pub fn emit(&self) {
        tracing::warn!(
            service = self.service,
            store = self.store,
            failures = self.failures,
            error = %self.error,
            "waiting for a store"
        );
    }
}

/// The reconciler made the stores equal again.
#[derive(Debug)]
pub struct Reconciled {
    /// Faces that were repaired.
    pub completed: u64,
}

impl Reconciled {
    /// Says it.
    pub fn emit(&self) {
        tracing::info!(completed = self.completed, "stores reconciled");
    }
}
