//! What the servers of an upstream have in common: who waits for one of them, how many they are, and who is
//! told when one is in trouble.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// What a server has in common with those beside it.
pub(super) struct Beside {
    /// Told whenever one may be able to take another request.
    freed: Notify,
    /// So many they are.
    count: AtomicUsize,
    /// Told when one is in trouble, by the places of what is configured.
    troubles: Box<[Notify]>,
}

impl Beside {
    /// Of so many that are configured.
    pub(super) fn new(count: usize) -> Self {
        Self {
            freed: Notify::new(),
            count: count.into(),
            troubles: (0..count).map(|_| Notify::new()).collect(),
        }
    }

    /// They are so many from now on.
    pub(super) fn are(&self, count: usize) {
        self.count.store(count, Ordering::Relaxed);
        self.free();
    }

    /// There is another one to be asked.
    pub(super) fn are_several(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 1
    }

    /// One has a request less, or another standing: who may be asked is to be looked for again.
    pub(super) fn free(&self) {
        self.freed.notify_one();
    }

    /// Waits until that is so. For one at a time; what is told meanwhile is kept.
    pub(super) async fn freed(&self) {
        self.freed.notified().await;
    }

    /// Waits until one of this place is in trouble. What is told meanwhile is kept.
    pub(super) async fn trouble(&self, place: usize) {
        match self.troubles.get(place) {
            Some(trouble) => trouble.notified().await,
            None => std::future::pending().await,
        }
    }

    /// One of this place is in trouble.
    pub(super) fn in_trouble(&self, place: usize) {
        if let Some(trouble) = self.troubles.get(place) {
            trouble.notify_one();
        }
    }
}
