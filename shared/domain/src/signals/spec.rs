//! What a row of the table holds, and what can be asked of it. No signal is named here.

use super::{GateLimits, GateOverride, Quality, Signal};
use crate::outcome::{Detail, Reason, decimal};

/// A signal's row.
#[derive(Debug)]
pub struct SignalSpec {
    /// Which.
    pub signal: Signal,
    /// In JSON, SQL and metrics: `blur`.
    pub name: &'static str,
    /// The object that holds it in JSON, where one does: `pose`.
    pub group: Option<&'static str>,
    /// For people: `face size`.
    pub label: &'static str,
    /// One of its unit: `pixel`; empty where it has none.
    pub unit: &'static str,
    /// What is measured.
    pub help: &'static str,
    /// Judged, counted and shown without its sign.
    pub magnitude: bool,
    /// Of its histogram.
    pub buckets: &'static [f64],
    /// The gate's limits of it, the lower one first; none where it is not judged.
    pub bounds: &'static [Bound],
}

/// Which values a limit accepts; the limit itself always.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// From the limit up.
    Min,
    /// Up to the limit; of a signal that is judged by magnitude, either way from zero.
    Max,
}

/// One limit of the gate.
#[derive(Debug)]
pub struct Bound {
    /// What it judges.
    pub signal: Signal,
    /// Which values it accepts.
    pub side: Side,
    /// In the configuration: `min_blur`.
    pub key: &'static str,
    /// For people and `--limit`: `too_dark`. Refusals name it, or its group with this as the message (`pose`, `yaw`).
    pub name: &'static str,
    /// Of a refusal.
    pub reason: Reason,
    /// Whether it judges the faces of a frame as well.
    pub in_frames: bool,
    /// What it is for, and the evidence for its default.
    pub help: &'static str,
    /// What a person may do about it.
    pub advice: &'static str,
    pub(crate) get: fn(&GateLimits) -> Option<f32>,
    pub(crate) set: fn(&mut GateLimits, Option<f32>),
    pub(crate) own: fn(&GateOverride) -> Option<Option<f32>>,
    pub(crate) set_own: fn(&mut GateOverride, Option<Option<f32>>),
}

impl Signal {
    /// By its name in JSON, SQL and metrics.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|signal| signal.name() == name)
    }

    /// In JSON, SQL and metrics.
    pub fn name(self) -> &'static str {
        self.spec().name
    }
}

impl std::fmt::Display for Signal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl SignalSpec {
    /// The label with the unit: `face size, pixels`.
    pub fn title(&self) -> String {
        if self.unit.is_empty() { self.label.to_owned() } else { format!("{}, {}s", self.label, self.unit) }
    }

    /// Its value in the JSON of a [`Quality`], as an RFC 6901 pointer: `/pose/yaw`.
    pub fn pointer(&self) -> String {
        match self.group {
            Some(group) => format!("/{group}/{}", self.name),
            None => format!("/{}", self.name),
        }
    }

    /// The value that is judged and counted.
    pub fn judged(&self, quality: &Quality) -> f32 {
        let value = quality.get(self.signal);
        if self.magnitude { value.abs() } else { value }
    }
}

impl Bound {
    /// All of them, in the order in which the gate judges.
    pub fn all() -> impl Iterator<Item = &'static Bound> {
        Signal::ALL.into_iter().flat_map(|signal| signal.spec().bounds)
    }

    /// The limit of that name or configuration key.
    pub fn named(name: &str) -> Option<&'static Self> {
        Self::all().find(|bound| bound.name == name || bound.key == name)
    }

    /// The limit that a stored detail is about; `None` where it is about something else.
    pub fn of_detail(detail: &Detail) -> Option<&'static Self> {
        let signal = detail.signal.as_deref()?;
        Self::all().find(|bound| match bound.signal.spec().group {
            Some(group) => group == signal && detail.message.as_deref() == Some(bound.name),
            None => bound.name == signal,
        })
    }

    /// What a refusal says of it.
    pub(crate) fn detail(&self, value: f32, limit: Option<f32>) -> Detail {
        let group = self.signal.spec().group;
        Detail {
            signal: Some(group.unwrap_or(self.name).to_owned()),
            value: Some(decimal(value)),
            limit: limit.map(decimal),
            message: group.map(|_| self.name.to_owned()),
            ..Detail::default()
        }
    }

    /// Whether a value keeps to a limit. What is no number keeps to none.
    pub(crate) fn accepts(&self, value: f32, limit: f32) -> bool {
        match self.side {
            Side::Min => value >= limit,
            Side::Max => value <= limit,
        }
    }
}

impl PartialEq for Bound {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for Bound {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_and_keys_are_unique_and_rows_are_in_the_order_of_signals() {
        let names: Vec<&str> = Bound::all().flat_map(|bound| [bound.name, bound.key]).collect();
        assert_eq!(names.len(), names.iter().collect::<HashSet<_>>().len(), "{names:?}");
        for (index, signal) in Signal::ALL.into_iter().enumerate() {
            assert_eq!((signal.spec().signal, signal as usize), (signal, index));
            assert!(signal.spec().buckets.is_sorted_by(|a, b| a < b), "{signal}");
            assert_eq!(signal.spec().help.trim(), signal.spec().help);
        }
        for bound in Bound::all() {
            assert!(!bound.help.is_empty() && !bound.advice.is_empty(), "{}", bound.key);
            assert_eq!(Bound::named(bound.key), Some(bound));
            assert_eq!(Bound::named(bound.name), Some(bound));
            assert_eq!(Bound::of_detail(&bound.detail(1.0, None)), Some(bound));
        }
    }

    #[test]
    fn other_details_are_about_no_limit() {
        for other in [Detail::limit("bytes", 2.0, 1.0), Detail::message("yaw"), Detail::limit("pose", 1.0, 2.0)] {
            assert_eq!(Bound::of_detail(&other), None, "{other:?}");
        }
    }

    #[test]
    fn a_title_has_the_unit() {
        let titles = [Signal::FaceSize, Signal::Yaw, Signal::Blur].map(|signal| signal.spec().title());
        assert_eq!(titles, ["face size, pixels", "yaw, degrees", "blur (sharpness)"]);
    }
}
