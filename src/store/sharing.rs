//! What waits is appended to the shared log, whenever Redis takes it.
//!
//! A Redis that is full, or a replica, can be read all the same. So this has a connection of its own,
//! while something waits, and its trouble is nobody else's. Only a log that is being read is appended
//! to: another one than before is the reader's to find out.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::clock;
use crate::store::advice::{Told, advice, is_answer};
use crate::store::connection::{PAUSES, Trouble};
use crate::store::log::Invalidation;
use crate::store::nodes::Link;
use crate::store::record::Cause;
use crate::store::shared_log::{BATCH, SharedLog};
use crate::store::waiting::Batch;
use crate::stored::Position;

/// How long a gateway that ends tries to append what waits.
const LAST_WORDS: Duration = Duration::from_millis(800);

impl SharedLog {
    /// How many invalidations wait to be appended.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Applies records at once, and leaves it to [`SharedLog::share`] to append them. Answers the last
    /// one's place.
    pub(super) fn append_later(&self, records: &[Invalidation], cause: Cause) -> Option<Position> {
        let (now, by) = (clock::instant(), self.fleet.name());
        let apply = |record| {
            let place = self.log.append_ahead(record, now);
            self.log.journal.note(place, record, cause, &by, now);
            place
        };
        let apply = || records.iter().map(apply).last();
        self.waiting.add(records, matches!(cause, Cause::Purge), apply)
    }

    /// Appends what waits, until `end`, and then for a little longer.
    pub(super) async fn share(self: Arc<Self>, end: CancellationToken) {
        let sharing = async {
            let mut told = Told::default();
            loop {
                if self.waiting() > 0 && self.is_read() {
                    self.append_rest(&mut told, Self::is_read).await;
                } else {
                    self.waiting.woken().await;
                    self.place_purges();
                }
            }
        };
        end.run_until_cancelled(sharing).await;
        let last_words = async {
            // There is no reader any more.
            self.append_rest(&mut Told::default(), |_| true).await;
        };
        if self.waiting() > 0 && timeout(LAST_WORDS, last_words).await.is_err() {
            let count = self.waiting();
            warn!(count, "invalidations were never shared, other gateways will not hear of them");
        }
    }

    /// Appends what waits, on a connection of its own, as long as it may.
    async fn append_rest(&self, told: &mut Told, may_append: impl Fn(&Self) -> bool) {
        let mut pause = PAUSES.0;
        let mut link: Option<Link> = None;
        while may_append(self) {
            let Err(trouble) = self.try_to_append(&mut link).await else {
                if told.is_over() {
                    info!("all invalidations that waited are shared");
                }
                return;
            };
            if told.is_news(&trouble) {
                let (count, hint) = (self.waiting(), advice(&trouble));
                warn!(count, error = %trouble, hint, "Redis takes no invalidations, they wait");
            }
            if !is_answer(&trouble) {
                link = None;
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    async fn try_to_append(&self, link: &mut Option<Link>) -> Result<(), Trouble> {
        let link = match link {
            Some(link) => link,
            None => link.insert(self.nodes.connect(&self.stream).await?),
        };
        self.append_waiting(&mut link.commands()).await
    }

    async fn append_waiting(&self, connection: &mut MultiplexedConnection) -> Result<(), Trouble> {
        loop {
            let Batch { records, purge } = self.waiting.next(BATCH);
            if records.is_empty() {
                self.place_purges();
                return Ok(());
            }
            let cause = Cause::Unknown { purge };
            let last = self.append_on(connection, &records, cause, false).await?;
            self.waiting.appended(last, || self.log.all_shared());
        }
    }

    /// Gives the purges that wait a place in the log, once all of their records are there.
    fn place_purges(&self) {
        // Before the queue is looked into: their records are there by now, or were. Of a purge that says
        // later that it waits they may be in the log already; then this is called once more.
        let purges = self.fleet.waiting();
        if let Some(place) = self.waiting.purged() {
            self.fleet.placed(&purges, place);
        }
    }
}
