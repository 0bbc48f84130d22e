//! The leader's forward request, from its first octet to the store.
//!
//! It outlives the request that caused it, so that it ends for the store and the followers whether or not
//! that client is still there.

use std::pin::Pin;
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
use crate::message;
use crate::semantics::{self, Combined, NoVarySearch, NotStored, Times, Trouble};
use crate::store::{Lease, Put, Slot, Turn, Word};
use crate::stored::{CacheKey, Fields, Mark, Moment, Position, StoredResponse};
use crate::upstream::{Failure, Incomplete, Reply};

use super::fleet::tell_fleet;
use super::key::Key;
use super::partial::Sought;
use super::refusals::Reason;
use super::respond::Alone;
use super::shown::Source;
use super::storing::Storing;
use super::validate::{Validation, conditions};
use super::{Gateway, Plan, Presented};

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

/// What a response that is not stored says about those that equal requests would get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hint {
    /// They cannot be shared, either.
    Apart,
    /// Nothing: the origin is in trouble, where equal requests side by side would not help it, or cannot do with
    /// what this client sent.
    Trouble,
    /// Nothing: it is what this client asked for.
    Nothing,
}

impl Hint {
    fn of(status: StatusCode, why: NotStored) -> Self {
        // Of what is wrong by a client these say what there is, and for whom. The others, such as 400, 406 or 429, one
        // client can bring about for all.
        let is_about_the_target = matches!(status.as_u16(), 401 | 403 | 404 | 410);
        if status.is_server_error() || status.is_client_error() && !is_about_the_target {
            return Self::Trouble;
        }
        // A 304 is about the client's own copy. It would keep what can be shared by now from being stored for as
        // long as clients have copies.
        if status == StatusCode::NOT_MODIFIED || why == NotStored::RequestNoStore {
            return Self::Nothing;
        }
        Self::Apart
    }
}

