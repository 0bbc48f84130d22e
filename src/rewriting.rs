//! What a route changes in messages: the target that the upstream is asked for, the way back for what it
//! says of its own targets, and fields.
//!
//! Whoever asks, and every key, goes by what the client has sent; only what goes forward is rewritten.
//! Responses are changed before anything is decided about them, as if the upstream had sent them so.

use http::header::{CONTENT_LOCATION, HeaderMap, HeaderValue, LOCATION};
use http::uri::{InvalidUri, PathAndQuery};
use http::{StatusCode, Uri};

use crate::config::FieldChanges;
use crate::config::Rewrite;
use crate::config::pattern::Piece;
use crate::config::pattern::pieces;
use crate::message;

/// Turns targets of clients into those of the upstream, and back.
#[derive(Debug)]
pub struct Rewriting {
    /// The upstream's path; none where it is the client's.
    path: Option<Box<[Part]>>,
    /// The client's.
    own: Box<[Part]>,
    /// In `Host`.
    pub host: Option<Box<str>>,
    /// The upstream's servers: their schemes, and what they are called, where they are told that.
    servers: Box<[(String, String)]>,
    /// Whether there is a way back.
    goes_back: bool,
}

/// A part of a path.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    /// Within a segment.
    Capture(Box<str>),
    /// To the end.
    Rest(Box<str>),
}

impl Rewriting {
    /// What a route with this path says. `servers` are the schemes of those of its upstream, and what they are
    /// called in `Host`, where that is not what the client asked for.
    pub fn new(own: &str, rewrite: &Rewrite, servers: Vec<(String, String)>) -> Self {
        let own = parts(own);
        let path = rewrite.path.as_deref().map(|path| {
            // What was captured to the end may have slashes there, too.
            let is_rest = |name: &str| own.iter().any(|part| *part == Part::Rest(name.into()));
            let path = parts(path).into_iter().map(|part| match part {
                Part::Capture(name) if is_rest(&name) => Part::Rest(name),
                other => other,
            });
            path.collect()
        });
        let host = rewrite.host.as_deref().map(Into::into);
        let servers = servers.into();
        Self { path, own: own.into(), host, servers, goes_back: rewrite.location }
    }

    /// Whether the upstream's path is the client's.
    pub fn keeps_path(&self) -> bool {
        self.path.is_none()
    }

    /// What to ask the upstream for. A capture that the client's path does not have is empty.
    ///
    /// # Errors
    /// The target is too long.
    pub fn target(
        &self,
        target: &PathAndQuery,
        captures: &[(&str, &str)],
    ) -> Result<PathAndQuery, InvalidUri> {
        let Some(path) = &self.path else { return Ok(target.clone()) };
        let mut text = filled(path, captures);
        if let Some(query) = target.query() {
            text.extend(["?", query]);
        }
        PathAndQuery::try_from(text)
    }

    /// Puts what a response says of targets back into what its client would ask for: `authority`, by
    /// `scheme`. `hosts` are those by which the upstream may call itself, besides its servers' own.
    pub fn put_back(&self, fields: &mut HeaderMap, hosts: &[&str], scheme: &str, authority: &str) {
        if !self.goes_back {
            return;
        }
        for name in [LOCATION, CONTENT_LOCATION] {
            let back = fields.get(&name).and_then(|value| value.to_str().ok());
            let back = back.and_then(|value| self.back(value, hosts, scheme, authority));
            if let Some(back) = back.and_then(|back| HeaderValue::try_from(back).ok()) {
                fields.insert(name, back);
            }
        }
    }

