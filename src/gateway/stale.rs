//! Stale responses that are served all the same (RFC 9111 §4.2.4, RFC 5861): while they are
//! validated in the background, or because the upstream is in trouble.
//!
//! Whether that is allowed is `semantics`' to say.

use std::sync::Arc;
use std::time::Duration;

use http::header::CACHE_CONTROL;
use http::{Method, Response};
use tokio::sync::oneshot;

use crate::body::Body;
use crate::clock;
use crate::collapse::Turn;
use crate::config::{Collapsing, OnLag};
use crate::semantics::{self, CacheStatus, Forward, RequestDirectives, Trouble};
use crate::stats::Outcome;
use crate::store::Purpose;
use crate::stored::{CacheKey, StoredResponse};

use super::fetch::Fetch;
use super::key::Key;
use super::measure::mark;
use super::partial::Sought;
use super::{Gateway, Looked, Plan, Presented, partial, respond};

/// What `Cache-Status` says where a stored response may have been invalidated: the invalidation log has
/// been out of reach for longer than `max_lag`.
pub(super) const UNCONFIRMED: &str = "unconfirmed";

impl Gateway {
    /// Answers at once with what is stale, and has it validated meanwhile.
    pub(super) fn serve_stale(
        self: &Arc<Self>,
        presented: Arc<Presented>,
        key: Key,
        stored: Arc<StoredResponse>,
        age: Duration,
        ttl: i64,
    ) -> Response<Body> {
        let status =
            CacheStatus { detail: Some("stale-while-revalidate".into()), ..CacheStatus::hit(ttl) };
        let response = respond::stored(&presented, &stored, age, &status);
        // RFC 9111 §5.2.1.5: of a request with `no-store`, no response is kept.
        if !presented.directives.no_store {
            self.revalidate(presented, key, stored);
        }
        response
    }

    /// Answers with what may have been invalidated, as the route wants it.
    pub(super) fn serve_unconfirmed(
        &self,
        presented: &Presented,
        stored: &Arc<StoredResponse>,
        age: Duration,
        ttl: i64,
    ) -> Response<Body> {
        self.route_stats(presented).unconfirmed.count();
        let status = CacheStatus { detail: Some(UNCONFIRMED.into()), ..CacheStatus::hit(ttl) };
        respond::stored(presented, stored, age, &status)
    }

    /// Has a stored response validated, or replaced, by a fetch of its own; unless one is under way.
    fn revalidate(
        self: &Arc<Self>,
        presented: Arc<Presented>,
        key: Key,
        stale: Arc<StoredResponse>,
    ) {
        let mut presented = Arc::unwrap_or_clone(presented);
        let RequestDirectives { only_if_cached, max_stale, .. } = &presented.directives;
        if *only_if_cached || max_stale.is_some() {
            // A cache behind would not have to ask anybody.
            presented.head.headers.remove(CACHE_CONTROL);
        }
        let is_narrowed = self.narrow(&mut presented, &key).is_ok();
        if !is_narrowed || self.unsendable(&presented).is_some() {
            return;
        }
        let lease = self.store.lease();
        let key_of_all = self.collapsed_with(&presented, &key, &stale);
        let Turn::Leader(lead, seat) =
            self.collapse.enter(key_of_all, self.era(&presented, &lease))
        else {
            return;
        };
        // Nobody waits for it.
        drop(seat);
        let (mine, _) = oneshot::channel();
        // The client does not wait, either.
        presented.peer.interims = None;
        // What HEAD asks for has no content to store.
        if presented.head.method == Method::HEAD {
            presented.head.method = Method::GET;
        }
        let is_of_fleet = self.plan(&presented).collapse == Collapsing::Fleet;
        let gateway = Arc::clone(self);
        self.tasks.spawn(async move {
            // Another gateway may have validated it by now.
            let is_l2_known = match gateway.look_in_l2(&presented, &key, Purpose::Answer).await {
                Looked::Serve { .. } => return,
                Looked::ServeStale { .. } => true,
                Looked::Forward(missing) => missing.known,
            };
            let presented = Arc::new(presented);
            // Whoever joins may want more than this request.
            let sought = Sought::whole(Some(stale), None);
            let turn = None;
            let apart = gateway.collapse.apart(&lead.key, clock::instant().into());
            let fetch = Fetch { gateway, presented, key, sought, lease, lead, turn, apart, mine };
            // Other gateways may want it validated, too.
            if is_of_fleet && is_l2_known { fetch.run_in_turn().await } else { fetch.run().await }
        });
    }

    /// What a validation of this in the background has in common with other forward requests.
    pub(super) fn collapsed_with(
        &self,
        presented: &Presented,
        key: &Key,
        stale: &StoredResponse,
    ) -> CacheKey {
        let nominated = self.plan(presented).nominated(&stale.fields.to_map(0));
        self.collapsed_by(presented, key, &nominated.unwrap_or_default())
    }

    /// Whether a stored response is not invalidated: for certain, unless its route serves what may be. It has been waited
    /// for long enough for an invalidation.
    pub(super) fn is_servable(&self, plan: &Plan, stored: &Arc<StoredResponse>) -> bool {
        self.store.again(stored).is_some_and(|hit| {
            hit.confirmed && plan.confirms(stored) || plan.on_lag == OnLag::Serve
        })
    }

    /// What may be served in place of a response that did not come, or came to be an error.
    pub(super) fn instead(
        &self,
        presented: &Presented,
        stale: Option<&Arc<StoredResponse>>,
        trouble: Trouble,
        status: &CacheStatus,
    ) -> Option<Response<Body>> {
        let stored = stale.filter(|stored| partial::has_enough(presented, stored))?;
        let plan = self.plan(presented);
        if !self.is_servable(plan, stored) {
            return None;
        }
        let Presented { directives, .. } = presented;
        let (rules, now) = (&plan.rules, self.clock.now());
        let softened = self.store.softened(stored, now);
        let freshness = softened.as_ref().unwrap_or(&stored.freshness);
        let (age, ttl) = semantics::reuse_in_trouble(freshness, directives, trouble, rules, now)?;
        let status = CacheStatus {
            // What was looked up for another reason has become stale meanwhile.
            forward: Some(Forward::Stale),
            forward_status: match trouble {
                Trouble::Disconnected | Trouble::Spared => None,
                Trouble::Status(code) => Some(code),
            },
            ttl: Some(ttl),
            detail: Some("stale-if-error".into()),
            ..*status
        };
        Some(mark(respond::stored(presented, stored, age, &status), Outcome::ServedStale))
    }
}
