//! What of an answer is still to go to the client, and how it goes: as hyper would send it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::buf::Chain;
use bytes::{Buf, Bytes};
use http::Response;
use http_body::Body as _;
use tokio::io::AsyncWrite;

use crate::body::Body;
use crate::octets;

/// Pieces of content with no more octets are copied, which takes less than to write from two places does.
const FEW: usize = 4096;
/// Pieces that are at hand are copied together up to so many octets.
const ENOUGH: usize = 4 * FEW;

/// An answer on its way. What the client has been given goes first; as long as it has not taken that, no more is
/// asked for.
pub(super) struct Outgoing {
    given: Option<Chain<Bytes, Bytes>>,
    content: Option<Box<Content>>,
}

/// The content of an answer whose length is known.
pub(super) struct Content {
    body: Body,
    /// So many octets are still to come.
    left: u64,
}

impl Content {
    /// Writes the head of a response, and takes its content. None: hyper is to send it, and it is as it
    /// was; what has been written by then is of no use.
    pub(super) fn of(response: &mut Response<Body>, head: &mut Vec<u8>) -> Option<Self> {
        let left = response.body().size_hint().exact()?;
        let length = usize::try_from(left).ok()?;
        octets::head(head, response.status(), response.headers(), length)?;
        let body = std::mem::replace(response.body_mut(), Body::empty());
        Some(Self { body, left })
    }

    /// Copies what is at hand behind the octets, as long as that is not much, and answers the piece that is.
    fn gather(&mut self, octets: &mut Vec<u8>, cx: &mut Context<'_>) -> io::Result<Bytes> {
        while self.left > 0 && octets.len() < ENOUGH {
            let Poll::Ready(piece) = self.poll_piece(cx)? else { break };
            if piece.len() > FEW {
                return Ok(piece);
            }
            octets.extend_from_slice(&piece);
        }
        Ok(Bytes::new())
    }

    /// The next piece, of which there is one.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let frame = frame.ok_or(io::ErrorKind::UnexpectedEof)?.map_err(io::Error::other)?;
        // Trailers behind less than was announced.
        let mut piece = frame.into_data().map_err(|_| io::ErrorKind::UnexpectedEof)?;
        piece.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.left -= piece.len() as u64;
        Poll::Ready(Ok(piece))
    }
}

impl Outgoing {
    /// Sends this head and this content. None: the client has taken all of it.
    #[inline]
    pub(super) fn whole(
        head: &mut Vec<u8>,
        mut content: Bytes,
        out: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> io::Result<Option<Self>> {
        if content.len() <= FEW {
            head.extend_from_slice(&content);
            content = Bytes::new();
        }
        Ok(give(head, content, out, cx)?.map(|given| Self { given: Some(given), content: None }))
    }

    /// Sends this head, and what is at hand of its content: it waits for no more of that. None: that was all, and the
    /// client has taken it.
    pub(super) fn begin(
        head: &mut Vec<u8>,
        mut content: Content,
        out: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> io::Result<Option<Self>> {
        let given = gathered(&mut content, head, out, cx)?;
        if content.left > 0 {
            return Ok(Some(Self { given, content: Some(Box::new(content)) }));
        }
        Ok(given.map(|given| Self { given: Some(given), content: None }))
    }

    /// Whether the client has been given all of it.
    pub(super) fn is_given(&self) -> bool {
        self.content.is_none()
    }

    /// Sends all of it. An error: the client has got a part, and is to see that by the end of the connection.
    pub(super) fn poll(
        &mut self,
        octets: &mut Vec<u8>,
        out: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            while let Some(given) = &mut self.given {
                let mut slices = [IoSlice::new(&[]); 2];
                let count = given.chunks_vectored(&mut slices);
                let slices = slices.get(..count).unwrap_or_default();
                match ready!(Pin::new(&mut *out).poll_write_vectored(cx, slices))? {
                    0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    sent => given.advance(sent),
                }
                if !given.has_remaining() {
                    self.given = None;
                }
            }
            let Some(content) = &mut self.content else { return Poll::Ready(Ok(())) };
            octets.clear();
            let before = content.left;
            self.given = gathered(content, octets, out, cx)?;
            if content.left == before {
                return Poll::Pending;
            }
            if content.left == 0 {
                self.content = None;
            }
        }
    }
}

/// Sends these octets and what is at hand behind them, as much as the client takes at once; what is left, if anything
/// is, is answered. An error: the content has broken off, behind what was sent.
fn gathered(
    content: &mut Content,
    octets: &mut Vec<u8>,
    out: &mut (impl AsyncWrite + Unpin),
    cx: &mut Context<'_>,
) -> io::Result<Option<Chain<Bytes, Bytes>>> {
    match content.gather(octets, cx) {
        Ok(piece) => give(octets, piece, out, cx),
        Err(broken) => give(octets, Bytes::new(), out, cx).and(Err(broken)),
    }
}

/// Sends as much as the client takes at once; what is left, if anything is, is answered.
#[inline]
fn give(
    octets: &[u8],
    piece: Bytes,
    out: &mut (impl AsyncWrite + Unpin),
    cx: &mut Context<'_>,
) -> io::Result<Option<Chain<Bytes, Bytes>>> {
    let out = Pin::new(out);
    let sent = if octets.is_empty() && piece.is_empty() {
        return Ok(None);
    } else if piece.is_empty() {
        out.poll_write(cx, octets)?
    } else {
        out.poll_write_vectored(cx, &[IoSlice::new(octets), IoSlice::new(&piece)])?
    };
    let sent = match sent {
        Poll::Ready(sent) => sent,
        Poll::Pending => 0,
    };
    if sent == octets.len() + piece.len() {
        return Ok(None);
    }
    let mut rest = Bytes::copy_from_slice(octets).chain(piece);
    rest.advance(sent);
    Ok(Some(rest))
}
