//! Interim responses (RFC 9110 §15.2) on their way to a client.
//!
//! hyper reads them from an upstream, and has no way to send any. So to a client of HTTP/1.1 they are
//! written between what hyper writes: when it flushes, all of its own has gone, and it writes nothing more
//! before the answer is there, which is held back until they have gone, too. To one of HTTP/2 whoever
//! answers on a stream sends them there.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, BytesMut};
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, StatusCode, Version};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::message;
use crate::octets;

/// So many octets may wait to be sent. What does not fit is left out: no client needs it.
const ROOM: usize = 16 * 1024;

/// A client's connection, or its stream of HTTP/2, as far as interim responses go. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Interims(Arc<Shared>);

/// Sends interim responses for one request. Once the answer is there, what it sends is left out.
#[derive(Clone, Debug)]
pub struct Sender {
    interims: Interims,
    request: u64,
}

#[derive(Debug, Default)]
struct Shared {
    /// Something may be sent before the answer: a request has gone forward.
    expects: AtomicBool,
    /// Some wait to be sent.
    waits: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The number of the request that is being answered; counts up with each answer.
    request: u64,
    waiting: VecDeque<(StatusCode, HeaderMap)>,
    /// About so many octets wait.
    length: usize,
    /// What is being written to a connection.
    octets: BytesMut,
    /// Of the task that asks for the answer, and then sends what waits.
    waker: Option<Waker>,
}

impl Interims {
    /// What sends interim responses for the request that is being answered now.
    pub fn sender(&self) -> Sender {
        self.0.expects.store(true, Ordering::Release);
        Sender { interims: self.clone(), request: self.state().request }
    }

    /// The connection's stream, with a place for them.
    pub fn over<S>(&self, stream: S) -> Stream<S> {
        Stream { inner: stream, interims: self.clone(), is_within: false }
    }

    /// Waits for an answer, and then until every interim response before it has been written.
    pub async fn before<T>(&self, answer: impl Future<Output = T>) -> T {
        let mut answer = std::pin::pin!(answer);
        let answer = std::future::poll_fn(|cx| {
            let polled = answer.as_mut().poll(cx);
            if polled.is_pending() {
                self.wake(cx);
            }
            polled
        })
        .await;
        std::future::poll_fn(|cx| self.poll_written(cx)).await;
        answer
    }

