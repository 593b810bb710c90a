//! The wire: messages generated from `proto/`, subjects, streams, headers, and the way between them and `domain`.

pub mod admission;
#[cfg(test)]
mod compat_tests;
pub mod convert;
mod error;
pub mod headers;
pub mod subjects;
pub mod task;

/// The generated messages, version 1, with serde's implementation of the proto3 JSON mapping.
#[allow(missing_docs, unreachable_pub, reason = "generated; the documentation is in proto/")]
#[allow(clippy::all, clippy::allow_attributes_without_reason, reason = "generated")]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/facewire.v1.rs"));
    include!(concat!(env!("OUT_DIR"), "/facewire.v1.serde.rs"));
}

pub use error::WireError;
pub use headers::{HeaderError, ProducerHeaders};
pub use prost::Message;
