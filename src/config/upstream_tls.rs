//! `[upstreams.NAME] tls`: by whom servers are believed, who Larder is to them, and whose certificate they
//! are to show.

use std::path::{Path, PathBuf};

use super::fault::Wrong;
use super::reader::{Table, Value};
use super::sections::file;
use super::{Certificate, Place, UpstreamServer, address, listeners};

/// What is said of it.
#[derive(Default)]
pub(super) struct Secured {
    /// `ca`, which may also stand in the upstream's table.
    pub(super) ca: Option<PathBuf>,
    /// Where its value stands.
    pub(super) place: Option<Place>,
    /// `certificate` and `key`.
    pub(super) identity: Option<Certificate>,
    /// `server_name`.
    pub(super) server_name: Option<String>,
}

/// What the table of an upstream with these servers says of it.
pub(super) fn read(
    table: &mut Table<'_>,
    label: &str,
    servers: &[UpstreamServer],
    folder: &Path,
) -> Secured {
    let ca = table.take("ca");
    let place = table.place_of("tls");
    let is_secure = |server: &UpstreamServer| server.url.scheme_str() == Some("https");
    let is_plain = !servers.is_empty() && !servers.iter().any(is_secure);
    let hint = || Some("write \"https://\" before the servers that speak it".to_owned());
    let shape = || "write tls = { ca = \"FILE\" }, or leave it out".to_owned();
    let Some(mut tls) = table.take("tls").and_then(|value| value.table(label, shape)) else {
        if let Some(ca) = ca.as_ref().filter(|_| is_plain) {
            ca.report("ca is there, and no server has TLS", hint());
        }
        return Secured::of(ca, folder);
    };
    if let Some(place) = place.filter(|_| is_plain) {
        table.report(place, "tls is there, and no server has it", hint());
    }
    let inner = tls.take("ca");
    if let (Some(ca), Some(_)) = (&ca, &inner) {
        let hint = Some("leave one of them out".to_owned());
        ca.report("ca is there, and in `tls` as well", hint);
    }
    let identity = if tls.has("certificate") || tls.has("key") {
        listeners::certificate(&mut tls, folder)
    } else {
        // One that is mistyped may have been meant.
        let _none = ["certificate", "key"].map(|key| tls.take(key));
        None
    };
    let secured = Secured {
        identity,
        server_name: tls.take("server_name").and_then(|value| value.read(server_name)),
        ..Secured::of(inner.or(ca), folder)
    };
    tls.finish();
    secured
}

impl Secured {
    fn of(ca: Option<Value<'_>>, folder: &Path) -> Self {
        let place = ca.as_ref().map(|value| value.place);
        let ca = ca.and_then(|value| value.read(|text| file(text).map(|()| folder.join(text))));
        Self { ca, place, ..Self::default() }
    }

    /// Without `server_name`, certificates are to be for the hosts of the servers, whose URLs these are.
    pub(super) fn check_hosts(&self, servers: &[UpstreamServer], urls: &[Value<'_>]) {
        if self.server_name.is_some() {
            return;
        }
        for (server, url) in servers.iter().zip(urls) {
            let _reported = url.read(|_| address::certified_server(&server.url));
        }
    }
}

/// A name, or an address, as a certificate is for it.
fn server_name(text: &str) -> Result<String, Wrong> {
    let host = address::host(text)?;
    if host.starts_with('*') {
        let wrong = Wrong::new("is not the name of one host");
        return Err(wrong.with_hint("write a name that the certificate is for, without `*`"));
    }
    address::certified(&host)?;
    Ok(host)
}
