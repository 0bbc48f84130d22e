//! A request that the cache could have answered goes forward: equal ones together, of which one leads
//! and the others follow (RFC 9111 §4: "collapsed forwarding").
//!
//! What the leader fetches on the way is `fetch`'s work.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use http::{Method, Response};
use tokio::sync::oneshot;

use crate::body::Body;
use crate::clock;
use crate::collapse::{Apart, Lead, Outcome, Seat, Turn};
use crate::config::Collapsing;
use crate::semantics::{self, CacheStatus, Forward, Trouble};
use crate::store::{Lease, Search};
use crate::stored::{CacheKey, StoredResponse};

use super::fetch::Fetch;
use super::key::Key;
use super::look::{Looked, Missing};
use super::measure::told;
use super::outliving::Outliving;
use super::partial::Sought;
use super::stale::UNCONFIRMED;
use super::{Gateway, Presented, respond};

/// A request on its way forward, with all that was found out on the way.
#[derive(Clone)]
struct Errand {
    presented: Arc<Presented>,
    key: Key,
    why: Forward,
    /// False: what is stored for it may have been invalidated.
    confirmed: bool,
    /// False: L2 did not answer.
    known: bool,
    /// Whether another request's response answers it, once it has waited for one (RFC 9211 §2.6).
    collapsed: Option<bool>,
    /// What may stand in if the upstream is in trouble.
    stale: Option<Arc<StoredResponse>>,
    sought: Sought,
    /// It waits for no other request's response, and none for its own.
    alone: bool,
    /// Whether it is known that responses for its key cannot be shared.
    apart: Option<Apart>,
}

impl Errand {
    /// What `Cache-Status` will say, as far as that is known.
    fn status(&self) -> CacheStatus {
        CacheStatus { collapsed: self.collapsed, ..status(self.why, self.confirmed) }
    }

    /// Whether what answers it may have come since it was looked for: others were waited for, or may have
    /// been before it.
    fn may_have_come(&self) -> bool {
        !self.alone || self.collapsed.is_some()
    }

    /// What another got is not for this request, nor will the next one's be. What is stored may have become stale
    /// while it waited.
    fn wait_no_more(&mut self, apart: Option<Apart>, now: SystemTime) {
        (self.alone, self.collapsed, self.apart) = (true, Some(false), apart);
        Arc::make_mut(&mut self.presented).now = now;
    }

    /// Whether to find out whose turn it is to fetch. L2 that did not answer the look-up will hardly say
    /// that: who has waited for it once does not do so again. And a part is of no use to others.
    fn may_wait_for_turn(&self) -> bool {
        !self.alone && self.known && !self.sought.is_part()
    }
}

/// Whether nothing that comes back is for the store. A response to HEAD has no content to store, so it
/// passes by. It can say whether what is stored, and whole, is still right; it is then for this client
/// and the store alone.
pub(super) fn passes_by(presented: &Presented, missing: &Missing) -> bool {
    let is_stored = missing.stale.as_ref().is_some_and(|stale| stale.part.is_none());
    presented.head.method == Method::HEAD && !is_stored
}

pub(super) fn status(why: Forward, confirmed: bool) -> CacheStatus {
    let detail = (!confirmed).then(|| UNCONFIRMED.into());
    CacheStatus { detail, ..CacheStatus::forward(why) }
}

