//! What waits for the writer. Records of the log come first: somebody waits for them.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::semantics::NoVarySearch;
use crate::store::disk::database::Database;
use crate::store::log::Invalidation;
use crate::store::record::Cause;
use crate::store::second::Entry;
use crate::store::shared_log::Receipt;
use crate::stored::CacheKey;

/// So much is written at once: a record that comes in the meantime waits for that.
const BATCH: usize = 64;
const OCTETS: usize = 4 << 20;

/// More records than this do not wait: one that covers everything takes their place.
const MAX_RECORDS: usize = 10_000;

/// Records to append, and who waits for that.
pub(super) struct Append {
    pub(super) records: Vec<Invalidation>,
    pub(super) cause: Cause,
    pub(super) told: oneshot::Sender<Receipt>,
}

impl Append {
    /// Each record, and why there is one.
    pub(super) fn all(&self) -> impl Iterator<Item = (&Invalidation, Cause)> {
        self.records.iter().map(|record| (record, self.cause))
    }
}

/// Something to write.
pub(super) struct Write {
    pub(super) key: CacheKey,
    pub(super) what: What,
    pub(super) now: SystemTime,
    /// Its share of what may wait.
    pub(super) _permit: OwnedSemaphorePermit,
}

pub(super) enum What {
    Response(Entry),
    Rule(NoVarySearch),
}

impl Write {
    fn octets(&self) -> usize {
        match &self.what {
            What::Response(entry) => entry.stored.body.len(),
            What::Rule(_) => 0,
        }
    }
}

/// Who has the folder from now on, and who waits for that.
pub(super) struct Pass {
    pub(super) is_ours: bool,
    pub(super) told: oneshot::Sender<()>,
}

/// What the writer is to do next.
#[derive(Default)]
pub(super) struct Work {
    pub(super) appends: Vec<Append>,
    pub(super) writes: Vec<Write>,
    /// What lies in this database makes no sense.
    pub(super) damaged: Option<Weak<Database>>,
    /// Behind the rest: whose the folder is to be.
    pub(super) pass: Option<Pass>,
    /// There is no more after this.
    pub(super) is_last: bool,
}

#[derive(Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    come: Condvar,
}

#[derive(Default)]
struct Waiting {
    appends: Vec<Append>,
    writes: VecDeque<Write>,
    damaged: Option<Weak<Database>>,
    pass: Option<Pass>,
    is_ended: bool,
}

impl Queue {
    /// After the end it is dropped, and whoever waits is told so.
    pub(super) fn append(&self, append: Append) {
        let mut waiting = self.lock();
        if waiting.is_ended {
            return;
        }
        let Append { mut records, cause, told } = append;
        if waiting.records() + records.len() > MAX_RECORDS {
            // Whoever waits for one of them hears that it is not on the disk.
            waiting.appends.clear();
            records = vec![Invalidation::EVERYTHING];
        }
        waiting.appends.push(Append { records, cause, told });
        self.come.notify_one();
    }

    /// False where the folder is about to be another process's: what waits has to come to an end.
    pub(super) fn write(&self, write: Write) -> bool {
        let mut waiting = self.lock();
        let is_leaving = waiting.pass.as_ref().is_some_and(|pass| !pass.is_ours);
        if !is_leaving {
            waiting.writes.push_back(write);
            self.come.notify_one();
        }
        !is_leaving
    }

    /// A reader has found damage in this database, in whose place another may be by now.
    pub(super) fn distrust(&self, database: Weak<Database>) {
        self.lock().damaged = Some(database);
        self.come.notify_one();
    }

    /// The folder is left to another process, or had again. After the end as with what is appended.
    pub(super) fn pass(&self, pass: Pass) {
        let mut waiting = self.lock();
        if waiting.is_ended {
            return;
        }
        waiting.pass = Some(pass);
        self.come.notify_one();
    }

    /// What waits is done, and nothing after it.
    pub(super) fn end(&self) {
        self.lock().is_ended = true;
        self.come.notify_one();
    }

    /// How many records wait.
    pub(super) fn records(&self) -> usize {
        self.lock().records()
    }

