//! The items of imports: added once, sent, done. Images are not kept: an item that was added and not sent waits for its
//! client to send it again. How items end is read from the endings of their crops.

use facewire_domain::{CollectionId, CropId, PersonId};
use sqlx::Connection;
use sqlx::postgres::PgConnection;
use sqlx::types::JsonValue;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::error::StoreError;
use crate::import_item::{
    EndedRow, ImportItem, ItemCount, ItemEnding, ItemEndings, ItemFilter, ItemPlace, ItemRow, ItemState, NewImportItem,
    check,
};
use crate::store::{CHUNK, Store, count, run, text};

macro_rules! columns {
    () => {
        "item, image_hash, subject, name, metadata, crop_id, state, status, reason, detail, face_id, attempts, updated_at"
    };
}

const RECEIVING: &str = "SELECT collection FROM imports WHERE import_id = $1 AND state = 'receiving' FOR NO KEY UPDATE";

const ADD: &str = "
INSERT INTO import_items (import_id, item, image_hash, person_id, subject, name, metadata)
SELECT $1, u.item, u.hash, u.person_id, u.subject, u.name, u.metadata
FROM UNNEST($2::bigint[], $3::bytea[], $4::uuid[], $5::text[], $6::text[], $7::jsonb[])
    AS u (item, hash, person_id, subject, name, metadata)
ON CONFLICT (import_id, item) DO NOTHING";

const THESE: &str =
    concat!("SELECT ", columns!(), " FROM import_items WHERE import_id = $1 AND item = ANY($2::bigint[])");

const SENT: &str = "
UPDATE import_items i SET state = 'sent', crop_id = u.crop_id, attempts = i.attempts + 1, due_at = now(), updated_at = now()
FROM UNNEST($2::bigint[], $3::uuid[]) AS u (item, crop_id)
WHERE i.import_id = $1 AND i.item = u.item AND i.state <> 'done'";

// In the order in which they were sent, which is about the order in which they end.
const ENDED: &str = "
WITH looked AS MATERIALIZED (
    SELECT item, crop_id, due_at, metadata FROM import_items
    WHERE import_id = $1 AND state <> 'done' AND state = 'sent' AND (due_at, item) > ($2, $3)
    ORDER BY due_at, item LIMIT $4
)
SELECT l.item, l.crop_id, l.due_at, l.metadata, r.status, r.reason, r.detail, r.face_id, r.person_id
FROM looked l LEFT JOIN LATERAL (
    SELECT * FROM recognitions r WHERE r.crop_id = l.crop_id ORDER BY r.face_index LIMIT 1
) r ON true
ORDER BY l.due_at, l.item";

const DONE: &str = "
UPDATE import_items SET state = 'done', status = $3, reason = $4, detail = $5, face_id = $6, updated_at = now()
WHERE import_id = $1 AND item = $2 AND state <> 'done'";

const CROPS_DONE: &str = "
UPDATE import_items i SET state = 'done', status = u.status, reason = u.reason, detail = u.detail, face_id = u.face_id,
    updated_at = now()
FROM UNNEST($1::uuid[], $2::text[], $3::text[], $4::jsonb[], $5::uuid[]) AS u (crop_id, status, reason, detail, face_id)
WHERE i.crop_id = u.crop_id AND i.state = 'sent' RETURNING i.import_id";

const PROGRESS: &str = "
SELECT state, status, reason, count(*) FROM import_items WHERE import_id = $1
GROUP BY state, status, reason ORDER BY state, status, reason";

const PAGE: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM import_items WHERE import_id = $1 AND ($2::bigint IS NULL OR item > $2) AND ($3::text IS NULL OR state = $3)
      AND ($4::text IS NULL OR status = $4) AND ($5::text IS NULL OR reason = $5) ORDER BY item LIMIT $6"
);

// What is not done yet must not be sent any more; what is done keeps its count.
const ERASE: &str = "
UPDATE import_items SET person_id = NULL, subject = NULL, name = NULL, metadata = '{}', face_id = NULL, crop_id = NULL,
    status = CASE WHEN state = 'done' THEN status ELSE 'rejected' END,
    reason = CASE WHEN state = 'done' THEN reason ELSE 'erased' END,
    detail = NULL, state = 'done', updated_at = now()
WHERE (import_id, item) IN (SELECT import_id, item FROM import_items WHERE person_id = $1 LIMIT $2 FOR UPDATE)";

const DROP: &str = "
DELETE FROM import_items WHERE import_id = $1 AND item = ANY(ARRAY(
    SELECT item FROM import_items WHERE import_id = $1 ORDER BY item LIMIT $2))";

