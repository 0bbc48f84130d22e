//! TLS of a listener: its certificates, which of them a client is shown, and other files in their
//! place while handshakes go on.
//!
//! A client names a host before it is shown a certificate (RFC 6066 §3); what a certificate is for
//! stands in its alternative names. A client that shows one of its own is known by that. TLS 1.3 and 1.2,
//! without early data, which could be replayed.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use rustls::crypto::ring::{Ticketer, default_provider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{ConfigBuilder, RootCertStore, ServerConfig, ServerConnection, WantsVerifier};

use crate::config::{Certificate, Clients, ListenerTls, Place};

/// What a listener with TLS answers handshakes with. Clones share it.
#[derive(Clone, Debug)]
pub struct Secured {
    pub(super) config: Arc<ServerConfig>,
    /// Requests tell who the client is.
    names_clients: bool,
    /// Of the files' content, by which it is told from others.
    digest: blake3::Hash,
}

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("`{path}` {what}")]
pub struct Unusable {
    /// Where the configuration names it.
    pub place: Place,
    path: String,
    what: &'static str,
    #[source]
    source: Option<io::Error>,
}

/// The certificates by the names that they are for.
#[derive(Debug)]
struct Certificates {
    default: Arc<CertifiedKey>,
    /// Several of a name may have keys of several kinds.
    exact: HashMap<Box<str>, Vec<Arc<CertifiedKey>>>,
    /// `*.NAME`, by `NAME`.
    below: HashMap<Box<str>, Vec<Arc<CertifiedKey>>>,
}

impl Secured {
    /// Reads the files.
    ///
    /// # Errors
    /// All those that cannot be used.
    pub fn load(tls: &ListenerTls) -> Result<Self, Vec<Unusable>> {
        let mut hasher = blake3::Hasher::new();
        let mut unusable = Vec::new();
        let mut loaded = Vec::new();
        for certificate in &tls.certificates {
            match load(certificate, &mut hasher) {
                Ok(certificate) => loaded.push(certificate),
                Err(error) => unusable.push(error),
            }
        }
        let clients = tls.clients.as_ref().map(|clients| verifier(clients, &mut hasher));
        let clients = match clients.transpose() {
            Ok(clients) => clients.unwrap_or_else(WebPkiClientVerifier::no_client_auth),
            Err(error) => {
                unusable.push(error);
                WebPkiClientVerifier::no_client_auth()
            }
        };
        let certificates = Certificates::of(loaded).filter(|_| unusable.is_empty());
        let Some(certificates) = certificates else { return Err(unusable) };
        let builder = versions().with_client_cert_verifier(clients);
        let mut config = builder.with_cert_resolver(Arc::new(certificates));
        config.alpn_protocols = [&b"h2"[..], b"http/1.1", b"http/1.0"].map(<[u8]>::to_vec).into();
        // A session is resumed by what the client keeps; without it the last 256 are kept here.
        if let Ok(ticketer) = Ticketer::new() {
            config.ticketer = ticketer;
        }
        let names_clients = tls.clients.as_ref().is_some_and(|clients| clients.field);
        Ok(Self { config: Arc::new(config), names_clients, digest: hasher.finalize() })
    }

    /// The value of `Client-Cert` (RFC 9440 §2.2) in the requests on a connection; none where the client
    /// has shown no certificate, or requests do not tell.
    pub(super) fn client_cert(&self, connection: &ServerConnection) -> Option<Arc<HeaderValue>> {
        let own = connection.peer_certificates().filter(|_| self.names_clients)?.first()?;
        let value = format!(":{}:", STANDARD.encode(own));
        HeaderValue::try_from(value).ok().map(Arc::new)
    }

    /// Whether both were read of the same content.
    pub fn is_same(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

/// TLS 1.3 and 1.2.
fn versions() -> ConfigBuilder<ServerConfig, WantsVerifier> {
    ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring offers the default versions")
}

/// A certificate, and the names that it is for.
type Named = (Arc<CertifiedKey>, Vec<String>);

fn unusable(place: Place, path: &Path, what: &'static str, source: Option<io::Error>) -> Unusable {
    Unusable { place, path: path.display().to_string(), what, source }
}

fn read(path: &Path, place: Place, hasher: &mut blake3::Hasher) -> Result<Vec<u8>, Unusable> {
    let octets = std::fs::read(path);
    let octets = octets.map_err(|error| unusable(place, path, "cannot be read", Some(error)))?;
    hasher.update(blake3::hash(&octets).as_bytes());
    Ok(octets)
}

fn certificates(
    path: &Path,
    place: Place,
    hasher: &mut blake3::Hasher,
) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    let octets = read(path, place, hasher)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&octets).collect();
    let all = all.ok().filter(|all| !all.is_empty());
    all.ok_or_else(|| unusable(place, path, "holds no certificate in PEM form", None))
}

