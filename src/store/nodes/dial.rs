//! Opens one connection to one server: by a socket or by TCP, in TLS or not, with a name and a
//! password. Files are read anew each time, so that they can be changed while the gateway runs.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use redis::aio::{AsyncPushSender, MultiplexedConnection};
use redis::{AsyncConnectionConfig, ErrorKind, ProtocolVersion, RedisConnectionInfo, RedisError};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::Handle;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::config::{Login, Node, Password, Tls};
use crate::handshake::in_words;
use crate::store::connection::{Trouble, bounded};

/// Connecting, and then the first answer as well, may take so long: without TLS and with it.
const PLAIN: Duration = Duration::from_millis(400);
const SECURE: Duration = Duration::from_secs(1);

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::store) enum Place {
    Socket(PathBuf),
    Node(Node),
}

/// What it takes to be let in, the same for all servers of one kind.
#[derive(Clone)]
pub(in crate::store) struct Dial {
    pub(super) login: Login,
    pub(super) tls: Option<Tls>,
    pub(super) database: u16,
    pub(super) resp3: bool,
    /// What drives the connections.
    pub(super) runtime: Handle,
}

/// A connection. Dropping its last clone closes it at once, also if the server hangs.
#[derive(Clone)]
pub(in crate::store) struct Link {
    connection: MultiplexedConnection,
    _driver: Arc<AbortOnDropHandle<()>>,
}

impl Link {
    /// To send commands by. It answers errors once the link is dropped.
    pub(in crate::store) fn commands(&self) -> MultiplexedConnection {
        self.connection.clone()
    }
}

impl Dial {
    /// A connection that has answered once. `end` ends it.
    pub(super) async fn open(
        &self,
        place: &Place,
        end: &CancellationToken,
    ) -> Result<Link, Trouble> {
        self.open_with(place, end, AsyncConnectionConfig::new()).await
    }

    /// As [`Dial::open`], and `pushed` is shown what the server sends unasked. Wants RESP3.
    pub(super) async fn open_listening(
        &self,
        place: &Place,
        end: &CancellationToken,
        pushed: impl AsyncPushSender,
    ) -> Result<Link, Trouble> {
        let config = AsyncConnectionConfig::new().set_push_sender(pushed);
        self.open_with(place, end, config).await
    }

    async fn open_with(
        &self,
        place: &Place,
        end: &CancellationToken,
        config: AsyncConnectionConfig,
    ) -> Result<Link, Trouble> {
        // Callers have deadlines of their own, which also cover the wait for a place in the queue.
        let config = config.set_response_timeout(None);
        let limit = if self.tls.is_some() { SECURE } else { PLAIN };
        // A future of TLS is large, and most links are without.
        let opening = Box::pin(async {
            let link = match (place, &self.tls) {
                (Place::Socket(path), _) => {
                    self.greet(UnixStream::connect(path).await?, end, config).await?
                }
                (Place::Node(node), None) => self.greet(reach(node).await?, end, config).await?,
                (Place::Node(node), Some(tls)) => {
                    self.greet(self.secure(node, tls).await?, end, config).await?
                }
            };
            redis::cmd("PING").exec_async(&mut link.commands()).await?;
            Ok(link)
        });
        bounded(limit, opening).await.map_err(|trouble| match trouble {
            Trouble::Failed(error) if is_refusal(&error) => Trouble::Refused(error),
            trouble => trouble,
        })
    }

    async fn greet<S>(
        &self,
        stream: S,
        end: &CancellationToken,
        config: AsyncConnectionConfig,
    ) -> Result<Link, RedisError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let protocol = if self.resp3 { ProtocolVersion::RESP3 } else { ProtocolVersion::RESP2 };
        // A user who may do only what is needed may not name the client's library.
        let mut info = RedisConnectionInfo::default()
            .set_db(self.database.into())
            .set_protocol(protocol)
            .set_skip_set_lib_name();
        if let Some(username) = &self.login.username {
            info = info.set_username(username);
        }
        if let Some(password) = &self.login.password {
            info = info.set_password(read_password(password).await?);
        }
        let (connection, driver) =
            MultiplexedConnection::new_with_config(&info, stream, config).await?;
        let end = end.clone();
        // Not on the tracker: it ends when the link is dropped, and the drain waits for those
        // that hold one.
        let driver = self.runtime.spawn(async move {
            end.run_until_cancelled(driver).await;
        });
        Ok(Link { connection, _driver: Arc::new(AbortOnDropHandle::new(driver)) })
    }

    async fn secure(
        &self,
        node: &Node,
        tls: &Tls,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static + use<>> {
        let tls = tls.clone();
        let reading = self.runtime.spawn_blocking(move || client(&tls));
        let config = reading.await.map_err(io::Error::other)?.map_err(io::Error::other)?;
        let name = ServerName::try_from(node.host.clone()).map_err(io::Error::other)?;
        let shaken = TlsConnector::from(Arc::new(config)).connect(name, reach(node).await?).await;
        shaken.map_err(in_words)
    }
}

