//! What becomes of a request that goes to the cache: its key, what lies there, and what is done with that.

use std::sync::Arc;

use crate::clock;
use crate::semantics::{CacheStatus, Forward};
use crate::store::{Lies, Purpose};
use crate::stored::StoredResponse;

use super::forwarded::Going;
use super::secrets::Secrets;
use super::stored::{Subject, tier};
use super::{Explanation, Extent, answered, outcome, past, shape};
use crate::gateway::forward::{passes_by, status};
use crate::gateway::key::{Key, Keyed};
use crate::gateway::look::{Looked, Missing};
use crate::gateway::spare::{L2_ERROR, Spared};
use crate::gateway::stale::UNCONFIRMED;
use crate::gateway::{Gateway, Presented, respond};

/// What was found, and in which tier.
struct Found {
    looked: Looked,
    tier: &'static str,
}

impl Gateway {
    pub(super) async fn tell_cached(
        &self,
        told: &mut Explanation,
        presented: Presented,
        secrets: &Secrets,
        extent: Extent,
    ) {
        let key = match self.tell_policies(&mut told.policies, &presented, secrets).await {
            Keyed::Key(key) => key,
            Keyed::Bypass(reason) => {
                let shown = secrets.hide(&reason);
                let status = CacheStatus {
                    detail: Some(shown.to_string().into()),
                    ..CacheStatus::forward(past(&presented))
                };
                let why = if self.plan(&presented).doubtful(&presented).is_some() {
                    "a policy is shown a cookie that was sent with several values, and it all goes forward: the \
                     upstream may choose another one"
                        .to_owned()
                } else {
                    format!("a policy lets it go past the cache: {shown}")
                };
                return self.tell_past(told, &presented, &status, why);
            }
            Keyed::Failed => {
                told.outcome = answered(&respond::policy_failed(), "the route's key policy failed");
                return;
            }
        };
        told.key = Some(shape::Key {
            name: secrets.hide(&key.name(&presented)).into_owned(),
            hash: key.hash.to_string(),
        });
        if extent == Extent::Key {
            told.outcome.does = "key";
            "no gateway was asked what is stored under this key".clone_into(&mut told.outcome.why);
            told.storing = Some(self.tell_storing(&presented, false));
            return;
        }
        let lie_in_l1 = self.lie_in_l1(&presented, &key);
        let lie_in_l2 = self.lie_in_l2(&presented, &key).await;
        told.l1 = tier(&lie_in_l1, "L1");
        told.l2 = tier(&lie_in_l2, "L2");
        let found = self.find_to_explain(&presented, &key).await;
        let here = lie_in_l1.response().map(|found| ("l1", &found.stored));
        let there = || lie_in_l2.response().map(|found| ("l2", &found.stored));
        let subject = found.subject().or(here).or_else(there);
        let stored = subject.map(|(_, stored)| Arc::clone(stored));
        if let Some((tier, stored)) = subject {
            let subject = Subject { tier, stored, confirmed: found.is_confirmed() };
            told.stored = Some(self.tell_stored(&subject, &presented, &key, secrets).await);
        }
        let stored = stored.as_deref();
        told.last_invalidation =
            self.tell_last_invalidation(&presented, &key, stored, secrets).await;
        told.last_refusal = self.tell_refusal(&presented, &key, stored);
        self.tell_found(told, found, presented, &key);
    }

    /// What lies in L1 under the key, or under one that a rule of `No-Vary-Search` makes.
    fn lie_in_l1(&self, presented: &Presented, key: &Key) -> Lies {
        let (fields, now) = (&presented.head.headers, presented.now);
        let lie = self.store.lies_in_l1(&key.hash, fields, now);
        if !matches!(lie, Lies::Nothing) {
            return lie;
        }
        let search = self.search(presented);
        let rules = search.and_then(|search| Some((search, self.store.rules_in_l1(&search, now)?)));
        let Some((search, rules)) = rules else { return lie };
        let mut others =
            rules.iter().map(|rule| self.store.lies_in_l1(&search.under(rule), fields, now));
        others.find(|lie| !matches!(lie, Lies::Nothing)).unwrap_or(lie)
    }

    /// The same for L2.
    async fn lie_in_l2(&self, presented: &Presented, key: &Key) -> Lies {
        let (fields, now) = (&presented.head.headers, presented.now);
        let deadline = self.store.deadline();
        let lie = self.store.lies_in_l2(&key.hash, fields, now, deadline).await;
        let Some(search) = self.search(presented).filter(|_| matches!(lie, Lies::Nothing)) else {
            return lie;
        };
        let rules = self.store.rules_in_l2(&search, now, deadline, Purpose::Explain).await;
        for rule in rules.iter().flat_map(|rules| rules.iter()) {
            let other = self.store.lies_in_l2(&search.under(rule), fields, now, deadline).await;
            if !matches!(other, Lies::Nothing) {
                return other;
            }
        }
        lie
    }

    /// What a request would find, tier by tier as it is answered.
    async fn find_to_explain(&self, presented: &Presented, key: &Key) -> Found {
        let mut missing = Missing::NOTHING;
        if self.store.has_l1() {
            match self.look_in_l1(presented, key) {
                Looked::Forward(in_l1) => missing = in_l1,
                looked => return Found { looked, tier: "l1" },
            }
        }
        let mut tier = "l1";
        if self.may_ask_l2(&missing) {
            let was_stale = missing.stale.clone();
            match self.look_in_l2(presented, key, Purpose::Explain).await {
                Looked::Forward(in_l2) => {
                    missing = missing.or(in_l2);
                    let is_same = match (&was_stale, &missing.stale) {
                        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
                        _ => false,
                    };
                    tier = if is_same { "l1" } else { "l2" };
                }
                looked => return Found { looked, tier: "l2" },
            }
        }
        Found { looked: Looked::Forward(missing), tier }
    }

