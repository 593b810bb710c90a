//! The local stack that needs no Docker (DESIGN §9): pinned artefacts fetched through the package managers' own clients,
//! nats-server and PostgreSQL as child processes that never outlive this one, and Qdrant's protocol served in process
//! over qdrant-edge. The only crate that names qdrant-edge. Services, business rules and clients of the three stores must
//! not come in.
//!
//! Linux only: children are bound to this process by the kernel's parent-death signal.

mod controls;
mod dirs;
mod error;
mod lock;
mod offload;
mod ports;
mod process;

pub mod artifacts;
pub mod doctor;
pub mod nats;
pub mod postgres;
pub mod progress;
pub mod qdrant;
pub mod stack;
pub mod testing;

pub use dirs::default_data_dir;
pub use error::{FetchError, StackError};
pub use stack::{Died, Stack, StackOptions};