    /// Has this task, which waits for an answer and drives the connection, woken when something is sent before that:
    /// it goes with the flush that follows each poll, and so does what was sent by now.
    pub fn wake(&self, cx: &Context<'_>) {
        let mut state = self.state();
        if !state.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            state.waker = Some(cx.waker().clone());
        }
    }

    /// Once the answer is there: ready when every interim response before it has been written.
    pub fn poll_written(&self, cx: &Context<'_>) -> Poll<()> {
        // The usual case, a hit, has sent nothing forward.
        if self.0.expects.swap(false, Ordering::AcqRel) {
            self.state().request += 1;
        }
        if !self.0.waits.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        self.wake(cx);
        Poll::Pending
    }

    /// Asks for the content that a client keeps back (RFC 9110 §10.1.1), on a stream of HTTP/2.
    pub fn go_on(&self) {
        self.put(self.state(), StatusCode::CONTINUE, HeaderMap::new());
    }

    /// The next that waits to be sent on a stream of HTTP/2.
    pub fn take(&self) -> Option<(StatusCode, HeaderMap)> {
        if !self.0.waits.load(Ordering::Acquire) {
            return None;
        }
        let mut state = self.state();
        let head = state.next();
        self.0.waits.store(!state.waiting.is_empty(), Ordering::Release);
        head
    }

    /// Has it sent, unless there is no room for it.
    fn put(&self, mut state: MutexGuard<'_, State>, status: StatusCode, fields: HeaderMap) {
        let length = state.length + length(&fields);
        if length <= ROOM {
            state.length = length;
            state.waiting.push_back((status, fields));
            self.0.waits.store(true, Ordering::Release);
            if let Some(waker) = state.waker.take() {
                waker.wake();
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sender {
    /// Sends an interim response on that was `received` by this protocol, without what was for its connection only.
    ///
    /// A 100 answers an `Expect` that ends at each hop (RFC 9110 §10.1.1), and a 101 is none (§7.8).
    pub fn send(&self, received: Version, status: StatusCode, fields: &HeaderMap) {
        if !(102..=199).contains(&status.as_u16()) {
            return;
        }
        let mut fields = fields.clone();
        message::remove_hop_by_hop(&mut fields);
        fields.remove(CONTENT_LENGTH);
        message::add_via(&mut fields, received);
        let state = self.interims.state();
        if state.request == self.request {
            self.interims.put(state, status, fields);
        }
    }
}

impl State {
    /// The next that waits.
    fn next(&mut self) -> Option<(StatusCode, HeaderMap)> {
        let (status, fields) = self.waiting.pop_front()?;
        self.length -= length(&fields);
        Some((status, fields))
    }

    /// Begins to write the next that waits. False: there is none.
    fn begin(&mut self) -> bool {
        let Some((status, fields)) = self.next() else { return false };
        let mut head = Vec::new();
        octets::start(&mut head, status);
        fields.iter().for_each(|(name, value)| octets::field(&mut head, name.as_str(), value));
        octets::end(&mut head);
        self.octets.extend_from_slice(&head);
        true
    }
}

/// About how many octets the head of an interim response has.
fn length(fields: &HeaderMap) -> usize {
    let lines = fields.iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
    32 + lines.sum::<usize>()
}

/// A stream to which interim responses are written whenever it is flushed.
pub struct Stream<S> {
    inner: S,
    interims: Interims,
    /// A part of one has been written, so the rest must follow at once.
    is_within: bool,
}

impl<S> Stream<S> {
    /// What they are written to.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }
}

impl<S: AsyncWrite + Unpin> Stream<S> {
    fn poll_interims(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.interims.0.waits.load(Ordering::Acquire) {
            return Poll::Ready(Ok(()));
        }
        let mut state = self.interims.state();
        while !state.octets.is_empty() || state.begin() {
            let written = ready!(Pin::new(&mut self.inner).poll_write(cx, &state.octets))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            state.octets.advance(written);
            self.is_within = !state.octets.is_empty();
        }
        self.interims.0.waits.store(false, Ordering::Release);
        // An answer may wait for just that.
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Stream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_within {
            ready!(self.poll_interims(cx))?;
        }
        Pin::new(&mut self.inner).poll_write(cx, octets)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.is_within {
            ready!(self.poll_interims(cx))?;
        }
        Pin::new(&mut self.inner).poll_write_vectored(cx, octets)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_interims(cx))?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const HINTS: &[u8] = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\nvia: 1.1 larder\r\n\r\n";

    fn hints() -> HeaderMap {
        let link = ("link".parse().unwrap(), HeaderValue::from_static("</a>"));
        let hop = ("connection".parse().unwrap(), HeaderValue::from_static("close"));
        HeaderMap::from_iter([link, hop])
    }

    /// What a peer reads that takes so few octets at a time.
    async fn read(stream: &mut tokio::io::DuplexStream, count: usize) -> Vec<u8> {
        let mut octets = vec![0; count];
        stream.read_exact(&mut octets).await.unwrap();
        octets
    }

    #[tokio::test]
    async fn they_are_written_whole_and_before_the_answer() {
        let (near, mut far) = tokio::io::duplex(7);
        let interims = Interims::default();
        let mut stream = interims.over(near);
        let sender = interims.sender();
        sender.send(Version::HTTP_11, StatusCode::EARLY_HINTS, &hints());
        let writing = async {
            let (answer, flushed) =
                tokio::join!(interims.before(async { "answer" }), stream.flush());
            flushed.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
        };
        let ((), octets) = tokio::join!(writing, read(&mut far, HINTS.len() + 6));
        assert_eq!(octets, [HINTS, b"answer"].concat());

        // Too late: the next request has nothing to do with it.
        sender.send(Version::HTTP_11, StatusCode::EARLY_HINTS, &hints());
        stream.flush().await.unwrap();
        let writing = stream.write_all(b"next");
        let (_, octets) = tokio::join!(writing, read(&mut far, 4));
        assert_eq!(octets, b"next");
    }

    #[test]
    fn what_ends_at_each_hop_is_not_sent_and_what_waits_is_bounded() {
        let interims = Interims::default();
        let sender = interims.sender();
        for code in [100, 101, 200] {
            sender.send(Version::HTTP_11, StatusCode::from_u16(code).unwrap(), &HeaderMap::new());
        }
        assert!(interims.take().is_none());
        for _ in 0..1000 {
            sender.send(Version::HTTP_11, StatusCode::PROCESSING, &hints());
        }
        let waiting = interims.state().length;
        assert!((ROOM / 2..=ROOM).contains(&waiting), "{waiting}");
        while let Some((status, _)) = interims.take() {
            assert_eq!(status, StatusCode::PROCESSING);
        }
        assert_eq!(interims.state().length, 0);
    }
}
