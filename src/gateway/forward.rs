//! A request that the cache could have answered goes forward: equal ones together, of which one leads
//! and the others follow (RFC 9111 §4: "collapsed forwarding").
//!
//! What the leader fetches on the way is `fetch`'s work.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use http::{HeaderMap, HeaderName, Method, Response};
use tokio::sync::oneshot;

use crate::body::Body;
use crate::clock;
use crate::collapse::{Apart, Lead, Outcome, Seat, Turn, Variant};
use crate::config::Collapsing;
use crate::semantics::{self, CacheStatus, Forward, Trouble};
use crate::store::{Lease, Search, Variants};
use crate::stored::{CacheKey, StoredResponse};

use super::fetch::Fetch;
use super::key::{Key, variant};
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

    /// What another got is not for this request; if it goes on `alone`, nor will the next one's be. What is stored may
    /// have become stale while it waited.
    fn go_on(&mut self, alone: bool, apart: Option<Apart>, now: SystemTime) {
        (self.alone, self.collapsed, self.apart) = (alone || apart.is_some(), Some(false), apart);
        Arc::make_mut(&mut self.presented).now = now;
    }

    /// Whether to find out whose turn it is to fetch. L2 that did not answer the look-up will hardly say
    /// that: who has waited for it once does not do so again. And a part is of no use to others.
    fn may_wait_for_turn(&self) -> bool {
        !self.alone && self.known && !self.sought.is_part()
    }
}

/// Why what another request's fetch came to does not answer a request.
enum InVain {
    /// It is for those that have other values in these fields, or another query.
    Differs(Vec<HeaderName>),
    /// The upstream is in trouble, or what the other request sent is: the next one may get an answer for all.
    Trouble,
    /// It is for one client, or cannot be used, and so may the next one be.
    Unusable,
}

impl InVain {
    fn differs(variant: &Variant) -> Self {
        Self::Differs(variant.nominated.clone())
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
        let (mut errand, mut key) = self.errand(presented, key, missing, now);
        loop {
            let lease = self.store.lease_at(now);
            let next = match self.enter(&errand, key, &lease) {
                Turn::Leader(lead, seat) => {
                    let with_fleet = collapsing == Collapsing::Fleet && errand.may_wait_for_turn();
                    match self.lead(errand, lease, (lead, seat), with_fleet).await {
                        Ok(response) => return response,
                        Err(unsent) => errand = *unsent,
                    }
                    None
                }
                Turn::Follower(seat) => match self.follow(&errand, seat).await {
                    Ok(response) => return response,
                    Err(in_vain) => self.once_more(&errand, key, &in_vain),
                },
            };
            now = clock::instant();
            key = next.unwrap_or(key);
            let apart = self.collapse.apart(&key, now.into());
            errand.go_on(next.is_none(), apart, self.clock.now());
        }
    }

    /// Whether a request leads the others of this key, or follows.
    fn enter(&self, errand: &Errand, key: CacheKey, lease: &Lease) -> Turn {
        let era = self.era(&errand.presented, lease);
        if errand.alone {
            let (lead, seat) = self.collapse.alone(key, era);
            Turn::Leader(lead, seat)
        } else if errand.sought.is_part() {
            // What is fetched so is of no use to others, but a whole that is on its way serves.
            self.collapse.join(key, era)
        } else {
            self.collapse.enter(key, era)
        }
    }

