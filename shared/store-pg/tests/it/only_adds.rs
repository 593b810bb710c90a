//! What a migration after a release may do (ARCHITECTURE.md, "Upgrades"): it only adds, so that the last release goes on working on the
//! schema. Whole statements are judged, by their words; no database is asked.

use std::collections::BTreeSet;

use crate::compat::{migrations, released};

/// What the statements of the last release would miss. `-- contract: <reason>` in a statement, or right before it, says that they do not:
/// what goes has been unused since the release before it.
const TAKES_AWAY: [(&str, &str); 12] = [
    ("DROP TABLE", "a table is dropped"),
    ("DROP COLUMN", "a column is dropped"),
    ("DROP VIEW", "a view is dropped"),
    ("DROP FUNCTION", "a function is dropped"),
    ("DROP TRIGGER", "a trigger is dropped"),
    ("DROP DEFAULT", "a default is dropped"),
    ("DROP TYPE", "a type is dropped"),
    ("DROP SCHEMA", "a schema is dropped"),
    ("RENAME", "something gets another name"),
    ("TRUNCATE", "rows are removed"),
    ("SET NOT NULL", "rows of the last release may lack a value"),
    ("OWNER TO", "a table gets another owner"),
];

/// A statement in capitals, its brackets and commas words of their own.
#[derive(Default)]
struct Statement {
    /// Its first line.
    line: usize,
    words: Vec<String>,
    /// A comment in it, or right before it, says that nobody uses any more what it takes away.
    excused: bool,
}

fn statements(text: &str) -> Vec<Statement> {
    let (mut found, mut open) = (Vec::new(), Statement::default());
    for (line, number) in text.lines().zip(1..) {
        let (code, comment) = line.split_once("--").unwrap_or((line, ""));
        for (part, at) in code.split(';').zip(0..) {
            if at > 0 {
                found.push(std::mem::take(&mut open));
            }
            if open.words.is_empty() {
                open.line = number;
            }
            let apart = part.to_uppercase().replace('(', " ( ").replace(')', " ) ").replace(',', " , ");
            open.words.extend(apart.split_whitespace().map(str::to_owned));
        }
        // Behind a statement's end it is of that one.
        let of = if open.words.is_empty() && code.contains(';') { found.last_mut() } else { Some(&mut open) };
        if let (Some(statement), Some(reason)) = (of, excuse(comment)) {
            statement.excused |= reason.len() > 3;
        }
    }
    found.push(open);
    found.retain(|statement| !statement.words.is_empty());
    found
}

/// What a migration makes, and what it makes anew.
struct Made {
    /// Its own tables hold no rows of the last release.
    tables: BTreeSet<String>,
    /// What takes the place of a constraint or an index of its name is left to whoever reads it: no rule here can tell a wider one.
    dropped: BTreeSet<String>,
}

impl Made {
    fn by(statements: &[Statement]) -> Self {
        let after = |what: [&'static str; 2]| -> BTreeSet<String> {
            let words = |statement: &Statement| named(&statement.words, what).map(str::to_owned).collect::<Vec<_>>();
            statements.iter().flat_map(words).collect()
        };
        let dropped = after(["DROP", "CONSTRAINT"]).into_iter().chain(after(["DROP", "INDEX"])).collect();
        Self { tables: after(["CREATE", "TABLE"]), dropped }
    }
}

/// The names behind two words.
fn named<'a>(words: &'a [String], what: [&'static str; 2]) -> impl Iterator<Item = &'a str> {
    let places = words.windows(2).enumerate().filter(move |(_, pair)| **pair == what).map(|(at, _)| at + 2);
    places.filter_map(move |at| words[at..].iter().map(String::as_str).find(|word| !NO_NAME.contains(word)))
}

/// What stands between a statement's verb and the name that it is about.
const NO_NAME: [&str; 5] = ["IF", "NOT", "EXISTS", "ONLY", "CONCURRENTLY"];

/// The table that is altered, and what is done to it.
fn altered<'a>(words: &'a [&'a str]) -> Option<(&'a str, Vec<&'a [&'a str]>)> {
    let rest = words.strip_prefix(&["ALTER", "TABLE"])?;
    let at = rest.iter().position(|word| !NO_NAME.contains(word))?;
    let mut depth = 0;
    let between = |word: &&str| {
        depth += i32::from(*word == "(") - i32::from(*word == ")");
        depth == 0 && *word == ","
    };
    Some((rest[at], rest[at + 1..].split(between).collect()))
}

