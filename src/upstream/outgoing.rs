//! A request on its way out, and what it is as a message to one server.

use http::header::{CONNECTION, EXPECT, HOST, HeaderValue, TRANSFER_ENCODING};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, StatusCode, Uri, Version};
use http_body::Body as _;

use crate::interim;
use crate::upgrade;

use super::Content;
use super::server::hash;

/// Makes the same fields for each server that is asked. Hardly ever there is a second one: so none are kept
/// to be copied.
pub type Fields<'a> = &'a (dyn Fn() -> HeaderMap + Sync);

/// A request on its way out.
pub struct Outgoing<'a> {
    /// Its method.
    pub method: &'a Method,
    /// Path and query; without, the root is asked for.
    pub target: Option<&'a PathAndQuery>,
    /// What the client asked for.
    pub authority: &'a str,
    /// The end-to-end fields to send.
    pub fields: Fields<'a>,
    /// What it carries.
    pub content: Content,
    /// Where interim responses go.
    pub interim: Option<interim::Sender>,
    /// What a response to it would be found by, if it is looked for.
    pub key: Option<&'a [u8]>,
    /// The protocol that it asks for on its connection.
    pub upgrade: Option<&'a str>,
}

impl Outgoing<'_> {
    /// A server may be asked a second time, whatever became of the first (RFC 9110 §9.2.2): the method
    /// is safe, and the content is at hand, or there is none. Of another protocol nobody knows what a
    /// request for it does.
    pub(super) fn may_repeat(&self) -> bool {
        self.method.is_safe() && self.content.is_at_hand() && self.upgrade.is_none()
    }

    /// A number that requests have in common which are answered alike.
    pub(super) fn hash(&self) -> u64 {
        match (self.key, self.target) {
            (Some(key), _) => hash(key),
            (None, Some(target)) => hash(target.as_str().as_bytes()),
            (None, None) => 0,
        }
    }

    /// The request to this server. `own_host` is the server's `Host`, if it is not to be the client's.
    pub(super) fn request(
        &self,
        server: &Uri,
        own_host: Option<&HeaderValue>,
        version: Version,
    ) -> Request<Content> {
        let mut request = Request::new(self.content.clone());
        *request.method_mut() = self.method.clone();
        *request.version_mut() = version;
        *request.headers_mut() = (self.fields)();
        let authority = Some(self.authority).filter(|_| own_host.is_none());
        let target = self.target.cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        if version == Version::HTTP_2 {
            // RFC 9113 §8.3.1: a proxy "MUST NOT" send `Host` where `:authority` says it.
            request.headers_mut().remove(HOST);
            // It has named `TE`, which is to stay.
            request.headers_mut().remove(CONNECTION);
            *request.uri_mut() = absolute(server, authority, target);
        } else {
            // As a rule the client has said it in these words.
            let is_said = own_host.is_none()
                && request.headers().get(HOST).is_some_and(|host| host == self.authority);
            let own_host = own_host.cloned();
            let host = || own_host.or_else(|| HeaderValue::from_str(self.authority).ok());
            if !is_said && let Some(host) = host() {
                request.headers_mut().insert(HOST, host);
            }
            // The client would not send the content of a GET otherwise.
            if self.content.size_hint().exact().is_none() {
                let chunked = HeaderValue::from_static("chunked");
                request.headers_mut().insert(TRANSFER_ENCODING, chunked);
            }
            if let Some(protocol) = self.upgrade {
                upgrade::say(request.headers_mut(), protocol);
            }
            *request.uri_mut() = Uri::from(target);
        }
        // RFC 9110 §10.1.1: what a client keeps back is for the server to ask for.
        let may_expect = !self.content.is_at_hand() && request.headers().contains_key(EXPECT);
        let expects = may_expect && self.content.hold();
        let held = expects.then(|| self.content.clone());
        let interim = self.interim.clone();
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
