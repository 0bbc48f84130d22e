//! One connection of a client: which protocol it speaks, and its requests until it ends.
//!
//! In cleartext HTTP/2 with prior knowledge (RFC 9113 §3.3) is told from HTTP/1.1 by its first octets, in
//! TLS by the handshake.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use http::header::{CONNECTION, UPGRADE};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::body::Body;
use crate::clock;
use crate::gateway::{Answer, Peer};
use crate::heard::LastHeard;
use crate::interim::{self, Interims};
use crate::stall::Patient;
use crate::tunnel::Ground;
use crate::upstream::Arriving;

use super::flood::Frames;
use super::guarded::Guarded;
use super::http2;
use super::idle::Idle;
use super::parting::{leave, part};
use super::patience::Patience;
use super::proxy;
use super::shortcut::{Begun, Shortcut};
use super::strict::Strict;
use super::switch::{Next, Switch};
use super::tls::Secured;
use super::{Connection, Open, Setting};

/// What a client with prior knowledge of HTTP/2 sends first (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A request head may have this many octets, in HTTP/1.1 with its line.
pub(super) const MAX_HEAD: usize = 64 * 1024;

/// Serves a connection until it ends.
pub(super) async fn serve(connection: Connection, setting: Setting) {
    let Connection { stream, peer, door, open } = connection;
    let served = async {
        let mut stream = TcpStream::from_std(stream)?;
        // Responses are written whole; waiting for more to send only adds delay.
        stream.set_nodelay(true)?;
        let address = match door.expects_header(peer.ip()) {
            Some(false) => peer,
            Some(true) => match Box::pin(in_time(proxy::read(&mut stream), &setting)).await? {
                Some(told) => told.unwrap_or(peer),
                None => return Ok(()),
            },
            None => return Err(io::Error::other("it is not from a proxy that is believed")),
        };
        let (scheme, redirect) = (door.scheme(), door.redirect);
        let client = Client { address, scheme, redirect, certificate: None, open: Arc::new(open) };
        match door.tls() {
            None => serve_cleartext(stream, client, &setting).await,
            // A future of TLS is large, and that of others has no room for it.
            Some(tls) => Box::pin(serve_secure(stream, tls, client, &setting)).await,
        }
    };
    if let Err(error) = served.await {
        debug!(%error, %peer, "connection ended before its first request");
    }
}

/// Who is at the other end.
struct Client {
    address: SocketAddr,
    scheme: &'static str,
    redirect: Option<u16>,
    /// The value of `Client-Cert`.
    certificate: Option<Arc<HeaderValue>>,
    open: Arc<Open>,
}

impl Client {
    /// The same, as the gateway knows it.
    fn peer(&self, interims: Option<Interims>) -> Peer {
        Peer {
            address: self.address.ip(),
            scheme: self.scheme,
            redirect: self.redirect,
            certificate: self.certificate.clone(),
            interims,
            notes: None,
        }
    }
}

async fn serve_cleartext(stream: TcpStream, client: Client, setting: &Setting) -> io::Result<()> {
    // What comes before the first request takes more room than an idle connection does later.
    let beginning = Box::pin(in_time(has_preface(&stream), setting)).await?;
    let Some(http2) = beginning else { return Ok(()) };
    if http2 {
        Box::pin(serve_http2(stream, client, setting)).await;
    } else {
        serve_http1(stream, client, setting).await;
    }
    Ok(())
}

/// The handshake says which protocol it is (RFC 7301): HTTP/1.1 where the client names none.
async fn serve_secure(
    stream: TcpStream,
    tls: Arc<Secured>,
    client: Client,
    setting: &Setting,
) -> io::Result<()> {
    let handshake = TlsAcceptor::from(Arc::clone(&tls.config)).accept(stream).into_fallible();
    let handshake = async {
        match handshake.await {
            Ok(stream) => Ok(stream),
            Err((error, stream)) => {
                // The alert is on its way, and a client that has more to send is to hear it.
                part(stream).await;
                Err(error)
            }
        }
    };
    // It takes more room than an idle connection does later.
    let Some(stream) = Box::pin(in_time(handshake, setting)).await? else { return Ok(()) };
    let connection = stream.get_ref().1;
    let client = Client { certificate: tls.client_cert(connection), ..client };
    let is_http2 = connection.alpn_protocol() == Some(b"h2");
    // A future has room for each place that it is moved through.
    let stream = Box::new(stream);
    if is_http2 {
        serve_http2(stream, client, setting).await;
    } else {
        serve_http1(stream, client, setting).await;
    }
    Ok(())
}

