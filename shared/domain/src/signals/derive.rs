//! The macro that turns the rows of the table into types. No signal is named here.

macro_rules! signals {
    (
        ($d:tt)
        $(
            $(#[doc = $help:literal])+
            $signal:ident = $name:ident $(in $group:ident)? {
                label: $label:literal, unit: $unit:literal, magnitude: $magnitude:literal,
                buckets: $buckets:expr,
                $(
                    $(#[doc = $why:literal])+
                    $side:ident $key:ident {
                        name: $bound:literal, reason: $reason:ident, default: $default:expr, in_frames: $in_frames:literal,
                        advice: $advice:literal $(,)?
                    }
                )*
            }
        )+
    ) => {
        /// One thing that is measured on a face.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Signal { $($(#[doc = $help])+ $signal),+ }

        impl Signal {
            /// Every signal, in the order in which the gate judges.
            pub const ALL: [Signal; [$(stringify!($name)),+].len()] = [$(Signal::$signal),+];

            /// Its row of the table.
            pub fn spec(self) -> &'static SignalSpec {
                match self {
                    $(Signal::$signal => {
                        static SPEC: SignalSpec = SignalSpec {
                            signal: Signal::$signal,
                            name: stringify!($name),
                            group: [$(Some(stringify!($group)),)? None][0],
                            label: $label,
                            unit: $unit,
                            help: concat!($($help),+).trim_ascii(),
                            magnitude: $magnitude,
                            buckets: $buckets,
                            bounds: &[$(Bound {
                                signal: Signal::$signal,
                                side: Side::$side,
                                key: stringify!($key),
                                name: $bound,
                                reason: Reason::$reason,
                                in_frames: $in_frames,
                                help: concat!($($why),+).trim_ascii(),
                                advice: $advice,
                                get: |limits| limits.$key,
                                set: |limits, value| limits.$key = value,
                                own: |own| own.$key,
                                set_own: |own, value| own.$key = value,
                            }),*],
                        };
                        &SPEC
                    })+
                }
            }
        }

        /// Everything that is measured on a face.
        ///
        /// In JSON an object of these names, the angles in an object of their own (DESIGN §4). A signal that a stored one
        /// lacks, or that was no number, is NaN.
        #[derive(Debug, Clone, Copy, PartialEq, Default)]
        pub struct Quality { $($(#[doc = $help])+ pub $name: f32),+ }

        impl Quality {
            /// One value.
            pub fn get(&self, signal: Signal) -> f32 {
                match signal { $(Signal::$signal => self.$name),+ }
            }

            /// Asks for each signal's value.
            pub fn from_fn(mut value: impl FnMut(Signal) -> f32) -> Self {
                Self { $($name: value(Signal::$signal)),+ }
            }
        }

        /// What a collection accepts. `None` is no limit, in the configuration `"off"`: then the signal is measured, and on
        /// that side not judged.
        #[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct GateLimits { $($($(#[doc = $why])+ #[serde(with = "limit")] pub $key: Option<f32>,)*)+ }

        impl GateLimits {
            /// No limit at all: every face passes.
            pub const OFF: Self = Self { $($($key: None,)*)+ };
        }

        impl Default for GateLimits {
            fn default() -> Self {
                Self { $($($key: $default,)*)+ }
            }
        }

        /// Limits of one collection; what is not set is as for every collection, and `Some(None)` (`"off"`) turns a limit
        /// off there. Fields as in [`GateLimits`].
        #[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct GateOverride {
            $($(
                #[doc = concat!("See [`GateLimits::", stringify!($key), "`].")]
                #[serde(with = "limit::overriding", skip_serializing_if = "Option::is_none")]
                pub $key: Option<Option<f32>>,
            )*)+
        }

        impl GateOverride {
            /// No limit at all, whatever the others have.
            pub const OFF: Self = Self { $($($key: Some(None),)*)+ };

            /// The limits with these over them.
            pub fn over(&self, limits: GateLimits) -> GateLimits {
                GateLimits { $($($key: self.$key.unwrap_or(limits.$key),)*)+ }
            }
        }

        /// Hands every signal's place, `[name]` or `[group name]`, to a macro of the caller, in the table's order: for
        /// types of other crates that have a field of each name.
        #[macro_export]
        macro_rules! for_each_signal {
            ($d callback:ident) => { $d callback! { $([$($group)? $name])+ } };
        }
    };
}
