//! The route table: which route answers for an authority, a path, a method and fields.
//!
//! A route is a candidate if its host, its path, its methods and what it asks of fields (`fields`) all
//! match; of the candidates the most specific wins, and the order of the file decides nothing:
//!
//! 1. a host over `*.suffix`, more labels over fewer, either over any host;
//! 2. a path without a catch-all over one with; there, segment by segment from the left, text over
//!    a capture. Of catch-alls, the one with more segments before it, then text over a capture;
//! 3. a route that names the method over one that takes any;
//! 4. more fields over fewer, then more fields that are named with exact values.
//!
//! Two routes that could not be told apart by these rules are a [`Conflict`].
//!
//! Fields come last, as whoever sends a request says what he likes in them: by a field nobody gets past
//! what a route for a path was meant to say.
//!
//! Paths match as they were sent (RFC 3986 §6.2 is not applied): `/%61` and `//a` are themselves, and a
//! route for `/a` does not see them. A gateway that reads a path in another way than the server behind it
//! lets requests slip past what the route was meant to say. Therefore no request with dot segments
//! (`/a/../b`) gets here.

mod contest;
mod fields;
mod host;
mod rank;

use std::collections::{BTreeSet, HashMap};

use http::{HeaderMap, Method};
use matchit::{Params, Router};

use crate::config::Config;
use crate::config::Fault;
use crate::config::Place;
use crate::config::Route;
use crate::config::pattern::Piece;
use crate::config::pattern::pieces;

pub use self::contest::{Lost, RunnerUp};

use self::contest::Claim;
use self::host::Host;
use self::rank::Rank;
pub use self::rank::by_precedence;

/// No DNS name is longer. A longer host matches only routes for any host, so that looking for its
/// suffixes costs little.
const LONGEST_HOST: usize = 255;

/// All routes, ready to be asked.
#[derive(Debug)]
pub struct Routes {
    any: Host,
    exact: Hosts,
    /// By what follows `*.`.
    suffixes: Hosts,
    /// Of each route, by its place; of none where no route asks for fields.
    ranks: Box<[Rank]>,
    /// As they were written, by place.
    claims: Box<[Claim]>,
}

type Hosts = HashMap<Box<str>, Host, foldhash::fast::RandomState>;

/// What [`Routes::find`] found.
#[derive(Debug)]
pub enum Found<'r, 'p> {
    /// The route that answers.
    Route {
        /// Its place in the list that the routes were made of.
        place: usize,
        /// What its path captured.
        captures: Captures<'r, 'p>,
    },
    /// There are routes for this host, path and fields, but only for these methods, sorted by name
    /// (RFC 9110 §15.5.6).
    MethodNotAllowed(Vec<Method>),
    /// No route has this host and path, and asks for no other fields.
    NotFound,
}

/// What a path captured, still percent-encoded, in the order of the pattern.
#[derive(Clone, Debug, Default)]
pub struct Captures<'r, 'p> {
    params: Params<'r, 'p>,
    /// A catch-all that matched nothing: `rest` of `/files/{*rest}` for `/files/`.
    empty: Option<&'r str>,
}

impl<'r, 'p> Captures<'r, 'p> {
    /// Names and values. For `/files/{*rest}`, the path `/files/` has an empty `rest`, and the
    /// path `/files` has none: a policy can tell them apart.
    pub fn iter(&self) -> impl Iterator<Item = (&'r str, &'p str)> + '_ {
        self.params.iter().chain(self.empty.map(|name| (name, "")))
    }

    /// All names and values.
    pub fn to_vec(&self) -> Vec<(&'r str, &'p str)> {
        self.iter().collect()
    }
}

/// Two routes that match the same requests, and neither is more specific.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// Where the path of the later one stands.
    pub place: Place,
    /// Where that of the earlier one stands.
    pub earlier: Place,
    /// Both routes and their paths.
    pub message: String,
    /// What to write instead.
    pub hint: String,
}

impl Conflict {
    fn between(later: &Route, earlier: &Route) -> Self {
        let message = format!(
            "route `{}`: path `{}` matches the same requests as `{}` of route `{}`",
            later.name, later.path, earlier.path, earlier.name
        );
        let hint =
            "make one of them more specific, or narrow it with `host`, `methods` or `headers`";
        let hint = hint.to_owned();
        Self { place: later.place, earlier: earlier.place, message, hint }
    }

