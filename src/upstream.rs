//! Sending a request to the servers behind Larder: connections, time limits, what failed.
//!
//! What may be sent, and what a failure becomes for the client, is `gateway`'s business.

mod reply;

use std::error::Error;
use std::fs::File;
use std::io::ErrorKind::{BrokenPipe, ConnectionReset};
use std::io::{self, BufReader};
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, HeaderValue, TRANSFER_ENCODING};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::config;
use crate::interim;
use crate::message;

pub use self::reply::{Incomplete, Reply};

/// A group of servers that answer the same requests, used in turn.
pub struct Upstream {
    servers: Box<[Uri]>,
    next: AtomicUsize,
    client: Client<HttpsConnector<HttpConnector>, Content>,
    timeout: Duration,
    idle_timeout: Duration,
    preserve_host: bool,
}

/// Why a request got no response from its upstream.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Failure {
    /// No server took the connection, so nothing was sent.
    #[error("upstream refused the connection")]
    Connect(#[source] Cause),
    /// No response head within the upstream's `timeout`.
    #[error("upstream did not answer in time")]
    Timeout,
    /// The connection broke, or what came back is not HTTP.
    #[error("upstream broke off or answered nonsense")]
    Broken(#[source] Cause),
    /// What the documents are in cannot be reached: whoever asks later may be answered.
    #[error("the database cannot be reached")]
    Unavailable(#[source] Cause),
    /// The client's content broke off or was malformed, when some of it had been sent on.
    #[error("the request's content did not come whole")]
    Request(#[source] Cause),
}

/// The cause of a failure that several requests share.
#[derive(Clone, Debug, thiserror::Error)]
#[error(transparent)]
pub struct Cause(Arc<dyn Error + Send + Sync>);

impl Cause {
    /// The connection closed before anything was answered.
    fn is_close(&self) -> bool {
        let mut cause: Option<&(dyn Error + 'static)> = Some(self.0.as_ref());
        while let Some(error) = cause {
            let closed = error.downcast_ref().is_some_and(hyper::Error::is_incomplete_message);
            let reset = error.downcast_ref().map(io::Error::kind);
            if closed || matches!(reset, Some(ConnectionReset | BrokenPipe)) {
                return true;
            }
            cause = error.source();
        }
        false
    }
}

/// The upstream cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// The `ca` file cannot be read, or holds no certificate.
    #[error("no certificate authority can be read from `{path}`")]
    Authorities {
        /// As written in the configuration.
        path: String,
        /// What the file gave.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The system has no certificate authorities.
    #[error("the system's certificate authorities cannot be read; name a file with `ca`")]
    NoSystemAuthorities(#[source] io::Error),
}

impl Upstream {
    /// An upstream as configured. Opens no connection.
    pub fn new(config: &config::Upstream) -> Result<Self, Unusable> {
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(config.connect_timeout));
        let builder = HttpsConnectorBuilder::new();
        let uses_tls = config.servers.iter().any(|server| server.scheme_str() == Some("https"));
        let builder = match &config.ca {
            Some(path) => builder.with_tls_config(trusting(authorities(path)?)),
            // Without an `https` server nothing will be asked of the store, which may be missing.
            None if !uses_tls => builder.with_tls_config(trusting(rustls::RootCertStore::empty())),
            None => builder.with_native_roots().map_err(Unusable::NoSystemAuthorities)?,
        };
        let connector = builder.https_or_http().enable_http1().wrap_connector(connector);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_max_idle_per_host(256)
            .build(connector);
        Ok(Self {
            servers: config.servers.clone().into(),
            next: AtomicUsize::new(0),
            client,
            timeout: config.timeout,
            idle_timeout: config.idle_timeout,
            preserve_host: config.preserve_host,
        })
    }

    /// Forwards a request and waits for the response head. `fields` are the end-to-end fields to
    /// send; `authority` is what the client asked for; interim responses go to `interim`.
    ///
    /// The next server in turn gets it. If that refuses the connection, the one after is tried, each
    /// server once: nothing was sent, so any method may be repeated (RFC 9110 §9.2.2). A safe request
    /// whose content is at hand, or that has none, is repeated once more if the connection closes without an answer: an idle
    /// one may do that just as a request goes out.
    ///
    /// # Errors
    /// See [`Failure`]. Dropping the future gives the request up.
    pub async fn send(
        &self,
        method: &Method,
        target: Option<&PathAndQuery>,
        authority: &str,
        fields: &HeaderMap,
        content: Content,
        interim: Option<interim::Sender>,
    ) -> Result<Response<Reply>, Failure> {
        let mut may_repeat = method.is_safe() && content.rest.is_none();
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let mut untried = self.servers.len();
        for server in self.servers.iter().cycle().skip(first % untried.max(1)) {
            let mut request =
                self.request(server, method, target, authority, fields, content.clone());
            if let Some(interim) = interim.clone() {
                hyper::ext::on_informational(&mut request, move |response| {
                    interim.send(response.status(), response.headers());
                });
            }
            match self.head_of(self.client.request(request), &content).await {
                Ok(response) => {
                    return Ok(response.map(|body| Reply::new(body, self.idle_timeout)));
                }
                Err(Failure::Connect(_)) if untried > 1 => untried -= 1,
                Err(Failure::Broken(cause)) if may_repeat && cause.is_close() => may_repeat = false,
                Err(failure) => return Err(failure),
            }
        }
        Err(Failure::Connect(Cause(Arc::new(io::Error::other("no server is configured")))))
    }

    fn request(
        &self,
        server: &Uri,
        method: &Method,
        target: Option<&PathAndQuery>,
        authority: &str,
        fields: &HeaderMap,
        content: Content,
    ) -> Request<Content> {
        let mut parts = server.clone().into_parts();
        parts.path_and_query =
            Some(target.cloned().unwrap_or_else(|| PathAndQuery::from_static("/")));
        let uri = Uri::from_parts(parts).expect("a server has a scheme and an authority");
        let is_chunked = content.size_hint().exact().is_none();
        let mut request = Request::new(content);
        *request.method_mut() = method.clone();
        *request.uri_mut() = uri;
        *request.version_mut() = Version::HTTP_11;
        *request.headers_mut() = fields.clone();
        // Without the field the client derives it from the server's URI.
        request.headers_mut().remove(HOST);
        if self.preserve_host
            && let Ok(host) = authority.parse()
        {
            request.headers_mut().insert(HOST, host);
        }
        // The client would not send the content of a GET otherwise.
        if is_chunked {
            request.headers_mut().insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        request
    }

    /// Waits for a response head, from the last piece of content that left.
    async fn head_of(
        &self,
        response: hyper_util::client::legacy::ResponseFuture,
        content: &Content,
    ) -> Result<Response<Incoming>, Failure> {
        tokio::pin!(response);
        let silence = tokio::time::sleep(self.timeout);
        tokio::pin!(silence);
        loop {
            tokio::select! {
                result = &mut response => {
                    let response = result.map_err(|error| Failure::of(error, content))?;
                    return understood(response);
                }
                () = content.moved() => silence.as_mut().reset(Instant::now() + self.timeout),
                () = &mut silence => return Err(Failure::Timeout),
            }
        }
    }
}

impl Failure {
    /// [`Failure::Unavailable`], because of this.
    pub fn unavailable(cause: impl Error + Send + Sync + 'static) -> Self {
        Self::Unavailable(Cause(Arc::new(cause)))
    }

    /// [`Failure::Broken`], because of this.
    pub fn broken(cause: impl Error + Send + Sync + 'static) -> Self {
        Self::Broken(Cause(Arc::new(cause)))
    }

    fn of(error: hyper_util::client::legacy::Error, content: &Content) -> Self {
        let refused = error.is_connect();
        let cause = Cause(Arc::new(error));
        match &content.rest {
            _ if refused => Self::Connect(cause),
            Some(upload) if upload.is_broken.load(Ordering::Relaxed) => Self::Request(cause),
            _ => Self::Broken(cause),
        }
    }
}

/// Refuses what nobody asked for, as it is not for the client:
///
/// - what follows a 101, since `Upgrade` is not sent on (RFC 9110 §7.8);
/// - content in a transfer coding other than `chunked`, which `TE` does not announce (RFC 9112
///   §7.4): it would pass for the content itself.
fn understood(response: Response<Incoming>) -> Result<Response<Incoming>, Failure> {
    let mut codings = response.headers().get_all(TRANSFER_ENCODING).iter();
    let is_chunked = |coding: &HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"chunked");
    let unasked = if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        "upstream switched protocols unasked"
    } else if !codings.all(is_chunked) {
        "upstream answered in a transfer coding unasked"
    } else {
        return Ok(response);
    };
    Err(Failure::Broken(Cause(Arc::new(io::Error::other(unasked)))))
}

fn trusting(authorities: rustls::RootCertStore) -> rustls::ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring offers the default versions")
        .with_root_certificates(authorities)
        .with_no_client_auth()
}

fn authorities(path: &Path) -> Result<rustls::RootCertStore, Unusable> {
    let unusable = |source: Box<dyn Error + Send + Sync>| Unusable::Authorities {
        path: path.display().to_string(),
        source,
    };
    let file = File::open(path).map_err(|error| unusable(error.into()))?;
    let mut store = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_reader_iter(BufReader::new(file)) {
        let certificate = certificate.map_err(|error| unusable(error.into()))?;
        store.add(certificate).map_err(|error| unusable(error.into()))?;
    }
    if store.is_empty() {
        return Err(unusable("it holds no certificate in PEM form".into()));
    }
    Ok(store)
}

/// What a request carries to the upstream: octets at hand, or none, and behind them the client's
/// content as it comes in. Clones share the latter, so that a server which was never reached leaves
/// it to the next.
#[derive(Clone, Default)]
pub struct Content {
    begun: Bytes,
    rest: Option<Arc<Upload>>,
}

struct Upload {
    incoming: Mutex<Incoming>,
    moved: Notify,
    /// The client broke off, or what it sent is no content.
    is_broken: AtomicBool,
}

impl Content {
    /// All of it, to be sent as often as is needed.
    pub fn whole(octets: Bytes) -> Self {
        Self { begun: octets, rest: None }
    }

    /// What was read of it already, and what is still to come.
    pub fn passing(begun: Bytes, incoming: Incoming) -> Self {
        // Content of known length 0 is none: it needs no framing towards the upstream.
        let some = !incoming.is_end_stream();
        let upload = || Upload {
            incoming: incoming.into(),
            moved: Notify::new(),
            is_broken: AtomicBool::new(false),
        };
        Self { begun, rest: some.then(|| Arc::new(upload())) }
    }

    /// Waits until another piece has left; for ever if there is none.
    async fn moved(&self) {
        match &self.rest {
            Some(upload) => upload.moved.notified().await,
            None => std::future::pending().await,
        }
    }
}

impl Upload {
    fn incoming(&self) -> MutexGuard<'_, Incoming> {
        self.incoming.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Body for Content {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if !self.begun.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.begun)))));
        }
        let Some(upload) = &self.rest else { return Poll::Ready(None) };
        let mut frame = Pin::new(&mut *upload.incoming()).poll_frame(cx);
        match &mut frame {
            Poll::Ready(Some(Err(_))) => upload.is_broken.store(true, Ordering::Relaxed),
            Poll::Ready(Some(Ok(frame))) => {
                frame.trailers_mut().map(message::remove_early_fields);
            }
            _ => {}
        }
        if frame.is_ready() {
            upload.moved.notify_one();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        let is_rest_read = |upload: &Arc<Upload>| upload.incoming().is_end_stream();
        self.begun.is_empty() && self.rest.as_ref().is_none_or(is_rest_read)
    }

    fn size_hint(&self) -> SizeHint {
        let begun = self.begun.len() as u64;
        let Some(upload) = &self.rest else { return SizeHint::with_exact(begun) };
        let rest = upload.incoming().size_hint();
        let mut whole = SizeHint::new();
        if let Some(upper) = rest.upper() {
            whole.set_upper(upper.saturating_add(begun));
        }
        whole.set_lower(rest.lower().saturating_add(begun));
        whole
    }
}
