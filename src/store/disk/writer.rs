//! The thread that writes: responses in batches, records of the log durably, one at a time; evicts,
//! and begins anew where that is all that helps.
//!
//! A record is on the disk before it is applied and told of. Where it cannot be written, all that it
//! could cover is taken from the disk instead. So whatever is found there after a kill, no record that
//! counts is missing.

use std::fs::File;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tracing::{error, info, warn};

use crate::clock;
use crate::store::disk::Disk;
use crate::store::disk::database::Database;
use crate::store::disk::folder::{lock, open, remove, set_aside};
use crate::store::disk::queue::{Append, Pass, Write};
use crate::store::disk::trouble::Trouble;
use crate::store::log::Invalidation;
use crate::store::record::Cause;
use crate::store::second::millis;
use crate::store::shared_log::Receipt;

/// Changes are made durable so often: what a kill can lose. Until then the room of what was
/// overwritten is not free.
const SAVED_EACH: Duration = Duration::from_secs(1);
const UNSAVED: u64 = 16 << 20;

/// After a failure nothing is written for so long: twice the last time up to the second.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// A database that is still held by a reader can be opened a little later.
const SOON: Duration = Duration::from_millis(10);

/// So much is evicted, swept or dropped from the log at a time.
const AT_ONCE: usize = 256;

/// The log holds no more records than this.
const MAX_RECORDS: u64 = 250_000;

pub(super) struct Writer {
    disk: Arc<Disk>,
    /// Records older than this can be dropped: no stored response is as old.
    lifetime: Duration,
    /// No other process works in this folder while this is open. None while one does.
    lock: Option<File>,
    /// Another process has it, until it says otherwise.
    is_away: bool,
    /// When what has ended was last swept, and changes made durable.
    tended: Instant,
    /// There was more to remove than is removed at once.
    has_more: bool,
    unsaved: u64,
    /// Not written before this, and not opened again before that.
    rests_until: Instant,
    opens_at: Instant,
    pause: Duration,
    told: Told,
    lies: Lies,
    /// The first octet of the files to be looked at next.
    orphans: Option<u8>,
}

/// What the log of the program has a line of, and that is not over.
#[derive(Default)]
struct Told {
    trouble: bool,
    /// What lacks a record cannot be removed.
    record: bool,
}

/// What is known of what lies on the disk, before it is opened again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Lies {
    Whole,
    /// It is put aside.
    Damaged,
    /// It lacks a record: it must not be opened again.
    Forbidden,
}

impl Writer {
    /// Begins with files that no row tells of, which a kill may have left.
    pub(super) fn new(disk: Arc<Disk>, lock: File, lifetime: Duration) -> Self {
        let now = clock::instant();
        Self {
            disk,
            lifetime,
            lock: Some(lock),
            is_away: false,
            tended: now,
            has_more: false,
            unsaved: 0,
            rests_until: now,
            opens_at: now,
            pause: PAUSES.0,
            told: Told::default(),
            lies: Lies::Whole,
            orphans: Some(0),
        }
    }

    /// Writes until the queue ends.
    pub(super) fn run(mut self) {
        let mut is_busy = true;
        loop {
            let patience = match self.database() {
                None if self.is_away => PAUSES.1,
                None => self.opens_at.saturating_duration_since(clock::instant()),
                Some(_) if is_busy => Duration::ZERO,
                Some(_) => SAVED_EACH.saturating_sub(self.tended.elapsed()),
            };
            let work = self.disk.queue.next(patience);
            // Not that of one that has been put aside since.
            let open = self.database().as_ref().map(Arc::downgrade);
            if work.damaged.zip(open).is_some_and(|(damaged, open)| damaged.ptr_eq(&open)) {
                self.failed(&Trouble::Damaged("a row cannot be read".to_owned()));
            }
            self.reopen();
            self.append(work.appends);
            self.write(&work.writes);
            // Only now they do not wait any more.
            drop(work.writes);
            if let Some(pass) = work.pass {
                self.pass(pass);
            }
            is_busy = self.tend();
            if work.is_last {
                break;
            }
        }
        self.save();
        self.disk.open.store(None);
    }

