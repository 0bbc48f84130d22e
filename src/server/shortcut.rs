//! The short way of a request over HTTP/1.1: it is answered before hyper learns of it, or without hyper ever doing so.
//!
//! hyper has a state for a request's content, a future for its answer, a body that is polled, and more that
//! the usual request has no use for: two thirds of what a hit costs. So this stands between a connection's octets and
//! hyper, which waits for a head all the while. A request that came by itself and in one piece, with its content if it has
//! any, and says nothing of its connection, is put to the gateway as soon as it was read, and the piece is as if nothing
//! had come:
//!
//! - If the answer is at hand, it is written at once, as hyper would write it: a hit.
//! - If it is not, it is waited for here, whenever hyper looks whether a head has come. What the client sends in the
//!   meantime is held, and if it goes away, the answer is dropped. Interim responses go before the answer; they are
//!   written where hyper flushes, which it does each time.
//! - Then the head is written with what has come of the content, and the rest of that as it comes, and as the client
//!   takes it: see `outgoing`. What breaks off is an error, so that hyper closes the connection.
//! - An answer that says something of its connection or does not know how long it is, and one that is waited for when
//!   a drain begins, which has to say so, is hyper's: it gets the octets of the request to read, and the answer that has
//!   begun instead of one of the gateway's.
//!
//! As long as a request is being answered here, hyper's time for a head stands still, and its connection is not taken
//! for idle: see `idle`.

mod begun;
mod outgoing;
mod request;

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use http::Request;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::clock;
use crate::gateway::Answer;
use crate::interim::Interims;
use crate::upstream::Arriving;

use super::guarded::Guarded;
use super::idle::Idle;
use super::strict::Strict;

use self::outgoing::{Content, Outgoing};
use self::request::{Repeats, read};

pub(super) use self::begun::Begun;

/// After requests that were hyper's after all, so many at most are left to it at once: to read one twice comes to nothing
/// as long as they are.
const LONGEST_PAUSE: u8 = 15;

