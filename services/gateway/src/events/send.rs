//! Sending to webhooks: claimed deliveries, signed, tried again with growing pauses, given up in the end. Several processes may
//! send at once; each delivery is claimed by one.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::http::header::{CONTENT_TYPE, USER_AGENT};
use axum::http::{HeaderName, Method, Request, Uri};
use bytes::Bytes;
use facewire_runtime::{Backoff, Shutdown};
use facewire_store_pg::{ClaimLimits, Claimed, Store, StoreError};
use facewire_telemetry::events::{self, Told};
use hmac::{Hmac, KeyInit, Mac};
use http_body_util::Full;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::ClientConfig;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use time::OffsetDateTime;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::reach::{Reach, Resolver};

/// What an operator may set of webhooks.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// Requests at a time.
    pub in_flight: u32,
    /// Of those, requests to one webhook: a slow one leaves room for the others.
    pub per_webhook: u32,
    /// From a request's start to its status.
    #[serde(with = "facewire_config::duration")]
    pub timeout: Duration,
    /// Pause after the first failure; each later one is twice as long.
    #[serde(with = "facewire_config::duration")]
    pub first_pause: Duration,
    /// The longest pause.
    #[serde(with = "facewire_config::duration")]
    pub longest_pause: Duration,
    /// Attempts before a delivery is given up, with the defaults after about a day.
    pub attempts: u32,
    /// Whether receivers may be in private networks (10/8, 172.16/12, 192.168/16, 100.64/10, fc00::/7). Off where not everybody who
    /// makes webhooks may reach those. Link-local addresses are never reached, and this machine only by a gateway that listens on
    /// loopback itself.
    pub private_networks: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            in_flight: 64,
            per_webhook: 8,
            timeout: Duration::from_secs(10),
            first_pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(3600),
            attempts: 32,
            private_networks: true,
        }
    }
}

/// Between two looks where nothing is due: the longer nothing was, the longer.
const POLL: Backoff = Backoff { first: Duration::from_millis(100), max: Duration::from_secs(1) };
/// After an error of Postgres.
const PAUSE: Duration = Duration::from_secs(1);
/// A claim outlives its request by this.
const LEASE_SLACK: Duration = Duration::from_secs(20);

