//! `facewire doctor`: what this machine has of what Facewire needs, and what fixes it. It fixes nothing itself.

use std::path::{Path, PathBuf};

use comfy_table::{Cell, Color};
use facewire_artifacts::doctor::{Check, CheckState};
use facewire_artifacts::{Artifacts, FetchOptions};
use facewire_bus::{Bus, BusError};
use facewire_composition::models::{self, DEFAULT_PACK, StageDevices};
use facewire_composition::{Config, Models};
use facewire_inference::{OnnxRuntime, Pack, SessionOptions};
use facewire_store_object::ImageStore;
use facewire_store_pg::{Store, StoreError};
use facewire_store_vec::{VecError, VecStore};
use serde_json::json;

use super::{client, configured, data_dir, noted};
use crate::cli::{Doctor, Place};
use crate::output::{self, Exit};

/// What a `fix` begins with where nothing needs to be done, as `devstack` words it too.
const NOTHING: &str = "nothing";

/// The `fix` of what a migration makes.
const MIGRATE: &str = "run `facewire migrate`";

pub(crate) async fn run(config: &Config, place: &Place, args: &Doctor) -> anyhow::Result<Exit> {
    let mut checks = machine(config, place).await?;
    let models = config.models.clone();
    checks.extend(tokio::task::spawn_blocking(move || inference(&models)).await?);
    checks.extend(images(&config.images).await);
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

/// The library, the pack, and whether they go together. Blocking.
fn inference(models: &Models) -> Vec<Check> {
    match (runtime(models), pack(models)) {
        (Ok((library, runtime)), Ok((found, pack))) => vec![library, found, sessions(models, &runtime, &pack)],
        (library, found) => vec![told(library), told(found)],
    }
}

/// What was found with its check, or the check that says why it is not there.
type Found<T> = Result<(Check, T), Check>;

fn told<T>(found: Found<T>) -> Check {
    match found {
        Ok((check, _)) | Err(check) => check,
    }
}

/// Whether ONNX Runtime loads here, and has what the configuration asks for. Blocking.
fn runtime(models: &Models) -> Found<OnnxRuntime> {
    const NAME: &str = "ONNX Runtime loads";
    let library: Option<PathBuf> = match &models.onnxruntime {
        Some(path) => Some(path.clone()),
        None => Artifacts::locate(&FetchOptions::default()).ok().map(|found| found.ort_lib),
    };
    let Some(library) = library else {
        return Err(wrong(NAME, "none for this platform is known", "name a library in models.onnxruntime"));
    };
    if !library.exists() {
        return Err(match models.onnxruntime {
            Some(_) => wrong(NAME, format!("{} does not exist", library.display()), "correct models.onnxruntime"),
            None => missing(NAME, "it is not fetched yet", "nothing: it is fetched when needed"),
        });
    }
    let devices =
        StageDevices::of(models).map_err(|error| wrong(NAME, error, "correct models.provider and models.stages"))?;
    let loaded = || {
        let runtime = OnnxRuntime::load(&library)?;
        devices.all().try_for_each(|provider| runtime.check(provider))?;
        anyhow::Ok(runtime)
    };
    match loaded() {
        Ok(runtime) => Ok((present(NAME, format!("{}, on {devices}", library.display())), runtime)),
        Err(error) => Err(wrong(NAME, error, "correct models.onnxruntime, models.provider or models.stages")),
    }
}

/// Whether the configured pack is whole. Blocking: it hashes every file.
fn pack(models: &Models) -> Found<Pack> {
    let name = &models.pack;
    let title = format!("model pack {name}");
    let directory = match models::directory(models) {
        Ok(directory) => directory.join(name),
        Err(error) => return Err(wrong(&title, error, "name one in models.directory")),
    };
    let anew = || models::command(name).unwrap_or_else(|| models::remedy(name, &directory));
    if !directory.join("pack.toml").is_file() {
        return Err(match name.as_str() {
            DEFAULT_PACK => missing(&title, "it is not installed yet", "nothing: it is installed when needed"),
            _ => missing(&title, format!("{} has no such pack", directory.display()), anew()),
        });
    }
    match Pack::open(&directory) {
        Ok(pack) => match models::with_head(models, pack) {
            Ok(pack) => {
                let (licence, dim) = (&pack.manifest().licence, pack.manifest().dim());
                let found = present(&title, format!("{}, {dim} numbers a face, {licence}", pack.fingerprint()));
                Ok((found, pack))
            }
            Err(error) => Err(wrong(&title, format!("{error:#}"), "name a head of this pack in models.head, or none")),
        },
        Err(error) => Err(wrong(&title, error, anew())),
    }
}

/// Whether every model of the pack opens on each device of its stage. Blocking.
fn sessions(models: &Models, runtime: &OnnxRuntime, pack: &Pack) -> Check {
    const NAME: &str = "models open";
    let (intra_threads, graph_input) = (models.intra_threads, models.graph_input);
    let options = SessionOptions { intra_threads, graph_input, ..SessionOptions::default() };
    let opened = || {
        let devices = StageDevices::of(models)?;
        devices.quality.all().try_for_each(|on| pack.finder(runtime, &options.on(on)).map(drop))?;
        devices.embed.all().try_for_each(|on| pack.embedder(runtime, &options.on(on)).map(drop))?;
        anyhow::Ok(devices)
    };
    match opened() {
        Ok(devices) => present(NAME, format!("on {devices}")),
        Err(error) => {
            wrong(NAME, format!("{error:#}"), "correct models.provider or models.stages, or put the pack in place anew")
        }
    }
}

/// Whether the place of kept images answers, where the configuration names one.
async fn images(options: &facewire_store_object::Options) -> Option<Check> {
    const NAME: &str = "kept images answer";
    let url = options.url.as_deref()?;
    // Whoever opens a directory that is not there makes it.
    let path = url.strip_prefix("file://").unwrap_or(url);
    if !path.is_empty() && !path.contains("://") && !Path::new(path).exists() {
        return Some(missing(NAME, format!("{path} is not there yet"), "nothing: it is made when a service starts"));
    }
    let answered = match ImageStore::connect(options) {
        Ok(store) => store.health().await,
        Err(error) => Err(error),
    };
    Some(match answered {
        Ok(()) => present(NAME, "and can be listed"),
        Err(error) => wrong(NAME, error, "correct the section images, or start its server"),
    })
}

/// The servers, where some are noted by a running `up` or named by the operator.
async fn stack(config: &Config, place: &Place) -> Vec<Check> {
    let configured = configured(config).iter().any(Option::is_some);
    let noted = noted(config, place).and(data_dir(place).ok());
    let named = place.nats.is_some() || place.postgres.is_some() || place.qdrant.is_some();
    if noted.is_none() && !named && !configured {
        return vec![missing("running Facewire", "none in this data directory", "nothing: `facewire up` starts it")];
    }
    let config = match client(config.clone(), place) {
        Ok(config) => config,
        Err(error) => return vec![wrong("running Facewire", error, "correct the configuration")],
    };
    let fix = match &noted {
        Some(dir) => format!("`facewire up` runs in {} and says more there: start it again", dir.display()),
        None => "start the server, or correct its URL".to_owned(),
    };
    let (nats, postgres, qdrant) = tokio::join!(nats(&config), postgres(&config), qdrant(&config));
    let found = [("NATS answers", nats), ("Postgres answers", postgres), ("Qdrant answers", qdrant)];
    let check = |(name, found): (&str, anyhow::Result<String>)| match found {
        Ok(detail) => present(name, detail),
        Err(error) => wrong(name, format!("{error:#}"), remedy(&error).unwrap_or(fix.as_str())),
    };
    found.into_iter().map(check).collect()
}

/// What to do where a server answers, and is not migrated or refuses who asks.
fn remedy(error: &anyhow::Error) -> Option<&'static str> {
    let bus = error.downcast_ref::<BusError>().and_then(|error| match error {
        BusError::NotMigrated { .. } => Some(MIGRATE),
        BusError::NotAdmitted(_) | BusError::Denied { .. } | BusError::Credentials(_) => {
            Some("correct the user of NATS (nats.nkey, nats.credentials, nats.url), or what the server permits it")
        }
        _ => None,
    });
    let store = error.downcast_ref::<StoreError>().and_then(|error| match error {
        StoreError::Schema { what } if what.contains(MIGRATE) => Some(MIGRATE),
        StoreError::Schema { .. } => Some("migrating does not help: do what is said of it"),
        StoreError::Config { .. } => {
            Some("correct postgres.url (login, database, sslmode), or the login's rights (`facewire migrate --roles`)")
        }
        _ => None,
    });
    let vectors = error.downcast_ref::<VecError>().and_then(|error| match error {
        VecError::Denied(_) => Some("correct qdrant.api_key"),
        _ => None,
    });
    bus.or(store).or(vectors)
}

