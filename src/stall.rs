//! The limit on the time in which a client takes nothing of what is sent to it.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// A connection to which nothing can be written any more once its client has taken nothing for too long.
pub struct Patient<S> {
    inner: S,
    stall: Stall,
}

impl<S> Patient<S> {
    /// Nothing may be taken for as long as `limit`.
    pub fn new(inner: S, limit: Duration) -> Self {
        Self { inner, stall: Stall::after(limit) }
    }

    /// Whether something that was to be sent waits for the client.
    pub fn is_stalled(&self) -> bool {
        self.stall.is_on()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, octets);
        self.stall.watch(Way::Write, written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, octets);
        self.stall.watch(Way::Write, written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.inner).poll_flush(cx);
        self.stall.watch(Way::Flush, flushed, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Of TLS, the end is written as well.
        let closed = Pin::new(&mut self.inner).poll_shutdown(cx);
        self.stall.watch(Way::Flush, closed, cx)
    }
}

/// How long a client has been taking nothing. While it takes what comes there is no timer.
struct Stall {
    limit: Duration,
    since: Option<(Way, Pin<Box<Sleep>>)>,
}

/// What waits for the client. What one could do says nothing of the other.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Write,
    /// Of what is packed in records of TLS already.
    Flush,
}

impl Stall {
    fn after(limit: Duration) -> Self {
        Self { limit, since: None }
    }

    /// Whether something that was to be sent could not be.
    fn is_on(&self) -> bool {
        self.since.is_some()
    }

    /// What comes of one try to send: an error once none has come to anything for so long.
    fn watch<T>(
        &mut self,
        way: Way,
        tried: Poll<io::Result<T>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if tried.is_ready() {
            if self.since.as_ref().is_some_and(|(waiting, _)| *waiting == way) {
                self.since = None;
            }
            return tried;
        }
        let limit = self.limit;
        let (waiting, timer) = self.since.get_or_insert_with(|| (way, Box::pin(sleep(limit))));
        // As long as there is more to write than TLS has room for, it is never flushed, and only that more could be
        // written tells that the client takes what comes.
        if way == Way::Write {
            *waiting = way;
        }
        match timer.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => tried,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncWriteExt as _;

    use super::*;

    /// Where nothing can be written, and TLS still has its end to write.
    struct Full;

    impl AsyncWrite for Full {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &[u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Pending
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    #[tokio::test]
    async fn an_end_that_cannot_be_written_is_given_up() {
        let ended = Patient::new(Full, Duration::ZERO).shutdown().await;
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn only_who_takes_nothing_for_so_long_is_given_up() {
        let nothing = || Poll::<io::Result<usize>>::Pending;
        let mut stall = Stall::after(Duration::ZERO);
        let is_over = poll_fn(|cx| stall.watch(Way::Write, nothing(), cx)).await;
        assert_eq!(is_over.unwrap_err().kind(), io::ErrorKind::TimedOut);

        let mut stall = Stall::after(Duration::from_hours(1));
        poll_fn(|cx| {
            assert!(stall.watch(Way::Write, nothing(), cx).is_pending());
            // That there is nothing to flush says nothing of what waits to be written.
            assert!(stall.watch(Way::Flush, Poll::Ready(Ok(())), cx).is_ready());
            assert!(stall.since.is_some());
            assert!(stall.watch(Way::Write, Poll::Ready(Ok(1)), cx).is_ready());
            assert!(stall.since.is_none());
            Poll::Ready(())
        })
        .await;
    }

    #[tokio::test]
    async fn who_takes_what_is_never_flushed_is_not_given_up() {
        let nothing = || Poll::<io::Result<usize>>::Pending;
        let until = |stall: &Stall| stall.since.as_ref().map(|(_, timer)| timer.deadline());
        let mut stall = Stall::after(Duration::from_hours(1));
        poll_fn(|cx| {
            assert!(stall.watch(Way::Flush, nothing(), cx).is_pending());
            let first = until(&stall);
            // There was room for it.
            assert!(stall.watch(Way::Write, Poll::Ready(Ok(1)), cx).is_ready());
            assert!(stall.watch(Way::Write, nothing(), cx).is_pending());
            assert!(stall.watch(Way::Flush, nothing(), cx).is_pending());
            assert!(first.is_some() && until(&stall) == first, "it has taken nothing so far");
            for _ in 0..3 {
                assert!(stall.watch(Way::Write, Poll::Ready(Ok(1)), cx).is_ready());
                assert!(!stall.is_on(), "its time begins anew");
                assert!(stall.watch(Way::Write, nothing(), cx).is_pending());
                assert!(stall.watch(Way::Flush, nothing(), cx).is_pending());
                assert!(stall.is_on());
            }
            Poll::Ready(())
        })
        .await;
    }
}
