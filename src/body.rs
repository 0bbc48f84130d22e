//! The content of a response to a client: whole, as the upstream sends it, or out of a fetch that
//! others read too; in a coding; and counted on its way.

mod encoded;
mod metered;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http_body::{Frame, SizeHint};

use crate::access_log::Entry;
use crate::collapse::{Broken, Seat};
use crate::stats::Outcomes;
use crate::upstream::{Incomplete, Reply};

pub use self::encoded::Encoded;
pub use self::metered::Metered;

/// What a client is sent. An error ends the connection (HTTP/1.1) or the stream (HTTP/2), so that
/// a part never looks complete.
pub enum Body {
    /// All of it at hand: a stored response, or a text of Larder's own.
    Whole(Bytes),
    /// Only for this client.
    Passing(Reply),
    /// Shared with the store and other clients.
    Shared {
        /// Where this client reads.
        seat: Seat,
        /// In octets, where the upstream said it.
        length: Option<u64>,
    },
    /// Only for this client, and in a coding.
    Encoded(Box<Encoded>),
    /// At hand, in several pieces.
    Pieces {
        /// They follow one another.
        pieces: std::vec::IntoIter<Bytes>,
        /// In octets.
        left: u64,
    },
    /// A part of what is shared with the store and other clients.
    Part {
        /// Where this client reads.
        seat: Seat,
        /// How many octets come before the part.
        before: u64,
        /// How many are still to be sent.
        left: u64,
    },
    /// Any of these, counted as it goes out.
    Metered(Box<Metered>),
}

/// The content did not come whole.
#[derive(Debug, thiserror::Error)]
pub enum Cut {
    /// While it was passed on.
    #[error(transparent)]
    Passing(#[from] Incomplete),
    /// While it was shared.
    #[error(transparent)]
    Shared(#[from] Broken),
    /// While it was brought into a coding.
    #[error("the content was not as long as announced, or there was no memory for its coding")]
    Coding(#[source] io::Error),
}

impl Body {
    /// No content.
    pub fn empty() -> Self {
        Self::Whole(Bytes::new())
    }

    /// These pieces, one after another.
    pub fn pieces(pieces: Vec<Bytes>) -> Self {
        let left = pieces.iter().map(|piece| piece.len() as u64).sum();
        Self::Pieces { pieces: pieces.into_iter(), left }
    }

    /// Has what goes out of it counted, unless it has been, and put into the access log at its end.
    pub fn count_with(&mut self, outcomes: Option<Arc<Outcomes>>, entry: Option<Box<Entry>>) {
        let body = std::mem::replace(self, Self::empty());
        *self = Self::Metered(Box::new(Metered::new(body, outcomes, entry)));
    }

    /// All of it, if it is at hand.
    pub fn whole(&self) -> Option<&Bytes> {
        match self {
            Self::Whole(octets) => Some(octets),
            Self::Metered(metered) => metered.body().whole(),
            _ => None,
        }
    }

    /// The same, on its way out: it is counted.
    pub fn take_whole(&mut self) -> Option<Bytes> {
        match self {
            Self::Whole(octets) => Some(std::mem::take(octets)),
            Self::Metered(metered) => metered.take_whole(),
            _ => None,
        }
    }

    /// For an answer to `HEAD`: leaves none of what is at hand. An upstream has sent nothing anyway.
    pub fn remove_text(&mut self) {
        match self {
            Self::Whole(octets) => octets.clear(),
            Self::Metered(metered) => metered.remove_text(),
            _ => {}
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        match &mut *self {
            Self::Whole(octets) if octets.is_empty() => Poll::Ready(None),
            Self::Whole(octets) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(octets))))),
            Self::Passing(reply) => {
                Pin::new(reply).poll_frame(cx).map(|frame| frame.map(|frame| Ok(frame?)))
            }
            Self::Shared { seat, .. } => {
                seat.poll_frame(cx).map(|frame| frame.map(|frame| Ok(frame?)))
            }
            Self::Encoded(encoded) => encoded.poll_frame(cx),
            Self::Pieces { pieces, left } => {
                let piece = pieces.find(|piece| !piece.is_empty());
                *left -= piece.as_ref().map_or(0, |piece| piece.len() as u64);
                Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
            }
            Self::Metered(metered) => metered.poll_frame(cx),
            Self::Part { left: 0, .. } => Poll::Ready(None),
            Self::Part { seat, before, left } => loop {
                let Poll::Ready(frame) = seat.poll_frame(cx) else { return Poll::Pending };
                // What ends before, or has its trailers, was shorter than it was said to be.
                let data = frame.unwrap_or(Err(Broken)).map(Frame::into_data);
                let mut chunk = match data {
                    Ok(Ok(chunk)) => chunk,
                    Ok(Err(_)) | Err(Broken) => return Poll::Ready(Some(Err(Broken.into()))),
                };
                let skipped = clamped(*before, chunk.len());
                chunk.advance(skipped);
                chunk.truncate(clamped(*left, chunk.len()));
                *before -= skipped as u64;
                *left -= chunk.len() as u64;
                if !chunk.is_empty() {
                    return Poll::Ready(Some(Ok(Frame::data(chunk))));
                }
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(octets) => octets.is_empty(),
            Self::Passing(reply) => reply.is_end_stream(),
            Self::Shared { .. } | Self::Encoded(_) => false,
            Self::Metered(metered) => metered.body().is_end_stream(),
            Self::Pieces { left, .. } | Self::Part { left, .. } => *left == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(octets) => SizeHint::with_exact(octets.len() as u64),
            Self::Passing(reply) => reply.size_hint(),
            Self::Shared { length: Some(length), .. } => SizeHint::with_exact(*length),
            Self::Shared { length: None, .. } | Self::Encoded(_) => SizeHint::default(),
            Self::Pieces { left, .. } | Self::Part { left, .. } => SizeHint::with_exact(*left),
            Self::Metered(metered) => metered.body().size_hint(),
        }
    }
}

/// So many, but no more than there are.
fn clamped(count: u64, available: usize) -> usize {
    usize::try_from(count).map_or(available, |count| count.min(available))
}
