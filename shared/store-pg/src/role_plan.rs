//! The group roles in the database: what their rights differ by from the table in `roles`, and making the two equal. Rights are taken
//! away only where that is asked for: the release before works beside this one during a rollout, and may be gone back to. Users that
//! may log in are an operator's own: a group role has no password and is granted to them.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use sqlx::migrate::Migrate;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection};

use crate::error::StoreError;
use crate::roles::{Role, RolePrefix, TABLES};
use crate::schema::{self, MIGRATION_TIMEOUT, newest_known};
use crate::store::{Store, late, run};

/// What an object is in GRANT and REVOKE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Schema,
    Table,
}

/// One privilege of one role on one object, or on one column of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Grant {
    role: String,
    kind: Kind,
    object: String,
    privilege: String,
    column: Option<String>,
}

/// One thing that [`Store::migrate_roles`] would do, or [`Store::equalise_roles`] alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RoleChange {
    /// The group role.
    pub role: String,
    /// What becomes of it, in words.
    pub change: String,
    #[serde(skip)]
    step: Step,
    #[serde(skip)]
    statement: String,
}

impl RoleChange {
    /// Whether it takes a right away, which [`Store::equalise_roles`] alone does.
    pub fn revokes(&self) -> bool {
        self.step == Step::Revoke
    }
}

/// In this order: a role is there before it is granted anything, and taking a right on a table away takes those on its columns too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Create,
    Revoke,
    Grant,
}

/// Rights on tables and views, on their columns, and on the schema.
const ACTUAL: &str = "
SELECT r.rolname::text, false, c.relname::text, a.privilege_type, NULL::text
FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) a JOIN pg_roles r ON r.oid = a.grantee
WHERE c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema()) AND r.rolname = ANY($1::text[])
UNION ALL
SELECT r.rolname::text, false, c.relname::text, a.privilege_type, t.attname::text
FROM pg_class c JOIN pg_attribute t ON t.attrelid = c.oid CROSS JOIN LATERAL aclexplode(t.attacl) a
JOIN pg_roles r ON r.oid = a.grantee
WHERE c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema()) AND r.rolname = ANY($1::text[])
UNION ALL
SELECT r.rolname::text, true, n.nspname::text, a.privilege_type, NULL::text
FROM pg_namespace n CROSS JOIN LATERAL aclexplode(n.nspacl) a JOIN pg_roles r ON r.oid = a.grantee
WHERE n.nspname = current_schema() AND r.rolname = ANY($1::text[])";

const THERE: &str = "SELECT rolname::text FROM pg_roles WHERE rolname = ANY($1::text[])";

const MAY_CREATE: &str = "SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user";

/// The schema is that of a later release, whose rights this one does not know.
const IS_NEWER: &str = "SELECT EXISTS (SELECT FROM _sqlx_migrations WHERE version > $1)";

impl Store {
    /// What [`Store::equalise_roles`] would do, in order; nothing is changed.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn role_plan(&self, prefix: &RolePrefix) -> Result<Vec<RoleChange>, StoreError> {
        run!(self, "role plan", connection => plan(connection, prefix).await)
    }

    /// Makes the group roles of this prefix and gives them the rights of the table in this schema. Rights that the table does not list
    /// stay: the release before may use them. Idempotent; in the lock of migrations. Where the schema is a later release's, its roles
    /// are left to that release.
    ///
    /// # Errors
    /// [`StoreError::Config`] where a role is missing and the user has no CREATEROLE; [`StoreError::Schema`] where rights stay other
    /// than they should be, because the user does not own the tables. Nothing is changed then.
    pub async fn migrate_roles(&self, prefix: &RolePrefix) -> Result<(), StoreError> {
        self.change_roles(prefix, |change| !change.revokes()).await
    }

    /// [`Store::migrate_roles`], and takes away every right that the table does not list: for when nothing of another release runs,
    /// and none is gone back to.
    ///
    /// # Errors
    /// As [`Store::migrate_roles`].
    pub async fn equalise_roles(&self, prefix: &RolePrefix) -> Result<(), StoreError> {
        self.change_roles(prefix, |_| true).await
    }

    /// Does what of the plan is `due`.
    async fn change_roles(&self, prefix: &RolePrefix, due: fn(&RoleChange) -> bool) -> Result<(), StoreError> {
        let run = async {
            let mut connection = schema::session(self).await?;
            let done = apply(&mut connection, prefix, due).await;
            // The lock goes with the connection.
            if connection.close().await.is_err() {
                tracing::debug!("the connection of the roles was gone before it was closed");
            }
            done
        };
        tokio::time::timeout(MIGRATION_TIMEOUT, run).await.unwrap_or_else(|_| Err(late("migrate roles")))
    }
}

