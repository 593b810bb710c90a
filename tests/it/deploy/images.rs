//! The images and `deploy/compose.yaml`: `tests/deploy/check_images.py` validates them, and what they say of the program is
//! compared with the code's own tables. Nothing is built and no container is run here: `deploy/run-local.sh` and
//! `deploy/play-kube.sh` do that.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use facewire_artifacts::progress::silent;
use facewire_artifacts::{FetchOptions, Kind, ensure};
use facewire_composition::{Config, Service};
use facewire_domain::Stage;
use serde::Deserialize;

use super::tools::{Tools, root, said};

/// Where the image has packs.
const MODELS: &str = "/var/lib/facewire/models";

/// What `check_images.py` writes.
#[derive(Debug, Deserialize)]
struct Facts {
    /// The image's health check.
    health: Vec<String>,
    /// Ports of the image.
    exposed: Vec<u16>,
    services: Vec<Container>,
}

/// A service of the compose file that runs Facewire.
#[derive(Debug, Deserialize)]
struct Container {
    name: String,
    command: Vec<String>,
    /// The image's variables with the service's over them.
    env: BTreeMap<String, String>,
    /// Names of the service's own.
    own: BTreeSet<String>,
    /// Volume and path.
    mounts: Vec<(String, String)>,
    /// Ports in the container that are published.
    ports: Vec<String>,
    health: Vec<String>,
    /// From SIGTERM to SIGKILL.
    grace: String,
}

