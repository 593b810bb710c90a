//! How to reach Qdrant.

use std::net::IpAddr;
use std::time::Duration;

use facewire_config::Secret;
use qdrant_client::Qdrant;
use qdrant_client::qdrant::{QuantizationSearchParams, SearchParams};
use serde::{Deserialize, Serialize};

use crate::VecError;
use crate::naming::MAX_ALIAS;

/// How to reach Qdrant.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// The gRPC endpoint: `http://host:6334`, or `https://` for TLS; it holds no user. Certificates are checked against the system's
    /// authorities; where the variable `SSL_CERT_FILE` names a file of authorities, against those instead.
    pub url: String,
    /// The server's API key. It goes over TLS, or to this machine.
    pub api_key: Option<Secret>,
    /// Send the key to another machine in clear text all the same, where what lies between encrypts (a service mesh, a tunnel).
    pub allow_key_in_clear: bool,
    /// The alias of the Qdrant collection that serves, and the start of the names of its collections, one for each model.
    /// All of Facewire's collections share it, told apart by payload. At most 200 bytes.
    pub collection: String,
    /// Longest wait for one answer. A call whose connection broke is tried once more, so it can take twice as long.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// Connections to the server, 1 and up. One carries many calls at once; more help beyond a gigabit.
    pub connections: usize,
    /// How many candidates a search keeps while it walks the vector index: more find the nearest face more surely, and take
    /// longer. Unless given the server's own (100), and 256 among exemplars.
    pub hnsw_ef: Option<u64>,
    /// Shards of a collection that is made; the server's choice unless given. A rebuilt one has its predecessor's.
    pub shards: Option<u32>,
    /// Replicas of each shard of a collection that is made; the server's choice (1) unless given.
    pub replicas: Option<u32>,
    /// How a collection that is made holds vectors in memory: `none` as they are, `int8` in a quarter of the bytes, `binary` in a
    /// thirty-second. As they are they stay on disk then. A rebuilt one has its predecessor's unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantization: Option<Quantization>,
    /// Whether what was found by quantized vectors is compared anew as it is; yes unless given. Without it similarities are
    /// estimates, which no threshold was measured for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rescore: Option<bool>,
    /// How many times as many faces as are wanted are found by quantized vectors and compared anew, 1 and up; unless given 4 where
    /// `quantization` is `binary`, else 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oversampling: Option<f64>,
}

/// How vectors lie in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Quantization {
    /// As they are, 4 bytes a number.
    None,
    /// One byte a number.
    Int8,
    /// One bit a number.
    Binary,
}

impl Quantization {
    /// How many times as many faces are compared anew, unless the options say otherwise.
    fn oversampling(self) -> Option<f64> {
        match self {
            Self::None | Self::Int8 => None,
            Self::Binary => Some(4.0),
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            url: "http://127.0.0.1:6334".to_owned(),
            api_key: None,
            allow_key_in_clear: false,
            collection: "facewire_faces".to_owned(),
            timeout: Duration::from_secs(10),
            connections: 2,
            hnsw_ef: None,
            shards: None,
            replicas: None,
            quantization: None,
            rescore: None,
            oversampling: None,
        }
    }
}

impl Options {
    pub(crate) fn client(&self) -> Result<Qdrant, VecError> {
        let refuse = |what: &str| VecError::Options(what.to_owned());
        if !self.url.starts_with("http://") && !self.url.starts_with("https://") {
            return Err(refuse("the URL starts with http:// or https://"));
        }
        // The client sends neither, and puts the whole URL into its errors. Refused without quoting it.
        if self.url.contains('@') {
            return Err(refuse("the URL holds no user and no password: the server's key is qdrant.api_key"));
        }
        let forbidden = |c: char| c.is_control() || r#"<>:"/\|?*"#.contains(c);
        if self.collection.is_empty() || self.collection.len() > MAX_ALIAS || self.collection.contains(forbidden) {
            return Err(refuse("the collection's name has 1 to 200 bytes, and none of <>:\"/\\|?*"));
        }
        if self.hnsw_ef == Some(0) || self.shards == Some(0) || self.replicas == Some(0) {
            return Err(refuse("hnsw_ef, shards and replicas are 1 and up"));
        }
        if self.oversampling.is_some_and(|factor| !(1.0..=100.0).contains(&factor)) {
            return Err(refuse("oversampling is 1 to 100"));
        }
        // The client checks at each call that the server's version is near its own, with a thread and prints to stdout;
        // messages that a server does not know are refused by it anyway.
        let mut config = Qdrant::from_url(&self.url)
            .timeout(self.timeout)
            .connect_timeout(self.timeout)
            .keep_alive_while_idle()
            .skip_compatibility_check();
        config.set_pool_size(self.connections.max(1));
        if let Some(key) = &self.api_key {
            // Refused here, since the client would put the whole key into its error.
            if !(self.url.starts_with("https://") || self.allow_key_in_clear || is_loopback(&self.url)) {
                return Err(refuse(
                    "the API key would go over the network in clear text: use https://, or set allow_key_in_clear where what lies \
                     between encrypts",
                ));
            }
            if key.expose().is_empty() || !key.expose().bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(refuse("the API key is printable ASCII without spaces"));
            }
            config.set_api_key(key.expose());
        }
        config.build().map_err(|_| refuse("the URL cannot be read"))
    }
}

