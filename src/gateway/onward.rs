//! What a forward request says: the client's fields, and what this gateway does to them.

use std::cell::RefCell;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::EXPECT;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Version};

use crate::body::Body;
use crate::config::{self, Config, FieldChanges, Route, RouteFields};
use crate::message::{self, Behalf, Extended};
use crate::rewriting::{self, Rewriting};
use crate::semantics::{CacheStatus, Forward};
use crate::target::has_dot_segments;
use crate::upstream::{self, Failure, Reply};

use super::coded::Compressing;
use super::course::Announced;
use super::presented::Peer;
use super::{Gateway, Lasting, Presented, respond};

/// How many clients a worker knows what to say of.
const KNOWN_BEHALVES: usize = 64;

thread_local! {
    /// By the last octet of the client's address.
    static BEHALVES: RefCell<[Option<KnownBehalf>; KNOWN_BEHALVES]> =
        const { RefCell::new([const { None }; KNOWN_BEHALVES]) };
}

/// On whose behalf a request went forward lately. The next one is of the same client, as a rule.
struct KnownBehalf {
    address: IpAddr,
    scheme: &'static str,
    authority: Box<str>,
    behalf: Behalf,
}

impl KnownBehalf {
    fn is_of(&self, address: IpAddr, scheme: &str, authority: &str) -> bool {
        self.address == address && self.scheme == scheme && *self.authority == *authority
    }
}

/// The name by which a gateway knows requests that it has sent forward itself.
pub(super) struct Own(HeaderValue);

impl Own {
    pub(super) fn new(name: &str) -> Self {
        Self(HeaderValue::from_str(name).expect("names are of letters, digits and `-_.`"))
    }
}

/// What a route changes in messages, and on connections.
pub(super) struct Onward {
    rewriting: Option<Rewriting>,
    fields: RouteFields,
    /// The protocols that may follow HTTP on a connection.
    pub(super) upgrade: Box<[String]>,
    pub(super) upgrade_idle_timeout: Duration,
    pub(super) compressing: Option<Arc<Compressing>>,
}

impl Onward {
    /// `silence` is how long the route's upstream may pause within content.
    pub(super) fn of(config: &Config, route: &Route, silence: Duration, lasting: &Lasting) -> Self {
        let rewriting = route.rewrite.as_ref().map(|it| {
            let from = match &route.origin {
                config::Origin::Upstream(place) => config.upstreams.get(*place),
                config::Origin::Document(_) => None,
            };
            let hosts = from.map(|from| upstream::own_hosts(from, it.host.as_deref()));
            let servers = hosts.unwrap_or_default();
            Rewriting::new(&route.path, it, servers)
        });
        Self {
            rewriting,
            fields: route.fields.clone(),
            upgrade: route.upgrade.clone().into(),
            upgrade_idle_timeout: route.upgrade_idle_timeout,
            compressing: Compressing::of(config, route, silence, lasting),
        }
    }

    /// Whether the upstream's targets are the clients'.
    pub(super) fn keeps_path(&self) -> bool {
        self.rewriting.as_ref().is_none_or(Rewriting::keeps_path)
    }

    /// The authority that the upstream is told.
    pub(super) fn authority<'a>(&'a self, own: &'a str) -> &'a str {
        self.rewriting.as_ref().and_then(|it| it.host.as_deref()).unwrap_or(own)
    }

    /// The fields that a response depends on, of those that its `Vary` nominates: what the upstream
    /// never sees of a request makes no difference. The key's space holds what is put in its place; and of what the
    /// gateway says in place of a client, the key holds scheme and authority.
    pub(super) fn seen(&self, mut nominated: Vec<HeaderName>) -> Vec<HeaderName> {
        let is_hidden = |name: &HeaderName| {
            let is_compressed = self.compressing.is_some() && Compressing::hides(name);
            is_compressed || message::is_claim(name.as_str()) || self.fields.request.hides(name)
        };
        nominated.retain(|name| !is_hidden(name));
        nominated
    }
}

