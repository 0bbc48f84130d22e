//! Contents that policies want to see: read before they are passed on, up to the route's
//! `max_policy_body`. A longer one streams as if nobody had asked, and the policy sees none.

use bytes::Bytes;
use http::{Response, StatusCode};
use hyper::body::{Body as _, Incoming};

use crate::body::Body;
use crate::semantics::CacheStatus;
use crate::upstream::Content;

use super::query::Read;
use super::{Gateway, Presented, respond};

impl Gateway {
    /// What to send on of a write's content. If the route's invalidation policy wants to see it, it
    /// is read before anything is sent, and is in `presented` from then on. An error is the answer
    /// to a request whose content did not come. Trailers of what was read go no further (RFC 9110
    /// §6.5.1).
    pub(super) async fn written(
        &self,
        presented: &mut Presented,
        mut content: Incoming,
        status: &CacheStatus,
    ) -> Result<Content, Response<Body>> {
        let plan = self.plan(presented);
        let is_wanted = plan.invalidation.as_ref().is_some_and(|ask| ask.policy.wants_content());
        if !is_wanted || content.is_end_stream() {
            return Ok(Content::passing(Bytes::new(), content));
        }
        let (code, detail, why) =
            match self.read(presented, &mut content, plan.max_policy_body).await {
                Read::Whole(octets) => {
                    presented.content = Some(octets.clone());
                    return Ok(Content::whole(octets));
                }
                Read::Begun(octets) => return Ok(Content::passing(octets, content)),
                Read::Broken => (
                    StatusCode::BAD_REQUEST,
                    "request-broken",
                    "the request's content did not come whole",
                ),
                Read::Silent => (
                    StatusCode::REQUEST_TIMEOUT,
                    "request-silent",
                    "the request's content did not come in time",
                ),
            };
        let mut response = respond::refused(presented.head.version, code, why);
        let status = CacheStatus { detail: Some(detail.into()), ..status.clone() };
        status.write_to(response.headers_mut());
        Err(response)
    }
}
