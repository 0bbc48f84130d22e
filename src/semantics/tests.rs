//! What the parts must do together, and what other caches were found to get wrong.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{DATE, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};

use super::*;

/// Fields from names and lines, repeated names included.
pub(super) fn fields(lines: &[(&str, &str)]) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for (name, value) in lines {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        fields.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    fields
}

/// Noon of 6 November 1994, in GMT.
const ARRIVAL: u64 = 784_123_200;

fn after_arrival(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(ARRIVAL + seconds)
}

fn store(response: &[(&str, &str)]) -> Result<Freshness, NotStored> {
    let request = HeaderMap::new();
    storable(
        &Asked {
            method: &Method::GET,
            fields: &request,
            directives: &RequestDirectives::default(),
            has_credentials: false,
        },
        StatusCode::OK,
        &fields(response),
        &Times { requested: after_arrival(0), received: after_arrival(0) },
        &Rules::default(),
    )
}

/// Each of these was served wrongly by a cache in use.
#[test]
fn faults_of_others() {
    let tolerant = RequestDirectives::of(&fields(&[("cache-control", "max-stale=99999")]));
    for (response, now, expected, why) in [
        ("No-Store, max-age=60", 0, None, "names compared by case: a leak of private data"),
        ("Private, Max-Age=60", 0, None, "names compared by case: a leak of private data"),
        (
            "Max-Age=60",
            0,
            Some(Reuse::Serve { age: Duration::ZERO, ttl: 60 }),
            "read as no lifetime",
        ),
        ("no-cache", 0, Some(Reuse::Forward(Forward::Stale)), "served under max-stale"),
        ("s-maxage=5", 9, Some(Reuse::Forward(Forward::Stale)), "served under max-stale"),
        (
            "proxy-revalidate, max-age=60",
            9,
            Some(Reuse::Serve { age: Duration::from_secs(9), ttl: 51 }),
            "not served though fresh",
        ),
        (
            "max-age=36893488147419103232",
            9,
            Some(Reuse::Serve { age: Duration::from_secs(9), ttl: (1 << 31) - 9 }),
            "a number beyond u64 read as zero",
        ),
    ] {
        let found = store(&[("cache-control", response), ("etag", "\"1\"")]);
        let found = found.ok().map(|stored| reuse(&stored, false, &tolerant, after_arrival(now)));
        assert_eq!(found, expected, "{response}: {why}");
    }
}

#[test]
fn faults_of_others_in_other_fields() {
    assert_eq!(
        store(&[("cache-control", "max-age=60"), ("set-cookie", "a=b")]),
        Err(NotStored::SetCookie),
        "a cookie was stored, and served under max-stale",
    );
    assert_eq!(
        store(&[("cache-control", "max-age=60"), ("age", "18446744073709551615")]),
        Err(NotStored::NoValidator),
        "an overflow was a panic",
    );
    assert_eq!(
        store(&[("cache-control", "max-age=600"), ("date", "Sun, 06 Nov 1994 11:40:00 GMT")]),
        Err(NotStored::NoValidator),
        "the apparent age was left out",
    );
    for date in ["Sun Nov  6 12:01:40 1994", "Sunday, 06-Nov-94 12:01:40 GMT"] {
        let lifetime = store(&[("expires", date)]).map(|stored| stored.lifetime.as_secs());
        assert_eq!(lifetime, Ok(100), "an obsolete date was not read");
    }
    let mut stored =
        fields(&[("link", "</a>"), ("link", "</b>"), ("date", "Sun, 06 Nov 1994 11:59:00 GMT")]);
    let as_sent = stored.clone();
    fields_to_store(&mut stored, &Rules::default(), after_arrival(0));
    assert_eq!(stored, as_sent, "one of two lines was lost, and `Date` rewritten");
}

#[test]
fn a_304_makes_a_stored_response_fresh_again() {
    let mut stored = fields(&[
        ("cache-control", "max-age=60"),
        ("date", "Sun, 06 Nov 1994 12:00:00 GMT"),
        ("etag", "\"1\""),
        ("content-type", "text/plain"),
    ]);
    // Without validators and `Date`, as many servers send it.
    let not_modified = fields(&[("x-new", "1"), ("age", "3")]);
    assert!(same_representation(&Validators::of(&stored), &not_modified));

    stored = freshen(&stored, &not_modified);
    let freshness = storable(
        &Asked {
            method: &Method::GET,
            fields: &HeaderMap::new(),
            directives: &RequestDirectives::default(),
            has_credentials: false,
        },
        StatusCode::OK,
        &stored,
        &Times { requested: after_arrival(99), received: after_arrival(100) },
        &Rules::default(),
    );
    let freshness = freshness.unwrap();
    assert_eq!(freshness.age(after_arrival(100)), Duration::from_secs(4), "`Age` and the delay");
    assert_eq!(freshness.ttl(after_arrival(100)), 56);

    fields_to_store(&mut stored, &Rules::default(), after_arrival(100));
    assert_eq!(stored.get("x-new").unwrap(), "1", "a new field was dropped");
    assert_eq!(stored.get(DATE).unwrap(), "Sun, 06 Nov 1994 12:01:40 GMT");
    assert!(!stored.contains_key("age"));
}

#[test]
fn a_304_can_end_storing() {
    for line in [("cache-control", "no-store"), ("cache-control", "private"), ("set-cookie", "a=b")]
    {
        let stored = fields(&[("cache-control", "max-age=60"), ("etag", "\"1\"")]);
        let freshened: Vec<_> = freshen(&stored, &fields(&[line]))
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect();
        let freshened: Vec<_> = freshened.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert!(store(&freshened).is_err(), "{line:?}");
    }
}

#[test]
fn freshness_survives_storing() {
    let stored = store(&[("cache-control", "max-age=60, must-revalidate"), ("age", "7")]).unwrap();
    let octets = postcard::to_stdvec(&stored).unwrap();
    assert_eq!(postcard::from_bytes::<Freshness>(&octets).unwrap(), stored);
}
