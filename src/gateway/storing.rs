//! Whether a response that has begun is stored: what RFC 9111 allows, and what of that the route's policy does.

use std::sync::Arc;

use http::{HeaderMap, Method, StatusCode};
use tracing::warn;

use crate::config::{Config, Grant, OnError, Route};
use crate::plugin::SeenResponse;
use crate::semantics::{
    self, Asked, Freshness, Grants, Kept, NoVarySearch, NotStored, Rules, Times,
};
use crate::stored::{Mark, Original, StoredResponse};

use super::fetch::{Fetch, length};
use super::shown::Source;
use super::{Ask, Gateway, Presented, narrow, tags};

/// What decides about a response that may be stored.
pub(super) struct Storing {
    pub(super) freshness: Freshness,
    pub(super) marks: Vec<Mark>,
    pub(super) original: Original,
    /// What is stored again in it.
    pub(super) renews: Option<Arc<StoredResponse>>,
}

/// What a route has RFC 9111 decide by. `kept`: what of its requests goes forward, if that is less than all.
pub(super) fn rules(config: &Config, route: &Route, kept: Option<&Kept>) -> Rules {
    let grants = |grant| route.grants.contains(&grant);
    Rules {
        ttl: route.ttl,
        assumed_ttl: route.assumed_ttl,
        targets: config.cache.targeted.clone(),
        stale_if_error: route.stale_if_error,
        authorized: narrow::authorized(kept),
        certificate_in_key: narrow::holds_certificate(kept),
        grants: Grants {
            authorization: grants(Grant::Authorization),
            private: grants(Grant::Private),
            set_cookie: grants(Grant::SetCookie),
            post: grants(Grant::Post),
        },
    }
}

impl Gateway {
    /// A request, as the rules of caching see it.
    pub(super) fn as_asked<'a>(&self, presented: &'a Presented) -> Asked<'a> {
        let Presented { head, directives, .. } = presented;
        // What `HEAD` freshens was stored for `GET`.
        let method = if head.method == Method::HEAD { &Method::GET } else { &head.method };
        let has_credentials = self.plan(presented).has_strange_token(presented);
        Asked { method, fields: &head.headers, directives, has_credentials }
    }
}

impl Fetch {
    /// The request, as the rules of caching see it.
    pub(super) fn asked(&self) -> Asked<'_> {
        self.gateway.as_asked(&self.presented)
    }

    /// Whether the response may be stored, how long it is fresh, and what invalidates it.
    pub(super) async fn storing(
        &self,
        status: StatusCode,
        fields: &HeaderMap,
        source: Source<'_>,
        times: &Times,
    ) -> Result<Storing, NotStored> {
        let storing = self.storable(status, fields, times)?;
        self.allowed(status, fields, source, storing).await
    }

    /// The same, whatever the route's policy says of it.
    pub(super) fn storable(
        &self,
        status: StatusCode,
        fields: &HeaderMap,
        times: &Times,
    ) -> Result<Storing, NotStored> {
        let (plan, asked) = (self.plan(), self.asked());
        let mut freshness =
            semantics::storable(&asked, status, fields, times, plan.rules(&self.presented))?;
        freshness.open &= plan.may_be_shown() && self.presented.content.is_none();
        // A 416 with a lifetime, say, is about the range, which no key holds.
        if self.sought.is_part() && status != StatusCode::OK {
            return Err(NotStored::Range);
        }
        if length(fields).is_some_and(|length| length > plan.max_body as u64) {
            return Err(NotStored::TooLarge);
        }
        let authority = &self.presented.authority;
        let mut marks = self.own_marks();
        // Either may have it answer other queries. After a reload a write may find the route without
        // the policy, and what this policy's keys have will be back when the policy is.
        let answers_others = plan.key.is_asked() || NoVarySearch::of(fields).is_some();
        if answers_others && *asked.method != Method::POST {
            marks.push(Mark::search(authority, self.presented.head.uri.path()));
        }
        marks.extend(tags::marks(fields, &plan.origin_name, authority)?);
        Ok(Storing { freshness, marks, original: Original::default(), renews: None })
    }

    /// What of it is left where the route has a storing policy.
    pub(super) async fn allowed(
        &self,
        status: StatusCode,
        fields: &HeaderMap,
        source: Source<'_>,
        storing: Storing,
    ) -> Result<Storing, NotStored> {
        match &self.plan().storing {
            Some(ask) => Box::pin(self.ask_storing(ask, status, fields, source, storing)).await,
            None => Ok(storing),
        }
    }

    /// What any response to this request can be invalidated by.
    pub(super) fn own_marks(&self) -> Vec<Mark> {
        self.gateway.own_marks(&self.presented, &self.key)
    }

    /// Lets the route's storing policy narrow what the RFC allows, and tag the response.
    async fn ask_storing(
        &self,
        ask: &Ask,
        status: StatusCode,
        fields: &HeaderMap,
        source: Source<'_>,
        mut storing: Storing,
    ) -> Result<Storing, NotStored> {
        let plan = self.plan();
        let captures = self.gateway.captures(&self.presented);
        let seen = self.presented.seen(&captures);
        let content = source.shown(plan, ask, fields).await;
        let response = SeenResponse { status, fields, content, longest: plan.max_policy_body };
        match ask.policy.storing(&seen, &response).await {
            Ok(answer) if !answer.store => Err(NotStored::Policy),
            Ok(answer) => {
                if let Some(bound) = answer.max_age {
                    storing.freshness = storing.freshness.at_most(bound);
                }
                let tags = answer.tags.iter().map(|tag| Mark::tag(&plan.origin_name, tag));
                storing.marks.extend(tags);
                Ok(storing)
            }
            Err(failure) => {
                self.gateway.route_stats(&self.presented).policy_failures.count();
                let path = self.presented.head.uri.path();
                warn!(policy = ask.policy.name(), ?path, error = %failure, "storing policy failed");
                match ask.on_error {
                    OnError::Default => Ok(storing),
                    // The response is here and correct: not to store it is all that can fail.
                    OnError::Bypass | OnError::Fail => Err(NotStored::PolicyFailed),
                }
            }
        }
    }
}
