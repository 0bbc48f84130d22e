//! What each request came to, and how long that took: from its head being read to the head of the
//! response being ready.
//!
//! Whoever makes a response leaves in it what it came to: the counterpart of what its `Cache-Status` says,
//! or what that has no word for. Of a hit in L1 it is known anyway.

use std::sync::Arc;
use std::time::Instant;

use http::{HeaderValue, Method, Request, Response, StatusCode};

use crate::access_log::{Answered, Asked, End, Entry};
use crate::body::Body;
use crate::semantics::{CACHE_STATUS, CacheStatus, Forward, Said};
use crate::stats::{Class, Outcome, Outcomes};
use crate::upstream::Arriving;

use super::hit::Hit;
use super::{Answer, Gateway, Peer};

/// Says what a response came to, whatever was said before.
pub(super) fn mark(mut response: Response<Body>, outcome: Outcome) -> Response<Body> {
    response.extensions_mut().insert(outcome);
    response
}

/// Says that a response came to what its `Cache-Status` says, unless it says what it came to already: that
/// something went wrong, `Cache-Status` has no word for.
pub(super) fn told(mut response: Response<Body>, status: &CacheStatus) -> Response<Body> {
    response.extensions_mut().get_or_insert_with(|| outcome(status));
    response
}

/// A request whose answer is to be counted.
struct Begun {
    at: Instant,
    is_head: bool,
    entry: Option<Box<Entry>>,
}

/// A request that is being answered. Dropping it before there is an answer is what its client does by
/// going away.
pub(super) struct Pending {
    outcomes: Arc<Outcomes>,
    /// None once there is an answer.
    begun: Option<Begun>,
}

impl Pending {
    pub(super) fn answered(mut self, response: &mut Response<Body>) {
        if let Some(begun) = self.begun.take() {
            begun.finish(&self.outcomes, response);
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let Some(begun) = &mut self.begun else { return };
        self.outcomes.count(Outcome::Abandoned, Class::None, begun.at.elapsed());
        if let Some(entry) = &mut begun.entry {
            entry.end(0, End::Client);
        }
    }
}

impl Gateway {
    /// Answers one request. It cannot fail: whatever goes wrong becomes a response in this layer, and
    /// nowhere else. Dropping the answer is what happens when the client goes away; a fetch that
    /// others may use, and a write that must invalidate, go on.
    ///
    /// `begun`: its head was read then.
    pub fn answer(
        self: &Arc<Self>,
        request: Request<Arriving>,
        mut peer: Peer,
        begun: Instant,
    ) -> Answer {
        let is_head = request.method() == Method::HEAD;
        let mut begun = Begun { at: begun, is_head, entry: None };
        let (log, tracer) = (self.lasting.access_log.as_ref(), self.lasting.tracer.as_ref());
        if log.is_some() || tracer.is_some() {
            let asked = self.asked(&request, &peer, begun.at);
            let entry = Entry::begin(log, tracer, &request, asked);
            peer.notes = Some(entry.notes());
            begun.entry = Some(entry);
        }
        let mut answer = self.answer_unmeasured(request, peer);
        let plan = answer.place().and_then(|place| self.plans.get(place));
        let outcomes = plan.map_or(&self.stats.unrouted_outcomes, |plan| &plan.stats.outcomes);
        if let (Some(entry), Some(plan)) = (&mut begun.entry, plan) {
            entry.route(&plan.name);
        }
        if let Some(hit) = answer.as_hit() {
            begun.finish_hit(outcomes, hit);
            return answer;
        }
        if let Some(response) = answer.at_hand() {
            begun.finish(outcomes, response);
            return answer;
        }
        let pending = Pending { outcomes: Arc::clone(outcomes), begun: Some(begun) };
        answer.counted(pending)
    }

