//! Authorities and certificates, clients that believe them, and programs that others wrote.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::PATIENCE;

/// An authority, and a folder with its certificate `ca.pem` and those that it signs.
pub(crate) struct Pki {
    folder: TempDir,
    ca: CertifiedIssuer<'static, KeyPair>,
}

/// A day, as year, month and day.
pub(crate) type Day = (i32, u8, u8);

impl Pki {
    pub(crate) fn new() -> Self {
        let ca = authority("ours");
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), ca.pem()).unwrap();
        Self { folder, ca }
    }

    pub(crate) fn at(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The key `tls` of a listener that shows the certificate in `FILE.pem`.
    pub(crate) fn tls(&self, file: &str) -> String {
        let folder = self.folder().display();
        format!("tls = {{ certificate = \"{folder}/{file}.pem\", key = \"{folder}/{file}.key\" }}")
    }

    /// Writes `FILE.pem` and `FILE.key`: a certificate for these hosts, whose subject is called this.
    pub(crate) fn certify(&self, file: &str, hosts: &[&str], subject: &str) {
        let (certificate, key) = self.certificate(hosts, subject);
        std::fs::write(self.at(&format!("{file}.key")), key).unwrap();
        std::fs::write(self.at(&format!("{file}.pem")), certificate).unwrap();
    }

    /// The same of one that is valid between two days.
    pub(crate) fn certify_between(&self, file: &str, from: Day, until: Day) {
        let (certificate, key) = self.certificate_of(&["shop.example"], file, |params| {
            params.not_before = rcgen::date_time_ymd(from.0, from.1, from.2);
            params.not_after = rcgen::date_time_ymd(until.0, until.1, until.2);
        });
        std::fs::write(self.at(&format!("{file}.key")), key).unwrap();
        std::fs::write(self.at(&format!("{file}.pem")), certificate).unwrap();
    }

    /// The same of one that is an authority's.
    pub(crate) fn certify_authority(&self, file: &str, hosts: &[&str]) {
        let (certificate, key) = self.certificate_of(hosts, file, |params| {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        });
        std::fs::write(self.at(&format!("{file}.key")), key).unwrap();
        std::fs::write(self.at(&format!("{file}.pem")), certificate).unwrap();
    }

    /// A certificate and its key.
    fn certificate(&self, hosts: &[&str], subject: &str) -> (String, String) {
        self.certificate_of(hosts, subject, |_| {})
    }

    fn certificate_of(
        &self,
        hosts: &[&str],
        subject: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> (String, String) {
        let hosts: Vec<_> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = CertificateParams::new(hosts).unwrap();
        params.distinguished_name.push(DnType::CommonName, subject);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.ca).unwrap().pem(), key.serialize_pem())
    }

    /// What a server answers handshakes with that has the certificate of these files, and speaks these
    /// protocols.
    pub(crate) fn acceptor(&self, file: &str, protocols: &[&str]) -> TlsAcceptor {
        self.accepting(file, protocols, WebPkiClientVerifier::no_client_auth())
    }

    /// The same of one that asks for certificates of this authority.
    pub(crate) fn asking_acceptor(&self, file: &str) -> TlsAcceptor {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let roots = Arc::new(self.roots());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
        self.accepting(file, &[], verifier.unwrap())
    }

    fn accepting(
        &self,
        file: &str,
        protocols: &[&str],
        verifier: Arc<dyn ClientCertVerifier>,
    ) -> TlsAcceptor {
        let chain = CertificateDer::from_pem_file(self.at(&format!("{file}.pem"))).unwrap();
        let key = PrivateKeyDer::from_pem_file(self.at(&format!("{file}.key"))).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let builder = builder.with_client_cert_verifier(verifier);
        let mut config = builder.with_single_cert(vec![chain], key).unwrap();
        config.alpn_protocols = protocols.iter().map(|it| it.as_bytes().to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.at("ca.pem")).unwrap()).unwrap();
        roots
    }

    /// Connects to a gateway as a client that believes this authority, for a host.
    pub(crate) async fn connect(
        &self,
        gateway: SocketAddr,
        host: &str,
        protocol: &str,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let roots = self.roots();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let host = ServerName::try_from(host.to_owned()).unwrap();
        let connecting = async {
            let stream = TcpStream::connect(gateway).await?;
            TlsConnector::from(Arc::new(config)).connect(host, stream).await
        };
        tokio::time::timeout(PATIENCE, connecting).await.expect("no handshake in time")
    }

    /// What `openssl s_client` says of a connection to a gateway, which it ends at once.
    pub(crate) async fn openssl(&self, gateway: SocketAddr, arguments: &[&str]) -> String {
        let (ca, address) = (self.at("ca.pem").display().to_string(), gateway.to_string());
        let first = ["s_client", "-connect", &address, "-CAfile", &ca];
        run("openssl", &[&first[..], arguments].concat()).await
    }

    /// What `curl` prints on getting a path from a host, which is to be found at the gateway.
    pub(crate) async fn curl(
        &self,
        gateway: SocketAddr,
        host: &str,
        path: &str,
        arguments: &[&str],
    ) -> String {
        let port = gateway.port();
        let (ca, to) = (self.at("ca.pem").display().to_string(), gateway.ip());
        let at = format!("{host}:{port}:{to}");
        let url = format!("https://{host}:{port}{path}");
        let first = ["--silent", "--show-error", "--cacert", &ca, "--resolve", &at, &url];
        run("curl", &[&first[..], arguments].concat()).await
    }
}

/// An authority that is called this.
pub(crate) fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new([]).unwrap();
    // One that has its certificates' own name would pass for none.
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// What a program prints, errors included.
pub(crate) async fn run(program: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    let missing = format!("`{program}` must be installed (tests/run does that)");
    let running = tokio::task::spawn_blocking(move || command.output().expect(&missing));
    let ran = tokio::time::timeout(3 * PATIENCE, running).await.expect("it never ended").unwrap();
    String::from_utf8_lossy(&[ran.stdout, ran.stderr].concat()).into_owned()
}
