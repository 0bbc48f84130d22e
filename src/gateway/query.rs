//! `QUERY` (RFC 10008): a safe request with content, answered from the cache as `GET` is.
//!
//! What it asks is in its content, so the key holds that: "The cache key for a QUERY request MUST
//! incorporate the request content and related metadata" (§2.7). Octet by octet, in whatever form the
//! client sent it, and in addition to the answer of the route's key policy. So
//! the content is read before the look-up, up to the route's bound; a larger one is passed on.
//! Trailers of what was read are no part of it, and go no further (RFC 9110 §6.5.1).

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_TYPE};
use http::{HeaderName, Method, Response};
use http_body_util::BodyExt;
use hyper::body::Body as _;

use crate::body::Body;
use crate::semantics::{self, CacheStatus, Forward};
use crate::stored::CacheKey;
use crate::upstream::{Arriving, Content};

use super::{Gateway, Presented, respond};

/// The request fields that say what the content is.
const METADATA: [HeaderName; 3] = [CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_TYPE];

/// What was read of a request's content.
pub(super) enum Read {
    /// All of it.
    Whole(Bytes),
    /// It is larger than the route's bound; this has been read.
    Begun(Bytes),
}

/// Why a request's content did not come.
#[derive(Clone, Copy)]
pub(super) enum Unread {
    /// It broke off, or what the client sent is no content.
    Broken,
    /// Nothing came for the upstream's `idle_timeout`.
    Silent,
    /// There is more of it than the route takes.
    TooLarge,
}

impl Gateway {
    /// Answers a `QUERY` that RFC 9111 lets a cache answer.
    pub(super) async fn query(
        self: &Arc<Self>,
        presented: Presented,
        mut content: Arriving,
    ) -> Response<Body> {
        let most = self.plan(&presented).max_query_body;
        match self.read(&presented, &mut content, most).await {
            Ok(Read::Whole(octets)) => {
                let presented = Presented { content: Some(octets), ..presented };
                self.answer_from_cache(presented).await
            }
            Ok(Read::Begun(octets)) => {
                let status = CacheStatus {
                    detail: Some("query-too-large".into()),
                    ..CacheStatus::forward(Forward::Bypass)
                };
                let most = self.plan(&presented).max_request_body;
                let content = Content::passing(octets, content, most);
                self.pass_reading(presented, content, status).await
            }
            Err(why) => respond::unread(presented.head.version, why),
        }
    }

    /// Reads a request's content, if it has at most so many octets.
    pub(super) async fn read(
        &self,
        presented: &Presented,
        content: &mut Arriving,
        most: usize,
    ) -> Result<Read, Unread> {
        let plan = self.plan(presented);
        // Not to be read, if its length was said.
        if content.size_hint().lower() > most as u64 {
            return Ok(Read::Begun(Bytes::new()));
        }
        let mut octets = BytesMut::new();
        loop {
            match tokio::time::timeout(plan.idle_timeout, content.frame()).await {
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        octets.extend_from_slice(&data);
                    }
                }
                Ok(Some(Err(_))) => return Err(Unread::Broken),
                Ok(None) => return Ok(Read::Whole(octets.freeze())),
                Err(_) => return Err(Unread::Silent),
            }
            if octets.len() as u64 > plan.max_request_body {
                return Err(Unread::TooLarge);
            }
            if octets.len() > most {
                return Ok(Read::Begun(octets.freeze()));
            }
        }
    }
}

/// The key of a request, of which the other parts gave this one.
pub(super) fn key(key: CacheKey, presented: &Presented) -> CacheKey {
    let Some(content) = &presented.content else { return key };
    // What of the content of a `POST` counts, its route leaves to the policy, which has seen it.
    let is_post = presented.head.method == Method::POST;
    let content = if is_post { &[][..] } else { content };
    let fields = &presented.head.headers;
    let metadata = METADATA.iter().map(|name| (name, semantics::nominated_value(fields, name)));
    key.with_content(&presented.head.method, metadata, content)
}
