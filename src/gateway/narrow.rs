//! Requests that go forward with no more than their key was made of (`forward = "keyed"`).
//!
//! What that is, `semantics` says. The key holds the path and the route's `forward_fields` on such a
//! route, in addition to what the key policy answers. What passes by the cache goes forward whole: it
//! is stored for nobody.

use std::sync::Arc;

use http::header::AUTHORIZATION;
use http::uri::PathAndQuery;

use crate::config::{Forward, Route};
use crate::plugin::Policy;
use crate::semantics::{self, Authorized, Kept, Rewritten};
use crate::stored::CacheKey;

use super::key::Key;
use super::presented::Narrowed;
use super::{Gateway, Plan, Presented};

/// What of its requests a route forwards; none where it is all.
pub(super) fn kept(route: &Route, policy: Option<&Arc<Policy>>) -> Option<Kept> {
    (route.forward == Forward::Keyed).then(|| Kept {
        keyed: route.forward_fields.clone(),
        fields: policy.map(|policy| policy.wanted_fields().into()).unwrap_or_default(),
        cookies: policy.map(|policy| policy.wanted_cookies().into()).unwrap_or_default(),
    })
}

/// `Authorization` goes forward, but what the key does not hold must not be in what others get.
pub(super) fn authorized(kept: Option<&Kept>) -> Authorized {
    match kept {
        Some(kept) if !kept.fields.contains(&AUTHORIZATION) => Authorized::Never,
        _ => Authorized::Public,
    }
}

impl Plan {
    /// This key, and the fields that every key of the route holds. Not as a `Vary` is treated, which
    /// lets a response answer requests with other preferences: what was sent forward may be in it.
    pub(super) fn with_forwarded(&self, key: CacheKey, presented: &Presented) -> CacheKey {
        let Some(kept) = self.kept.as_ref().filter(|kept| !kept.keyed.is_empty()) else {
            return key;
        };
        let value = |name| (name, semantics::nominated_value(&presented.head.headers, name));
        key.variant(kept.keyed.iter().map(value))
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
        let query = match key.parts() {
            None => query.map(str::to_owned),
            Some(parts) => semantics::kept_query(path, query, parts)?,
        };
        let target = query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
        let target = PathAndQuery::try_from(target).map_err(|_| Rewritten)?;
        let fields = semantics::kept_fields(&head.headers, directives, content.is_some(), kept);
        presented.narrowed = Some(Box::new(Narrowed { target, fields }));
        Ok(())
    }
}
