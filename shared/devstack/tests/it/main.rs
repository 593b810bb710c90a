//! The local stack with the real artefacts and servers.

#[cfg(test)]
mod doctor;
#[cfg(all(test, feature = "qdrant"))]
mod servers;
#[cfg(all(test, feature = "qdrant"))]
mod stack;
#[cfg(all(test, feature = "qdrant"))]
mod support;
