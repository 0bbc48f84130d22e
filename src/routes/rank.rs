//! How specific a route is, where several match a request that ask for different fields; and those
//! routes that are equally so.

use matchit::Router;

use crate::config::Route;
use crate::config::pattern::pieces;

use super::{Lost, depth, fields, patterns, shape};

/// Of two routes of one host that match a request, the one of the higher rank answers: by its path, as
/// the routers of routes that ask for the same fields choose, then by its method and its fields.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    /// How many segments there are before a catch-all; without one, more than with any.
    depth: usize,
    /// How much of each segment is text, from the left; all of it counts most.
    segments: Vec<usize>,
    names_method: bool,
    /// How many fields it asks for, and how many of them exactly.
    fields: (usize, usize),
}

impl Rank {
    pub(super) fn of(route: &Route) -> Self {
        let pieces = pieces(&route.path).unwrap_or_default();
        Self {
            depth: depth(&route.path, &pieces).unwrap_or(usize::MAX),
            segments: route.path.split('/').skip(1).map(text).collect(),
            names_method: !route.methods.is_empty(),
            fields: fields::rank(&route.headers),
        }
    }
}

impl Rank {
    /// By what a route loses to another of the same host.
    pub(super) fn lost_to(&self, other: &Self) -> Lost {
        if (self.depth, &self.segments) != (other.depth, &other.segments) {
            Lost::Path
        } else if self.names_method == other.names_method {
            Lost::Fields
        } else {
            Lost::Method
        }
    }
}

/// The places of all routes, so that of two that match a request the one that answers it comes first: by
/// the most specific of its hosts, and then by its rank. Of two with several hosts either may answer, as the
/// one of them decides that a request is for.
pub fn by_precedence(routes: &[Route]) -> Vec<usize> {
    let mut ranked: Vec<_> = routes
        .iter()
        .enumerate()
        .map(|(place, route)| {
            (route.hosts.iter().map(|host| of_host(host)).max(), Rank::of(route), place)
        })
        .collect();
    ranked.sort_by(|a, b| (&b.0, &b.1, a.2).cmp(&(&a.0, &a.1, b.2)));
    ranked.into_iter().map(|(.., place)| place).collect()
}

/// A name, or else the longer part of one.
fn of_host(host: &str) -> (bool, usize) {
    (!host.starts_with("*."), host.len())
}

/// How much of a segment is text.
fn text(segment: &str) -> usize {
    let Some((before, after)) = segment.split_once('{') else { return usize::MAX };
    before.len() + after.split_once('}').map_or(0, |(_, after)| after.len())
}

/// Those that match the same requests while they ask for different fields, and neither is more
/// specific: the later one first.
pub(super) fn rivals(routes: &[Route]) -> impl Iterator<Item = (usize, usize)> {
    let asking = routes.iter().enumerate().filter(|(_, route)| !route.headers.is_empty());
    asking.flat_map(move |(later, route)| {
        let before = routes.iter().enumerate().take(later);
        let rivals = before.filter(move |(_, other)| are_rivals(route, other));
        rivals.map(move |(earlier, _)| (later, earlier))
    })
}

fn are_rivals(route: &Route, other: &Route) -> bool {
    // Where they ask for the same, the router finds out.
    route.headers != other.headers
        && Rank::of(route) == Rank::of(other)
        && !fields::exclude(&route.headers, &other.headers)
        && have_common(&route.hosts, &other.hosts)
        && have_common(&route.methods, &other.methods)
        && match_the_same(&route.path, &other.path)
}

/// Of those that are as specific as one another: whether one is in both, or both are of any.
fn have_common<T: PartialEq>(these: &[T], others: &[T]) -> bool {
    (these.is_empty() && others.is_empty()) || these.iter().any(|it| others.contains(it))
}

/// Whether there is a path that both match, and neither comes before the other.
fn match_the_same(path: &str, other: &str) -> bool {
    let (Ok(these), Ok(others)) = (pieces(path), pieces(other)) else { return false };
    let mut router = Router::new();
    let both = patterns(path, &these).into_iter().chain(patterns(other, &others));
    shape(&these) == shape(&others)
        || !both.into_iter().all(|(pattern, _)| router.insert(pattern, ()).is_ok())
}
