//! Acts: what was done with many faces at once (a clustering, an assignment, a label, a split), each with its record, so that it
//! can be told, found done and undone. What an act does is in modules of its own; undoing one is in `act_undo`.

use std::time::Duration;

use facewire_domain::{CollectionId, JobId};
use serde_json::Value as JsonValue;
use sqlx::Connection;
use sqlx::postgres::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::audit::Actor;
use crate::error::StoreError;
use crate::row::row;
use crate::store::{CHUNK, Store, count, run};

/// Most acts of one page.
const PAGE: u32 = 1000;

/// Longest time that a face of an act takes; far above what it does take.
const PER_FACE: Duration = Duration::from_millis(5);

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ActKind {
    Cluster,
    Assign,
    Label,
    Split,
}

impl ActKind {
    /// As rows have it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Assign => "assign",
            Self::Label => "label",
            Self::Split => "split",
        }
    }
}

/// What became of a cluster in an act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClusterChange {
    Created,
    Dissolved,
    Labelled,
}

impl ClusterChange {
    /// As rows have it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Dissolved => "dissolved",
            Self::Labelled => "labelled",
        }
    }
}

/// An act.
#[derive(Debug, Clone, PartialEq)]
pub struct ActRecord {
    /// Its id, by which it is undone.
    pub act: Uuid,
    /// Of which collection.
    pub collection: CollectionId,
    /// `cluster`, `assign`, `label` or `split`.
    pub kind: String,
    /// The job that did it; none: somebody did it by hand.
    pub job: Option<JobId>,
    /// Counts: a JSON object without names and without ids of people.
    pub detail: JsonValue,
    /// When it was done.
    pub at: OffsetDateTime,
    /// By whom; without the request's id.
    pub actor: Actor,
    /// When it was undone.
    pub undone_at: Option<OffsetDateTime>,
    /// By whom.
    pub undone_by: Option<String>,
    /// Faces that it moved, those among them that are gone by now.
    pub faces: u64,
    /// Clusters that it made, dissolved or labelled.
    pub clusters: u64,
}

row! {
    struct Columns {
        act_id: Uuid,
        collection: String,
        kind: String,
        job_id: Option<Uuid>,
        detail: JsonValue,
        at: OffsetDateTime,
        actor_key: Option<Uuid>,
        actor: String,
        undone_at: Option<OffsetDateTime>,
        undone_by: Option<String>,
        faces: i64,
        clusters: i64,
    }
}

impl TryFrom<Columns> for ActRecord {
    type Error = StoreError;

    fn try_from(row: Columns) -> Result<Self, StoreError> {
        Ok(Self {
            act: row.act_id,
            collection: row.collection.parse().map_err(|_| StoreError::corrupt("acts.collection"))?,
            kind: row.kind,
            job: row.job_id.map(JobId::from),
            detail: row.detail,
            at: row.at,
            actor: Actor { key: row.actor_key, name: row.actor, request: None },
            undone_at: row.undone_at,
            undone_by: row.undone_by,
            faces: count(row.faces),
            clusters: count(row.clusters),
        })
    }
}

/// Acts `a`; conditions follow.
macro_rules! acts {
    ($which:literal) => {
        concat!(
            "SELECT act_id, collection, kind, job_id, detail, at, actor_key, actor, undone_at, undone_by,
    coalesce(faces, (SELECT count(*) FROM act_faces f WHERE f.act_id = a.act_id)) AS faces,
    coalesce(clusters, (SELECT count(*) FROM act_clusters k WHERE k.act_id = a.act_id)) AS clusters
FROM acts a WHERE NOT expired AND ",
            $which
        )
    };
}

const ONE: &str = acts!("act_id = $1");

const LIST: &str = acts!(
    "($1::text[] IS NULL OR collection = ANY($1))
  AND ($2::timestamptz IS NULL OR (at, act_id) < ($2, $3::uuid))
ORDER BY at DESC, act_id DESC LIMIT $4"
);

const OF_JOB: &str = acts!("job_id = $1 AND undone_at IS NULL ORDER BY kind");

// From here on nobody undoes it: its faces go in steps.
const EXPIRE: &str = "
UPDATE acts SET expired = true WHERE act_id = ANY(ARRAY(
    SELECT act_id FROM acts WHERE at < now() - make_interval(secs => $1) AND NOT expired ORDER BY at LIMIT $2))";

/// What goes of expired acts, in this order: up to `$2` rows each. Clusters that an act can still restore stay.
const PRUNED: [&str; 3] = [
    "DELETE FROM act_faces f USING (
        SELECT n.act_id, n.face_id FROM acts a JOIN act_faces n ON n.act_id = a.act_id
        WHERE a.expired AND a.at < now() - make_interval(secs => $1) LIMIT $2) old
     WHERE f.act_id = old.act_id AND f.face_id = old.face_id",
    "DELETE FROM acts WHERE act_id = ANY(ARRAY(
        SELECT a.act_id FROM acts a WHERE a.expired AND a.at < now() - make_interval(secs => $1)
            AND NOT EXISTS (SELECT FROM act_faces f WHERE f.act_id = a.act_id) LIMIT $2))",
    "DELETE FROM clusters WHERE cluster_id = ANY(ARRAY(
        SELECT c.cluster_id FROM clusters c WHERE c.dissolved_at < now() - make_interval(secs => $1)
            AND NOT EXISTS (SELECT FROM act_clusters k WHERE k.cluster_id = c.cluster_id) LIMIT $2))",
];

