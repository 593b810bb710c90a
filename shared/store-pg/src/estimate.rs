//! Counts of large tables: exact as long as that reads few rows, else what Postgres' planner expects. Its statistics are
//! kept by autovacuum and are right to a few per cent.

use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;
use sqlx::types::JsonValue;

/// Rows that are counted one by one; more are estimated.
pub(crate) const EXACT: i64 = 1_000_000;

/// A number, and whether it was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) number: u64,
    pub(crate) exact: bool,
}

/// Counts the rows of `SELECT FROM … WHERE …` (`$1`: a text or null), which must need no sort.
pub(crate) async fn count_rows(
    connection: &mut PgConnection,
    rows: &'static str,
    first: Option<&str>,
) -> Result<Counted, sqlx::Error> {
    let expected = expected_rows(connection, rows, first).await?;
    if expected > EXACT {
        return Ok(Counted { number: expected.unsigned_abs(), exact: false });
    }
    // The statistics may be far too low, after a bulk load: then the bound ends the count.
    let bounded = format!("SELECT count(*) FROM ({rows} LIMIT {}) counted", 4 * EXACT);
    let number: i64 = sqlx::query_scalar(AssertSqlSafe(bounded)).bind(first).fetch_one(connection).await?;
    Ok(Counted { number: number.unsigned_abs(), exact: number < 4 * EXACT })
}

/// How many rows the planner expects of a statement of this crate.
pub(crate) async fn expected_rows(
    connection: &mut PgConnection,
    statement: &'static str,
    first: Option<&str>,
) -> Result<i64, sqlx::Error> {
    let explain = format!("EXPLAIN (FORMAT JSON) {statement}");
    let plan: JsonValue = sqlx::query_scalar(AssertSqlSafe(explain)).bind(first).fetch_one(connection).await?;
    #[expect(clippy::cast_possible_truncation, reason = "an estimate far below 2^63")]
    let rows = plan.pointer("/0/Plan/Plan Rows").and_then(JsonValue::as_f64).map(|rows| rows as i64);
    Ok(rows.unwrap_or_default())
}
