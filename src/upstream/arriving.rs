//! The content of a client's request, as it arrives.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

/// What of a request is still to come.
#[derive(Debug)]
pub enum Arriving {
    /// All of it has come.
    Whole(Bytes),
    /// As hyper reads it.
    Content(Incoming),
}

impl From<Incoming> for Arriving {
    fn from(content: Incoming) -> Self {
        Self::Content(content)
    }
}

impl Body for Arriving {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut *self {
            Self::Whole(octets) if octets.is_empty() => Poll::Ready(None),
            Self::Whole(octets) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(octets))))),
            Self::Content(content) => Pin::new(content).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(octets) => octets.is_empty(),
            Self::Content(content) => content.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(octets) => SizeHint::with_exact(octets.len() as u64),
            Self::Content(content) => content.size_hint(),
        }
    }
}
