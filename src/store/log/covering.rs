//! Which records cover a response, for operators who ask: the judge only wants to know whether one does.

use std::time::Instant;

use crate::clock;
use crate::store::explain::{Covers, Record};
use crate::store::pattern;
use crate::stored::{Mark, Position, StoredResponse};

use super::{Covered, Log, Newest, Table};

impl Log {
    /// The newest record that covers what has these marks and this name.
    pub(in crate::store) fn newest_covering(&self, marks: &[Mark], name: &str) -> Option<Record> {
        let newest = |(_, one): &(Covers, Newest), (_, other): &(Covers, Newest)| {
            one.covered.newest().cmp(&other.covered.newest())
        };
        let (covers, newest) = self.read().all_covering(marks, name).into_iter().max_by(newest)?;
        let soft = newest.covered.soft > newest.covered.hard;
        self.told(covers, &newest, newest.covered.newest(), soft)
    }

    /// The record that has made a response invalid: the newest hard one, else the newest soft one.
    pub(in crate::store) fn invalidated_by(&self, stored: &StoredResponse) -> Option<Record> {
        let all = self.read().all_covering(&stored.marks, &stored.name);
        let hard = all.iter().max_by_key(|(_, newest)| newest.covered.hard);
        let soft = all.iter().max_by_key(|(_, newest)| newest.covered.soft);
        let [hard, soft] = [
            hard.map(|(covers, newest)| (covers, newest, newest.covered.hard, false)),
            soft.map(|(covers, newest)| (covers, newest, newest.covered.soft, true)),
        ];
        let counts = |(_, _, place, _): &(_, _, Position, _)| *place > stored.position;
        let (covers, newest, place, soft) = hard.filter(counts).or(soft.filter(counts))?;
        self.told(covers.clone(), newest, place, soft)
    }

    /// Since when soft records cover a response: the first of them, of each mark and each pattern the newest.
    /// `None`: none does.
    pub(in crate::store) fn softened(&self, stored: &StoredResponse) -> Option<Instant> {
        let table = self.read();
        let covers = |covered: Covered| covered.soft > stored.position;
        let marks = stored.marks.iter().filter_map(|mark| table.marks.get(mark));
        let marks = marks.filter(|newest| covers(newest.covered));
        let patterns = table.patterns.iter().filter(|(pattern, newest)| {
            covers(newest.covered) && pattern::matches(pattern, &stored.name)
        });
        let prefixes = table.prefixes.matching(&stored.name, stored.position);
        let prefixes = prefixes.map(|(_, newest)| newest).filter(|newest| covers(newest.covered));
        let newest = marks.chain(patterns.map(|(_, newest)| newest)).chain(prefixes);
        let floor = table.softened.filter(|_| covers(table.floor));
        newest.map(|newest| newest.applied).chain(floor).min()
    }

    /// None: there is no such record.
    fn told(&self, covers: Covers, newest: &Newest, place: Position, soft: bool) -> Option<Record> {
        if place == Position::ZERO {
            return None;
        }
        let noted = self.journal.at(place);
        let applied = noted.as_ref().map(|noted| noted.applied);
        // What is not remembered has at least the time of what came last.
        let applied = applied.or((place == newest.covered.newest()).then_some(newest.applied));
        let applied = applied.filter(|_| covers != Covers::Everything || noted.is_some());
        Some(Record {
            place,
            soft,
            covers,
            label: noted.as_ref().map(|noted| noted.label.clone()),
            cause: noted.as_ref().and_then(|noted| noted.cause.clone()),
            by: noted.and_then(|noted| noted.by),
            ago: applied.map(|applied| applied.elapsed()),
        })
    }
}

impl Table {
    /// What covers such a response, whenever it was born.
    fn all_covering(&self, marks: &[Mark], name: &str) -> Vec<(Covers, Newest)> {
        let marks = marks
            .iter()
            .filter_map(|mark| self.marks.get(mark).map(|newest| (Covers::Mark(*mark), *newest)));
        let patterns = self.patterns.iter().filter(|(pattern, _)| pattern::matches(pattern, name));
        let patterns =
            patterns.map(|(pattern, newest)| (Covers::Pattern(pattern.clone()), *newest));
        let prefixes = self
            .prefixes
            .matching(name, Position::ZERO)
            .map(|(text, newest)| (Covers::Pattern(format!("{text}*").into_boxed_str()), *newest));
        // When that was is not kept with it.
        let floor = Newest { covered: self.floor, applied: clock::instant() };
        marks.chain(patterns).chain(prefixes).chain([(Covers::Everything, floor)]).collect()
    }
}
