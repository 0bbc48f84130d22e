//! How long a response is fresh and how old it is (RFC 9111 §4.2).
//!
//! Whether a response may be stored, and whether a request puts up with a stale one, is decided
//! elsewhere.
//!
//! A response that states no lifetime gets one from the route (`ttl`), or else a tenth of the time
//! since it was last modified, a day at most. The route comes first because the operator meant this
//! API, where the heuristic guesses.
//!
//! A guess is for the statuses that RFC 9110 §15.1 allows it for, and for any other response that says
//! `public`, except for a 500, 502, 503 or 504: it would take the place of what `stale-if-error` keeps
//! for that moment. When an error page was last modified says little about how long the error will last,
//! so a guess about an error is a minute at most.
//!
//! The route's `ttl` needs no `Last-Modified`, and errors rarely have one. It is for 200, 203, 204, 300,
//! 301 and 308 only, or for a response that says `public`: "not found" is often true for a moment
//! only, and a malformed request must not spoil a page for everybody.

use std::time::{Duration, SystemTime};

use http::StatusCode;
use http::header::{AGE, EXPIRES, HeaderMap, LAST_MODIFIED};
use serde::{Deserialize, Serialize};

use super::cache_control::{LONGEST, ResponseDirectives, delta_seconds};
use super::date;

/// The longest lifetime that is guessed.
const LONGEST_GUESS: Duration = Duration::from_hours(24);
/// The longest that is guessed for an error: of a status of 400 or above.
const LONGEST_GUESS_FOR_ERRORS: Duration = Duration::from_mins(1);

/// When a stored response came, how old it was then, how long it is fresh, and what limits its
/// reuse.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is said by the response on its own")]
pub struct Freshness {
    /// When the response was received (§4.2.3, `response_time`).
    pub received: SystemTime,
    /// How old it was then (§4.2.3, `corrected_initial_age`).
    pub initial_age: Duration,
    /// The freshness lifetime (§4.2.1).
    pub lifetime: Duration,
    /// `no-cache`: to be validated before each use.
    pub no_cache: bool,
    /// Never to be served stale: `must-revalidate`, `proxy-revalidate`, `s-maxage`, `no-cache`.
    pub must_revalidate: bool,
    /// So long after it became stale it may be served while it is validated (RFC 5861 §3).
    pub stale_while_revalidate: Seconds,
    /// So long after it became stale it may be served where the origin fails (RFC 5861 §4); none
    /// where the response does not say.
    pub stale_if_error: Option<Seconds>,
    /// It does not change while it is fresh (RFC 8246).
    pub immutable: bool,
    /// Its content is what whoever asks gets: see [`open`](super::open).
    pub open: bool,
}

/// How long a response is fresh, and who says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// The freshness lifetime.
    pub span: Duration,
    /// What gives it.
    pub rule: LifetimeRule,
}

/// What gives a response its freshness lifetime (§4.2.1, §4.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LifetimeRule {
    /// Its `s-maxage`.
    SMaxage,
    /// Its `max-age`.
    MaxAge,
    /// Either of those in a targeted field (RFC 9213).
    Targeted,
    /// Its `Expires`.
    Expires,
    /// The route, as it states none.
    Route,
    /// A guess, by when it was last modified.
    Heuristic,
    /// It states none and is validated each time (`no-cache`).
    EachTime,
}

/// A span in whole seconds, at most 2^31 (RFC 9111 §1.2.2): a quarter of a `Duration`, since every
/// stored response has some.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seconds(u32);

impl From<Duration> for Seconds {
    fn from(span: Duration) -> Self {
        Self(u32::try_from(span.min(LONGEST).as_secs()).unwrap_or(u32::MAX))
    }
}

impl From<Seconds> for Duration {
    fn from(Seconds(seconds): Seconds) -> Self {
        Self::from_secs(seconds.into())
    }
}

/// When a request was sent and when the head of its response came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// When the request was sent (§4.2.3, `request_time`).
    pub requested: SystemTime,
    /// When the response was received (§4.2.3, `response_time`).
    pub received: SystemTime,
}

impl Freshness {
    pub(super) fn new(
        fields: &HeaderMap,
        directives: &ResponseDirectives,
        times: &Times,
        lifetime: Duration,
    ) -> Self {
        let must_revalidate = directives.must_revalidate
            || directives.proxy_revalidate
            || directives.s_maxage.is_some()
            || directives.no_cache;
        Self {
            received: times.received,
            initial_age: initial_age(fields, times),
            lifetime,
            no_cache: directives.no_cache,
            must_revalidate,
            stale_while_revalidate: directives.stale_while_revalidate.unwrap_or_default().into(),
            stale_if_error: directives.stale_if_error.map(Seconds::from),
            immutable: directives.immutable,
            open: false,
        }
    }

