//! A gateway of a world: the real table, and the steps that `shared_log` and `Store` take with it. Each
//! step is one command to Redis, so that anything may happen between two of them.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};

use super::super::*;
use super::purge::{NAMES, Purge, number};
use super::redis::Redis;
use super::{BATCH, Broken};
use crate::store::extent::Extent;
use crate::store::seen::{Found, Seen, Since};

/// A set of the world's purges, a bit each.
pub(super) type Purges = u32;

/// A response, in a tier or on its way there.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) resource: usize,
    position: Position,
    /// How many purges there had been when its fetch began.
    pub(super) begun: usize,
    checked: u64,
}

impl Hash for Kept {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.resource, self.position, self.begun).hash(state);
    }
}

/// A fetch that has begun.
#[derive(Clone)]
struct Fetch {
    kept: Kept,
    shared: bool,
}

/// A purge that the server has appended, and that the gateway waits to hear of.
#[derive(Clone, Hash)]
struct Sent {
    number: usize,
    id: Position,
    before: Position,
}

/// What the log's reader does next.
#[derive(Clone, Hash)]
enum Next {
    Connect,
    Look(Looked),
    /// Something that a gateway appends for the whole fleet, at this place or a later one.
    Append {
        cause: Cause,
        place: Position,
        server: u8,
        may_choose: bool,
    },
    Name {
        id: Position,
        server: u8,
    },
    LearnName {
        id: Position,
        server: u8,
    },
    Note {
        server: u8,
    },
    Read,
    Check {
        owed: Purges,
    },
}

/// What the reader has found out so far.
#[derive(Clone, Copy, Debug, Default, Hash)]
struct Looked {
    commands: u8,
    identity: Option<u8>,
    extent: Option<Extent>,
    server: u8,
}

/// Why a gateway invalidates everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Cause {
    Doubt,
    Loss,
}

pub(super) struct Gateway {
    log: Log,
    broken: Option<Broken>,
    pub(super) l1: Vec<Kept>,
    fetch: Option<Fetch>,
    writing: Option<Kept>,
    sent: Option<Sent>,
    waiting: Vec<usize>,
    seen: Seen,
    next: Next,
    /// The run of the server that the reader is connected to.
    run: u8,
    in_step: bool,
    /// The process was held up for longer than it waits for an answer.
    held_up: bool,
    /// The purges that this gateway has applied.
    pub(super) applied: Purges,
    /// Those that it must have applied, as it says that it is in contact.
    pub(super) owed: Purges,
    /// Those that a fail-over may have lost: what they cover is stale, at least.
    pub(super) doubtful: Purges,
}

impl Gateway {
    pub(super) fn new(broken: Option<Broken>, owed: Purges) -> Self {
        Self {
            log: Log::new(WIDE),
            broken,
            l1: Vec::new(),
            fetch: None,
            writing: None,
            sent: None,
            waiting: Vec::new(),
            seen: Seen::default(),
            next: Next::Connect,
            run: 0,
            in_step: false,
            held_up: false,
            applied: 0,
            owed,
            doubtful: 0,
        }
    }

    pub(super) fn copy(&self) -> Self {
        let table = self.log.read();
        let Table { head, local, unshared, floor, softened, sweep_at, .. } = *table;
        let (marks, patterns) = (table.marks.clone(), table.patterns.clone());
        let prefixes = table.prefixes.clone();
        drop(table);
        let table =
            Table { head, local, unshared, floor, softened, marks, prefixes, patterns, sweep_at };
        let records = AtomicU64::new(self.log.records.load(Ordering::Relaxed));
        Self {
            log: Log { records, table: RwLock::new(table), ..Log::new(self.log.bounds) },
            l1: self.l1.clone(),
            fetch: self.fetch.clone(),
            writing: self.writing.clone(),
            sent: self.sent.clone(),
            waiting: self.waiting.clone(),
            seen: self.seen.clone(),
            next: self.next.clone(),
            ..*self
        }
    }

    pub(super) fn is_in_step(&self) -> bool {
        self.in_step || self.broken == Some(Broken::L2WhileBehind)
    }

    pub(super) fn is_connected(&self) -> bool {
        !matches!(self.next, Next::Connect)
    }

