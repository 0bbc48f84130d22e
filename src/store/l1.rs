//! L1: stored responses in memory, weighed in octets (moka).
//!
//! Whether what is found here is still valid is the log's to say.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use foldhash::fast::RandomState;
use moka::notification::RemovalCause;
use moka::sync::Cache;

use crate::config;
use crate::store::forms::Form;
use crate::store::search::SearchRules;
use crate::store::variants::{Variant, Variants};
use crate::stored::{CacheKey, Mark, StoredResponse};

/// What a response takes besides its name, fields, content and marks: moka's node, its places in
/// the hash table and in two queues, the key, the response's own struct, and what the allocator
/// rounds up. Resident memory grew by 669 octets more for each of 200,000 responses of 1 KiB, with a
/// head of eight fields, than is counted one by one. That was glibc's allocator; what the program's
/// own takes in all is measured by `benches/run --part memory`.
const OVERHEAD: usize = 670;

/// moka evicts when so many writes have gathered, or with the first one after 300 ms.
const WRITES_AT_ONCE: u64 = 64;

/// What can lie under a key.
#[derive(Clone, Debug)]
pub(super) enum Held {
    Response(Arc<StoredResponse>),
    Variants(Arc<Variants>),
    Rules(Arc<SearchRules>),
    /// Of what lies elsewhere, under a key of its own.
    Form(Form),
}

#[derive(Clone)]
struct Kept {
    held: Held,
    /// moka frees the memory by its own clock; what may be used is decided by the caller's.
    end: SystemTime,
}

/// Clones share one cache.
#[derive(Clone)]
pub(super) struct L1 {
    cache: Cache<CacheKey, Kept, RandomState>,
    /// There have been rules of `No-Vary-Search`.
    has_rules: Arc<AtomicBool>,
    capacity: u64,
    ttl: Duration,
    /// Where the time is not moka's.
    ends: Option<Arc<Ends>>,
}

/// What lets go of what has reached its end, where a log is replayed; and counts what had to make room.
#[derive(Default)]
pub(super) struct Ends {
    /// In the order in which they were put: all stay equally long.
    due: Mutex<VecDeque<(SystemTime, CacheKey)>>,
    /// How many were evicted, or not even admitted.
    evicted: AtomicU64,
}

impl L1 {
    /// `None` if the capacity is zero.
    pub(super) fn new(config: &config::L1) -> Option<Self> {
        (config.capacity > 0).then(|| {
            let cache = Cache::builder()
                .max_capacity(config.capacity)
                .weigher(|_, kept: &Kept| u32::try_from(kept.held.weight()).unwrap_or(u32::MAX))
                .time_to_live(config.ttl)
                .build_with_hasher(RandomState::default());
            let has_rules = Arc::default();
            Self { cache, has_rules, capacity: config.capacity, ttl: config.ttl, ends: None }
        })
    }

    /// The same for a time that is not moka's: what has reached its end takes up room until
    /// [`L1::pass_to`].
    pub(super) fn replayed(config: &config::L1) -> Option<Self> {
        (config.capacity > 0).then(|| {
            let ends = Arc::<Ends>::default();
            let counted = Arc::clone(&ends);
            let cache = Cache::builder()
                .max_capacity(config.capacity)
                .weigher(|_, kept: &Kept| u32::try_from(kept.held.weight()).unwrap_or(u32::MAX))
                .eviction_listener(move |_, _, cause| {
                    if cause == RemovalCause::Size {
                        counted.evicted.fetch_add(1, Ordering::Relaxed);
                    }
                })
                .build_with_hasher(RandomState::default());
            let (capacity, ttl, has_rules) = (config.capacity, config.ttl, Arc::default());
            Self { cache, has_rules, capacity, ttl, ends: Some(ends) }
        })
    }

    /// Lets go of what has reached its end by `now`.
    pub(super) fn pass_to(&self, now: SystemTime) {
        let Some(ends) = &self.ends else { return };
        let mut due = ends.due();
        while let Some((_, key)) = due.pop_front_if(|(end, _)| *end <= now) {
            // It may have been put anew meanwhile.
            if self.cache.get(&key).is_some_and(|kept| kept.end <= now) {
                self.cache.invalidate(&key);
            }
        }
    }

