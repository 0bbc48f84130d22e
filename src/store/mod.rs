//! Stored responses: in memory (L1), in Redis (L2), and the invalidation log that says which of
//! them are still valid.
//!
//! Whether a response may be stored or reused is `semantics`' to say. A response is found under its
//! cache key, or, where responses had `Vary`, under the key of a variant that the cache key leads to
//! (RFC 9111 §4.1). What can invalidate a response is in the response: its marks, among which its
//! route's and its key's must be (32 octets that spare each look-up the hashing), and its name.

mod advice;
mod beat;
mod bookmark;
mod candidates;
mod codec;
mod condition;
mod connection;
mod disk;
mod explain;
mod extent;
mod figures;
mod fleet;
mod forms;
mod health;
mod hit;
mod invalidate;
mod journal;
mod l1;
mod l2;
mod lag;
mod lateness;
mod ledger;
mod listing;
mod log;
mod names;
mod nodes;
mod notes;
mod packing;
mod pattern;
mod purges;
mod put;
mod receipts;
mod record;
mod replayed;
mod rest;
mod search;
mod second;
mod seen;
mod shared_log;
mod sharing;
#[cfg(test)]
mod tests;
mod tie;
mod turn;
mod variants;
mod waiting;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use http::HeaderMap;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::bookmark::{Bookmark, Token};
pub use self::disk::NotOpened;
pub use self::explain::{Covers, Found, Lies, Record, Validity};
pub use self::figures::{ChangeFigures, L2Stats, Stats};
pub use self::forms::Form;
pub use self::health::{Health, LogHealth, ServerHealth, State, WatchHealth};
pub use self::hit::Hit;
pub use self::invalidate::Appended;
pub use self::journal::Noted;
pub use self::listing::{Cursor, Listed, Order, Page, Selection, Tier, Unknown};
pub use self::log::{Invalidation, Lease, Scope};
pub use self::nodes::{Unusable, unusable_files};
pub use self::notes::NotKept;
pub use self::put::{Put, Slot};
pub use self::receipts::{Applied, NoReceipts, NotAPurgeId, PurgeId, Purged, Receipts};
pub use self::record::MAX_LABEL;
pub use self::replayed::Room;
pub use self::search::{Search, SearchRules};
pub use self::shared_log::Receipt;
pub use self::tie::{Heard, Told};
pub use self::turn::{Sign, Turn, Turned, Word};
pub use self::variants::Variants;

use self::connection::Trial;
use self::disk::Disk;
use self::fleet::Fleet;
use self::hit::most_suitable;
use self::l1::{Held, L1};
use self::l2::L2;
use self::lag::{Lag, Start};
use self::log::{Bounds, Log};
use self::nodes::Nodes;
use self::replayed::Replay;
use self::second::{NoAnswer, only};
use self::shared_log::SharedLog;
use self::tie::Tie;
use self::turn::Turns;
use crate::clock;
use crate::config;
use crate::stored::{CacheKey, StoredResponse};

/// How many marks the log's table holds, some 25 MB of them, how many patterns of a text with one `*` behind it,
/// and how many others.
const MAX_MARKS: usize = 1 << 18;
const MAX_PREFIXES: usize = MAX_MARKS;
const MAX_PATTERNS: usize = 256;

/// So many variants that a request does not select are looked at, in case it could do with one.
const MOST_UNDERSTOOD: usize = 4;

/// Where the store's own tasks run: its connections, the log's reader, writes to L2. Callers may be
/// on other runtimes.
#[derive(Clone, Debug)]
pub struct Tasks {
    /// The runtime that drives them.
    pub runtime: Handle,
    /// What the drain waits for.
    pub tracker: TaskTracker,
    /// Ends the connections and the reader.
    pub end: CancellationToken,
}

impl Tasks {
    fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.tracker.spawn_on(task, &self.runtime)
    }
}

/// Both tiers and the log. All workers share one.
pub struct Store {
    log: Arc<Log>,
    l1: Option<L1>,
    redis: Option<Redis>,
    /// Instead of Redis.
    disk: Option<Arc<Disk>>,
    fleet: Arc<Fleet>,
    /// Of moments.
    start: Start,
    tasks: Tasks,
    /// Another process that hears of what is invalidated here.
    tie: ArcSwapOption<Tie>,
    /// Where a log is replayed.
    replay: Option<Replay>,
}

/// What there is when `[cache.l2]` is.
struct Redis {
    nodes: Arc<Nodes>,
    namespace: String,
    l2: Arc<L2>,
    log: Arc<SharedLog>,
    turns: Arc<Turns>,
    lag: Arc<Lag>,
}

/// What a look into L2 is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To answer: what is found moves into L1.
    Answer,
    /// To tell what is there: it stays where it is.
    Explain,
}

