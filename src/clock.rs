//! The time of day, from the system or from a test. The only module that reads the clock.
//!
//! Everything that decides takes `now` as an argument; whoever calls it asks a [`Clock`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// Where `now` comes from. Cloning is cheap, and clones of a manual clock advance together.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    /// The system's time of day.
    #[default]
    System,
    /// The system's time plus what a test has added, in milliseconds.
    Manual(Arc<AtomicU64>),
}

impl Clock {
    /// A clock that runs as the system's does and can be advanced.
    pub fn manual() -> Self {
        Self::Manual(Arc::default())
    }

    /// The time of day.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads it")]
    pub fn now(&self) -> SystemTime {
        match self {
            Self::System => SystemTime::now(),
            Self::Manual(added) => {
                SystemTime::now() + Duration::from_millis(added.load(Ordering::Relaxed))
            }
        }
    }

    /// Moves a manual clock forward. The system's clock stays as it is.
    pub fn advance(&self, by: Duration) {
        if let Self::Manual(added) = self {
            let millis = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
            added.fetch_add(millis, Ordering::Relaxed);
        }
    }
}

/// A moment to measure a span from, for statistics and deadlines.
#[expect(clippy::disallowed_methods, reason = "the one place that reads it")]
pub fn instant() -> std::time::Instant {
    std::time::Instant::now()
}
