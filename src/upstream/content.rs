//! What a request carries: at hand, or passed on as it comes in, or kept back until the server asks for it.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::message;

use super::{Arriving, Unfinished};

/// What a request carries to the upstream: octets at hand, or none, and behind them the client's
/// content as it comes in. Clones share the latter, so that a server which was never reached leaves
/// it to the next.
#[derive(Clone, Default)]
pub struct Content {
    begun: Bytes,
    rest: Option<Arc<Upload>>,
}

struct Upload {
    incoming: Mutex<Arriving>,
    hold: Mutex<Hold>,
    progress: Arc<Progress>,
}

/// How far a content has come that is passed on.
pub(super) struct Progress {
    /// So many octets more are passed on.
    left: AtomicU64,
    /// So many pieces were.
    pieces: AtomicU64,
    moved: Notify,
    is_broken: AtomicBool,
    is_over: AtomicBool,
}

/// Whether a content that its client keeps back is asked for (RFC 9110 §10.1.1).
#[derive(Default)]
struct Hold {
    leave: Leave,
    waker: Option<Waker>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Leave {
    /// It goes on its way.
    #[default]
    Now,
    /// The server has not said whether it wants it.
    Later,
    /// The server has answered without it.
    Never,
}

/// A content ended before its end.
#[derive(Debug, thiserror::Error)]
pub enum NotWhole {
    /// The client broke off, or what it sent is no content.
    #[error("{0}")]
    Broken(#[from] Unfinished),
    /// There is more of it than may be passed on.
    #[error("the content is longer than it may be")]
    TooLong,
    /// The server has answered without it.
    #[error("the content was not asked for")]
    Unwanted,
}

impl Content {
    /// All of it, to be sent as often as is needed.
    pub fn whole(octets: Bytes) -> Self {
        Self { begun: octets, rest: None }
    }

    /// What was read of it already, and what is still to come; so many octets in all, at most.
    pub fn passing(begun: Bytes, incoming: Arriving, most: u64) -> Self {
        let left = most.saturating_sub(begun.len() as u64);
        // Content of known length 0 is none: it needs no framing towards the upstream.
        if incoming.is_end_stream() {
            return Self::whole(begun);
        }
        let incoming = match incoming {
            Arriving::Whole(rest) if begun.is_empty() && rest.len() as u64 <= left => {
                return Self::whole(rest);
            }
            incoming => incoming,
        };
        let progress = Progress {
            left: left.into(),
            pieces: 0.into(),
            moved: Notify::new(),
            is_broken: false.into(),
            is_over: false.into(),
        };
        let upload = Upload {
            incoming: incoming.into(),
            hold: Mutex::default(),
            progress: Arc::new(progress),
        };
        Self { begun, rest: Some(Arc::new(upload)) }
    }

    /// All of it can be sent again.
    pub(super) fn is_at_hand(&self) -> bool {
        self.rest.is_none()
    }

    /// All of it, if it can be sent again.
    pub(super) fn at_hand(&self) -> Option<&Bytes> {
        self.is_at_hand().then_some(&self.begun)
    }

    /// Nothing of it has been passed on yet that cannot be again.
    pub(super) fn is_whole(&self) -> bool {
        self.rest.as_ref().is_none_or(|upload| upload.progress.pieces() == 0)
    }

    /// The client broke off, or what it sent is no content.
    pub(super) fn is_broken(&self) -> bool {
        let is_broken = |upload: &Arc<Upload>| upload.progress.is_broken.load(Ordering::Relaxed);
        self.rest.as_ref().is_some_and(is_broken)
    }

    /// Keeps it back until the server asks for it, if nothing of it has come yet: to read it is to ask
    /// the client for it.
    pub(super) fn hold(&self) -> bool {
        let held = self.rest.iter().filter(|_| self.begun.is_empty());
        held.for_each(|upload| upload.leave(Leave::Now, Leave::Later));
        self.is_held()
    }

    /// The server has not asked for it yet.
    pub(super) fn is_held(&self) -> bool {
        self.rest.as_ref().is_some_and(|upload| upload.hold().leave == Leave::Later)
    }

    /// The server asks for it, or would not say.
    pub(super) fn go_on(&self) {
        self.rest.iter().for_each(|upload| upload.leave(Leave::Later, Leave::Now));
    }

