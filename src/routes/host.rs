//! The routes of one host, where they ask for different fields; and which fields it was chosen by.

use std::collections::BTreeSet;

use http::{HeaderMap, HeaderName, Method};

use crate::config::FieldCondition;
use crate::config::Route;

use super::rank::Rank;
use super::{Captures, Routes, Table, fields};

impl Routes {
    /// Whether what [`Routes::find`] answers may depend on fields.
    pub fn go_by_fields(&self) -> bool {
        !self.ranks.is_empty()
    }

    /// The fields by which it was chosen which route takes such a request, or that none does: of
    /// equal requests but for these another route may take one.
    pub fn chosen_by(
        &self,
        authority: &str,
        path: &str,
        method: &Method,
        fields: &HeaderMap,
    ) -> Vec<&HeaderName> {
        let mut names = Vec::new();
        for host in self.tables(self.host_of(authority)) {
            let found = host.find(path, method, fields, &self.ranks).map(|(place, _)| place);
            let chosen = found.and_then(|place| self.ranks.get(place));
            for (conditions, table) in &host.by_fields {
                let place = table.of(method).find(path).map(|(place, _)| place);
                let rank = place.and_then(|place| self.ranks.get(place));
                if rank.is_some() && rank >= chosen {
                    names.extend(conditions.iter().map(|it| &it.name));
                }
            }
            if found.is_some() {
                break;
            }
        }
        names.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        names.dedup();
        names
    }

    /// The places of all routes that take such a request with some fields or others.
    pub fn takers(&self, authority: &str, path: &str, method: &Method) -> Vec<usize> {
        let mut places = Vec::new();
        for host in self.tables(self.host_of(authority)) {
            let by_fields = host.by_fields.iter().map(|(_, table)| table);
            let found = by_fields.filter_map(|table| table.of(method).find(path));
            places.extend(found.map(|(place, _)| place));
            if let Some((place, _)) = host.plain.of(method).find(path) {
                places.push(place);
                break;
            }
        }
        places
    }
}

/// The routes of one host: those that ask for no fields, and those that ask for the same.
#[derive(Debug, Default)]
pub(super) struct Host {
    pub(super) plain: Table,
    by_fields: Vec<(Box<[FieldCondition]>, Table)>,
}

impl Host {
    pub(super) fn new(
        routes: &[Route],
        places: &[usize],
        pairs: &mut BTreeSet<(usize, usize)>,
    ) -> Self {
        let mut lots: Vec<(&[FieldCondition], Vec<usize>)> = vec![(&[], Vec::new())];
        for place in places {
            let Some(asked) = routes.get(*place).map(|route| route.headers.as_slice()) else {
                continue;
            };
            match lots.iter_mut().find(|(conditions, _)| *conditions == asked) {
                Some((_, lot)) => lot.push(*place),
                None => lots.push((asked, vec![*place])),
            }
        }
        let mut tables = lots.into_iter().map(|(conditions, places)| {
            (Box::from(conditions), Table::new(routes, &places, pairs))
        });
        let plain = tables.next().map(|(_, plain)| plain).unwrap_or_default();
        Self { plain, by_fields: tables.collect() }
    }

    /// Those whose conditions hold.
    pub(super) fn holding<'r>(&'r self, fields: &HeaderMap) -> impl Iterator<Item = &'r Table> {
        let holding = self.by_fields.iter().filter(|(asked, _)| fields::hold(asked, fields));
        holding.map(|(_, table)| table)
    }

    pub(super) fn find<'r, 'p>(
        &'r self,
        path: &'p str,
        method: &Method,
        fields: &HeaderMap,
        ranks: &[Rank],
    ) -> Option<(usize, Captures<'r, 'p>)> {
        let plain = self.plain.of(method).find(path);
        if self.by_fields.is_empty() {
            return plain;
        }
        let found = self.holding(fields).filter_map(|table| table.of(method).find(path));
        found.chain(plain).max_by_key(|(place, _)| ranks.get(*place))
    }
}
