//! May a stored response be served, and if not, why (RFC 9111 §4).
//!
//! Finding the response, and telling whether it was invalidated, is others' work. So is
//! `only-if-cached`: whoever forwards answers 504 instead (§5.2.1.7).

use std::time::{Duration, SystemTime};

use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, IF_MATCH, IF_MODIFIED_SINCE,
    IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE, TRANSFER_ENCODING,
};
use http::{Method, StatusCode};

use super::cache_control::RequestDirectives;
use super::freshness::Freshness;
use super::status::Forward;
use super::storing::Rules;
use crate::message::{has_own_hop_by_hop, is_spelt};

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
    /// It does, stale as it is, if it is validated meanwhile (RFC 5861 §3).
    ServeStale {
        /// Its age now, for `Age`.
        age: Duration,
        /// The seconds of freshness left, zero or less.
        ttl: i64,
    },
    /// It does not: validate it, or get another.
    Forward(Forward),
}

/// Whether a request may be answered from the cache, and its response stored.
///
/// `Forward::Method` is a method other than `GET`, `HEAD` and `QUERY`; `Forward::Bypass` a request
/// that only the origin can answer: with conditions on a change, with an upgrade, with content, with a
/// field that asks for another method, or with one that `Connection` takes away.
/// Content that no field announces (HTTP/2) is for the caller to see.
///
/// A `QUERY` asks by its content, and says by one `Content-Type` what that is. "Servers MUST fail the
/// request" without it (RFC 10008 §2), so it is theirs. So are parts of its result (§2.8).
pub fn may_answer(method: &Method, fields: &HeaderMap) -> Result<(), Forward> {
    if *method == Method::QUERY {
        return if may_query(fields) { Ok(()) } else { Err(Forward::Bypass) };
    }
    if *method != Method::GET && *method != Method::HEAD {
        return Err(Forward::Method);
    }
    // A request has few fields: to compare each name is quicker than to look for each of these.
    if bypassing_read(fields).is_some() { Err(Forward::Bypass) } else { Ok(()) }
}

/// The first field because of which only the origin can answer a request with this method.
pub fn bypassing<'a>(method: &Method, fields: &'a HeaderMap) -> Option<&'a HeaderName> {
    if *method == Method::QUERY { bypassing_query(fields) } else { bypassing_read(fields) }
}

fn bypassing_read(fields: &HeaderMap) -> Option<&HeaderName> {
    fields.keys().find(|name| is_for_the_origin(name, fields))
}

/// The same for a `QUERY`, to which content belongs.
fn bypassing_query(fields: &HeaderMap) -> Option<&HeaderName> {
    fields.keys().find(|name| match **name {
        CONTENT_LENGTH | TRANSFER_ENCODING => false,
        RANGE | IF_RANGE => true,
        _ => is_for_the_origin(name, fields),
    })
}

/// A `QUERY` says what its content is, once.
fn may_query(fields: &HeaderMap) -> bool {
    fields.get_all(CONTENT_TYPE).iter().count() == 1 && bypassing_query(fields).is_none()
}

/// The same for a `POST` that may be a read by its route's word. Conditions are not for a cache here
/// (RFC 9110 §13.1.2: for it, "412" is what fails), and parts are not defined.
pub fn may_ask_by_post(fields: &HeaderMap) -> bool {
    fields.keys().all(|name| match *name {
        CONTENT_LENGTH | TRANSFER_ENCODING => true,
        RANGE | IF_RANGE | IF_NONE_MATCH | IF_MODIFIED_SINCE => false,
        _ => !is_for_the_origin(name, fields),
    })
}

/// Whether only the origin can answer a request because it has this field.
fn is_for_the_origin(name: &HeaderName, fields: &HeaderMap) -> bool {
    may_bypass(name)
        && match *name {
            CONTENT_LENGTH => fields.get(CONTENT_LENGTH).is_some_and(|length| length != "0"),
            // Keys and `Vary` would be answered from fields that the origin never sees.
            CONNECTION => has_own_hop_by_hop(fields),
            _ => true,
        }
}

/// Whether a request with a field of this name may be one that only the origin can answer.
pub fn may_bypass(name: &HeaderName) -> bool {
    match *name {
        IF_MATCH | IF_UNMODIFIED_SINCE | TRANSFER_ENCODING | CONTENT_LENGTH | CONNECTION => true,
        _ => asks_for_another_method(name.as_str()),
    }
}

/// Some frameworks obey these on any request. No key holds them, so what they cause must not be stored.
const OTHER_METHOD: [&str; 3] = ["x-http-method-override", "x-http-method", "x-method-override"];

