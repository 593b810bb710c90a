//! `bench bus`: the whole chain with models that cost nothing, against one bare JetStream hop with the same payload.

use std::time::Duration;

use bytes::Bytes;
use facewire_bus::Bus;
use facewire_composition::models::{self};
use facewire_composition::{Config, Service};
use facewire_runtime::Shutdown;
use facewire_vision::{decode, encode_jpeg, resize};

use super::load::{Load, Statuses};
use super::memory::Memory;
use super::{Durability, Measurement, per_second, stack, zero};
use crate::commands::{demo, progress};
use crate::local::unless_stopped;

/// A small crop, as a camera on a wall cuts them.
const SIDE: u32 = 112;
/// Its JPEG quality.
const QUALITY: u8 = 85;
/// Crops that are on their way at a time: no stage ever waits for the producer.
const WINDOW: usize = 8192;
/// Publishes in flight for the bare hop: more brings nothing on loopback.
const IN_FLIGHT: usize = 256;

pub(super) async fn run(mut config: Config, crops: usize, shutdown: Shutdown) -> anyhow::Result<Measurement> {
    let report = progress::fetching(false);
    let preparing = async {
        let models = models::load(&config.models, report.clone()).await?;
        let picture = crop(&demo::sample_pictures(&models, report.clone()).await?)?;
        let (dim, model) = (models.pack.manifest().dim(), models.pack.fingerprint());
        drop(models);
        let (directory, mut local) = stack(&mut config, Durability::Unsynced, &shutdown).await?;
        let bus = Bus::connect(&config.nats, "facewire-bench hop").await?;
        let hop = local.beside(async { Ok(bus.measure_hop(picture.clone(), crops, IN_FLIGHT).await?) }).await?;
        anyhow::Ok((picture, zero::chain(dim, model), hop, directory, local))
    };
    let (picture, zero, hop, _directory, mut local) = unless_stopped(&shutdown, preparing).await?;
    local.start_services(&config, Service::all(), Some(zero), report);
    let bytes = picture.len();
    let measured = local.beside(chain(&config, picture, crops)).await;
    let stopped = local.stop().await;
    let (elapsed, memory, statuses) = measured?;
    stopped?;
    let limit_is = format!("one JetStream hop: publish, PubAck, fetch, ack of the same {bytes} bytes");
    let (value, limit) = (per_second(crops, elapsed), per_second(crops, hop));
    let mut measurement = Measurement::new("bus", "crops/s", crops, value, limit, limit_is);
    (measurement.memory, measurement.statuses) = (Some(memory), statuses);
    Ok(measurement)
}

async fn chain(config: &Config, picture: Bytes, crops: usize) -> anyhow::Result<(Duration, Memory, Statuses)> {
    let mut load = Load::start(&config.nats, &[picture], WINDOW).await?;
    let elapsed = load.run(crops, 0).await?;
    Ok((elapsed, load.memory.finish(), load.statuses))
}

fn crop(pictures: &[Bytes]) -> anyhow::Result<Bytes> {
    let first = pictures.first().map(AsRef::as_ref).unwrap_or_default();
    let image = decode(first, &facewire_vision::DecodeLimits::default())?;
    Ok(encode_jpeg(&resize(&image, SIDE, SIDE), QUALITY)?.into())
}
