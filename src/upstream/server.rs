//! One server: its connections, and one exchange with it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::header::{HeaderValue, TRANSFER_ENCODING};
use http::{Response, StatusCode, Uri};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, ResponseFuture};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::Instant;

use crate::config;

use super::{Content, Failure, Outgoing, Reply};

/// One server. Dropping it closes the connections that are idle; others close when they become so.
pub(super) struct Server {
    url: Uri,
    pub(super) weight: u32,
    pub(super) is_backup: bool,
    /// Stands for the URL, the same in every gateway.
    pub(super) hash: u64,
    in_flight: AtomicUsize,
    client: Client<HttpsConnector<HttpConnector>, Content>,
    timeout: Duration,
    idle_timeout: Duration,
    preserve_host: bool,
}

/// A request that a server has. Dropping it ends that.
pub(super) struct Call {
    server: Arc<Server>,
}

impl Server {
    /// Opens no connection.
    pub(super) fn new(
        server: &config::UpstreamServer,
        config: &config::Upstream,
        tls: rustls::ClientConfig,
    ) -> Self {
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(config.connect_timeout));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_max_idle_per_host(256)
            .build(connector);
        Self {
            url: server.url.clone(),
            weight: server.weight,
            is_backup: server.backup,
            hash: hash(server.url.to_string().as_bytes()),
            in_flight: AtomicUsize::new(0),
            client,
            timeout: config.timeout,
            idle_timeout: config.idle_timeout,
            preserve_host: config.preserve_host,
        }
    }

    /// How many requests it has, to the end of their responses.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Waits for a response head, from the last piece of content that left.
    async fn head_of(
        &self,
        response: ResponseFuture,
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

impl Call {
    pub(super) fn begin(server: Arc<Server>) -> Self {
        server.in_flight.fetch_add(1, Ordering::Relaxed);
        Self { server }
    }

    pub(super) fn server(&self) -> &Arc<Server> {
        &self.server
    }

    /// Sends the request and waits for the response head.
    ///
    /// # Errors
    /// See [`Failure`]. Dropping the future gives the request up.
    pub(super) async fn ask(self, outgoing: &Outgoing<'_>) -> Result<Response<Reply>, Failure> {
        let server = &*self.server;
        let request = outgoing.request(&server.url, server.preserve_host);
        let response = server.head_of(server.client.request(request), &outgoing.content).await?;
        let idle_timeout = server.idle_timeout;
        Ok(response.map(|incoming| Reply::new(incoming, idle_timeout, self)))
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.server.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A number for some octets, the same in every gateway.
pub(super) fn hash(octets: &[u8]) -> u64 {
    let hash = blake3::hash(octets);
    u64::from_le_bytes(*hash.as_bytes().first_chunk().expect("a hash has 32 octets"))
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
    Err(Failure::broken(std::io::Error::other(unasked)))
}