/// In one transaction: services that work with these roles meanwhile never lack a right that is taken with another and comes back.
async fn apply(
    connection: &mut PgConnection,
    prefix: &RolePrefix,
    due: fn(&RoleChange) -> bool,
) -> Result<(), StoreError> {
    let failed = |error: sqlx::Error| StoreError::from_sqlx("migrate roles", &error);
    connection.lock().await.map_err(|error| StoreError::from_migration(&error))?;
    let mut tx = connection.begin().await.map_err(failed)?;
    let mut changes = plan(&mut tx, prefix).await.map_err(failed)?;
    let may_create: bool = sqlx::query_scalar(MAY_CREATE).fetch_one(&mut *tx).await.map_err(failed)?;
    if !may_create && changes.iter().any(|change| change.step == Step::Create) {
        return Err(StoreError::Config {
            what: "group roles are missing, and the user may not make them: `facewire migrate --roles` needs a user with CREATEROLE",
        });
    }
    // What was taken away with a table's right comes back in the second round.
    for _ in 0..2 {
        for change in changes.into_iter().filter(due) {
            sqlx::query(AssertSqlSafe(change.statement)).execute(&mut *tx).await.map_err(failed)?;
        }
        changes = plan(&mut tx, prefix).await.map_err(failed)?;
    }
    match changes.into_iter().find(due) {
        None => tx.commit().await.map_err(failed),
        Some(left) => Err(StoreError::Schema {
            what: format!("{}: {} had no effect; only the owner of the tables can do it", left.role, left.change),
        }),
    }
}

async fn plan(connection: &mut PgConnection, prefix: &RolePrefix) -> Result<Vec<RoleChange>, sqlx::Error> {
    let migrated: bool =
        sqlx::query_scalar("SELECT to_regclass('_sqlx_migrations') IS NOT NULL").fetch_one(&mut *connection).await?;
    if migrated && sqlx::query_scalar::<_, bool>(IS_NEWER).bind(newest_known()).fetch_one(&mut *connection).await? {
        return Ok(Vec::new());
    }
    let names: Vec<String> = Role::ALL.into_iter().map(|role| prefix.role(role)).collect();
    let there: Vec<String> = sqlx::query_scalar(THERE).bind(&names).fetch_all(&mut *connection).await?;
    let schema: String = sqlx::query_scalar("SELECT current_schema()::text").fetch_one(&mut *connection).await?;
    let rows: Vec<(String, bool, String, String, Option<String>)> =
        sqlx::query_as(ACTUAL).bind(&names).fetch_all(connection).await?;
    let grant = |(role, schema, object, privilege, column)| {
        let kind = if schema { Kind::Schema } else { Kind::Table };
        Grant { role, kind, object, privilege, column }
    };
    let actual: BTreeSet<Grant> = rows.into_iter().map(grant).collect();
    Ok(changes(&names, &there, &actual, &wanted(prefix, &schema)))
}

/// The table of rights, and the schema that the tables are in.
fn wanted(prefix: &RolePrefix, schema: &str) -> BTreeSet<Grant> {
    let usage = Role::ALL.into_iter().map(|role| Grant {
        role: prefix.role(role),
        kind: Kind::Schema,
        object: schema.to_owned(),
        privilege: "USAGE".to_owned(),
        column: None,
    });
    let mut wanted: BTreeSet<Grant> = usage.collect();
    for (table, rights) in TABLES {
        for (role, right) in rights.iter().flat_map(|(role, rights)| rights.iter().map(|right| (*role, *right))) {
            let grant = |column: Option<&&str>| Grant {
                role: prefix.role(role),
                kind: Kind::Table,
                object: (*table).to_owned(),
                privilege: right.privilege().to_owned(),
                column: column.map(|column| (*column).to_owned()),
            };
            match right.columns() {
                [] => wanted.extend([grant(None)]),
                columns => wanted.extend(columns.iter().map(|column| grant(Some(column)))),
            }
        }
    }
    wanted
}

