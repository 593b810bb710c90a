//! A nats-server with Facewire's streams, and nothing else of a cluster: the embed stage needs no store.

use bytesize::ByteSize;
use facewire_bus::Bus;
use facewire_config::Secret;
use facewire_devstack::testing::{self, TestNats};

use crate::world::TIMEOUT;

use super::faces::MESSAGE_BYTES;
use super::worker;

pub(super) struct Lab {
    nats: TestNats,
    pub(super) bus: Bus,
}

impl Lab {
    /// Its streams have room for so many faces at once.
    pub(super) async fn start(faces: u64) -> anyhow::Result<Self> {
        let nats = testing::nats().await?;
        let defaults = facewire_bus::Options::default();
        let room = ByteSize::b(faces.saturating_mul(MESSAGE_BYTES)).max(defaults.stage_max_bytes);
        let options = facewire_bus::Options { url: Secret::new(nats.url()), stage_max_bytes: room, ..defaults };
        let bus = Bus::connect(&options, "autoscale").await?;
        // How long a lease would last does not matter: nobody takes one.
        bus.migrate_streams(&worker::stages(), TIMEOUT).await?;
        Ok(Self { nats, bus })
    }

    pub(super) fn url(&self) -> String {
        self.nats.url()
    }
}
