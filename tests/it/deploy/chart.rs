//! The chart `helm/facewire`: `tests/deploy/check_chart.py` renders and validates it, and what it says of the program is
//! compared with the code's own tables. No name of a stage, stream or variable is written down here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use facewire_bus::inbox_prefix;
use facewire_composition::access::{ACCOUNT, UserKeys, users};
use facewire_composition::models::StageDevices;
use facewire_composition::{Config, Service};
use facewire_contracts::subjects;
use facewire_devstack::testing;
use facewire_domain::Stage;

use super::bounds;
use super::facts::{Facts, Pod, Scaling};
use super::tools::{Tools, root, said};

/// Variables that are no options: the command line's, the cache directory, and the authorities that TLS trusts.
const BESIDE: [&str; 4] = ["FACEWIRE_CONFIG", "FACEWIRE_CACHE", "FACEWIRE_DATA", "SSL_CERT_FILE"];

/// Between the end of a drain and the kill, at least.
const SPARE: u64 = 5;

#[tokio::test]
async fn the_chart_renders_is_valid_and_says_what_the_code_says() {
    let Some(tools) = Tools::ready().await else { return };
    let facts = checked(&tools);
    for (values, facts) in &facts {
        for pod in &facts.pods {
            let config = accepted(values, facts, pod);
            ports_and_probes(values, pod, &config);
            the_file_and_a_head_are_mounted(values, pod, &config);
        }
        for scaling in &facts.scaling {
            a_stage_follows_its_own_queue(values, scaling);
            replicas_stay_within_the_limit_of_the_consumer(values, facts, scaling);
        }
    }
    let production = &facts["production"];
    every_service_has_what_it_needs(production);
    users_and_keys(production);
    metrics_are_those_of_the_code(&facts["gpu"]);
    lists_of_devices_are_understood(&facts["gpu"]);
    assert!(production.scaling.iter().all(|it| it.trigger == "nats-jetstream" && it.metadata["account"] == ACCOUNT));
    let scaled: BTreeSet<&str> = production.scaling.iter().map(|it| it.service.as_str()).collect();
    assert_eq!(scaled, BTreeSet::from(Stage::ALL.map(Stage::service)));
    sections_are_those_of_the_configuration();
    a_variable_names_a_collection_as_it_is_written(&tools);
}

