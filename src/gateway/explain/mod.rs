//! Why a request is answered as it is: the whole decision, told without doing anything.
//!
//! An explanation asks the same functions as a request does, in the same order, and acts on none of
//! their answers: nothing is sent forward, stored, moved into L1, invalidated or counted. (The tiers
//! themselves note a look: L1 counts it among the uses that decide what stays, and so does a Redis that
//! evicts by use.)
//!
//! The field has 6000 octets at most: what does not fit is `null` there.
//!
//! # The shape
//!
//! `GET /explain`, `larder explain --json` and the field `Larder-Explanation` tell it as one object. All
//! members are always there; what does not apply is `null` or empty.
//!
//! ```json
//! {
//!   "at": "2026-11-26T18:40:12.345Z",
//!   "gateway": "shop-1",
//!   "request": {
//!     "method": "GET", "url": "http://shop.example/catalogue/1?utm_source=x",
//!     "directives": ["no-cache"], "fields": ["accept-language", "authorization"],
//!     "dropped": ["x_tenant"], "content_octets": null
//!   },
//!   "route": {
//!     "name": "catalogue", "path": "/catalogue/{*rest}", "captures": {"rest": "1"},
//!     "why": "…",
//!     "runners_up": [{"name": "all", "path": "/{*rest}", "lost_by": "path", "why": "…"}]
//!   },
//!   "policies": [{
//!     "name": "no-tracking", "digest": "…", "remembered": true,
//!     "answer": "key", "parts": [{"name": "path", "value": "/catalogue/1"}],
//!     "reason": null, "on_error": "bypass"
//!   }],
//!   "key": {"name": "catalogue/1", "hash": "…"},
//!   "l1": {
//!     "state": "response", "verdict": "valid", "kept_seconds": 295, "variants": null, "why": "…"
//!   },
//!   "l2": {"state": "off", "verdict": null, "kept_seconds": null, "variants": null, "why": "…"},
//!   "stored": {
//!     "tier": "l1", "status": 200, "octets": 11, "whole": true, "received": "…",
//!     "age": 5, "lifetime": 60, "lifetime_by": "s-maxage", "lifetime_why": "…", "ttl": 55,
//!     "restrictions": ["must-revalidate"], "stale_while_revalidate": 0, "stale_if_error": null,
//!     "fields": {"cache-control": "s-maxage=60", "etag": "\"1\""}, "vary": ["accept-language"],
//!     "tags": [{"tag": "books", "by": "response"}], "other_marks": 0,
//!     "position": "0-3", "confirmed": true, "invalidated": null
//!   },
//!   "last_invalidation": {
//!     "position": "0-2", "at": "…", "seconds_ago": 12, "soft": false,
//!     "covers": "tag", "label": "books", "cause": "purge", "by": "shop-1"
//!   },
//!   "last_refusal": {"at": "…", "seconds_ago": 3, "status": 200, "reason": "no-store", "why": "…"},
//!   "outcome": {"does": "hit", "status": null, "cache_status": "larder; hit; ttl=55", "why": "…"},
//!   "forward": {
//!     "method": "GET", "target": "/catalogue/1", "upstream": "catalogue",
//!     "server": "http://127.0.0.1:3000", "documents": null,
//!     "conditions": [{"name": "if-none-match", "value": "\"1\""}], "collapses": true
//!   },
//!   "storing": {"may": true, "reason": null, "why": "…", "rules": ["…"]}
//! }
//! ```
//!
//! - `request.fields` are those that anything goes by, and `dropped` those that were removed before.
//! - `route.runners_up[].lost_by`: `host`, `path`, `method` or `fields`.
//! - `policies[].answer`: `key`, `bypass`, `failed` or `not-asked`.
//! - A tier's `state`: `off`, `out-of-use`, `no-answer`, `not-asked`, `nothing`, `response`, `variants`
//!   or `rules`; its `verdict`, by the invalidation log: `valid`, `stale` or `gone`. `variants` has
//!   `known`, how many there are, and `vary`, the lists of fields that tell them apart.
//! - `stored` is what the decision is about, or else what lies there and may not be used.
//! - `covers`: `tag`, `group`, `key`, `name`, `path`, `target`, `route`, `pattern`, `all` or `mark`;
//!   `cause`: `write`, `purge`, `change`, `trouble` or `null`.
//! - `outcome.does`: `hit`, `hit-stale`, `forward`, `answer` (Larder's own response, with its `status`),
//!   `purge`, `tunnel`, or `unknown` where the content decides and was not given; without a gateway
//!   (`--offline`) `key`. `cache_status` is the item as it begins; after a forward request it says more.
//!
//! No value of `Authorization`, `Cookie` or `Set-Cookie` is told, and no content. Where a policy has put
//! one of them into a key, it is shown as `***`.