fn asks_for_another_method(name: &str) -> bool {
    // As most names begin, it does not.
    name.starts_with('x') && OTHER_METHOD.iter().any(|known| is_spelt(name, known))
}

/// What went wrong with a request that went forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// No response came: this cache is disconnected from the origin (§4.2.4).
    Disconnected,
    /// This status did.
    Status(StatusCode),
    /// No request is sent: by its configuration the origin is spared (§4.2.4).
    Spared,
}

/// How long after it became stale a response may still be served while the origin cannot be reached
/// and nobody has said how long. §4.2.4 has no bound for this case; users of an API do.
const DISCONNECTED: Duration = Duration::from_mins(5);

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
    if freshness.no_cache {
        return Reuse::Forward(Forward::Stale);
    }
    let age = freshness.age(now);
    if is_invalidated || !freshness.is_fresh_at(age) && !may_be_stale(freshness, directives, age) {
        let window = freshness.stale_while_revalidate.into();
        let is_welcome = puts_up_with(freshness, directives, age);
        return if is_welcome && is_within(window, freshness, directives, age) {
            Reuse::ServeStale { age, ttl: freshness.ttl_at(age) }
        } else {
            Reuse::Forward(Forward::Stale)
        };
    }
    if !satisfies(freshness, directives, age) {
        return Reuse::Forward(Forward::Request);
    }
    Reuse::Serve { age, ttl: freshness.ttl_at(age) }
}

/// Whether a stored response may be served at `now` although the origin was to be asked, because that
/// came to nothing: its age and the seconds of freshness left.
///
/// RFC 5861 §4: within the time that the response or the request states, if the origin is in one of
/// the four kinds of trouble that it names. RFC 9111 §4.2.4 adds what the configuration states, and
/// where no response came at all, or none is asked for, any response whose use nothing forbids: here,
/// for five minutes.
/// What a request states is a limit for that request, whatever the others would allow.
pub fn reuse_in_trouble(
    freshness: &Freshness,
    directives: &RequestDirectives,
    trouble: Trouble,
    rules: &Rules,
    now: SystemTime,
) -> Option<(Duration, i64)> {
    let stated = directives.stale_if_error.or(stated(freshness, rules));
    let window = match trouble {
        Trouble::Disconnected | Trouble::Spared => stated.unwrap_or(DISCONNECTED),
        Trouble::Status(status) if is_error(status) => stated?,
        Trouble::Status(_) => return None,
    };
    let age = freshness.age(now);
    let is_welcome =
        directives.stale_if_error.is_some() || puts_up_with(freshness, directives, age);
    let may_serve =
        is_welcome && !freshness.no_cache && is_within(window, freshness, directives, age);
    may_serve.then(|| (age, freshness.ttl(now)))
}

/// How long after it became stale a response may stand in at most, where the request states nothing:
/// see [`reuse_in_trouble`]. Not at all if something forbids it.
pub fn stands_in(freshness: &Freshness, rules: &Rules) -> Duration {
    if freshness.must_revalidate || freshness.no_cache {
        return Duration::ZERO;
    }
    stated(freshness, rules).unwrap_or(DISCONNECTED)
}

/// Whether a response that cannot be validated is of use though it is stale: it states that it may be served so for
/// some time (RFC 5861).
pub(super) fn may_be_of_use(freshness: &Freshness, now: SystemTime) -> bool {
    let windows = [freshness.stale_while_revalidate, freshness.stale_if_error.unwrap_or_default()];
    let window = windows.into_iter().map(Duration::from).max().unwrap_or_default();
    let forbidden = freshness.must_revalidate || freshness.no_cache;
    !forbidden && freshness.age(now) < freshness.lifetime.saturating_add(window)
}

/// What the response and the configuration state, the longer of both.
fn stated(freshness: &Freshness, rules: &Rules) -> Option<Duration> {
    freshness.stale_if_error.map(Duration::from).max(rules.stale_if_error)
}

/// RFC 5861 §4: "any situation that would result in a 500, 502, 503, or 504 HTTP response status code
/// being returned".
fn is_error(status: StatusCode) -> bool {
    matches!(status.as_u16(), 500 | 502..=504)
}

/// Whether a response became stale no longer ago than `window`, which is none at all if it is zero,
/// and neither the response nor the request forbids its use.
fn is_within(
    window: Duration,
    freshness: &Freshness,
    directives: &RequestDirectives,
    age: Duration,
) -> bool {
    let staleness = age.saturating_sub(freshness.lifetime);
    let is_recent = !window.is_zero() && staleness <= window;
    is_recent && !freshness.must_revalidate && satisfies(freshness, directives, age)
}