async fn nats(config: &Config) -> anyhow::Result<String> {
    let bus = Bus::connect(&config.nats, "facewire doctor").await?;
    bus.check_streams().await?;
    let waiting: u64 = bus.lags().await?.iter().map(|lag| lag.pending + lag.ack_pending).sum();
    Ok(format!("{waiting} messages on their way"))
}

async fn postgres(config: &Config) -> anyhow::Result<String> {
    let store = Store::connect(&config.postgres).await?;
    store.check_schema().await?;
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
    fn the_fix_for_a_damaged_pack_is_a_command_that_works() {
        let directory = tempfile::tempdir().unwrap();
        let own = directory.path().join("own");
        let own = format!("put its pack.toml, and the files that this names, into {}", own.display());
        for (name, fix) in [
            (DEFAULT_PACK, "facewire models install default"),
            ("buffalo_s", "facewire models install buffalo_s --accept-license"),
            ("own", own.as_str()),
        ] {
            let place = directory.path().join(name);
            std::fs::create_dir(&place).unwrap();
            std::fs::write(place.join("pack.toml"), "no manifest").unwrap();
            let models =
                Models { pack: name.to_owned(), directory: Some(directory.path().to_owned()), ..Models::default() };
            assert_eq!(pack(&models).unwrap_err().fix, fix);
        }
    }

    #[test]
    fn a_library_that_is_not_there_is_named() {
        let models = facewire_composition::Models { onnxruntime: Some("/no/such/lib.so".into()), ..Default::default() };
        let check = told(runtime(&models));
        assert_eq!((check.state, check.detail.contains("/no/such/lib.so")), (CheckState::Wrong, true));
    }

    #[tokio::test]
    async fn the_place_of_kept_images_is_asked_and_not_made() {
        let directory = tempfile::tempdir().unwrap();
        let at = |url: String| facewire_store_object::Options {
            url: Some(url),
            endpoint: Some("http://127.0.0.1:1".to_owned()),
            access_key_id: Some(facewire_config::Secret::new("key")),
            secret_access_key: Some(facewire_config::Secret::new("secret")),
            timeout: std::time::Duration::from_secs(1),
            ..Default::default()
        };
        let there = directory.path().to_str().unwrap().to_owned();
        let later = directory.path().join("later");
        assert_eq!(images(&facewire_store_object::Options::default()).await, None);
        assert_eq!(images(&at(there)).await.unwrap().state, CheckState::Present);
        let check = images(&at(format!("file://{}", later.display()))).await.unwrap();
        assert!(check.state == CheckState::Missing && is_well(&check) && !later.exists(), "{check:?}");
        for (url, why) in [("s3://faces", "image store"), ("ftp://faces", "s3://")] {
            let check = images(&at(url.to_owned())).await.unwrap();
            assert!(check.state == CheckState::Wrong && check.detail.contains(why), "{check:?}");
        }
    }

    /// To start a server that runs would lead nowhere.
    #[cfg(feature = "local")]
    #[tokio::test(flavor = "multi_thread")]
    async fn servers_that_are_not_migrated_or_refuse_a_login_say_what_helps() {
        let servers = facewire_devstack::testing::TestStack::start().await.unwrap();
        let data = tempfile::tempdir().unwrap();
        let fixes = async |postgres: &str| {
            let place = Place {
                data: Some(data.path().to_owned()),
                nats: Some(servers.nats_url.clone()),
                postgres: Some(postgres.to_owned()),
                qdrant: Some(servers.qdrant_url.clone()),
            };
            let checks = stack(&Config::default(), &place).await;
            checks.into_iter().map(|check| check.fix).collect::<Vec<String>>()
        };
        assert_eq!(fixes(&servers.postgres_url).await, [MIGRATE, MIGRATE, ""]);
        let (_, place) = servers.postgres_url.split_once('@').unwrap();
        let refused = fixes(&format!("postgres://nobody:wrong@{place}")).await;
        assert!(refused[1].contains("postgres.url (login"), "{refused:?}");
        let denied = anyhow::Error::from(VecError::Denied("no key".to_owned()));
        assert_eq!(remedy(&denied), Some("correct qdrant.api_key"));
    }

    #[cfg(feature = "local")]
    #[tokio::test]
    async fn models_are_opened() {
        let (library, source) = facewire_devstack::testing::models().await.unwrap();
        let (directory, models) = (tempfile::tempdir().unwrap(), Models::default());
        let pack = facewire_inference::install_builtin(DEFAULT_PACK, &source, directory.path()).unwrap();
        let runtime = OnnxRuntime::load(&library).unwrap();
        let check = sessions(&models, &runtime, &pack);
        assert_eq!((check.state, check.detail.as_str()), (CheckState::Present, "on cpu"));
        // The pack was whole when it was hashed.
        let embedder = directory.path().join(&pack.manifest().embedder.file.name);
        std::fs::remove_file(&embedder).unwrap();
        std::fs::write(&embedder, b"this is no model").unwrap();
        assert_eq!(sessions(&models, &runtime, &pack).state, CheckState::Wrong);
    }
}
