//! The one binary's code: reads the command line, runs a command, turns its error into a message and an exit status. A
//! library of its own, so that it is compiled while the slowest dependency is, and the binary is only linked.

mod cli;
mod commands;

mod endpoints;

mod limits;
#[cfg(feature = "local")]
mod local;

mod output;
mod signals;
mod urls;

use std::process::ExitCode;

/// What the process does. The status is of `output::Exit`.
pub fn main() -> ExitCode {
    let cli = cli::Cli::read();
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(workers()).enable_all();
    let runtime = match builder.build() {
        Ok(runtime) => runtime,
        Err(error) => return output::fail(&anyhow::anyhow!("the async runtime cannot start: {error}")),
    };
    match runtime.block_on(commands::run(cli)) {
        Ok(exit) => exit.into(),
        Err(error) => output::fail(&error),
    }
}

/// Decoding, hashing and inference have threads of their own, as many as there are cores; the runtime only moves messages.
/// A worker on every core would cost those threads a context switch a message (measured on two cores: 12 % fewer switches).
fn workers() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get).div_ceil(4)
}
