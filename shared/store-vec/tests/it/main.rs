//! The client against a Qdrant that runs: the local one always, and a real server where `FACEWIRE_TEST_QDRANT_URL` names
//! one (each test in a collection of its own, removed afterwards).

#[cfg(test)]
mod durability;
#[cfg(test)]
mod operations;
#[cfg(test)]
mod outage;
#[cfg(test)]
mod search;
#[cfg(test)]
mod support;
