//! The HTTP client of the S3 store: the workspace's own rustls with ring, the system's certificates, HTTP/1.1, and no
//! unencrypted connection unless the caller asked for one. It follows no redirect and uses no proxy.

use std::error::Error;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http_body_util::BodyExt;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector as TcpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use object_store::client::{
    ClientConfigKey, ClientOptions, HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody,
    HttpResponse, HttpResponseBody, HttpService,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::ObjectError;
use crate::options::refuse;

/// Servers close idle connections after a minute or so; a connection is given up before that.
const IDLE: Duration = Duration::from_secs(30);

/// A request that brought no answer.
#[derive(Debug)]
pub(crate) struct TransportError {
    what: String,
    /// The server's certificate was not accepted: trying again does not help.
    pub(crate) certificate: bool,
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl Error for TransportError {}

/// Makes the clients that `object_store` asks for.
#[derive(Debug)]
pub(crate) struct Connector {
    tls: ClientConfig,
    connect_timeout: Duration,
}

impl Connector {
    /// Trusts the system's certificates and those of the file.
    pub(crate) fn new(ca_file: Option<&Path>, connect_timeout: Duration) -> Result<Self, ObjectError> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if let Some(path) = ca_file {
            let unreadable = || refuse("ca_file cannot be read: certificates in PEM");
            let certificates = CertificateDer::pem_file_iter(path).map_err(|_| unreadable())?;
            let before = roots.len();
            for certificate in certificates {
                roots.add(certificate.map_err(|_| unreadable())?).map_err(|_| unreadable())?;
            }
            if roots.len() == before {
                return Err(unreadable());
            }
        }
        let tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|_| refuse("this build has no TLS"))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { tls, connect_timeout })
    }
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let mut tcp = TcpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(self.connect_timeout));
        let plain = options.get_config_value(&ClientConfigKey::AllowHttp).as_deref() == Some("true");
        let tls = HttpsConnectorBuilder::new().with_tls_config(self.tls.clone());
        let tls = if plain { tls.https_or_http() } else { tls.https_only() };
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .build(tls.enable_http1().wrap_connector(tcp));
        Ok(HttpClient::new(Service(client)))
    }
}

#[derive(Debug)]
struct Service(Client<HttpsConnector<TcpConnector>, HttpRequestBody>);

#[async_trait]
impl HttpService for Service {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let response = self.0.request(request).await.map_err(|error| {
            let kind = if error.is_connect() { HttpErrorKind::Connect } else { kind_of(error_chain(&error)) };
            failed(kind, &error)
        })?;
        Ok(response
            .map(|body| HttpResponseBody::new(body.map_err(|error| failed(kind_of(error_chain(&error)), &error)))))
    }
}

fn error_chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| Error::source(*error))
}

/// What is safe to repeat: the body was not sent, or the connection broke.
fn kind_of<'a>(mut chain: impl Iterator<Item = &'a (dyn Error + 'static)>) -> HttpErrorKind {
    let kind = |error: &(dyn Error + 'static)| {
        let hyper = error.downcast_ref::<hyper::Error>();
        if hyper.is_some_and(|error| error.is_closed() || error.is_canceled() || error.is_body_write_aborted()) {
            return Some(HttpErrorKind::Request);
        }
        let broken = hyper.is_some_and(hyper::Error::is_incomplete_message) || error.is::<std::io::Error>();
        broken.then_some(HttpErrorKind::Interrupted)
    };
    chain.find_map(kind).unwrap_or(HttpErrorKind::Unknown)
}

fn failed(kind: HttpErrorKind, error: &(dyn Error + 'static)) -> HttpError {
    let texts: Vec<String> = error_chain(error).map(ToString::to_string).collect();
    let certificate = error_chain(error).any(is_certificate_error);
    // Trying again would end the same way.
    let kind = if certificate { HttpErrorKind::Unknown } else { kind };
    HttpError::new(kind, TransportError { what: texts.join(": "), certificate })
}

/// rustls' error travels inside one or more `io::Error`s, which give their content's source as their own.
fn is_certificate_error(error: &(dyn Error + 'static)) -> bool {
    match error.downcast_ref::<std::io::Error>() {
        Some(error) => error.get_ref().is_some_and(|inner| is_certificate_error(inner)),
        None => matches!(error.downcast_ref(), Some(rustls::Error::InvalidCertificate(_))),
    }
}