    /// A fault of the configuration that the routes came from.
    pub fn fault(&self, file: &str, config: &Config) -> Fault {
        let message = format!("{} at {}", self.message, config.told(self.earlier, self.place));
        Fault::new(file, self.place, message).with_hint(self.hint.clone())
    }
}

impl Routes {
    /// The table of these routes.
    ///
    /// # Errors
    /// Every pair of routes that contradict each other.
    pub fn new(routes: &[Route]) -> Result<Self, Vec<Conflict>> {
        let mut any = Vec::new();
        let mut named: HashMap<&str, Vec<usize>> = HashMap::new();
        for (place, route) in routes.iter().enumerate() {
            if route.hosts.is_empty() {
                any.push(place);
            }
            for host in &route.hosts {
                named.entry(host).or_default().push(place);
            }
        }
        let mut pairs = BTreeSet::new();
        let any = Host::new(routes, &any, &mut pairs);
        let (mut exact, mut suffixes) = (Hosts::default(), Hosts::default());
        for (host, places) in named {
            let table = Host::new(routes, &places, &mut pairs);
            match host.strip_prefix("*.") {
                Some(suffix) => suffixes.insert(suffix.into(), table),
                None => exact.insert(host.into(), table),
            };
        }
        pairs.extend(rank::rivals(routes));
        if pairs.is_empty() {
            let go_by_fields = routes.iter().any(|route| !route.headers.is_empty());
            let ranks = routes.iter().filter(|_| go_by_fields).map(Rank::of).collect();
            let claims = routes.iter().map(Claim::of).collect();
            return Ok(Self { any, exact, suffixes, ranks, claims });
        }
        let conflict =
            |&(later, earlier)| Some(Conflict::between(routes.get(later)?, routes.get(earlier)?));
        Err(pairs.iter().filter_map(conflict).collect())
    }

    /// The route for a request. `authority` is in lower case and may have a port; the path is as
    /// it was sent. Nothing is allocated unless a pattern has more than three captures, or no
    /// route is found.
    pub fn find<'r, 'p>(
        &'r self,
        authority: &str,
        path: &'p str,
        method: &Method,
        fields: &HeaderMap,
    ) -> Found<'r, 'p> {
        let host = self.host_of(authority);
        for table in self.tables(host) {
            if let Some((place, captures)) = table.find(path, method, fields, &self.ranks) {
                return Found::Route { place, captures };
            }
        }
        let tables = self.tables(host).flat_map(|host| host.holding(fields).chain([&host.plain]));
        let named = tables.flat_map(|table| &table.named);
        let mut methods: Vec<Method> = named
            .filter(|(_, paths)| paths.find(path).is_some())
            .map(|(method, _)| method.clone())
            .collect();
        if methods.is_empty() {
            return Found::NotFound;
        }
        methods.sort_by(|one, other| one.as_str().cmp(other.as_str()));
        methods.dedup();
        Found::MethodNotAllowed(methods)
    }

    /// The host alone; empty where no route asks for it.
    fn host_of<'a>(&self, authority: &'a str) -> &'a str {
        if self.exact.is_empty() && self.suffixes.is_empty() {
            return "";
        }
        let host = match authority.rsplit_once(':') {
            // The colons of `[::1]` are no port's.
            Some((host, port)) if !port.ends_with(']') => host,
            _ => authority,
        };
        let host = host.strip_suffix('.').unwrap_or(host);
        if host.len() > LONGEST_HOST { "" } else { host }
    }

    /// The tables for a host, the most specific first.
    fn tables<'r>(&'r self, host: &str) -> impl Iterator<Item = &'r Host> {
        let suffix = if self.suffixes.is_empty() { None } else { below(host) };
        let suffixes = std::iter::successors(suffix, |suffix| below(suffix));
        let exact = if host.is_empty() { None } else { self.exact.get(host) };
        let suffixes = suffixes.filter_map(|suffix| self.suffixes.get(suffix));
        exact.into_iter().chain(suffixes).chain([&self.any])
    }
}

/// A host without its first label.
fn below(host: &str) -> Option<&str> {
    host.split_once('.').map(|(_, suffix)| suffix)
}

/// The routes of one host that ask for the same fields: for each method that one of them names, and for
/// all other methods, those that take it. So one look finds the best among those that match in everything.
#[derive(Debug, Default)]
struct Table {
    named: Vec<(Method, Paths)>,
    other: Paths,
}

