//! Responses out of what was found, fetched, or went wrong.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{
    AGE, ALLOW, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::response;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri, Version};
use serde_json::json;

use crate::body::Body;
use crate::clock::Clock;
use crate::collapse::{Head, Seat, Validated};
use crate::message;
use crate::semantics::{self, CacheStatus, Forward, NotStored, Trouble};
use crate::stats::Outcome;
use crate::store::Purged;
use crate::stored::StoredResponse;
use crate::upgrade;
use crate::upstream::{Failure, Reply};

use super::coded::{Coder, Shape};
use super::measure::{mark, told};
use super::query::Unread;
use super::spare::L2_ERROR;
use super::{Presented, partial, ready};

/// A response that is not shared, and why it is not.
pub(super) enum Alone {
    /// As it comes from the upstream.
    Reply(Response<Reply>, NotStored),
    /// A response to `HEAD`, and whether a stored response was updated by it.
    Head(Response<Reply>, bool),
    /// A stored response was validated, and may not be stored again.
    Validated(Box<StoredResponse>, NotStored),
}

impl Alone {
    /// What is wrong with the upstream, by the status that it sent.
    pub(super) fn trouble(&self) -> Trouble {
        Trouble::Status(match self {
            Self::Reply(reply, _) | Self::Head(reply, _) => reply.status(),
            Self::Validated(stored, _) => stored.status,
        })
    }
}

/// A stored response that may be served as it is.
pub(super) fn hit(
    presented: &Presented,
    stored: &Arc<StoredResponse>,
    age: Duration,
    ttl: i64,
) -> Response<Body> {
    let shape = Shape::of(presented.coder.as_deref(), stored);
    let fields = ready::head(stored, age, ttl, &shape);
    from_stored(presented, stored, fields, shape)
}

/// A stored response, for the reason that `status` gives.
pub(super) fn stored(
    presented: &Presented,
    stored: &StoredResponse,
    age: Duration,
    status: &CacheStatus,
) -> Response<Body> {
    let shape = Shape::of(presented.coder.as_deref(), stored);
    let fields = ready::build(&stored.fields, age.as_secs(), status, &shape);
    told(from_stored(presented, stored, fields, shape), status)
}

/// A stored response that the upstream has just said is good.
pub(super) fn validated(
    presented: &Presented,
    validated: &Validated,
    now: SystemTime,
    status: CacheStatus,
) -> Response<Body> {
    let status = CacheStatus {
        forward_status: Some(StatusCode::NOT_MODIFIED),
        // A follower's response is stored on the leader's account.
        stored: validated.kept && !status.is_shared(),
        ..status
    };
    let age = validated.stored.freshness.age(now);
    stored(presented, &validated.stored, age, &status)
}

fn from_stored(
    presented: &Presented,
    stored: &StoredResponse,
    mut fields: HeaderMap,
    shape: Shape<'_>,
) -> Response<Body> {
    if presented.has_copy(stored.status, &fields) {
        return not_modified(fields);
    }
    // What does not have what is asked for was not to be served.
    let lacking = || lost(&CacheStatus::forward(Forward::Partial));
    let wanted = partial::wanted(presented, stored.status, &fields, stored.length());
    if let Some(wanted) = wanted {
        return partial::of_stored(wanted, fields, stored).unwrap_or_else(lacking);
    }
    let Some(whole) = stored.whole() else { return lacking() };
    if let Shape::Coded(coder, coding, form) = shape {
        let content = coder.content(coding, form, stored, &mut fields);
        return assemble(stored.status, fields, content);
    }
    let content = if presented.head.method == Method::HEAD {
        // RFC 9110 §8.6: not in a 204.
        if stored.status != StatusCode::NO_CONTENT {
            fields.insert(CONTENT_LENGTH, whole.len().into());
        }
        Bytes::new()
    } else {
        whole.clone()
    };
    assemble(stored.status, fields, Body::Whole(content))
}

/// The leader's own response, as its content comes in.
pub(super) fn leader(
    presented: &Presented,
    head: &Head,
    seat: Seat,
    status: CacheStatus,
) -> Response<Body> {
    streaming(presented, head, head.fields.clone(), seat, status)
}

