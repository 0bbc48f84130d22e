//! The store's ways to append to the log: what a write has made wrong, and what an operator purges,
//! for which there are receipts.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use tokio::time::sleep;

use crate::clock;
use crate::store::Store;
use crate::store::journal::Noted;
use crate::store::log::Invalidation;
use crate::store::purges::Later;
use crate::store::receipts::{NoReceipts, PurgeId, Purged, Receipts};
use crate::store::record::Cause;
use crate::store::replayed::Replay;
use crate::store::shared_log::Receipt;

/// Who waits for receipts looks again so soon at first, and then after twice as long each time.
const PAUSES: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(100));

/// What became of an invalidation of which somebody wants to know in the end whether it is kept.
#[derive(Debug)]
pub struct Appended {
    receipt: Receipt,
    /// What becomes of it, where the disk was slow.
    later: Option<Later>,
}

impl Appended {
    /// Whether its records are where they are to stay: since then, or by now.
    pub fn is_kept(&mut self) -> bool {
        if let Some(receipt) = self.later.as_mut().and_then(|later| later.try_recv().ok()) {
            (self.receipt, self.later) = (receipt, None);
        }
        self.receipt.shared
    }
}

impl Store {
    /// Appends to the log, and applies before it returns. While Redis is out of reach that
    /// happens here alone, and the receipt says so. Once begun it goes on when it is dropped.
    pub async fn invalidate(&self, invalidations: Vec<Invalidation>) -> Receipt {
        self.append(invalidations, Cause::Write).await.0
    }

    /// As [`Store::invalidate`], for changes of documents. If it is known when the last of them was `made`,
    /// each gateway tells how late it applies them.
    pub async fn invalidate_changed(
        &self,
        invalidations: Vec<Invalidation>,
        made: Option<SystemTime>,
    ) -> Appended {
        let cause = made.map_or(Cause::Write, |made| {
            let since = made.duration_since(UNIX_EPOCH).unwrap_or_default();
            Cause::Change(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
        });
        let (receipt, later) = self.append(invalidations, cause).await;
        Appended { receipt, later }
    }

    /// As [`Store::invalidate`], all in one; and the gateways of the fleet say when they have applied
    /// it.
    pub async fn purge(&self, invalidations: Vec<Invalidation>) -> Purged {
        let is_hard = invalidations.iter().any(|invalidation| !invalidation.soft);
        let (receipt, later) = self.append(invalidations, Cause::Purge).await;
        let Receipt { position, shared } = receipt;
        if is_hard {
            self.log.tell_of_purge();
        }
        if !shared {
            let id = self.fleet.wait(position, later);
            if let Some(redis) = &self.redis {
                // Perhaps its records are in the log already, and nothing else waits.
                redis.log.waiting.wake();
            }
            return Purged { id, shared };
        }
        self.fleet.note(position);
        Purged { id: PurgeId::Placed(position), shared }
    }

    /// What changes whenever a purge that is not soft has been applied here, whoever asked for it.
    /// Nothing is said of those from before this gateway first read the log to its end.
    pub fn purges(&self) -> watch::Receiver<()> {
        self.log.purges()
    }

    /// The invalidations that were applied here after the one of this number, `most` of them at most: the
    /// newest.
    pub fn noted_since(&self, number: u64, most: usize) -> Vec<Noted> {
        self.log.journal.since(number, most)
    }

    /// The purges that were applied here within this time, the oldest first, `most` of them at most:
    /// those that have a place in the log.
    pub fn late_purges(&self, within: Duration, most: usize) -> Vec<PurgeId> {
        let since = clock::instant().checked_sub(within);
        let late = since.map(|since| self.fleet.purges.since(since, most)).unwrap_or_default();
        late.into_iter().map(PurgeId::Placed).collect()
    }

    /// Which gateways have applied a purge, as soon as all have that are alive, or when `limit` is
    /// over. `now` is this machine's time of day.
    pub async fn receipts(
        &self,
        id: &PurgeId,
        limit: Duration,
        now: SystemTime,
    ) -> Result<Receipts, NoReceipts> {
        let begun = clock::instant();
        let mut pause = PAUSES.0;
        loop {
            let reached = self.redis.as_ref().map(|redis| redis.log.reached()).unwrap_or_default();
            let receipts = self.fleet.receipts(id, reached, now + begun.elapsed()).await?;
            let left = limit.saturating_sub(begun.elapsed());
            if receipts.is_complete() || left.is_zero() {
                return Ok(receipts);
            }
            sleep(pause.min(left)).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    async fn append(
        &self,
        invalidations: Vec<Invalidation>,
        cause: Cause,
    ) -> (Receipt, Option<Later>) {
        let told = self.is_tied().then(|| invalidations.clone());
        let appended = self.append_here(invalidations, cause).await;
        match told {
            Some(told) => self.tell(&told, appended).await,
            None => appended,
        }
    }

    /// As [`Store::append`], and no other process is told.
    pub(super) async fn append_here(
        &self,
        invalidations: Vec<Invalidation>,
        cause: Cause,
    ) -> (Receipt, Option<Later>) {
        if let Some(disk) = &self.disk {
            return disk.append(invalidations, cause).await;
        }
        let Some(redis) = &self.redis else {
            return (self.apply_here(&invalidations, cause), None);
        };
        let log = Arc::clone(&redis.log);
        let records = invalidations.clone();
        let appended = self.tasks.spawn(async move { log.append(records, cause).await }).await;
        // Else the store's runtime is being shut down.
        let alone = |_| Receipt { shared: false, ..self.apply_here(&invalidations, cause) };
        (appended.unwrap_or_else(alone), None)
    }

    fn apply_here(&self, invalidations: &[Invalidation], cause: Cause) -> Receipt {
        let now = self.replay.as_ref().map_or_else(clock::instant, Replay::instant);
        let by = self.fleet.name();
        for invalidation in invalidations {
            let place = self.log.append(invalidation, now);
            self.log.journal.note(place, invalidation, cause, &by, now);
        }
        Receipt { position: self.log.position(), shared: true }
    }
}
