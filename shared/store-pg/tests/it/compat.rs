//! Releases run side by side on one schema, and one that was rolled back runs on the schema of the one after it (ARCHITECTURE.md,
//! "Upgrades"). So what was released stays as it is, and what comes after it takes nothing away that the last release uses.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};
use sqlx::migrate::Migrate;
use sqlx::{Connection, Executor};

use crate::support::test_database;

/// The migrations of the last release, each with its SHA-256: `sha256sum` reads the list too.
const RELEASED: &str = include_str!("../../compat/released.txt");

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}

/// Name and text of every migration.
fn migrations() -> BTreeMap<String, String> {
    let files = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations")).unwrap();
    let read =
        |path: PathBuf| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(path).unwrap());
    files.map(|file| read(file.unwrap().path())).collect()
}

fn released() -> BTreeMap<&'static str, &'static str> {
    RELEASED.lines().map(|line| line.split_once("  ").map(|(sum, name)| (name, sum)).unwrap()).collect()
}

fn sum_of(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_released_migration_is_never_changed() {
    let (released, present) = (released(), migrations());
    assert!(released.len() >= 20);
    for (name, sum) in &released {
        let text = present.get(*name).unwrap_or_else(|| panic!("{name} was released and is gone"));
        assert_eq!(sum_of(text), *sum, "{name} was released: databases have it as it was");
    }
    let last = released.keys().next_back().unwrap();
    for name in present.keys().filter(|name| !released.contains_key(name.as_str())) {
        assert!(name.as_str() > *last, "{name} comes before {last}, which was released");
    }
}

/// What the statements of the last release would miss. `-- contract: <reason>` on a line, or on the one before, says that they do not:
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

/// What is wrong with a migration, a line each.
fn faults(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let mut before = "";
    for (line, number) in text.lines().zip(1..) {
        let (code, comment) = line.split_once("--").unwrap_or((line, ""));
        let excused = [comment, before].iter().any(|text| excuse(text).is_some_and(|reason| reason.len() > 3));
        before = if code.trim().is_empty() { comment } else { "" };
        let words = code.split_whitespace().collect::<Vec<_>>().join(" ").to_uppercase();
        let taken = TAKES_AWAY.iter().filter(|(what, _)| has(&words, what)).map(|(_, why)| *why);
        let retyped = words.contains("ALTER COLUMN") && (words.contains(" TYPE ") || words.contains("SET DATA TYPE"));
        let added = words.contains("ADD COLUMN") && words.contains("NOT NULL") && !has(&words, "DEFAULT");
        let others = [(retyped, "a column gets another type"), (added, "the last release gives a new column no value")];
        let why = taken.chain(others.into_iter().filter(|(wrong, _)| *wrong).map(|(_, why)| why)).next();
        if let Some(why) = why.filter(|_| !excused) {
            faults.push(format!("line {number}: {why}; say `-- contract: <reason>` if nobody uses it any more"));
        }
    }
    faults
}

fn excuse(comment: &str) -> Option<&str> {
    comment.trim_start_matches('-').trim().strip_prefix("contract:").map(str::trim)
}

/// Whole words.
fn has(words: &str, what: &str) -> bool {
    format!(" {words} ").replace([',', ';', '(', ')'], " ").contains(&format!(" {what} "))
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

/// What ALTER TABLE adds that is no column.
const NO_COLUMN: [&str; 6] = ["CONSTRAINT", "CHECK", "EXCLUDE", "FOREIGN", "PRIMARY", "UNIQUE"];

/// Which of these tables get a column.
fn widened(text: &str) -> Vec<&'static str> {
    let code: Vec<&str> = text.lines().map(|line| line.split("--").next().unwrap()).collect();
    let mut widened = Vec::new();
    for statement in code.join(" ").split(';') {
        let words: Vec<&str> = statement.split_whitespace().collect();
        let of = |table: &&str| {
            let mut head = words.iter().take(6).take_while(|word| !word.eq_ignore_ascii_case("ADD"));
            head.any(|word| word.eq_ignore_ascii_case(table))
        };
        let column = |pair: &[&str]| pair[0].eq_ignore_ascii_case("ADD") && !NO_COLUMN.contains(&pair[1]);
        if statement.trim_start().to_uppercase().starts_with("ALTER TABLE") && words.windows(2).any(column) {
            widened.extend(READ_WHOLE.into_iter().filter(of));
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

/// Whoever waits for a lock holds up everybody who comes after. No migration has to say so: the migrator bounds the wait of each.
#[tokio::test]
async fn a_migration_that_finds_its_table_in_use_changes_nothing_and_is_run_again() {
    let db = test_database().await;
    let store = db.migrated().await;
    let mut operator = db.operator().await;
    for undo in ["DROP INDEX faces_confirmed_by_id", "DELETE FROM _sqlx_migrations WHERE version = 22"] {
        operator.execute(undo).await.unwrap();
    }
    let mut writing = operator.begin().await.unwrap();
    sqlx::query("UPDATE faces SET confirmed = true").execute(&mut *writing).await.unwrap();
    let refused = store.migrate().await.unwrap_err();
    assert!(refused.is_transient() && refused.to_string().contains("run `facewire migrate` again"), "{refused}");
    let missing = store.migration_plan().await.unwrap();
    assert_eq!(missing.iter().map(|migration| migration.version).collect::<Vec<_>>(), [22]);
    writing.rollback().await.unwrap();
    store.migrate().await.unwrap();
    assert_eq!(store.migration_plan().await.unwrap(), []);
    store.close().await;
    db.drop().await;
}

/// Another service's migration may take longer than a lock of a table may be waited for.
#[tokio::test]
async fn a_migration_waits_for_another_for_as_long_as_that_takes() {
    const WAITED: &str = "
SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND cardinality(pg_blocking_pids(pid)) > 0
    AND clock_timestamp() - query_start > interval '6 s')";
    let db = test_database().await;
    let store = db.store().await;
    let mut other = db.operator().await;
    other.lock().await.unwrap();
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { store.migrate().await }
    });
    let watch = async {
        while !waiting.is_finished() && !sqlx::query_scalar::<_, bool>(WAITED).fetch_one(&mut other).await.unwrap() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), watch).await.expect("nobody waits");
    assert!(!waiting.is_finished());
    other.unlock().await.unwrap();
    waiting.await.unwrap().unwrap();
    assert_eq!(store.migration_plan().await.unwrap(), []);
    store.close().await;
    db.drop().await;
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
        "DROP INDEX acts_at;",
        "-- a comment may say DROP TABLE",
        "DROP TABLE crops; -- contract: unused since 0.2",
        "-- contract: unused since 0.2\nDROP TABLE crops;",
        "CREATE OR REPLACE VIEW renamed AS SELECT 1;",
    ] {
        assert_eq!(faults(sample), Vec::<String>::new(), "{sample}");
    }
}

