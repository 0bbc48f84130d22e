//! The newest records of the log as they were applied here, for operators who ask what has invalidated
//! something. What is valid is the log's to say, which knows what is covered and not why.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::store::log::{Invalidation, Scope};
use crate::store::record::Cause;
use crate::stored::Position;

/// So many are remembered.
const MOST: usize = 1024;

/// A text is cut after so many characters.
const LONGEST: usize = 256;

/// Among so many of the newest it is looked for a record that is applied a second time.
const LATEST: usize = 64;

/// Why there is a record.
#[derive(Clone, Debug)]
pub(super) struct Noted {
    place: Position,
    /// What it stands for; empty for everything.
    pub(super) label: Box<str>,
    /// `write`, `purge`, `change` or `trouble`, as far as it is known.
    pub(super) cause: Option<Box<str>>,
    /// The gateway that appended it.
    pub(super) by: Option<Arc<str>>,
    pub(super) applied: Instant,
}

/// The newest records.
#[derive(Debug, Default)]
pub(super) struct Journal(Mutex<VecDeque<Noted>>);

impl Journal {
    /// A record of this gateway's own was applied.
    pub(super) fn note(
        &self,
        place: Position,
        record: &Invalidation,
        cause: Cause,
        by: &Arc<str>,
        now: Instant,
    ) {
        self.note_of(place, record, cause.as_str(), Some(Arc::clone(by)), now);
    }

    /// A record was applied. One that is known already stays as it is.
    pub(super) fn note_of(
        &self,
        place: Position,
        record: &Invalidation,
        cause: Option<&str>,
        by: Option<Arc<str>>,
        now: Instant,
    ) {
        let label = match &record.scope {
            Scope::Mark { label, .. } => label,
            Scope::Pattern(pattern) => pattern,
            Scope::All => "",
        };
        let cut = |text: &str| text.chars().take(LONGEST).collect();
        let noted = Noted { place, label: cut(label), cause: cause.map(cut), by, applied: now };
        let mut all = self.all();
        if all.iter().rev().take(LATEST).any(|known| known.place == place) {
            return;
        }
        all.push_back(noted);
        if all.len() > MOST {
            all.pop_front();
        }
    }

    /// What is remembered of the record at a place.
    pub(super) fn at(&self, place: Position) -> Option<Noted> {
        self.all().iter().rev().find(|noted| noted.place == place).cloned()
    }

    fn all(&self) -> MutexGuard<'_, VecDeque<Noted>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    fn place(sequence: u64) -> Position {
        Position { millis: 0, sequence }
    }

    #[test]
    fn the_newest_are_remembered_each_once() {
        let (journal, now, by) = (Journal::default(), clock::instant(), Arc::from("one"));
        let record =
            |label: &str| Invalidation { scope: Scope::Pattern(label.to_owned()), soft: false };
        journal.note(place(1), &record("a*"), Cause::Purge, &by, now);
        journal.note_of(place(1), &record("a*"), None, None, now);
        let known = journal.at(place(1)).unwrap();
        assert_eq!((&*known.label, known.cause.as_deref()), ("a*", Some("purge")));
        assert_eq!(known.by.as_deref(), Some("one"));
        for sequence in 2..MOST as u64 + 2 {
            journal.note(place(sequence), &record("b"), Cause::Write, &by, now);
        }
        assert!(journal.at(place(1)).is_none() && journal.at(place(2)).is_some());
        let long = "\u{e9}".repeat(LONGEST + 1);
        journal.note(place(9999), &record(&long), Cause::Unknown { purge: false }, &by, now);
        let known = journal.at(place(9999)).unwrap();
        assert_eq!((known.label.chars().count(), known.cause), (LONGEST, None));
    }
}