/// What comes before the first request has the time of a request head. None once the drain begins.
async fn in_time<T>(
    beginning: impl Future<Output = io::Result<T>>,
    setting: &Setting,
) -> io::Result<Option<T>> {
    let beginning = timeout(setting.header_timeout, beginning);
    tokio::select! {
        begun = beginning => begun.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?.map(Some),
        () = setting.stop.cancelled() => Ok(None),
    }
}

/// Looks at the first octets without taking them.
async fn has_preface(stream: &TcpStream) -> io::Result<bool> {
    let mut first = [0; PREFACE.len()];
    let mut pause = Duration::from_millis(5);
    loop {
        let count = stream.peek(&mut first).await?;
        let seen = first.get(..count).unwrap_or_default();
        if count == 0 || !PREFACE.starts_with(seen) {
            return Ok(false);
        }
        if count == PREFACE.len() {
            return Ok(true);
        }
        // The rest of the preface is on its way; a peek is ready as long as anything is there. Who sends
        // one octet of it and no more is looked at ever less often.
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(320));
    }
}

async fn serve_http1<S>(stream: S, client: Client, setting: &Setting)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let address = client.address;
    let (interims, switch, idle) = (Interims::default(), Switch::default(), Idle::default());
    let stream = Patient::new(stream, setting.send_timeout);
    let stream = Guarded::new(stream, Strict::default(), switch.clone(), idle.clone());
    let stream = stream.hearing_out(setting.drain, setting.leave.clone());
    let peer = client.peer(Some(interims.clone()));
    let (current, whose) = (Arc::clone(&setting.current), peer.clone());
    // Who is to come back by another connection is told so by hyper.
    let ask = move |request, begun| {
        (!current.is_leaving()).then(|| current.answer(request, whose.clone(), begun))
    };
    let begun = Begun::default();
    let stream = Shortcut::new(stream, ask, idle.clone(), interims.clone(), begun.clone());
    let io = TokioIo::new(interims.over(stream));
    let service = service(setting, client.open, peer, switch, begun);
    requests(io, service, &idle, address, setting.header_timeout, &setting.stop).await;
}

/// Serves one request of HTTP/1.1 after the other. Between them, hyper has a connection only for a moment.
async fn requests<S, A, F>(
    mut io: TokioIo<interim::Stream<Shortcut<S, A>>>,
    mut service: F,
    idle: &Idle,
    peer: SocketAddr,
    header_timeout: Duration,
    stop: &CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    A: FnMut(Request<Arriving>, Instant) -> Option<Answer> + Send + Unpin + 'static,
    F: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + Unpin,
{
    let begun = io.inner_mut().get_mut().begun();
    loop {
        let connection = http1::Builder::new()
            .timer(Patience::of(header_timeout, idle.clone()))
            .header_read_timeout(header_timeout)
            .max_buf_size(MAX_HEAD)
            // The buffer may overshoot by what comes in one read.
            .max_header_size(MAX_HEAD)
            // `max_headers` stays at hyper's 100, for which it has room on its stack. For any other
            // number it allocates twice 4 KiB for each request: up to a ninth of a hit.
            .serve_connection(io, service)
            .with_upgrades();
        let end = http1::UpgradeableConnection::graceful_shutdown;
        let (is_idle, hand_over) = (|| idle.is_idle(), || begun.hand_over());
        let driven = drive(Box::pin(connection), end, is_idle, hand_over, peer, stop).await;
        let Some(parts) = driven.and_then(|idle| Pin::into_inner(idle).into_parts()) else {
            return;
        };
        (io, service) = (parts.io, parts.service);
        let more = io.inner_mut().get_mut().get_mut().wait();
        let has_more = tokio::select! {
            biased;
            () = stop.cancelled() => false,
            more = timeout(header_timeout.saturating_sub(idle.moment()), more) => matches!(more, Ok(Ok(true))),
        };
        if !has_more {
            return Box::pin(leave(io.into_inner())).await;
        }
    }
}

async fn serve_http2<S>(stream: S, client: Client, setting: &Setting)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let heard = Arc::new(LastHeard::now());
    let (resets, leave) = (setting.max_resets, setting.leave.clone());
    let frames = Frames::after(PREFACE.len(), resets, Arc::clone(&heard), leave.clone());
    let (switch, idle) = (Switch::default(), Idle::default());
    let stream = Patient::new(stream, setting.send_timeout);
    let stream = Guarded::new(stream, frames, switch, idle).hearing_out(setting.drain, leave);
    let ground = Ground::new(client.open.clone(), setting.closing.clone());
    let served = http2::serve(stream, heard, client.peer(None), ground, setting).await;
    // It is the client's doing.
    if let Err(error) = served {
        debug!(%error, peer = %client.address, "connection ended early");
    }
}

