//! The local stack with the real artefacts and servers.

#[cfg(test)]
mod doctor;
#[cfg(feature = "qdrant")]
#[cfg(test)]
mod servers;
#[cfg(feature = "qdrant")]
#[cfg(test)]
mod stack;
#[cfg(feature = "qdrant")]
#[cfg(test)]
mod support;
