//! A hyper server that answers from constants: what the parts under Larder cost by themselves, and
//! the origin behind the caches that `run` compares.
//!
//! `constant ADDRESS [MILLISECONDS]`: the second argument is the limit for reading a request head;
//! without it no timer runs. HTTP/1.1, and HTTP/2 without TLS with clients that begin with it (RFC 9113 §3.3);
//! on one `current_thread` runtime.
//!
//! | path | answer |
//! |---|---|
//! | `/1k`, `/16k`, `/64k`, `/256k` | so many KiB |
//! | `/vary/…` | the same with `Vary: Accept-Encoding` |
//! | `/variants/…` | the same with `Vary: Accept-Language` |
//! | `/fill/{n}` | 1 KiB, for any `n` |
//! | `/small/{n}` | 16 octets with few fields and `Cache-Tag: small`, for any `n` |
//! | `/mixed/{n}` | 64 octets to 64 KiB, as `n` has it: of every doubling between them equally often, 9.6 KiB in the mean |
//! | `/paced/{n}` | 1 KiB, one answer every 10 ms: those who ask more often wait for each other |
//! | `/no-store/1k`, `/no-store/16k`, … | the first ones, not to be stored |
//! | `/large/{n}`, `/no-store/large/{n}` | `n` octets, in pieces of 64 KiB; may be stored, or not |
//! | `/endless/{n}` | the same without `Content-Length`; may be stored |
//! | `/no-store/paused/{n}` | as `/no-store/large/{n}`, but after 64 KiB nothing comes for 10 ms |
//! | `/count` | how many of the requests above were answered, in digits; never stored |
//!
//! Every answer but those to `/small` and `/count` has eight fields, with `Content-Length` and `Date` by
//! hyper, and may be stored for an hour if nothing else is said. Contents of so many KiB have one entity tag: where
//! `If-None-Match` is just that, the answer is a 304, and to a `Range` of one part with both ends it is a 206. The
//! content of a request is read to its end first.

use std::convert::Infallible;
use std::error::Error;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpSocket;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

/// Between two paced answers: a hundred a second.
const PACE: Duration = Duration::from_millis(10);

/// Long enough for the first octets to be seen by those who share the origin's core.
const PAUSE: Duration = Duration::from_millis(10);

/// Of every content of so many KiB.
const ENTITY_TAG: &str = "\"5f3c-61a2b7e0\"";

fn main() -> Result<(), Box<dyn Error>> {
    const USAGE: &str = "usage: constant ADDRESS [MILLISECONDS]";
    let mut arguments = std::env::args().skip(1);
    let address: SocketAddr = arguments.next().ok_or(USAGE)?.parse()?;
    let head_limit = arguments.next().map(|ms| ms.parse()).transpose()?.map(Duration::from_millis);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(address, head_limit))
}

/// Accepts connections until the process is killed.
#[expect(clippy::disallowed_methods, reason = "the server is killed; it has nothing to drain")]
async fn serve(address: SocketAddr, head_limit: Option<Duration>) -> Result<(), Box<dyn Error>> {
    let constants = Arc::new(Constants::new());
    let mut http = http1::Builder::new();
    // hyper sets a limit by itself, which without a timer would only make it log.
    http.header_read_timeout(head_limit);
    if head_limit.is_some() {
        http.timer(TokioTimer::new());
    }
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    // As Larder's: 512 connections may come at once.
    let listener = socket.listen(4096)?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (constants, http) = (Arc::clone(&constants), http.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            let constants = Arc::clone(&constants);
            async move {
                if request.uri().path().starts_with("/paced/") {
                    constants.turn().await;
                }
                let response = constants.answer(&request);
                let mut content = request.into_body();
                while let Some(frame) = content.frame().await {
                    drop(frame?);
                }
                Ok::<_, hyper::Error>(response)
            }
        });
        // A client that goes away, or is too slow, ends its own connection and nothing else.
        tokio::spawn(async move {
            // `PRI `, by which the preface of HTTP/2 begins, is a method of nothing else.
            let mut first = [0; 4];
            let is_second = stream.peek(&mut first).await.is_ok() && &first == b"PRI ";
            let stream = TokioIo::new(stream);
            if is_second {
                let http = http2::Builder::new(TokioExecutor::new());
                drop(http.serve_connection(stream, service).await);
            } else {
                drop(http.serve_connection(stream, service).await);
            }
        });
    }
}