    /// Of a response that was received now, has this lifetime, and says nothing else.
    pub fn fresh_for(lifetime: Duration, received: SystemTime) -> Self {
        Self {
            received,
            initial_age: Duration::ZERO,
            lifetime,
            no_cache: false,
            must_revalidate: false,
            stale_while_revalidate: Seconds::default(),
            stale_if_error: None,
            immutable: false,
            open: false,
        }
    }

    /// The same with a lifetime of `bound` at most.
    #[must_use]
    pub fn at_most(self, bound: Duration) -> Self {
        Self { lifetime: self.lifetime.min(bound), ..self }
    }

    /// The same, stale for at least so long at `now`, in whole seconds.
    #[must_use]
    pub fn stale_for(self, span: Duration, now: SystemTime) -> Self {
        let fresh = self.age(now).saturating_sub(Duration::from_secs(span.as_secs()));
        self.at_most(fresh)
    }

    /// The age at `now` (§4.2.3). A clock that went backwards counts as no time passed.
    pub fn age(&self, now: SystemTime) -> Duration {
        self.initial_age.saturating_add(elapsed(self.received, now))
    }

    /// The seconds of freshness left at `now`: see [`ttl_at`](Self::ttl_at).
    pub fn ttl(&self, now: SystemTime) -> i64 {
        self.ttl_at(self.age(now))
    }

    /// The seconds of freshness left at this age: the lifetime without the age, each in whole
    /// seconds, so that it agrees with the `Age` that is sent. Zero or less when stale.
    pub(super) fn ttl_at(&self, age: Duration) -> i64 {
        let seconds = |span: Duration| i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
        seconds(self.lifetime) - seconds(age)
    }

    /// Whether the lifetime exceeds the age at `now`; equal is stale (§4.2).
    pub fn is_fresh(&self, now: SystemTime) -> bool {
        self.is_fresh_at(self.age(now))
    }

    /// Whether the lifetime exceeds this age.
    pub(super) fn is_fresh_at(&self, age: Duration) -> bool {
        self.lifetime > age
    }
}

/// The lifetime that the response states itself, in the order of §4.2.1.
pub(super) fn explicit_lifetime(
    fields: &HeaderMap,
    directives: &ResponseDirectives,
    received: SystemTime,
) -> Option<Lifetime> {
    let expires = || {
        // RFC 9213 §2.2: beside a targeted field it MUST be ignored.
        (fields.contains_key(EXPIRES) && !directives.targeted).then(|| {
            // §5.3: an invalid date, "especially including the value `0`", is in the past.
            // §4.2.1: a response with several `Expires` should be considered stale.
            date::only(fields, EXPIRES).map_or(Duration::ZERO, |expires| {
                elapsed(date::generated(fields, received), expires)
            })
        })
    };
    let by = |rule| {
        let rule = if directives.targeted { LifetimeRule::Targeted } else { rule };
        move |span: Duration| Lifetime { span: span.min(LONGEST), rule }
    };
    let s_maxage = directives.s_maxage.map(by(LifetimeRule::SMaxage));
    let max_age = || directives.max_age.map(by(LifetimeRule::MaxAge));
    s_maxage.or_else(max_age).or_else(|| expires().map(by(LifetimeRule::Expires)))
}

/// The lifetime of a response that states none: the route's `ttl`, else a guess (§4.2.2).
pub(super) fn assigned_lifetime(
    status: StatusCode,
    fields: &HeaderMap,
    directives: &ResponseDirectives,
    received: SystemTime,
    ttl: Option<Duration>,
) -> Option<Lifetime> {
    if !is_heuristically_cacheable(status, directives) {
        return None;
    }
    let (may_have_ttl, longest) = match status.as_u16() {
        // What a client can provoke, and would spoil for the others.
        400 | 405 | 413 | 414 | 431 | 500.. => (false, LONGEST_GUESS_FOR_ERRORS),
        400..500 => (directives.public, LONGEST_GUESS_FOR_ERRORS),
        _ => (true, LONGEST_GUESS),
    };
    let guess = || {
        let last_modified = date::only(fields, LAST_MODIFIED)?;
        let unchanged = elapsed(last_modified, date::generated(fields, received));
        let tenth = Duration::from_secs(unchanged.as_secs() / 10);
        (!tenth.is_zero()).then_some(tenth.min(longest))
    };
    let of_route = ttl.filter(|_| may_have_ttl).map(|ttl| ttl.min(LONGEST));
    let of_route = of_route.map(|span| Lifetime { span, rule: LifetimeRule::Route });
    of_route.or_else(|| Some(Lifetime { span: guess()?, rule: LifetimeRule::Heuristic }))
}

