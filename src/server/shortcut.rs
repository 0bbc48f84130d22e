//! The short way of a hit: its request is answered before hyper learns of it.
//!
//! hyper has a state for a request's content, a future for its answer, a body that is polled, and more that
//! a hit has no use for: two thirds of what one costs. So a request that came by itself and in one piece,
//! and says nothing of content or of its connection, is put to the gateway as soon as it was read. If the answer
//! is at hand then, it is written as hyper would write it, and hyper goes on waiting for a head. If it is
//! not, hyper reads the request, too, and gets the answer that has begun.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::buf::Chain;
use bytes::{Buf, Bytes};
use http::header::{CONNECTION, EXPECT};
use http::{HeaderName, Request};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::clock;
use crate::gateway::Answer;
use crate::octets;
use crate::upstream::Arriving;

use super::guarded::Guarded;
use super::idle::Idle;
use super::strict::Strict;

/// So many octets of content are copied, which takes less than to write from two places does.
const FEW: usize = 4096;
/// After requests whose answers were not at hand, so many at most are left to hyper: to read one twice
/// comes to nothing as long as they are misses.
const LONGEST_PAUSE: u8 = 15;

thread_local! {
    /// Where heads are written before they are sent.
    static HEAD: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// An answer that has begun, to a request that hyper is about to read. Clones are of the same connection.
#[derive(Clone, Default)]
pub(super) struct Begun(Arc<Mutex<Option<Answer>>>);

impl Begun {
    /// The answer to the request that hyper has read, if it has begun.
    pub(super) fn take(&self) -> Option<Answer> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn put(&self, answer: Answer) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
    }
}

/// A connection of HTTP/1.1 on which `ask` answers requests, unless it leaves one to hyper.
pub(super) struct Shortcut<S, A> {
    inner: Guarded<S, Strict>,
    ask: A,
    idle: Idle,
    begun: Begun,
    /// What of an answer the client has not taken yet.
    rest: Option<Chain<Bytes, Bytes>>,
    /// So many requests are left to hyper, and so many were the last time.
    pause: u8,
    paused: u8,
}

impl<S, A> Shortcut<S, A> {
    pub(super) fn new(inner: Guarded<S, Strict>, ask: A, idle: Idle, begun: Begun) -> Self {
        Self { inner, ask, idle, begun, rest: None, pause: 0, paused: 0 }
    }

    pub(super) fn get_mut(&mut self) -> &mut Guarded<S, Strict> {
        &mut self.inner
    }

    /// Whether the piece that was read last may be answered here.
    fn is_open(&mut self) -> bool {
        if !self.inner.has_whole_head() || !self.idle.awaits_head() {
            return false;
        }
        let is_open = self.pause == 0;
        self.pause = self.pause.saturating_sub(1);
        is_open
    }
}

impl<S, A> Shortcut<S, A>
where
    S: AsyncRead + AsyncWrite + Unpin,
    A: FnMut(Request<Arriving>, Instant) -> Option<Answer> + Unpin,
{
    /// Answers the request with this head. False: it is hyper's.
    fn answer(&mut self, head: &[u8], cx: &mut Context<'_>) -> io::Result<bool> {
        let Some(request) = read(head) else { return Ok(false) };
        let now = clock::instant();
        let Some(mut answer) = (self.ask)(request, now) else { return Ok(false) };
        HEAD.with_borrow_mut(|head| {
            head.clear();
            let Some(content) = answer.write(head) else {
                self.begun.put(answer);
                self.paused = (2 * self.paused + 1).min(LONGEST_PAUSE);
                self.pause = self.paused;
                return Ok(false);
            };
            self.paused = 0;
            self.idle.answered(now);
            self.send(head, content, cx)?;
            Ok(true)
        })
    }

    /// Sends an answer, as far as the client takes it.
    fn send(
        &mut self,
        head: &mut Vec<u8>,
        mut content: Bytes,
        cx: &mut Context<'_>,
    ) -> io::Result<()> {
        let inner = Pin::new(&mut self.inner);
        let sent = if content.len() <= FEW {
            head.extend_from_slice(&content);
            content = Bytes::new();
            inner.poll_write(cx, head)?
        } else {
            inner.poll_write_vectored(cx, &[IoSlice::new(head), IoSlice::new(&content)])?
        };
        let sent = match sent {
            Poll::Ready(sent) => sent,
            Poll::Pending => 0,
        };
        if sent < head.len() + content.len() {
            let mut rest = Bytes::copy_from_slice(head).chain(content);
            rest.advance(sent);
            self.rest = Some(rest);
        }
        Ok(())
    }
}

impl<S: AsyncWrite + Unpin, A: Unpin> Shortcut<S, A> {
    /// Sends what is left of an answer.
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = &mut self.rest {
            let mut slices = [IoSlice::new(&[]); 2];
            let count = rest.chunks_vectored(&mut slices);
            let slices = slices.get(..count).unwrap_or_default();
            let sent = Pin::new(&mut self.inner).poll_write_vectored(cx, slices)?;
            // As long as the client takes its time, no head is waited for.
            self.idle.answered(clock::instant());
            match ready!(sent) {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                sent => rest.advance(sent),
            }
            if !rest.has_remaining() {
                self.rest = None;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S, A> AsyncRead for Shortcut<S, A>
where
    S: AsyncRead + AsyncWrite + Unpin,
    A: FnMut(Request<Arriving>, Instant) -> Option<Answer> + Unpin,
{
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_rest(cx))?;
            let before = buffer.filled().len();
            ready!(Pin::new(&mut self.inner).poll_read(cx, buffer))?;
            let came = buffer.filled().get(before..).unwrap_or_default();
            if !self.is_open() || !self.answer(came, cx)? {
                return Poll::Ready(Ok(()));
            }
            buffer.set_filled(before);
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin, A: Unpin> AsyncWrite for Shortcut<S, A> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_rest(cx))?;
        Pin::new(&mut self.inner).poll_write(cx, octets)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_rest(cx))?;
        Pin::new(&mut self.inner).poll_write_vectored(cx, octets)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A drain finds the connection between two requests, as far as hyper knows.
        ready!(self.poll_rest(cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// A request of HTTP/1.1 without content. None: hyper is to read it.
fn read(head: &[u8]) -> Option<Request<Arriving>> {
    if !head.starts_with(b"GET ") {
        return None;
    }
    // One memory for all values, and for the target.
    let octets = Bytes::copy_from_slice(head);
    let is_usual = |name: &HeaderName, _: &_| !matches!(*name, CONNECTION | EXPECT);
    let (target, fields) = octets::request(&octets, is_usual)?;
    let mut request = Request::new(Arriving::Nothing);
    *request.uri_mut() = target;
    *request.headers_mut() = fields;
    Some(request)
}
