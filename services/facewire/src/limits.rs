//! `--limit NAME=VALUE`: limits of the gate that are asked about. Which there are, and judging by them, is the domain's.

use std::str::FromStr;

use facewire_domain::{Bound, GateLimits};

/// Turns a limit off.
const OFF: &str = "off";

/// `blur=60` or `blur=off`: a limit that is asked about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LimitChange {
    pub(crate) bound: &'static Bound,
    /// `None`: no limit.
    pub(crate) value: Option<f32>,
}

impl LimitChange {
    /// The limits with this one changed.
    pub(crate) fn over(&self, limits: GateLimits) -> GateLimits {
        limits.with(self.bound, self.value)
    }
}

/// Every limit by its name, in the order in which the gate judges.
fn names() -> String {
    Bound::all().map(|bound| bound.name).collect::<Vec<_>>().join(", ")
}

/// The help of `--limit`.
pub(crate) fn help() -> String {
    format!(
        "What if a limit of the gate were another, or off. Faces are judged anew by their stored signals; several together, \
         and each alone. Recognitions gained, and errors, are estimates, from the scores of the newly accepted faces; one that \
         was never embedded has only the early score of its picture. Those lost are counted: faces that were matched. The \
         limits: {}; a value of `{OFF}` is no limit",
        names()
    )
}

impl FromStr for LimitChange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once('=').ok_or("a limit and its value, as in NAME=60")?;
        let bound =
            Bound::named(name.trim()).ok_or_else(|| format!("there is no such limit; the limits are {}", names()))?;
        let value = match value.trim() {
            OFF => None,
            number => Some(number.parse::<f32>().map_err(|_| format!("the value is no number, and not `{OFF}`"))?),
        };
        match value {
            Some(value) if !value.is_finite() || value < 0.0 => Err("the value must be 0 or more".to_owned()),
            _ => Ok(Self { bound, value }),
        }
    }
}

impl std::fmt::Display for LimitChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.value {
            Some(value) => write!(f, "{}={value}", self.bound.name),
            None => write!(f, "{}={OFF}", self.bound.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_named_either_way_and_nonsense_says_what_there_is() {
        for text in ["blur=60", "min_blur = 60"] {
            assert_eq!(text.parse::<LimitChange>().unwrap().to_string(), "blur=60");
        }
        let unknown = "sharpness=3".parse::<LimitChange>().unwrap_err();
        assert!(unknown.contains("too_dark") && unknown.contains("blur"), "{unknown}");
        for wrong in ["blur", "blur=", "blur=much", "blur=-1", "blur=NaN", "blur=inf"] {
            assert!(wrong.parse::<LimitChange>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_limit_can_be_asked_about_as_off() {
        let change: LimitChange = "pitch=off".parse().unwrap();
        assert_eq!(change.to_string(), "pitch=off");
        let limits = GateLimits { max_pitch: Some(45.0), ..GateLimits::OFF };
        assert_eq!(change.over(limits), GateLimits::OFF);
    }
}
