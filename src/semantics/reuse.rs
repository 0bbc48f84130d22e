//! May a stored response be served, and if not, why (RFC 9111 §4).
//!
//! Finding the response, and telling whether it was invalidated, is others' work. So is
//! `only-if-cached`: whoever forwards answers 504 instead (§5.2.1.7).

use std::time::{Duration, SystemTime};

use http::Method;
use http::header::{
    CONTENT_LENGTH, HeaderMap, HeaderName, IF_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE,
    TRANSFER_ENCODING, UPGRADE,
};

use super::cache_control::RequestDirectives;
use super::freshness::Freshness;
use super::status::Forward;
use crate::message::has_own_hop_by_hop;

/// Whether a stored response answers a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// It does.
    Serve {
        /// Its age now, for `Age`.
        age: Duration,
        /// The seconds of freshness left, below zero where the client takes a stale response.
        ttl: i64,
    },
    /// It does not: validate it, or get another.
    Forward(Forward),
}

/// Whether a request may be answered from the cache, and its response stored.
///
/// `Forward::Method` is a method other than `GET` and `HEAD`; `Forward::Bypass` a request that
/// only the origin can answer: with a range, with conditions on a change, with an upgrade, with
/// content, with a field that asks for another method, or with one that `Connection` takes away.
/// Content that no field announces (HTTP/2) is for the caller to see.
pub fn may_answer(method: &Method, fields: &HeaderMap) -> Result<(), Forward> {
    static FOR_THE_ORIGIN: [HeaderName; 9] = [
        RANGE,
        IF_RANGE,
        IF_MATCH,
        IF_UNMODIFIED_SINCE,
        UPGRADE,
        TRANSFER_ENCODING,
        // Some frameworks obey these on any request. No key holds them, so what they cause must
        // not be stored.
        HeaderName::from_static("x-http-method-override"),
        HeaderName::from_static("x-http-method"),
        HeaderName::from_static("x-method-override"),
    ];

    if *method != Method::GET && *method != Method::HEAD {
        return Err(Forward::Method);
    }
    // Keys and `Vary` would be answered from fields that the origin never sees.
    let has_unseen = has_own_hop_by_hop(fields);
    let has_content = fields.get(CONTENT_LENGTH).is_some_and(|length| length != "0");
    // A request has few fields: to compare each name is quicker than nine look-ups.
    if has_unseen || has_content || fields.keys().any(|name| FOR_THE_ORIGIN.contains(name)) {
        return Err(Forward::Bypass);
    }
    Ok(())
}

/// Whether a stored response may be served at `now`, in the order of §4.
///
/// `is_invalidated` is a response that something has made stale (RFC 9111 §4.4): the origin must
/// be asked, whatever the client would put up with.
pub fn reuse(
    freshness: &Freshness,
    is_invalidated: bool,
    directives: &RequestDirectives,
    now: SystemTime,
) -> Reuse {
    if freshness.no_cache || is_invalidated {
        return Reuse::Forward(Forward::Stale);
    }
    let age = freshness.age(now);
    if !freshness.is_fresh(now) && !may_be_stale(freshness, directives, age) {
        return Reuse::Forward(Forward::Stale);
    }
    if !satisfies(freshness, directives, age) {
        return Reuse::Forward(Forward::Request);
    }
    Reuse::Serve { age, ttl: freshness.ttl(now) }
}

/// §4.2.4: not where the response forbids it, and only as far as the request allows it.
fn may_be_stale(freshness: &Freshness, directives: &RequestDirectives, age: Duration) -> bool {
    let staleness = age.saturating_sub(freshness.lifetime);
    let is_welcome = directives.max_stale.is_some_and(|limit| staleness <= limit);
    is_welcome && !freshness.must_revalidate && satisfies(freshness, directives, age)
}

