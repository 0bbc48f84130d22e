//! Clients: requests in the making, and what came back.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::PATIENCE;

/// Sends requests at once.
pub fn sent(asks: impl IntoIterator<Item = Ask>) -> Vec<JoinHandle<Got>> {
    asks.into_iter().map(|ask| tokio::spawn(ask.send())).collect()
}

/// Waits for what comes back, in the same order.
pub async fn answers(sent: Vec<JoinHandle<Got>>) -> Vec<Got> {
    let mut answers = Vec::new();
    for response in sent {
        answers.push(response.await.unwrap());
    }
    answers
}

/// A request in the making. Sent over a connection of its own.
pub struct Ask {
    gateway: SocketAddr,
    request: Request<BoxBody<Bytes, Infallible>>,
    http2: bool,
}

impl Ask {
    pub fn new(gateway: SocketAddr, method: &str, target: &str) -> Self {
        let mut request = Request::new(Full::default().boxed());
        *request.method_mut() = method.parse().unwrap();
        *request.uri_mut() = target.parse().unwrap();
        Self { gateway, request, http2: false }
    }

    /// Adds a line.
    pub fn field(mut self, name: &str, value: &str) -> Self {
        let name: http::HeaderName = name.parse().unwrap();
        self.request.headers_mut().append(name, value.parse().unwrap());
        self
    }

    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        *self.request.body_mut() = Full::new(body.into()).boxed();
        self
    }

    /// Leaves the length of the content unsaid: it goes in chunks, or in frames of HTTP/2.
    pub fn unannounced(mut self) -> Self {
        let body = std::mem::take(self.request.body_mut());
        // A mapped body does not know its length.
        *self.request.body_mut() = body.map_frame(|frame| frame).boxed();
        self
    }

    /// By HTTP/2 with prior knowledge.
    pub fn http2(mut self) -> Self {
        self.http2 = true;
        self
    }

    /// Sends it and takes the whole response.
    pub async fn send(self) -> Got {
        let open = self.open().await;
        open.finish().await.expect("the response broke off")
    }

    /// Sends it and takes the response head; the content is left to be read.
    pub async fn open(self) -> Open {
        self.try_open().await.expect("no response head")
    }

    /// Sends it and takes the whole response; an error if it does not come whole, or not at all.
    pub(crate) async fn attempt(self) -> Result<Got, hyper::Error> {
        self.try_open().await?.finish().await
    }

    async fn try_open(mut self) -> Result<Open, hyper::Error> {
        if !self.request.headers().contains_key("host") && !self.http2 {
            let host = self.gateway.to_string().parse().unwrap();
            self.request.headers_mut().insert("host", host);
        }
        let exchange = async {
            let stream = TcpStream::connect(self.gateway).await.unwrap();
            let (connection, response) = if self.http2 {
                let target = self.request.uri().clone();
                let full = format!("http://{}{target}", self.gateway);
                *self.request.uri_mut() = full.parse().unwrap();
                let (mut sender, connection) =
                    http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
                let running = tokio::spawn(async move {
                    let _ended = connection.await;
                });
                (running, sender.send_request(self.request).await?)
            } else {
                let (mut sender, connection) =
                    http1::handshake(TokioIo::new(stream)).await.unwrap();
                let running = tokio::spawn(async move {
                    let _ended = connection.await;
                });
                (running, sender.send_request(self.request).await?)
            };
            Ok(Open { response, connection })
        };
        tokio::time::timeout(PATIENCE, exchange).await.expect("no response head in time")
    }
}

/// A response whose content is still coming. Dropping it is a client that goes away.
pub struct Open {
    response: Response<Incoming>,
    connection: JoinHandle<()>,
}

impl Open {
    pub fn head(&self) -> Got {
        Got {
            status: self.response.status(),
            headers: self.response.headers().clone(),
            body: Bytes::new(),
        }
    }

    /// The next piece of content; `None` after the last; an error if it breaks off.
    pub async fn piece(&mut self) -> Option<Result<Bytes, hyper::Error>> {
        let frame = tokio::time::timeout(PATIENCE, self.response.body_mut().frame());
        let frame = frame.await.expect("no piece of content in time")?;
        Some(frame.map(|frame| frame.into_data().unwrap_or_default()))
    }

