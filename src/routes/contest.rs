//! Why a route answers a request, and why the others do not: for operators who ask.
//!
//! The table decides as for a request. The others are asked one by one, each in a table of its own, what of
//! the request they do not take.

use http::{HeaderMap, Method};

use crate::config::{FieldCondition, Origin, Route};

use super::rank::Rank;
use super::{Found, Routes};

/// So many others are told of.
const MOST: usize = 16;

/// A route as it was written.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    name: Box<str>,
    path: Box<str>,
    hosts: Box<[String]>,
    methods: Box<[Method]>,
    fields: Box<[FieldCondition]>,
}

/// A route that does not answer, though its path matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunnerUp {
    /// Its name.
    pub name: String,
    /// Its path.
    pub path: String,
    /// By what it does not.
    pub lost: Lost,
}

/// By what a route does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// It is for other hosts.
    OtherHost,
    /// It is for other methods.
    OtherMethod,
    /// It asks for fields that the request does not have so.
    OtherFields,
    /// Its host is less specific.
    Host,
    /// Its path is.
    Path,
    /// It names no method.
    Method,
    /// It asks for fewer fields, or less exactly.
    Fields,
}

impl Lost {
    /// `host`, `path`, `method` or `fields`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OtherHost | Self::Host => "host",
            Self::Path => "path",
            Self::OtherMethod | Self::Method => "method",
            Self::OtherFields | Self::Fields => "fields",
        }
    }

    /// The same as a sentence's end.
    pub fn explained(self) -> &'static str {
        match self {
            Self::OtherHost => "it is for other hosts",
            Self::OtherMethod => "it is for other methods",
            Self::OtherFields => "it asks for fields that the request does not have so",
            Self::Host => "its host is less specific",
            Self::Path => "its path is less specific",
            Self::Method => "it names no method",
            Self::Fields => "it asks for fewer fields, or less exactly",
        }
    }
}

impl Claim {
    pub(super) fn of(route: &Route) -> Self {
        Self {
            name: route.name.as_str().into(),
            path: route.path.as_str().into(),
            hosts: route.hosts.clone().into(),
            methods: route.methods.clone().into(),
            fields: route.headers.clone().into(),
        }
    }

    /// A route that takes all that this one's path matches.
    fn by_path(&self) -> Route {
        Route::new(self.name.to_string(), self.path.to_string(), Origin::Upstream(0))
    }

    fn whole(&self) -> Route {
        Route {
            hosts: self.hosts.to_vec(),
            methods: self.methods.to_vec(),
            headers: self.fields.to_vec(),
            ..self.by_path()
        }
    }

    /// How many labels the best of its hosts has that match this one, and whether that is exact; none
    /// for any host.
    fn host_rank(&self, host: &str) -> (bool, usize) {
        let matching = self.hosts.iter().filter_map(|own| match own.strip_prefix("*.") {
            None => (own == host).then_some((true, 0)),
            Some(suffix) => {
                let before = host.strip_suffix(suffix)?;
                before.ends_with('.').then(|| (false, suffix.split('.').count()))
            }
        });
        matching.max().unwrap_or_default()
    }
}

impl Routes {
    /// The path of the route at a place, as it was written.
    pub fn path_of(&self, place: usize) -> Option<&str> {
        self.claims.get(place).map(|claim| &*claim.path)
    }

    /// The others whose paths match a request that the route at `winner` answers, if one does; in the
    /// order of the file.
    pub fn runners_up(
        &self,
        winner: Option<usize>,
        authority: &str,
        path: &str,
        method: &Method,
        fields: &HeaderMap,
    ) -> Vec<RunnerUp> {
        let takes = |route: Route| {
            let table = Self::new(&[route]).ok();
            table.is_some_and(|table| {
                matches!(table.find(authority, path, method, fields), Found::Route { .. })
            })
        };
        let others = self.claims.iter().enumerate().filter(|(place, _)| Some(*place) != winner);
        let others = others.filter(|(_, claim)| takes(claim.by_path())).take(MOST);
        let lost = |claim: &Claim| {
            if !takes(Route { hosts: claim.hosts.to_vec(), ..claim.by_path() }) {
                return Lost::OtherHost;
            }
            if !takes(Route { methods: claim.methods.to_vec(), ..claim.by_path() }) {
                return Lost::OtherMethod;
            }
            if !takes(claim.whole()) {
                return Lost::OtherFields;
            }
            let Some(won) = winner.and_then(|place| self.claims.get(place)) else {
                return Lost::OtherFields;
            };
            let host = self.host_of(authority);
            if claim.host_rank(host) != won.host_rank(host) {
                return Lost::Host;
            }
            Rank::of(&claim.whole()).lost_to(&Rank::of(&won.whole()))
        };
        let told = others.map(|(_, claim)| RunnerUp {
            name: claim.name.to_string(),
            path: claim.path.to_string(),
            lost: lost(claim),
        });
        told.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(name: &str, path: &str) -> Route {
        Route::new(name.to_owned(), path.to_owned(), Origin::Upstream(0))
    }

    #[test]
    fn each_other_route_says_by_what_it_lost() {
        let field = |name: &str| FieldCondition {
            name: name.parse().unwrap(),
            values: vec!["*".to_owned()],
        };
        let hosts = |hosts: &[&str]| hosts.iter().map(|host| (*host).to_owned()).collect();
        let routes = [
            route("all", "/{*rest}"),
            Route { hosts: hosts(&["shop.example"]), ..route("winner", "/books/{id}") },
            Route { hosts: hosts(&["*.example"]), ..route("suffix", "/books/42") },
            Route { hosts: hosts(&["other.example"]), ..route("elsewhere", "/books/{id}") },
            Route {
                hosts: hosts(&["shop.example"]),
                methods: vec![Method::PUT],
                ..route("put", "/books/{id}")
            },
            Route {
                hosts: hosts(&["shop.example"]),
                headers: vec![field("x-beta")],
                ..route("beta", "/books/{id}")
            },
            Route { hosts: hosts(&["shop.example"]), ..route("broad", "/books/{*rest}") },
            route("users", "/users/{id}"),
        ];
        let table = Routes::new(&routes).unwrap();
        let fields = HeaderMap::new();
        let Found::Route { place, .. } =
            table.find("shop.example:8080", "/books/42", &Method::GET, &fields)
        else {
            panic!("no route")
        };
        assert_eq!(table.path_of(place), Some("/books/{id}"));
        let others =
            table.runners_up(Some(place), "shop.example:8080", "/books/42", &Method::GET, &fields);
        let told: Vec<_> = others.iter().map(|it| (it.name.as_str(), it.lost)).collect();
        assert_eq!(
            told,
            [
                ("all", Lost::Host),
                ("suffix", Lost::Host),
                ("elsewhere", Lost::OtherHost),
                ("put", Lost::OtherMethod),
                ("beta", Lost::OtherFields),
                ("broad", Lost::Path),
            ]
        );
    }
}
