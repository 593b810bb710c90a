//! `facewire bench`: numbers that mean something anywhere, since each comes with a limit taken in the same run on the same
//! machine, and the ratio to it.

mod bare;
mod bus;
mod embed;
mod evaluate;
mod gallery;
mod http;
mod load;
mod memory;
mod mixes;
mod pipeline;
mod python;
mod telemetry;
mod zero;

use std::collections::BTreeMap;
use std::io::IsTerminal;

use facewire_composition::Config;
use facewire_devstack::StackOptions;
use facewire_runtime::Shutdown;
use serde::Serialize;
use serde_json::json;

use super::progress;
use super::scratch::{BENCH, PASSABLE, STACK, Scratch};
use crate::cli::{Bench, BenchCommand};
use crate::local::Local;
use crate::output::{self, Exit};
use crate::signals;

/// One measurement.
#[derive(Debug, Serialize)]
pub(super) struct Measurement {
    bench: &'static str,
    unit: &'static str,
    /// What Facewire did.
    value: f64,
    /// What the machine can do, in the same unit.
    limit: f64,
    /// How the limit was taken.
    limit_is: String,
    ratio: f64,
    /// What the crops show, where that can be chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    mix: Option<&'static str>,
    /// What else did the same in the same run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    references: Vec<Reference>,
    /// What became of the items.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    statuses: BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<memory::Memory>,
    items: usize,
}

/// Another way to do the same.
#[derive(Debug, Serialize)]
pub(super) struct Reference {
    name: String,
    /// In the measurement's unit.
    value: f64,
    /// Facewire's value as a multiple of it.
    ratio: f64,
}

impl Measurement {
    fn new(bench: &'static str, unit: &'static str, items: usize, value: f64, limit: f64, limit_is: String) -> Self {
        let (mix, references, statuses, memory) = Default::default();
        Self { bench, unit, value, limit, limit_is, ratio: value / limit, mix, references, statuses, memory, items }
    }
}

pub(crate) async fn run(config: Config, args: &Bench) -> anyhow::Result<Exit> {
    let shutdown = Shutdown::new(config.shutdown.grace);
    signals::listen(shutdown.clone())?;
    let measured = match args.command.clone() {
        BenchCommand::Pipeline(args) => pipeline::run(config, &args, shutdown).await?,
        BenchCommand::Http(args) => http::run(config, &args, shutdown).await?,
        BenchCommand::Telemetry { crops } => vec![telemetry::run(config, crops.max(1), shutdown).await?],
        BenchCommand::Bus { crops } => vec![bus::run(config, crops.max(1), shutdown).await?],
        BenchCommand::Embed { faces } => vec![embed::run(config, faces.max(1), shutdown).await?],
        BenchCommand::Evaluate { folder, count } => vec![evaluate::run(config, folder, count.max(1), shutdown).await?],
    };
    if args.json {
        output::json(&as_json(&measured))?;
    } else {
        measured.iter().for_each(show);
    }
    Ok(Exit::Success)
}

/// One object, however many measurements a bench makes.
fn as_json(measured: &[Measurement]) -> serde_json::Value {
    json!({ "measurements": measured })
}

fn show(m: &Measurement) {
    let mix = m.mix.map(|mix| format!(", {mix} crops")).unwrap_or_default();
    output::line(format_args!("{} over {} items{mix}", m.bench, m.items));
    output::line(format_args!("  facewire  {:10.1} {}", m.value, m.unit));
    output::line(format_args!("  limit     {:10.1} {}  ({})", m.limit, m.unit, m.limit_is));
    output::line(format_args!("  ratio     {:10.3}", m.ratio));
    for Reference { name, value, ratio } in &m.references {
        output::line(format_args!("  beside    {value:10.1} {}  ({name}); {ratio:.2} times as many", m.unit));
    }
    for (status, count) in &m.statuses {
        output::line(format_args!("  ended     {count:10} {status}"));
    }
    if let Some(memory) = &m.memory {
        output::line(format_args!(
            "  memory    {:10.0} MiB peak; {:.0} MiB after a quarter, {:.0} MiB at the end",
            memory.peak_mib, memory.quarter_mib, memory.end_mib
        ));
    }
}

/// Whether the servers wait for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Durability {
    /// As in production.
    Synced,
    /// What is measured is not the disk.
    Unsynced,
}

/// A stack of its own that is thrown away, and its directory, which has to go after it: variables are dropped last to first. Of
/// other servers nothing stays in the configuration.
async fn stack(config: &mut Config, durability: Durability, shutdown: &Shutdown) -> anyhow::Result<(Scratch, Local)> {
    let directory = Scratch::temporary(BENCH, PASSABLE)?;
    let durable = durability == Durability::Synced;
    let options = StackOptions { durable, ..StackOptions::new(directory.path().join(STACK)) };
    let report = progress::fetching(std::io::stderr().is_terminal());
    let local = Local::alone(config, options, report, shutdown.clone()).await?;
    Ok((directory, local))
}

fn per_second(items: usize, elapsed: std::time::Duration) -> f64 {
    items as f64 / elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_bench_measures_is_one_object() {
        let measured = ["clean", "tight"].map(|mix| {
            let measurement = Measurement::new("pipeline", "crops/s", 10, 3.0, 4.0, "a bare loop".to_owned());
            Measurement { mix: Some(mix), ..measurement }
        });
        let told = as_json(&measured);
        let of = |number: usize, key: &str| told["measurements"][number][key].clone();
        let found = [of(0, "mix"), of(1, "mix"), of(1, "ratio")];
        assert_eq!(found, [json!("clean"), json!("tight"), json!(0.75)], "{told}");
    }
}