impl Container {
    /// The configuration that the program reads in it: the image's file and variables, the service's over them.
    fn config(&self) -> Config {
        let file = root().join("deploy/image.toml");
        facewire_config::load(Some(&file), self.env.clone()).unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    /// The service that it runs; `None` for what runs once.
    fn service(&self) -> Option<Service> {
        match self.command.as_slice() {
            [run, service] if run == "run" => Some(Service::named(service).unwrap()),
            _ => None,
        }
    }
}

#[tokio::test]
async fn the_compose_file_is_valid_and_says_what_the_code_says() {
    let Some(tools) = Tools::ready().await else { return };
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("facts.json");
    let mut check = tools.script("check_images.py");
    check.arg("--hadolint").arg(tools.program("bin/hadolint"));
    check.arg("--check-jsonschema").arg(tools.program("bin/check-jsonschema")).arg("--facts").arg(&file);
    let checks = check.output().unwrap();
    assert!(checks.status.success(), "\n{}", said(&checks));
    let facts: Facts = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();

    let run: BTreeSet<&str> = facts.services.iter().filter_map(Container::service).map(Service::name).collect();
    assert_eq!(run, Service::all().into_iter().map(Service::name).collect());
    let once: BTreeSet<&str> = once(&facts).map(|container| container.name.as_str()).collect();
    assert_eq!(once, ["migrate", "models"].into());
    for container in &facts.services {
        ports_and_times(&facts, container);
        if let Some(service) = container.service() {
            needs(service, container);
        }
    }
}

fn once(facts: &Facts) -> impl Iterator<Item = &Container> {
    facts.services.iter().filter(|container| container.service().is_none())
}

fn ports_and_times(facts: &Facts, container: &Container) {
    let (name, config) = (&container.name, container.config());
    let health = config.health.listen.unwrap();
    assert!(facts.exposed.contains(&health.port()) && health.ip().is_unspecified(), "{name}: {health}");
    let Some(service) = container.service() else { return };
    assert_eq!(&container.health[1..], facts.health.as_slice(), "{name} is asked by its own program");
    let grace = humantime::parse_duration(&container.grace).unwrap();
    assert!(grace >= config.shutdown.grace + Duration::from_secs(5), "{name} is killed before its drain is over");
    let published: Vec<u16> = container.ports.iter().map(|port| port.parse().unwrap()).collect();
    if service == Service::Gateway {
        let address = config.gateway.address();
        assert_eq!(published, [address.port()], "{name}");
        assert!(facts.exposed.contains(&address.port()) && address.ip().is_unspecified(), "{name}: {address}");
        assert!(config.gateway.needs_key(), "a gateway that asks for no key");
    } else {
        assert!(published.is_empty(), "{name} publishes {published:?}");
    }
}

/// It is told of the servers that it needs, and of no other.
fn needs(service: Service, container: &Container) {
    let (name, needs) = (&container.name, service.needs());
    assert_eq!(container.own.contains("FACEWIRE__POSTGRES__URL"), needs.rows, "{name}");
    assert_eq!(container.own.contains("FACEWIRE__QDRANT__URL"), needs.index, "{name}");
    assert_eq!(container.own.contains("FACEWIRE__QDRANT__API_KEY"), needs.index, "{name}");
    assert_eq!(container.own.contains("FACEWIRE__IMAGES__URL"), needs.images, "{name}");
    let mounted = |path: &str| container.mounts.iter().any(|(_, at)| at == path);
    // A pack's manifest says what the index holds.
    assert_eq!(mounted(MODELS), needs.models || needs.index, "{name}");
    let config = container.config();
    assert_eq!(config.models.directory.as_deref(), Some(Path::new(MODELS)), "{name}");
    if let Some(url) = &config.images.url {
        assert!(mounted(url.strip_prefix("file://").unwrap()), "{name}: {url} is no volume");
    }
    let provider = if container.name == service.name() { "cpu" } else { "cuda" };
    assert_eq!(config.models.provider, provider, "{name}");
}

/// The real server accepts the file, and has room for what `facewire migrate` sets aside.
#[tokio::test]
async fn the_nats_server_takes_its_configuration() {
    let program = ensure(&[Kind::NatsServer], &FetchOptions::default(), silent()).await.unwrap().nats_server;
    let file = root().join("deploy/compose/nats.conf");
    let mut check = Command::new(program);
    check.args(["-t", "-c"]).arg(&file).env("NATS_PASSWORD", "a-password");
    let checked = check.output().unwrap();
    assert!(checked.status.success(), "{}", said(&checked));
    let options = Config::default().nats;
    let stages = u64::try_from(Stage::ALL.len() - 1).unwrap() * options.stage_max_bytes.as_u64();
    let others = [
        options.crops_max_bytes,
        options.jobs_max_bytes,
        options.results_max_bytes,
        options.dead_max_bytes,
        options.events_max_bytes,
    ];
    let all = stages + others.iter().map(bytesize::ByteSize::as_u64).sum::<u64>();
    let text = std::fs::read_to_string(file).unwrap();
    let size = text.lines().find_map(|line| line.trim().strip_prefix("max_file_store: ")).unwrap();
    assert!(size.parse::<bytesize::ByteSize>().unwrap().as_u64() >= all, "streams may take {all} bytes of {size}");
    // A crop that one server takes, every server takes.
    let payload = text.lines().find(|line| line.starts_with("max_payload: ")).unwrap();
    assert!(std::fs::read_to_string(root().join("deploy/nats/cluster.conf")).unwrap().contains(payload), "{payload}");
}

/// Images contain what the program would fetch itself.
#[test]
fn artifacts_are_those_that_the_code_pins() {
    let lock = std::fs::read_to_string(root().join("deploy/artifacts.lock")).unwrap();
    let pins = std::fs::read_to_string(root().join("shared/artifacts/src/pins.rs")).unwrap();
    let mut sets = BTreeSet::new();
    for line in lock.lines().filter(|line| !line.starts_with('#')) {
        let [set, machine, _, package, version, sum] = line.split_whitespace().collect::<Vec<_>>()[..] else {
            panic!("{line:?} has other columns");
        };
        sets.insert((set, machine));
        let kind = if set == "models" { Kind::DefaultModels } else { Kind::OnnxRuntime };
        assert_eq!(version, kind.version(), "{set}");
        // Of the CUDA build the code knows nothing: an operator names it in models.onnxruntime.
        if set != "onnxruntime-cuda" {
            assert!(pins.contains(&format!("\"{sum}\"")) && pins.contains(&format!("\"{package}\"")), "{line}");
        }
    }
    let expected = [
        ("models", "any"),
        ("onnxruntime-cpu", "aarch64"),
        ("onnxruntime-cpu", "x86_64"),
        ("onnxruntime-cuda", "x86_64"),
    ];
    assert_eq!(sets, expected.into());
}

/// The bill of materials names what the binary links, and nothing of the local stack.
#[test]
fn the_bill_of_materials_is_that_of_the_production_build() {
    let script = root().join("deploy/sbom.py");
    let told = Command::new("python3").arg(script).args(["--runtime", "onnxruntime-cpu"]).output().unwrap();
    assert!(told.status.success(), "{}", said(&told));
    let bom: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
    let components = bom["components"].as_array().unwrap();
    let names: BTreeSet<&str> = components.iter().map(|it| it["name"].as_str().unwrap()).collect();
    let pinned = ["async-nats", "sqlx", "ort", "facewire-ingest", "onnxruntime", "faceplugin-face-recognition-js"];
    assert!(pinned.iter().all(|name| names.contains(name)), "{names:?}");
    assert!(!names.contains("qdrant-edge") && !names.contains("facewire-devstack"), "the local stack is in it");
    // What comes from a registry has the checksum that Cargo.lock or artifacts.lock pins.
    let unpinned = components.iter().filter(|it| it["hashes"].is_null()).map(|it| it["name"].as_str().unwrap());
    let unpinned: Vec<&str> = unpinned.filter(|name| !name.starts_with("facewire")).collect();
    assert!(unpinned.is_empty(), "{unpinned:?}");
}