    fn tell_refusal(
        &self,
        presented: &Presented,
        key: &Key,
        stored: Option<&StoredResponse>,
    ) -> Option<shape::Refusal> {
        let refusal = self.lasting.refusals.last(&key.hash)?;
        // What was stored since is the answer.
        let is_over = stored.is_some_and(|stored| stored.freshness.received > refusal.at);
        let ago = presented.now.duration_since(refusal.at).unwrap_or_default();
        (!is_over).then(|| shape::Refusal {
            at: clock::text(refusal.at),
            seconds_ago: ago.as_secs(),
            status: refusal.status.map(|status| status.as_u16()),
            reason: refusal.reason.as_str(),
            why: refusal.reason.explained(),
        })
    }

    fn tell_found(&self, told: &mut Explanation, found: Found, presented: Presented, key: &Key) {
        let tier = if found.tier == "l1" { "L1" } else { "L2" };
        match found.looked {
            Looked::Serve { ttl, confirmed, .. } => {
                let detail = (!confirmed).then(|| UNCONFIRMED.into());
                let status = CacheStatus { detail, ..CacheStatus::hit(ttl) };
                let why = match (confirmed, ttl > 0) {
                    (false, _) => {
                        format!(
                            "served from {tier}, though the invalidation log is out of reach (`on_lag`)"
                        )
                    }
                    (true, true) => format!("served from {tier}: it is fresh for {ttl} s more"),
                    (true, false) => format!("served from {tier}: the request takes it stale"),
                };
                told.outcome = outcome("hit", &status, why);
            }
            Looked::ServeStale { stored, ttl, .. } => {
                let detail = Some("stale-while-revalidate".into());
                let status = CacheStatus { detail, ..CacheStatus::hit(ttl) };
                let why = format!("served from {tier}, stale as it is, and validated meanwhile");
                told.outcome = outcome("hit-stale", &status, why);
                let going = Going::to_validate(stored);
                // RFC 9111 §5.2.1.5: of a request with `no-store`, no response is kept.
                let is_asked = !presented.directives.no_store;
                let forward = || self.tell_going(presented.clone(), key, &going);
                told.forward = is_asked.then(forward).flatten();
                told.storing = Some(self.tell_storing(&presented, false));
            }
            Looked::Forward(missing) => self.tell_missing(told, &missing, presented, key),
        }
    }

    fn tell_missing(
        &self,
        told: &mut Explanation,
        missing: &Missing,
        mut presented: Presented,
        key: &Key,
    ) {
        if !missing.known {
            match self.spared(&presented, missing) {
                Some(Spared::Stale(_, _, ttl)) => {
                    let detail = Some(L2_ERROR.into());
                    let status = CacheStatus { detail, ..CacheStatus::hit(ttl) };
                    let why =
                        "L2 is out of use, and the route serves what is stale (`on_l2_error`)";
                    told.outcome = outcome("hit", &status, why);
                    return;
                }
                Some(Spared::Fail) => {
                    let why = "L2 is out of use, and the route spares its upstream (`on_l2_error`)";
                    told.outcome = answered(&respond::spared(missing.why), why);
                    return;
                }
                None => {}
            }
        }
        if presented.directives.only_if_cached {
            let refusal = respond::only_if_cached(missing.why);
            told.outcome = answered(&refusal, "it allows nothing but a stored response");
            return;
        }
        if self.narrow(&mut presented, key).is_err() {
            let status = CacheStatus {
                detail: Some("query-rewritten".into()),
                ..CacheStatus::forward(Forward::Bypass)
            };
            let why = "a policy has written the query otherwise than the request does".to_owned();
            return self.tell_past(told, &presented, &status, why);
        }
        let status = status(missing.why, missing.confirmed);
        if self.tell_unsendable(told, &presented, &status) {
            return;
        }
        let why = match (missing.confirmed, missing.why) {
            (false, _) => {
                "what is stored may have been invalidated: the log is out of reach (`on_lag`)"
            }
            (true, Forward::Stale)
                if missing.stale.as_ref().is_some_and(|it| it.freshness.no_cache) =>
            {
                "what is stored is validated each time (`no-cache`)"
            }
            (true, why) => why.explained(),
        };
        told.outcome = outcome("forward", &status, why);
        let is_passed = passes_by(&presented, missing);
        told.storing = Some(self.tell_storing(&presented, is_passed));
        told.forward = if is_passed {
            Some(self.tell_passing(&presented))
        } else {
            let going = Going::for_want_of(&presented, missing);
            self.tell_going(presented, key, &going)
        };
    }
}

impl Found {
    /// What it is about.
    fn subject(&self) -> Option<(&'static str, &Arc<StoredResponse>)> {
        let stored = match &self.looked {
            Looked::Serve { stored, .. } | Looked::ServeStale { stored, .. } => Some(stored),
            Looked::Forward(missing) => missing.stale.as_ref(),
        };
        stored.map(|stored| (self.tier, stored))
    }

    fn is_confirmed(&self) -> bool {
        match &self.looked {
            Looked::Serve { confirmed, .. } => *confirmed,
            Looked::ServeStale { .. } => true,
            Looked::Forward(missing) => missing.confirmed,
        }
    }
}
