//! Group roles: made once, with the rights of the table and no others; and what each of them may not do.

use std::str::FromStr;

use facewire_domain::JobKind;
use facewire_store_pg::{CollectionPolicy, Role, RoleChange, RolePrefix, Store, StoreError, role_tables};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
use uuid::Uuid;

use crate::support::{TestDatabase, by, fill_queues, office, options, queued, test_database};

/// SQLSTATE "insufficient_privilege".
const DENIED: &str = "42501";

/// Roles of one test: those of a server are the same for all of its databases.
struct Roles {
    prefix: RolePrefix,
    operator: PgConnection,
    url: PgConnectOptions,
}

impl Roles {
    async fn of(db: &TestDatabase) -> Self {
        let prefix = format!("t{}", Uuid::new_v4().simple()).parse().unwrap();
        let url = PgConnectOptions::from_str(db.options.url.expose()).unwrap();
        Self { prefix, operator: db.operator().await, url }
    }

    async fn run(&mut self, statement: String) {
        sqlx::query(AssertSqlSafe(statement)).execute(&mut self.operator).await.unwrap();
    }

    /// A user who has the rights of `group` and no others.
    async fn user(&mut self, group: Option<Role>) -> PgConnectOptions {
        let name = format!("{}_user_{}", self.prefix, group.map_or("none", Role::name));
        let group = group.map(|group| format!("IN ROLE {}", self.prefix.role(group))).unwrap_or_default();
        self.run(format!("CREATE ROLE {name} LOGIN PASSWORD 'secret' {group}")).await;
        self.url.clone().username(&name).password("secret")
    }

    /// Takes the roles away again.
    async fn drop(mut self) {
        let like = format!("{}\\_%", self.prefix);
        let names: Vec<String> = sqlx::query_scalar("SELECT rolname::text FROM pg_roles WHERE rolname LIKE $1")
            .bind(like)
            .fetch_all(&mut self.operator)
            .await
            .unwrap();
        for name in names {
            self.run(format!("DROP OWNED BY {name}")).await;
            self.run(format!("DROP ROLE {name}")).await;
        }
    }
}

async fn planned(store: &Store, prefix: &RolePrefix) -> Vec<String> {
    let changes = store.role_plan(prefix).await.unwrap();
    changes.into_iter().map(|change| format!("{}: {}", change.role, change.change)).collect()
}

#[tokio::test]
async fn every_table_and_view_has_a_row_in_the_table_of_rights() {
    let db = test_database().await;
    let _store = db.migrated().await;
    let mut there: Vec<String> = sqlx::query_scalar(
        "SELECT relname::text FROM pg_class
         WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'f')",
    )
    .fetch_all(&mut db.operator().await)
    .await
    .unwrap();
    there.sort();
    let mut listed: Vec<&str> = role_tables().collect();
    listed.sort_unstable();
    assert_eq!(there, listed, "shared/store-pg/src/roles.rs says who may do what to each table");
    db.drop().await;
}

#[tokio::test]
async fn rights_are_given_once_and_all_others_are_taken_when_that_is_asked_for() {
    let db = test_database().await;
    let store = db.migrated().await;
    let mut roles = Roles::of(&db).await;
    let prefix = roles.prefix.clone();
    let role = |role| prefix.role(role);
    let first = planned(&store, &prefix).await;
    for said in [
        format!("{}: create the group role", role(Role::Match)),
        format!("{}: grant USAGE on the schema public", role(Role::Readonly)),
        format!("{}: grant SELECT, UPDATE (last_used_at) on api_keys", role(Role::Gateway)),
    ] {
        assert!(first.contains(&said), "{said} in {first:#?}");
    }
    assert_eq!(planned(&store, &prefix).await, first, "a plan changes nothing");
    let (one, other) = tokio::join!(store.migrate_roles(&prefix), store.migrate_roles(&prefix));
    one.and(other).unwrap();
    assert_eq!(planned(&store, &prefix).await, Vec::<String>::new());

    // Somebody gives and takes rights by hand.
    let (ingest, gateway, jobs, readonly) =
        (role(Role::Ingest), role(Role::Gateway), role(Role::Jobs), role(Role::Readonly));
    for statement in [
        format!("GRANT SELECT ON faces TO {readonly}"),
        format!("GRANT SELECT (name) ON persons TO {readonly}"),
        format!("GRANT UPDATE ON api_keys TO {gateway}"),
        format!("REVOKE INSERT ON crops FROM {ingest}"),
        format!("GRANT CREATE ON SCHEMA public TO {jobs}"),
    ] {
        roles.run(statement).await;
    }
    let mut expected = vec![
        format!("{gateway}: revoke UPDATE on api_keys"),
        format!("{jobs}: revoke CREATE on the schema public"),
        format!("{readonly}: revoke SELECT on faces"),
        format!("{readonly}: revoke SELECT (name) on persons"),
        format!("{ingest}: grant INSERT on crops"),
    ];
    let mut found = planned(&store, &prefix).await;
    expected.sort();
    found.sort();
    assert_eq!(found, expected);
    // The release before may use what this one does not list.
    store.migrate_roles(&prefix).await.unwrap();
    let left = store.role_plan(&prefix).await.unwrap();
    assert_eq!((left.len(), left.iter().all(RoleChange::revokes)), (4, true), "{left:#?}");
    // Taking a right on a table away takes those on its columns too, which have to come back.
    store.equalise_roles(&prefix).await.unwrap();
    assert_eq!(planned(&store, &prefix).await, Vec::<String>::new());
    roles.drop().await;
    db.drop().await;
}

