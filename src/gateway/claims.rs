//! Claims of tokens, where they are what tells users apart.
//!
//! A key policy that asks for claims answers for whom a response is, and it answers for no more than what
//! it was shown. A request that shows it no claim may all the same be somebody's: its token does not hold,
//! or says nothing of what is asked, or it brings a password. The key knows nothing of that user, so nothing
//! is granted then; and a token counts as credentials wherever it is, as RFC 9111 §3.5 has it of
//! `Authorization`.

use std::sync::Arc;

use http::header::AUTHORIZATION;

use crate::config::{Jwt, Route, TokenFrom};
use crate::plugin::Policy;
use crate::semantics::{Authorized, Grants, Kept, Rules};
use crate::token::Reader;

use super::{Plan, Presented};

/// What is said of requests that show key policies none of the claims that they ask for.
pub(super) struct Unnamed {
    rules: Rules,
    /// Said of those that have a token: no policy but by its claims sees it.
    with_token: bool,
    /// Said of the others: whatever else they bring, no policy sees it.
    without_token: bool,
}

/// What reads the tokens of a route's requests, if one of its policies asks for claims.
pub(super) fn tokens(
    route: &Route,
    policies: &[Arc<Policy>],
    tokens: &[Arc<Reader>],
) -> Option<Arc<Reader>> {
    let roles = [route.shadow, route.storing, route.invalidation];
    let mut roles = roles.into_iter().flatten().chain(route.key.iter().copied());
    let asks = roles.any(|place| policies.get(place).is_some_and(|policy| policy.wants_claims()));
    tokens.get(route.jwt.filter(|_| asks)?).cloned()
}

/// What is said of requests without claims, if a key policy of the route tells users apart by them.
pub(super) fn unnamed(
    policies: &[&Policy],
    jwt: Option<&Jwt>,
    kept: Option<&Kept>,
    rules: &Rules,
) -> Option<Unnamed> {
    let from = &jwt?.from;
    let sees_token = |policy: &Policy| match from {
        TokenFrom::Authorization => policy.wanted_fields().contains(&AUTHORIZATION),
        TokenFrom::Cookie(name) => policy.wanted_cookies().contains(name),
        TokenFrom::Field(name) => policy.wanted_fields().contains(name),
    };
    let by_claims = || policies.iter().copied().filter(|policy| policy.wants_claims());
    let with_token = !by_claims().all(sees_token);
    let without_token = !by_claims().all(|policy| policy.wanted_fields().contains(&AUTHORIZATION));
    (with_token || without_token).then(|| {
        let authorized = if kept.is_some() { Authorized::Never } else { Authorized::Public };
        let rules = Rules { authorized, grants: Grants::default(), ..rules.clone() };
        Unnamed { rules, with_token, without_token }
    })
}

impl Plan {
    /// What may be stored of the responses to this request.
    pub(super) fn rules(&self, presented: &Presented) -> &Rules {
        self.unnamed_rules(presented).unwrap_or(&self.rules)
    }

    /// Whether the request has a token that its key tells nothing of.
    pub(super) fn has_strange_token(&self, presented: &Presented) -> bool {
        self.has_token(presented) && self.unnamed_rules(presented).is_some()
    }

    fn unnamed_rules(&self, presented: &Presented) -> Option<&Rules> {
        let Unnamed { rules, with_token, without_token } = self.unnamed.as_deref()?;
        let is_said = if self.has_token(presented) { *with_token } else { *without_token };
        (is_said && !self.is_named(presented)).then_some(rules)
    }

    fn has_token(&self, presented: &Presented) -> bool {
        self.tokens.as_ref().is_some_and(|reader| reader.is_in(&presented.head.headers))
    }

    /// Whether each key policy that asks for claims is shown one.
    fn is_named(&self, presented: &Presented) -> bool {
        let claims = presented.claims.as_deref();
        let mut by_claims = self.key.asks().iter().filter(|ask| ask.policy.wants_claims());
        claims.is_some_and(|claims| by_claims.all(|ask| ask.policy.is_shown_a_claim(claims)))
    }
}
