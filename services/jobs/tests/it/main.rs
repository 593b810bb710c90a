//! The jobs service against a real NATS, a real Postgres and the local Qdrant.

#[cfg(test)]
mod assigning;
#[cfg(test)]
mod clustering;
#[cfg(test)]
mod erasing;
#[cfg(test)]
mod exporting;
#[cfg(test)]
mod metrics;
#[cfg(test)]
mod prototypes;
#[cfg(test)]
mod stopping;
#[cfg(test)]
mod training;
#[cfg(test)]
mod world;
