//! Where the images are kept, and how the server is reached. No secret shows in any text made here.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use facewire_config::Secret;
use serde::{Deserialize, Serialize, Serializer};
use url::{Host, Url};

use crate::ObjectError;

/// Where images are kept.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// A directory (`file:///path`, or a path), or `s3://bucket/prefix`. The place is that of one Facewire, with one database, alone:
    /// what another keeps in a collection of the same name would go as images without a face. A bucket that holds other objects too is
    /// listed faster under a prefix. None: the caller chooses, see [`Options::or_directory`].
    #[serde(serialize_with = "redacted")]
    pub url: Option<String>,
    /// The S3 server, as `https://host:port`; none: Amazon's, in the region.
    #[serde(serialize_with = "redacted")]
    pub endpoint: Option<String>,
    /// The region that requests are signed for.
    pub region: String,
    /// The access key. None: the identity of the machine or pod (web identity, container credentials or instance
    /// metadata, by the `AWS_…` variables that the platform sets).
    pub access_key_id: Option<Secret>,
    /// The access key's secret.
    pub secret_access_key: Option<Secret>,
    /// Allows an `http://` endpoint that is not on this machine: images and requests then travel unencrypted.
    pub allow_http: bool,
    /// Whether the bucket is named in the path, which every server understands, or else in the host.
    pub path_style: bool,
    /// Encryption at rest, by the server.
    pub sse: Option<Encryption>,
    /// Certificates (PEM) that the server's may be signed by, besides the system's.
    pub ca_file: Option<PathBuf>,
    /// Longest wait for one operation, repeated requests included.
    #[serde(with = "facewire_config::duration")]
    pub timeout: Duration,
    /// The largest image that is written or read.
    pub max_bytes: ByteSize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            url: None,
            endpoint: None,
            region: "us-east-1".to_owned(),
            access_key_id: None,
            secret_access_key: None,
            allow_http: false,
            path_style: true,
            sse: None,
            ca_file: None,
            timeout: Duration::from_secs(15),
            max_bytes: ByteSize::mib(32),
        }
    }
}

/// How a server encrypts what it stores: `aes256`, or the id or ARN of a key in its key management service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Encryption {
    /// With the server's own keys (SSE-S3).
    Aes256,
    /// With this key of the key management service (SSE-KMS).
    Kms(String),
}

impl TryFrom<String> for Encryption {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let lower = text.to_ascii_lowercase();
        match lower.as_str() {
            "aes256" => Ok(Self::Aes256),
            // A misspelt algorithm must not become the name of a key.
            _ if lower.starts_with("aes") || lower.starts_with("kms") || lower == "aws:kms" || lower == "none" => {
                Err("sse is aes256, or the id or ARN of a KMS key".to_owned())
            }
            _ if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(Self::Kms(text)),
            _ => Err("sse is aes256, or the id or ARN of a KMS key, in printable ASCII".to_owned()),
        }
    }
}

impl From<Encryption> for String {
    fn from(encryption: Encryption) -> String {
        match encryption {
            Encryption::Aes256 => "aes256".to_owned(),
            Encryption::Kms(key) => key,
        }
    }
}

/// The URL without what may be a name and password in it.
fn shown(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    if scheme.is_empty() { rest.to_owned() } else { format!("{scheme}://{rest}") }
}

fn redacted<S: Serializer>(url: &Option<String>, serializer: S) -> Result<S::Ok, S::Error> {
    url.as_deref().map(shown).serialize(serializer)
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("url", &self.url.as_deref().map(shown))
            .field("endpoint", &self.endpoint.as_deref().map(shown))
            .field("region", &self.region)
            .field("access_key_id", &self.access_key_id)
            .field("secret_access_key", &self.secret_access_key)
            .field("allow_http", &self.allow_http)
            .field("path_style", &self.path_style)
            .field("sse", &self.sse)
            .field("ca_file", &self.ca_file)
            .field("timeout", &self.timeout)
            .field("max_bytes", &self.max_bytes)
            .finish()
    }
}

/// What the URL names.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Directory(PathBuf),
    Bucket { name: String, prefix: String },
}

