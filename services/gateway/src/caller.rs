//! Who sends a request: an API key with scopes and collections, or, where no key is needed, whoever can connect.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
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
use crate::rates::Rates;
use crate::request::RequestId;
use crate::server::Peer;
use crate::{App, input, origin, proxies};

/// How long a key that was looked up counts without another look: so long a revoked one still works.
const REMEMBERED: Duration = Duration::from_secs(5);
/// How long it is known that a key exists, so that looks at it are charged to itself: strangers behind the same proxy do not
/// shut out whoever comes at least as often.
const EXISTS: Duration = Duration::from_secs(3600);
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
    let peer = request.extensions().get::<ConnectInfo<Peer>>().map(|ConnectInfo(peer)| peer.0.ip());
    let address = peer.map(|peer| proxies::client(peer, request.headers(), &app.options.trusted_proxies));
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

/// The key of this text, where it may be used now.
async fn known(app: &App, text: &str, address: Option<IpAddr>) -> Result<KeyRecord, ApiError> {
    let hash: [u8; 32] = Sha256::digest(text.as_bytes()).into();
    let remembered = app.keys.remembered(&hash, Instant::now());
    charge(&app.rates, remembered.as_ref(), address)?;
    let is_charged = remembered.is_some();
    let key = match remembered {
        Some(Remembered { key, is_fresh: true }) => key,
        _ => app.keys.find(app, hash, text).await?.ok_or_else(unknown)?,
    };
    valid(&key)?;
    if !is_charged {
        app.rates.key(key.key_id)?;
    }
    Ok(key)
}

/// Charges a request, and the look into the store that it may take, before that is made. To the address where nobody knows
/// whether there is such a key: guesses reach the store no more often than the address may send requests. A key that is known
/// to exist pays for itself alone.
fn charge(rates: &Rates, remembered: Option<&Remembered>, address: Option<IpAddr>) -> Result<(), ApiError> {
    match remembered {
        Some(Remembered { key, .. }) => rates.key(key.key_id),
        None => rates.address(address),
    }
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

/// A key that was looked up before.
#[derive(Debug)]
struct Remembered {
    key: KeyRecord,
    /// It counts as it is; otherwise no more is known than that it existed.
    is_fresh: bool,
}

/// Keys that were looked up, by the hash of their text.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    known: Mutex<Known>,
}

/// With the time of the last look.
type Known = HashMap<[u8; 32], (KeyRecord, Instant)>;

impl Keys {
    /// Looks a key up, and remembers it. `hash`: of its text.
    async fn find(&self, app: &App, hash: [u8; 32], text: &str) -> Result<Option<KeyRecord>, ApiError> {
        let Some(key) = app.gallery.store.find_key(text).await? else {
            self.known().remove(&hash);
            return Ok(None);
        };
        let now = OffsetDateTime::now_utc();
        if !is_noted(key.last_used_at, now) {
            app.gallery.store.touch_keys(&[(key.key_id, now)]).await?;
        }
        self.remember(hash, &key, Instant::now());
        Ok(Some(key))
    }

    fn remember(&self, hash: [u8; 32], key: &KeyRecord, at: Instant) {
        let mut known = self.known();
        if known.len() >= MOST_REMEMBERED {
            known.clear();
        }
        known.insert(hash, (key.clone(), at));
    }

    fn remembered(&self, hash: &[u8; 32], now: Instant) -> Option<Remembered> {
        let known = self.known();
        let (key, at) = known.get(hash)?;
        let age = now.saturating_duration_since(*at);
        (age < EXISTS).then(|| Remembered { key: key.clone(), is_fresh: age < REMEMBERED })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the last use that is noted is near enough; another process may have noted it.
fn is_noted(last_used_at: Option<OffsetDateTime>, now: OffsetDateTime) -> bool {
    last_used_at.is_some_and(|at| now - at < NOTED)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::options::Options;

    fn key(number: u128) -> KeyRecord {
        KeyRecord {
            key_id: Uuid::from_u128(number),
            name: "camera wall".to_owned(),
            scopes: Vec::new(),
            collections: None,
            created_at: OffsetDateTime::UNIX_EPOCH,
            expires_at: None,
            revoked_at: None,
            last_used_at: None,
        }
    }

    #[test]
    fn a_key_counts_for_seconds_and_is_known_to_exist_for_longer() {
        let (keys, hash, at) = (Keys::default(), [7; 32], Instant::now());
        assert!(keys.remembered(&hash, at).is_none());
        keys.remember(hash, &key(1), at);
        let after = |age: Duration| keys.remembered(&hash, at + age).map(|found| (found.key.key_id, found.is_fresh));
        let tick = Duration::from_nanos(1);
        assert_eq!(after(Duration::ZERO), Some((Uuid::from_u128(1), true)));
        assert_eq!(after(REMEMBERED - tick), Some((Uuid::from_u128(1), true)));
        assert_eq!(after(REMEMBERED), Some((Uuid::from_u128(1), false)));
        assert_eq!(after(EXISTS - tick), Some((Uuid::from_u128(1), false)));
        assert_eq!(after(EXISTS), None);
    }

    #[test]
    fn strangers_behind_an_address_do_not_shut_out_a_key_that_is_known_to_exist() {
        let rates = Rates::new(&Options { rate: NonZeroU32::MIN, burst: NonZeroU32::MIN, ..Options::default() });
        let address = Some(IpAddr::from([10, 0, 0, 7]));
        // As often as may be, however slow this machine is.
        let exhausted = |remembered: Option<&Remembered>| loop {
            if let Err(refused) = charge(&rates, remembered, address) {
                break refused.code;
            }
        };
        assert_eq!(exhausted(None), Code::RateLimited);
        let stale = Remembered { key: key(1), is_fresh: false };
        assert!(charge(&rates, Some(&stale), address).is_ok());
        assert_eq!(exhausted(Some(&stale)), Code::RateLimited, "it has no more looks than requests");
        assert!(charge(&rates, Some(&Remembered { key: key(2), is_fresh: true }), address).is_ok());
    }

    #[test]
    fn the_last_use_is_noted_once_a_minute() {
        let now = OffsetDateTime::UNIX_EPOCH;
        let noted = |ago: i64| is_noted(Some(now - time::Duration::seconds(ago)), now);
        assert!(!is_noted(None, now) && !noted(60) && noted(59));
        assert!(noted(-5), "by a process whose clock is ahead");
    }
}
