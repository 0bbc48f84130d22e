//! What the store has for a request, and whether it may be served.

use std::sync::Arc;
use std::time::Duration;

use crate::clock;
use crate::config::OnLag;
use crate::semantics::{self, Forward, Reuse};
use crate::store::{Hit, Lease, LookUp, Purpose, Store, Variants};
use crate::stored::{CacheKey, StoredResponse};

use super::key::Key;
use super::{Gateway, Plan, Presented, partial};

/// What a look-up came to.
pub(super) enum Looked {
    /// This may be served as it is; if it is not `confirmed`, because the route serves what is not.
    Serve { stored: Arc<StoredResponse>, age: Duration, ttl: i64, confirmed: bool },
    /// This may be served, stale as it is, if it is validated meanwhile.
    ServeStale { stored: Arc<StoredResponse>, age: Duration, ttl: i64 },
    /// The request must go forward.
    Forward(Missing),
}

/// Why a request must go forward, and what is there to validate.
pub(super) struct Missing {
    pub(super) why: Forward,
    /// The request selects it, and it may not be served.
    pub(super) stale: Option<Arc<StoredResponse>>,
    /// False: something is stored that would be served, were it not for the gateway's lag behind the
    /// invalidation log.
    pub(super) confirmed: bool,
    /// False: L2 is out of use, or did not answer, and may have what does.
    pub(super) known: bool,
    /// Which variants there are.
    pub(super) variants: Option<Arc<Variants>>,
}

impl Gateway {
    /// What two requests must have in common to share a fetch: that nothing was invalidated between them,
    /// and while something is late, that they are no more than `max_lag` apart.
    pub(super) fn era(&self, presented: &Presented, lease: &Lease) -> u64 {
        // All that is late is in the same span: by `^`, two of them would be none.
        let changes = self.plan(presented).changes.iter();
        let span = changes.map(|changes| changes.span()).max().unwrap_or(0);
        lease.records() ^ span.rotate_right(24)
    }

    pub(super) fn look_in_l1(&self, presented: &Presented, key: &Key) -> Looked {
        let (fields, now) = (&presented.head.headers, presented.now);
        let plan = self.plan(presented);
        let store = &self.store;
        let look = |key: &CacheKey| {
            Looked::new(presented, plan, store, store.look_in_l1(key, fields, now))
        };
        let own = look(&key.hash);
        let may_find = own.may_be_another() && self.store.has_rules_in_l1();
        let search = if may_find { self.search(presented) } else { None };
        let rules = search.and_then(|search| Some((search, self.store.rules_in_l1(&search, now)?)));
        let Some((search, rules)) = rules else { return own };
        rules.iter().fold(own, |looked, rule| looked.or(look(&search.under(rule))))
    }

    pub(super) async fn look_in_l2(
        &self,
        presented: &Presented,
        key: &Key,
        purpose: Purpose,
    ) -> Looked {
        let (fields, now) = (&presented.head.headers, presented.now);
        let deadline = self.store.deadline();
        let plan = self.plan(presented);
        let look = async |key: &CacheKey| {
            let begun = clock::instant();
            let found = self.store.look_in_l2(key, fields, now, deadline, purpose).await;
            if let Some(notes) = &presented.peer.notes {
                notes.l2(begun.elapsed());
            }
            Looked::new(presented, plan, &self.store, found)
        };
        let mut looked = look(&key.hash).await;
        let may_find = match &looked {
            // What did not answer once is not asked again.
            Looked::Forward(missing) => missing.known && looked.may_be_another(),
            // Where there has been no rule yet, none is looked for behind each response.
            Looked::Serve { .. } | Looked::ServeStale { .. } => self.store.has_rules_in_l1(),
        };
        let search = self.search(presented).filter(|_| may_find);
        let Some(search) = search else { return looked };
        let rules = self.store.rules_in_l2(&search, now, deadline, purpose).await;
        for rule in rules.iter().flat_map(|rules| rules.iter()) {
            looked = looked.or(look(&search.under(rule)).await);
        }
        looked
    }
}

