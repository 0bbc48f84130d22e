//! A hyper server that answers from constants: what the parts under Larder cost by themselves, and
//! the origin behind the caches that `run` compares.
//!
//! `constant ADDRESS [MILLISECONDS]`: the second argument is the limit for reading a request head;
//! without it no timer runs. HTTP/1 only, on one `current_thread` runtime.
//!
//! | path | answer |
//! |---|---|
//! | `/1k`, `/64k` | 1 KiB, 64 KiB |
//! | `/vary/1k`, `/vary/64k` | the same with `Vary: Accept-Encoding` |
//! | `/fill/{n}` | 1 KiB, for any `n` |
//! | `/small/{n}` | 16 octets with few fields and `Cache-Tag: small`, for any `n` |
//! | `/no-store/1k`, `/no-store/64k` | 1 KiB, 64 KiB, not to be stored |
//! | `/large/{n}`, `/no-store/large/{n}` | `n` octets, in pieces of 64 KiB; may be stored, or not |
//! | `/endless/{n}` | the same without `Content-Length`; may be stored |
//! | `/count` | how many of the requests above were answered, in digits; never stored |
//!
//! Every answer but those to `/small` and `/count` has eight fields, with `Content-Length` and `Date` by
//! hyper, and may be stored for an hour if nothing else is said. The content of a request is read to its
//! end first.

use std::convert::Infallible;
use std::error::Error;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;

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
    let listener = TcpListener::bind(address).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let constants = Arc::clone(&constants);
        let service = service_fn(move |request: hyper::Request<Incoming>| {
            let constants = Arc::clone(&constants);
            async move {
                let response = constants.answer(request.uri().path());
                let mut content = request.into_body();
                while let Some(frame) = content.frame().await {
                    drop(frame?);
                }
                Ok::<_, hyper::Error>(response)
            }
        });
        let connection = http.serve_connection(TokioIo::new(stream), service);
        // A client that goes away, or is too slow, ends its own connection and nothing else.
        tokio::spawn(async move { drop(connection.await) });
    }
}

/// The answers, made once.
struct Constants {
    head: HeaderMap,
    head_with_vary: HeaderMap,
    head_with_tag: HeaderMap,
    head_not_to_store: HeaderMap,
    tiny: Bytes,
    small: Bytes,
    large: Bytes,
    answered: AtomicU64,
}

impl Constants {
    fn new() -> Constants {
        let head: HeaderMap = [
            (header::CONTENT_TYPE, "application/json"),
            (header::CACHE_CONTROL, "max-age=3600"),
            (header::ETAG, "\"5f3c-61a2b7e0\""),
            (header::LAST_MODIFIED, "Sat, 02 Nov 2024 08:30:00 GMT"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::HeaderName::from_static("x-request-id"), "01JBQ7M3W8K5T2Y9"),
        ]
        .into_iter()
        .map(|(name, value)| (name, HeaderValue::from_static(value)))
        .collect();
        let mut head_with_vary = head.clone();
        head_with_vary.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
        let mut head_not_to_store = head.clone();
        head_not_to_store.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let head_with_tag = HeaderMap::from_iter([
            (header::CACHE_CONTROL, HeaderValue::from_static("max-age=3600")),
            (header::HeaderName::from_static("cache-tag"), HeaderValue::from_static("small")),
        ]);
        Constants {
            head,
            head_with_vary,
            head_with_tag,
            head_not_to_store,
            tiny: Bytes::from_static(b"abcdefghijklmnop"),
            small: (b'a'..=b'z').cycle().take(1 << 10).collect(),
            large: (b'a'..=b'z').cycle().take(64 << 10).collect(),
            answered: AtomicU64::new(0),
        }
    }

    fn answer(&self, path: &str) -> Response<Content> {
        let (is_to_store, kind) =
            path.strip_prefix("/no-store").map_or((true, path), |kind| (false, kind));
        let (head, content) = match kind {
            "/1k" => (&self.head, Content::Whole(self.small.clone())),
            "/64k" => (&self.head, Content::Whole(self.large.clone())),
            "/vary/1k" => (&self.head_with_vary, Content::Whole(self.small.clone())),
            "/vary/64k" => (&self.head_with_vary, Content::Whole(self.large.clone())),
            _ if kind.starts_with("/fill/") => (&self.head, Content::Whole(self.small.clone())),
            _ if kind.starts_with("/small/") => {
                (&self.head_with_tag, Content::Whole(self.tiny.clone()))
            }
            _ => match self.pieces(kind) {
                Some(content) => (&self.head, content),
                None => return self.uncounted(path),
            },
        };
        self.answered.fetch_add(1, Ordering::Relaxed);
        let mut response = Response::new(content);
        let head = if is_to_store { head } else { &self.head_not_to_store };
        response.headers_mut().clone_from(head);
        response
    }

    /// Content that is longer than anybody wants at hand.
    fn pieces(&self, path: &str) -> Option<Content> {
        let known = path.strip_prefix("/large/");
        let left = known.or(path.strip_prefix("/endless/"))?.parse().ok()?;
        let (piece, is_known) = (self.large.clone(), known.is_some());
        Some(Content::Pieces { piece, left, is_known })
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

/// What an answer carries.
enum Content {
    Whole(Bytes),
    /// So many octets, piece by piece.
    Pieces {
        piece: Bytes,
        left: u64,
        /// How many they are is said beforehand.
        is_known: bool,
    },
}

impl Body for Content {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let octets = match &mut *self {
            Self::Whole(octets) => std::mem::take(octets),
            Self::Pieces { piece, left, .. } => {
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
