//! Connections: accepted up to a number, with limits of time for handshake, headers and answers that nobody takes, ended with the
//! service. What is asked over them is the router's.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::Request;
use facewire_runtime::Shutdown;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use crate::linger::Linger;
use crate::options::Options;
use crate::stall::Stall;
use crate::tls::Certificates;

/// After a failed accept: the process has no descriptor left, say.
const PAUSE: Duration = Duration::from_millis(100);

/// Who is at the other end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// Accepts until the drain, then lets every request that was begun finish within the grace period.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    going_on: &TaskTracker,
    certificates: Option<Certificates>,
    options: &Options,
    shutdown: &Shutdown,
) {
    let places = Arc::new(Semaphore::new(options.connections.max(1)));
    let mut connections = JoinSet::new();
    let settings = Settings {
        header_timeout: options.header_timeout,
        patience: options.request_timeout,
        certificates,
        shutdown: shutdown.clone(),
    };
    loop {
        let (stream, peer, place) = tokio::select! {
            accepted = accept(&listener, &places) => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection cannot be accepted");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            },
            Some(_) = connections.join_next() => continue,
            () = shutdown.draining() => break,
        };
        connections.spawn(connection(stream, peer, place, router.clone(), settings.clone()));
    }
    drop(listener);
    going_on.close();
    let ended = async {
        while connections.join_next().await.is_some() {}
        going_on.wait().await;
    };
    if tokio::time::timeout(shutdown.grace(), ended).await.is_err() {
        let (open, left) = (connections.len(), going_on.len());
        tracing::warn!(open, left, "connections and requests are cut: the grace period is over");
    }
    connections.shutdown().await;
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer, place))
}

#[derive(Clone)]
struct Settings {
    header_timeout: Duration,
    /// With a client that takes nothing of its answer.
    patience: Duration,
    certificates: Option<Certificates>,
    shutdown: Shutdown,
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    _place: OwnedSemaphorePermit,
    router: Router,
    settings: Settings,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "no TCP_NODELAY");
    }
    let stream = Stall::new(stream, settings.patience);
    match &settings.certificates {
        None => speak(stream, peer, router, &settings).await,
        Some(certificates) => {
            match tokio::time::timeout(settings.header_timeout, certificates.acceptor().accept(stream)).await {
                Ok(Ok(stream)) => speak(stream, peer, router, &settings).await,
                Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
                Err(_) => tracing::debug!("a TLS handshake took too long"),
            }
        }
    }
}

async fn speak<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    peer: SocketAddr,
    router: Router,
    settings: &Settings,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(Peer(peer)));
        router.clone().oneshot(request)
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(settings.header_timeout);
    let stream = TokioIo::new(Linger::new(stream, settings.shutdown.clone()));
    let mut connection = std::pin::pin!(http.serve_connection(stream, service));
    let done = tokio::select! {
        done = connection.as_mut() => done,
        () = settings.shutdown.draining() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = done {
        tracing::debug!(%error, "a connection broke");
    }
}
