//! Numbers and texts as the page shows them.

use crate::bootstrap::Interval;
use crate::rate::Rate;

/// Text that cannot become markup.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// 29600000 → 29,600,000.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A share in per cent; below 0.01 % as a power of ten.
pub(super) fn percent(share: f64) -> String {
    let size = share.abs();
    if size == 0.0 || size >= 0.1 {
        format!("{:.1} %", share * 100.0)
    } else if size >= 0.001 {
        format!("{:.2} %", share * 100.0)
    } else if size >= 1e-4 {
        format!("{:.3} %", share * 100.0)
    } else {
        format!("{share:.1e}")
    }
}

/// A rate, or, where too few errors are behind it, what can be said instead.
pub(super) fn rate(rate: &Rate) -> String {
    let Some(bound) = rate.bound() else {
        return format!("{} ({} of {})", percent(rate.value), count(counted(rate)), count(rate.trials));
    };
    if rate.trials == 0 {
        return "not measured".to_owned();
    }
    let errors = if rate.errors == 1 { "error" } else { "errors" };
    let side = if rate.is_success() { "at least" } else { "at most" };
    let (seen, trials) = (count(rate.errors), count(rate.trials));
    format!("unsupported ({seen} {errors}); of {trials} {side} {} at 95 %", percent(bound))
}

/// What the value counts: errors, or trials without one.
fn counted(rate: &Rate) -> u64 {
    if rate.is_success() { rate.trials.saturating_sub(rate.errors) } else { rate.errors }
}

pub(super) fn interval(interval: Option<Interval>) -> String {
    interval.map_or_else(|| "–".to_owned(), |i| format!("{} to {}", percent(i.low), percent(i.high)))
}

pub(super) fn optional(number: Option<f64>, digits: usize) -> String {
    number.map_or_else(|| "–".to_owned(), |number| format!("{number:.digits$}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!([count(0), count(999), count(1000), count(29_600_000)], ["0", "999", "1,000", "29,600,000"]);
        assert_eq!(
            [percent(0.5), percent(0.023), percent(5.4e-4), percent(1e-6)],
            ["50.0 %", "2.30 %", "0.054 %", "1.0e-6"]
        );
    }

    #[test]
    fn an_unsupported_rate_is_no_fact() {
        assert_eq!(rate(&Rate::of_errors(186, 8101)), "2.30 % (186 of 8,101)");
        assert_eq!(rate(&Rate::of_successes(50, 200)), "75.0 % (150 of 200)");
        assert_eq!(rate(&Rate::of_errors(0, 3000)), "unsupported (0 errors); of 3,000 at most 0.10 % at 95 %");
        assert_eq!(rate(&Rate::of_successes(0, 300)), "unsupported (0 errors); of 300 at least 99.0 % at 95 %");
        assert!(rate(&Rate::of_errors(1, 100)).starts_with("unsupported (1 error);"));
        assert_eq!(rate(&Rate::of_errors(0, 0)), "not measured");
    }

    #[test]
    fn markup_is_text() {
        assert_eq!(escape("<a href='x'>\"&"), "&lt;a href=&#39;x&#39;&gt;&quot;&amp;");
    }
}
