//! Two persons made one, and that undone. A merge keeps a record of the faces that it moved, so that undoing it gives back those
//! and no others. An indexed face that changes hands becomes pending: its point has to be written again.

use facewire_domain::PersonId;
use sqlx::Connection;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

use crate::audit::{Actor, EventKind, NewEvent, record};
use crate::erasure_jobs::any_is_being_erased;
use crate::error::StoreError;
use crate::persons::{MERGES, lock_collections};
use crate::row::row;
use crate::store::{Store, run};

/// A merge, done or undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Merged {
    /// Its record.
    pub merge: Uuid,
    /// Who was merged.
    pub source: PersonId,
    /// Who took over. After undoing: whose the faces were at last, where that person was merged further.
    pub target: PersonId,
    /// How many faces changed hands.
    pub faces: u64,
}

/// Which merge is to be undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MergeRef {
    /// By its record.
    Merge(Uuid),
    /// That of this person into another.
    Source(PersonId),
}

const BOTH: &str = "
SELECT a.collection FROM persons a JOIN persons b ON b.collection = a.collection
WHERE a.person_id = $1 AND b.person_id = $2 AND a.person_id <> b.person_id";

const MARK: &str = "
UPDATE persons a SET status = 'merged', merged_into = $2, version = version + 1, updated_at = now()
FROM (SELECT person_id, status FROM persons WHERE person_id = $1) before
WHERE a.person_id = $1 AND a.status <> 'merged'
  AND EXISTS (SELECT FROM persons b WHERE b.person_id = $2 AND b.status <> 'merged')
RETURNING before.status = 'hidden'";

const NEW_MERGE: &str = "
INSERT INTO merges (merge_id, collection, source, target, hidden, prototypes, actor)
VALUES ($1, $2, $3, $4, $5,
        ARRAY(SELECT prototype_id FROM prototypes WHERE person_id = $3 AND face_id IS NULL), $6)";

const NOTE_FACES: &str =
    "INSERT INTO merge_faces (merge_id, face_id) SELECT $1, face_id FROM faces WHERE person_id = $2";

const MOVE_FACES: &str = "
UPDATE faces SET person_id = $2, updated_at = now(),
    vector_state = CASE vector_state WHEN 'indexed' THEN 'pending' ELSE vector_state END
WHERE person_id = $1";

const MOVE_PROTOTYPES: &str = "UPDATE prototypes SET person_id = $2 WHERE person_id = $1";

// What is not the source is not the source's part of the target either.
const COPY_NEGATIVES: &str = "
INSERT INTO face_negatives (face_id, person_id, stated_of, at, actor)
SELECT face_id, $2, stated_of, at, actor FROM face_negatives WHERE person_id = $1 ON CONFLICT DO NOTHING";

// The source's own row tells whether the merge still stands: an operator may have changed it by hand.
const FIND: &str = "
SELECT m.merge_id, m.collection, m.source, m.target, m.hidden, m.prototypes FROM merges m JOIN persons p ON p.person_id = m.source
WHERE (m.merge_id = $1 OR m.source = $2) AND m.undone_at IS NULL AND p.merged_into = m.target
ORDER BY m.at DESC LIMIT 1";

const LAST: &str = "
WITH RECURSIVE chain AS (
    SELECT person_id, merged_into, 0 AS depth FROM persons WHERE person_id = $1
    UNION ALL
    SELECT p.person_id, p.merged_into, depth + 1 FROM chain JOIN persons p ON p.person_id = chain.merged_into WHERE depth < $2
) SELECT person_id FROM chain ORDER BY depth DESC LIMIT 1";

const UNMARK: &str = "
UPDATE persons SET status = CASE WHEN $2 THEN 'hidden' ELSE 'active' END, merged_into = NULL, version = version + 1,
    updated_at = now() WHERE person_id = $1";

const MOVE_BACK: &str = "
UPDATE faces f SET person_id = $2, updated_at = now(),
    vector_state = CASE vector_state WHEN 'indexed' THEN 'pending' ELSE vector_state END
