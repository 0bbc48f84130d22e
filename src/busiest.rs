//! Which URLs are hit most: counted while requests are answered, and ranked over days.
//!
//! [`Busiest`] counts in memory. Each thread counts its first hits of a round one by one, so that little
//! traffic is counted in full, and then one in so many, so that much traffic costs nothing: beyond those,
//! a hit costs two loads and a handful of arithmetic, and no lock. What is counted is bounded by the
//! algorithm of Misra and Gries: when there is room for no other URL, each that is there loses as
//! much as the other would have begun with. So a URL that makes up more than its share of the room is
//! never lost, however many others are hit once.
//!
//! [`Ranking`] is what outlives the process: counts that fade.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// So many hits of a round a thread counts one by one, and then one in [`STRIDE`], which stands for as
/// many.
const EACH: u32 = 256;
const STRIDE: u64 = 64;

/// For each URL that is wanted so many are counted, as it is not known beforehand which they are.
const COUNTED: usize = 4;

/// For each URL that is wanted so many are ranked, so that one on its way up is not forgotten again.
const RANKED: usize = 2;

/// A longer URL is not counted.
const LONGEST: usize = 2048;

/// A ranking's URLs have so many octets at most.
const LARGEST: usize = 1 << 20;

/// A count fades to half within this time.
const HALF_LIFE: Duration = Duration::from_hours(24);

/// What has faded to less is forgotten.
const LEAST: f64 = 0.5;

thread_local! {
    /// The round that this thread counts, and its hits in it.
    static HITS: Cell<(u32, u32)> = const { Cell::new((u32::MAX, 0)) };
}

/// What is counted since it was last taken.
#[derive(Debug, Default)]
pub struct Busiest {
    /// How many URLs are wanted. 0: nothing is counted.
    most: AtomicUsize,
    round: AtomicU32,
    counts: Mutex<HashMap<Box<str>, u64>>,
}

impl Busiest {
    /// Has so many URLs counted from now on, or none.
    pub fn want(&self, most: usize) {
        self.most.store(most, Ordering::Relaxed);
        if most == 0 {
            self.counts().clear();
        }
    }

    /// How many are wanted.
    pub fn wanted(&self) -> usize {
        self.most.load(Ordering::Relaxed)
    }

    /// Whether this hit is to be counted, and for how many it stands.
    pub fn sample(&self) -> Option<u64> {
        if self.wanted() == 0 {
            return None;
        }
        let round = self.round.load(Ordering::Relaxed);
        let hits = HITS.with(|hits| {
            let (counted, count) = hits.get();
            let count = if counted == round { count.saturating_add(1) } else { 0 };
            hits.set((round, count));
            count
        });
        weight(hits)
    }

    /// Counts a URL.
    pub fn count(&self, url: &str, weight: u64) {
        if url.len() <= LONGEST {
            add(&mut self.counts(), COUNTED.saturating_mul(self.wanted()), url, weight);
        }
    }

    /// Takes what was counted; from now on it is counted anew.
    pub fn take(&self) -> HashMap<Box<str>, u64> {
        self.round.fetch_add(1, Ordering::Relaxed);
        std::mem::take(&mut self.counts())
    }

    /// Puts back what could not be ranked.
    pub fn put_back(&self, counts: HashMap<Box<str>, u64>) {
        for (url, weight) in counts {
            self.count(&url, weight);
        }
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<Box<str>, u64>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a thread's hit of this number stands for, if it is counted. Which ones are is scattered: clients
/// that ask for the same URLs in turn would else have one of them counted alone.
fn weight(hit: u32) -> Option<u64> {
    if hit < EACH {
        return Some(1);
    }
    let mixed = u64::from(hit).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    (mixed >> 40).is_multiple_of(STRIDE).then_some(STRIDE)
}

/// The step of Misra and Gries.
fn add(counts: &mut HashMap<Box<str>, u64>, most: usize, url: &str, weight: u64) {
    if let Some(count) = counts.get_mut(url) {
        *count = count.saturating_add(weight);
    } else if counts.len() < most {
        counts.insert(url.into(), weight);
    } else {
        let lost = counts.values().copied().min().unwrap_or_default().min(weight);
        counts.retain(|_, count| {
            *count -= lost;
            *count > 0
        });
        if weight > lost {
            counts.insert(url.into(), weight - lost);
        }
    }
}

/// URLs, the busiest first, each with a count that fades.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ranking {
    /// When the counts were as they are here, in seconds since 1970.
    at: u64,
    urls: Vec<(String, f64)>,
}

impl Ranking {
    /// The ranking that these octets are. Any others are an empty one.
    pub fn parse(octets: &[u8]) -> Self {
        serde_json::from_slice(octets).unwrap_or_default()
    }

