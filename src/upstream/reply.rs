//! The content of a response on its way from the upstream.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, timeout_at};

use crate::message;

use super::Cause;
use super::coming::Coming;
use super::content::Progress;
use super::lent::Lent;
use super::server::Call;
use super::wire::Wire;

/// The content of an upstream's response as it comes in. Silence longer than the upstream's
/// `idle_timeout` is an error, like a connection that breaks off.
pub struct Reply {
    /// None where all is ahead.
    incoming: Option<Coming>,
    idle_timeout: Duration,
    /// Set while nothing comes.
    silence: Option<Pin<Box<Sleep>>>,
    /// Set where it has to have come by then.
    end: Option<Pin<Box<Sleep>>>,
    ahead: Option<Box<Ahead>>,
    /// Until the content has come.
    held: Option<Box<Held>>,
}

/// What an exchange has as long as it lasts.
struct Held {
    lent: Lent,
    call: Call,
    /// So many pieces of the request's content had left when the silence began.
    pieces: u64,
    /// When the head came, until something is read: what is read first has come with it, as a rule.
    now: Option<Instant>,
}

/// What was read before anyone took it.
#[derive(Default)]
struct Ahead {
    frames: VecDeque<Result<Frame<Bytes>, Incomplete>>,
    octets: usize,
    /// Nothing follows them.
    is_over: bool,
}

/// The response's content did not come whole.
#[derive(Debug, thiserror::Error)]
pub enum Incomplete {
    /// Nothing came for the upstream's `idle_timeout`.
    #[error("upstream fell silent within the content")]
    Silent,
    /// It had not come whole when the upstream's `total_timeout` was over.
    #[error("upstream took too long in all")]
    Late,
    /// It took too long for a content that nobody reads.
    #[error("nobody reads the content")]
    Unread,
    /// The connection broke, or its framing did.
    #[error("upstream broke off within the content")]
    Broken(#[source] Cause),
}

impl Reply {
    /// `now`: its head has come.
    pub(super) fn new(
        mut incoming: Coming,
        lent: Lent,
        idle_timeout: Duration,
        call: Call,
        now: Instant,
    ) -> Self {
        let held = Held { lent, call, pieces: 0, now: Some(now) };
        let held = if incoming.has_come() {
            held.end(incoming.wire());
            None
        } else {
            Some(Box::new(held))
        };
        Self { incoming: Some(incoming), idle_timeout, silence: None, end: None, ahead: None, held }
    }

    /// Of a response that begins another protocol: none. Dropping it ends the request.
    pub(super) fn of_switch(lent: Lent, call: Call) -> Self {
        let held = Some(Box::new(Held { lent, call, pieces: 0, now: None }));
        Self { held, ..Self::whole(Bytes::new()) }
    }

    /// What has not come by then does not come.
    pub(super) fn end_by(&mut self, end: Instant) {
        if self.held.is_some() {
            self.end = Some(Box::pin(tokio::time::sleep_until(end)));
        }
    }

    /// All of it at hand.
    pub fn whole(content: Bytes) -> Self {
        let mut ahead = Ahead::default();
        if !content.is_empty() {
            ahead.push(Some(Ok(Frame::data(content))));
        }
        ahead.push(None);
        Self {
            incoming: None,
            idle_timeout: Duration::ZERO,
            silence: None,
            end: None,
            ahead: Some(Box::new(ahead)),
            held: None,
        }
    }

    /// All of it, if it came with its head and nothing was taken of it.
    pub fn take_whole(&mut self) -> Option<Bytes> {
        self.incoming.as_mut().filter(|_| self.ahead.is_none())?.whole()
    }

    /// The next piece, or the trailers; if there is an end to waiting for it, that is an error.
    pub async fn next(&mut self, end: Option<Instant>) -> Option<Result<Frame<Bytes>, Incomplete>> {
        let frame = poll_fn(|cx| Pin::new(&mut *self).poll_frame(cx));
        match end {
            None => frame.await,
            Some(end) => timeout_at(end, frame).await.unwrap_or(Some(Err(Incomplete::Unread))),
        }
    }

    /// The whole content, if it has at most so many octets and comes within the upstream's
    /// `idle_timeout`. Whatever was read is still there to be taken, an error included; so this may be
    /// dropped and asked again.
    pub async fn ahead(&mut self, most: usize) -> Option<Bytes> {
        // Not to be read, if its length was said.
        if self.size_hint().lower() > most as u64 {
            return None;
        }
        tokio::time::timeout(self.idle_timeout, self.read_ahead(most)).await.ok()?;
        let ahead = self.ahead.as_deref().filter(|ahead| ahead.is_over && ahead.octets <= most)?;
        let mut content = BytesMut::with_capacity(ahead.octets);
        for frame in &ahead.frames {
            content.extend_from_slice(frame.as_ref().ok()?.data_ref().map_or(&[], |data| data));
        }
        Some(content.freeze())
    }

