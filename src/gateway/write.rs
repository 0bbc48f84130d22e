//! Requests that the cache does not answer: passed on as they are, and where they changed something,
//! what they made wrong is invalidated before the client hears of it.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};

use tokio::sync::oneshot;
use tracing::warn;

use crate::body::Body;
use crate::clock;
use crate::config::OnError;
use crate::message;
use crate::plugin::{Scope as Named, SeenResponse};
use crate::semantics::{self, CacheStatus, Forward, Times};
use crate::store::{Invalidation, Lease, Receipt, Scope};
use crate::stored::{CacheKey, Mark};
use crate::upstream::{Arriving, Content, Failure, Fields, Outgoing, Reply};

use super::origin::Origin;
use super::outliving::Outliving;
use super::{Answer, Ask, Gateway, Plan, Presented, respond, shown, tags};

/// What an unsafe request has invalidated.
pub(super) struct Invalidated {
    /// How many records of the log that took.
    pub(super) records: usize,
    /// Where the log was then.
    pub(super) receipt: Receipt,
}

/// An unsafe request that was answered.
pub(super) struct Written {
    /// A lease from before it went out.
    pub(super) before: Lease,
    pub(super) invalidated: Option<Invalidated>,
    /// Why it went forward.
    pub(super) status: CacheStatus,
}

impl Gateway {
    /// Passes a request on that no stored response may answer.
    pub(super) fn pass(
        self: &Arc<Self>,
        mut presented: Presented,
        content: Arriving,
        why: Forward,
    ) -> Answer {
        let (gateway, status) = (Arc::clone(self), CacheStatus::forward(why));
        if presented.head.method.is_safe() {
            let most = self.plan(&presented).max_request_body;
            let content = Content::passing(Bytes::new(), content, most);
            return Answer::later(
                async move { gateway.pass_reading(presented, content, status).await },
            );
        }
        Answer::later(async move {
            match gateway.written(&mut presented, content, &status).await {
                Ok(content) => gateway.pass_writing(presented, content, status).await,
                Err(response) => response,
            }
        })
    }

    /// Passes an unsafe request on, and invalidates what it made wrong.
    pub(super) fn pass_writing(
        self: &Arc<Self>,
        presented: Presented,
        content: Content,
        status: CacheStatus,
    ) -> impl Future<Output = Response<Body>> + Send + use<> {
        // What a write that was begun has done is known by its answer. A call of gRPC ends with its client.
        let is_grpc = message::is_grpc(&presented.head.headers);
        let (waits, left) = is_grpc.then(oneshot::channel::<()>).unzip();
        let gateway = Arc::clone(self);
        let write = async move {
            let before = gateway.store.lease();
            let requested = gateway.clock.now();
            let given_up = async {
                match left {
                    Some(left) => left.await.ok(),
                    None => std::future::pending().await,
                }
            };
            let mut result = tokio::select! {
                biased;
                result = gateway.send(&presented, content) => result,
                _ = given_up => Err(Failure::given_up()),
            };
            let times = Times { requested, received: gateway.clock.now() };
            let invalidated = gateway.invalidate_after(&presented, &mut result).await;
            match result {
                Ok(reply) => {
                    let written = Written { before, invalidated, status };
                    gateway.pass_and_keep(presented, reply, times, written).await
                }
                Err(failure) => respond::failed(&failure, &status),
            }
        };
        // The invalidation must happen even if the client goes away meanwhile.
        let written = Outliving::new(write, &self.tasks);
        async move {
            let _waits = waits;
            written.end().await
        }
    }

    /// Passes a request on that a policy wants to go past the cache.
    pub(super) async fn bypass(&self, presented: Presented, reason: Arc<str>) -> Response<Body> {
        let status = CacheStatus {
            detail: Some(reason.as_ref().to_owned().into()),
            ..CacheStatus::forward(Forward::Bypass)
        };
        let content = presented.upstream_content();
        self.pass_reading(presented, content, status).await
    }

    /// Passes a safe request on.
    pub(super) async fn pass_reading(
        &self,
        presented: Presented,
        content: Content,
        status: CacheStatus,
    ) -> Response<Body> {
        if let Some(refusal) = self.only_stored(&presented, &status) {
            return refusal;
        }
        match self.send(&presented, content).await {
            Ok(reply) => respond::passing(presented.coder.as_deref(), reply, &status),
            Err(failure) => respond::failed(&failure, &status),
        }
    }

    /// The answer to a read that allows nothing but a stored response, and goes past the cache.
    pub(super) fn only_stored(
        &self,
        presented: &Presented,
        status: &CacheStatus,
    ) -> Option<Response<Body>> {
        // Without a tier this is no cache: the directive goes on to one that is.
        let is_cache = self.store.has_l1() || self.store.has_l2();
        let applies = presented.directives.only_if_cached && is_cache;
        status.forward.filter(|_| applies).map(respond::only_if_cached)
    }

