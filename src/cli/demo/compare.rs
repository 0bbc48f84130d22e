//! The demo's comparison: many reads of few books by several clients at once, timed.
//!
//! The same draw goes through Larder and straight to the API, so that the two differ in nothing but
//! the gateway. What is printed of it is `tour`'s.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;

use super::client::{Ask, Client, Peer};
use super::tour::TourError;
use crate::clock;

/// How many books are read, and how many of them are the popular ones.
pub(super) const BOOKS: u64 = 40;
const POPULAR: u64 = 8;

/// How much to measure.
#[derive(Clone, Copy, Debug)]
pub(super) struct Effort {
    /// Reads through Larder.
    pub(super) reads: u64,
    /// Reads at the API.
    pub(super) sample: u64,
    /// Connections, each with one request at a time.
    pub(super) connections: usize,
    /// No request is begun later than this, so that a slow machine only measures fewer.
    pub(super) limit: Duration,
}

impl Effort {
    /// What the demo does: a second or two where Larder answers most reads.
    pub(super) const FULL: Self =
        Self { reads: 30_000, sample: 40, connections: 8, limit: Duration::from_secs(4) };
}

/// What a series of reads took, as the clients saw it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// Answers with a 2xx status. The times below are theirs.
    pub reads: u64,
    /// Answers with any other status.
    pub other: u64,
    /// Those of `reads` whose `Cache-Status` says `hit`.
    pub hits: u64,
    /// From the first request to the last answer.
    pub elapsed: Duration,
    /// The mean time of one read.
    pub average: Duration,
    /// Half of the reads were faster than this.
    pub median: Duration,
    /// The slowest read.
    pub slowest: Duration,
}

impl Run {
    fn of(mut times: Vec<Duration>, hits: u64, other: u64, elapsed: Duration) -> Self {
        times.sort_unstable();
        let reads = u32::try_from(times.len()).unwrap_or(u32::MAX);
        Self {
            reads: reads.into(),
            other,
            hits,
            elapsed,
            average: times.iter().sum::<Duration>().checked_div(reads).unwrap_or_default(),
            median: times.get(times.len() / 2).copied().unwrap_or_default(),
            slowest: times.last().copied().unwrap_or_default(),
        }
    }
}

/// Reads `reads` books from `peer`. Ends at the first request without an answer. Dropping the
/// future ends the clients.
pub(super) async fn read(
    client: &Client,
    peer: Peer,
    reads: u64,
    effort: Effort,
) -> Result<Run, TourError> {
    let next = Arc::new(AtomicU64::new(0));
    let start = clock::instant();
    let mut clients = JoinSet::new();
    for _ in 0..effort.connections {
        let (client, next) = (client.clone(), Arc::clone(&next));
        clients.spawn(async move {
            let mut seen = Seen::default();
            while start.elapsed() < effort.limit {
                let nth = next.fetch_add(1, Ordering::Relaxed);
                if nth >= reads {
                    break;
                }
                let answer = client.send(peer, &Ask::get(format!("/books/{}", draw(nth)))).await?;
                if answer.status.is_success() {
                    seen.times.push(answer.took);
                    seen.hits += u64::from(answer.is_hit());
                } else {
                    seen.other += 1;
                }
            }
            Ok::<_, TourError>(seen)
        });
    }
    let mut all = Seen::default();
    while let Some(seen) = clients.join_next().await {
        let seen =
            seen.expect("a client neither panics nor is cancelled while it is waited for")?;
        all.times.extend(seen.times);
        all.hits += seen.hits;
        all.other += seen.other;
    }
    Ok(Run::of(all.times, all.hits, all.other, start.elapsed()))
}

#[derive(Default)]
struct Seen {
    times: Vec<Duration>,
    hits: u64,
    other: u64,
}

/// The id of the `nth` book that is read. Four reads in five go to one book in five (Pareto), in an
/// order that looks random and is always the same.
fn draw(nth: u64) -> u64 {
    let drawn = scatter(nth);
    let kind = drawn >> 32;
    1 + if drawn % 5 < 4 { kind % POPULAR } else { POPULAR + kind % (BOOKS - POPULAR) }
}

/// `SplitMix64`'s mixing of its `nth` state (Steele, Lea and Flood, 2014).
fn scatter(nth: u64) -> u64 {
    let mixed = nth.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_reads_in_five_go_to_one_book_in_five() {
        let drawn: Vec<_> = (0..5000).map(draw).collect();
        let popular = drawn.iter().filter(|book| **book <= POPULAR).count();
        assert!((3850..=4150).contains(&popular), "{popular}");
        assert!((1..=BOOKS).all(|book| drawn.contains(&book)), "every book is read");
        assert!(drawn.iter().all(|book| (1..=BOOKS).contains(book)));
    }

    #[test]
    fn a_run_is_summed_up() {
        let millis = Duration::from_millis;
        let run = Run::of(vec![millis(9), millis(1), millis(2)], 2, 1, millis(20));
        assert_eq!((run.reads, run.hits, run.other), (3, 2, 1));
        assert_eq!((run.average, run.median, run.slowest), (millis(4), millis(2), millis(9)));
        assert_eq!(Run::of(vec![], 0, 0, Duration::ZERO), Run::default());
    }
}
