//! The arguments of `facewire bench`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Args)]
pub(crate) struct Bench {
    #[command(subcommand)]
    pub(crate) command: BenchCommand,
    /// One JSON object, with a list of measurements.
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct PipelineBench {
    /// Crops to send of each mix.
    #[arg(long, default_value_t = 2_000)]
    pub(crate) crops: usize,
    /// What the crops show: `clean` photos, what the demo's four `cameras` send, `tight` cuts at the detector's box.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = MixName::all())]
    pub(crate) mix: Vec<MixName>,
    /// People in the gallery.
    #[arg(long, default_value_t = 100_000)]
    pub(crate) gallery: usize,
    /// A Python with numpy, onnxruntime and opencv, for a loop with the same models beside (`python3` unless named).
    #[arg(long, value_name = "FILE")]
    pub(crate) python: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct HttpBench {
    /// Clients that send at a time.
    #[arg(long, default_value_t = 64)]
    pub(crate) clients: usize,
    /// How long they send, over all turns.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = humantime::parse_duration)]
    pub(crate) time: std::time::Duration,
    /// People in the gallery.
    #[arg(long, default_value_t = 2_000)]
    pub(crate) gallery: usize,
}

/// What the crops of a bench show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum MixName {
    /// Photos as they are.
    Clean,
    /// What four cameras send: clean, blurred, dark, small and tilted.
    Cameras,
    /// Cut at the detector's box.
    Tight,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum BenchCommand {
    /// Crops per second end to end, compared with the same work in a bare loop on all cores and in a Python loop.
    Pipeline(PipelineBench),
    /// Requests per second of many clients of the HTTP gateway, compared with the same crops over NATS, and what HTTP adds to a
    /// single request.
    Http(HttpBench),
    /// The chain with traces, metrics and logs exported, compared with the same chain without export.
    Telemetry {
        /// Crops to send on each side.
        #[arg(long, default_value_t = 4_000)]
        crops: usize,
    },
    /// The chain with a model that costs nothing, compared with one JetStream hop with the same payload.
    Bus {
        /// Crops to send.
        #[arg(long, default_value_t = 20_000)]
        crops: usize,
    },
    /// Faces per second, compared with bare ONNX Runtime at its best batch size and thread count.
    Embed {
        /// Faces to embed, at least. Each side runs for 10 seconds or more.
        #[arg(long, default_value_t = 600)]
        faces: usize,
    },
    /// Pictures per second through `facewire evaluate`, compared with the same work in a bare loop on all cores.
    Evaluate {
        /// Your own pictures (default: the samples).
        #[arg(long = "pictures", value_name = "DIR")]
        folder: Option<PathBuf>,
        /// Pictures to process on each side, over all turns; they are repeated as needed.
        #[arg(long, default_value_t = 600)]
        count: usize,
    },
}
