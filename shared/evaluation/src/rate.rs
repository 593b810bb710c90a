//! A share of errors together with the counts behind it, so that nobody quotes a rate that the data cannot support.

use serde::ser::{Serialize, SerializeStruct, Serializer};

/// Errors that a rate needs before it is a fact.
pub const SUPPORTING_ERRORS: u64 = 30;

/// Which share the value of a [`Rate`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Share {
    Errors,
    Successes,
}

/// A share of trials, 0 to 1, and how many errors it rests on. Without a trial the value is that of no error.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// The share, 0 to 1: of errors (FMR, FNMR, FPIR, FNIR), or of successes (TPIR).
    pub value: f64,
    /// Trials that went wrong.
    pub errors: u64,
    /// All trials.
    pub trials: u64,
    share: Share,
}

impl Rate {
    /// An error rate: `errors / trials`.
    pub fn of_errors(errors: u64, trials: u64) -> Self {
        Self { value: share(errors, trials), errors, trials, share: Share::Errors }
    }

    /// A success rate: `1 - errors / trials`.
    pub fn of_successes(errors: u64, trials: u64) -> Self {
        Self { value: 1.0 - share(errors, trials), errors, trials, share: Share::Successes }
    }

    /// At least [`SUPPORTING_ERRORS`] errors are behind it. Otherwise only [`Rate::bound`] may be told.
    pub fn supported(&self) -> bool {
        self.errors >= SUPPORTING_ERRORS
    }

    /// Of an unsupported rate: the one-sided 95 % bound, an upper one of an error rate (3/N without an error), a lower
    /// one of a success rate. The count of errors is taken as Poisson distributed.
    pub fn bound(&self) -> Option<f64> {
        if self.supported() {
            return None;
        }
        let upper = if self.trials == 0 { 1.0 } else { (poisson_upper(self.errors) / self.trials as f64).min(1.0) };
        Some(if self.is_success() { 1.0 - upper } else { upper })
    }

    /// The value is a share of successes, and its bound a lower one.
    pub fn is_success(&self) -> bool {
        self.share == Share::Successes
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Rate", 5)?;
        fields.serialize_field("value", &self.value)?;
        fields.serialize_field("errors", &self.errors)?;
        fields.serialize_field("trials", &self.trials)?;
        fields.serialize_field("supported", &self.supported())?;
        fields.serialize_field("bound", &self.bound())?;
        fields.end()
    }
}

/// How many times as often one fails as the other; `None` where too few errors are behind either.
pub(crate) fn ratio(one: &Rate, other: &Rate) -> Option<f64> {
    (one.supported() && other.supported()).then(|| one.value / other.value)
}

/// `part / whole`, 0 of nothing.
pub(crate) fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// The mean at which `errors` or fewer are seen with a probability of 5 %; 3 without an error, as the rule of three says.
fn poisson_upper(errors: u64) -> f64 {
    if errors == 0 {
        return 3.0;
    }
    let cumulative = |mean: f64| {
        let mut term = (-mean).exp();
        let mut sum = term;
        for k in 1..=errors {
            term *= mean / k as f64;
            sum += term;
        }
        sum
    };
    let (mut low, mut high) = (0.0, 3.0 * errors as f64 + 10.0);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if cumulative(middle) > 0.05 { low = middle } else { high = middle }
    }
    high
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thirty_errors_make_a_fact() {
        assert!(!Rate::of_errors(29, 1000).supported());
        assert!(Rate::of_errors(30, 1000).supported());
        assert_eq!(Rate::of_errors(30, 1000).bound(), None);
        assert_eq!(Rate::of_errors(30, 1000).value, 0.03);
    }

    #[test]
    fn a_ratio_rests_on_thirty_errors_of_either() {
        let (one, other) = (Rate::of_errors(30, 60), Rate::of_errors(50, 500));
        assert_eq!(ratio(&one, &other), Some(5.0));
        assert_eq!(ratio(&Rate::of_errors(29, 60), &other), None);
        assert_eq!(ratio(&one, &Rate::of_errors(29, 500)), None);
    }

    #[test]
    fn no_error_gives_the_rule_of_three() {
        assert_eq!(Rate::of_errors(0, 300).bound(), Some(0.01));
        assert_eq!(Rate::of_successes(0, 300).bound(), Some(0.99));
        assert_eq!(Rate::of_errors(0, 0).bound(), Some(1.0));
        assert_eq!(Rate::of_successes(3, 4).value, 0.25);
    }

    /// scipy.stats.chi2.ppf(0.95, 2 * (n + 1)) / 2
    #[test]
    fn few_errors_give_the_poisson_bound() {
        for (errors, upper) in [(1, 4.743_864_518_390_578), (5, 10.513_034_908_741_46), (29, 39.540_972_243_92)] {
            let bound = Rate::of_errors(errors, 1000).bound().unwrap();
            assert!((bound * 1000.0 - upper).abs() < 1e-8, "{errors}: {bound}");
        }
    }

    #[test]
    fn the_json_tells_whether_it_is_supported() {
        let json = serde_json::to_value(Rate::of_errors(0, 300)).unwrap();
        let expected = serde_json::json!(
            {"value": 0.0, "errors": 0, "trials": 300, "supported": false, "bound": 0.01});
        assert_eq!(json, expected);
    }
}
