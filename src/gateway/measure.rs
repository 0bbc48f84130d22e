//! What each request came to, and how long that took: from its head being read to the head of the
//! response being ready.
//!
//! What a response came to is what its `Cache-Status` says, but for what that has no word for, which is
//! marked where it happens. A hit in L1 says so by itself, and no field of it is read again.

use std::sync::Arc;
use std::time::Instant;

use http::{Method, Request, Response};
use hyper::body::Incoming;

use crate::access_log::{Answered, Asked, End, Entry};
use crate::body::Body;
use crate::clock;
use crate::semantics::{CACHE_STATUS, Told};
use crate::stats::{Class, Outcome, Outcomes};

use super::{Answer, Gateway, Peer};

/// Says what a response came to where its `Cache-Status` does not tell.
pub(super) fn mark(mut response: Response<Body>, outcome: Outcome) -> Response<Body> {
    response.extensions_mut().insert(outcome);
    response
}

/// A request whose answer is to be counted.
struct Begun {
    at: Instant,
    is_head: bool,
    entry: Option<Entry>,
}

/// A request that is being answered. Dropping it before there is an answer is what its client does by
/// going away.
struct Pending {
    outcomes: Arc<Outcomes>,
    /// None once there is an answer.
    begun: Option<Begun>,
}

impl Pending {
    fn answered(mut self, response: &mut Response<Body>) {
        if let Some(begun) = self.begun.take() {
            begun.finish(&self.outcomes, None, response);
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
    pub fn answer(self: &Arc<Self>, request: Request<Incoming>, mut peer: Peer) -> Answer {
        let is_head = request.method() == Method::HEAD;
        let mut begun = Begun { at: clock::instant(), is_head, entry: None };
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
        if let Some((response, known)) = answer.at_hand() {
            begun.finish(outcomes, known, response);
            return answer;
        }
        let pending = Pending { outcomes: Arc::clone(outcomes), begun: Some(begun) };
        answer.map(move |response| pending.answered(response))
    }

    fn asked(&self, request: &Request<Incoming>, peer: &Peer, begun: Instant) -> Asked {
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

impl Begun {
    /// Counts an answer. What of its content is not at hand is counted as it goes out.
    fn finish(
        self,
        outcomes: &Arc<Outcomes>,
        known: Option<Outcome>,
        response: &mut Response<Body>,
    ) {
        let outcome = known.unwrap_or_else(|| outcome(response));
        let head = self.at.elapsed();
        outcomes.count(outcome, Class::of(response.status().as_u16()), head);
        let mut entry = self.entry;
        if let Some(entry) = &mut entry {
            let item = response.headers().get_all(CACHE_STATUS).iter().next_back().cloned();
            let (status, cache_status) = (response.status(), item);
            entry.answered(Answered { status, outcome, cache_status, head });
        }
        match (response.body_mut(), entry) {
            // Those to `HEAD` have none, or lose it on the way.
            (Body::Whole(octets), None) => {
                outcomes.sent(if self.is_head { 0 } else { octets.len() as u64 });
            }
            (body, entry) => body.count_with(Arc::clone(outcomes), entry),
        }
    }
}

/// What a response came to.
fn outcome(response: &Response<Body>) -> Outcome {
    if let Some(outcome) = response.extensions().get::<Outcome>() {
        return *outcome;
    }
    if let Some(why) = Told::forward_at_sight(response.headers()) {
        return forwarded(why);
    }
    let Some(told) = Told::of(response.headers()) else { return Outcome::Refused };
    match told.forward() {
        _ if told.is_stale_hit() => Outcome::ServedStale,
        _ if told.is_hit() => Outcome::HitL1,
        _ if told.is_collapsed() => Outcome::Collapsed,
        why => forwarded(why.unwrap_or_default()),
    }
}

/// What a request came to that went forward for this reason, and had the answer for itself.
fn forwarded(why: &str) -> Outcome {
    match why {
        "uri-miss" => Outcome::UriMiss,
        "vary-miss" => Outcome::VaryMiss,
        "miss" => Outcome::Miss,
        "stale" => Outcome::Stale,
        "partial" => Outcome::Partial,
        "request" => Outcome::Request,
        "method" => Outcome::Method,
        "bypass" => Outcome::Bypass,
        _ => Outcome::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::semantics::{CacheStatus, Forward};

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
            let mut response = Response::new(Body::empty());
            status.write_to(response.headers_mut());
            assert_eq!(outcome(&response), expected, "{status}");
            let response = mark(response, Outcome::Failed);
            assert_eq!(outcome(&response), Outcome::Failed, "{status}");
        }
        assert_eq!(outcome(&Response::new(Body::empty())), Outcome::Refused);
    }
}
