//! How many requests a key, or an address without one, may send in a second.

use std::net::IpAddr;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use uuid::Uuid;

use crate::error::{ApiError, Code};
use crate::options::Options;

/// Keys and addresses that are remembered before those that are idle are forgotten.
const FORGET_ABOVE: usize = 10_000;

/// The limits of one process.
pub(crate) struct Rates {
    keys: DefaultKeyedRateLimiter<Uuid>,
    addresses: DefaultKeyedRateLimiter<Option<IpAddr>>,
    clock: DefaultClock,
}

impl Rates {
    pub(crate) fn new(options: &Options) -> Self {
        let quota = Quota::per_second(options.rate).allow_burst(options.burst);
        Self { keys: RateLimiter::keyed(quota), addresses: RateLimiter::keyed(quota), clock: DefaultClock::default() }
    }

    /// One request more of a key.
    pub(crate) fn key(&self, key: Uuid) -> Result<(), ApiError> {
        self.check(&self.keys, &key)
    }

    /// One request more of an address.
    pub(crate) fn address(&self, address: Option<IpAddr>) -> Result<(), ApiError> {
        self.check(&self.addresses, &address)
    }

    fn check<K: std::hash::Hash + Eq + Clone>(
        &self,
        limiter: &DefaultKeyedRateLimiter<K>,
        key: &K,
    ) -> Result<(), ApiError> {
        if limiter.len() > FORGET_ABOVE {
            limiter.retain_recent();
        }
        limiter.check_key(key).map_err(|not_until| {
            let after = not_until.wait_time_from(self.clock.now());
            ApiError::new(Code::RateLimited, "too many requests: gateway.rate and gateway.burst limit them")
                .retry_after(after)
        })
    }
}

impl std::fmt::Debug for Rates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Rates")
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    #[test]
    fn a_burst_passes_and_one_more_is_told_when() {
        let two = NonZeroU32::new(2).unwrap();
        let rates = Rates::new(&Options { rate: NonZeroU32::MIN, burst: two, ..Options::default() });
        let (a, b) = (Uuid::from_u128(1), Uuid::from_u128(2));
        assert!(rates.key(a).is_ok() && rates.key(a).is_ok());
        let refused = rates.key(a).unwrap_err();
        assert_eq!(refused.code, Code::RateLimited);
        assert!(refused.retry_after.is_some());
        assert!(rates.key(b).is_ok(), "another key has a limit of its own");
    }
}