/// Whether a response that states no lifetime may be given one (§4.2.2): its status is one of RFC 9110
/// §15.1, or it says `public` and is not about trouble at the origin. A 206 is asked about as the 200
/// that it is a part of.
pub(super) fn is_heuristically_cacheable(
    status: StatusCode,
    directives: &ResponseDirectives,
) -> bool {
    let by_status = matches!(
        status.as_u16(),
        200 | 203 | 204 | 206 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501
    );
    let is_trouble = matches!(status.as_u16(), 500 | 502..=504);
    by_status || directives.public && !is_trouble
}

/// §4.2.3, `corrected_initial_age`.
fn initial_age(fields: &HeaderMap, times: &Times) -> Duration {
    let apparent_age = elapsed(date::generated(fields, times.received), times.received);
    // `Date` has whole seconds: without this a response would be half a second old at birth.
    let apparent_age = Duration::from_secs(apparent_age.as_secs());
    let response_delay = elapsed(times.requested, times.received);
    apparent_age.max(age_value(fields).saturating_add(response_delay))
}

/// §5.1: of a list the first member counts; a value that is no number is ignored.
fn age_value(fields: &HeaderMap) -> Duration {
    let lines = fields.get_all(AGE).iter();
    let members = lines.flat_map(|line| line.as_bytes().split(|&octet| octet == b','));
    // An empty member is none (RFC 9110 §5.6.1.2).
    let first = members.map(<[u8]>::trim_ascii).find(|member| !member.is_empty());
    first.and_then(delta_seconds).unwrap_or_default()
}

