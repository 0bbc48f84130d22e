//! L2 on a disk of this machine, for a gateway without Redis: an embedded database (redb), with the
//! invalidation log in it. Trouble here is a miss.
//!
//! One thread writes (`writer`), in batches that come from a bounded queue; what a client waits for
//! is read on threads that may block. What is written is on the disk within a second, so a kill loses
//! no more than that of the responses; and nothing of the log, whose records are on the disk before
//! they count. A process has the folder for itself.
//!
//! Room is made by removing what ends first, what has ended before all else: with equal lifetimes
//! that is the oldest. How often a response was asked for does not count; what is asked for often lies
//! in L1.

mod database;
mod files;
mod folder;
mod queue;
mod rows;
#[cfg(test)]
mod tests;
mod trouble;
mod writer;

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

pub use self::trouble::NotOpened;

use self::database::{Database, Kept, Row};
use self::queue::{Append, Pass, Queue, What, Write};
use self::trouble::Trouble;
use self::writer::Writer;
use crate::clock;
use crate::clock::Clock;
use crate::config;
use crate::config::Compression;
use crate::semantics::NoVarySearch;
use crate::stats::Counter;
use crate::store::codec::{self, Frame};
use crate::store::health::{ServerHealth, State};
use crate::store::l1::Held;
use crate::store::log::{Invalidation, Log};
use crate::store::purges::Later;
use crate::store::record::Cause;
use crate::store::second::{Entry, Found, NoAnswer, millis};
use crate::store::shared_log::Receipt;
use crate::store::{L2Stats, Tasks};
use crate::stored::{CacheKey, Position};

/// What waits to be written holds at most so many octets, each response counted as one piece at least.
const WRITING: usize = 64 << 20;
const PIECE: usize = 16 << 10;

/// So many look-ups are on their way at once. More wait, within their deadlines.
const READERS: usize = 16;

/// After so many look-ups in a row that were not answered in time nobody waits for a turn any more:
/// the disk hangs, and those that are on their way have every turn.
const TIMEOUTS_IN_A_ROW: u32 = 5;

/// Whoever invalidates waits so long for the record to be on the disk.
const APPENDING: Duration = Duration::from_secs(1);

/// The tier.
pub(super) struct Disk {
    /// The gateway's, for what it appends.
    name: Arc<str>,
    folder: PathBuf,
    capacity: u64,
    ttl: Duration,
    timeout: Duration,
    max_size: usize,
    compression: Compression,
    clock: Clock,
    log: Arc<Log>,
    tasks: Tasks,
    /// None while it is not to be had.
    open: ArcSwapOption<Database>,
    queue: Queue,
    writing: Arc<Semaphore>,
    reading: Arc<Semaphore>,
    in_a_row: AtomicU32,
    timeouts: Counter,
    errors: Counter,
    dropped: Counter,
    too_large: Counter,
    damaged: Counter,
    evicted: Counter,
}

/// Ends the writer when it is dropped.
struct Ending(Arc<Disk>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.queue.end();
    }
}

impl Disk {
    /// Where it lies.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Opens the folder, which is made if it is not there, and applies its log to `log`. Records are
    /// kept for `lifetime`.
    ///
    /// The writer ends with `tasks.end`, and their tracker waits for it.
    pub(super) fn start(
        config: &config::Disk,
        log: &Arc<Log>,
        lifetime: Duration,
        clock: Clock,
        (tasks, name): (&Tasks, Arc<str>),
    ) -> Result<Arc<Self>, NotOpened> {
        let (lock, database, kept) = opened(&config.folder)?;
        kept.apply(log);
        let disk = Arc::new(Self {
            name,
            folder: config.folder.clone(),
            capacity: config.capacity,
            ttl: config.ttl,
            timeout: config.timeout,
            max_size: config.max_size,
            compression: config.compression,
            clock,
            log: Arc::clone(log),
            tasks: tasks.clone(),
            open: ArcSwapOption::from_pointee(database),
            queue: Queue::default(),
            writing: Arc::new(Semaphore::new(WRITING / PIECE)),
            reading: Arc::new(Semaphore::new(READERS)),
            in_a_row: AtomicU32::new(0),
            timeouts: Counter::default(),
            errors: Counter::default(),
            dropped: Counter::default(),
            too_large: Counter::default(),
            damaged: Counter::default(),
            evicted: Counter::default(),
        });
        let writer = Writer::new(Arc::clone(&disk), lock, lifetime);
        let (ended, end) = oneshot::channel::<()>();
        let thread = thread::Builder::new().name("disk".to_owned());
        let writing = thread.spawn(move || {
            writer.run();
            drop(ended);
        });
        writing.map_err(|error| NotOpened::failed(&config.folder, error))?;
        // A thread of its own, not one of the runtime's: those are waited for where a runtime is
        // dropped, and this one ends only when it is told to.
        let (ending, cancelled) = (Ending(Arc::clone(&disk)), tasks.end.clone());
        tasks.spawn(async move {
            cancelled.cancelled().await;
            drop(ending);
            // It says nothing, it goes.
            drop(end.await);
        });
        Ok(disk)
    }

