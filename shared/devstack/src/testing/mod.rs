//! Real servers for test suites: each test has its own nats-server, its own empty database and (feature `qdrant`) its
//! own local Qdrant, under `cargo test` (many tests in a process) and nextest (a process each) alike. Nothing here
//! belongs to a test's runtime, which ends with the test.

mod area;
mod postgres;
#[cfg(feature = "qdrant")]
mod qdrant;
#[cfg(feature = "qdrant")]
mod stack;

use std::io::Write as _;
use std::path::{Path, PathBuf};

pub use postgres::TestDatabase;
#[cfg(feature = "qdrant")]
pub use qdrant::{TestQdrant, qdrant};
#[cfg(feature = "qdrant")]
pub use stack::TestStack;

use facewire_artifacts::progress::silent;
use facewire_artifacts::{self as artifacts, Artifacts, FetchOptions, Kind, Samples};

use crate::error::StackError;
use crate::nats::{NatsOptions, NatsServer};
use area::Area;

/// Artefacts for tests, fetched where missing.
async fn fetched(kinds: &[Kind]) -> Result<Artifacts, StackError> {
    Ok(artifacts::ensure(kinds, &FetchOptions::default(), silent()).await?)
}

/// The library of ONNX Runtime and the directory of the default models, for suites that need no server.
///
/// # Errors
/// What [`artifacts::ensure`] says.
pub async fn models() -> Result<(PathBuf, PathBuf), StackError> {
    fetched(&[Kind::OnnxRuntime, Kind::DefaultModels]).await.map(|found| (found.ort_lib, found.default_models))
}

/// The sample faces.
///
/// # Errors
/// What [`artifacts::ensure`] says.
pub async fn samples() -> Result<Samples, StackError> {
    fetched(&[Kind::SamplePhotos, Kind::SampleGroup]).await.map(|found| found.samples)
}

/// An empty database alone, on the server that the tests of this process share.
///
/// # Errors
/// What [`artifacts::ensure`] and the start say.
pub async fn database() -> Result<TestDatabase, StackError> {
    TestDatabase::shared(fetched(&[Kind::Postgres]).await?).await
}

/// An empty database alone, on a server of its own that may be stopped, killed and paused.
///
/// # Errors
/// As [`database`].
pub async fn isolated_database() -> Result<TestDatabase, StackError> {
    TestDatabase::isolated(fetched(&[Kind::Postgres]).await?).await
}

/// A nats-server alone.
///
/// # Errors
/// What [`artifacts::ensure`] and the start say.
pub async fn nats() -> Result<TestNats, StackError> {
    nats_with(String::new()).await
}

/// A nats-server alone, with more in its configuration: accounts, TLS.
///
/// # Errors
/// As [`nats`].
pub async fn nats_with(more: String) -> Result<TestNats, StackError> {
    let found = fetched(&[Kind::NatsServer]).await?;
    let area = Area::new()?;
    let options = NatsOptions {
        program: found.nats_server,
        dir: area.path().join("nats"),
        port: None,
        monitor_port: None,
        more,
        throwaway: true,
    };
    Ok(TestNats { server: NatsServer::start(options).await?, _area: area })
}

/// A nats-server of one test.
pub struct TestNats {
    server: NatsServer,
    _area: Area,
}

/// [`NatsServer`] has what a test needs: `stop`, `restart`, `kill9`, `pause`, `resume`, `url`.
impl std::ops::Deref for TestNats {
    type Target = NatsServer;

    fn deref(&self) -> &NatsServer {
        &self.server
    }
}

/// A file or directory of the project's golden data, which is never committed: `../shared/data/<path>` beside the
/// workspace. `None` where there is no `../shared`: the test says so on stderr and checks what it can without.
///
/// # Panics
/// In CI, where `../shared` is there and the data is not: nothing would be checked, and nobody would notice.
pub fn shared_data(path: &str) -> Option<PathBuf> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2)?;
    let shared = workspace.parent()?.join("shared");
    let data = shared.join("data").join(path);
    if data.exists() {
        return Some(data);
    }
    missing(&format!("../shared/data/{path}"), shared.is_dir());
    None
}

/// Says that a test checks less than it could. In CI (the variable `CI` is set) that is a failure where what is missing
/// could be there.
///
/// # Panics
/// In CI, if `could_be_there`.
pub fn missing(what: &str, could_be_there: bool) {
    // Not `eprintln!`: of a test that passes nobody would see it.
    let _ = writeln!(std::io::stderr(), "NOT CHECKED: {what} is missing");
    let ci = std::env::var_os("CI").is_some_and(|value| !value.is_empty());
    assert!(
        may_be_missing(ci, could_be_there),
        "{what} is missing, and CI is set: a test would check nothing and pass"
    );
}

fn may_be_missing(ci: bool, could_be_there: bool) -> bool {
    !(ci && could_be_there)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ci_insists_and_only_on_what_it_can_have() {
        let allowed = [(false, false), (false, true), (true, false)];
        assert!(allowed.into_iter().all(|(ci, could)| may_be_missing(ci, could)));
        assert!(!may_be_missing(true, true));
    }
}
