//! One table of signals (DESIGN §9): how many files name a signal that the gate judges, and whether those that must do.
//!
//! Counted are files that somebody who adds a signal has to touch: Rust, `proto/`, migrations and `docs/`. Not counted:
//! tests, benches, examples and fuzz targets, which name what they try; comments, which may take a signal as their example,
//! and README.md, which does; dashboards and alerts in `deploy/`, which are an operator's own choice of what to look at, by
//! the names of metrics. Signals that are measured and not judged are what a model says of itself and travel with it.

use std::collections::BTreeSet;

use facewire_domain::Signal;

use super::repo::{File, Repo};
use super::{Faults, breaks, holds, passes};

/// The table, the function that measures, `proto/`, a migration, `docs/`.
const MAX_FILES: usize = 5;

const TABLE: &str = "shared/domain/src/signals.rs";
pub(super) const MIGRATIONS: &str = "shared/store-pg/migrations/";

/// Names that code has for other things too (a detector's score, a search's): such a signal is told by `Signal::Score` and by
/// the keys of its limits.
const EVERYDAY: [&str; 1] = ["score"];

/// Every word that code can name a signal by: its variant, its name, and those of its limits.
fn words_of(signal: Signal) -> Vec<String> {
    let bounds = signal.spec().bounds.iter();
    let words: BTreeSet<String> = if EVERYDAY.contains(&signal.name()) {
        bounds.map(|bound| bound.key.to_owned()).chain([format!("Signal::{signal:?}")]).collect()
    } else {
        let names = bounds.flat_map(|bound| [bound.key, bound.name]).chain([signal.name()]);
        names.map(str::to_owned).chain([format!("{signal:?}")]).collect()
    };
    words.into_iter().collect()
}

pub(super) fn names(text: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        let (before, after) = (text.get(..at), text.get(at + word.len()..));
        !before.is_some_and(|text| text.ends_with(part)) && !after.is_some_and(|text| text.starts_with(part))
    })
}

/// Text as far as it counts.
pub(super) fn counted(file: &File) -> String {
    let (path, text) = (file.path.as_str(), file.text().unwrap_or_default());
    let aside = ["tests", "benches", "examples", "fuzz"];
    if path.split('/').any(|folder| aside.contains(&folder)) || path.ends_with("tests.rs") {
        return String::new();
    }
    if file.is_rust() {
        code(text)
    } else if [".proto", ".sql"].iter().any(|end| path.ends_with(end)) || path.starts_with("docs/") {
        text.to_owned()
    } else {
        String::new()
    }
}

/// Rust without comments and without the tests. A module ends at the first brace at the left edge, where rustfmt puts its own.
fn code(text: &str) -> String {
    let (mut own, mut rest) = (String::new(), text);
    while let Some((before, tests)) = rest.split_once("#[cfg(test)]\nmod tests {") {
        own.push_str(before);
        rest = tests.split_once("\n}\n").map_or("", |(_, behind)| behind);
    }
    own.push_str(rest);
    own.lines().map(|line| format!("{}\n", before_comment(line))).collect()
}

fn before_comment(line: &str) -> &str {
    let (mut quoted, mut last) = (false, ' ');
    for (at, c) in line.char_indices() {
        match c {
            '"' if last != '\\' && last != '\'' => quoted = !quoted,
            '/' if last == '/' && !quoted => return line.get(..at - 1).unwrap_or_default(),
            _ => {}
        }
        last = c;
    }
    line
}

/// The files that name a signal. The schema grows by steps: its last one that does stands for all, since a step that was
/// released is never touched again.
fn files_of(repo: &Repo, signal: Signal) -> Vec<&str> {
    let words = words_of(signal);
    let naming = |file: &&File| {
        let text = counted(file);
        words.iter().any(|word| names(&text, word))
    };
    let found: BTreeSet<&str> = repo.files.iter().filter(naming).map(|file| file.path.as_str()).collect();
    let (steps, others): (Vec<&str>, Vec<&str>) = found.into_iter().partition(|path| path.starts_with(MIGRATIONS));
    others.into_iter().chain(steps.last().copied()).collect()
}

fn spread(repo: &Repo) -> Faults {
    let judged = Signal::ALL.into_iter().filter(|signal| !signal.spec().bounds.is_empty());
    let fault = |signal: Signal| {
        let files = files_of(repo, signal);
        let (count, list) = (files.len(), files.join(", "));
        (count > MAX_FILES).then(|| {
            format!(
                "{TABLE}: {signal} is named in {count} files, more than {MAX_FILES}; derive it from the table: {list}"
            )
        })
    };
    judged.filter_map(fault).collect()
}

