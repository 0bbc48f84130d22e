//! The invalidation log as one gateway knows it: what each record covers, and so which stored
//! responses are still valid. Nothing is deleted by key.
//!
//! A stored response carries the log's position from before its fetch began. It is valid while no
//! later record covers it: none on one of its marks, none whose pattern matches its name, none on
//! all. Where the records come from is `shared_log`'s work; without Redis they are this gateway's own.
//!
//! Only the newest record of each mark and pattern counts, so the table is bounded by their number.
//! A record that is dropped, for its age or for room, raises the floor: everything from before it is
//! then invalid. For its age that costs nothing, as what it could cover has reached the end of its
//! own life by then; for room it invalidates too much rather than too little.

mod covering;
mod prefixes;
mod room;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use self::prefixes::Prefixes;
use crate::clock;
use crate::store::journal::Journal;
use crate::store::pattern;
use crate::stored::{Mark, Moment, Position, StoredResponse};

/// What an invalidation covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Every stored response that bears this mark.
    Mark {
        /// The mark.
        mark: Mark,
        /// What it stands for, for operators who read the log.
        label: String,
    },
    /// Every stored response whose name matches: `*` stands for any run of characters.
    Pattern(String),
    /// Every stored response of the namespace.
    All,
}

/// One record of the log, still without its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalidation {
    /// What it covers.
    pub scope: Scope,
    /// True: what is covered becomes stale, and may be validated. False: it is gone.
    pub soft: bool,
}

impl Invalidation {
    /// Everything is gone.
    pub(super) const EVERYTHING: Self = Self { scope: Scope::All, soft: false };
}

/// The right to store one response, taken before its fetch begins. It is void once an invalidation
/// that covers the response overtakes it. Dropping it frees nothing and blocks nobody.
#[derive(Debug)]
pub struct Lease {
    pub(super) position: Position,
    records: u64,
    /// When it was taken, and in which [`Lag::span`](crate::store::lag::Lag::span).
    pub(super) begun: Moment,
    pub(super) span: u64,
    /// The position is one that the whole fleet knows, so the response may go to L2.
    pub(super) shared: bool,
}

impl Lease {
    /// How many records had been applied when it was taken. Of two leases with the same number,
    /// neither is void where the other is not. While the gateway lags, neither was taken more than
    /// `max_lag` before the other, either.
    pub fn records(&self) -> u64 {
        // There will not be 2^48 records.
        self.records | self.span << 48
    }
}

/// What the log says of one stored response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    /// No later record covers it.
    Valid,
    /// A soft one does.
    Stale,
    /// A hard one does.
    Gone,
}

/// The newest hard and soft record that cover something.
#[derive(Clone, Copy, Debug, Default)]
struct Covered {
    hard: Position,
    soft: Position,
}

impl Covered {
    fn at(position: Position, soft: bool) -> Self {
        if soft {
            Self { soft: position, ..Self::default() }
        } else {
            Self { hard: position, ..Self::default() }
        }
    }

    fn or(self, other: Self) -> Self {
        Self { hard: self.hard.max(other.hard), soft: self.soft.max(other.soft) }
    }

    fn newest(self) -> Position {
        self.hard.max(self.soft)
    }

    fn judge(self, born: Position) -> Verdict {
        if born < self.hard {
            Verdict::Gone
        } else if born < self.soft {
            Verdict::Stale
        } else {
            Verdict::Valid
        }
    }
}

/// What is kept of a mark's or a pattern's records.
#[derive(Clone, Copy, Debug)]
struct Newest {
    covered: Covered,
    applied: Instant,
}

/// How much the table may hold, and for how long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// How many marks: some 90 octets each.
    pub(super) marks: usize,
    /// How many patterns of a text with one `*` behind it: as much each, and its text.
    pub(super) prefixes: usize,
    /// How many other patterns. Each is tried on each response that is checked again.
    pub(super) patterns: usize,
    /// Longer than any stored response lives.
    pub(super) lifetime: Duration,
}