async fn reach(node: &Node) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((&*node.host, node.port)).await?;
    // A look-up does not wait until the one before it is confirmed.
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The server knows us not, or lets us do too little.
fn is_refusal(error: &RedisError) -> bool {
    error.kind() == ErrorKind::AuthenticationFailed
        || matches!(error.code(), Some("WRONGPASS" | "NOAUTH" | "NOPERM"))
}

/// Files that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("`{path}` {what}")]
pub struct Unusable {
    path: String,
    what: &'static str,
    #[source]
    source: Option<io::Error>,
}

fn unusable(path: &Path, what: &'static str, source: Option<io::Error>) -> Unusable {
    Unusable { path: path.display().to_string(), what, source }
}

async fn read_password(password: &Password) -> io::Result<String> {
    match password {
        Password::Text(text) => Ok(text.clone()),
        Password::File(path) => {
            let octets = tokio::fs::read(path).await.map_err(|error| unread(path, error));
            octets.and_then(|octets| password_in(path, octets)).map_err(io::Error::other)
        }
    }
}

/// The password in a file; whether there is one, at least.
pub(super) fn check_password(path: &Path) -> Result<(), Unusable> {
    let octets = std::fs::read(path).map_err(|error| unread(path, error))?;
    password_in(path, octets).map(drop)
}

fn unread(path: &Path, error: io::Error) -> Unusable {
    unusable(path, "cannot be read", Some(error))
}

fn password_in(path: &Path, octets: Vec<u8>) -> Result<String, Unusable> {
    let wrong = |what| unusable(path, what, None);
    let mut text =
        String::from_utf8(octets).map_err(|_| wrong("holds a password that is not in UTF-8"))?;
    // Editors and `echo` end it so.
    let end = text.trim_end_matches(['\r', '\n']).len();
    text.truncate(end);
    if text.is_empty() { Err(wrong("holds no password")) } else { Ok(text) }
}

/// What TLS asks for. Reads files.
pub(super) fn client(tls: &Tls) -> Result<ClientConfig, Unusable> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring offers the default versions");
    let roots = match &tls.ca {
        Some(path) => authorities(path)?,
        None => system_authorities()?,
    };
    let builder = builder.with_root_certificates(roots);
    let Some((certificate, key)) = &tls.identity else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = certificates(certificate)?;
    let secret = std::fs::read(key).map_err(|error| unread(key, error))?;
    let secret = PrivateKeyDer::from_pem_slice(&secret)
        .map_err(|_| unusable(key, "holds no private key in PEM form", None))?;
    builder
        .with_client_auth_cert(chain, secret)
        .map_err(|_| unusable(key, "holds another key than the certificate's", None))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    let octets = std::fs::read(path).map_err(|error| unread(path, error))?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&octets).collect();
    all.ok()
        .filter(|all| !all.is_empty())
        .ok_or_else(|| unusable(path, "holds no certificate in PEM form", None))
}

fn authorities(path: &Path) -> Result<RootCertStore, Unusable> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(path)? {
        let wrong = |_| unusable(path, "holds a certificate that is none of an authority", None);
        store.add(certificate).map_err(wrong)?;
    }
    Ok(store)
}

/// The system's, read once: they take milliseconds.
fn system_authorities() -> Result<RootCertStore, Unusable> {
    static SYSTEM: OnceLock<RootCertStore> = OnceLock::new();

    let store = SYSTEM.get_or_init(|| {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        store
    });
    if store.is_empty() {
        let what = "of certificate authorities is nowhere on this system; name a file with `ca`";
        return Err(unusable(Path::new("ca"), what, None));
    }
    Ok(store.clone())
}
