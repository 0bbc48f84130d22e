//! A connection of HTTP/2 (RFC 9113), and its requests, each on a stream of its own.
//!
//! The frames are `h2`'s, which is what hyper has them from. hyper itself has no place here: it takes one response for a
//! request, with none before it, and a content that its client takes back for one that has come to its end.

mod exchange;
mod opened;
mod presence;

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::ext::Protocol;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Error, Reason, RecvStream};
use http::header::CONTENT_LENGTH;
use http::{Method, Request};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{sleep, timeout};

use crate::clock;
use crate::gateway::Peer;
use crate::heard::LastHeard;
use crate::interim::Interims;
use crate::tunnel::{Ground, Opened};
use crate::upgrade::{Connect, WEBSOCKET};
use crate::upstream::Arriving;

use super::Setting;
use super::connection::MAX_HEAD;

use self::exchange::Exchange;
use self::opened::Opening;
use self::presence::Presence;

/// A client may send so many octets ahead on all streams, which bounds what one connection may have lying here.
const CONNECTION_WINDOW: u32 = 1 << 20;

/// And so many on one. An upload that its upstream does not take keeps them: the others need room beside it
/// (RFC 9113 §5.2.2).
const STREAM_WINDOW: u32 = CONNECTION_WINDOW / 4;

/// What frames of content that lie here may cost beside it, each at most 256 octets: `h2` counts them so, and ends the
/// connection at more. 8,000 frames are enough for what is sent in few octets each, and not taken at once.
const FRAMES: usize = 2 << 20;

/// In a drain, a client that has read all is gone if it does not say that it has read GOAWAY, nor anything else, for
/// so long.
const GRACE: Duration = Duration::from_secs(2);

/// Serves a connection until it ends. Once the listeners are left, its client is told so, and what runs is answered.
/// What is `heard` of the client tells whether it is still there.
///
/// # Errors
/// It is the client's doing, or it has gone.
pub(super) async fn serve<S>(
    stream: S,
    heard: Arc<LastHeard>,
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
    let (interval, patience) = (setting.header_timeout, setting.send_timeout);
    let last_heard = Arc::clone(&heard);
    let mut presence = ping.map(|ping| Presence::of(ping, interval, patience, heard));
    let mut left = pin!(setting.leave.cancelled());
    let mut is_left = false;
    let mut graces = None;
    poll_fn(|cx| {
        if !is_left && left.as_mut().poll(cx).is_ready() {
            is_left = true;
            connection.graceful_shutdown();
            graces = Some([
                Box::pin(grace_of(setting, &last_heard, GRACE)),
                Box::pin(grace_of(setting, &last_heard, patience)),
            ]);
        }
        let runs = || connection.has_streams();
        if presence.as_mut().is_some_and(|presence| presence.poll_gone(runs, cx).is_ready()) {
            presence = None;
            connection.abrupt_shutdown(Reason::NO_ERROR);
        }
        let polled = streams.poll(&mut connection, &mut presence, cx);
        // `h2` closes when the client has said that it has read GOAWAY, and waits for that however long. One that may
        // still be reading a response has longer to say so: it lies before that.
        if polled.is_pending()
            && !connection.has_streams()
            && let Some([has_all, may_read]) = &mut graces
        {
            let has_read_all = presence.as_ref().is_some_and(Presence::has_read_all);
            let is_over = has_read_all && has_all.as_mut().poll(cx).is_ready();
            if is_over || may_read.as_mut().poll(cx).is_ready() {
                graces = None;
                connection.abrupt_shutdown(Reason::NO_ERROR);
                return streams.poll(&mut connection, &mut presence, cx);
            }
        }
        polled
    })
    .await
}

/// Over once nothing was heard of the client for so long since the drain began, or less where that is short: behind
/// another process half of it is over before connections are to end.
async fn grace_of(setting: &Setting, heard: &LastHeard, most: Duration) {
    setting.stop.cancelled().await;
    let grace = most.min(setting.drain / 4);
    sleep(grace).await;
    heard.silence(grace).await;
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
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .data_frame_budget(FRAMES)
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
    /// Drives the connection to its end, and answers what comes on it. `presence` is told.
    fn poll<S>(
        &self,
        connection: &mut Connection<S, Bytes>,
        presence: &mut Option<Presence>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        while let Some(accepted) = ready!(connection.poll_accept(cx)) {
            let (request, respond) = accepted?;
            if let Some(presence) = presence {
                presence.has_more_to_read();
            }
            self.answer(request, respond, cx);
        }
        Poll::Ready(Ok(()))
    }

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