/// A response that another request fetched, as its content comes in.
pub(super) fn follower(
    presented: &Presented,
    head: &Head,
    seat: Seat,
    age: Duration,
    status: CacheStatus,
) -> Response<Body> {
    let mut fields = head.shared_fields.clone();
    fields.insert(AGE, age.as_secs().into());
    streaming(presented, head, fields, seat, status)
}

fn streaming(
    presented: &Presented,
    head: &Head,
    mut fields: HeaderMap,
    seat: Seat,
    status: CacheStatus,
) -> Response<Body> {
    semantics::remove_surrogate_tags(&mut fields);
    let coder = presented.coder.as_deref();
    let coming = coder.and_then(|coder| Some((coder, coder.of_stream(head, &mut fields)?)));
    let mut response = if presented.has_copy(head.status, &fields) {
        not_modified(fields)
    } else if let Some((coder, coming)) = coming {
        assemble(head.status, fields, coder.shared(coming, head, seat))
    } else {
        match partial::of_stream(presented, head, fields, seat) {
            Ok(response) => response,
            Err((fields, seat)) => {
                assemble(head.status, fields, Body::Shared { seat, length: head.length })
            }
        }
    };
    let status = CacheStatus {
        // Without it, it would be the status that the client gets (RFC 9211 §2.3).
        forward_status: Some(head.forward_status).filter(|came| *came != response.status()),
        // A follower's response is stored on the leader's account.
        stored: !status.is_shared(),
        ..status
    };
    status.write_to(response.headers_mut());
    told(response, &status)
}

/// A response that is for this request only.
pub(super) fn apart(
    presented: &Presented,
    alone: Alone,
    clock: &Clock,
    status: &CacheStatus,
) -> Response<Body> {
    let coder = presented.coder.as_deref();
    match alone {
        Alone::Reply(response, why) => {
            let status = CacheStatus { detail: Some(why.as_str().into()), ..*status };
            passing(coder, response, &status)
        }
        Alone::Head(response, updated) => {
            let status = CacheStatus { stored: updated, ..status.clone() };
            let response = passing(coder, response, &status);
            let (code, fields) = (response.status(), response.headers());
            // The upstream was not told the client's own conditions.
            if presented.has_copy(code, fields) {
                return told(not_modified(response.into_parts().0.headers), &status);
            }
            response
        }
        Alone::Validated(validated, why) => {
            let status = CacheStatus {
                forward_status: Some(StatusCode::NOT_MODIFIED),
                detail: Some(why.as_str().into()),
                ..*status
            };
            let age = validated.freshness.age(clock.now());
            stored(presented, &validated, age, &status)
        }
    }
}

/// An upstream's response as it comes in. Its `Age` stays: it is no answer of this cache.
pub(super) fn passing(
    coder: Option<&Coder>,
    response: Response<Reply>,
    status: &CacheStatus,
) -> Response<Body> {
    let (mut head, mut reply) = response.into_parts();
    message::remove_hop_by_hop(&mut head.headers);
    semantics::remove_surrogate_tags(&mut head.headers);
    message::add_via(&mut head.headers, head.version);
    status.write_to(&mut head.headers);
    let response = if let Some(coder) = coder {
        coder.passing(head.status, head.headers, reply)
    } else {
        let content = reply.take_whole().map(Body::Whole);
        assemble(head.status, head.headers, content.unwrap_or(Body::Passing(reply)))
    };
    told(response, status)
}

/// RFC 9110 §15.4.5: the client's copy is still good.
fn not_modified(mut fields: HeaderMap) -> Response<Body> {
    semantics::keep_in_304(&mut fields);
    assemble(StatusCode::NOT_MODIFIED, fields, Body::empty())
}

/// The request allows nothing but a stored response, and there is none (RFC 9111 §5.2.1.7).
pub(super) fn only_if_cached(why: Forward) -> Response<Body> {
    let status = CacheStatus { detail: Some("only-if-cached".into()), ..CacheStatus::forward(why) };
    with_status(problem(StatusCode::GATEWAY_TIMEOUT, "no stored response can be served"), &status)
}

/// The route's key policy failed, and the route says that its requests fail with it.
pub(super) fn policy_failed() -> Response<Body> {
    let status = CacheStatus {
        detail: Some("policy-failed".into()),
        ..CacheStatus::forward(Forward::Bypass)
    };
    with_status(problem(StatusCode::BAD_GATEWAY, "the policy of this route failed"), &status)
}