    /// As [`L1::sizes`]; and how many were evicted.
    pub(super) fn room(&self) -> (u64, u64, u64) {
        let (entries, octets) = self.sizes();
        let evicted = self.ends.as_ref().map_or(0, |ends| ends.evicted.load(Ordering::Relaxed));
        (entries, octets, evicted)
    }

    /// What lies under `key`, unless it has reached its end.
    pub(super) fn look(&self, key: &CacheKey, now: SystemTime) -> Option<Held> {
        self.cache.get(key).filter(|kept| now < kept.end).map(|kept| kept.held)
    }

    /// The same, and how long it is kept.
    pub(super) fn lies(&self, key: &CacheKey, now: SystemTime) -> Option<(Held, Duration)> {
        let kept = self.cache.get(key).filter(|kept| now < kept.end)?;
        Some((kept.held, kept.end.duration_since(now).unwrap_or_default()))
    }

    /// Puts a response for as long as L1 keeps one, but no longer than `left`. False if it is
    /// larger than the whole tier.
    pub(super) fn put(
        &self,
        key: CacheKey,
        stored: Arc<StoredResponse>,
        now: SystemTime,
        left: Duration,
    ) -> bool {
        self.insert(key, Held::Response(stored), now, left)
    }

    /// As [`L1::put`], for whatever it is.
    pub(super) fn insert(
        &self,
        key: CacheKey,
        held: Held,
        now: SystemTime,
        left: Duration,
    ) -> bool {
        let weight = held.weight() as u64;
        let fits = weight <= self.capacity;
        if fits {
            let end = self.end(now, left);
            self.cache.insert(key, Kept { held, end });
            self.note_end(key, end);
            // Large responses do not wait for others: what has gathered never weighs more than
            // the tier may.
            if weight > self.capacity / WRITES_AT_ONCE {
                self.cache.run_pending_tasks();
            }
        }
        fits
    }

    /// Puts what L2 held, unless what lies here came later and is `no_worse`: a write to L2 may have been dropped.
    pub(super) fn promote(
        &self,
        key: CacheKey,
        stored: &Arc<StoredResponse>,
        now: SystemTime,
        left: Duration,
        no_worse: impl FnOnce(&StoredResponse) -> bool,
    ) {
        let is_newer = match self.look(&key, now) {
            Some(Held::Response(here)) => {
                here.freshness.received > stored.freshness.received && no_worse(&here)
            }
            _ => false,
        };
        if !is_newer {
            self.put(key, Arc::clone(stored), now, left);
        }
    }

    /// Notes that `variant` lies under `key`, and evicts those that are too many.
    pub(super) fn add_variant(
        &self,
        key: CacheKey,
        variant: &Variant,
        bound: usize,
        now: SystemTime,
    ) {
        let mut gone = Vec::new();
        self.change_variants(key, now, |variants| gone = variants.add(variant.clone(), bound));
        for key in &gone {
            self.cache.invalidate(key);
        }
    }

    /// Adds what L2 knows of the variants under `key`.
    pub(super) fn merge_variants(&self, key: CacheKey, from_l2: &Variants, now: SystemTime) {
        self.change_variants(key, now, |variants| variants.merge(from_l2));
    }

    fn change_variants(&self, key: CacheKey, now: SystemTime, change: impl FnOnce(&mut Variants)) {
        self.cache.entry(key).and_upsert_with(|before| {
            let mut variants = match before.map(moka::Entry::into_value) {
                Some(Kept { held: Held::Variants(variants), .. }) => Arc::unwrap_or_clone(variants),
                _ => Variants::default(),
            };
            change(&mut variants);
            Kept { held: Held::Variants(Arc::new(variants)), end: self.end(now, self.ttl) }
        });
        self.note_end(key, self.end(now, self.ttl));
    }

