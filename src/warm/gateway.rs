//! The gateway as it is reached: its listeners in cleartext and with TLS, and connections to them.
//!
//! A page is asked for where clients ask for it: with `https` at the listener with TLS, whose handshake names
//! the page's host, with `http` at the one in cleartext. If there is one of them only, it is asked for all.

use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use http::uri::{Authority, Scheme};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls::client::WantsClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring::default_provider;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ConfigBuilder, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tower_service::Service;

use crate::handshake::in_words;

use super::page::Page;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Where a gateway listens for clients. Clones are the same.
#[derive(Clone)]
pub struct Gateway {
    plain: Option<Authority>,
    secure: Option<(Authority, Trust)>,
}

/// By whom a listener with TLS is believed to be the gateway's.
#[derive(Clone)]
pub struct Trust(Arc<ClientConfig>);

/// A file of authorities cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Untrusted {
    /// It cannot be read.
    #[error("`{0}` cannot be read: {1}")]
    Unreadable(String, io::Error),
    /// It holds no certificates in PEM form.
    #[error("`{0}` holds no certificate authorities in PEM form")]
    File(String),
    /// The system has none.
    #[error("the system's certificate authorities cannot be read; name a file with `--ca`")]
    System,
}

/// There is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotConnected {
    #[error("nobody takes a connection there")]
    Unreachable(#[source] io::Error),
    /// It may be for one host alone.
    #[error("no handshake for this host")]
    Handshake(#[source] io::Error),
}

impl Trust {
    /// Whoever answers there: it is this process that listens.
    pub fn own() -> Self {
        let provider = Arc::new(default_provider());
        let verifier = Arc::new(Own(Arc::clone(&provider)));
        let builder = builder(provider).dangerous().with_custom_certificate_verifier(verifier);
        Self::of(builder)
    }

    /// The authorities in this file; none: the system's.
    ///
    /// # Errors
    /// There are none.
    pub fn authorities(file: Option<&Path>) -> Result<Self, Untrusted> {
        let mut roots = RootCertStore::empty();
        if let Some(file) = file {
            let wrong = || Untrusted::File(file.display().to_string());
            let unread = |error: pem::Error| match error {
                pem::Error::Io(error) => Untrusted::Unreadable(file.display().to_string(), error),
                _ => wrong(),
            };
            for certificate in CertificateDer::pem_file_iter(file).map_err(unread)? {
                roots.add(certificate.map_err(unread)?).map_err(|_| wrong())?;
            }
            if roots.is_empty() {
                return Err(wrong());
            }
        } else {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err(Untrusted::System);
            }
        }
        let provider = Arc::new(default_provider());
        Ok(Self::of(builder(provider).with_root_certificates(roots)))
    }

    fn of(builder: ConfigBuilder<ClientConfig, WantsClientCert>) -> Self {
        let mut config = builder.with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self(Arc::new(config))
    }
}

fn builder(provider: Arc<CryptoProvider>) -> ConfigBuilder<ClientConfig, rustls::WantsVerifier> {
    let builder = ClientConfig::builder_with_provider(provider);
    builder.with_safe_default_protocol_versions().expect("ring offers the default versions")
}

impl Gateway {
    /// One that listens in cleartext here, if anywhere.
    pub fn new(plain: Option<Authority>) -> Self {
        Self { plain, secure: None }
    }

    /// The same, which listens here with TLS, too.
    #[must_use]
    pub fn with_tls(self, at: Authority, trust: Trust) -> Self {
        Self { secure: Some((at, trust)), ..self }
    }

    /// What a page is asked by: connections are for a scheme, and with TLS for a host.
    pub(super) fn uri(&self, page: &Page) -> Result<Uri, http::Error> {
        let uri = Uri::builder().path_and_query(page.target.clone());
        match (&self.plain, &self.secure) {
            (Some(plain), _) if !page.is_secure || self.secure.is_none() => {
                uri.scheme(Scheme::HTTP).authority(plain.clone()).build()
            }
            _ => uri.scheme(Scheme::HTTPS).authority(page.host.as_bytes()).build(),
        }
    }