/// L2 is out of use, and the route's upstream is spared. Twice a second L2 is tried again.
pub(super) fn spared(why: Forward) -> Response<Body> {
    let status = CacheStatus { detail: Some(L2_ERROR.into()), ..CacheStatus::forward(why) };
    let mut response =
        problem(StatusCode::SERVICE_UNAVAILABLE, "this cannot be answered now, try again later");
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    with_status(response, &status)
}

/// The task that fetched is gone.
pub(super) fn lost(status: &CacheStatus) -> Response<Body> {
    let response = problem(StatusCode::BAD_GATEWAY, "the request was given up");
    with_status(mark(response, Outcome::Failed), status)
}

/// A request that could be read in two ways. So could what comes behind it on the connection,
/// which is therefore closed (RFC 9112 §9.6).
pub(super) fn malformed(version: Version, why: &str) -> Response<Body> {
    refused(version, StatusCode::BAD_REQUEST, why)
}

/// A request that this gateway has sent forward (RFC 8586 §2, RFC 5842 §7.2).
pub(super) fn comes_round(version: Version) -> Response<Body> {
    let status =
        CacheStatus { detail: Some("loop".into()), ..CacheStatus::forward(Forward::Bypass) };
    let why = "the request has come back to the gateway that sent it on";
    with_status(refused(version, StatusCode::LOOP_DETECTED, why), &status)
}

/// A request that no route takes.
pub(super) fn no_route() -> Response<Body> {
    problem(StatusCode::NOT_FOUND, "no route for this host and path")
}

/// A request for a connection. What comes behind it would be for another server (RFC 9110 §9.3.6).
pub(super) fn connects(version: Version) -> Response<Body> {
    let why = "this gateway makes no connections for its clients";
    refused(version, StatusCode::NOT_IMPLEMENTED, why)
}

/// The beginning of another protocol on the client's connection (RFC 9110 §15.2.2; RFC 8441 §5: in HTTP/2
/// by a 2xx).
pub(super) fn switched(
    mut head: response::Parts,
    protocol: &str,
    version: Version,
    status: &CacheStatus,
) -> Response<Body> {
    message::remove_hop_by_hop(&mut head.headers);
    head.headers.remove(CONTENT_LENGTH);
    message::add_via(&mut head.headers, head.version);
    status.write_to(&mut head.headers);
    let code = if version == Version::HTTP_2 {
        StatusCode::OK
    } else {
        upgrade::say(&mut head.headers, protocol);
        StatusCode::SWITCHING_PROTOCOLS
    };
    told(assemble(code, head.headers, Body::empty()), status)
}

