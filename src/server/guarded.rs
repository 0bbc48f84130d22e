//! A connection that is read along: hyper gets what comes on it until its guard finds an end.
//!
//! What a guard looks for, `strict` and `flood` say, each for its protocol. What is written goes through.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tracing::debug;

/// Reads along on one connection.
pub(super) trait Guard {
    /// What hyper gets at the end in place of what came: octets that it refuses, so that it answers what
    /// came before, says why, and closes.
    const REFUSED: &'static [u8];

    /// What the log says of an end.
    const SAYS: &'static str;

    /// Whether a client that does not read is waited for after the end.
    const WAITS: bool;

    /// Reads the next piece; where the end is, if there is one now.
    fn read(&mut self, came: &[u8]) -> Option<End>;

    /// So many octets more were sent.
    fn sent(&mut self, _count: usize) {}
}

/// Where nothing is read any more.
pub(super) struct End {
    /// How many octets of the piece come before. Beyond it: the rest does not come any more, and what was
    /// begun stays unfinished.
    pub(super) at: usize,
    /// Why, for the log.
    pub(super) why: &'static str,
}

/// What is read of a stream ends where its guard says so.
///
/// Once a connection has been upgraded, what comes is not HTTP, and `inner` has to be used.
pub(super) struct Guarded<S, G> {
    inner: S,
    guard: G,
    /// What is left of [`Guard::REFUSED`], once there was an end. Behind it nothing comes.
    end: Option<&'static [u8]>,
}

impl<S, G: Guard> Guarded<S, G> {
    pub(super) fn new(inner: S, guard: G) -> Self {
        Self { inner, guard, end: None }
    }

    fn written(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Ok(count)) => self.guard.sent(count),
            Poll::Pending if self.end.is_some() && !G::WAITS => {
                return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
            }
            _ => {}
        }
        written
    }
}

impl<S: AsyncRead + Unpin, G: Guard + Unpin> AsyncRead for Guarded<S, G> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.end.is_none() {
            let before = buffer.filled().len();
            ready!(Pin::new(&mut self.inner).poll_read(cx, buffer))?;
            let came = buffer.filled().get(before..).unwrap_or_default();
            let count = came.len();
            let Some(End { at, why }) = self.guard.read(came) else { return Poll::Ready(Ok(())) };
            debug!(why, "{}", G::SAYS);
            if at > count {
                self.end = Some(&[]);
                return Poll::Ready(Ok(()));
            }
            buffer.set_filled(before + at);
            self.end = Some(G::REFUSED);
        }
        if let Some(end) = &mut self.end {
            let (now, later) = end.split_at(end.len().min(buffer.remaining()));
            buffer.put_slice(now);
            *end = later;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin, G: Guard + Unpin> AsyncWrite for Guarded<S, G> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, octets);
        self.written(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, octets);
        self.written(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
