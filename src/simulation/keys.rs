//! The distinct keys of requests, what each was asked for, and by which of their parts they differ.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::BuildHasher;

use foldhash::fast::{FixedState, RandomState};
use serde::Serialize;

use super::spread::Distinct;
use crate::stored::CacheKey;

/// The parts of the keys of one route are told apart up to so many names.
const MOST_PARTS: usize = 64;

/// A name of a part is not longer.
const LONGEST_NAME: usize = 64;

/// All keys, each told apart while they are not too many.
#[derive(Debug)]
pub(super) struct Keys {
    known: HashMap<CacheKey, Known, RandomState>,
    most: usize,
    /// By route.
    routes: Vec<OfRoute>,
    /// Requests with keys that are not in `known`.
    beyond: u64,
}

/// What one key was asked for.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) requests: u32,
    pub(super) misses: u32,
    /// Of the last whole answer; none was seen yet: [`u32::MAX`].
    length: u32,
    pub(super) route: u32,
    /// Once it has missed twice: a key that has not is none of the worst, and there may be many.
    pub(super) name: Option<Box<str>>,
}

/// The keys of a route.
#[derive(Debug, Default)]
pub(super) struct OfRoute {
    distinct: Distinct,
    parts: Vec<Part>,
}

/// Where a part of a key stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// The route's path captures it.
    Path,
    /// It is a parameter of the key.
    Query,
}

/// A part of keys.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) place: Place,
    pub(super) name: Box<str>,
    pub(super) values: Distinct,
}

/// What is to be told of a route's keys.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) distinct: u64,
    pub(super) is_exact: bool,
    /// Asked for once.
    pub(super) once: u64,
}

impl Keys {
    /// Of so many routes. At most so many keys are told apart.
    pub(super) fn new(routes: usize, most: usize) -> Self {
        let routes = (0..routes).map(|_| OfRoute::default()).collect();
        Self { known: HashMap::default(), most, routes, beyond: 0 }
    }

    /// Counts a request. True: the key was not seen before, or is not told apart from those.
    pub(super) fn count(
        &mut self,
        key: &CacheKey,
        route: usize,
        missed: bool,
        name: impl FnOnce() -> Option<Box<str>>,
    ) -> bool {
        let full = self.known.len() >= self.most;
        let (known, is_new) = match self.known.entry(*key) {
            Entry::Occupied(known) => (known.into_mut(), false),
            Entry::Vacant(place) if !full => {
                let route = u32::try_from(route).unwrap_or(u32::MAX);
                let new = Known { requests: 0, misses: 0, length: u32::MAX, route, name: None };
                (place.insert(new), true)
            }
            Entry::Vacant(_) => {
                self.beyond += 1;
                self.add(key, route);
                return true;
            }
        };
        known.requests = known.requests.saturating_add(1);
        known.misses = known.misses.saturating_add(u32::from(missed));
        if known.misses >= 2 && known.name.is_none() {
            known.name = name();
        }
        if is_new {
            self.add(key, route);
        }
        is_new
    }

    fn add(&mut self, key: &CacheKey, route: usize) {
        // A key is as good as random.
        let (first, _) = key.0.split_first_chunk().unwrap_or((&[0; 8], &[]));
        if let Some(route) = self.routes.get_mut(route) {
            route.distinct.add(u64::from_le_bytes(*first));
        }
    }