    /// Whether it is open.
    pub(super) fn is_open(&self) -> bool {
        self.open.load().is_some()
    }

    /// Leaves the folder to another process, or has it again. Until then there is no tier.
    pub(super) async fn pass(&self, is_ours: bool) {
        let (told, done) = oneshot::channel();
        self.queue.pass(Pass { is_ours, told });
        // It says nothing, it goes; or it has ended.
        drop(done.await);
    }

    /// How long the look-ups of one request may take.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// What is larger is never put.
    pub(super) fn max_size(&self) -> usize {
        self.max_size.min(usize::try_from(self.capacity).unwrap_or(usize::MAX))
    }

    /// What lies under each of `keys`.
    pub(super) async fn look(
        self: &Arc<Self>,
        keys: &[CacheKey],
        deadline: Instant,
    ) -> Result<Vec<Option<Found>>, NoAnswer> {
        let turn = self.turn(deadline).await.ok_or(NoAnswer)?;
        let (disk, keys) = (Arc::clone(self), keys.to_vec());
        // A disk may take milliseconds to answer, or for ever: not on a thread that serves clients.
        let reading = self.tasks.runtime.spawn_blocking(move || {
            let found = disk.read(&keys);
            drop(turn);
            found
        });
        let Ok(found) = timeout_at(deadline, reading).await else {
            self.timed_out();
            return Err(NoAnswer);
        };
        self.in_a_row.store(0, Ordering::Relaxed);
        found.map_err(|_| NoAnswer)?
    }

    async fn turn(&self, deadline: Instant) -> Option<OwnedSemaphorePermit> {
        let reading = Arc::clone(&self.reading);
        if self.in_a_row.load(Ordering::Relaxed) >= TIMEOUTS_IN_A_ROW {
            return reading.try_acquire_owned().ok();
        }
        let Ok(turn) = timeout_at(deadline, reading.acquire_owned()).await else {
            self.timed_out();
            return None;
        };
        turn.ok()
    }

    fn timed_out(&self) {
        self.timeouts.count();
        self.in_a_row.fetch_add(1, Ordering::Relaxed);
    }

    fn read(&self, keys: &[CacheKey]) -> Result<Vec<Option<Found>>, NoAnswer> {
        let database = self.open.load_full().ok_or(NoAnswer)?;
        let now = self.clock.now();
        match database.look(keys) {
            Ok(rows) => {
                let rows = keys.iter().zip(rows);
                Ok(rows.map(|(key, row)| self.decode(key, &row?, now)).collect())
            }
            Err(trouble) => {
                self.errors.count();
                if matches!(trouble, Trouble::Damaged(_)) {
                    self.queue.distrust(Arc::downgrade(&database));
                }
                Err(NoAnswer)
            }
        }
    }

    fn decode(&self, key: &CacheKey, row: &Row, now: SystemTime) -> Option<Found> {
        let left = row.end.checked_sub(millis(now)).map(Duration::from_millis)?;
        // Nothing that was put before now can have more left than this: the clock has been set back.
        if left.is_zero() || left > self.ttl {
            return None;
        }
        let held = match codec::decode(key, &row.frame, self.max_size) {
            Some(Frame::Response(stored, _)) => Held::Response(Arc::new(stored)),
            Some(Frame::Variants(variants)) => Held::Variants(Arc::new(variants)),
            Some(Frame::Rules(rules)) => Held::Rules(Arc::new(rules)),
            Some(Frame::TooLarge) => {
                self.too_large.count();
                return None;
            }
            None => {
                self.damaged.count();
                return None;
            }
        };
        Some((held, left))
    }

