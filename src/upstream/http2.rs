//! A connection of HTTP/2 to a server, which many exchanges share.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::client::conn::http2;
use hyper::rt::Executor as _;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::heard::LastHeard;

use super::Content;

/// So many octets of one response may wait to be taken by a client that is slow.
const STREAM_WINDOW: u32 = 1024 * 1024;

/// All streams together are bounded by nothing else: the responses that slow clients leave lying would
/// hold up those of others (RFC 9113 §5.2.2).
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;

/// A response head may have so many octets, about as many as in HTTP/1.1.
const MAX_HEAD: u32 = 400 * 1024;

/// A connection that many exchanges share. Dropping it lets those that run end.
pub(super) struct Http2 {
    sender: http2::SendRequest<Content>,
    /// How many exchanges the server takes at once, as far as it has said.
    most: Box<dyn Fn() -> usize + Send + Sync>,
    in_flight: AtomicUsize,
    heard: Arc<LastHeard>,
    is_used: AtomicBool,
    is_retired: AtomicBool,
    /// When the last exchange ended.
    idle_since: Mutex<Instant>,
}

/// One exchange of a connection. Dropping it ends that.
pub(super) struct Stream {
    connection: Arc<Http2>,
    /// Others have been answered on the connection.
    pub(super) is_reused: bool,
}

/// Begins to speak HTTP/2.
pub(super) async fn handshake<S>(stream: S) -> hyper::Result<Http2>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let heard = Arc::new(LastHeard::now());
    let stream = Hearing { stream, heard: Arc::clone(&heard) };
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(MAX_HEAD)
        .handshake(TokioIo::new(stream))
        .await?;
    let connection = Arc::new(Mutex::new(Some(connection)));
    let driven = Arc::clone(&connection);
    TokioExecutor::new().execute(std::future::poll_fn(move |cx| {
        let mut driven = driven.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(connection) = &mut *driven {
            // Each exchange is told by itself what becomes of it; those that it has not taken once it is
            // dropped.
            drop(ready!(Pin::new(connection).poll(cx)));
            *driven = None;
        }
        Poll::Ready(())
    }));
    let most = move || {
        let connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
        connection.as_ref().map_or(0, http2::Connection::current_max_send_streams)
    };
    Ok(Http2 {
        sender,
        most: Box::new(most),
        in_flight: AtomicUsize::new(0),
        heard,
        is_used: AtomicBool::new(false),
        is_retired: AtomicBool::new(false),
        idle_since: Mutex::new(Instant::now()),
    })
}

impl Http2 {
    /// Exchanges may begin on it.
    pub(super) fn is_open(&self) -> bool {
        !self.is_retired.load(Ordering::Relaxed) && !self.sender.is_closed()
    }

    /// Nothing has happened on it for so long.
    pub(super) fn is_idle(&self, timeout: Duration) -> bool {
        let since = *self.idle_since.lock().unwrap_or_else(PoisonError::into_inner);
        self.in_flight.load(Ordering::Relaxed) == 0 && since.elapsed() >= timeout
    }

    /// Begins an exchange, if there is room for it. To be called by one at a time.
    pub(super) fn begin(self: &Arc<Self>) -> Option<Stream> {
        let in_flight = self.in_flight.load(Ordering::Relaxed);
        // One that takes none for now may take some when its turn comes.
        if in_flight > 0 && in_flight >= (self.most)() {
            return None;
        }
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        Some(Stream {
            connection: Arc::clone(self),
            is_reused: self.is_used.swap(true, Ordering::Relaxed),
        })
    }
}

impl Stream {
    pub(super) fn sender(&self) -> http2::SendRequest<Content> {
        self.connection.sender.clone()
    }

    /// Nothing came for so long. If nothing came for any other exchange either, nobody is there any more,
    /// and no exchange begins on the connection.
    pub(super) fn was_silent(&self, patience: Duration) {
        // What came in the first half may have been of the handshake's.
        if self.connection.heard.elapsed() > patience / 2 {
            self.connection.is_retired.store(true, Ordering::Relaxed);
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut since = self.connection.idle_since.lock().unwrap_or_else(PoisonError::into_inner);
        *since = Instant::now();
        self.connection.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A stream that tells when something is heard on it.
struct Hearing<S> {
    stream: S,
    heard: Arc<LastHeard>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Hearing<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if polled.is_ready() {
            self.heard.is_now();
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Hearing<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, octets)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, octets)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
