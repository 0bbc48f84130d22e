//! The leader's forward request, from its first octet to the store.
//!
//! It outlives the request that caused it, so that it ends for the store and the followers whether or not
//! that client is still there.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderName, Method, Response, StatusCode};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::collapse::{Apart, Head, Lead, Variant};
use crate::config::OnError;
use crate::message;
use crate::plugin::SeenResponse;
use crate::semantics::{self, Asked, Combined, Freshness, NoVarySearch, NotStored, Times, Vary};
use crate::store::{Lease, Put, Slot, Turn, Word};
use crate::stored::{CacheKey, Fields, Mark, Moment, Original, Position, StoredResponse};
use crate::upstream::{Failure, Reply};

use super::fleet::tell_fleet;
use super::key::Key;
use super::partial::Sought;
use super::refusals::Reason;
use super::respond::Alone;
use super::shown::Source;
use super::validate::{Validation, conditions};
use super::{Ask, Gateway, Plan, Presented, tags};

/// One forward request on its way.
pub(super) struct Fetch {
    pub(super) gateway: Arc<Gateway>,
    pub(super) presented: Arc<Presented>,
    pub(super) key: Key,
    pub(super) sought: Sought,
    /// Taken before anything is sent.
    pub(super) lease: Lease,
    pub(super) lead: Lead,
    /// The fleet's turn, if this gateway has taken it.
    pub(super) turn: Option<Turn>,
    /// Whether it is known that responses for its key cannot be shared.
    pub(super) apart: Option<Apart>,
    /// Where a response goes that is for the leader's client alone.
    pub(super) mine: oneshot::Sender<Alone>,
}

/// What came of a content that was passed on.
pub(super) enum Came {
    /// All of it, unless it is larger than the route keeps, and the trailers behind it.
    Whole(Option<Bytes>, Option<HeaderMap>),
    /// Its beginning. It broke off, or nobody waits for what is not stored.
    Beginning(Bytes),
}

/// What decides about a response that may be stored.
pub(super) struct Storing {
    pub(super) freshness: Freshness,
    pub(super) marks: Vec<Mark>,
    pub(super) original: Original,
}

impl Fetch {
    /// Forwards the request, shares and stores what comes of it. What is rare of that is on the heap, so that
    /// the others have no room for it.
    pub(super) async fn run(self) {
        let requested = self.gateway.clock.now();
        let validation = self.gateway.validation(&self.presented, &self.sought);
        let reply = match self.send(&validation).await {
            Ok(reply) => reply,
            Err(failure) => {
                debug!(error = %failure, "forward request failed");
                self.not_stored(None, Reason::NoResponse);
                return self.lead.failed(failure);
            }
        };
        let times = Times { requested, received: self.gateway.clock.now() };
        match (&self.sought, reply.status()) {
            (Sought::Whole { .. }, StatusCode::NOT_MODIFIED) if !validation.is_empty() => {
                return Box::pin(self.not_modified(reply, validation, times)).await;
            }
            (Sought::Part(_), StatusCode::PARTIAL_CONTENT) => {
                return Box::pin(self.store_part(reply, &times)).await;
            }
            // An origin in trouble would not answer better the second time.
            (Sought::Rest { .. }, status)
                if status != StatusCode::OK && !status.is_server_error() =>
            {
                return Box::pin(self.complete(reply, &times)).await;
            }
            _ => {}
        }
        if self.presented.head.method == Method::HEAD {
            return Box::pin(self.headed(reply, &times)).await;
        }
        let (head, mut content) = reply.into_parts();
        let source = Source::Coming(&mut content);
        let decision = self.storing(head.status, &head.headers, source, &times).await;
        let reply = Response::from_parts(head, content);
        match decision {
            Ok(storing) => {
                let method = self.presented.head.method.clone();
                Box::pin(self.store(&method, reply, storing)).await;
            }
            Err(why) => {
                if let Sought::Whole { stale: Some(stale), .. } = &self.sought
                    && semantics::supersedes(&self.presented.head.headers, reply.status(), why)
                {
                    self.withdraw(stale, false).await;
                }
                self.hand_over(reply, why, times.received);
            }
        }
    }

    /// Begins again, with nothing in mind that is stored.
    pub(super) async fn ask_for_the_whole(self) {
        Box::pin(Self { sought: Sought::ANYTHING, ..self }.run()).await;
    }

