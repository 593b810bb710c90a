//! What each service may do to each table: the one table of rights, and the names of the group roles that have them. A right that
//! no statement of a service needs does not come in here, nor how the rights get into the database (`role_plan`).
//!
//! Statements of triggers run as whoever changes the faces, and so are in the table too: a function with its owner's rights could
//! do more than the trigger. Foreign keys are checked, and their cascades done, as the tables' owner: they need no right. The same
//! holds for what came in place of a cascade: jobs that go with their collection (`collection_was_deleted`).

use std::fmt;
use std::str::FromStr;

use Right::{Delete as D, Insert as I, Read as S, ReadOf, Update as U, UpdateOf};
use Role::{Enrich, Gateway, Ingest, Jobs, Match, Operator, Readonly, Reconciler};

use crate::error::StoreError;

/// Longest prefix: a name of Postgres has 63 bytes, and the longest ending is `_reconciler`.
const PREFIX_BYTES: usize = 48;

/// Whose rights a group role has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// The stage `ingest`.
    Ingest,
    /// The stage `match`.
    Match,
    /// The stage `enrich`.
    Enrich,
    /// The reconciler.
    Reconciler,
    /// The REST API.
    Gateway,
    /// Long work on a collection, erasing among it.
    Jobs,
    /// Whoever runs the commands, except `migrate`, which needs the tables' owner.
    Operator,
    /// Dashboards and BI tools: the public views, and nothing else.
    Readonly,
}

impl Role {
    /// All of them.
    pub const ALL: [Role; 8] = [Ingest, Match, Enrich, Reconciler, Gateway, Jobs, Operator, Readonly];

    /// The end of the group role's name.
    pub fn name(self) -> &'static str {
        match self {
            Ingest => "ingest",
            Match => "match",
            Enrich => "enrich",
            Reconciler => "reconciler",
            Gateway => "gateway",
            Jobs => "jobs",
            Operator => "operator",
            Readonly => "readonly",
        }
    }
}

/// What the names of the group roles begin with: roles belong to a server and not to a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolePrefix(String);

impl RolePrefix {
    /// The name of a group role: `facewire_match`.
    pub fn role(&self, role: Role) -> String {
        format!("{}_{}", self.0, role.name())
    }
}

impl Default for RolePrefix {
    fn default() -> Self {
        Self("facewire".to_owned())
    }
}

impl fmt::Display for RolePrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for RolePrefix {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self, StoreError> {
        let first = text.starts_with(|c: char| c.is_ascii_lowercase());
        let others = text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'));
        // Postgres keeps `pg_` for itself.
        if !first || !others || text.len() > PREFIX_BYTES || text.starts_with("pg_") {
            return Err(StoreError::Config {
                what: "a prefix of roles has 1 to 48 of a-z, 0-9 and _, begins with a letter, and not with pg_",
            });
        }
        Ok(Self(text.to_owned()))
    }
}

/// One right on one table.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Right {
    /// Every column is read.
    Read,
    /// These columns are read.
    ReadOf(&'static [&'static str]),
    Insert,
    Update,
    /// These columns are changed. A lock on a row needs the right to change one of its columns: where a role only locks, it is one
    /// that says nothing.
    UpdateOf(&'static [&'static str]),
    Delete,
}

impl Right {
    /// As in GRANT.
    pub(crate) fn privilege(self) -> &'static str {
        match self {
            Right::Read | ReadOf(_) => "SELECT",
            Right::Insert => "INSERT",
            Right::Update | UpdateOf(_) => "UPDATE",
            Right::Delete => "DELETE",
        }
    }

    /// The columns that it is limited to; none: all.
    pub(crate) fn columns(self) -> &'static [&'static str] {
        match self {
            ReadOf(columns) | UpdateOf(columns) => columns,
            _ => &[],
        }
    }
}