impl Table {
    fn new(routes: &[Route], places: &[usize], pairs: &mut BTreeSet<(usize, usize)>) -> Self {
        let candidates = || places.iter().filter_map(|place| Some((*place, routes.get(*place)?)));
        let mut methods: Vec<&Method> = Vec::new();
        for method in candidates().flat_map(|(_, route)| &route.methods) {
            if !methods.contains(&method) {
                methods.push(method);
            }
        }
        let any: Vec<_> = candidates().filter(|(_, route)| route.methods.is_empty()).collect();
        let named = methods.into_iter().map(|method| {
            let takers = candidates().filter(|(_, route)| route.methods.contains(method));
            (method.clone(), Paths::new(&[&takers.collect::<Vec<_>>(), &any], pairs))
        });
        Self { named: named.collect(), other: Paths::new(&[&any], pairs) }
    }

    fn of(&self, method: &Method) -> &Paths {
        let named = self.named.iter().find(|(name, _)| name == method);
        named.map_or(&self.other, |(_, paths)| paths)
    }
}

/// The paths of the routes for one host and method.
#[derive(Debug, Default)]
struct Paths {
    /// Those without a catch-all, then a router for each number of segments before one, the
    /// largest first. One router cannot hold `/{x}` beside `/{*rest}`.
    routers: Vec<Router<Leaf>>,
}

#[derive(Debug)]
struct Leaf {
    place: usize,
    /// The name of a catch-all that matches nothing here.
    empty: Option<Box<str>>,
}

impl Paths {
    /// `ranks` holds those who name the method first: an equal path of a later rank is never seen.
    fn new(ranks: &[&[(usize, &Route)]], pairs: &mut BTreeSet<(usize, usize)>) -> Self {
        let mut shapes: HashMap<String, (usize, usize)> = HashMap::new();
        let mut levels: HashMap<Option<usize>, Level<'_>> = HashMap::new();
        for (rank, routes) in ranks.iter().enumerate() {
            for &(place, route) in *routes {
                let Ok(pieces) = pieces(&route.path) else { continue };
                let shape = shape(&pieces);
                match shapes.get(&shape) {
                    Some((same, earlier)) if *same == rank => {
                        pairs.insert((place.max(*earlier), place.min(*earlier)));
                    }
                    Some(_) => {}
                    None => {
                        shapes.insert(shape, (rank, place));
                        let level = levels.entry(depth(&route.path, &pieces)).or_default();
                        level.insert(place, &route.path, &pieces, pairs);
                    }
                }
            }
        }
        let mut levels: Vec<_> = levels.into_iter().collect();
        levels.sort_by_key(|(depth, _)| std::cmp::Reverse(depth.unwrap_or(usize::MAX)));
        Self { routers: levels.into_iter().map(|(_, level)| level.router).collect() }
    }

    fn find<'r, 'p>(&'r self, path: &'p str) -> Option<(usize, Captures<'r, 'p>)> {
        let found = self.routers.iter().find_map(|router| router.at(path).ok())?;
        let Leaf { place, empty } = found.value;
        Some((*place, Captures { params: found.params, empty: empty.as_deref() }))
    }
}

/// A router and what is in it.
#[derive(Default)]
struct Level<'a> {
    router: Router<Leaf>,
    paths: Vec<(usize, Patterns<'a>)>,
}

/// What a path is registered as, each with the name of the catch-all that is empty there.
type Patterns<'a> = Vec<(&'a str, Option<&'a str>)>;

impl<'a> Level<'a> {
    fn insert(
        &mut self,
        place: usize,
        path: &'a str,
        pieces: &[Piece<'a>],
        pairs: &mut BTreeSet<(usize, usize)>,
    ) {
        let patterns = patterns(path, pieces);
        for (pattern, empty) in &patterns {
            let leaf = Leaf { place, empty: empty.map(Into::into) };
            if self.router.insert(*pattern, leaf).is_err() {
                pairs.extend(self.rivals(place, &patterns));
            }
        }
        self.paths.push((place, patterns));
    }

    /// Those that no router would hold beside `patterns`. Its own error names them by halves.
    fn rivals(
        &self,
        place: usize,
        patterns: &Patterns<'_>,
    ) -> impl Iterator<Item = (usize, usize)> {
        let beside = move |others: &Patterns<'_>| {
            let mut router = Router::new();
            others.iter().chain(patterns).all(|(pattern, _)| router.insert(*pattern, ()).is_ok())
        };
        let rivals = self.paths.iter().filter(move |(_, others)| !beside(others));
        rivals.map(move |(other, _)| (place.max(*other), place.min(*other)))
    }
}

