//! Requests that may come twice: whoever comes first works, whoever comes later gets the same answer. What a request is
//! and how it is hashed is the caller's.

use std::time::Duration;

use facewire_domain::PersonId;
use sqlx::postgres::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::error::StoreError;
use crate::row::row;
use crate::store::{CHUNK, Store, run};

/// Longest key that a client gives, in bytes.
const IDEMPOTENCY_KEY_BYTES: usize = 255;

/// Largest answer that is stored, in bytes.
pub const ANSWER_BYTES: usize = 1 << 20;

/// Looks at a row that others create and remove; each look but the last finds it gone in between.
const LOOKS: u32 = 4;

/// What became of the beginning of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begun {
    /// Nobody worked on it, or not for the length of the lease: the caller does, and ends it with the ticket.
    New(RequestTicket),
    /// Somebody is at work on it.
    Running,
    /// It was answered before.
    Finished(StoredAnswer),
    /// The same key came with another request.
    Mismatch,
}

/// The right to answer a request. It is lost to whoever takes the request over after the lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestTicket {
    key: Uuid,
    idempotency_key: String,
    attempt: i32,
}

/// An answer as it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredAnswer {
    /// HTTP status.
    pub status: u16,
    /// Media type of the body.
    pub content_type: String,
    /// At most [`ANSWER_BYTES`]. It must hold no embedding and no image: it is stored as it is.
    pub body: Vec<u8>,
}

row! {
    struct Row {
        request_hash: Vec<u8>,
        status: Option<i32>,
        content_type: Option<String>,
        body: Option<Vec<u8>>,
    }
}

impl Row {
    fn begun(self, hash: [u8; 32]) -> Result<Begun, StoreError> {
        if self.request_hash != hash {
            return Ok(Begun::Mismatch);
        }
        let (Some(status), Some(content_type), Some(body)) = (self.status, self.content_type, self.body) else {
            return Ok(Begun::Running);
        };
        let status = status.try_into().map_err(|_| StoreError::corrupt("idempotency.status"))?;
        Ok(Begun::Finished(StoredAnswer { status, content_type, body }))
    }
}

const BEGIN: &str = "
INSERT INTO idempotency AS i (key_id, idempotency_key, request_hash) VALUES ($1, $2, $3)
ON CONFLICT (key_id, idempotency_key) DO UPDATE SET attempt = i.attempt + 1, started_at = now()
WHERE i.finished_at IS NULL AND i.request_hash = EXCLUDED.request_hash AND i.started_at <= now() - make_interval(secs => $4)
RETURNING attempt";

const LOOK: &str = "
SELECT request_hash, status, content_type, body FROM idempotency WHERE key_id = $1 AND idempotency_key = $2";

const FINISH: &str = "
UPDATE idempotency SET status = $4, content_type = $5, body = $6, person_ids = $7, finished_at = now()
WHERE key_id = $1 AND idempotency_key = $2 AND attempt = $3";

const ABANDON: &str = "
DELETE FROM idempotency WHERE key_id = $1 AND idempotency_key = $2 AND attempt = $3 AND finished_at IS NULL";

const EXPIRE: &str = "
DELETE FROM idempotency WHERE (key_id, idempotency_key) IN (
    SELECT key_id, idempotency_key FROM idempotency WHERE started_at < $1
    ORDER BY started_at LIMIT $2 FOR UPDATE SKIP LOCKED)";

const ERASE: &str = "
DELETE FROM idempotency WHERE (key_id, idempotency_key) IN (
    SELECT key_id, idempotency_key FROM idempotency
    WHERE person_ids <> '{}' AND person_ids @> ARRAY[$1::uuid] LIMIT $2 FOR UPDATE)";

