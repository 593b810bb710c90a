//! A collector for tests: takes OTLP over gRPC or HTTP and keeps what it was told. Nothing of it runs in production.
#![expect(clippy::unwrap_used, reason = "it is part of tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{LogsService, LogsServiceServer};
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsServiceRequest, ExportMetricsServiceResponse};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio_stream::StreamExt as _;
use tonic::{Request, Response, Status};

/// The header that a test may send.
const AUTHORIZATION: &str = "authorization";

/// A span as it was told.
#[derive(Debug, Clone)]
pub struct HeardSpan {
    /// `service.name` of whoever told it.
    pub service: String,
    /// Its name.
    pub name: String,
    /// Hexadecimal.
    pub trace: String,
    /// Hexadecimal.
    pub id: String,
    /// Hexadecimal; empty for the first span of a trace.
    pub parent: String,
    /// Its status is an error.
    pub error: bool,
    /// As text.
    pub attributes: BTreeMap<String, String>,
    /// Spans that it links to, hexadecimal.
    pub links: Vec<String>,
}

/// A log line as it was told.
#[derive(Debug, Clone)]
pub struct HeardLog {
    /// `service.name` of whoever told it.
    pub service: String,
    /// Its words.
    pub body: String,
    /// As text.
    pub attributes: BTreeMap<String, String>,
}

#[derive(Debug, Default)]
struct Heard {
    spans: Vec<HeardSpan>,
    logs: Vec<HeardLog>,
    metrics: BTreeSet<String>,
    authorization: Option<String>,
}

/// A collector that listens until it is dropped.
#[derive(Debug)]
pub struct Receiver {
    url: String,
    heard: Arc<Mutex<Heard>>,
    server: JoinHandle<()>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Receiver {
    /// Listens for gRPC.
    pub async fn grpc() -> Self {
        let (listener, url) = listen().await;
        let ears = Ears::default();
        let heard = Arc::clone(&ears.0);
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        let serving = tonic::transport::Server::builder()
            .add_service(TraceServiceServer::new(ears.clone()))
            .add_service(MetricsServiceServer::new(ears.clone()))
            .add_service(LogsServiceServer::new(ears))
            .serve_with_incoming(incoming.map(|stream| stream));
        Self { url, heard, server: tokio::spawn(async move { serving.await.unwrap() }) }
    }

    /// Listens for protobuf over HTTP.
    pub async fn http() -> Self {
        let (listener, url) = listen().await;
        let ears = Ears::default();
        let heard = Arc::clone(&ears.0);
        let server = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let ears = ears.clone();
                let service = service_fn(move |request| answer(ears.clone(), request));
                connections.spawn(async move {
                    // The exporter may go at any moment.
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self { url, heard, server }
    }

    /// For `telemetry.otlp.endpoint`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Spans so far.
    pub fn spans(&self) -> Vec<HeardSpan> {
        self.heard.lock().unwrap().spans.clone()
    }

    /// Log lines so far.
    pub fn logs(&self) -> Vec<HeardLog> {
        self.heard.lock().unwrap().logs.clone()
    }

    /// The header `authorization` that the last spans came with.
    pub fn authorization(&self) -> Option<String> {
        self.heard.lock().unwrap().authorization.clone()
    }

    /// Names of the metrics so far.
    pub fn metrics(&self) -> BTreeSet<String> {
        self.heard.lock().unwrap().metrics.clone()
    }
}

async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    (listener, url)
}

async fn answer(
    ears: Ears,
    request: hyper::Request<hyper::body::Incoming>,
) -> Result<hyper::Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let authorization = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let body = request.into_body().collect().await.unwrap().to_bytes();
    match path.as_str() {
        "/v1/traces" => ears.traces(authorization, ExportTraceServiceRequest::decode(body).unwrap()),
        "/v1/metrics" => ears.metrics(ExportMetricsServiceRequest::decode(body).unwrap()),
        "/v1/logs" => ears.logs(ExportLogsServiceRequest::decode(body).unwrap()),
        _ => return Ok(hyper::Response::builder().status(404).body(Full::default()).unwrap()),
    }
    Ok(hyper::Response::new(Full::default()))
}

#[derive(Debug, Clone, Default)]
struct Ears(Arc<Mutex<Heard>>);

impl Ears {
    fn traces(&self, authorization: Option<String>, request: ExportTraceServiceRequest) {
        let mut heard = self.0.lock().unwrap();
        heard.authorization = authorization;
        for told in request.resource_spans {
            let service = service(told.resource.map(|resource| resource.attributes).unwrap_or_default());
            for span in told.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                heard.spans.push(HeardSpan {
                    service: service.clone(),
                    name: span.name,
                    trace: hex(&span.trace_id),
                    id: hex(&span.span_id),
                    parent: hex(&span.parent_span_id),
                    error: span.status.is_some_and(|status| status.code == 2),
                    attributes: texts(span.attributes),
                    links: span.links.iter().map(|link| hex(&link.span_id)).collect(),
                });
            }
        }
    }

    fn metrics(&self, request: ExportMetricsServiceRequest) {
        let scopes = request.resource_metrics.into_iter().flat_map(|told| told.scope_metrics);
        let names = scopes.flat_map(|scope| scope.metrics).map(|metric| metric.name);
        self.0.lock().unwrap().metrics.extend(names);
    }

    fn logs(&self, request: ExportLogsServiceRequest) {
        let mut heard = self.0.lock().unwrap();
        for told in request.resource_logs {
            let service = service(told.resource.map(|resource| resource.attributes).unwrap_or_default());
            for line in told.scope_logs.into_iter().flat_map(|scope| scope.log_records) {
                let body = text(line.body);
                heard.logs.push(HeardLog { service: service.clone(), body, attributes: texts(line.attributes) });
            }
        }
    }
}

fn service(resource: Vec<KeyValue>) -> String {
    texts(resource).remove("service.name").unwrap_or_default()
}

fn texts(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    attributes.into_iter().map(|attribute| (attribute.key, text(attribute.value))).collect()
}

fn text(value: Option<AnyValue>) -> String {
    match value.and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::BoolValue(flag)) => flag.to_string(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::DoubleValue(number)) => number.to_string(),
        other => other.map(|value| format!("{value:?}")).unwrap_or_default(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tonic::async_trait]
impl TraceService for Ears {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let authorization = request.metadata().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        self.traces(authorization.map(str::to_owned), request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Ears {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        self.metrics(request.into_inner());
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl LogsService for Ears {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        self.logs(request.into_inner());
        Ok(Response::new(ExportLogsServiceResponse::default()))
    }
}
