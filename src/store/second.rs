//! The second tier as the store sees it, whatever it is.
//!
//! Trouble in it is no more than a miss, unless a route says so (`on_l2_error`).

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::clock;
use crate::clock::Clock;
use crate::config;
use crate::semantics::{Freshness, NoVarySearch};
use crate::store::disk::{Disk, NotOpened};
use crate::store::l1::{Held, L1};
use crate::store::log::Lease;
use crate::store::variants::Variant;
use crate::store::{Redis, Store, Tasks};
use crate::stored::{CacheKey, StoredResponse};

/// A stale response is kept as long again as it was fresh, and at least so long.
const STALE_LEAST: Duration = Duration::from_mins(1);

/// See [`lifetime`].
const SLACK: Duration = Duration::from_mins(2);

/// Something that L2 held, and how long it still will.
pub(super) type Found = (Held, Duration);

/// What L2 says of one key.
pub(super) type Said = Result<Option<Found>, NoAnswer>;

/// L2 was asked and did not say, so that anything may lie there.
#[derive(Clone, Copy, Debug)]
pub(super) struct NoAnswer;

/// A response on its way into L2.
pub(super) struct Entry {
    pub(super) stored: Arc<StoredResponse>,
    /// As which variant of what lies under its key, of how many that are kept.
    pub(super) variant: Option<(Variant, usize)>,
    /// So long after it became stale it may stand in for an upstream in trouble.
    pub(super) stale: Duration,
}

/// What it says where it was asked of one key.
pub(super) fn only(mut said: Vec<Said>) -> Said {
    said.pop().unwrap_or(Err(NoAnswer))
}

/// The second tier, while what it holds can be judged.
#[derive(Clone, Copy)]
pub(super) enum Second<'a> {
    /// Shared by a fleet.
    Redis(&'a Redis),
    /// This gateway's own.
    Disk(&'a Arc<Disk>),
}

impl Second<'_> {
    /// What lies under each of `keys`, by `deadline`.
    pub(super) async fn look(
        self,
        keys: &[CacheKey],
        now: SystemTime,
        deadline: Instant,
    ) -> Vec<Said> {
        match self {
            Self::Redis(redis) => redis.l2.look(keys, now, deadline).await,
            Self::Disk(disk) => match disk.look(keys, deadline).await {
                Ok(found) => found.into_iter().map(Ok).collect(),
                Err(NoAnswer) => keys.iter().map(|_| Err(NoAnswer)).collect(),
            },
        }
    }

    /// Writes a response in the background: under `key`, or as a variant of what lies there. False,
    /// and counted, if that cannot be done. What writes it joins `writes`.
    pub(super) fn put(
        self,
        tasks: &Tasks,
        key: CacheKey,
        entry: Entry,
        now: SystemTime,
        writes: &mut Vec<JoinHandle<bool>>,
    ) -> bool {
        match self {
            Self::Redis(redis) => {
                let write = redis.l2.put(tasks, key, entry, now);
                let is_taken = write.is_some();
                writes.extend(write);
                is_taken
            }
            Self::Disk(disk) => disk.put(key, entry, now),
        }
    }

    /// Notes a rule under `key` in the background. Answers what writes it.
    pub(super) fn add_rule(
        self,
        tasks: &Tasks,
        key: CacheKey,
        rule: &NoVarySearch,
        now: SystemTime,
    ) -> Option<JoinHandle<bool>> {
        match self {
            Self::Redis(redis) => redis.l2.add_rule(tasks, key, rule, now),
            Self::Disk(disk) => {
                disk.add_rule(key, rule);
                None
            }
        }
    }
}

impl Store {
    /// With the embedded tier, if there is to be one: opens it, and applies its log.
    ///
    /// # Errors
    /// Its folder cannot be used.
    pub fn with_disk(self, cache: &config::Cache, clock: Clock) -> Result<Self, NotOpened> {
        let Some(config) = &cache.disk else { return Ok(self) };
        let lifetime = lifetime(cache);
        let disk =
            Disk::start(config, &self.log, lifetime, clock, (&self.tasks, self.fleet.name()))?;
        Ok(Self { disk: Some(disk), ..self })
    }

    /// Leaves a disk to another process, if there is one. Until [`Store::have_disk_again`] there is no
    /// second tier.
    pub async fn leave_disk(&self) {
        if let Some(disk) = &self.disk {
            disk.pass(false).await;
        }
    }

    /// Uses the disk again, as soon as the other process does not. What was invalidated in the meantime
    /// does not come back.
    pub async fn have_disk_again(&self) {
        if let Some(disk) = &self.disk {
            disk.pass(true).await;
        }
    }

