//! A content on its way into a coding.

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

/// After so much of the content, whatever has become of it is handed out.
const MOST_HELD: usize = 256 * 1024;

/// A content that is brought into a coding as it comes. While nothing more comes, all that came can be
/// decoded by whoever reads: the first octets never wait for the last.
pub struct Encoded {
    source: Body,
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

    /// The next piece, then the trailers if there are any; `None` after the last.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        loop {
            let Some(encoder) = &mut self.encoder else {
                let trailers = self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers)));
                return Poll::Ready(trailers);
            };
            let out = match Pin::new(&mut self.source).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => {
                        encoder.write(&data).map_err(Cut::Coding)?;
                        self.taken += data.len() as u64;
                        self.held += data.len();
                        self.is_flushed &= data.is_empty();
                        let is_long = self.held >= MOST_HELD;
                        if is_long && encoder.ready() == 0 {
                            encoder.flush().map_err(Cut::Coding)?;
                            self.is_flushed = true;
                        }
                        let is_enough = is_long || encoder.ready() >= PIECE;
                        if is_enough { encoder.take() } else { Bytes::new() }
                    }
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
        }
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
