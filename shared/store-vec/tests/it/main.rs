//! The client against a Qdrant that runs: the local one always, and a real server where `FACEWIRE_TEST_QDRANT_URL` (and
//! `FACEWIRE_TEST_QDRANT_API_KEY`, where it needs one) names one (each test under an alias of its own, removed afterwards).

#[cfg(test)]
mod answers;
#[cfg(test)]
mod collections;
#[cfg(test)]
mod durability;
#[cfg(test)]
mod neighbours;
#[cfg(test)]
mod operations;
#[cfg(test)]
mod outage;
#[cfg(test)]
mod quantized;
#[cfg(test)]
mod search;
#[cfg(test)]
mod support;
#[cfg(test)]
mod tls;
