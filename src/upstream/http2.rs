//! A connection of HTTP/2 to a server, which many exchanges share.
//!
//! The frames are `h2`'s, which is what hyper has them from. hyper itself has no place here: it says nothing of the
//! responses before a response, and takes a content that its server takes back for one that has come to its end.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{Error, Reason, RecvStream};
use http::{Request, Response};
use http_body::Body as _;
use hyper::rt::Executor as _;
use hyper_util::rt::TokioExecutor;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, sleep};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::heard::LastHeard;
use crate::streams;
use crate::streams::Sending;

use super::Content;
use super::content::NotWhole;

/// So many octets of one response may wait to be taken by a client that is slow.
const STREAM_WINDOW: u32 = 1024 * 1024;

/// All streams together are bounded by nothing else: the responses that slow clients leave lying would
/// hold up those of others (RFC 9113 §5.2.2).
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;

/// A response head may have so many octets, about as many as in HTTP/1.1.
const MAX_HEAD: u32 = 400 * 1024;

/// A server takes so many exchanges at once until it says how many. RFC 9113 §6.5.2 would not have it take fewer.
const UNSAID: usize = 100;

/// A stream that was given up is remembered for so long, as its server may have sent some of it before it heard; and
/// so many are at once. What comes on one that is not remembered is an error.
const REMEMBERED: Duration = Duration::from_secs(10);
const MOST_REMEMBERED: usize = 10_000;

/// A server that has caused so many errors of single streams is left, with all that runs on the connection.
const MOST_ERRORS: usize = 100_000;

/// An exchange that is given up sooner tells nothing of whether anybody is there.
const NO_MATTER: Duration = Duration::from_millis(500);

/// The rest of a request that is answered goes on, unless nothing of it has for so long.
const LINGER: Duration = Duration::from_secs(30);

/// A connection that many exchanges share. Dropping it lets those that run end.
pub(super) struct Http2 {
    sender: SendRequest<Bytes>,
    in_flight: AtomicUsize,
    heard: Arc<LastHeard>,
    is_used: AtomicBool,
    is_retired: AtomicBool,
    times: Mutex<Times>,
}

struct Times {
    /// When the last exchange ended.
    idle_since: Instant,
    /// When an exchange began, the first since something was heard.
    unheard_since: Instant,
}

/// One exchange of a connection. Dropping it ends that, and no more of the request's content is sent.
pub(super) struct Stream {
    connection: Arc<Http2>,
    upload: Option<Upload>,
    /// The response has come whole.
    is_over: bool,
    /// Others have been answered on the connection.
    pub(super) is_reused: bool,
}

/// Sends a content that is not at hand. Dropping it ends that.
struct Upload {
    task: AbortOnDropHandle<()>,
    content: Content,
}

/// Begins to speak HTTP/2. Until the server has said how many exchanges it takes, none begins.
///
/// # Errors
/// It closes the connection, or speaks something else.
pub(super) async fn handshake<S>(stream: S) -> io::Result<Http2>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let heard = Arc::new(LastHeard::now());
    let stream = Hearing { stream, heard: Arc::clone(&heard) };
    let (sender, mut connection) = Builder::new()
        .enable_push(false)
        .initial_max_send_streams(UNSAID)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(MAX_HEAD)
        .max_concurrent_reset_streams(MOST_REMEMBERED)
        .reset_stream_duration(REMEMBERED)
        .max_local_error_reset_streams(Some(MOST_ERRORS))
        .handshake(stream)
        .await
        .map_err(io::Error::other)?;
    // RFC 9113 §3.4: the first frame of a server's is `SETTINGS`.
    poll_fn(|cx| match Pin::new(&mut connection).poll(cx) {
        Poll::Ready(Ok(())) => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
        Poll::Ready(Err(error)) => Poll::Ready(Err(io::Error::other(error))),
        Poll::Pending if heard.is_anything() => Poll::Ready(Ok(())),
        Poll::Pending => Poll::Pending,
    })
    .await?;
    // Each exchange is told by itself what becomes of it. The last of them ends it, once `Http2` is dropped.
    TokioExecutor::new().execute(async { drop(connection.await) });
    Ok(Http2 {
        sender,
        in_flight: AtomicUsize::new(0),
        heard,
        is_used: AtomicBool::new(false),
        is_retired: AtomicBool::new(false),
        times: Mutex::new(Times { idle_since: Instant::now(), unheard_since: Instant::now() }),
    })
}

