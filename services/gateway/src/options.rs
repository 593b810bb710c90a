//! What an operator may set of the gateway.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use crate::proxies::Network;

/// What an operator may set of the gateway.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// Where it listens: `127.0.0.1:8090` unless set; `up`, `demo` and `bench` take a free port then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
    /// Whether requests need an API key.
    pub auth: Auth,
    /// Certificate and key; without them it speaks plain HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// Connections that are open at a time; more wait to be accepted.
    pub connections: usize,
    /// From a connection's first byte to the end of a request's headers.
    #[serde(with = "facewire_config::duration")]
    pub header_timeout: Duration,
    /// From a request's headers to its answer; `504` afterwards. Not for events, what is followed, exports and imports. Whoever takes
    /// nothing of any answer for as long is cut, and whoever reads so slowly that no megabyte goes in that time.
    #[serde(with = "facewire_config::duration")]
    pub request_timeout: Duration,
    /// How long a synchronous recognition waits for the chain; `504` with the crop's id afterwards.
    #[serde(with = "facewire_config::duration")]
    pub recognise_timeout: Duration,
    /// Synchronous recognitions that wait at a time; `503` above.
    pub recognitions: usize,
    /// Bytes of a request's body; of JSON never more than a MiB. Not for imports.
    pub max_body: ByteSize,
    /// Bytes of one encoded image; `ingest.max_bytes` and the server's `max_payload` hold as well.
    pub max_image: ByteSize,
    /// Requests a second of one key (or of one address, without a key); `429` above.
    pub rate: NonZeroU32,
    /// Requests that one key may send at once before `rate` holds.
    pub burst: NonZeroU32,
    /// Proxies, such as those of an Ingress, that are believed who came to them (`X-Forwarded-For`): addresses or networks. None:
    /// whoever connects is the client.
    pub trusted_proxies: Vec<Network>,
    /// Bytes of bodies that are held at a time, over all requests; `503` above. Half of them (one of the largest, where that is more)
    /// of one key, or of one address without a key; `429` above. A body without a length counts as the longest of its kind. As many
    /// bytes again are for kept exports that are read, each with 16 MiB, in the same shares.
    pub bodies: ByteSize,
    /// Imports that are read at a time, each with up to five images in memory; `503` above. Half of them, rounded up, of one key, or of
    /// one address without a key; `429` above.
    pub imports: usize,
    /// Answers without an end of their own that are open at a time: events, what is followed, exports, imports; `503`
    /// above. At most half of `connections`.
    pub streams: usize,
    /// The same of one key (or of one address, without a key); `429` above.
    pub key_streams: usize,
    /// How webhooks are told.
    pub webhooks: crate::events::Options,
    /// How long what is done is kept.
    pub retention: crate::housekeeping::Retention,
}

/// Whether requests need an API key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Auth {
    /// Required, unless the gateway listens on a loopback address only. A request without a key has to be for such an
    /// address then, or for `localhost`, and from no page of another origin.
    #[default]
    Auto,
    /// Always.
    Required,
    /// Never: everybody who can connect is an administrator.
    Off,
}

/// A certificate and its key, read again when the files change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// PEM with the certificate and its chain.
    pub certificate: PathBuf,
    /// PEM with the private key.
    pub key: PathBuf,
    /// Time between two checks whether the files changed.
    #[serde(with = "facewire_config::duration", default = "reload_interval")]
    pub reload_interval: Duration,
}

fn reload_interval() -> Duration {
    Duration::from_secs(30)
}

const RATE: NonZeroU32 = NonZeroU32::new(200).unwrap();
const BURST: NonZeroU32 = NonZeroU32::new(400).unwrap();

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: None,
            auth: Auth::default(),
            tls: None,
            connections: 1024,
            header_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(60),
            recognise_timeout: Duration::from_secs(10),
            recognitions: 256,
            max_body: ByteSize::mib(64),
            max_image: ByteSize::mib(10),
            rate: RATE,
            burst: BURST,
            trusted_proxies: Vec::new(),
            bodies: ByteSize::mib(512),
            imports: 4,
            streams: 256,
            key_streams: 16,
            webhooks: crate::events::Options::default(),
            retention: crate::housekeeping::Retention::default(),
        }
    }
}

impl Options {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.listen.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 8090)))
    }

    /// Whether requests need a key.
    pub fn needs_key(&self) -> bool {
        match self.auth {
            Auth::Auto => !self.address().ip().is_loopback(),
            Auth::Required => true,
            Auth::Off => false,
        }
    }

    /// Whether requests without a key are taken because they can come from this machine only: a browser on it may send
    /// what a page from elsewhere wants.
    pub(crate) fn trusts_this_machine(&self) -> bool {
        self.auth == Auth::Auto && !self.needs_key()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_can_be_reached_from_outside_asks_for_keys() {
        let options =
            |listen: &str, auth| Options { listen: Some(listen.parse().unwrap()), auth, ..Options::default() };
        assert!(!options("127.0.0.1:1", Auth::Auto).needs_key());
        assert!(!options("[::1]:1", Auth::Auto).needs_key());
        assert!(options("0.0.0.0:1", Auth::Auto).needs_key());
        assert!(options("10.0.0.7:1", Auth::Auto).needs_key());
        assert!(options("127.0.0.1:1", Auth::Required).needs_key());
        assert!(!options("0.0.0.0:1", Auth::Off).needs_key());
        assert!(options("127.0.0.1:1", Auth::Auto).trusts_this_machine());
        assert!(!options("0.0.0.0:1", Auth::Auto).trusts_this_machine());
        assert!(!options("127.0.0.1:1", Auth::Off).trusts_this_machine(), "whoever said so knows who can connect");
    }

    #[test]
    fn changed_certificates_are_read_every_half_minute_unless_set() {
        let files = serde_json::json!({ "certificate": "a.pem", "key": "b.pem" });
        let mut often = files.clone();
        often["reload_interval"] = "2s".into();
        let interval = |tls| serde_json::from_value::<Tls>(tls).unwrap().reload_interval;
        assert_eq!([files, often].map(interval), [30, 2].map(Duration::from_secs));
    }
}