    fn asked(&self, request: &Request<Arriving>, peer: &Peer, begun: Instant) -> Asked {
        let client = if self.trust.covers(peer.address) {
            let behalf = self.trust.behalf(request.headers(), peer.address);
            behalf.chain.first().copied().unwrap_or(peer.address)
        } else {
            peer.address
        };
        let (at, scheme) = (self.clock.now(), self.scheme(request.headers(), peer));
        Asked { at, begun, client: client.to_canonical(), scheme }
    }
}

/// The last item of a response's `Cache-Status` as it was before the client's had the key: neither lines nor
/// spans say that there, as it may hold a query.
#[derive(Clone)]
pub(super) struct Unkeyed(HeaderValue);

impl Unkeyed {
    /// Keeps it for whatever counts the response.
    pub(super) fn keep(response: &mut Response<Body>) {
        if let Some(item) = last_item(response) {
            response.extensions_mut().insert(Self(item));
        }
    }
}

fn last_item(response: &Response<Body>) -> Option<HeaderValue> {
    response.headers().get_all(CACHE_STATUS).iter().next_back().cloned()
}

impl Begun {
    /// Counts an answer. What of its content is not at hand is counted as it goes out.
    fn finish(mut self, outcomes: &Arc<Outcomes>, response: &mut Response<Body>) {
        // What Larder says by itself, without a word of the cache.
        let outcome = response.extensions_mut().remove().unwrap_or(Outcome::Refused);
        let unkeyed = response.extensions_mut().remove().map(|Unkeyed(item)| item);
        let item = || unkeyed.or_else(|| last_item(response)).map(Said::Field);
        self.count(outcomes, outcome, response.status(), item);
        match (response.body_mut(), self.entry) {
            // Those to `HEAD` have none, or lose it on the way.
            (Body::Whole(octets), None) => {
                outcomes.sent(if self.is_head { 0 } else { octets.len() as u64 });
            }
            (body, entry) => body.count_with(Some(Arc::clone(outcomes)), entry),
        }
    }

    /// The same of a hit, which is a response only when it has to be one.
    fn finish_hit(mut self, outcomes: &Outcomes, hit: &mut Hit) {
        self.count(outcomes, Outcome::HitL1, hit.status(), || Some(hit.cache_status()));
        hit.counted(outcomes, self.entry);
    }

    fn count(
        &mut self,
        outcomes: &Outcomes,
        outcome: Outcome,
        status: StatusCode,
        cache_status: impl FnOnce() -> Option<Said>,
    ) {
        let head = self.at.elapsed();
        outcomes.count(outcome, Class::of(status.as_u16()), head);
        if let Some(entry) = &mut self.entry {
            entry.answered(Answered { status, outcome, cache_status: cache_status(), head });
        }
    }
}

/// What a response came to whose `Cache-Status` says this.
fn outcome(status: &CacheStatus) -> Outcome {
    if status.hit {
        let is_stale = status.ttl.is_some_and(|ttl| ttl < 0);
        return if is_stale { Outcome::ServedStale } else { Outcome::HitL1 };
    }
    if status.is_shared() {
        return Outcome::Collapsed;
    }
    match status.forward {
        Some(Forward::UriMiss) => Outcome::UriMiss,
        Some(Forward::VaryMiss) => Outcome::VaryMiss,
        Some(Forward::Miss) => Outcome::Miss,
        Some(Forward::Stale) => Outcome::Stale,
        Some(Forward::Partial) => Outcome::Partial,
        Some(Forward::Request) => Outcome::Request,
        Some(Forward::Method) => Outcome::Method,
        Some(Forward::Bypass) => Outcome::Bypass,
        None => Outcome::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_came_to_what_it_says() {
        let forward = CacheStatus::forward;
        for (status, expected) in [
            (CacheStatus::hit(0), Outcome::HitL1),
            (CacheStatus::hit(-1), Outcome::ServedStale),
            (CacheStatus { ttl: Some(-1), ..forward(Forward::UriMiss) }, Outcome::UriMiss),
            (CacheStatus { stored: true, ..forward(Forward::VaryMiss) }, Outcome::VaryMiss),
            (CacheStatus { collapsed: Some(true), ..forward(Forward::Miss) }, Outcome::Collapsed),
            (CacheStatus { collapsed: Some(false), ..forward(Forward::Miss) }, Outcome::Miss),
            (
                CacheStatus { detail: Some("; collapsed".into()), ..forward(Forward::Bypass) },
                Outcome::Bypass,
            ),
            (forward(Forward::Stale), Outcome::Stale),
            (forward(Forward::Partial), Outcome::Partial),
            (forward(Forward::Request), Outcome::Request),
            (forward(Forward::Method), Outcome::Method),
        ] {
            let says = |response: &Response<Body>| response.extensions().get().copied();
            let response = told(Response::new(Body::empty()), &status);
            assert_eq!(says(&response), Some(expected), "{status}");
            let response = mark(response, Outcome::Failed);
            assert_eq!(says(&response), Some(Outcome::Failed), "{status}");
            assert_eq!(says(&told(response, &status)), Some(Outcome::Failed), "{status}");
        }
    }
}
