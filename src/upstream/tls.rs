//! Whom an `https` server is believed by.

use std::error::Error;
use std::fs::File;
use std::io::{self, BufReader};
use std::path::Path;
use std::sync::Arc;

use hyper_rustls::ConfigBuilderExt as _;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier};

use crate::config;

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

/// What connections to the servers of an upstream are secured with.
pub(super) fn client(config: &config::Upstream) -> Result<ClientConfig, Unusable> {
    let uses_tls = config.servers.iter().any(|server| server.url.scheme_str() == Some("https"));
    let authorities = match &config.ca {
        Some(path) => authorities(path)?,
        None if uses_tls => {
            let config = builder().with_native_roots().map_err(Unusable::NoSystemAuthorities)?;
            return Ok(config.with_no_client_auth());
        }
        // Nothing will be asked of the system's store, which may be missing.
        None => RootCertStore::empty(),
    };
    Ok(builder().with_root_certificates(authorities).with_no_client_auth())
}

fn builder() -> ConfigBuilder<ClientConfig, WantsVerifier> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring offers the default versions")
}

fn authorities(path: &Path) -> Result<RootCertStore, Unusable> {
    let unusable = |source: Box<dyn Error + Send + Sync>| Unusable::Authorities {
        path: path.display().to_string(),
        source,
    };
    let file = File::open(path).map_err(|error| unusable(error.into()))?;
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_reader_iter(BufReader::new(file)) {
        let certificate = certificate.map_err(|error| unusable(error.into()))?;
        store.add(certificate).map_err(|error| unusable(error.into()))?;
    }
    if store.is_empty() {
        return Err(unusable("it holds no certificate in PEM form".into()));
    }
    Ok(store)
}
