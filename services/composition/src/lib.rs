//! The services put together: one configuration, one table of services, and running several of them in one process. This
//! is the only library where services meet; the binary and the end-to-end tests are built on it.
//!
//! Where to add what: a service's options in [`Config`], its line in the table in `service.rs`, its rights on NATS in
//! `access/`. Command lines, help texts,
//! health and the tests' processes are derived from the table.

use std::pin::Pin;

pub mod access;
mod config;
pub mod heads;
mod health;
mod migrate;
pub mod models;
mod parts;
mod run;
mod service;

pub use config::{Config, ModelStages, Models, ShutdownOptions, StageModels};
pub use facewire_embed_gpu::MakeEmbedder;
pub use health::{Endpoint, Options as HealthOptions};
pub use migrate::{Change, check, ensure_index, equalise_roles, migrate, migrate_roles, plan, plan_roles};
pub use models::Chain;
pub use parts::{Index, Parts};
pub use run::{Running, run, start};
pub use service::{Needs, Service, gateway, reconciler};

/// What is compiled here and not once more in every crate that awaits it, as an `async fn` would be.
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = anyhow::Result<T>> + Send + 'a>>;
