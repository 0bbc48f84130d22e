//! Which route takes a request, and what caches before this one have to know of that.

use http::header::{HeaderValue, VARY};
use http::request::Parts;
use http::{HeaderMap, Method, Response, StatusCode};

use crate::body::Body;
use crate::config::Route;
use crate::routes::Found;

use super::{Gateway, Peer, Presented, respond};

impl Gateway {
    /// The route that takes a request, or why there is none.
    pub(super) fn place(
        &self,
        authority: &str,
        head: &Parts,
        peer: &Peer,
    ) -> Result<usize, Box<Response<Body>>> {
        Err(Box::new(match peer.redirect {
            Some(port) => respond::to_https(authority, port, &head.uri),
            None if head.method == Method::CONNECT => respond::connects(head.version),
            // RFC 9110 §9.3.7: it is about the server and none of its resources, and as good as a ping.
            None if head.method == Method::OPTIONS && head.uri.path() == "*" => {
                respond::assemble(StatusCode::NO_CONTENT, HeaderMap::new(), Body::empty())
            }
            None => match self.routes.find(authority, head.uri.path(), &head.method, &head.headers)
            {
                Found::Route { place, .. } => return Ok(place),
                Found::MethodNotAllowed(methods) => respond::method_not_allowed(&methods),
                Found::NotFound => respond::no_route(),
            },
        }))
    }

    /// The name of the route that takes a `GET` of this path with these fields.
    pub fn route_for_get(&self, authority: &str, path: &str, fields: &HeaderMap) -> Option<&str> {
        match self.routes.find(authority, path, &Method::GET, fields) {
            Found::Route { place, .. } => self.plans.get(place).map(|plan| &*plan.name),
            Found::MethodNotAllowed(_) | Found::NotFound => None,
        }
    }

    /// What the route's path captured. Few hits need it, so it is looked for once more.
    pub(super) fn captures<'a>(&'a self, presented: &'a Presented) -> Vec<(&'a str, &'a str)> {
        let Presented { authority, head, .. } = presented;
        match self.routes.find(authority, head.uri.path(), &head.method, &head.headers) {
            Found::Route { captures, .. } => captures.to_vec(),
            Found::MethodNotAllowed(_) | Found::NotFound => Vec::new(),
        }
    }

    /// The fields by which the route was chosen, if any were.
    pub(super) fn chosen_by(&self, authority: &str, head: &Parts) -> Option<HeaderValue> {
        if !self.routes.go_by_fields() {
            return None;
        }
        let (path, method) = (head.uri.path(), &head.method);
        let names = self.routes.chosen_by(authority, path, method, &head.headers);
        let names: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
        HeaderValue::try_from(names.join(", ")).ok().filter(|value| !value.is_empty())
    }

    /// Whether a key policy is asked for what answers such a `GET`, by whatever route.
    pub(super) fn has_key_policy(&self, authority: &str, path: &str) -> bool {
        let takers = self.routes.takers(authority, path, &Method::GET);
        takers.into_iter().any(|it| self.plans.get(it).is_some_and(|plan| plan.key.is_asked()))
    }
}

/// Adds what a route asks of fields to what stands for it in its keys: what was stored for requests with
/// other values is not found by these.
pub(super) fn space(mut space: String, route: &Route) -> String {
    if !route.headers.is_empty() {
        let digest = blake3::hash(format!("{:?}", route.headers).as_bytes()).to_hex();
        space.push_str("/asks-");
        space.push_str(digest.get(..32).unwrap_or_default());
    }
    space
}

/// RFC 9110 §12.5.5: "An origin server SHOULD generate a Vary header field on a cacheable response when
/// it wishes that response to be selectively reused for subsequent requests." Who chooses an upstream by
/// a field does the same as one that answers by it. Here the key tells routes apart, so only who is
/// before this gateway has to be told, and nothing is stored by it.
pub(super) fn vary(response: &mut Response<Body>, names: &HeaderValue) {
    let fields: &mut HeaderMap = response.headers_mut();
    if !fields.get_all(VARY).iter().any(|value| value == "*") {
        fields.append(VARY, names.clone());
    }
}