    /// Notes rules of `No-Vary-Search` under `key`.
    pub(super) fn change_rules(
        &self,
        key: CacheKey,
        now: SystemTime,
        change: impl FnOnce(&mut SearchRules),
    ) {
        self.has_rules.store(true, Ordering::Relaxed);
        self.cache.entry(key).and_upsert_with(|before| {
            let mut rules = match before.map(moka::Entry::into_value) {
                Some(Kept { held: Held::Rules(rules), .. }) => Arc::unwrap_or_clone(rules),
                _ => SearchRules::default(),
            };
            change(&mut rules);
            Kept { held: Held::Rules(Arc::new(rules)), end: self.end(now, self.ttl) }
        });
        self.note_end(key, self.end(now, self.ttl));
    }

    /// Whether rules of `No-Vary-Search` can lie here.
    pub(super) fn has_rules(&self) -> bool {
        self.has_rules.load(Ordering::Relaxed)
    }

    /// All responses that have not reached their end, in no order; what comes meanwhile may be among
    /// them. None counts as used by that.
    pub(super) fn responses(
        &self,
        now: SystemTime,
    ) -> impl Iterator<Item = (CacheKey, Arc<StoredResponse>)> {
        self.cache.iter().filter_map(move |(key, kept)| match kept.held {
            Held::Response(stored) if now < kept.end => Some((*key, stored)),
            _ => None,
        })
    }

    /// What is larger is never put.
    pub(super) fn capacity(&self) -> usize {
        usize::try_from(self.capacity).unwrap_or(usize::MAX)
    }

    /// Drops everything, to free the memory at once.
    pub(super) fn clear(&self) {
        self.cache.invalidate_all();
    }

    /// How many entries there are and what they weigh in octets.
    pub(super) fn sizes(&self) -> (u64, u64) {
        // moka counts by and by; without this an entry may be missing as long as nothing else is asked for.
        self.cache.run_pending_tasks();
        (self.cache.entry_count(), self.cache.weighted_size())
    }

    fn note_end(&self, key: CacheKey, end: SystemTime) {
        if let Some(ends) = &self.ends {
            ends.due().push_back((end, key));
        }
    }

    fn end(&self, now: SystemTime, left: Duration) -> SystemTime {
        // A sum beyond the type's range cannot come up for a time of day: the lifetime is bounded.
        now.checked_add(self.ttl.min(left)).unwrap_or(now)
    }
}