    /// The process stood still while the stream was trimmed beyond what the reader has read.
    pub(super) fn hold_up(&mut self, trimmed: Position) {
        self.held_up |= self.is_connected() && self.seen.last < trimmed;
    }

    pub(super) fn cut(&mut self) {
        (self.next, self.in_step, self.held_up) = (Next::Connect, false, false);
    }

    pub(super) fn may_fetch(&self) -> bool {
        self.fetch.is_none() && self.writing.is_none()
    }

    pub(super) fn begin_fetch(&mut self, resource: usize, purges: usize) {
        let Lease { position, shared, .. } = self.log.lease();
        let kept = Kept { resource, position, begun: purges, checked: 0 };
        self.fetch = Some(Fetch { kept, shared });
    }

    pub(super) fn is_fetching(&self) -> bool {
        self.fetch.is_some()
    }

    /// As `Store::put`.
    pub(super) fn end_fetch(&mut self) {
        let Some(Fetch { mut kept, mut shared }) = self.fetch.take() else { return };
        if self.broken == Some(Broken::LeaseAfterFetch) {
            kept.position = self.log.position();
        }
        if self.judge(&mut kept) != Verdict::Valid {
            return;
        }
        shared |= self.broken == Some(Broken::UnsharedInL2);
        self.writing = (self.is_in_step() && shared).then(|| kept.clone());
        self.put_in_l1(kept);
    }

    pub(super) fn is_writing(&self) -> bool {
        self.writing.is_some()
    }

    pub(super) fn write(&mut self, redis: &mut Redis) {
        if let Some(kept) = self.writing.take() {
            redis.keep(kept);
        }
    }

    /// Takes what L2 has into L1.
    pub(super) fn promote(&mut self, mut kept: Kept) {
        if self.judge_from_l2(&mut kept) != Verdict::Gone {
            self.put_in_l1(kept);
        }
    }

    fn put_in_l1(&mut self, kept: Kept) {
        self.l1.retain(|other| other.resource != kept.resource);
        self.l1.push(kept);
    }

    pub(super) fn judge(&self, kept: &mut Kept) -> Verdict {
        let stored = stored(kept);
        let verdict = self.log.judge(&stored);
        kept.checked = stored.checked.into_inner();
        verdict
    }

    pub(super) fn judge_from_l2(&self, kept: &mut Kept) -> Verdict {
        if self.broken == Some(Broken::UnknownPlaces) {
            return self.judge(kept);
        }
        // What another gateway has found of it is no part of the frame.
        kept.checked = 0;
        let stored = stored(kept);
        let verdict = self.log.judge_from_l2(&stored);
        kept.checked = stored.checked.into_inner();
        verdict
    }

    pub(super) fn has_sent(&self) -> bool {
        self.sent.is_some()
    }

    pub(super) fn send(&mut self, redis: &mut Redis, purge: Purge, number: usize) {
        let before = self.log.head();
        let id = redis.add(purge, Some(number));
        self.sent = Some(Sent { number, id, before });
    }

    /// As `SharedLog::append`. Answers which purge the fleet will read.
    pub(super) fn hear(&mut self, purges: &[Purge]) -> Option<usize> {
        let Sent { number, id, before } = self.sent.take()?;
        if id > before || self.broken == Some(Broken::PlacesFromBefore) {
            self.record(id, purges[number], Some(number));
            return Some(number);
        }
        self.apply_alone(purges[number], number);
        None
    }

    /// The answer never came.
    pub(super) fn miss(&mut self, purges: &[Purge]) {
        if let Some(Sent { number, .. }) = self.sent.take() {
            self.apply_alone(purges[number], number);
        }
    }

    pub(super) fn apply_alone(&mut self, purge: Purge, number: usize) {
        if self.broken == Some(Broken::OwnRecordsInL2) {
            self.log.append(&purge.record(), clock::instant());
        } else {
            self.log.append_ahead(&purge.record(), clock::instant());
        }
        self.applied |= 1 << number;
        self.waiting.push(number);
    }

    /// Whether something waits to be appended, and the log is being read.
    pub(super) fn may_share(&self) -> bool {
        self.in_step && !self.waiting.is_empty()
    }

