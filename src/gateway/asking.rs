//! `POST` that asks and changes nothing, where a route grants its key policy to say so (GraphQL).
//!
//! The policy is shown the content, and makes a key of what is a read. Of the content nothing is in the
//! key but what the policy makes of it; the host adds the method and what the content is
//! (`Content-Type`, `Content-Encoding`, `Content-Language`). What the policy lets go past the cache, and
//! what is longer than `max_query_body`, goes on as the unsafe request that it is.
//!
//! What is stored so is no response to `GET`: a write to its target invalidates it only where the
//! write's route has no invalidation policy, or that failed. One that answers has said what a write
//! makes wrong; all of a GraphQL service has one target.

use std::sync::Arc;

use http::{Method, Response};

use crate::body::Body;
use crate::semantics::{self, CacheStatus, Forward};
use crate::upstream::{Arriving, Content};

use super::key::Keyed;
use super::query::Read;
use super::{Gateway, Presented, respond};

impl Gateway {
    /// Whether a request may be a `POST` that is a read.
    pub(super) fn may_ask_by_post(&self, presented: &Presented) -> bool {
        let head = &presented.head;
        head.method == Method::POST
            && self.plan(presented).rules.grants.post
            && (self.store.has_l1() || self.store.has_l2())
            && semantics::may_ask_by_post(&head.headers)
    }

    /// Answers a `POST` by the key that the route's policy makes of it; or passes it on as a write.
    pub(super) async fn ask_by_post(
        self: &Arc<Self>,
        mut presented: Presented,
        mut content: Arriving,
    ) -> Response<Body> {
        let plan = self.plan(&presented);
        let invalidation = plan.invalidation.as_ref();
        let shown = invalidation
            .filter(|ask| ask.policy.wants_content())
            .map_or(0, |_| plan.max_policy_body);
        let writing = |reason: &str| CacheStatus {
            detail: Some(reason.to_owned().into()),
            ..CacheStatus::forward(Forward::Method)
        };
        let longest = plan.max_query_body;
        let octets = match self.read(&presented, &mut content, longest.max(shown)).await {
            Ok(Read::Whole(octets)) => octets,
            Ok(Read::Begun(octets)) => {
                let content = Content::passing(octets, content, plan.max_request_body);
                return self.pass_writing(presented, content, writing("query-too-large")).await;
            }
            Err(why) => return respond::unread(presented.head.version, why),
        };
        presented.content = Some(octets.clone());
        let keyed = if octets.len() > longest {
            Keyed::Bypass("query-too-large".into())
        } else if let Some(keyed) = self.known_key(&presented) {
            keyed
        } else {
            self.ask_key(&presented).await
        };
        let Keyed::Bypass(reason) = keyed else {
            return self.answer_keyed(presented, keyed).await;
        };
        // What the invalidation policy is shown is bounded by another limit.
        presented.content = (octets.len() <= shown).then(|| octets.clone());
        self.pass_writing(presented, Content::whole(octets), writing(&reason)).await
    }
}
