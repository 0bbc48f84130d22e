//! A request on its way out, and what it is as a message to one server.

use std::sync::LazyLock;

use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderValue, TRANSFER_ENCODING};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, StatusCode, Uri, Version};
use http_body::Body as _;

use crate::interim;
use crate::message::Extended;
use crate::octets;
use crate::upgrade;

use super::Content;
use super::server::hash;

/// Makes the same fields for each server that is asked. Hardly ever there is a second one: so none are kept
/// to be copied.
pub type Fields<'a, 'f> = &'a (dyn Fn() -> Extended<'f> + Sync);

/// A request has so many octets as a rule.
const ROOM: usize = 512;

/// With no more octets of content it is sent in one piece.
const SHORT: usize = 16 * 1024;

/// A request on its way out.
pub struct Outgoing<'a, 'f> {
    /// Its method.
    pub method: &'a Method,
    /// Path and query; without, the root is asked for.
    pub target: Option<&'a PathAndQuery>,
    /// What the client asked for.
    pub authority: &'a str,
    /// The end-to-end fields to send.
    pub fields: Fields<'a, 'f>,
    /// What it carries.
    pub content: Content,
    /// Where interim responses go.
    pub interim: Option<interim::Sender>,
    /// What a response to it would be found by, if it is looked for.
    pub key: Option<&'a [u8]>,
    /// The protocol that it asks for on its connection.
    pub upgrade: Option<&'a str>,
}

/// What it is to one server.
#[derive(Clone, Copy)]
pub(super) struct Message<'m, 'f> {
    pub(super) outgoing: &'m Outgoing<'m, 'f>,
    pub(super) server: &'m Uri,
    /// The server's `Host`, if it is not to be the client's.
    pub(super) own_host: Option<&'m HeaderValue>,
}

impl Outgoing<'_, '_> {
    /// A server may be asked a second time, whatever became of the first (RFC 9110 §9.2.2): the method
    /// is safe, and the content is at hand, or there is none. Of another protocol nobody knows what a
    /// request for it does.
    pub(super) fn may_repeat(&self) -> bool {
        self.method.is_safe() && self.content.is_at_hand() && self.upgrade.is_none()
    }

    /// What it carries, if it can be sent in one piece.
    fn in_short(&self) -> Option<&[u8]> {
        let may_be = self.upgrade.is_none() && *self.method != Method::CONNECT;
        let content = self.content.at_hand().map(AsRef::as_ref);
        content.filter(|content: &&[u8]| may_be && content.len() <= SHORT)
    }

    /// It can be sent in one piece.
    pub(super) fn is_short(&self) -> bool {
        self.in_short().is_some()
    }

    /// A number that requests have in common which are answered alike.
    pub(super) fn hash(&self) -> u64 {
        match (self.key, self.target) {
            (Some(key), _) => hash(key),
            (None, Some(target)) => hash(target.as_str().as_bytes()),
            (None, None) => 0,
        }
    }
}

impl Message<'_, '_> {
    /// As hyper sends it in HTTP/1.1.
    pub(super) fn request(self) -> Request<Content> {
        let Outgoing { method, content, .. } = self.outgoing;
        let mut fields = (self.outgoing.fields)().into_map();
        if let Some(host) = self.host(fields.get(HOST)) {
            fields.insert(HOST, host);
        }
        // The client would not send the content of a GET otherwise.
        if content.size_hint().exact().is_none() {
            fields.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        if let Some(protocol) = self.outgoing.upgrade {
            upgrade::say(&mut fields, protocol);
        }
        let mut request = Request::new(content.clone());
        *request.method_mut() = Method::clone(method);
        *request.uri_mut() = Uri::from(self.target().clone());
        *request.headers_mut() = fields;
        if let Some(listener) = self.listener(Version::HTTP_11, request.headers()) {
            hyper::ext::on_informational(&mut request, move |response| {
                listener(response.status(), response.headers());
            });
        }
        request
    }

    /// Its head on a stream of HTTP/2 (RFC 9113 §8.3.1).
    pub(super) fn head(self) -> Request<()> {
        let mut fields = (self.outgoing.fields)().into_map();
        // A proxy "MUST NOT" send `Host` where `:authority` says it.
        fields.remove(HOST);
        // It has named `TE`, which is to stay.
        fields.remove(CONNECTION);
        if let Some(length) = self.outgoing.content.size_hint().exact().filter(|it| *it > 0) {
            fields.entry(CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(length));
        }
        let authority = match self.own_host {
            None => Some(self.outgoing.authority),
            Some(host) => host.to_str().ok(),
        };
        let mut request = Request::new(());
        *request.method_mut() = Method::clone(self.outgoing.method);
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = absolute(self.server, authority, self.target().clone());
        *request.headers_mut() = fields;
        request
    }

    /// What is to be told of interim responses to it, which are `received` by this protocol, if anything is; these are
    /// its fields. From now on its content is kept back, if the server is to ask for it.
    pub(super) fn listener(
        self,
        received: Version,
        fields: &HeaderMap,
    ) -> Option<impl Fn(StatusCode, &HeaderMap) + Send + Sync + 'static> {
        let Outgoing { content, interim, .. } = self.outgoing;
        // RFC 9110 §10.1.1: what a client keeps back is for the server to ask for.
        let may_expect = !content.is_at_hand() && fields.contains_key(EXPECT);
        let expects = may_expect && content.hold();
        let held = expects.then(|| content.clone());
        let interim = interim.clone();
        (held.is_some() || interim.is_some()).then_some(move |status, fields: &HeaderMap| {
            if let Some(content) = held.as_ref().filter(|_| status == StatusCode::CONTINUE) {
                content.go_on();
            }
            if let Some(interim) = &interim {
                interim.send(received, status, fields);
            }
        })
    }

