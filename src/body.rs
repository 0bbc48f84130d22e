//! The content of a response to a client: whole, as the upstream sends it, or out of a fetch that
//! others read too.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use crate::collapse::{Broken, Seat};
use crate::upstream::{Incomplete, Reply};

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
}

impl Body {
    /// No content.
    pub fn empty() -> Self {
        Self::Whole(Bytes::new())
    }

    /// For an answer to `HEAD`: none of what is at hand. An upstream has sent nothing anyway.
    #[must_use]
    pub fn without_text(self) -> Self {
        match self {
            Self::Whole(_) => Self::empty(),
            passing => passing,
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
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(octets) => octets.is_empty(),
            Self::Passing(reply) => reply.is_end_stream(),
            Self::Shared { .. } => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(octets) => SizeHint::with_exact(octets.len() as u64),
            Self::Passing(reply) => reply.size_hint(),
            Self::Shared { length: Some(length), .. } => SizeHint::with_exact(*length),
            Self::Shared { length: None, .. } => SizeHint::default(),
        }
    }
}
