//! Contents on streams of HTTP/2 (RFC 9113 §8.1): as they come, and as they go.
//!
//! A content that its sender takes back, whatever reason that gives, is none that has come to its end.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Error, Reason, RecvStream, SendStream};
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body::{Body, Frame, SizeHint};
use tracing::debug;

/// What comes on a stream.
#[derive(Debug)]
pub struct Received {
    stream: RecvStream,
    /// So many octets are to come, where their number is known.
    left: Option<u64>,
    /// The data have come, and trailers may.
    has_data: bool,
    /// Whatever comes is none of it.
    is_nothing: bool,
}

/// A content that goes on a stream.
pub struct Sending<B> {
    content: B,
    stream: SendStream<Bytes>,
}

impl Received {
    /// What comes on this, so many octets if that is known.
    pub fn of(stream: RecvStream, length: Option<u64>) -> Self {
        let left = if stream.is_end_stream() { Some(0) } else { length };
        Self { stream, left, has_data: false, is_nothing: false }
    }

    /// No content, however the stream ends.
    pub fn nothing(stream: RecvStream) -> Self {
        Self { stream, left: Some(0), has_data: true, is_nothing: true }
    }
}

impl Body for Received {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Self { stream, left, has_data, is_nothing } = &mut *self;
        if *is_nothing {
            return Poll::Ready(None);
        }
        if !*has_data {
            if let Some(data) = ready!(stream.poll_data(cx)).transpose()? {
                // Whoever takes it sends it on before asking for more.
                stream.flow_control().release_capacity(data.len())?;
                *left = left.map(|left| left.saturating_sub(data.len() as u64));
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            *has_data = true;
        }
        let trailers = ready!(stream.poll_trailers(cx))?;
        Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.is_nothing || self.stream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl<B: Body<Data = Bytes> + Unpin> Sending<B>
where
    B::Error: std::fmt::Display,
{
    /// This, on the stream whose head has gone.
    pub fn new(content: B, stream: SendStream<Bytes>) -> Self {
        Self { content, stream }
    }

    /// Sends it as it comes, and as its receiver takes it; or says by the `reason` for it that the rest does not come.
    pub async fn run(mut self, reason: impl Fn(&B::Error) -> Reason) {
        if let Err(error) = std::future::poll_fn(|cx| self.poll(cx, &reason)).await {
            debug!(%error, "content is not taken to its end");
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        reason: &impl Fn(&B::Error) -> Reason,
    ) -> Poll<Result<(), Error>> {
        loop {
            // Room for one octet is room for a piece: no more of them is taken before it has gone.
            self.stream.reserve_capacity(1);
            while self.stream.capacity() == 0 {
                let Some(room) = ready!(self.stream.poll_capacity(cx)) else {
                    // The stream has been reset.
                    return self.stream.poll_reset(cx).map(|reason| Err(reason?.into()));
                };
                room?;
            }
            let Poll::Ready(frame) = Pin::new(&mut self.content).poll_frame(cx) else {
                return self.stream.poll_reset(cx).map(|reason| Err(reason?.into()));
            };
            if self.send(frame, reason)? {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Sends a piece, or the end. True: that was all.
    fn send(
        &mut self,
        frame: Option<Result<Frame<Bytes>, B::Error>>,
        reason: &impl Fn(&B::Error) -> Reason,
    ) -> Result<bool, Error> {
        let (data, is_last) = match frame.map(|frame| frame.map(Frame::into_data)) {
            None => (Bytes::new(), true),
            Some(Ok(Ok(data))) => (data, self.content.is_end_stream()),
            Some(Ok(Err(frame))) => {
                self.stream.reserve_capacity(0);
                self.stream.send_trailers(frame.into_trailers().unwrap_or_default())?;
                return Ok(true);
            }
            Some(Err(error)) => {
                debug!(%error, "content broke off");
                self.stream.send_reset(reason(&error));
                return Ok(true);
            }
        };
        self.stream.send_data(data, is_last)?;
        Ok(is_last)
    }
}

/// What these fields say of a content's length, in octets. `h2` has looked whether it is a number.
pub fn length(fields: &HeaderMap) -> Option<u64> {
    fields.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// What is said of a content that broke off for this: what was said of it over HTTP/2 where it came from. For many
/// receivers one that ends with `NO_ERROR` has come to its end.
pub fn reason(error: &(dyn std::error::Error + 'static)) -> Option<Reason> {
    let mut causes = std::iter::successors(Some(error), |&error| error.source());
    let reason = causes.find_map(|error| error.downcast_ref::<Error>()?.reason());
    reason.filter(|reason| *reason != Reason::NO_ERROR)
}