impl Store {
    /// Begins a request of an API key (`None`: of nobody's) under the client's idempotency key, which is 1 to 255
    /// bytes. `hash` tells requests apart. A request that is neither answered nor abandoned within `lease` is given to
    /// whoever asks next.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for an idempotency key of another length.
    pub async fn begin_request(
        &self,
        key: Option<Uuid>,
        idempotency_key: &str,
        hash: [u8; 32],
        lease: Duration,
    ) -> Result<Begun, StoreError> {
        if !(1..=IDEMPOTENCY_KEY_BYTES).contains(&idempotency_key.len()) || idempotency_key.contains('\0') {
            return Err(StoreError::Invalid { index: 0, what: "an idempotency key is 1 to 255 bytes of text" });
        }
        let key = key.unwrap_or(Uuid::nil());
        let begun =
            run!(self, "begin request", connection => begin(connection, key, idempotency_key, hash, lease).await)?;
        match begun {
            Found::Ours(attempt) => {
                Ok(Begun::New(RequestTicket { key, idempotency_key: idempotency_key.to_owned(), attempt }))
            }
            Found::Theirs(row) => row.begun(hash),
            Found::Nothing => Ok(Begun::Running),
        }
    }

    /// Stores the answer of a request, with the persons that it names, so that it can be erased with them. `false`
    /// where the ticket is not valid any more: somebody took the request over, or the row expired.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a body above [`ANSWER_BYTES`]; the request is then better abandoned.
    pub async fn finish_request(
        &self,
        ticket: &RequestTicket,
        answer: &StoredAnswer,
        persons: &[PersonId],
    ) -> Result<bool, StoreError> {
        if answer.body.len() > ANSWER_BYTES {
            return Err(StoreError::Invalid { index: 0, what: "an answer above 1 MiB is not stored" });
        }
        let persons: Vec<Uuid> = persons.iter().map(PersonId::as_uuid).collect();
        let named = persons.clone();
        let finished = run!(self, "finish request", connection => {
            sqlx::query(FINISH)
                .bind(ticket.key)
                .bind(&ticket.idempotency_key)
                .bind(ticket.attempt)
                .bind(i32::from(answer.status))
                .bind(&answer.content_type)
                .bind(&answer.body)
                .bind(&persons)
                .execute(connection)
                .await
        })?;
        for erased in self.erased_among(named).await? {
            self.erase_requests_of(erased.into()).await?;
        }
        Ok(finished.rows_affected() > 0)
    }

    /// Gives a request back without an answer, so that the client may try it again at once.
    pub async fn abandon_request(&self, ticket: &RequestTicket) -> Result<(), StoreError> {
        run!(self, "abandon request", connection => {
            sqlx::query(ABANDON)
                .bind(ticket.key)
                .bind(&ticket.idempotency_key)
                .bind(ticket.attempt)
                .execute(connection)
                .await
        })?;
        Ok(())
    }

    /// Removes requests that began before `older_than`, the oldest first, at most `limit`. Returns how many.
    pub async fn expire_requests(&self, older_than: OffsetDateTime, limit: u32) -> Result<u64, StoreError> {
        let expired = run!(self, "expire requests", connection => {
            sqlx::query(EXPIRE).bind(older_than).bind(i64::from(limit)).execute(connection).await
        })?;
        Ok(expired.rows_affected())
    }

    /// Removes the stored answers that name a person. Returns how many.
    pub async fn erase_requests_of(&self, person: PersonId) -> Result<u64, StoreError> {
        let mut erased = 0;
        loop {
            let step = run!(self, "erase requests", connection => {
                sqlx::query(ERASE).bind(person.as_uuid()).bind(CHUNK as i64).execute(connection).await
            })?;
            match step.rows_affected() {
                0 => return Ok(erased),
                rows => erased += rows,
            }
        }
    }
}

enum Found {
    Ours(i32),
    Theirs(Row),
    Nothing,
}

async fn begin(
    connection: &mut PgConnection,
    key: Uuid,
    idempotency_key: &str,
    hash: [u8; 32],
    lease: Duration,
) -> Result<Found, sqlx::Error> {
    for _ in 0..LOOKS {
        let ours: Option<i32> = sqlx::query_scalar(BEGIN)
            .bind(key)
            .bind(idempotency_key)
            .bind(hash.as_slice())
            .bind(lease.as_secs_f64())
            .fetch_optional(&mut *connection)
            .await?;
        if let Some(attempt) = ours {
            return Ok(Found::Ours(attempt));
        }
        let theirs = sqlx::query_as(LOOK).bind(key).bind(idempotency_key).fetch_optional(&mut *connection).await?;
        if let Some(row) = theirs {
            return Ok(Found::Theirs(row));
        }
        // It was abandoned in between.
    }
    Ok(Found::Nothing)
}
