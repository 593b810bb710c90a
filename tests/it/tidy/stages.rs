//! One list of stages (DESIGN §9: a new stage touches at most eight files): in how many files the list is spelled out.
//!
//! A new stage's own crate is new, not touched. Two files are touched for what the stage is: its message in `proto/` and the
//! stage before it, which publishes to it. The others are those that name every stage, one by one. Counted are the files
//! that [`super::signals`] counts, and manifests; not counted are tests, comments, README.md and `deploy/`.

use std::collections::BTreeSet;

use facewire_domain::Stage;

use super::repo::{File, Repo};
use super::signals::{MIGRATIONS, counted, names, sample};
use super::{Faults, breaks, holds, passes};

/// Eight, less the message and the stage before.
const MAX_LISTS: usize = 6;

/// Rust's and a manifest's names of a stage, and its name in quotation marks.
fn words_of(stage: Stage) -> [String; 5] {
    let package = format!("facewire-{}", stage.service());
    let library = package.replace('-', "_");
    [format!("Stage::{stage:?}"), package, library, format!("\"{stage}\""), format!("'{stage}'")]
}

/// All of them, or all but one: a list with an arm for the rest has to be looked at as well.
fn spells_out(file: &File) -> bool {
    let text = if file.path.ends_with("Cargo.toml") && !file.path.starts_with("tests/") {
        file.text().unwrap_or_default().to_owned()
    } else {
        counted(file)
    };
    let named = Stage::ALL.into_iter().filter(|stage| words_of(*stage).iter().any(|word| names(&text, word)));
    named.count() + 1 >= Stage::ALL.len()
}

/// The schema grows by steps: its last one that has the list stands for all.
fn lists(repo: &Repo) -> Vec<&str> {
    let found: BTreeSet<&str> = repo.files.iter().filter(|f| spells_out(f)).map(|file| file.path.as_str()).collect();
    let (steps, others): (Vec<&str>, Vec<&str>) = found.into_iter().partition(|path| path.starts_with(MIGRATIONS));
    others.into_iter().chain(steps.last().copied()).collect()
}

fn spread(repo: &Repo) -> Faults {
    let lists = lists(repo);
    let fault = || {
        format!(
            "shared/domain/src/stage.rs: the list of stages is spelled out in {} files, more than {MAX_LISTS}; derive it \
             from Stage::ALL: {}",
            lists.len(),
            lists.join(", ")
        )
    };
    (lists.len() > MAX_LISTS).then(fault).into_iter().collect()
}

#[test]
fn a_stage_is_added_in_few_files() {
    holds(spread);
    // The rule sees the lists that are sure to be there.
    let here = Repo::here();
    let found = lists(&here);
    for list in ["Cargo.toml", "shared/domain/src/stage.rs", "services/composition/src/service.rs"] {
        assert!(found.contains(&list), "{list} in {found:?}");
    }
    let all = |word: fn(Stage) -> String| Stage::ALL.map(word).join(" ");
    let six = ["a/1.rs", "a/2.rs", "a/3.rs", "a/Cargo.toml", "docs/a.md", "shared/store-pg/migrations/1.sql"];
    let seven = [&six[..], &["a/4.rs"]].concat();
    for line in [
        all(|stage| format!("Stage::{stage:?}")),
        all(|stage| format!("\"{stage}\"")),
        all(|stage| format!("'{stage}'")),
        all(|stage| format!("facewire-{}.workspace = true", stage.service())),
    ] {
        passes(spread, &sample(&six, &line));
        breaks(spread, &sample(&seven, &line), "spelled out in 7 files");
        // The last one may be an arm for the rest. Two stages less are no list.
        let shorter = line.replacen("nrich", "", 1);
        breaks(spread, &sample(&seven, &shorter), "spelled out in 7 files");
        passes(spread, &sample(&seven, &shorter.replacen("atch", "", 1)));
    }
}
