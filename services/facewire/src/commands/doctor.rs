//! `facewire doctor`: what this machine has of what Facewire needs, and what fixes it. It fixes nothing itself.

use std::path::PathBuf;

use comfy_table::{Cell, Color};
use facewire_artifacts::doctor::{Check, CheckState};
use facewire_artifacts::{Artifacts, FetchOptions};
use facewire_bus::Bus;
use facewire_composition::Config;
use facewire_composition::models::{self, DEFAULT_PACK, StageDevices};
use facewire_inference::{OnnxRuntime, Pack};
use facewire_store_pg::Store;
use facewire_store_vec::VecStore;
use serde_json::json;

use super::{client, data_dir, names_servers};
use crate::cli::{Doctor, Place};
use crate::endpoints::Endpoints;
use crate::output::{self, Exit};

/// What a `fix` begins with where nothing needs to be done, as `devstack` words it too.
const NOTHING: &str = "nothing";

pub(crate) async fn run(config: &Config, place: &Place, args: &Doctor) -> anyhow::Result<Exit> {
    let mut checks = machine(config, place).await?;
    let models = config.models.clone();
    checks.extend(tokio::task::spawn_blocking(move || [runtime(&models), pack(&models)]).await?);
    checks.extend(stack(config, place).await);
    let well = checks.iter().all(is_well);
    if args.json {
        let found: Vec<_> = checks.iter().map(as_json).collect();
        output::json(&json!({ "ok": well, "checks": found }))?;
    } else {
        show(&checks, well);
    }
    Ok(if well { Exit::Success } else { Exit::ProblemsFound })
}

/// What the local stack needs.
#[cfg(feature = "local")]
async fn machine(_config: &Config, place: &Place) -> anyhow::Result<Vec<Check>> {
    use facewire_devstack::doctor::{DoctorOptions, doctor};
    Ok(doctor(DoctorOptions { data_dir: data_dir(place).ok(), ..DoctorOptions::default() }).await?)
}

/// What fetching models needs: a build without the local stack fetches nothing else.
#[cfg(not(feature = "local"))]
async fn machine(config: &Config, _place: &Place) -> anyhow::Result<Vec<Check>> {
    let kinds = models::artifacts(&config.models)?;
    Ok(facewire_artifacts::doctor::doctor(&kinds, &FetchOptions::default()).await?)
}

/// What is missing and will be fetched or made by itself is well.
fn is_well(check: &Check) -> bool {
    match check.state {
        CheckState::Present => true,
        CheckState::Missing => check.fix.starts_with(NOTHING),
        CheckState::Wrong => false,
    }
}

fn word(check: &Check) -> &'static str {
    match check.state {
        CheckState::Present => "ok",
        CheckState::Missing if is_well(check) => "not yet",
        CheckState::Missing => "missing",
        CheckState::Wrong => "wrong",
    }
}

fn as_json(check: &Check) -> serde_json::Value {
    json!({ "name": check.name, "state": word(check), "detail": check.detail, "fix": check.fix })
}

fn show(checks: &[Check], well: bool) {
    let mut table = output::table(&["what", "state", "found", "to do"]);
    for check in checks {
        let colour = match check.state {
            CheckState::Present => Color::Green,
            CheckState::Missing if is_well(check) => Color::Yellow,
            _ => Color::Red,
        };
        table.add_row([
            Cell::new(&check.name),
            Cell::new(word(check)).fg(colour),
            Cell::new(&check.detail),
            Cell::new(&check.fix),
        ]);
    }
    output::line(table);
    output::line(match well {
        true => "all is well: `facewire demo` shows the whole chain, `facewire up` starts it",
        false => "something is wrong or missing: the last column says what to do",
    });
}

fn present(name: &str, detail: impl Into<String>) -> Check {
    Check { name: name.to_owned(), state: CheckState::Present, detail: detail.into(), fix: String::new() }
}

fn missing(name: &str, detail: impl Into<String>, fix: impl Into<String>) -> Check {
    Check { name: name.to_owned(), state: CheckState::Missing, detail: detail.into(), fix: fix.into() }
}

fn wrong(name: &str, detail: impl ToString, fix: impl Into<String>) -> Check {
    Check { name: name.to_owned(), state: CheckState::Wrong, detail: detail.to_string(), fix: fix.into() }
}

