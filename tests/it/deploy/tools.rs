//! The tools that check `deploy/` and `helm/`, in the cache directory: Helm's programs, and a Python environment with what
//! `tests/deploy/requirements.txt` pins. What is checked may not come in.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use facewire_artifacts::progress::silent;
use facewire_artifacts::{FetchError, FetchOptions, Kind, ensure};
use facewire_devstack::testing;

/// Status of `prepare_tools.py` where pip or the network is absent.
const ABSENT: i32 = 3;

/// The workspace's root.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// All tools, ready to be run.
pub(crate) struct Tools {
    directory: PathBuf,
}

impl Tools {
    /// Made where they are missing. `None` where they cannot be had: the test says so, and in CI it fails if they could
    /// be.
    pub(crate) async fn ready() -> Option<Self> {
        let options = FetchOptions::default();
        match ensure(&Kind::TOOLS, &options, silent()).await {
            Ok(_) => {}
            Err(error @ FetchError::Platform { .. }) => {
                testing::missing(&format!("Helm ({error})"), false);
                return None;
            }
            Err(error) => {
                testing::missing(&format!("Helm ({error})"), true);
                return None;
            }
        }
        let packages = Kind::TOOLS.map(|kind| kind.path(&options).unwrap());
        let script = root().join("tests/deploy/prepare_tools.py");
        let cache = options.cache_dir().unwrap();
        let made = Command::new(&options.python).arg(script).arg(cache).args(packages).output().unwrap();
        if made.status.code() == Some(ABSENT) {
            testing::missing(&format!("an environment with the tools ({})", said(&made)), true);
            return None;
        }
        assert!(made.status.success(), "{}", said(&made));
        let directory = PathBuf::from(String::from_utf8(made.stdout).unwrap().trim_end());
        Some(Self { directory })
    }

    /// A script of `tests/deploy`.
    pub(crate) fn script(&self, name: &str) -> Command {
        let mut command = Command::new(self.python());
        // Compiled scripts would lie beside them.
        command.env("PYTHONDONTWRITEBYTECODE", "1").arg(root().join("tests/deploy").join(name));
        command
    }

    /// The environment's Python.
    pub(crate) fn python(&self) -> PathBuf {
        self.program("bin/python")
    }

    /// A program of the tools: `helm3`, `helm4`, or one in `bin/`.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

/// What a program wrote.
pub(crate) fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}
