//! Exporters to a collector, by gRPC or HTTP.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::tonic_types::metadata::MetadataMap;
use opentelemetry_otlp::tonic_types::transport::{Certificate, ClientTlsConfig};
use opentelemetry_otlp::{
    ExporterBuildError, LogExporter, MetricExporter, SpanExporter, WithExportConfig, WithHttpConfig, WithTonicConfig,
};
use tokio::runtime::Handle;

use crate::init::TelemetryError;
use crate::options::{Otlp, Protocol};

/// A checked way to the collector.
#[derive(Debug, Clone)]
pub(crate) struct Collector {
    endpoint: String,
    timeout: Duration,
    way: Way,
}

#[derive(Debug, Clone)]
enum Way {
    Grpc(Grpc),
    Http(Http),
}

#[derive(Debug, Clone)]
struct Grpc {
    metadata: MetadataMap,
    tls: Option<ClientTlsConfig>,
}

#[derive(Debug, Clone)]
struct Http {
    headers: HashMap<String, String>,
    client: Arc<dyn HttpClient>,
}

impl Collector {
    /// Must be called on the async runtime, whose threads then do the exports' I/O. Nothing is sent yet.
    pub(crate) fn new(options: &Otlp, endpoint: &str) -> Result<Self, TelemetryError> {
        let secure = match endpoint.split_once("://") {
            Some(("http", rest)) if !rest.is_empty() => false,
            Some(("https", rest)) if !rest.is_empty() => true,
            _ => return Err(TelemetryError::Endpoint),
        };
        // By either protocol: the exporter over HTTP leaves out what can be no header, and says nothing.
        let metadata = metadata(options)?;
        let way = match options.protocol {
            Protocol::Grpc => Way::Grpc(Grpc { metadata, tls: tls(options, secure)? }),
            Protocol::Http if secure => return Err(TelemetryError::HttpsOverHttp),
            Protocol::Http if options.ca.is_some() => return Err(TelemetryError::NoTls),
            Protocol::Http => {
                let pairs = options.headers.iter();
                let headers = pairs.map(|(name, value)| (name.clone(), escaped(value.expose()))).collect();
                let client = HyperClient::with_default_connector(options.timeout, None);
                Way::Http(Http { headers, client: Arc::new(OnRuntime { runtime: Handle::current(), client }) })
            }
        };
        Ok(Self { endpoint: endpoint.trim_end_matches('/').to_owned(), timeout: options.timeout, way })
    }

    pub(crate) fn spans(&self) -> Result<SpanExporter, ExporterBuildError> {
        match &self.way {
            Way::Grpc(grpc) => grpc.set(SpanExporter::builder().with_tonic(), self).build(),
            Way::Http(http) => http.set(SpanExporter::builder().with_http(), self, "traces").build(),
        }
    }

    pub(crate) fn metrics(&self) -> Result<MetricExporter, ExporterBuildError> {
        match &self.way {
            Way::Grpc(grpc) => grpc.set(MetricExporter::builder().with_tonic(), self).build(),
            Way::Http(http) => http.set(MetricExporter::builder().with_http(), self, "metrics").build(),
        }
    }

    pub(crate) fn logs(&self) -> Result<LogExporter, ExporterBuildError> {
        match &self.way {
            Way::Grpc(grpc) => grpc.set(LogExporter::builder().with_tonic(), self).build(),
            Way::Http(http) => http.set(LogExporter::builder().with_http(), self, "logs").build(),
        }
    }
}

impl Grpc {
    fn set<B: WithExportConfig + WithTonicConfig>(&self, builder: B, to: &Collector) -> B {
        let builder = builder.with_endpoint(&to.endpoint).with_timeout(to.timeout).with_metadata(self.metadata.clone());
        match &self.tls {
            Some(tls) => builder.with_tls_config(tls.clone()),
            None => builder,
        }
    }
}

impl Http {
    fn set<B: WithExportConfig + WithHttpConfig>(&self, builder: B, to: &Collector, signal: &str) -> B {
        let builder = builder.with_endpoint(format!("{}/v1/{signal}", to.endpoint)).with_timeout(to.timeout);
        builder.with_headers(self.headers.clone()).with_shared_http_client(Arc::clone(&self.client))
    }
}

fn tls(options: &Otlp, secure: bool) -> Result<Option<ClientTlsConfig>, TelemetryError> {
    match (&options.ca, secure) {
        (Some(path), true) => {
            let pem = std::fs::read(path).map_err(|error| TelemetryError::Authority(error.to_string()))?;
            Ok(Some(ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem))))
        }
        (None, true) => Err(TelemetryError::Authority("none is named".to_owned())),
        (Some(_), false) => Err(TelemetryError::NoTls),
        (None, false) => Ok(None),
    }
}

/// The exporter over HTTP decodes values as parts of a URL.
fn escaped(value: &str) -> String {
    value.replace('%', "%25")
}

fn metadata(options: &Otlp) -> Result<MetadataMap, TelemetryError> {
    let mut map = http::HeaderMap::new();
    for (name, value) in &options.headers {
        let bad = || TelemetryError::Header(name.clone());
        let key = http::HeaderName::try_from(name.as_str()).map_err(|_| bad())?;
        let mut value = http::HeaderValue::try_from(value.expose()).map_err(|_| bad())?;
        value.set_sensitive(true);
        map.insert(key, value);
    }
    Ok(MetadataMap::from_headers(map))
}

/// The SDK exports from threads of its own, which are no threads of the async runtime; hyper needs one that is.
#[derive(Debug)]
struct OnRuntime {
    runtime: Handle,
    client: HyperClient,
}

#[async_trait]
impl HttpClient for OnRuntime {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        self.runtime.spawn(async move { client.send_bytes(request).await }).await?
    }
}