    /// As octets, for [`Ranking::parse`].
    pub fn octets(&self) -> Vec<u8> {
        // Texts and finite numbers always have a form.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Lets the counts fade until `now`, and adds what was counted since. `most` are wanted of it.
    pub fn add(&mut self, counts: &HashMap<Box<str>, u64>, now: SystemTime, most: usize) {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        // A clock that went backwards counts as no time passed.
        let passed = Duration::from_secs(now.saturating_sub(self.at)).as_secs_f64();
        let left = 0.5_f64.powf(passed / HALF_LIFE.as_secs_f64());
        let mut all: HashMap<String, f64> = HashMap::new();
        for (url, count) in self.urls.drain(..) {
            *all.entry(url).or_default() += count * left;
        }
        for (url, count) in counts {
            #[expect(clippy::cast_precision_loss, reason = "a rank needs no more than 52 bits")]
            let count = *count as f64;
            *all.entry(String::from(&**url)).or_default() += count;
        }
        self.urls = all.into_iter().filter(|(_, count)| *count >= LEAST).collect();
        self.urls.sort_by(|(url, count), (other, its)| its.total_cmp(count).then(url.cmp(other)));
        self.urls.truncate(RANKED.saturating_mul(most));
        let mut octets = 0;
        let fit = self.urls.iter().take_while(|(url, _)| {
            octets += url.len();
            octets <= LARGEST
        });
        let fit = fit.count();
        self.urls.truncate(fit);
        self.at = now;
    }

    /// Leaves so many of it at most, the busiest.
    pub fn limit(&mut self, most: usize) {
        self.urls.truncate(most);
    }

    /// The URLs, the busiest first, each with its count.
    pub fn iter(&self) -> impl Iterator<Item = (&str, f64)> {
        self.urls.iter().map(|(url, count)| (url.as_str(), *count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(all: &[(&str, u64)]) -> HashMap<Box<str>, u64> {
        all.iter().map(|(url, count)| ((*url).into(), *count)).collect()
    }

    #[test]
    fn the_first_hits_of_a_round_count_and_then_a_share_of_them() {
        let busiest = Busiest::default();
        assert_eq!(busiest.sample(), None, "nothing is wanted");
        busiest.want(1);
        let sum = |hits: u32| (0..hits).filter_map(|_| busiest.sample()).sum::<u64>();
        assert_eq!(sum(EACH), u64::from(EACH));
        let later = sum(1_000_000);
        assert!((970_000..1_030_000).contains(&later), "{later} of a million");
        busiest.take();
        assert_eq!(sum(EACH), u64::from(EACH), "a new round");
    }

    #[test]
    fn hits_in_turn_are_counted_alike() {
        for period in [2, 3, 10, 34, 55, 64, 89, 100, 128] {
            let mut counted = vec![0; period as usize];
            for hit in EACH..EACH + 100_000 * period {
                counted[(hit % period) as usize] += weight(hit).unwrap_or_default();
            }
            let is_fair = |count: &u64| (75_000..125_000).contains(count);
            assert!(counted.iter().all(is_fair), "every {period}: {counted:?}");
        }
    }

    #[test]
    fn a_busy_url_is_kept_however_many_others_there_are() {
        let busiest = Busiest::default();
        busiest.want(2);
        for number in 0..10_000 {
            busiest.count(&format!("http://h/{number}"), 1);
            if number % 3 == 0 {
                busiest.count("http://h/busy", 1);
            }
            assert!(busiest.counts().len() <= COUNTED * 2);
        }
        busiest.count(&"a".repeat(LONGEST + 1), 1000);
        let taken = busiest.take();
        let top = taken.iter().max_by_key(|(_, count)| **count).unwrap();
        assert_eq!(&**top.0, "http://h/busy");
        // It loses no more than all hits by the room and one.
        assert!(*top.1 >= 3334 - 13_334 / 9 && *top.1 <= 3334, "{top:?}");
        assert!(busiest.take().is_empty());
        busiest.put_back(taken.clone());
        assert_eq!(busiest.take(), taken);
    }

    #[test]
    fn counts_fade_and_the_busiest_come_first() {
        let day = |days: u64| UNIX_EPOCH + HALF_LIFE * u32::try_from(days).unwrap();
        let mut ranking = Ranking::default();
        ranking.add(&counts(&[("a", 8), ("b", 2), ("c", 1)]), day(1), 2);
        assert_eq!(ranking.iter().collect::<Vec<_>>(), [("a", 8.0), ("b", 2.0), ("c", 1.0)]);
        assert_eq!(Ranking::parse(&ranking.octets()), ranking);
        ranking.add(&counts(&[("b", 6)]), day(2), 2);
        assert_eq!(ranking.iter().collect::<Vec<_>>(), [("b", 7.0), ("a", 4.0), ("c", 0.5)]);
        ranking.add(&counts(&[("d", 1)]), day(0), 2);
        let all = [("b", 7.0), ("a", 4.0), ("d", 1.0), ("c", 0.5)];
        assert_eq!(ranking.iter().collect::<Vec<_>>(), all, "the clock went backwards");
        ranking.add(&counts(&[("e", 1)]), day(1), 1);
        assert_eq!(ranking.iter().collect::<Vec<_>>(), [("b", 3.5), ("a", 2.0)], "twice as many");
        ranking.limit(1);
        assert_eq!(ranking.iter().count(), 1);
        ranking.add(&HashMap::new(), day(9), 1);
        assert_eq!(ranking.iter().count(), 0);

        let large = |number: u64| (format!("{number:02048}").into(), 1000 + number);
        ranking.add(&(0..1000).map(large).collect(), day(9), 1000);
        assert_eq!(ranking.iter().count(), LARGEST / 2048);
    }

    #[test]
    fn anything_else_is_an_empty_ranking() {
        for octets in ["", "{}", "[]", r#"{"at":-1,"urls":[]}"#, r#"{"at":1,"urls":[["a"]]}"#] {
            assert_eq!(Ranking::parse(octets.as_bytes()), Ranking::default());
        }
        let mut ranking = Ranking::parse(br#"{"at":9,"urls":[["a",-5],["b",1e300],["b",1]]}"#);
        ranking.add(&HashMap::new(), UNIX_EPOCH, 9);
        assert_eq!(ranking.iter().collect::<Vec<_>>(), [("b", 1e300)]);
    }
}
