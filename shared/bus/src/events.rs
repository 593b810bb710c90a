//! Publishing what people and jobs changed on EVENTS. The truth is the table `audit`; its rows are published in order, and an
//! event that is published again is dropped by its id.

use bytes::Bytes;
use facewire_contracts::subjects;
use facewire_domain::CollectionId;

use crate::client::{Bus, Message, Published};
use crate::error::BusError;

impl Bus {
    /// Publishes an event and waits for the PubAck. `kind` as in `person.merged`; `id` is that of its row in `audit`.
    ///
    /// # Errors
    /// What [`Bus::publish`] says.
    pub async fn publish_event(
        &self,
        collection: &CollectionId,
        kind: &str,
        id: i64,
        json: Bytes,
    ) -> Result<Published, BusError> {
        let (subject, id) = (subjects::event(collection, kind), Some(format!("event:{id}")));
        self.publish(Message { subject, id, headers: Vec::new(), payload: json }).await
    }
}
