//! The local stack that needs no Docker (DESIGN §10): nats-server and PostgreSQL as child processes that never outlive
//! this one, and, with the feature `qdrant`, Qdrant's protocol served in process over qdrant-edge. The only crate that
//! names qdrant-edge. A production build links none of it.
//!
//! Without the feature there are single servers for tests; with it also [`Stack`](stack::Stack), which is all three.
//! qdrant-edge takes minutes to compile, so a crate whose tests need no vector index leaves the feature out.

mod controls;
mod dirs;
mod error;
mod lock;
mod ports;
mod process;
#[cfg(feature = "qdrant")]
mod qdrant_port;

pub mod doctor;
pub mod nats;
pub mod postgres;
#[cfg(feature = "qdrant")]
pub mod qdrant;
#[cfg(feature = "qdrant")]
pub mod stack;
pub mod testing;

pub use error::StackError;
pub use ports::free_address;
pub use process::Died;
#[cfg(feature = "qdrant")]
pub use stack::{Stack, StackOptions};