/// What a look-up found.
#[derive(Debug)]
pub enum LookUp {
    /// A response that the request selects.
    Found(Hit),
    /// Nothing under the cache key (RFC 9211's `uri-miss`).
    UriMiss,
    /// There are variants, and the request selects none of them (RFC 9211's `vary-miss`).
    VaryMiss(Arc<Variants>),
    /// L2 is out of use, or did not answer: something may be there.
    NoAnswer,
}

impl Store {
    /// Starts empty; connects to Redis in the background and until then works without it.
    ///
    /// With Redis, some tasks run until `tasks.end`: whoever waits for the tracker cancels that
    /// first. `name` is what the fleet knows this gateway by; without one it makes one up.
    pub fn new(cache: &config::Cache, name: Option<&str>, tasks: Tasks) -> Self {
        let l1 = L1::new(&cache.l1);
        let start = Start::new();
        let lifetime = second::lifetime(cache);
        let bounds =
            Bounds { marks: MAX_MARKS, prefixes: MAX_PREFIXES, patterns: MAX_PATTERNS, lifetime };
        let log = Arc::new(Log::new(bounds));
        let (redis, fleet) = match &cache.l2 {
            None => (None, Fleet::new(name, None)),
            Some(config) => {
                let key = format!("{}:trial", cache.namespace);
                let trial = Trial { key, timeout: config.timeout };
                let nodes = Arc::new(Nodes::start(&config.redis, trial, &tasks));
                let l2 = L2::new(Arc::clone(&nodes), &cache.namespace, config);
                let fleet = Fleet::new(name, Some((&nodes, &cache.namespace, config.timeout)));
                let lag = Arc::new(Lag::new(start, cache.max_lag));
                let shared = Arc::new(SharedLog::new(
                    Arc::clone(&nodes),
                    (Arc::clone(&log), Arc::clone(&lag)),
                    l1.clone(),
                    Arc::clone(&fleet),
                    &cache.namespace,
                    config.timeout,
                ));
                let turns = Turns::new(Arc::clone(&nodes), &cache.namespace, config.timeout);
                tasks.spawn(Arc::clone(&shared).follow(tasks.end.clone()));
                tasks.spawn(Arc::clone(&shared).share(tasks.end.clone()));
                let read = Arc::clone(&shared);
                tasks.spawn(Arc::clone(&fleet).keep(move || read.reached(), tasks.end.clone()));
                let (watching, end) = (Arc::clone(&lag), tasks.end.clone());
                tasks.spawn(async move { watching.watch(end).await });
                let (l2, turns) = (Arc::new(l2), Arc::new(turns));
                let namespace = cache.namespace.clone();
                (Some(Redis { nodes, namespace, l2, log: shared, turns, lag }), fleet)
            }
        };
        let tie = ArcSwapOption::empty();
        Self { log, l1, redis, disk: None, fleet, start, tasks, tie, replay: None }
    }

    /// A name of this gateway that no other process has.
    pub fn own_name(&self) -> Arc<str> {
        self.fleet.own_name()
    }

    /// What the fleet knows this gateway by.
    pub fn name(&self) -> Arc<str> {
        self.fleet.name()
    }

    /// Whether there is a tier in memory.
    pub fn has_l1(&self) -> bool {
        self.l1.is_some()
    }

    /// What L1 has for a request with these fields. Does no I/O, and takes no lock while nothing
    /// has been invalidated since the response was last asked for.
    pub fn look_in_l1(&self, key: &CacheKey, fields: &HeaderMap, now: SystemTime) -> LookUp {
        let Some(l1) = &self.l1 else { return LookUp::UriMiss };
        let variants = match l1.look(key, now) {
            None | Some(Held::Rules(_) | Held::Form(_)) => return LookUp::UriMiss,
            Some(Held::Response(stored)) => {
                let verdict = self.log.judge(&stored);
                return self.hit(stored, verdict).map_or(LookUp::UriMiss, LookUp::Found);
            }
            Some(Held::Variants(variants)) => variants,
        };
        let look = |key: CacheKey| match l1.look(&key, now)? {
            Held::Response(stored) => {
                let verdict = self.log.judge(&stored);
                self.hit(stored, verdict)
            }
            Held::Variants(_) | Held::Rules(_) | Held::Form(_) => None,
        };
        let mut was_there = false;
        let selected = variants.selected_by(key, fields).filter_map(|key| {
            was_there = true;
            look(key)
        });
        if let Some(hit) = most_suitable(selected, now) {
            return LookUp::Found(Hit { variants: Some(variants), ..hit });
        }
        let mut understood = variants.understood_by(key, fields).take(MOST_UNDERSTOOD);
        if let Some(hit) = understood.find_map(|key| look(key).filter(|hit| hit.is_fresh(now))) {
            return LookUp::Found(hit);
        }
        drop(understood);
        // It was evicted, invalidated, or has reached its end.
        if was_there { LookUp::UriMiss } else { LookUp::VaryMiss(variants) }
    }