mod cached;
mod field;
mod forwarded;
mod route;
mod secrets;
mod shape;
mod stored;

use bytes::Bytes;
use http::header::HOST;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response};

use crate::body::Body;
use crate::clock;
use crate::message;
use crate::semantics::status::CACHE_STATUS;
use crate::semantics::{self, CacheStatus, Forward, RequestDirectives};

use super::course::{Announced, Course};
use super::notable::Notable;
use super::presented::Peer;
use super::{Gateway, Presented, respond};

pub(super) use self::field::is_explain;
pub use self::shape::Explanation;

use self::secrets::Secrets;

/// A request that somebody asks about.
#[derive(Clone, Debug)]
pub struct Question {
    /// Its method.
    pub method: Method,
    /// An absolute URL with `http` or `https`.
    pub url: String,
    /// Its fields. `Host` is the URL's, unless there is one.
    pub fields: HeaderMap,
    /// Its content. `None`: that was not said, and is none where it decides nothing.
    pub content: Option<Bytes>,
}

/// What is known of the content of a request that is explained.
pub(super) struct Contents {
    pub(super) announced: Announced,
    /// Whole, if it is at hand.
    pub(super) octets: Option<Bytes>,
}

/// How far an explanation goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// To what would be done.
    Whole,
    /// To the key: nothing but the configuration is asked.
    Key,
}

