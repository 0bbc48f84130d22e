//! How long responses took of late: percentiles of each of the last seconds and minutes, and of the last
//! minute up to now.

use std::collections::VecDeque;

use serde::Serialize;

use super::history::{MINUTES, SECONDS, push};
use crate::stats::{Latency, Spread};

/// The last minute has so many seconds.
const MINUTE: usize = 60;

/// What is kept of a second, or a minute: in microseconds, half of the responses, nine in ten and 99 in a
/// hundred took no longer. None where there were none.
type Packed = [Option<u32>; 3];

/// All that is kept.
#[derive(Debug, Default)]
pub(super) struct Delays {
    seconds: VecDeque<Packed>,
    minutes: VecDeque<Packed>,
    /// Of each second of the last minute.
    last: VecDeque<Spread>,
    passed: usize,
}

/// Newest last, in microseconds.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Columns {
    p50: Vec<Option<u32>>,
    p90: Vec<Option<u32>>,
    p99: Vec<Option<u32>>,
}

/// For a page.
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    seconds: Columns,
    minutes: Columns,
}

impl Delays {
    /// A second is over, in which responses took so long.
    pub(super) fn second(&mut self, spread: Spread) {
        push(&mut self.seconds, packed(&spread), SECONDS);
        push(&mut self.last, spread, MINUTE);
        self.passed += 1;
        if self.passed >= MINUTE {
            self.passed = 0;
            let minute = packed(&self.sum());
            push(&mut self.minutes, minute, MINUTES);
        }
    }

    /// Of the last minute.
    pub(super) fn minute(&self) -> Latency {
        Latency::of(&self.sum())
    }

    fn sum(&self) -> Spread {
        let mut sum = Spread::default();
        self.last.iter().for_each(|spread| sum.add(spread));
        sum
    }

    pub(super) fn shown(&self) -> Shown {
        Shown { seconds: columns(&self.seconds), minutes: columns(&self.minutes) }
    }
}

fn packed(spread: &Spread) -> Packed {
    [0.5, 0.9, 0.99].map(|share| {
        let time = spread.quantile(share)?;
        Some(u32::try_from(time.as_micros()).unwrap_or(u32::MAX))
    })
}

fn columns(all: &VecDeque<Packed>) -> Columns {
    let mut columns = Columns::default();
    for [p50, p90, p99] in all {
        columns.p50.push(*p50);
        columns.p90.push(*p90);
        columns.p99.push(*p99);
    }
    columns
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::stats::Times;

    fn spread(millis: u64, count: usize) -> Spread {
        let times = Times::default();
        (0..count).for_each(|_| times.count(Duration::from_millis(millis)));
        times.spread()
    }

    #[test]
    fn a_minute_has_all_of_its_seconds() {
        let mut delays = Delays::default();
        for second in 0..MINUTE {
            // Most of them are slow, and all in a second that others outnumber.
            delays.second(if second == 0 { spread(100, 60) } else { spread(1, 1) });
        }
        let shown = delays.shown();
        assert_eq!((shown.seconds.p50.len(), shown.minutes.p50.len()), (MINUTE, 1));
        let is_about = |micros: Option<u32>, expected: u32| {
            micros.is_some_and(|it| (expected / 8 * 7..=expected).contains(&it))
        };
        assert!(is_about(shown.seconds.p99[1], 1000), "{shown:?}");
        assert!(is_about(shown.minutes.p99[0], 100_000), "{shown:?}");
        assert!(delays.minute().p99_seconds.is_some_and(|it| it > 0.087));
        for _ in 0..MINUTE {
            delays.second(Spread::default());
        }
        assert_eq!(delays.minute().p50_seconds, None, "what is longer ago counts no more");
        assert_eq!(delays.shown().minutes.p50[1], None);
    }
}