/// Whether the client would have a response this stale where the origin allows it: not beyond its
/// `max-stale`, and not beside a `max-age` alone, by which "the client does not wish to receive a
/// stale response" (§5.2.1.1).
fn puts_up_with(freshness: &Freshness, directives: &RequestDirectives, age: Duration) -> bool {
    match directives.max_stale {
        Some(limit) => age.saturating_sub(freshness.lifetime) <= limit,
        None => directives.max_age.is_none(),
    }
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
    // RFC 8246 §2: a proxy SHOULD skip validating what is immutable and fresh, unless the client
    // signals that it is necessary, which `no-cache` does.
    let is_too_old = is_too_old && !(freshness.immutable && age < freshness.lifetime);
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
            ("GET", vec![("range", "bytes=0-1")], Ok(()), "RFC 9110 §14.2"),
            ("GET", vec![("if-range", "\"1\"")], Ok(()), "RFC 9110 §13.1.5"),
            ("GET", vec![("if-match", "\"1\"")], Err(Forward::Bypass), "for the origin"),
            ("GET", vec![("if-unmodified-since", "x")], Err(Forward::Bypass), "for the origin"),
            ("GET", vec![("upgrade", "h2c")], Ok(()), "RFC 9110 §7.8: a server may ignore it"),
            ("GET", vec![("x-http-method-override", "POST")], Err(Forward::Bypass), "poisoning"),
            ("GET", vec![("x_http_method_override", "POST")], Err(Forward::Bypass), "and so read"),
            ("GET", vec![("x-http_method", "POST")], Err(Forward::Bypass), "and so read"),
            ("GET", vec![("x-http-methods", "POST")], Ok(()), "another field"),
            (
                "GET",
                vec![("connection", "x-a"), ("x-a", "1")],
                Err(Forward::Bypass),
                "the origin will not see `x-a`, but a key would hold it",
            ),
            ("QUERY", vec![("content-type", "a/b"), ("content-length", "3")], Ok(()), "by content"),
            (
                "QUERY",
                vec![("content-type", "a/b"), ("transfer-encoding", "chunked")],
                Ok(()),
                "too",
            ),
            ("QUERY", vec![("content-type", "a/b")], Ok(()), "empty content is content"),
            ("QUERY", vec![("content-length", "3")], Err(Forward::Bypass), "RFC 10008 §2: fails"),
            (
                "QUERY",
                vec![("content-type", "a/b"), ("content-type", "c/d")],
                Err(Forward::Bypass),
                "which of them?",
            ),
            (
                "QUERY",
                vec![("content-type", "a/b"), ("range", "bytes=0-1")],
                Err(Forward::Bypass),
                "for the origin (RFC 10008 §2.8)",
            ),
            ("query", vec![("content-type", "a/b")], Err(Forward::Method), "case-sensitive"),
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

        let fresh_for_60 = Freshness::fresh_for(Duration::from_mins(1), UNIX_EPOCH);
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
                Reuse::ServeStale { .. } => panic!("nothing states a window: {why}"),
                Reuse::Forward(why) => Err(why),
            };
            assert_eq!(found, expected, "{why}");
        }
    }

    #[test]
    fn while_revalidated() {
        use Forward::{Request, Stale};

        let lasting = Freshness {
            stale_while_revalidate: Duration::from_secs(30).into(),
            ..Freshness::fresh_for(Duration::from_mins(1), UNIX_EPOCH)
        };
        let forbidden = Freshness { must_revalidate: true, ..lasting.clone() };
        let no_cache = Freshness { no_cache: true, ..lasting.clone() };
        for (stored, invalidated, request, now, expected, why) in [
            (&lasting, false, "", 59, Ok(false), "fresh: there is nothing to validate"),
            (&lasting, false, "", 60, Ok(true), "RFC 5861 §3: up to the indicated seconds"),
            (&lasting, false, "", 90, Ok(true), "the last of them"),
            (&lasting, false, "", 91, Err(Stale), "after that, it is validated first"),
            (&lasting, true, "", 10, Ok(true), "made stale by an invalidation"),
            (&lasting, true, "", 91, Err(Stale), "and too old for any reason"),
            (&lasting, false, "max-stale", 90, Ok(false), "the client takes it as it is"),
            (&lasting, false, "no-cache", 70, Err(Stale), "§5.2.1.4"),
            (&lasting, false, "max-age=65", 70, Err(Stale), "§5.2.1.1"),
            (&lasting, false, "max-age=99", 70, Err(Stale), "§5.2.1.1: unless the max-stale …"),
            (&lasting, false, "max-age=99, max-stale", 70, Ok(false), "… directive is present"),
            (&lasting, false, "max-stale=5", 66, Err(Stale), "§5.2.1.2: by no more than"),
            (&lasting, false, "min-fresh=1", 70, Err(Stale), "§5.2.1.3"),
            (&lasting, false, "max-age=65", 50, Ok(false), "fresh and young enough"),
            (&lasting, false, "max-age=40", 50, Err(Request), "fresh and not young enough"),
            (&forbidden, false, "", 70, Err(Stale), "RFC 9111 §4.2.4: MUST NOT"),
            (&no_cache, false, "", 70, Err(Stale), "RFC 9111 §5.2.2.4: MUST NOT"),
        ] {
            let request = RequestDirectives::of(&fields(&[("cache-control", request)]));
            let now = UNIX_EPOCH + Duration::from_secs(now);
            let found = match reuse(stored, invalidated, &request, now) {
                Reuse::Serve { .. } => Ok(false),
                Reuse::ServeStale { age, ttl } => {
                    assert_eq!((age, ttl), (stored.age(now), stored.ttl(now)), "{why}");
                    Ok(true)
                }
                Reuse::Forward(why) => Err(why),
            };
            assert_eq!(found, expected, "{why}");
        }
    }

    #[test]
    fn immutable() {
        let stored = Freshness {
            immutable: true,
            ..Freshness::fresh_for(Duration::from_mins(1), UNIX_EPOCH)
        };
        for (request, now, served, why) in [
            ("max-age=0", 10, true, "RFC 8246 §2: SHOULD skip"),
            ("max-age=5", 10, true, "likewise"),
            ("no-cache", 10, false, "a signal that a validation is necessary"),
            ("max-age=0", 60, false, "not fresh any more"),
        ] {
            let request = RequestDirectives::of(&fields(&[("cache-control", request)]));
            let found = reuse(&stored, false, &request, UNIX_EPOCH + Duration::from_secs(now));
            assert_eq!(matches!(found, Reuse::Serve { .. }), served, "{why}");
        }
    }

    #[test]
    fn for_how_long_a_response_may_stand_in() {
        let silent = Freshness::fresh_for(Duration::from_mins(1), UNIX_EPOCH);
        let says = |seconds| Freshness {
            stale_if_error: Some(Duration::from_secs(seconds).into()),
            ..silent.clone()
        };
        let forbidden = Freshness { must_revalidate: true, ..says(30) };
        let no_cache = Freshness { no_cache: true, ..silent.clone() };
        for (stored, route, expected, why) in [
            (&silent, None, 300, "nobody says how long: as for a cache that is disconnected"),
            (&silent, Some(1800), 1800, "the configuration does"),
            (&silent, Some(5), 5, "it may be shorter, too"),
            (&says(30), None, 30, "the response does"),
            (&says(30), Some(5), 30, "the longer of the two"),
            (&says(0), None, 0, "the response does not want it"),
            (&forbidden, Some(1800), 0, "§5.2.2.2: MUST NOT"),
            (&no_cache, Some(1800), 0, "§5.2.2.4: MUST NOT"),
        ] {
            let rules =
                Rules { stale_if_error: route.map(Duration::from_secs), ..Rules::default() };
            assert_eq!(stands_in(stored, &rules), Duration::from_secs(expected), "{why}");
        }
    }

    const DOWN: Trouble = Trouble::Disconnected;
    const SPARED: Trouble = Trouble::Spared;

    #[test]
    fn in_trouble() {
        let status = |code| Trouble::Status(StatusCode::from_u16(code).unwrap());
        let silent = Freshness::fresh_for(Duration::from_mins(1), UNIX_EPOCH);
        let lasting =
            Freshness { stale_if_error: Some(Duration::from_secs(30).into()), ..silent.clone() };
        let never = Freshness { stale_if_error: Some(Duration::ZERO.into()), ..silent.clone() };
        let forbidden = Freshness { must_revalidate: true, ..lasting.clone() };
        let no_cache = Freshness { no_cache: true, ..silent.clone() };
        let route = |seconds| Rules {
            stale_if_error: Some(Duration::from_secs(seconds)),
            ..Rules::default()
        };
        let none = Rules::default();
        for (stored, request, trouble, rules, now, expected, why) in [
            (&lasting, "", status(500), &none, 90, true, "RFC 5861 §4: one of the four"),
            (&lasting, "", status(502), &none, 90, true, "one of the four"),
            (&lasting, "", status(503), &none, 90, true, "one of the four"),
            (&lasting, "", status(504), &none, 90, true, "one of the four"),
            (&lasting, "", status(501), &none, 90, false, "none of the four"),
            (&lasting, "", status(404), &none, 90, false, "no error of the origin's"),
            (&lasting, "", status(200), &none, 90, false, "no trouble"),
            (&lasting, "", status(500), &none, 91, false, "not after the time that is stated"),
            (&lasting, "", DOWN, &none, 90, true, "a situation that would result in a 502"),
            (&lasting, "", DOWN, &none, 91, false, "what is stated counts then too"),
            (&silent, "", status(500), &none, 61, false, "nobody said that it may"),
            (&silent, "stale-if-error=5", status(500), &none, 65, true, "the request did"),
            (&silent, "stale-if-error=5", status(500), &none, 66, false, "for no longer"),
            (&silent, "", status(500), &route(5), 65, true, "the configuration did"),
            (&silent, "", status(500), &route(5), 66, false, "for no longer"),
            (&lasting, "", status(500), &route(5), 90, true, "the longer of the two"),
            (&lasting, "stale-if-error=9", status(500), &none, 69, true, "the request's own …"),
            (&lasting, "stale-if-error=9", status(500), &none, 70, false, "… upper limit"),
            (&lasting, "stale-if-error=9", DOWN, &none, 70, false, "in all trouble"),
            (&lasting, "stale-if-error=0", status(500), &route(600), 61, false, "none at all"),
            (&lasting, "stale-if-error=60", status(500), &none, 99, true, "the client permits it"),
            (&lasting, "max-age=99", status(500), &none, 70, false, "§5.2.1.1: no stale response"),
            (&lasting, "max-stale=5", status(500), &none, 66, false, "§5.2.1.2: no more than"),
            (&lasting, "max-age=99, stale-if-error=9", DOWN, &none, 65, true, "but in trouble"),
            (&silent, "", DOWN, &none, 360, true, "RFC 9111 §4.2.4: it is disconnected"),
            (&silent, "", DOWN, &none, 361, false, "for five minutes"),
            (&silent, "", SPARED, &none, 360, true, "§4.2.4: \"or by configuration\""),
            (&silent, "", SPARED, &none, 361, false, "for as long"),
            (&silent, "", SPARED, &route(5), 65, true, "or as long as it says"),
            (&silent, "", SPARED, &route(5), 66, false, "or as long as it says"),
            (&never, "", SPARED, &none, 61, false, "the response does not want it"),
            (&silent, "no-cache", SPARED, &none, 61, false, "§5.2.1.4"),
            (&silent, "max-age=60", SPARED, &none, 61, false, "§5.2.1.1"),
            (&forbidden, "", SPARED, &route(600), 61, false, "§5.2.2.2: MUST NOT"),
            (&no_cache, "", SPARED, &none, 10, false, "§5.2.2.4: MUST NOT"),
            (&silent, "", DOWN, &route(0), 61, false, "the configuration does not want it"),
            (&never, "", DOWN, &none, 61, false, "the response does not want it"),
            (&silent, "no-cache", DOWN, &none, 61, false, "RFC 9111 §5.2.1.4"),
            (&silent, "max-age=60", DOWN, &none, 61, false, "RFC 9111 §5.2.1.1"),
            (&forbidden, "", DOWN, &route(600), 61, false, "RFC 9111 §5.2.2.2: MUST NOT"),
        ] {
            let request = RequestDirectives::of(&fields(&[("cache-control", request)]));
            let now = UNIX_EPOCH + Duration::from_secs(now);
            let found = reuse_in_trouble(stored, &request, trouble, rules, now);
            let expected = expected.then(|| (stored.age(now), stored.ttl(now)));
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
                initial_age: Duration::from_secs(initial_age),
                must_revalidate: true,
                stale_while_revalidate: Duration::MAX.into(),
                ..Freshness::fresh_for(Duration::from_secs(lifetime), UNIX_EPOCH)
            };
            let now = UNIX_EPOCH + Duration::from_secs(now);
            let request = RequestDirectives::of(&fields(&[("cache-control", &line)]));
            if let Reuse::Serve { .. } = reuse(&stored, false, &request, now) {
                prop_assert!(stored.is_fresh(now));
            }
        }
    }
}
