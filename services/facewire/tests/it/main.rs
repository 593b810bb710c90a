//! The binary as it is deployed: each service a process of its own, seen from outside by what operators run: a collector
//! and Prometheus; and the commands that say why, as operators run them. What the chain decides is tested elsewhere.

#[cfg(test)]
mod calibrate;
#[cfg(test)]
mod commands;
#[cfg(test)]
mod corrections;
#[cfg(test)]
mod dashboards;
#[cfg(test)]
mod deployment;
#[cfg(test)]
mod evaluate;
#[cfg(test)]
mod export;
#[cfg(test)]
mod insight;
#[cfg(test)]
mod jobs;
#[cfg(test)]
mod keys;
#[cfg(test)]
mod lags;
#[cfg(test)]
mod models;
#[cfg(test)]
mod nats_config;
#[cfg(test)]
mod people;
#[cfg(test)]
mod prometheus;
#[cfg(test)]
mod reembed;
#[cfg(test)]
mod signals;
#[cfg(test)]
mod stats;
#[cfg(test)]
mod traces;
#[cfg(test)]
mod use_head;