impl Gateway {
    /// Why such a request would be answered as it would.
    ///
    /// # Errors
    /// What is wrong with the URL: it …
    pub async fn explain(
        &self,
        question: &Question,
        extent: Extent,
    ) -> Result<Explanation, &'static str> {
        let Question { method, url, fields, content } = question;
        let (authority, target) = message::of_url(url)?;
        let mut request = Request::new(());
        *request.method_mut() = method.clone();
        *request.uri_mut() = target.parse().map_err(|_| "has a path that no request can have")?;
        *request.headers_mut() = fields.clone();
        request.headers_mut().remove(field::EXPLAIN);
        if !fields.contains_key(HOST)
            && let Ok(host) = HeaderValue::try_from(authority)
        {
            request.headers_mut().insert(HOST, host);
        }
        let is_secure = url.get(..6).is_some_and(|it| it.eq_ignore_ascii_case("https:"));
        let peer = Peer {
            // Nobody's: no proxy is believed by it.
            address: std::net::Ipv4Addr::UNSPECIFIED.into(),
            scheme: if is_secure { "https" } else { "http" },
            redirect: None,
            certificate: None,
            interims: None,
            notes: None,
        };
        let contents = Contents::of(content.clone());
        Ok(self.explain_received(request.into_parts().0, peer, contents, extent).await)
    }

    /// The longest content that any route reads of a request that asks by it.
    pub fn longest_asked(&self) -> usize {
        self.plans.iter().map(|plan| plan.max_query_body).max().unwrap_or_default()
    }

    /// The same for a request as it came.
    pub(super) async fn explain_received(
        &self,
        mut head: Parts,
        mut peer: Peer,
        contents: Contents,
        extent: Extent,
    ) -> Explanation {
        let Contents { announced, octets } = contents;
        let secrets = Secrets::of(&head.headers);
        let mut told = Explanation {
            at: clock::text(self.now()),
            gateway: (extent == Extent::Whole).then(|| self.store.name().to_string()),
            request: shape::Request {
                method: head.method.to_string(),
                url: head.uri.to_string(),
                directives: directives(&RequestDirectives::of(&head.headers)),
                fields: names(&head.headers),
                dropped: Vec::new(),
                content_octets: octets.as_ref().map(Bytes::len),
            },
            ..Explanation::default()
        };
        let notable = Notable::of(&head.headers);
        let received = self.received(&mut head, &mut peer, notable);
        tell_fields(&mut told.request, &head.headers);
        let read = match received {
            Ok(read) => read,
            Err(why) => {
                told.outcome = answered(&respond::malformed(head.version, why), why);
                return told;
            }
        };
        let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
        told.request.url = format!("{}://{}{target}", peer.scheme, read.authority);
        let place = self.place(&read.authority, &head, &peer);
        told.route = Some(self.tell_route(place.as_ref().ok().copied(), &read.authority, &head));
        let place = match place {
            Ok(place) => place,
            Err(refusal) => {
                told.outcome = answered(&refusal, "no route takes the request");
                return told;
            }
        };
        let presented = self.presented(place, head, read, peer);
        match self.course(&presented, announced) {
            Course::Cache => self.tell_cached(&mut told, presented, &secrets, extent).await,
            Course::Refuse(refusal) => {
                told.outcome = answered(&refusal, "the route does not take the request");
            }
            Course::Switch(_) => self.tell_switching(&mut told, &presented),
            Course::Purge(soft) => told.outcome = self.tell_purge(&presented.head.headers, soft),
            Course::Pass(why) => self.tell_passed(&mut told, &presented, why),
            Course::AskByPost | Course::Query => {
                self.tell_asked(&mut told, presented, octets, &secrets, extent).await;
            }
        }
        told
    }

    /// What becomes of a request for another protocol.
    fn tell_switching(&self, told: &mut Explanation, presented: &Presented) {
        let status =
            CacheStatus { detail: Some("upgrade".into()), ..CacheStatus::forward(Forward::Bypass) };
        if !self.tell_unsendable(told, presented, &status) {
            told.outcome = outcome("tunnel", &status, "it asks for another protocol");
            told.forward = Some(self.tell_passing(presented));
        }
    }

    /// What becomes of a request to purge its target.
    fn tell_purge(&self, fields: &HeaderMap, soft: bool) -> shape::Outcome {
        if let Some(refusal) = self.purge_refusal(fields) {
            return answered(&refusal, "it purges its target with the operators' token alone");
        }
        let how = if soft { "softly" } else { "so that it is gone" };
        shape::Outcome {
            does: "purge",
            why: format!("it purges its target {how}, with the operators' token"),
            ..shape::Outcome::default()
        }
    }

    /// What becomes of a request that asks by its content.
    async fn tell_asked(
        &self,
        told: &mut Explanation,
        mut presented: Presented,
        content: Option<Bytes>,
        secrets: &Secrets,
        extent: Extent,
    ) {
        let Some(content) = content else {
            told.outcome.does = "unknown";
            let why = "its content decides, and was not given: `larder explain --data` gives it, or \
                       `content` of `POST /explain`";
            why.clone_into(&mut told.outcome.why);
            return;
        };
        let most = self.plan(&presented).max_query_body;
        if content.len() > most {
            let status = CacheStatus {
                detail: Some("query-too-large".into()),
                ..CacheStatus::forward(past(&presented))
            };
            let why = format!(
                "{} octets of content are more than the {most} that the route reads of a request \
                 (`max_query_body`)",
                content.len()
            );
            return self.tell_past(told, &presented, &status, why);
        }
        presented.content = Some(content);
        self.tell_cached(told, presented, secrets, extent).await;
    }

    /// What becomes of a request that goes past the cache.
    fn tell_passed(&self, told: &mut Explanation, presented: &Presented, why: Forward) {
        let Parts { method, headers: fields, .. } = &presented.head;
        let reason = match (why, semantics::bypassing(method, fields)) {
            (Forward::Bypass, Some(name)) => {
                format!("only the origin can answer a request with `{name}`")
            }
            (Forward::Bypass, None) if !self.store.has_l1() && !self.store.has_l2() => {
                "there is no cache: both tiers are off".to_owned()
            }
            (Forward::Bypass, None) if *method == Method::QUERY => {
                "a `QUERY` is for the origin, unless it has one `Content-Type`".to_owned()
            }
            (Forward::Bypass, None) => {
                "only the origin can answer a request with content".to_owned()
            }
            _ => format!("{method}: {}", why.explained()),
        };
        self.tell_past(told, presented, &CacheStatus::forward(why), reason);
    }

    /// The same, for this reason and with this status.
    fn tell_past(
        &self,
        told: &mut Explanation,
        presented: &Presented,
        status: &CacheStatus,
        reason: String,
    ) {
        told.storing = Some(shape::Storing {
            may: false,
            reason: Some(status.forward.map_or("bypass", Forward::as_str)),
            why: "nothing is stored of what goes past the cache".to_owned(),
            rules: Vec::new(),
        });
        // A write is no matter of what is stored.
        let is_write = status.forward == Some(Forward::Method) && !presented.head.method.is_safe();
        let refusal = self.only_stored(presented, status).filter(|_| !is_write);
        if let Some(refusal) = refusal {
            told.outcome = answered(&refusal, "it allows nothing but a stored response");
            return;
        }
        if self.tell_unsendable(told, presented, status) {
            return;
        }
        told.outcome = outcome("forward", status, reason);
        told.forward = Some(self.tell_passing(presented));
    }

    /// Whether a request is answered as its target cannot be sent, which is told then.
    fn tell_unsendable(
        &self,
        told: &mut Explanation,
        presented: &Presented,
        status: &CacheStatus,
    ) -> bool {
        let failure = self.unsendable(presented);
        if let Some(failure) = &failure {
            told.outcome = answered(&respond::failed(failure, status), &failure.to_string());
        }
        failure.is_some()
    }
}

