//! A client's connection of HTTP/1 on which nothing is read that could be read in two ways.
//!
//! [`Framing`] reads along. From where it finds something unclear, hyper gets octets that it refuses in
//! place of those that came: so it answers the requests before in their order, this one with 400, and
//! closes. If it is a content that is unclear, it breaks off.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tracing::debug;

use crate::framing::Framing;
use crate::framing::Unclear;

/// No request line, field, size of a chunk, extension of one, or trailer.
const REFUSED: &[u8] = b"\0\n\r\n\r\n";

/// What is read of a stream ends at what is unclear; what is written goes through.
///
/// Once a connection has been upgraded, what comes is not HTTP, and `inner` has to be used.
pub(super) struct Strict<S> {
    inner: S,
    framing: Framing,
    /// What is left of [`REFUSED`], once something was unclear. Behind it nothing comes.
    end: Option<&'static [u8]>,
}

impl<S> Strict<S> {
    pub(super) fn new(inner: S) -> Self {
        Self { inner, framing: Framing::default(), end: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Strict<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.end.is_none() {
            let before = buffer.filled().len();
            ready!(Pin::new(&mut self.inner).poll_read(cx, buffer))?;
            let came = buffer.filled().get(before..).unwrap_or_default();
            let Err(Unclear { at, why }) = self.framing.read(came) else {
                return Poll::Ready(Ok(()));
            };
            debug!(why, "request refused");
            buffer.set_filled(before + at);
            self.end = Some(REFUSED);
        }
        if let Some(end) = &mut self.end {
            let (now, later) = end.split_at(end.len().min(buffer.remaining()));
            buffer.put_slice(now);
            *end = later;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Strict<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, octets)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, octets)
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

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn what_is_unclear_is_not_read_however_it_comes() {
        const CAME: &[u8] = b"GET / HTTP/1.1\r\nA: b\r\n\r\nGET / HTTP/1.1\r\nA: b\n\r\nGET";

        for room in 1..CAME.len() {
            let mut strict = Strict::new(CAME);
            let mut read = Vec::new();
            loop {
                let mut piece = vec![0; room];
                match strict.read(&mut piece).await.unwrap() {
                    0 => break,
                    count => read.extend_from_slice(&piece[..count]),
                }
            }
            let clear = read.strip_suffix(REFUSED).unwrap();
            // What came of a line before its end has been read.
            assert!(CAME.starts_with(clear) && !clear.ends_with(b"\n\r"), "{room}: {read:?}");
            assert!((40..=44).contains(&clear.len()), "{room}: {read:?}");
        }
    }
}
