//! The purges that one gateway has applied: when, and which of them still wait for Redis, or the disk.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::oneshot;

use crate::store::receipts::{NoReceipts, PurgeId};
use crate::store::shared_log::Receipt;
use crate::stored::Position;

/// So many are remembered, and so many of those that wait; then the oldest are forgotten.
const MOST: usize = 1000;

/// What is remembered of them.
#[derive(Default)]
pub(super) struct Purges {
    applied: Mutex<VecDeque<Purge>>,
    waiting: Mutex<VecDeque<Waiting>>,
}

/// A purge that was applied here.
#[derive(Clone, Copy)]
pub(super) struct Purge {
    /// The last of its records.
    pub(super) id: Position,
    pub(super) at: Instant,
    /// Its receipt is written.
    told: bool,
}

/// What becomes of a purge that the disk, or the other process of a takeover, did not take in time. Nothing,
/// if it never will.
pub(super) type Later = oneshot::Receiver<Receipt>;

/// A purge that was applied here while Redis was out of reach, or the disk or another process was slow.
struct Waiting {
    /// Where it was applied: a place that this gateway gave itself.
    place: Position,
    by: Arc<str>,
    at: Instant,
    /// The last of its records in the shared log, or in the disk's, once they are there.
    id: Option<Position>,
    later: Option<Later>,
}

impl Purges {
    /// One has been applied. Answers whether that is news: one of this gateway's own is read from the
    /// log as well.
    pub(super) fn note(&self, id: Position, at: Instant) -> bool {
        let mut applied = lock(&self.applied);
        let is_news = applied.iter().rev().all(|purge| purge.id != id);
        if is_news {
            push(&mut applied, Purge { id, at, told: false });
        }
        is_news
    }

    /// When one was applied, if it is remembered.
    pub(super) fn applied(&self, id: Position) -> Option<Instant> {
        lock(&self.applied).iter().rev().find(|purge| purge.id == id).map(|purge| purge.at)
    }

    /// Those that were applied after this moment, the oldest first, `most` of them at most.
    pub(super) fn since(&self, moment: Instant, most: usize) -> Vec<Position> {
        let applied = lock(&self.applied);
        let late = applied.iter().filter(|purge| purge.at > moment).map(|purge| purge.id);
        let mut late: Vec<_> = late.collect();
        late.drain(..late.len().saturating_sub(most));
        late
    }

    /// Those whose receipts are to be written, the oldest first.
    pub(super) fn untold(&self) -> Vec<Purge> {
        lock(&self.applied).iter().filter(|purge| !purge.told).copied().collect()
    }

    /// A receipt was written, or never will be.
    pub(super) fn told(&self, id: Position) {
        let mut applied = lock(&self.applied);
        applied.iter_mut().filter(|purge| purge.id == id).for_each(|purge| purge.told = true);
    }

    /// One has been applied at this place of the gateway's own, and its records wait for Redis, or for the
    /// disk, which tells `later`. To be called once they do.
    pub(super) fn wait(&self, place: Position, by: Arc<str>, at: Instant, later: Option<Later>) {
        push(&mut lock(&self.waiting), Waiting { place, by, at, id: None, later });
    }

    /// The places of those that wait.
    pub(super) fn waiting(&self) -> Vec<Position> {
        let waiting = lock(&self.waiting);
        waiting.iter().filter(|purge| purge.id.is_none()).map(|purge| purge.place).collect()
    }

    /// The records of these are in the shared log, at this place or below.
    pub(super) fn placed(&self, places: &[Position], id: Position) -> bool {
        let mut first = None;
        for waiting in lock(&self.waiting).iter_mut() {
            if waiting.id.is_none() && places.contains(&waiting.place) {
                waiting.id = Some(id);
                first.get_or_insert(waiting.at);
            }
        }
        first.is_some_and(|at| self.note(id, at))
    }

    /// One that waits, or did: when it was applied here, and its id in the shared log. `own` is this
    /// gateway's name.
    pub(super) fn waited(
        &self,
        place: Position,
        by: &Arc<str>,
        own: &str,
    ) -> Result<(Instant, Option<Position>), NoReceipts> {
        let mut waiting = lock(&self.waiting);
        match waiting.iter_mut().rev().find(|purge| purge.place == place && purge.by == *by) {
            Some(purge) => {
                if let Some(id) = purge.later.as_mut().and_then(kept) {
                    (purge.id, purge.later) = (Some(id), None);
                    self.note(id, purge.at);
                }
                Ok((purge.at, purge.id))
            }
            None if **by == *own => Err(NoReceipts::Unknown),
            None => Err(NoReceipts::Of(PurgeId::Waiting { place, by: Arc::clone(by) })),
        }
    }
}

/// The place of a purge that has been taken by now.
fn kept(later: &mut Later) -> Option<Position> {
    later.try_recv().ok().filter(|receipt| receipt.shared).map(|receipt| receipt.position)
}

fn push<T>(to: &mut VecDeque<T>, one: T) {
    if to.len() >= MOST {
        to.pop_front();
    }
    to.push_back(one);
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    fn at(millis: u64) -> Position {
        Position { millis, sequence: 0 }
    }

    #[test]
    fn a_purge_is_noted_once_and_told_once() {
        let purges = Purges::default();
        let now = clock::instant();
        assert!(purges.note(at(1), now));
        assert!(purges.note(at(2), now));
        assert!(!purges.note(at(1), now));
        let untold: Vec<_> = purges.untold().iter().map(|purge| purge.id).collect();
        assert_eq!(untold, [at(1), at(2)]);
        purges.told(at(1));
        assert_eq!(purges.untold().len(), 1);
        assert_eq!((purges.applied(at(1)), purges.applied(at(3))), (Some(now), None));
    }

    #[test]
    fn a_purge_that_waited_has_two_ids() {
        let purges = Purges::default();
        let (own, other, now) = (Arc::from("own"), Arc::from("other"), clock::instant());
        purges.wait(at(1), Arc::clone(&own), now, None);
        let waiting = purges.waiting();
        purges.wait(at(2), Arc::clone(&own), now, None);
        assert_eq!(purges.waited(at(1), &own, "own"), Ok((now, None)));
        assert!(purges.placed(&waiting, at(9)));
        assert_eq!(purges.waited(at(1), &own, "own"), Ok((now, Some(at(9)))));
        assert_eq!(purges.waited(at(2), &own, "own"), Ok((now, None)), "it came later");
        assert_eq!(purges.waiting(), [at(2)]);
        assert_eq!(purges.applied(at(9)), Some(now));
        assert!(!purges.placed(&waiting, at(10)), "once");
        assert_eq!(purges.waited(at(3), &own, "own"), Err(NoReceipts::Unknown));
        assert!(matches!(purges.waited(at(1), &other, "own"), Err(NoReceipts::Of(_))));
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let purges = Purges::default();
        for millis in 0..=MOST as u64 {
            purges.note(at(millis), clock::instant());
        }
        assert_eq!((purges.untold().len(), purges.applied(at(0))), (MOST, None));
    }
}
