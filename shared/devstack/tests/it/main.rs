//! The local stack with the real artefacts and servers. Mocks must not come in.

mod artifacts;
mod servers;
mod stack;
mod support;
