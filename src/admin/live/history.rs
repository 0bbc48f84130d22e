//! What was counted in each of the last seconds and minutes, so that a page that is opened now has graphs
//! at once. Bounded: some 2 MB where 32 routes are busy, and 60 kB where there is one.

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;

use crate::stats::Figures;

/// So many seconds and minutes are kept: ten minutes, and a day.
pub(super) const SECONDS: usize = 600;
pub(super) const MINUTES: usize = 1440;

/// So many routes have a history.
const MOST_ROUTES: usize = 32;

/// What is kept of a second, or a minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Counts {
    pub(super) requests: u64,
    l1_hits: u64,
    l2_hits: u64,
    collapsed: u64,
    upstream_requests: u64,
    upstream_failures: u64,
    stored: u64,
}

/// The same as they are kept.
type Packed = [u32; 7];

/// What was counted, newest last: a list for each figure.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Columns {
    requests: Vec<u32>,
    l1_hits: Vec<u32>,
    l2_hits: Vec<u32>,
    collapsed: Vec<u32>,
    upstream_requests: Vec<u32>,
    upstream_failures: Vec<u32>,
    stored: Vec<u32>,
}

/// Of all routes, or of one.
#[derive(Debug, Default)]
struct Line {
    seconds: VecDeque<Packed>,
    minutes: VecDeque<Packed>,
    /// Of the minute that is not over.
    sum: Counts,
}

/// All that is kept. The lists of a route may be shorter than those of all, and end where they end.
#[derive(Debug, Default)]
pub(super) struct History {
    all: Line,
    routes: BTreeMap<String, Line>,
    /// Seconds of the minute that is not over.
    passed: usize,
}

/// What the last of something were, for a page.
#[derive(Debug, Serialize)]
pub(super) struct Shown<'a> {
    seconds: Columns,
    minutes: Columns,
    routes: BTreeMap<&'a str, ShownRoute>,
}

#[derive(Debug, Serialize)]
struct ShownRoute {
    seconds: Columns,
    minutes: Columns,
}

impl Counts {
    pub(super) fn of(figures: &Figures) -> Self {
        Self {
            requests: figures.total_requests,
            l1_hits: figures.l1_hits,
            l2_hits: figures.l2_hits,
            collapsed: figures.collapsed,
            upstream_requests: figures.upstream_requests,
            upstream_failures: figures.upstream_failures,
            stored: figures.stored,
        }
    }

    /// What came since `before`.
    pub(super) fn since(&self, before: &Self) -> Self {
        self.with(before, u64::saturating_sub)
    }

    fn with(&self, other: &Self, combine: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            requests: combine(self.requests, other.requests),
            l1_hits: combine(self.l1_hits, other.l1_hits),
            l2_hits: combine(self.l2_hits, other.l2_hits),
            collapsed: combine(self.collapsed, other.collapsed),
            upstream_requests: combine(self.upstream_requests, other.upstream_requests),
            upstream_failures: combine(self.upstream_failures, other.upstream_failures),
            stored: combine(self.stored, other.stored),
        }
    }

    pub(super) fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    fn packed(&self) -> Packed {
        [
            self.requests,
            self.l1_hits,
            self.l2_hits,
            self.collapsed,
            self.upstream_requests,
            self.upstream_failures,
            self.stored,
        ]
        .map(|count| u32::try_from(count).unwrap_or(u32::MAX))
    }
}

impl Columns {
    fn of(all: &VecDeque<Packed>) -> Self {
        let mut columns = Self::default();
        for [requests, l1, l2, collapsed, upstream, failures, stored] in all {
            columns.requests.push(*requests);
            columns.l1_hits.push(*l1);
            columns.l2_hits.push(*l2);
            columns.collapsed.push(*collapsed);
            columns.upstream_requests.push(*upstream);
            columns.upstream_failures.push(*failures);
            columns.stored.push(*stored);
        }
        columns
    }
}

impl Line {
    fn second(&mut self, counts: &Counts) {
        push(&mut self.seconds, counts.packed(), SECONDS);
        self.sum = self.sum.with(counts, u64::saturating_add);
    }

    fn minute(&mut self) {
        push(&mut self.minutes, self.sum.packed(), MINUTES);
        self.sum = Counts::default();
    }

    /// Nothing came in the seconds that are kept.
    fn is_idle(&self) -> bool {
        self.seconds.iter().all(|counts| *counts == Packed::default())
    }
}