/// The answers, made once.
struct Constants {
    head: HeaderMap,
    head_with_vary: HeaderMap,
    head_with_variants: HeaderMap,
    head_with_tag: HeaderMap,
    head_not_to_store: HeaderMap,
    tiny: Bytes,
    /// The longest content that is at hand; shorter ones are its beginning.
    large: Bytes,
    answered: AtomicU64,
    /// When the next paced answer may leave.
    next: Mutex<Instant>,
}

impl Constants {
    fn new() -> Constants {
        let head: HeaderMap = [
            (header::CONTENT_TYPE, "application/json"),
            (header::CACHE_CONTROL, "max-age=3600"),
            (header::ETAG, ENTITY_TAG),
            (header::LAST_MODIFIED, "Sat, 02 Nov 2024 08:30:00 GMT"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::HeaderName::from_static("x-request-id"), "01JBQ7M3W8K5T2Y9"),
        ]
        .into_iter()
        .map(|(name, value)| (name, HeaderValue::from_static(value)))
        .collect();
        let mut head_with_vary = head.clone();
        head_with_vary.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
        let mut head_with_variants = head.clone();
        head_with_variants.insert(header::VARY, HeaderValue::from_static("accept-language"));
        let mut head_not_to_store = head.clone();
        head_not_to_store.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let head_with_tag = HeaderMap::from_iter([
            (header::CACHE_CONTROL, HeaderValue::from_static("max-age=3600")),
            (header::HeaderName::from_static("cache-tag"), HeaderValue::from_static("small")),
        ]);
        Constants {
            head,
            head_with_vary,
            head_with_variants,
            head_with_tag,
            head_not_to_store,
            tiny: Bytes::from_static(b"abcdefghijklmnop"),
            large: (b'a'..=b'z').cycle().take(256 << 10).collect(),
            answered: AtomicU64::new(0),
            next: Mutex::new(Instant::now()),
        }
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Content> {
        let path = request.uri().path();
        let (head, kind) = if let Some(kind) = path.strip_prefix("/no-store") {
            (&self.head_not_to_store, kind)
        } else if let Some(kind) = path.strip_prefix("/vary") {
            (&self.head_with_vary, kind)
        } else if let Some(kind) = path.strip_prefix("/variants") {
            (&self.head_with_variants, kind)
        } else {
            (&self.head, path)
        };
        let response = if let Some(length) = length(kind) {
            selected(head, &self.large.slice(..length), request.headers())
        } else if kind.starts_with("/mixed/") {
            whole(head, self.mixed(kind))
        } else if kind.starts_with("/small/") {
            whole(&self.head_with_tag, self.tiny.clone())
        } else if let Some(content) = self.pieces(kind) {
            let mut response = Response::new(content);
            response.headers_mut().clone_from(head);
            response
        } else {
            return self.uncounted(path);
        };
        self.answered.fetch_add(1, Ordering::Relaxed);
        response
    }

    /// As long as the number at the end of the path has it.
    fn mixed(&self, path: &str) -> Bytes {
        let number =
            path.rsplit('/').next().and_then(|number| number.parse().ok()).unwrap_or(0_u64);
        // Neighbours are to differ.
        let scattered = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let (doublings, part) = ((scattered >> 32) % 10, (scattered >> 16) & 0xffff);
        let least = 64 << doublings;
        let length = usize::try_from(least + ((least * part) >> 16)).unwrap_or(0);
        self.large.slice(..length.min(self.large.len()))
    }

    /// Waits until it is one's turn, in the order of asking.
    async fn turn(&self) {
        let due = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let due = (*next).max(Instant::now());
            *next = due + PACE;
            due
        };
        sleep_until(due).await;
    }

