//! Requests that go forward with no more than their key was made of (`forward = "keyed"`).
//!
//! What that is, `semantics` says. The key holds the path, the query that goes forward and the route's
//! `forward_fields` on such a route, in addition to what the key policy answers. What passes by the
//! cache goes forward whole: it is stored for nobody.

use http::header::AUTHORIZATION;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName};

use crate::config::{Forward, Jwt, Route, TokenFrom};
use crate::message::{self, CLIENT_CERT};
use crate::plugin::Policy;
use crate::semantics::{self, Authorized, Kept, Rewritten, Vary};
use crate::stored::CacheKey;

use super::coded::Compressing;
use super::key::{Key, Keyed};
use super::presented::Narrowed;
use super::{Gateway, Plan, Presented};

/// What of its requests a route forwards; none where it is all. A token goes forward with its claims.
pub(super) fn kept(route: &Route, policies: &[&Policy], jwt: Option<&Jwt>) -> Option<Kept> {
    if route.forward != Forward::Keyed {
        return None;
    }
    let mut kept = Kept { keyed: route.forward_fields.clone(), ..Kept::default() };
    if route.compress.is_some() {
        kept.keyed.retain(|name| !Compressing::hides(name));
    }
    for policy in policies {
        add(&mut kept.fields, policy.wanted_fields());
        add(&mut kept.cookies, policy.wanted_cookies());
    }
    if let Some(jwt) = jwt.filter(|_| policies.iter().any(|policy| policy.wants_claims())) {
        match &jwt.from {
            TokenFrom::Authorization => kept.fields.push(AUTHORIZATION),
            TokenFrom::Cookie(name) => kept.cookies.push(name.clone()),
            TokenFrom::Field(name) => kept.fields.push(name.clone()),
        }
    }
    Some(kept)
}

/// What another policy wants of one kind goes forward once.
fn add<T: Clone + PartialEq>(all: &mut Vec<T>, wanted: &[T]) {
    for one in wanted {
        if !all.contains(one) {
            all.push(one.clone());
        }
    }
}

/// `Authorization` goes forward, but what the key does not hold must not be in what others get.
pub(super) fn authorized(kept: Option<&Kept>) -> Authorized {
    match kept {
        Some(kept) if !kept.fields.contains(&AUTHORIZATION) => Authorized::Never,
        _ => Authorized::Public,
    }
}

/// Whether the certificate of a client is in the key, or does not go forward.
pub(super) fn holds_certificate(kept: Option<&Kept>) -> bool {
    kept.is_some_and(|kept| {
        kept.keyed.contains(&CLIENT_CERT) || !kept.fields.contains(&CLIENT_CERT)
    })
}

impl Plan {
    /// What comes of cookies that tell a key policy one thing, and may tell the upstream another. Where less goes
    /// forward than all, the first of a name is what the upstream gets, too.
    pub(super) fn doubtful(&self, presented: &Presented) -> Option<Keyed> {
        let fields = &presented.head.headers;
        let mut cookies = self.key.asks().iter().flat_map(|ask| ask.policy.wanted_cookies());
        let is_doubtful = match &self.kept {
            None => cookies.any(|name| message::is_doubtful_cookie(fields, name)),
            Some(_) => cookies.next().is_some() && message::has_open_quote(fields),
        };
        is_doubtful.then(|| Keyed::Bypass("several-cookies".into()))
    }

    /// This key, and the fields that every key of the route holds. Not as a `Vary` is treated, which
    /// lets a response answer requests with other preferences: what was sent forward may be in it.
    pub(super) fn with_forwarded(&self, key: CacheKey, presented: &Presented) -> CacheKey {
        let Some(kept) = self.kept.as_ref().filter(|kept| !kept.keyed.is_empty()) else {
            return key;
        };
        key.selected_by(&kept.keyed, &presented.head.headers)
    }

    /// The fields that `Vary` and a coding nominate, of those that go forward. `None` is `*`.
    pub(super) fn nominated(&self, fields: &HeaderMap) -> Option<Vec<HeaderName>> {
        let nominated = match (Vary::nominated_by(fields), &self.kept) {
            (Vary::Fields(nominated), Some(kept)) => semantics::kept_nominated(nominated, kept),
            (Vary::Fields(nominated), None) => nominated,
            (Vary::Any, _) => return None,
        };
        Some(self.onward.seen(nominated))
    }
}

impl Gateway {
    /// Leaves behind what the key was not made of, where the route says so.
    ///
    /// # Errors
    /// The key holds a query that the request does not have: there is no telling what to ask for.
    pub(super) fn narrow(&self, presented: &mut Presented, key: &Key) -> Result<(), Rewritten> {
        let Some(kept) = &self.plan(presented).kept else { return Ok(()) };
        let Presented { head, directives, content, .. } = &*presented;
        let (path, query) = (head.uri.path(), head.uri.query());
        let query = key.kept_query(path, query)?;
        let target = query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
        let target = PathAndQuery::try_from(target).map_err(|_| Rewritten)?;
        let fields = semantics::kept_fields(&head.headers, directives, content.is_some(), kept);
        presented.narrowed = Some(Box::new(Narrowed { target, fields }));
        Ok(())
    }
}
