//! Liveness, readiness and startup over HTTP, for whoever runs the process: `/livez`, `/readyz`, `/startupz`, each with the
//! state of every service, and `/metrics` for Prometheus. Requests change nothing.

mod listener;

use std::convert::Infallible;
use std::net::SocketAddr;

use anyhow::Context;
use axum::Router;
use axum::extract::State as Shared;
use axum::http::header::{CONNECTION, CONTENT_TYPE, HeaderValue};
use axum::http::{HeaderName, StatusCode};
use axum::middleware::map_response;
use axum::response::Response;
use axum::routing::get;
use facewire_runtime::{Health, State};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use listener::Limited;

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
        let app = Router::new()
            .route("/livez", get(async |Shared(health)| answer(&health, Health::is_live)))
            .route("/readyz", get(async |Shared(health)| answer(&health, Health::is_ready)))
            .route("/startupz", get(async |Shared(health)| answer(&health, Health::has_started)))
            .route("/metrics", get(metrics))
            .layer(map_response(last_of_its_connection))
            .with_state(self.health);
        if let Err(error) = axum::serve(Limited::new(self.listener), app).await {
            tracing::error!(%error, "the health endpoints are gone");
        }
        std::future::pending().await
    }
}

/// What HTTP clients get: a status, a content type, a body.
type Answer = (StatusCode, [(HeaderName, HeaderValue); 1], String);

fn answer(health: &Health, holds: fn(&Health) -> bool) -> Answer {
    let ok = holds(health);
    let held = health.held();
    let why = |name| held.get(name).map(Vec::as_slice).unwrap_or_default();
    let services: serde_json::Map<String, serde_json::Value> =
        health.states().into_iter().map(|(name, state)| (name.to_owned(), describe(state, why(name)))).collect();
    let body = serde_json::json!({ "ok": ok, "services": services }).to_string();
    let status = if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, [(CONTENT_TYPE, HeaderValue::from_static("application/json"))], body)
}

/// One service's state, and what is known about it.
fn describe(state: State, why: &[String]) -> serde_json::Value {
    match state {
        State::Restarting { failures } => serde_json::json!({ "state": state.as_str(), "failures": failures }),
        State::Blocked => serde_json::json!({ "state": state.as_str(), "why": why }),
        _ => serde_json::json!({ "state": state.as_str() }),
    }
}

async fn metrics() -> Result<Answer, StatusCode> {
    let text = facewire_telemetry::prometheus().map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    let kind = HeaderValue::from_static(facewire_telemetry::PROMETHEUS_TYPE);
    Ok((StatusCode::OK, [(CONTENT_TYPE, kind)], text))
}

/// One request a connection: what stays open after its answer is idle, and would have to be watched.
async fn last_of_its_connection<B>(mut response: Response<B>) -> Response<B> {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    async fn ask(address: SocketAddr, what: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(format!("{what} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// Runs `questions` beside the endpoints.
    fn body(answer: &str) -> serde_json::Value {
        serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap()
    }

    async fn beside(health: &Health, questions: impl AsyncFnOnce(SocketAddr)) {
        let options = Options { listen: Some("127.0.0.1:0".parse().unwrap()) };
        let endpoint = Endpoint::bind(&options, health.clone()).await.unwrap().unwrap();
        let address = endpoint.address().unwrap();
        tokio::select! {
            () = questions(address) => {}
            _ = endpoint.serve() => {}
        }
    }

    #[tokio::test]
    async fn each_question_has_its_status_and_names_the_services() {
        let health = Health::default();
        beside(&health, async |address| {
            health.set("ingest", State::Starting);
            assert!(ask(address, "GET /livez").await.starts_with("HTTP/1.1 200"));
            assert!(ask(address, "GET /startupz").await.starts_with("HTTP/1.1 503"));
            health.set("ingest", State::Ready);
            let ready = ask(address, "GET /readyz").await;
            assert!(ready.starts_with("HTTP/1.1 200"), "{ready}");
            assert_eq!(body(&ready), json!({"ok": true, "services": {"ingest": {"state": "ready"}}}));
            let held = health.hold("ingest", "no rights");
            let blocked = ask(address, "GET /readyz").await;
            assert!(blocked.starts_with("HTTP/1.1 503"), "{blocked}");
            let expected = json!({"ingest": {"state": "blocked", "why": ["no rights"]}});
            assert_eq!(body(&blocked)["services"], expected);
            drop(held);
            health.set("ingest", State::Restarting { failures: 2 });
            let restarting = ask(address, "GET /readyz").await;
            assert!(restarting.starts_with("HTTP/1.1 503"), "{restarting}");
            let expected = json!({"ingest": {"failures": 2, "state": "restarting"}});
            assert_eq!(body(&restarting)["services"], expected);
            health.set("ingest", State::Failed);
            assert!(ask(address, "GET /livez").await.starts_with("HTTP/1.1 503"));
            let head = ask(address, "HEAD /livez").await;
            assert!(head.starts_with("HTTP/1.1 503") && head.ends_with("\r\n\r\n"), "{head}");
            assert!(ask(address, "POST /livez").await.starts_with("HTTP/1.1 405"));
            assert!(ask(address, "GET /").await.starts_with("HTTP/1.1 404"));
        })
        .await;
    }

    #[tokio::test]
    async fn idle_connections_do_not_starve_the_others() {
        let health = Health::default();
        beside(&health, async |address| {
            // More than are kept: the oldest make room.
            let mut idle = Vec::new();
            for _ in 0..listener::CONNECTIONS + 64 {
                idle.push(TcpStream::connect(address).await.unwrap());
                if idle.len().is_multiple_of(64) {
                    assert!(ask(address, "GET /livez").await.starts_with("HTTP/1.1 200"), "{}", idle.len());
                }
            }
            assert!(ask(address, "GET /livez").await.starts_with("HTTP/1.1 200"));
            assert_eq!(idle[0].read(&mut [0]).await.unwrap_or(0), 0, "the oldest is closed");
        })
        .await;
    }

    // The clock goes on by itself whenever everybody waits.
    #[tokio::test(start_paused = true)]
    async fn a_connection_without_a_request_is_closed() {
        let health = Health::default();
        beside(&health, async |address| {
            for begun in ["", "GET /livez HTTP/1.1\r\nHost"] {
                let mut stream = TcpStream::connect(address).await.unwrap();
                stream.write_all(begun.as_bytes()).await.unwrap();
                assert_eq!(stream.read(&mut [0]).await.unwrap_or(0), 0, "{begun:?}");
            }
        })
        .await;
    }
}
