//! The database of the embedded tier (redb): what lies under which key, when it ends, and the
//! invalidation log. Where responses and log lie together, no failure can roll back the one alone.
//!
//! | table | holds |
//! |---|---|
//! | `responses` | by key: the end, where the frame lies, and the frame itself if it is here |
//! | `ends` | by end and key: the room that it takes |
//! | `log` | by place: when a record was appended, and the record |
//! | `facts` | the version, the room taken in all, the log's floor and sum |
//!
//! Ends and times are milliseconds of the system's clock since 1970. A record that is dropped raises
//! the floor: everything from before it is invalid, whatever the clock says of it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use redb::{
    Durability, ReadableDatabase, ReadableTable, ReadableTableMetadata, Table, TableDefinition,
    WriteTransaction,
};

use crate::clock;
use crate::store::disk::files::Files;
use crate::store::disk::trouble::Trouble;
use crate::store::log::{Invalidation, Log};
use crate::store::record;
use crate::stored::{CacheKey, Position};

type Rows = TableDefinition<'static, &'static [u8; 32], &'static [u8]>;
type Ends = TableDefinition<'static, (u64, &'static [u8; 32]), u64>;
type Records = TableDefinition<'static, (u64, u64), &'static [u8]>;
type Facts = TableDefinition<'static, &'static str, u64>;

const ROWS: Rows = Rows::new("responses");
const ENDS: Ends = Ends::new("ends");
const LOG: Records = Records::new("log");
const FACTS: Facts = Facts::new("facts");

/// Of the tables. Frames have one of their own.
const VERSION: u64 = 1;

/// Pages that redb keeps in memory; the system keeps more.
const CACHE: usize = 32 << 20;

/// A longer frame is a file of its own: a page of the database is a power of two, and half of a
/// large one may be empty.
const LONGEST: usize = 64 << 10;

/// The end and where the frame lies.
const PREFIX: usize = 9;
const HERE: u8 = 0;
const IN_FILE: u8 = 1;

/// The unit of room.
const PAGE: u64 = 4 << 10;

/// What a row takes besides its frame: keys, lengths, and its part of the trees' other pages.
const OVERHEAD: u64 = 200;

/// An open database, and the files beside it.
pub(super) struct Database {
    inner: redb::Database,
    files: Files,
    room: AtomicU64,
}

/// What lies under a key.
pub(super) struct Row {
    pub(super) end: u64,
    pub(super) frame: Bytes,
}

/// The log as it was kept.
pub(super) struct Kept {
    /// Everything from before is invalid.
    pub(super) floor: Position,
    /// In order.
    pub(super) records: Vec<(Position, Invalidation)>,
}

impl Kept {
    /// Applies what came after all that `log` has.
    pub(super) fn apply(&self, log: &Log) {
        let (known, now) = (log.position(), clock::instant());
        if self.floor > known {
            log.record(self.floor, &Invalidation::EVERYTHING, now);
        }
        for (place, record) in self.records.iter().filter(|(place, _)| *place > known) {
            log.record(*place, record, now);
        }
    }
}

impl Database {
    /// Opens it, or makes one. In a new one, everything from before `floor` is invalid.
    pub(super) fn open(file: &Path, files: Files, floor: Position) -> Result<Self, Trouble> {
        guarded(|| {
            let inner = redb::Database::builder().set_cache_size(CACHE).create(file)?;
            let txn = begin(&inner, true)?;
            let mut change = Change::begin(&txn, &files, 0)?;
            match change.fact("version")? {
                Some(VERSION) => {}
                Some(_) => return Err(damage("of another version")),
                None => {
                    change.facts.insert("version", VERSION)?;
                    change.raise_floor(floor)?;
                }
            }
            change.room = change.fact("room")?.unwrap_or_default();
            let (room, _) = change.end()?;
            txn.commit()?;
            Ok(Self { inner, files, room: room.into() })
        })
    }

