//! Who sends a request: an API key with scopes and collections, or, where no key is needed, whoever can connect.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{ConnectInfo, FromRequestParts, Request, State};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use facewire_domain::{CollectionId, Scope};
use facewire_store_pg::{Actor, KeyRecord, KeyState};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::error::{ApiError, Code};
use crate::request::RequestId;
use crate::server::Peer;
use crate::{App, input, origin};

/// How long a key that was looked up counts without another look: so long a revoked one still works.
const REMEMBERED: Duration = Duration::from_secs(5);
/// A key's last use is noted again after this time.
const NOTED: time::Duration = time::Duration::MINUTE;
/// Keys remembered; beyond it the memory starts anew.
const MOST_REMEMBERED: usize = 10_000;

/// Who sends a request, and what they may.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// The key; `None`: no key is needed here.
    key: Option<KeyRecord>,
    address: Option<IpAddr>,
    request: String,
}

/// Whose requests are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Owner {
    /// Those of a key.
    Key(Uuid),
    /// Without a key, those of an address.
    Address(Option<IpAddr>),
}

impl Caller {
    /// Fails unless the key has the scope and is for the collection.
    pub(crate) fn may(&self, scope: Scope, collection: &CollectionId) -> Result<(), ApiError> {
        self.has(scope)?;
        self.sees(collection)
    }

    /// Fails unless the key has the scope.
    pub(crate) fn has(&self, scope: Scope) -> Result<(), ApiError> {
        let Some(key) = &self.key else { return Ok(()) };
        if key.permits(scope) {
            return Ok(());
        }
        let message = format!("the key lacks the scope {}", scope.as_str());
        Err(ApiError::new(Code::ScopeMissing, message).with(serde_json::json!({ "scope": scope.as_str() })))
    }

    /// Fails unless the key is for the collection.
    pub(crate) fn sees(&self, collection: &CollectionId) -> Result<(), ApiError> {
        if self.is_of(collection) {
            return Ok(());
        }
        Err(ApiError::new(Code::CollectionForbidden, format!("the key is not for the collection {collection}")))
    }

    /// Fails unless the key is for all collections: what is asked for tells of all.
    pub(crate) fn sees_all(&self) -> Result<(), ApiError> {
        match self.collections() {
            None => Ok(()),
            Some(_) => Err(ApiError::new(Code::CollectionForbidden, "it takes a key that is for all collections")),
        }
    }

    /// The collection that a request narrows itself to, if it names one that the key is for.
    pub(crate) fn narrowed(&self, given: Option<&str>) -> Result<Option<CollectionId>, ApiError> {
        let Some(name) = given else { return Ok(None) };
        let collection = input::collection(Some(name))?;
        self.sees(&collection)?;
        Ok(Some(collection))
    }

    /// The collections that a list is of: the one that the request names, else those of the key; `None`: all.
    pub(crate) fn listed(&self, given: Option<&str>) -> Result<Option<Vec<CollectionId>>, ApiError> {
        Ok(match self.narrowed(given)? {
            Some(collection) => Some(vec![collection]),
            None => self.collections().map(<[_]>::to_vec),
        })
    }

    /// Whether the key is for the collection.
    pub(crate) fn is_of(&self, collection: &CollectionId) -> bool {
        self.key.as_ref().is_none_or(|key| key.covers(collection))
    }

    /// The collections of the key; `None`: all.
    pub(crate) fn collections(&self) -> Option<&[CollectionId]> {
        self.key.as_ref().and_then(|key| key.collections.as_deref())
    }

    /// The key's id.
    pub(crate) fn key(&self) -> Option<Uuid> {
        self.key.as_ref().map(|key| key.key_id)
    }

    /// Whose it is.
    pub(crate) fn owner(&self) -> Owner {
        self.key().map_or(Owner::Address(self.address), Owner::Key)
    }

    /// Ends, with the reason, once the key may no longer be used, for what goes on long after its request was let in.
    /// The first look is at once, for the key may have come from the memory: a revoked one works no longer here than
    /// elsewhere.
    pub(crate) async fn until_invalid(self, app: App) -> ApiError {
        loop {
            if let Err(why) = self.still_valid(&app).await {
                return why;
            }
            tokio::time::sleep(REMEMBERED).await;
        }
    }

    /// Fails unless the key may still be used, as the store has it now. Where the store does not answer, what was known
    /// of the key decides: the next look may know more.
    async fn still_valid(&self, app: &App) -> Result<(), ApiError> {
        let Some(known) = &self.key else { return Ok(()) };
        let found = match app.gallery.store.key(known.key_id).await {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(%error, key = %known.key_id, "the key of an open stream cannot be looked up");
                Some(known.clone())
            }
        };
        found.as_ref().map_or_else(|| Err(unknown()), valid)
    }

    /// For the audit.
    pub(crate) fn actor(&self) -> Actor {
        let name = self.key.as_ref().map_or_else(|| "http".to_owned(), |key| key.name.clone());
        Actor { key: self.key(), name, request: Some(self.request.clone()) }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| ApiError::internal("a route without authentication"))
    }
}

