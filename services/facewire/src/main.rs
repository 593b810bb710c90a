//! The one binary: reads the command line, runs a command, turns its error into words and an exit status. No logic here.

mod cli;
mod commands;
mod compose;
mod config;
mod endpoints;
mod local;
mod models;
mod output;
mod signals;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return output::fail(&anyhow::anyhow!("the async runtime cannot start: {error}")),
    };
    match runtime.block_on(commands::run(cli)) {
        Ok(exit) => exit.into(),
        Err(error) => output::fail(&error),
    }
}
