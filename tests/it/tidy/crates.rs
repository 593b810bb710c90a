//! The rooms and the arrows between them.

use std::process::Command;

use super::manifest::{Crate, Dependency, Kind, crates};
use super::repo::Repo;
use super::{Faults, breaks, holds, passes};

const SERVICES: [&str; 10] =
    ["ingest", "quality", "embed-gpu", "match", "enrich", "reconciler", "gateway", "jobs", "composition", "facewire"];
const SHARED: [&str; 19] = [
    "artifacts",
    "gallery",
    "erasure",
    "domain",
    "contracts",
    "runtime",
    "bus",
    "store-pg",
    "store-vec",
    "store-object",
    "vision",
    "inference",
    "assess",
    "clustering",
    "evaluation",
    "training",
    "telemetry",
    "config",
    "devstack",
];
/// None of them depends on another.
const ADAPTERS: [&str; 5] = ["bus", "store-pg", "store-vec", "store-object", "inference"];
/// Fuzz targets: a workspace of its own, so that libFuzzer and its flags stay out of everybody's builds. It can inherit
/// neither versions nor lints.
const APART: &str = "fuzz";
/// They depend on no crate of the workspace.
const ALONE: [&str; 3] = ["domain", "config", "clustering"];
/// A crate of the world, and the crates of ours that may name it.
const OWNERS: [(&str, &[&str]); 9] = [
    ("async-nats", &["bus"]),
    ("nkeys", &["bus"]),
    ("sqlx", &["store-pg"]),
    ("qdrant-client", &["store-vec", "devstack"]),
    ("qdrant-edge", &["devstack"]),
    ("object_store", &["store-object"]),
    ("image", &["vision"]),
    ("ort", &["inference"]),
    // One matrix product, with the one unsafe block that it needs.
    ("matrixmultiply", &["clustering"]),
];
/// A crate of ours, and what it must not depend on, ours or the world's.
const FORBIDDEN: [(&str, &[&str]); 9] = [
    ("domain", &["tokio"]),
    ("clustering", &["tokio"]),
    // Pure: a job drives it, and a test of the chain runs what it writes.
    (
        "training",
        &[
            "facewire-bus",
            "facewire-runtime",
            "facewire-store-pg",
            "facewire-store-vec",
            "facewire-store-object",
            "facewire-inference",
            "tokio",
        ],
    ),
    (
        "runtime",
        &["facewire-bus", "facewire-store-pg", "facewire-store-vec", "facewire-store-object", "facewire-inference"],
    ),
    ("contracts", &["facewire-bus", "facewire-runtime", "tokio"]),
    ("vision", &["facewire-inference", "facewire-runtime", "tokio"]),
    (
        "assess",
        &[
            "facewire-bus",
            "facewire-runtime",
            "facewire-store-pg",
            "facewire-store-vec",
            "facewire-store-object",
            "tokio",
        ],
    ),
    // It scales alone: no store at all, and none of the crates that bring the stores with them.
    (
        "embed-gpu",
        &["facewire-store-pg", "facewire-store-vec", "facewire-store-object", "facewire-gallery", "facewire-erasure"],
    ),
    // It keeps the aligned faces, in the object store alone.
    ("quality", &["facewire-store-pg", "facewire-store-vec", "facewire-gallery", "facewire-erasure"]),
];

/// The package name that a room asks for; `None`: there is no such room.
fn package_of(room: &str) -> Option<String> {
    let prefixed = |name: &str| if name == "facewire" { name.to_owned() } else { format!("facewire-{name}") };
    match room.split_once('/') {
        Some(("services", name)) if SERVICES.contains(&name) => Some(prefixed(name)),
        Some(("shared", name)) if SHARED.contains(&name) => Some(prefixed(name)),
        None if room == "tests" || room == APART => Some(prefixed(room)),
        _ => None,
    }
}

/// `match` of `services/match` and of `facewire-match` alike.
fn short(name: &str) -> &str {
    let name = name.rsplit('/').next().unwrap_or(name);
    name.strip_prefix("facewire-").unwrap_or(name)
}

fn each(repo: &Repo, fault: impl Fn(&Crate, &Dependency) -> Option<String>) -> Faults {
    let crates = crates(repo);
    let pairs = crates.iter().flat_map(|c| c.dependencies.iter().map(move |dependency| (c, dependency)));
    pairs.filter_map(|(c, dependency)| Some(format!("{}: {}", c.room, fault(c, dependency)?))).collect()
}

fn rooms(repo: &Repo) -> Faults {
    let fault = |c: &Crate| match package_of(&c.room) {
        None => Some(format!("{}: there is no such room in DESIGN §9", c.room)),
        Some(package) if package != c.package => {
            Some(format!("{}: the package is called {}, not {package}", c.room, c.package))
        }
        Some(_) => None,
    };
    crates(repo).iter().filter_map(fault).collect()
}