/// The log's table. Cheap to ask: while nothing was applied since a response was last found valid,
/// one atomic load says that it still is.
#[derive(Debug)]
pub(super) struct Log {
    /// How many records changed the table, from 1: 0 in a response means never checked. It changes
    /// only under the table's write lock.
    records: AtomicU64,
    table: RwLock<Table>,
    bounds: Bounds,
    /// Changes with each purge that is not soft.
    purged: watch::Sender<()>,
    /// Why there are records.
    pub(super) journal: Journal,
}

#[derive(Debug, Default)]
struct Table {
    /// The newest place known to be in the shared log.
    head: Position,
    /// The newest place given here while the shared log was out of reach, or without one.
    local: Position,
    /// The first of those places whose record the shared log has yet to get.
    unshared: Option<Position>,
    /// What covers everything: records on all, and records that were dropped.
    floor: Covered,
    /// When the newest soft one of those was applied.
    softened: Option<Instant>,
    marks: HashMap<Mark, Newest, foldhash::fast::RandomState>,
    prefixes: Prefixes,
    /// All others.
    patterns: Vec<(Box<str>, Newest)>,
    /// At how many marks to look for old ones. It doubles with what is left, so that looking costs
    /// little for each record.
    sweep_at: usize,
}

/// Below this number no one looks for old marks.
const SWEEP_LEAST: usize = 1024;

impl Log {
    pub(super) fn new(bounds: Bounds) -> Self {
        let table = Table { sweep_at: SWEEP_LEAST, ..Table::default() };
        let purged = watch::channel(()).0;
        Self {
            records: AtomicU64::new(1),
            table: RwLock::new(table),
            bounds,
            purged,
            journal: Journal::default(),
        }
    }

    /// What changes when an operator's purge that is not soft has been applied.
    pub(super) fn purges(&self) -> watch::Receiver<()> {
        self.purged.subscribe()
    }

    /// Such a purge has been applied, perhaps not for the first time.
    pub(super) fn tell_of_purge(&self) {
        self.purged.send_replace(());
    }

    /// Longer than any stored response lives.
    pub(super) fn lifetime(&self) -> Duration {
        self.bounds.lifetime
    }

    /// The place where the log is now.
    pub(super) fn lease(&self) -> Lease {
        let table = self.read();
        Lease {
            position: table.position(),
            records: self.records.load(Ordering::Relaxed),
            begun: Moment::BEFORE_ALL,
            span: 0,
            shared: table.local <= table.head,
        }
    }

    /// A lease of the place to which this log's `own` records have led, if nothing else was applied
    /// since another.
    pub(super) fn lease_after(&self, before: &Lease, own: usize, place: Position) -> Option<Lease> {
        let lease = self.lease();
        let is_next = lease.records == before.records + own as u64;
        // Not where the log is now: should it have gone on, that is for the judge to see.
        let Lease { begun, span, .. } = *before;
        is_next.then_some(Lease { position: place, begun, span, ..lease })
    }

    pub(super) fn position(&self) -> Position {
        self.read().position()
    }

    /// The newest place that is known to be in the shared log.
    pub(super) fn head(&self) -> Position {
        self.read().head
    }

    /// How many marks and patterns the table holds.
    pub(super) fn sizes(&self) -> (usize, usize) {
        let table = self.read();
        (table.marks.len(), table.prefixes.count() + table.patterns.len())
    }

    /// Whether `stored` may still be used. All that can invalidate it is in itself: its marks
    /// (route and key among them), its name and its position.
    pub(super) fn judge(&self, stored: &StoredResponse) -> Verdict {
        if stored.checked.load(Ordering::Relaxed) == self.records.load(Ordering::Acquire) {
            return Verdict::Valid;
        }
        self.judge_in(&self.read(), stored)
    }

    /// As [`Log::judge`], for a response that L2 held. One from a place that this log has not
    /// reached is refused: it may come from a log that Redis lost, whose places mean nothing here.
    ///
    /// So is one that does not come from below the first record that only this gateway knows:
    /// the gateway that stored it fetched it without knowing that one, whatever it had read since.
    pub(super) fn judge_from_l2(&self, stored: &StoredResponse) -> Verdict {
        let table = self.read();
        let is_beyond = |place| stored.position >= place;
        if stored.position > table.head || table.unshared.is_some_and(is_beyond) {
            return Verdict::Gone;
        }
        self.judge_in(&table, stored)
    }