// The order keeps Postgres from reading the whole table for one item.
const WITH_ITEMS: &str = "
SELECT m.import_id FROM imports m CROSS JOIN LATERAL (
    SELECT i.item FROM import_items i WHERE i.import_id = m.import_id ORDER BY i.item LIMIT 1
) one
WHERE m.collection = $1 LIMIT 1";

impl Store {
    /// Adds items to an import that is receiving, at most [`CHUNK`]; those that are there already stay as they are.
    /// Returns how many are new; `None`, and nothing is added, where the import is not receiving.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] with the item whose number, name or metadata is out of bounds.
    pub async fn add_import_items(&self, import: Uuid, items: &[NewImportItem]) -> Result<Option<u64>, StoreError> {
        const COUNT: &str = "UPDATE imports SET total = total + $2 WHERE import_id = $1";
        check(items)?;
        run!(self, "add import items", connection => {
            let mut tx = connection.begin().await?;
            let collection: Option<String> =
                sqlx::query_scalar(RECEIVING).bind(import).fetch_optional(&mut *tx).await?;
            let Some(collection) = collection else { return Ok(None) };
            let collection: CollectionId = collection.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
            let added = insert(&mut tx, import, &collection, items).await?;
            sqlx::query(COUNT).bind(import).bind(added.cast_signed()).execute(&mut *tx).await?;
            tx.commit().await?;
            Ok(Some(added))
        })
    }