#[tokio::test]
async fn whoever_may_make_no_roles_is_told_so() {
    let db = test_database().await;
    let _store = db.migrated().await;
    let mut roles = Roles::of(&db).await;
    let user = roles.user(None).await;
    let name = user.get_username().to_owned();
    roles.run(format!("GRANT SELECT ON _sqlx_migrations TO {name}")).await;
    let store = Store::connect(&options(user.to_url_lossy().to_string())).await.unwrap();
    let refused = store.migrate_roles(&roles.prefix).await.unwrap_err();
    assert!(matches!(&refused, StoreError::Config { what } if what.contains("CREATEROLE")), "{refused}");
    store.close().await;
    roles.drop().await;
    db.drop().await;
}

#[tokio::test]
async fn a_role_sees_that_the_schema_is_current_and_what_it_must_not_do_is_denied() {
    let db = test_database().await;
    let store = db.migrated().await;
    let mut roles = Roles::of(&db).await;
    store.migrate_roles(&roles.prefix).await.unwrap();
    let denied: [(Role, &[&str]); 8] = [
        (
            Role::Ingest,
            &[
                "SELECT embedding FROM faces",
                "SELECT name FROM persons",
                "SELECT decision FROM recognitions",
                "UPDATE crops SET camera = 'x'",
                "DELETE FROM crops",
            ],
        ),
        (
            Role::Match,
            &[
                "SELECT hash FROM api_keys",
                "DELETE FROM faces",
                "UPDATE serving SET model = 'x'",
                "SELECT actor FROM audit",
                "SELECT * FROM recognitions",
            ],
        ),
        (
            Role::Enrich,
            &[
                "DELETE FROM persons",
                "UPDATE persons SET name = 'x'",
                "SELECT * FROM faces",
                "SELECT * FROM webhooks",
                "SELECT actor FROM erasures",
            ],
        ),
        (
            Role::Reconciler,
            &[
                "SELECT * FROM api_keys",
                "DELETE FROM persons",
                "INSERT INTO faces DEFAULT VALUES",
                "SELECT * FROM secrets",
            ],
        ),
        (
            Role::Gateway,
            &[
                "ALTER TABLE faces ADD COLUMN x text",
                "DROP TABLE audit",
                "UPDATE api_keys SET scopes = '{admin}'",
                "DELETE FROM audit",
                "INSERT INTO faces DEFAULT VALUES",
                "INSERT INTO fences VALUES ('reconciler', 9)",
                "DELETE FROM jobs",
            ],
        ),
        (
            Role::Jobs,
            &[
                "INSERT INTO api_keys DEFAULT VALUES",
                "INSERT INTO persons DEFAULT VALUES",
                "UPDATE persons SET name = 'x'",
                "SELECT secret FROM webhooks",
                "SELECT body FROM webhook_deliveries",
                "SELECT body FROM idempotency",
                "SELECT name FROM import_items",
                "UPDATE recognitions SET status = 'x'",
                "SELECT actor FROM audit",
                "DELETE FROM audit",
                "DELETE FROM erasures",
                "DELETE FROM erasure_jobs",
                "DELETE FROM tombstones",
                "UPDATE collections SET retain_images = NULL",
            ],
        ),
        (
            Role::Operator,
            &[
                "CREATE TABLE x ()",
                "TRUNCATE audit",
                "DELETE FROM audit",
                "UPDATE _sqlx_migrations SET success = false",
                "ALTER TABLE crops DISABLE TRIGGER ALL",
            ],
        ),
        (
            Role::Readonly,
            &[
                "SELECT * FROM faces",
                "SELECT * FROM persons",
                "SELECT * FROM crops",
                "SELECT * FROM _sqlx_migrations",
                "SELECT * FROM recognitions",
            ],
        ),
    ];
    for (role, statements) in denied {
        let user = roles.user(Some(role)).await;
        let mut session = user.connect().await.unwrap();
        for statement in statements {
            let error = sqlx::query(*statement).execute(&mut session).await.unwrap_err();
            let code = error.as_database_error().and_then(|error| error.code()).unwrap_or_default();
            assert_eq!(code, DENIED, "{role:?}: {statement}: {error}");
        }
        if role == Role::Readonly {
            for view in ["facewire_endings", "facewire_signals", "facewire_failures", "facewire_cameras"] {
                sqlx::query(AssertSqlSafe(format!("SELECT * FROM {view}"))).fetch_all(&mut session).await.unwrap();
            }
        } else {
            let store = Store::connect(&options(user.to_url_lossy().to_string())).await.unwrap();
            store.check_schema().await.unwrap();
            store.close().await;
        }
        session.close().await.unwrap();
    }
    roles.drop().await;
    db.drop().await;
}

