//! A response to `POST` that answers the `GET`s to come (RFC 9110 §9.3.3).
//!
//! It is found by the key of a `GET` of its target with the request's own fields, which the route's
//! key policy is asked for: that of a `GET`, which has no content. The write has invalidated its target
//! before. So the response is stored at the place after that, where its own invalidation does not
//! cover it; and it is not stored at all if anything else was invalidated since the request went
//! out, as that may have been after the response was made.

use std::sync::Arc;

use http::{Method, Response};
use tokio::sync::oneshot;

use crate::body::Body;
use crate::collapse::Outcome;
use crate::config::Route;
use crate::routes::Found;
use crate::semantics::{self, CacheStatus, Posted, Rules, Times};
use crate::store::Lease;
use crate::upstream::Reply;

use super::fetch::Fetch;
use super::key::{Key, Keyed};
use super::partial::Sought;
use super::shown::Source;
use super::write::{Invalidated, Written};
use super::{Gateway, Presented, respond};

impl Gateway {
    /// Passes on what an unsafe request got, and stores it if it answers a `GET`.
    pub(super) async fn pass_and_keep(
        self: &Arc<Self>,
        presented: Presented,
        reply: Response<Reply>,
        times: Times,
        written: Written,
    ) -> Response<Body> {
        let Written { before, invalidated, status } = written;
        let rules = &self.plan(&presented).rules;
        let answers_get = answers_get(&presented, &reply, &times, rules);
        match invalidated.filter(|_| answers_get) {
            None => respond::passing(presented.coder.as_deref(), reply, &status),
            // Rare, and large: other writes have no room for it.
            Some(invalidated) => {
                Box::pin(self.keep(presented, reply, times, (before, invalidated), status)).await
            }
        }
    }

    /// Passes on what answers a `GET`, and stores it.
    async fn keep(
        self: &Arc<Self>,
        presented: Presented,
        reply: Response<Reply>,
        times: Times,
        (before, Invalidated { records, receipt }): (Lease, Invalidated),
        status: CacheStatus,
    ) -> Response<Body> {
        let coder = presented.coder.clone();
        let Some((presented, key)) = self.as_get(presented).await else {
            return respond::passing(coder.as_deref(), reply, &status);
        };
        let Some(lease) = self.store.lease_after(&before, records, receipt).await else {
            return respond::passing(coder.as_deref(), reply, &status);
        };
        let (lead, seat) = self.collapse.alone(key.hash, self.era(&presented, &lease));
        let (mine, _) = oneshot::channel();
        let gateway = Arc::clone(self);
        let presented = Arc::new(presented);
        let fetch = Fetch {
            gateway,
            presented: Arc::clone(&presented),
            key,
            sought: Sought::ANYTHING,
            lease,
            lead,
            turn: None,
            apart: None,
            mine,
        };
        let (head, mut content) = reply.into_parts();
        let source = Source::Coming(&mut content);
        let decision = fetch.storing(head.status, &head.headers, source, &times).await;
        let reply = Response::from_parts(head, content);
        match decision {
            Ok(storing) => {
                self.tasks.spawn(async move { fetch.store(Method::POST, reply, storing).await });
                match seat.outcome().await {
                    Outcome::Shared(head) => respond::leader(&presented, &head, seat, status),
                    _ => respond::lost(&status),
                }
            }
            Err(why) => {
                let status = CacheStatus { detail: Some(why.as_str().into()), ..status };
                respond::passing(coder.as_deref(), reply, &status)
            }
        }
    }

    /// The `GET` that the response answers, and its key. `None` if no route takes it, or one of
    /// another upstream or that would have sent it on otherwise, or its policy lets it go past the cache.
    async fn as_get(&self, presented: Presented) -> Option<(Presented, Key)> {
        let Presented { authority, head, .. } = &presented;
        let found = self.routes.find(authority, head.uri.path(), &Method::GET, &head.headers);
        let Found::Route { place, .. } = found else { return None };
        let origin = &self.plan(&presented).origin;
        let is_same = |plan: &super::Plan| plan.origin.is_same(origin);
        // The request went forward with more than the key of a GET holds.
        let may_keep = |plan: &super::Plan| is_same(plan) && plan.kept.is_none();
        let plan = self.plans.get(place).filter(|plan| may_keep(plan))?;
        // What the upstream calls by the target's name may be something else.
        let may_be = plan.onward.keeps_path() && self.go_on_alike(place, presented.place);
        may_be.then_some(())?;
        let mut presented = Presented { place, ..presented };
        presented.head.method = Method::GET;
        presented.content = None;
        let keyed = match self.known_key(&presented) {
            Some(keyed) => keyed,
            None => self.ask_key(&presented).await,
        };
        match keyed {
            Keyed::Key(key) => Some((presented, key)),
            Keyed::Bypass(_) | Keyed::Failed => None,
        }
    }

    /// Whether a request goes forward by two routes as the same, and what it gets comes back so. Else the one
    /// does not know what the other's upstream has seen, such as a cookie that `Vary` names.
    fn go_on_alike(&self, one: usize, other: usize) -> bool {
        let said = |place: usize| {
            let Route { rewrite, fields, compress, jwt, .. } = self.config.routes.get(place)?;
            Some((rewrite, fields, compress, jwt))
        };
        said(one) == said(other)
    }
}

fn answers_get(
    presented: &Presented,
    reply: &Response<Reply>,
    times: &Times,
    rules: &Rules,
) -> bool {
    let Presented { head, authority, peer, .. } = presented;
    let posted = Posted {
        method: &head.method,
        scheme: peer.scheme,
        authority,
        target: head.uri.path_and_query().map_or("/", |target| target.as_str()),
        fields: &head.headers,
    };
    semantics::answers_get(&posted, reply.status(), reply.headers(), times, rules)
}
