//! Connections that cannot starve each other: each is closed after a few seconds whatever its peer does, and when too many
//! are open, the oldest makes room for the next.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::Sleep;

/// Connections that are open at a time.
pub(super) const CONNECTIONS: usize = 256;

/// From a connection's start to its end: the request's headers and the answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A listener that limits its connections in number and time.
pub(super) struct Limited {
    listener: TcpListener,
    /// The open ones, oldest first; dropping one closes it.
    open: VecDeque<oneshot::Sender<()>>,
}

impl Limited {
    pub(super) fn new(listener: TcpListener) -> Self {
        Self { listener, open: VecDeque::new() }
    }
}

impl Listener for Limited {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        // Axum's own waits where the process has no descriptor left.
        let (stream, peer) = Listener::accept(&mut self.listener).await;
        self.open.retain(|connection| !connection.is_closed());
        if self.open.len() >= CONNECTIONS {
            self.open.pop_front();
        }
        let (open, evicted) = oneshot::channel();
        self.open.push_back(open);
        (Connection { stream, evicted, late: Box::pin(tokio::time::sleep(TIMEOUT)), over: false }, peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection until its time is over or its place is needed.
pub(super) struct Connection {
    stream: TcpStream,
    evicted: oneshot::Receiver<()>,
    late: Pin<Box<Sleep>>,
    over: bool,
}

impl Connection {
    /// An error once the connection is to end.
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        self.over = self.over
            || self.late.as_mut().poll(context).is_ready()
            || Pin::new(&mut self.evicted).poll(context).is_ready();
        if self.over { Err(io::ErrorKind::TimedOut.into()) } else { Ok(()) }
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
