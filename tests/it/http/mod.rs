//! The gateway from outside: HTTP to a running gateway, with the whole chain behind it.

mod api;
mod at_once;
mod audited;
mod bounds;
mod client;
mod crowd;
mod dump;
mod erasure;
mod exports;
mod given_back;
mod hash_assets;
mod imports;
mod jobs;
mod least_rights;
mod local;
mod people;
mod roles;
mod safety;
mod shares;
mod sse;
mod story;
mod telling;
mod tenants;
mod tls;
mod world;
