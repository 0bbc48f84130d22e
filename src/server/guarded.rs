//! A connection that is read along: whoever speaks HTTP on it gets what comes on it until its guard finds an end.
//!
//! What a guard looks for, `strict` and `flood` say, each for its protocol. What is written goes through,
//! as long as the client takes it.
//! Once another protocol is spoken, what is read does, too.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::stall::Patient;

use super::idle::Idle;
use super::parting::{PATIENCE, Rest};
use super::strict::Strict;
use super::switch::{Next, Switch};

/// So much at most is held of what a client sends ahead.
const MOST_HELD: usize = 4096;

/// Reads along on one connection.
pub(super) trait Guard {
    /// What is read at the end in place of what came: octets that are refused, so that what came before is
    /// answered, and the connection closed with a reason.
    const REFUSED: &'static [u8];

    /// What the log says of an end.
    const SAYS: &'static str;

    /// Whether a client that does not read is waited for after the end, and one that goes on sending is heard out.
    const WAITS: bool;

    /// Whether a client says, by what it sends, that it takes what was sent before: so it has its time anew.
    const ACKNOWLEDGES: bool;

    /// Reads the next piece; where it stops, if it does.
    fn read(&mut self, came: &[u8]) -> Option<Stop>;

    /// So many octets more were sent.
    fn sent(&mut self, _count: usize) {}

    /// The client has taken some of what waited for it, or something begins to wait for it.
    fn turned(&mut self) {}

    /// Whether what has come so far is whole requests.
    fn is_between(&self) -> bool {
        false
    }

    /// Whether more may come, where there was no end, once nothing is sent to the client any more.
    fn has_more(&self) -> bool {
        !self.is_between()
    }
}

/// Where a guard does not read on.
pub(super) enum Stop {
    /// Nothing is read any more.
    End {
        /// How many octets of the piece come before. Beyond it: the rest does not come any more, and what
        /// was begun stays unfinished.
        at: usize,
        /// Why, for the log.
        why: &'static str,
    },
    /// What follows may be of another protocol.
    Switch {
        /// How many octets of the piece come before.
        at: usize,
    },
}

/// What is read of a stream ends where its guard says so.
pub(super) struct Guarded<S, G> {
    inner: Patient<S>,
    guard: G,
    switch: Switch,
    idle: Idle,
    /// What has come and is not yet to be read. No more is taken before it is.
    held: BytesMut,
    /// What `held` is, and what comes behind it, is not known.
    is_waiting: bool,
    /// Another protocol is spoken.
    is_other: bool,
    /// What is left of [`Guard::REFUSED`], once there was an end. Behind it nothing comes.
    end: Option<&'static [u8]>,
    /// What the client sends once nothing is sent to it any more.
    rest: Option<Box<Rest>>,
    /// That is heard out for no longer than this once the listeners are left.
    hearing: Option<(Duration, CancellationToken)>,
}

impl<S, G: Guard> Guarded<S, G> {
    pub(super) fn new(inner: Patient<S>, guard: G, switch: Switch, idle: Idle) -> Self {
        Self {
            inner,
            guard,
            switch,
            idle,
            held: BytesMut::new(),
            is_waiting: false,
            is_other: false,
            end: None,
            rest: None,
            hearing: None,
        }
    }

    /// A client that goes on sending is not heard out for longer than a part of this drain, once it has begun: it has
    /// to end with it.
    pub(super) fn hearing_out(mut self, drain: Duration, leave: CancellationToken) -> Self {
        // Behind another process half of it is over before connections are to end, and then up to a quarter before
        // one of a silent client does.
        self.hearing = Some((drain / 8, leave));
        self
    }

    fn written(
        &mut self,
        written: Poll<io::Result<usize>>,
        was_stalled: bool,
    ) -> Poll<io::Result<usize>> {
        self.look(was_stalled);
        match written {
            Poll::Ready(Ok(count)) => self.guard.sent(count),
            Poll::Pending if self.end.is_some() && !G::WAITS => {
                return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
            }
            _ => {}
        }
        written
    }

    /// Looks whether the client is waited for otherwise than before.
    fn look(&mut self, was_stalled: bool) {
        if self.inner.is_stalled() != was_stalled {
            self.guard.turned();
        }
    }

    /// Whether the client may be sending what nobody is going to read: the rest of a request that has its
    /// answer already, what was refused, or that it takes what was sent. What goes on in another protocol ends each
    /// way by itself.
    fn has_more(&self) -> bool {
        let is_http = !self.is_waiting && !self.is_other;
        is_http && if self.end.is_some() { G::WAITS } else { self.guard.has_more() }
    }
}