    /// Content that is longer than anybody wants at hand.
    fn pieces(&self, path: &str) -> Option<Content> {
        let paused = path.strip_prefix("/paused/");
        let known = path.strip_prefix("/large/").or(paused);
        let left = known.or(path.strip_prefix("/endless/"))?.parse().ok()?;
        let pause = paused.map(|_| Pause { has_begun: false, end: Box::pin(sleep(PAUSE)) });
        let (piece, is_known) = (self.large.slice(..64 << 10), known.is_some());
        Some(Content::Pieces { piece, left, is_known, pause })
    }

    /// `/count`, or 404.
    fn uncounted(&self, path: &str) -> Response<Content> {
        let mut response = Response::new(Content::Whole(Bytes::new()));
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if path == "/count" {
            let answered = self.answered.load(Ordering::Relaxed);
            *response.body_mut() = Content::Whole(answered.to_string().into());
        } else {
            *response.status_mut() = StatusCode::NOT_FOUND;
        }
        response
    }
}

/// Of the contents that are at hand.
fn length(kind: &str) -> Option<usize> {
    match kind {
        "/1k" => Some(1 << 10),
        "/16k" => Some(16 << 10),
        "/64k" => Some(64 << 10),
        "/256k" => Some(256 << 10),
        _ => (kind.starts_with("/fill/") || kind.starts_with("/paced/")).then_some(1 << 10),
    }
}

fn whole(head: &HeaderMap, content: Bytes) -> Response<Content> {
    let mut response = Response::new(Content::Whole(content));
    response.headers_mut().clone_from(head);
    response
}

/// The content, a part of it, or that the client has it: as much of RFC 9110 §13 and §14 as is asked for here.
fn selected(head: &HeaderMap, content: &Bytes, asked: &HeaderMap) -> Response<Content> {
    if asked.get(header::IF_NONE_MATCH).is_some_and(|tag| tag == ENTITY_TAG) {
        let mut response = whole(head, Bytes::new());
        response.headers_mut().remove(header::CONTENT_TYPE);
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return response;
    }
    let part = asked.get(header::RANGE).and_then(|range| {
        let (first, last) = range.to_str().ok()?.strip_prefix("bytes=")?.split_once('-')?;
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        let value =
            HeaderValue::try_from(format!("bytes {first}-{last}/{}", content.len())).ok()?;
        (first <= last && last < content.len()).then(|| (content.slice(first..=last), value))
    });
    let Some((part, range)) = part else { return whole(head, content.clone()) };
    let mut response = whole(head, part);
    response.headers_mut().insert(header::CONTENT_RANGE, range);
    *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    response
}

/// What an answer carries.
enum Content {
    Whole(Bytes),
    /// So many octets, piece by piece.
    Pieces {
        piece: Bytes,
        left: u64,
        /// How many they are is said beforehand.
        is_known: bool,
        pause: Option<Pause>,
    },
}

/// Between the first piece and the next one.
struct Pause {
    has_begun: bool,
    end: Pin<Box<Sleep>>,
}

impl Body for Content {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let octets = match &mut *self {
            Self::Whole(octets) => std::mem::take(octets),
            Self::Pieces { piece, left, pause, .. } => {
                match pause {
                    Some(pause) if pause.has_begun => ready!(pause.end.as_mut().poll(context)),
                    Some(pause) => pause.has_begun = true,
                    None => {}
                }
                let count =
                    usize::try_from(*left).map_or(piece.len(), |left| left.min(piece.len()));
                *left -= count as u64;
                piece.slice(..count)
            }
        };
        Poll::Ready((!octets.is_empty()).then(|| Ok(Frame::data(octets))))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(octets) => octets.is_empty(),
            Self::Pieces { left, .. } => *left == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(octets) => SizeHint::with_exact(octets.len() as u64),
            Self::Pieces { left, is_known: true, .. } => SizeHint::with_exact(*left),
            Self::Pieces { .. } => SizeHint::default(),
        }
    }
}