    /// Writes a response in the background: under `key`, or as a variant of what lies there. False,
    /// and counted, if it is too large, or if too much is being written.
    pub(super) fn put(&self, key: CacheKey, entry: Entry, now: SystemTime) -> bool {
        let stored = &entry.stored;
        let octets = stored.body.len() + stored.fields.as_bytes().len();
        if octets > self.max_size() {
            self.too_large.count();
            return false;
        }
        let Some(permit) = self.permit(octets) else {
            self.dropped.count();
            return false;
        };
        let what = What::Response(entry);
        let is_queued = self.queue.write(Write { key, what, now, _permit: permit });
        if !is_queued {
            self.dropped.count();
        }
        is_queued
    }

    /// Notes a rule under `key` in the background.
    pub(super) fn add_rule(&self, key: CacheKey, rule: &NoVarySearch) {
        // Without the note there are misses, nothing worse.
        if let Some(permit) = self.permit(0) {
            let now = self.clock.now();
            self.queue.write(Write { key, what: What::Rule(rule.clone()), now, _permit: permit });
        }
    }

    fn permit(&self, octets: usize) -> Option<OwnedSemaphorePermit> {
        let pieces = u32::try_from(octets / PIECE + 1).ok()?;
        let writing = Arc::clone(&self.writing);
        self.is_open().then(|| writing.try_acquire_many_owned(pieces).ok())?
    }

    /// Appends to the log and applies. If the disk does not answer in time the records are applied at
    /// once, and written when it does: then there is a later receipt.
    pub(super) async fn append(
        &self,
        records: Vec<Invalidation>,
        cause: Cause,
    ) -> (Receipt, Option<Later>) {
        let (told, mut receipt) = oneshot::channel();
        self.queue.append(Append { records: records.clone(), cause, told });
        let later = match timeout(APPENDING, &mut receipt).await {
            Ok(Ok(receipt)) => return (receipt, None),
            Ok(Err(_)) => None,
            Err(_) => Some(receipt),
        };
        let now = clock::instant();
        for record in &records {
            let place = self.log.append(record, now);
            self.log.journal.note(place, record, cause, &self.name, now);
        }
        (Receipt { position: self.log.position(), shared: false }, later)
    }

    /// Whether it can be read, by its folder.
    pub(super) fn health(&self) -> ServerHealth {
        ServerHealth {
            name: self.folder.display().to_string(),
            state: if self.is_open() { State::Up } else { State::Open },
            lasts: None,
            takes_writes: true,
            error: None,
        }
    }

    pub(super) fn stats(&self) -> L2Stats {
        let database = self.open.load();
        L2Stats {
            up: database.is_some(),
            half_open: false,
            errors: self.errors.value(),
            timeouts: self.timeouts.value(),
            writing: WRITING / PIECE - self.writing.available_permits(),
            dropped_writes: self.dropped.value(),
            refused_writes: 0,
            too_large: self.too_large.value(),
            damaged_frames: self.damaged.value(),
            log_in_step: database.is_some(),
            log_lag_seconds: 0.0,
            log_lag_passed: false,
            invalidation_lag_seconds: 0.0,
            log_waiting: self.queue.records(),
            log_of_replica: false,
            octets: database.as_ref().map(|database| database.room()),
            evicted: self.evicted.value(),
        }
    }
}

/// The folder for this process alone, and what lies there. A damaged database is put aside.
fn opened(folder: &Path) -> Result<(File, Database, Kept), NotOpened> {
    let lock = folder::lock(folder).map_err(|error| match error {
        TryLockError::WouldBlock => NotOpened::InUse(folder.to_owned()),
        TryLockError::Error(error) => NotOpened::failed(folder, error),
    })?;
    let whole = || {
        let database = folder::open(folder, Position::ZERO)?;
        let kept = database.log()?;
        Ok((database, kept))
    };
    let opened = match whole() {
        Err(Trouble::Damaged(_)) => {
            folder::set_aside(folder).map_err(|error| NotOpened::failed(folder, error))?;
            whole()
        }
        opened => opened,
    };
    match opened {
        Ok((database, kept)) => Ok((lock, database, kept)),
        Err(Trouble::InUse) => Err(NotOpened::InUse(folder.to_owned())),
        Err(trouble) => Err(NotOpened::failed(folder, trouble)),
    }
}