    /// Gives a response to the leader's client alone.
    pub(super) fn hand_over(self, reply: Response<Reply>, why: NotStored, received: SystemTime) {
        let status = reply.status();
        self.not_stored_at(received, Some(status), Reason::NotStored(why));
        // Nobody is there to take it if the client has gone.
        let taken = self.mine.send(Alone::Reply(reply, why));
        drop(taken);
        // An origin in trouble says nothing about the response to come, and to send it equal
        // requests side by side would not help it. Nor does what one client asked for.
        if status.is_server_error() {
            self.lead.in_trouble(status);
        } else if why != NotStored::RequestNoStore && !self.sought.is_part() {
            self.lead.apart(self.apart);
            tell_fleet(self.turn.as_ref(), Word::Apart);
        }
    }

    async fn send(&self, validation: &Validation) -> Result<Response<Reply>, Failure> {
        let (removed, added) = conditions(&self.sought, validation, self.apart.is_some());
        let fields = || {
            let mut fields = self.gateway.upstream_fields(&self.presented);
            let notable = &self.presented.notable;
            if notable.conditions || notable.range || !added.is_empty() {
                let fields = fields.to_mut();
                for name in removed {
                    fields.remove(name);
                }
                fields.extend(added.iter().cloned());
            }
            fields
        };
        let content = self.presented.upstream_content();
        let key = Some(&self.key.hash);
        self.gateway.forward_with(&self.presented, &fields, content, key).await
    }

