//! Whether a client of HTTP/2 is still there.
//!
//! It is asked by PING (RFC 9113 §6.7). But a PING, and so the answer to it, comes behind all that was sent before:
//! a client that takes a response slowly, or stops for a while, may have megabytes of it in the kernels' buffers. So it
//! is gone only if nothing else was heard of it either, for as long as it may take nothing of a response:
//!
//! - Whatever comes from it is heard of it.
//! - Where something waited for it and then went on, it has taken something. What never waited tells nothing: a kernel takes
//!   that for a client who has gone, too.
//! - Where something begins to wait for it, its time begins anew. From then on `stall` looks after it, which gives
//!   it as long.
//!
//! And the answer tells that it has read what was sent before.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use h2::{Ping, PingPong};
use tokio::time::{Sleep, sleep};

use crate::heard::LastHeard;

/// What is known of one client.
pub(super) struct Presence {
    ping: PingPong,
    interval: Duration,
    patience: Duration,
    heard: Arc<LastHeard>,
    timer: Pin<Box<Sleep>>,
    is_asked: bool,
    /// The answer will tell that it has read every response.
    is_behind_all: bool,
    has_read_all: bool,
}

impl Presence {
    /// It is asked each `interval`, and gone if then nothing is `heard` of it for as long as `patience`.
    pub(super) fn of(
        ping: PingPong,
        interval: Duration,
        patience: Duration,
        heard: Arc<LastHeard>,
    ) -> Self {
        let timer = Box::pin(sleep(interval));
        let (is_asked, is_behind_all, has_read_all) = (false, false, true);
        Self { ping, interval, patience, heard, timer, is_asked, is_behind_all, has_read_all }
    }

    /// A response is to be sent.
    pub(super) fn has_more_to_read(&mut self) {
        (self.is_behind_all, self.has_read_all) = (false, false);
    }

    /// Whether it has said since the last response that it has read that. Once it has been told of a drain, `h2` asks
    /// nothing more before it answers that.
    pub(super) fn has_read_all(&self) -> bool {
        self.has_read_all
    }

    /// Ready when it is gone. Whether anything `runs` tells what the next PING comes behind.
    pub(super) fn poll_gone(&mut self, runs: impl Fn() -> bool, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.is_asked && self.ping.poll_pong(cx).is_ready() {
                self.is_asked = false;
                self.has_read_all |= self.is_behind_all;
                self.timer.set(sleep(self.interval));
            }
            ready!(self.timer.as_mut().poll(cx));
            let left = if self.is_asked {
                self.patience.saturating_sub(self.heard.elapsed())
            } else if self.ping.send_ping(Ping::opaque()).is_ok() {
                self.is_asked = true;
                self.is_behind_all = !runs();
                self.patience
            } else {
                Duration::ZERO
            };
            if left.is_zero() {
                return Poll::Ready(());
            }
            self.timer.set(sleep(left));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use bytes::Bytes;
    use h2::server::{Connection, handshake};
    use http::Response;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::server::flood::Frames;
    use crate::server::guarded::Guarded;
    use crate::server::idle::Idle;
    use crate::server::switch::Switch;
    use crate::stall::Patient;

    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

    /// SETTINGS with the largest window, as large a one for the connection, and a GET.
    const REQUEST: &[u8] = b"\0\0\x06\x04\0\0\0\0\0\0\x04\x7f\xff\xff\xff\
                             \0\0\x04\x08\0\0\0\0\0\x3f\xff\xff\xff\
                             \0\0\x06\x01\x05\0\0\0\x01\x82\x86\x84\x41\x01a";

    /// A connection between whose ends there is so much room. What was asked for on it is a megabyte.
    struct Stage {
        client: DuplexStream,
        connection: Connection<Guarded<DuplexStream, Frames>, Bytes>,
        presence: Presence,
    }

    impl Stage {
        async fn new(room: usize, patience: Duration) -> Self {
            let (mut client, inner) = duplex(room);
            let heard = Arc::new(LastHeard::now());
            let leave = CancellationToken::new();
            let frames = Frames::after(PREFACE.len(), 0, Arc::clone(&heard), leave);
            let stream = Patient::new(inner, Duration::from_hours(1));
            let stream = Guarded::new(stream, frames, Switch::default(), Idle::default());
            client.write_all(&[PREFACE, REQUEST].concat()).await.unwrap();
            let mut connection = handshake(stream).await.unwrap();
            let (_, mut respond) = connection.accept().await.unwrap().unwrap();
            let mut content = respond.send_response(Response::new(()), false).unwrap();
            content.send_data(vec![0; 1 << 20].into(), true).unwrap();
            let ping = connection.ping_pong().unwrap();
            let presence = Presence::of(ping, Duration::ZERO, patience, heard);
            Self { client, connection, presence }
        }
    }

    #[tokio::test]
    async fn who_takes_what_waits_for_it_is_there_without_an_answer() {
        let Stage { mut client, mut connection, mut presence } =
            Stage::new(1024, Duration::from_secs(3)).await;
        let gone = poll_fn(|cx| {
            assert!(connection.poll_accept(cx).is_pending());
            presence.poll_gone(|| true, cx)
        });
        // Much less than what lies before the PING, which is a frame of 16 KiB at least.
        let taking = async {
            for _ in 0..40 {
                client.read_exact(&mut [0; 128]).await.unwrap();
                sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::select! {
            () = gone => panic!("it was taken for gone"),
            () = taking => {}
        }
    }

    #[tokio::test]
    async fn who_says_nothing_is_gone_though_what_is_sent_is_never_waited_with() {
        let Stage { client, mut connection, mut presence } =
            Stage::new(2 << 20, Duration::from_millis(50)).await;
        poll_fn(|cx| {
            assert!(connection.poll_accept(cx).is_pending());
            presence.poll_gone(|| true, cx)
        })
        .await;
        drop(client);
    }
}
