//! When the response to a `POST` answers a later `GET` (RFC 9110 §9.3.3).
//!
//! "A POST request cannot be satisfied by a cached POST response": it always goes forward.

use http::header::{
    CONTENT_LENGTH, CONTENT_LOCATION, HeaderMap, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, RANGE,
    TRANSFER_ENCODING,
};
use http::{Method, StatusCode};

use super::freshness::{Times, explicit_lifetime};
use super::invalidation::resolve;
use super::reuse::may_answer;
use super::storing::Rules;
use super::targeted::response_directives;

/// A request and where it goes.
#[derive(Clone, Copy, Debug)]
pub struct Posted<'a> {
    /// Its method.
    pub method: &'a Method,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// As [`authority`](crate::message::authority) gives it.
    pub authority: &'a str,
    /// Path and query of the target URI.
    pub target: &'a str,
    /// Its fields.
    pub fields: &'a HeaderMap,
}

/// Whether the response to a request is one that a `GET` of the same target would get, and says so:
/// a 200 to `POST` that includes "explicit freshness information … and a Content-Location header
/// field that has the same value as the POST's target URI". Whether it may be stored is then judged
/// as for any response to `GET`.
///
/// Other successes do not count: a `GET` is not to be answered that something was created. Nor do
/// responses to requests whose fields a cache would not answer, or that had conditions.
pub fn answers_get(
    posted: &Posted<'_>,
    status: StatusCode,
    fields: &HeaderMap,
    times: &Times,
    rules: &Rules,
) -> bool {
    if posted.method != Method::POST || status != StatusCode::OK {
        return false;
    }
    let mut lines = fields.get_all(CONTENT_LOCATION).iter();
    let (Some(location), None) = (lines.next(), lines.next()) else { return false };
    let Posted { scheme, authority, target, .. } = *posted;
    let is_target = str::from_utf8(location.as_bytes())
        .ok()
        .and_then(|location| resolve(location, scheme, authority, target))
        .is_some_and(|location| location == target);
    let directives = response_directives(fields, &rules.targets);
    let is_explicit = explicit_lifetime(fields, &directives, times.received).is_some();
    is_target && is_explicit && is_plain(posted.fields)
}

fn is_plain(request: &HeaderMap) -> bool {
    let mut without_content = request.clone();
    without_content.remove(CONTENT_LENGTH);
    without_content.remove(TRANSFER_ENCODING);
    // What a `GET` would be answered by less than the whole for.
    let others = [IF_NONE_MATCH, IF_MODIFIED_SINCE, RANGE, IF_RANGE];
    !others.iter().any(|name| request.contains_key(name))
        && may_answer(&Method::GET, &without_content).is_ok()
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::super::tests::fields;
    use super::*;

    #[test]
    fn which_responses_answer_a_get() {
        let fresh = ("cache-control", "max-age=60");
        let same = ("content-location", "/a?b=c");
        let (post, put) = (Method::POST, Method::PUT);
        for (method, status, lines, expected, why) in [
            (&post, 200, vec![fresh, same], true, "both"),
            (&post, 200, vec![fresh], false, "no Content-Location"),
            (&post, 200, vec![same], false, "no explicit freshness"),
            (&post, 200, vec![same, ("cache-control", "public")], false, "no explicit freshness"),
            (&post, 200, vec![same, ("cache-control", "s-maxage=60")], true, "explicit freshness"),
            (
                &post,
                200,
                vec![same, ("expires", "Sun, 06 Nov 1994 12:00:00 GMT")],
                true,
                "explicit freshness",
            ),
            (
                &post,
                200,
                vec![same, ("last-modified", "Sun, 06 Nov 1994 12:00:00 GMT")],
                false,
                "no explicit freshness: a guess is none",
            ),
            (&post, 200, vec![fresh, ("content-location", "/a")], false, "another URI"),
            (&post, 200, vec![fresh, ("content-location", "/a?b=C")], false, "another URI"),
            (
                &post,
                200,
                vec![fresh, ("content-location", "http://api.test/a?b=c")],
                true,
                "the same in absolute form",
            ),
            (&post, 200, vec![fresh, ("content-location", "")], true, "a reference to itself"),
            (
                &post,
                200,
                vec![fresh, ("content-location", "https://api.test/a?b=c")],
                false,
                "another origin",
            ),
            (&post, 200, vec![fresh, same, same], false, "which of them?"),
            (&post, 201, vec![fresh, same], false, "a GET creates nothing"),
            (&post, 204, vec![fresh, same], false, "no content to answer with"),
            (&post, 404, vec![fresh, same], false, "a failure"),
            (&put, 200, vec![fresh, same], false, "only POST is cacheable (RFC 9110 §9.3)"),
            (&Method::PATCH, 200, vec![fresh, same], false, "RFC 5789 §2 would allow it"),
        ] {
            let posted = Posted {
                method,
                scheme: "http",
                authority: "api.test",
                target: "/a?b=c",
                fields: &HeaderMap::new(),
            };
            let status = StatusCode::from_u16(status).unwrap();
            let times = Times { requested: UNIX_EPOCH, received: UNIX_EPOCH };
            let found = answers_get(&posted, status, &fields(&lines), &times, &Rules::default());
            assert_eq!(found, expected, "{method} {status} {lines:?}: {why}");
        }
    }

    #[test]
    fn whose_requests_are_not_plain() {
        for (lines, expected, why) in [
            (vec![("content-length", "3"), ("content-type", "a/b")], true, "content"),
            (vec![("transfer-encoding", "chunked")], true, "content"),
            (vec![("if-none-match", "*")], false, "a condition on the change"),
            (vec![("if-match", "\"1\"")], false, "a condition on the change"),
            (vec![("if-modified-since", "x")], false, "a condition"),
            (vec![("range", "bytes=0-1")], false, "a range"),
            (vec![("x-http-method-override", "DELETE")], false, "another method"),
            (vec![("connection", "x-a"), ("x-a", "1")], false, "the origin has not seen `x-a`"),
        ] {
            assert_eq!(is_plain(&fields(&lines)), expected, "{lines:?}: {why}");
        }
    }
}
