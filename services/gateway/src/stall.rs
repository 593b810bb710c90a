//! How long a client may take nothing of what it is answered. The kernel lets somebody write again only once a good part of a
//! connection's buffer (megabytes, where a client is near) is free: a client that takes less than that within the time counts as one that
//! takes nothing.
//!
//! Below TLS: what TLS has taken in to send it later is nothing that the client took.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// A stream that breaks once nothing can be written to it for so long.
pub(crate) struct Stall<S> {
    stream: S,
    patience: Duration,
    /// Since a write began to wait.
    until: Option<Pin<Box<Sleep>>>,
}

impl<S> Stall<S> {
    pub(crate) fn new(stream: S, patience: Duration) -> Self {
        Self { stream, patience, until: None }
    }

    /// What came of a write. The stream was asked first: what can be written is no stall, however late somebody looks.
    fn judge<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.until = None;
            return written;
        }
        let patience = self.patience;
        ready!(self.until.get_or_insert_with(|| Box::pin(sleep(patience))).as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes nothing of its answer")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Stall<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Stall<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.judge(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.judge(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.judge(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn whoever_takes_nothing_is_left() {
        let (near, _far) = duplex(4);
        let mut stream = Stall::new(near, Duration::from_millis(1));
        stream.write_all(b"full").await.unwrap();
        assert_eq!(stream.write(b"more").await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn whoever_takes_something_has_all_the_time_again() {
        let (near, mut far) = duplex(4);
        let mut stream = Stall::new(near, Duration::from_secs(3600));
        stream.write_all(b"full").await.unwrap();
        assert!(stream.until.is_none(), "nothing waits");
        assert!(stream.write(b"more").now_or_never().is_none() && stream.until.is_some());
        far.read_exact(&mut [0; 4]).await.unwrap();
        stream.write_all(b"more").await.unwrap();
        assert!(stream.until.is_none());
    }
}