    /// Its octets in HTTP/1.1 (RFC 9112 §2.1, §3.2.1), if it can be sent in one piece.
    pub(super) fn octets(self) -> Option<Vec<u8>> {
        let content = self.outgoing.in_short()?;
        let (mut digits, mut has_length) = (itoa::Buffer::new(), false);
        let length = digits.format(content.len());
        let mut fields = (self.outgoing.fields)();
        if let Some(host) = self.host(fields.get(&HOST)) {
            fields.to_mut().insert(HOST, host);
        }
        let mut octets = Vec::with_capacity(ROOM + content.len());
        octets::start_request(&mut octets, self.outgoing.method, self.target());
        for (name, value) in fields.iter() {
            match *name {
                CONTENT_LENGTH if !has_length && value == length => has_length = true,
                CONTENT_LENGTH | TRANSFER_ENCODING => return None,
                _ => {}
            }
            octets::field(&mut octets, name.as_str(), value);
        }
        if !has_length && !content.is_empty() {
            octets::length(&mut octets, length);
        }
        octets::end(&mut octets);
        octets.extend_from_slice(content);
        Some(octets)
    }

    fn target(&self) -> &PathAndQuery {
        static ROOT: LazyLock<PathAndQuery> = LazyLock::new(|| PathAndQuery::from_static("/"));
        self.outgoing.target.unwrap_or(&ROOT)
    }

    /// `Host`, unless this is it: as a rule the client has said it in these words.
    fn host(&self, said: Option<&HeaderValue>) -> Option<HeaderValue> {
        let authority = self.outgoing.authority;
        match self.own_host {
            Some(own) => Some(own.clone()),
            None if said.is_some_and(|said| said == authority) => None,
            None => HeaderValue::from_str(authority).ok(),
        }
    }
}

/// A target in absolute form, of the server's own authority if no other can be.
fn absolute(server: &Uri, authority: Option<&str>, target: PathAndQuery) -> Uri {
    let mut parts = server.clone().into_parts();
    parts.path_and_query = Some(target);
    if let Some(authority) = authority.and_then(|authority| authority.parse().ok()) {
        parts.authority = Some(authority);
    }
    Uri::from_parts(parts).expect("a server has a scheme and an authority")
}

/// What a server is called in `Host`: without the port that its scheme has anyway.
pub(super) fn host(server: &Uri) -> Option<HeaderValue> {
    let default = if server.scheme_str() == Some("https") { 443 } else { 80 };
    let host = server.host().unwrap_or_default();
    let host = match server.port_u16().filter(|port| *port != default) {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    HeaderValue::try_from(host).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    /// What goes to a server in one piece, if anything does.
    fn octets(
        method: &Method,
        content: Content,
        lines: &[(&'static str, &'static str)],
    ) -> Option<String> {
        let fields = || {
            let lines = lines.iter();
            let fields =
                lines.map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)));
            fields.collect::<HeaderMap>().into()
        };
        let outgoing = Outgoing {
            method,
            target: None,
            authority: "a",
            fields: &fields,
            content,
            interim: None,
            key: None,
            upgrade: None,
        };
        let server = Uri::from_static("http://b");
        let octets = Message { outgoing: &outgoing, server: &server, own_host: None }.octets()?;
        Some(String::from_utf8(octets).unwrap())
    }

    #[test]
    fn a_content_at_hand_goes_with_its_head() {
        let host = ("host", "a");
        let whole = |text: &'static str| Content::whole(Bytes::from_static(text.as_bytes()));
        for (method, content, lines, expected) in [
            (Method::GET, "", &[host][..], "GET / HTTP/1.1\r\nhost: a\r\n\r\n"),
            (Method::POST, "", &[host], "POST / HTTP/1.1\r\nhost: a\r\n\r\n"),
            (
                Method::POST,
                "",
                &[host, ("content-length", "0")],
                "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n",
            ),
            (
                Method::PUT,
                "abc",
                &[host, ("x", "1")],
                "PUT / HTTP/1.1\r\nhost: a\r\nx: 1\r\ncontent-length: 3\r\n\r\nabc",
            ),
            (
                Method::GET,
                "abc",
                &[("content-length", "3"), host],
                "GET / HTTP/1.1\r\ncontent-length: 3\r\nhost: a\r\n\r\nabc",
            ),
        ] {
            let octets = octets(&method, whole(content), lines);
            assert_eq!(octets.as_deref(), Some(expected), "{method} {content} {lines:?}");
        }
        let long = |length| Content::whole(vec![b'a'; length].into());
        assert!(octets(&Method::POST, long(SHORT), &[host]).is_some());
        for (method, content, lines) in [
            (Method::POST, whole("abc"), &[host, ("content-length", "4")][..]),
            (Method::POST, whole("abc"), &[("content-length", "3"), ("content-length", "3")]),
            (Method::POST, whole(""), &[("content-length", "3")]),
            (Method::POST, whole("abc"), &[host, ("transfer-encoding", "chunked")]),
            (Method::CONNECT, whole(""), &[host]),
            (Method::POST, long(SHORT + 1), &[host]),
        ] {
            assert_eq!(octets(&method, content, lines), None, "{method} {lines:?}");
        }
    }
}
