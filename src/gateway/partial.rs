//! Parts of what is stored, or on its way into the store, for requests with `Range` (RFC 9110 §14); and
//! what is asked of an upstream where parts are wanted or held.
//!
//! A response says `Accept-Ranges` only if its origin did. §14.3 would let us add it, but it speaks
//! for the target resource, of which this gateway holds a copy for a while; nobody has to see it
//! before asking for a part.
//!
//! §13.1.5 says that a 206 to a request with `If-Range` "SHOULD NOT" repeat all representation
//! fields. Here it does: they are at hand, they agree with the client's own by the condition, and a
//! client that forgot them is not left without.

use std::sync::Arc;

use http::header::{
    AGE, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, IF_MODIFIED_SINCE, IF_NONE_MATCH, TRAILER,
    VIA,
};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

use crate::body::Body;
use crate::collapse::{Head, Seat};
use crate::semantics::status::CACHE_STATUS;
use crate::semantics::{self, Span, Validators, Wanted, ranges};
use crate::store::Variants;
use crate::stored::StoredResponse;

use super::look::Missing;
use super::{Presented, respond};

/// What a 416 of ours says of the response that it speaks of.
const KEPT_IN_416: [HeaderName; 3] = [AGE, VIA, CACHE_STATUS];

/// What a forward request asks the upstream for.
#[derive(Clone)]
pub(super) enum Sought {
    /// The whole, unless what the request selects or one of the variants is still good.
    Whole { stale: Option<Arc<StoredResponse>>, variants: Option<Arc<Variants>> },
    /// The part that the client asks for, in the client's own words. It may be added to this.
    Part(Option<Arc<StoredResponse>>),
    /// The one span that this lacks of what is to be answered, the whole or a part, by its strong
    /// validator; or else all of that.
    Rest { held: Arc<StoredResponse>, of: Span, gap: Span, validator: HeaderValue },
}

impl Sought {
    /// The whole, whatever is stored.
    pub(super) const ANYTHING: Self = Self::Whole { stale: None, variants: None };

    /// What to ask for, where this is missing.
    pub(super) fn new(presented: &Presented, missing: &Missing) -> Self {
        let (stored, variants) = (missing.stale.clone(), missing.variants.clone());
        if !presented.asks_for_part() || !presented.forwards_range() {
            return Self::whole(stored, variants);
        }
        match stored {
            // What the part itself says of its validator makes the rest of it fresh, too.
            Some(stored) if stored.part.is_some() => {
                Self::rest_of_part(presented, &stored).unwrap_or(Self::Part(Some(stored)))
            }
            // If it is still good, the part is at hand. Without validators it is as good as none.
            Some(stored) if !Validators::of(&stored.fields.to_map(0)).is_empty() => {
                Self::Whole { stale: Some(stored), variants }
            }
            _ => Self::Part(None),
        }
    }

    /// What to ask for, to have the whole and nothing less, where this is stored.
    pub(super) fn whole(
        stale: Option<Arc<StoredResponse>>,
        variants: Option<Arc<Variants>>,
    ) -> Self {
        let Some(held) = stale.as_ref().filter(|stale| stale.part.is_some()) else {
            return Self::Whole { stale, variants };
        };
        let all = held.length().and_then(|length| Span::new(0, length));
        let rest = all.and_then(|all| Self::rest(held, all, &held.fields.to_map(0)));
        rest.unwrap_or(Self::Whole { stale: None, variants })
    }

    /// What is missing of the one part that the client asks for, if some of it is held.
    fn rest_of_part(presented: &Presented, held: &Arc<StoredResponse>) -> Option<Self> {
        // A 304 that they bring about would be about the part as it was asked for.
        let own = &presented.head.headers;
        if own.contains_key(IF_NONE_MATCH) || own.contains_key(IF_MODIFIED_SINCE) {
            return None;
        }
        let (fields, length) = (held.fields.to_map(0), held.length()?);
        match wanted(presented, held.status, &fields, Some(length))? {
            Wanted::Part(of) => Self::rest(held, of, &fields),
            Wanted::Parts(_) | Wanted::Unsatisfiable => None,
        }
    }

    /// What is missing of this, if that is one span and not all of it.
    fn rest(held: &Arc<StoredResponse>, of: Span, fields: &HeaderMap) -> Option<Self> {
        let gap = held.part.as_ref()?.missing(of).filter(|gap| *gap != of)?;
        let validator = ranges::strong_validator(fields)?.into_value();
        Some(Self::Rest { held: Arc::clone(held), of, gap, validator })
    }

