//! `tidy`: the rules of DESIGN §9 and of the house, held against the files themselves. Each rule has a test on a sample
//! that breaks it, so that it can fail.

mod crates;
mod manifest;
mod production;
mod repo;
mod signals;
mod stages;
mod text;

use repo::Repo;

/// What is wrong, a line each, beginning with the path.
type Faults = Vec<String>;

fn holds(rule: impl Fn(&Repo) -> Faults) {
    let faults = rule(&Repo::here());
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

/// The sample breaks the rule once, and the fault speaks of `hint`.
#[track_caller]
fn breaks(rule: impl Fn(&Repo) -> Faults, files: &[(&str, &str)], hint: &str) {
    let faults = rule(&Repo::of(files));
    assert!(faults.len() == 1 && faults.iter().all(|fault| fault.contains(hint)), "wanted `{hint}`, got {faults:?}");
}

#[track_caller]
fn passes(rule: impl Fn(&Repo) -> Faults, files: &[(&str, &str)]) {
    assert_eq!(rule(&Repo::of(files)), Faults::new());
}