/// The names between backquotes.
fn names(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

#[tokio::test]
async fn the_public_views_and_columns_are_in_the_database_and_in_the_documents() {
    let read = |path: &str| fs::read_to_string(workspace().join(path)).unwrap();
    let (architecture, sql) = (read("ARCHITECTURE.md"), read("docs/SQL.md"));
    let db = test_database().await;
    let store = db.migrated().await;
    let mut operator = db.operator().await;
    let mut columns = async |table: &str| -> Vec<String> {
        let found = sqlx::query_scalar(
            "SELECT column_name::text FROM information_schema.columns
             WHERE table_schema = 'public' AND table_name = $1 ORDER BY 1",
        );
        let mut found: Vec<String> = found.bind(table).fetch_all(&mut operator).await.unwrap();
        found.sort();
        found
    };
    for view in ["facewire_endings", "facewire_signals", "facewire_failures", "facewire_cameras"] {
        let row = architecture.lines().find(|line| line.starts_with(&format!("| `{view}` |")));
        let mut documented = names(row.unwrap_or_else(|| panic!("ARCHITECTURE.md has no row of {view}")));
        documented.remove(0);
        documented.sort_unstable();
        assert_eq!(columns(view).await, documented, "{view} and ARCHITECTURE.md");
        assert!(sql.contains(&format!("| `{view}` |")), "docs/SQL.md has no row of {view}");
    }
    let collections = columns("collections").await;
    for column in ["collection", "keep_faces", "keep_images", "retain_results", "retain_unmatched", "retain_images"] {
        assert!(collections.iter().any(|there| there == column), "collections.{column} is public");
    }
    store.close().await;
    db.drop().await;
}