fn arrows(repo: &Repo) -> Faults {
    each(repo, |c, dependency| {
        let to = short(&dependency.package);
        let ours = dependency.package == "facewire" || dependency.package.starts_with("facewire-");
        if !ours || c.room == "tests" {
            return None;
        }
        if c.room == APART {
            let pure = ["domain", "contracts", "vision", "inference"].contains(&to);
            return (!pure).then(|| format!("depends on {}: a fuzz target runs without servers", dependency.package));
        }
        let from = short(&c.room);
        // Real servers for a crate's own tests.
        let devstack_in_tests = to == "devstack" && dependency.kind == Kind::Dev;
        let why = match from {
            "facewire" => return None,
            "composition" if SERVICES.contains(&to) && to != "facewire" => return None,
            _ if SERVICES.contains(&to) => "only the composition puts services together",
            _ if devstack_in_tests => return None,
            _ if to == "devstack" => "only the binary facewire and tests start servers",
            _ if ALONE.contains(&from) => "it depends on no crate of the workspace",
            _ if ADAPTERS.contains(&from) && ADAPTERS.contains(&to) => "no adapter depends on an adapter",
            _ => return None,
        };
        Some(format!("depends on {}: {why}", dependency.package))
    })
}

fn owners(repo: &Repo) -> Faults {
    each(repo, |c, dependency| {
        let name = dependency.package.as_str();
        let telemetry: &[&str] = &["telemetry"];
        let owner = OWNERS.iter().find(|(owned, _)| *owned == name).map(|(_, owners)| *owners);
        let owners = owner.or_else(|| name.contains("opentelemetry").then_some(telemetry))?;
        (!owners.contains(&short(&c.room))).then(|| format!("names {name}, which only {} may", owners.join(", ")))
    })
}

fn forbidden(repo: &Repo) -> Faults {
    each(repo, |c, dependency| {
        let (_, forbidden) = FORBIDDEN.iter().find(|(from, _)| *from == short(&c.room))?;
        let name = dependency.package.as_str();
        forbidden.contains(&name).then(|| format!("must not depend on {name}"))
    })
}

fn one_table(repo: &Repo) -> Faults {
    each(repo, |c, dependency| {
        (c.room != APART && !dependency.from_workspace)
            .then(|| format!("takes {} from elsewhere than the workspace", dependency.package))
    })
}

fn lints(repo: &Repo) -> Faults {
    let crates = crates(repo);
    let without = crates.iter().filter(|c| c.room != APART && !c.workspace_lints);
    without.map(|c| format!("{}: [lints] workspace = true is missing", c.room)).collect()
}

#[test]
fn every_crate_lies_in_a_room_and_has_its_name() {
    holds(rooms);
    passes(rooms, &[("services/match/Cargo.toml", "package.name = 'facewire-match'")]);
    passes(rooms, &[("services/facewire/Cargo.toml", "package.name = 'facewire'")]);
    passes(rooms, &[("fuzz/Cargo.toml", "package.name = 'facewire-fuzz'")]);
    breaks(rooms, &[("services/magic/Cargo.toml", "package.name = 'facewire-magic'")], "no such room");
    breaks(rooms, &[("shared/bus/deep/Cargo.toml", "package.name = 'facewire-deep'")], "no such room");
    breaks(rooms, &[("shared/bus/Cargo.toml", "package.name = 'bus'")], "not facewire-bus");
}

#[test]
fn all_crates_are_seen() {
    let rooms: Vec<String> = crates(&Repo::here()).into_iter().map(|c| c.room).collect();
    for room in SHARED.map(|name| format!("shared/{name}")) {
        assert!(rooms.contains(&room), "{room} is missing");
    }
}

#[test]
fn arrows_point_from_services_to_shared_and_never_across() {
    holds(arrows);
    let sample = |room: &str, line: &str| (format!("{room}/Cargo.toml"), line.to_owned());
    let bad = [
        ("services/match", "dependencies.facewire-enrich.workspace = true", "facewire-enrich"),
        ("services/match", "dev-dependencies.facewire-enrich.workspace = true", "facewire-enrich"),
        ("services/match", "dependencies.facewire-devstack.workspace = true", "start servers"),
        ("services/match", "dependencies.facewire-composition.workspace = true", "facewire-composition"),
        ("services/composition", "dependencies.facewire-devstack.workspace = true", "start servers"),
        ("shared/bus", "dependencies.facewire-match.workspace = true", "facewire-match"),
        ("shared/bus", "dependencies.facewire-store-pg.workspace = true", "adapter"),
        ("shared/bus", "target.'cfg(unix)'.dependencies.facewire-store-pg.workspace = true", "adapter"),
        ("shared/domain", "dependencies.facewire-config.workspace = true", "no crate of the workspace"),
        ("shared/config", "build-dependencies.facewire-domain.workspace = true", "no crate of the workspace"),
        ("fuzz", "dependencies.facewire-bus = { path = '../shared/bus' }", "without servers"),
    ];
    for (room, line, hint) in bad {
        let (path, text) = sample(room, line);
        breaks(arrows, &[(&path, &text)], hint);
    }
    let good = [
        ("services/facewire", "dependencies.facewire-match.workspace = true"),
        ("services/composition", "dependencies.facewire-match.workspace = true"),
        ("services/composition", "dev-dependencies.facewire-devstack.workspace = true"),
        ("services/match", "dependencies.facewire-bus.workspace = true"),
        ("shared/bus", "dev-dependencies.facewire-devstack.workspace = true"),
        ("shared/evaluation", "dependencies.facewire-clustering.workspace = true"),
        ("tests", "dev-dependencies.facewire-match.workspace = true"),
        ("fuzz", "dependencies.facewire-vision = { path = '../shared/vision' }"),
    ];
    for (room, line) in good {
        let (path, text) = sample(room, line);
        passes(arrows, &[(&path, &text)]);
    }
}