    /// Whether there is a second tier, within reach or not.
    pub fn has_l2(&self) -> bool {
        self.redis.is_some() || self.disk.is_some()
    }

    /// Whether other gateways may use it, too.
    pub fn is_shared(&self) -> bool {
        self.redis.is_some()
    }

    /// The largest content that a tier takes, if there is one.
    pub fn largest(&self) -> usize {
        let l1 = self.l1.as_ref().map(L1::capacity);
        let l2 = self.redis.as_ref().map(|redis| redis.l2.max_size());
        l1.max(l2).max(self.disk.as_ref().map(|disk| disk.max_size())).unwrap_or(usize::MAX)
    }

    /// By when the look-ups in L2 must end that begin now, however many a request needs.
    pub fn deadline(&self) -> Instant {
        let timeout = match (&self.redis, &self.disk) {
            (Some(redis), _) => redis.l2.timeout(),
            (None, Some(disk)) => disk.timeout(),
            (None, None) => Duration::ZERO,
        };
        Instant::from_std(clock::instant() + timeout)
    }

    /// L2, while it is in use.
    pub(super) fn l2(&self) -> Option<Second<'_>> {
        if let Some(disk) = &self.disk {
            return disk.is_open().then_some(Second::Disk(disk));
        }
        self.redis.as_ref().filter(|redis| redis.log.is_in_step()).map(Second::Redis)
    }

    /// L2, if what this lease is for may be written there. A place that this gateway gave itself
    /// means nothing to others.
    pub(super) fn l2_for(&self, lease: &Lease) -> Option<Second<'_>> {
        self.l2().filter(|_| lease.shared)
    }
}

/// How long a record of the log can matter: longer than any stored response is kept, for clocks that
/// run differently and for fetches that take long.
pub(super) fn lifetime(cache: &config::Cache) -> Duration {
    let l2 = cache.l2.as_ref().map(|l2| l2.ttl).or(cache.disk.as_ref().map(|disk| disk.ttl));
    cache.l1.ttl.max(l2.unwrap_or_default()).saturating_add(SLACK)
}

/// How long a response is worth keeping: while it is fresh, and then as long again as its lifetime
/// was (a minute at least), because a stale response can still be validated, or as it says that it
/// may be served stale, or for as long as it may stand in (`stale`). Never longer than the tier's own
/// bound.
pub(super) fn useful(
    freshness: &Freshness,
    stale: Duration,
    now: SystemTime,
    bound: Duration,
) -> Duration {
    let fresh = freshness.lifetime.saturating_sub(freshness.age(now));
    let Freshness { stale_while_revalidate, stale_if_error, .. } = *freshness;
    let own = [stale_while_revalidate, stale_if_error.unwrap_or_default()];
    let own = own.into_iter().map(Duration::from).fold(STALE_LEAST, Duration::max);
    fresh.saturating_add(freshness.lifetime.max(own).max(stale)).min(bound)
}

/// When something ends of which so much is left, in milliseconds since 1970.
pub(super) fn end(now: SystemTime, left: Duration) -> u64 {
    millis(now).saturating_add(u64::try_from(left.as_millis()).unwrap_or(u64::MAX))
}

/// Milliseconds since 1970.
pub(super) fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_a_response_is_kept() {
        const HOUR: u64 = 3600;

        for (lifetime, own, stale, now, bound, expected, why) in [
            (10, 0, 0, 0, HOUR, 70, "a minute at least, to be validated"),
            (600, 0, 0, 0, HOUR, 1200, "as long again as it was fresh"),
            (600, 0, 0, 500, HOUR, 700, "of that, what is left"),
            (60, 900, 0, 0, HOUR, 960, "as long as it says"),
            (60, 0, 300, 0, HOUR, 360, "as long as it may stand in"),
            (60, 0, 1800, 0, HOUR, 1860, "as long as the route says"),
            (60, 0, 7200, 0, HOUR, HOUR, "never longer than the tier keeps anything"),
            (600, 900, 300, 0, HOUR, 1500, "the longest of them"),
        ] {
            let freshness = Freshness {
                stale_if_error: Some(Duration::from_secs(own).into()),
                ..Freshness::fresh_for(Duration::from_secs(lifetime), UNIX_EPOCH)
            };
            let [stale, now, bound] = [stale, now, bound].map(Duration::from_secs);
            let found = useful(&freshness, stale, UNIX_EPOCH + now, bound);
            assert_eq!(found, Duration::from_secs(expected), "{why}");
        }
    }
}