/// §5.2.1, all but `max-stale`.
fn satisfies(freshness: &Freshness, directives: &RequestDirectives, age: Duration) -> bool {
    // Of `max-age=0` the letter would allow a response of this very instant; clients that send it
    // mean that the origin is to be asked.
    let is_too_old = directives.max_age.is_some_and(|limit| limit.is_zero() || age > limit);
    let remaining = freshness.lifetime.saturating_sub(age);
    let is_too_late = directives.min_fresh.is_some_and(|least| remaining < least);
    !directives.no_cache && !is_too_old && !is_too_late
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use proptest::prelude::*;

    use super::super::tests::fields;
    use super::*;

    #[test]
    fn what_a_cache_may_answer() {
        for (method, lines, expected, why) in [
            ("GET", vec![], Ok(()), "a cache's daily bread"),
            ("HEAD", vec![], Ok(()), "answered from what GET stored"),
            ("GET", vec![("content-length", "0")], Ok(()), "no content"),
            ("POST", vec![], Err(Forward::Method), "written through (§4)"),
            ("get", vec![], Err(Forward::Method), "methods are case-sensitive"),
            ("OPTIONS", vec![], Err(Forward::Method), "not cacheable"),
            ("GET", vec![("content-length", "3")], Err(Forward::Bypass), "content"),
            ("GET", vec![("content-length", "x")], Err(Forward::Bypass), "nonsense"),
            ("GET", vec![("transfer-encoding", "chunked")], Err(Forward::Bypass), "content"),
            ("GET", vec![("range", "bytes=0-1")], Err(Forward::Bypass), "not supported"),
            ("GET", vec![("if-range", "\"1\"")], Err(Forward::Bypass), "not supported"),
            ("GET", vec![("if-match", "\"1\"")], Err(Forward::Bypass), "for the origin"),
            ("GET", vec![("if-unmodified-since", "x")], Err(Forward::Bypass), "for the origin"),
            ("GET", vec![("upgrade", "websocket")], Err(Forward::Bypass), "not supported"),
            ("GET", vec![("x-http-method-override", "POST")], Err(Forward::Bypass), "poisoning"),
            (
                "GET",
                vec![("connection", "x-a"), ("x-a", "1")],
                Err(Forward::Bypass),
                "the origin will not see `x-a`, but a key would hold it",
            ),
            ("GET", vec![("if-none-match", "\"1\"")], Ok(()), "§4.3.2"),
            ("GET", vec![("cache-control", "no-cache")], Ok(()), "decided by `reuse`"),
        ] {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            assert_eq!(may_answer(&method, &fields(&lines)), expected, "{method} {lines:?}: {why}");
        }
    }

    #[test]
    fn answers() {
        use Forward::{Request, Stale};

        let fresh_for_60 = Freshness {
            received: UNIX_EPOCH,
            initial_age: Duration::ZERO,
            lifetime: Duration::from_mins(1),
            no_cache: false,
            must_revalidate: false,
        };
        let revalidated = Freshness { must_revalidate: true, ..fresh_for_60.clone() };
        let no_cache = Freshness { no_cache: true, ..revalidated.clone() };
        for (stored, invalidated, request, now, expected, why) in [
            (&fresh_for_60, false, "", 10, Ok(50), "fresh (§4.2)"),
            (&fresh_for_60, false, "", 59, Ok(1), "fresh (§4.2)"),
            (&fresh_for_60, false, "", 60, Err(Stale), "lifetime equals age"),
            (&fresh_for_60, true, "", 10, Err(Stale), "invalidated"),
            (&fresh_for_60, true, "max-stale", 10, Err(Stale), "invalidated: no client decides"),
            (&revalidated, false, "", 10, Ok(50), "§5.2.2.8: once it has become stale"),
            (&no_cache, false, "", 10, Err(Stale), "§5.2.2.4: never without validation"),
            (&no_cache, false, "max-stale", 10, Err(Stale), "§5.2.2.4: never"),
            (&fresh_for_60, false, "no-cache", 10, Err(Request), "§5.2.1.4"),
            (&fresh_for_60, false, "no-store", 10, Ok(50), "§5.2.1.5: about storing"),
            (&fresh_for_60, false, "only-if-cached", 10, Ok(50), "§5.2.1.7"),
            (&fresh_for_60, false, "max-age=10", 10, Ok(50), "§5.2.1.1: less than or equal"),
            (&fresh_for_60, false, "max-age=9", 10, Err(Request), "§5.2.1.1: too old"),
            (&fresh_for_60, false, "max-age=0", 0, Err(Request), "ask the origin"),
            (&fresh_for_60, false, "min-fresh=50", 10, Ok(50), "§5.2.1.3: fresh for long enough"),
            (&fresh_for_60, false, "min-fresh=51", 10, Err(Request), "§5.2.1.3: too late"),
            (&fresh_for_60, false, "max-stale", 900, Ok(-840), "§5.2.1.2: of any age"),
            (&fresh_for_60, false, "max-stale=10", 70, Ok(-10), "§5.2.1.2: by no more than"),
            (&fresh_for_60, false, "max-stale=10", 71, Err(Stale), "§5.2.1.2: by no more than"),
            (&fresh_for_60, false, "max-stale, no-cache", 70, Err(Stale), "§5.2.1.4"),
            (&fresh_for_60, false, "max-stale, max-age=9", 70, Err(Stale), "both must hold"),
            (&fresh_for_60, false, "max-stale, min-fresh=1", 70, Err(Stale), "both must hold"),
            (&revalidated, false, "max-stale", 70, Err(Stale), "§5.2.2.8: MUST NOT"),
        ] {
            let request = RequestDirectives::of(&fields(&[("cache-control", request)]));
            let now = UNIX_EPOCH + Duration::from_secs(now);
            let found = match reuse(stored, invalidated, &request, now) {
                Reuse::Serve { age, ttl } => {
                    assert_eq!(age, stored.age(now));
                    Ok(ttl)
                }
                Reuse::Forward(why) => Err(why),
            };
            assert_eq!(found, expected, "{why}");
        }
    }

    proptest! {
        #[test]
        fn no_request_gets_what_forbids_to_be_stale(
            line in "((max-stale|max-age|min-fresh)(=[0-9]{0,12})?,? ?){0,4}",
            initial_age in any::<u64>(),
            lifetime in any::<u64>(),
            now in 0_u64..1 << 40,
        ) {
            let stored = Freshness {
                received: UNIX_EPOCH,
                initial_age: Duration::from_secs(initial_age),
                lifetime: Duration::from_secs(lifetime),
                no_cache: false,
                must_revalidate: true,
            };
            let now = UNIX_EPOCH + Duration::from_secs(now);
            let request = RequestDirectives::of(&fields(&[("cache-control", &line)]));
            if let Reuse::Serve { .. } = reuse(&stored, false, &request, now) {
                prop_assert!(stored.is_fresh(now));
            }
        }
    }
}
