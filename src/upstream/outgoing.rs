//! A request on its way out, and what it is as a message to one server.

use std::sync::LazyLock;

use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderValue, TRANSFER_ENCODING};
use http::uri::PathAndQuery;
use http::{Method, Request, StatusCode, Uri, Version};
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

    /// It asks for something, and carries nothing.
    pub(super) fn is_short(&self) -> bool {
        let is_asking = matches!(*self.method, Method::GET | Method::HEAD);
        is_asking && self.upgrade.is_none() && self.content.is_nothing()
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
    /// As hyper sends it.
    pub(super) fn request(self, version: Version) -> Request<Content> {
        let Outgoing { method, content, interim, .. } = self.outgoing;
        let mut fields = (self.outgoing.fields)().into_map();
        let uri = if version == Version::HTTP_2 {
            // RFC 9113 §8.3.1: a proxy "MUST NOT" send `Host` where `:authority` says it.
            fields.remove(HOST);
            // It has named `TE`, which is to stay.
            fields.remove(CONNECTION);
            let authority = Some(self.outgoing.authority).filter(|_| self.own_host.is_none());
            absolute(self.server, authority, self.target().clone())
        } else {
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
            Uri::from(self.target().clone())
        };
        let mut request = Request::new(content.clone());
        *request.method_mut() = Method::clone(method);
        *request.version_mut() = version;
        *request.uri_mut() = uri;
        *request.headers_mut() = fields;
        // RFC 9110 §10.1.1: what a client keeps back is for the server to ask for.
        let may_expect = !content.is_at_hand() && request.headers().contains_key(EXPECT);
        let expects = may_expect && content.hold();
        let held = expects.then(|| content.clone());
        let interim = interim.clone();
        if held.is_some() || interim.is_some() {
            hyper::ext::on_informational(&mut request, move |response| {
                if let Some(content) =
                    held.as_ref().filter(|_| response.status() == StatusCode::CONTINUE)
                {
                    content.go_on();
                }
                if let Some(interim) = &interim {
                    interim.send(response.status(), response.headers());
                }
            });
        }
        request
    }

    /// Its octets in HTTP/1.1 (RFC 9112 §2.1, §3.2.1), if it asks for something and carries nothing.
    pub(super) fn octets(self) -> Option<Vec<u8>> {
        if !self.outgoing.is_short() {
            return None;
        }
        let mut fields = (self.outgoing.fields)();
        if let Some(host) = self.host(fields.get(&HOST)) {
            fields.to_mut().insert(HOST, host);
        }
        let mut octets = Vec::with_capacity(ROOM);
        octets::start_request(&mut octets, self.outgoing.method, self.target());
        for (name, value) in fields.iter() {
            if matches!(*name, CONTENT_LENGTH | TRANSFER_ENCODING) {
                return None;
            }
            octets::field(&mut octets, name.as_str(), value);
        }
        octets::end(&mut octets);
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