    /// How much room everything takes.
    pub(super) fn room(&self) -> u64 {
        self.room.load(Ordering::Relaxed)
    }

    /// What lies under each of these keys.
    pub(super) fn look(&self, keys: &[CacheKey]) -> Result<Vec<Option<Row>>, Trouble> {
        guarded(|| {
            let rows = self.inner.begin_read()?.open_table(ROWS)?;
            keys.iter().map(|key| row(&rows, &self.files, key)).collect()
        })
    }

    /// Whether something has ended by `now`, or the log has a record from before `oldest`, or more
    /// than `records`.
    pub(super) fn has_waste(&self, now: u64, oldest: u64, records: u64) -> Result<bool, Trouble> {
        guarded(|| {
            let txn = self.inner.begin_read()?;
            let (ends, log) = (txn.open_table(ENDS)?, txn.open_table(LOG)?);
            Ok(ends.first()?.is_some_and(|(first, _)| first.value().0 <= now)
                || log.first()?.is_some_and(|(_, first)| appended(first.value()) < oldest)
                || log.len()? > records)
        })
    }

    /// Removes the files of keys with this first octet that nothing here tells of.
    pub(super) fn remove_orphans(&self, first: u8) -> Result<usize, Trouble> {
        guarded(|| {
            let rows = self.inner.begin_read()?.open_table(ROWS)?;
            self.files.remove_orphans(first, |key| {
                let Some(row) = rows.get(&key.0)? else { return Ok(false) };
                Ok(prefix(row.value())?.1 == IN_FILE)
            })
        })
    }

    /// The log. One that is not as it was written is damage: a record that is missing could be the
    /// one that counts.
    pub(super) fn log(&self) -> Result<Kept, Trouble> {
        guarded(|| {
            let txn = self.inner.begin_read()?;
            let (log, facts) = (txn.open_table(LOG)?, txn.open_table(FACTS)?);
            let fact = |name: &str| facts.get(name).map(|it| it.map_or(0, |it| it.value()));
            let floor =
                Position { millis: fact("floor.millis")?, sequence: fact("floor.sequence")? };
            let mut records = Vec::new();
            let mut sum = 0;
            for entry in log.iter()? {
                let (place, record) = entry?;
                let place = place.value();
                sum ^= digest(place, record.value());
                let record = record.value().split_first_chunk::<8>().map(|(_, record)| record);
                let record = record.and_then(record::unpack).unwrap_or(Invalidation::EVERYTHING);
                records.push((Position { millis: place.0, sequence: place.1 }, record));
            }
            if sum != fact("log.sum")? {
                return Err(damage("the invalidation log is not whole"));
            }
            Ok(Kept { floor, records })
        })
    }

    /// Does `work` as one change: all of it or, on trouble, nothing. `durable` waits until it is on
    /// the disk, with every change before it.
    pub(super) fn change<T>(
        &self,
        durable: bool,
        work: impl FnOnce(&mut Change<'_>) -> Result<T, redb::Error>,
    ) -> Result<T, Trouble> {
        guarded(|| {
            let txn = begin(&self.inner, durable)?;
            let mut change = Change::begin(&txn, &self.files, self.room())?;
            let result = work(&mut change)?;
            let (room, gone) = change.end()?;
            txn.commit()?;
            self.room.store(room, Ordering::Relaxed);
            for key in &gone {
                self.files.remove(key);
            }
            Ok(result)
        })
    }
}

/// A change that is being made.
pub(super) struct Change<'t> {
    rows: Table<'t, &'static [u8; 32], &'static [u8]>,
    ends: Table<'t, (u64, &'static [u8; 32]), u64>,
    log: Table<'t, (u64, u64), &'static [u8]>,
    facts: Table<'t, &'static str, u64>,
    files: &'t Files,
    room: u64,
    /// Files that go once it is made.
    gone: Vec<CacheKey>,
}