/// What verifies clients' certificates.
fn verifier(
    clients: &Clients,
    hasher: &mut blake3::Hasher,
) -> Result<Arc<dyn ClientCertVerifier>, Unusable> {
    let Clients { ca, place, required, field } = clients;
    let wrong = || unusable(*place, ca, "holds a certificate that is none of an authority", None);
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca, *place, hasher)? {
        roots.add(certificate).map_err(|_| wrong())?;
    }
    hasher.update(&[1, u8::from(*required), u8::from(*field)]);
    let provider = Arc::new(default_provider());
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = if *required { builder } else { builder.allow_unauthenticated() };
    builder.build().map_err(|_| wrong())
}

fn load(certificate: &Certificate, hasher: &mut blake3::Hasher) -> Result<Named, Unusable> {
    let Certificate { chain: chain_path, key: key_path, place } = certificate;
    let none = |path, what| move || unusable(*place, path, what, None);
    let chain = certificates(chain_path, *place, hasher);
    let key = read(key_path, *place, hasher);
    let (chain, key) = (chain?, key?);
    let key = PrivateKeyDer::from_pem_slice(&key).ok();
    let key = key.ok_or_else(none(key_path, "holds no private key in PEM form"))?;
    let first = chain.first().and_then(|first| webpki::EndEntityCert::try_from(first).ok());
    let first = first.ok_or_else(none(chain_path, "holds no certificate of version 3"))?;
    let names = first.valid_dns_names().map(str::to_ascii_lowercase).collect();
    let certified = CertifiedKey::from_der(chain, key, &default_provider());
    let certified =
        certified.map_err(|_| none(key_path, "holds another key than the certificate's")())?;
    Ok((Arc::new(certified), names))
}

impl Certificates {
    /// None if there are none.
    fn of(loaded: Vec<Named>) -> Option<Self> {
        let default = Arc::clone(&loaded.first()?.0);
        let (mut exact, mut below) = (HashMap::<_, Vec<_>>::new(), HashMap::<_, Vec<_>>::new());
        for (certificate, names) in loaded {
            for name in names {
                let (map, name) = match name.strip_prefix("*.") {
                    Some(name) => (&mut below, name),
                    None => (&mut exact, name.as_str()),
                };
                map.entry(name.into()).or_default().push(Arc::clone(&certificate));
            }
        }
        Some(Self { default, exact, below })
    }

    /// Those that are for a host; a `*` is for one label (RFC 9525 §6.3).
    fn named(&self, host: &str) -> Option<&[Arc<CertifiedKey>]> {
        let host = host.to_ascii_lowercase();
        let below = || self.below.get(host.split_once('.')?.1);
        self.exact.get(&*host).or_else(below).map(Vec::as_slice)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = hello.server_name().and_then(|host| self.named(host)).unwrap_or_default();
        let schemes = hello.signature_schemes();
        let verified = named.iter().find(|it| it.key.choose_scheme(schemes).is_some());
        Some(Arc::clone(verified.or(named.first()).unwrap_or(&self.default)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificates(names: &[&[&str]]) -> Certificates {
        let folder = tempfile::tempdir().unwrap();
        let loaded = names.iter().map(|names| {
            let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
            let made = rcgen::generate_simple_self_signed(names).unwrap();
            let (chain, key) = (folder.path().join("c"), folder.path().join("k"));
            std::fs::write(&chain, made.cert.pem()).unwrap();
            std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
            let certificate = Certificate { chain, key, place: Place::default() };
            load(&certificate, &mut blake3::Hasher::new()).unwrap()
        });
        Certificates::of(loaded.collect()).unwrap()
    }

    #[test]
    fn a_certificate_is_found_by_the_names_it_is_for() {
        let all = certificates(&[
            &["default.example"],
            &["Shop.Example", "*.shop.example"],
            &["api.shop.example"],
            &["127.0.0.1"],
        ]);
        let place = |host: &str| {
            let found = &all.named(host)?[0];
            let known = ["default.example", "shop.example", "api.shop.example"];
            known.iter().position(|known| Arc::ptr_eq(found, &all.exact[*known][0]))
        };
        for (host, expected, why) in [
            ("default.example", Some(0), "the name itself"),
            ("shop.example", Some(1), "in any case"),
            ("SHOP.example", Some(1), "in any case"),
            ("www.shop.example", Some(1), "a wildcard"),
            ("api.shop.example", Some(2), "the name itself before a wildcard"),
            ("a.b.shop.example", None, "a wildcard is for one label"),
            (".shop.example", Some(1), "no client sends that, and nothing panics"),
            ("example", None, "no such name"),
            ("", None, "no name"),
        ] {
            assert_eq!(place(host), expected, "{host}: {why}");
        }
    }

    #[test]
    fn several_certificates_of_a_name_are_all_kept() {
        let all = certificates(&[&["a.example"], &["a.example"]]);
        assert_eq!(all.named("a.example").unwrap().len(), 2);
        assert!(Arc::ptr_eq(&all.default, &all.named("a.example").unwrap()[0]));
    }
}
