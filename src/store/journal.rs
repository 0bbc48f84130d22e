//! The newest records of the log as they were applied here, for operators who ask what has invalidated
//! something, or what is being invalidated. What is valid is the log's to say, which knows what is covered
//! and not why.

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
pub struct Noted {
    /// Counts up from 1, in the order in which they were applied here.
    pub number: u64,
    /// Its place in the log.
    pub place: Position,
    /// `mark`, `pattern` or `all`.
    pub kind: &'static str,
    /// What it stands for; empty for everything.
    pub label: Box<str>,
    /// What is covered is stale, and not gone.
    pub soft: bool,
    /// `write`, `purge`, `change` or `trouble`, as far as it is known.
    pub cause: Option<Box<str>>,
    /// The gateway that appended it.
    pub by: Option<Arc<str>>,
    /// When it was applied here.
    pub applied: Instant,
}

/// The newest records.
#[derive(Debug, Default)]
pub(super) struct Journal(Mutex<All>);

#[derive(Debug, Default)]
struct All {
    count: u64,
    noted: VecDeque<Noted>,
}

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
        let (kind, label) = match &record.scope {
            Scope::Mark { label, .. } => ("mark", label.as_str()),
            Scope::Pattern(pattern) => ("pattern", pattern.as_str()),
            Scope::All => ("all", ""),
        };
        let cut = |text: &str| match text.len() {
            ..=LONGEST => text.into(),
            _ => text.chars().take(LONGEST).collect(),
        };
        let (label, cause, soft) = (cut(label), cause.map(cut), record.soft);
        let mut all = self.all();
        // Most come in the order of the log.
        let is_newest = all.noted.back().is_none_or(|last| last.place < place);
        if !is_newest && all.noted.iter().rev().take(LATEST).any(|known| known.place == place) {
            return;
        }
        all.count += 1;
        let number = all.count;
        all.noted.push_back(Noted { number, place, kind, label, soft, cause, by, applied: now });
        if all.noted.len() > MOST {
            all.noted.pop_front();
        }
    }

    /// Those that were applied after the one of this number, as far as they are remembered, `most` of them
    /// at most: the newest.
    pub(super) fn since(&self, number: u64, most: usize) -> Vec<Noted> {
        let all = self.all();
        let news = usize::try_from(all.count.saturating_sub(number)).unwrap_or(usize::MAX);
        let before = all.noted.len().saturating_sub(news.min(most));
        all.noted.range(before..).cloned().collect()
    }

    /// What is remembered of the record at a place.
    pub(super) fn at(&self, place: Position) -> Option<Noted> {
        self.all().noted.iter().rev().find(|noted| noted.place == place).cloned()
    }

    fn all(&self) -> MutexGuard<'_, All> {
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
        let numbers = |number, most| {
            journal.since(number, most).iter().map(|noted| noted.number).collect::<Vec<_>>()
        };
        assert_eq!(numbers(MOST as u64 - 1, 9), [MOST as u64, MOST as u64 + 1]);
        assert_eq!(numbers(0, 2), [MOST as u64, MOST as u64 + 1], "the newest");
        assert_eq!((numbers(0, MOST)[0], numbers(MOST as u64 + 1, 9)), (2, vec![]));
        let long = "\u{e9}".repeat(LONGEST + 1);
        journal.note(place(9999), &record(&long), Cause::Unknown { purge: false }, &by, now);
        let known = journal.at(place(9999)).unwrap();
        assert_eq!((known.label.chars().count(), known.cause), (LONGEST, None));
    }
}
