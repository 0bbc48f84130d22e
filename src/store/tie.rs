//! Two processes that answer the same clients for a while: what one of them invalidates, the other
//! does, too, before whoever wrote or purged is told.
//!
//! That is so while one takes the place of the other. Without Redis they share no log; with it they hear of
//! some records twice, which does no harm.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::store::Store;
use crate::store::log::Invalidation;
use crate::store::record;
use crate::store::record::Cause;

/// So many calls to invalidate wait for the other process. Beyond it there is no tie any more.
const MOST_WAITING: usize = 10_000;

/// So long the other process is waited for. What it was sent it will apply, if later.
const PATIENCE: Duration = Duration::from_secs(1);

/// What was invalidated, for the other process.
pub struct Told {
    /// Packed, as [`Store::invalidate_as_told`] wants it.
    pub records: Vec<u8>,
    /// To be told when it has applied them. Dropping it is as good.
    pub applied: oneshot::Sender<()>,
}

/// The end that sends.
pub(super) type Tie = mpsc::Sender<Told>;

impl Store {
    /// Has the other process told of what is invalidated here from now on, by what comes out of this;
    /// until [`Store::untie`]. Dropping it ends that, too.
    pub fn tie(&self) -> mpsc::Receiver<Told> {
        let (tie, told) = mpsc::channel(MOST_WAITING);
        self.tie.store(Some(tie.into()));
        told
    }

    /// Nobody is told any more.
    pub fn untie(&self) {
        self.tie.store(None);
    }

    /// Applies what the other process has invalidated. It is told nothing of that.
    pub async fn invalidate_as_told(&self, records: &[u8]) {
        let records: Option<Vec<Vec<u8>>> = postcard::from_bytes(records).ok();
        let unpacked = records.and_then(|all| all.iter().map(|it| record::unpack(it)).collect());
        // What cannot be read, because the other is of another version, could cover anything.
        let records: Vec<_> = unpacked.unwrap_or_else(|| vec![Invalidation::EVERYTHING]);
        self.append_here(records, Cause::Unknown { purge: false }).await;
    }

    pub(super) fn is_tied(&self) -> bool {
        self.tie.load().is_some()
    }

    pub(super) async fn tell(&self, invalidations: &[Invalidation]) {
        let Some(tie) = self.tie.load_full() else { return };
        let records: Vec<_> = invalidations.iter().map(record::pack).collect();
        // Lists of octets always have a form; no octets cover everything.
        let records = postcard::to_stdvec(&records).unwrap_or_default();
        let (applied, is_applied) = oneshot::channel();
        if tie.try_send(Told { records, applied }).is_err() {
            self.untie();
            return;
        }
        drop(timeout(PATIENCE, is_applied).await);
    }
}