const DELIVERY: HeaderName = HeaderName::from_static("facewire-delivery");
const WEBHOOK: HeaderName = HeaderName::from_static("facewire-webhook");
const TIMESTAMP: HeaderName = HeaderName::from_static("facewire-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("facewire-signature");

type Http = Client<HttpsConnector<HttpConnector<Resolver>>, Full<Bytes>>;

/// Sends what is due.
#[derive(Debug, Clone)]
pub(crate) struct Sender {
    store: Store,
    options: Options,
    reach: Reach,
    http: Http,
}

impl Sender {
    /// With the system's certificates. `reach`: who may be told.
    ///
    /// # Errors
    /// The system has none that can be used.
    pub(crate) fn new(store: Store, options: Options, reach: Reach) -> std::io::Result<Self> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(std::io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut plain = HttpConnector::new_with_resolver(Resolver::new(reach));
        plain.enforce_http(false);
        let builder = hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(config).https_or_http().enable_http1();
        let http = Client::builder(TokioExecutor::new()).build(builder.wrap_connector(plain));
        Ok(Self { store, options, reach, http })
    }

    /// Sends until the drain, and then what is in hand, for as long as the grace period is: what is cut off is sent again.
    pub(crate) async fn run(&self, shutdown: &Shutdown) {
        let mut sending: JoinSet<Uuid> = JoinSet::new();
        let mut in_hand: HashMap<Uuid, u32> = HashMap::new();
        let mut idle = 0;
        while !shutdown.is_draining() {
            let pause = match self.claim(&in_hand, sending.len()).await {
                Ok(claimed) if claimed.is_empty() => {
                    let pause = POLL.pause(idle);
                    idle = u32::saturating_add(idle, 1);
                    pause
                }
                Ok(claimed) => {
                    idle = 0;
                    for delivery in claimed {
                        *in_hand.entry(delivery.webhook_id).or_default() += 1;
                        sending.spawn(self.clone().deliver(delivery));
                    }
                    Duration::ZERO
                }
                Err(error) => {
                    tracing::warn!(%error, "deliveries cannot be claimed");
                    PAUSE
                }
            };
            tokio::select! {
                Some(done) = sending.join_next() => forget(&mut in_hand, done),
                () = tokio::time::sleep(pause) => {}
                () = shutdown.draining() => {}
            }
            while let Some(done) = sending.try_join_next() {
                forget(&mut in_hand, done);
            }
        }
        let rest = async { while sending.join_next().await.is_some() {} };
        if tokio::time::timeout(shutdown.grace(), rest).await.is_err() {
            tracing::warn!("deliveries are cut off: the grace period is over");
        }
    }

    async fn claim(&self, in_hand: &HashMap<Uuid, u32>, sending: usize) -> Result<Vec<Claimed>, StoreError> {
        let room = self.options.in_flight.saturating_sub(u32::try_from(sending).unwrap_or(u32::MAX));
        if room == 0 {
            return Ok(Vec::new());
        }
        let busy: Vec<Uuid> =
            in_hand.iter().filter(|(_, n)| **n >= self.options.per_webhook).map(|(id, _)| *id).collect();
        let most = in_hand.values().max().copied().unwrap_or_default();
        let per_webhook = self.options.per_webhook.saturating_sub(most).max(1);
        let limits = ClaimLimits { limit: room, per_webhook, lease: self.options.timeout + LEASE_SLACK };
        self.store.claim_deliveries(limits, &busy).await
    }

    /// One attempt. Where Postgres does not hear of its end, the claim runs out and the delivery is sent again.
    async fn deliver(self, delivery: Claimed) -> Uuid {
        let answered = self.send(&delivery).await;
        let told = match &answered {
            Ok(()) => self.store.delivered(&delivery).await.map(|_| Told::Delivered),
            Err(why) if delivery.attempt >= self.options.attempts => {
                self.store.dead(&delivery, why).await.map(|_| Told::GivenUp)
            }
            Err(why) => self.store.failed(&delivery, why, self.pause(delivery.attempt)).await.map(|_| Told::Failed),
        };
        match told {
            Ok(told) => events::WebhookTold { told, error: answered.err().as_deref() }.emit(),
            Err(error) => tracing::warn!(%error, "the end of a delivery cannot be noted: it will be sent again"),
        }
        delivery.webhook_id
    }

    fn pause(&self, attempt: u32) -> Duration {
        let pauses = Backoff { first: self.options.first_pause, max: self.options.longest_pause };
        pauses.pause(attempt.saturating_sub(1))
    }

    async fn send(&self, delivery: &Claimed) -> Result<(), String> {
        let uri: Uri = delivery.url.parse().map_err(|_| "the URL cannot be used".to_owned())?;
        self.reach.check_host(&uri).map_err(|why| why.to_string())?;
        let timestamp = OffsetDateTime::now_utc().unix_timestamp().to_string();
        let signature = signature(delivery.secret.expose(), &timestamp, &delivery.body);
        let request = Request::builder()
            .method(Method::POST)
            .uri(uri)
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, concat!("facewire/", env!("CARGO_PKG_VERSION")))
            .header(WEBHOOK, delivery.webhook_id.to_string())
            .header(DELIVERY, format!("{}-{}", delivery.source.as_str(), delivery.sequence))
            .header(TIMESTAMP, &timestamp)
            .header(SIGNATURE, signature)
            .body(Full::new(Bytes::from(delivery.body.clone())))
            .map_err(|_| "the request cannot be made".to_owned())?;
        match tokio::time::timeout(self.options.timeout, self.http.request(request)).await {
            Ok(Ok(response)) if response.status().is_success() => Ok(()),
            Ok(Ok(response)) => Err(format!("status {}", response.status().as_u16())),
            Ok(Err(error)) if error.is_connect() => Err("no connection".to_owned()),
            Ok(Err(_)) => Err("the connection broke".to_owned()),
            Err(_) => Err("no answer in time".to_owned()),
        }
    }
}

fn forget(in_hand: &mut HashMap<Uuid, u32>, done: Result<Uuid, tokio::task::JoinError>) {
    match done {
        Ok(webhook) => {
            if let Some(count) = in_hand.get_mut(&webhook) {
                *count = count.saturating_sub(1);
            }
            in_hand.retain(|_, count| *count > 0);
        }
        // Whose it was is not known: all are counted anew from those that come.
        Err(error) => {
            tracing::error!(%error, "an attempt at a delivery panicked");
            in_hand.clear();
        }
    }
}

/// `v1=` and HMAC-SHA-256 of `<timestamp>.<body>` in hexadecimal.
fn signature(secret: &str, timestamp: &str, body: &[u8]) -> String {
    use std::fmt::Write;
    // A key of any length is taken.
    let Ok(mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else { return String::new() };
    let signed = mac.chain_update(timestamp).chain_update(b".").chain_update(body).finalize().into_bytes();
    signed.iter().fold("v1=".to_owned(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_the_standard_one() {
        // Of Python: hmac.new(b"key", b"1700000000.{}", "sha256").hexdigest()
        let expected = "v1=9d713ed406bb7076d4123f0dc2c39d2df5c654ed4b0cd56b52c8b4c940bd63ae";
        assert_eq!(signature("key", "1700000000", b"{}"), expected);
    }
}
