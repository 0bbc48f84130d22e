//! Contents that policies want to see: read before they are passed on, up to the route's
//! `max_policy_body`. A longer one streams as if nobody had asked, and the policy sees none.
//!
//! A response of which a storing policy wants values is held back until the policy has decided,
//! rather than shared at once and decided upon at its end: followers would have got what the policy
//! does not want to be shared, and `Cache-Status` would have said that it is stored.

use bytes::Bytes;
use http::{HeaderMap, Response};
use hyper::body::Body as _;

use crate::body::Body;
use crate::semantics::{self, CacheStatus};
use crate::upstream::{Arriving, Content, Reply};

use super::query::{Read, Unread};
use super::{Ask, Gateway, Plan, Presented, respond};

/// Where the content of a response is.
pub(super) enum Source<'a> {
    /// On its way from the upstream.
    Coming(&'a mut Reply),
    /// Stored, and whole.
    Stored(&'a Bytes),
    /// Not here: only a part of it is.
    Elsewhere,
}

impl Source<'_> {
    /// The content for a policy, if it wants values of it. None too if it is longer than the route lets
    /// a policy read, or does not come whole and in time.
    pub(super) async fn shown(self, plan: &Plan, ask: &Ask, fields: &HeaderMap) -> Option<Bytes> {
        let longest = plan.max_policy_body;
        match self {
            _ if !wants_values(ask, fields) => None,
            Self::Coming(reply) => reply.ahead(longest).await,
            Self::Stored(content) => (content.len() <= longest).then(|| content.clone()),
            Self::Elsewhere => None,
        }
    }
}

/// Whether a policy wants values of a response with these fields, and it may have some.
pub(super) fn wants_values(ask: &Ask, fields: &HeaderMap) -> bool {
    ask.policy.wants_response_values() && semantics::json_coding(fields).is_some()
}

impl Gateway {
    /// What to send on of a write's content. If the route's invalidation policy wants to see it, it
    /// is read before anything is sent, and is in `presented` from then on. An error is the answer
    /// to a request whose content did not come. Trailers of what was read go no further (RFC 9110
    /// §6.5.1).
    pub(super) async fn written(
        &self,
        presented: &mut Presented,
        mut content: Arriving,
        status: &CacheStatus,
    ) -> Result<Content, Response<Body>> {
        let plan = self.plan(presented);
        let is_wanted = plan.invalidation.as_ref().is_some_and(|ask| ask.policy.wants_content());
        if !is_wanted || content.is_end_stream() {
            return Ok(Content::passing(Bytes::new(), content, plan.max_request_body));
        }
        let why = match self.read(presented, &mut content, plan.max_policy_body).await {
            Ok(Read::Whole(octets)) => {
                presented.content = Some(octets.clone());
                return Ok(Content::whole(octets));
            }
            Ok(Read::Begun(octets)) => {
                return Ok(Content::passing(octets, content, plan.max_request_body));
            }
            Err(why) => why,
        };
        let detail = match why {
            Unread::Broken => "request-broken",
            Unread::Silent => "request-silent",
            Unread::TooLarge => respond::TOO_LARGE,
        };
        let mut response = respond::unread(presented.head.version, why);
        let status = CacheStatus { detail: Some(detail.into()), ..status.clone() };
        status.write_to(response.headers_mut());
        Err(response)
    }
}