fn changes(names: &[String], there: &[String], actual: &BTreeSet<Grant>, wanted: &BTreeSet<Grant>) -> Vec<RoleChange> {
    let missing = names.iter().filter(|name| !there.contains(name)).map(|name| RoleChange {
        role: name.clone(),
        change: "create the group role".to_owned(),
        step: Step::Create,
        // Roles belong to the server: another database's migration may make the same one at this moment.
        statement: format!(
            "DO $$ BEGIN CREATE ROLE {} NOLOGIN; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$",
            quoted(name)
        ),
    });
    let mut changes: Vec<RoleChange> = missing.collect();
    changes.extend(statements(Step::Revoke, actual.difference(wanted)));
    changes.extend(statements(Step::Grant, wanted.difference(actual)));
    changes.sort_by(|a, b| (a.step, &a.role).cmp(&(b.step, &b.role)));
    changes
}

/// One statement for each role and object.
fn statements<'a>(step: Step, grants: impl Iterator<Item = &'a Grant>) -> Vec<RoleChange> {
    let mut objects: BTreeMap<(&str, Kind, &str), BTreeMap<&str, Vec<&str>>> = BTreeMap::new();
    for grant in grants {
        let of_object = objects.entry((grant.role.as_str(), grant.kind, grant.object.as_str())).or_default();
        of_object.entry(grant.privilege.as_str()).or_default().extend(grant.column.as_deref());
    }
    let statement = |((role, kind, object), privileges): ((&str, Kind, &str), BTreeMap<&str, Vec<&str>>)| {
        let list = |name: fn(&str) -> String| -> String {
            let each = privileges.iter().map(|(privilege, columns)| match columns.as_slice() {
                [] => (*privilege).to_owned(),
                columns => format!("{privilege} ({})", columns.iter().map(|c| name(c)).collect::<Vec<_>>().join(", ")),
            });
            each.collect::<Vec<_>>().join(", ")
        };
        let (keyword, verb, toward) = match step {
            Step::Revoke => ("REVOKE", "revoke", "FROM"),
            Step::Create | Step::Grant => ("GRANT", "grant", "TO"),
        };
        let (kind, of) = match kind {
            Kind::Schema => ("SCHEMA", "the schema "),
            Kind::Table => ("TABLE", ""),
        };
        RoleChange {
            role: role.to_owned(),
            change: format!("{verb} {} on {of}{object}", list(str::to_owned)),
            step,
            statement: format!("{keyword} {} ON {kind} {} {toward} {}", list(quoted), quoted(object), quoted(role)),
        }
    };
    objects.into_iter().map(statement).collect()
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(privilege: &str, column: Option<&str>) -> Grant {
        let (role, object) = ("x_jobs".to_owned(), "odd\"name".to_owned());
        Grant { role, kind: Kind::Table, object, privilege: privilege.to_owned(), column: column.map(str::to_owned) }
    }

    #[test]
    fn the_difference_is_revoked_before_it_is_granted() {
        let actual = BTreeSet::from([grant("SELECT", None), grant("DELETE", None), grant("UPDATE", None)]);
        let wanted = BTreeSet::from([grant("SELECT", None), grant("UPDATE", Some("a")), grant("UPDATE", Some("b"))]);
        let planned = changes(&["x_jobs".to_owned()], &[], &actual, &wanted);
        let statements: Vec<&str> = planned.iter().map(|change| change.statement.as_str()).collect();
        assert!(statements[0].contains("CREATE ROLE \"x_jobs\" NOLOGIN"), "{statements:?}");
        assert_eq!(
            statements[1..],
            [
                "REVOKE DELETE, UPDATE ON TABLE \"odd\"\"name\" FROM \"x_jobs\"",
                "GRANT UPDATE (\"a\", \"b\") ON TABLE \"odd\"\"name\" TO \"x_jobs\"",
            ]
        );
        assert_eq!(planned[2].change, "grant UPDATE (a, b) on odd\"name");
    }

    #[test]
    fn what_is_equal_changes_nothing() {
        let wanted = wanted(&RolePrefix::default(), "public");
        let names: Vec<String> = Role::ALL.into_iter().map(|role| RolePrefix::default().role(role)).collect();
        assert_eq!(changes(&names, &names, &wanted, &wanted), []);
    }
}
