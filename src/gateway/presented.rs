//! The request that is being answered: what came, from whom, and what of it goes on.

use std::cell::RefCell;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http::header::RANGE;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, StatusCode, Version};
use serde_json::Value;

use crate::access_log::Notes;
use crate::interim::{self, Interims};
use crate::message;
use crate::plugin::Seen;
use crate::recent::Recent;
use crate::semantics::{self, RequestDirectives};
use crate::target;
use crate::upstream::Content;

use super::coded::Coder;
use super::notable::Notable;
use super::{Gateway, switch};

thread_local! {
    /// Authorities in their normal form, which leaves out the port that is the scheme's own.
    static OF_HTTP: RefCell<Recent<String>> = RefCell::default();
    static OF_HTTPS: RefCell<Recent<String>> = RefCell::default();
}

/// Who sent a request, as the connection tells.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The other end.
    pub address: IpAddr,
    /// `http` or `https`: that of the connection, until somebody is believed to know better.
    pub scheme: &'static str,
    /// It is to be sent to `https` on this port.
    pub redirect: Option<u16>,
    /// The value of `Client-Cert`, if it is known by a certificate and requests are to tell.
    pub certificate: Option<Arc<HeaderValue>>,
    /// Takes interim responses.
    pub interims: Option<Interims>,
    /// What the access log is to tell of the request.
    pub notes: Option<Arc<Notes>>,
}

/// The request that is being answered (RFC 9111 §4: the presented request).
#[derive(Clone)]
pub(super) struct Presented {
    /// Its route's place.
    pub(super) place: usize,
    pub(super) head: Parts,
    /// Read before anything is decided, if the method is one that asks by it (`QUERY`), or for a
    /// policy that wants to see what a write says.
    pub(super) content: Option<Bytes>,
    pub(super) authority: String,
    pub(super) notable: Notable,
    pub(super) peer: Peer,
    pub(super) directives: RequestDirectives,
    pub(super) now: SystemTime,
    /// Those of its token, if it has one that holds and a policy asks.
    pub(super) claims: Option<Arc<Value>>,
    /// Where its route has responses compressed.
    pub(super) coder: Option<Box<Coder>>,
    /// What goes forward of it, if that is less than all.
    pub(super) narrowed: Option<Box<Narrowed>>,
    /// The protocol that is asked for on its connection.
    pub(super) upgrade: Option<Box<str>>,
}

/// What a request's head has told by itself.
pub(super) struct Received {
    /// The authority that it asks, in its normal form.
    pub(super) authority: String,
    pub(super) notable: Notable,
}

/// What of a request its key was made of.
#[derive(Clone)]
pub(super) struct Narrowed {
    pub(super) target: PathAndQuery,
    pub(super) fields: HeaderMap,
}

impl Presented {
    /// What policies may be shown of it.
    pub(super) fn seen<'a>(&'a self, captures: &'a [(&'a str, &'a str)]) -> Seen<'a> {
        Seen {
            method: &self.head.method,
            scheme: self.peer.scheme,
            authority: &self.authority,
            path: self.head.uri.path(),
            query: self.head.uri.query(),
            captures,
            fields: &self.head.headers,
            claims: self.claims.as_deref(),
            content: self.content.as_deref().filter(|content| !content.is_empty()),
        }
    }

    /// What takes the interim responses to this request (RFC 9110 §15.2: not one of HTTP/1.0).
    pub(super) fn interim(&self) -> Option<interim::Sender> {
        let interims = self.peer.interims.as_ref();
        interims.filter(|_| self.head.version >= Version::HTTP_11).map(Interims::sender)
    }

    /// Whether it has a `Range` that counts.
    pub(super) fn asks_for_part(&self) -> bool {
        self.notable.range && semantics::asks_for_part(&self.head.method, &self.head.headers)
    }

    /// Whether its client has a copy of the stored response, of this status and these fields, that is still
    /// good.
    pub(super) fn has_copy(&self, status: StatusCode, stored: &HeaderMap) -> bool {
        self.notable.conditions && semantics::not_modified(&self.head.headers, status, stored)
    }

    /// Whether its own `Range` goes forward.
    pub(super) fn forwards_range(&self) -> bool {
        let narrowed = self.narrowed.as_ref();
        narrowed.is_none_or(|narrowed| narrowed.fields.contains_key(RANGE))
    }

    /// The path and query to ask the upstream for.
    pub(super) fn upstream_target(&self) -> Option<&PathAndQuery> {
        let narrowed = self.narrowed.as_ref().map(|narrowed| &narrowed.target);
        narrowed.or(self.head.uri.path_and_query())
    }

    /// The content to send to the upstream, as often as is needed.
    pub(super) fn upstream_content(&self) -> Content {
        Content::whole(self.content.clone().unwrap_or_default())
    }

    /// The fields that go forward, as they came.
    pub(super) fn kept_fields(&self) -> &HeaderMap {
        self.narrowed.as_ref().map_or(&self.head.headers, |narrowed| &narrowed.fields)
    }
}

/// The authority that a request asks, in its normal form. Most ask one of few, again and again.
pub(super) fn authority(head: &Parts, scheme: &str) -> Result<String, &'static str> {
    let recent = if scheme == "https" { &OF_HTTPS } else { &OF_HTTP };
    message::authority(head, |authority| {
        let normal = |_| message::normal_authority(scheme, authority);
        recent.with_borrow_mut(|recent| recent.get_or(authority.as_bytes(), normal))
    })
}

impl Gateway {
    /// Takes out of a head what this gateway and a server would read in two ways, or says why it cannot be.
    ///
    /// Nothing may look at its fields or its path before.
    pub(super) fn unambiguous(
        &self,
        head: &mut Parts,
        notable: Notable,
    ) -> Result<(), &'static str> {
        if notable.underscores && !self.underscores {
            message::remove_underscored(&mut head.headers);
        }
        target::complete(&mut head.uri)?;
        let has_dots = target::has_dot_segments(head.uri.path());
        (!has_dots).then_some(()).ok_or("dot segments in the target")
    }

    /// Reads a request's head as it came, or says why it could be read in two ways.
    pub(super) fn received(
        &self,
        head: &mut Parts,
        peer: &mut Peer,
        notable: Notable,
    ) -> Result<Received, &'static str> {
        switch::as_get(head);
        self.unambiguous(head, notable)?;
        peer.scheme = self.scheme(&head.headers, peer);
        if notable.client_cert || peer.certificate.is_some() {
            message::set_client_cert(&mut head.headers, peer.certificate.as_deref());
        }
        if notable.framing {
            message::framing(head.version, &head.headers)?;
        }
        Ok(Received { authority: authority(head, peer.scheme)?, notable })
    }

    /// A request with all that its head tells.
    pub(super) fn presented(
        &self,
        place: usize,
        mut head: Parts,
        received: Received,
        peer: Peer,
    ) -> Presented {
        let Received { authority, notable } = received;
        let directives = if notable.directives {
            RequestDirectives::of(&head.headers)
        } else {
            RequestDirectives::default()
        };
        let now = peer.notes.as_ref().map_or_else(|| self.clock.now(), |notes| notes.at());
        let reader = self.plans.get(place).and_then(|plan| plan.tokens.as_ref());
        let claims = reader.and_then(|reader| reader.claims(&head.headers, now));
        Presented {
            place,
            coder: self.coder(place, &mut head, &directives),
            head,
            content: None,
            authority,
            notable,
            peer,
            directives,
            now,
            claims,
            narrowed: None,
            upgrade: None,
        }
    }
}
