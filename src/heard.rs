//! When something came last, as several tasks tell and ask.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// When something was last heard, to the millisecond.
pub struct LastHeard {
    made: Instant,
    /// In milliseconds from then; 0 before anything is.
    at: AtomicU64,
}

impl LastHeard {
    /// It was just now.
    pub fn now() -> Self {
        Self { made: Instant::now(), at: AtomicU64::new(0) }
    }

    /// Something is heard.
    pub fn is_now(&self) {
        let at = u64::try_from(self.made.elapsed().as_millis()).unwrap_or(u64::MAX);
        // Rounded up: what was heard behind something is not before it.
        self.at.store(at.saturating_add(1), Ordering::Relaxed);
    }

    /// Whether anything was since it was made.
    pub fn is_anything(&self) -> bool {
        self.at.load(Ordering::Relaxed) > 0
    }

    /// How long it is since.
    pub fn elapsed(&self) -> Duration {
        let at = Duration::from_millis(self.at.load(Ordering::Relaxed));
        self.made.elapsed().saturating_sub(at)
    }

    /// Waits until nothing has been heard for so long.
    pub async fn silence(&self, limit: Duration) {
        loop {
            let left = limit.saturating_sub(self.elapsed());
            if left.is_zero() {
                return;
            }
            sleep(left).await;
        }
    }
}