impl<'t> Change<'t> {
    fn begin(txn: &'t WriteTransaction, files: &'t Files, room: u64) -> Result<Self, redb::Error> {
        Ok(Self {
            rows: txn.open_table(ROWS)?,
            ends: txn.open_table(ENDS)?,
            log: txn.open_table(LOG)?,
            facts: txn.open_table(FACTS)?,
            files,
            room,
            gone: Vec::new(),
        })
    }

    /// What lies under a key.
    pub(super) fn row(&self, key: &CacheKey) -> Result<Option<Row>, redb::Error> {
        row(&self.rows, self.files, key)
    }

    /// Puts a frame under a key, until `end`.
    pub(super) fn put(
        &mut self,
        key: &CacheKey,
        end: u64,
        frame: &[u8],
    ) -> Result<(), redb::Error> {
        self.remove(key)?;
        let in_file = frame.len() > LONGEST;
        let here = if in_file { &[][..] } else { frame };
        let mut row = self.rows.insert_reserve(&key.0, PREFIX + here.len())?;
        let place = if in_file { IN_FILE } else { HERE };
        let octets = end.to_le_bytes().into_iter().chain([place]).chain(here.iter().copied());
        for (to, octet) in row.as_mut().iter_mut().zip(octets) {
            *to = octet;
        }
        drop(row);
        let room = room(frame.len());
        self.ends.insert((end, &key.0), room)?;
        self.room = self.room.saturating_add(room);
        if in_file {
            self.files.write(key, frame)?;
            self.gone.retain(|gone| gone != key);
        }
        Ok(())
    }

    /// Removes what lies under a key.
    pub(super) fn remove(&mut self, key: &CacheKey) -> Result<(), redb::Error> {
        let Some(row) = self.rows.remove(&key.0)? else { return Ok(()) };
        let (end, place) = prefix(row.value())?;
        drop(row);
        if let Some(room) = self.ends.remove((end, &key.0))? {
            self.room = self.room.saturating_sub(room.value());
        }
        if place == IN_FILE {
            self.gone.push(*key);
        }
        Ok(())
    }

    /// Removes what has ended by `now`, and then what ends first until all the rest takes no more
    /// than `capacity`; at most `most` responses. Answers how many of either kind it was.
    pub(super) fn make_room(
        &mut self,
        now: u64,
        capacity: u64,
        most: usize,
    ) -> Result<(usize, usize), redb::Error> {
        let (mut ended, mut evicted) = (0, 0);
        while ended + evicted < most {
            let first = self.ends.first()?.map(|(first, _)| {
                let (end, key) = first.value();
                (end, *key)
            });
            let Some((end, key)) = first else { break };
            let has_ended = end <= now;
            if !has_ended && self.room <= capacity {
                break;
            }
            self.remove(&CacheKey(key))?;
            // If the two tables should not agree, this ends all the same.
            self.ends.remove((end, &key))?;
            *(if has_ended { &mut ended } else { &mut evicted }) += 1;
        }
        Ok((ended, evicted))
    }

    /// Appends records to the log, as of `now`.
    pub(super) fn append(
        &mut self,
        records: &[(Position, &Invalidation)],
        now: u64,
    ) -> Result<(), redb::Error> {
        let mut sum = self.fact("log.sum")?.unwrap_or_default();
        for (place, record) in records {
            let place = (place.millis, place.sequence);
            let value = [&now.to_le_bytes()[..], &record::pack(record)].concat();
            sum ^= digest(place, &value);
            self.log.insert(place, &*value)?;
        }
        self.facts.insert("log.sum", sum)?;
        Ok(())
    }