FROM merge_faces m WHERE m.merge_id = $1 AND f.face_id = m.face_id AND f.person_id = $3
RETURNING f.face_id";

// The faces leave the target, and with it everybody whom that was merged into: undoing those merges gives them to nobody.
const LEAVE: &str = "
WITH RECURSIVE chain AS (
    SELECT person_id, merged_into FROM persons WHERE person_id = $2
    UNION
    SELECT p.person_id, p.merged_into FROM chain JOIN persons p ON p.person_id = chain.merged_into
)
DELETE FROM merge_faces f USING merges m
WHERE f.face_id = ANY($1::uuid[]) AND m.merge_id = f.merge_id AND m.undone_at IS NULL
  AND m.source IN (SELECT person_id FROM chain)";

const MOVE_PROTOTYPES_BACK: &str = "
UPDATE prototypes SET person_id = $1
WHERE person_id = $2 AND (face_id = ANY($3::uuid[]) OR prototype_id = ANY($4::uuid[]))";

// What was said of the source, and of everybody who is merged into them, is no longer said of others.
const DROP_COPIES: &str = "
WITH RECURSIVE everybody AS (
    SELECT person_id FROM persons WHERE person_id = $1
    UNION
    SELECT p.person_id FROM everybody e JOIN persons p ON p.merged_into = e.person_id
)
DELETE FROM face_negatives WHERE stated_of IN (SELECT person_id FROM everybody)
    AND person_id NOT IN (SELECT person_id FROM everybody)";

row! {
    struct Record {
        merge_id: Uuid,
        collection: String,
        source: Uuid,
        target: Uuid,
        hidden: bool,
        prototypes: Vec<Uuid>,
    }
}

impl Store {
    /// Makes `into` the owner of all that `from` has; `from` stays as a signpost. Its faces become pending again, so that
    /// the vector engine learns of their owner. `None`, and nothing is changed, unless both are persons of one collection,
    /// differ, and are not merged themselves.
    ///
    /// # Errors
    /// [`StoreError::BeingErased`] where an unfinished erasure concerns one of them.
    pub async fn merge_persons(
        &self,
        from: PersonId,
        into: PersonId,
        actor: &Actor,
    ) -> Result<Option<Merged>, StoreError> {
        run!(self, "merge persons", connection => merge(connection, from, into, actor).await)?
    }

    /// Undoes a merge: the person that was merged is as before (hidden where they were hidden), and gets back the faces that the
    /// merge moved, unless somebody gave them to yet another person since. `None` where there is no such merge, it was undone,
    /// or an earlier release did it, which kept no record.
    ///
    /// # Errors
    /// [`StoreError::BeingErased`] where an unfinished erasure concerns one of them.
    pub async fn unmerge(&self, which: MergeRef, actor: &Actor) -> Result<Option<Merged>, StoreError> {
        run!(self, "undo a merge", connection => unmerge(connection, which, actor).await)?
    }
}

/// What an attempt came to: refused where somebody is being erased.
type Attempt = Result<Option<Merged>, StoreError>;