    /// Sends a request on with these fields. `key` is what its response is looked for by. Every forward
    /// request goes through here and is counted, unless its target cannot be sent.
    pub(super) async fn forward_with(
        &self,
        presented: &Presented,
        fields: Fields<'_, '_>,
        content: Content,
        key: Option<&CacheKey>,
    ) -> Result<Response<Reply>, Failure> {
        let target = self.rewritten(presented)?;
        let figures = self.route_stats(presented);
        figures.upstream_requests.count();
        let Presented { head, authority, .. } = presented;
        let (method, target, plan) = (&head.method, target.as_ref(), self.plan(presented));
        let mut result = match &plan.origin {
            Origin::Upstream(upstream) => {
                let (interim, key) = (presented.interim(), key.map(|key| &key.0[..]));
                let authority = plan.onward.authority(authority);
                let upgrade = presented.upgrade.as_deref();
                let outgoing =
                    Outgoing { method, target, authority, fields, content, interim, key, upgrade };
                let noted = presented.peer.notes.as_ref().map(|notes| (notes, clock::instant()));
                let sent = upstream.send(&outgoing).await;
                if let Some((notes, begun)) = noted {
                    notes.upstream(upstream.name(), begun.elapsed(), sent.is_err());
                }
                sent
            }
            Origin::Documents(documents) => {
                let captures = self.captures(presented);
                documents.answer(method, target, &captures, &fields().into_map()).await
            }
        };
        if let Ok(reply) = &mut result {
            self.change_response(presented, reply);
        }
        // A request that broke off is its client's doing.
        if matches!(&result, Err(failure) if !matches!(failure, Failure::Request(_))) {
            figures.upstream_failures.count();
        }
        result
    }

    /// Sends a request on as it is.
    pub(super) async fn send(
        &self,
        presented: &Presented,
        content: Content,
    ) -> Result<Response<Reply>, Failure> {
        let fields = || self.upstream_fields(presented);
        self.forward_with(presented, &fields, content, None).await
    }

    /// Invalidates what an unsafe request has made wrong (RFC 9111 §4.4, and the route's policy).
    async fn invalidate_after(
        &self,
        presented: &Presented,
        result: &mut Result<Response<Reply>, Failure>,
    ) -> Option<Invalidated> {
        let plan = self.plan(presented);
        let invalidations = match result {
            Ok(reply) if !semantics::invalidates(&presented.head.method, reply.status()) => {
                return None;
            }
            Ok(reply) => {
                let content = shown_after(plan, reply).await;
                self.made_wrong(presented, reply.status(), reply.headers(), content).await
            }
            Err(
                Failure::Connect(_)
                | Failure::Busy
                | Failure::Unavailable(_)
                | Failure::TooLong
                | Failure::Climbs,
            ) => return None,
            // The request had left: the upstream may have done what it asked.
            Err(Failure::Timeout | Failure::Broken(_) | Failure::Request(_)) => {
                let nothing = HeaderMap::new();
                let mut named = self.named(presented, &nothing);
                named.extend(plan.invalidation.iter().map(|_| whole_route(plan)));
                named.extend(asked_by_post(presented, &nothing));
                named
            }
        };
        let records = invalidations.len();
        let receipt = self.store.invalidate(invalidations).await;
        if !receipt.shared {
            // Once per change of state the store says so itself.
            tracing::debug!(position = %receipt.position, "invalidation not shared yet");
        }
        Some(Invalidated { records, receipt })
    }

    /// What a write that was answered so has made wrong. `content` is what a policy may see of the answer's.
    pub(super) async fn made_wrong(
        &self,
        presented: &Presented,
        status: StatusCode,
        fields: &HeaderMap,
        content: Option<Bytes>,
    ) -> Vec<Invalidation> {
        let mut named = self.named(presented, fields);
        let plan = self.plan(presented);
        let answered = match &plan.invalidation {
            Some(ask) => {
                let longest = plan.max_policy_body;
                let response = SeenResponse { status, fields, content, longest };
                Box::pin(self.ask_invalidation(presented, ask, &response)).await
            }
            None => Err(Vec::new()),
        };
        named.extend(match answered {
            Ok(scopes) => scopes,
            // Nobody has said what the write made wrong.
            Err(scopes) => scopes.into_iter().chain(asked_by_post(presented, fields)).collect(),
        });
        named
    }

    /// What a write invalidates without any policy, by the fields of what it got.
    fn named(&self, presented: &Presented, fields: &HeaderMap) -> Vec<Invalidation> {
        let mut named = self.targets(presented, fields);
        named.extend(tags::invalidated(fields, &presented.authority));
        named
    }

