//! What is counted of a route's requests.

use std::collections::BTreeMap;

use http::{Method, StatusCode};
use serde::Serialize;

use crate::gateway::{Replayed, Way};
use crate::semantics::NotStored;

/// So many reasons of policies are told apart.
const MOST_REASONS: usize = 64;

/// What is counted of requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Figures {
    /// All of them.
    pub requests: u64,
    /// Answered from the cache.
    pub hits: u64,
    /// Those of them that were stale, and validated beside.
    pub stale_hits: u64,
    /// Those that went forward though the cache could have answered them, by RFC 9211's reason.
    pub misses: BTreeMap<&'static str, u64>,
    /// Those that a policy had go past the cache, by its reason.
    pub bypassed: BTreeMap<String, u64>,
    /// Those that no cache answers, by RFC 9211's reason: methods, and what is for the origin alone.
    pub passed: BTreeMap<&'static str, u64>,
    /// Those that ask by their content, which no log has.
    pub unknown: u64,
    /// Answered 500, as the route fails with its policy.
    pub failed: u64,
    /// What was stored.
    pub stored: u64,
    /// What was fetched and not stored, by the reason.
    pub not_stored: BTreeMap<&'static str, u64>,
    /// Requests that changed something.
    pub writes: u64,
    /// What they made wrong, in records of the log.
    pub invalidations: u64,
    /// Requests to the upstream.
    pub upstream_requests: u64,
    /// Octets that came from the cache.
    pub octets_from_cache: u64,
    /// Octets that came from the upstream.
    pub octets_from_upstream: u64,
    /// Calls of policies that failed.
    pub policy_failures: u64,
}

impl Figures {
    /// Counts a request.
    pub(super) fn count(&mut self, way: &Way, octets: u64) {
        self.requests += 1;
        let mut goes_forward = true;
        match way {
            Way::Hit { is_stale } => {
                self.hits += 1;
                self.stale_hits += u64::from(*is_stale);
                self.octets_from_cache += octets;
                self.upstream_requests += u64::from(*is_stale);
                goes_forward = false;
            }
            Way::Miss(why) => *self.misses.entry(why.as_str()).or_default() += 1,
            Way::Passed(why) => *self.passed.entry(why.as_str()).or_default() += 1,
            Way::Bypass(reason) => self.bypass(reason),
            Way::Unknown => self.unknown += 1,
            Way::Failed => {
                self.failed += 1;
                goes_forward = false;
            }
            Way::Unrouted(_) | Way::Malformed(_) => goes_forward = false,
        }
        if goes_forward {
            self.upstream_requests += 1;
            self.octets_from_upstream += octets;
        }
    }

    fn bypass(&mut self, reason: &str) {
        if let Some(count) = self.bypassed.get_mut(reason) {
            *count += 1;
            return;
        }
        let reason = if self.bypassed.len() < MOST_REASONS { reason } else { "other" };
        *self.bypassed.entry(reason.to_owned()).or_default() += 1;
    }

    /// Counts what the answer has changed.
    pub(super) fn settle(&mut self, replayed: &Replayed) {
        match replayed.stored {
            Some(Ok(())) => self.stored += 1,
            Some(Err(why)) => *self.not_stored.entry(NotStored::as_str(why)).or_default() += 1,
            None => {}
        }
        if let Some(invalidations) = replayed.invalidations {
            self.writes += 1;
            self.invalidations += invalidations as u64;
        }
    }

    /// Adds those of another route.
    pub(super) fn add(&mut self, other: &Self) {
        fn add<K: Ord + Clone>(to: &mut BTreeMap<K, u64>, from: &BTreeMap<K, u64>) {
            for (key, count) in from {
                *to.entry(key.clone()).or_default() += count;
            }
        }
        add(&mut self.misses, &other.misses);
        add(&mut self.bypassed, &other.bypassed);
        add(&mut self.passed, &other.passed);
        add(&mut self.not_stored, &other.not_stored);
        for (to, from) in [
            (&mut self.requests, other.requests),
            (&mut self.hits, other.hits),
            (&mut self.stale_hits, other.stale_hits),
            (&mut self.unknown, other.unknown),
            (&mut self.failed, other.failed),
            (&mut self.stored, other.stored),
            (&mut self.writes, other.writes),
            (&mut self.invalidations, other.invalidations),
            (&mut self.upstream_requests, other.upstream_requests),
            (&mut self.octets_from_cache, other.octets_from_cache),
            (&mut self.octets_from_upstream, other.octets_from_upstream),
            (&mut self.policy_failures, other.policy_failures),
        ] {
            *to += from;
        }
    }
}

/// Whether an answer with this status has the whole content.
pub(super) fn is_whole(method: &Method, status: StatusCode, way: &Way) -> bool {
    let is_read = *method == Method::GET;
    let by_cache = matches!(way, Way::Hit { .. } | Way::Miss(_));
    is_read && by_cache && status == StatusCode::OK
}
