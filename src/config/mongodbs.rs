//! `[mongodb.NAME]`: the MongoDB servers that routes with `document` are answered from.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use percent_encoding::percent_decode_str;

use super::fault::Wrong;
use super::reader::Table;
use super::sections::{MILLISECOND, file};
use super::servers::Password;
use super::{Place, shown};

/// `[mongodb.NAME]`. Its `Debug` hides what may be secret.
#[derive(Clone, PartialEq)]
pub struct Mongodb {
    /// The table's name.
    pub name: String,
    /// `uri`: `mongodb://…` or `mongodb+srv://…`, with all options that MongoDB's drivers know.
    pub uri: String,
    /// `username`, instead of the URI's.
    pub username: Option<String>,
    /// `password` or `password_file`, instead of the URI's. The file is read when Larder starts or
    /// loads a configuration.
    pub password: Option<Password>,
    /// `tlsCAFile` of the URI: the authorities to believe instead of the system's. A relative path is one
    /// from the folder of `gateway.toml`, as each in the file is.
    pub ca: Option<PathBuf>,
    /// `tlsCertificateKeyFile` of the URI: a certificate and its key, for servers that ask for them.
    pub identity: Option<PathBuf>,
    /// `timeout`, default 1 s, 10 ms to 1 min: so long a server is looked for, and a connection waited
    /// for.
    pub timeout: Duration,
    /// `max_connections` to each server, default 64, 1 to 1000.
    pub max_connections: u32,
    /// Where `uri`'s value stands.
    pub place: Place,
}

impl fmt::Debug for Mongodb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, uri, username, password, ca, identity, timeout, max_connections, .. } =
            self;
        f.debug_struct("Mongodb")
            .field("name", name)
            .field("uri", &shown::url(uri))
            .field("username", username)
            .field("password", password)
            .field("ca", ca)
            .field("identity", identity)
            .field("timeout", timeout)
            .field("max_connections", max_connections)
            .finish_non_exhaustive()
    }
}

impl Mongodb {
    /// The servers that its URI names, in whatever order: who asks them, and how, is not in it.
    pub fn servers(&self) -> String {
        // As the driver takes it apart.
        let (scheme, rest) = self.uri.split_once("://").unwrap_or_default();
        let (rest, _) = rest.split_once('?').unwrap_or((rest, ""));
        let (_, rest) = rest.rsplit_once('@').unwrap_or(("", rest));
        let (hosts, _) = rest.split_once('/').unwrap_or((rest, ""));
        let mut hosts: Vec<_> = hosts.split(',').collect();
        hosts.sort_unstable();
        format!("{scheme}://{}", hosts.join(","))
    }

    /// The files that it names.
    pub(super) fn files(&self) -> impl Iterator<Item = &PathBuf> {
        let password = match &self.password {
            Some(Password::File(path)) => Some(path),
            Some(Password::Text(_)) | None => None,
        };
        [password, self.ca.as_ref(), self.identity.as_ref()].into_iter().flatten()
    }
}

/// None without a URI that could be one.
pub(super) fn read(name: String, mut table: Table<'_>, folder: &Path) -> Option<Mongodb> {
    let value = table.take("uri").map(|value| value.secret(shown::url));
    if value.is_none() {
        table.missing("uri", "write uri = \"mongodb://127.0.0.1:27017\"");
    }
    let uri = value.as_ref().and_then(|value| value.read(uri));
    let username = table.take("username").and_then(|value| value.text());
    let password = table.take("password").map(|value| value.secret(|_| "[hidden]".to_owned()));
    let password_file = table.take("password_file");
    if let (Some(_), Some(file)) = (&password, &password_file) {
        let hint = "keep one of them".to_owned();
        file.report("there is a password as well as a password_file", Some(hint));
    }
    let password = password.and_then(|value| value.text()).filter(|text| !text.is_empty());
    let password = password.map(Password::Text).or_else(|| {
        let file = password_file?.read(|text| file(text).map(|()| folder.join(text)))?;
        Some(Password::File(file))
    });
    let username = username.filter(|text| !text.is_empty());
    if username.is_none()
        && password.is_some()
        && uri.as_ref().is_some_and(|uri: &String| !uri.contains('@'))
    {
        let hint = "write username = \"…\" beside it".to_owned();
        table.report(table.place, "there is a password, and nobody whose it is", Some(hint));
    }
    let path = |option| Some(folder.join(self::option(uri.as_ref()?, option)?));
    let (ca, identity) = (path("tlsCAFile"), path("tlsCertificateKeyFile"));
    let place = value.map_or(table.place, |value| value.place);
    let timeout = table.duration(
        "timeout",
        Duration::from_secs(1),
        10 * MILLISECOND..=Duration::from_mins(1),
    );
    let max_connections = table.count("max_connections", 64, 1..=1000);
    table.finish();
    Some(Mongodb {
        name,
        uri: uri?,
        username,
        password,
        ca,
        identity,
        timeout,
        max_connections,
        place,
    })
}

/// An option of a URI. The last one counts, whatever its case.
fn option(uri: &str, name: &str) -> Option<String> {
    let (_, options) = uri.split_once('?')?;
    let mut options = options.rsplit('&').filter_map(|option| option.split_once('='));
    let (_, value) = options.find(|(its, _)| its.eq_ignore_ascii_case(name))?;
    let value = percent_decode_str(value).decode_utf8().ok()?;
    (!value.is_empty()).then(|| value.into_owned())
}

/// The scheme; the rest is for the driver to judge.
fn uri(text: &str) -> Result<String, Wrong> {
    if text.starts_with("mongodb://") || text.starts_with("mongodb+srv://") {
        Ok(text.to_owned())
    } else {
        Err(Wrong::new("is not a MongoDB URI").with_hint("write \"mongodb://127.0.0.1:27017\""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_as_drivers_do() {
        for (uri, expected) in [
            ("mongodb://a/?tls=true&tlsCAFile=%2Fetc%2Fca.pem&w=1", Some("/etc/ca.pem")),
            ("mongodb://a?tlscafile=ca.pem", Some("ca.pem")),
            ("mongodb://a/?tlsCAFile=a&tlsCAFile=b", Some("b")),
            ("mongodb://tlsCAFile=a@b/?tls=true", None),
            ("mongodb://a/?tlsCAFile=", None),
            ("mongodb://a", None),
        ] {
            assert_eq!(option(uri, "tlsCAFile").as_deref(), expected, "{uri}");
        }
    }

    #[test]
    fn servers_are_the_same_whoever_asks_them() {
        for (uri, expected) in [
            ("mongodb://b:27018,a", "mongodb://a,b:27018"),
            ("mongodb://u:p@a,b:27018/app?replicaSet=rs0", "mongodb://a,b:27018"),
            ("mongodb://u:p/@a/?appName=b@c/d", "mongodb://a"),
            ("mongodb+srv://u@a?w=1", "mongodb+srv://a"),
        ] {
            let mongodb = Mongodb {
                name: "shop".to_owned(),
                uri: uri.to_owned(),
                username: None,
                password: None,
                ca: None,
                identity: None,
                timeout: Duration::from_secs(1),
                max_connections: 1,
                place: Place::default(),
            };
            assert_eq!(mongodb.servers(), expected, "{uri}");
        }
    }
}
