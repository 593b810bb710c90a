//! The command line of `health`.

use std::time::Duration;

use clap::{Args, ValueEnum};

use super::duration;

#[derive(Debug, Args)]
pub(crate) struct Health {
    /// What is asked.
    #[arg(value_enum, value_name = "PROBE", default_value_t = Probe::Ready)]
    pub(crate) probe: Probe,
    /// Where the process answers, as http://HOST:PORT (default: `health.listen` of this configuration).
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// Longest wait for the answer.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "5s")]
    pub(crate) timeout: Duration,
}

/// One of the health endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Probe {
    /// /readyz: every service works.
    Ready,
    /// /livez: no service gave up.
    Live,
    /// /startupz: every service has been ready once.
    Startup,
}
