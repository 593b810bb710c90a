//! Counts of large tables: exact as long as that reads few rows, else what Postgres' planner expects. Its statistics are
//! kept by autovacuum and are right to a few per cent.

use sqlx::postgres::{PgArguments, PgConnection};
use sqlx::query::Query;
use sqlx::types::JsonValue;
use sqlx::{AssertSqlSafe, Postgres, Row};

/// Rows that are counted one by one; more are estimated.
pub(crate) const EXACT: i64 = 1_000_000;

/// A number, and whether it was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) number: u64,
    pub(crate) exact: bool,
}

/// A statement whose parameters are to be bound.
pub(crate) type Unbound = Query<'static, Postgres, PgArguments>;

/// Counts the rows of `SELECT FROM … WHERE …` (`$1`: a text or null), which must need no sort.
pub(crate) async fn count_rows(
    connection: &mut PgConnection,
    rows: &'static str,
    first: Option<&str>,
) -> Result<Counted, sqlx::Error> {
    count_bound(connection, rows, |query| query.bind(first)).await
}

/// The same with other parameters, which `bind` binds.
pub(crate) async fn count_bound(
    connection: &mut PgConnection,
    rows: &'static str,
    bind: impl Fn(Unbound) -> Unbound + Sync,
) -> Result<Counted, sqlx::Error> {
    let expected = expected_bound(connection, rows, &bind).await?;
    if expected > EXACT {
        return Ok(Counted { number: expected.unsigned_abs(), exact: false });
    }
    // The statistics may be far too low, after a bulk load: then the bound ends the count.
    let bounded = format!("SELECT count(*) FROM ({rows} LIMIT {}) counted", 4 * EXACT);
    let row = bind(sqlx::query(AssertSqlSafe(bounded))).fetch_one(connection).await?;
    let number: i64 = row.try_get(0)?;
    Ok(Counted { number: number.unsigned_abs(), exact: number < 4 * EXACT })
}

/// How many rows the planner expects of a statement of this crate.
pub(crate) async fn expected_rows(
    connection: &mut PgConnection,
    statement: &'static str,
    first: Option<&str>,
) -> Result<i64, sqlx::Error> {
    expected_bound(connection, statement, &|query: Unbound| query.bind(first)).await
}

async fn expected_bound(
    connection: &mut PgConnection,
    statement: &'static str,
    bind: &(impl Fn(Unbound) -> Unbound + Sync),
) -> Result<i64, sqlx::Error> {
    let explain = format!("EXPLAIN (FORMAT JSON) {statement}");
    let row = bind(sqlx::query(AssertSqlSafe(explain))).fetch_one(connection).await?;
    let plan: JsonValue = row.try_get(0)?;
    #[expect(clippy::cast_possible_truncation, reason = "an estimate far below 2^63")]
    let rows = plan.pointer("/0/Plan/Plan Rows").and_then(JsonValue::as_f64).map(|rows| rows as i64);
    Ok(rows.unwrap_or_default())
}
