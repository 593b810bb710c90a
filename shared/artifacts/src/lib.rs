//! Pinned artefacts (DESIGN §10): servers, ONNX Runtime, models and sample faces, fetched once through the package
//! managers' own clients into a cache directory, verified by checksum, unpacked, and from then on used offline. Starting
//! what was fetched is `facewire-devstack`'s work.
//!
//! Linux only: child processes are bound to this one by the kernel's parent-death signal.

mod cache;
mod error;
mod fetch;
mod pins;
mod samples;
mod unpack;

pub mod dirs;
pub mod doctor;
pub mod offload;
pub mod process;
pub mod progress;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

pub use cache::{State, default_cache_dir};
pub use dirs::default_data_dir;
pub use error::FetchError;
pub use pins::Client;
pub use samples::{Person, Samples};

use cache::state_of;
use pins::{Pin, Platform, pin};

use crate::offload::{Cancel, offload};
use crate::progress::Reporter;

/// One artefact of the table in DESIGN §10.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// nats-server 2.15.
    NatsServer,
    /// PostgreSQL 18, with its client programs.
    Postgres,
    /// ONNX Runtime 1.31 for the CPU.
    OnnxRuntime,
    /// The default models, MIT.
    DefaultModels,
    /// Several photos of one person, one of another.
    SamplePhotos,
    /// A group of six, and one more stranger.
    SampleGroup,
    /// Helm 3.17, in a package.
    Helm3,
    /// Helm 4.3, in a package.
    Helm4,
}

impl Kind {
    /// All that Facewire itself needs.
    pub const ALL: [Self; 6] = [
        Self::NatsServer,
        Self::Postgres,
        Self::OnnxRuntime,
        Self::DefaultModels,
        Self::SamplePhotos,
        Self::SampleGroup,
    ];

    /// What the tests of the Helm chart need besides; for x86_64 only.
    pub const TOOLS: [Self; 2] = [Self::Helm3, Self::Helm4];

    /// The name in messages and in the cache directory.
    pub fn name(self) -> &'static str {
        match self {
            Self::NatsServer => "nats-server",
            Self::Postgres => "postgres",
            Self::OnnxRuntime => "onnxruntime",
            Self::DefaultModels => "default-models",
            Self::SamplePhotos => "sample-photos",
            Self::SampleGroup => "sample-group",
            Self::Helm3 => "helm3",
            Self::Helm4 => "helm4",
        }
    }

    /// The pinned version.
    pub fn version(self) -> &'static str {
        pin(self, Some(Platform::X86_64)).map_or("", |pin| pin.version)
    }

    /// The package manager that fetches it.
    pub fn client(self) -> Client {
        pin(self, Some(Platform::X86_64)).map_or(Client::Pip, |pin| pin.source.client())
    }

    /// Bytes on disk that fetching it takes: the archive, the client's copy of it, and what is unpacked. 0 where nothing
    /// is pinned for this platform.
    pub fn disk_bytes(self) -> u64 {
        pinned(self).map_or(0, |pin| 2 * pin.bytes + pin.unpacked_bytes)
    }

    /// Where the file lies that it is fetched for, whether it is there or not.
    ///
    /// # Errors
    /// [`FetchError::Platform`] where nothing is pinned for this platform, [`FetchError::NoCache`].
    pub fn path(self, options: &FetchOptions) -> Result<PathBuf, FetchError> {
        let pin = pinned(self)?;
        Ok(options.cache_dir()?.join(pin.dir_name()).join(pin.essential))
    }

    /// What the cache holds of it. Reads every file through and compares its checksum: up to a second.
    ///
    /// # Errors
    /// [`FetchError::Platform`] off Linux on x86_64 and aarch64, [`FetchError::NoCache`].
    pub fn verify(self, options: &FetchOptions) -> Result<State, FetchError> {
        Ok(cache::verify(&options.cache_dir()?, &pinned(self)?))
    }
}