    /// Whether a record covers a response with these marks and this name, born at this place.
    pub(super) fn covers(&self, marks: &[Mark], name: &str, born: Position) -> bool {
        self.read().covering(marks, name, born).judge(born) != Verdict::Valid
    }

    fn judge_in(&self, table: &Table, stored: &StoredResponse) -> Verdict {
        let covered = table.covering(&stored.marks, &stored.name, stored.position);
        let verdict = covered.judge(stored.position);
        if verdict == Verdict::Valid {
            stored.checked.store(self.records.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        verdict
    }

    /// Applies a record of the shared log; any order, any number of times. Answers the place from
    /// which on it counts here.
    ///
    /// That is its id, save where this gateway has given that place or a later one to itself while
    /// it was cut off (the server's clock is behind). Then it is the next place after those, so that
    /// no response that was born under them escapes the record.
    pub(super) fn record(&self, id: Position, record: &Invalidation, now: Instant) -> Position {
        self.write(|table, bounds| {
            table.head = table.head.max(id);
            let place = if id > table.local { id } else { table.step(table.local) };
            (table.apply(place, record, now, bounds), place)
        })
    }

    /// Appends a record without the shared log and applies it. The place is the next one after the
    /// newest known: never this machine's clock, which may be ahead of the server's.
    pub(super) fn append(&self, record: &Invalidation, now: Instant) -> Position {
        self.write(|table, bounds| {
            let place = table.step(table.position());
            table.apply(place, record, now, bounds);
            (true, place)
        })
    }

    /// As [`Log::append`], for a record that the shared log is to get later.
    pub(super) fn append_ahead(&self, record: &Invalidation, now: Instant) -> Position {
        self.write(|table, bounds| {
            let place = table.step(table.position());
            table.unshared.get_or_insert(place);
            table.apply(place, record, now, bounds);
            (true, place)
        })
    }

    /// The shared log has got all of those, and they were applied from there.
    pub(super) fn all_shared(&self) {
        self.write(|table, _| (false, table.unshared = None));
    }

    /// Makes everything from before now invalid, or stale if that is `soft`, with `server` being a place
    /// that the shared log has reached. Answers a place above everything born so far.
    ///
    /// Records from below that place, as of a server whose clock is behind, count from after it.
    pub(super) fn distrust(&self, server: Position, soft: bool) -> Position {
        self.write(|table, _| {
            let place = table.step(table.position().max(server));
            table.floor = table.floor.or(Covered::at(place, soft));
            table.softened = if soft { Some(clock::instant()) } else { table.softened };
            (true, place.next())
        })
    }

    fn read(&self) -> RwLockReadGuard<'_, Table> {
        // The table is whole after every single statement that changes it.
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// `change` answers whether it changed what is covered, and its result.
    fn write<T>(&self, change: impl FnOnce(&mut Table, &Bounds) -> (bool, T)) -> T {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let (changed, answer) = change(&mut table, &self.bounds);
        if changed {
            self.records.fetch_add(1, Ordering::Release);
        }
        answer
    }
}

impl Table {
    fn position(&self) -> Position {
        self.head.max(self.local)
    }

    /// Gives out the place after `from`.
    fn step(&mut self, from: Position) -> Position {
        self.local = from.next();
        self.local
    }

    fn covering(&self, marks: &[Mark], name: &str, born: Position) -> Covered {
        let marks = marks.iter().filter_map(|mark| self.marks.get(mark));
        // A pattern that is too old to matter is not worth trying.
        let patterns = self.patterns.iter().filter(|(pattern, newest)| {
            newest.covered.newest() > born && pattern::matches(pattern, name)
        });
        let prefixes = self.prefixes.matching(name, born).map(|(_, newest)| newest);
        let newest = marks.chain(patterns.map(|(_, newest)| newest)).chain(prefixes);
        newest.fold(self.floor, |covered, newest| covered.or(newest.covered))
    }

    /// Whether that changed what is covered.
    fn apply(
        &mut self,
        place: Position,
        record: &Invalidation,
        now: Instant,
        bounds: &Bounds,
    ) -> bool {
        let covered = Covered::at(place, record.soft);
        let fresh = Newest { covered: Covered::default(), applied: now };
        let newest = match &record.scope {
            Scope::All => {
                let before = self.floor;
                self.floor = before.or(covered);
                if self.floor.soft != before.soft {
                    self.softened = Some(now);
                }
                return self.floor.hard != before.hard || self.floor.soft != before.soft;
            }
            Scope::Mark { mark, .. } => {
                if !self.marks.contains_key(mark) {
                    self.make_room_for_mark(now, bounds);
                }
                self.marks.entry(*mark).or_insert(fresh)
            }
            Scope::Pattern(pattern) => {
                if let Some(text) = prefixes::text(pattern) {
                    if !self.prefixes.contains(text) {
                        self.make_room_for_prefix(now, bounds);
                    }
                    self.prefixes.entry(text, place, fresh)
                } else {
                    // Moved to the end, or put there.
                    let known = self.patterns.iter().position(|(known, _)| **known == **pattern);
                    let entry = match known {
                        Some(place) => self.patterns.swap_remove(place),
                        None => (pattern.as_str().into(), fresh),
                    };
                    self.make_room_for_pattern(now, bounds);
                    &mut self.patterns.push_mut(entry).1
                }
            }
        };
        let before = newest.covered;
        newest.covered = before.or(covered);
        newest.applied = now;
        newest.covered.hard != before.hard || newest.covered.soft != before.soft
    }
}

#[cfg(test)]
mod tests {
    mod model;

    use std::time::SystemTime;

    use bytes::Bytes;
    use http::StatusCode;
    use proptest::prelude::*;

    use crate::stored::cut_name;

    use super::*;
    use crate::semantics::Freshness;
    use crate::store::explain::Covers;
    use crate::stored::{Fields, Original};

    const HOUR: Duration = Duration::from_hours(1);
    const WIDE: Bounds = Bounds { marks: 1000, prefixes: 1000, patterns: 100, lifetime: HOUR };

    fn at(millis: u64, sequence: u64) -> Position {
        Position { millis, sequence }
    }

    fn mark(number: u8) -> Mark {
        Mark([number; 16])
    }

    fn on_mark(number: u8, soft: bool) -> Invalidation {
        Invalidation { scope: Scope::Mark { mark: mark(number), label: String::new() }, soft }
    }

    fn on_pattern(pattern: &str, soft: bool) -> Invalidation {
        Invalidation { scope: Scope::Pattern(pattern.to_owned()), soft }
    }

    fn response(name: &str, marks: &[u8], position: Position) -> StoredResponse {
        StoredResponse {
            name: name.into(),
            status: StatusCode::OK,
            fields: Fields::default(),
            body: Bytes::new(),
            part: None,
            freshness: Freshness::fresh_for(HOUR, SystemTime::UNIX_EPOCH),
            marks: marks.iter().copied().map(mark).collect(),
            position,
            begun: Moment::BEFORE_ALL,
            checked: AtomicU64::new(0),
            original: Original::default(),
        }
    }

    #[test]
    fn a_record_covers_what_was_born_before_it_and_nothing_else() {
        let log = Log::new(WIDE);
        let now = clock::instant();
        log.record(at(10, 0), &on_mark(1, false), now);
        log.record(at(20, 0), &on_pattern("users/*", true), now);
        for (name, marks, born, expected, why) in [
            ("a", &[1, 2][..], at(9, 9), Verdict::Gone, "it bears the mark"),
            ("a", &[1, 2], at(10, 0), Verdict::Valid, "it was born under the record"),
            ("a", &[2], at(0, 0), Verdict::Valid, "it bears another mark"),
            ("users/1", &[], at(19, 0), Verdict::Stale, "the pattern is soft"),
            ("users/1", &[1], at(9, 0), Verdict::Gone, "hard beats soft"),
            ("users/1", &[], at(20, 0), Verdict::Valid, "it was born under the pattern"),
        ] {
            assert_eq!(log.judge(&response(name, marks, born)), expected, "{why}");
        }
        log.record(at(30, 0), &Invalidation { scope: Scope::All, soft: true }, now);
        assert_eq!(log.judge(&response("a", &[], at(29, 0))), Verdict::Stale);
        log.record(at(31, 0), &Invalidation::EVERYTHING, now);
        assert_eq!(log.judge(&response("a", &[], at(29, 0))), Verdict::Gone);
    }

    #[test]
    fn a_response_found_valid_before_is_found_gone_after() {
        let log = Log::new(WIDE);
        let stored = response("a", &[1], log.position());
        assert_eq!(log.judge(&stored), Verdict::Valid);
        log.append(&on_mark(2, false), clock::instant());
        assert_eq!(log.judge(&stored), Verdict::Valid);
        log.append(&on_mark(1, false), clock::instant());
        assert_eq!(log.judge(&stored), Verdict::Gone);
        assert_eq!(log.judge(&stored), Verdict::Gone, "again");
    }

    #[test]
    fn what_is_still_to_come_is_covered_by_what_is_known_of_it() {
        let log = Log::new(WIDE);
        let now = clock::instant();
        log.record(at(10, 0), &on_mark(1, false), now);
        log.record(at(20, 0), &on_pattern("b*", true), now);
        for (marks, name, born, covered, why) in [
            (&[1][..], "a", at(9, 0), true, "a record on its mark came later"),
            (&[1], "a", at(10, 0), false, "it came before"),
            (&[2], "a", at(9, 0), false, "it is on another mark"),
            (&[2], "bc", at(19, 0), true, "a soft one on its name is one, too"),
            (&[1, 2], "a", at(9, 0), true, "one mark is enough"),
        ] {
            let marks: Vec<_> = marks.iter().map(|number| mark(*number)).collect();
            assert_eq!(log.covers(&marks, name, born), covered, "{why}");
        }
    }

    #[test]
    fn a_record_read_twice_changes_nothing() {
        let log = Log::new(WIDE);
        log.record(at(10, 0), &on_mark(1, false), clock::instant());
        let before = log.lease().records();
        log.record(at(10, 0), &on_mark(1, false), clock::instant());
        assert_eq!(log.lease().records(), before);
    }

    #[test]
    fn records_that_come_late_count_from_their_own_place() {
        let log = Log::new(WIDE);
        let now = clock::instant();
        // This gateway's own record is known before an earlier one of another gateway is read.
        log.record(at(20, 0), &on_mark(1, false), now);
        log.record(at(15, 0), &on_mark(2, false), now);
        assert_eq!(log.judge(&response("a", &[2], at(14, 0))), Verdict::Gone);
        assert_eq!(log.judge(&response("a", &[2], at(20, 0))), Verdict::Valid);
        assert_eq!(log.position(), at(20, 0));
    }

    #[test]
    fn places_given_without_contact_count_up_and_are_not_shared() {
        let log = Log::new(WIDE);
        let now = clock::instant();
        log.record(at(10, 3), &on_mark(1, false), now);
        assert!(log.lease().shared);
        assert_eq!(log.append(&on_mark(2, false), now), at(10, 4));
        let lease = log.lease();
        assert_eq!((lease.position, lease.shared), (at(10, 4), false));
        log.record(at(11, 0), &on_mark(3, false), now);
        assert!(log.lease().shared, "the shared log has overtaken them");
    }

    #[test]
    fn no_record_escapes_behind_places_given_without_contact() {
        let log = Log::new(WIDE);
        let now = clock::instant();
        log.record(at(10, 0), &on_mark(9, false), now);
        log.append(&on_mark(9, false), now);
        log.append(&on_mark(9, false), now);
        let born_cut_off = response("a", &[1], log.lease().position);
        // The server's clock stands still, so others got the same places.
        let counts_from = log.record(at(10, 1), &on_mark(1, false), now);
        assert_eq!(log.judge(&born_cut_off), Verdict::Gone);
        assert!(counts_from > born_cut_off.position);
        assert!(!log.lease().shared);
    }

    #[test]
    fn distrust_covers_all_that_was_born() {
        let log = Log::new(WIDE);
        log.record(at(10, 0), &on_mark(1, false), clock::instant());
        let stored = response("a", &[], log.lease().position);
        assert_eq!(log.judge(&stored), Verdict::Valid);
        let place = log.distrust(at(20, 0), false);
        assert_eq!(log.judge(&stored), Verdict::Gone);
        assert!(place > at(20, 0) && place > log.lease().position);
        assert!(!log.lease().shared);
        log.record(place, &Invalidation::EVERYTHING, clock::instant());
        assert!(log.lease().shared);
    }

    #[test]
    fn records_of_a_server_whose_clock_is_behind_count_after_what_another_lost() {
        let log = Log::new(WIDE);
        let now = clock::instant();
        // The newest is this gateway's own, which it has not met in its place yet.
        log.record(at(10, 0), &on_mark(9, false), now);
        log.record(at(10, 3), &on_mark(9, false), now);
        let born_under_it = response("a", &[1], log.lease().position);
        // Another server has the log now, and has never had that one.
        let place = log.distrust(at(10, 0), true);
        assert_eq!(log.judge(&born_under_it), Verdict::Stale);
        assert!(place > at(10, 3), "what makes it stale for others, too, is above it");
        log.record(at(10, 1), &on_mark(1, false), now);
        assert_eq!(log.judge(&born_under_it), Verdict::Gone);
    }

    #[test]
    fn what_l2_holds_from_an_unknown_place_is_refused() {
        let log = Log::new(WIDE);
        log.record(at(10, 0), &on_mark(1, false), clock::instant());
        assert_eq!(log.judge_from_l2(&response("a", &[], at(10, 0))), Verdict::Valid);
        assert_eq!(log.judge_from_l2(&response("a", &[], at(10, 1))), Verdict::Gone);
        // Of a gateway that knows of more records than this one, and not of this one's.
        log.append_ahead(&on_mark(2, false), clock::instant());
        log.append_ahead(&on_mark(3, false), clock::instant());
        log.record(at(20, 0), &on_mark(4, false), clock::instant());
        assert_eq!(log.judge_from_l2(&response("a", &[2], at(10, 0))), Verdict::Gone);
        let born = [at(10, 0), at(10, 1), at(20, 0), at(20, 1)];
        let judge = || born.map(|born| log.judge_from_l2(&response("a", &[], born)));
        let (valid, gone) = (Verdict::Valid, Verdict::Gone);
        assert_eq!(judge(), [valid, gone, gone, gone]);
        log.all_shared();
        assert_eq!(judge(), [valid, valid, valid, gone]);
    }

    #[test]
    fn since_when_soft_records_cover_a_response() {
        let log = Log::new(Bounds { marks: 1, prefixes: 1, patterns: 1, lifetime: HOUR });
        let now = clock::instant();
        let later = |seconds| now + Duration::from_secs(seconds);
        let softened = |name, marks: &[u8], born| log.softened(&response(name, marks, at(born, 0)));
        log.record(at(10, 0), &on_mark(1, true), now);
        assert_eq!(softened("a", &[1], 9), Some(now));
        assert_eq!(softened("a", &[2], 9), None, "it bears another mark");
        assert_eq!(softened("a", &[1], 10), None, "it was born under the record");
        log.record(at(20, 0), &on_mark(1, true), later(5));
        assert_eq!(softened("a", &[1], 9), Some(later(5)), "the newest of a mark");
        let pattern = Invalidation { scope: Scope::Pattern("a".to_owned()), soft: true };
        log.record(at(30, 0), &pattern, later(7));
        assert_eq!(softened("a", &[1], 9), Some(later(5)), "the first that covers it");
        assert_eq!(softened("a", &[], 9), Some(later(7)));
        assert_eq!(softened("b", &[], 9), None);
        log.record(at(40, 0), &on_mark(2, true), later(9));
        assert_eq!(softened("b", &[], 9), Some(later(5)), "one had to go, and covers all now");
        let all = Invalidation { scope: Scope::All, soft: true };
        log.record(at(50, 0), &all, later(11));
        assert_eq!(softened("b", &[], 30), Some(later(11)));
    }

    #[test]
    fn what_is_too_old_is_dropped_and_covers_all_that_is_older() {
        let log = Log::new(WIDE);
        let start = clock::instant();
        log.record(at(1, 0), &on_pattern("a", false), start);
        log.record(at(2, 0), &on_pattern("b", false), start + HOUR * 2);
        assert_eq!(log.sizes(), (0, 1));
        assert_eq!(log.judge(&response("c", &[], at(0, 9))), Verdict::Gone);
        assert_eq!(log.judge(&response("c", &[], at(1, 0))), Verdict::Valid);
    }

    #[test]
    fn the_table_is_bounded_and_a_full_one_raises_the_floor() {
        let bounds = Bounds { marks: 64, prefixes: 4, patterns: 4, lifetime: HOUR };
        let log = Log::new(bounds);
        let now = clock::instant();
        for number in 0..200 {
            log.record(at(1, u64::from(number)), &on_mark(number, false), now);
            log.record(at(1, u64::from(number)), &on_pattern(&number.to_string(), true), now);
        }
        let (marks, patterns) = log.sizes();
        assert!((32..=64).contains(&marks) && patterns == 4);
        assert_eq!(
            log.judge(&response("x", &[0], at(0, 0))),
            Verdict::Gone,
            "dropped, yet covered"
        );
        assert_eq!(log.judge(&response("x", &[199], at(1, 198))), Verdict::Gone);
        assert_eq!(log.judge(&response("x", &[], at(1, 199))), Verdict::Valid);
    }

    #[test]
    fn a_pattern_for_each_of_many_resources_covers_those_and_nothing_else() {
        let log = Log::new(WIDE);
        let now = clock::instant();
        let write = |number| {
            log.record(at(1, number), &on_pattern(&format!("users/{number}/*"), true), now)
        };
        for number in 0..300 {
            write(number);
        }
        assert_eq!(log.sizes(), (0, 300));
        let cut = cut_name(format!("users/7/{}", "a".repeat(600)));
        for (name, born, expected, why) in [
            ("other", at(0, 0), Verdict::Valid, "it is none of them"),
            ("users/7", at(0, 0), Verdict::Valid, "it lies above one"),
            ("users/300/orders", at(0, 0), Verdict::Valid, "it lies beside them"),
            ("users/7/", at(0, 0), Verdict::Stale, "a run may be empty"),
            ("users/7/orders", at(1, 6), Verdict::Stale, "it lies below one"),
            ("users/7/orders", at(1, 7), Verdict::Valid, "it was born under the pattern"),
            ("users/7/é", at(0, 0), Verdict::Stale, "texts end between characters"),
            ("users/7é", at(0, 0), Verdict::Valid, "and not within one"),
            ("users/7…", at(0, 0), Verdict::Valid, "it ends so by itself"),
            (&cut, at(0, 0), Verdict::Stale, "what is left of it lies below one"),
        ] {
            assert_eq!(log.judge(&response(name, &[], born)), expected, "{name}: {why}");
        }
        let covered = response("users/7/orders", &[], at(0, 0));
        assert_eq!(log.softened(&covered), Some(now));
        let covers = log.invalidated_by(&covered).map(|record| record.covers);
        assert_eq!(covers, Some(Covers::Pattern("users/7/*".into())));

        // Beyond the bound the oldest ones cover everything.
        for number in 300..1300 {
            write(number);
        }
        assert!((800..=1000).contains(&log.sizes().1));
        for (name, born, expected, why) in [
            ("users/0/orders", at(0, 0), Verdict::Stale, "dropped, yet covered"),
            ("other", at(0, 0), Verdict::Stale, "it is as old as what was dropped"),
            ("other", at(1, 600), Verdict::Valid, "it is not"),
            ("users/1299/orders", at(1, 1298), Verdict::Stale, "the newest one covers it"),
        ] {
            assert_eq!(log.judge(&response(name, &[], born)), expected, "{name}: {why}");
        }
    }

    #[test]
    fn old_patterns_of_a_text_are_dropped_when_there_are_many() {
        let log = Log::new(Bounds { prefixes: 2 * SWEEP_LEAST, ..WIDE });
        let start = clock::instant();
        let write = |number: usize, now| {
            let place = at(1, u64::try_from(number).unwrap());
            log.record(place, &on_pattern(&format!("{number}/*"), false), now)
        };
        for number in 0..SWEEP_LEAST {
            write(number, start);
        }
        write(SWEEP_LEAST, start + HOUR * 2);
        assert_eq!(log.sizes(), (0, 1));
        let newest = u64::try_from(SWEEP_LEAST).unwrap();
        assert_eq!(log.judge(&response("a", &[], at(1, newest - 2))), Verdict::Gone);
        assert_eq!(log.judge(&response("a", &[], at(1, newest - 1))), Verdict::Valid);
    }

    /// What may happen to a log, with small numbers so that things meet.
    #[derive(Clone, Debug)]
    enum Step {
        Record { ahead: u64, record: Invalidation },
        Append(Invalidation),
        Born { name: String, marks: Vec<u8> },
    }

    fn any_step() -> impl Strategy<Value = Step> {
        let scope = prop_oneof![
            4 => (0..8_u8).prop_map(|number| on_mark(number, false).scope),
            2 => "[abé]{0,2}\\*[ab]?".prop_map(Scope::Pattern),
            1 => Just(Scope::All),
        ];
        let record = (scope, any::<bool>()).prop_map(|(scope, soft)| Invalidation { scope, soft });
        prop_oneof![
            (0..3_u64, record.clone()).prop_map(|(ahead, record)| Step::Record { ahead, record }),
            record.prop_map(Step::Append),
            ("[abé]{0,3}…?", proptest::collection::vec(0..8_u8, 0..3))
                .prop_map(|(name, marks)| Step::Born { name, marks }),
        ]
    }

    /// The rule itself: all records are kept, and each is asked.
    fn by_definition(records: &[(Position, Invalidation)], stored: &StoredResponse) -> Verdict {
        let later = records.iter().filter(|(place, record)| {
            let covers = match &record.scope {
                Scope::Mark { mark, .. } => stored.marks.contains(mark),
                Scope::Pattern(pattern) => pattern::matches(pattern, &stored.name),
                Scope::All => true,
            };
            covers && *place > stored.position
        });
        later
            .map(|(_, record)| if record.soft { Verdict::Stale } else { Verdict::Gone })
            .max()
            .unwrap_or(Verdict::Valid)
    }

    /// Plays the steps; each answer comes with the one by definition.
    fn play(bounds: Bounds, steps: Vec<Step>) -> Vec<(Verdict, Verdict)> {
        let log = Log::new(bounds);
        let now = clock::instant();
        let (mut records, mut responses, mut verdicts) = (Vec::new(), Vec::new(), Vec::new());
        let mut id = at(5, 0);
        for step in steps {
            match step {
                Step::Record { ahead, record } => {
                    id = Position { millis: id.millis, sequence: id.sequence + ahead + 1 };
                    records.push((log.record(id, &record, now), record));
                }
                Step::Append(record) => records.push((log.append(&record, now), record)),
                Step::Born { name, marks } => {
                    responses.push(response(&name, &marks, log.lease().position));
                }
            }
            for stored in &responses {
                verdicts.push((log.judge(stored), by_definition(&records, stored)));
            }
        }
        verdicts
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(steps in proptest::collection::vec(any_step(), 0..40)) {
            for (answer, expected) in play(WIDE, steps) {
                prop_assert_eq!(answer, expected);
            }
        }

        #[test]
        fn a_small_table_invalidates_too_much_and_never_too_little(
            steps in proptest::collection::vec(any_step(), 0..60)
        ) {
            let bounds = Bounds { marks: 3, prefixes: 2, patterns: 2, lifetime: HOUR };
            for (answer, expected) in play(bounds, steps) {
                prop_assert!(answer >= expected, "{answer:?} instead of {expected:?}");
            }
        }

        #[test]
        fn every_record_covers_all_born_before_it_was_applied(
            steps in proptest::collection::vec(any_step(), 0..40),
            number in 0..8_u8,
            ahead in 1..4_u64,
        ) {
            let log = Log::new(WIDE);
            let now = clock::instant();
            let mut id = at(5, 0);
            for step in steps {
                match step {
                    Step::Record { ahead, record } => {
                        id.sequence += ahead + 1;
                        log.record(id, &record, now);
                    }
                    Step::Append(record) => drop(log.append(&record, now)),
                    Step::Born { .. } => {}
                }
            }
            let stored = response("a", &[number], log.lease().position);
            id.sequence += ahead;
            log.record(id, &on_mark(number, false), now);
            prop_assert_eq!(log.judge(&stored), Verdict::Gone);
        }
    }
}