    /// The server has answered without it.
    pub(super) fn give_up(&self) {
        self.rest.iter().for_each(|upload| upload.leave(Leave::Later, Leave::Never));
    }

    /// Waits for as long as a server that has not asked for it is waited for; for ever if that is not so.
    pub(super) async fn held_too_long(&self, patience: Duration) {
        if self.is_held() {
            sleep(patience).await;
        } else {
            std::future::pending::<()>().await;
        }
    }

    /// Waits until another piece has left; for ever if there is none.
    pub(super) async fn moved(&self) {
        match &self.rest {
            Some(upload) => upload.progress.moved.notified().await,
            None => std::future::pending().await,
        }
    }

    /// How far it has come; none if all of it is at hand.
    pub(super) fn progress(&self) -> Option<Arc<Progress>> {
        self.rest.as_ref().map(|upload| Arc::clone(&upload.progress))
    }
}

impl Progress {
    /// How many pieces were passed on.
    pub(super) fn pieces(&self) -> u64 {
        self.pieces.load(Ordering::Relaxed)
    }

    /// All of it was.
    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }
}

impl Upload {
    /// Takes a piece out of what may be passed on.
    fn take(&self, piece: &Frame<Bytes>) -> Result<(), NotWhole> {
        let length = piece.data_ref().map_or(0, |data| data.len() as u64);
        let taken = self
            .progress
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(length));
        taken.map(drop).map_err(|_| NotWhole::TooLong)
    }

    fn hold(&self) -> MutexGuard<'_, Hold> {
        self.hold.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From here to there, if it is here.
    fn leave(&self, from: Leave, to: Leave) {
        let mut hold = self.hold();
        if hold.leave == from {
            hold.leave = to;
            if let Some(waker) = hold.waker.take() {
                waker.wake();
            }
        }
    }

    fn poll_leave(&self, cx: &mut Context<'_>) -> Poll<Result<(), NotWhole>> {
        let mut hold = self.hold();
        match hold.leave {
            Leave::Now => Poll::Ready(Ok(())),
            Leave::Never => Poll::Ready(Err(NotWhole::Unwanted)),
            Leave::Later => {
                hold.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn incoming(&self) -> MutexGuard<'_, Arriving> {
        self.incoming.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Body for Content {
    type Data = Bytes;
    type Error = NotWhole;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, NotWhole>>> {
        if !self.begun.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.begun)))));
        }
        let Some(upload) = &self.rest else { return Poll::Ready(None) };
        if let Err(unwanted) = ready!(upload.poll_leave(cx)) {
            return Poll::Ready(Some(Err(unwanted)));
        }
        let mut incoming = upload.incoming();
        let frame = Pin::new(&mut *incoming).poll_frame(cx);
        let mut frame = frame.map(|frame| {
            frame.map(|frame| {
                let frame = frame?;
                upload.take(&frame).map(|()| frame)
            })
        });
        let progress = &upload.progress;
        match &mut frame {
            Poll::Ready(Some(Err(_))) => progress.is_broken.store(true, Ordering::Relaxed),
            Poll::Ready(Some(Ok(frame))) => {
                progress.pieces.fetch_add(1, Ordering::Relaxed);
                let is_last = frame.is_trailers() || incoming.is_end_stream();
                progress.is_over.store(is_last, Ordering::Relaxed);
                frame.trailers_mut().map(message::remove_early_request_fields);
            }
            Poll::Ready(None) => progress.is_over.store(true, Ordering::Relaxed),
            Poll::Pending => return Poll::Pending,
        }
        progress.moved.notify_one();
        frame
    }

    fn is_end_stream(&self) -> bool {
        let is_rest_read = |upload: &Arc<Upload>| upload.incoming().is_end_stream();
        self.begun.is_empty() && self.rest.as_ref().is_none_or(is_rest_read)
    }

    fn size_hint(&self) -> SizeHint {
        let begun = self.begun.len() as u64;
        let Some(upload) = &self.rest else { return SizeHint::with_exact(begun) };
        let rest = upload.incoming().size_hint();
        let mut whole = SizeHint::new();
        if let Some(upper) = rest.upper() {
            whole.set_upper(upper.saturating_add(begun));
        }
        whole.set_lower(rest.lower().saturating_add(begun));
        whole
    }
}