/// How artefacts are fetched, and where they are kept.
#[derive(Debug, Clone)]
pub struct FetchOptions {
    /// The cache directory; `None`: `FACEWIRE_CACHE`, else `/var/cache/facewire` as root, else `facewire` under
    /// `$XDG_CACHE_HOME` or `~/.cache`.
    pub cache_dir: Option<PathBuf>,
    /// The Python whose pip is called (`python3`).
    pub python: OsString,
    /// The npm program (`npm`).
    pub npm: OsString,
}

impl Default for FetchOptions {
    fn default() -> Self {
        Self { cache_dir: None, python: "python3".into(), npm: "npm".into() }
    }
}

impl FetchOptions {
    /// The cache directory that these options mean.
    ///
    /// # Errors
    /// [`FetchError::NoCache`] where neither a variable nor a home names one.
    pub fn cache_dir(&self) -> Result<PathBuf, FetchError> {
        let dir = self.cache_dir.clone().or_else(default_cache_dir).ok_or(FetchError::NoCache)?;
        std::path::absolute(&dir).map_err(|source| FetchError::Cache { path: dir, source })
    }
}

/// Where each artefact lies. Only the kinds that were ensured are sure to be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifacts {
    /// The nats-server program.
    pub nats_server: PathBuf,
    /// The directory of `postgres`, `initdb`, `createdb`, `psql` …
    pub postgres_bin: PathBuf,
    /// `libonnxruntime.so`, for `ort`'s dynamic loading.
    pub ort_lib: PathBuf,
    /// The directory of `fr_detect.onnx`, `fr_landmark.onnx`, `fr_feature.onnx` …
    pub default_models: PathBuf,
    /// The sample faces.
    pub samples: Samples,
}

impl Artifacts {
    /// The paths, whether anything is there or not.
    ///
    /// # Errors
    /// [`FetchError::Platform`] off Linux on x86_64 and aarch64, [`FetchError::NoCache`].
    pub fn locate(options: &FetchOptions) -> Result<Self, FetchError> {
        let essential = |kind: Kind| kind.path(options);
        let dir_of = |kind: Kind| essential(kind).map(|path| path.parent().map(Path::to_owned).unwrap_or_default());
        Ok(Self {
            nats_server: essential(Kind::NatsServer)?,
            postgres_bin: dir_of(Kind::Postgres)?,
            ort_lib: essential(Kind::OnnxRuntime)?,
            default_models: dir_of(Kind::DefaultModels)?,
            samples: Samples { photos: dir_of(Kind::SamplePhotos)?, group: dir_of(Kind::SampleGroup)? },
        })
    }
}

fn pinned(kind: Kind) -> Result<Pin, FetchError> {
    pin(kind, Platform::current()).ok_or(FetchError::Platform {
        artifact: kind.name(),
        os: std::env::consts::OS,
        arch: std::env::consts::ARCH,
    })
}

/// Fetches what is missing of `kinds`, several at a time; calls nobody where nothing is missing.
///
/// # Errors
/// The first [`FetchError`]; what was fetched before stays.
pub async fn ensure(kinds: &[Kind], options: &FetchOptions, report: Reporter) -> Result<Artifacts, FetchError> {
    let (kinds, options) = (kinds.to_vec(), options.clone());
    offload(move |cancel| ensure_blocking(&kinds, &options, &report, cancel)).await
}

fn ensure_blocking(
    kinds: &[Kind],
    options: &FetchOptions,
    report: &Reporter,
    cancel: &Cancel,
) -> Result<Artifacts, FetchError> {
    let artifacts = Artifacts::locate(options)?;
    let cache = options.cache_dir()?;
    let missing: Vec<Pin> = kinds
        .iter()
        .map(|kind| pinned(*kind))
        .filter(|pin| pin.as_ref().map_or(true, |pin| state_of(&cache, pin) != State::Present))
        .collect::<Result<_, _>>()?;
    let results: Vec<Result<(), FetchError>> = std::thread::scope(|scope| {
        let work = |pin| cache::obtain(&cache, pin, options, report, cancel);
        let threads: Vec<_> = missing.iter().map(|pin| scope.spawn(move || work(pin))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or(Err(FetchError::Cancelled))).collect()
    });
    results.into_iter().collect::<Result<(), _>>()?;
    Ok(artifacts)
}