/// A request that was not read to its end, if it has one.
fn refused(version: Version, status: StatusCode, why: &str) -> Response<Body> {
    let mut response = problem(status, why);
    if version < Version::HTTP_2 {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// What `Cache-Status` says of a request with more content than its route takes.
pub(super) const TOO_LARGE: &str = "request-too-large";

/// A request with more content than its route takes (RFC 9110 §15.5.14), before any of it was read.
pub(super) fn unwanted(version: Version) -> Response<Body> {
    let status =
        CacheStatus { detail: Some(TOO_LARGE.into()), ..CacheStatus::forward(Forward::Bypass) };
    with_status(too_large(version), &status)
}

fn too_large(version: Version) -> Response<Body> {
    let why = "the request's content is longer than this route takes";
    refused(version, StatusCode::PAYLOAD_TOO_LARGE, why)
}

/// A request whose content did not come.
pub(super) fn unread(version: Version, why: Unread) -> Response<Body> {
    match why {
        Unread::Broken => {
            let why = "the request's content did not come whole";
            refused(version, StatusCode::BAD_REQUEST, why)
        }
        Unread::TooLarge => too_large(version),
        Unread::Silent => {
            let why = "the request's content did not come in time";
            refused(version, StatusCode::REQUEST_TIMEOUT, why)
        }
    }
}

/// Sends a request in cleartext to the same URI with `https` (RFC 9110 §15.4.9: method and content stay).
pub(super) fn to_https(authority: &str, port: u16, uri: &Uri) -> Response<Body> {
    let is_port = |text: &str| text.bytes().all(|octet| octet.is_ascii_digit());
    // The last colon of an IPv6 address stands before a bracket.
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if is_port(port) => host,
        _ => authority,
    };
    let port = if port == 443 { String::new() } else { format!(":{port}") };
    // `*` asks about no resource, and an absolute form names one all the same.
    let target = uri.path_and_query().map(PathAndQuery::as_str);
    let target = target.filter(|target| target.starts_with('/')).unwrap_or("/");
    let mut fields = HeaderMap::with_capacity(2);
    if let Ok(location) = HeaderValue::try_from(format!("https://{host}{port}{target}")) {
        fields.insert(LOCATION, location);
    }
    assemble(StatusCode::PERMANENT_REDIRECT, fields, Body::Whole(Bytes::new()))
}

/// RFC 9110 §15.5.6.
pub(super) fn method_not_allowed(methods: &[Method]) -> Response<Body> {
    let mut response = problem(StatusCode::METHOD_NOT_ALLOWED, "no route takes this method here");
    let names: Vec<&str> = methods.iter().map(Method::as_str).collect();
    if let Ok(allow) = HeaderValue::try_from(names.join(", ")) {
        response.headers_mut().insert(ALLOW, allow);
    }
    response
}

/// A purge needs a token, and there is none or another (RFC 9110 §15.5.2, RFC 6750 §3).
pub(super) fn unauthorised() -> Response<Body> {
    let mut response =
        problem(StatusCode::UNAUTHORIZED, "send the token as `Authorization: Bearer TOKEN`");
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

/// What became of a purge. Other gateways may yet have to hear of it.
pub(super) fn purged(purged: &Purged) -> Response<Body> {
    let status = if purged.shared { StatusCode::OK } else { StatusCode::ACCEPTED };
    let text = json!({ "id": purged.id.to_string(), "shared": purged.shared }).to_string();
    let mut fields = HeaderMap::with_capacity(4);
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    assemble(status, fields, Body::Whole(text.into()))
}

/// A response of Larder's own, as problem details (RFC 9457).
pub(super) fn problem(status: StatusCode, detail: &str) -> Response<Body> {
    let text = message::problem(status, detail);
    let mut fields = HeaderMap::with_capacity(4);
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    mark(assemble(status, fields, Body::Whole(text.into())), Outcome::Refused)
}

/// What a failed forward request becomes for the client.
pub(super) fn failed(failure: &Failure, status: &CacheStatus) -> Response<Body> {
    let (code, detail) = match failure {
        Failure::Connect(_) => (StatusCode::BAD_GATEWAY, "upstream-refused"),
        Failure::Busy => (StatusCode::SERVICE_UNAVAILABLE, "upstream-busy"),
        Failure::Timeout => (StatusCode::GATEWAY_TIMEOUT, "upstream-timeout"),
        Failure::Broken(_) => (StatusCode::BAD_GATEWAY, "upstream-broken"),
        Failure::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "upstream-unavailable"),
        Failure::Request(_) if failure.is_of_length() => {
            let status = CacheStatus { detail: Some(TOO_LARGE.into()), ..*status };
            // What was not read of it closes the connection by itself.
            return with_status(too_large(Version::HTTP_2), &status);
        }
        Failure::Request(_) => (StatusCode::BAD_REQUEST, "request-broken"),
        Failure::TooLong => (StatusCode::URI_TOO_LONG, "target-too-long"),
        Failure::Climbs => (StatusCode::BAD_REQUEST, "dot-segments"),
    };
    let status = CacheStatus { detail: Some(detail.into()), ..*status };
    let mut response = problem(code, &failure.to_string());
    // A request that broke off, or asks for what nobody may, is its client's doing.
    if !matches!(failure, Failure::Request(_) | Failure::TooLong | Failure::Climbs) {
        response = mark(response, Outcome::Failed);
    }
    if code == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    with_status(response, &status)
}

pub(super) fn with_status(mut response: Response<Body>, status: &CacheStatus) -> Response<Body> {
    status.write_to(response.headers_mut());
    response
}

pub(super) fn assemble(status: StatusCode, fields: HeaderMap, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = fields;
    response
}