impl Gateway {
    /// Sends a request forward that could have been answered from the cache, together with equal
    /// ones, and stores what may be stored.
    pub(super) async fn forward(
        self: &Arc<Self>,
        mut presented: Arc<Presented>,
        key: Key,
        missing: Missing,
    ) -> Response<Body> {
        let (why, confirmed) = (missing.why, missing.confirmed);
        if !confirmed {
            self.route_stats(&presented).unconfirmed.count();
        }
        if presented.directives.only_if_cached {
            return respond::only_if_cached(why);
        }
        if self.narrow(Arc::make_mut(&mut presented), &key).is_err() {
            let presented = Arc::unwrap_or_clone(presented);
            return Box::pin(self.bypass(presented, "query-rewritten".into())).await;
        }
        // Neither others that want the same nor what is stored have to do with it.
        if let Some(failure) = self.unsendable(&presented) {
            return respond::failed(&failure, &status(why, confirmed));
        }
        if passes_by(&presented, &missing) {
            let (content, status) = (presented.upstream_content(), status(why, confirmed));
            let presented = Arc::unwrap_or_clone(presented);
            return Box::pin(self.pass_reading(presented, content, status)).await;
        }
        let collapsing = self.plan(&presented).collapse;
        let mut now = clock::instant();
        let (mut errand, key) = self.errand(presented, key, missing, now);
        loop {
            let lease = self.store.lease_at(now);
            let turn = if errand.alone {
                let (lead, seat) = self.collapse.alone(key, self.era(&errand.presented, &lease));
                Turn::Leader(lead, seat)
            } else if errand.sought.is_part() {
                // What is fetched so is of no use to others, but a whole that is on its way serves.
                self.collapse.join(key, self.era(&errand.presented, &lease))
            } else {
                self.collapse.enter(key, self.era(&errand.presented, &lease))
            };
            match turn {
                Turn::Leader(lead, seat) => {
                    let with_fleet = collapsing == Collapsing::Fleet && errand.may_wait_for_turn();
                    match self.lead(errand, lease, (lead, seat), with_fleet).await {
                        Ok(response) => return response,
                        Err(unsent) => errand = *unsent,
                    }
                }
                Turn::Follower(seat) => {
                    if let Some(response) = self.follow(&errand, seat).await {
                        return response;
                    }
                }
            }
            now = clock::instant();
            errand.wait_no_more(self.collapse.apart(&key, now.into()), self.clock.now());
        }
    }

    /// What is known before anything is sent; and what a request has in common with those that it may go
    /// forward with.
    fn errand(
        &self,
        presented: Arc<Presented>,
        key: Key,
        missing: Missing,
        now: Instant,
    ) -> (Errand, CacheKey) {
        let sought = Sought::new(&presented, &missing);
        let Missing { why, confirmed, known, stale, .. } = missing;
        // What may have been invalidated stands in for nothing: `max_lag` is a promise to whoever
        // invalidates, and a route that would rather break it says `on_lag = "serve"`.
        let stale = stale.filter(|_| confirmed);
        let common = self.collapsed(&presented, &key);
        let apart = self.collapse.apart(&common, now.into());
        let alone = apart.is_some() || self.goes_alone(&presented);
        let collapsed = None;
        let errand = Errand {
            presented,
            key,
            why,
            confirmed,
            known,
            collapsed,
            stale,
            sought,
            alone,
            apart,
        };
        (errand, common)
    }