/// A table or view, and who may do what to it.
type Row = (&'static str, &'static [(Role, &'static [Right])]);

/// Which columns a role locks rows of `serving` by, without being allowed to switch the model.
const SERVING_LOCK: Right = UpdateOf(&["since"]);

/// Who writes a row of the trail reads the number that it got, and nothing else.
const AUDIT_NUMBER: Right = ReadOf(&["id"]);

/// Whose erasure goes on.
const UNFINISHED_ERASURES: Right = ReadOf(&["collection", "finished_at", "kind", "receipt", "subject"]);

/// What ending a job does to its checkpoints.
const JOB_ENDED: [Right; 2] = [ReadOf(&["job_id"]), D];

/// What jobs do to the trail: they write rows, and take erased persons out of others.
const TRAIL_ERASED: [Right; 3] = [
    ReadOf(&["collection", "detail", "face_id", "id", "other_person_id", "person_id"]),
    I,
    UpdateOf(&["detail", "face_id", "other_person_id", "person_id"]),
];

/// What jobs do to what waits for somebody, to take erased persons out of it: they read no secret and no body.
const WEBHOOKS_ERASED: [Right; 2] = [
    ReadOf(&["active", "collection", "cursor_events", "cursor_results", "disabled_reason", "filter", "webhook_id"]),
    UpdateOf(&["active", "disabled_reason", "filter"]),
];
const DELIVERIES_ERASED: [Right; 3] = [
    ReadOf(&["delivery_id", "next_at", "order_key", "person_ids", "sequence", "source", "state", "webhook_id"]),
    UpdateOf(&["next_at"]),
    D,
];
const REQUESTS_ERASED: [Right; 3] =
    [ReadOf(&["idempotency_key", "key_id", "person_ids"]), UpdateOf(&["started_at"]), D];
const ITEMS_ERASED: [Right; 3] = [ReadOf(&["import_id", "item", "person_id", "reason", "state", "status"]), U, D];

/// What the triggers of `faces` do to `stale_prototypes`.
const NOTE_STALE: [Right; 3] = [S, I, U];

/// Every table and view of the schema. One that is missing here is a fault, which a test finds.
pub(crate) const TABLES: &[Row] = &[
    (
        "_sqlx_migrations",
        &[
            (Ingest, &[S]),
            (Match, &[S]),
            (Enrich, &[S]),
            (Reconciler, &[S]),
            (Gateway, &[S]),
            (Jobs, &[S]),
            (Operator, &[S]),
        ],
    ),
    (
        "collections",
        &[
            (Ingest, &[S, I]),
            (Match, &[S, I]),
            (Enrich, &[ReadOf(&["collection"]), I]),
            (Reconciler, &[S]),
            (Gateway, &[S, I, U, D]),
            // What comes into a collection while it is deleted is of a new one.
            (Jobs, &[S, I, UpdateOf(&["numbered_clusters"]), D]),
            (Operator, &[S, I, U, D]),
        ],
    ),
    (
        "persons",
        &[
            (Match, &[S, I, U]),
            (Enrich, &[S]),
            (Reconciler, &[S]),
            (Gateway, &[S, I, U, D]),
            (Jobs, &[S, UpdateOf(&["status", "updated_at", "version"]), D]),
            (Operator, &[S, I, U, D]),
        ],
    ),
    (
        "faces",
        &[
            (Match, &[S, I, U]),
            (Reconciler, &[S, U, D]),
            (Gateway, &[S, U, D]),
            (Jobs, &[S, U, D]),
            (Operator, &[S, U, D]),
        ],
    ),
    (
        "prototypes",
        &[
            (Match, &[S, I, UpdateOf(&["person_id", "model"])]),
            (Reconciler, &[S]),
            (Gateway, &[S, I, U, D]),
            (Jobs, &[S, I, U, D]),
            (Operator, &[S, I, U, D]),
        ],
    ),
    (
        "stale_prototypes",
        &[
            (Match, &NOTE_STALE),
            (Reconciler, &NOTE_STALE),
            (Gateway, &NOTE_STALE),
            (Jobs, &[S, I, U, D]),
            (Operator, &NOTE_STALE),
        ],
    ),
    (
        "crops",
        &[
            (Ingest, &[S, I, UpdateOf(&["subject_id"])]),
            (Match, &[S]),
            (Enrich, &[S, I, UpdateOf(&["face_count", "subject_id"])]),
            (Reconciler, &[S, UpdateOf(&["face_count"]), D]),
            (Gateway, &[S, UpdateOf(&["subject_id"]), D]),
            (Jobs, &[S, UpdateOf(&["subject_id"]), D]),
            (Operator, &[S, UpdateOf(&["face_count", "subject_id"]), D]),
        ],
    ),
    ("crop_assets", &[(Ingest, &[I]), (Gateway, &[S, D]), (Jobs, &[S, D]), (Operator, &[S, D])]),
    (
        "matched_faces",
        &[
            (Match, &[S, I, U]),
            // What a result says of a kept face is noted when the result goes; whose it was says what becomes of its images.
            (Reconciler, &[S, I]),
            // Whose a face was that is nobody's from now on.
            (Gateway, &[S, I, D]),
            (Jobs, &[S, D]),
            (Operator, &[S, I, D]),
        ],
    ),
    (
        "recognitions",
        &[
            (Ingest, &[ReadOf(&["crop_id", "status", "published_at"])]),
            (Enrich, &[S, I, U]),
            (Reconciler, &[S, D]),
            (Gateway, &[S, U, D]),
            (Jobs, &[S, UpdateOf(&["decision", "face_id", "person_id", "runner_up", "similarity"]), D]),
            (Operator, &[S, U, D]),
        ],
    ),
    (
        "stage_failures",
        &[(Enrich, &[I]), (Reconciler, &[S, D]), (Gateway, &[S, D]), (Jobs, &[S, D]), (Operator, &[S, D])],
    ),
    (
        "calibrations",
        &[(Match, &[S]), (Reconciler, &[S]), (Gateway, &[S, D]), (Jobs, &[S, D]), (Operator, &[S, I, U, D])],
    ),
    (
        "serving",
        &[
            (Match, &[S, I, SERVING_LOCK]),
            (Reconciler, &[S, I, U]),
            (Gateway, &[S, I, SERVING_LOCK]),
            (Jobs, &[S, I, SERVING_LOCK]),
            (Operator, &[S, I, U]),
        ],
    ),
    (
        "reembeddings",
        &[(Match, &[S]), (Reconciler, &[S, I, U, D]), (Gateway, &[S]), (Jobs, &[S]), (Operator, &[S, I, U, D])],
    ),
    ("raw_embeddings", &[(Match, &[S, I, U]), (Reconciler, &[S, I, U, D]), (Jobs, &[S]), (Operator, &[S, I, U, D])]),
    ("fences", &[(Reconciler, &[S, I, U]), (Operator, &[S, I, U])]),
    ("passes", &[(Reconciler, &[S, I, U]), (Operator, &[S, I, U, D])]),
    (
        "audit",
        &[
            (Ingest, &[I]),
            (Match, &[I, AUDIT_NUMBER]),
            (Enrich, &[I]),
            (Gateway, &[S, I, U]),
            (Jobs, &TRAIL_ERASED),
            (Operator, &[S, I, U]),
        ],
    ),
    ("merges", &[(Gateway, &[S, I, U]), (Operator, &[S, I])]),
    ("merge_faces", &[(Gateway, &[S, I, D]), (Operator, &[S, I, D])]),
    (
        "face_negatives",
        &[
            (Match, &[S]),
            (Reconciler, &[ReadOf(&["face_id", "person_id"])]),
            (Gateway, &[S, I, U, D]),
            (Jobs, &[S]),
            (Operator, &[S, I, U, D]),
        ],
    ),
    (
        "erasures",
        &[
            (Ingest, &[UNFINISHED_ERASURES]),
            (Match, &[UNFINISHED_ERASURES]),
            (Enrich, &[UNFINISHED_ERASURES]),
            (Gateway, &[S, I, U]),
            (Jobs, &[S, I, UpdateOf(&["finished_at", "receipt"])]),
            (Operator, &[S, I, U]),
        ],
    ),
    ("erasure_jobs", &[(Jobs, &[S, I, UpdateOf(&["erasure_id"])])]),
    (
        "tombstones",
        &[
            (Ingest, &[S]),
            (Match, &[S]),
            (Enrich, &[S]),
            (Reconciler, &[S]),
            (Gateway, &[S, I, U]),
            (Jobs, &[S, I, UpdateOf(&["at"])]),
            (Operator, &[S, I, U]),
        ],
    ),
    ("secrets", &[(Gateway, &[S, I]), (Operator, &[S, I])]),
    ("api_keys", &[(Gateway, &[S, UpdateOf(&["last_used_at"])]), (Operator, &[S, I, U])]),
    (
        "idempotency",
        &[(Gateway, &[S, I, U, D]), (Jobs, &REQUESTS_ERASED), (Operator, &[S, UpdateOf(&["started_at"]), D])],
    ),
    ("webhooks", &[(Gateway, &[S, I, U, D]), (Jobs, &WEBHOOKS_ERASED), (Operator, &[S, U])]),
    ("webhook_deliveries", &[(Gateway, &[S, I, U, D]), (Jobs, &DELIVERIES_ERASED), (Operator, &[S, U, D])]),
    ("imports", &[(Gateway, &[S, I, U, D]), (Jobs, &[ReadOf(&["collection", "import_id"])])]),
    ("import_items", &[(Gateway, &[S, I, U, D]), (Jobs, &ITEMS_ERASED), (Operator, &[S, U])]),
    ("jobs", &[(Gateway, &[S, I, U]), (Jobs, &[S, I, U, D]), (Operator, &[S, I, U])]),
    ("heads", &[(Gateway, &[S]), (Jobs, &[S, I]), (Operator, &[S, U])]),
    // Whoever ends a job drops what it would have gone on from.
    ("head_checkpoints", &[(Gateway, &JOB_ENDED), (Jobs, &[S, I, U, D]), (Operator, &JOB_ENDED)]),
    (
        "clusters",
        &[
            // A face that goes takes its cluster's mean with it.
            (Reconciler, &[ReadOf(&["cluster_id"]), UpdateOf(&["centroid", "updated_at"])]),
            (Gateway, &[S, I, U, D]),
            (Jobs, &[S, I, U, D]),
            (Operator, &[S, I, U, D]),
        ],
    ),
    ("acts", &[(Gateway, &[S, I, U, D]), (Jobs, &[S, I, U, D]), (Operator, &[S, I, U, D])]),
    ("act_faces", &[(Gateway, &[S, I]), (Jobs, &[S, I, D]), (Operator, &[S, I])]),
    ("act_clusters", &[(Gateway, &[S, I]), (Jobs, &[S, I]), (Operator, &[S, I])]),
    ("facewire_endings", &[(Gateway, &[S]), (Operator, &[S]), (Readonly, &[S])]),
    ("facewire_signals", &[(Operator, &[S]), (Readonly, &[S])]),
    ("facewire_failures", &[(Gateway, &[S]), (Operator, &[S]), (Readonly, &[S])]),
    ("facewire_cameras", &[(Operator, &[S]), (Readonly, &[S])]),
];

/// The tables and views that have a row in the table of rights.
pub fn role_tables() -> impl Iterator<Item = &'static str> {
    TABLES.iter().map(|(table, _)| *table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_one_row_and_a_role_one_entry_in_it() {
        let mut tables: Vec<&str> = role_tables().collect();
        tables.sort_unstable();
        tables.dedup();
        assert_eq!(tables.len(), TABLES.len());
        for (table, rights) in TABLES {
            let mut roles: Vec<Role> = rights.iter().map(|(role, _)| *role).collect();
            roles.sort_unstable();
            roles.dedup();
            assert_eq!(roles.len(), rights.len(), "{table}");
            assert!(!rights.iter().any(|(_, rights)| rights.is_empty()), "{table}");
        }
    }

    #[test]
    fn dashboards_read_views_and_change_nothing() {
        for (table, rights) in TABLES {
            for (_, rights) in rights.iter().filter(|(role, _)| *role == Readonly) {
                assert!(table.starts_with("facewire_") && matches!(rights, [S]), "{table}: {rights:?}");
            }
        }
    }

    #[test]
    fn a_prefix_is_a_plain_name() {
        let prefix: RolePrefix = "shop_2".parse().unwrap();
        assert_eq!(prefix.role(Match), "shop_2_match");
        assert_eq!(RolePrefix::default().role(Operator), "facewire_operator");
        let long = "x".repeat(PREFIX_BYTES + 1);
        for bad in ["", "2shop", "Shop", "a-b", "a\"b", "a b", "pg_x", long.as_str()] {
            assert!(bad.parse::<RolePrefix>().is_err(), "{bad}");
        }
        let longest = "x".repeat(PREFIX_BYTES).parse::<RolePrefix>().unwrap();
        assert!(Role::ALL.into_iter().all(|role| longest.role(role).len() <= 63));
    }
}
