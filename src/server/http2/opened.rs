//! A stream of HTTP/2 that goes on in another protocol (RFC 8441 §5): octets both ways.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::tunnel::Opens;

/// A stream that does so, if the answer says it.
pub(super) struct Opening {
    /// Who has it then.
    pub(super) opens: Opens,
    /// What comes on it.
    pub(super) content: RecvStream,
}

impl Opening {
    /// The answer has gone.
    pub(super) fn open(self, stream: SendStream<Bytes>) {
        let opened = Octets { came: Bytes::new(), content: self.content, stream };
        // Whoever waits no more has nothing to say.
        drop(self.opens.send(Box::new(opened)));
    }
}

struct Octets {
    /// What has come and is not yet read.
    came: Bytes,
    content: RecvStream,
    stream: SendStream<Bytes>,
}

impl AsyncRead for Octets {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.came.is_empty() {
            match ready!(self.content.poll_data(cx)) {
                Some(Ok(came)) => self.came = came,
                Some(Err(error)) if error.reason() == Some(Reason::NO_ERROR) => break,
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
                None => break,
            }
        }
        let count = self.came.len().min(buffer.remaining());
        buffer.put_slice(&self.came.split_to(count));
        let released = self.content.flow_control().release_capacity(count);
        Poll::Ready(released.map_err(broken))
    }
}

impl AsyncWrite for Octets {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        if octets.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.stream.reserve_capacity(octets.len());
        while self.stream.capacity() == 0 {
            let room = ready!(self.stream.poll_capacity(cx)).ok_or(io::ErrorKind::BrokenPipe)?;
            room.map_err(broken)?;
        }
        let count = self.stream.capacity().min(octets.len());
        let piece = Bytes::copy_from_slice(octets.get(..count).unwrap_or_default());
        self.stream.send_data(piece, false).map_err(broken)?;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // It is `h2`'s, which writes as soon as it can.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.stream.send_data(Bytes::new(), true).map_err(broken))
    }
}

fn broken(error: h2::Error) -> io::Error {
    if error.is_io() {
        return error.into_io().unwrap_or_else(|| io::ErrorKind::ConnectionReset.into());
    }
    io::Error::other(error)
}