    /// Takes the rest of the content.
    pub async fn finish(mut self) -> Result<Got, hyper::Error> {
        let mut got = self.head();
        let mut body = Vec::new();
        while let Some(piece) = self.piece().await {
            body.extend_from_slice(&piece?);
        }
        got.body = body.into();
        Ok(got)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// A response. Its methods assert, and hand it on.
#[derive(Clone, Debug)]
pub struct Got {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Got {
    /// A field's lines, joined.
    pub fn field(&self, name: &str) -> Option<String> {
        let lines: Vec<_> =
            self.headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect();
        (!lines.is_empty()).then(|| lines.join(", "))
    }

    /// `Age`, in seconds.
    pub fn age(&self) -> u64 {
        self.field("age").unwrap_or_else(|| panic!("no `age` in {self:?}")).parse().unwrap()
    }

    /// What the gateway says in `Cache-Status`, without its name and without `ttl`.
    pub fn cache_status(&self) -> String {
        let field = self.field("cache-status").unwrap_or_default();
        let own = field.rsplit(", ").next().unwrap_or_default();
        let parameters =
            own.split("; ").filter(|part| *part != "larder" && !part.starts_with("ttl="));
        parameters.collect::<Vec<_>>().join("; ")
    }

    #[track_caller]
    pub fn code(self, code: u16) -> Self {
        assert_eq!(self.status.as_u16(), code, "{self:?}");
        self
    }

    #[track_caller]
    pub fn body(self, body: &str) -> Self {
        assert_eq!(String::from_utf8_lossy(&self.body), body, "{:?}", self.headers);
        self
    }

    /// `Cache-Status` as [`Got::cache_status`] shows it.
    #[track_caller]
    pub fn status(self, expected: &str) -> Self {
        assert_eq!(self.cache_status(), expected, "{self:?}");
        self
    }

    #[track_caller]
    pub fn has(self, name: &str, value: &str) -> Self {
        assert_eq!(self.field(name).as_deref(), Some(value), "field `{name}` of {self:?}");
        self
    }

    #[track_caller]
    pub fn lacks(self, name: &str) -> Self {
        assert_eq!(self.field(name), None, "field `{name}` of {self:?}");
        self
    }
}

/// Sends octets as they are and takes everything until the server closes.
pub async fn raw(gateway: SocketAddr, octets: &[u8]) -> String {
    let exchange = async {
        let mut stream = TcpStream::connect(gateway).await.unwrap();
        stream.write_all(octets).await.unwrap();
        let mut answer = Vec::new();
        // A reset after the answer is as good as a close.
        let _end = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    };
    tokio::time::timeout(PATIENCE, exchange).await.expect("the server never closed")
}

/// A connection of HTTP/2, for many requests at once.
pub(crate) struct Http2 {
    server: String,
    sender: http2::SendRequest<Full<Bytes>>,
    connection: JoinHandle<()>,
}

impl Http2 {
    /// With prior knowledge.
    pub(crate) async fn to(server: SocketAddr) -> Self {
        let stream = TcpStream::connect(server).await.unwrap();
        Self::over(stream, &format!("http://{server}")).await
    }

    /// Over a stream, asking for what has this scheme and authority.
    pub(crate) async fn over<S>(stream: S, server: &str) -> Self
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let stream = TokioIo::new(stream);
        let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
        let connection = tokio::spawn(async move {
            let _ended = connection.await;
        });
        Self { server: server.to_owned(), sender, connection }
    }

    /// Asks for this authority instead of the server's address.
    pub(crate) fn naming(mut self, authority: &str) -> Self {
        self.server = format!("http://{authority}");
        self
    }

    /// Sends a GET on a stream of its own; what is handed out waits for the whole response.
    pub(crate) fn get(&self, target: &str) -> impl Future<Output = Got> + Send + use<> {
        let response = self.attempt(target);
        async { response.await.expect("the response broke off") }
    }

    /// As [`Http2::get`]; an error if the response does not come whole.
    pub(crate) fn attempt(
        &self,
        target: &str,
    ) -> impl Future<Output = Result<Got, hyper::Error>> + Send + use<> {
        let mut request = Request::new(Full::default());
        *request.uri_mut() = format!("{}{target}", self.server).parse().unwrap();
        let response = self.sender.clone().send_request(request);
        async {
            let exchange = async {
                let (head, body) = response.await?.into_parts();
                let body = body.collect().await?.to_bytes();
                Ok(Got { status: head.status, headers: head.headers, body })
            };
            // The first of a crowd waits until the last has come.
            tokio::time::timeout(3 * PATIENCE, exchange).await.expect("no response in time")
        }
    }

    /// Waits until the server ends the connection.
    pub(crate) async fn ended(mut self) {
        let ended = tokio::time::timeout(PATIENCE, &mut self.connection).await;
        ended.expect("the server never closed").unwrap();
    }
}

impl Drop for Http2 {
    fn drop(&mut self) {
        self.connection.abort();
    }
}
