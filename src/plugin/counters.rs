//! What one policy's calls come to, before and after reloads. `admin` shows it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Serialize, Serializer};

use crate::clock;

/// The counts of so many policies that are no more are kept.
const MOST_FORMER: usize = 1000;

/// Counts by the policies' names, for as long as the process lives.
#[derive(Debug, Default)]
pub(super) struct ByName(Mutex<BTreeMap<Box<str>, Arc<Counters>>>);

impl ByName {
    /// Zeroes, or what a policy of this name has counted before.
    pub(super) fn of(&self, name: &str) -> Arc<Counters> {
        let mut by_name = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let counters = Arc::clone(by_name.entry(name.into()).or_default());
        let is_former = |counters: &Arc<Counters>| Arc::strong_count(counters) == 1;
        let former = by_name.values().filter(|counters| is_former(counters)).count();
        let mut excess = former.saturating_sub(MOST_FORMER);
        by_name.retain(|_, counters| {
            let is_kept = excess == 0 || !is_former(counters);
            excess -= usize::from(!is_kept);
            is_kept
        });
        counters
    }
}

/// Counts without locks; a snapshot may be a few calls uneven.
#[derive(Debug, Default)]
pub(super) struct Counters {
    calls: AtomicU64,
    failures: AtomicU64,
    remembered: AtomicU64,
    dropped_lines: AtomicU64,
    nanoseconds: AtomicU64,
    last_failure: Mutex<Option<Instant>>,
}

/// What has been counted of all policies of one name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    /// Calls into the plugin, those of `configure` left out.
    pub calls: u64,
    /// How many of them failed.
    pub failures: u64,
    /// Answers of `key` that were remembered, so that the plugin was not called.
    pub remembered: u64,
    /// Log lines beyond what one call may write.
    pub dropped_lines: u64,
    /// From the beginning to the end of all calls together, waiting on the slow lane included;
    /// shown as seconds.
    #[serde(rename = "spent_seconds", serialize_with = "seconds")]
    pub spent: Duration,
    /// How long ago the last call failed, if one did; shown as seconds.
    #[serde(rename = "last_failure_seconds", serialize_with = "maybe_seconds")]
    pub last_failure: Option<Duration>,
}

fn seconds<S: Serializer>(spent: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(spent.as_secs_f64())
}

#[expect(clippy::ref_option, reason = "what serde calls it with")]
fn maybe_seconds<S: Serializer>(ago: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    ago.map(|ago| ago.as_secs_f64()).serialize(serializer)
}

impl Counters {
    /// A call ended, after so long.
    pub(super) fn call(&self, spent: Duration, failed: bool, dropped_lines: u64) {
        let nanoseconds = u64::try_from(spent.as_nanos()).unwrap_or(u64::MAX);
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
        if failed {
            self.failures.fetch_add(1, Ordering::Relaxed);
            *self.last_failure() = Some(clock::instant());
        }
        if dropped_lines > 0 {
            self.dropped_lines.fetch_add(dropped_lines, Ordering::Relaxed);
        }
    }

    /// A remembered answer made a call unnecessary.
    pub(super) fn remembered(&self) {
        self.remembered.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot {
            calls: self.calls.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
            remembered: self.remembered.load(Ordering::Relaxed),
            dropped_lines: self.dropped_lines.load(Ordering::Relaxed),
            spent: Duration::from_nanos(self.nanoseconds.load(Ordering::Relaxed)),
            last_failure: self.last_failure().map(|at| at.elapsed()),
        }
    }

    fn last_failure(&self) -> MutexGuard<'_, Option<Instant>> {
        self.last_failure.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
