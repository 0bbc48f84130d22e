//! Invalidations that are applied here and wait to be appended to the shared log.
//!
//! They are in this process's memory only: those that still wait when it ends are lost to the fleet.

use std::collections::VecDeque;
use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::store::log::Invalidation;
use crate::stored::Position;

/// So many invalidations wait for Redis. If there are more, one of everything takes their place.
const MAX_WAITING: usize = 10_000;

/// In the order in which they are to be appended.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    queues: Mutex<Queues>,
    woken: Notify,
}

#[derive(Debug, Default)]
struct Queues {
    /// Being appended, or given up while they were: perhaps they are in the log already.
    sent: Batch,
    queue: VecDeque<Invalidation>,
    /// There are purges in the queue.
    has_purges: bool,
    /// Where the last batch ended that was appended and had some.
    purged: Option<Position>,
}

/// Some that are appended together.
#[derive(Clone, Debug, Default)]
pub(super) struct Batch {
    pub(super) records: Vec<Invalidation>,
    /// Some of them may be an operator's purge, for which there are receipts.
    pub(super) purge: bool,
}

impl Waiting {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        let queues = self.queues();
        queues.sent.records.len() + queues.queue.len()
    }

    /// Adds some, a purge's or not, and applies them by `apply` before anyone can find that there are
    /// none.
    pub(super) fn add<T>(
        &self,
        records: &[Invalidation],
        is_purge: bool,
        apply: impl FnOnce() -> T,
    ) -> T {
        let mut queues = self.queues();
        queues.has_purges |= is_purge;
        if queues.queue.len() + records.len() > MAX_WAITING {
            queues.queue.clear();
            queues.queue.push_back(Invalidation::EVERYTHING);
        } else {
            queues.queue.extend(records.iter().cloned());
        }
        let applied = apply();
        drop(queues);
        self.wake();
        applied
    }

    /// There are some, or they can be appended now; or a purge waits for its receipts.
    pub(super) fn wake(&self) {
        self.woken.notify_one();
    }

    /// Waits for [`Waiting::wake`], if it was not called since the last time. For one task.
    pub(super) async fn woken(&self) {
        self.woken.notified().await;
    }

    /// The next ones, at most so many; the same ones again until [`Waiting::appended`] is called.
    pub(super) fn next(&self, most: usize) -> Batch {
        let Queues { sent, queue, has_purges, .. } = &mut *self.queues();
        if sent.records.is_empty() {
            sent.records.extend(queue.drain(..queue.len().min(most)));
            sent.purge = *has_purges;
            *has_purges &= !queue.is_empty();
        }
        sent.clone()
    }

    /// The ones that came from [`Waiting::next`] need not wait any longer: the last of them is at this
    /// place in the log. `none_left` is called if they were the last.
    pub(super) fn appended(&self, last: Position, none_left: impl FnOnce()) {
        let mut queues = self.queues();
        if mem::take(&mut queues.sent).purge {
            queues.purged = Some(last);
        }
        if queues.queue.is_empty() {
            none_left();
        }
    }

    /// The place of a purge's record in the log, with all purges that were ever added there or below.
    /// `None` while anything waits.
    pub(super) fn purged(&self) -> Option<Position> {
        let queues = self.queues();
        let is_over = queues.sent.records.is_empty() && queues.queue.is_empty();
        queues.purged.filter(|_| is_over)
    }

    fn queues(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::log::Scope;

    fn pattern(number: usize) -> Invalidation {
        Invalidation { scope: Scope::Pattern(number.to_string()), soft: false }
    }

    fn at(millis: u64) -> Position {
        Position { millis, sequence: 0 }
    }

    #[test]
    fn what_was_not_appended_comes_again() {
        let waiting = Waiting::default();
        waiting.add(&[0, 1, 2].map(pattern), false, || ());
        assert_eq!(waiting.next(2).records, [0, 1].map(pattern));
        waiting.add(&[pattern(3)], false, || ());
        assert_eq!(waiting.next(9).records, [0, 1].map(pattern));
        assert_eq!(waiting.len(), 4);
        waiting.appended(at(1), || panic!("there are two"));
        assert_eq!(waiting.next(9).records, [2, 3].map(pattern));
        let mut is_empty = false;
        waiting.appended(at(3), || is_empty = true);
        assert!(is_empty);
        assert_eq!((waiting.next(9).records.len(), waiting.len()), (0, 0));
        assert_eq!(waiting.purged(), None, "there was none");
    }

    #[test]
    fn purges_have_their_place_once_nothing_waits() {
        let waiting = Waiting::default();
        let appended = |most, last| {
            let purge = waiting.next(most).purge;
            waiting.appended(at(last), || ());
            purge
        };
        waiting.add(&[pattern(0)], false, || ());
        assert!(!appended(9, 0));
        waiting.add(&[pattern(1)], false, || ());
        waiting.next(9);
        // While the first one is being appended.
        waiting.add(&[2, 3].map(pattern), true, || ());
        assert!(!appended(9, 1), "it was sent before");
        assert_eq!(waiting.purged(), None);
        assert!(appended(1, 2), "that is the purge's");
        assert_eq!(waiting.purged(), None, "not all of it");
        assert!(appended(9, 3), "and so is that");
        assert_eq!(waiting.purged(), Some(at(3)));
        waiting.add(&[pattern(4)], false, || ());
        assert_eq!(waiting.purged(), None);
        assert!(!appended(9, 4));
        assert_eq!(waiting.purged(), Some(at(3)), "the other is no purge");
    }

    #[test]
    fn one_of_everything_stands_for_too_many() {
        let waiting = Waiting::default();
        let many: Vec<_> = (0..MAX_WAITING).map(pattern).collect();
        waiting.add(&many, true, || ());
        assert_eq!(waiting.len(), MAX_WAITING);
        waiting.add(&[pattern(0)], false, || ());
        let next = waiting.next(9);
        assert_eq!((next.records.as_slice(), next.purge), (&[Invalidation::EVERYTHING][..], true));
    }
}
