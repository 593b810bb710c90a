//! Hostile input: a seeded corpus of what strangers and broken senders may publish, held against the decoder alone
//! (`pure`) and against the whole chain on real servers (`chain`).
//!
//! `FACEWIRE_SEED` chooses another corpus and `FACEWIRE_HOSTILE` how long it is; a failure's output says both.

mod chain;
mod corpus;
mod dice;
mod jpeg;
mod pictures;
mod png;
mod producer;
mod pure;
mod unreadable;
mod webp;
mod wire;
mod witness;
mod words;

use facewire_composition::Service;

/// The corpus of a run that asks for no other.
const SEED: u64 = 0x00FA_CE31;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is not a number")))
}

/// `FACEWIRE_SEED`, or the usual corpus.
fn seed() -> u64 {
    number("FACEWIRE_SEED").unwrap_or(SEED)
}

/// How often "service started" is said: by each service that [`crate::chain::world::World::start`] starts, once.
fn starts() -> u64 {
    Service::all().len() as u64
}

/// `FACEWIRE_HOSTILE`, or as many inputs as fit into every test run.
fn inputs(usual: u64) -> u64 {
    number("FACEWIRE_HOSTILE").unwrap_or(usual)
}
