//! The octets of a connection to one server, and how hyper gets them.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::rt::Executor as _;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::clock;

use super::Content;

/// Octets in both directions: TCP, or TLS on it.
pub(super) trait Octets: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Octets for S {}

/// A connection that speaks HTTP/1.1. Dropping it closes it.
pub(super) struct Wire {
    octets: Box<dyn Octets>,
    /// For all its exchanges, once there has been one.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Wire {
    pub(super) fn new(octets: impl Octets + 'static) -> Self {
        Self { octets: Box::new(octets), timer: None }
    }

    /// What is read and written.
    pub(super) fn octets(&mut self) -> Pin<&mut Box<dyn Octets>> {
        Pin::new(&mut self.octets)
    }

    /// Ready at this moment.
    pub(super) fn poll_until(&mut self, at: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(at)));
        clock::poll_until(timer, at, cx)
    }
}

/// An exchange that has begun without hyper, which is to go on with it.
#[derive(Default)]
pub(super) struct Begun {
    /// What has been read.
    pub(super) came: Bytes,
    /// What of the request has not gone out.
    pub(super) unsent: Bytes,
}

/// Has hyper speak on a connection from now on, in a task of its own. What is `begun` has gone on with a request
/// that hyper is to be given next.
pub(super) async fn speak(wire: Wire, begun: Option<Begun>) -> hyper::Result<SendRequest<Content>> {
    let sending = if begun.is_some() {
        Sending::Again { waker: None, has_come: false }
    } else {
        Sending::First
    };
    let Begun { came, unsent } = begun.unwrap_or_default();
    let stream = Replayed { octets: wire.octets, came, unsent, sending };
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    TokioExecutor::new().execute(async move {
        // What it ends with its last exchange has been told, or nobody has lost anything by it.
        drop(connection.with_upgrades().await);
    });
    Ok(sender)
}

/// A connection on which hyper sends what has been sent already, and reads what has been read.
struct Replayed {
    octets: Box<dyn Octets>,
    /// What has been read, and hyper has not.
    came: Bytes,
    /// What of the request has not gone out, which goes before what hyper sends.
    unsent: Bytes,
    sending: Sending,
}

/// What is done with what hyper sends.
enum Sending {
    /// It goes out.
    First,
    /// It is a request that has gone out, or goes out as it is. Before it has come, what hyper reads would be the
    /// answer to none.
    Again {
        /// Waits to read.
        waker: Option<Waker>,
        /// Some of it has.
        has_come: bool,
    },
}

impl Replayed {
    /// So many octets come from hyper. Whether they go out.
    fn is_new(&mut self, count: usize) -> bool {
        match &mut self.sending {
            Sending::First => true,
            Sending::Again { has_come, .. } => {
                *has_come |= count > 0;
                false
            }
        }
    }

    /// Sends what is left of the request.
    fn poll_unsent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unsent.is_empty() {
            let sent = ready!(Pin::new(&mut self.octets).poll_write(cx, &self.unsent))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unsent.advance(sent);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Replayed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Sending::Again { waker, .. } = &mut self.sending {
            *waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if self.came.is_empty() {
            return Pin::new(&mut self.octets).poll_read(cx, buffer);
        }
        let count = self.came.len().min(buffer.remaining());
        buffer.put_slice(self.came.get(..count).unwrap_or_default());
        self.came.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Replayed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        if !self.is_new(octets.len()) {
            return Poll::Ready(Ok(octets.len()));
        }
        ready!(self.poll_unsent(cx))?;
        Pin::new(&mut self.octets).poll_write(cx, octets)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let count = octets.iter().map(|slice| slice.len()).sum();
        if !self.is_new(count) {
            return Poll::Ready(Ok(count));
        }
        ready!(self.poll_unsent(cx))?;
        Pin::new(&mut self.octets).poll_write_vectored(cx, octets)
    }

    fn is_write_vectored(&self) -> bool {
        self.octets.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper flushes a request that is at hand as soon as all of it is written.
        if let Sending::Again { waker, has_come: true } = &mut self.sending {
            if let Some(waker) = waker.take() {
                waker.wake();
            }
            self.sending = Sending::First;
        }
        // A server may answer before it has read all, and close: then hyper is to read that, and to wait for nothing
        // else. It flushes each time that it looks, so the rest goes as the server takes it.
        match self.poll_unsent(cx) {
            Poll::Ready(Ok(())) => Pin::new(&mut self.octets).poll_flush(cx),
            _ => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.octets).poll_shutdown(cx)
    }
}
