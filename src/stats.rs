//! What has been counted since the start: in all, by tier and by route, and of reloads. `outcome` says
//! what requests came to and `spread` how long that took.
//!
//! Counting is a relaxed atomic addition on the request's path; everything else (sums, rates, JSON) is
//! done by whoever reads. `admin` serves it.

mod connections;
mod outcome;
mod reloads;
mod spread;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

pub use self::connections::{ConnectionFigures, Connections};
pub use self::outcome::{Class, Latency, Outcome, Outcomes, Tally};
pub use self::reloads::{ReloadFigures, Reloads};
pub use self::spread::{Spread, Times};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Adds so many.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
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
    /// Forward requests that waited for another gateway's, whatever came of it.
    pub fleet_waits: Counter,
    /// Those of them that went forward because the other gateway had died.
    pub fleet_takeovers: Counter,
    /// Connections on which another protocol began.
    pub upgrades: Counter,
    /// Responses put into the store.
    pub stored: Counter,
    /// Contents brought into a coding.
    pub compressed: Counter,
    /// Requests answered 502 or 504 because the upstream gave no response.
    pub upstream_failures: Counter,
    /// Policy calls that failed.
    pub policy_failures: Counter,
    /// Requests for which a response was stored that may have been invalidated: the invalidation log
    /// was out of reach for too long.
    pub unconfirmed: Counter,
    /// Requests that L1 did not answer while L2 was out of use.
    pub l2_errors: Counter,
    /// Those of them that were answered with a stale response, by the route's `on_l2_error`.
    pub l2_errors_stale: Counter,
    /// Those that were answered 503.
    pub l2_errors_failed: Counter,
    /// What its requests came to.
    pub outcomes: Arc<Outcomes>,
}

/// The figures of so many routes that are no more are kept one by one.
const MOST_FORMER: usize = 1000;

/// All counters. Those of a route live on when a reload takes it out, and are found again by its name.
#[derive(Debug, Default)]
pub struct Stats {
    routes: Mutex<Routes>,
    /// Requests that no route matched, or that were malformed.
    pub unrouted: Counter,
    /// What they came to.
    pub unrouted_outcomes: Arc<Outcomes>,
    /// Of the configuration itself.
    pub reloads: Reloads,
    /// Of `[warm]`.
    pub warming: Warming,
    /// Of clients.
    pub connections: Connections,
    /// Of `[access_log]`.
    pub access_log: LogLines,
    /// Of `[tracing]`: spans that were told, and those that are lost.
    pub spans: LogLines,
}

/// What has become of the lines of a log.
#[derive(Debug, Default)]
pub struct LogLines {
    /// Those that are in it.
    pub written: Counter,
    /// Those that are lost.
    pub dropped: Counter,
}

impl LogLines {
    fn snapshot(&self) -> LogFigures {
        LogFigures { written: self.written.value(), dropped: self.dropped.value() }
    }
}

/// What has become of the lines of a log, at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct LogFigures {
    /// Those that are in it.
    pub written: u64,
    /// Those that are lost: there was no room for them, or they could not be written.
    pub dropped: u64,
}

#[derive(Debug, Default)]
struct Routes {
    by_name: BTreeMap<String, Arc<RouteStats>>,
    /// Of routes that are no more, and were too many.
    forgotten: Figures,
}

impl Stats {
    /// The counters of the route of this name: zeroes, or what it had before a reload.
    pub fn route(&self, name: &str) -> Arc<RouteStats> {
        Arc::clone(self.routes().by_name.entry(name.to_owned()).or_default())
    }

    /// Puts the figures of routes that nobody holds together, if they are too many, so that only
    /// the sums of all routes have them.
    pub fn tidy(&self) {
        let Routes { by_name, forgotten } = &mut *self.routes();
        let is_former = |stats: &Arc<RouteStats>| Arc::strong_count(stats) == 1;
        let former = by_name.values().filter(|stats| is_former(stats)).count();
        let mut excess = former.saturating_sub(MOST_FORMER);
        by_name.retain(|_, stats| {
            let is_kept = excess == 0 || !is_former(stats);
            if !is_kept {
                excess -= 1;
                forgotten.add(&Figures::of(stats));
            }
            is_kept
        });
    }

    fn routes(&self) -> MutexGuard<'_, Routes> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All figures at this moment.
    pub fn snapshot(&self) -> Snapshot {
        let (routes, mut all) = {
            let routes = self.routes();
            let figures = |(name, stats): (&String, &Arc<_>)| (name.clone(), Figures::of(stats));
            let figures: BTreeMap<_, _> = routes.by_name.iter().map(figures).collect();
            (figures, routes.forgotten.clone())
        };
        for figures in routes.values() {
            all.add(figures);
        }
        all.total_requests += self.unrouted.value();
        let unrouted = self.unrouted_outcomes.tally();
        all.tally.add(&unrouted);
        let layers = Layers {
            l1: Layer::new(all.l1_hits, all.l1_misses),
            l2: Layer::new(all.l2_hits, all.l2_misses),
        };
        all.rate();
        let (unrouted_requests, reloads) = (self.unrouted.value(), self.reloads.snapshot());
        let warming = self.warming.snapshot();
        let connections = self.connections.snapshot();
        let (access_log, spans) = (self.access_log.snapshot(), self.spans.snapshot());
        Snapshot {
            all,
            unrouted_requests,
            unrouted,
            layers,
            routes,
            reloads,
            warming,
            connections,
            access_log,
            spans,
        }
    }
}

/// What the gateway has asked itself for. These requests are among those of their routes, too: they
/// come as clients' do.
#[derive(Debug, Default)]
pub struct Warming {
    running: AtomicBool,
    runs: Counter,
    /// Fetched, and stored.
    pub stored: Counter,
    /// Stored before.
    pub hits: Counter,
    /// Neither.
    pub not_warmed: Counter,
}