/// Tells which fields are left of those that came.
fn tell_fields(request: &mut shape::Request, left: &HeaderMap) {
    request.dropped = std::mem::replace(&mut request.fields, names(left));
    request.dropped.retain(|name| !left.contains_key(name.as_str()));
}

fn names(fields: &HeaderMap) -> Vec<String> {
    fields.keys().map(ToString::to_string).collect()
}

impl Contents {
    fn of(octets: Option<Bytes>) -> Self {
        let length = octets.as_ref().map_or(0, Bytes::len);
        let announced = Announced { at_least: length as u64, is_none: length == 0 };
        Self { announced, octets }
    }

    /// It has not been read.
    pub(super) fn unread(announced: Announced) -> Self {
        Self { announced, octets: None }
    }
}

/// How a request goes forward that asks, and is not let into the cache: a `POST` as the write that it may
/// be.
fn past(presented: &Presented) -> Forward {
    if presented.head.method == Method::POST { Forward::Method } else { Forward::Bypass }
}

/// What Larder answers by itself.
fn answered(response: &Response<Body>, why: &str) -> shape::Outcome {
    let item = response.headers().get(CACHE_STATUS).and_then(|item| item.to_str().ok());
    shape::Outcome {
        does: "answer",
        status: Some(response.status().as_u16()),
        cache_status: item.map(str::to_owned),
        why: why.to_owned(),
    }
}

fn outcome(does: &'static str, status: &CacheStatus, why: impl Into<String>) -> shape::Outcome {
    shape::Outcome { does, status: None, cache_status: Some(status.to_string()), why: why.into() }
}

/// The request's directives that count, as they would be written.
fn directives(directives: &RequestDirectives) -> Vec<String> {
    let RequestDirectives { no_cache, no_store, only_if_cached, no_transform, .. } = *directives;
    let plain = [
        (no_cache, "no-cache"),
        (no_store, "no-store"),
        (only_if_cached, "only-if-cached"),
        (no_transform, "no-transform"),
    ];
    let timed = [
        (directives.max_age, "max-age"),
        (directives.min_fresh, "min-fresh"),
        (directives.max_stale, "max-stale"),
        (directives.stale_if_error, "stale-if-error"),
    ];
    let plain = plain.iter().filter(|(is_set, _)| *is_set).map(|(_, name)| (*name).to_owned());
    let timed = timed.iter().filter_map(|(span, name)| match span {
        Some(std::time::Duration::MAX) => Some((*name).to_owned()),
        Some(span) => Some(format!("{name}={}", span.as_secs())),
        None => None,
    });
    plain.chain(timed).collect()
}
