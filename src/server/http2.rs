//! A connection of HTTP/2 (RFC 9113), and its requests, each on a stream of its own.
//!
//! The frames are `h2`'s, which is what hyper has them from. hyper itself has no place here: it takes one response for a
//! request, with none before it, and a content that its client takes back for one that has come to its end.

mod exchange;
mod opened;

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::ext::Protocol;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Error, Ping, PingPong, Reason, RecvStream};
use http::header::CONTENT_LENGTH;
use http::{Method, Request};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Sleep, sleep, timeout};

use crate::clock;
use crate::gateway::Peer;
use crate::interim::Interims;
use crate::tunnel::{Ground, Opened};
use crate::upgrade::{Connect, WEBSOCKET};
use crate::upstream::Arriving;

use super::Setting;
use super::connection::MAX_HEAD;

use self::exchange::Exchange;
use self::opened::Opening;

/// A client may send so many octets ahead, on a stream and on all of them.
const WINDOW: u32 = 1 << 20;

/// A client that is asked whether it is there has so long to say so.
const PATIENCE: Duration = Duration::from_secs(20);

/// Serves a connection until it ends. Once the listeners are left, its client is told so, and what runs is answered.
///
/// # Errors
/// It is the client's doing, or it has gone.
pub(super) async fn serve<S>(
    stream: S,
    peer: Peer,
    ground: Ground,
    setting: &Setting,
) -> Result<(), Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // On the heap by itself: what begins a connection takes more room than an idle one does.
    let Some(mut connection) = Box::pin(begin(stream, setting)).await? else { return Ok(()) };
    let streams = Streams { peer, ground, setting };
    let ping = connection.ping_pong();
    let mut presence = ping.map(|ping| Presence::of(ping, setting.header_timeout));
    let mut left = pin!(setting.leave.cancelled());
    let mut is_left = false;
    poll_fn(|cx| {
        if !is_left && left.as_mut().poll(cx).is_ready() {
            is_left = true;
            connection.graceful_shutdown();
        }
        if presence.as_mut().is_some_and(|presence| presence.poll_gone(cx).is_ready()) {
            presence = None;
            connection.abrupt_shutdown(Reason::NO_ERROR);
        }
        while let Some(accepted) = ready!(connection.poll_accept(cx)) {
            let (request, respond) = accepted?;
            streams.answer(request, respond, cx);
        }
        Poll::Ready(Ok(()))
    })
    .await
}

/// Reads the preface. None: it does not come in time, or before a drain.
///
/// The connection is on the heap, as a future has room for each place that it is moved through.
async fn begin<S>(stream: S, setting: &Setting) -> Result<Option<Box<Connection<S, Bytes>>>, Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut builder = Builder::new();
    builder
        .initial_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_concurrent_streams(setting.max_streams)
        .max_header_list_size(u32::try_from(MAX_HEAD).unwrap_or(u32::MAX));
    if setting.current.gateway().offers_websocket() {
        builder.enable_connect_protocol();
    }
    let begun = tokio::select! {
        begun = timeout(setting.header_timeout, builder.handshake(stream)) => begun.ok(),
        () = setting.stop.cancelled() => None,
    };
    begun.map(|begun| begun.map(Box::new)).transpose()
}

/// Who answers on each stream.
struct Streams<'a> {
    peer: Peer,
    ground: Ground,
    setting: &'a Setting,
}

impl Streams<'_> {
    /// Answers a request: at once, if the answer is at hand, else by a task of its own.
    fn answer(
        &self,
        request: Request<RecvStream>,
        mut respond: SendResponse<Bytes>,
        cx: &mut Context<'_>,
    ) {
        let (mut head, content) = request.into_parts();
        let interims = Interims::default();
        let (content, opening) = if head.method == Method::CONNECT {
            // What comes behind it is no content (RFC 9110 §9.3.6).
            if head.headers.get(CONTENT_LENGTH).is_some_and(|length| length != "0") {
                return respond.send_reset(Reason::PROTOCOL_ERROR);
            }
            let protocol = head.extensions.remove::<Protocol>();
            if protocol.is_some_and(|protocol| protocol.as_str() == WEBSOCKET) {
                head.extensions.insert(Connect);
            }
            let (opens, opened) = Opened::later();
            head.extensions.insert(opened);
            head.extensions.insert(self.ground.clone());
            (Arriving::Whole(Bytes::new()), Some(Opening { opens, content }))
        } else {
            (Arriving::on(content, &head.headers, &interims), None)
        };
        let is_head = head.method == Method::HEAD;
        let exchange = Exchange { respond, is_head, interims: interims.clone(), opening };
        let peer = Peer { interims: Some(interims), ..self.peer.clone() };
        let request = Request::from_parts(head, content);
        let mut answer = self.setting.current.answer(request, peer, clock::instant());
        if !answer.is_at_hand() {
            self.setting.tasks.spawn(exchange.run(answer));
        } else if let Poll::Ready(response) = Pin::new(&mut answer).poll(cx)
            && let Some(outgoing) = exchange.begin(response)
        {
            self.setting.tasks.spawn(outgoing.run());
        }
    }
}

/// Whether a client is still there, as far as its answers to PING tell (RFC 9113 §6.7).
struct Presence {
    ping: PingPong,
    interval: Duration,
    timer: Pin<Box<Sleep>>,
    is_asked: bool,
}

impl Presence {
    /// It is asked each `interval`.
    fn of(ping: PingPong, interval: Duration) -> Self {
        Self { ping, interval, timer: Box::pin(sleep(interval)), is_asked: false }
    }

    /// Ready when it has not answered in time.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.is_asked && self.ping.poll_pong(cx).is_ready() {
                self.is_asked = false;
                self.timer.set(sleep(self.interval));
            }
            ready!(self.timer.as_mut().poll(cx));
            if self.is_asked || self.ping.send_ping(Ping::opaque()).is_err() {
                return Poll::Ready(());
            }
            self.is_asked = true;
            self.timer.set(sleep(PATIENCE));
        }
    }
}
