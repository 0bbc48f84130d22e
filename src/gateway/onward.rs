//! What a forward request says: the client's fields, and what this gateway does to them.

use http::{HeaderMap, HeaderValue};

use crate::message;

use super::presented::Peer;
use super::{Gateway, Presented};

/// The name by which a gateway knows requests that it has sent forward itself.
pub(super) struct Own(HeaderValue);

impl Own {
    pub(super) fn new(name: &str) -> Self {
        Self(HeaderValue::from_str(name).expect("names are of letters, digits and `-_.`"))
    }
}

impl Gateway {
    /// Whether a request has been here before: behind this gateway is, by way of others or at once, this
    /// gateway again. To forward it would never end, and it might even wait for itself.
    pub(super) fn is_loop(&self, presented: &Presented) -> bool {
        message::has_come_through(&presented.head.headers, self.own.0.as_bytes())
    }

    /// The end-to-end fields to send to the upstream, those of this hop added.
    pub(super) fn upstream_fields(&self, presented: &Presented) -> HeaderMap {
        let mut fields = presented.kept_fields().clone();
        message::remove_hop_by_hop(&mut fields);
        if message::takes_trailers(&presented.head.headers) {
            message::take_trailers(&mut fields);
        }
        message::join_cookies(&mut fields);
        message::add_via(&mut fields, presented.head.version);
        message::add_to_loop(&mut fields, &self.own.0);
        let Peer { address, scheme, .. } = presented.peer;
        let chain = if self.trust.covers(address) {
            self.trust.behalf(&presented.head.headers, address).chain
        } else {
            vec![address]
        };
        message::set_forwarded(&mut fields, &chain, scheme, &presented.authority);
        fields
    }

    /// How a request came to whoever the client sent it to. The key holds it, as it holds the scheme of a
    /// listener.
    pub(super) fn scheme(&self, fields: &HeaderMap, peer: &Peer) -> &'static str {
        if !self.trust.covers(peer.address) {
            return peer.scheme;
        }
        self.trust.behalf(fields, peer.address).scheme.unwrap_or(peer.scheme)
    }
}