impl History {
    /// A second is over. `routes` has those for which something was counted.
    pub(super) fn second(&mut self, all: &Counts, routes: &BTreeMap<String, Counts>) {
        self.make_room(routes);
        self.all.second(all);
        for (name, line) in &mut self.routes {
            line.second(routes.get(name).unwrap_or(&Counts::default()));
        }
        self.passed += 1;
        if self.passed >= 60 {
            self.passed = 0;
            self.all.minute();
            self.routes.values_mut().for_each(Line::minute);
        }
    }

    /// Those that are new get a history, while there is room: where there is none, in the place of one to
    /// which nothing came.
    fn make_room(&mut self, routes: &BTreeMap<String, Counts>) {
        for name in routes.keys() {
            if self.routes.contains_key(name) {
                continue;
            }
            if self.routes.len() >= MOST_ROUTES {
                let mut idle = self.routes.iter().filter(|(_, line)| line.is_idle());
                let Some(idle) = idle.next().map(|(name, _)| name.clone()) else { return };
                self.routes.remove(&idle);
            }
            self.routes.insert(name.clone(), Line::default());
        }
    }

    pub(super) fn shown(&self) -> Shown<'_> {
        let route = |line: &Line| ShownRoute {
            seconds: Columns::of(&line.seconds),
            minutes: Columns::of(&line.minutes),
        };
        Shown {
            seconds: Columns::of(&self.all.seconds),
            minutes: Columns::of(&self.all.minutes),
            routes: self.routes.iter().map(|(name, line)| (name.as_str(), route(line))).collect(),
        }
    }
}

pub(super) fn push<T>(to: &mut VecDeque<T>, one: T, most: usize) {
    if to.len() >= most {
        to.pop_front();
    }
    to.push_back(one);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests(requests: u64) -> Counts {
        Counts { requests, ..Counts::default() }
    }

    fn routes(all: &[(&str, u64)]) -> BTreeMap<String, Counts> {
        all.iter().map(|(name, count)| ((*name).to_owned(), requests(*count))).collect()
    }

    #[test]
    fn seconds_and_minutes_are_kept_and_the_oldest_go() {
        let mut history = History::default();
        for second in 0..SECONDS as u64 + 60 {
            let of_route = if second == 30 { routes(&[("a", 7)]) } else { BTreeMap::new() };
            history.second(&requests(second), &of_route);
        }
        let shown = history.shown();
        let (first, last) = (shown.seconds.requests.first(), shown.seconds.requests.last());
        assert_eq!((first, last), (Some(&60), Some(&659)));
        assert_eq!(shown.seconds.requests.len(), SECONDS);
        assert_eq!(shown.minutes.requests.len(), 11);
        assert_eq!(shown.minutes.requests[..2], [(0..60).sum::<u32>(), (60..120).sum::<u32>()]);
        assert_eq!(shown.routes["a"].minutes.requests[..2], [7, 0], "from its first request on");
        for _ in 0..MINUTES * 60 {
            history.second(&Counts::default(), &BTreeMap::new());
        }
        assert_eq!(history.shown().minutes.requests.len(), MINUTES);
    }

    #[test]
    fn routes_that_are_too_many_take_the_places_of_idle_ones() {
        let mut history = History::default();
        let name = |number: usize| format!("{number:02}");
        let busy: Vec<_> = (0..MOST_ROUTES).map(name).collect();
        let all: Vec<_> = busy.iter().map(|name| (name.as_str(), 1)).collect();
        history.second(&requests(32), &routes(&all));
        history.second(&requests(1), &routes(&[("new", 1)]));
        assert!(!history.shown().routes.contains_key("new"), "all others are busy");
        for _ in 0..SECONDS {
            history.second(&requests(31), &routes(&all[1..]));
        }
        history.second(&requests(1), &routes(&[("new", 1)]));
        let shown = history.shown();
        assert!(shown.routes.contains_key("new") && !shown.routes.contains_key("00"));
        assert_eq!(shown.routes.len(), MOST_ROUTES);
    }

    #[test]
    fn counts_that_went_back_are_none() {
        assert!(requests(1).since(&requests(2)).is_nothing());
        assert_eq!(requests(5).since(&requests(2)), requests(3));
        assert_eq!(requests(u64::MAX).packed()[0], u32::MAX);
    }
}
