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
//! | `/count` | how many of the requests above were answered, in digits; never stored |
//!
//! Every answer but the last two has eight fields, with `Content-Length` and `Date` by hyper, and may
//! be stored for an hour.

use std::convert::Infallible;
use std::error::Error;
use std::future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
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
        let service = service_fn(move |request: hyper::Request<_>| {
            let response = constants.answer(request.uri().path());
            future::ready(Ok::<_, Infallible>(response))
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
        let head_with_tag = HeaderMap::from_iter([
            (header::CACHE_CONTROL, HeaderValue::from_static("max-age=3600")),
            (header::HeaderName::from_static("cache-tag"), HeaderValue::from_static("small")),
        ]);
        Constants {
            head,
            head_with_vary,
            head_with_tag,
            tiny: Bytes::from_static(b"abcdefghijklmnop"),
            small: (b'a'..=b'z').cycle().take(1 << 10).collect(),
            large: (b'a'..=b'z').cycle().take(64 << 10).collect(),
            answered: AtomicU64::new(0),
        }
    }

    fn answer(&self, path: &str) -> Response<Full<Bytes>> {
        let (head, body) = match path {
            "/1k" => (&self.head, &self.small),
            "/64k" => (&self.head, &self.large),
            "/vary/1k" => (&self.head_with_vary, &self.small),
            "/vary/64k" => (&self.head_with_vary, &self.large),
            _ if path.starts_with("/fill/") => (&self.head, &self.small),
            _ if path.starts_with("/small/") => (&self.head_with_tag, &self.tiny),
            _ => return self.uncounted(path),
        };
        self.answered.fetch_add(1, Ordering::Relaxed);
        let mut response = Response::new(Full::new(body.clone()));
        response.headers_mut().clone_from(head);
        response
    }

    /// `/count`, or 404.
    fn uncounted(&self, path: &str) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::default());
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if path == "/count" {
            let answered = self.answered.load(Ordering::Relaxed);
            *response.body_mut() = Full::from(answered.to_string());
        } else {
            *response.status_mut() = StatusCode::NOT_FOUND;
        }
        response
    }
}
