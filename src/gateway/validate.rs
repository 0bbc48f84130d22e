//! Conditional forward requests: what the leader asks about, and what a 304 to that means
//! (RFC 9111 §4.3).

use std::sync::Arc;

use http::header::{IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, RANGE, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};

use crate::collapse::{Validated, Variant};
use crate::message;
use crate::semantics::{
    self, Candidates, Combined, Freshness, Named, NotStored, Times, Validators,
};
use crate::store::{Put, Word};
use crate::stored::{CacheKey, StoredResponse};
use crate::upstream::Reply;

use super::fetch::Fetch;
use super::fleet::tell_fleet;
use super::partial::Sought;
use super::refusals::Reason;
use super::respond::Alone;
use super::shown::Source;
use super::storing::Storing;
use super::{Gateway, Presented};

/// What a client says of its own copy, and which part it wants.
const OWN: [HeaderName; 4] = [IF_NONE_MATCH, IF_MODIFIED_SINCE, RANGE, IF_RANGE];

/// What a forward request asks about.
pub(super) struct Validation {
    candidates: Candidates,
    /// Where the variants lie, by their entity tags.
    variants: Vec<(HeaderValue, CacheKey)>,
}

impl Validation {
    /// Whether a 304 would be no answer to it.
    pub(super) fn is_empty(&self) -> bool {
        self.candidates.is_empty()
    }

    /// The fields that make the request conditional.
    pub(super) fn conditions(&self) -> Vec<(HeaderName, HeaderValue)> {
        self.candidates.conditions()
    }
}

impl Gateway {
    /// What there is to validate: the response that the request selects, and variants that others do
    /// (RFC 9111 §4.1: "potentially with preconditions added to describe what responses the cache
    /// has already stored").
    pub(super) fn validation(&self, presented: &Presented, sought: &Sought) -> Validation {
        let (stale, variants) = match sought {
            // RFC 9110 §13.1.2: another method than `GET` and `HEAD` gets 412 for what did not change.
            Sought::Whole { .. } if presented.head.method == Method::POST => (None, None),
            Sought::Whole { stale, variants } => (stale.as_ref(), variants.as_ref()),
            Sought::Part(_) | Sought::Rest { .. } => (None, None),
        };
        // RFC 9110 §13.2.1: conditions are about a 200. A 304 to one with another's date says that there is a 200 now, and
        // no newer one than that date.
        let stale = stale.filter(|stale| stale.status == StatusCode::OK);
        let stale = stale.map(|stale| Validators::of(&stale.fields.to_map(0)));
        let variants = variants.map_or_else(Vec::new, |variants| {
            let (fields, now) = (&presented.head.headers, presented.now);
            self.store().tagged(variants, fields, now)
        });
        let candidates = Candidates::new(stale, variants.iter().map(|(tag, _)| tag.clone()));
        Validation { candidates, variants }
    }
}

impl Fetch {
    /// Freshens what a 304 speaks of, and answers with it.
    pub(super) async fn not_modified(
        self,
        reply: Response<Reply>,
        validation: Validation,
        times: Times,
    ) {
        let (mut head, _) = reply.into_parts();
        let named = validation.candidates.named_by(&head.headers);
        let found = match named {
            Some(Named::Stale) => match &self.sought {
                // It was found before this fetch began: what it is to be renewed in may be gone since.
                Sought::Whole { stale: Some(stale), .. } => {
                    self.gateway.store.again(stale).map(|hit| (hit.stored, None))
                }
                _ => None,
            },
            Some(Named::Variant(tag)) => self.variant(tag, &validation.variants).await,
            None => None,
        };
        let Some((stored, also)) = found else {
            // RFC 9111 §4.3.3: a 304 that is not about what we hold tells nothing.
            return self.ask_for_the_whole().await;
        };
        message::add_via(&mut head.headers, head.version);
        self.validated(&stored, also, &head.headers, &times).await;
    }

