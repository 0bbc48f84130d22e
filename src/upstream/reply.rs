//! The content of a response on its way from the upstream.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Sleep;

use crate::message;

/// The content of an upstream's response as it comes in. Silence longer than the upstream's
/// `idle_timeout` is an error, like a connection that breaks off.
pub struct Reply {
    incoming: Incoming,
    idle_timeout: Duration,
    /// Set while nothing comes.
    silence: Option<Pin<Box<Sleep>>>,
}

/// The response's content did not come whole.
#[derive(Debug, thiserror::Error)]
pub enum Incomplete {
    /// Nothing came for the upstream's `idle_timeout`.
    #[error("upstream fell silent within the content")]
    Silent,
    /// The connection broke, or its framing did.
    #[error("upstream broke off within the content")]
    Broken(#[source] hyper::Error),
}

impl Reply {
    pub(super) fn new(incoming: Incoming, idle_timeout: Duration) -> Self {
        Self { incoming, idle_timeout, silence: None }
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Reply").field(&self.incoming).finish()
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Incomplete;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Incomplete>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(cx) {
            self.silence = None;
            return Poll::Ready(frame.map(|result| {
                let mut frame = result.map_err(Incomplete::Broken)?;
                if let Some(trailers) = frame.trailers_mut() {
                    message::remove_early_fields(trailers);
                }
                Ok(frame)
            }));
        }
        let idle_timeout = self.idle_timeout;
        let silence =
            self.silence.get_or_insert_with(|| Box::pin(tokio::time::sleep(idle_timeout)));
        silence.as_mut().poll(cx).map(|()| Some(Err(Incomplete::Silent)))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