/// What the compiler cannot see: that a signal has its column in the views, and that the column is described.
fn described(repo: &Repo) -> Faults {
    let missing = |signal: Signal| {
        let files = files_of(repo, signal);
        let lacks = |what: &str| !files.iter().any(|path| path.starts_with(what));
        let what: Vec<&str> =
            [TABLE, "proto/", MIGRATIONS, "docs/SQL.md"].into_iter().filter(|what| lacks(what)).collect();
        (!what.is_empty()).then(|| format!("{TABLE}: {signal} is missing in {}", what.join(", ")))
    };
    let told_by_name = |signal: &Signal| !EVERYDAY.contains(&signal.name());
    Signal::ALL.into_iter().filter(told_by_name).filter_map(missing).collect()
}

/// Files that each have this line.
pub(super) fn sample<'a>(paths: &[&'a str], line: &'a str) -> Vec<(&'a str, &'a str)> {
    paths.iter().map(|path| (*path, line)).collect()
}

#[test]
fn a_signal_is_named_in_few_files() {
    holds(spread);
    let five = ["a/src/a.rs", "a/src/b.rs", "proto/a.proto", "docs/a.md", "shared/store-pg/migrations/1.sql"];
    let six = [&five[..], &["services/a/src/why.rs"]].concat();
    for line in ["x.blur", "Signal::Blur", "\"min_blur\"", "// http\nlet url = \"http://a?\" + blur;"] {
        passes(spread, &sample(&five, line));
        breaks(spread, &sample(&six, line), "blur is named in 6 files, more than 5");
    }
    breaks(spread, &sample(&six, "detail.signal == \"too_dark\""), "services/a/src/why.rs");
    // A signal by several of its names is still one.
    let mixed = [sample(&five, "max_brightness"), sample(&six[5..], "too_dark")].concat();
    breaks(spread, &mixed, "brightness is named in 6 files");
}

#[test]
fn what_need_not_be_touched_is_not_counted() {
    let five = ["a/src/a.rs", "a/src/b.rs", "a/src/c.rs", "docs/a.md", "shared/store-pg/migrations/1.sql"];
    let with = |more: &[(&'static str, &'static str)]| [&sample(&five, "blur")[..], more].concat();
    let aside = [
        ("tests/it/a.rs", "blur"),
        ("shared/a/benches/a.rs", "blur"),
        ("shared/a/src/a_tests.rs", "blur"),
        ("fuzz/fuzz_targets/a.rs", "blur"),
        ("README.md", "blur"),
        ("deploy/grafana/dashboards/a.json", "blur"),
        ("a/src/d.rs", "let a = 1; // blur\n/// blur\nunblurred(blur_of, \"the // x\"); // blur"),
        ("a/src/e.rs", "fn a() {}\n\n#[cfg(test)]\nmod tests {\n    blur\n}"),
        ("shared/store-pg/migrations/0.sql", "blur"),
        ("shared/store-pg/migrations/2.sql", "blur"),
    ];
    passes(spread, &with(&aside));
    breaks(spread, &with(&[("a/src/d.rs", "format!(\"http://{}\", blur)")]), "6 files");
    // Code behind the tests is code.
    let behind = "#[cfg(test)]\nmod tests {\n    fn a() {}\n}\n\nfn b() { blur }\n";
    breaks(spread, &with(&[("a/src/d.rs", behind)]), "6 files");
    // Not judged.
    passes(spread, &sample(&["1.rs", "2.rs", "3.rs", "4.rs", "5.rs", "6.rs", "7.rs"], "detection_score"));
}

#[test]
fn every_signal_has_its_column_and_its_line_in_the_docs() {
    holds(described);
    let all: String = Signal::ALL.into_iter().map(|signal| format!("{signal} ")).collect();
    let rest: String = Signal::ALL.into_iter().skip(1).map(|signal| format!("{signal} ")).collect();
    let with = |docs| {
        vec![
            (TABLE, all.as_str()),
            ("proto/a.proto", &all),
            ("shared/store-pg/migrations/3.sql", &all),
            ("docs/SQL.md", docs),
        ]
    };
    passes(described, &with(&all));
    breaks(described, &with(&rest), "is missing in docs/SQL.md");
}
