//! Two processes that answer the same clients for a while: what one of them invalidates, the other
//! does, too, before whoever wrote or purged is told. Where that takes long, whoever purged is told so.
//!
//! That is so while one takes the place of the other. Without Redis they share no log; with it they hear of
//! some records twice, which does no harm.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::timeout;
use tracing::warn;

use crate::store::Store;
use crate::store::log::Invalidation;
use crate::store::purges::Later;
use crate::store::record;
use crate::store::record::Cause;
use crate::store::shared_log::Receipt;

/// The other process has so many calls to invalidate still to apply. Beyond it there is no tie any more.
const MOST_WAITING: usize = 10_000;

/// So long the other process is waited for. What it was sent it will apply, if later.
const PATIENCE: Duration = Duration::from_secs(1);

/// So many records are appended at once. A disk takes more than ten times as many for too much.
const AT_ONCE: usize = 1000;

/// Of more records than this, which is what a log keeps, one that covers everything takes the place.
const MOST_RECORDS: usize = 250_000;

/// What was invalidated, for the other process.
pub struct Told {
    /// Packed, as [`Heard::add`] wants it.
    pub records: Vec<u8>,
    waits: oneshot::Sender<()>,
    /// Among those that the other has still to apply.
    _place: OwnedSemaphorePermit,
}

impl Told {
    /// The other process has applied it. Dropping it is as good.
    pub fn applied(self) {
        // Who waited may have given up.
        let _waits = self.waits.send(());
    }
}

/// What the other process has invalidated, to be applied at once.
#[derive(Default)]
pub struct Heard(Vec<Invalidation>);

impl Heard {
    /// Adds what it has [told](Told::records).
    pub fn add(&mut self, records: &[u8]) {
        let records: Option<Vec<Vec<u8>>> = postcard::from_bytes(records).ok();
        let unpacked: Option<Vec<_>> =
            records.and_then(|all| all.iter().map(|it| record::unpack(it)).collect());
        // What cannot be read, because the other is of another version, could cover anything.
        self.0.extend(unpacked.unwrap_or_else(|| vec![Invalidation::EVERYTHING]));
        if self.0.len() > MOST_RECORDS {
            self.0 = vec![Invalidation::EVERYTHING];
        }
    }
}

/// The end that sends.
pub(super) struct Tie {
    told: mpsc::Sender<Told>,
    /// For what the other has still to apply, wherever it is on its way.
    places: Arc<Semaphore>,
    /// It has not applied the last in time, and the log of the program says so.
    is_late: AtomicBool,
}

impl Store {
    /// Has the other process told of what is invalidated here from now on, by what comes out of this;
    /// until [`Store::untie`]. Dropping it ends that, too.
    pub fn tie(&self) -> mpsc::Receiver<Told> {
        let (told, telling) = mpsc::channel(MOST_WAITING);
        let places = Arc::new(Semaphore::new(MOST_WAITING));
        let tie = Tie { told, places, is_late: AtomicBool::new(false) };
        self.tie.store(Some(Arc::new(tie)));
        telling
    }

    /// Nobody is told any more.
    pub fn untie(&self) {
        self.tie.store(None);
    }

    /// Applies what the other process has invalidated. It is told nothing of that.
    pub async fn invalidate_as_told(&self, heard: Heard) {
        for records in heard.0.chunks(AT_ONCE) {
            self.append_here(records.to_vec(), Cause::Unknown { purge: false }).await;
        }
    }

    pub(super) fn is_tied(&self) -> bool {
        self.tie.load().is_some()
    }