impl Http2 {
    /// Exchanges may begin on it.
    pub(super) fn is_open(&self) -> bool {
        if self.is_retired.load(Ordering::Relaxed) {
            return false;
        }
        // A handle that waits for no stream of its own is ready as long as the connection is.
        let ready = self.sender.clone().poll_ready(&mut Context::from_waker(Waker::noop()));
        matches!(ready, Poll::Ready(Ok(())))
    }

    /// Nothing has happened on it for so long.
    pub(super) fn is_idle(&self, timeout: Duration) -> bool {
        let since = self.times().idle_since;
        self.in_flight.load(Ordering::Relaxed) == 0 && since.elapsed() >= timeout
    }

    fn times(&self) -> MutexGuard<'_, Times> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins an exchange, if there is room for it. To be called by one at a time.
    pub(super) fn begin(self: &Arc<Self>) -> Option<Stream> {
        let in_flight = self.in_flight.load(Ordering::Relaxed);
        // One that takes none for now may take some when its turn comes.
        if in_flight > 0 && in_flight >= self.sender.current_max_send_streams() {
            return None;
        }
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        let mut times = self.times();
        if self.heard.elapsed() < times.unheard_since.elapsed() {
            times.unheard_since = Instant::now();
        }
        drop(times);
        Some(Stream {
            connection: Arc::clone(self),
            upload: None,
            is_over: false,
            is_reused: self.is_used.swap(true, Ordering::Relaxed),
        })
    }
}

impl Stream {
    /// Sends a request with this content.
    ///
    /// # Errors
    /// Nothing is sent, as there is a connection no more, if it [is closed](Self::is_closed), or as this is no request.
    pub(super) fn send(
        &mut self,
        request: Request<()>,
        content: &Content,
    ) -> Result<ResponseFuture, Error> {
        let is_empty = content.is_end_stream();
        let sent = self.connection.sender.clone().send_request(request, is_empty);
        let (response, mut stream) = sent?;
        match content.at_hand() {
            _ if is_empty => {}
            // What becomes of it, the response tells.
            Some(whole) => drop(stream.send_data(whole.clone(), true)),
            None => {
                let reason = |error: &NotWhole| streams::reason(error).unwrap_or(Reason::CANCEL);
                let sending = Sending::new(content.clone(), stream).run(reason);
                let task = AbortOnDropHandle::new(TaskTracker::new().spawn(sending));
                self.upload = Some(Upload { task, content: content.clone() });
            }
        }
        Ok(response)
    }

    /// No exchange begins on the connection any more.
    pub(super) fn is_closed(&self) -> bool {
        !self.connection.is_open()
    }

    /// No more of the request's content is sent, and none is taken from its client.
    pub(super) async fn stop(&mut self) {
        if let Some(upload) = self.upload.take() {
            upload.task.abort();
            // That it was is no news.
            drop(upload.task.await);
        }
    }

    /// The response has come whole. The server may go on reading nevertheless (RFC 9113 §8.1).
    pub(super) fn end(mut self) {
        self.is_over = true;
        if let Some(upload) = self.upload.take() {
            TokioExecutor::new().execute(async move {
                upload.linger().await;
                // Until then the server has one exchange more.
                drop(self);
            });
        }
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
        let Http2 { heard, is_retired, in_flight, .. } = &*self.connection;
        let mut times = self.connection.times();
        let unheard = times.unheard_since.elapsed();
        // Who has waited for it has done so for less than the server's `timeout`: a health check, say.
        if !self.is_over && unheard >= NO_MATTER && heard.elapsed() >= unheard {
            is_retired.store(true, Ordering::Relaxed);
        }
        times.idle_since = Instant::now();
        in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Upload {
    /// Waits until all has gone, or nothing goes any more.
    async fn linger(mut self) {
        loop {
            tokio::select! {
                biased;
                _ended = &mut self.task => return,
                () = self.content.moved() => {}
                () = sleep(LINGER) => return,
            }
        }
    }
}

/// Waits for a response, and tells of those that come before it.
pub(super) async fn response(
    mut response: ResponseFuture,
    tell: impl Fn(Response<()>),
) -> Result<Response<RecvStream>, Error> {
    poll_fn(|cx| {
        // What has failed may have been answered nevertheless.
        while let Poll::Ready(Some(Ok(interim))) = response.poll_informational(cx) {
            tell(interim);
        }
        Pin::new(&mut response).poll(cx)
    })
    .await
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