impl Ends {
    fn due(&self) -> MutexGuard<'_, VecDeque<(SystemTime, CacheKey)>> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// In octets.
    pub(super) fn weight(&self) -> usize {
        OVERHEAD
            + match self {
                Self::Response(stored) => {
                    stored.name.len()
                        + stored.fields.as_bytes().len()
                        + stored.body.len()
                        + size_of_val::<[Mark]>(&stored.marks)
                        + stored.part.as_ref().map_or(0, |spans| spans.weight())
                }
                Self::Variants(variants) => variants.octets(),
                Self::Rules(rules) => rules.octets(),
                Self::Form(form) => form.octets(),
            }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

    use super::*;
    use crate::clock::Clock;
    use crate::semantics::Freshness;
    use crate::stored::{Fields, Moment, Original, Position};

    const MINUTE: Duration = Duration::from_mins(1);

    fn l1(capacity: u64) -> L1 {
        L1::new(&config::L1 { capacity, ttl: 5 * MINUTE }).unwrap()
    }

    fn key(number: u64) -> CacheKey {
        CacheKey::new("test", "route", "example.org", [("path", &*number.to_string())])
    }

    /// 1 KiB with a head as upstreams send it.
    fn response(number: u64, received: SystemTime) -> Arc<StoredResponse> {
        let head = [
            ("cache-control", "public, max-age=300"),
            ("content-length", "1024"),
            ("content-type", "application/json; charset=utf-8"),
            ("date", "Sun, 06 Nov 1994 08:49:37 GMT"),
            ("etag", "\"33a64df551425fcc55e4d42a148795d9f25f89d4\""),
            ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT"),
            ("server", "nginx/1.22.1"),
            ("vary", "accept-encoding"),
        ];
        let head = head
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let path = format!("/catalogue/{number}");
        Arc::new(StoredResponse {
            name: path[1..].into(),
            status: StatusCode::OK,
            fields: Fields::encode(&HeaderMap::from_iter(head)).unwrap(),
            body: Bytes::from(vec![b'x'; 1024]),
            part: None,
            freshness: Freshness::fresh_for(5 * MINUTE, received),
            marks: [
                Mark::route("catalogue"),
                Mark::key(&key(number)),
                Mark::path("example.org", &path),
                Mark::target("example.org", &path),
            ]
            .into(),
            position: Position::ZERO,
            begun: Moment::BEFORE_ALL,
            checked: AtomicU64::new(0),
            original: Original::default(),
        })
    }

    #[test]
    fn what_l2_held_does_not_replace_what_came_later() {
        let (l1, now) = (l1(1 << 20), Clock::System.now());
        let older = response(1, now - MINUTE);
        let promote = |stored: &Arc<StoredResponse>, no_worse| {
            l1.promote(key(1), stored, now, MINUTE, |_| no_worse);
            let Some(Held::Response(found)) = l1.look(&key(1), now) else { panic!("a miss") };
            found.freshness.received
        };
        assert_eq!(promote(&older, true), now - MINUTE);
        assert_eq!(promote(&response(1, now), true), now);
        assert_eq!(promote(&older, true), now);
        // By its own clock, that is: it was invalidated, and this was not.
        assert_eq!(promote(&older, false), now - MINUTE);
    }

    #[test]
    fn the_capacity_bounds_what_is_kept() {
        let (l1, now) = (l1(64 << 10), Clock::System.now());
        for number in 0..1000 {
            l1.put(key(number), response(number, now), now, MINUTE);
        }
        let (entries, octets) = l1.sizes();
        assert!(octets <= 64 << 10 && entries >= 20, "{entries} entries, {octets} octets");
    }

    #[test]
    fn what_is_replayed_ends_by_the_time_of_the_log() {
        let config = config::L1 { capacity: 64 << 10, ttl: 5 * MINUTE };
        let (l1, begin) = (L1::replayed(&config).unwrap(), SystemTime::UNIX_EPOCH);
        l1.put(key(1), response(1, begin), begin, MINUTE);
        l1.put(key(2), response(2, begin), begin, MINUTE * 9);
        l1.put(key(1), response(1, begin), begin + MINUTE / 2, Duration::MAX);
        for (minutes, count) in [(1, 2), (4, 2), (5, 1), (6, 0)] {
            l1.pass_to(begin + minutes * MINUTE);
            assert_eq!(l1.room().0, count, "after {minutes} minutes");
        }
        assert_eq!(l1.room(), (0, 0, 0));
        for number in 0..100 {
            l1.put(key(number), response(number, begin), begin, MINUTE);
        }
        let (count, octets, evicted) = l1.room();
        assert!(octets <= 64 << 10 && count >= 20, "{count} of {octets} octets");
        assert_eq!(count + evicted, 100);
    }

    #[test]
    fn variants_that_are_too_many_are_evicted() {
        let (l1, now) = (l1(1 << 20), Clock::System.now());
        let variants: Vec<_> = ["de", "fr", "en"]
            .map(|language| {
                let name = http::header::ACCEPT_LANGUAGE;
                let fields =
                    HeaderMap::from_iter([(name.clone(), HeaderValue::from_static(language))]);
                Variant::of(&key(1), &[name], &fields, &Fields::default()).unwrap()
            })
            .into();
        for variant in &variants {
            l1.put(variant.known.key, response(1, now), now, MINUTE);
            l1.add_variant(key(1), variant, 2, now);
        }
        let found = variants.iter().map(|variant| l1.look(&variant.known.key, now).is_some());
        assert_eq!(found.collect::<Vec<_>>(), [false, true, true]);
    }
}