impl Options {
    /// What every search says beside its vector. Comparing anew is always asked for: the collection may be quantized although
    /// nothing here says so, since a collection keeps how it was made, and the server itself gives estimates for `int8`. Where
    /// nothing is quantized it ignores this.
    pub(crate) fn search(&self) -> SearchParams {
        let rescore = Some(self.rescore.unwrap_or(true));
        let oversampling = self.oversampling.or(self.quantization.and_then(Quantization::oversampling));
        let quantization = Some(QuantizationSearchParams { ignore: None, rescore, oversampling });
        SearchParams { hnsw_ef: self.hnsw_ef, quantization, ..SearchParams::default() }
    }
}

/// Whether the URL leads to this machine.
fn is_loopback(url: &str) -> bool {
    let place = url.split_once("://").map_or(url, |(_, place)| place);
    let authority = place.split(['/', '?', '#']).next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(address) => address.split(']').next(),
        None => authority.split(':').next(),
    };
    let host = host.unwrap_or_default();
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(options: Options) -> String {
        crate::VecStore::connect(&options).unwrap_err().to_string()
    }

    #[test]
    fn the_key_never_shows() {
        let options = Options { api_key: Some(Secret::new("hidden\nkey")), ..Options::default() };
        assert!(!format!("{options:?}").contains("hidden"));
        assert!(!serde_json::to_string(&options).unwrap().contains("hidden"));
        assert!(!refused(options).contains("hidden"));
        let fine = Options { api_key: Some(Secret::new("hidden-key")), ..Options::default() };
        assert!(!format!("{:?}", crate::VecStore::connect(&fine).unwrap()).contains("hidden"));
    }

    #[test]
    fn a_key_does_not_travel_in_clear_text() {
        let with_key = |url: &str| Options { url: url.to_owned(), api_key: Some("k".into()), ..Options::default() };
        for url in ["http://qdrant:6334", "http://10.0.0.7:6334", "http://localhost.example:6334"] {
            let refusal = refused(with_key(url));
            assert!(refusal.contains("clear text") && refusal.contains("https://"), "{url}: {refusal}");
            let allowed = Options { allow_key_in_clear: true, ..with_key(url) };
            crate::VecStore::connect(&allowed).unwrap();
            crate::VecStore::connect(&Options { api_key: None, ..with_key(url) }).unwrap();
        }
        for url in ["https://qdrant:6334", "http://localhost:6334", "http://127.0.0.1:6334", "http://[::1]:6334/"] {
            crate::VecStore::connect(&with_key(url)).unwrap();
        }
    }

    #[test]
    fn a_user_in_the_url_is_refused_and_not_quoted() {
        for url in ["http://ada:hunter2@localhost:1/", "https://hunter2@qdrant", "http://ada:hunter2/x@localhost"] {
            let refusal = refused(Options { url: url.to_owned(), ..Options::default() });
            assert!(refusal.contains("qdrant.api_key") && !refusal.contains("hunter2"), "{refusal}");
        }
    }

    #[test]
    fn a_bad_url_is_refused_at_once() {
        for url in ["", "127.0.0.1:6334", "ftp://x", "http://", "http://a b"] {
            assert!(refused(Options { url: url.to_owned(), ..Options::default() }).contains("URL"), "{url}");
        }
    }

    #[test]
    fn a_name_or_a_number_that_qdrant_does_not_take_is_refused_at_once() {
        for name in ["", "a/b", "a\0b", &"x".repeat(201)] {
            let options = Options { collection: name.to_owned(), ..Options::default() };
            assert!(refused(options).contains("name"), "{name}");
        }
        assert!(refused(Options { hnsw_ef: Some(0), ..Options::default() }).contains("hnsw_ef"));
        assert!(refused(Options { replicas: Some(0), ..Options::default() }).contains("replicas"));
    }

    #[test]
    fn what_was_found_by_quantized_vectors_is_compared_anew_unless_told_otherwise() {
        let params = |json: &str| serde_json::from_str::<Options>(json).unwrap().search();
        let of = |json: &str| params(json).quantization.map(|told| (told.rescore, told.oversampling)).unwrap();
        assert_eq!(of("{}"), (Some(true), None), "another process may have quantized the collection");
        assert_eq!((params("{}").hnsw_ef, params(r#"{"hnsw_ef": 200}"#).hnsw_ef), (None, Some(200)));
        assert_eq!(of(r#"{"hnsw_ef": 200}"#), (Some(true), None));
        assert_eq!(of(r#"{"quantization": "int8"}"#), (Some(true), None));
        assert_eq!(of(r#"{"quantization": "binary"}"#), (Some(true), Some(4.0)));
        assert_eq!(of(r#"{"quantization": "binary", "oversampling": 2.5}"#), (Some(true), Some(2.5)));
        assert_eq!(of(r#"{"quantization": "int8", "rescore": false}"#), (Some(false), None));
        assert_eq!(of(r#"{"quantization": "none"}"#), (Some(true), None));
        assert_eq!(of(r#"{"rescore": false}"#), (Some(false), None));
        assert!(serde_json::from_str::<Options>(r#"{"quantization": "int4"}"#).is_err());
        assert!(refused(Options { oversampling: Some(0.5), ..Options::default() }).contains("oversampling"));
    }

    #[test]
    fn options_are_read_strictly() {
        let options: Options = serde_json::from_str(r#"{"timeout": "250ms", "api_key": "k"}"#).unwrap();
        assert_eq!(options.timeout, Duration::from_millis(250));
        assert_eq!(options.collection, "facewire_faces");
        assert!(serde_json::from_str::<Options>(r#"{"timout": "1s"}"#).is_err());
    }
}
