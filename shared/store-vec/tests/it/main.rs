//! The client against a Qdrant that runs: the local one always, and a real server where `FACEWIRE_TEST_QDRANT_URL` names
//! one (each test in a collection of its own, removed afterwards).

mod durability;
mod operations;
mod outage;
mod search;
mod support;
