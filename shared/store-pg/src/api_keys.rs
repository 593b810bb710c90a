//! API keys: made, found by their text, listed, revoked. Of the text only a keyed hash is stored: who reads the table
//! alone cannot try texts. What a scope permits is decided elsewhere.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use facewire_config::Secret;
use facewire_domain::{CollectionId, Scope};
use hmac::{Hmac, KeyInit, Mac};
use serde::Serialize;
use sha2::Sha256;
use sqlx::Connection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::audit::{Actor, NewEvent, record};
use crate::error::StoreError;
use crate::row::row;
use crate::store::{CHUNK, Store, run};

/// What every key begins with, so that people and scanners of leaked secrets know it.
const PREFIX: &str = "fw_";

/// Random bytes of a key.
const RANDOM: usize = 32;

/// Longest text that is looked up.
const LONGEST: usize = 128;

/// Longest name, in characters.
const NAME: usize = 200;

/// Most collections of one key.
const COLLECTIONS: usize = 1000;

/// The row of `secrets` that keys the hashes.
const SECRET: &str = "api_keys";

/// A key that is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewKey {
    /// Whose it is or what it is for: 1 to 200 characters, no control characters.
    pub name: String,
    /// What it permits; at least one.
    pub scopes: Vec<Scope>,
    /// The collections that it is for, 1 to 1,000; `None`: all.
    pub collections: Option<Vec<CollectionId>>,
    /// When it ends by itself; `None`: never.
    pub expires_at: Option<OffsetDateTime>,
}

/// A key without its text, which nobody can tell any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyRecord {
    /// The key.
    pub key_id: Uuid,
    /// Whose it is or what it is for.
    pub name: String,
    /// What it permits.
    pub scopes: Vec<Scope>,
    /// The collections that it is for; `None`: all.
    pub collections: Option<Vec<CollectionId>>,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When it ends by itself.
    #[serde(with = "time::serde::rfc3339::option")]
    pub expires_at: Option<OffsetDateTime>,
    /// When it was revoked.
    #[serde(with = "time::serde::rfc3339::option")]
    pub revoked_at: Option<OffsetDateTime>,
    /// When it was used last, to the minute or so.
    #[serde(with = "time::serde::rfc3339::option")]
    pub last_used_at: Option<OffsetDateTime>,
}

/// Whether a key may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyState {
    /// It may.
    Valid,
    /// Its time is over.
    Expired,
    /// Somebody took it back.
    Revoked,
}

impl KeyRecord {
    /// Whether the key may be used at this time.
    pub fn state(&self, now: OffsetDateTime) -> KeyState {
        match (self.revoked_at, self.expires_at) {
            (Some(_), _) => KeyState::Revoked,
            (None, Some(end)) if end <= now => KeyState::Expired,
            (None, _) => KeyState::Valid,
        }
    }

    /// Whether the key has this very scope.
    pub fn permits(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope)
    }

    /// Whether the key is for this collection.
    pub fn covers(&self, collection: &CollectionId) -> bool {
        self.collections.as_ref().is_none_or(|collections| collections.contains(collection))
    }
}

row! {
    struct Row {
        key_id: Uuid,
        name: String,
        hash: Vec<u8>,
        scopes: Vec<String>,
        collections: Option<Vec<String>>,
        created_at: OffsetDateTime,
        expires_at: Option<OffsetDateTime>,
        revoked_at: Option<OffsetDateTime>,
        last_used_at: Option<OffsetDateTime>,
    }
}

impl TryFrom<Row> for KeyRecord {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let scope = |text: &String| Scope::parse(text).ok_or(StoreError::corrupt("api_keys.scopes"));
        let collection = |text: String| text.parse().map_err(|_| StoreError::corrupt("api_keys.collections"));
        Ok(Self {
            key_id: row.key_id,
            name: row.name,
            scopes: row.scopes.iter().map(scope).collect::<Result<_, _>>()?,
            collections: row.collections.map(|all| all.into_iter().map(collection).collect()).transpose()?,
            created_at: row.created_at,
            expires_at: row.expires_at,
            revoked_at: row.revoked_at,
            last_used_at: row.last_used_at,
        })
    }
}

const INSERT: &str = "
INSERT INTO api_keys (key_id, name, hash, scopes, collections, expires_at) VALUES ($1, $2, $3, $4, $5, $6) RETURNING *";

