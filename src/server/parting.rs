//! The end of a connection on which the other end may still be sending.
//!
//! A socket that is closed with octets unread resets its connection, and the reset overtakes what was written
//! last: the client would not hear why.

use std::future::poll_fn;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, Sleep, sleep, timeout};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// So long a client that goes on sending is heard out, and so many octets more are read of it.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
const MOST: usize = 256 << 10;
/// So many at once.
const PIECE: usize = 4 << 10;

/// What the other end still sends once nothing is sent to it any more.
pub(super) struct Rest {
    /// So many octets more are read. What comes behind them waits until it is over: meanwhile the other end
    /// can read why nobody takes it.
    left: usize,
    timer: Pin<Box<Sleep>>,
    /// The timer begins anew with whatever comes, for so long.
    anew: Option<Duration>,
    /// Once that comes, it is over in so long.
    hurry: Option<(Duration, Pin<Box<WaitForCancellationFutureOwned>>)>,
}

impl Rest {
    /// It is over in so long at the latest.
    pub(super) fn within(limit: Duration) -> Self {
        Self { left: MOST, timer: Box::pin(sleep(limit)), anew: None, hurry: None }
    }

    /// It is over once nothing has come for so long.
    pub(super) fn until_silent_for(limit: Duration) -> Self {
        Self { anew: Some(limit), ..Self::within(limit) }
    }

    /// The same with this limit, if it is shorter, from when this is cancelled.
    pub(super) fn hurried_by(self, limit: Duration, leave: CancellationToken) -> Self {
        Self { hurry: Some((limit, Box::pin(leave.cancelled_owned()))), ..self }
    }

    /// Drops what comes. Ready when the other end has closed, or it has been long enough.
    pub(super) fn poll<S>(&mut self, stream: &mut S, cx: &mut Context<'_>) -> Poll<()>
    where
        S: AsyncRead + Unpin,
    {
        if let Some((limit, leave)) = &mut self.hurry
            && leave.as_mut().poll(cx).is_ready()
        {
            let limit = *limit;
            self.hurry = None;
            self.anew = self.anew.map(|anew| anew.min(limit));
            let end = Instant::now() + limit;
            if end < self.timer.deadline() {
                self.timer.as_mut().reset(end);
            }
        }
        let mut octets = [const { MaybeUninit::uninit() }; PIECE];
        while self.left > 0 {
            let mut piece = ReadBuf::uninit(&mut octets);
            match Pin::new(&mut *stream).poll_read(cx, &mut piece) {
                Poll::Ready(Ok(())) if !piece.filled().is_empty() => {
                    self.left = self.left.saturating_sub(piece.filled().len());
                    if let Some(limit) = self.anew {
                        self.timer.set(sleep(limit));
                    }
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => break,
            }
        }
        self.timer.as_mut().poll(cx)
    }
}

/// Sends no more, and drops what comes until the other end has closed or it has been enough.
pub(super) async fn part(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let mut rest = Rest::within(PATIENCE);
    // One that cannot be told is not waited for, either.
    if let Ok(Ok(())) = timeout(PATIENCE, stream.shutdown()).await {
        poll_fn(|cx| rest.poll(&mut stream, cx)).await;
    }
}

/// Sends no more where nothing is being sent either way.
pub(super) async fn leave(mut stream: impl AsyncWrite + Unpin) {
    drop(timeout(PATIENCE, stream.shutdown()).await);
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, duplex};

    use super::*;

    #[tokio::test]
    async fn who_reads_on_and_closes_is_not_waited_for_longer() {
        let (ours, mut theirs) = duplex(64);
        let client = async {
            theirs.write_all(&[7; 1000]).await.unwrap();
            let mut rest = Vec::new();
            theirs.read_to_end(&mut rest).await.unwrap();
            drop(theirs);
            rest
        };
        let (rest, ()) = tokio::join!(client, part(ours));
        assert!(rest.is_empty());
    }

    #[tokio::test]
    async fn who_shows_now_and_then_that_it_reads_has_its_time_anew() {
        let (mut ours, mut theirs) = duplex(64);
        let mut rest = Rest::until_silent_for(Duration::from_secs(3));
        let over = poll_fn(|cx| rest.poll(&mut ours, cx));
        let showing = async {
            for _ in 0..35 {
                theirs.write_all(&[7; 13]).await.unwrap();
                sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::select! {
            () = over => panic!("it was left"),
            () = showing => {}
        }
    }

    #[tokio::test]
    async fn who_goes_on_sending_is_left() {
        let (ours, mut theirs) = duplex(64);
        let endless = async { while theirs.write_all(&[7; 1000]).await.is_ok() {} };
        tokio::join!(endless, part(ours));
    }
}
