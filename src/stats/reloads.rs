//! How often the configuration was read again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::Counter;

/// So many characters of what was wrong are kept.
const LONGEST_FAULTS: usize = 4096;

/// How often the configuration was read again, and whether the last time did any good.
#[derive(Debug, Default)]
pub struct Reloads {
    success: Counter,
    failure: Counter,
    /// When a configuration was faulty last, and what was wrong, unless another is in service since.
    last_fault: Mutex<Option<(SystemTime, String)>>,
    /// In seconds since 1970.
    last_success: AtomicU64,
}

impl Reloads {
    /// A configuration is in service since `now`: the first one.
    pub fn begin(&self, now: SystemTime) {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.last_success.store(since.as_secs(), Ordering::Relaxed);
    }

    /// Another configuration is in service since `now`.
    pub fn succeeded(&self, now: SystemTime) {
        self.begin(now);
        *self.last_fault() = None;
        self.success.count();
    }

    /// A configuration was faulty, and the one before stays.
    pub fn failed(&self, now: SystemTime, faults: &str) {
        *self.last_fault() = Some((now, faults.chars().take(LONGEST_FAULTS).collect()));
        self.failure.count();
    }

    /// What was wrong with the configuration that was read last, and when. None if it is in service.
    pub fn fault(&self) -> Option<(SystemTime, String)> {
        self.last_fault().clone()
    }

    fn last_fault(&self) -> MutexGuard<'_, Option<(SystemTime, String)>> {
        self.last_fault.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn snapshot(&self) -> ReloadFigures {
        ReloadFigures {
            success: self.success.value(),
            failure: self.failure.value(),
            last_successful: self.last_fault().is_none(),
            last_success_timestamp_seconds: self.last_success.load(Ordering::Relaxed),
        }
    }
}

/// What reloads came to since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ReloadFigures {
    /// Those that put another configuration in service.
    pub success: u64,
    /// Those that found it faulty.
    pub failure: u64,
    /// Whether what is in service is what was read last.
    pub last_successful: bool,
    /// When what is in service was read, in seconds since 1970.
    pub last_success_timestamp_seconds: u64,
}