/// Serves a connection to its end; once it is to `stop`, to the end of what runs on it. One that is idle is
/// handed back. `hand_over`: what runs on it without hyper becomes hyper's, if anything does, and is begun to be read.
///
/// It is on the heap, as a future has room for each place that it is moved through.
async fn drive<C: Future<Output = hyper::Result<()>>>(
    mut connection: Pin<Box<C>>,
    end: impl FnOnce(Pin<&mut C>),
    is_idle: impl Fn() -> bool,
    hand_over: impl FnOnce() -> bool,
    peer: SocketAddr,
    stop: &CancellationToken,
) -> Option<Pin<Box<C>>> {
    let mut told = pin!(stop.cancelled());
    let mut waker: Option<Waker> = None;
    let driven = poll_fn(|cx| {
        // First, so that an answer which comes at the same time says `Connection: close`. The future keeps
        // this task's waker: to poll it again each time that a request comes would cost that more than a
        // look does.
        let is_waiting = waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
        if is_waiting && stop.is_cancelled() || !is_waiting && told.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Driven::Stopped);
        }
        if !is_waiting {
            waker = Some(cx.waker().clone());
        }
        match connection.as_mut().poll(cx) {
            Poll::Pending if is_idle() => Poll::Ready(Driven::Idle),
            polled => polled.map(Driven::Ended),
        }
    });
    let ended = match driven.await {
        Driven::Ended(ended) => ended,
        Driven::Idle => return Some(connection),
        Driven::Stopped => {
            let ended = if hand_over() { poll_once(connection.as_mut()).await } else { None };
            if let Some(ended) = ended {
                ended
            } else {
                end(connection.as_mut());
                connection.await
            }
        }
    };
    // It is the client's doing, or the price of an upstream that broke off.
    if let Err(error) = ended {
        debug!(%error, %peer, "connection ended early");
    }
    None
}

