//! The gate's limits by collection.

use std::collections::HashMap;

use facewire_domain::{CollectionId, GateLimits};
use serde::{Deserialize, Serialize};

macro_rules! overrides {
    ($($field:ident),+ $(,)?) => {
        /// Limits of one collection; what is not set is as for every collection. Fields as in `GateLimits`.
        #[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct GateOverride {
            $(
                #[doc = concat!("See `GateLimits::", stringify!($field), "`.")]
                #[serde(skip_serializing_if = "Option::is_none")]
                pub $field: Option<f32>,
            )+
        }

        impl GateOverride {
            /// The limits with these over them.
            pub fn over(&self, limits: GateLimits) -> GateLimits {
                GateLimits { $($field: self.$field.unwrap_or(limits.$field)),+ }
            }
        }
    };
}

overrides!(
    min_face_size,
    min_landmarks_score,
    min_blur,
    min_brightness,
    max_brightness,
    min_face_ratio,
    max_yaw,
    max_pitch,
    max_roll,
);

/// The limits of every collection.
#[derive(Debug, Clone)]
pub struct Gate {
    common: GateLimits,
    own: HashMap<String, GateLimits>,
}

impl Gate {
    /// `overrides` lie over `common`.
    pub fn new(common: GateLimits, overrides: &HashMap<CollectionId, GateOverride>) -> Self {
        let own = overrides.iter().map(|(id, o)| (id.as_str().to_owned(), o.over(common))).collect();
        Self { common, own }
    }

    /// What a collection accepts.
    pub fn limits(&self, collection: &str) -> GateLimits {
        self.own.get(collection).copied().unwrap_or(self.common)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collection_changes_only_what_it_says() {
        let strict = GateOverride { min_blur: Some(500.0), ..GateOverride::default() };
        let gate = Gate::new(GateLimits::default(), &HashMap::from([("vault".parse().unwrap(), strict)]));
        assert_eq!(gate.limits("lobby"), GateLimits::default());
        let vault = gate.limits("vault");
        assert_eq!(vault, GateLimits { min_blur: 500.0, ..GateLimits::default() });
    }
}