    /// None: it stays as it is, as it is about something else.
    fn back(&self, value: &str, hosts: &[&str], scheme: &str, authority: &str) -> Option<String> {
        // `//host/path` is of another host, in the scheme that there is.
        let is_path = value.starts_with('/') && !value.starts_with("//");
        let end = value.find(['?', '#']).unwrap_or(value.len());
        let (target, rest) = value.split_at_checked(end)?;
        if is_path {
            let path = self.client_path(target)?;
            return Some(if names_host(&path) {
                format!("{scheme}://{authority}{path}{rest}")
            } else {
                path + rest
            });
        }
        let uri: Uri = target.parse().ok()?;
        let said = uri.scheme_str().filter(|scheme| matches!(*scheme, "http" | "https"))?;
        let normal = |host: &str| message::normal_authority(said, host).ok();
        let named = Some(normal(uri.authority()?.as_str())?);
        let is_named = |host: &str| normal(host) == named;
        let servers = self.servers.iter().filter(|(_, host)| is_named(host));
        let schemes: Vec<&str> = servers.map(|(scheme, _)| scheme.as_str()).collect();
        if schemes.is_empty() && !hosts.iter().any(|host| is_named(host)) {
            return None;
        }
        let path = self.client_path(uri.path())?;
        // Who redirects from one scheme to the other means that. A server without TLS that says `https` speaks of
        // its clients, and one with TLS that says `http` may not know of it.
        let is_of_clients = !schemes.is_empty() && said == "https" && !schemes.contains(&said);
        let scheme = if is_named(authority) || is_of_clients { said } else { scheme };
        Some(format!("{scheme}://{authority}{path}{rest}"))
    }

    fn client_path(&self, path: &str) -> Option<String> {
        match &self.path {
            None => Some(path.to_owned()),
            Some(parts) => Some(filled(&self.own, &matched(parts, path)?)),
        }
    }
}

/// Whether a client would take the beginning of a path for another host: browsers read `\` as `/`, and no tab
/// at all.
fn names_host(path: &str) -> bool {
    let mut octets = path.bytes().filter(|octet| *octet != b'\t');
    octets.next() == Some(b'/') && matches!(octets.next(), Some(b'/' | b'\\'))
}

/// The parts of a pattern that the configuration has taken.
fn parts(path: &str) -> Vec<Part> {
    let pieces = pieces(path).unwrap_or_default().into_iter();
    let part = pieces.map(|piece| match piece {
        Piece::Text(text) => Part::Text(text.into()),
        Piece::Capture(name) => Part::Capture(name.into()),
        Piece::Rest(name) => Part::Rest(name.into()),
    });
    part.collect()
}

fn filled(parts: &[Part], captures: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for part in parts {
        text.push_str(match part {
            Part::Text(text) => text,
            Part::Capture(name) | Part::Rest(name) => {
                let found = captures.iter().find(|(captured, _)| *captured == &**name);
                found.map_or("", |(_, value)| value)
            }
        });
    }
    text
}

/// What a path of this form has where names stand; none if it is of another.
fn matched<'a>(parts: &'a [Part], path: &'a str) -> Option<Vec<(&'a str, &'a str)>> {
    let mut captures: Vec<(&str, &str)> = Vec::new();
    let mut rest = path;
    let mut parts = parts.iter().peekable();
    while let Some(part) = parts.next() {
        match part {
            Part::Text(text) => rest = rest.strip_prefix(&**text)?,
            Part::Capture(name) => {
                let end = rest.find('/').unwrap_or(rest.len());
                let (segment, after) = rest.split_at_checked(end)?;
                // What stands behind it in the same segment is no part of it.
                let suffix = match parts.peek() {
                    Some(Part::Text(text)) => text.split('/').next().unwrap_or_default(),
                    _ => "",
                };
                let value = segment.strip_suffix(suffix).filter(|value| !value.is_empty())?;
                captures.push((name, value));
                rest = rest.get(value.len()..).unwrap_or(after);
            }
            Part::Rest(name) => captures.push((name, std::mem::take(&mut rest))),
        }
    }
    rest.is_empty().then_some(captures)
}

/// Changes fields as a route says.
pub fn change(fields: &mut HeaderMap, changes: &FieldChanges) {
    replace(fields, changes);
    for (name, value) in &changes.add {
        fields.append(name, value.clone());
    }
}

/// Changes the fields of a response. Those of a 304 take the place of stored ones of the same name (RFC 9111
/// §4.3.4), to which what is added has been added already.
pub fn change_response(fields: &mut HeaderMap, status: StatusCode, changes: &FieldChanges) {
    if status != StatusCode::NOT_MODIFIED {
        return change(fields, changes);
    }
    replace(fields, changes);
    let there: Vec<_> =
        changes.add.iter().filter(|(name, _)| fields.contains_key(name)).cloned().collect();
    for (name, value) in there {
        fields.append(name, value);
    }
}

