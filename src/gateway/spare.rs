//! Requests that L1 does not answer while L2 is out of use, and may have what does: whether they go
//! forward all the same is their route's to say (`on_l2_error`). An upstream that lives by its cache
//! might not stand it.

use std::sync::Arc;
use std::time::Duration;

use http::{Response, StatusCode};

use crate::body::Body;
use crate::config::OnL2Error;
use crate::semantics::{self, CacheStatus, Trouble};
use crate::stored::StoredResponse;

use super::look::Missing;
use super::{Gateway, Presented, partial, respond};

/// What `Cache-Status` says of them.
pub(super) const L2_ERROR: &str = "l2-error";

/// What such a request is answered with.
pub(super) enum Spared {
    /// This, stale as it is, of this age and with so many seconds of freshness left.
    Stale(Arc<StoredResponse>, Duration, i64),
    /// 503.
    Fail,
}

impl Gateway {
    /// The answer to such a request. `None`: it goes forward.
    pub(super) fn spare(&self, presented: &Presented, missing: &Missing) -> Option<Response<Body>> {
        let figures = self.route_stats(presented);
        figures.l2_errors.count();
        match self.spared(presented, missing)? {
            Spared::Stale(stored, age, ttl) => {
                figures.l2_errors_stale.count();
                let status = CacheStatus { detail: Some(L2_ERROR.into()), ..CacheStatus::hit(ttl) };
                Some(respond::stored(presented, &stored, age, &status))
            }
            Spared::Fail => {
                figures.l2_errors_failed.count();
                Some(respond::spared(missing.why))
            }
        }
    }

    /// What it is answered with. `None`: it goes forward.
    pub(super) fn spared(&self, presented: &Presented, missing: &Missing) -> Option<Spared> {
        let plan = self.plan(presented);
        let trouble = match plan.on_l2_error {
            OnL2Error::Miss => return None,
            // RFC 9111 §5.2.1.7: it does not go forward, and has an answer of its own.
            _ if presented.directives.only_if_cached => return None,
            OnL2Error::Stale => Trouble::Spared,
            // RFC 5861 §4: what may stand in for a 503 is what is stated.
            OnL2Error::Fail => Trouble::Status(StatusCode::SERVICE_UNAVAILABLE),
        };
        // What may have been invalidated stands in for nothing.
        let is_usable = |stored: &&Arc<StoredResponse>| {
            missing.confirmed && partial::has_enough(presented, stored)
        };
        if let Some(stored) = missing.stale.as_ref().filter(is_usable) {
            let (directives, now) = (&presented.directives, presented.now);
            let softened = self.store.softened(stored, now);
            let freshness = softened.as_ref().unwrap_or(&stored.freshness);
            let served =
                semantics::reuse_in_trouble(freshness, directives, trouble, &plan.rules, now);
            if let Some((age, ttl)) = served {
                return Some(Spared::Stale(Arc::clone(stored), age, ttl));
            }
        }
        (plan.on_l2_error == OnL2Error::Fail).then_some(Spared::Fail)
    }
}