/// Whether ONNX Runtime loads here, and has what the configuration asks for. Blocking.
fn runtime(models: &facewire_composition::Models) -> Check {
    const NAME: &str = "ONNX Runtime loads";
    let library: Option<PathBuf> = match &models.onnxruntime {
        Some(path) => Some(path.clone()),
        None => Artifacts::locate(&FetchOptions::default()).ok().map(|found| found.ort_lib),
    };
    let Some(library) = library else {
        return wrong(NAME, "none for this platform is known", "name a library in models.onnxruntime");
    };
    if !library.exists() {
        return match models.onnxruntime {
            Some(_) => wrong(NAME, format!("{} does not exist", library.display()), "correct models.onnxruntime"),
            None => missing(NAME, "it is not fetched yet", "nothing: it is fetched when needed"),
        };
    }
    let devices = match StageDevices::of(models) {
        Ok(devices) => devices,
        Err(error) => return wrong(NAME, error, "correct models.provider and models.stages"),
    };
    let checked =
        OnnxRuntime::load(&library).and_then(|runtime| devices.all().try_for_each(|provider| runtime.check(provider)));
    match checked {
        Ok(()) => present(NAME, format!("{}, on {devices}", library.display())),
        Err(error) => wrong(NAME, error, "correct models.onnxruntime, models.provider or models.stages"),
    }
}

/// Whether the configured pack is whole. Blocking: it hashes every file.
fn pack(models: &facewire_composition::Models) -> Check {
    let name = &models.pack;
    let title = format!("model pack {name}");
    let directory = match models::directory(models) {
        Ok(directory) => directory.join(name),
        Err(error) => return wrong(&title, error, "name one in models.directory"),
    };
    if !directory.join("pack.toml").is_file() {
        return match name.as_str() {
            DEFAULT_PACK => missing(&title, "it is not installed yet", "nothing: it is installed when needed"),
            _ => missing(
                &title,
                format!("{} has no such pack", directory.display()),
                format!("facewire models install {name} --accept-license"),
            ),
        };
    }
    match Pack::open(&directory) {
        Ok(pack) => match models::with_head(models, pack) {
            Ok(pack) => {
                let (licence, dim) = (&pack.manifest().licence, pack.manifest().dim());
                present(&title, format!("{}, {dim} numbers a face, {licence}", pack.fingerprint()))
            }
            Err(error) => wrong(&title, format!("{error:#}"), "name a head of this pack in models.head, or none"),
        },
        Err(error) => wrong(&title, error, format!("facewire models install {name}")),
    }
}

/// The servers, where some are noted by a running `up` or named by the operator.
async fn stack(config: &Config, place: &Place) -> Vec<Check> {
    let configured = names_servers(config);
    let noted = data_dir(place).ok().filter(|dir| !configured && Endpoints::read(dir).is_some());
    let named = place.nats.is_some() || place.postgres.is_some() || place.qdrant.is_some();
    if noted.is_none() && !named && !configured {
        return vec![missing("running Facewire", "none in this data directory", "nothing: `facewire up` starts it")];
    }
    let config = match client(config.clone(), place) {
        Ok(config) => config,
        Err(error) => return vec![wrong("running Facewire", error, "correct the configuration")],
    };
    let fix = match &noted {
        Some(dir) => format!(
            "`facewire up` noted it in {} and may have been killed: start it again, or remove endpoints.json there",
            dir.display()
        ),
        None => "start the server, or correct its URL".to_owned(),
    };
    let (nats, postgres, qdrant) = tokio::join!(nats(&config), postgres(&config), qdrant(&config));
    let found = [("NATS answers", nats), ("Postgres answers", postgres), ("Qdrant answers", qdrant)];
    let check = |(name, found): (&str, anyhow::Result<String>)| match found {
        Ok(detail) => present(name, detail),
        Err(error) => wrong(name, format!("{error:#}"), fix.as_str()),
    };
    found.into_iter().map(check).collect()
}

async fn nats(config: &Config) -> anyhow::Result<String> {
    let bus = Bus::connect(&config.nats, "facewire doctor").await?;
    let waiting: u64 = bus.lags().await?.iter().map(|lag| lag.pending + lag.ack_pending).sum();
    Ok(format!("{waiting} messages on their way"))
}

async fn postgres(config: &Config) -> anyhow::Result<String> {
    let store = Store::connect(&config.postgres).await?;
    store.health().await?;
    let gallery = store.gallery(None).await?;
    Ok(format!("{} persons with {} faces", gallery.persons, gallery.faces))
}

async fn qdrant(config: &Config) -> anyhow::Result<String> {
    let vectors = VecStore::connect(&config.qdrant)?;
    let version = vectors.health().await?;
    Ok(format!("version {version}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_by_itself_is_no_fault() {
        assert!(is_well(&missing("artefact postgres", "18 is not fetched yet", "nothing: it is fetched when needed")));
        assert!(!is_well(&missing("npm", "not found", "install nodejs and npm")));
        assert!(!is_well(&wrong("port 4222", "taken", "nothing else may listen there")));
    }

    #[test]
    fn a_library_that_is_not_there_is_named() {
        let models = facewire_composition::Models { onnxruntime: Some("/no/such/lib.so".into()), ..Default::default() };
        let check = runtime(&models);
        assert_eq!((check.state, check.detail.contains("/no/such/lib.so")), (CheckState::Wrong, true));
    }
}