pub(crate) fn refuse(what: impl Into<String>) -> ObjectError {
    ObjectError::Options(what.into())
}

impl Options {
    /// The same options, with this directory if they name no place.
    pub fn or_directory(mut self, directory: &Path) -> Self {
        self.url.get_or_insert_with(|| directory.to_string_lossy().into_owned());
        self
    }

    pub(crate) fn place(&self) -> Result<Place, ObjectError> {
        if self.timeout.is_zero() || self.max_bytes.as_u64() == 0 {
            return Err(refuse("timeout and max_bytes must be above zero"));
        }
        match self.url.as_deref() {
            None | Some("") => Err(refuse("url is missing: a directory, or s3://bucket/prefix")),
            Some(url) if url.starts_with("file://") => {
                let path = Url::parse(url).ok().and_then(|url| url.to_file_path().ok());
                path.map(Place::Directory).ok_or_else(|| refuse("the url of a directory is file:///path"))
            }
            Some(url) => match url.split_once("://") {
                Some(("s3", rest)) => bucket(rest),
                Some(_) => Err(refuse("the url starts with file:// or s3://, or is a path")),
                None => Ok(Place::Directory(PathBuf::from(url))),
            },
        }
    }

    /// The endpoint, with the bucket in its host where the server wants it there. An unencrypted one only as the rules
    /// say.
    #[cfg_attr(not(feature = "s3"), expect(dead_code, reason = "refused by a build without S3"))]
    pub(crate) fn endpoint_for(&self, bucket: &str) -> Result<Option<Url>, ObjectError> {
        let Some(text) = self.endpoint.as_deref() else { return Ok(None) };
        let form = || refuse("the endpoint is https://host:port, without a user, a query or a fragment");
        let mut url = Url::parse(text).map_err(|_| form())?;
        let plain = match url.scheme() {
            "https" => false,
            "http" => true,
            _ => return Err(form()),
        };
        let extra = !url.username().is_empty() || url.password().is_some();
        if extra || url.query().is_some() || url.fragment().is_some() {
            return Err(form());
        }
        let host = url.host().ok_or_else(form)?.to_owned();
        if plain && !self.allow_http && !is_loopback(&host) {
            return Err(refuse("images travel encrypted: the endpoint is https://, or allow_http is set"));
        }
        if !self.path_style {
            let Host::Domain(domain) = host else {
                return Err(refuse("an endpoint that is an address needs path_style"));
            };
            url.set_host(Some(&format!("{bucket}.{domain}"))).map_err(|_| form())?;
        }
        Ok(Some(url))
    }
}

fn bucket(rest: &str) -> Result<Place, ObjectError> {
    let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.is_empty() || !name.bytes().all(known) {
        return Err(refuse("the url of a bucket is s3://bucket/prefix, without a user, a port or a query"));
    }
    if name.ends_with("--x-s3") {
        return Err(refuse("a directory bucket (S3 Express) does not list in order, which reconciliation needs"));
    }
    let prefix = prefix.trim_end_matches('/');
    let readable = object_store::path::Path::parse(prefix).is_ok() && !prefix.starts_with('/');
    if !readable || prefix.contains(['?', '#', '@']) {
        return Err(refuse("the prefix in the url cannot be used: names with single slashes between them"));
    }
    Ok(Place::Bucket { name: name.to_owned(), prefix: prefix.to_owned() })
}

