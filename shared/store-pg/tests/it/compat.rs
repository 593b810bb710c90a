//! Releases run side by side on one schema, and one that was rolled back runs on the schema of the one after it (ARCHITECTURE.md,
//! "Upgrades"). So what was released stays as it is, and migrations wait for each other and hold up nobody. What one may do is in
//! `only_adds`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};
use sqlx::migrate::Migrate;
use sqlx::{Connection, Executor};

use crate::support::{blocked_session, test_database};

/// The migrations of the last release, each with its SHA-256: `sha256sum` reads the list too.
const RELEASED: &str = include_str!("../../compat/released.txt");

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}

/// Name and text of every migration.
pub(crate) fn migrations() -> BTreeMap<String, String> {
    let files = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations")).unwrap();
    let read =
        |path: PathBuf| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(path).unwrap());
    files.map(|file| read(file.unwrap().path())).collect()
}

pub(crate) fn released() -> BTreeMap<&'static str, &'static str> {
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

/// An index of a large table takes as long as it takes: given up, it would begin anew, and never be there.
#[tokio::test]
async fn a_migration_itself_has_no_limit() {
    let db = test_database().await;
    let store = db.migrated().await;
    let (mut operator, mut beside) = (db.operator().await, db.operator().await);
    for undo in ["DROP INDEX faces_confirmed_by_id", "DELETE FROM _sqlx_migrations WHERE version = 22"] {
        operator.execute(undo).await.unwrap();
    }
    let mut writing = operator.begin().await.unwrap();
    sqlx::query("UPDATE faces SET confirmed = true").execute(&mut *writing).await.unwrap();
    let migrating = tokio::spawn({
        let store = store.clone();
        async move { store.migrate().await }
    });
    // It has the lock of migrations, and waits within its own statement.
    blocked_session(&mut beside).await;
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(3600)).await;
    tokio::time::resume();
    writing.rollback().await.unwrap();
    migrating.await.unwrap().unwrap();
    assert_eq!(store.migration_plan().await.unwrap(), []);
    store.close().await;
    db.drop().await;
}

/// A Job that is out of time is killed: what Postgres still did for it would keep its locks, for which the next one waits.
#[tokio::test]
async fn what_an_ended_migration_does_in_postgres_ends_too() {
    const THERE: &str = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1)";
    let db = test_database().await;
    let store = db.store().await;
    let (mut other, mut operator) = (db.operator().await, db.operator().await);
    other.lock().await.unwrap();
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { store.migrate().await }
    });
    let session = blocked_session(&mut operator).await;
    waiting.abort();
    assert!(waiting.await.unwrap_err().is_cancelled());
    let ended = async {
        while sqlx::query_scalar::<_, bool>(THERE).bind(session).fetch_one(&mut operator).await.unwrap() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), ended).await.expect("it waits for the lock of somebody who is there");
    other.unlock().await.unwrap();
    store.migrate().await.unwrap();
    store.close().await;
    db.drop().await;
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
