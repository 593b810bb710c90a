//! The end of a connection: the other side hears all that was answered. What is said over it is hyper's.
//!
//! Where a connection is closed with bytes unread, the other end is told that it broke, and a client that still sends its
//! body loses the answer that refuses it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use facewire_runtime::Shutdown;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// How long the end of a connection may take: a client that goes on sending, or does not take what it was answered.
const LINGER: Duration = Duration::from_secs(5);

/// A stream that says at its shutdown that nothing more comes, and then reads until the other end has said so too.
pub(crate) struct Linger<S> {
    stream: S,
    shutdown: Shutdown,
    /// Since the shutdown of the stream began.
    until: Option<Pin<Box<Sleep>>>,
    said: bool,
}

impl<S> Linger<S> {
    pub(crate) fn new(stream: S, shutdown: Shutdown) -> Self {
        Self { stream, shutdown, until: None, said: false }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Linger<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Linger<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let until = this.until.get_or_insert_with(|| Box::pin(sleep(LINGER)));
        if until.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        if !this.said {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
            this.said = true;
        }
        // A client with a connection that it does not use may not look at it for long.
        if this.shutdown.is_draining() {
            return Poll::Ready(Ok(()));
        }
        let mut unread = [0; 8 * 1024];
        loop {
            let mut unread = ReadBuf::new(&mut unread);
            ready!(Pin::new(&mut this.stream).poll_read(cx, &mut unread))?;
            if unread.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}