/// `/files/{*rest}` by itself matches neither `/files/` nor `/files`.
fn patterns<'a>(path: &'a str, pieces: &[Piece<'a>]) -> Patterns<'a> {
    let mut patterns = vec![(path, None)];
    if let Some(Piece::Rest(name)) = pieces.last() {
        let before = path.split("{*").next().unwrap_or(path);
        patterns.push((before, Some(*name)));
        let without_slash = before.strip_suffix('/').unwrap_or_default();
        if !without_slash.is_empty() {
            patterns.push((without_slash, None));
        }
    }
    patterns
}

/// A pattern without the names of its captures: equal shapes match equal paths.
fn shape(pieces: &[Piece<'_>]) -> String {
    let parts = pieces.iter().map(|piece| match piece {
        Piece::Text(text) => text,
        Piece::Capture(_) => "{}",
        Piece::Rest(_) => "{*}",
    });
    parts.collect()
}

/// How many segments stand before a catch-all; none without one.
fn depth(path: &str, pieces: &[Piece<'_>]) -> Option<usize> {
    matches!(pieces.last(), Some(Piece::Rest(_))).then(|| path.matches('/').count())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::FieldCondition;
    use crate::config::Origin;

    fn route(name: &str, path: &str) -> Route {
        Route::new(name.to_owned(), path.to_owned(), Origin::Upstream(0))
    }

    fn narrowed(name: &str, path: &str, hosts: &[&str], methods: &[Method]) -> Route {
        let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
        Route { hosts, methods: methods.to_vec(), ..route(name, path) }
    }

    /// The name of the route that answers, what it captured, or the status.
    fn ask(list: &[Route], method: &Method, authority: &str, path: &str) -> String {
        ask_with(list, method, authority, path, &HeaderMap::new())
    }

    fn ask_with(
        list: &[Route],
        method: &Method,
        authority: &str,
        path: &str,
        fields: &HeaderMap,
    ) -> String {
        let routes = Routes::new(list).unwrap();
        match routes.find(authority, path, method, fields) {
            Found::Route { place, captures } => {
                let captured = captures.iter().map(|(name, value)| format!(" {name}={value}"));
                format!("{}{}", list[place].name, captured.collect::<String>())
            }
            Found::MethodNotAllowed(methods) => format!("405 {methods:?}"),
            Found::NotFound => "404".to_owned(),
        }
    }

    #[test]
    fn the_most_specific_path_wins() {
        let list = [
            route("all", "/{*rest}"),
            route("users", "/users/{*rest}"),
            route("user", "/users/{id}"),
            route("me", "/users/me"),
            route("posts", "/users/{user}/posts/{post}"),
            route("tenant", "/{tenant}/files/{*path}"),
            route("image", "/users/{id}.png"),
        ];
        for (path, answer) in [
            ("/", "all rest="),
            ("/x/y", "all rest=x/y"),
            ("/users", "users"),
            ("/users/", "users rest="),
            ("/users/a/b", "users rest=a/b"),
            ("/users/42", "user id=42"),
            ("/users/me", "me"),
            ("/users/42.png", "image id=42"),
            ("/users/42/posts/7", "posts user=42 post=7"),
            ("/users/files/x", "tenant tenant=users path=x"),
            ("/shop/files", "tenant tenant=shop"),
            ("*", "404"),
            ("", "404"),
        ] {
            assert_eq!(ask(&list, &Method::GET, "", path), answer, "{path}");
        }
    }

    #[test]
    fn a_route_of_its_own_wins_over_what_a_catch_all_matches_besides() {
        let list = [route("api", "/api/{*rest}"), route("root", "/api"), route("any", "/{page}")];
        for (path, answer) in [
            ("/api", "root"),
            ("/api/", "api rest="),
            ("/api/x", "api rest=x"),
            ("/b", "any page=b"),
        ] {
            assert_eq!(ask(&list, &Method::GET, "", path), answer, "{path}");
        }
    }

    #[test]
    fn paths_match_as_they_were_sent() {
        let list = [route("a", "/a/b"), route("rest", "/x/{*rest}")];
        for (path, answer) in [
            ("/a/b", "a"),
            ("/a/b/", "404"),
            ("/a//b", "404"),
            ("/a/./b", "404"),
            ("/a/c/../b", "404"),
            ("/%61/b", "404"),
            ("/A/b", "404"),
            ("/x/../a/b", "rest rest=../a/b"),
            ("/x/%2e%2e/a", "rest rest=%2e%2e/a"),
        ] {
            assert_eq!(ask(&list, &Method::GET, "", path), answer, "{path}");
        }
    }

    #[test]
    fn the_most_specific_host_wins_and_others_stand_in() {
        let list = [
            narrowed("any", "/{*rest}", &[], &[]),
            narrowed("shop", "/a", &["shop.example", "[::1]"], &[]),
            narrowed("below", "/a", &["*.example"], &[]),
            narrowed("deep", "/a", &["*.shop.example"], &[]),
            narrowed("only-below", "/b", &["*.example"], &[]),
        ];
        for (authority, path, answer) in [
            ("shop.example", "/a", "shop"),
            ("shop.example:8080", "/a", "shop"),
            ("shop.example.", "/a", "shop"),
            ("[::1]", "/a", "shop"),
            ("[::1]:80", "/a", "shop"),
            ("x.shop.example", "/a", "deep"),
            ("y.x.shop.example", "/a", "deep"),
            ("x.example", "/a", "below"),
            ("example", "/a", "any rest=a"),
            ("notshop.example", "/a", "below"),
            ("other.test", "/a", "any rest=a"),
            ("", "/a", "any rest=a"),
            ("y.shop.example", "/b", "only-below"),
            ("shop.example", "/b", "only-below"),
            ("shop.example", "/c", "any rest=c"),
        ] {
            assert_eq!(ask(&list, &Method::GET, authority, path), answer, "{authority}{path}");
        }
        let endless = format!("{}shop.example", "a.".repeat(4096));
        assert_eq!(ask(&list, &Method::GET, &endless, "/a"), "any rest=a");
    }

    #[test]
    fn a_route_that_does_not_take_the_method_is_no_candidate() {
        let list = [
            narrowed("read", "/a", &[], &[Method::GET, Method::HEAD]),
            narrowed("rest", "/a", &[], &[]),
            narrowed("write", "/b", &[], &[Method::PUT]),
            narrowed("read-b", "/b", &["shop.example"], &[Method::GET]),
            narrowed("under-c", "/c/{*rest}", &[], &[]),
            narrowed("c", "/c/{id}", &[], &[Method::GET]),
        ];
        for (method, authority, path, answer) in [
            (Method::GET, "", "/a", "read"),
            (Method::HEAD, "", "/a", "read"),
            (Method::POST, "", "/a", "rest"),
            (Method::PUT, "", "/b", "write"),
            (Method::GET, "", "/b", "405 [PUT]"),
            (Method::PUT, "shop.example", "/b", "write"),
            (Method::POST, "shop.example", "/b", "405 [GET, PUT]"),
            (Method::GET, "", "/c/1", "c id=1"),
            (Method::DELETE, "", "/c/1", "under-c rest=1"),
            (Method::GET, "", "/d", "404"),
        ] {
            assert_eq!(ask(&list, &method, authority, path), answer, "{method} {path}");
        }
    }

    #[test]
    fn routes_that_cannot_be_told_apart_are_all_named() {
        let at = |route: Route, line| Route { place: Place { file: 0, line, column: 8 }, ..route };
        let list = [
            at(route("a", "/a/{x}"), 3),
            at(route("b", "/a/{y}"), 7),
            at(narrowed("c", "/c", &["x.example", "y.example"], &[Method::GET]), 11),
            at(narrowed("d", "/c", &["y.example"], &[Method::PUT, Method::GET]), 15),
            at(route("e", "/e/{*x}"), 19),
            at(route("f", "/e/{*y}"), 23),
            at(route("g", "/g/{x}.png"), 27),
            at(route("h", "/g/image{x}"), 31),
        ];
        let conflicts = Routes::new(&list).unwrap_err();
        let lines: Vec<usize> = conflicts.iter().map(|conflict| conflict.place.line).collect();
        assert_eq!(lines, [7, 15, 23, 31]);
        let upstream = "http://127.0.0.1:1";
        let config = Config::for_upstream(upstream, ([127, 0, 0, 1], 0).into(), None).unwrap();
        assert_eq!(
            conflicts[0].fault("gateway.toml", &config).to_string(),
            "gateway.toml:7:8: route `b`: path `/a/{y}` matches the same requests as `/a/{x}` \
             of route `a` at line 3\n  hint: make one of them more specific, or narrow it with \
             `host`, `methods` or `headers`"
        );
    }

    /// `x: 1` and the like, a line each.
    fn fields(text: &str) -> HeaderMap {
        let lines = text.lines().filter_map(|line| line.split_once(": "));
        let line = |(name, value): (&str, &str)| {
            (name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap())
        };
        lines.map(line).collect()
    }

    /// It asks for `x=1 y=2`.
    fn asking(route: Route, asked: &str) -> Route {
        let condition = |text: &str| {
            let (name, value) = text.split_once('=').unwrap();
            FieldCondition { name: name.parse().unwrap(), values: vec![value.to_owned()] }
        };
        Route { headers: asked.split_whitespace().map(condition).collect(), ..route }
    }

    #[test]
    fn fields_decide_where_nothing_else_does() {
        let list = [
            route("all", "/{*rest}"),
            asking(route("beta", "/{*rest}"), "x=1"),
            asking(route("both", "/{*rest}"), "x=1 y=2"),
            asking(route("any-x", "/{*rest}"), "x=*"),
            route("user", "/users/{id}"),
            asking(route("user-2", "/users/{id}"), "x=2"),
            asking(route("only", "/only/{id}"), "x=2"),
            narrowed("put", "/users/{id}", &[], &[Method::PUT]),
            asking(narrowed("host", "/{*rest}", &["shop.example"], &[]), "z=1"),
        ];
        for (method, authority, path, given, answer, why) in [
            (Method::GET, "", "/a", "", "all rest=a", "none"),
            (Method::GET, "", "/a", "x: 1", "beta rest=a", "it has it"),
            (Method::GET, "", "/a", "x: 3", "any-x rest=a", "any value"),
            (Method::GET, "", "/a", "x: 1\ny: 2", "both rest=a", "more fields over fewer"),
            (Method::GET, "", "/users/1", "x: 1", "user id=1", "a path over fields"),
            (Method::GET, "", "/users/1", "x: 2", "user-2 id=1", "fields on that path"),
            (Method::PUT, "", "/users/1", "x: 2", "put id=1", "a method over fields"),
            (Method::GET, "", "/only/1", "x: 2", "only id=1", "it has it"),
            (Method::GET, "", "/only/1", "x: 1", "beta rest=only/1", "the next path"),
            (Method::GET, "", "/only/1", "", "all rest=only/1", "the next path"),
            (Method::GET, "shop.example", "/a", "", "all rest=a", "any host stands in"),
            (Method::GET, "shop.example", "/users/1", "z: 1", "host rest=users/1", "a host first"),
        ] {
            let found = ask_with(&list, &method, authority, path, &fields(given));
            assert_eq!(found, answer, "{method} {path} {given}: {why}");
        }
        let list = [
            asking(route("a", "/a"), "x=1"),
            asking(narrowed("b", "/b", &[], &[Method::PUT]), "x=1"),
        ];
        for (method, path, given, answer) in [
            (Method::GET, "/a", "x: 2", "404"),
            (Method::GET, "/b", "x: 1", "405 [PUT]"),
            (Method::GET, "/b", "x: 2", "404"),
        ] {
            assert_eq!(ask_with(&list, &method, "", path, &fields(given)), answer, "{path}");
        }
    }

    #[test]
    fn who_may_not_know_of_a_choice_is_told_by_which_fields() {
        let list = [
            route("all", "/{*rest}"),
            asking(route("beta", "/{*rest}"), "x=1"),
            asking(route("both", "/{*rest}"), "x=1 y=2"),
            route("user", "/users/{id}"),
            asking(route("user-2", "/users/{id}"), "w=2"),
            asking(narrowed("put", "/{*rest}", &[], &[Method::PUT]), "v=1"),
            asking(narrowed("host", "/h", &["shop.example"], &[]), "z=1"),
        ];
        let routes = Routes::new(&list).unwrap();
        for (method, authority, path, given, names, takers) in [
            (Method::GET, "", "/a", "", "x y", "all beta both"),
            (Method::GET, "", "/a", "x: 1", "x y", "all beta both"),
            (Method::GET, "", "/a", "x: 1\ny: 2", "x y", "all beta both"),
            (Method::GET, "", "/users/1", "x: 1", "w", "beta both user user-2"),
            (Method::PUT, "", "/a", "", "v x y", "all beta both put"),
            (Method::PUT, "", "/a", "v: 1", "v", "all beta both put"),
            (Method::GET, "shop.example", "/h", "z: 1", "z", "all beta both host"),
            (Method::GET, "shop.example", "/h", "", "x y z", "all beta both host"),
            (Method::GET, "shop.example", "/a", "", "x y", "all beta both"),
        ] {
            let given = fields(given);
            let found = routes.chosen_by(authority, path, &method, &given);
            let found: Vec<_> = found.iter().map(|name| name.as_str()).collect();
            assert_eq!(found.join(" "), names, "{method} {authority}{path} {given:?}");
            let found = routes.takers(authority, path, &method);
            let mut found: Vec<_> = found.iter().map(|place| list[*place].name.as_str()).collect();
            found.sort_unstable();
            assert_eq!(found.join(" "), takers, "{method} {authority}{path}");
        }
        assert!(!Routes::new(&list[..1]).unwrap().go_by_fields());
    }

    #[test]
    fn routes_are_told_apart_by_fields_that_no_request_has_both_of() {
        let get = &[Method::GET][..];
        for (one, other, is_conflict, why) in [
            (("/a", &[][..], "x=1"), ("/a", &[][..], "x=2"), false, "one value each"),
            (("/a", &[], "x=1"), ("/a", &[], "x=1"), true, "the same"),
            (("/a", &[], "x=1"), ("/a", &[], "y=1"), true, "both may be there"),
            (("/a", &[], "x=1"), ("/b", &[], "y=1"), false, "another path"),
            (("/{a}", &[], "x=1"), ("/{b}", &[], "y=1"), true, "the same path"),
            (("/{a}.png", &[], "x=1"), ("/page{b}", &[], "y=1"), true, "the same paths"),
            (("/a", &[], "x=1"), ("/a", get, "y=1"), false, "one names the method"),
            (("/a", get, "x=1"), ("/a", get, "y=1"), true, "both do"),
            (("/a", &[], "x=1"), ("/a", &[], "x=1 y=1"), false, "more over fewer"),
            (("/a", &[], "x=1"), ("/a", &[], "x=*"), false, "exact over any"),
            (("/a", &[], "x=a*"), ("/a", &[], "x=*b"), true, "`ab` is both"),
        ] {
            let route = |name, (path, methods, asked): (&str, &[Method], &str)| {
                asking(narrowed(name, path, &[], methods), asked)
            };
            let conflicts = Routes::new(&[route("one", one), route("other", other)]).err();
            assert_eq!(conflicts.is_some(), is_conflict, "{one:?} {other:?}: {why}");
        }
    }

    #[test]
    fn what_can_be_told_apart_stands_side_by_side() {
        let list = [
            narrowed("get", "/a/{x}", &[], &[Method::GET]),
            narrowed("put", "/a/{y}", &[], &[Method::PUT]),
            narrowed("any", "/a/{z}", &[], &[]),
            narrowed("host", "/a/{x}", &["x.example"], &[]),
            narrowed("below", "/a/{x}", &["*.example"], &[]),
            route("all", "/{*rest}"),
            route("versions", "/{version}/{*rest}"),
        ];
        assert_eq!(ask(&list, &Method::PUT, "", "/a/1"), "put y=1");
        assert_eq!(ask(&list, &Method::PATCH, "", "/a/1"), "any z=1");
        assert_eq!(ask(&list, &Method::GET, "", "/v1/x"), "versions version=v1 rest=x");
        assert_eq!(ask(&list, &Method::GET, "", "/v1"), "versions version=v1");
        assert_eq!(ask(&[], &Method::GET, "", "/"), "404");
    }

    proptest::proptest! {
        #[test]
        fn any_request_is_answered(authority in ".*", path in ".*", method in "[A-Z]{1,5}") {
            let list = [
                narrowed("a", "/{x}/{*rest}", &["*.example"], &[Method::GET]),
                route("b", "/{x}.png"),
                route("c", "/{*rest}"),
            ];
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            ask(&list, &method, &authority, &path);
            ask(&list, &method, &authority, &format!("/{path}"));
        }
    }
}