impl Fetch {
    /// Forwards the request, shares and stores what comes of it.
    #[expect(
        clippy::manual_async_fn,
        reason = "a function has room for what it is given twice, a block once"
    )]
    pub(super) fn run(self) -> impl Future<Output = ()> + Send + 'static {
        async move {
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
            if let Some(rest) = self.heard_of(reply, validation, times) {
                rest.await;
            }
        }
    }

    /// A response has begun. What is still to be done is on the heap, so that a request which is only passed on
    /// has no room for it.
    fn heard_of(
        self,
        reply: Response<Reply>,
        validation: Validation,
        times: Times,
    ) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>> {
        match (&self.sought, reply.status()) {
            (Sought::Whole { .. }, StatusCode::NOT_MODIFIED) if !validation.is_empty() => {
                return Some(Box::pin(self.not_modified(reply, validation, times)));
            }
            (Sought::Part(_), StatusCode::PARTIAL_CONTENT) => {
                return Some(Box::pin(async move { self.store_part(reply, &times).await }));
            }
            // An origin in trouble would not answer better the second time.
            (Sought::Rest { .. }, status)
                if status != StatusCode::OK && !status.is_server_error() =>
            {
                return Some(Box::pin(async move { self.complete(reply, &times).await }));
            }
            _ => {}
        }
        if self.presented.head.method == Method::HEAD {
            return Some(Box::pin(async move { self.headed(reply, &times).await }));
        }
        let method = self.presented.head.method.clone();
        match (self.storable(reply.status(), reply.headers(), &times), &self.plan().storing) {
            (Err(why), _) if !self.makes_wrong(&reply, why) => {
                self.hand_over(reply, why, times.received);
                None
            }
            (Err(why), _) => Some(Box::pin(self.withdraw_for(reply, why, times))),
            (Ok(_), _) if self.may_not_replace(reply.status()) => {
                self.hand_over(reply, NotStored::Trouble, times.received);
                None
            }
            (Ok(storing), None) => Some(Box::pin(self.store(method, reply, storing))),
            (Ok(storing), Some(_)) => Some(Box::pin(self.store_as_allowed(reply, storing, times))),
        }
    }

    /// Whether it is an error for which what is stored may stand in (RFC 5861 §4). Stored itself, by the lifetime that
    /// some servers give whatever they send, it would take that one's place.
    pub(super) fn may_not_replace(&self, status: StatusCode) -> bool {
        matches!(&self.sought, Sought::Whole { stale: Some(stale), .. }
            if !stale.status.is_server_error()
                && self.stands_in(stale, Trouble::Status(status))
                && self.gateway.is_servable(self.plan(), stale))
    }

    /// Stores a response if the route's policy allows it.
    async fn store_as_allowed(self, reply: Response<Reply>, storing: Storing, times: Times) {
        let (head, mut content) = reply.into_parts();
        let source = Source::Coming(&mut content);
        let decision = self.allowed(head.status, &head.headers, source, storing).await;
        let reply = Response::from_parts(head, content);
        match decision {
            Ok(storing) => {
                let method = self.presented.head.method.clone();
                self.store(method, reply, storing).await;
            }
            Err(why) if self.makes_wrong(&reply, why) => self.withdraw_for(reply, why, times).await,
            Err(why) => self.hand_over(reply, why, times.received),
        }
    }

    /// Whether what is stored is wrong by a response that is not stored.
    fn makes_wrong(&self, reply: &Response<Reply>, why: NotStored) -> bool {
        matches!(self.sought, Sought::Whole { stale: Some(_), .. })
            && semantics::supersedes(&self.asked(), reply.status(), why)
    }

    async fn withdraw_for(self, reply: Response<Reply>, why: NotStored, times: Times) {
        if let Sought::Whole { stale: Some(stale), .. } = &self.sought {
            self.withdraw(stale, false).await;
        }
        self.hand_over(reply, why, times.received);
    }

    /// Begins again, with nothing in mind that is stored, nor that was invalidated so far.
    pub(super) async fn ask_for_the_whole(self) {
        let lease = self.gateway.store.lease();
        Box::pin(Self { sought: Sought::ANYTHING, lease, ..self }.run()).await;
    }

    /// Gives a response to the leader's client alone.
    pub(super) fn hand_over(self, reply: Response<Reply>, why: NotStored, received: SystemTime) {
        let status = reply.status();
        self.not_stored_at(received, Some(status), Reason::NotStored(why));
        // Nobody is there to take it if the client has gone.
        let taken = self.mine.send(Alone::Reply(reply, why));
        drop(taken);
        match Hint::of(status, why) {
            Hint::Trouble => self.lead.in_trouble(status),
            Hint::Apart if !self.sought.is_part() => {
                self.lead.apart(self.apart);
                tell_fleet(self.turn.as_ref(), Word::Apart);
            }
            Hint::Apart | Hint::Nothing => {}
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

    /// Passes the response to this method on while it is put together, and stores it when it is whole.
    pub(super) async fn store(self, method: Method, reply: Response<Reply>, storing: Storing) {
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
                return self.store_beginning(&method, &head, &octets, storing);
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
        let nominated = self.plan().nominated(&fields)?;
        Some((fields, nominated))
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
                // Somebody has come since it was left.
                Err(Incomplete::Unread) if !self.lead.is_left() => {
                    end = None;
                    continue;
                }
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
            let is_left = length.is_none() && self.lead.is_left();
            end = is_left.then(|| end.unwrap_or_else(|| Instant::now() + patience));
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
        let renews = storing.renews.clone();
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
            renews: renews.as_deref(),
            stale: semantics::stands_in(&response.freshness, &self.plan().rules),
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
        Storing { freshness, marks, original, .. }: Storing,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_response_that_is_not_stored_says_about_others() {
        use NotStored::{Authorization, NoFreshness, Private, RequestNoStore, Status};

        for (status, why, expected, reason) in [
            (200, Private, Hint::Apart, "it is for one user, as the next will be"),
            (200, Authorization, Hint::Apart, "likewise, among those who name a user"),
            (302, NoFreshness, Hint::Apart, "none is stored"),
            (401, NoFreshness, Hint::Apart, "the target is not for everyone"),
            (403, NoFreshness, Hint::Apart, "the target is not for everyone"),
            (404, NoFreshness, Hint::Apart, "there is nothing"),
            (410, NoFreshness, Hint::Apart, "there is nothing"),
            (400, NoFreshness, Hint::Trouble, "this client made a mistake"),
            (406, NoFreshness, Hint::Trouble, "this client wants something else"),
            (417, NoFreshness, Hint::Trouble, "this client expects something"),
            (429, NoFreshness, Hint::Trouble, "this client asks too often"),
            (431, NoFreshness, Hint::Trouble, "this client's fields are too long"),
            (500, NoFreshness, Hint::Trouble, "the next may be as ever"),
            (503, RequestNoStore, Hint::Trouble, "the next may be as ever"),
            (200, RequestNoStore, Hint::Nothing, "this client wanted it so"),
            (304, Status, Hint::Nothing, "this client has a copy"),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(Hint::of(status, why), expected, "{status} {why:?}: {reason}");
        }
    }
}