    /// What waits; nothing, if nothing comes in time.
    pub(super) fn next(&self, patience: Duration) -> Work {
        let is_idle = |waiting: &mut Waiting| {
            waiting.appends.is_empty()
                && waiting.writes.is_empty()
                && waiting.damaged.is_none()
                && waiting.pass.is_none()
                && !waiting.is_ended
        };
        let waited = self.come.wait_timeout_while(self.lock(), patience, is_idle);
        let (mut waiting, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let mut octets = 0;
        let mut writes = Vec::new();
        while writes.len() < BATCH
            && octets < OCTETS
            && let Some(write) = waiting.writes.pop_front()
        {
            octets += write.octets();
            writes.push(write);
        }
        let is_rest = waiting.writes.is_empty();
        Work {
            appends: std::mem::take(&mut waiting.appends),
            writes,
            damaged: waiting.damaged.take(),
            pass: waiting.pass.take_if(|_| is_rest),
            is_last: waiting.is_ended && is_rest,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Each change is one statement.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn records(&self) -> usize {
        self.appends.iter().map(|append| append.records.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::{HeaderMap, HeaderValue};
    use tokio::sync::Semaphore;

    use super::*;
    use crate::store::log::Scope;

    #[test]
    fn records_that_nobody_writes_do_not_pile_up() {
        let queue = Queue::default();
        let append = |count: usize| {
            let record =
                |number| Invalidation { scope: Scope::Pattern(format!("{number}")), soft: true };
            let (told, receipt) = oneshot::channel();
            queue.append(Append {
                records: (0..count).map(record).collect(),
                cause: Cause::Write,
                told,
            });
            receipt
        };
        let mut first = append(MAX_RECORDS);
        assert_eq!(queue.records(), MAX_RECORDS);
        let mut second = append(2);
        assert_eq!(queue.records(), 1);
        append(1);
        let work = queue.next(Duration::ZERO);
        assert_eq!(work.appends.len(), 2);
        assert_eq!(work.appends[0].records, [Invalidation::EVERYTHING]);
        assert_eq!(first.try_recv(), Err(oneshot::error::TryRecvError::Closed));
        assert_eq!(second.try_recv(), Err(oneshot::error::TryRecvError::Empty));
    }

    #[test]
    fn the_folder_is_left_behind_all_that_is_to_be_written_and_no_more_comes() {
        let (queue, permits) = (Queue::default(), Arc::new(Semaphore::new(2 * BATCH)));
        let mut fields = HeaderMap::new();
        fields.insert("no-vary-search", HeaderValue::from_static("params"));
        let rule = NoVarySearch::of(&fields).unwrap();
        let write = || {
            let permit = Arc::clone(&permits).try_acquire_owned().unwrap();
            let what = What::Rule(rule.clone());
            let (key, now) = (CacheKey([0; 32]), SystemTime::UNIX_EPOCH);
            queue.write(Write { key, what, now, _permit: permit })
        };
        assert!((0..=BATCH).all(|_| write()));
        let (told, _waits) = oneshot::channel();
        queue.pass(Pass { is_ours: false, told });
        assert!(!write(), "it would have to be dropped");
        let first = queue.next(Duration::ZERO);
        assert_eq!((first.writes.len(), first.pass.is_none()), (BATCH, true));
        let second = queue.next(Duration::ZERO);
        assert_eq!((second.writes.len(), second.pass.is_some()), (1, true));
        assert!(write());
    }

    #[test]
    fn what_waits_at_the_end_is_done_and_nothing_after_it() {
        let queue = Queue::default();
        let append = || {
            let (told, receipt) = oneshot::channel();
            queue.append(Append {
                records: vec![Invalidation::EVERYTHING],
                cause: Cause::Write,
                told,
            });
            receipt
        };
        let _first = append();
        queue.end();
        let mut late = append();
        assert_eq!(late.try_recv(), Err(oneshot::error::TryRecvError::Closed));
        let (told, mut waits) = oneshot::channel();
        queue.pass(Pass { is_ours: false, told });
        assert_eq!(waits.try_recv(), Err(oneshot::error::TryRecvError::Closed));
        let work = queue.next(Duration::ZERO);
        assert_eq!((work.appends.len(), work.is_last), (1, true));
    }
}
