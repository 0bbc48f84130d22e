//! The tour's HTTP client: one request, the whole answer, and how long it took.
//!
//! It keeps connections open between requests, as clients of an API do. What the answers mean is
//! `tour`'s.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Serialize;
use serde_json::Value;

use super::tour::TourError;
use crate::clock;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const TIMEOUT: Duration = Duration::from_secs(10);
const MAX_BODY: usize = 1024 * 1024;

/// Who is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// What it is in the demo: `the API`.
    pub role: &'static str,
    /// Where it listens.
    pub address: SocketAddr,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.role, self.address)
    }
}

/// A request to be sent, once or often.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    method: Method,
    path: String,
    fields: Vec<(&'static str, String)>,
    body: Bytes,
}

impl Ask {
    /// `method` must be a token; the tour's are.
    pub(super) fn new(method: &'static str, path: impl Into<String>) -> Self {
        let method = Method::from_bytes(method.as_bytes()).expect("a literal method is a token");
        Self { method, path: path.into(), fields: Vec::new(), body: Bytes::new() }
    }

    pub(super) fn get(path: impl Into<String>) -> Self {
        Self::new("GET", path)
    }

    pub(super) fn with(mut self, field: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((field, value.into()));
        self
    }

    pub(super) fn json(mut self, content: &impl Serialize) -> Self {
        let body = serde_json::to_vec(content).expect("names are strings, and no value can fail");
        self.body = body.into();
        self.with(CONTENT_TYPE.as_str(), "application/json")
    }
}

impl fmt::Display for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// From before the request was sent until the last octet of the answer was read.
    pub(super) took: Duration,
}

impl Answer {
    /// The content as JSON; `null` when it is something else.
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The `Cache-Status` field as it came, its lines joined; `None` when there is none.
    pub(super) fn cache_status(&self) -> Option<String> {
        let lines = self.headers.get_all("cache-status").iter();
        let lines: Vec<_> = lines.map(|it| String::from_utf8_lossy(it.as_bytes())).collect();
        (!lines.is_empty()).then(|| lines.join(", "))
    }

    /// Whether the cache nearest to the client, which is the last in the list, says `hit`
    /// (RFC 9211 §2.1).
    pub(super) fn is_hit(&self) -> bool {
        let status = self.cache_status().unwrap_or_default();
        // Quoted strings may hold commas and semicolons. Every second piece is one.
        let bare: String = status.split('"').step_by(2).collect();
        let nearest = bare.rsplit(',').next().unwrap_or_default();
        nearest.split(';').skip(1).any(|parameter| parameter.trim() == "hit")
    }
}

/// Clones share their connections.
#[derive(Clone, Debug)]
pub(super) struct Client {
    pool: Pool<HttpConnector, Full<Bytes>>,
}

impl Client {
    /// Keeps up to `idle` unused connections to each peer.
    pub(super) fn new(idle: usize) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        connector.set_nodelay(true);
        let pool =
            Pool::builder(TokioExecutor::new()).pool_max_idle_per_host(idle).build(connector);
        Self { pool }
    }

    /// Sends `ask` to `peer` and reads the answer. Any status is an answer.
    pub(super) async fn send(&self, peer: Peer, ask: &Ask) -> Result<Answer, TourError> {
        let start = clock::instant();
        let exchange = self.exchange(peer.address, ask);
        let answer = match tokio::time::timeout(TIMEOUT, exchange).await {
            Ok(answer) => answer,
            Err(elapsed) => Err(elapsed.into()),
        };
        let (head, body) =
            answer.map_err(|cause| TourError::NoAnswer { peer, ask: ask.to_string(), cause })?;
        let took = start.elapsed();
        Ok(Answer { status: head.status, headers: head.headers, body, took })
    }

    async fn exchange(
        &self,
        address: SocketAddr,
        ask: &Ask,
    ) -> Result<(http::response::Parts, Bytes), Box<dyn std::error::Error + Send + Sync>> {
        let mut request = Request::builder()
            .method(ask.method.clone())
            .uri(format!("http://{address}{}", ask.path));
        for (name, value) in &ask.fields {
            request = request.header(*name, value);
        }
        let response = self.pool.request(request.body(Full::new(ask.body.clone()))?).await?;
        let (head, body) = response.into_parts();
        Ok((head, Limited::new(body, MAX_BODY).collect().await?.to_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hit_is_what_the_nearest_cache_says() {
        for (status, hit) in [
            ("larder; hit; ttl=60", true),
            ("larder; fwd=uri-miss; stored", false),
            ("far; hit, larder; fwd=uri-miss", false),
            ("far; fwd=uri-miss, larder; hit", true),
            ("larder; fwd=bypass; detail=\"a; hit, b; hit\"", false),
            ("larder; hit; detail=\"a, b\"", true),
            ("hit", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("cache-status", status.parse().unwrap());
            let answer = Answer {
                status: StatusCode::OK,
                headers,
                body: Bytes::new(),
                took: Duration::ZERO,
            };
            assert_eq!(answer.is_hit(), hit, "{status}");
        }
    }
}