/// The layer of every route that is not public: who is it, and may they send so many requests?
pub(crate) async fn authenticate(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let address = request.extensions().get::<ConnectInfo<Peer>>().map(|ConnectInfo(peer)| peer.0.ip());
    // A request cannot be looked at across a wait: its body is not to be shared.
    let id = request.extensions().get::<RequestId>().map(|RequestId(id)| id.clone()).unwrap_or_default();
    let given = given(request.headers());
    let key = match given {
        Ok(Some(text)) => known(&app, &text, address).await.map(Some),
        Ok(None) => keyless(&app, request.headers(), address).map(|()| None),
        Err(error) => Err(error),
    };
    match key {
        Ok(key) => {
            request.extensions_mut().insert(Caller { key, address, request: id });
            next.run(request).await
        }
        Err(error) => error.into_response(),
    }
}

/// Fails unless a request may come without a key.
fn keyless(app: &App, headers: &HeaderMap, address: Option<IpAddr>) -> Result<(), ApiError> {
    app.rates.address(address)?;
    if app.options.needs_key() {
        return Err(ApiError::new(Code::Unauthorized, "send an API key: `Authorization: Bearer fw_…`"));
    }
    if app.options.trusts_this_machine() { origin::check(headers) } else { Ok(()) }
}

/// The key of this text, where it may be used now. A look into the store is charged to the address before it is made:
/// guesses reach the store no more often than the address may send requests. A key that exists pays so once as long as
/// it is remembered, and otherwise for itself.
async fn known(app: &App, text: &str, address: Option<IpAddr>) -> Result<KeyRecord, ApiError> {
    let hash: [u8; 32] = Sha256::digest(text.as_bytes()).into();
    let key = match app.keys.remembered(&hash) {
        Some(key) => key,
        None => {
            app.rates.address(address)?;
            app.keys.find(app, hash, text).await?.ok_or_else(unknown)?
        }
    };
    valid(&key)?;
    app.rates.key(key.key_id)?;
    Ok(key)
}

fn unknown() -> ApiError {
    ApiError::new(Code::Unauthorized, "the API key is not known")
}

/// Fails unless the key may be used now.
fn valid(key: &KeyRecord) -> Result<(), ApiError> {
    match key.state(OffsetDateTime::now_utc()) {
        KeyState::Valid => Ok(()),
        KeyState::Expired => Err(ApiError::new(Code::KeyExpired, "the API key has expired")),
        KeyState::Revoked => Err(ApiError::new(Code::KeyRevoked, "the API key was revoked")),
    }
}

/// The key of the request, if it sends one.
fn given(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(value) = headers.get(AUTHORIZATION) else { return Ok(None) };
    let wrong = || ApiError::new(Code::Unauthorized, "the header Authorization has to be `Bearer fw_…`");
    let text = value.to_str().map_err(|_| wrong())?;
    let (scheme, key) = text.split_once(' ').ok_or_else(wrong)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(Some(key.trim().to_owned())) } else { Err(wrong()) }
}

/// Keys that were looked up a moment ago, by the hash of their text.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    known: Mutex<HashMap<[u8; 32], (KeyRecord, Instant)>>,
}

impl Keys {
    /// Looks a key up, and remembers it. `hash`: of its text.
    async fn find(&self, app: &App, hash: [u8; 32], text: &str) -> Result<Option<KeyRecord>, ApiError> {
        let Some(key) = app.gallery.store.find_key(text).await? else { return Ok(None) };
        let now = OffsetDateTime::now_utc();
        if !is_noted(key.last_used_at, now) {
            app.gallery.store.touch_keys(&[(key.key_id, now)]).await?;
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST_REMEMBERED {
            known.clear();
        }
        known.insert(hash, (key.clone(), Instant::now()));
        Ok(Some(key))
    }

    fn remembered(&self, hash: &[u8; 32]) -> Option<KeyRecord> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(hash).filter(|(_, at)| at.elapsed() < REMEMBERED).map(|(key, _)| key.clone())
    }
}

/// Whether the last use that is noted is near enough; another process may have noted it.
fn is_noted(last_used_at: Option<OffsetDateTime>, now: OffsetDateTime) -> bool {
    last_used_at.is_some_and(|at| now - at < NOTED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_use_is_noted_once_a_minute() {
        let now = OffsetDateTime::UNIX_EPOCH;
        let noted = |ago: i64| is_noted(Some(now - time::Duration::seconds(ago)), now);
        assert!(!is_noted(None, now) && !noted(60) && noted(59));
        assert!(noted(-5), "by a process whose clock is ahead");
    }
}