    /// Whether what comes is for one client, as it asks for a part of its own choice.
    pub(super) fn is_part(&self) -> bool {
        match self {
            Self::Whole { .. } => false,
            Self::Part(_) => true,
            Self::Rest { held, of, .. } => Some(of.length()) != held.length(),
        }
    }
}

/// Whether a stored response has all that a request asks for. RFC 9111 §3.3: "A cache MUST NOT use
/// an incomplete response to answer requests unless the response has been made complete, or the
/// request is partial and specifies a range wholly within the incomplete response."
pub(super) fn has_enough(presented: &Presented, stored: &StoredResponse) -> bool {
    let Some(held) = &stored.part else { return true };
    match wanted(presented, stored.status, &stored.fields.to_map(0), held.length()) {
        Some(Wanted::Part(span)) => held.has(span),
        // Each of several parts is sent with the complete length.
        Some(Wanted::Parts(spans)) => {
            held.length().is_some() && spans.into_iter().all(|span| held.has(span))
        }
        Some(Wanted::Unsatisfiable) | None => false,
    }
}

/// What of a content of this length a request is to be sent; `None` is the whole. Where the length is
/// not known, what needs it lies behind all that is held.
pub(super) fn wanted(
    presented: &Presented,
    status: StatusCode,
    fields: &HeaderMap,
    length: Option<u64>,
) -> Option<Wanted> {
    if !presented.asks_for_part() {
        return None;
    }
    let length = length.unwrap_or(u64::MAX);
    semantics::select(&presented.head.headers, status, fields, length).ok()
}

/// Parts of a stored response. `None`: it does not have them.
pub(super) fn of_stored(
    wanted: Wanted,
    mut fields: HeaderMap,
    stored: &StoredResponse,
) -> Option<Response<Body>> {
    let length = stored.length();
    Some(match wanted {
        Wanted::Part(span) => part(fields, span, length, Body::Whole(stored.cut(span)?)),
        Wanted::Parts(spans) => {
            let parts = spans.into_iter().map(|span| Some((span, stored.cut(span)?)));
            let parts: Vec<_> = parts.collect::<Option<_>>()?;
            let parts = semantics::multipart(parts, length?, fields.get(CONTENT_TYPE));
            // §15.3.7.2: "MUST NOT generate a Content-Range header field in the HTTP header
            // section of a multiple part response".
            fields.remove(CONTENT_RANGE);
            fields.insert(CONTENT_TYPE, parts.content_type);
            partial(fields, Body::pieces(parts.pieces))
        }
        Wanted::Unsatisfiable => unsatisfiable(&fields, length?),
    })
}

/// A part of a content of this length that is coming in. `Err` where the whole is to be sent: of
/// several parts some might have to wait for those behind them.
pub(super) fn of_stream(
    presented: &Presented,
    head: &Head,
    mut fields: HeaderMap,
    seat: Seat,
) -> Result<Response<Body>, (HeaderMap, Seat)> {
    let Some(length) = head.length else { return Err((fields, seat)) };
    match wanted(presented, head.status, &fields, Some(length)) {
        Some(Wanted::Part(span)) => {
            fields.insert(CONTENT_LENGTH, span.length().into());
            let body = Body::Part { seat, before: span.start(), left: span.length() };
            Ok(part(fields, span, Some(length), body))
        }
        Some(Wanted::Unsatisfiable) => Ok(unsatisfiable(&fields, length)),
        Some(Wanted::Parts(_)) | None => Err((fields, seat)),
    }
}

fn part(mut fields: HeaderMap, span: Span, length: Option<u64>, body: Body) -> Response<Body> {
    fields.insert(CONTENT_RANGE, span.content_range(length));
    partial(fields, body)
}

fn partial(mut fields: HeaderMap, body: Body) -> Response<Body> {
    // No trailers follow a part.
    for name in ranges::OF_THE_CONTENT.iter().chain(&[TRAILER]) {
        fields.remove(name);
    }
    respond::assemble(StatusCode::PARTIAL_CONTENT, fields, body)
}

/// §15.5.17, with what the fields of the whole say about the way that the answer went.
fn unsatisfiable(fields: &HeaderMap, length: u64) -> Response<Body> {
    let mut response =
        respond::problem(StatusCode::RANGE_NOT_SATISFIABLE, "no octet lies in the range");
    let own = response.headers_mut();
    own.insert(CONTENT_RANGE, ranges::unsatisfied(length));
    for name in KEPT_IN_416 {
        for value in fields.get_all(&name) {
            own.append(&name, value.clone());
        }
    }
    response
}
