//! `[jwt.NAME] jwks`: a JWK Set, in a file or at a URL.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::Uri;
use http::uri::{PathAndQuery, Scheme};

use super::fault::Wrong;
use super::reader::{Table, Value};
use super::sections::DAY;
use super::{JwtKeys, Upstream, UpstreamServer, address};

/// What a fetch may take in all.
const IN_ALL: Duration = Duration::from_secs(10);

/// Where a JWK Set is fetched from, again and again.
#[derive(Clone, Debug, PartialEq)]
pub struct JwksUrl {
    /// `ca`, and the server of the URL, asked as an upstream is.
    pub server: Upstream,
    /// Path and query there.
    pub target: PathAndQuery,
    /// `refresh`, default 5 min, 1 s to 1 day: it is fetched again after so long.
    pub refresh: Duration,
}

/// What is said beside `jwks`, which is for a URL alone.
pub(super) struct Beside<'a> {
    ca: Option<Value<'a>>,
    refresh: Option<Value<'a>>,
}

enum Place {
    File(PathBuf),
    Url(Uri, PathAndQuery),
}

impl JwksUrl {
    /// Whether keys that were fetched from there, by the same authorities' word, are these.
    pub fn is_at(&self, other: &Self) -> bool {
        let (own, others) = (&self.server, &other.server);
        (&own.servers, &own.ca, &self.target) == (&others.servers, &others.ca, &other.target)
    }
}

impl fmt::Display for JwksUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for UpstreamServer { url, .. } in &self.server.servers {
            let (scheme, authority) = (url.scheme_str(), url.authority());
            let authority = authority.map_or("", |authority| authority.as_str());
            write!(f, "{}://{authority}", scheme.unwrap_or_default())?;
        }
        // As in other texts of the configuration, what may be secret is left out.
        write!(f, "{}{}", self.target.path(), if self.target.query().is_some() { "?…" } else { "" })
    }
}

impl<'a> Beside<'a> {
    pub(super) fn take(table: &mut Table<'a>) -> Self {
        Self { ca: table.take("ca"), refresh: table.take("refresh") }
    }

    /// None of it is for keys that are had otherwise.
    pub(super) fn refuse(&self) {
        for (key, value) in [("ca", &self.ca), ("refresh", &self.refresh)] {
            if let Some(value) = value {
                let hint = "leave it out, or write jwks = \"https://HOST/PATH\"".to_owned();
                value.report(&format!("{key} is for a `jwks` that is a URL"), Some(hint));
            }
        }
    }
}

/// The keys of the table of this name.
pub(super) fn read(
    name: &str,
    value: &Value<'_>,
    beside: &Beside<'_>,
    folder: &Path,
) -> Option<JwtKeys> {
    let place = value.read(|text| {
        if text.contains("://") {
            let (server, target) = address::resource(text)?;
            return Ok(Place::Url(server, target));
        }
        path(text, folder).map(Place::File)
    })?;
    let (server, target) = match place {
        Place::Url(server, target) => (server, target),
        Place::File(file) => {
            beside.refuse();
            return Some(JwtKeys::Jwks(file));
        }
    };
    let ca = beside.ca.as_ref();
    if let Some(ca) = ca.filter(|_| server.scheme() != Some(&Scheme::HTTPS)) {
        let hint = "write `https` in its `jwks`, or leave it out".to_owned();
        ca.report("ca is for a `jwks` at an `https` URL", Some(hint));
    }
    let refresh = beside.refresh.as_ref().and_then(|it| it.duration(Duration::from_secs(1)..=DAY));
    let server = Upstream {
        ca: ca.and_then(|ca| ca.read(|text| path(text, folder))),
        place: ca.map_or(value.place, |ca| ca.place),
        preserve_host: false,
        total_timeout: Some(IN_ALL),
        ..Upstream::new(format!("jwt.{name}"), vec![UpstreamServer::new(server)])
    };
    let refresh = refresh.unwrap_or(Duration::from_mins(5));
    Some(JwtKeys::Url(Box::new(JwksUrl { server, target, refresh })))
}

/// The path of a file; relative ones are found from the folder of `gateway.toml`.
pub(super) fn path(text: &str, folder: &Path) -> Result<PathBuf, Wrong> {
    if text.is_empty() || text.contains('\0') {
        return Err(Wrong::new("is not a path").with_hint("write the path of a file"));
    }
    Ok(folder.join(text))
}
