//! What a production build links: nothing of the local stack (DESIGN §9).

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