/// What ALTER TABLE adds that is no column.
const NO_COLUMN: [&str; 6] = ["CONSTRAINT", "CHECK", "EXCLUDE", "FOREIGN", "PRIMARY", "UNIQUE"];

/// What is wrong with one action on a table of the last release.
fn of_action(action: &[&str], made: &Made) -> Option<&'static str> {
    match action {
        ["DROP", what, ..] if *what != "CONSTRAINT" => Some("a column is dropped"),
        ["ALTER", "COLUMN", _, "TYPE", ..] | ["ALTER", "COLUMN", _, "SET", "DATA", ..] => {
            Some("a column gets another type")
        }
        ["ALTER", "COLUMN", ..] => None,
        ["ALTER", _, "TYPE", ..] | ["ALTER", _, "SET", "DATA", ..] => Some("a column gets another type"),
        ["ADD", "CONSTRAINT", name, ..] if made.dropped.contains(*name) => None,
        ["ADD", what, ..] if NO_COLUMN.contains(what) => Some("what the last release writes may be refused"),
        ["ADD", column @ ..] => {
            let required = column.windows(2).any(|pair| pair == ["NOT", "NULL"]);
            let given = column.iter().any(|word| ["DEFAULT", "GENERATED"].contains(word));
            // Without a value of its own it is NULL in each row that the last release writes, and these differ.
            if given && column.iter().any(|word| ["PRIMARY", "UNIQUE"].contains(word)) {
                return Some("what the last release writes may be refused");
            }
            (required && !given).then_some("the last release gives a new column no value")
        }
        _ => None,
    }
}

/// What is wrong with a statement.
fn of_statement(words: &[&str], made: &Made) -> Option<&'static str> {
    let altered = altered(words).filter(|(table, _)| !made.tables.contains(*table));
    if let Some(why) = altered.and_then(|(_, actions)| actions.into_iter().find_map(|action| of_action(action, made))) {
        return Some(why);
    }
    if let Some(rest) = words.strip_prefix(&["CREATE", "UNIQUE", "INDEX"]) {
        let mut names = rest.iter().filter(|word| !NO_NAME.contains(*word));
        let (name, table) = (names.next()?, names.find(|word| **word != "ON")?);
        let is_new = made.tables.contains(*table) || made.dropped.contains(*name);
        return (!is_new).then_some("what the last release writes may be refused");
    }
    let spaced = format!(" {} ", words.join(" "));
    TAKES_AWAY.iter().find(|(what, _)| spaced.contains(&format!(" {what} "))).map(|(_, why)| *why)
}

/// What is wrong with a migration, a line for each statement.
fn faults(text: &str) -> Vec<String> {
    let statements = statements(text);
    let made = Made::by(&statements);
    let fault = |statement: &Statement| {
        let words: Vec<&str> = statement.words.iter().map(String::as_str).collect();
        let why = of_statement(&words, &made).filter(|_| !statement.excused)?;
        let line = statement.line;
        Some(format!("line {line}: {why}; say `-- contract: <reason>` if nobody uses it any more"))
    };
    statements.iter().filter_map(fault).collect()
}

fn excuse(comment: &str) -> Option<&str> {
    comment.trim_start_matches('-').trim().strip_prefix("contract:").map(str::trim)
}

#[test]
fn what_comes_after_a_release_only_adds_to_it() {
    let released = released();
    for (name, text) in migrations().iter().filter(|(name, _)| !released.contains_key(name.as_str())) {
        assert_eq!(faults(text), Vec::<String>::new(), "{name}");
    }
}

/// Tables of which the last release reads every column (`SELECT *`, `RETURNING *`). It prepares these statements once for a connection,
/// and Postgres refuses them from the moment on that their answer has another column ("cached plan must not change result type").
const READ_WHOLE: [&str; 6] = ["api_keys", "erasures", "imports", "jobs", "recognitions", "webhooks"];

/// Which of these tables get a column.
fn widened(text: &str) -> Vec<&'static str> {
    let mut widened = Vec::new();
    for statement in statements(text) {
        let words: Vec<&str> = statement.words.iter().map(String::as_str).collect();
        let Some((table, actions)) = altered(&words) else { continue };
        let column = |action: &[&str]| matches!(action, ["ADD", what, ..] if !NO_COLUMN.contains(what));
        if actions.into_iter().any(column) {
            widened.extend(READ_WHOLE.into_iter().filter(|whole| whole.eq_ignore_ascii_case(table)));
        }
    }
    widened
}

