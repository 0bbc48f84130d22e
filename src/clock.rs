//! The time of day, from the system or from a test. The only module that reads the clock.
//!
//! Everything that decides takes `now` as an argument; whoever calls it asks a [`Clock`]. Besides, how one timer does
//! for many moments.

use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Sleep;

/// Where `now` comes from. Cloning is cheap, and clones of a manual clock advance together.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    /// The system's time of day.
    #[default]
    System,
    /// The system's time plus what a test has added, in milliseconds.
    Manual(Arc<AtomicU64>),
    /// That of what is being replayed: milliseconds since 1970. It stands still until it is set.
    Replayed(Arc<AtomicU64>),
}

impl Clock {
    /// A clock that runs as the system's does and can be advanced.
    pub fn manual() -> Self {
        Self::Manual(Arc::default())
    }

    /// A clock that stands at the beginning of 1970.
    pub fn replayed() -> Self {
        Self::Replayed(Arc::default())
    }

    /// The time of day.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads it")]
    pub fn now(&self) -> SystemTime {
        match self {
            Self::System => SystemTime::now(),
            Self::Manual(added) => {
                SystemTime::now() + Duration::from_millis(added.load(Ordering::Relaxed))
            }
            Self::Replayed(millis) => {
                UNIX_EPOCH + Duration::from_millis(millis.load(Ordering::Relaxed))
            }
        }
    }

    /// The time of day by the system, also for a clock that a test has advanced.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads it")]
    pub fn real() -> SystemTime {
        SystemTime::now()
    }

    /// Sets a replayed clock, in milliseconds since 1970. The others stay as they are.
    pub fn set(&self, millis: u64) {
        if let Self::Replayed(current) = self {
            current.store(millis, Ordering::Relaxed);
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

/// Waits until a moment by a timer that has been waited for before. To register one for each moment that hardly
/// ever comes, and to take it back, costs more than to let it go off at an earlier one and to set it anew then.
pub fn poll_until(
    timer: &mut Pin<Box<Sleep>>,
    at: tokio::time::Instant,
    cx: &mut Context<'_>,
) -> Poll<()> {
    if timer.deadline() > at {
        timer.as_mut().reset(at);
    }
    ready!(timer.as_mut().poll(cx));
    if timer.deadline() < at {
        timer.as_mut().reset(at);
        return timer.as_mut().poll(cx);
    }
    Poll::Ready(())
}

/// A time as RFC 3339 writes it, in UTC and to the millisecond: `2026-11-26T04:34:24.120Z`.
pub fn text(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    // Counted from 1 March of the year 0, so that a leap day is the last of its year.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, is_next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year + is_next;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let millis = since.subsec_millis();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// A moment to measure a span from, for statistics and deadlines.
#[expect(clippy::disallowed_methods, reason = "the one place that reads it")]
pub fn instant() -> std::time::Instant {
    std::time::Instant::now()
}

/// The time since a moment that is the same for all processes of the machine (`CLOCK_MONOTONIC`).
pub fn monotonic() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::try_from(now).unwrap_or_default()
}

/// It counts from when the machine began, also while that sleeps.
#[cfg(target_os = "linux")]
const MACHINE: rustix::time::ClockId = rustix::time::ClockId::Boottime;
#[cfg(not(target_os = "linux"))]
const MACHINE: rustix::time::ClockId = rustix::time::ClockId::Monotonic;

/// The time of day when the machine began. Two clocks are read for it, one after the other, so it is not
/// quite the same each time.
pub fn machine_began() -> SystemTime {
    let since = rustix::time::clock_gettime(MACHINE);
    let since = Duration::try_from(since).unwrap_or_default();
    Clock::real().checked_sub(since).unwrap_or(UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_began_when_the_system_says_so() {
        let system = std::fs::read_to_string("/proc/stat").unwrap();
        let began = system.lines().find_map(|line| line.strip_prefix("btime ")).unwrap();
        let began = UNIX_EPOCH + Duration::from_secs(began.trim().parse().unwrap());
        let told = machine_began();
        let apart = told.duration_since(began).unwrap_or_else(|error| error.duration());
        assert!(apart < Duration::from_secs(2), "{told:?}, not {began:?}");
    }

    #[test]
    fn a_replayed_clock_stands_where_it_was_set() {
        let clock = Clock::replayed();
        assert_eq!(clock.now(), UNIX_EPOCH);
        clock.clone().set(951_782_400_000);
        clock.advance(Duration::from_secs(1));
        assert_eq!(text(clock.now()), "2000-02-29T00:00:00.000Z");
    }

    #[test]
    fn times_read_as_rfc_3339_has_them() {
        for (millis, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (1_735_689_599_999, "2024-12-31T23:59:59.999Z"),
            (1_795_667_664_120, "2026-11-26T04:34:24.120Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(text(UNIX_EPOCH + Duration::from_millis(millis)), expected);
        }
    }
}