async fn merge(
    connection: &mut PgConnection,
    from: PersonId,
    into: PersonId,
    actor: &Actor,
) -> Result<Attempt, sqlx::Error> {
    let (source, target) = (from.as_uuid(), into.as_uuid());
    let mut tx = connection.begin().await?;
    let collection: Option<String> =
        sqlx::query_scalar(BOTH).bind(source).bind(target).fetch_optional(&mut *tx).await?;
    let Some(collection) = collection else { return Ok(Ok(None)) };
    lock_collections(&mut tx, &[&collection]).await?;
    // An erasure looks for faces by their person: those that went away would stay, and those that came would go.
    if any_is_being_erased(&mut tx, &collection, &[source, target]).await? {
        return Ok(Err(StoreError::BeingErased));
    }
    let hidden: Option<bool> = sqlx::query_scalar(MARK).bind(source).bind(target).fetch_optional(&mut *tx).await?;
    let Some(hidden) = hidden else { return Ok(Ok(None)) };
    let merge = Uuid::new_v4();
    sqlx::query(NEW_MERGE)
        .bind(merge)
        .bind(&collection)
        .bind(source)
        .bind(target)
        .bind(hidden)
        .bind(actor.stored_name())
        .execute(&mut *tx)
        .await?;
    sqlx::query(NOTE_FACES).bind(merge).bind(source).execute(&mut *tx).await?;
    let faces = sqlx::query(MOVE_FACES).bind(source).bind(target).execute(&mut *tx).await?.rows_affected();
    for follow in [MOVE_PROTOTYPES, COPY_NEGATIVES] {
        sqlx::query(follow).bind(source).bind(target).execute(&mut *tx).await?;
    }
    let merged = Merged { merge, source: from, target: into, faces };
    record(&mut tx, actor, event(&collection, EventKind::PersonMerged, &merged)).await?;
    tx.commit().await?;
    Ok(Ok(Some(merged)))
}

fn event<'a>(collection: &'a str, kind: EventKind, merged: &Merged) -> NewEvent<'a> {
    let detail = serde_json::json!({ "mergeId": merged.merge, "facesMoved": merged.faces });
    NewEvent { person: Some(merged.source), other: Some(merged.target), detail, ..NewEvent::of(collection, kind) }
}

async fn find(connection: &mut PgConnection, which: MergeRef) -> Result<Option<Record>, sqlx::Error> {
    let (merge, source) = match which {
        MergeRef::Merge(merge) => (Some(merge), None),
        MergeRef::Source(source) => (None, Some(source.as_uuid())),
    };
    sqlx::query_as(FIND).bind(merge).bind(source).fetch_optional(connection).await
}

async fn unmerge(connection: &mut PgConnection, which: MergeRef, actor: &Actor) -> Result<Attempt, sqlx::Error> {
    let mut tx = connection.begin().await?;
    let Some(found) = find(&mut tx, which).await? else { return Ok(Ok(None)) };
    lock_collections(&mut tx, &[&found.collection]).await?;
    // Again, now that nobody else undoes it.
    let Some(found) = find(&mut tx, MergeRef::Merge(found.merge_id)).await? else { return Ok(Ok(None)) };
    // The target may have been merged further, and its faces with it.
    let owner: Uuid = sqlx::query_scalar(LAST).bind(found.target).bind(i64::from(MERGES)).fetch_one(&mut *tx).await?;
    // The erasure of the target is of the source too: it could not end without them.
    if any_is_being_erased(&mut tx, &found.collection, &[found.source, found.target, owner]).await? {
        return Ok(Err(StoreError::BeingErased));
    }
    sqlx::query(UNMARK).bind(found.source).bind(found.hidden).execute(&mut *tx).await?;
    let faces: Vec<Uuid> =
        sqlx::query_scalar(MOVE_BACK).bind(found.merge_id).bind(found.source).bind(owner).fetch_all(&mut *tx).await?;
    sqlx::query(LEAVE).bind(&faces).bind(found.target).execute(&mut *tx).await?;
    sqlx::query(MOVE_PROTOTYPES_BACK)
        .bind(found.source)
        .bind(owner)
        .bind(&faces)
        .bind(&found.prototypes)
        .execute(&mut *tx)
        .await?;
    sqlx::query(DROP_COPIES).bind(found.source).execute(&mut *tx).await?;
    sqlx::query("UPDATE merges SET undone_at = now(), undone_by = $2 WHERE merge_id = $1")
        .bind(found.merge_id)
        .bind(actor.stored_name())
        .execute(&mut *tx)
        .await?;
    let (source, target) = (found.source.into(), owner.into());
    let merged = Merged { merge: found.merge_id, source, target, faces: faces.len() as u64 };
    record(&mut tx, actor, event(&found.collection, EventKind::PersonUnmerged, &merged)).await?;
    tx.commit().await?;
    Ok(Ok(Some(merged)))
}