    /// What the forward requests of a key are told apart by: one for all the queries that the newest
    /// rule of the path holds equivalent, and another for those that name a user. What these bring may be for
    /// that user alone, which says nothing about what the others would get.
    pub(super) fn collapsed(&self, presented: &Presented, key: &Key) -> CacheKey {
        let known = |search: Search<'_>| {
            let rules = self.store.rules_in_l1(&search, presented.now)?;
            rules.iter().next().map(|rule| search.under(rule))
        };
        let has_rules = self.store.has_rules_in_l1();
        let search = if has_rules { self.search(presented) } else { None };
        let common = search.and_then(known).unwrap_or(key.hash);
        if semantics::names_user(&self.as_asked(presented)) {
            // No rule reads so.
            return common.search("credentials", "");
        }
        common
    }

    /// Whether a request goes forward by itself, whatever others got.
    pub(super) fn goes_alone(&self, presented: &Presented) -> bool {
        // RFC 9111 §5.2.1.4: `no-cache` wants an answer that was fetched after it was asked for, and
        // that to `no-store` is for nobody else.
        presented.head.method == Method::HEAD
            || self.plan(presented).collapse == Collapsing::Off
            || presented.directives.no_cache
            || presented.directives.no_store
    }

    /// Fetches, which outlives this request, and answers with what comes of it. `with_fleet`: when it is
    /// this gateway's turn.
    ///
    /// # Errors
    /// Nothing was sent, as another gateway has found that each request is to go forward by itself.
    async fn lead(
        self: &Arc<Self>,
        errand: Errand,
        lease: Lease,
        (lead, seat): (Lead, Seat),
        with_fleet: bool,
    ) -> Result<Response<Body>, Box<Errand>> {
        // Another leader may have finished between the look-up and this turn.
        if errand.may_have_come()
            && let Looked::Serve { stored, age, ttl, confirmed } =
                self.look_in_l1(&errand.presented, &errand.key)
        {
            drop(lead);
            self.route_stats(&errand.presented).outcomes.l1_hit();
            if !confirmed {
                return Ok(self.serve_unconfirmed(&errand.presented, &stored, age, ttl));
            }
            let response = respond::hit(&errand.presented, &stored, age, ttl);
            return Ok(told(response, &CacheStatus::hit(ttl)));
        }
        let again = with_fleet.then(|| Box::new(errand.clone()));
        let Errand { presented, key, why, confirmed, collapsed, stale, sought, apart, .. } = errand;
        let (mine, alone) = oneshot::channel();
        let fetch = Fetch {
            gateway: Arc::clone(self),
            presented: Arc::clone(&presented),
            key,
            sought,
            lease,
            lead,
            turn: None,
            apart,
            mine,
        };
        let mut fetch = if with_fleet {
            Outliving::new(fetch.run_in_turn(), &self.tasks)
        } else {
            Outliving::new(fetch.run(), &self.tasks)
        };
        let outcome = fetch.until(seat.outcome()).await;
        if let (Outcome::Unsent, Some(again)) = (&outcome, again) {
            return Err(again);
        }
        let collapsed = collapsed.or(seat.has_waited().then_some(false));
        let status = CacheStatus { collapsed, ..status(why, confirmed) };
        Ok(match outcome {
            Outcome::Shared(head) => respond::leader(&presented, &head, seat, status),
            Outcome::Validated(validated) => {
                let now = self.clock.now();
                respond::validated(&presented, &validated, now, status)
            }
            Outcome::Elsewhere(elsewhere) => self.answer_elsewhere(&presented, &elsewhere, why),
            Outcome::Failed(failure) => self
                .instead(&presented, stale.as_ref(), Trouble::Disconnected, &status)
                .unwrap_or_else(|| respond::failed(&failure, &status)),
            Outcome::Apart | Outcome::Trouble(_) | Outcome::Unsent | Outcome::Lost => {
                match fetch.until(alone).await {
                    Ok(response) => self
                        .instead(&presented, stale.as_ref(), response.trouble(), &status)
                        .unwrap_or_else(|| {
                            respond::apart(&presented, response, &self.clock, &status)
                        }),
                    Err(_) => respond::lost(&status),
                }
            }
        })
    }

    /// Waits for what another request's fetch comes to. `None`: it does not answer this one.
    async fn follow(&self, errand: &Errand, seat: Seat) -> Option<Response<Body>> {
        let Errand { presented, key, why, stale, sought, .. } = errand;
        let stale = stale.as_ref();
        self.route_stats(presented).followers.count();
        let status = CacheStatus { collapsed: Some(true), ..errand.status() };
        let response = match seat.outcome().await {
            // Without the length there is no telling where a part lies.
            Outcome::Shared(head) if sought.is_part() && head.length.is_none() => return None,
            Outcome::Shared(head)
                if seat.is_late() && !self.may_reuse(presented, &head.freshness) =>
            {
                return None;
            }
            Outcome::Validated(validated)
                if seat.is_late() && !self.may_reuse(presented, &validated.stored.freshness) =>
            {
                return None;
            }
            Outcome::Shared(head)
                if self.answers(&head.variant, &head.shared_fields, presented, key) =>
            {
                let age = head.freshness.age(self.clock.now());
                respond::follower(presented, &head, seat, age, status)
            }
            Outcome::Validated(validated)
                if self.answers(
                    &validated.variant,
                    &validated.stored.fields.to_map(0),
                    presented,
                    key,
                ) =>
            {
                respond::validated(presented, &validated, self.clock.now(), status)
            }
            Outcome::Elsewhere(elsewhere)
                if self.answers(
                    &elsewhere.variant,
                    &elsewhere.stored.fields.to_map(0),
                    presented,
                    key,
                ) && self.may_answer_elsewhere(presented, &elsewhere.stored) =>
            {
                return Some(self.answer_elsewhere(presented, &elsewhere, *why));
            }
            Outcome::Failed(failure) => {
                let stale = self.instead(presented, stale, Trouble::Disconnected, &status);
                return stale.or_else(|| Some(respond::failed(&failure, &status)));
            }
            Outcome::Trouble(code) => {
                return self.instead(presented, stale, Trouble::Status(code), &status);
            }
            Outcome::Shared(_)
            | Outcome::Validated(_)
            | Outcome::Elsewhere(_)
            | Outcome::Apart
            | Outcome::Unsent
            | Outcome::Lost => return None,
        };
        self.route_stats(presented).collapsed.count();
        Some(response)
    }
}
