//! Connections: accepted up to a number, with limits of time for handshake and headers, ended with the service. What is
//! asked over them is the router's.

use std::future::poll_fn;
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
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tower::ServiceExt;

use crate::options::Options;
use crate::tls::Certificates;

/// After a failed accept: the process has no descriptor left, say.
const PAUSE: Duration = Duration::from_millis(100);

/// How long a client may go on sending what nobody reads any more.
const LINGER: Duration = Duration::from_secs(5);

/// Who is at the other end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// Accepts until the drain, then lets every request that was begun finish within the grace period.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    certificates: Option<Certificates>,
    options: &Options,
    shutdown: &Shutdown,
) {
    let places = Arc::new(Semaphore::new(options.connections.max(1)));
    let mut connections = JoinSet::new();
    let settings = Settings { header_timeout: options.header_timeout, certificates, shutdown: shutdown.clone() };
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
    let ended = async { while connections.join_next().await.is_some() {} };
    if timeout(shutdown.grace(), ended).await.is_err() {
        tracing::warn!(open = connections.len(), "connections are cut: the grace period is over");
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
    match &settings.certificates {
        None => speak(stream, peer, router, &settings).await,
        Some(certificates) => match timeout(settings.header_timeout, certificates.acceptor().accept(stream)).await {
            Ok(Ok(stream)) => speak(stream, peer, router, &settings).await,
            Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
            Err(_) => tracing::debug!("a TLS handshake took too long"),
        },
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
        Box::pin(router.clone().oneshot(request))
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(settings.header_timeout);
    let mut connection = http.serve_connection(TokioIo::new(stream), service);
    let done = tokio::select! {
        done = poll_fn(|cx| connection.poll_without_shutdown(cx)) => done,
        () = settings.shutdown.draining() => {
            std::pin::Pin::new(&mut connection).graceful_shutdown();
            poll_fn(|cx| connection.poll_without_shutdown(cx)).await
        }
    };
    let ended = match done {
        Ok(()) => part(connection.into_parts().io.into_inner(), &settings.shutdown).await,
        Err(error) => Err(io::Error::other(error)),
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke");
    }
}

/// Says that nothing more comes, and reads on for a while: where a connection is closed with bytes unread, the other end
/// is told that it broke, and a client that still sends its body loses the answer that refuses it.
async fn part<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, shutdown: &Shutdown) -> io::Result<()> {
    stream.shutdown().await?;
    let mut nowhere = tokio::io::sink();
    tokio::select! {
        read = timeout(LINGER, tokio::io::copy(&mut stream, &mut nowhere)) => match read {
            Ok(read) => read.map(drop),
            Err(_) => Ok(()),
        },
        () = shutdown.draining() => Ok(()),
    }
}