    /// The listener that a URI is for, as a URL.
    pub(super) fn listener(&self, uri: &Uri) -> String {
        match &self.secure {
            Some((secure, _)) if uri.scheme() == Some(&Scheme::HTTPS) => {
                format!("https://{secure}")
            }
            _ => self.plain.as_ref().map(|plain| format!("http://{plain}")).unwrap_or_default(),
        }
    }

    async fn connect(self, uri: Uri) -> Result<TokioIo<Line>, NotConnected> {
        if uri.scheme() != Some(&Scheme::HTTPS) {
            let stream = dial(self.plain.as_ref(), 80).await.map_err(NotConnected::Unreachable)?;
            return Ok(TokioIo::new(Line(Box::pin(stream))));
        }
        let (at, trust) = match &self.secure {
            Some((at, trust)) => (Some(at), trust.clone()),
            None => return Err(NotConnected::Unreachable(io::ErrorKind::NotFound.into())),
        };
        let stream = dial(at, 443).await.map_err(NotConnected::Unreachable)?;
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let handshake = async {
            let name = ServerName::try_from(host).map_err(io::Error::other)?;
            TlsConnector::from(trust.0).connect(name, stream).await.map_err(in_words)
        };
        let stream = within(handshake).await.map_err(NotConnected::Handshake)?;
        Ok(TokioIo::new(Line(Box::pin(stream))))
    }
}

async fn dial(at: Option<&Authority>, port: u16) -> io::Result<TcpStream> {
    let at = at.ok_or(io::ErrorKind::NotFound)?;
    let host = at.host().trim_matches(['[', ']']);
    let stream = within(TcpStream::connect((host, at.port_u16().unwrap_or(port)))).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn within<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(CONNECT_TIMEOUT, work).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Opens connections to a gateway.
#[derive(Clone)]
pub(super) struct Connector(pub(super) Gateway);

impl Service<Uri> for Connector {
    type Response = TokioIo<Line>;
    type Error = NotConnected;
    type Future = Pin<Box<dyn Future<Output = Result<TokioIo<Line>, NotConnected>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), NotConnected>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.0.clone().connect(uri))
    }
}

/// Believes everybody who has the key of the certificate that is shown.
#[derive(Debug)]
struct Own(Arc<CryptoProvider>);

impl ServerCertVerifier for Own {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

trait Duplex: AsyncRead + AsyncWrite + Send {}

impl<S: AsyncRead + AsyncWrite + Send> Duplex for S {}

/// A connection, with TLS or without.
pub(super) struct Line(Pin<Box<dyn Duplex>>);

impl Connection for Line {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.as_mut().poll_read(cx, buffer)
    }
}

impl AsyncWrite for Line {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.as_mut().poll_write(cx, octets)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.as_mut().poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_asked_for_where_its_clients_ask() {
        let authority = |text: &str| text.parse::<Authority>().unwrap();
        let plain = Gateway::new(Some(authority("127.0.0.1:8080")));
        let trust = Trust::own();
        let both = plain.clone().with_tls(authority("127.0.0.1:8443"), trust.clone());
        let secure = Gateway::new(None).with_tls(authority("127.0.0.1:8443"), trust);
        for (gateway, url, expected, listener) in [
            (&plain, "http://h/a?b", "http://127.0.0.1:8080/a?b", "http://127.0.0.1:8080"),
            (&plain, "https://h/a", "http://127.0.0.1:8080/a", "http://127.0.0.1:8080"),
            (&both, "http://h/a", "http://127.0.0.1:8080/a", "http://127.0.0.1:8080"),
            (&both, "https://h/a", "https://h/a", "https://127.0.0.1:8443"),
            (&secure, "http://h/a", "https://h/a", "https://127.0.0.1:8443"),
            (&secure, "https://h/a", "https://h/a", "https://127.0.0.1:8443"),
        ] {
            let uri = gateway.uri(&Page::of(url).unwrap()).unwrap();
            assert_eq!((uri.to_string(), &*gateway.listener(&uri)), (expected.into(), listener));
        }
    }
}
