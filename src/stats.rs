//! What has been counted since the start: in all, by tier and by route.
//!
//! Counting is a relaxed atomic addition on the request's path; everything else (sums, rates, JSON) is
//! done by whoever reads. `admin` serves it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// What has been counted.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters of one route. Aligned so that two routes never share a processor's cache line.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct RouteStats {
    /// Requests that came for this route.
    pub requests: Counter,
    /// Answered from L1.
    pub l1_hits: Counter,
    /// L1 was asked, and the answer came from elsewhere.
    pub l1_misses: Counter,
    /// Answered from L2.
    pub l2_hits: Counter,
    /// L2 was asked, and the answer came from elsewhere.
    pub l2_misses: Counter,
    /// Requests sent to the upstream: forwarded and conditional ones.
    pub upstream_requests: Counter,
    /// Requests answered by another request's forward request.
    pub collapsed: Counter,
    /// Requests that waited for another request's forward request, whatever came of it.
    pub followers: Counter,
    /// Responses put into the store.
    pub stored: Counter,
    /// Requests answered 502 or 504 because the upstream gave no response.
    pub upstream_failures: Counter,
    /// Policy calls that failed.
    pub policy_failures: Counter,
}

/// The counters of all routes.
#[derive(Debug)]
pub struct Stats {
    routes: Vec<(String, RouteStats)>,
    /// Requests that no route matched, or that were malformed.
    pub unrouted: Counter,
}

impl Stats {
    /// Zeroes for each of `routes`, which are then asked for by their place.
    pub fn new<'a>(routes: impl IntoIterator<Item = &'a str>) -> Self {
        let routes =
            routes.into_iter().map(|name| (name.to_owned(), RouteStats::default())).collect();
        Self { routes, unrouted: Counter::default() }
    }

    /// The counters of the route at this place.
    ///
    /// # Panics
    /// If there is no such route: places come from the same configuration.
    pub fn route(&self, place: usize) -> &RouteStats {
        &self.routes.get(place).expect("routes are counted by their place").1
    }

    /// All figures at this moment.
    pub fn snapshot(&self) -> Snapshot {
        let routes: BTreeMap<String, Figures> =
            self.routes.iter().map(|(name, stats)| (name.clone(), Figures::of(stats))).collect();
        let mut all = Figures::default();
        for figures in routes.values() {
            all.add(figures);
        }
        all.total_requests += self.unrouted.value();
        let layers = Layers {
            l1: Layer::new(all.l1_hits, all.l1_misses),
            l2: Layer::new(all.l2_hits, all.l2_misses),
        };
        all.rate();
        Snapshot { all, unrouted_requests: self.unrouted.value(), layers, routes }
    }
}

/// Every figure of the gateway, as `GET /stats` shows it.
#[derive(Debug, Serialize)]
pub struct Snapshot {
    /// The sums over all routes.
    #[serde(flatten)]
    pub all: Figures,
    /// Part of `total_requests`: no route matched, or malformed.
    pub unrouted_requests: u64,
    /// By tier.
    pub layers: Layers,
    /// By route name.
    pub routes: BTreeMap<String, Figures>,
}

/// The figures of one route, or of all.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Figures {
    /// Requests received.
    pub total_requests: u64,
    /// Answered from L1.
    pub l1_hits: u64,
    /// L1 was asked and had nothing to serve.
    pub l1_misses: u64,
    /// Answered from L2.
    pub l2_hits: u64,
    /// L2 was asked and had nothing to serve.
    pub l2_misses: u64,
    /// Requests that reached the upstream.
    pub upstream_requests: u64,
    /// Answered by another request's forward request.
    pub collapsed: u64,
    /// Waited for another request's forward request.
    pub followers: u64,
    /// Responses stored.
    pub stored: u64,
    /// The upstream gave no response.
    pub upstream_failures: u64,
    /// Policy calls that failed.
    pub policy_failures: u64,
    /// Requests answered from a tier, in percent of all requests; 0 where there were none.
    pub hit_rate: f64,
}

/// The tiers' figures.
#[derive(Debug, Serialize)]
pub struct Layers {
    /// In process.
    pub l1: Layer,
    /// In Redis.
    pub l2: Layer,
}

/// The figures of one tier.
#[derive(Debug, Serialize)]
pub struct Layer {
    /// Answered from it.
    pub hits: u64,
    /// Asked in vain.
    pub misses: u64,
    /// Hits in percent of look-ups in this tier.
    pub hit_rate: f64,
}

impl Layer {
    fn new(hits: u64, misses: u64) -> Self {
        Self { hits, misses, hit_rate: percent(hits, hits + misses) }
    }
}

impl Figures {
    fn of(stats: &RouteStats) -> Self {
        let mut figures = Self {
            total_requests: stats.requests.value(),
            l1_hits: stats.l1_hits.value(),
            l1_misses: stats.l1_misses.value(),
            l2_hits: stats.l2_hits.value(),
            l2_misses: stats.l2_misses.value(),
            upstream_requests: stats.upstream_requests.value(),
            collapsed: stats.collapsed.value(),
            followers: stats.followers.value(),
            stored: stats.stored.value(),
            upstream_failures: stats.upstream_failures.value(),
            policy_failures: stats.policy_failures.value(),
            hit_rate: 0.0,
        };
        figures.rate();
        figures
    }

    fn add(&mut self, other: &Self) {
        self.total_requests += other.total_requests;
        self.l1_hits += other.l1_hits;
        self.l1_misses += other.l1_misses;
        self.l2_hits += other.l2_hits;
        self.l2_misses += other.l2_misses;
        self.upstream_requests += other.upstream_requests;
        self.collapsed += other.collapsed;
        self.followers += other.followers;
        self.stored += other.stored;
        self.upstream_failures += other.upstream_failures;
        self.policy_failures += other.policy_failures;
    }

    fn rate(&mut self) {
        self.hit_rate = percent(self.l1_hits + self.l2_hits, self.total_requests);
    }
}

/// In percent with two places; 0 of 0 is 0.
pub fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        return 0.0;
    }
    #[expect(clippy::cast_precision_loss, reason = "a rate needs no more than 52 bits")]
    let share = part as f64 / whole as f64;
    (share * 10_000.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_percent_of_requests_and_of_look_ups() {
        let stats = Stats::new(["a", "b"]);
        for _ in 0..3 {
            stats.route(0).requests.count();
            stats.route(0).l1_hits.count();
        }
        stats.route(1).requests.count();
        stats.route(1).l1_misses.count();
        stats.route(1).l2_hits.count();
        stats.unrouted.count();
        let snapshot = stats.snapshot();
        assert_eq!(snapshot.all.total_requests, 5);
        assert!((snapshot.all.hit_rate - 80.0).abs() < 0.001);
        assert!((snapshot.layers.l1.hit_rate - 75.0).abs() < 0.001);
        assert!((snapshot.layers.l2.hit_rate - 100.0).abs() < 0.001);
        assert!((snapshot.routes["a"].hit_rate - 100.0).abs() < 0.001);
    }

    #[test]
    fn nothing_counted_is_a_rate_of_zero() {
        let snapshot = Stats::new(["a"]).snapshot();
        assert!(snapshot.all.hit_rate.abs() < f64::EPSILON);
    }
}