    /// As `SharedLog::append_waiting`, for one record. With `is_lost` the answer never comes. Answers which
    /// purge is shared by that.
    pub(super) fn share(&mut self, redis: &mut Redis, purges: &[Purge], is_lost: bool) -> Purges {
        let Some(number) = self.waiting.first().copied() else { return 0 };
        let id = redis.add(purges[number], Some(number));
        if is_lost {
            return 0;
        }
        self.record(id, purges[number], Some(number));
        self.waiting.remove(0);
        if self.waiting.is_empty() {
            self.log.all_shared();
        }
        1 << number
    }

    fn record(&mut self, id: Position, purge: Purge, number: Option<usize>) {
        if self.broken == Some(Broken::BelowOwnPlaces) {
            self.log.write(|table, bounds| {
                table.head = table.head.max(id);
                (table.apply(id, &purge.record(), clock::instant(), bounds), ())
            });
        } else {
            self.log.record(id, &purge.record(), clock::instant());
        }
        self.applied |= number.map_or(0, |number| 1 << number);
    }

    /// The reader's next command, as in `SharedLog::read_on`. With `is_lost` the server gets the command,
    /// and then the connection breaks.
    pub(super) fn step(
        &mut self,
        redis: &mut Redis,
        purges: &[Purge],
        shared: Purges,
        is_lost: bool,
    ) {
        if self.is_connected() && (self.run != redis.run || self.held_up) {
            return self.cut();
        }
        let mut appended = None;
        match self.next {
            Next::Append { cause, place, may_choose: true, .. } => {
                appended = redis.add_at(place, cause.purge()).then_some(place);
            }
            Next::Append { cause, .. } => appended = Some(redis.add(cause.purge(), None)),
            Next::Name { .. } => redis.name(),
            Next::Note { server } => redis.noted = Some(server),
            _ => {}
        }
        match if is_lost { None } else { self.go_on(appended, redis, purges, shared) } {
            Some(next) => self.next = next,
            None => self.cut(),
        }
    }

    /// What comes after a command that was answered. `None` if that is another connection.
    fn go_on(
        &mut self,
        appended: Option<Position>,
        redis: &Redis,
        purges: &[Purge],
        shared: Purges,
    ) -> Option<Next> {
        let next = match self.next.clone() {
            Next::Connect => {
                self.run = redis.run;
                Next::Look(Looked { identity: redis.identity, ..Looked::default() })
            }
            Next::Look(looked) => match looked.commands {
                0 => Next::Look(Looked { commands: 1, extent: redis.extent(), ..looked }),
                1 => Next::Look(Looked { commands: 2, server: redis.run, ..looked }),
                _ => self.conclude(looked, redis.noted),
            },
            Next::Append { cause, place, server, may_choose } => {
                let id = appended.unwrap_or_default();
                if appended.is_some() {
                    self.record(id, cause.purge(), None);
                }
                match cause {
                    _ if id < place => {
                        let place = if may_choose { place } else { self.log.position().next() };
                        Next::Append { cause, place, server, may_choose: !may_choose }
                    }
                    Cause::Doubt => {
                        self.doubtful |= all(purges);
                        self.trust();
                        Next::Note { server }
                    }
                    Cause::Loss => Next::Name { id, server },
                }
            }
            Next::Name { id, server } => Next::LearnName { id, server },
            Next::LearnName { id, server } => {
                self.seen.identity = redis.identity.map(|name| name.to_string());
                self.seen.last = id;
                self.seen.distrusted = None;
                Next::Note { server }
            }
            Next::Note { server } => self.noted(server),
            Next::Read => {
                let found = redis.after(self.seen.last, BATCH);
                for entry in &found {
                    self.record(entry.id, entry.purge, entry.number);
                    self.seen.last = entry.id;
                }
                if found.len() < BATCH { Next::Check { owed: shared } } else { Next::Read }
            }
            Next::Check { owed } => {
                let is_same = redis.identity.map(|name| name.to_string()) == self.seen.identity;
                if !is_same && self.broken != Some(Broken::NoIdentity) {
                    return None;
                }
                self.in_step = true;
                self.owed |= owed;
                Next::Read
            }
        };
        Some(next)
    }

