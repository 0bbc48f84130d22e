//! How long things took: counted in steps of about a tenth, so that any percentile can be read of it.
//!
//! The steps are the same for all and lie on the decades' round numbers, so that counts add up, and the
//! few bounds that Prometheus is told are sums of whole steps.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The shortest step ends here, in nanoseconds.
const FIRST: u64 = 1_000;

/// From a microsecond to a hundred seconds.
const DECADES: usize = 8;

/// By how much of a decade's beginning its steps are apart, in hundredths: a tenth of what is counted,
/// or less, up to an eighth.
const WITHIN: [(u64, u64); 3] = [(200, 10), (500, 25), (1000, 50)];

/// How many steps a decade has.
const STEPS: usize = 32;

/// The step for what lasts longer than a hundred seconds is the last.
const COUNTS: usize = DECADES * STEPS + 2;

/// What the steps end with, in nanoseconds; the last has no end.
const ENDS: [u64; COUNTS - 1] = ends();

#[expect(clippy::indexing_slicing, reason = "it is worked out by the compiler")]
const fn ends() -> [u64; COUNTS - 1] {
    let mut ends = [FIRST; COUNTS - 1];
    let (mut place, mut decade) = (1, FIRST);
    while place < ends.len() {
        let (mut hundredths, mut part) = (100, 0);
        while part < WITHIN.len() {
            while hundredths < WITHIN[part].0 {
                hundredths += WITHIN[part].1;
                ends[place] = decade / 100 * hundredths;
                place += 1;
            }
            part += 1;
        }
        decade *= 10;
    }
    ends
}

/// Counts of times. Counting one is two relaxed additions.
#[derive(Debug)]
pub struct Times {
    counts: [AtomicU64; COUNTS],
    nanoseconds: AtomicU64,
}

impl Default for Times {
    fn default() -> Self {
        Self { counts: [const { AtomicU64::new(0) }; COUNTS], nanoseconds: AtomicU64::new(0) }
    }
}

impl Times {
    /// Something took so long.
    pub fn count(&self, time: Duration) {
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let place = ENDS.partition_point(|end| *end < nanoseconds);
        if let Some(count) = self.counts.get(place) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    /// What has been counted.
    pub fn spread(&self) -> Spread {
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed));
        let sum = Duration::from_nanos(self.nanoseconds.load(Ordering::Relaxed));
        Spread { counts: counts.collect(), sum }
    }
}

/// How times were spread at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spread {
    /// By step; none is nothing.
    counts: Vec<u64>,
    sum: Duration,
}

impl Spread {
    /// How many there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// All of them together.
    pub fn sum(&self) -> Duration {
        self.sum
    }

    /// Adds those of another.
    pub fn add(&mut self, other: &Self) {
        self.counts.resize(self.counts.len().max(other.counts.len()), 0);
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.sum = self.sum.saturating_add(other.sum);
    }

