//! The content of a client's request, as it arrives.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::RecvStream;
use http::HeaderMap;
use http::header::EXPECT;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::interim::Interims;
use crate::streams;
use crate::streams::Received;

/// What of a request is still to come.
#[derive(Debug)]
pub enum Arriving {
    /// All of it has come.
    Whole(Bytes),
    /// On a connection of HTTP/1.1, as hyper reads it.
    Content(Incoming),
    /// On a stream of HTTP/2.
    Stream {
        /// What comes there.
        content: Received,
        /// What asks for it, where the client keeps it back.
        held: Option<Interims>,
    },
}

/// A client has broken off, or what it sent is no content.
#[derive(Debug, thiserror::Error)]
pub enum Unfinished {
    /// On a connection of HTTP/1.1.
    #[error("{0}")]
    Http1(#[from] hyper::Error),
    /// On a stream of HTTP/2.
    #[error("{0}")]
    Http2(#[from] h2::Error),
}

impl From<Incoming> for Arriving {
    fn from(content: Incoming) -> Self {
        Self::Content(content)
    }
}

impl Arriving {
    /// What comes on a stream of HTTP/2 behind these fields; `interims` are those of its answer.
    pub fn on(stream: RecvStream, fields: &HeaderMap, interims: &Interims) -> Self {
        if stream.is_end_stream() {
            return Self::Whole(Bytes::new());
        }
        let waits = |value: &[u8]| value.eq_ignore_ascii_case(b"100-continue");
        let is_held = fields.get_all(EXPECT).iter().any(|value| waits(value.as_bytes()));
        let held = is_held.then(|| interims.clone());
        Self::Stream { content: Received::of(stream, streams::length(fields)), held }
    }
}

impl Body for Arriving {
    type Data = Bytes;
    type Error = Unfinished;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Unfinished>>> {
        match &mut *self {
            Self::Whole(octets) if octets.is_empty() => Poll::Ready(None),
            Self::Whole(octets) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(octets))))),
            Self::Content(content) => {
                Pin::new(content).poll_frame(cx).map(|frame| frame.map(|frame| Ok(frame?)))
            }
            Self::Stream { content, held } => {
                let frame = Pin::new(content).poll_frame(cx);
                if let Some(interims) = held.take()
                    && frame.is_pending()
                {
                    interims.go_on();
                }
                frame.map(|frame| frame.map(|frame| Ok(frame?)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(octets) => octets.is_empty(),
            Self::Content(content) => content.is_end_stream(),
            Self::Stream { content, .. } => content.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(octets) => SizeHint::with_exact(octets.len() as u64),
            Self::Content(content) => content.size_hint(),
            Self::Stream { content, .. } => content.size_hint(),
        }
    }
}
