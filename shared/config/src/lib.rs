//! Loading of configuration: a TOML file, `FACEWIRE__…` variables over it, unknown keys refused; and secrets that
//! cannot be printed.

mod load;
mod secret;

pub use load::{ConfigError, load};
pub use secret::Secret;

/// `humantime` text in configuration (`30s`, `5m`), for `#[serde(with = …)]`.
pub use humantime_serde as duration;
