//! Parts on their way into the store: one that a client asked for, the rest of what is held, which
//! makes it whole, and what came of a content that broke off (RFC 9111 §3.3, §3.4).
//!
//! A request for the whole, or for one part of which some is held, is narrowed to the one gap that
//! there is; what is held before it goes to the clients at once. If the upstream answers with
//! anything but that rest, the whole is asked for, or the part as the client asked for it. So it is
//! where more than one span is missing.
//!
//! A known cost: each part that is added copies what is held, at most the route's `max_body`.
//! Two parts that come at the same moment may each be added to what was held before, so that one
//! of them is fetched again later.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_RANGE, IF_RANGE};
use http::{HeaderMap, Method, Response, StatusCode};
use tracing::debug;

use crate::collapse::{Head, Variant};
use crate::message;
use crate::semantics::{self, NotStored, RequestDirectives, Span, Times, Trouble};
use crate::store::{Hit, LookUp};
use crate::stored::{Original, StoredResponse};
use crate::upstream::Reply;

use super::fetch::{Came, Fetch, length};
use super::partial::Sought;
use super::shown::Source;
use super::storing::Storing;

/// A part that may be stored, together with what is held.
struct Part {
    span: Span,
    /// Of the whole content, where it is known.
    length: Option<u64>,
    held: Option<Arc<StoredResponse>>,
    /// Of both, as received.
    fields: HeaderMap,
    storing: Storing,
}

impl Fetch {
    /// Passes the part that the client asked for on to it, and stores it if it may.
    pub(super) async fn store_part(self, reply: Response<Reply>, times: &Times) {
        let fields = end_to_end(&reply);
        match self.may_store_part(&fields, times).await {
            Ok(part) => {
                let Some(head) = self.head(&part, StatusCode::PARTIAL_CONTENT, fields) else {
                    return;
                };
                let length = head.length;
                self.lead.begin(Arc::new(head));
                let mut reply = reply.into_body();
                match self.pass_on(&mut reply, length).await {
                    Came::Whole(octets, trailers) => {
                        if let Some(octets) = octets {
                            self.put_part(part, &octets);
                        }
                        self.lead.finish(trailers);
                    }
                    Came::Beginning(octets) => self.put_beginning(part, &octets),
                }
            }
            Err(why) => self.hand_over(reply, why, times.received),
        }
    }

    /// Puts the rest that came to what is held, and answers all who wait for it.
    pub(super) async fn complete(self, reply: Response<Reply>, times: &Times) {
        let fields = end_to_end(&reply);
        let Some((part, of)) = self.is_the_rest(reply.status(), &fields, times).await else {
            return self.ask_for_all_of_it().await;
        };
        let (status, fields) = if Some(of.length()) == part.length {
            (StatusCode::OK, part.fields.clone())
        } else {
            let mut fields = semantics::fields_of_part(&part.fields);
            fields.insert(CONTENT_RANGE, of.content_range(part.length));
            (StatusCode::PARTIAL_CONTENT, fields)
        };
        let Some(mut head) = self.head(&part, status, fields) else { return };
        head.forward_status = reply.status();
        head.length = Some(of.length());
        self.lead.begin(Arc::new(head));
        // Dropping the lead tells the readers that it is not whole.
        if self.tell_all(part, of, reply.into_body()).await.is_some() {
            self.lead.finish(None);
        }
    }

    /// Begins again, as if nothing of what is asked for were held.
    async fn ask_for_all_of_it(self) {
        let is_part = self.sought.is_part();
        match self.sought {
            Sought::Rest { held, .. } if is_part => {
                Box::pin(Self { sought: Sought::Part(Some(held)), ..self }.run()).await;
            }
            _ => self.ask_for_the_whole().await,
        }
    }

    /// `None` if the rest does not come to its end.
    async fn tell_all(&self, part: Part, of: Span, mut rest: Reply) -> Option<()> {
        let held = part.held.as_ref()?;
        let before = Span::new(of.start(), part.span.start()).and_then(|span| held.cut(span));
        let behind = Span::new(part.span.end(), of.end()).and_then(|span| held.cut(span));
        if let Some(before) = before {
            self.lead.push(before);
        }
        let octets = match self.pass_on(&mut rest, Some(part.span.length())).await {
            Came::Whole(octets, _) => octets?,
            Came::Beginning(octets) => {
                self.put_beginning(part, &octets);
                return None;
            }
        };
        if let Some(behind) = behind {
            self.lead.push(behind);
        }
        self.put_part(part, &octets);
        Some(())
    }

    /// Stores what came of a response to this method before it broke off.
    pub(super) fn store_beginning(
        &self,
        method: &Method,
        Head { status, fields, .. }: &Head,
        octets: &Bytes,
        storing: Storing,
    ) {
        let (whole, length) = match semantics::whole_to_store(method, *status, fields) {
            Ok(whole) => whole,
            Err(why) => return debug!(why = why.as_str(), "nothing stored of what broke off"),
        };
        if self.may_stand_in() {
            return debug!("what is stored is worth more than what broke off");
        }
        let (held, fields) = (self.held(fields).cloned(), fields.clone());
        let length = Some(length);
        self.put_beginning(Part { span: whole, length, held, fields, storing }, octets);
    }

    /// Whether a whole response is stored that can be served while the upstream is in trouble, as one
    /// that breaks off may be.
    fn may_stand_in(&self) -> bool {
        let Sought::Whole { stale: Some(stale), .. } = &self.sought else { return false };
        self.stands_in(stale, Trouble::Disconnected)
    }