    fn database(&self) -> Option<Arc<Database>> {
        self.disk.open.load_full()
    }

    fn append(&mut self, appends: Vec<Append>) {
        if appends.is_empty() {
            return;
        }
        let records: Vec<_> = appends.iter().flat_map(Append::all).collect();
        let mut is_kept = self.append_all(&records);
        // Whoever did not wait for the disk has given places to the log itself. What is fetched from
        // then on may only be written once the log on the disk has got there.
        while is_kept && self.disk.log.head() < self.disk.log.position() {
            is_kept = self.append_all(&records);
        }
        let receipt = Receipt { position: self.disk.log.position(), shared: is_kept };
        for append in appends {
            // Who waited may have gone.
            let _waits = append.told.send(receipt);
        }
    }

    /// Whether no kill can bring back what these records cover.
    fn append_all(&mut self, records: &[(&Invalidation, Cause)]) -> bool {
        let mut place = self.disk.log.position();
        let mut next = || {
            place = place.next();
            place
        };
        let placed: Vec<_> = records.iter().map(|(record, _)| (next(), *record)).collect();
        let now = millis(self.disk.clock.now());
        let done = match self.database() {
            Some(database) => database.change(true, |change| change.append(&placed, now)),
            None => Err(Trouble::Closed),
        };
        let is_kept = match done {
            Ok(()) => {
                self.is_saved();
                true
            }
            Err(_) if self.is_away => {
                self.lies = Lies::Forbidden;
                false
            }
            Err(trouble) => {
                self.failed(&trouble);
                self.lies = Lies::Forbidden;
                self.forget()
            }
        };
        let (log, now) = (&self.disk.log, clock::instant());
        for ((place, record), (_, cause)) in placed.into_iter().zip(records) {
            let place = log.record(place, record, now);
            log.journal.note(place, record, *cause, &self.disk.name, now);
        }
        is_kept
    }

    fn write(&mut self, writes: &[Write]) {
        let is_resting = clock::instant() < self.rests_until;
        let Some(database) = self.database().filter(|_| !is_resting) else {
            self.drop_all(writes);
            return;
        };
        if writes.is_empty() {
            return;
        }
        let disk = &self.disk;
        let done = database.change(false, |change| {
            let mut octets = 0;
            for write in writes {
                octets += disk.place(change, write)? as u64;
            }
            Ok(octets)
        });
        match done {
            Ok(octets) => self.unsaved += octets,
            Err(trouble) => {
                self.drop_all(writes);
                self.failed(&trouble);
            }
        }
    }

    fn drop_all(&self, writes: &[Write]) {
        for _ in writes {
            self.disk.dropped.count();
        }
    }

    /// What has to be done from time to time. True if there is more of it.
    fn tend(&mut self) -> bool {
        let Some(database) = self.database() else { return false };
        let is_due = self.tended.elapsed() >= SAVED_EACH;
        let is_full = database.room() > self.disk.capacity;
        if is_due || is_full || self.has_more {
            self.has_more = self.make_room(&database);
        }
        if let Some(first) = self.orphans {
            self.orphans = first.checked_add(1);
            if let Err(trouble) = database.remove_orphans(first) {
                self.failed(&trouble);
            }
        }
        drop(database);
        if is_due || self.unsaved >= UNSAVED {
            self.tended = clock::instant();
            self.save();
        }
        self.has_more || self.orphans.is_some()
    }

    /// True if there may be more to remove.
    fn make_room(&mut self, database: &Database) -> bool {
        let now = millis(self.disk.clock.now());
        let oldest =
            now.saturating_sub(u64::try_from(self.lifetime.as_millis()).unwrap_or(u64::MAX));
        let capacity = self.disk.capacity;
        let done = database.has_waste(now, oldest, MAX_RECORDS).and_then(|has_waste| {
            if !has_waste && database.room() <= capacity {
                return Ok((0, 0, 0));
            }
            database.change(false, |change| {
                let trimmed = change.trim(oldest, MAX_RECORDS, AT_ONCE)?;
                let (ended, evicted) = change.make_room(now, capacity, AT_ONCE)?;
                Ok((trimmed, ended, evicted))
            })
        });
        match done {
            Ok((trimmed, ended, evicted)) => {
                for _ in 0..evicted {
                    self.disk.evicted.count();
                }
                self.unsaved += u64::from(trimmed + ended + evicted > 0);
                trimmed >= AT_ONCE || ended + evicted >= AT_ONCE
            }
            Err(trouble) => {
                self.failed(&trouble);
                false
            }
        }
    }