    /// These items of an import, as they are stored, in no order; at most [`CHUNK`].
    pub async fn import_items_of(&self, import: Uuid, items: &[u64]) -> Result<Vec<ImportItem>, StoreError> {
        let numbers: Vec<i64> = items.iter().map(|item| item.cast_signed()).collect();
        let rows: Vec<ItemRow> = run!(self, "these import items", connection => {
            sqlx::query_as(THESE).bind(import).bind(&numbers).fetch_all(connection).await
        })?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    /// The images of these items were published as these crops; at most [`CHUNK`]. What is done stays so. Returns how many
    /// changed.
    pub async fn import_items_sent(&self, import: Uuid, sent: &[(u64, CropId)]) -> Result<u64, StoreError> {
        let (items, crops): (Vec<i64>, Vec<Uuid>) =
            sent.iter().map(|(item, crop)| (item.cast_signed(), crop.as_uuid())).unzip();
        let sent = run!(self, "import items sent", connection => {
            sqlx::query(SENT).bind(import).bind(&items).bind(&crops).execute(connection).await
        })?;
        Ok(sent.rows_affected())
    }

    /// Looks at up to `limit` sent items of an import, in the order in which they were sent, after a place: which of their
    /// crops have ended?
    pub async fn import_endings(
        &self,
        import: Uuid,
        after: Option<ItemPlace>,
        limit: u32,
    ) -> Result<ItemEndings, StoreError> {
        let after = after.unwrap_or(ItemPlace { sent_at: OffsetDateTime::UNIX_EPOCH, item: 0 });
        let rows: Vec<EndedRow> = run!(self, "import endings", connection => {
            sqlx::query_as(ENDED)
                .bind(import)
                .bind(after.sent_at)
                .bind(after.item.cast_signed())
                .bind(i64::from(limit))
                .fetch_all(connection)
                .await
        })?;
        let is_full = rows.len() as u64 == u64::from(limit);
        let next = rows.last().filter(|_| is_full).map(EndedRow::place);
        Ok(ItemEndings { ended: rows.into_iter().filter_map(EndedRow::ended).collect(), next })
    }

    /// The item ended. `false`, and nothing changes, where it had its ending before.
    pub async fn import_item_done(&self, import: Uuid, item: u64, ending: &ItemEnding) -> Result<bool, StoreError> {
        let done = run!(self, "import item done", connection => {
            sqlx::query(DONE)
                .bind(import)
                .bind(item.cast_signed())
                .bind(text(&ending.status))
                .bind(ending.reason.as_deref().map(text))
                .bind(&ending.detail)
                .bind(ending.face.map(|face| face.as_uuid()))
                .execute(connection)
                .await
        })?;
        Ok(done.rows_affected() > 0)
    }

    /// The crops ended as which items were sent; of crops of no item, and of items that are done, nothing changes.
    /// Returns the imports of the items that are done now.
    pub async fn import_crops_done(&self, endings: &[(CropId, ItemEnding)]) -> Result<Vec<Uuid>, StoreError> {
        let mut imports = Vec::new();
        for chunk in endings.chunks(CHUNK) {
            let crops: Vec<Uuid> = chunk.iter().map(|(crop, _)| crop.as_uuid()).collect();
            let statuses: Vec<_> = chunk.iter().map(|(_, ending)| text(&ending.status)).collect();
            let reasons: Vec<_> = chunk.iter().map(|(_, ending)| ending.reason.as_deref().map(text)).collect();
            let details: Vec<Option<&JsonValue>> = chunk.iter().map(|(_, ending)| ending.detail.as_ref()).collect();
            let faces: Vec<Option<Uuid>> = chunk.iter().map(|(_, ending)| ending.face.map(|f| f.as_uuid())).collect();
            let done: Vec<Uuid> = run!(self, "import crops done", connection => {
                sqlx::query_scalar(CROPS_DONE)
                    .bind(&crops)
                    .bind(&statuses)
                    .bind(&reasons)
                    .bind(&details)
                    .bind(&faces)
                    .fetch_all(connection)
                    .await
            })?;
            imports.extend(done);
        }
        imports.sort_unstable();
        imports.dedup();
        Ok(imports)
    }

    /// How many items of an import are how far.
    pub async fn import_progress(&self, import: Uuid) -> Result<Vec<ItemCount>, StoreError> {
        let rows: Vec<(String, Option<String>, Option<String>, i64)> = run!(self, "import progress", connection => {
            sqlx::query_as(PROGRESS).bind(import).fetch_all(connection).await
        })?;
        let counted = |(state, status, reason, items): (String, _, _, _)| {
            Ok(ItemCount { state: ItemState::parse(&state)?, status, reason, items: count(items) })
        };
        rows.into_iter().map(counted).collect()
    }

    /// Items of an import in the manifest's order; the next page is of those after the last of this one.
    pub async fn import_items_page(
        &self,
        import: Uuid,
        after: Option<u64>,
        filter: &ItemFilter,
        limit: u32,
    ) -> Result<Vec<ImportItem>, StoreError> {
        let rows: Vec<ItemRow> = run!(self, "import items", connection => {
            sqlx::query_as(PAGE)
                .bind(import)
                .bind(after.map(u64::cast_signed))
                .bind(filter.state.map(ItemState::as_str))
                .bind(filter.status.as_deref().map(text))
                .bind(filter.reason.as_deref().map(text))
                .bind(i64::from(limit))
                .fetch_all(connection)
                .await
        })?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    /// Removes up to `limit` items of an import that goes: a cascade would remove all at once, however many they are. Returns how many.
    pub(crate) async fn drop_import_items(&self, import: Uuid, limit: i64) -> Result<u64, StoreError> {
        let dropped = run!(self, "drop import items", connection => {
            sqlx::query(DROP).bind(import).bind(limit).execute(connection).await
        })?;
        Ok(dropped.rows_affected())
    }

    /// The same of one of the imports of a collection that goes; 0 once none has items.
    pub(crate) async fn drop_items_in(&self, collection: &CollectionId, limit: i64) -> Result<u64, StoreError> {
        let import: Option<Uuid> = run!(self, "import with items", connection => {
            sqlx::query_scalar(WITH_ITEMS).bind(collection.as_str()).fetch_optional(connection).await
        })?;
        match import {
            Some(import) => self.drop_import_items(import, limit).await,
            None => Ok(0),
        }
    }

    /// Takes everything of a person out of the items of all imports. Items that are not done end as `rejected` with the
    /// reason `erased`. Returns how many it were.
    pub async fn erase_import_items_of(&self, person: PersonId) -> Result<u64, StoreError> {
        let mut erased = 0;
        loop {
            let step = run!(self, "erase import items", connection => {
                sqlx::query(ERASE).bind(person.as_uuid()).bind(CHUNK as i64).execute(connection).await
            })?;
            match step.rows_affected() {
                0 => return Ok(erased),
                rows => erased += rows,
            }
        }
    }
}

async fn insert(
    connection: &mut PgConnection,
    import: Uuid,
    collection: &CollectionId,
    items: &[NewImportItem],
) -> Result<u64, sqlx::Error> {
    let numbers: Vec<i64> = items.iter().map(|item| item.item.cast_signed()).collect();
    let hashes: Vec<&[u8]> = items.iter().map(|item| item.image_hash.as_bytes().as_slice()).collect();
    let persons: Vec<Uuid> = items.iter().map(|item| PersonId::derive(collection, &item.subject).as_uuid()).collect();
    let subjects: Vec<&str> = items.iter().map(|item| item.subject.as_str()).collect();
    let names: Vec<_> = items.iter().map(|item| item.name.as_deref().map(text).filter(|n| !n.is_empty())).collect();
    let metadata: Vec<&JsonValue> = items.iter().map(|item| &item.metadata).collect();
    let added = sqlx::query(ADD)
        .bind(import)
        .bind(&numbers)
        .bind(&hashes)
        .bind(&persons)
        .bind(&subjects)
        .bind(&names)
        .bind(&metadata)
        .execute(connection)
        .await?;
    Ok(added.rows_affected())
}
