//! A request that the cache could have answered goes forward: equal ones together, of which one leads
//! and the others follow (RFC 9111 §4: "collapsed forwarding").
//!
//! What the leader fetches on the way is `fetch`'s work.

use std::sync::Arc;

use http::{Method, Response};
use tokio::sync::oneshot;

use crate::body::Body;
use crate::collapse::{Lead, Outcome, Seat, Turn};
use crate::semantics::{CacheStatus, Trouble};
use crate::store::Lease;

use super::fetch::{Errand, Fetch};
use super::key::Key;
use super::look::{Looked, Missing};
use super::partial::Sought;
use super::{Gateway, Presented, respond};

impl Gateway {
    /// Sends a request forward that could have been answered from the cache, together with equal
    /// ones, and stores what may be stored.
    pub(super) async fn forward(
        self: &Arc<Self>,
        mut presented: Presented,
        key: Key,
        missing: Missing,
    ) -> Response<Body> {
        let why = missing.why;
        if presented.directives.only_if_cached {
            return respond::only_if_cached(why);
        }
        if self.narrow(&mut presented, &key).is_err() {
            return self.bypass(presented, "query-rewritten".into()).await;
        }
        // A response to HEAD has no content to store, so it passes by. It can say whether what is
        // stored, and whole, is still right; it is then for this client and the store alone.
        let is_head = presented.head.method == Method::HEAD;
        let is_stored = missing.stale.as_ref().is_some_and(|stale| stale.part.is_none());
        if is_head && !is_stored {
            let content = presented.upstream_content();
            return self.pass_reading(presented, content, CacheStatus::forward(why)).await;
        }
        let sought = Sought::new(&presented, &missing);
        let (presented, stale) = (Arc::new(presented), missing.stale);
        let mut errand = Errand { presented, key, why, collapsed: None, stale, sought };
        let key = self.collapsed(&errand.presented, &errand.key);
        // RFC 9111 §5.2.1.4: `no-cache` wants an answer that was fetched after it was asked for, and
        // that to `no-store` is for nobody else.
        let mut alone = is_head
            || !self.plan(&errand.presented).collapse
            || errand.presented.directives.no_cache
            || errand.presented.directives.no_store
            || self.collapse.is_apart(&key);
        loop {
            let lease = self.store.lease();
            let turn = if alone {
                let (lead, seat) = self.collapse.alone(key, lease.records());
                Turn::Leader(lead, seat)
            } else if errand.sought.is_part() {
                // What is fetched so is of no use to others, but a whole that is on its way serves.
                self.collapse.join(key, lease.records())
            } else {
                self.collapse.enter(key, lease.records())
            };
            match turn {
                Turn::Leader(lead, seat) => return self.lead(errand, lease, lead, seat).await,
                Turn::Follower(seat) => {
                    if let Some(response) = self.follow(&errand, seat).await {
                        return response;
                    }
                    // What the leader got is not for this request, nor will the next one's be.
                    (alone, errand.collapsed) = (true, Some(false));
                }
            }
        }
    }

    /// Fetches, in a task that outlives this request, and answers with what comes of it.
    async fn lead(
        self: &Arc<Self>,
        errand: Errand,
        lease: Lease,
        lead: Lead,
        seat: Seat,
    ) -> Response<Body> {
        let Errand { presented, key, why, collapsed, stale, sought } = errand;
        // Another leader may have finished between the look-up and this turn.
        if let Looked::Serve { stored, age, ttl } = self.look_in_l1(&presented, &key) {
            drop(lead);
            self.route_stats(&presented).l1_hits.count();
            return respond::hit(&presented, &stored, age, ttl);
        }
        let (mine, alone) = oneshot::channel();
        let fetch = Fetch {
            gateway: Arc::clone(self),
            presented: Arc::clone(&presented),
            key,
            sought,
            lease,
            lead,
            mine,
        };
        self.tasks.spawn(fetch.run());
        let status = CacheStatus { collapsed, ..CacheStatus::forward(why) };
        match seat.outcome().await {
            Outcome::Shared(head) => respond::leader(&presented, &head, seat, status),
            Outcome::Validated(validated) => {
                let now = self.clock.now();
                respond::validated(&presented, &validated, now, status)
            }
            Outcome::Failed(failure) => self
                .instead(&presented, stale.as_ref(), Trouble::Disconnected, &status)
                .unwrap_or_else(|| respond::failed(&failure, &status)),
            Outcome::Apart | Outcome::Trouble(_) | Outcome::Lost => match alone.await {
                Ok(response) => self
                    .instead(&presented, stale.as_ref(), response.trouble(), &status)
                    .unwrap_or_else(|| {
                        respond::apart(&presented, response, self.clock.now(), &status)
                    }),
                Err(_) => respond::lost(&status),
            },
        }
    }

    /// Waits for what another request's fetch comes to. `None`: it does not answer this one.
    async fn follow(&self, errand: &Errand, seat: Seat) -> Option<Response<Body>> {
        let Errand { presented, key, why, stale, sought, .. } = errand;
        let stale = stale.as_ref();
        self.route_stats(presented).followers.count();
        let status = CacheStatus { collapsed: Some(true), ..CacheStatus::forward(*why) };
        let response = match seat.outcome().await {
            // Without the length there is no telling where a part lies.
            Outcome::Shared(head) if sought.is_part() && head.length.is_none() => return None,
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
            Outcome::Failed(failure) => {
                let stale = self.instead(presented, stale, Trouble::Disconnected, &status);
                return stale.or_else(|| Some(respond::failed(&failure, &status)));
            }
            Outcome::Trouble(code) => {
                return self.instead(presented, stale, Trouble::Status(code), &status);
            }
            Outcome::Shared(_) | Outcome::Validated(_) | Outcome::Apart | Outcome::Lost => {
                return None;
            }
        };
        self.route_stats(presented).collapsed.count();
        Some(response)
    }
}