#[test]
fn each_engine_is_named_by_its_own_crate_alone() {
    holds(owners);
    passes(owners, &[("shared/bus/Cargo.toml", "dependencies.async-nats.workspace = true")]);
    breaks(owners, &[("tests/Cargo.toml", "dev-dependencies.async-nats.workspace = true")], "async-nats");
    breaks(owners, &[("shared/store-vec/Cargo.toml", "dev-dependencies.qdrant-edge = '1'")], "qdrant-edge");
    breaks(owners, &[("services/match/Cargo.toml", "dependencies.db = { package = 'sqlx' }")], "sqlx");
    let renamed = [
        ("Cargo.toml", "workspace.dependencies.pixels = { package = 'image', version = '1' }"),
        ("services/quality/Cargo.toml", "dependencies.pixels.workspace = true"),
    ];
    breaks(owners, &renamed, "names image");
    breaks(owners, &[("services/quality/Cargo.toml", "dependencies.object_store.workspace = true")], "object_store");
    let product = "dependencies.matrixmultiply.workspace = true";
    breaks(owners, &[("shared/evaluation/Cargo.toml", product)], "matrixmultiply");
    breaks(owners, &[("shared/training/Cargo.toml", product)], "matrixmultiply");
    breaks(owners, &[("shared/bus/Cargo.toml", "dependencies.tracing-opentelemetry = '1'")], "telemetry");
}

#[test]
fn stages_stay_free_of_what_is_not_theirs() {
    holds(forbidden);
    let store = "dependencies.facewire-store-pg.workspace = true";
    breaks(forbidden, &[("services/embed-gpu/Cargo.toml", store)], "facewire-store-pg");
    let images = "dependencies.facewire-store-object.workspace = true";
    breaks(forbidden, &[("services/embed-gpu/Cargo.toml", images)], "facewire-store-object");
    passes(forbidden, &[("services/quality/Cargo.toml", images)]);
    for service in ["services/embed-gpu/Cargo.toml", "services/quality/Cargo.toml"] {
        for all_stores in ["facewire-gallery", "facewire-erasure"] {
            breaks(forbidden, &[(service, &format!("dependencies.{all_stores}.workspace = true"))], all_stores);
        }
    }
    breaks(forbidden, &[("shared/assess/Cargo.toml", "dependencies.facewire-bus.workspace = true")], "facewire-bus");
    breaks(forbidden, &[("shared/domain/Cargo.toml", "dependencies.tokio.workspace = true")], "tokio");
    breaks(forbidden, &[("shared/training/Cargo.toml", "dependencies.tokio.workspace = true")], "tokio");
    passes(forbidden, &[("services/match/Cargo.toml", store)]);
}

#[test]
fn versions_stand_in_one_table() {
    holds(one_table);
    passes(one_table, &[("tests/Cargo.toml", "dependencies.serde = { workspace = true, features = ['rc'] }")]);
    passes(one_table, &[("fuzz/Cargo.toml", "dependencies.libfuzzer-sys = '1'")]);
    breaks(one_table, &[("tests/Cargo.toml", "dependencies.serde = '1'")], "serde");
    breaks(one_table, &[("tests/Cargo.toml", "dependencies.serde = { path = '../serde' }")], "serde");
}

#[test]
fn every_crate_takes_the_lints() {
    holds(lints);
    passes(
        lints,
        &[("tests/Cargo.toml", "lints.workspace = true"), ("fuzz/Cargo.toml", "lints.rust.missing_docs = 'warn'")],
    );
    breaks(lints, &[("tests/Cargo.toml", "lints.rust.unsafe_code = 'warn'")], "lints");
}

/// `cargo test` does not build the fuzz targets: without this, a new dependency of a crate that they use is noticed by CI.
#[test]
fn the_lock_file_of_the_fuzz_targets_is_up_to_date() {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/Cargo.toml");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--locked", "--format-version=1", "--manifest-path", manifest]);
    let told = cargo.output().unwrap();
    let error = String::from_utf8_lossy(&told.stderr);
    assert!(told.status.success(), "{error}\ncargo update --workspace --manifest-path fuzz/Cargo.toml fixes it");
}