    /// Notes the parts of a key that may be new.
    pub(super) fn note_parts<'a>(
        &mut self,
        route: usize,
        place: Place,
        parts: impl Iterator<Item = (&'a str, &'a str)>,
    ) {
        let Some(OfRoute { parts: known, .. }) = self.routes.get_mut(route) else { return };
        for (name, value) in parts {
            let known_at = known.iter().position(|it| it.place == place && *it.name == *name);
            let known_at = known_at.or_else(|| {
                let may_add = known.len() < MOST_PARTS && name.len() <= LONGEST_NAME;
                may_add.then(|| {
                    known.push(Part { place, name: name.into(), values: Distinct::default() });
                    known.len() - 1
                })
            });
            if let Some(part) = known_at.and_then(|at| known.get_mut(at)) {
                part.values.add(FixedState::default().hash_one(value));
            }
        }
    }

    /// How long the last whole answer was that had this key.
    pub(super) fn length(&self, key: &CacheKey) -> Option<u64> {
        let length = self.known.get(key)?.length;
        (length != u32::MAX).then_some(length.into())
    }

    /// Notes the length of a whole answer.
    pub(super) fn note_length(&mut self, key: &CacheKey, length: u64) {
        if let Some(known) = self.known.get_mut(key) {
            known.length = u32::try_from(length).unwrap_or(u32::MAX - 1);
        }
    }

    /// Requests with keys that were too many to be told apart.
    pub(super) fn beyond(&self) -> u64 {
        self.beyond
    }

    /// What is to be told of each route.
    pub(super) fn routes(&self) -> Vec<Counted> {
        let mut all: Vec<_> = self.routes.iter().map(|_| (0, 0)).collect();
        for known in self.known.values() {
            if let Some((distinct, once)) = all.get_mut(known.route as usize) {
                *distinct += 1;
                *once += u64::from(known.requests == 1);
            }
        }
        let counted = |(of, (distinct, once)): (&OfRoute, (u64, u64))| {
            let is_exact = self.beyond == 0;
            let distinct = if is_exact { distinct } else { of.distinct.count().max(distinct) };
            Counted { distinct, is_exact, once }
        };
        self.routes.iter().zip(all).map(counted).collect()
    }

    /// The parts of a route's keys, those with most values first.
    pub(super) fn parts(&self, route: usize) -> Vec<&Part> {
        let mut parts: Vec<_> =
            self.routes.get(route).map_or_else(Vec::new, |it| it.parts.iter().collect());
        parts.sort_by(|one, other| {
            other.values.count().cmp(&one.values.count()).then_with(|| one.name.cmp(&other.name))
        });
        parts
    }

    /// The keys with most misses, so many.
    pub(super) fn worst(&self, most: usize) -> Vec<&Known> {
        let mut all: Vec<_> = self.known.values().filter(|known| known.name.is_some()).collect();
        let rank =
            |known: &&Known| (std::cmp::Reverse(known.misses), known.requests, known.name.clone());
        if all.len() > most {
            all.select_nth_unstable_by_key(most, rank);
            all.truncate(most);
        }
        all.sort_by_key(rank);
        all
    }
}

/// The parameters in a readable name.
pub(super) fn parameters(name: &str) -> impl Iterator<Item = (&str, &str)> {
    let query = name.split_once('?').map_or("", |(_, query)| query);
    let parameters = query.split('&').filter(|parameter| !parameter.is_empty());
    parameters.map(|parameter| parameter.split_once('=').unwrap_or((parameter, "")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u32) -> CacheKey {
        CacheKey(*blake3::hash(&number.to_le_bytes()).as_bytes())
    }

    #[test]
    fn keys_are_told_apart_and_then_estimated() {
        let mut keys = Keys::new(2, 100);
        for round in 0..3 {
            for number in 0..100 {
                let is_new = keys.count(&key(number), 1, round < 2 && number < 3, || {
                    Some(number.to_string().into())
                });
                assert_eq!(is_new, round == 0);
            }
        }
        let counted = |distinct, is_exact, once| Counted { distinct, is_exact, once };
        assert_eq!(keys.routes(), [counted(0, true, 0), counted(100, true, 0)]);
        let worst: Vec<_> =
            keys.worst(2).iter().map(|it| (it.misses, it.requests, it.name.as_deref())).collect();
        assert_eq!(worst, [(2, 3, Some("0")), (2, 3, Some("1"))]);
        for number in 100..300 {
            assert!(keys.count(&key(number), 0, true, || None));
        }
        assert_eq!(
            (keys.beyond(), &keys.routes()[..]),
            (200, &[counted(200, false, 0), counted(100, false, 0)][..])
        );
    }

    #[test]
    fn parts_are_ranked_by_their_values() {
        let mut keys = Keys::new(1, 10);
        for number in 0..9 {
            let name = format!("books/{number}?session={number}&page={}&x", number % 2);
            keys.note_parts(0, Place::Query, parameters(&name));
        }
        keys.note_parts(0, Place::Query, parameters("books?&"));
        keys.note_parts(0, Place::Path, [("x", "1"), ("x", "2"), ("x", "3")].into_iter());
        keys.note_parts(7, Place::Query, parameters("books?a=b"));
        let parts: Vec<_> = keys.parts(0).iter().map(|it| (&*it.name, it.values.count())).collect();
        assert_eq!(parts, [("session", 9), ("x", 3), ("page", 2), ("x", 1)]);
    }

    #[test]
    fn lengths_are_those_of_the_last_answer() {
        let mut keys = Keys::new(1, 10);
        keys.note_length(&key(1), 5);
        keys.count(&key(1), 0, true, || None);
        assert_eq!(keys.length(&key(1)), None);
        keys.note_length(&key(1), 5);
        keys.note_length(&key(1), 6);
        assert_eq!((keys.length(&key(1)), keys.length(&key(2))), (Some(6), None));
    }
}