    /// By which key a request that has waited in vain waits once more, together with others that have. `None`: it goes
    /// forward by itself, as any that has waited twice, or it might wait for ever.
    fn once_more(&self, errand: &Errand, key: CacheKey, in_vain: &InVain) -> Option<CacheKey> {
        if errand.collapsed.is_some() {
            return None;
        }
        match in_vain {
            InVain::Differs(nominated) => {
                let own = self.collapsed_by(&errand.presented, &errand.key, nominated);
                (own != key).then_some(own)
            }
            InVain::Trouble => Some(key),
            InVain::Unusable => None,
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
        let Missing { why, confirmed, known, stale, variants } = missing;
        // What may have been invalidated stands in for nothing: `max_lag` is a promise to whoever
        // invalidates, and a route that would rather break it says `on_lag = "serve"`.
        let stale = stale.filter(|_| confirmed);
        let common = self.collapsed(&presented, &key, variants.as_deref());
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

    /// What the forward requests of a key are told apart by: by the variant that they want, once it is known which there
    /// are. What one of them brings says nothing about the others.
    pub(super) fn collapsed(
        &self,
        presented: &Presented,
        key: &Key,
        variants: Option<&Variants>,
    ) -> CacheKey {
        let common = self.common(presented, key);
        let fields = &presented.head.headers;
        variants.and_then(|variants| variants.wanted(&common, fields)).unwrap_or(common)
    }

    /// The same, of a response that nominates these fields.
    pub(super) fn collapsed_by(
        &self,
        presented: &Presented,
        key: &Key,
        nominated: &[HeaderName],
    ) -> CacheKey {
        variant(self.common(presented, key), nominated, &presented.head.headers)
    }

    /// The same for all variants: one for all the queries that the newest rule of the path holds equivalent, and
    /// another for those that name a user. What these bring may be for that user alone, which says nothing
    /// about what the others would get.
    fn common(&self, presented: &Presented, key: &Key) -> CacheKey {
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

    /// Waits for what another request's fetch comes to.
    ///
    /// # Errors
    /// It does not answer this one.
    async fn follow(&self, errand: &Errand, seat: Seat) -> Result<Response<Body>, InVain> {
        let Errand { presented, key, why, stale, sought, .. } = errand;
        let stale = stale.as_ref();
        self.route_stats(presented).followers.count();
        let status = CacheStatus { collapsed: Some(true), ..errand.status() };
        let outcome = seat.outcome().await;
        let answers =
            |variant: &Variant, fields: &HeaderMap| self.answers(variant, fields, presented, key);
        let response = match outcome {
            // Without the length there is no telling where a part lies.
            Outcome::Shared(head) if sought.is_part() && head.length.is_none() => {
                return Err(InVain::Unusable);
            }
            Outcome::Shared(head)
                if seat.is_late() && !self.may_reuse(presented, &head.freshness) =>
            {
                return Err(InVain::Unusable);
            }
            Outcome::Validated(validated)
                if seat.is_late() && !self.may_reuse(presented, &validated.stored.freshness) =>
            {
                return Err(InVain::Unusable);
            }
            Outcome::Shared(head) if answers(&head.variant, &head.shared_fields) => {
                let age = head.freshness.age(self.clock.now());
                respond::follower(presented, &head, seat, age, status)
            }
            Outcome::Validated(validated)
                if answers(&validated.variant, &validated.stored.fields.to_map(0)) =>
            {
                respond::validated(presented, &validated, self.clock.now(), status)
            }
            Outcome::Elsewhere(elsewhere)
                if answers(&elsewhere.variant, &elsewhere.stored.fields.to_map(0))
                    && self.may_answer_elsewhere(presented, &elsewhere.stored) =>
            {
                return Ok(self.answer_elsewhere(presented, &elsewhere, *why));
            }
            Outcome::Failed(failure) => {
                let stale = self.instead(presented, stale, Trouble::Disconnected, &status);
                return Ok(stale.unwrap_or_else(|| respond::failed(&failure, &status)));
            }
            Outcome::Trouble(code) => {
                let stale = self.instead(presented, stale, Trouble::Status(code), &status);
                return stale.ok_or(InVain::Trouble);
            }
            Outcome::Shared(head) => return Err(InVain::differs(&head.variant)),
            Outcome::Validated(validated) => return Err(InVain::differs(&validated.variant)),
            Outcome::Elsewhere(elsewhere) => return Err(InVain::differs(&elsewhere.variant)),
            Outcome::Apart | Outcome::Unsent | Outcome::Lost => return Err(InVain::Unusable),
        };
        self.route_stats(presented).collapsed.count();
        Ok(response)
    }
}
