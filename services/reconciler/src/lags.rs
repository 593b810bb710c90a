//! How far every stage and the jobs are behind, told by whoever always runs: a stage without a replica cannot say itself
//! that work waits for it, and whatever scales it up has to know. No lease: several instances tell the same.

use std::time::Duration;

use facewire_bus::Bus;
use facewire_runtime::{ActorError, Shutdown};

/// Between two looks.
const EVERY: Duration = Duration::from_secs(5);

/// The actor.
pub(crate) async fn tell(bus: Bus, shutdown: Shutdown) -> Result<(), ActorError> {
    loop {
        tokio::select! {
            () = shutdown.draining() => return Ok(()),
            () = bus.tell_lags() => {}
        }
        tokio::select! {
            () = shutdown.draining() => return Ok(()),
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}
