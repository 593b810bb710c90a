//! The stage against a real NATS and a real Postgres.

#[cfg(test)]
mod record;
#[cfg(test)]
mod world;