    /// The variant with this entity tag, and where it lies. It may be another one by now.
    async fn variant(
        &self,
        tag: &HeaderValue,
        variants: &[(HeaderValue, CacheKey)],
    ) -> Option<(Arc<StoredResponse>, Option<CacheKey>)> {
        let (_, key) = variants.iter().find(|(listed, _)| listed == tag)?;
        let stored = self.gateway.store().variant(key, self.gateway.clock.now()).await?;
        let is_same = Validators::of(&stored.fields.to_map(0)).etag.as_ref() == Some(tag);
        // Of an incomplete one, a 304 does not bring what is missing.
        let is_whole = stored.part.is_none();
        (is_same && is_whole).then_some((stored, Some(*key)))
    }

    /// RFC 9111 §4.3.4: freshens a stored response. What was a variant for other requests is one
    /// for this request, too, from now on; it lies under `also`.
    async fn validated(
        self,
        stale: &Arc<StoredResponse>,
        also: Option<CacheKey>,
        fields: &HeaderMap,
        times: &Times,
    ) {
        let merged = semantics::freshen(&stale.fields.to_map(4), fields);
        let storing = self.storing(stale.status, &merged, Source::Stored(&stale.body), times).await;
        // What is freshened is what everyone gets, and a cookie is for this client.
        let storing = match storing {
            Ok(_) if fields.contains_key(SET_COOKIE) => Err(NotStored::SetCookie),
            storing => storing,
        };
        match storing {
            Ok(storing) => {
                let original = stale.original.clone();
                let storing = Storing { original, renews: Some(Arc::clone(stale)), ..storing };
                let Some((stored_fields, nominated)) = self.to_store(merged, &storing) else {
                    return;
                };
                let key = self.variant_key(&nominated, &stored_fields);
                let body = Combined::Whole(stale.body.clone());
                let Some(Put { stored, kept, .. }) =
                    self.put(stale.status, &stored_fields, body, storing, &nominated, also)
                else {
                    // The 304 brought fields that are too long to be stored.
                    return self.ask_for_the_whole().await;
                };
                let variant = Variant { nominated, key };
                self.lead.validated(Validated { stored, kept, variant });
            }
            Err(why) => {
                self.not_stored(Some(stale.status), Reason::NotStored(why));
                if semantics::is_spoilt(&self.asked(), why) {
                    self.withdraw(stale, false).await;
                }
                let freshness = Freshness { received: times.received, ..stale.freshness.clone() };
                let body = Combined::Whole(stale.body.clone());
                // With all that is for this client only, such as `Set-Cookie`.
                let (marks, original) = (Vec::new(), stale.original.clone());
                let storing = Storing { freshness, marks, original, renews: None };
                if let Some(stored) = self.response(stale.status, &merged, body, storing) {
                    let taken = self.mine.send(Alone::Validated(Box::new(stored), why));
                    drop(taken);
                }
                if why != NotStored::RequestNoStore {
                    self.lead.apart(self.apart);
                    tell_fleet(self.turn.as_ref(), Word::Apart);
                }
            }
        }
    }
}

/// Which fields of the client's are left out of a forward request, and which are added, so that what
/// comes back is about what is sought. `is_apart`: what came back last could not be shared.
pub(super) fn conditions(
    sought: &Sought,
    validation: &Validation,
    is_apart: bool,
) -> (&'static [HeaderName], Vec<(HeaderName, HeaderValue)>) {
    // The client's own conditions are for its own copy; the store wants the whole response, and
    // a 304 or a 206 has to be about what it holds. Where nothing is going to be stored, they
    // may spare the content.
    match sought {
        // As it came: its conditions belong to it (RFC 9110 §13.2.2).
        Sought::Part(_) => (&[], Vec::new()),
        Sought::Whole { .. } if validation.is_empty() && is_apart => {
            (&[RANGE, IF_RANGE], Vec::new())
        }
        Sought::Whole { .. } => (&OWN, validation.conditions()),
        Sought::Rest { gap, validator, .. } => {
            (&OWN, vec![(RANGE, gap.range()), (IF_RANGE, validator.clone())])
        }
    }
}