    /// Whether a stored response can be served while the upstream is in this trouble. What this request wants does
    /// not count: it would be for others.
    pub(super) fn stands_in(&self, stored: &StoredResponse, trouble: Trouble) -> bool {
        let (rules, now) = (&self.plan().rules, self.gateway.clock.now());
        let any = RequestDirectives::default();
        let softened = self.gateway.store.softened(stored, now);
        let freshness = softened.as_ref().unwrap_or(&stored.freshness);
        semantics::reuse_in_trouble(freshness, &any, trouble, rules, now).is_some()
    }

    /// Stores the first octets of a part that broke off behind them.
    fn put_beginning(&self, part: Part, octets: &Bytes) {
        match semantics::beginning_to_store(part.span, octets.len() as u64) {
            Ok(span) => self.put_part(Part { span, ..part }, octets),
            Err(why) => debug!(why = why.as_str(), "nothing stored of what broke off"),
        }
    }

    /// What is held that a part with these fields may be combined with.
    fn held(&self, fields: &HeaderMap) -> Option<&Arc<StoredResponse>> {
        let (Sought::Part(Some(held)) | Sought::Rest { held, .. }) = &self.sought else {
            return None;
        };
        let is_there = self.gateway.store.again(held).is_some();
        (is_there && semantics::may_combine(&held.fields.to_map(0), fields)).then_some(held)
    }

    /// Whether the fields of a 206 that the client asked for let it be stored.
    async fn may_store_part(&self, fields: &HeaderMap, times: &Times) -> Result<Part, NotStored> {
        let (span, length) = semantics::part_to_store(fields)?;
        let held = self.held(fields);
        // RFC 9110 §15.3.7: to a request with `If-Range` a server need not send all fields.
        if held.is_none() && self.presented.head.headers.contains_key(IF_RANGE) {
            return Err(NotStored::Partial);
        }
        self.part(span, length, held.cloned(), fields, times).await
    }

    /// Whether what came is the rest that was asked for, and what it is the rest of: of the same
    /// content, and as long as the gap by both its fields. `None` too if it may no longer be stored.
    async fn is_the_rest(
        &self,
        status: StatusCode,
        fields: &HeaderMap,
        times: &Times,
    ) -> Option<(Part, Span)> {
        let Sought::Rest { gap, of, .. } = &self.sought else { return None };
        let held = self.held(fields)?;
        let is_rest = status == StatusCode::PARTIAL_CONTENT
            && semantics::part_to_store(fields).ok()? == (*gap, held.length())
            && length(fields) == Some(gap.length());
        if !is_rest {
            return None;
        }
        let part = self.part(*gap, held.length(), Some(Arc::clone(held)), fields, times).await;
        Some((part.ok()?, *of))
    }

    async fn part(
        &self,
        span: Span,
        length: Option<u64>,
        held: Option<Arc<StoredResponse>>,
        fields: &HeaderMap,
        times: &Times,
    ) -> Result<Part, NotStored> {
        if length.unwrap_or(span.end()) > self.plan().max_body as u64 {
            return Err(NotStored::TooLarge);
        }
        let fields = match &held {
            Some(held) => semantics::combined_fields(&held.fields.to_map(4), fields),
            None => semantics::fields_of_part(fields),
        };
        let storing = self.storing(StatusCode::OK, &fields, Source::Elsewhere, times).await?;
        Ok(Part { span, length, held, fields, storing })
    }

    /// `None`: `storable` has refused it.
    fn head(&self, part: &Part, status: StatusCode, fields: HeaderMap) -> Option<Head> {
        let (shared_fields, nominated) = self.to_store(part.fields.clone(), &part.storing)?;
        let key = self.variant_key(&nominated, &shared_fields);
        Some(Head {
            status,
            forward_status: status,
            length: length(&fields),
            fields,
            shared_fields,
            original: part.storing.original.clone(),
            freshness: part.storing.freshness.clone(),
            variant: Variant { nominated, key },
        })
    }

    /// Stores a part with what is held of the same content: by now that may be more.
    fn put_part(&self, part: Part, octets: &Bytes) {
        let Part { span, length, held, fields: stored_fields, storing } = part;
        let store = &self.gateway.store;
        let now = self.gateway.clock.now();
        let held = match store.look_in_l1(&self.key.hash, &self.presented.head.headers, now) {
            LookUp::Found(Hit { stored, soft, confirmed, .. }) => {
                let is_whole = stored.part.is_none();
                let is_fresh = confirmed && !soft && stored.freshness.is_fresh(now);
                let stands_in =
                    is_whole && !is_fresh && self.stands_in(&stored, Trouble::Disconnected);
                let own = stored.fields.to_map(0);
                let may_replace =
                    || semantics::may_replace(&own, is_whole, is_fresh, &stored_fields);
                match semantics::may_combine(&own, &stored_fields) {
                    // Another request has brought the whole.
                    true if is_whole => return,
                    true => Some(stored),
                    false if !stands_in && may_replace() => held,
                    false => return debug!("what is stored is worth more than the part"),
                }
            }
            LookUp::UriMiss | LookUp::VaryMiss(_) | LookUp::NoAnswer => held,
        };
        let parts = held.as_ref().and_then(|held| Some((&**held.part.as_ref()?, &held.body)));
        let Some(content) = semantics::combine(parts, span, octets, length) else {
            return debug!("a part is not as long as it says, nothing stored");
        };
        // It may be another content than the one that clients are sent.
        let storing = Storing { original: Original::default(), renews: held.clone(), ..storing };
        if let Some((stored_fields, nominated)) = self.to_store(stored_fields, &storing) {
            self.put(StatusCode::OK, &stored_fields, content, storing, &nominated, None);
        }
    }
}

/// The fields to pass on.
fn end_to_end(reply: &Response<Reply>) -> HeaderMap {
    let mut fields = reply.headers().clone();
    message::remove_hop_by_hop(&mut fields);
    message::add_via(&mut fields, reply.version());
    fields
}