impl<S> Guarded<S, Strict> {
    /// See [`Strict::has_whole_request`]. False where another protocol is spoken.
    pub(super) fn has_whole_request(&self) -> bool {
        !self.is_other && self.end.is_none() && self.guard.has_whole_request()
    }

    /// Whether something that was to be sent waits for the client.
    pub(super) fn is_stalled(&self) -> bool {
        self.inner.is_stalled()
    }
}

impl<S: AsyncRead + Unpin, G: Guard + Unpin> Guarded<S, G> {
    /// Waits for the next octets where nobody else does, and holds the first of them. False at the end of
    /// the stream.
    pub(super) async fn wait(&mut self) -> io::Result<bool> {
        let mut first = [0; 16];
        let count = self.inner.read(&mut first).await?;
        self.held.extend_from_slice(first.get(..count).unwrap_or_default());
        Ok(count > 0)
    }

    /// Looks whether the client has gone, while nobody reads what it sends: the first of that is held.
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.held.is_empty() {
            return Poll::Pending;
        }
        let mut first = [const { MaybeUninit::uninit() }; MOST_HELD];
        let mut first = ReadBuf::uninit(&mut first);
        ready!(Pin::new(&mut self.inner).poll_read(cx, &mut first))?;
        self.held.extend_from_slice(first.filled());
        if self.held.is_empty() { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    /// Reads what was held, and then what comes.
    fn poll_inner(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.held.is_empty() {
            return Pin::new(&mut self.inner).poll_read(cx, buffer);
        }
        let count = self.held.len().min(buffer.remaining());
        buffer.put_slice(self.held.get(..count).unwrap_or_default());
        self.held.advance(count);
        if self.held.is_empty() {
            self.held = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin, G: Guard + Unpin> AsyncRead for Guarded<S, G> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_waiting {
            let Poll::Ready(next) = self.switch.poll(cx) else { return self.poll_gone(cx) };
            self.is_waiting = false;
            self.is_other = next == Next::Other;
        }
        if self.is_other {
            return self.poll_inner(cx, buffer);
        }
        if self.end.is_none() {
            let before = buffer.filled().len();
            let polled = self.poll_inner(cx, buffer);
            let is_quiet =
                polled.is_pending() && self.guard.is_between() && !self.inner.is_stalled();
            self.idle.set_quiet(is_quiet);
            ready!(polled)?;
            let came = buffer.filled().get(before..).unwrap_or_default();
            let count = came.len();
            match self.guard.read(came) {
                None => return Poll::Ready(Ok(())),
                Some(Stop::Switch { at }) => {
                    let mut held = BytesMut::from(came.get(at..).unwrap_or_default());
                    held.extend_from_slice(&self.held);
                    self.held = held;
                    buffer.set_filled(before + at);
                    self.is_waiting = true;
                    self.switch.open();
                    return Poll::Ready(Ok(()));
                }
                Some(Stop::End { at, why }) => {
                    debug!(why, "{}", G::SAYS);
                    if at > count {
                        self.end = Some(&[]);
                        return Poll::Ready(Ok(()));
                    }
                    buffer.set_filled(before + at);
                    self.end = Some(G::REFUSED);
                }
            }
        }
        if let Some(end) = &mut self.end {
            let (now, later) = end.split_at(end.len().min(buffer.remaining()));
            buffer.put_slice(now);
            *end = later;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin, G: Guard + Unpin> AsyncWrite for Guarded<S, G> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        let was_stalled = self.inner.is_stalled();
        let written = Pin::new(&mut self.inner).poll_write(cx, octets);
        self.written(written, was_stalled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let was_stalled = self.inner.is_stalled();
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, octets);
        self.written(written, was_stalled)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let was_stalled = self.inner.is_stalled();
        let flushed = Pin::new(&mut self.inner).poll_flush(cx);
        self.look(was_stalled);
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.rest.is_none() {
            let was_stalled = self.inner.is_stalled();
            let closed = Pin::new(&mut self.inner).poll_shutdown(cx);
            self.look(was_stalled);
            ready!(closed)?;
            if !self.has_more() {
                return Poll::Ready(Ok(()));
            }
        }
        let begin = if G::ACKNOWLEDGES { Rest::until_silent_for } else { Rest::within };
        let Self { inner, rest, hearing, .. } = &mut *self;
        let rest = rest.get_or_insert_with(|| {
            let rest = begin(PATIENCE);
            Box::new(match hearing.take() {
                Some((limit, leave)) => rest.hurried_by(limit, leave),
                None => rest,
            })
        });
        rest.poll(inner, cx).map(Ok)
    }
}