impl Plan {
    /// Whether no change that the route's responses depend on may be late for this one.
    pub(super) fn confirms(&self, stored: &StoredResponse) -> bool {
        self.changes.iter().all(|changes| changes.confirms(stored))
    }
}

impl Looked {
    fn new(presented: &Presented, plan: &Plan, store: &Store, found: LookUp) -> Self {
        let Hit { stored, soft, confirmed, variants } = match found {
            LookUp::Found(hit) => hit,
            LookUp::UriMiss => return Self::Forward(Missing::NOTHING),
            LookUp::NoAnswer => {
                return Self::Forward(Missing { known: false, ..Missing::NOTHING });
            }
            LookUp::VaryMiss(variants) => {
                return Self::Forward(Missing {
                    why: Forward::VaryMiss,
                    variants: Some(variants),
                    ..Missing::NOTHING
                });
            }
        };
        let on_lag = plan.on_lag;
        let confirmed = confirmed && plan.confirms(&stored);
        if !confirmed && on_lag != OnLag::Serve {
            return Self::Forward(Missing::unconfirmed(on_lag, stored, variants));
        }
        let forward = |why, stored, variants| {
            let stale = Some(stored);
            Self::Forward(Missing { why, stale, variants, ..Missing::NOTHING })
        };
        let softened = if soft { store.softened(&stored, presented.now) } else { None };
        let freshness = softened.as_ref().unwrap_or(&stored.freshness);
        match semantics::reuse(freshness, soft, &presented.directives, presented.now) {
            Reuse::Serve { .. } | Reuse::ServeStale { .. }
                if !partial::has_enough(presented, &stored) =>
            {
                forward(Forward::Partial, stored, variants)
            }
            Reuse::Serve { age, ttl } => Self::Serve { stored, age, ttl, confirmed },
            Reuse::ServeStale { age, ttl } => Self::ServeStale { stored, age, ttl },
            Reuse::Forward(why) => forward(why, stored, variants),
        }
    }
}

impl Looked {
    /// Whether another response may be served instead: what the request itself forbids, none will change.
    fn may_be_another(&self) -> bool {
        !matches!(self, Self::Forward(Missing { why: Forward::Request, .. }))
    }

    /// The better of what two look-ups for one request came to: of responses that may be served the most recent one
    /// (RFC 9111 §4), one that is fresh before one that is not.
    fn or(self, later: Self) -> Self {
        match (self, later) {
            (Self::Forward(one), Self::Forward(other)) => Self::Forward(one.or(other)),
            (Self::Forward(_), served)
            | (served, Self::Forward(_))
            | (served @ Self::Serve { .. }, Self::ServeStale { .. })
            | (Self::ServeStale { .. }, served @ Self::Serve { .. }) => served,
            (one, other) => {
                if other.age() < one.age() {
                    other
                } else {
                    one
                }
            }
        }
    }

    fn age(&self) -> Option<Duration> {
        match self {
            Self::Serve { age, .. } | Self::ServeStale { age, .. } => Some(*age),
            Self::Forward(_) => None,
        }
    }
}

impl Missing {
    pub(super) const NOTHING: Self =
        Self { why: Forward::UriMiss, stale: None, confirmed: true, known: true, variants: None };

    /// What is stored may have been invalidated: RFC 9111 §4.4 has such responses "in need of a mandatory
    /// validation", so neither `stale-while-revalidate` nor `max-stale` counts.
    fn unconfirmed(
        on_lag: OnLag,
        stored: Arc<StoredResponse>,
        variants: Option<Arc<Variants>>,
    ) -> Self {
        let is_asked_about = on_lag == OnLag::Validate;
        Self {
            why: Forward::Stale,
            stale: Some(stored).filter(|_| is_asked_about),
            confirmed: false,
            known: true,
            variants: variants.filter(|_| is_asked_about),
        }
    }

    /// The two of two look-ups for one request: what the later one found counts, where it found
    /// anything.
    pub(super) fn or(self, later: Self) -> Self {
        let is_found =
            later.stale.is_some() || self.stale.is_none() && later.why != Forward::UriMiss;
        let confirmed = self.confirmed && later.confirmed;
        let known = self.known && later.known;
        Self { confirmed, known, ..if is_found { later } else { self } }
    }
}