/// Adds what a route changes to what stands for it in its keys: what was stored by other words is not
/// found by these.
pub(super) fn space(mut space: String, route: &Route) -> String {
    let RouteFields { request, response } = &route.fields;
    if route.compress.is_some() {
        space.push_str("/uncoded");
    }
    if route.rewrite.is_none() && request.is_empty() && response.is_empty() {
        return space;
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update(format!("{:?}", route.rewrite).as_bytes());
    for FieldChanges { remove, set, add } in [request, response] {
        let removed = remove.iter().map(|name| (name, None));
        let lines = set.iter().chain(add).map(|(name, value)| (name, Some(value)));
        hasher.update(&set.len().to_le_bytes());
        hasher.update(&remove.len().to_le_bytes());
        for (name, value) in removed.chain(lines) {
            let value = value.map_or(&b""[..], HeaderValue::as_bytes);
            for part in [name.as_str().as_bytes(), value] {
                hasher.update(&part.len().to_le_bytes());
                hasher.update(part);
            }
        }
        hasher.update(&[0]);
    }
    let digest = hasher.finalize().to_hex();
    space.push_str("/changes-");
    space.push_str(digest.get(..32).unwrap_or_default());
    space
}

/// Removes what is for this hop alone, and what nobody is believed to say.
fn end_hop(presented: &Presented, fields: &mut HeaderMap) {
    message::remove_hop_by_hop(fields);
    if message::takes_trailers(&presented.head.headers) {
        message::take_trailers(fields);
    }
    // RFC 9110 §10.1.1: "A server that receives a 100-continue expectation in an HTTP/1.0 request MUST
    // ignore that expectation."
    if presented.head.version < Version::HTTP_11 {
        fields.remove(EXPECT);
    }
    message::count_forward(&presented.head.method, fields);
    message::join_cookies(fields);
    message::remove_claims(fields);
}

/// The answer to a request that asks who is here, by its `Max-Forwards` (RFC 9110 §7.6.2). To show what has come
/// would show what those before have added (§9.3.8).
fn goes_no_further(method: &Method) -> Response<Body> {
    let status = CacheStatus {
        detail: Some("max-forwards".into()),
        ..CacheStatus::forward(Forward::Method)
    };
    let response = if *method == Method::OPTIONS {
        respond::assemble(StatusCode::NO_CONTENT, HeaderMap::new(), Body::empty())
    } else {
        respond::problem(StatusCode::NOT_IMPLEMENTED, "this gateway traces no requests")
    };
    respond::with_status(response, &status)
}

impl Gateway {
    /// The answer to a request that is not to go forward, whatever is stored for it.
    ///
    /// One that has been here before: behind this gateway is, by way of others or at once, this gateway
    /// again. To forward it would never end, and it might even wait for itself. One that says that it goes no
    /// further. And one with more content than its route takes, as far as that is said.
    pub(super) fn refusal(
        &self,
        presented: &Presented,
        content: Announced,
    ) -> Option<Response<Body>> {
        let head = &presented.head;
        let has_come_through = || message::has_come_through(&head.headers, self.own.0.as_bytes());
        if presented.notable.cdn_loop && has_come_through() {
            return Some(respond::comes_round(head.version));
        }
        if message::forwards_left(&head.method, &head.headers) == Some(0) {
            return Some(goes_no_further(&head.method));
        }
        let is_too_large = content.at_least > self.plan(presented).max_request_body;
        is_too_large.then(|| respond::unwanted(head.version))
    }

    /// The end-to-end fields to send to the upstream, those of this hop added.
    pub(super) fn upstream_fields<'a>(&self, presented: &'a Presented) -> Extended<'a> {
        let came = presented.kept_fields();
        let mut fields = Extended::of(came);
        // Of most requests nothing is to be changed, which is found out by one look at each name.
        let is_plain = presented.narrowed.is_none()
            && came.len() == came.keys_len()
            && came.keys().all(message::goes_on_as_it_is);
        if !is_plain {
            end_hop(presented, fields.to_mut());
        }
        fields.append(message::via(presented.head.version));
        fields.append(message::cdn_loop(&self.own.0));
        self.behalf(presented).lines().for_each(|line| fields.append(line));
        let onward = &self.plan(presented).onward;
        if onward.compressing.is_some() {
            Compressing::ask(fields.to_mut());
        }
        let trace = presented.peer.notes.as_ref().and_then(|notes| notes.trace());
        if let Some((context, forward)) = trace {
            context.write_to(forward, fields.to_mut());
        }
        if !onward.fields.request.is_empty() {
            rewriting::change(fields.to_mut(), &onward.fields.request);
        }
        fields
    }

    /// On whose behalf a request goes forward.
    fn behalf(&self, presented: &Presented) -> Behalf {
        let Peer { address, scheme, .. } = presented.peer;
        let authority = presented.authority.as_str();
        if self.trust.covers(address) {
            let behalf = self.trust.behalf(&presented.head.headers, address);
            return Behalf::of(&behalf.chain, scheme, authority);
        }
        BEHALVES.with_borrow_mut(|known| {
            let place = match address {
                IpAddr::V4(address) => usize::from(address.octets()[3]),
                IpAddr::V6(address) => usize::from(address.octets()[15]),
            };
            let make = || Behalf::of(&[address], scheme, authority);
            let Some(slot) = known.get_mut(place % KNOWN_BEHALVES) else { return make() };
            if let Some(known) = slot
                && known.is_of(address, scheme, authority)
            {
                return known.behalf.clone();
            }
            let behalf = make();
            // Nothing long is kept: a name has 255 octets at most, and a port may stand behind it.
            *slot = Some(KnownBehalf {
                address,
                scheme,
                authority: authority.into(),
                behalf: behalf.clone(),
            });
            behalf
        })
    }

    /// What the upstream is asked for.
    ///
    /// # Errors
    /// The route makes it longer than a target may be, or has it climb out of the path that it names.
    pub(super) fn rewritten(&self, presented: &Presented) -> Result<Option<PathAndQuery>, Failure> {
        let target = presented.upstream_target();
        match (&self.plan(presented).onward.rewriting, target) {
            (Some(rewriting), Some(target)) => {
                let rewritten = rewriting.target(target, &self.captures(presented));
                let rewritten = rewritten.map_err(|_| Failure::TooLong)?;
                // What was a part of a segment may be one by itself now.
                let climbs = !rewriting.keeps_path() && has_dot_segments(rewritten.path());
                if climbs { Err(Failure::Climbs) } else { Ok(Some(rewritten)) }
            }
            _ => Ok(target.cloned()),
        }
    }

    /// Why a request cannot go forward, by its target alone. Those that would be answered together with it
    /// may have others.
    pub(super) fn unsendable(&self, presented: &Presented) -> Option<Failure> {
        if self.plan(presented).onward.keeps_path() {
            return None;
        }
        self.rewritten(presented).err()
    }

    /// Changes what came back as the route says, before anybody looks at it.
    pub(super) fn change_response(&self, presented: &Presented, reply: &mut Response<Reply>) {
        let Onward { rewriting, fields, .. } = &self.plan(presented).onward;
        if let Some(rewriting) = rewriting {
            let authority = presented.authority.as_str();
            let host = rewriting.host.as_deref().unwrap_or(authority);
            let scheme = presented.peer.scheme;
            rewriting.put_back(reply.headers_mut(), &[host, authority], scheme, authority);
        }
        if !fields.response.is_empty() {
            let status = reply.status();
            rewriting::change_response(reply.headers_mut(), status, &fields.response);
        }
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