/// The time from one moment to another, zero if that is the earlier one.
fn elapsed(from: SystemTime, to: SystemTime) -> Duration {
    to.duration_since(from).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use http::header::CACHE_CONTROL;
    use proptest::prelude::*;

    use super::super::tests::fields;
    use super::*;

    /// Noon of 6 November 1994, in GMT.
    const NOON: u64 = 784_123_200;
    const AT_NOON: &str = "Sun, 06 Nov 1994 12:00:00 GMT";
    const BEFORE_NOON: &str = "Sun, 06 Nov 1994 11:58:20 GMT";
    const AFTER_NOON: &str = "Sun, 06 Nov 1994 12:01:40 GMT";

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn freshness(initial_age: u64, lifetime: u64) -> Freshness {
        Freshness {
            initial_age: secs(initial_age),
            ..Freshness::fresh_for(secs(lifetime), at(NOON))
        }
    }

    #[test]
    fn it_is_small() {
        assert!(size_of::<Freshness>() <= 64, "every stored response has one");
    }

    #[test]
    fn initial_age() {
        for (lines, requested, received, expected, why) in [
            (vec![("date", AT_NOON)], NOON, NOON, 0, "just generated"),
            (vec![("date", BEFORE_NOON)], NOON, NOON, 100, "apparent age: `Date` is in the past"),
            (vec![("date", AFTER_NOON)], NOON, NOON, 0, "`Date` in the future is no age"),
            (vec![("date", "x")], NOON, NOON, 0, "an invalid `Date` is the time of receipt"),
            (vec![("date", AT_NOON), ("date", BEFORE_NOON)], NOON, NOON, 0, "so are two of them"),
            (vec![], NOON, NOON, 0, "no `Date` is the time of receipt"),
            (vec![("age", "30")], NOON, NOON, 30, "age_value"),
            (vec![("age", "30")], NOON - 5, NOON, 35, "age_value + response_delay"),
            (vec![], NOON + 5, NOON, 0, "the clock went backwards while we waited"),
            (vec![("date", BEFORE_NOON), ("age", "30")], NOON, NOON, 100, "the larger of the two"),
            (vec![("date", BEFORE_NOON), ("age", "300")], NOON, NOON, 300, "the larger of the two"),
            (vec![("age", "7, 100")], NOON, NOON, 7, "§5.1: use the first member of a list"),
            (vec![("age", "7"), ("age", "100")], NOON, NOON, 7, "§5.1: also over several lines"),
            (vec![("age", " ,, 7")], NOON, NOON, 7, "an empty member is none"),
            (vec![("age", ""), ("age", "7")], NOON, NOON, 7, "also over several lines"),
            (vec![("age", "x, 7")], NOON, NOON, 0, "§5.1: after discarding additional members"),
            (vec![("age", "x")], NOON, NOON, 0, "§5.1: an invalid value is ignored"),
            (vec![("age", "-7")], NOON, NOON, 0, "§5.1: an invalid value is ignored"),
            (vec![("age", "1.5")], NOON, NOON, 0, "§5.1: an invalid value is ignored"),
            (vec![("age", "18446744073709551615")], NOON, NOON, 1 << 31, "§1.2.2: at most 2^31"),
            (vec![("age", "99999999999999999999999")], NOON, NOON, 1 << 31, "§1.2.2: at most 2^31"),
        ] {
            let times = Times { requested: at(requested), received: at(received) };
            assert_eq!(super::initial_age(&fields(&lines), &times), secs(expected), "{why}");
        }
    }

    #[test]
    fn a_fraction_of_a_second_is_no_apparent_age() {
        let received = at(NOON) + Duration::from_millis(900);
        let times = Times { requested: received, received };
        assert_eq!(super::initial_age(&fields(&[("date", AT_NOON)]), &times), secs(0));
    }

    #[test]
    fn age_and_ttl() {
        for (initial_age, lifetime, now, age, ttl, is_fresh, why) in [
            (0, 60, NOON, 0, 60, true, "new"),
            (0, 60, NOON + 59, 59, 1, true, "resident time counts"),
            (0, 60, NOON + 60, 60, 0, false, "fresh while the lifetime *exceeds* the age"),
            (0, 60, NOON + 70, 70, -10, false, "stale for ten seconds"),
            (50, 60, NOON + 5, 55, 5, true, "the initial age counts"),
            (5, 60, NOON - 500, 5, 55, true, "our clock went backwards"),
            (0, 0, NOON, 0, 0, false, "no lifetime"),
            (1 << 31, 1 << 31, NOON, 1 << 31, 0, false, "an overlong age is stale"),
        ] {
            let stored = freshness(initial_age, lifetime);
            let found = (stored.age(at(now)), stored.ttl(at(now)), stored.is_fresh(at(now)));
            assert_eq!(found, (secs(age), ttl, is_fresh), "{why}");
        }
    }

    #[test]
    fn narrower_freshness() {
        assert_eq!(freshness(5, 60).at_most(secs(9)), freshness(5, 9), "a bound");
        assert_eq!(freshness(5, 60).at_most(secs(99)), freshness(5, 60), "never longer");
    }

    #[test]
    fn explicit() {
        for (lines, expected, why) in [
            (vec![("cache-control", "max-age=60, s-maxage=9")], Some(9), "s-maxage comes first"),
            (
                vec![("cache-control", "max-age=60"), ("expires", AT_NOON)],
                Some(60),
                "max-age comes before Expires",
            ),
            (vec![("expires", AFTER_NOON), ("date", AT_NOON)], Some(100), "Expires minus Date"),
            (vec![("expires", AFTER_NOON), ("date", BEFORE_NOON)], Some(200), "Expires minus Date"),
            (vec![("expires", AFTER_NOON)], Some(100), "no Date: the time of receipt"),
            (vec![("expires", BEFORE_NOON), ("date", AT_NOON)], Some(0), "in the past"),
            (vec![("expires", "0")], Some(0), "§5.3: especially the value `0`"),
            (vec![("expires", "-1")], Some(0), "§5.3: an invalid date is in the past"),
            (vec![("expires", "Sun, 06 Nov 1994 12:01:40 UTC")], Some(0), "not GMT"),
            (vec![("expires", "sun, 06 nov 1994 12:01:40 gmt")], Some(100), "§4.2: in any case"),
            (vec![("expires", "Sunday, 06-Nov-94 12:01:40 GMT")], Some(100), "RFC 850"),
            (vec![("expires", "Sun Nov  6 12:01:40 1994")], Some(100), "asctime"),
            (vec![("expires", AFTER_NOON), ("expires", AFTER_NOON)], Some(0), "§4.2.1: several"),
            (vec![("expires", "Fri, 31 Dec 9999 23:59:59 GMT")], Some(1 << 31), "at most 2^31"),
            (vec![("cache-control", "public")], None, "says nothing of a lifetime"),
            (vec![("last-modified", BEFORE_NOON)], None, "says nothing of a lifetime"),
        ] {
            let fields = fields(&lines);
            let directives = ResponseDirectives::of(&fields, &CACHE_CONTROL);
            let found = explicit_lifetime(&fields, &directives, at(NOON)).map(|it| it.span);
            assert_eq!(found, expected.map(secs), "{lines:?}: {why}");
        }
    }

    #[test]
    fn assigned() {
        let old = ("last-modified", BEFORE_NOON);
        let dated = ("date", AT_NOON);
        let public = ("cache-control", "public");
        let older = ("last-modified", "Sun, 06 Nov 1988 12:00:00 GMT");
        for (status, ttl, lines, expected, why) in [
            (200, None, vec![old, dated], Some(10), "a tenth of Date minus Last-Modified"),
            (200, None, vec![old], Some(10), "no Date: the time of receipt"),
            (200, Some(300), vec![old, dated], Some(300), "the route's word before a guess"),
            (200, Some(300), vec![], Some(300), "the route's word"),
            (204, Some(300), vec![], Some(300), "heuristically cacheable"),
            (200, None, vec![dated], None, "nothing to guess from"),
            (200, None, vec![("last-modified", AFTER_NOON), dated], None, "modified in the future"),
            (200, None, vec![("last-modified", AT_NOON), dated], None, "modified just now"),
            (200, None, vec![("last-modified", "x"), dated], None, "not a date"),
            (200, None, vec![older, dated], Some(24 * 60 * 60), "at most a day"),
            (302, Some(300), vec![], None, "not heuristically cacheable"),
            (302, Some(300), vec![public], Some(300), "§4.2.2: explicitly cacheable"),
            (404, Some(300), vec![], None, "the route speaks of successes"),
            (404, Some(300), vec![public], Some(300), "§4.2.2: explicitly cacheable"),
            (400, Some(300), vec![public], None, "caused by the request"),
            (405, Some(300), vec![public], None, "caused by the request"),
            (431, Some(300), vec![public], None, "caused by the request"),
            (500, Some(300), vec![public], None, "trouble at the origin"),
            (501, Some(300), vec![], None, "trouble at the origin"),
            (404, None, vec![old], Some(10), "defined as heuristically cacheable"),
            (405, Some(300), vec![old], Some(10), "a guess where the route has no say"),
            (410, None, vec![old], Some(10), "defined as heuristically cacheable"),
            (414, None, vec![old], Some(10), "defined as heuristically cacheable"),
            (501, None, vec![old], Some(10), "defined as heuristically cacheable"),
            (404, None, vec![older], Some(60), "an error: at most a minute"),
            (599, None, vec![public, older], Some(60), "an error: at most a minute"),
            (404, Some(300), vec![public, old], Some(300), "the route's word before a guess"),
            (599, None, vec![public, old], Some(10), "§4.2.2: explicitly cacheable"),
            (302, None, vec![public, old], Some(10), "§4.2.2: explicitly cacheable"),
            (302, None, vec![old], None, "not heuristically cacheable"),
            (400, None, vec![old], None, "not heuristically cacheable"),
            (500, None, vec![old], None, "not heuristically cacheable"),
            (500, None, vec![public, old], None, "`stale-if-error` is for these"),
            (503, None, vec![public, old], None, "`stale-if-error` is for these"),
            (505, None, vec![public, old], Some(10), "§4.2.2: explicitly cacheable"),
        ] {
            let fields = fields(&lines);
            let directives = ResponseDirectives::of(&fields, &CACHE_CONTROL);
            let status = StatusCode::from_u16(status).unwrap();
            let ttl = ttl.map(secs);
            let found =
                assigned_lifetime(status, &fields, &directives, at(NOON), ttl).map(|it| it.span);
            assert_eq!(found, expected.map(secs), "{status} {lines:?}: {why}");
        }
    }

    proptest! {
        #[test]
        fn age_never_shrinks(
            initial in any::<u64>(),
            earlier in 0_u64..1 << 40,
            later in 0_u64..1 << 40,
        ) {
            let stored = freshness(initial, 60);
            let (earlier, later) = (earlier.min(later), earlier.max(later));
            prop_assert!(stored.age(at(earlier)) <= stored.age(at(later)));
            prop_assert!(stored.ttl(at(earlier)) >= stored.ttl(at(later)));
            prop_assert!(stored.is_fresh(at(earlier)) || !stored.is_fresh(at(later)));
        }

        #[test]
        fn age_value_never_panics(octets in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(line) = http::HeaderValue::from_bytes(&octets) {
                prop_assert!(age_value(&HeaderMap::from_iter([(AGE, line)])) <= LONGEST);
            }
        }
    }
}
