//! Room in the log's table: what is too old to matter, or too much, is dropped, and raises the floor.

use std::time::{Duration, Instant};

use crate::stored::Position;

use super::{Bounds, Covered, Newest, SWEEP_LEAST, Table};

/// The floor of a table that forgets.
struct Floor {
    covered: Covered,
    softened: Option<Instant>,
}

impl Floor {
    /// Answers whether something is kept. What is not, the floor covers.
    fn keeps(&mut self, newest: &Newest, forgotten: bool) -> bool {
        if forgotten {
            self.softened = newest.softens(self.covered, self.softened);
            self.covered = self.covered.or(newest.covered);
        }
        !forgotten
    }
}

impl Table {
    pub(super) fn make_room_for_mark(&mut self, now: Instant, bounds: &Bounds) {
        if self.marks.len() < self.sweep_at.min(bounds.marks) {
            return;
        }
        let mut floor = Floor { covered: self.floor, softened: self.softened };
        self.marks.retain(|_, newest| floor.keeps(newest, newest.is_older(bounds.lifetime, now)));
        if self.marks.len() >= bounds.marks {
            let cut = oldest_eighth(self.marks.values());
            self.marks.retain(|_, newest| floor.keeps(newest, newest.covered.newest() <= cut));
        }
        (self.floor, self.softened) = (floor.covered, floor.softened);
        self.sweep_at = SWEEP_LEAST.max(self.marks.len() * 2);
    }

    pub(super) fn make_room_for_prefix(&mut self, now: Instant, bounds: &Bounds) {
        if self.prefixes.count() < self.prefixes.sweep_at.min(bounds.prefixes) {
            return;
        }
        let mut floor = Floor { covered: self.floor, softened: self.softened };
        self.prefixes.retain(|newest| floor.keeps(newest, newest.is_older(bounds.lifetime, now)));
        if self.prefixes.count() >= bounds.prefixes {
            let cut = oldest_eighth(self.prefixes.values());
            self.prefixes.retain(|newest| floor.keeps(newest, newest.covered.newest() <= cut));
        }
        (self.floor, self.softened) = (floor.covered, floor.softened);
        self.prefixes.sweep_at = SWEEP_LEAST.max(self.prefixes.count() * 2);
    }

    pub(super) fn make_room_for_pattern(&mut self, now: Instant, bounds: &Bounds) {
        let mut floor = Floor { covered: self.floor, softened: self.softened };
        let oldest = self.patterns.iter().map(|(_, newest)| newest.covered.newest()).min();
        let full = self.patterns.len() >= bounds.patterns;
        self.patterns.retain(|(_, newest)| {
            let is_oldest = full && Some(newest.covered.newest()) == oldest;
            floor.keeps(newest, is_oldest || newest.is_older(bounds.lifetime, now))
        });
        (self.floor, self.softened) = (floor.covered, floor.softened);
    }
}

/// The newest place of the oldest eighth. There must be some.
fn oldest_eighth<'a>(all: impl Iterator<Item = &'a Newest>) -> Position {
    let mut places: Vec<_> = all.map(|newest| newest.covered.newest()).collect();
    let eighth = places.len() / 8;
    let (_, &mut cut, _) = places.select_nth_unstable(eighth);
    cut
}

impl Newest {
    /// When the newest soft record was applied that a floor stands for, once it stands for this, too.
    fn softens(&self, floor: Covered, before: Option<Instant>) -> Option<Instant> {
        if self.covered.soft > floor.soft { before.max(Some(self.applied)) } else { before }
    }

    fn is_older(&self, than: Duration, now: Instant) -> bool {
        now.saturating_duration_since(self.applied) > than
    }
}
