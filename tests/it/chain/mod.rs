//! The chain from end to end: every service in this process, on servers of the test's own and with the default models.
//! A crop goes in as a producer would publish it, and the test reads what a consumer would read.

mod asking;
mod bad_input;
mod dead;
mod delivery;
mod device_fault;
mod enrolment;
mod gallery;
mod gates;
mod heads;
mod keeping;
mod meanwhile;
mod migrate;
pub(crate) mod pictures;
mod recognition;
mod reconcile;
mod restart;
pub(crate) mod shot;
pub(crate) mod sql;
mod systemic;
mod thresholds;
pub(crate) mod wiretap;
pub(crate) mod world;

use std::fmt::Debug;
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Longest wait for anything that must come true. Generous: two cores may be shared by a whole test run.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Between two polls of a condition.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Waits until `check` has what is wanted; what it had instead is shown when the time is over.
pub(crate) async fn until<T, E: Debug>(what: &str, mut check: impl AsyncFnMut() -> Result<T, E>) -> T {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        match check().await {
            Ok(done) => return done,
            Err(instead) => assert!(Instant::now() < deadline, "waited in vain for {what}; last seen: {instead:?}"),
        }
        sleep(POLL_INTERVAL).await;
    }
}

/// A future that must end within [`TIMEOUT`].
pub(crate) async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(TIMEOUT, future).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}
