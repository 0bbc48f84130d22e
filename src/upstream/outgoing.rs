//! A request on its way out, and what it is as a message to one server.

use http::header::{HOST, HeaderValue, TRANSFER_ENCODING};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, Uri, Version};
use http_body::Body as _;

use crate::interim;
use crate::upgrade;

use super::Content;
use super::server::hash;

/// A request on its way out.
pub struct Outgoing<'a> {
    /// Its method.
    pub method: &'a Method,
    /// Path and query; without, the root is asked for.
    pub target: Option<&'a PathAndQuery>,
    /// What the client asked for.
    pub authority: &'a str,
    /// The end-to-end fields to send.
    pub fields: &'a HeaderMap,
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

    /// The request to this server. `preserve_host`: with the client's `Host`, else with the server's.
    pub(super) fn request(&self, server: &Uri, preserve_host: bool) -> Request<Content> {
        let mut parts = server.clone().into_parts();
        parts.path_and_query =
            Some(self.target.cloned().unwrap_or_else(|| PathAndQuery::from_static("/")));
        let uri = Uri::from_parts(parts).expect("a server has a scheme and an authority");
        let is_chunked = self.content.size_hint().exact().is_none();
        let mut request = Request::new(self.content.clone());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = uri;
        *request.version_mut() = Version::HTTP_11;
        *request.headers_mut() = self.fields.clone();
        // Without the field the client derives it from the server's URI.
        request.headers_mut().remove(HOST);
        if preserve_host && let Ok(host) = self.authority.parse() {
            request.headers_mut().insert(HOST, host);
        }
        if let Some(protocol) = self.upgrade {
            upgrade::say(request.headers_mut(), protocol);
        }
        // The client would not send the content of a GET otherwise.
        if is_chunked {
            request.headers_mut().insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        if let Some(interim) = self.interim.clone() {
            hyper::ext::on_informational(&mut request, move |response| {
                interim.send(response.status(), response.headers());
            });
        }
        request
    }
}
