//! Waiting out a transient fault in place: the item stays in hand, the full inbox behind it stops the pulling, and no
//! delivery attempt is burnt. Which errors are transient is the caller's knowledge.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::watch;

/// Pauses that double from `first` to `max`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backoff {
    /// The first pause.
    pub first: Duration,
    /// No pause is longer.
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_millis(50), max: Duration::from_secs(5) }
    }
}

impl Backoff {
    /// The pause before try `n + 1`, after `n` failures (0 counts as the first).
    pub fn pause(&self, failures: u32) -> Duration {
        self.first.saturating_mul(2u32.saturating_pow(failures.min(20))).min(self.max)
    }
}

/// Calls `operation` until it succeeds, fails for good, or `stop` is cancelled; then the last error comes back.
/// `on_retry` hears of each transient failure.
pub async fn retry<T, E, F>(
    backoff: Backoff,
    stop: &CancellationToken,
    transient: impl Fn(&E) -> bool,
    on_retry: impl Fn(&E, u32),
    mut operation: impl FnMut() -> F,
) -> Result<T, E>
where
    F: Future<Output = Result<T, E>>,
{
    let mut failures = 0;
    loop {
        match operation().await {
            Err(error) if transient(&error) => {
                on_retry(&error, failures);
                watch::sign();
                tokio::select! {
                    () = stop.cancelled() => return Err(error),
                    () = tokio::time::sleep(backoff.pause(failures)) => failures += 1,
                }
            }
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    const QUICK: Backoff = Backoff { first: Duration::from_nanos(1), max: Duration::from_micros(1) };

    #[tokio::test]
    async fn it_waits_out_what_is_transient_and_nothing_else() {
        let calls = Cell::new(0);
        let never = CancellationToken::new();
        let result = retry(
            QUICK,
            &never,
            |e: &&str| *e == "down",
            |_, _| {},
            || {
                calls.set(calls.get() + 1);
                let answer = match calls.get() {
                    1..=3 => Err("down"),
                    _ => Err("wrong"),
                };
                async move { answer as Result<(), _> }
            },
        );
        assert_eq!(result.await, Err("wrong"));
        assert_eq!(calls.get(), 4);
    }

    #[tokio::test]
    async fn a_shutdown_ends_the_wait() {
        let stop = CancellationToken::new();
        stop.cancel();
        let patient = Backoff { first: Duration::from_secs(3600), max: Duration::from_secs(3600) };
        let result = retry(patient, &stop, |_: &&str| true, |_, _| {}, || async { Err::<(), _>("down") }).await;
        assert_eq!(result, Err("down"));
    }

    #[test]
    fn pauses_are_bounded() {
        let backoff = Backoff::default();
        assert_eq!(backoff.pause(0), backoff.first);
        assert_eq!(backoff.pause(1), backoff.first * 2);
        assert_eq!(backoff.pause(u32::MAX), backoff.max);
    }
}
