//! Invalidations that are applied here and wait to be appended to the shared log.
//!
//! They are in this process's memory only: those that still wait when it ends are lost to the fleet.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::store::log::Invalidation;

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
    sent: Vec<Invalidation>,
    queue: VecDeque<Invalidation>,
}

impl Waiting {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        let queues = self.queues();
        queues.sent.len() + queues.queue.len()
    }

    /// Adds some, and applies them by `apply` before anyone can find that there are none.
    pub(super) fn add<T>(&self, records: &[Invalidation], apply: impl FnOnce() -> T) -> T {
        let mut queues = self.queues();
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

    /// There are some, or they can be appended now.
    pub(super) fn wake(&self) {
        self.woken.notify_one();
    }

    /// Waits for [`Waiting::wake`], if it was not called since the last time. For one task.
    pub(super) async fn woken(&self) {
        self.woken.notified().await;
    }

    /// The next ones, at most so many; the same ones again until [`Waiting::appended`] is called.
    pub(super) fn next(&self, most: usize) -> Vec<Invalidation> {
        let Queues { sent, queue } = &mut *self.queues();
        if sent.is_empty() {
            sent.extend(queue.drain(..queue.len().min(most)));
        }
        sent.clone()
    }

    /// The ones that came from [`Waiting::next`] need not wait any longer. `none_left` is called if they
    /// were the last.
    pub(super) fn appended(&self, none_left: impl FnOnce()) {
        let mut queues = self.queues();
        queues.sent.clear();
        if queues.queue.is_empty() {
            none_left();
        }
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

    #[test]
    fn what_was_not_appended_comes_again() {
        let waiting = Waiting::default();
        waiting.add(&[0, 1, 2].map(pattern), || ());
        assert_eq!(waiting.next(2), [0, 1].map(pattern));
        waiting.add(&[pattern(3)], || ());
        assert_eq!(waiting.next(9), [0, 1].map(pattern));
        assert_eq!(waiting.len(), 4);
        waiting.appended(|| panic!("there are two"));
        assert_eq!(waiting.next(9), [2, 3].map(pattern));
        let mut is_empty = false;
        waiting.appended(|| is_empty = true);
        assert!(is_empty);
        assert_eq!((waiting.next(9).len(), waiting.len()), (0, 0));
    }

    #[test]
    fn one_of_everything_stands_for_too_many() {
        let waiting = Waiting::default();
        let many: Vec<_> = (0..MAX_WAITING).map(pattern).collect();
        waiting.add(&many, || ());
        assert_eq!(waiting.len(), MAX_WAITING);
        waiting.add(&[pattern(0)], || ());
        assert_eq!(waiting.next(9), [Invalidation::EVERYTHING]);
    }
}