/// What a future comes to at once.
async fn poll_once<F: Future + Unpin>(mut future: F) -> Option<F::Output> {
    poll_fn(|cx| match Pin::new(&mut future).poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// How far a connection was driven.
enum Driven {
    Ended(hyper::Result<()>),
    /// It needs no room in hyper.
    Idle,
    /// It is to end.
    Stopped,
}

fn service(
    setting: &Setting,
    open: Arc<Open>,
    peer: Peer,
    switch: Switch,
    begun: Begun,
) -> impl Service<Request<Incoming>, Response = Response<Body>, Error = Infallible, Future: Send> + use<>
{
    let current = Arc::clone(&setting.current);
    let ground = Ground::new(open, setting.closing.clone());
    service_fn(move |mut request| {
        // Few requests have a way out of HTTP.
        if request.extensions().get::<OnUpgrade>().is_some() {
            request.extensions_mut().insert(ground.clone());
        }
        let switch = (switch.is_open() && may_switch(&request)).then(|| switch.clone());
        // Its client is to come back by another connection.
        let is_last = current.is_leaving() || begun.is_last();
        let finish = move |response: &mut Response<Body>| {
            if let Some(switch) = switch {
                let is_other = response.status() == StatusCode::SWITCHING_PROTOCOLS;
                switch.settle(if is_other { Next::Other } else { Next::Http });
            }
            if is_last {
                say_last(response);
            }
        };
        let answer = begun.take().unwrap_or_else(|| {
            current.answer(request.map(Arriving::from), peer.clone(), clock::instant())
        });
        Served(match &peer.interims {
            // Nothing comes before an answer that is at hand.
            Some(interims) if !answer.is_at_hand() => {
                let interims = interims.clone();
                Answer::later(async move {
                    let mut response = interims.before(answer).await;
                    finish(&mut response);
                    response
                })
            }
            _ => answer.map(finish),
        })
    })
}

/// Whether what follows a request may be of another protocol: it is the last of those that the guard has let through,
/// and the ones before it tell nothing of that. See `Framing::read`.
fn may_switch(request: &Request<Incoming>) -> bool {
    request.headers().contains_key(UPGRADE) && request.body().is_end_stream()
}

/// An answer as hyper wants it. Nothing is wrapped around it that would have to be moved, too.
struct Served(Answer);

impl Future for Served {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(Ok)
    }
}

/// Says that the connection is closed after a response (RFC 9112 §9.6).
fn say_last(response: &mut Response<Body>) {
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadBuf, duplex};
    use tokio::sync::Notify;
    use tokio::task::yield_now;
    use tokio_util::task::TaskTracker;

    use super::*;

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    const HOUR: Duration = Duration::from_hours(1);

    /// A stream that tells for how many octets there was room when it was last read.
    struct Measured {
        inner: DuplexStream,
        room: Arc<AtomicUsize>,
    }

    impl AsyncRead for Measured {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            self.room.store(buffer.remaining(), Ordering::Relaxed);
            Pin::new(&mut self.inner).poll_read(cx, buffer)
        }
    }

    impl AsyncWrite for Measured {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            octets: &[u8],
        ) -> Poll<io::Result<usize>> {
            Pin::new(&mut self.inner).poll_write(cx, octets)
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.inner).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.inner).poll_shutdown(cx)
        }
    }

    /// A connection that is idle at once.
    struct Stage {
        client: DuplexStream,
        room: Arc<AtomicUsize>,
        stop: CancellationToken,
    }

    impl Stage {
        /// Each request gets this answer, once that may be.
        fn new(answer: &'static str, may: &Arc<Notify>, header_timeout: Duration) -> Self {
            let (client, inner) = duplex(64);
            let (room, stop) = (Arc::default(), CancellationToken::new());
            let idle = Idle::after(Duration::ZERO);
            let stream = Measured { inner, room: Arc::clone(&room) };
            let (stream, guard) = (Patient::new(stream, HOUR), Strict::default());
            let stream = Guarded::new(stream, guard, Switch::default(), idle.clone());
            let (interims, begun) = (Interims::default(), Begun::default());
            let stream = Shortcut::new(stream, |_, _| None, idle.clone(), interims.clone(), begun);
            let io = TokioIo::new(interims.over(stream));
            let (may, stopped) = (Arc::clone(may), stop.clone());
            let service = service_fn(move |_| {
                let may = Arc::clone(&may);
                async move {
                    may.notified().await;
                    Ok(Response::new(Body::Whole(answer.into())))
                }
            });
            let peer = SocketAddr::from(([127, 0, 0, 1], 1));
            TaskTracker::new().spawn(async move {
                requests(io, service, &idle, peer, header_timeout, &stopped).await;
            });
            Self { client, room, stop }
        }

        async fn send(&mut self, octets: &[u8]) {
            self.client.write_all(octets).await.unwrap();
            for _ in 0..100 {
                yield_now().await;
            }
        }

        async fn hear(&mut self, answer: &str) {
            let mut came = String::new();
            while !came.ends_with(answer) {
                came.push(self.client.read_u8().await.unwrap().into());
            }
        }

        fn has_buffer(&self) -> bool {
            self.room.load(Ordering::Relaxed) >= 4096
        }

        async fn await_idle(&self) {
            for _ in 0..1_000_000 {
                if !self.has_buffer() {
                    return;
                }
                yield_now().await;
            }
            panic!("it has its buffer still");
        }
    }

    #[tokio::test]
    async fn between_requests_there_is_no_buffer() {
        let may = Arc::new(Notify::new());
        let mut stage = Stage::new("abcd", &may, HOUR);
        for pieces in [&[REQUEST][..], &[REQUEST], &[b"\r\nG", &REQUEST[1..20], &REQUEST[20..]]] {
            for piece in pieces {
                stage.send(piece).await;
                assert!(stage.has_buffer(), "{piece:?}");
            }
            may.notify_one();
            stage.hear("abcd").await;
            stage.await_idle().await;
        }
    }

    #[tokio::test]
    async fn an_answer_that_is_not_read_is_sent_whole() {
        let answer: &str = Box::leak("a".repeat(1000).into_boxed_str());
        let may = Arc::new(Notify::new());
        let mut stage = Stage::new(answer, &may, HOUR);
        for _ in 0..3 {
            may.notify_one();
            stage.send(REQUEST).await;
            assert!(stage.has_buffer());
            stage.hear(answer).await;
            stage.await_idle().await;
        }
    }

    #[tokio::test]
    async fn an_idle_connection_ends_as_others_do() {
        for (header_timeout, is_stopped) in [(Duration::from_millis(20), false), (HOUR, true)] {
            let may = Arc::new(Notify::new());
            let mut stage = Stage::new("abcd", &may, header_timeout);
            may.notify_one();
            stage.send(REQUEST).await;
            stage.hear("abcd").await;
            stage.await_idle().await;
            if is_stopped {
                stage.stop.cancel();
            }
            assert_eq!(stage.client.read(&mut [0]).await.unwrap(), 0);
        }
    }
}
