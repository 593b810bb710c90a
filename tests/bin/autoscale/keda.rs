//! How many replicas a stage gets: the arithmetic of KEDA's operator and of the HorizontalPodAutoscaler that it makes, with the
//! defaults of both. Time and lag are arguments: no clock, no server, no process.
//!
//! KEDA looks every `pollingInterval`. It alone goes from zero to the least number, and back to zero. In between the HPA looks
//! every 15 seconds at the same lag, as a target per replica (`AverageValue`).

use std::time::Duration;

/// Between two looks of the HPA (`--horizontal-pod-autoscaler-sync-period`).
pub(crate) const SYNC_PERIOD: Duration = Duration::from_secs(15);

/// The HPA changes nothing while the lag is so near to its target.
const TOLERANCE: f64 = 0.1;

/// The HPA's default policies for more replicas: within a period, the greater of both.
const UP_PERIOD: Duration = Duration::from_secs(15);
const UP_PODS: u32 = 4;
const UP_PERCENT: u32 = 100;

/// What a `ScaledObject` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ScaledObject {
    /// Lag of one replica: `lagThreshold`.
    pub(crate) lag_threshold: u64,
    /// A stage wakes above it: `activationLagThreshold`.
    pub(crate) activation_lag_threshold: u64,
    pub(crate) polling_interval: Duration,
    pub(crate) cooldown_period: Duration,
    /// `behavior.scaleDown.stabilizationWindowSeconds` of the HPA.
    pub(crate) stabilization_window: Duration,
    pub(crate) min_replicas: u32,
    pub(crate) max_replicas: u32,
}

impl ScaledObject {
    /// What the HPA may choose from: it cannot go to zero.
    fn bounds(&self) -> (u32, u32) {
        let least = self.min_replicas.max(1);
        (least, self.max_replicas.max(least))
    }
}

/// One scaled stage.
#[derive(Debug)]
pub(crate) struct Scaler {
    object: ScaledObject,
    replicas: u32,
    /// When KEDA last saw the trigger active.
    active: Option<Duration>,
    /// What the HPA would have done by the lag alone, with the time.
    recommended: Vec<(Duration, u32)>,
    /// Replicas that the HPA added, and that it removed, with the time.
    added: Vec<(Duration, u32)>,
    removed: Vec<(Duration, u32)>,
}

impl Scaler {
    /// A stage at zero.
    pub(crate) fn new(object: ScaledObject) -> Self {
        Self { object, replicas: 0, active: None, recommended: Vec::new(), added: Vec::new(), removed: Vec::new() }
    }

    /// KEDA looks: the replicas from now on.
    pub(crate) fn poll(&mut self, now: Duration, lag: u64) -> u32 {
        let (least, _) = self.object.bounds();
        if lag > self.object.activation_lag_threshold {
            self.active = Some(now);
            if self.replicas == 0 {
                self.replicas = least;
            }
        } else if self.object.min_replicas > 0 {
            self.replicas = self.replicas.max(self.object.min_replicas);
        } else if self.active.is_none_or(|active| active + self.object.cooldown_period < now) {
            self.replicas = 0;
        }
        self.replicas
    }

    /// The HPA looks: the replicas from now on. It is off while there are none.
    pub(crate) fn sync(&mut self, now: Duration, lag: u64) -> u32 {
        if self.replicas == 0 {
            return 0;
        }
        let wanted = self.by_lag(lag);
        let stable = self.stabilized(now, wanted);
        let (least, most) = self.object.bounds();
        let next = stable.min(self.limit(now)).clamp(least, most);
        if next > self.replicas {
            self.added.push((now, next - self.replicas));
        } else if next < self.replicas {
            self.removed.push((now, self.replicas - next));
        }
        self.replicas = next;
        next
    }

    fn by_lag(&self, lag: u64) -> u32 {
        let threshold = self.object.lag_threshold.max(1);
        let ratio = lag as f64 / (threshold as f64 * f64::from(self.replicas));
        if (1.0 - TOLERANCE..=1.0 + TOLERANCE).contains(&ratio) {
            return self.replicas;
        }
        u32::try_from(lag.div_ceil(threshold)).unwrap_or(u32::MAX)
    }

    /// Fewer only where nothing within the window asked for more. The window for more replicas is zero by default.
    fn stabilized(&mut self, now: Duration, wanted: u32) -> u32 {
        let window = self.object.stabilization_window;
        self.recommended.retain(|(at, _)| is_within(window, *at, now));
        let highest = self.recommended.iter().map(|(_, replicas)| *replicas).fold(wanted, u32::max);
        self.recommended.push((now, wanted));
        self.replicas.max(wanted).min(highest)
    }