    /// Makes every change so far durable.
    fn save(&mut self) {
        if self.unsaved == 0 {
            return;
        }
        let saved = self.database().map(|database| database.change(true, |_| Ok(())));
        match saved {
            Some(Ok(())) => self.is_saved(),
            Some(Err(trouble)) => self.failed(&trouble),
            None => {}
        }
    }

    fn is_saved(&mut self) {
        self.unsaved = 0;
        self.pause = PAUSES.0;
        if std::mem::take(&mut self.told.trouble) {
            info!("L2 is back");
        }
    }

    /// Closes the database, to open it again, as it was when it was last saved.
    fn failed(&mut self, trouble: &Trouble) {
        self.disk.errors.count();
        self.disk.open.store(None);
        self.unsaved = 0;
        if matches!(trouble, Trouble::Damaged(_)) {
            self.lies = self.lies.max(Lies::Damaged);
        }
        if !std::mem::replace(&mut self.told.trouble, true) {
            warn!(error = %trouble, "L2 cannot be read or written on the disk, serving without it");
        }
        self.rests_until = clock::instant() + self.pause;
        self.pause = (self.pause * 2).min(PAUSES.1);
    }

    /// Leaves the folder to another process, or has it again.
    fn pass(&mut self, Pass { is_ours, told }: Pass) {
        self.is_away = !is_ours;
        self.opens_at = clock::instant();
        if self.is_away {
            self.save();
            let database = self.disk.open.swap(None);
            // Those who read have it for as long as a look-up takes.
            while database.as_ref().is_some_and(|database| Arc::strong_count(database) > 1) {
                thread::sleep(SOON);
            }
            drop(database);
            self.lock = None;
        } else {
            self.reopen();
        }
        // Who waited may have gone.
        let _waits = told.send(());
    }

    /// Whether the folder is this process's.
    fn has_lock(&mut self) -> bool {
        if self.lock.is_none() && !self.is_away {
            self.lock = lock(&self.disk.folder).ok();
        }
        self.lock.is_some()
    }

    fn reopen(&mut self) {
        let is_early = clock::instant() < self.opens_at;
        if self.database().is_some() || is_early {
            return;
        }
        if !self.has_lock() {
            self.opens_at = clock::instant() + SOON;
            return;
        }
        if self.lies == Lies::Damaged && set_aside(&self.disk.folder).is_ok() {
            self.lies = Lies::Whole;
        }
        if self.lies != Lies::Whole && !self.forget() {
            return;
        }
        let log = &self.disk.log;
        // Another process may have had it in between.
        let opened = open(&self.disk.folder, log.position()).and_then(|database| {
            database.log()?.apply(log);
            Ok(database)
        });
        match opened {
            Ok(database) => {
                self.disk.open.store(Some(Arc::new(database)));
                self.orphans = Some(0);
            }
            // A reader has it still.
            Err(Trouble::InUse) => self.opens_at = clock::instant() + SOON,
            Err(trouble) => {
                self.failed(&trouble);
                self.opens_at = self.rests_until;
            }
        }
    }

    /// Takes everything from the disk. What is made in its place holds nothing from before.
    fn forget(&mut self) -> bool {
        // What another process has there is for it to say.
        if self.lock.is_none() {
            return false;
        }
        match remove(&self.disk.folder) {
            Ok(()) => {
                self.lies = Lies::Whole;
                self.told.record = false;
                true
            }
            Err(error) => {
                self.disk.errors.count();
                if !std::mem::replace(&mut self.told.record, true) {
                    let folder = self.disk.folder.display();
                    error!(%error, "an invalidation is not on the disk: empty {folder} before the next start");
                }
                // From now on: `failed` has its own moment, which may be long over.
                self.opens_at = clock::instant() + self.pause;
                self.pause = (self.pause * 2).min(PAUSES.1);
                false
            }
        }
    }
}