thread_local! {
    /// Where heads are written before they are sent, and what goes with them.
    static OCTETS: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A connection of HTTP/1.1 on which `ask` answers requests, unless it leaves one to hyper.
pub(super) struct Shortcut<S, A> {
    inner: Guarded<S, Strict>,
    ask: A,
    idle: Idle,
    interims: Interims,
    begun: Begun,
    stage: Stage,
    /// So many requests are left to hyper, and so many were the last time.
    pause: u8,
    paused: u8,
    repeats: Repeats,
}

/// How far the request is that is being answered.
#[derive(Default)]
enum Stage {
    /// There is none, or it is hyper's.
    #[default]
    Between,
    /// Its answer is waited for.
    Asked { head: Bytes, answer: Answer },
    /// Hyper is to read what is left of its head.
    Left(Bytes),
    /// Its answer goes out.
    Sending(Outgoing),
    /// The answer does not come whole, or nobody takes it.
    Cut,
}

impl<S, A> Shortcut<S, A> {
    pub(super) fn new(
        inner: Guarded<S, Strict>,
        ask: A,
        idle: Idle,
        interims: Interims,
        begun: Begun,
    ) -> Self {
        let (stage, repeats) = (Stage::Between, Repeats::default());
        Self { inner, ask, idle, interims, begun, stage, pause: 0, paused: 0, repeats }
    }

    pub(super) fn get_mut(&mut self) -> &mut Guarded<S, Strict> {
        &mut self.inner
    }

    /// Where hyper's answers come from.
    pub(super) fn begun(&self) -> Begun {
        self.begun.clone()
    }

    /// Whether the piece that was read last may be answered here.
    fn is_open(&mut self) -> bool {
        // Hyper begins to wait for a head before the client has taken all of the answer before.
        let is_next = self.idle.awaits_head() && !self.inner.is_stalled();
        if !self.inner.has_whole_request() || !is_next {
            return false;
        }
        let is_open = self.pause == 0;
        self.pause = self.pause.saturating_sub(1);
        is_open
    }

    fn set_stage(&mut self, stage: Stage) {
        let is_awaited = matches!(stage, Stage::Asked { .. });
        self.begun.set_awaited(is_awaited);
        self.idle.set_answering(is_awaited || matches!(stage, Stage::Sending(_)));
        self.stage = stage;
    }

    /// An answer has gone that was waited for.
    fn sent(&mut self) {
        self.paused = 0;
        self.idle.answered(clock::instant());
        self.set_stage(Stage::Between);
    }

    /// Has hyper read the request whose answer is waited for.
    fn leave(&mut self) {
        if let Stage::Asked { head, answer } = std::mem::take(&mut self.stage) {
            self.begun.put(answer);
            self.paused = (2 * self.paused + 1).min(LONGEST_PAUSE);
            self.pause = self.paused;
            self.set_stage(Stage::Left(head));
        }
    }
}

impl<S, A> Shortcut<S, A>
where
    S: AsyncRead + AsyncWrite + Unpin,
    A: FnMut(Request<Arriving>, Instant) -> Option<Answer> + Unpin,
{
    /// Begins to answer the request with this head. False: it is hyper's.
    fn answer(&mut self, head: &[u8], cx: &mut Context<'_>) -> io::Result<bool> {
        let Some((request, head)) = read(head, &mut self.repeats) else { return Ok(false) };
        let now = clock::instant();
        let Some(mut answer) = (self.ask)(request, now) else { return Ok(false) };
        OCTETS.with_borrow_mut(|octets| {
            octets.clear();
            let Some(content) = answer.write(octets) else {
                self.set_stage(Stage::Asked { head, answer });
                return Ok(true);
            };
            self.paused = 0;
            self.idle.answered(now);
            if let Some(outgoing) = Outgoing::whole(octets, content, &mut self.inner, cx)? {
                self.set_stage(Stage::Sending(outgoing));
            }
            Ok(true)
        })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin, A: Unpin> Shortcut<S, A> {
    /// Goes on with the request that is being answered, until its answer has gone or it is hyper's. An error ends the
    /// connection.
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.stage {
            Stage::Between | Stage::Left(_) => return Poll::Ready(Ok(())),
            Stage::Cut => return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())),
            Stage::Asked { .. } | Stage::Sending(_) => {}
        }
        let mut polled = self.poll_stages(cx);
        // A client that sends no more may wait for what it has been given.
        let has_all = matches!(&self.stage, Stage::Sending(outgoing) if outgoing.is_given());
        if polled.is_pending() && !has_all {
            let gone = self.inner.poll_gone(cx);
            polled = gone.map(|gone| gone.and(Err(io::ErrorKind::UnexpectedEof.into())));
        }
        if let Poll::Ready(Err(_)) = polled {
            self.set_stage(Stage::Cut);
        }
        polled
    }

    fn poll_stages(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Stage::Asked { .. } = self.stage {
            ready!(self.poll_asked(cx))?;
        }
        if let Stage::Sending(outgoing) = &mut self.stage {
            let inner = &mut self.inner;
            ready!(OCTETS.with_borrow_mut(|octets| outgoing.poll(octets, inner, cx)))?;
            self.sent();
        }
        Poll::Ready(Ok(()))
    }

    /// Waits for the answer, and begins to send it.
    fn poll_asked(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Stage::Asked { answer, .. } = &mut self.stage else { return Poll::Ready(Ok(())) };
        if self.begun.is_last() {
            self.leave();
            return Poll::Ready(Ok(()));
        }
        let Poll::Ready(mut response) = Pin::new(&mut *answer).poll(cx) else {
            self.interims.wake(cx);
            return Poll::Pending;
        };
        if self.interims.poll_written(cx).is_pending() {
            *answer = Answer::now(response);
            return Poll::Pending;
        }
        let begun = OCTETS.with_borrow_mut(|octets| {
            octets.clear();
            let content = Content::of(&mut response, octets);
            content.map(|content| Outgoing::begin(octets, content, &mut self.inner, cx)).transpose()
        })?;
        match begun {
            Some(Some(outgoing)) => self.set_stage(Stage::Sending(outgoing)),
            Some(None) => self.sent(),
            None => {
                *answer = Answer::now(response);
                self.leave();
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
            if !matches!(self.stage, Stage::Between) {
                ready!(self.poll_answer(cx))?;
                if let Stage::Left(head) = &mut self.stage {
                    buffer.put_slice(&head.split_to(head.len().min(buffer.remaining())));
                    if head.is_empty() {
                        self.stage = Stage::Between;
                    }
                    return Poll::Ready(Ok(()));
                }
            }
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

impl<S: AsyncRead + AsyncWrite + Unpin, A: Unpin> Shortcut<S, A> {
    /// What hyper writes comes behind the answer that goes out; interim responses come before it.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.stage {
            Stage::Sending(_) | Stage::Cut => self.poll_answer(cx),
            _ => Poll::Ready(Ok(())),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin, A: Unpin> AsyncWrite for Shortcut<S, A> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_turn(cx))?;
        Pin::new(&mut self.inner).poll_write(cx, octets)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_turn(cx))?;
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
        ready!(self.poll_answer(cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
