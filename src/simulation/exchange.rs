//! A request and what answered it, as a log tells of them.

use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, HOST, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Request, StatusCode, Uri};

/// A request and what answered it.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// When, in milliseconds since 1970.
    pub at: u64,
    /// The request. It has a `Host` if the log tells of one.
    pub head: Parts,
    /// `http` or `https`, if the log tells that.
    pub scheme: Option<&'static str>,
    /// That of the answer.
    pub status: StatusCode,
    /// What is known of the answer's fields.
    pub fields: HeaderMap,
    /// How many octets were sent, if the log tells that.
    pub octets: Option<u64>,
}

/// Why a line tells of no exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken(pub &'static str);

/// A request's method and target.
#[derive(Debug)]
pub(super) struct Asked {
    method: Method,
    uri: Uri,
    host: Option<String>,
    scheme: Option<&'static str>,
}

impl Asked {
    /// Of a method and a target, which may be in absolute form.
    pub(super) fn of(method: &[u8], target: &str) -> Result<Self, Broken> {
        const NO_TARGET: Broken = Broken("the target is none of HTTP");

        let method =
            Method::from_bytes(method).map_err(|_| Broken("the method is none of HTTP"))?;
        if target.starts_with('/') {
            let uri = PathAndQuery::from_str(target).map_err(|_| NO_TARGET)?.into();
            return Ok(Self { method, uri, host: None, scheme: None });
        }
        let uri: Uri = target.parse().map_err(|_| NO_TARGET)?;
        let host = uri.authority().map(|authority| {
            // Whoever is named before an `@` is no part of the host.
            let named = authority.as_str();
            named.rsplit_once('@').map_or(named, |(_, host)| host).to_owned()
        });
        let scheme = scheme(uri.scheme_str().unwrap_or_default());
        let is_whole = uri.path_and_query().is_some() || method == Method::CONNECT;
        let own = uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
        if is_whole { Ok(Self { method, uri: own.into(), host, scheme }) } else { Err(NO_TARGET) }
    }

    /// Of a request line: `GET /a?b HTTP/1.1`.
    pub(super) fn of_line(line: &str) -> Result<Self, Broken> {
        const NO_LINE: Broken = Broken("the request is not `METHOD TARGET VERSION`");

        let (method, rest) = line.split_once(' ').ok_or(NO_LINE)?;
        let (target, version) = rest.rsplit_once(' ').ok_or(NO_LINE)?;
        if !version.starts_with("HTTP/") {
            return Err(NO_LINE);
        }
        Self::of(method.as_bytes(), target)
    }

    /// The exchange in which it was answered with `status`. `host` counts where the target names none.
    pub(super) fn answered(
        self,
        at: u64,
        host: Option<&str>,
        status: StatusCode,
        octets: Option<u64>,
    ) -> Exchange {
        let mut head = Request::new(()).into_parts().0;
        head.method = self.method;
        head.uri = self.uri;
        let host = self.host.as_deref().or(host).filter(|host| is_there(host));
        if let Some(host) = host.and_then(|host| HeaderValue::from_str(host).ok()) {
            head.headers.insert(HOST, host);
        }
        let fields = HeaderMap::new();
        Exchange { at, head, scheme: self.scheme, status, fields, octets }
    }
}

/// A scheme that requests come by.
pub(super) fn scheme(text: &str) -> Option<&'static str> {
    match text {
        "http" => Some("http"),
        "https" => Some("https"),
        _ => None,
    }
}

/// A status.
pub(super) fn status(text: &str) -> Result<StatusCode, Broken> {
    text.parse().map_err(|_| Broken("there is no status"))
}

/// Adds a field, if the log has a value of it and it is one.
pub(super) fn add(fields: &mut HeaderMap, name: HeaderName, value: &[u8]) {
    if value.is_empty() || value == b"-" {
        return;
    }
    if let Ok(value) = HeaderValue::from_bytes(value) {
        fields.append(name, value);
    }
}

/// Gives a request the credentials of this user, unless the log has what it had: those of HTTP itself (RFC 7617),
/// without the password, which no log has. Each user has others.
pub(super) fn authorize(fields: &mut HeaderMap, user: &[u8]) {
    if user.is_empty() || user == b"-" || fields.contains_key(AUTHORIZATION) {
        return;
    }
    let credentials = format!("Basic {}", STANDARD.encode([user, b":"].concat()));
    add(fields, AUTHORIZATION, credentials.as_bytes());
}

/// Logs write `-` for what there is not.
pub(super) fn is_there(text: &str) -> bool {
    !text.is_empty() && text != "-"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_lines_are_read_as_servers_write_them() {
        for (line, expected) in [
            ("GET /a?b=c HTTP/1.1", Ok(("GET", "/a?b=c", None))),
            ("POST / HTTP/2.0", Ok(("POST", "/", None))),
            ("OPTIONS * HTTP/1.1", Ok(("OPTIONS", "*", None))),
            ("GET http://h:8080/a HTTP/1.1", Ok(("GET", "/a", Some("h:8080")))),
            ("GET http://u:p@h HTTP/1.1", Ok(("GET", "/", Some("h")))),
            ("", Err("the request is not `METHOD TARGET VERSION`")),
            ("-", Err("the request is not `METHOD TARGET VERSION`")),
            ("GET /a", Err("the request is not `METHOD TARGET VERSION`")),
            ("\u{16}\u{3}\u{1} a b", Err("the request is not `METHOD TARGET VERSION`")),
            ("G@T /a HTTP/1.1", Err("the method is none of HTTP")),
            ("GET /a b HTTP/1.1", Err("the target is none of HTTP")),
            ("GET a:b:c HTTP/1.1", Err("the target is none of HTTP")),
        ] {
            let asked = Asked::of_line(line).map_err(|Broken(why)| why);
            let asked = asked.map(|it| (it.method.to_string(), it.uri.to_string(), it.host));
            let expected = expected.map(|(method, target, host): (&str, &str, Option<&str>)| {
                (method.to_owned(), target.to_owned(), host.map(str::to_owned))
            });
            assert_eq!(asked, expected, "{line:?}");
        }
    }

    #[test]
    fn users_have_credentials_of_their_own() {
        let mut fields = HeaderMap::new();
        for nobody in ["", "-"] {
            authorize(&mut fields, nobody.as_bytes());
            assert!(fields.is_empty(), "{nobody:?}");
        }
        authorize(&mut fields, b"Aladdin");
        assert_eq!(fields[AUTHORIZATION], "Basic QWxhZGRpbjo=");
        authorize(&mut fields, b"\xff\n");
        assert_eq!(fields[AUTHORIZATION], "Basic QWxhZGRpbjo=", "they are known already");
    }
}
