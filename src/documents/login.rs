//! Who Larder says that it is, and whom it believes: the URI as the driver gets it, and the files that
//! it names.
//!
//! User and password are put into the URI before the driver reads it: what they mean depends on the
//! URI's `authSource`, `authMechanism` and database, and the driver knows how.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use mongodb::error::{Error, ErrorKind};
use mongodb::options::{ClientOptions, ConnectionString, Tls};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::config::{Mongodb, Password};

/// A URI with everything that belongs to it.
pub(super) struct Login {
    uri: ConnectionString,
    ca: Option<PathBuf>,
    identity: Option<PathBuf>,
    /// Of all that makes it another login, secrets and files among it.
    digest: blake3::Hash,
}

/// A deployment cannot be used as it is configured.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// The driver does not take the URI.
    #[error("the uri cannot be used: {0}")]
    Uri(String),
    /// The `password_file` cannot be read.
    #[error("no password can be read from `{path}`")]
    Password {
        /// As configured.
        path: String,
        /// Why not.
        source: io::Error,
    },
    /// A file that the URI names cannot be read.
    #[error("`{path}` cannot be read")]
    File {
        /// As configured.
        path: String,
        /// Why not.
        source: io::Error,
    },
    /// A file holds not what it should.
    #[error("`{path}` holds no {what}")]
    Empty {
        /// As configured.
        path: String,
        /// What is missing.
        what: &'static str,
    },
}

impl Login {
    /// Reads what a deployment's table names.
    pub(super) fn new(config: &Mongodb) -> Result<Self, Unusable> {
        let password = match &config.password {
            None => None,
            Some(Password::Text(text)) => Some(text.clone()),
            Some(Password::File(path)) => Some(password(path)?),
        };
        let text = with_user(&config.uri, config.username.as_deref(), password.as_deref());
        let uri = ConnectionString::parse(&text).map_err(|error| unusable(&error))?;
        let mut hasher = blake3::Hasher::new();
        hasher.update(text.as_bytes());
        for (path, needs_key) in [(&config.ca, false), (&config.identity, true)] {
            if let Some(path) = path {
                hasher.update(&pem(path, needs_key)?);
            }
        }
        Ok(Self {
            uri,
            ca: config.ca.clone(),
            identity: config.identity.clone(),
            digest: hasher.finalize(),
        })
    }

    /// The same in the driver's form. Asks DNS where the URI names a record.
    pub(super) async fn options(&self) -> Result<ClientOptions, Error> {
        let mut options = ClientOptions::parse(self.uri.clone()).await?;
        if let Some(Tls::Enabled(tls)) = &mut options.tls {
            // Found from the folder of the configuration, whatever this process' own is.
            tls.ca_file_path.clone_from(&self.ca);
            tls.cert_key_file_path.clone_from(&self.identity);
        }
        Ok(options)
    }

    /// Whether both say the same to the same servers.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

fn password(path: &Path) -> Result<String, Unusable> {
    let shown = || path.display().to_string();
    let text =
        fs::read_to_string(path).map_err(|source| Unusable::Password { path: shown(), source })?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() {
        return Err(Unusable::Empty { path: shown(), what: "password" });
    }
    Ok(text.to_owned())
}

/// The content of a PEM file, if it has what it is named for. The driver would say so with the first
/// connection, and in words of its own.
fn pem(path: &Path, needs_key: bool) -> Result<Vec<u8>, Unusable> {
    let shown = || path.display().to_string();
    let content = fs::read(path).map_err(|source| Unusable::File { path: shown(), source })?;
    let text = String::from_utf8_lossy(&content);
    if !text.contains("-----BEGIN CERTIFICATE-----") {
        return Err(Unusable::Empty { path: shown(), what: "certificate in PEM form" });
    }
    let has_key = ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"];
    if needs_key && !has_key.iter().any(|kind| text.contains(&format!("-----BEGIN {kind}-----"))) {
        return Err(Unusable::Empty { path: shown(), what: "private key in PEM form" });
    }
    Ok(content)
}

/// A URI with this user and password instead of its own, as far as there are any.
fn with_user(uri: &str, username: Option<&str>, password: Option<&str>) -> String {
    let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let Some((scheme, rest)) = uri.split_once("://") else { return uri.to_owned() };
    // As the driver takes it apart.
    let (servers, options) = rest.split_at(rest.find('?').unwrap_or(rest.len()));
    let (own, hosts) = servers.rsplit_once('@').unwrap_or(("", servers));
    let (own_name, own_password) = match own.split_once(':') {
        Some((name, password)) => (name, Some(password.to_owned())),
        None => (own, None),
    };
    let name = username.map_or_else(|| own_name.to_owned(), encoded);
    // Nobody's password is told by who reads the file.
    let password = password.filter(|_| !name.is_empty());
    let user = match password.map(encoded).or(own_password) {
        Some(password) => format!("{name}:{password}@"),
        None if name.is_empty() => String::new(),
        None => format!("{name}@"),
    };
    format!("{scheme}://{user}{hosts}{options}")
}

/// Without what the URI may hold of secrets.
fn unusable(error: &Error) -> Unusable {
    match &*error.kind {
        ErrorKind::InvalidArgument { message, .. } => Unusable::Uri(message.clone()),
        kind => Unusable::Uri(kind.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_passwords_take_their_place_in_the_uri() {
        for (uri, username, password, expected) in [
            ("mongodb://a/?w=1", None, None, "mongodb://a/?w=1"),
            ("mongodb://a", Some("u"), Some("p:/@%"), "mongodb://u:p%3A%2F%40%25@a"),
            ("mongodb://v:q@a,b/db?w=@", Some("u"), Some("p"), "mongodb://u:p@a,b/db?w=@"),
            ("mongodb+srv://v@a", None, Some("p"), "mongodb+srv://v:p@a"),
            ("mongodb://v:q@a", None, None, "mongodb://v:q@a"),
            ("mongodb://v:q@a", Some("u"), None, "mongodb://u:q@a"),
            ("mongodb://a", None, Some("p"), "mongodb://a"),
            ("mongodb://a", Some("ü"), None, "mongodb://%C3%BC@a"),
        ] {
            assert_eq!(with_user(uri, username, password), expected, "{uri}");
        }
    }
}
