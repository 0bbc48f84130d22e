//! A content on its way into a coding.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as _, Frame};
use tokio::sync::OwnedSemaphorePermit;

use super::{Body, Cut};
use crate::encoder::Encoder;
use crate::semantics::compression::DIGESTS;

/// So much is handed out at once, where there is more to come.
const PIECE: usize = 8 * 1024;

/// No more of the content is encoded at once: other connections wait for that.
const MOST_AT_ONCE: usize = 64 * 1024;

/// After so much of the content, whatever has become of it is handed out.
const MOST_HELD: usize = 256 * 1024;

/// A content that is brought into a coding as it comes. While nothing more comes, all that came can be
/// decoded by whoever reads: the first octets never wait for the last.
pub struct Encoded {
    source: Body,
    /// What of its last piece is to be encoded yet.
    rest: Bytes,
    /// None after the end.
    encoder: Option<Encoder>,
    /// How many octets of the content were taken.
    taken: u64,
    /// How many it will be, where that is known.
    length: Option<u64>,
    /// How many were taken since something was handed out.
    held: usize,
    /// All that was taken was handed out.
    is_flushed: bool,
    trailers: Option<HeaderMap>,
    /// Bounds how many encoders there are.
    permit: Option<OwnedSemaphorePermit>,
}

impl Encoded {
    /// Of so many octets, where that is known.
    pub fn new(
        source: Body,
        encoder: Encoder,
        length: Option<u64>,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        Self {
            source,
            rest: Bytes::new(),
            encoder: Some(encoder),
            taken: 0,
            length,
            held: 0,
            is_flushed: true,
            trailers: None,
            permit: Some(permit),
        }
    }

    /// How many octets of the content were taken so far.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// Whether nobody knows how much is to come.
    pub fn is_endless(&self) -> bool {
        self.length.is_none()
    }

    /// The next piece, then the trailers if there are any; `None` after the last.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        loop {
            let Some(encoder) = &mut self.encoder else {
                let trailers = self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers)));
                return Poll::Ready(trailers);
            };
            let polled = if self.rest.is_empty() {
                Pin::new(&mut self.source).poll_frame(cx)
            } else {
                Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.rest)))))
            };
            let out = match polled {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => self.encode(data).map_err(Cut::Coding)?,
                    Err(frame) => {
                        self.trailers = frame.into_trailers().ok().map(without_digests);
                        Bytes::new()
                    }
                },
                Poll::Ready(Some(Err(cut))) => {
                    self.end();
                    return Poll::Ready(Some(Err(cut)));
                }
                Poll::Ready(None) => {
                    let last = self.end().map(Encoder::finish);
                    last.transpose().map_err(Cut::Coding)?.unwrap_or_default()
                }
                // Of what has come whole, the end is about to be told.
                Poll::Pending if self.is_flushed || self.length == Some(self.taken) => {
                    return Poll::Pending;
                }
                Poll::Pending => {
                    encoder.flush().map_err(Cut::Coding)?;
                    self.is_flushed = true;
                    encoder.take()
                }
            };
            if !out.is_empty() {
                self.held = 0;
                return Poll::Ready(Some(Ok(Frame::data(out))));
            }
            if !self.rest.is_empty() {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
    }

    /// Takes the beginning of this piece; what is to be handed out by then.
    fn encode(&mut self, mut data: Bytes) -> io::Result<Bytes> {
        let Some(encoder) = &mut self.encoder else { return Ok(Bytes::new()) };
        self.rest = data.split_off(data.len().min(MOST_AT_ONCE));
        encoder.write(&data)?;
        self.taken += data.len() as u64;
        self.held += data.len();
        self.is_flushed &= data.is_empty();
        let is_long = self.held >= MOST_HELD;
        if is_long && encoder.ready() == 0 {
            encoder.flush()?;
            self.is_flushed = true;
        }
        let is_enough = is_long || encoder.ready() >= PIECE;
        Ok(if is_enough { encoder.take() } else { Bytes::new() })
    }

    /// Others may have an encoder.
    fn end(&mut self) -> Option<Encoder> {
        self.permit = None;
        self.encoder.take()
    }
}

/// Those are of the content as it came.
fn without_digests(mut trailers: HeaderMap) -> HeaderMap {
    for name in &DIGESTS {
        trailers.remove(name);
    }
    trailers
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::Waker;

    use tokio::sync::Semaphore;

    use super::*;
    use crate::semantics::Coding;

    /// Others are served on the same thread.
    #[test]
    fn a_long_piece_is_encoded_in_short_ones() {
        let content = Bytes::from(vec![b'a'; 1 << 20]);
        let length = Some(content.len() as u64);
        let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let coder = Encoder::new(Coding::Gzip, length).unwrap();
        let mut encoded = Encoded::new(Body::Whole(content), coder, length, permit);
        let mut cx = Context::from_waker(Waker::noop());
        for turn in 1.. {
            let polled = encoded.poll_frame(&mut cx);
            assert!(encoded.taken() <= turn * MOST_AT_ONCE as u64, "{polled:?} at {turn}");
            if matches!(polled, Poll::Ready(None)) {
                break;
            }
        }
        assert_eq!(Some(encoded.taken()), length);
    }
}