#[test]
fn what_the_last_release_reads_whole_gets_no_column() {
    let released = released();
    for (name, text) in migrations().iter().filter(|(name, _)| !released.contains_key(name.as_str())) {
        assert_eq!(widened(text), Vec::<&str>::new(), "{name}: put it into a table of its own");
    }
    for sample in [
        "ALTER TABLE jobs ADD COLUMN x text;",
        "SELECT 1; ALTER TABLE IF EXISTS ONLY jobs\n    DROP CONSTRAINT y, -- ADD\n    ADD x text;",
    ] {
        assert_eq!(widened(sample), ["jobs"], "{sample}");
    }
    for sample in [
        "ALTER TABLE jobs ADD CONSTRAINT x CHECK (done > 0);",
        "ALTER TABLE faces ADD COLUMN jobs text;",
        "CREATE TABLE x (job_id uuid REFERENCES jobs);",
    ] {
        assert_eq!(widened(sample), Vec::<&str>::new(), "{sample}");
    }
}

#[test]
fn the_rule_finds_what_takes_away_and_lets_pass_what_adds() {
    for (sample, told) in [
        ("DROP TABLE crops;", "a table is dropped"),
        ("ALTER TABLE crops\n    DROP COLUMN camera;", "a column is dropped"),
        ("ALTER TABLE crops DROP  column camera;", "a column is dropped"),
        ("ALTER VIEW x RENAME COLUMN a TO b;", "another name"),
        ("ALTER TABLE crops ALTER COLUMN bytes TYPE text;", "another type"),
        ("ALTER TABLE crops ALTER COLUMN bytes SET NOT NULL;", "lack a value"),
        ("ALTER TABLE crops ADD COLUMN x text NOT NULL;", "gives a new column no value"),
        ("ALTER TABLE crops ADD COLUMN x int DEFAULT 0 UNIQUE;", "may be refused"),
        ("ALTER TABLE crops ALTER COLUMN bytes -- to a text\n    TYPE text;", "another type"),
        ("ALTER TABLE crops ALTER bytes SET DATA TYPE text;", "another type"),
        ("ALTER TABLE crops DROP camera;", "a column is dropped"),
        ("ALTER TABLE IF EXISTS crops\n    ADD x text\n    NOT NULL;", "gives a new column no value"),
        ("ALTER TABLE crops ADD x numeric(9, 2) NOT NULL, ADD y text DEFAULT '';", "gives a new column no value"),
        ("ALTER TABLE crops\n    ADD CONSTRAINT x\n    CHECK (bytes > 0) NOT VALID;", "may be refused"),
        ("ALTER TABLE crops ADD UNIQUE (camera);", "may be refused"),
        ("CREATE UNIQUE INDEX x ON crops (camera);", "may be refused"),
        ("CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS x\n    ON ONLY crops (camera);", "may be refused"),
        ("CREATE TABLE x (id bigint);\nCREATE UNIQUE INDEX y ON crops (camera);", "may be refused"),
        ("TRUNCATE audit;", "rows are removed"),
        ("-- contract: \nDROP TABLE crops;", "a table is dropped"),
        ("-- contract: unused since 0.2\nSELECT 1;\nDROP TABLE crops;", "a table is dropped"),
    ] {
        let faults = faults(sample);
        assert!(faults.len() == 1 && faults[0].contains(told), "{sample}: {faults:?}");
    }
    for sample in [
        "CREATE TABLE x (id bigint PRIMARY KEY, kind text NOT NULL);",
        "ALTER TABLE crops ADD COLUMN x text NOT NULL DEFAULT '';",
        "ALTER TABLE crops ADD COLUMN x text;",
        "ALTER TABLE crops\n    ADD COLUMN IF NOT EXISTS x text\n    NOT NULL\n    DEFAULT '';",
        "CREATE TABLE x (id bigint);\nCREATE UNIQUE INDEX y ON x (id);\nALTER TABLE x ADD CONSTRAINT z CHECK (id > 0);",
        "ALTER TABLE jobs DROP CONSTRAINT a, ADD CONSTRAINT a CHECK (kind IN ('x', 'y'));",
        "DROP INDEX a;\nCREATE UNIQUE INDEX a ON jobs (kind);",
        "-- contract: no release writes it\nALTER TABLE jobs\n    ADD CONSTRAINT a CHECK (done > 0);",
        "DROP INDEX acts_at;",
        "-- a comment may say DROP TABLE",
        "DROP TABLE crops; -- contract: unused since 0.2",
        "-- contract: unused since 0.2\nDROP TABLE crops;",
        "CREATE OR REPLACE VIEW renamed AS SELECT 1;",
    ] {
        assert_eq!(faults(sample), Vec::<String>::new(), "{sample}");
    }
}
