//! `[mongodb.NAME]`: the MongoDB servers that routes with `document` are answered from.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

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
        let Self { name, uri, username, password, timeout, max_connections, .. } = self;
        f.debug_struct("Mongodb")
            .field("name", name)
            .field("uri", &shown::url(uri))
            .field("username", username)
            .field("password", password)
            .field("timeout", timeout)
            .field("max_connections", max_connections)
            .finish_non_exhaustive()
    }
}

impl Mongodb {
    /// The file that it names.
    pub(super) fn file(&self) -> Option<&PathBuf> {
        match &self.password {
            Some(Password::File(path)) => Some(path),
            Some(Password::Text(_)) | None => None,
        }
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
    let place = value.map_or(table.place, |value| value.place);
    let timeout = table.duration(
        "timeout",
        Duration::from_secs(1),
        10 * MILLISECOND..=Duration::from_mins(1),
    );
    let max_connections = table.count("max_connections", 64, 1..=1000);
    table.finish();
    Some(Mongodb { name, uri: uri?, username, password, timeout, max_connections, place })
}

/// The scheme; the rest is for the driver to judge.
fn uri(text: &str) -> Result<String, Wrong> {
    if text.starts_with("mongodb://") || text.starts_with("mongodb+srv://") {
        Ok(text.to_owned())
    } else {
        Err(Wrong::new("is not a MongoDB URI").with_hint("write \"mongodb://127.0.0.1:27017\""))
    }
}
