//! Liveness, readiness and startup over HTTP, for whoever runs the process: `/livez`, `/readyz`, `/startupz`, each with the
//! state of every service, and `/metrics` for Prometheus. Nothing else is served here, and nothing is changed by asking.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use facewire_runtime::{Health, State};
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Connections at a time; more wait to be accepted.
const CONNECTIONS: usize = 32;
/// A connection is over after this long, whatever its peer does.
const PATIENCE: Duration = Duration::from_secs(5);

/// What an operator may set of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// Where the endpoints listen (`0.0.0.0:8080`, say); nowhere unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
}

/// A socket that is bound, so that a taken port is an error at the start.
pub struct Endpoint {
    listener: TcpListener,
    health: Health,
}

impl Endpoint {
    /// Binds, if there is an address.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub async fn bind(options: &Options, health: Health) -> anyhow::Result<Option<Self>> {
        let Some(address) = options.listen else { return Ok(None) };
        let listener = TcpListener::bind(address).await.with_context(|| {
            format!("health.listen: {address} cannot be listened on; name another with --health ADDRESS")
        })?;
        if let Ok(address) = listener.local_addr() {
            tracing::info!(%address, "health and metrics endpoints");
        }
        Ok(Some(Self { listener, health }))
    }

    /// Where it listens.
    #[cfg(test)]
    fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers until it is dropped.
    pub async fn serve(self) -> Infallible {
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        let mut connections = JoinSet::new();
        loop {
            // What ended is forgotten.
            while connections.try_join_next().is_some() {}
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else { std::future::pending().await };
            let Ok((stream, _)) = self.listener.accept().await else {
                // Out of descriptors, most likely; the next moment may be better.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let health = self.health.clone();
            connections.spawn(async move {
                // Who asks badly or slowly gets nothing.
                let _ = tokio::time::timeout(PATIENCE, answer_one(stream, health)).await;
                drop(permit);
            });
        }
    }
}

async fn answer_one(stream: TcpStream, health: Health) -> Result<(), hyper::Error> {
    let service = service_fn(move |request| {
        let health = health.clone();
        async move { Ok::<_, Infallible>(answer(&request, &health)) }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(PATIENCE).keep_alive(false);
    builder.serve_connection(TokioIo::new(stream), service).await
}

fn answer<B>(request: &Request<B>, health: &Health) -> Response<Full<Bytes>> {
    let good = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/livez") => health.is_live(),
        (&Method::GET | &Method::HEAD, "/readyz") => health.is_ready(),
        (&Method::GET | &Method::HEAD, "/startupz") => health.has_started(),
        (&Method::GET | &Method::HEAD, "/metrics") => return metrics(),
        (_, "/livez" | "/readyz" | "/startupz" | "/metrics") => return plain(StatusCode::METHOD_NOT_ALLOWED),
        _ => return plain(StatusCode::NOT_FOUND),
    };
    let states: serde_json::Map<String, serde_json::Value> =
        health.states().into_iter().map(|(name, state)| (name.to_owned(), State::as_str(state).into())).collect();
    let body = serde_json::json!({ "ok": good, "services": states }).to_string();
    let mut response = plain(if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE });
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    *response.body_mut() = Full::from(body);
    response
}

fn metrics() -> Response<Full<Bytes>> {
    let Ok(text) = facewire_telemetry::prometheus() else { return plain(StatusCode::INTERNAL_SERVER_ERROR) };
    let mut response = Response::new(Full::from(text));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(facewire_telemetry::PROMETHEUS_TYPE));
    response
}

fn plain(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn ask(address: SocketAddr, what: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(format!("{what} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn each_question_has_its_status_and_names_the_services() {
        let health = Health::default();
        let options = Options { listen: Some("127.0.0.1:0".parse().unwrap()) };
        let endpoint = Endpoint::bind(&options, health.clone()).await.unwrap().unwrap();
        let address = endpoint.address().unwrap();
        let questions = async {
            health.set("ingest", State::Starting);
            assert!(ask(address, "GET /livez").await.starts_with("HTTP/1.1 200"));
            assert!(ask(address, "GET /startupz").await.starts_with("HTTP/1.1 503"));
            health.set("ingest", State::Ready);
            let ready = ask(address, "GET /readyz").await;
            assert!(
                ready.starts_with("HTTP/1.1 200") && ready.ends_with(r#"{"ok":true,"services":{"ingest":"ready"}}"#)
            );
            health.set("ingest", State::Failed);
            assert!(ask(address, "GET /livez").await.starts_with("HTTP/1.1 503"));
            assert!(ask(address, "POST /livez").await.starts_with("HTTP/1.1 405"));
            assert!(ask(address, "GET /").await.starts_with("HTTP/1.1 404"));
        };
        tokio::select! {
            () = questions => {}
            _ = endpoint.serve() => {}
        }
    }
}
