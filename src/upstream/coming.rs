//! The content of a response, as it arrives.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::streams::Received;

use super::Cause;
use super::direct::Direct;
use super::wire::Wire;

/// What of a response is still to come.
pub(super) enum Coming {
    /// On a connection of HTTP/1.1, as hyper reads it.
    Framed(Incoming),
    /// On a stream of HTTP/2.
    Stream(Received),
    /// So many octets.
    Direct(Direct),
}

impl Coming {
    /// Whether nothing is waited for any more.
    pub(super) fn has_come(&self) -> bool {
        match self {
            Self::Framed(incoming) => incoming.is_end_stream(),
            Self::Stream(received) => received.is_end_stream(),
            Self::Direct(direct) => direct.has_come(),
        }
    }

    /// All of it, if it has come at once.
    pub(super) fn whole(&mut self) -> Option<Bytes> {
        match self {
            Self::Framed(_) | Self::Stream(_) => None,
            Self::Direct(direct) => direct.whole(),
        }
    }

    /// The connection that it came on, if nobody else has that, and all has come.
    pub(super) fn wire(&mut self) -> Option<Wire> {
        match self {
            Self::Framed(_) | Self::Stream(_) => None,
            Self::Direct(direct) => direct.wire(),
        }
    }
}

impl Body for Coming {
    type Data = Bytes;
    type Error = Cause;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cause>>> {
        match &mut *self {
            Self::Framed(incoming) => Pin::new(incoming)
                .poll_frame(cx)
                .map(|frame| frame.map(|frame| frame.map_err(Cause::of))),
            Self::Stream(received) => Pin::new(received)
                .poll_frame(cx)
                .map(|frame| frame.map(|frame| frame.map_err(Cause::of))),
            Self::Direct(direct) => direct
                .poll_piece(cx)
                .map(|piece| piece.map(|piece| piece.map(Frame::data).map_err(Cause::of))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Framed(incoming) => incoming.is_end_stream(),
            Self::Stream(received) => received.is_end_stream(),
            Self::Direct(direct) => direct.left() == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Framed(incoming) => incoming.size_hint(),
            Self::Stream(received) => received.size_hint(),
            Self::Direct(direct) => SizeHint::with_exact(direct.left()),
        }
    }
}
