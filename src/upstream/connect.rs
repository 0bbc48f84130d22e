//! Opening a connection to one server: TCP, TLS if it is `https`, and which protocol is spoken there.
//!
//! In TLS the handshake says which protocol it is (RFC 7301); in cleartext HTTP/2 has to be known of
//! (RFC 9113 §3.3).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use hyper::service::Service as _;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::service::TowerToHyperService;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use crate::config::{self, Http};
use crate::handshake::in_words;

use super::Failure;
use super::http2::{self, Http2};
use super::names::Whereto;
use super::wire::Wire;

/// Without an answer for so long a connection is asked whether anybody is there…
const KEEPALIVE: Duration = Duration::from_secs(30);

/// … and is given up if nothing is heard for so long, by the operating system.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// Opens connections to one server.
pub(super) struct Connector {
    server: Uri,
    http: Http,
    tcp: TowerToHyperService<HttpConnector<Whereto>>,
    /// None for cleartext, or if nobody can be believed by that name.
    tls: Option<Tls>,
    timeout: Duration,
}

/// What connections are secured with.
struct Tls {
    /// Offers what may be spoken.
    config: Arc<ClientConfig>,
    /// Offers HTTP/1.1.
    http1: Arc<ClientConfig>,
    /// Whose certificate is to be shown.
    name: ServerName<'static>,
}

/// A connection that nobody has used.
pub(super) enum Opened {
    /// For one exchange after another.
    Http1(Wire),
    /// For many at once.
    Http2(Http2),
}

impl Connector {
    /// Opens no connection yet.
    pub(super) fn new(
        server: &Uri,
        whereto: Whereto,
        config: &config::Upstream,
        tls: &ClientConfig,
    ) -> Self {
        let mut tcp = HttpConnector::new_with_resolver(whereto);
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(config.connect_timeout));
        tcp.set_keepalive(Some(KEEPALIVE));
        tcp.set_keepalive_interval(Some(KEEPALIVE_INTERVAL));
        let name = config.server_name.as_deref().or(server.host());
        let name = name.map(|host| host.trim_matches(['[', ']']).to_owned());
        let name =
            name.filter(|_| is_secure(server)).and_then(|name| ServerName::try_from(name).ok());
        Self {
            server: server.clone(),
            http: config.http,
            tcp: TowerToHyperService::new(tcp),
            tls: name.map(|name| Tls {
                config: Arc::new(offering(tls, config.http)),
                http1: Arc::new(offering(tls, Http::V1)),
                name,
            }),
            timeout: config.connect_timeout,
        }
    }

    /// HTTP/2 may be what is spoken.
    pub(super) fn may_speak_http2(&self) -> bool {
        match self.http {
            Http::V1 => false,
            Http::V2 => true,
            Http::Auto => self.tls.is_some(),
        }
    }

    /// A connection with which requests can be sent. `to_http1`: by HTTP/1.1, whatever else may be spoken.
    ///
    /// # Errors
    /// [`Failure::Connect`].
    pub(super) async fn open(&self, to_http1: bool) -> Result<Opened, Failure> {
        let opened = tokio::time::timeout(self.timeout, self.open_in_time(to_http1)).await;
        opened.unwrap_or_else(|_| Err(Failure::connect(io::Error::from(io::ErrorKind::TimedOut))))
    }

    async fn open_in_time(&self, to_http1: bool) -> Result<Opened, Failure> {
        // The configuration refuses such names. In cleartext it would be anybody.
        if self.tls.is_none() && is_secure(&self.server) {
            return Err(Failure::connect(io::Error::other("no certificate can be for its name")));
        }
        let is_known = self.http == Http::V2 && !to_http1;
        let stream = self.tcp.call(self.server.clone()).await.map_err(Failure::connect)?;
        let stream = stream.into_inner();
        let Some(Tls { config, http1, name }) = &self.tls else {
            return handshake(stream, is_known).await;
        };
        let tls = TlsConnector::from(Arc::clone(if to_http1 { http1 } else { config }));
        let shaken = tls.connect(name.clone(), stream).await;
        let stream = shaken.map_err(|error| Failure::connect(in_words(error)))?;
        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        if is_known && !is_http2 {
            return Err(Failure::connect(io::Error::other("it does not speak HTTP/2")));
        }
        handshake(stream, is_http2).await
    }
}

fn is_secure(server: &Uri) -> bool {
    server.scheme_str() == Some("https")
}

/// What connections are secured with that may speak this.
fn offering(tls: &ClientConfig, http: Http) -> ClientConfig {
    let mut tls = tls.clone();
    let mut offer = |protocols: &[&[u8]]| {
        tls.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    };
    match http {
        Http::Auto => offer(&[b"h2", b"http/1.1"]),
        Http::V1 => offer(&[b"http/1.1"]),
        Http::V2 => offer(&[b"h2"]),
    }
    tls
}

async fn handshake<S>(stream: S, is_http2: bool) -> Result<Opened, Failure>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    if is_http2 {
        return http2::handshake(stream).await.map(Opened::Http2).map_err(Failure::connect);
    }
    Ok(Opened::Http1(Wire::new(stream)))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::super::tls;
    use super::*;

    #[tokio::test]
    async fn nothing_goes_in_cleartext_to_a_server_of_https() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://127.1:{}", listener.local_addr().unwrap().port());
        let config = config::Upstream::new("a".to_owned(), Vec::new());
        let tls = tls::client(&config).unwrap();
        let connector = Connector::new(&url.parse().unwrap(), Whereto::default(), &config, &tls);
        for to_http1 in [false, true] {
            let opened = connector.open(to_http1).await;
            assert!(matches!(opened, Err(Failure::Connect(_))), "{url}");
        }
    }
}