fn replace(fields: &mut HeaderMap, changes: &FieldChanges) {
    for name in &changes.remove {
        fields.remove(name);
    }
    for (name, value) in &changes.set {
        fields.insert(name, value.clone());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rewriting(own: &str, path: Option<&str>) -> Rewriting {
        let path = path.map(str::to_owned);
        let servers = vec![("http".to_owned(), "10.0.0.1:81".to_owned())];
        Rewriting::new(own, &Rewrite { path, host: None, location: true }, servers)
    }

    #[test]
    fn targets() {
        for (own, path, target, captures, expected) in [
            (
                "/a/{*rest}",
                Some("/v2/{rest}"),
                "/a/b/c?d=/e",
                vec![("rest", "b/c")],
                "/v2/b/c?d=/e",
            ),
            ("/a/{*rest}", Some("/v2/{rest}"), "/a/", vec![("rest", "")], "/v2/"),
            ("/a/{*rest}", Some("/v2/{rest}"), "/a", vec![], "/v2/"),
            ("/a/{*rest}", Some("/{rest}"), "/a//b", vec![("rest", "/b")], "//b"),
            (
                "/{x}/{y}.png",
                Some("/i/{y}/{x}"),
                "/a/b.png",
                vec![("x", "a"), ("y", "b")],
                "/i/b/a",
            ),
            ("/{x}", Some("/y/{x}"), "/%2f", vec![("x", "%2f")], "/y/%2f"),
            ("/{x}", None, "/a?b", vec![("x", "a")], "/a?b"),
        ] {
            let target: PathAndQuery = target.parse().unwrap();
            let found = rewriting(own, path).target(&target, &captures).unwrap();
            assert_eq!(found.as_str(), expected, "{own}");
        }
        let long = format!("/a/{}", "b".repeat(65_530));
        let target: PathAndQuery = long.parse().unwrap();
        let rest = long.strip_prefix("/a/").unwrap();
        let rewriting = rewriting("/a/{*rest}", Some("/very/long/{rest}"));
        assert!(rewriting.target(&target, &[("rest", rest)]).is_err());
    }

    #[test]
    fn the_way_back() {
        let (own, path) = ("/api/{id}/{*rest}", Some("/v2/{id}.d/{rest}"));
        for (value, expected, why) in [
            ("/v2/1.d/b/c?d#e", Some("/api/1/b/c?d#e"), "a path"),
            ("/v2/1.d/", Some("/api/1/"), "its end"),
            ("http://inner/v2/1.d/b", Some("https://shop.test/api/1/b"), "the upstream's host"),
            ("http://INNER/v2/1.d/b?x", Some("https://shop.test/api/1/b?x"), "in any case"),
            ("http://shop.test/v2/1.d/b", Some("http://shop.test/api/1/b"), "the client's"),
            ("http://10.0.0.1:81/v2/1.d/b", Some("https://shop.test/api/1/b"), "a server's"),
            ("http://10.0.0.1/v2/1.d/b", None, "another port"),
            (
                "http://inner:80/v2/1.d/b",
                Some("https://shop.test/api/1/b"),
                "the scheme's own port",
            ),
            (
                "http://shop.test:80/v2/1.d/b",
                Some("http://shop.test/api/1/b"),
                "the client's, with it",
            ),
            ("https://inner:80/v2/1.d/b", None, "the port of the other scheme"),
            ("/v3/1.d/b", None, "another path"),
            ("/v2/1/b", None, "another form"),
            ("/v2/.d/b", None, "nothing captured"),
            ("/v2/1.d", None, "too short"),
            ("http://other/v2/1.d/b", None, "another host"),
            ("//inner/v2/1.d/b", None, "nor this"),
            ("ftp://inner/v2/1.d/b", None, "another scheme"),
            ("b", None, "relative to what the client has not asked for"),
            ("", None, "nothing"),
        ] {
            let mut fields = HeaderMap::new();
            fields.insert(LOCATION, HeaderValue::from_str(value).unwrap());
            rewriting(own, path).put_back(
                &mut fields,
                &["inner", "shop.test"],
                "https",
                "shop.test",
            );
            assert_eq!(fields[LOCATION], expected.unwrap_or(value), "{value:?}: {why}");
        }
        // What is left of a path is not to be taken for a host.
        let all = rewriting("/{*rest}", Some("/v2/{rest}"));
        for (value, expected) in [
            ("/v2/a//b", "/a//b"),
            ("/v2//evil.test/a?b", "https://shop.test//evil.test/a?b"),
            ("/v2/\\evil.test/", "https://shop.test/\\evil.test/"),
            ("/v2/\t/evil.test/", "https://shop.test/\t/evil.test/"),
            ("/v2//", "https://shop.test//"),
            ("/v2/", "/"),
        ] {
            let back = all.back(value, &[], "https", "shop.test");
            assert_eq!(back.as_deref(), Some(expected), "{value:?}");
        }
        let mut fields = HeaderMap::new();
        fields.insert(CONTENT_LOCATION, HeaderValue::from_static("http://inner/a?b"));
        rewriting("/{*rest}", None).put_back(&mut fields, &["inner"], "http", "shop.test");
        assert_eq!(fields[CONTENT_LOCATION], "http://shop.test/a?b", "the host alone");
    }

    /// To a client that is not sent where it wanted to go, a redirect from one scheme to the other has no end.
    #[test]
    fn schemes_of_servers() {
        for (server, client, said, expected) in [
            ("http", "http", "http", "http"),
            ("http", "http", "https", "https"),
            ("http", "https", "http", "https"),
            ("http", "https", "https", "https"),
            ("https", "http", "http", "http"),
            ("https", "http", "https", "http"),
            ("https", "https", "http", "https"),
            ("https", "https", "https", "https"),
        ] {
            let servers = vec![(server.to_owned(), "10.0.0.1:81".to_owned())];
            let path = Some("/v2/{id}.d/{rest}".to_owned());
            let rewrite = Rewrite { path, host: None, location: true };
            let rewriting = Rewriting::new("/api/{id}/{*rest}", &rewrite, servers);
            let value = format!("{said}://10.0.0.1:81/v2/1.d/b");
            let back = rewriting.back(&value, &[], client, "shop.test");
            let expected = format!("{expected}://shop.test/api/1/b");
            assert_eq!(back, Some(expected), "{server}, {client}, {said}");
        }
    }

    #[test]
    fn fields() {
        let line =
            |name: &'static str, value| (name.parse().unwrap(), HeaderValue::from_static(value));
        let changes = FieldChanges {
            remove: vec!["x-a".parse().unwrap()],
            set: vec![line("x-b", "new")],
            add: vec![line("x-c", "more")],
        };
        let of = |lines: &[(&'static str, &'static str)]| {
            lines.iter().map(|(name, value)| line(name, value)).collect::<HeaderMap>()
        };
        for (status, came, expected) in [
            (200, of(&[("x-a", "1"), ("x-b", "2")]), vec!["x-b: new", "x-c: more"]),
            (200, of(&[("x-c", "3")]), vec!["x-b: new", "x-c: 3", "x-c: more"]),
            (304, of(&[("x-a", "1")]), vec!["x-b: new"]),
            (304, of(&[("x-c", "3")]), vec!["x-b: new", "x-c: 3", "x-c: more"]),
        ] {
            let mut fields = came;
            change_response(&mut fields, StatusCode::from_u16(status).unwrap(), &changes);
            let mut lines: Vec<_> = fields
                .iter()
                .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
                .collect();
            lines.sort();
            assert_eq!(lines, expected, "{status}");
        }
    }

    proptest! {
        #[test]
        fn there_and_back(id in "[a-z0-9%._-]{1,8}", rest in "[a-z0-9%._/-]{0,16}") {
            let rewriting = rewriting("/a/{id}/b/{*rest}", Some("/c/x{id}.y/{rest}"));
            let path = format!("/a/{id}/b/{rest}");
            let captures = [("id", id.as_str()), ("rest", rest.as_str())];
            let target = rewriting.target(&path.parse().unwrap(), &captures).unwrap();
            prop_assert_eq!(rewriting.client_path(target.path()), Some(path));
        }

        #[test]
        fn never_panics(value in ".{0,64}") {
            let rewriting = rewriting("/a/{id}/{*rest}", Some("/c/x{id}.y/{rest}"));
            rewriting.back(&value, &["a"], "http", "a");
        }
    }
}
