//! `facewire models`: which packs there are, and putting one in place. Weights are fetched only from where their makers
//! publish them, and only when their licence was accepted.

use std::collections::BTreeSet;
use std::io::{ErrorKind, IsTerminal};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use facewire_artifacts::{self as artifacts, FetchOptions, Kind};
use facewire_composition::Config;
use facewire_composition::models::{self, DEFAULT_PACK};
use facewire_inference::{
    BUILTIN_PACKS, Installing, Pack, PackManifest, builtin_manifest, install_builtin, install_zip, installed_manifest,
};
use facewire_runtime::Shutdown;
use serde::Serialize;
use tempfile::NamedTempFile;
use tokio::process::Command;

use super::progress;
use crate::cli::ModelsCommand;
use crate::output::{self, Exit};
use crate::signals;

/// Where InsightFace publishes its packs.
const RELEASE: &str = "https://github.com/deepinsight/insightface/releases/download/v0.7";

pub(crate) async fn run(config: &Config, command: &ModelsCommand) -> anyhow::Result<Exit> {
    match command {
        ModelsCommand::List { json } => list(config, *json).await,
        ModelsCommand::Install { name, accept_license, from } => {
            install(config, name, *accept_license, from.clone()).await
        }
    }
}

/// A pack in the list.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    installed: bool,
    configured: bool,
    /// Nothing where its manifest cannot be read.
    #[serde(flatten)]
    about: Option<About>,
    /// What is wrong with its manifest, and what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<String>,
}

/// What a manifest says.
#[derive(Debug, Serialize)]
struct About {
    version: String,
    licence: String,
    /// Numbers of an embedding.
    dim: usize,
    source: String,
}

async fn list(config: &Config, json: bool) -> anyhow::Result<Exit> {
    let directory = models::directory(&config.models)?;
    let configured = config.models.pack.clone();
    let place = directory.clone();
    let rows = tokio::task::spawn_blocking(move || rows(&place, &configured)).await?;
    let exit = if rows.iter().any(|row| row.fault.is_some()) { Exit::ProblemsFound } else { Exit::Success };
    if json {
        output::json(&serde_json::json!({ "directory": directory, "packs": rows }))?;
        return Ok(exit);
    }
    let mut table = output::table(&["pack", "version", "installed", "numbers a face", "licence"]);
    for row in &rows {
        let installed = match (row.installed, row.configured) {
            _ if row.fault.is_some() => "damaged",
            (true, true) => "yes, in use",
            (true, false) => "yes",
            (false, true) if row.name == DEFAULT_PACK => "when first used",
            (false, true) => "no, but configured",
            (false, false) => "no",
        };
        let about = row.about.as_ref();
        let (version, licence) = about.map_or(("", ""), |about| (about.version.as_str(), about.licence.as_str()));
        let dim = about.map(|about| about.dim.to_string()).unwrap_or_default();
        table.add_row([row.name.as_str(), version, installed, &dim, licence]);
    }
    output::line(table);
    for fault in rows.iter().filter_map(|row| row.fault.as_ref()) {
        output::line(fault);
    }
    output::line(format_args!("installed in {}", directory.display()));
    output::line("`models.pack` in the configuration, or FACEWIRE__MODELS__PACK, names the one in use");
    Ok(exit)
}

/// The built-in packs, then whatever else is installed. Blocking.
fn rows(directory: &Path, configured: &str) -> Vec<Row> {
    let installed: BTreeSet<String> = std::fs::read_dir(directory)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| directory.join(name).join("pack.toml").is_file())
        .collect();
    let builtin = BUILTIN_PACKS.iter().map(|name| (*name).to_owned());
    let others = installed.iter().filter(|name| !BUILTIN_PACKS.contains(&name.as_str())).cloned();
    let row = |name: String| {
        let there = installed.contains(&name);
        let read =
            if there { read_manifest(directory, &name) } else { builtin_manifest(&name).map_err(anyhow::Error::from) };
        let (about, fault) = match read {
            Ok(PackManifest { version, licence, embedder, source, .. }) => {
                (Some(About { version, licence, dim: embedder.dim, source }), None)
            }
            Err(error) => (None, Some(format!("{error:#}"))),
        };
        Row { installed: there, configured: name == configured, name, about, fault }
    };
    builtin.chain(others).map(row).collect()
}

fn read_manifest(directory: &Path, name: &str) -> anyhow::Result<PackManifest> {
    let directory = directory.join(name);
    let path = directory.join("pack.toml");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    installed_manifest(&text).map_err(|error| {
        let place = path.display();
        anyhow!("{place} is no manifest: {}; {}", error.trim_end(), models::remedy(name, &directory))
    })
}

async fn install(config: &Config, name: &str, accepted: bool, from: Option<PathBuf>) -> anyhow::Result<Exit> {
    let manifest = builtin_manifest(name)?;
    let directory = models::directory(&config.models)?.join(name);
    let shutdown = Shutdown::new(config.shutdown.grace);
    signals::listen(shutdown.clone())?;
    let pack = if name == DEFAULT_PACK {
        install_default(directory.clone(), from, &shutdown).await?
    } else {
        licensed(&manifest, accepted)?;
        install_archive(name, directory.clone(), from, &shutdown).await?
    };
    output::line(format_args!("{} is installed in {}", pack.fingerprint(), directory.display()));
    if config.models.pack != name {
        output::line(format_args!("to use it, set models.pack = \"{name}\" or FACEWIRE__MODELS__PACK={name}"));
        output::line(format_args!(
            "embeddings of different packs do not compare: `facewire reembed --to {name}` embeds faces anew from their kept \
             images; without images, enrol people again"
        ));
    }
    Ok(Exit::Success)
}

