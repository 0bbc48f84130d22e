//! Room in the log's table: what is too old to matter, or too much, is dropped, and raises the floor.

use std::time::{Duration, Instant};

use super::{Bounds, Covered, Newest, SWEEP_LEAST, Table};

impl Table {
    pub(super) fn make_room_for_mark(&mut self, now: Instant, bounds: &Bounds) {
        if self.marks.len() < self.sweep_at.min(bounds.marks) {
            return;
        }
        let (mut floor, mut softened) = (self.floor, self.softened);
        let mut forget = |forgotten: bool, newest: &Newest| {
            if forgotten {
                softened = newest.softens(floor, softened);
                floor = floor.or(newest.covered);
            }
            !forgotten
        };
        self.marks.retain(|_, newest| forget(newest.is_older(bounds.lifetime, now), newest));
        if self.marks.len() >= bounds.marks {
            let mut places: Vec<_> = self.marks.values().map(|n| n.covered.newest()).collect();
            let eighth = places.len() / 8;
            let (_, &mut cut, _) = places.select_nth_unstable(eighth);
            self.marks.retain(|_, newest| forget(newest.covered.newest() <= cut, newest));
        }
        (self.floor, self.softened) = (floor, softened);
        self.sweep_at = SWEEP_LEAST.max(self.marks.len() * 2);
    }

    pub(super) fn make_room_for_pattern(&mut self, now: Instant, bounds: &Bounds) {
        let (mut floor, mut softened) = (self.floor, self.softened);
        let oldest = self.patterns.iter().map(|(_, newest)| newest.covered.newest()).min();
        let full = self.patterns.len() >= bounds.patterns;
        self.patterns.retain(|(_, newest)| {
            let forgotten = newest.is_older(bounds.lifetime, now)
                || full && Some(newest.covered.newest()) == oldest;
            if forgotten {
                softened = newest.softens(floor, softened);
                floor = floor.or(newest.covered);
            }
            !forgotten
        });
        (self.floor, self.softened) = (floor, softened);
    }
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