    /// Whether the response may be stored, how long it is fresh, and what invalidates it.
    pub(super) async fn storing(
        &self,
        status: StatusCode,
        fields: &HeaderMap,
        source: Source<'_>,
        times: &Times,
    ) -> Result<Storing, NotStored> {
        let Presented { head, directives, .. } = &*self.presented;
        // What `HEAD` freshens was stored for `GET`.
        let method = if head.method == Method::HEAD { &Method::GET } else { &head.method };
        let asked = Asked { method, fields: &head.headers, directives };
        let plan = self.plan();
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
        if answers_others && *method != Method::POST {
            marks.push(Mark::search(authority, head.uri.path()));
        }
        marks.extend(tags::marks(fields, &plan.origin_name, authority)?);
        let storing = Storing { freshness, marks, original: Original::default() };
        let Some(ask) = &plan.storing else { return Ok(storing) };
        Box::pin(self.ask_storing(ask, status, fields, source, storing)).await
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

    /// Passes the response to this method on while it is put together, and stores it when it is whole.
    pub(super) async fn store(self, method: &Method, reply: Response<Reply>, storing: Storing) {
        let (mut head, mut reply) = reply.into_parts();
        message::remove_hop_by_hop(&mut head.headers);
        message::add_via(&mut head.headers, head.version);
        let Some((shared_fields, nominated)) = self.to_store(head.headers.clone(), &storing) else {
            return;
        };
        let key = self.variant_key(&nominated, &shared_fields);
        let length = length(&head.headers);
        let head = Arc::new(Head {
            status: head.status,
            forward_status: head.status,
            fields: head.headers,
            shared_fields,
            length,
            original: storing.original.clone(),
            freshness: storing.freshness.clone(),
            variant: Variant { nominated, key },
        });
        self.lead.begin(Arc::clone(&head));
        if !self.is_of_use_elsewhere(&head.freshness, length) {
            tell_fleet(self.turn.as_ref(), Word::Apiece);
        }

        let (content, trailers) = match self.pass_on(&mut reply, length).await {
            Came::Whole(content, trailers) => (content, trailers),
            // Dropping the lead tells the readers that it is not whole.
            Came::Beginning(octets) => {
                self.not_stored(Some(head.status), Reason::BrokeOff);
                return self.store_beginning(method, &head, &octets, storing);
            }
        };
        if let Some(content) = content {
            let Head { status, shared_fields, variant, .. } = &*head;
            let content = Combined::Whole(content);
            self.put(*status, shared_fields, content, storing, &variant.nominated, None);
        } else {
            self.not_stored(Some(head.status), Reason::NotStored(NotStored::TooLarge));
        }
        self.lead.finish(trailers);
    }

    /// The fields to store a response with, and those of the request that its `Vary` nominates. `None`:
    /// it is a response that `storable` has refused.
    pub(super) fn to_store(
        &self,
        mut fields: HeaderMap,
        storing: &Storing,
    ) -> Option<(HeaderMap, Vec<HeaderName>)> {
        semantics::fields_to_store(&mut fields, &self.plan().rules, storing.freshness.received);
        let nominated = self.nominated(&fields)?;
        Some((fields, nominated))
    }

    /// The fields that `Vary` nominates, of those that go forward. `None` is `*`.
    pub(super) fn nominated(&self, fields: &HeaderMap) -> Option<Vec<HeaderName>> {
        let nominated = match (Vary::of(fields), &self.plan().kept) {
            (Vary::Fields(nominated), Some(kept)) => semantics::kept_nominated(nominated, kept),
            (Vary::Fields(nominated), None) => nominated,
            (Vary::Any, _) => return None,
        };
        Some(self.plan().onward.seen(nominated))
    }

    /// Passes the content on as it comes; the last of a known length once it is known to be the end,
    /// so that what a client has whole is about to be stored.
    pub(super) async fn pass_on(&self, reply: &mut Reply, length: Option<u64>) -> Came {
        let plan = self.plan();
        let (max_body, patience) = (plan.max_body, plan.idle_timeout);
        let mut content = Some(BytesMut::with_capacity(
            length.and_then(|length| usize::try_from(length).ok()).unwrap_or(0),
        ));
        let (mut left, mut last) = (length, None);
        let mut trailers = None;
        let mut end = None;
        while let Some(frame) = reply.next(end).await {
            let frame = match frame {
                Ok(frame) => frame,
                Err(error) => {
                    debug!(%error, "content broke off");
                    self.lead.push(last);
                    return Came::Beginning(content.unwrap_or_default().freeze());
                }
            };
            let chunk = match frame.into_data() {
                Ok(chunk) => chunk,
                Err(frame) => {
                    trailers = frame.into_trailers().ok();
                    continue;
                }
            };
            content = content.filter(|content| {
                let fits = content.len() + chunk.len() <= max_body;
                if !fits {
                    tell_fleet(self.turn.as_ref(), Word::Apiece);
                    self.lead.pass_through();
                }
                fits
            });
            if let Some(content) = &mut content {
                content.extend_from_slice(&chunk);
            }
            // It may never end, and be worth nothing to anyone.
            if length.is_none() && end.is_none() && self.lead.is_left() {
                end = Some(Instant::now() + patience);
            }
            left = left.map(|left| left.saturating_sub(chunk.len() as u64));
            let ready = if left == Some(0) { last.replace(chunk) } else { Some(chunk) };
            self.lead.push(ready);
            if content.is_none() && self.lead.room(patience).await.is_err() {
                return Came::Beginning(Bytes::new());
            }
        }
        self.lead.push(last);
        // A buffer of the right size: what is put is kept with all its spare room.
        Came::Whole(content.map(|content| Bytes::copy_from_slice(&content)), trailers)
    }

    /// Stores a response, in the place of another variant `also`. `None`: its fields are too long to
    /// be stored.
    pub(super) fn put(
        &self,
        status: StatusCode,
        fields: &HeaderMap,
        content: Combined,
        storing: Storing,
        nominated: &[HeaderName],
        also: Option<CacheKey>,
    ) -> Option<Put> {
        let Some(response) = self.response(status, fields, content, storing) else {
            self.not_stored(Some(status), Reason::LongFields);
            return None;
        };
        let search = self.gateway.search(&self.presented);
        let rule = search.and_then(|search| Some((search, NoVarySearch::of(fields)?)));
        let key = rule.as_ref().map_or(self.key.hash, |(search, rule)| search.under(rule));
        let slot = Slot {
            key: &key,
            nominated,
            fields: &self.presented.head.headers,
            variants: self.plan().variants,
            also,
            rule: rule.as_ref().map(|(search, rule)| (search.key, rule)),
        };
        let mut put =
            self.gateway.store.put(&self.lease, &slot, response, self.gateway.clock.now());
        self.not_kept(status, &put);
        self.tell_fleet_of(&mut put);
        if put.kept {
            self.gateway.route_stats(&self.presented).stored.count();
        }
        Some(put)
    }

    pub(super) fn response(
        &self,
        status: StatusCode,
        fields: &HeaderMap,
        content: Combined,
        Storing { freshness, marks, original }: Storing,
    ) -> Option<StoredResponse> {
        let fields = match Fields::encode(fields) {
            Ok(fields) => fields,
            Err(error) => {
                warn!(%error, "response not stored");
                return None;
            }
        };
        let (part, body) = match content {
            Combined::Whole(body) => (None, body),
            Combined::Part(spans, body) => (Some(Box::new(spans)), body),
        };
        let name = self.key.name(&self.presented);
        Some(StoredResponse {
            status,
            fields,
            body,
            part,
            freshness,
            marks: marks.into_iter().chain([Mark::named(&name)]).collect(),
            name,
            // The store knows the lease's.
            position: Position::ZERO,
            begun: Moment::BEFORE_ALL,
            checked: AtomicU64::new(0),
            original,
        })
    }

    /// The key of the variant that a response with these fields is.
    pub(super) fn variant_key(&self, nominated: &[HeaderName], fields: &HeaderMap) -> CacheKey {
        self.gateway.variant_by(&self.presented, &self.key, nominated, fields)
    }

    pub(super) fn plan(&self) -> &Plan {
        self.gateway.plan(&self.presented)
    }
}

/// What `Content-Length` says.
pub(super) fn length(fields: &HeaderMap) -> Option<u64> {
    fields.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