/// Runs the checks, and returns the facts by values file.
fn checked(tools: &Tools) -> BTreeMap<String, Facts> {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("facts.json");
    let mut check = tools.script("check_chart.py");
    check.arg("--helm").args(["helm3", "helm4"].map(|name| tools.program(name)));
    if let Some(schemas) = testing::shared_data("schemas") {
        check.arg("--schemas").arg(schemas);
    }
    let checks = check.arg("--facts").arg(&file).output().unwrap();
    assert!(checks.status.success(), "\n{}", said(&checks));
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

/// The rendered file with the pod's variables, read as the program reads them.
fn accepted(values: &str, facts: &Facts, pod: &Pod) -> Config {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("facewire.toml");
    std::fs::write(&file, &facts.toml).unwrap();
    let foreign = |name: &&String| !name.starts_with("FACEWIRE__") && !BESIDE.contains(&name.as_str());
    let unknown: Vec<&String> = pod.env.keys().filter(foreign).collect();
    assert!(unknown.is_empty(), "{values}, {}: nobody reads {unknown:?}", pod.service);
    Config::load_from(Some(&file), pod.env.clone())
        .unwrap_or_else(|error| panic!("{values}, {}: {error}\n{}", pod.service, facts.toml))
}

fn ports_and_probes(values: &str, pod: &Pod, config: &Config) {
    if pod.kind != "Deployment" {
        assert_eq!(pod.args[0], "migrate", "{values}: only the migration is no service");
        return;
    }
    let health = config.health.listen.unwrap();
    assert_eq!(pod.ports["health"], health.port(), "{values}, {}", pod.service);
    assert!(health.ip().is_unspecified(), "the kubelet does not ask on loopback");
    if let Some(port) = pod.ports.get("http") {
        assert_eq!(*port, config.gateway.address().port(), "{values}");
        assert!(config.gateway.needs_key(), "{values}: a gateway that asks for no key");
    }
    for (probe, path) in [("livenessProbe", "/livez"), ("readinessProbe", "/readyz"), ("startupProbe", "/startupz")] {
        assert_eq!(pod.probes[probe], path, "{values}, {}", pod.service);
    }
    let drain = config.shutdown.grace.as_secs() + SPARE;
    assert!(pod.grace.unwrap() >= drain, "{values}, {}: killed after {:?} s", pod.service, pod.grace);
    // The sink publishes for half of the drain: what was asked last still gets its PubAck.
    assert!(config.shutdown.grace / 2 > config.nats.request_timeout, "{values}");
}

/// The file is there. A projection head in a claim of its own is where whoever makes or compares embeddings reads it, and nowhere else. All
/// other paths are for `rules.py` (`mounts`).
fn the_file_and_a_head_are_mounted(values: &str, pod: &Pod, config: &Config) {
    let file = Path::new(&pod.env["FACEWIRE_CONFIG"]);
    let mounted = |at: Option<&Path>| pod.mounts.iter().any(|path| at == Some(Path::new(path)));
    assert!(mounted(file.parent()), "{values}, {}: {} is no file", pod.service, file.display());
    let Some(head) = config.models.head.as_deref().filter(|head| head.is_absolute()) else { return };
    // The migration compares the index with what the pack and its head make.
    let needs = Service::named(&pod.service).map(Service::needs);
    let reads = needs.is_none_or(|needs| needs.models || needs.index);
    assert_eq!(mounted(head.parent()), reads, "{values}, {}: {}", pod.service, head.display());
}

fn a_stage_follows_its_own_queue(values: &str, scaling: &Scaling) {
    let stage: Stage = scaling.service.parse().unwrap();
    if scaling.trigger == "nats-jetstream" {
        assert_eq!(scaling.metadata["stream"], stage.stream(), "{values}");
        assert_eq!(scaling.metadata["consumer"], subjects::consumer(stage), "{values}");
    } else {
        let matcher = format!("stage=\"{stage}\"");
        assert_eq!(scaling.metadata["query"].matches(&matcher).count(), 2, "{values}: {scaling:?}");
        assert_eq!(scaling.metadata["ignoreNullValues"], "false", "{values}");
    }
}

/// What one replica holds in hand is no reason for another, and all together stay within the consumer's limit.
fn replicas_stay_within_the_limit_of_the_consumer(values: &str, facts: &Facts, scaling: &Scaling) {
    let stage: Stage = scaling.service.parse().unwrap();
    let pod = facts.deployments().find(|pod| pod.service == scaling.service).unwrap();
    let mut config = accepted(values, facts, pod);
    // A pod counts its own processors, and not those of the machine of this test.
    config.quality.threads = pod.cores;
    if config.models.provider_of(Stage::Embed) == "cpu" {
        config.embed.threads = Some(pod.cores);
    }
    // Whatever the pack: one whose runs are smaller holds less.
    let held = bounds::most_in_flight(&config, usize::MAX)[&stage];
    let lag = scaling.metadata.get("lagThreshold").or_else(|| scaling.metadata.get("threshold")).unwrap();
    assert!(lag.parse::<u64>().unwrap() > held, "{values}, {stage}: a replica alone holds {held}");
    let most = i64::try_from(scaling.max * held).unwrap();
    let limit = config.stage(stage).max_ack_pending;
    assert!(most <= limit, "{values}, {stage}: {} replicas hold {most}, and {limit} may be unacked", scaling.max);
}

fn every_service_has_what_it_needs(facts: &Facts) {
    let deployed: BTreeSet<&str> = facts.deployments().map(|pod| pod.service.as_str()).collect();
    let services: BTreeSet<&str> = Service::all().into_iter().map(Service::name).collect();
    assert_eq!(deployed, services);
    for pod in facts.deployments() {
        let needs = Service::named(&pod.service).unwrap().needs();
        assert_eq!(pod.args, ["run", pod.service.as_str()]);
        let has = |name: &str| pod.env.contains_key(name);
        assert_eq!(has("FACEWIRE__POSTGRES__URL"), needs.rows, "{}", pod.service);
        assert_eq!(has("FACEWIRE__QDRANT__API_KEY"), needs.index, "{}", pod.service);
        assert_eq!(has("FACEWIRE__IMAGES__URL"), needs.images, "{}", pod.service);
        assert_eq!(pod.mounts.iter().any(|path| path == "/models"), needs.models, "{}", pod.service);
    }
}

/// What the values say of providers is what the program makes of it.
fn lists_of_devices_are_understood(facts: &Facts) {
    let embed = facts.deployments().find(|pod| pod.service == Stage::Embed.service()).unwrap();
    let devices = StageDevices::of(&accepted("gpu", facts, embed).models).unwrap().embed;
    assert_eq!(devices.to_string(), embed.env["FACEWIRE__MODELS__PROVIDER"]);
    assert!(devices.all().count() > 1, "no list: {devices}");
}

/// Each pod is the user that `facewire nats-config` makes for it.
fn users_and_keys(facts: &Facts) {
    let known: BTreeSet<String> = users(&Config::default(), &[]).into_iter().map(|user| user.name).collect();
    let place = tempfile::tempdir().unwrap();
    let keys = UserKeys::open(place.path(), false).unwrap();
    for pod in &facts.pods {
        assert!(known.contains(&pod.service), "{} is no user of {known:?}", pod.service);
        assert_eq!(pod.env["FACEWIRE__NATS__INBOX_PREFIX"], inbox_prefix(&pod.service));
        let seed = keys.seed_file(&pod.service);
        let file = seed.file_name().unwrap().to_str().unwrap();
        assert_eq!(pod.env["FACEWIRE__NATS__NKEY"].rsplit('/').next(), Some(file));
    }
}

/// Prometheus' names in queries, with dots for their underscores, are literals in the table of metrics.
fn metrics_are_those_of_the_code(facts: &Facts) {
    let table = std::fs::read_to_string(root().join("shared/telemetry/src/metrics.rs")).unwrap();
    let known = |name: &str| table.contains(&format!("\"{}\"", name.replace('_', ".")));
    assert!(!facts.scaling.is_empty());
    for scaling in &facts.scaling {
        let query = &scaling.metadata["query"];
        let words = query.split(|c: char| !c.is_alphanumeric() && c != '_');
        let names: Vec<&str> = words.filter(|word| word.starts_with("facewire_")).collect();
        assert_eq!(names.len(), 2, "{query}");
        assert!(names.into_iter().all(known), "{query}");
    }
}

/// A collection's name is in small letters in a variable, and other variables have none.
fn a_variable_names_a_collection_as_it_is_written(tools: &Tools) {
    let chart = root().join("helm/facewire");
    for (name, is_taken) in
        [("FACEWIRE__MATCH__COLLECTIONS__vault-1__FPIR", true), ("FACEWIRE__NATS__U/RL", false), ("facewire__x", false)]
    {
        let mut helm = Command::new(tools.program("helm3"));
        helm.args(["template", "n"]).arg(&chart).arg("--values").arg(chart.join("ci/small-values.yaml"));
        helm.args(["--kube-version", "1.34.0", "--set-string", &format!("defaults.env.{name}=0.001")]);
        let rendered = helm.output().unwrap();
        assert_eq!(rendered.status.success(), is_taken, "{name}: {}", String::from_utf8_lossy(&rendered.stderr));
        assert_eq!(String::from_utf8_lossy(&rendered.stdout).contains(name), is_taken, "{name}");
    }
}

/// `config` in the values has the sections of `facewire.toml`, and no other.
fn sections_are_those_of_the_configuration() {
    let text = std::fs::read_to_string(root().join("helm/facewire/values.schema.json")).unwrap();
    let schema: serde_json::Value = serde_json::from_str(&text).unwrap();
    let sections = schema["properties"]["config"]["properties"].as_object().unwrap();
    let config: toml::Table = toml::to_string(&Config::default()).unwrap().parse().unwrap();
    let names = |key: &String| key.clone();
    assert_eq!(sections.keys().map(names).collect::<BTreeSet<_>>(), config.keys().map(names).collect::<BTreeSet<_>>());
}
