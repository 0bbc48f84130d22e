//! Whom an `https` server is believed by, and who Larder is to it.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::config::{self, Certificate, Place};

/// The upstream cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// A file that the configuration names cannot be read, or does not hold what it is to hold.
    #[error("`{path}` {what}{}", .source.as_ref().map(|it| format!(": {it}")).unwrap_or_default())]
    File {
        /// Where the configuration names it.
        place: Place,
        /// As written there.
        path: String,
        /// What is wrong with it.
        what: &'static str,
        /// Why it cannot be read.
        source: Option<io::Error>,
    },
    /// The system has no certificate authorities.
    #[error("the system's certificate authorities cannot be read; name a file with `ca`")]
    NoSystemAuthorities,
}

impl Unusable {
    /// Where the configuration names what it is about.
    pub fn place(&self) -> Option<Place> {
        match self {
            Self::File { place, .. } => Some(*place),
            Self::NoSystemAuthorities => None,
        }
    }

    fn file(place: Place, path: &Path, what: &'static str) -> Self {
        Self::File { place, path: path.display().to_string(), what, source: None }
    }
}

/// What connections to the servers of an upstream are secured with.
pub(super) fn client(config: &config::Upstream) -> Result<ClientConfig, Unusable> {
    let uses_tls = config.servers.iter().any(|server| server.url.scheme_str() == Some("https"));
    let authorities = match &config.ca {
        Some(path) => authorities(path, config.place)?,
        None if uses_tls => system_authorities()?,
        // Nothing will be asked of the system's store, which may be missing.
        None => RootCertStore::empty(),
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring offers the default versions")
        .with_root_certificates(authorities);
    let Some(Certificate { chain: chain_path, key: key_path, place }) = &config.identity else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = certificates(chain_path, *place)?;
    let key = PrivateKeyDer::from_pem_slice(&read(key_path, *place)?).ok();
    let key =
        key.ok_or_else(|| Unusable::file(*place, key_path, "holds no private key in PEM form"))?;
    let other = |_| Unusable::file(*place, key_path, "holds another key than the certificate's");
    builder.with_client_auth_cert(chain, key).map_err(other)
}

fn system_authorities() -> Result<RootCertStore, Unusable> {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if store.is_empty() { Err(Unusable::NoSystemAuthorities) } else { Ok(store) }
}

fn authorities(path: &Path, place: Place) -> Result<RootCertStore, Unusable> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(path, place)? {
        let wrong =
            |_| Unusable::file(place, path, "holds a certificate that is none of an authority");
        store.add(certificate).map_err(wrong)?;
    }
    Ok(store)
}

fn certificates(path: &Path, place: Place) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    let octets = read(path, place)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&octets).collect();
    let all = all.ok().filter(|all| !all.is_empty());
    all.ok_or_else(|| Unusable::file(place, path, "holds no certificate in PEM form"))
}

fn read(path: &Path, place: Place) -> Result<Vec<u8>, Unusable> {
    fs::read(path).map_err(|error| Unusable::File {
        place,
        path: path.display().to_string(),
        what: "cannot be read",
        source: Some(error),
    })
}