/// It is under way. Dropping it ends that.
pub struct Running<'a>(&'a Warming);

impl Warming {
    /// It begins once more. One at a time.
    pub fn begin(&self) -> Running<'_> {
        self.runs.count();
        self.running.store(true, Ordering::Relaxed);
        Running(self)
    }

    fn snapshot(&self) -> WarmingFigures {
        WarmingFigures {
            running: self.running.load(Ordering::Relaxed),
            runs: self.runs.value(),
            stored: self.stored.value(),
            hits: self.hits.value(),
            not_warmed: self.not_warmed.value(),
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.store(false, Ordering::Relaxed);
    }
}

/// What warming came to since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct WarmingFigures {
    /// It is under way.
    pub running: bool,
    /// How often it has begun.
    pub runs: u64,
    /// URLs that were fetched and stored.
    pub stored: u64,
    /// URLs that were stored before.
    pub hits: u64,
    /// URLs that were not warmed; the log says why, at the level `debug`.
    pub not_warmed: u64,
}

/// Every figure of the gateway, as `GET /stats` shows it.
#[derive(Debug, Serialize)]
pub struct Snapshot {
    /// The sums over all routes.
    #[serde(flatten)]
    pub all: Figures,
    /// Part of `total_requests`: no route matched, or malformed.
    pub unrouted_requests: u64,
    /// What they came to.
    pub unrouted: Tally,
    /// By tier.
    pub layers: Layers,
    /// By route name.
    pub routes: BTreeMap<String, Figures>,
    /// Of the configuration itself.
    pub reloads: ReloadFigures,
    /// Of `[warm]`.
    pub warming: WarmingFigures,
    /// Of clients.
    pub connections: ConnectionFigures,
    /// Of `[access_log]`.
    pub access_log: LogFigures,
    /// Of `[tracing]`: spans that were told, and those that are lost.
    pub spans: LogFigures,
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
    /// Waited for another gateway's forward request.
    pub fleet_waits: u64,
    /// Took over from a gateway that had died.
    pub fleet_takeovers: u64,
    /// Connections on which another protocol began.
    pub upgrades: u64,
    /// Responses stored.
    pub stored: u64,
    /// Contents brought into a coding.
    pub compressed: u64,
    /// The upstream gave no response.
    pub upstream_failures: u64,
    /// Policy calls that failed.
    pub policy_failures: u64,
    /// What is stored for the request may have been invalidated, as the log was out of reach.
    pub unconfirmed: u64,
    /// L1 had no answer, and L2 was out of use.
    pub l2_errors: u64,
    /// Of those, answered with a stale response.
    pub l2_errors_stale: u64,
    /// Of those, answered 503.
    pub l2_errors_failed: u64,
    /// Requests answered from a tier, in percent of all requests; 0 where there were none.
    pub hit_rate: f64,
    /// What its requests came to.
    #[serde(flatten)]
    pub tally: Tally,
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
        let tally = stats.outcomes.tally();
        let mut figures = Self {
            total_requests: tally.requests,
            l1_hits: tally.l1_hits,
            l1_misses: stats.l1_misses.value(),
            l2_hits: stats.l2_hits.value(),
            l2_misses: stats.l2_misses.value(),
            upstream_requests: stats.upstream_requests.value(),
            collapsed: stats.collapsed.value(),
            followers: stats.followers.value(),
            fleet_waits: stats.fleet_waits.value(),
            fleet_takeovers: stats.fleet_takeovers.value(),
            upgrades: stats.upgrades.value(),
            stored: stats.stored.value(),
            compressed: stats.compressed.value(),
            upstream_failures: stats.upstream_failures.value(),
            policy_failures: stats.policy_failures.value(),
            unconfirmed: stats.unconfirmed.value(),
            l2_errors: stats.l2_errors.value(),
            l2_errors_stale: stats.l2_errors_stale.value(),
            l2_errors_failed: stats.l2_errors_failed.value(),
            hit_rate: 0.0,
            tally,
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
        self.fleet_waits += other.fleet_waits;
        self.fleet_takeovers += other.fleet_takeovers;
        self.upgrades += other.upgrades;
        self.stored += other.stored;
        self.compressed += other.compressed;
        self.upstream_failures += other.upstream_failures;
        self.policy_failures += other.policy_failures;
        self.unconfirmed += other.unconfirmed;
        self.l2_errors += other.l2_errors;
        self.l2_errors_stale += other.l2_errors_stale;
        self.l2_errors_failed += other.l2_errors_failed;
        self.tally.add(&other.tally);
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
        let stats = Stats::default();
        for _ in 0..3 {
            stats.route("a").outcomes.request();
            stats.route("a").outcomes.l1_hit();
        }
        stats.route("b").outcomes.request();
        stats.route("b").l1_misses.count();
        stats.route("b").l2_hits.count();
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
        let snapshot = Stats::default().snapshot();
        assert!(snapshot.all.hit_rate.abs() < f64::EPSILON);
    }

    #[test]
    fn sums_hold_what_single_routes_no_longer_show() {
        let stats = Stats::default();
        let in_use = stats.route("0");
        for number in 0..MOST_FORMER + 10 {
            stats.route(&number.to_string()).outcomes.request();
        }
        stats.tidy();
        in_use.outcomes.request();
        let snapshot = stats.snapshot();
        assert_eq!(snapshot.routes.len(), MOST_FORMER + 1);
        assert_eq!(snapshot.routes["0"].total_requests, 2);
        assert_eq!(snapshot.all.total_requests, MOST_FORMER as u64 + 11);
    }
}