    async fn read_ahead(&mut self, most: usize) {
        loop {
            if self.ahead.as_ref().is_some_and(|ahead| ahead.is_over || ahead.octets > most) {
                return;
            }
            let frame = poll_fn(|cx| self.poll_incoming(cx)).await;
            self.ahead.get_or_insert_default().push(frame);
        }
    }

    fn poll_incoming(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Incomplete>>> {
        let Some(incoming) = &mut self.incoming else { return Poll::Ready(None) };
        if self.end.as_mut().is_some_and(|end| end.as_mut().poll(cx).is_ready()) {
            self.held = None;
            return Poll::Ready(Some(Err(Incomplete::Late)));
        }
        if let Poll::Ready(frame) = Pin::new(&mut *incoming).poll_frame(cx) {
            self.silence = None;
            match &frame {
                Some(Err(_)) => {
                    if let Some(held) = self.held.take() {
                        held.broke("it broke off within the content");
                    }
                }
                // Nothing follows trailers, and some do not ask for it.
                Some(Ok(frame)) if !frame.is_trailers() && !incoming.is_end_stream() => {
                    if let Some(held) = &mut self.held {
                        held.now = None;
                    }
                }
                Some(Ok(_)) | None => {
                    if let Some(held) = self.held.take() {
                        held.end(incoming.wire());
                    }
                }
            }
            return Poll::Ready(frame.map(|result| {
                let mut frame = result.map_err(Incomplete::Broken)?;
                if let Some(trailers) = frame.trailers_mut() {
                    message::remove_early_fields(trailers);
                }
                Ok(frame)
            }));
        }
        self.poll_silence(cx).map(|()| Some(Err(Incomplete::Silent)))
    }

    /// Ready once nothing has come for too long. Content that still goes to the server counts as well.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let pieces = self.held.as_deref().map_or(0, Held::pieces_left);
            let idle_timeout = self.idle_timeout;
            let silence = self.silence.get_or_insert_with(|| {
                if let Some(held) = &mut self.held {
                    (held.pieces, held.now) = (pieces, None);
                }
                Box::pin(tokio::time::sleep(idle_timeout))
            });
            ready!(silence.as_mut().poll(cx));
            self.silence = None;
            if self.held.as_ref().is_none_or(|held| held.pieces == pieces) {
                if let Some(held) = self.held.take() {
                    held.lent.was_silent(idle_timeout);
                    held.broke("it fell silent within the content");
                }
                return Poll::Ready(());
            }
        }
    }
}

impl Held {
    fn pieces_left(&self) -> u64 {
        self.lent.progress().map_or(0, Progress::pieces)
    }

    /// The response has come whole, on this connection if nobody else has it.
    fn end(self, wire: Option<Wire>) {
        self.lent.end(self.now, wire);
        self.call.end();
    }

    /// It never will. Where the client's content has not come to its end, that may be why.
    fn broke(self, why: &str) {
        if self.lent.progress().is_none_or(Progress::is_over) {
            self.call.broke(why);
        }
    }
}

impl Ahead {
    fn push(&mut self, frame: Option<Result<Frame<Bytes>, Incomplete>>) {
        self.is_over = !matches!(frame, Some(Ok(_)));
        self.octets += frame.as_ref().map_or(0, length);
        self.frames.extend(frame);
    }

    fn pop(&mut self) -> Option<Result<Frame<Bytes>, Incomplete>> {
        let frame = self.frames.pop_front()?;
        self.octets -= length(&frame);
        Some(frame)
    }
}

/// Of the content in a frame, in octets.
fn length(frame: &Result<Frame<Bytes>, Incomplete>) -> usize {
    frame.as_ref().ok().and_then(Frame::data_ref).map_or(0, Bytes::len)
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Reply").field(&self.size_hint()).finish()
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Incomplete;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Incomplete>>> {
        if let Some(ahead) = &mut self.ahead {
            if let Some(frame) = ahead.pop() {
                return Poll::Ready(Some(frame));
            }
            if ahead.is_over {
                return Poll::Ready(None);
            }
        }
        self.poll_incoming(cx)
    }

    fn is_end_stream(&self) -> bool {
        match &self.ahead {
            Some(ahead) if !ahead.frames.is_empty() => false,
            Some(ahead) if ahead.is_over => true,
            _ => self.incoming.as_ref().is_none_or(Coming::is_end_stream),
        }
    }

    fn size_hint(&self) -> SizeHint {
        let none = || SizeHint::with_exact(0);
        let rest = self.incoming.as_ref().map_or_else(none, Coming::size_hint);
        let Some(ahead) = &self.ahead else { return rest };
        let octets = ahead.octets as u64;
        let mut whole = SizeHint::new();
        if let Some(upper) = rest.upper() {
            whole.set_upper(upper.saturating_add(octets));
        }
        whole.set_lower(rest.lower().saturating_add(octets));
        whole
    }
}