    /// Drops records from before `oldest`, and the oldest ones of more than `records`; at most `most`
    /// at a time. Answers how many.
    pub(super) fn trim(
        &mut self,
        oldest: u64,
        records: u64,
        most: usize,
    ) -> Result<usize, redb::Error> {
        let mut sum = self.fact("log.sum")?.unwrap_or_default();
        let (mut dropped, mut last) = (0, None);
        while dropped < most {
            let too_many = self.log.len()? > records;
            let Some((place, value)) = self.log.first()? else { break };
            if !too_many && appended(value.value()) >= oldest {
                break;
            }
            let at = place.value();
            sum ^= digest(at, value.value());
            drop((place, value));
            self.log.remove(at)?;
            last = Some(Position { millis: at.0, sequence: at.1 });
            dropped += 1;
        }
        if let Some(last) = last {
            self.facts.insert("log.sum", sum)?;
            self.raise_floor(last)?;
        }
        Ok(dropped)
    }

    fn raise_floor(&mut self, floor: Position) -> Result<(), redb::Error> {
        self.facts.insert("floor.millis", floor.millis)?;
        self.facts.insert("floor.sequence", floor.sequence)?;
        Ok(())
    }

    fn fact(&self, name: &str) -> Result<Option<u64>, redb::Error> {
        Ok(self.facts.get(name)?.map(|fact| fact.value()))
    }

    fn end(mut self) -> Result<(u64, Vec<CacheKey>), redb::Error> {
        self.facts.insert("room", self.room)?;
        Ok((self.room, self.gone))
    }
}

/// Commits are made durable together with what says which pages are free: after a kill, a database of
/// any size opens at once, instead of being read from one end to the other.
fn begin(inner: &redb::Database, durable: bool) -> Result<WriteTransaction, redb::Error> {
    let mut txn = inner.begin_write()?;
    txn.set_durability(if durable { Durability::Immediate } else { Durability::None })?;
    txn.set_quick_repair(durable);
    Ok(txn)
}

fn row(
    rows: &impl ReadableTable<&'static [u8; 32], &'static [u8]>,
    files: &Files,
    key: &CacheKey,
) -> Result<Option<Row>, redb::Error> {
    let Some(row) = rows.get(&key.0)? else { return Ok(None) };
    let (end, place) = prefix(row.value())?;
    let frame = match place {
        HERE => Some(Bytes::copy_from_slice(row.value().get(PREFIX..).unwrap_or_default())),
        _ => files.read(key)?,
    };
    Ok(frame.map(|frame| Row { end, frame }))
}

fn prefix(row: &[u8]) -> Result<(u64, u8), redb::Error> {
    match row.split_first_chunk() {
        Some((end, [place @ (HERE | IN_FILE), ..])) => Ok((u64::from_le_bytes(*end), *place)),
        _ => Err(damage("a row is not whole")),
    }
}

/// The room that a frame takes: one of more than half a page has pages of its own, whose number is a
/// power of two, and smaller ones fill two thirds of theirs.
fn room(frame: usize) -> u64 {
    let octets = (frame + PREFIX) as u64 + OVERHEAD;
    match frame {
        LONGEST.. => octets.next_multiple_of(PAGE) + OVERHEAD,
        _ if octets > PAGE / 2 => octets.next_power_of_two().max(PAGE),
        _ => octets + octets / 2,
    }
}

/// When a record was appended.
fn appended(record: &[u8]) -> u64 {
    record.first_chunk().map_or(0, |time| u64::from_le_bytes(*time))
}

/// The sum of the log is all of these, each put in and taken out by exclusive or.
fn digest(place: (u64, u64), value: &[u8]) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&place.0.to_le_bytes()).update(&place.1.to_le_bytes()).update(value);
    let mut digest = [0; 8];
    hasher.finalize_xof().fill(&mut digest);
    u64::from_le_bytes(digest)
}

fn damage(what: &str) -> redb::Error {
    redb::Error::Corrupted(what.to_owned())
}

/// Octets that were changed on the disk can make redb panic, which is damage as well.
fn guarded<T>(work: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, Trouble> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => Ok(done?),
        Err(_) => Err(Trouble::Damaged("it makes no sense".to_owned())),
    }
}
