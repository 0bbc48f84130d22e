//! The one Redis of a world: the stream, the name beside it, and what lies in L2.

use super::gateway::Kept;
use super::purge::Purge;
use crate::store::extent::Extent;
use crate::stored::Position;

/// A record of the stream.
#[derive(Clone, Hash)]
pub(super) struct Entry {
    pub(super) id: Position,
    pub(super) purge: Purge,
    /// Which of the world's purges it is; `None` for one by which a gateway drops everything.
    pub(super) number: Option<usize>,
}

#[derive(Clone, Default, Hash)]
pub(super) struct Stream {
    entries: Vec<Entry>,
    newest: Position,
    added: usize,
}

#[derive(Clone, Default, Hash)]
pub(super) struct Redis {
    clock: u64,
    /// Connections are to one run of the server.
    pub(super) run: u8,
    /// How many names there have been.
    names: u8,
    pub(super) identity: Option<u8>,
    /// The run that a gateway has noted last.
    pub(super) noted: Option<u8>,
    stream: Option<Stream>,
    pub(super) l2: Vec<Kept>,
    /// It lost something, at some time.
    has_lost: bool,
}

impl Redis {
    pub(super) fn new() -> Self {
        Self { clock: 20, ..Self::default() }
    }

    /// It never lost anything.
    pub(super) fn is_sound(&self) -> bool {
        !self.has_lost
    }

    /// `XADD *`.
    pub(super) fn add(&mut self, purge: Purge, number: Option<usize>) -> Position {
        let clock = Position { millis: self.clock, sequence: 0 };
        let stream = self.stream.get_or_insert_default();
        let id = clock.max(stream.newest.next());
        stream.push(Entry { id, purge, number });
        id
    }

    /// `XADD` with an id: false if that is not above all there have been.
    pub(super) fn add_at(&mut self, id: Position, purge: Purge) -> bool {
        let stream = self.stream.get_or_insert_default();
        let is_above = id > stream.newest;
        if is_above {
            stream.push(Entry { id, purge, number: None });
        }
        is_above
    }

    /// `SET NX` of the name.
    pub(super) fn name(&mut self) {
        if self.identity.is_none() {
            self.names += 1;
            self.identity = Some(self.names);
        }
    }

    /// `XREAD`: the records after a place, at most so many.
    pub(super) fn after(&self, place: Position, most: usize) -> Vec<Entry> {
        let entries = self.stream.iter().flat_map(|stream| &stream.entries);
        entries.filter(|entry| entry.id > place).take(most).cloned().collect()
    }

    pub(super) fn extent(&self) -> Option<Extent> {
        let Stream { entries, newest, added } = self.stream.as_ref()?;
        let first = entries.first().map(|entry| entry.id);
        Some(Extent { newest: *newest, first, trimmed: *added > entries.len() })
    }

    /// `FLUSHALL`, or with `restart` a new process with nothing in it.
    pub(super) fn lose_all(&mut self, restart: bool) {
        (self.identity, self.noted, self.stream, self.has_lost) = (None, None, None, true);
        self.l2.clear();
        self.run += u8::from(restart);
    }

    /// A replica takes over that has not got the newest records. Of the rest it has everything. Its clock
    /// has gone on since the former one gave out its last id, or is so far behind that it has not.
    pub(super) fn fail_over(&mut self, lost: usize, is_behind: bool) {
        self.run += 1;
        self.has_lost = true;
        let Some(stream) = &mut self.stream else { return };
        if !is_behind {
            self.clock = self.clock.max(stream.newest.millis + 1);
        }
        let left = stream.entries.len().saturating_sub(lost);
        stream.added -= stream.entries.len() - left;
        stream.entries.truncate(left);
        stream.newest = stream.entries.last().map_or(Position::ZERO, |entry| entry.id);
    }

    /// Drops the oldest record. Answers its place.
    pub(super) fn trim(&mut self) -> Option<Position> {
        let stream = self.stream.as_mut().filter(|stream| !stream.entries.is_empty())?;
        self.has_lost = true;
        Some(stream.entries.remove(0).id)
    }

    pub(super) fn advance(&mut self) {
        self.clock += 1;
    }

    pub(super) fn set_back(&mut self) {
        self.clock -= 2;
    }

    /// What is written last lies there.
    pub(super) fn keep(&mut self, kept: Kept) {
        self.l2.retain(|other| other.resource != kept.resource);
        self.l2.push(kept);
    }
}

impl Stream {
    fn push(&mut self, entry: Entry) {
        self.newest = entry.id;
        self.added += 1;
        self.entries.push(entry);
    }
}