impl Store {
    /// An act by its id; `None` where there is none, or it was removed for its age.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn act(&self, act: Uuid) -> Result<Option<ActRecord>, StoreError> {
        let row: Option<Columns> = run!(self, "act", connection => {
            sqlx::query_as(ONE).bind(act).fetch_optional(connection).await
        })?;
        row.map(ActRecord::try_from).transpose()
    }

    /// Up to `limit` acts (1000 at most) of these collections, or of all, the newest first; the next page is `after` the time and
    /// id of the last of this one. Those that were removed for their age, or are being removed, are left out.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn acts(
        &self,
        collections: Option<&[CollectionId]>,
        after: Option<(OffsetDateTime, Uuid)>,
        limit: u32,
    ) -> Result<Vec<ActRecord>, StoreError> {
        let collections: Option<Vec<&str>> = collections.map(|all| all.iter().map(CollectionId::as_str).collect());
        let rows: Vec<Columns> = run!(self, "acts", connection => {
            sqlx::query_as(LIST)
                .bind(collections.as_deref())
                .bind(after.map(|(at, _)| at))
                .bind(after.map(|(_, act)| act))
                .bind(i64::from(limit.min(PAGE)))
                .fetch_all(connection)
                .await
        })?;
        rows.into_iter().map(ActRecord::try_from).collect()
    }

    /// The acts that a job did and that can still be undone, by kind: at most one of each.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn acts_of_job(&self, job: JobId) -> Result<Vec<ActRecord>, StoreError> {
        let rows: Vec<Columns> = run!(self, "acts of a job", connection => {
            sqlx::query_as(OF_JOB).bind(job.as_uuid()).fetch_all(connection).await
        })?;
        rows.into_iter().map(ActRecord::try_from).collect()
    }

    /// Removes acts that are older, with the dissolved clusters that none of them can restore: up to `limit` rows of each
    /// table, so that no step is long. They can no longer be undone. Returns how many rows went; 0 once nothing is left.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn prune_acts(&self, older_than: Duration, limit: u32) -> Result<u64, StoreError> {
        let (age, limit) = (older_than.as_secs_f64(), i64::from(limit.max(1)));
        run!(self, "prune acts", connection => {
            let mut tx = connection.begin().await?;
            sqlx::query(EXPIRE).bind(age).bind(limit).execute(&mut *tx).await?;
            let mut pruned = 0;
            for sql in PRUNED {
                pruned += sqlx::query(sql).bind(age).bind(limit).execute(&mut *tx).await?.rows_affected();
            }
            tx.commit().await?;
            Ok(pruned)
        })
    }

    /// Longest wait for a change of so many faces in one transaction; each of its statements has the usual one.
    pub(crate) fn bulk_patience(&self, faces: usize) -> Duration {
        self.patience() + PER_FACE * u32::try_from(faces).unwrap_or(u32::MAX)
    }
}

/// Opens the record of an act; whoever calls holds the collection's lock.
pub(crate) async fn open(
    connection: &mut PgConnection,
    collection: &str,
    kind: ActKind,
    job: Option<JobId>,
    actor: &Actor,
) -> Result<Uuid, sqlx::Error> {
    const SQL: &str =
        "INSERT INTO acts (act_id, collection, kind, job_id, actor_key, actor) VALUES ($1, $2, $3, $4, $5, $6)";
    let act = Uuid::new_v4();
    sqlx::query(SQL)
        .bind(act)
        .bind(collection)
        .bind(kind.as_str())
        .bind(job.map(|job| job.as_uuid()))
        .bind(actor.key)
        .bind(actor.stored_name())
        .execute(connection)
        .await?;
    Ok(act)
}

/// Notes what an act did, once all of it is written: the counts of its kind, a JSON object, and how many faces and clusters it
/// changed.
pub(crate) async fn note_detail(
    connection: &mut PgConnection,
    act: Uuid,
    detail: &JsonValue,
) -> Result<(), sqlx::Error> {
    const SQL: &str = "
UPDATE acts SET detail = $2, faces = (SELECT count(*) FROM act_faces WHERE act_id = $1),
    clusters = (SELECT count(*) FROM act_clusters WHERE act_id = $1)
WHERE act_id = $1";
    sqlx::query(SQL).bind(act).bind(detail).execute(connection).await.map(|_| ())
}

/// Notes what became of clusters.
pub(crate) async fn note_clusters(
    connection: &mut PgConnection,
    act: Uuid,
    clusters: &[Uuid],
    change: ClusterChange,
) -> Result<(), sqlx::Error> {
    const SQL: &str =
        "INSERT INTO act_clusters (act_id, cluster_id, change) SELECT $1, i.id, $3 FROM UNNEST($2::uuid[]) AS i (id)";
    for chunk in clusters.chunks(CHUNK) {
        sqlx::query(SQL).bind(act).bind(chunk).bind(change.as_str()).execute(&mut *connection).await?;
    }
    Ok(())
}

/// The act of this kind that a job did and that nobody undid, with its counts.
pub(crate) async fn done_by(
    connection: &mut PgConnection,
    job: JobId,
    kind: ActKind,
) -> Result<Option<(Uuid, JsonValue)>, sqlx::Error> {
    const SQL: &str = "SELECT act_id, detail FROM acts WHERE job_id = $1 AND kind = $2 AND undone_at IS NULL";
    sqlx::query_as(SQL).bind(job.as_uuid()).bind(kind.as_str()).fetch_optional(connection).await
}

/// The public ids of the clusters to which an act did this, in the order of their numbers.
pub(crate) async fn clusters_of(
    connection: &mut PgConnection,
    act: Uuid,
    change: ClusterChange,
) -> Result<Vec<String>, sqlx::Error> {
    const SQL: &str = "
SELECT c.public_id FROM act_clusters k JOIN clusters c ON c.cluster_id = k.cluster_id
WHERE k.act_id = $1 AND k.change = $2 ORDER BY c.number";
    sqlx::query_scalar(SQL).bind(act).bind(change.as_str()).fetch_all(connection).await
}
