//! Responses that answer other queries than their own (`No-Vary-Search`).
//!
//! Such a response lies under a key that is made of its rule and of what counts of the query under
//! it, and nowhere else. Which rules there are is noted under a key of the path. So a look-up that
//! finds nothing under the request's own key looks for rules, and where there are any, under the key
//! that each of them makes.

use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::semantics::NoVarySearch;
use crate::store::Purpose;
use crate::store::Store;
use crate::store::l1::{Held, L1};
use crate::store::log::Lease;
use crate::store::second::only;
use crate::stored::CacheKey;

/// So many rules are noted for one path. "Servers SHOULD send no more than one distinct non-empty
/// value" for it.
const MOST_RULES: usize = 4;

/// The path and the query of a request.
#[derive(Clone, Copy, Debug)]
pub struct Search<'a> {
    /// Of the path, where the rules are noted.
    pub key: CacheKey,
    /// As it came.
    pub query: Option<&'a str>,
}

impl Search<'_> {
    /// The cache key that a rule makes of it.
    pub fn under(&self, rule: &NoVarySearch) -> CacheKey {
        self.key.search(&rule.to_text(), &rule.canonical(self.query))
    }
}

/// The rules that were seen, the newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SearchRules(Vec<NoVarySearch>);

impl SearchRules {
    /// The newest comes first.
    pub fn iter(&self) -> impl Iterator<Item = &NoVarySearch> {
        self.0.iter()
    }

    /// Adds a rule or makes it the newest one.
    pub(super) fn add(&mut self, rule: NoVarySearch) {
        self.0.retain(|known| *known != rule);
        self.0.insert(0, rule);
        self.0.truncate(MOST_RULES);
    }

    /// Adds what another gateway knows, as older than what is known here.
    fn merge(&mut self, other: &Self) {
        for rule in &other.0 {
            if !self.0.contains(rule) && self.0.len() < MOST_RULES {
                self.0.push(rule.clone());
            }
        }
    }

    pub(super) fn is_bounded(&self) -> bool {
        self.0.len() <= MOST_RULES && self.0.iter().all(NoVarySearch::is_bounded)
    }

    /// What they take in memory.
    pub(super) fn octets(&self) -> usize {
        size_of_val(&*self.0) + self.0.iter().map(NoVarySearch::octets).sum::<usize>()
    }
}

impl Store {
    /// Whether L1 may know of any rules. Where no response has ever had one, nobody need look for them.
    pub fn has_rules_in_l1(&self) -> bool {
        self.l1.as_ref().is_some_and(L1::has_rules)
    }

    /// The rules that L1 knows of.
    pub fn rules_in_l1(&self, search: &Search<'_>, now: SystemTime) -> Option<Arc<SearchRules>> {
        match self.l1.as_ref()?.look(&search.key, now)? {
            Held::Rules(rules) => Some(rules),
            Held::Response(_) | Held::Variants(_) | Held::Form(_) => None,
        }
    }

    /// The rules that L2 knows of. To answer, they move into L1. Trouble is none.
    pub async fn rules_in_l2(
        &self,
        search: &Search<'_>,
        now: SystemTime,
        deadline: Instant,
        purpose: Purpose,
    ) -> Option<Arc<SearchRules>> {
        match only(self.l2()?.look(&[search.key], now, deadline).await).ok().flatten()? {
            (Held::Rules(rules), _) => {
                if let (Some(l1), Purpose::Answer) = (&self.l1, purpose) {
                    l1.change_rules(search.key, now, |here| here.merge(&rules));
                }
                Some(rules)
            }
            (Held::Response(_) | Held::Variants(_) | Held::Form(_), _) => None,
        }
    }

    /// Notes a rule in both tiers.
    pub(super) fn remember(
        &self,
        lease: &Lease,
        key: CacheKey,
        rule: &NoVarySearch,
        now: SystemTime,
    ) -> Option<JoinHandle<bool>> {
        if let Some(l1) = &self.l1 {
            l1.change_rules(key, now, |rules| rules.add(rule.clone()));
        }
        self.l2_for(lease)?.add_rule(&self.tasks, key, rule, now)
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::*;
    use crate::semantics::no_vary_search::NO_VARY_SEARCH;

    fn rule(name: &str) -> NoVarySearch {
        let value = HeaderValue::try_from(format!("params=(\"{name}\")")).unwrap();
        NoVarySearch::of(&HeaderMap::from_iter([(NO_VARY_SEARCH, value)])).unwrap()
    }

    #[test]
    fn the_newest_rules_stay() {
        let mut rules = SearchRules::default();
        for name in ["a", "b", "c", "d", "a", "e"] {
            rules.add(rule(name));
        }
        assert!(rules.iter().eq(&["e", "a", "d", "c"].map(rule)));

        let (mut here, mut there) = (SearchRules::default(), SearchRules::default());
        for (one, other) in [("a", "x"), ("b", "y"), ("c", "a")] {
            here.add(rule(one));
            there.add(rule(other));
        }
        here.merge(&there);
        assert!(here.iter().eq(&["c", "b", "a", "y"].map(rule)));
        assert!(here.is_bounded());
    }

    #[test]
    fn keys_differ_where_rules_or_what_counts_differ() {
        let search = |query| Search { key: CacheKey([7; 32]), query };
        let (a, b) = (rule("a"), rule("b"));
        assert_eq!(search(Some("a=1&c=2")).under(&a), search(Some("c=2")).under(&a));
        assert_ne!(search(Some("c=2")).under(&a), search(Some("c=2")).under(&b));
        assert_ne!(search(Some("c=2")).under(&a), search(Some("c=3")).under(&a));
        assert_ne!(search(None).under(&a), search(Some("c")).under(&a));
    }
}