    /// RFC 9111 §4.4: the target URI, and `Location` and `Content-Location` of the same origin.
    fn targets(&self, presented: &Presented, fields: &HeaderMap) -> Vec<Invalidation> {
        let authority = presented.authority.as_str();
        let targets = written_targets(presented, fields);
        let marks = targets.iter().flat_map(|target| {
            let marks = self.target_marks(authority, target);
            marks.into_iter().flatten().map(move |mark| hard(mark, target))
        });
        marks.collect()
    }

    /// What the responses bear that answer a GET of this target, path and query.
    pub(super) fn target_marks(&self, authority: &str, target: &str) -> [Option<Mark>; 2] {
        let path = target.split('?').next().unwrap_or_default();
        // Under a key policy, responses to other URIs may answer for this one: all of the
        // path goes. So do, without one, those that say it by `No-Vary-Search`.
        if self.has_key_policy(authority, path) {
            [Some(Mark::path(authority, path)), None]
        } else {
            [Some(Mark::target(authority, target)), Some(Mark::search(authority, path))]
        }
    }

    /// What the route's policy says that a write has made wrong; or, if it failed, what its `on_error`
    /// makes of that.
    async fn ask_invalidation(
        &self,
        presented: &Presented,
        ask: &Ask,
        response: &SeenResponse<'_>,
    ) -> Result<Vec<Invalidation>, Vec<Invalidation>> {
        let plan = self.plan(presented);
        let authority = presented.authority.as_str();
        let captures = self.captures(presented);
        let seen = presented.seen(&captures);
        match ask.policy.invalidation(&seen, response).await {
            Ok(named) => {
                let scopes = named.into_iter().flat_map(|named| {
                    let soft = named.soft;
                    // Whoever names a path means all that is stored of it.
                    let asked = match &named.scope {
                        Named::Path(path) => Some(Scope::Mark {
                            mark: Mark::asked_by_post(authority, path),
                            label: path.clone(),
                        }),
                        _ => None,
                    };
                    let scopes = [Some(scope(plan, authority, named.scope)), asked];
                    scopes.into_iter().flatten().map(move |scope| Invalidation { scope, soft })
                });
                Ok(scopes.collect())
            }
            Err(failure) => {
                self.route_stats(presented).policy_failures.count();
                let path = presented.head.uri.path();
                let policy = ask.policy.name();
                warn!(policy, ?path, error = %failure, "invalidation policy failed");
                Err(match ask.on_error {
                    OnError::Default => Vec::new(),
                    // What the write made wrong is not known: nothing of the route can be trusted.
                    OnError::Bypass | OnError::Fail => {
                        vec![whole_route(plan)]
                    }
                })
            }
        }
    }
}

/// The content of an answer to a write, if the route's policy wants values of it.
async fn shown_after(plan: &Plan, reply: &mut Response<Reply>) -> Option<Bytes> {
    let ask = plan.invalidation.as_ref()?;
    if !shown::wants_values(ask, reply.headers()) {
        return None;
    }
    reply.body_mut().ahead(plan.max_policy_body).await
}

/// The URIs that a write may have changed (RFC 9111 §4.4).
fn written_targets(presented: &Presented, fields: &HeaderMap) -> Vec<String> {
    let Presented { head, authority, peer, .. } = presented;
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
    semantics::invalidated_targets(peer.scheme, authority, target, fields)
}

/// What `POST`s that asked have brought of a write's targets, where no policy has said what the
/// write made wrong.
///
/// Also where no route grants that: one may have done so before a reload, or in another gateway.
fn asked_by_post(presented: &Presented, fields: &HeaderMap) -> Vec<Invalidation> {
    let targets = written_targets(presented, fields);
    let paths = targets.iter().map(|target| target.split('?').next().unwrap_or_default());
    paths.map(|path| hard(Mark::asked_by_post(&presented.authority, path), path)).collect()
}

/// What a policy named, within the upstream and the authority that it was asked about.
fn scope(plan: &Plan, authority: &str, named: Named) -> Scope {
    match named {
        Named::Tag(label) => Scope::Mark { mark: Mark::tag(&plan.origin_name, &label), label },
        Named::Path(path) => Scope::Mark { mark: Mark::path(authority, &path), label: path },
        Named::Pattern(pattern) => Scope::Pattern(pattern),
    }
}

fn whole_route(plan: &Plan) -> Invalidation {
    hard(Mark::route(&plan.name), &plan.name)
}

pub(super) fn hard(mark: Mark, label: &str) -> Invalidation {
    Invalidation { scope: Scope::Mark { mark, label: label.to_owned() }, soft: false }
}
