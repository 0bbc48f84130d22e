//! When the next request may go, so that there are so many a second.

use std::time::{Duration, Instant};

/// Timers are late by a millisecond or two. So much of it is made up for, so that the rate is kept, and
/// no more, so that no burst follows a pause.
const SLACK: Duration = Duration::from_millis(10);

/// A steady pace.
pub(super) struct Pace {
    period: Duration,
    next: Instant,
}

impl Pace {
    /// So many steps a second, the first one at once.
    pub(super) fn new(rate: u32, now: Instant) -> Self {
        Self { period: Duration::from_secs(1) / rate.max(1), next: now }
    }

    /// When the next step may be made.
    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// One is made.
    pub(super) fn step(&mut self, now: Instant) {
        let earliest = now.checked_sub(SLACK).unwrap_or(now);
        self.next = self.next.max(earliest) + self.period;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_timers_are_made_up_for_and_pauses_are_not() {
        let begin = crate::clock::instant();
        let at = |millis| begin + Duration::from_millis(millis);
        let mut pace = Pace::new(100, begin);
        for (now, next, why) in [
            (0, 10, "the first at once, the second a period later"),
            (13, 20, "3 ms late"),
            (20, 30, "as if it had not been"),
            (1000, 1000, "a pause: 10 ms of it count"),
            (1000, 1010, "and then it goes on as before"),
        ] {
            assert!(pace.next() <= at(now), "{why}");
            pace.step(at(now));
            assert_eq!(pace.next(), at(next), "{why}");
        }
    }
}