const TOUCH: &str = "
UPDATE api_keys k SET last_used_at = u.at
FROM (SELECT key_id, max(at) AS at FROM UNNEST($1::uuid[], $2::timestamptz[]) AS u (key_id, at) GROUP BY key_id) u
WHERE k.key_id = u.key_id AND (k.last_used_at IS NULL OR k.last_used_at < u.at)";

impl Store {
    /// Makes a key, with a row of the audit trail (`key.created`). Its text is in the answer and nowhere else.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a name, scopes or collections out of bounds.
    pub async fn create_key(&self, new: &NewKey, actor: &Actor) -> Result<(KeyRecord, Secret), StoreError> {
        check(new)?;
        let text = random_text()?;
        let hash = self.hasher("create key").await?.chain_update(text.expose()).finalize().into_bytes().to_vec();
        let mut scopes = new.scopes.clone();
        scopes.sort_unstable();
        scopes.dedup();
        let scopes: Vec<&str> = scopes.into_iter().map(Scope::as_str).collect();
        let collections: Option<Vec<&str>> =
            new.collections.as_ref().map(|all| all.iter().map(CollectionId::as_str).collect());
        let key = Uuid::new_v4();
        let row: Row = run!(self, "create key", connection => {
            let mut tx = connection.begin().await?;
            let row = sqlx::query_as(INSERT)
                .bind(key)
                .bind(new.name.trim())
                .bind(&hash)
                .bind(&scopes)
                .bind(collections.as_deref())
                .bind(new.expires_at)
                .fetch_one(&mut *tx)
                .await?;
            record(&mut tx, actor, changed(key, "key.created")).await?;
            tx.commit().await?;
            Ok(row)
        })?;
        Ok((row.try_into()?, text))
    }

    /// The key of this text, whatever its [`KeyRecord::state`]; `None` where there is none.
    pub async fn find_key(&self, text: &str) -> Result<Option<KeyRecord>, StoreError> {
        if text.len() > LONGEST || !text.starts_with(PREFIX) {
            return Ok(None);
        }
        let mac = self.hasher("find key").await?.chain_update(text);
        let hash = mac.clone().finalize().into_bytes().to_vec();
        let row: Option<Row> = run!(self, "find key", connection => {
            sqlx::query_as("SELECT * FROM api_keys WHERE hash = $1").bind(&hash).fetch_optional(connection).await
        })?;
        // The index compares hashes that nobody can choose without the secret. This comparison takes the same time
        // always.
        row.filter(|row| mac.verify_slice(&row.hash).is_ok()).map(TryInto::try_into).transpose()
    }

    /// The key of this id, whatever its [`KeyRecord::state`]; `None` where there is none.
    pub async fn key(&self, key: Uuid) -> Result<Option<KeyRecord>, StoreError> {
        let row: Option<Row> = run!(self, "read key", connection => {
            sqlx::query_as("SELECT * FROM api_keys WHERE key_id = $1").bind(key).fetch_optional(connection).await
        })?;
        row.map(TryInto::try_into).transpose()
    }