#[tokio::test]
async fn whoever_may_delete_a_collection_may_delete_first_what_waits_in_it() {
    let db = test_database().await;
    let store = db.migrated().await;
    let mut roles = Roles::of(&db).await;
    store.migrate_roles(&roles.prefix).await.unwrap();
    for role in [Role::Gateway, Role::Jobs] {
        store.create_collection(&office(), &CollectionPolicy::default(), &by()).await.unwrap();
        fill_queues(&db, 3).await;
        let user = roles.user(Some(role)).await;
        let theirs = Store::connect(&options(user.to_url_lossy().to_string())).await.unwrap();
        while theirs.empty_collection(&office(), 2).await.unwrap() > 0 {}
        assert_eq!(queued(&db).await, (0, 0), "{role:?}");
        assert_eq!(theirs.delete_collection(&office(), &by()).await, Ok(true), "{role:?}");
        theirs.close().await;
    }
    roles.drop().await;
    db.drop().await;
}

#[tokio::test]
async fn whoever_may_delete_a_collection_takes_its_jobs_along_and_no_table_of_their_own() {
    let db = test_database().await;
    let store = db.migrated().await;
    let mut roles = Roles::of(&db).await;
    store.migrate_roles(&roles.prefix).await.unwrap();
    store.create_collection(&office(), &CollectionPolicy::default(), &by()).await.unwrap();
    let job = async |kind: JobKind| {
        store.create_job(kind, &office(), &serde_json::json!({}), &by()).await.unwrap().unwrap().job
    };
    let (erases, other) = (job(JobKind::Erase).await, job(JobKind::Cluster).await);
    let mut session = roles.user(Some(Role::Gateway)).await.connect().await.unwrap();
    for statement in [
        "CREATE TEMPORARY TABLE jobs AS SELECT collection, kind FROM public.jobs",
        "DELETE FROM collections WHERE collection = 'office'",
    ] {
        sqlx::query(statement).execute(&mut session).await.unwrap();
    }
    assert_eq!(store.job(other).await.unwrap(), None);
    assert!(store.job(erases).await.unwrap().is_some(), "it says what came of it");
    let own: i64 = sqlx::query_scalar("SELECT count(*) FROM pg_temp.jobs").fetch_one(&mut session).await.unwrap();
    assert_eq!(own, 2);
    // The function has the owner's rights in whatever schema its table is.
    sqlx::query("CREATE TEMPORARY TABLE mine (collection text)").execute(&mut session).await.unwrap();
    let trigger = "CREATE TRIGGER mine AFTER DELETE ON mine FOR EACH ROW EXECUTE FUNCTION collection_was_deleted()";
    let error = sqlx::query(trigger).execute(&mut session).await.unwrap_err();
    assert_eq!(error.as_database_error().and_then(|error| error.code()).as_deref(), Some(DENIED), "{error}");
    // As a restore without privileges leaves it.
    let everybody = "SELECT has_function_privilege('public', 'collection_was_deleted()', 'EXECUTE')";
    let may = async || sqlx::query_scalar::<_, bool>(everybody).fetch_one(&mut db.operator().await).await.unwrap();
    let open = "GRANT EXECUTE ON FUNCTION collection_was_deleted() TO PUBLIC";
    sqlx::query(open).execute(&mut db.operator().await).await.unwrap();
    assert!(may().await);
    store.migrate().await.unwrap();
    assert!(!may().await);
    sqlx::query("DROP TABLE mine, pg_temp.jobs").execute(&mut session).await.unwrap();
    session.close().await.unwrap();
    roles.drop().await;
    db.drop().await;
}