    /// The one response that L1 has under this key, whoever may have it. `None` where there are
    /// variants.
    pub fn peek(&self, key: &CacheKey, now: SystemTime) -> Option<Arc<StoredResponse>> {
        match self.l1.as_ref()?.look(key, now)? {
            Held::Response(stored) => Some(stored),
            Held::Variants(_) | Held::Rules(_) | Held::Form(_) => None,
        }
    }

    /// What L2 has for a request with these fields, within the tier's timeout. What is found to answer moves
    /// into L1, for no longer than L2 would have kept it. Until the log has been read to its end there is
    /// no answer, as it may invalidate what is found.
    ///
    /// `deadline` is for all look-ups of one request: see [`Store::deadline`].
    pub async fn look_in_l2(
        &self,
        key: &CacheKey,
        fields: &HeaderMap,
        now: SystemTime,
        deadline: Instant,
        purpose: Purpose,
    ) -> LookUp {
        let Some(l2) = self.l2() else {
            return if self.has_l2() { LookUp::NoAnswer } else { LookUp::UriMiss };
        };
        let list = match only(l2.look(&[*key], now, deadline).await) {
            Err(NoAnswer) => return LookUp::NoAnswer,
            Ok(None | Some((Held::Rules(_) | Held::Form(_), _))) => return LookUp::UriMiss,
            Ok(Some((Held::Response(stored), left))) => {
                let hit = self.promote(*key, stored, left, now, purpose);
                return hit.map_or(LookUp::UriMiss, LookUp::Found);
            }
            Ok(Some((Held::Variants(list), _))) => list,
        };
        let mut selected: Vec<_> = list.selected_by(key, fields).collect();
        let is_selected = !selected.is_empty();
        if !is_selected {
            // Whole responses are fetched: one must do.
            selected.extend(list.understood_by(key, fields).next());
        }
        if selected.is_empty() {
            return LookUp::VaryMiss(list);
        }
        let found = l2.look(&selected, now, deadline).await;
        let is_answered = found.iter().all(Result::is_ok);
        let found = selected.into_iter().zip(found);
        let hits = found.filter_map(|(selected, found)| match found.ok()?? {
            (Held::Response(stored), left) => self.promote(selected, stored, left, now, purpose),
            (Held::Variants(_) | Held::Rules(_) | Held::Form(_), _) => None,
        });
        let hit = most_suitable(hits, now);
        if let (Some(_), Some(l1), Purpose::Answer) = (&hit, &self.l1, purpose) {
            l1.merge_variants(*key, &list, now);
        }
        match hit {
            Some(hit) if is_selected => LookUp::Found(Hit { variants: Some(list), ..hit }),
            Some(hit) if hit.is_fresh(now) => LookUp::Found(hit),
            None if !is_answered => LookUp::NoAnswer,
            None if is_selected => LookUp::UriMiss,
            _ => LookUp::VaryMiss(list),
        }
    }

    fn promote(
        &self,
        key: CacheKey,
        stored: Arc<StoredResponse>,
        left: Duration,
        now: SystemTime,
        purpose: Purpose,
    ) -> Option<Hit> {
        let verdict = self.log.judge_from_l2(&stored);
        let hit = self.hit(stored, verdict)?;
        if let (Some(l1), Purpose::Answer) = (&self.l1, purpose) {
            l1.promote(key, &hit.stored, now, left, |here| self.log.judge(here) <= verdict);
        }
        Some(hit)
    }

    /// The right to store one response. Take it before the fetch begins: an invalidation that
    /// comes later may be about what the fetch has already read.
    pub fn lease(&self) -> Lease {
        self.lease_at(clock::instant())
    }

    /// The same at this moment.
    pub fn lease_at(&self, now: std::time::Instant) -> Lease {
        let mut lease = self.log.lease();
        lease.begun = self.start.at(now);
        if let Some(Redis { lag, .. }) = &self.redis {
            lease.span = lag.span();
        }
        lease
    }

    /// The right to store the response to a request that has itself invalidated, by `own` records of
    /// which this is the receipt: those do not void it, any later one does. `before` was taken before
    /// the request went out. `None` if anything else was invalidated since then, whatever it covers,
    /// or if that cannot be told.
    pub async fn lease_after(&self, before: &Lease, own: usize, receipt: Receipt) -> Option<Lease> {
        if let Some(redis) = &self.redis {
            let is_shared = before.shared && receipt.shared;
            let place = receipt.position;
            if !is_shared || !redis.log.holds_only(own, before.position, place).await {
                return None;
            }
        }
        // After the shared log was asked, so that nothing falls between the two.
        self.log.lease_after(before, own, receipt.position)
    }
}