    /// All keys, also expired and revoked ones, the oldest first.
    pub async fn list_keys(&self) -> Result<Vec<KeyRecord>, StoreError> {
        let rows: Vec<Row> = run!(self, "list keys", connection => {
            sqlx::query_as("SELECT * FROM api_keys ORDER BY created_at, key_id").fetch_all(connection).await
        })?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    /// Takes a key back, for good, with a row of the audit trail (`key.revoked`); again changes nothing. `false` where
    /// there is no such key.
    pub async fn revoke_key(&self, key: Uuid, actor: &Actor) -> Result<bool, StoreError> {
        const FIND: &str = "SELECT revoked_at FROM api_keys WHERE key_id = $1 FOR UPDATE";
        const REVOKE: &str = "UPDATE api_keys SET revoked_at = now() WHERE key_id = $1";
        run!(self, "revoke key", connection => {
            let mut tx = connection.begin().await?;
            let found: Option<Option<OffsetDateTime>> =
                sqlx::query_scalar(FIND).bind(key).fetch_optional(&mut *tx).await?;
            let Some(revoked) = found else { return Ok(false) };
            if revoked.is_none() {
                sqlx::query(REVOKE).bind(key).execute(&mut *tx).await?;
                record(&mut tx, actor, changed(key, "key.revoked")).await?;
                tx.commit().await?;
            }
            Ok(true)
        })
    }

    /// Notes when keys were used. A time before the noted one, and a key that is gone, change nothing.
    pub async fn touch_keys(&self, uses: &[(Uuid, OffsetDateTime)]) -> Result<(), StoreError> {
        for chunk in uses.chunks(CHUNK) {
            let (keys, times): (Vec<Uuid>, Vec<OffsetDateTime>) = chunk.iter().copied().unzip();
            run!(self, "touch keys", connection => {
                sqlx::query(TOUCH).bind(&keys).bind(&times).execute(connection).await
            })?;
        }
        Ok(())
    }

    /// HMAC-SHA-256 under the server's secret, which the first who needs it makes.
    async fn hasher(&self, operation: &'static str) -> Result<Hmac<Sha256>, StoreError> {
        let secret = self.key_secret().get_or_try_init(|| self.make_secret(operation)).await?;
        Hmac::new_from_slice(&secret.0).map_err(|_| StoreError::corrupt("secrets.value"))
    }

    async fn make_secret(&self, operation: &'static str) -> Result<KeySecret, StoreError> {
        const NEW: &str = "INSERT INTO secrets (name, value) VALUES ($1, $2) ON CONFLICT DO NOTHING";
        const STORED: &str = "SELECT value FROM secrets WHERE name = $1";
        let ours = random()?;
        let stored: Vec<u8> = run!(self, operation, connection => {
            if let Some(stored) = sqlx::query_scalar(STORED).bind(SECRET).fetch_optional(&mut *connection).await? {
                return Ok(stored);
            }
            sqlx::query(NEW).bind(SECRET).bind(ours.as_slice()).execute(&mut *connection).await?;
            // Another's, where that one was faster.
            sqlx::query_scalar(STORED).bind(SECRET).fetch_one(connection).await
        })?;
        stored.try_into().map(KeySecret).map_err(|_| StoreError::corrupt("secrets.value"))
    }
}

/// The server's secret, read once. It never changes: where a database is replaced by another, services are started anew.
pub(crate) struct KeySecret([u8; RANDOM]);

impl std::fmt::Debug for KeySecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// A row of the trail that is no event.
fn changed(key: Uuid, kind: &'static str) -> NewEvent<'static> {
    let detail = serde_json::json!({ "key_id": key });
    NewEvent { collection: None, kind, person: None, other: None, face: None, detail }
}

fn check(new: &NewKey) -> Result<(), StoreError> {
    let invalid = |what| Err(StoreError::Invalid { index: 0, what });
    let name = new.name.trim();
    if name.is_empty() || name.chars().count() > NAME || name.chars().any(char::is_control) {
        return invalid("a key's name is 1 to 200 characters without control characters");
    }
    if new.scopes.is_empty() {
        return invalid("a key has at least one scope");
    }
    if new.collections.as_ref().is_some_and(|all| all.is_empty() || all.len() > COLLECTIONS) {
        return invalid("a key is for 1 to 1,000 collections, or for all");
    }
    Ok(())
}

fn random_text() -> Result<Secret, StoreError> {
    Ok(Secret::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random()?))))
}

fn random() -> Result<[u8; RANDOM], StoreError> {
    let mut bytes = [0; RANDOM];
    getrandom::fill(&mut bytes)
        .map_err(|_| StoreError::Config { what: "the operating system gives no random numbers for a secret" })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_long_random_and_hidden() {
        let (one, other) = (random_text().unwrap(), random_text().unwrap());
        assert_ne!(one.expose(), other.expose());
        assert_eq!(one.expose().len(), PREFIX.len() + 43, "256 bits in base64url");
        assert_eq!(format!("{one:?}"), "***");
        assert_eq!(format!("{:?}", KeySecret([7; RANDOM])), "***");
    }

    #[test]
    fn what_a_key_may_hold_is_bounded() {
        let new = |name: &str| NewKey {
            name: name.to_owned(),
            scopes: vec![Scope::Read],
            collections: None,
            expires_at: None,
        };
        assert_eq!(check(&new("door 1")), Ok(()));
        for name in ["", "  ", "a\nb", &"x".repeat(201)] {
            assert!(check(&new(name)).is_err(), "{name:?}");
        }
        assert!(check(&NewKey { scopes: Vec::new(), ..new("a") }).is_err());
        assert!(check(&NewKey { collections: Some(Vec::new()), ..new("a") }).is_err());
    }
}
