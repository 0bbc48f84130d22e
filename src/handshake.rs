//! Why a handshake with a server has failed, in words that say what to do.

use std::io;

use rustls::{CertificateError, Error};

/// As a library calls a server's certificate that is one of an authority. It says no more of it.
const AUTHORITY: &str = "CaUsedAsEndEntity";

/// The same error, in words where the library has but a name for it.
pub fn in_words(error: io::Error) -> io::Error {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<Error>());
    let is_authority = matches!(
        cause,
        Some(Error::InvalidCertificate(CertificateError::Other(other)))
            if other.to_string() == AUTHORITY
    );
    if is_authority {
        let why = "the certificate that is shown is an authority's own; make one for the server, with \
                   `basicConstraints=CA:FALSE`";
        io::Error::new(error.kind(), why)
    } else {
        error
    }
}