    /// As `SharedLog::bridge`.
    fn conclude(&mut self, looked: Looked, noted: Option<u8>) -> Next {
        let Looked { identity, extent, server, .. } = looked;
        let text = |number: u8| Some(number.to_string());
        let mut found = Found {
            identity: identity.and_then(text),
            extent,
            server: text(server),
            noted: noted.and_then(text),
        };
        match self.broken {
            Some(Broken::NoIdentity) if self.seen.identity.is_some() => {
                found.identity.clone_from(&self.seen.identity);
            }
            Some(Broken::TrustsAnyServer) => found.server = None,
            Some(Broken::NotesNoServer) => found.noted = None,
            _ => {}
        }
        let is_doubtful = match self.seen.since(&found) {
            Since::Begun { trimmed, is_doubtful } => {
                if let Some(first) = trimmed {
                    self.record(first, Purge::EVERYTHING, None);
                }
                self.seen.identity = found.identity;
                is_doubtful
            }
            Since::Same { is_doubtful } => is_doubtful,
            Since::Lost { newest } => return self.distrust(newest, server),
        };
        if !is_doubtful {
            self.trust();
            return if noted == Some(server) { self.noted(server) } else { Next::Note { server } };
        }
        let place = match self.broken {
            Some(Broken::DoubtsBelow) => Position::ZERO,
            _ => self.log.distrust(self.seen.last, true),
        };
        Next::Append { cause: Cause::Doubt, place, server, may_choose: false }
    }

    fn noted(&mut self, server: u8) -> Next {
        self.seen.server = Some(server.to_string());
        Next::Read
    }

    /// It is a log that can be read on: the next loss is another one.
    fn trust(&mut self) {
        if self.broken != Some(Broken::DistrustsOnce) {
            self.seen.distrusted = None;
        }
    }

    fn distrust(&mut self, newest: Position, server: u8) -> Next {
        if self.broken == Some(Broken::KeepsWhatWasLost) {
            return Next::Name { id: newest, server };
        }
        let to = newest.max(self.seen.last);
        let (l1, log) = (&mut self.l1, &self.log);
        let place = *self.seen.distrusted.get_or_insert_with(|| {
            l1.clear();
            log.distrust(to, false)
        });
        Next::Append { cause: Cause::Loss, place, server, may_choose: false }
    }

    /// All that decides what can come of this gateway.
    pub(super) fn fingerprint(&self) -> u64 {
        let state = &mut DefaultHasher::new();
        let table = self.log.read();
        let newest = |newest: &Newest| (newest.covered.hard, newest.covered.soft);
        (table.head, table.local, table.unshared).hash(state);
        (table.floor.hard, table.floor.soft).hash(state);
        for resource in 0..NAMES.len() {
            table.marks.get(&mark(number(resource))).map(newest).hash(state);
        }
        for (pattern, kept) in &table.patterns {
            (pattern, newest(kept)).hash(state);
        }
        // The one that there is, is on the first.
        for (text, kept) in table.prefixes.matching(NAMES[0], Position::ZERO) {
            (text, newest(kept)).hash(state);
        }
        let records = self.log.records.load(Ordering::Relaxed);
        for kept in &self.l1 {
            (kept, kept.checked == records).hash(state);
        }
        self.fetch.as_ref().map(|fetch| (&fetch.kept, fetch.shared)).hash(state);
        (&self.writing, &self.sent, &self.waiting).hash(state);
        let Seen { last, identity, server, distrusted, is_at_home: _ } = &self.seen;
        (last, identity, server, distrusted, &self.next, self.run).hash(state);
        (self.in_step, self.held_up, self.applied, self.owed, self.doubtful).hash(state);
        state.finish()
    }
}

impl Cause {
    fn purge(self) -> Purge {
        match self {
            Self::Doubt => Purge::STALE,
            Self::Loss => Purge::EVERYTHING,
        }
    }
}

/// Every purge there has been.
pub(super) fn all(purges: &[Purge]) -> Purges {
    (1 << purges.len()) - 1
}

fn stored(kept: &Kept) -> StoredResponse {
    let stored = response(NAMES[kept.resource], &[number(kept.resource)], kept.position);
    StoredResponse { checked: AtomicU64::new(kept.checked), ..stored }
}
