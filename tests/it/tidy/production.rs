//! What is built: a production build links nothing of the local stack (DESIGN §9), and `cargo run` is the one binary.

use std::process::Command;

/// Crates that only the local stack needs.
const LOCAL: [&str; 2] = ["qdrant-edge", "facewire-devstack"];

/// Crates that the binary links, with these flags.
fn linked(flags: &[&str]) -> Vec<String> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    cargo.args(["tree", "--locked", "-p", "facewire", "-e", "normal", "--prefix", "none", "--no-dedupe"]).args(flags);
    let output = cargo.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

fn of_the_local_stack(flags: &[&str]) -> Vec<&'static str> {
    let linked = linked(flags);
    LOCAL.into_iter().filter(|local| linked.iter().any(|name| name == local)).collect()
}

#[test]
fn a_production_build_links_nothing_of_the_local_stack() {
    assert_eq!(of_the_local_stack(&["--no-default-features"]), Vec::<&str>::new());
    // The default build does: the names are right.
    assert_eq!(of_the_local_stack(&[]), LOCAL);
}

/// README's first command is `cargo run --release -- demo`: Cargo must know which binary that is without being told.
#[test]
fn cargo_run_means_the_one_binary() {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let output = cargo.args(["metadata", "--locked", "--no-deps", "--format-version", "1"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let defaults = metadata["workspace_default_members"].as_array().unwrap();
    let packages = metadata["packages"].as_array().unwrap().iter();
    let binaries: Vec<&str> = packages
        .filter(|package| defaults.contains(&package["id"]))
        .flat_map(|package| package["targets"].as_array().unwrap())
        .filter(|target| target["kind"][0] == "bin")
        .map(|target| target["name"].as_str().unwrap())
        .collect();
    assert_eq!(binaries, ["facewire"]);
}
