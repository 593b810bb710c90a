//! The local stack with the real artefacts and servers. Mocks must not come in.

#[cfg(test)]
mod artifacts;
#[cfg(test)]
mod servers;
#[cfg(test)]
mod stack;
#[cfg(test)]
mod support;