/// InsightFace's weights come with a condition that somebody has to accept.
fn licensed(manifest: &PackManifest, accepted: bool) -> anyhow::Result<()> {
    if accepted {
        return Ok(());
    }
    bail!(
        "{0}: {1}. If that allows what you do, say so with `facewire models install {0} --accept-license`; the pack \
         `{DEFAULT_PACK}` has no such condition",
        manifest.name,
        manifest.licence,
    )
}

/// Ends at the first signal, and what was fetched so far goes. To put it in place then takes seconds, and is finished.
async fn fetched<T>(shutdown: &Shutdown, fetching: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::select! {
        done = fetching => done,
        () = shutdown.draining() => bail!("stopped before the pack was there: nothing was installed"),
    }
}

/// From a directory that holds the files already (a container has no npm), or else fetched. Their checksums are pinned.
async fn install_default(directory: PathBuf, from: Option<PathBuf>, shutdown: &Shutdown) -> anyhow::Result<Pack> {
    let files = match from {
        Some(files) => files,
        None => {
            let report = progress::fetching(std::io::stderr().is_terminal());
            let options = FetchOptions::default();
            let fetching = async { anyhow::Ok(artifacts::ensure(&[Kind::DefaultModels], &options, report).await?) };
            fetched(shutdown, fetching).await?.default_models
        }
    };
    let copy = move || install_builtin(DEFAULT_PACK, &files, &directory);
    Ok(tokio::task::spawn_blocking(copy).await??)
}

async fn install_archive(
    name: &str,
    directory: PathBuf,
    from: Option<PathBuf>,
    shutdown: &Shutdown,
) -> anyhow::Result<Pack> {
    // Held until the end: dropping it removes the download.
    let (archive, _download) = match from {
        Some(archive) => (archive, None),
        None => {
            let place = directory.clone();
            let (file, installing) = tokio::task::spawn_blocking(move || temporary(&place)).await??;
            fetched(shutdown, download(name, file.path())).await?;
            (file.path().to_owned(), Some((file, installing)))
        }
    };
    let name = name.to_owned();
    Ok(tokio::task::spawn_blocking(move || install_zip(&name, &archive, &directory)).await??)
}

/// In the pack's own directory, where the next installation removes what a killed one left: a directory for temporary files may be
/// too small for some hundred megabytes.
fn temporary(directory: &Path) -> anyhow::Result<(NamedTempFile, Installing)> {
    let made = Installing::begin(directory).and_then(|installing| Ok((installing.partial()?, installing)));
    made.with_context(|| format!("cannot write to {}; name another in models.directory", directory.display()))
}

async fn download(name: &str, to: &Path) -> anyhow::Result<()> {
    let url = format!("{RELEASE}/{name}.zip");
    let otherwise = format!(
        "Fetch {url} on any machine, and install it with `facewire models install {name} --accept-license --from {name}.zip`"
    );
    output::say(format_args!("fetching {url}"));
    let mut curl = Command::new("curl");
    // A bar only for eyes that can see it.
    curl.arg(if std::io::stderr().is_terminal() { "--progress-bar" } else { "--silent" });
    curl.args(["--show-error", "--fail", "--location", "--proto", "=https", "--connect-timeout", "20", "--retry", "3"]);
    curl.args(["--speed-limit", "1", "--speed-time", "60"]);
    curl.arg("--output").arg(to).arg(&url).kill_on_drop(true);
    match curl.status().await {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => bail!("curl could not fetch the pack ({status}). {otherwise}"),
        Err(error) if error.kind() == ErrorKind::NotFound => bail!("the program curl is not installed. {otherwise}"),
        Err(error) => bail!("curl could not be started: {error}. {otherwise}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_licence_is_accepted_by_a_person() {
        let manifest = builtin_manifest("buffalo_l").unwrap();
        let refused = licensed(&manifest, false).unwrap_err().to_string();
        assert!(refused.contains("non-commercial") && refused.contains("--accept-license"), "{refused}");
        assert!(licensed(&manifest, true).is_ok());
    }

    #[test]
    fn every_pack_is_listed_installed_or_not() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("own");
        std::fs::create_dir_all(&own).unwrap();
        let mut manifest = builtin_manifest("buffalo_s").unwrap();
        manifest.name = "own".to_owned();
        std::fs::write(own.join("pack.toml"), manifest.to_toml().unwrap()).unwrap();
        let rows = rows(dir.path(), "own");
        assert_eq!(rows.len(), BUILTIN_PACKS.len() + 1);
        let installed: Vec<_> =
            rows.iter().filter(|row| row.installed).map(|row| (&*row.name, row.configured)).collect();
        assert_eq!(installed, [("own", true)]);
        // Nothing at all is installed where there is no directory.
        assert!(super::rows(&dir.path().join("none"), "default").iter().all(|row| !row.installed));
    }

    #[test]
    fn a_pack_that_cannot_be_read_is_listed_among_the_others() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["buffalo_s", "own"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
            std::fs::write(dir.path().join(name).join("pack.toml"), "no manifest").unwrap();
        }
        let rows = rows(dir.path(), "own");
        assert_eq!(rows.iter().filter(|row| row.about.is_some()).count(), BUILTIN_PACKS.len() - 1);
        let faults: Vec<_> = rows.iter().filter_map(|row| Some((row.name.as_str(), row.fault.as_deref()?))).collect();
        let [("buffalo_s", known), ("own", own)] = faults[..] else { panic!("{faults:?}") };
        assert!(known.contains("`facewire models install buffalo_s --accept-license`"), "{known}");
        assert!(own.contains("put its pack.toml") && !own.contains("models install"), "{own}");
        let shown = serde_json::to_value(&rows).unwrap();
        assert!(shown[0]["dim"].is_number() && shown[0].get("fault").is_none() && shown[6]["fault"].is_string());
    }
}