    /// Tells the other process what was invalidated here, of which this is the receipt. Until it has applied
    /// that, it is not shared; with Redis it is, as the other reads the log there.
    pub(super) async fn tell(
        &self,
        invalidations: &[Invalidation],
        (receipt, later): (Receipt, Option<Later>),
    ) -> (Receipt, Option<Later>) {
        let Some(tie) = self.tie.load_full() else { return (receipt, later) };
        let alone = Receipt { shared: receipt.shared && self.redis.is_some(), ..receipt };
        let Ok(place) = Arc::clone(&tie.places).try_acquire_owned() else {
            if self.tie.swap(None).is_some() {
                warn!("the other process applies nothing, and is told no more");
            }
            return (alone, None);
        };
        let records: Vec<_> = invalidations.iter().map(record::pack).collect();
        // Lists of octets always have a form; no octets cover everything.
        let records = postcard::to_stdvec(&records).unwrap_or_default();
        let (waits, mut is_applied) = oneshot::channel();
        if tie.told.try_send(Told { records, waits, _place: place }).is_err() {
            // It has gone.
            self.untie();
            return (receipt, later);
        }
        let in_time = timeout(PATIENCE, &mut is_applied).await.is_ok();
        let was_late = tie.is_late.swap(!in_time, Ordering::Relaxed);
        if !in_time && !was_late {
            warn!("the other process has not applied in time what was invalidated");
        }
        if in_time || self.redis.is_some() {
            return (receipt, later);
        }
        (alone, Some(self.once_applied(is_applied, receipt, later)))
    }

    /// What the receipt is once the other process has applied what it is for.
    fn once_applied(
        &self,
        is_applied: oneshot::Receiver<()>,
        receipt: Receipt,
        later: Option<Later>,
    ) -> Later {
        let (told, then) = oneshot::channel();
        let end = self.tasks.end.clone();
        let waiting = async move {
            // If it has gone without, it does not answer any more either.
            drop(is_applied.await);
            let receipt = match later {
                Some(later) => later.await.ok(),
                None => Some(receipt),
            };
            // Few want to know.
            let _asks = receipt.map(|receipt| told.send(receipt));
        };
        self.tasks.spawn(async move { end.run_until_cancelled(waiting).await });
        then
    }
}

#[cfg(test)]
mod tests {
    use tokio::runtime::Handle;
    use tokio::task::JoinSet;
    use tokio_util::sync::CancellationToken;
    use tokio_util::task::TaskTracker;

    use super::*;
    use crate::config;
    use crate::store::{Scope, Tasks};

    #[tokio::test]
    async fn another_process_that_applies_nothing_is_not_told_without_end() {
        let end = CancellationToken::new();
        let tasks = Tasks { runtime: Handle::current(), tracker: TaskTracker::new(), end };
        let store = Arc::new(Store::new(&config::Cache::default(), None, tasks));
        let mut told = store.tie();
        let mut waiting = JoinSet::new();
        for _ in 0..MOST_WAITING {
            let store = Arc::clone(&store);
            waiting.spawn(async move { store.invalidate(vec![Invalidation::EVERYTHING]).await });
        }
        // What is on its way to it counts as well.
        let mut on_its_way = Vec::new();
        while on_its_way.len() < MOST_WAITING {
            on_its_way.push(told.recv().await.unwrap());
        }
        assert!(store.is_tied());
        assert!(!store.invalidate(vec![Invalidation::EVERYTHING]).await.shared);
        assert!(!store.is_tied());
    }

    #[test]
    fn too_much_that_is_heard_is_everything() {
        let record = Invalidation { scope: Scope::Pattern("a".to_owned()), soft: true };
        let records = postcard::to_stdvec(&Vec::from([record::pack(&record)])).unwrap();
        let mut heard = Heard::default();
        for _ in 0..MOST_RECORDS {
            heard.add(&records);
        }
        assert!(heard.0.len() == MOST_RECORDS && heard.0.iter().all(|it| *it == record));
        heard.add(&records);
        assert_eq!(heard.0, [Invalidation::EVERYTHING]);
        heard.add(&records);
        assert_eq!(heard.0, [Invalidation::EVERYTHING, record]);

        // As is what cannot be read.
        let mut heard = Heard::default();
        heard.add(b"");
        assert_eq!(heard.0, [Invalidation::EVERYTHING]);
    }
}