    /// What came since `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let before_of = |place| before.counts.get(place).copied().unwrap_or_default();
        let counts = self.counts.iter().enumerate();
        Self {
            counts: counts.map(|(at, count)| count.saturating_sub(before_of(at))).collect(),
            sum: self.sum.saturating_sub(before.sum),
        }
    }

    /// How many lasted no longer than this. The steps have to end there, too.
    pub fn within(&self, bound: Duration) -> u64 {
        let nanoseconds = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX);
        let whole = ENDS.partition_point(|end| *end <= nanoseconds);
        self.counts.iter().take(whole).sum()
    }

    /// What this share of them, from 0 to 1, lasted no longer than. It is off by an eighth at most; none
    /// where there were none. What lasted longer than a hundred seconds counts as that.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let all = self.count();
        #[expect(clippy::cast_precision_loss, reason = "a rank needs no more than 52 bits")]
        let mut rank = all as f64 * share.clamp(0.0, 1.0);
        let mut begin = 0;
        for (place, count) in self.counts.iter().enumerate() {
            let end = ENDS.get(place).copied().unwrap_or(begin);
            #[expect(clippy::cast_precision_loss, reason = "as above")]
            let count = *count as f64;
            if count > 0.0 && rank <= count {
                // As if they were spread evenly over the step.
                let step = Duration::from_nanos(end - begin).mul_f64(rank / count);
                return Some(Duration::from_nanos(begin) + step);
            }
            rank -= count;
            begin = end;
        }
        (all > 0).then(|| Duration::from_nanos(begin))
    }

    /// All of them together by their number.
    pub fn mean(&self) -> Option<Duration> {
        let count = self.count();
        #[expect(clippy::cast_precision_loss, reason = "a mean needs no more than 52 bits")]
        let divisor = count as f64;
        (count > 0).then(|| Duration::from_secs_f64(self.sum.as_secs_f64() / divisor))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn steps_grow_by_an_eighth_at_most_and_end_on_round_numbers() {
        assert_eq!(ENDS[0], 1_000);
        assert_eq!(ENDS[ENDS.len() - 1], 100_000_000_000);
        for pair in ENDS.windows(2) {
            let share = Duration::from_nanos(pair[1] - pair[0])
                .div_duration_f64(Duration::from_nanos(pair[0]));
            assert!((0.04..=0.126).contains(&share), "{pair:?}");
        }
        for decade in 0..8 {
            for round in [10, 25, 50, 75] {
                let end = 10_u64.pow(decade) * 100 * round;
                assert!(ENDS.contains(&end), "{end} ns");
            }
        }
    }

    #[test]
    fn what_ends_with_a_step_is_within_it() {
        let times = Times::default();
        for micros in [0, 1, 250, 251, 1_000_000_000] {
            times.count(Duration::from_micros(micros));
        }
        let spread = times.spread();
        assert_eq!(spread.count(), 5);
        assert_eq!(spread.within(Duration::from_micros(1)), 2);
        assert_eq!(spread.within(Duration::from_micros(250)), 3);
        assert_eq!(spread.within(Duration::from_millis(1)), 4);
        assert_eq!(spread.within(Duration::from_secs(100)), 4);
        assert_eq!(spread.sum(), Duration::from_micros(1_000_000_502));
    }

    #[test]
    fn percentiles_are_off_by_a_step_at_most() {
        let times = Times::default();
        (1..=1000).for_each(|millis| times.count(Duration::from_millis(millis)));
        let spread = times.spread();
        for (share, millis) in [(0.0, 1.0), (0.5, 500.0), (0.9, 900.0), (0.99, 990.0), (1.0, 1e3)] {
            let read = spread.quantile(share).unwrap().as_secs_f64() * 1000.0;
            assert!((read / millis - 1.0).abs() < 0.126, "{share}: {read} for {millis}");
        }
        assert_eq!(Spread::default().quantile(0.5), None);
        assert_eq!(Spread::default().mean(), None);
        let long = Times::default();
        long.count(Duration::from_secs(1000));
        assert_eq!(long.spread().quantile(0.5), Some(Duration::from_secs(100)));
    }

    proptest! {
        #[test]
        fn nothing_is_lost(mut all in proptest::collection::vec(0..200_000_000_000_u64, 1..50)) {
            let (one, other) = (Times::default(), Times::default());
            for (place, nanoseconds) in all.iter().enumerate() {
                let times = if place % 2 == 0 { &one } else { &other };
                times.count(Duration::from_nanos(*nanoseconds));
            }
            let mut spread = one.spread();
            spread.add(&other.spread());
            prop_assert_eq!(spread.count(), all.len() as u64);
            prop_assert_eq!(spread.sum(), all.iter().map(|it| Duration::from_nanos(*it)).sum::<Duration>());
            all.sort_unstable();
            let median = spread.quantile(0.5).unwrap();
            let (low, high) = (all[(all.len() - 1) / 2], all[all.len() / 2]);
            let [low, high] = [low, high].map(|it| Duration::from_nanos(it.min(100_000_000_000)));
            prop_assert!(median >= low.mul_f64(0.87).saturating_sub(Duration::from_micros(1)));
            prop_assert!(median <= high.mul_f64(1.13) + Duration::from_micros(1));
        }
    }
}