    /// The most that the policies allow now. Fewer replicas may come at once: the default is 100 % in 15 seconds.
    fn limit(&self, now: Duration) -> u32 {
        let changed = |changes: &[(Duration, u32)]| {
            let within = changes.iter().filter(|(at, _)| is_within(UP_PERIOD, *at, now));
            within.map(|(_, replicas)| *replicas).sum::<u32>()
        };
        let start = (self.replicas + changed(&self.removed)).saturating_sub(changed(&self.added));
        let by_percent = start + (start * UP_PERCENT).div_ceil(100);
        by_percent.max(start + UP_PODS).max(self.replicas)
    }
}

/// Whether it was less than a window ago.
fn is_within(window: Duration, at: Duration, now: Duration) -> bool {
    now.checked_sub(window).is_none_or(|begin| at > begin)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object() -> ScaledObject {
        ScaledObject {
            lag_threshold: 100,
            activation_lag_threshold: 5,
            polling_interval: secs(30),
            cooldown_period: secs(300),
            stabilization_window: secs(300),
            min_replicas: 0,
            max_replicas: 20,
        }
    }

    const fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// One that runs with so many.
    fn with(replicas: u32) -> Scaler {
        Scaler { replicas, ..Scaler::new(object()) }
    }

    #[test]
    fn a_stage_at_zero_wakes_above_the_activation_threshold_and_by_keda_alone() {
        let mut scaler = Scaler::new(object());
        assert_eq!(scaler.sync(secs(0), 9000), 0, "the HPA is off at zero");
        assert_eq!(scaler.poll(secs(0), 5), 0, "at the threshold it sleeps on");
        assert_eq!(scaler.poll(secs(30), 6), 1, "one, however much waits");
        let mut scaler = Scaler::new(ScaledObject { min_replicas: 3, ..object() });
        assert_eq!(scaler.poll(secs(0), 0), 3, "without scale to zero there is always the least number");
    }

    #[test]
    fn it_sleeps_when_nothing_was_there_for_longer_than_the_cooldown() {
        let mut scaler = Scaler::new(object());
        assert_eq!(scaler.poll(secs(0), 50), 1);
        assert_eq!(scaler.poll(secs(30), 0), 1);
        assert_eq!(scaler.poll(secs(300), 0), 1, "exactly the cooldown is not longer");
        assert_eq!(scaler.poll(secs(301), 0), 0);
        let mut scaler = with(7);
        scaler.poll(secs(0), 50);
        assert_eq!(scaler.poll(secs(301), 5), 0, "from any number, and idle up to the activation threshold");
    }

    #[test]
    fn more_replicas_come_by_the_lag_within_the_greater_of_four_and_double_a_period() {
        let mut scaler = with(1);
        assert_eq!(scaler.sync(secs(0), 1900), 5, "four more");
        assert_eq!(scaler.sync(secs(10), 1900), 5, "nothing more within the period");
        assert_eq!(scaler.sync(secs(15), 1900), 10, "double");
        assert_eq!(scaler.sync(secs(30), 1900), 19, "what the lag asks for");
        assert_eq!(scaler.sync(secs(45), 90_000), 20, "the most");
        assert_eq!(with(1).sync(secs(0), 201), 3, "rounded up");
    }

    #[test]
    fn what_is_within_the_tolerance_changes_nothing() {
        assert_eq!(with(10).sync(secs(0), 1100), 10);
        assert_eq!(with(10).sync(secs(0), 1101), 12);
        assert_eq!(with(10).sync(secs(0), 900), 10);
    }

    #[test]
    fn fewer_come_when_nothing_within_the_window_asked_for_more() {
        let mut scaler = with(4);
        assert_eq!(scaler.sync(secs(0), 800), 8);
        assert_eq!(scaler.sync(secs(15), 0), 8);
        assert_eq!(scaler.sync(secs(60), 550), 8);
        assert_eq!(scaler.sync(secs(299), 0), 8);
        assert_eq!(scaler.sync(secs(300), 0), 6, "the highest that is left in the window");
        assert_eq!(scaler.sync(secs(360), 0), 1, "never to zero: that is KEDA's");
    }

    #[test]
    fn what_was_removed_in_the_period_may_come_back() {
        let mut scaler = Scaler { object: ScaledObject { stabilization_window: secs(0), ..object() }, ..with(10) };
        assert_eq!(scaler.sync(secs(0), 200), 2);
        assert_eq!(scaler.sync(secs(5), 2000), 20, "ten ran at the period's start");
    }
}
