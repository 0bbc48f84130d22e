//! The content of a client's request, as it arrives.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

/// What of a request is still to come.
#[derive(Debug)]
pub enum Arriving {
    /// It ends with its head.
    Nothing,
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
            Self::Nothing => Poll::Ready(None),
            Self::Content(content) => Pin::new(content).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Nothing => true,
            Self::Content(content) => content.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Nothing => SizeHint::with_exact(0),
            Self::Content(content) => content.size_hint(),
        }
    }
}