fn is_loopback(host: &Host) -> bool {
    match host {
        Host::Domain(name) => name == "localhost" || name.ends_with(".localhost"),
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(url: &str) -> Options {
        Options { url: Some(url.to_owned()), ..Options::default() }
    }

    #[test]
    fn a_place_is_a_directory_or_a_bucket() {
        let bucket = |name: &str, prefix: &str| Place::Bucket { name: name.to_owned(), prefix: prefix.to_owned() };
        for (url, place) in [
            ("file:///var/face%20s", Place::Directory("/var/face s".into())),
            ("/var/faces", Place::Directory("/var/faces".into())),
            ("faces", Place::Directory("faces".into())),
            ("s3://faces", bucket("faces", "")),
            ("s3://faces/a/b/", bucket("faces", "a/b")),
        ] {
            assert_eq!(at(url).place().unwrap(), place, "{url}");
        }
        for url in ["", "file://host/x", "gs://faces", "s3://", "s3:///x", "s3://a//b", "s3://a/../b", "s3://b--x-s3"] {
            assert!(matches!(at(url).place(), Err(ObjectError::Options(_))), "{url}");
        }
        assert!(Options::default().place().is_err());
        assert_eq!(Options::default().or_directory(Path::new("/x")).place().unwrap(), Place::Directory("/x".into()));
        assert_eq!(at("s3://a").or_directory(Path::new("/x")).place().unwrap(), bucket("a", ""));
        assert!(Options { timeout: Duration::ZERO, ..at("/x") }.place().is_err());
    }

    #[test]
    fn an_unencrypted_endpoint_is_refused_unless_allowed_or_local() {
        let endpoint = |endpoint: &str, allow_http| {
            let options = Options { endpoint: Some(endpoint.to_owned()), allow_http, ..at("s3://faces") };
            options.endpoint_for("faces")
        };
        for good in ["https://s3.example", "http://127.0.0.1:9000", "http://[::1]:9", "http://localhost:9000"] {
            assert!(endpoint(good, false).unwrap().is_some(), "{good}");
        }
        for plain in
            ["http://s3.example", "http://10.0.0.1:9000", "http://localhost.example", "http://127.0.0.1.example"]
        {
            let error = endpoint(plain, false).unwrap_err();
            assert!(error.to_string().contains("allow_http"), "{error}");
            assert!(endpoint(plain, true).is_ok(), "{plain}");
        }
        for bad in ["ftp://s3.example", "s3.example", "https://", "https://anna:hunter2@s3.example", "https://a/?b=c"] {
            let error = endpoint(bad, true).unwrap_err().to_string();
            assert!(error.contains("the endpoint is") && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn without_path_style_the_bucket_is_part_of_the_host() {
        let options =
            |endpoint: &str| Options { endpoint: Some(endpoint.to_owned()), path_style: false, ..Options::default() };
        let url = options("https://s3.example:9000").endpoint_for("faces").unwrap().unwrap();
        assert_eq!(url.as_str(), "https://faces.s3.example:9000/");
        assert!(options("https://10.0.0.1:9000").endpoint_for("faces").is_err());
    }

    #[test]
    fn secrets_never_show() {
        let options = Options {
            endpoint: Some("https://anna:hunter2@s3.example".to_owned()),
            access_key_id: Some(Secret::new("hunter3")),
            secret_access_key: Some(Secret::new("hunter4")),
            ..at("s3://anna:hunter1@faces/p@x")
        };
        let texts = [format!("{options:?}"), serde_json::to_string(&options).unwrap()];
        let error = options.place().unwrap_err();
        for text in texts.iter().chain(&[format!("{error} {error:?}")]) {
            assert!(!text.contains("hunter"), "{text}");
        }
        assert!(texts[0].contains("https://s3.example"), "{}", texts[0]);
    }

    #[test]
    fn options_are_read_strictly() {
        let text = r#"{"url": "s3://faces", "timeout": "2s", "max_bytes": "1 MiB", "sse": "AES256"}"#;
        let options: Options = serde_json::from_str(text).unwrap();
        assert_eq!(options.timeout, Duration::from_secs(2));
        assert_eq!(options.max_bytes, ByteSize::mib(1));
        assert_eq!(options.sse, Some(Encryption::Aes256));
        assert!(serde_json::from_str::<Options>(r#"{"timout": "1s"}"#).is_err());
        let sse = |text: &str| Encryption::try_from(text.to_owned());
        assert_eq!(sse("arn:aws:kms:x:1:key/y"), Ok(Encryption::Kms("arn:aws:kms:x:1:key/y".to_owned())));
        for bad in ["aes-256", "AES128", "aws:kms", "none", "", "a\nb"] {
            assert!(sse(bad).is_err(), "{bad}");
        }
    }
}
